//! Parses the entries of `index.json`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CONTAINERD_NAME, FORMAT, FORMAT_VERSION, MADE, NONE, PLATFORMS, PROVENANCE, RECORDED, REF_NAME,
    REFERENCE, REFERRERS, UNCOMPRESSED, is_substitute,
};
use crate::error::Problem;
use crate::image::provenance::{ManifestOrigin, Origins, Provenance, Substitute};
use crate::oci::{Descriptor, Digest, Document, Index, MediaType, Platform, Reference, json};

/// One entry of a parsed `index.json`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The image's descriptor.
    pub descriptor: Descriptor,
    /// Its name, if that is a reference.
    pub reference: Option<Reference>,
    /// A name that is only a tag, as buildx and skopeo may write it.
    pub bare_tag: Option<String>,
    /// The platforms that must be present; `None` if the archive does not say.
    pub platforms: Option<Vec<Platform>>,
    /// Set if the manifest is a substitute.
    pub substitute: Option<Substitute>,
    /// As [`Provenance::is_unproven`].
    pub is_unproven: bool,
    /// Layers that are present only uncompressed, by the digests of their stored form.
    pub uncompressed: BTreeSet<Digest>,
    /// Where its parts came from, as the archive says.
    pub origins: Option<Origins>,
    /// Digest of the list of its referrers.
    pub referrers: Option<Digest>,
}

/// Parses the entries of an `index.json`.
///
/// # Errors
///
/// Malformed JSON, a format that is too new, or an invalid name.
pub fn parse_index(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
    #[derive(serde::Deserialize)]
    struct Peek {
        annotations: Option<BTreeMap<String, String>>,
    }
    let peek: Peek = json::from_slice(bytes).map_err(|error| Problem::Json {
        reason: error.to_string(),
    })?;
    let format = peek
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(FORMAT));
    if let Some(found) = format
        && !found
            .parse::<u32>()
            .is_ok_and(|version| (1..=FORMAT_VERSION).contains(&version))
    {
        return Err(Problem::Format {
            found: found.clone(),
            supported: FORMAT_VERSION,
        });
    }
    let document = Document::parse(&MediaType::new(MediaType::OCI_INDEX), bytes.to_vec())?;
    let Document::Index(Index { manifests, .. }) = document else {
        return Err(Problem::Document {
            reason: "not an index".into(),
        });
    };
    manifests.into_iter().map(Entry::new).collect()
}

/// Whether sealift wrote an `index.json`, so that its annotations can be relied on.
pub fn is_own(index: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Peek {
        annotations: BTreeMap<String, String>,
    }
    json::from_slice(index).is_ok_and(|peek: Peek| peek.annotations.contains_key(FORMAT))
}

/// Marks entries with a substitute that sealift made, in an archive that an engine saved. `document` reads the
/// manifest or index of an entry, if it is present.
pub fn recognise_substitutes(entries: &mut [Entry], document: impl Fn(&Digest) -> Option<Vec<u8>>) {
    // A document of several entries is read once.
    let mut known: BTreeMap<Digest, bool> = BTreeMap::new();
    for entry in entries {
        let root = entry.descriptor.digest;
        let is_named_by = entry.reference.as_ref().and_then(Reference::digest) == Some(root);
        if entry.substitute.is_some() || is_named_by {
            continue;
        }
        let is_made = known
            .entry(root)
            .or_insert_with(|| document(&root).is_some_and(|bytes| is_substitute(&bytes)));
        if *is_made {
            entry.substitute = Some(Substitute { recorded: None });
            entry.is_unproven = false;
            entry.origins = Some(Origins {
                manifest: ManifestOrigin::Substitute { reason: MADE.into() },
                layers: BTreeMap::new(),
            });
        }
    }
}

/// Whether text is a digest, which is not a name: engines would read it as a repository called `sha256`.
fn is_digest(name: &str) -> bool {
    ["sha256:", "sha512:"]
        .iter()
        .any(|algorithm| name.starts_with(algorithm))
}

impl Entry {
    /// The digest of the image; `None` if it is not known.
    pub fn digest(&self) -> Option<Digest> {
        self.provenance().digest(self.descriptor.digest)
    }

    /// The provenance of the image, without the layers that are present.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            substitute: self.substitute,
            is_unproven: self.is_unproven,
            uncompressed: BTreeMap::new(),
            origins: self.origins.clone(),
        }
    }

    /// Whether a layout's name is more than a tag such as `2.4`, which would parse as a repository.
    pub(super) fn is_whole(name: &str) -> bool {
        name.contains(['/', ':', '@'])
    }

    fn new(descriptor: Descriptor) -> Result<Entry, Problem> {
        let mut entry = Entry {
            descriptor,
            reference: None,
            bare_tag: None,
            platforms: None,
            substitute: None,
            is_unproven: false,
            uncompressed: BTreeSet::new(),
            origins: None,
            referrers: None,
        };
        let annotations = &entry.descriptor.annotations;
        for key in [REFERENCE, CONTAINERD_NAME, REF_NAME] {
            let Some(name) = annotations.get(key) else {
                continue;
            };
            if name.chars().any(crate::escape::is_hostile) || name.starts_with('-') {
                return Err(Problem::Name {
                    reason: format!("{name:?} is not an image name"),
                });
            }
            let is_name = key != REF_NAME || Entry::is_whole(name);
            match name.parse::<Reference>() {
                Ok(reference) if is_name => {
                    entry.reference.get_or_insert(reference);
                }
                Err(error) if key != REF_NAME || is_digest(name) => {
                    return Err(Problem::Name {
                        reason: error.to_string(),
                    });
                }
                _ => entry.bare_tag = entry.bare_tag.or_else(|| Some(name.clone())),
            }
        }
        if let Some(list) = annotations.get(PLATFORMS) {
            let parsed: Result<Vec<Platform>, _> = list
                .split(',')
                .filter(|text| !text.is_empty())
                .map(str::parse)
                .collect();
            entry.platforms = Some(parsed.map_err(|error| Problem::Document {
                reason: format!("{PLATFORMS}: {error}"),
            })?);
        }
        let wrong = |key: &str, reason: String| Problem::Document {
            reason: format!("{key}: {reason}"),
        };
        let digest = |key: &str, text: &str| -> Result<Digest, Problem> {
            text.parse().map_err(|error| wrong(key, format!("{error}")))
        };
        entry.substitute = match annotations.get(RECORDED).map(String::as_str) {
            None => None,
            Some(NONE) => Some(Substitute { recorded: None }),
            Some(text) => Some(Substitute {
                recorded: Some(digest(RECORDED, text)?),
            }),
        };
        // The writer of the archive had the manifest, and no proof that a registry has it.
        let root = entry.descriptor.digest;
        entry.is_unproven = entry
            .substitute
            .is_some_and(|substitute| substitute.recorded == Some(root));
        entry.substitute = entry
            .substitute
            .filter(|substitute| substitute.recorded != Some(root));
        let list = annotations.get(REFERRERS);
        entry.referrers = list.map(|text| digest(REFERRERS, text)).transpose()?;
        let layers = annotations
            .get(UNCOMPRESSED)
            .into_iter()
            .flat_map(|list| list.split(','));
        entry.uncompressed = layers
            .map(|text| digest(UNCOMPRESSED, text))
            .collect::<Result<_, _>>()?;
        // It proves nothing, and a later version may know more origins.
        let origins = annotations
            .get(PROVENANCE)
            .map(|text| json::from_slice(text.as_bytes()));
        entry.origins = origins.and_then(Result::ok);
        Ok(entry)
    }
}
