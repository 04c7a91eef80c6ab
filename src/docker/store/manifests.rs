//! Manifests that sealift keeps for a classic store, in `DATA-ROOT/sealift/DRIVER/sha256:...`.
//!
//! A pull leaves index and manifest in the content store of the daemon's containerd. A digest that was written
//! into the list of names while the daemon was not running has none there, so the next save could not prove it.
//! A load that has the manifest of such a digest keeps it here, even if the digest is shown already. It is not
//! kept in containerd's folder, because containerd removes files that it did not write; and it is kept beside
//! the store rather than below `/var/lib`, so that it moves with the store: with a golden image or a disk,
//! under any mount point, and without mixing those of two stores.
//!
//! Folder and files are root's alone, mode 0700 and 0600, and are not used otherwise. A document is used only
//! if it hashes to its name. A document that no name leads to any more is removed.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use super::files::Files;
use super::repositories::Repositories;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::image::Graph;
use crate::oci::{Digest, Document, MAX_METADATA, Manifest, Reference};
use crate::progress::Progress;
use crate::store::content::checked;

/// The folder in a data root. Each driver has its own list of names, and a folder in this one.
const FOLDER: &str = "sealift";
/// A document while it is written.
const FRESH: &str = ".new";

/// The manifests kept for a store.
#[derive(Debug)]
pub struct KeptManifests {
    dir: Dir,
}

/// The same, locked against other sealift processes.
#[derive(Debug)]
pub struct LockedManifests(KeptManifests);

impl KeptManifests {
    /// Those of a store; `None` if none were ever kept.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or are not this user's alone.
    pub fn open(files: &Files) -> Result<Option<KeptManifests>> {
        let path = files.data_root.join(FOLDER);
        let opened = files
            .root()
            .and_then(|root| private(root.dir(FOLDER)?)?.dir(&files.driver))
            .and_then(private);
        match opened {
            Ok(dir) => Ok(Some(KeptManifests { dir })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("use", path)(error)),
        }
    }

    /// Makes the folder if necessary, and waits for the lock.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is not this user's alone.
    pub fn lock(files: &Files) -> Result<LockedManifests> {
        let path = files.data_root.join(FOLDER);
        let opened = files
            .root()
            .and_then(|root| made(&root, FOLDER))
            .and_then(|folder| made(&folder, &files.driver))
            .and_then(|dir| dir.as_file().lock().map(|()| dir));
        let dir = opened.map_err(Error::io("use", path))?;
        Ok(LockedManifests(KeptManifests { dir }))
    }

    /// Removes the documents that no name of the store leads to any more, unless another sealift has the lock.
    ///
    /// # Errors
    ///
    /// If they cannot be read or removed.
    pub fn tidy(files: &Files) -> Result<()> {
        let Some(kept) = KeptManifests::open(files)? else {
            return Ok(());
        };
        match kept.dir.as_file().try_lock() {
            Ok(()) => LockedManifests(kept).collect(&files.repositories()?),
            Err(_) => Ok(()),
        }
    }

    /// Stored bytes of a document, verified against the digest; `None` if it is not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the digest differs; [`Error::Io`] if it cannot be read, or is another user's.
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let name = digest.to_string();
        let path = self.dir.join(&name);
        let read = || -> io::Result<Vec<u8>> {
            let file = self.dir.open_file(&name)?;
            is_own(&file.metadata()?)?;
            let mut bytes = Vec::new();
            file.take(MAX_METADATA.saturating_add(1))
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => checked(bytes, digest, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The manifests of images that are kept. Unreadable ones are omitted.
    pub fn manifests(&self) -> Vec<Manifest> {
        let names = self.dir.names().unwrap_or_default();
        let digests = names.iter().filter_map(|name| name.to_str()?.parse().ok());
        let manifest = |digest| match self.document(&digest)? {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        };
        digests.filter_map(manifest).collect()
    }

    /// A document that is kept, if it can be read.
    fn document(&self, digest: &Digest) -> Option<Document> {
        let bytes = self.get(digest).ok()??;
        Document::parse(&Document::sniff(&bytes)?, bytes).ok()
    }
}

impl LockedManifests {
    /// Locks a store's manifests, and keeps those of images whose digests they prove. If that is not possible,
    /// it notes that and continues.
    pub fn keep_all<'a>(
        files: &Files,
        images: impl Iterator<Item = (Digest, &'a Graph, Digest)>,
        progress: &dyn Progress,
    ) -> Option<LockedManifests> {
        // A recorded digest has no manifest.
        let mut proven = images.filter(|(digest, graph, _)| graph.root.digest == *digest);
        let kept = KeptManifests::lock(files).and_then(|kept| {
            proven.try_for_each(|(_, graph, image_id)| kept.keep(graph, &image_id))?;
            Ok(kept)
        });
        let told = |error| {
            progress.note(&format!(
                "manifests are not kept for the next save of this store: {error}"
            ))
        };
        kept.map_err(told).ok()
    }

    /// Ends the keeping: the names refer to what is kept, and the rest is removed.
    pub fn named(self, files: &Files, progress: &dyn Progress) {
        if let Err(error) = files.repositories().and_then(|names| self.collect(&names)) {
            progress.note(&format!(
                "manifests of images that are gone are still kept: {error}"
            ));
        }
    }

    /// Keeps the documents from a digest down to an image's manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be written.
    pub fn keep(&self, graph: &Graph, image_id: &Digest) -> Result<()> {
        let indexes = graph
            .indexes
            .iter()
            .map(|(descriptor, index)| (&descriptor.digest, &*index.raw));
        let images = graph.images.iter().filter(|image| image.id() == *image_id);
        let manifests = images.map(|image| (&image.descriptor.digest, &*image.manifest.raw));
        for (digest, bytes) in indexes.chain(manifests) {
            if !matches!(self.0.get(digest), Ok(Some(_))) {
                self.write(digest, bytes)
                    .map_err(Error::io("write", self.0.dir.join(digest.to_string())))?;
            }
        }
        self.0.dir.sync().map_err(Error::io("write", self.0.dir.path()))
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let dir = &self.0.dir;
        match dir.remove_file(FRESH) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = dir.create_file(FRESH, 0o600)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        dir.rename(FRESH, dir, digest.to_string())
    }

    /// Removes documents that no name leads to.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be removed.
    pub fn collect(&self, names: &Repositories) -> Result<()> {
        let dir = &self.0.dir;
        let shown = names
            .names()
            .filter_map(|(name, _)| name.parse::<Reference>().ok()?.digest());
        let mut used = HashSet::new();
        let mut left: Vec<Digest> = shown.collect();
        while let Some(digest) = left.pop() {
            if used.insert(digest) {
                left.extend(self.below(&digest));
            }
        }
        let is_used = |name: &str| name.parse().is_ok_and(|digest| used.contains(&digest));
        for name in dir.names().map_err(Error::io("read", dir.path()))? {
            if name.to_str().is_none_or(|name| !is_used(name)) {
                dir.remove_file(&name)
                    .map_err(Error::io("remove", dir.join(&name)))?;
            }
        }
        Ok(())
    }

    /// The entries of an index; none if it is not one.
    fn below(&self, digest: &Digest) -> Vec<Digest> {
        match self.0.document(digest) {
            Some(Document::Index(index)) => index.manifests.iter().map(|entry| entry.digest).collect(),
            Some(Document::Manifest(_)) | None => Vec::new(),
        }
    }
}

/// Opens a folder, and makes it first if necessary.
fn made(parent: &Dir, name: &str) -> io::Result<Dir> {
    match parent.make_dir(name, 0o700) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    private(parent.dir(name)?)
}

/// Refuses a folder that another user can enter.
fn private(dir: Dir) -> io::Result<Dir> {
    let meta = dir.metadata()?;
    is_own(&meta)?;
    match std::os::unix::fs::MetadataExt::mode(&meta) & 0o077 {
        0 => Ok(dir),
        _ => Err(io::Error::other(format!(
            "other users can enter {}",
            dir.path().display()
        ))),
    }
}

/// Refuses a file of another user.
fn is_own(meta: &std::fs::Metadata) -> io::Result<()> {
    match std::os::unix::fs::MetadataExt::uid(meta) == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::other("it belongs to another user")),
    }
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
