//! containerd's images as a source: names from its records, blobs from its content folder, or over its API where the
//! folder cannot be read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Code;

use super::api::content::ReadContentRequest;
use super::api::content::content_client::ContentClient;
use super::client::MAX_MESSAGE;
use super::content::Content;
use super::discarded::{Discarded, Tar};
use super::{Containerd, Options};
use crate::archive;
use crate::blob::{Extent, Stored, Uncompressed};
use crate::error::{Error, Hint, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, MAX_METADATA, Reference, Repository};
use crate::recover::{LocalStore, StoreImage, names_of};
use crate::source::{Listing, StoredForm};
use crate::store::content::{ContentFolders, checked};

/// The images of a containerd's namespace.
pub struct ContainerdStore {
    containerd: Containerd,
    label: String,
    /// The digests that names stand for.
    records: BTreeMap<String, Digest>,
    /// Its content folder, if it can be read from here.
    folders: ContentFolders,
    /// Blobs that were read over the API, in temporary files without a name.
    copies: Mutex<HashMap<Digest, Arc<Mutex<Option<Stored>>>>>,
    /// Layers from snapshots, by diff id.
    tars: Mutex<HashMap<Digest, Arc<Mutex<Discarded>>>>,
    tmpdir: PathBuf,
    interrupt: Interrupt,
}

/// The names of an image.
#[derive(Default)]
struct Names {
    /// With a tag.
    tags: Vec<Reference>,
    /// With a digest.
    digests: Vec<Reference>,
    /// The image ids that CRI keeps as names.
    ids: Vec<Digest>,
}

impl ContainerdStore {
    /// Asks a containerd for its images. Temporary data is kept as `spool` says.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if it does not answer.
    pub fn open(options: &Options, spool: &archive::Options) -> Result<ContainerdStore> {
        let containerd = Containerd::connect(options)?;
        let records = containerd.records()?.into_iter();
        // A record of another digest algorithm cannot be verified.
        let records: BTreeMap<String, Digest> = records
            .filter_map(|(name, digest)| Some((name, digest.parse().ok()?)))
            .collect();
        let (namespace, _) = containerd.namespace();
        Ok(ContainerdStore {
            label: format!("{} (namespace {namespace})", containerd.client.address().engine()),
            folders: containerd.content_folders(records.values().next()),
            records,
            containerd,
            copies: Mutex::default(),
            tars: Mutex::default(),
            tmpdir: spool.tmpdir.clone(),
            interrupt: spool.interrupt.clone(),
        })
    }

    /// The names of what a digest stands for.
    fn names(&self) -> BTreeMap<Digest, Names> {
        let mut images: BTreeMap<Digest, Names> = BTreeMap::new();
        for (name, target) in &self.records {
            let names = images.entry(*target).or_default();
            if let Ok(id) = name.parse() {
                names.ids.push(id);
                continue;
            }
            match name.parse::<Reference>() {
                Ok(reference) if reference.digest().is_some() => names.digests.push(reference),
                Ok(reference) => names.tags.push(reference),
                Err(_) => {}
            }
        }
        images
    }

    /// Passes a blob's bytes to `write`, as the API sends them, and at most `limit` of them. False if there is no such blob.
    fn read(&self, digest: &Digest, limit: u64, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let client = &self.containerd.client;
        let mut stub = ContentClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE);
        let request = client.request(ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        });
        let Some(mut stream) = client.find("read a blob", stub.read(request))? else {
            return Ok(false);
        };
        while left > 0 {
            self.interrupt.check()?;
            match client.next(&mut stream) {
                // No blob has empty parts: such a stream might never end.
                Ok(Some(part)) if part.data.is_empty() => return Ok(true),
                Ok(Some(part)) => {
                    let bytes = part.data.get(..left).unwrap_or(&part.data);
                    write(bytes)?;
                    left -= bytes.len();
                }
                Ok(None) => return Ok(true),
                Err(status) if status.code() == Code::NotFound => return Ok(false),
                Err(status) => return Err(client.address().error("read a blob", &status)),
            }
        }
        // If there is more, its digest will differ.
        Ok(true)
    }

    /// The tar of a layer from its snapshot, if it can be recovered.
    fn discarded(&self, diff_id: &Digest) -> Result<Option<Tar>> {
        let tar = {
            let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tars.entry(*diff_id).or_default())
        };
        // Others can be written at the same time.
        let mut tar = tar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Discarded::Unknown = *tar {
            let copy = |digest: &Digest, size: u64| self.copy(digest, size);
            let found = self.containerd.discarded_layer(diff_id, &self.interrupt, &copy)?;
            *tar = found.map_or(Discarded::Lost, Discarded::Found);
        }
        match &*tar {
            Discarded::Found(tar) => Ok(Some(tar.clone())),
            Discarded::Unknown | Discarded::Lost => Ok(None),
        }
    }

    /// Copies a blob into a temporary file.
    fn copy(&self, digest: &Digest, size: u64) -> Result<Option<Stored>> {
        let failed = |source: std::io::Error| Error::Io {
            action: "write",
            path: self.tmpdir.clone(),
            offset: None,
            source: source.into(),
            hint: Some(Hint::from("blobs are copied there first").and(Remedy::OtherTemporaryFolder)),
        };
        let mut file: File = tempfile::tempfile_in(&self.tmpdir).map_err(failed)?;
        if !self.read(digest, size, &mut |bytes| file.write_all(bytes).map_err(failed))? {
            return Ok(None);
        }
        let path = PathBuf::from(format!("{}: {digest}", self.label));
        Ok(Some(Stored {
            entry: path.display().to_string(),
            extents: vec![Extent {
                file: Arc::new(file),
                path: Arc::new(path),
                offset: 0,
                length: size,
            }],
            size,
            offset: None,
        }))
    }
}

impl Containerd {
    /// The content folder, if a blob that is known to be there can be read from here.
    fn content_folders(&self, known: Option<&Digest>) -> ContentFolders {
        let folder = self.plugin_folder("type==io.containerd.content.v1");
        let roots = folder.iter().filter_map(|folder| folder.parent());
        let found = ContentFolders::below(roots.map(Path::to_path_buf));
        // It names the folder as it sees it.
        let is_its = known.is_some_and(|digest| found.stored(digest).ok().flatten().is_some());
        if is_its { found } else { ContentFolders::default() }
    }
}

/// containerd keeps layers in their stored form. Those that it is configured to discard are written from their snapshots.
impl Uncompressed for ContainerdStore {
    fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        Ok(self.discarded(diff_id)?.map(|tar| tar.size()))
    }

    fn open(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        match self.discarded(diff_id)? {
            Some(tar) => Ok(Box::new(tar.reader())),
            None => Err(Error::NotFound {
                what: format!("layer {diff_id}"),
                place: self.label.clone(),
                hint: None,
            }),
        }
    }
}

impl LocalStore for ContainerdStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn find(&self, reference: &Reference) -> Result<Option<StoreImage>> {
        let repository = reference.repository();
        let is_meant = |name: &Reference| match reference.digest() {
            Some(_) => name.repository() == repository,
            None => name.repository() == repository && name.tag() == reference.tag(),
        };
        let names = self.names();
        let found = names.iter().find(|(target, names)| match reference.digest() {
            Some(digest) if reference.is_nameless() => digest == **target || names.ids.contains(&digest),
            Some(digest) if digest != **target => false,
            Some(_) => names.tags.iter().chain(&names.digests).any(is_meant),
            None => names.tags.iter().any(is_meant),
        });
        Ok(found.map(|(target, _)| {
            StoreImage::new(repository, &[Reference::digested(repository, *target)], None)
        }))
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for (target, names) in self.names() {
            let Names { tags, digests, ids } = names;
            listing.references.extend(names_of(&tags, &digests).cloned());
            if tags.is_empty() && digests.is_empty() {
                listing.nameless.push(target);
            }
            listing.ids.push(target);
            listing.ids.extend(ids);
        }
        Ok(listing)
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.folders.metadata(digest)? {
            return Ok(Some(bytes));
        }
        let mut bytes = Vec::new();
        // One byte more is too many, whatever follows.
        let found = self.read(digest, MAX_METADATA.saturating_add(1), &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        match found {
            true => checked(bytes, digest, Path::new(&self.label)).map(Some),
            false => Ok(None),
        }
    }

    fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        if let Some(stored) = self.folders.stored(digest)? {
            return Ok(Some(stored));
        }
        let copy = {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(copies.entry(*digest).or_default())
        };
        // Other blobs can be copied at the same time.
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        if copy.is_some() {
            return Ok(copy.clone());
        }
        let Some(found) = Content::new(&self.containerd.client).find(digest)? else {
            return Ok(None);
        };
        copy.clone_from(&self.copy(digest, found.size)?);
        Ok(copy.clone())
    }

    fn stored_digests(&self, _: &Digest, _: &Repository) -> Vec<Digest> {
        Vec::new()
    }

    fn stored_forms(&self) -> Vec<StoredForm> {
        self.folders.stored_forms(|_| None)
    }
}
