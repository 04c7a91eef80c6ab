//! The list of a source's images.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::image::asked::ShortId;
use crate::oci::{Digest, Reference};

/// The images of a source, by what they can be asked for.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The names of images. An image of an archive that has none is here as [`Reference::nameless`].
    pub references: Vec<Reference>,
    /// Images that are not among these, by the digest of their [`Reference::nameless`]: an engine shows them as
    /// `<none>:<none>`.
    pub nameless: Vec<Digest>,
    /// The ids of images, with and without a name, as far as the source has any.
    pub ids: Vec<Digest>,
    /// Whether there may be more: a registry does not list its images.
    pub is_partial: bool,
}

impl Listing {
    /// The list of a source that cannot list its images.
    pub fn unknown() -> Listing {
        Listing {
            is_partial: true,
            ..Listing::default()
        }
    }

    /// Adds the images of another source.
    pub fn extend(&mut self, other: Listing) {
        let mut known: HashSet<Reference> = self.references.iter().cloned().collect();
        let references = other.references.into_iter();
        let fresh = references.filter(|reference| known.insert(reference.clone()));
        self.references.extend(fresh);
        self.nameless.extend(other.nameless);
        self.ids.extend(other.ids);
        self.is_partial |= other.is_partial;
    }

    /// Refuses a list that may lack images.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn complete(self) -> Result<Listing> {
        match self.is_partial {
            false => Ok(self),
            true => Err(Error::Usage {
                message: "a registry cannot be saved as a whole".into(),
                hint: Some("name the images".into()),
            }),
        }
    }

    /// The images that a shortened id selects: one with that name, or else those whose ids begin with it, as
    /// [`Reference::nameless`].
    pub fn with_id(&self, id: &ShortId) -> Vec<Reference> {
        id.among(self.references.iter().cloned(), self.ids.iter().copied())
    }
}
