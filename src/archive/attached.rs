//! What is attached to an image of an archive: its referrers, and the attestations in its index.

use super::layout::Layout;
use crate::error::Result;
use crate::image::{Image, NamedImage};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Manifest, Platform};
use crate::trust::{AttachedDocument, FetchFrom};

/// A manifest that is attached to one of an image.
#[derive(Debug, Clone)]
pub struct Attached<'i> {
    /// Its digest.
    pub digest: Digest,
    /// Digest of what it is attached to.
    pub subject: Digest,
    /// The platform of that, if it is the manifest of one.
    pub platform: Option<&'i Platform>,
    manifest: &'i Manifest,
}

impl<'i> Attached<'i> {
    /// All that is attached to an image, and to what is attached.
    pub fn all(named: &'i NamedImage) -> Vec<Attached<'i>> {
        let platform_of = |subject: &Digest| {
            let mut images = named.graph.images.iter();
            let image = images.find(|image| image.descriptor.digest == *subject)?;
            let platform = image.platform();
            platform.filter(|platform| !platform.is_unknown())
        };
        let attached = |digest: Digest, subject: Digest, manifest: &'i Manifest| Attached {
            digest,
            subject,
            platform: platform_of(&subject),
            manifest,
        };
        let inside = named.graph.images.iter().filter_map(|image: &Image| {
            let subject = image.descriptor.attests()?.parse().ok()?;
            Some(attached(image.descriptor.digest, subject, &image.manifest))
        });
        let referring = named.referrers.iter().filter_map(|referrer| {
            let manifest = referrer.manifest()?;
            Some(attached(referrer.digest(), referrer.subject, manifest))
        });
        inside.chain(referring).collect()
    }

    /// Gives the documents in it one by one: statements and SBOMs of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// If they are missing, damaged or too large, or cannot be read.
    pub fn each_document(
        &self,
        layout: &dyn Layout,
        limit: u64,
        interrupt: &Interrupt,
        take: &mut dyn FnMut(AttachedDocument),
    ) -> Result<()> {
        let mut fetch = FetchFrom::new(vec![layout], interrupt);
        AttachedDocument::each(self.manifest, limit, &mut fetch, take)
    }
}
