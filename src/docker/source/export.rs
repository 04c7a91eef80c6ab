//! Either store over the Engine API, in the format of `docker save`.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::sync::OnceLock;

use crate::archive::{self, Layout, Opened, format};
use crate::blob::Stored;
use crate::blob::Uncompressed;
use crate::docker::api::info::Store;
use crate::docker::api::{Client, encode};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Digest, MAX_METADATA, Reference, Repository};
use crate::progress::Progress;
use crate::recover::{DockerSaveStore, LocalStore, StoreImage, names_of};
use crate::source::{Listing, StoredForm};

/// An image in the engine's response.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The config's digest in the classic store, the index's or manifest's in the containerd store.
    pub id: Digest,
    /// Its tags.
    pub tags: Vec<Reference>,
    /// Its `name@digest`.
    pub digests: Vec<Reference>,
}

/// A response of `GET /images/json` or `GET /images/{name}/json`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: Digest,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl From<Answer> for Listed {
    fn from(answer: Answer) -> Listed {
        // `<none>:<none>` and the like are not names.
        let parse = |names: Option<Vec<String>>| {
            let names = names.into_iter().flatten();
            names.filter_map(|name| name.parse().ok()).collect()
        };
        Listed {
            id: answer.id,
            tags: parse(answer.repo_tags),
            digests: parse(answer.repo_digests),
        }
    }
}

impl Listed {
    /// The image of a reference; `None` if the engine does not have it.
    pub fn find(client: &Client, reference: &Reference) -> Result<Option<Listed>> {
        // With both tag and digest some versions find nothing. Without a name it is an id.
        let name = match reference.digest() {
            Some(digest) => Reference::digested(reference.repository(), digest),
            None => reference.clone(),
        };
        let path = format!("/images/{}/json", encode(&name.familiar()));
        let found: Option<Answer> = client.find("ask for an image", &path)?;
        Ok(found.map(Listed::from))
    }

    /// The image in a store whose ids are those of indexes and manifests: a name's digest is the id, whether or
    /// not the name was ever pulled or pushed.
    pub fn root(&self, repository: &Repository) -> StoreImage {
        StoreImage::new(repository, &[Reference::digested(repository, self.id)], None)
    }

    /// The images of an engine. Those that it shows as `<none>:<none>` have no name.
    pub fn all(client: &Client) -> Result<Listing> {
        let answers: Vec<Answer> = client.get("ask for its images", "/images/json")?;
        let mut listing = Listing::default();
        for listed in answers.into_iter().map(Listed::from) {
            let names = names_of(&listed.tags, &listed.digests).cloned();
            listing.references.extend(names);
            if listed.tags.is_empty() && listed.digests.is_empty() {
                listing.nameless.push(listed.id);
            }
            listing.ids.push(listed.id);
        }
        Ok(listing)
    }
}

/// A store that is exported.
pub(super) struct Export {
    client: Client,
    store: Store,
    spool: archive::Options,
    label: String,
    exported: OnceLock<Exported>,
}

/// The exported images.
#[derive(Default)]
struct Exported {
    images: HashMap<String, Listed>,
    /// One stream, or several if some image cannot be exported.
    streams: Vec<Stream>,
    /// By id: why an image cannot be exported.
    failed: HashMap<Digest, Error>,
}

enum Stream {
    /// The classic store's.
    Saved(Box<DockerSaveStore>),
    /// The containerd store's.
    Layout(Box<dyn Layout>),
}

impl Export {
    pub fn new(client: Client, store: Store, spool: archive::Options, label: String) -> Export {
        Export {
            client,
            store,
            spool,
            label,
            exported: OnceLock::new(),
        }
    }

    /// Exports images, all in one stream, so that shared content is sent once. One that cannot be exported
    /// truncates the stream: each half is tried then, until the rest is exported.
    fn export(&self, ids: &[Digest], exported: &mut Exported) -> Result<()> {
        let outcome = match ids {
            [] => return Ok(()),
            _ => self.stream(ids, &exported.images),
        };
        match (outcome, ids) {
            (Ok(stream), _) => exported.streams.push(stream),
            (Err(error @ (Error::Interrupted | Error::Io { .. })), _) => return Err(error),
            (Err(error), [only]) => drop(exported.failed.insert(*only, error)),
            (Err(_), several) => {
                let (first, second) = several.split_at(several.len() / 2);
                self.export(first, exported)?;
                self.export(second, exported)?;
            }
        }
        Ok(())
    }

    fn stream(&self, ids: &[Digest], images: &HashMap<String, Listed>) -> Result<Stream> {
        let names: Vec<String> = ids
            .iter()
            .map(|id| format!("names={}", encode(&id.to_string())))
            .collect();
        let path = format!("/images/get?{}", names.join("&"));
        let body = self.client.get_stream("export images", &path)?;
        let body = BufReader::with_capacity(1 << 18, body);
        let opened = Opened::read(&self.label, body, &self.spool).map_err(|error| self.cut(error))?;
        match (opened, self.store) {
            (Opened::DockerSave(save), Store::Classic) => {
                let mut shown: HashMap<Digest, Vec<Reference>> = HashMap::new();
                for listed in images.values().filter(|listed| ids.contains(&listed.id)) {
                    let names = shown.entry(listed.id).or_default();
                    names.extend(listed.tags.iter().chain(&listed.digests).cloned());
                }
                let saved = DockerSaveStore::of_engine(save, &self.label, shown)?;
                Ok(Stream::Saved(Box::new(saved)))
            }
            (Opened::Layout(layout), Store::Containerd) => {
                layout.check_opening()?;
                Ok(Stream::Layout(layout))
            }
            _ => Err(self.client.error(
                "export images",
                "what came is not what an engine of this kind writes",
                None,
            )),
        }
    }

    /// The error for an export that ends too early: the engine lacks something, and does not report it.
    fn cut(&self, error: Error) -> Error {
        let Error::Refused(finding) = &error else {
            return error;
        };
        if !matches!(finding.problem, Problem::Truncated { .. } | Problem::NoEnd) {
            return error;
        }
        let hint = "its store has the image, but not all of its content, as after a pull that found the layer \
                    unpacked already; run the same command with sudo where the registry can be reached";
        let entry = finding.place.entry.as_deref().unwrap_or_default();
        match format::digest_of_path(entry) {
            Ok(Some(digest)) => Error::NotFound {
                what: digest.to_string(),
                place: self.label.clone(),
                hint: Some(hint.into()),
            },
            _ => self
                .client
                .error("export images", &finding.to_string(), Some(hint.into())),
        }
    }

    fn streams(&self) -> &[Stream] {
        self.exported
            .get()
            .map_or(&[], |exported| exported.streams.as_slice())
    }

    /// The exports of a classic store.
    fn saved(&self) -> impl Iterator<Item = &DockerSaveStore> {
        self.streams().iter().filter_map(|stream| match stream {
            Stream::Saved(saved) => Some(saved.as_ref()),
            Stream::Layout(_) => None,
        })
    }

    /// The exports of a containerd store.
    fn layouts(&self) -> impl Iterator<Item = &dyn Layout> {
        self.streams().iter().filter_map(|stream| match stream {
            Stream::Layout(layout) => Some(layout.as_ref()),
            Stream::Saved(_) => None,
        })
    }
}

impl Uncompressed for Export {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        for saved in self.saved() {
            let size = saved.size(diff_id)?;
            if size.is_some() {
                return Ok(size);
            }
        }
        Ok(None)
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        for saved in self.saved() {
            if saved.size(diff_id)?.is_some() {
                return saved.open(diff_id);
            }
        }
        Err(Error::NotFound {
            what: format!("layer {diff_id}"),
            place: self.label.clone(),
            hint: None,
        })
    }
}

impl LocalStore for Export {
    fn label(&self) -> &str {
        &self.label
    }

    fn gather(&self, references: &[Reference], progress: &dyn Progress) -> Result<()> {
        let mut images = HashMap::new();
        for reference in references {
            if let Some(listed) = Listed::find(&self.client, reference)? {
                images.insert(reference.full(), listed);
            }
        }
        progress.phase("exporting images", None);
        let mut ids: Vec<Digest> = images.values().map(|listed: &Listed| listed.id).collect();
        ids.sort();
        ids.dedup();
        let mut exported = Exported {
            images,
            ..Exported::default()
        };
        self.export(&ids, &mut exported)?;
        // Images are gathered once.
        let _ = self.exported.set(exported);
        Ok(())
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let Some(exported) = self.exported.get() else {
            return Ok(None);
        };
        let Some(listed) = exported.images.get(&reference.full()) else {
            return Ok(None);
        };
        if let Some(error) = exported.failed.get(&listed.id) {
            return Err(error.clone());
        }
        if let Store::Containerd = self.store {
            return Ok(Some(listed.root(reference.repository())));
        }
        for saved in self.saved() {
            let found = saved.find(reference)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn list(&self) -> Result<Listing> {
        Listed::all(&self.client)
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.layouts().find_map(|layout| layout.stored(digest)) else {
            return Ok(None);
        };
        let refuse = |problem| Err(Error::refused(Place::blob(*digest).within(&self.label), problem));
        if stored.size > MAX_METADATA {
            let (limit, found) = (MAX_METADATA, stored.size);
            return refuse(Problem::TooLarge { limit, found });
        }
        let mut bytes = Vec::new();
        let read = stored.reader(0).read_to_end(&mut bytes);
        read.map_err(|error| Error::from_reader(error, Error::io("read", &self.label)))?;
        let (expected, found) = (*digest, digest.of_same_algorithm(&bytes));
        if found != expected {
            return refuse(Problem::DigestDiffers { expected, found });
        }
        Ok(Some(bytes))
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        for saved in self.saved() {
            let stored = saved.stored(digest)?;
            if stored.is_some() {
                return Ok(stored);
            }
        }
        let mut layouts = self.layouts();
        Ok(layouts.find_map(|layout| layout.stored(digest)).cloned())
    }

    fn stored_digests(&self, diff_id: &Digest, repository: &Repository) -> Vec<Digest> {
        let mut all = self
            .saved()
            .map(|saved| saved.stored_digests(diff_id, repository));
        all.find(|digests| !digests.is_empty()).unwrap_or_default()
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        let forms = self.streams().iter().map(|stream| match stream {
            Stream::Saved(saved) => saved.stored_forms(),
            Stream::Layout(layout) => archive::stored_forms(layout.as_ref()),
        });
        forms.flatten().collect()
    }
}
