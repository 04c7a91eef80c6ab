//! What a save is asked for: a name, or an image id, which may be shortened as `docker images` shows it.

use crate::error::{Error, Hint, Remedy, Result};
use crate::image::names;
use crate::image::selector::Selector;
use crate::oci::{Digest, Reference};

/// Ids that a message lists.
const SHOWN: usize = 10;

/// What a text on a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// An image by its name, or by a whole digest.
    Image(Reference),
    /// An image by the beginning of its id.
    Id(ShortId),
}

/// The beginning of an image id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortId {
    /// `sha256:` and the first digits.
    beginning: String,
    /// The name that the same text is, if it is one.
    name: Option<Reference>,
}

impl Asked {
    /// Reads a name, a digest, or an image id as `docker save` takes it: `sha256:49eb`, or at least twelve digits.
    ///
    /// # Errors
    ///
    /// If it is none of them.
    pub fn parse(text: &str) -> Result<Asked> {
        let read = match (Selector::parse(text)?, Selector::id(text)) {
            (digest @ Selector::Digest(_), _) | (_, Some(digest)) => digest,
            (named, None) => named,
        };
        let Selector::Digest(beginning) = read else {
            return Ok(Asked::Image(text.parse()?));
        };
        Ok(match beginning.parse() {
            Ok(digest) => Asked::Image(Reference::nameless(digest)),
            Err(_) => Asked::Id(ShortId {
                beginning,
                name: text.parse().ok(),
            }),
        })
    }
}

impl ShortId {
    /// The images that it means among those with these names and ids: the one with that name, else those whose ids
    /// begin so.
    pub fn among(
        &self,
        names: impl IntoIterator<Item = Reference>,
        ids: impl IntoIterator<Item = Digest>,
    ) -> Vec<Reference> {
        let mut names = names.into_iter();
        if let Some(named) = names.find(|name| Some(name) == self.name.as_ref()) {
            return vec![named];
        }
        let ids = ids.into_iter();
        ids.filter(|id| id.to_string().starts_with(&self.beginning))
            .map(Reference::nameless)
            .collect()
    }

    /// The one image that it means of those that were found for it in a place. Without any it is the name that it may be.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the ids if there are several; [`Error::NotFound`] if there is none, and it is no name.
    pub fn one_of(self, mut found: Vec<Reference>, place: &str) -> Result<Reference> {
        found.sort();
        found.dedup();
        if let Some(named) = found.iter().position(|reference| !reference.is_nameless()) {
            return Ok(found.swap_remove(named));
        }
        let beginning = self.beginning;
        if found.len() > 1 {
            let ids: Vec<String> = found.iter().map(Reference::familiar).collect();
            return Err(Error::Usage {
                message: format!(
                    "{beginning} is the beginning of {} image ids: {}",
                    ids.len(),
                    names::first(&ids, SHOWN)
                ),
                hint: Some("write more of it".into()),
            });
        }
        found.pop().or(self.name).ok_or_else(|| Error::NotFound {
            what: format!("an image id that begins with {beginning}"),
            place: place.into(),
            hint: Some(
                Hint::from("`docker images`, `crictl images` and `podman images` show ids")
                    .and(Remedy::ListArchive),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn id(text: &str) -> ShortId {
        match Asked::parse(text) {
            Ok(Asked::Id(id)) => id,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn image(text: &str) -> String {
        match Asked::parse(text) {
            Ok(Asked::Image(reference)) => reference.full(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_digests_and_ids_are_told_apart() {
        let hex = "49eb".repeat(16);
        for (text, full) in [
            ("httpd:2.4", "docker.io/library/httpd:2.4"),
            ("cafe", "docker.io/library/cafe:latest"),
            ("49eb034b73f3:1", "docker.io/library/49eb034b73f3:1"),
            (hex.as_str(), &format!("sha256:{hex}")),
            (&format!("sha256:{hex}"), &format!("sha256:{hex}")),
        ] {
            assert_eq!(image(text), full, "{text}");
        }
        for (text, name) in [
            ("sha256:4", None),
            (
                &hex[..12],
                Some(format!("docker.io/library/{}:latest", &hex[..12])),
            ),
            (
                &hex[..63],
                Some(format!("docker.io/library/{}:latest", &hex[..63])),
            ),
            ("sha256:49eb034b73f3", None),
        ] {
            assert_eq!(id(text).name.map(|name| name.full()), name, "{text}");
        }
        for text in ["sha256:", "sha256:XY", "Httpd", "sha512:XY"] {
            assert_eq!(Asked::parse(text).unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn an_id_means_one_image_that_has_it_unless_one_has_it_as_a_name() {
        let ids = ["49eb", "49ec"].map(|hex| format!("sha256:{}", hex.repeat(16)).parse().unwrap());
        let named: Reference = "49eb49eb49eb".parse().unwrap();
        let one = |text: &str, names: &[Reference]| {
            let id = id(text);
            let found = id.among(names.iter().cloned(), ids);
            id.one_of(found, "images.tar")
        };
        assert_eq!(one("sha256:49eb", &[]).unwrap(), Reference::nameless(ids[0]));
        assert_eq!(one("49eb49eb49eb", &[]).unwrap(), Reference::nameless(ids[0]));
        assert_eq!(one("49eb49eb49eb", std::slice::from_ref(&named)).unwrap(), named);
        // A registry may have it.
        assert_eq!(
            one("49ed49ed49ed", &[]).unwrap().full(),
            "docker.io/library/49ed49ed49ed:latest"
        );
        let several = one("sha256:49e", &[]).unwrap_err();
        assert_eq!(several.kind(), ErrorKind::Usage);
        let said = several.to_string();
        assert!(ids.iter().all(|id| said.contains(&id.to_string())), "{said}");
        let none = one("sha256:5", &[]).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
        assert_eq!(
            none.to_string(),
            "an image id that begins with sha256:5 not found in images.tar"
        );
    }
}
