//! What is known about the stored forms of layers: from manifests of other images in the store, and from the
//! other sources of the save.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use super::{BareImage, LocalStore, manifests};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest, Document, Kind};
use crate::recover::lost::Candidate;
use crate::source::{Others, StoredForm, Upstream};

/// Most manifests of related images that are requested from a registry for one image.
const MAX_RELATIVES: usize = 8;

/// What is known about layers. It is looked up at the first use.
pub(super) struct KnownForms<'a> {
    store: &'a dyn LocalStore,
    others: &'a Others<'a>,
    /// Blobs of other sources, with their sizes and kinds.
    elsewhere: OnceCell<HashMap<Digest, (u64, Kind)>>,
    forms: OnceCell<Forms>,
    /// From the registry's manifests of related images.
    asked: Forms,
    /// The digests of those that were requested.
    relatives: HashSet<Digest>,
}

/// The blobs in manifests.
#[derive(Default)]
struct Forms {
    by_diff_id: HashMap<Digest, Vec<Digest>>,
    /// Stored bytes and kind.
    blobs: HashMap<Digest, (u64, Kind)>,
}

impl Forms {
    fn add(&mut self, form: &StoredForm) {
        self.blobs.entry(form.layer.digest).or_insert(blob(form));
        if let Some(diff_id) = form.diff_id {
            let known = self.by_diff_id.entry(diff_id).or_default();
            if !known.contains(&form.layer.digest) {
                known.push(form.layer.digest);
            }
        }
    }
}

fn blob(form: &StoredForm) -> (u64, Kind) {
    (form.layer.size, form.layer.media_type.kind())
}

impl<'a> KnownForms<'a> {
    pub fn new(store: &'a dyn LocalStore, others: &'a Others<'a>) -> KnownForms<'a> {
        KnownForms {
            store,
            others,
            elsewhere: OnceCell::new(),
            forms: OnceCell::new(),
            asked: Forms::default(),
            relatives: HashSet::new(),
        }
    }

    /// Whether another source has a layer in its stored form.
    pub fn is_elsewhere(&self, layer: &Descriptor) -> bool {
        let elsewhere = self.elsewhere.get_or_init(|| {
            let forms = self.others.stored_forms().into_iter();
            let here = forms.filter(|form| form.is_here);
            here.map(|form| (form.layer.digest, blob(&form))).collect()
        });
        elsewhere.get(&layer.digest) == Some(&(layer.size, layer.media_type.kind()))
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| {
            let mut forms = Forms::default();
            let here = self.store.stored_forms();
            for form in here.iter().chain(&self.others.stored_forms()) {
                forms.add(form);
            }
            forms
        })
    }

    /// Stored bytes and kind of a blob, if a manifest has them.
    fn blob(&self, digest: &Digest) -> Option<(u64, Kind)> {
        let blobs = [&self.forms().blobs, &self.asked.blobs];
        blobs.into_iter().find_map(|blobs| blobs.get(digest)).copied()
    }

    /// Stored bytes of a blob, if a manifest has them.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.blob(digest).map(|(size, _)| size)
    }

    /// The kind of a blob, if a manifest has it.
    pub fn kind(&self, digest: &Digest) -> Option<Kind> {
        self.blob(digest).map(|(_, kind)| kind)
    }

    /// The blobs that manifests have for a layer.
    pub fn candidates(&self, diff_id: &Digest) -> Vec<Candidate> {
        let known = [&self.forms().by_diff_id, &self.asked.by_diff_id];
        let digests = known.into_iter().filter_map(|known| known.get(diff_id)).flatten();
        let candidate = |digest: &Digest| Candidate {
            digest: *digest,
            size: self.size(digest),
        };
        digests.map(candidate).collect()
    }

    /// Requests the manifests of images that share layers with one from the registry. Returns whether anything
    /// new is known.
    pub fn ask_registry(&mut self, upstream: &Upstream, image: &BareImage) -> Result<bool> {
        if !upstream.is_there() {
            return Ok(false);
        }
        let mut left = MAX_RELATIVES;
        let mut forms = Vec::new();
        for (name, relative) in self.store.relatives(image) {
            let Some(digest) = name.digest() else { continue };
            if left == 0 || !self.relatives.insert(digest) {
                continue;
            }
            left -= 1;
            let found = manifests::in_registry(upstream, name.repository(), digest, Some(&relative));
            let found = match found {
                Ok(Some(found)) => found,
                Ok(None) | Err(Error::Refused(_)) => continue,
                Err(error) => return Err(error),
            };
            for bytes in found.documents.into_values() {
                let Some(media_type) = Document::sniff(&bytes) else {
                    continue;
                };
                if let Ok(Document::Manifest(manifest)) = Document::parse(&media_type, bytes) {
                    forms.extend(StoredForm::of(&manifest, Some(&relative.config), |_| false));
                }
            }
        }
        forms.iter().for_each(|form| self.asked.add(form));
        Ok(!forms.is_empty())
    }
}
