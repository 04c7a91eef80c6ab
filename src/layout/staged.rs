//! A layout folder that is being written: its blobs are in a locked folder within it until all of them are there.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::index::{LayoutIndex, NewIndex};
use crate::archive::format;
use crate::archive::writer::{self, Staging};
use crate::blob::Verifier;
use crate::dir::{Dir, Located};
use crate::error::{Error, Result};
use crate::interrupt::{Guard, Interrupt};
use crate::load::{Copier, Form, UploadBlob};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::progress::Progress;
use crate::transfer::JOBS;
use crate::workers;

/// The folder of a layout's blobs.
pub const BLOBS: &str = "blobs";
/// Bytes that are read at once of a blob that is there.
const BUFFER: usize = 256 << 10;

/// The modes of files and folders that are made.
#[derive(Debug, Clone, Copy)]
pub struct Modes {
    file: u32,
    folder: u32,
}

impl Modes {
    /// Those of a layout that only its owner may read, or everyone.
    pub fn new(is_private: bool) -> Modes {
        match is_private {
            true => Modes {
                file: 0o600,
                folder: 0o700,
            },
            false => Modes {
                file: 0o644,
                folder: 0o755,
            },
        }
    }
}

/// A layout with a locked folder in it, where blobs are until all of them are there. An error or a signal removes that
/// folder, and a layout that was created for the load.
pub struct StagedLayout {
    /// The layout's folder.
    pub dir: Arc<Dir>,
    modes: Modes,
    work: Arc<Work>,
    _guard: Guard,
}

/// What has to be removed when the load ends.
struct Work {
    dir: Arc<Dir>,
    staging: Staging,
    /// The folder around the layout and the layout's name, if the load created it.
    created: Option<Located>,
    /// Locked while files are created or moved, so that a signal does not remove the folder in between.
    stage: Mutex<Stage>,
}

/// How far a load is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    /// `index.json` names the images.
    Published,
    /// The staging folder is removed.
    Ended,
}

impl StagedLayout {
    /// Makes the layout's folder, if there is none, and locks it for one load.
    ///
    /// # Errors
    ///
    /// If another load has it, or it cannot be made.
    pub fn begin(path: &Path, dir: Option<Dir>, modes: Modes, interrupt: &Interrupt) -> Result<StagedLayout> {
        let (dir, created) = match dir {
            Some(dir) => (dir, None),
            None => {
                let located = writer::locate(path)?;
                let failed = || Error::io("create", path);
                located
                    .dir
                    .make_dir(&located.name, modes.folder)
                    .map_err(failed())?;
                let dir = located.dir.dir(&located.name).map_err(failed())?;
                (dir, Some(located))
            }
        };
        let dir = Arc::new(dir);
        let place = Located::within(Arc::clone(&dir), format::INDEX);
        let staging = match Staging::claim(&place) {
            Ok(staging) => staging,
            Err(error) => {
                if let Some(created) = created {
                    let _ = created.dir.remove_dir(&created.name);
                }
                return Err(error);
            }
        };
        let work = Arc::new(Work {
            dir: Arc::clone(&dir),
            staging,
            created,
            stage: Mutex::new(Stage::Writing),
        });
        let guard = interrupt.on_stop({
            let work = Arc::clone(&work);
            move || work.end()
        });
        let staged_layout = StagedLayout {
            dir,
            modes,
            work,
            _guard: guard,
        };
        // What a load that was killed has left.
        staged_layout.work.staging.clear(&[])?;
        Ok(staged_layout)
    }

    /// Writes the blobs that the layout lacks, several at a time. Those that are there are read, and written again if
    /// they are wrong.
    ///
    /// # Errors
    ///
    /// If one cannot be read or written, or is not what its digest says.
    pub fn fill(
        &self,
        all: Vec<UploadBlob>,
        copier: &Copier<'_, '_>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<UploadBlob>> {
        progress.phase("writing", Some(all.iter().map(|blob| blob.size).sum()));
        let write = |blob: &UploadBlob| {
            // Its type does not matter here.
            let descriptor = Descriptor::new(MediaType::new(media_type(blob.form)), blob.digest, blob.size);
            if self.has(&descriptor, progress, interrupt)? {
                return Ok(false);
            }
            self.write(&descriptor, copier).map(|()| true)
        };
        let outcomes = workers::map(JOBS.get(), &all, write, Result::is_err);
        interrupt.check()?;
        let mut written = Vec::new();
        for (blob, outcome) in all
            .into_iter()
            .zip(outcomes.into_iter().map_while(|outcome| outcome))
        {
            if outcome? {
                written.push(blob);
            }
        }
        Ok(written)
    }

    /// Writes a blob to the staging folder.
    fn write(&self, blob: &Descriptor, copier: &Copier<'_, '_>) -> Result<()> {
        let folder = self.work.staging.folder();
        let name = staged(&blob.digest);
        let path = folder.join(&name);
        let created = {
            let _stage = self.work.writing()?;
            folder.create_file(&name, self.modes.file)
        };
        let mut file = created.map_err(Error::io("create", &path))?;
        copier.copy(blob, &mut |at, bytes| {
            let done = file.write_all(bytes);
            done.map_err(|error| writer::write_error(&path, at, error))
        })?;
        file.sync_all().map_err(Error::io("sync", &path))
    }

    /// Whether the layout has a blob, and has it right.
    fn has(&self, blob: &Descriptor, progress: &dyn Progress, interrupt: &Interrupt) -> Result<bool> {
        let path = PathBuf::from(format::blob_path(&blob.digest));
        let folder = path.parent().map(|folder| self.dir.below(folder));
        let (Some(Ok(folder)), Some(name)) = (folder, path.file_name()) else {
            return Ok(false);
        };
        let Ok(mut file) = folder.open_file(name) else {
            return Ok(false);
        };
        if file
            .metadata()
            .map_err(Error::io("read", folder.join(name)))?
            .len()
            != blob.size
        {
            return Ok(false);
        }
        progress.blob_started(&blob.digest, blob.size, 0);
        let mut verifier = Verifier::new(blob);
        let mut buffer = vec![0; BUFFER];
        loop {
            interrupt.check()?;
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What cannot be read is written again.
                Err(_) => return Ok(false),
            };
            if verifier.update(buffer.get(..count).unwrap_or_default()).is_err() {
                return Ok(false);
            }
            progress.blob_advanced(&blob.digest, u64::try_from(count).unwrap_or(u64::MAX));
        }
        progress.blob_finished(&blob.digest);
        Ok(verifier.finish().is_ok())
    }

    /// Gives the blobs their places, then replaces `index.json`. A signal waits until that is done.
    ///
    /// # Errors
    ///
    /// If a file cannot be moved or written, or a signal was faster.
    pub fn publish(
        &self,
        written: &[UploadBlob],
        known: Option<&LayoutIndex>,
        index: &NewIndex,
    ) -> Result<()> {
        let mut stage = self.work.writing()?;
        self.place(written, known, index)?;
        *stage = Stage::Published;
        Ok(())
    }

    fn place(&self, written: &[UploadBlob], known: Option<&LayoutIndex>, index: &NewIndex) -> Result<()> {
        let mut folders: HashMap<&str, Dir> = HashMap::new();
        for blob in written {
            let algorithm = blob.digest.algorithm();
            if !folders.contains_key(algorithm) {
                folders.insert(algorithm, self.folder(algorithm)?);
            }
            if let Some(folder) = folders.get(algorithm) {
                let renamed =
                    self.work
                        .staging
                        .folder()
                        .rename(staged(&blob.digest), folder, blob.digest.hex());
                renamed.map_err(Error::io("rename to", folder.join(blob.digest.hex())))?;
            }
        }
        for (digest, bytes) in &index.lists {
            let folder = self.folder(digest.algorithm())?;
            self.put(&folder, digest, bytes)?;
            folders.insert(digest.algorithm(), folder);
        }
        for folder in folders.values() {
            folder.sync().map_err(Error::io("sync", folder.path()))?;
        }
        let is_marked = self.dir.kind(format::OCI_LAYOUT);
        if is_marked
            .map_err(Error::io("look at", self.dir.join(format::OCI_LAYOUT)))?
            .is_none()
        {
            self.replace(format::OCI_LAYOUT, format::OCI_LAYOUT_CONTENT)?;
        }
        if known.is_none_or(|known| known.bytes != index.bytes) {
            self.replace(format::INDEX, &index.bytes)?;
        }
        self.dir.sync().map_err(Error::io("sync", self.dir.path()))
    }

    /// Gives a document that was made for the layout its place.
    fn put(&self, folder: &Dir, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let (staging, name) = (self.work.staging.folder(), staged(digest));
        let write = || -> io::Result<()> {
            let mut file: File = staging.create_file(&name, self.modes.file)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            staging.rename(&name, folder, digest.hex())
        };
        write().map_err(|error| writer::write_error(&folder.join(digest.hex()), 0, error))
    }

    /// The folder of the blobs with digests of an algorithm.
    fn folder(&self, algorithm: &str) -> Result<Dir> {
        let make = |parent: &Dir, name: &str| -> io::Result<Dir> {
            match parent.make_dir(name, self.modes.folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => parent.dir(name),
            }
        };
        let path = self.dir.join(BLOBS).join(algorithm);
        let folder = make(&self.dir, BLOBS).and_then(|blobs| make(&blobs, algorithm));
        folder.map_err(Error::io("create", path))
    }

    /// Replaces a file of the layout as a whole. It keeps its mode.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.work.staging.folder();
        let write = || -> io::Result<()> {
            let mut file: File = folder.create_file(name, self.modes.file)?;
            if self.dir.kind(name)?.is_some() {
                let old = self.dir.open_file(name)?.metadata()?.permissions();
                file.set_permissions(Permissions::from_mode(old.mode() & 0o666))?;
            }
            file.write_all(bytes)?;
            file.sync_all()?;
            folder.rename(name, &self.dir, name)
        };
        write().map_err(|error| writer::write_error(&self.dir.join(name), 0, error))
    }
}

impl Drop for StagedLayout {
    fn drop(&mut self) {
        self.work.end();
    }
}

impl Work {
    /// Keeps the staging folder until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if a signal has removed it.
    fn writing(&self) -> Result<MutexGuard<'_, Stage>> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match *stage {
            Stage::Ended => Err(Error::Interrupted),
            Stage::Writing | Stage::Published => Ok(stage),
        }
    }

    /// Removes the staging folder, and a new layout that is not published.
    fn end(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::Ended {
            return;
        }
        self.staging.remove();
        if let (Stage::Writing, Some(created)) = (*stage, &self.created) {
            let _ = self.dir.remove_file(format::INDEX);
            let _ = self.dir.remove_file(format::OCI_LAYOUT);
            let _ = remove_blobs(&self.dir);
            let _ = created.dir.remove_dir(&created.name);
        }
        *stage = Stage::Ended;
    }
}

/// Removes the blobs of a layout.
fn remove_blobs(layout: &Dir) -> io::Result<()> {
    let blobs = layout.dir(BLOBS)?;
    for algorithm in blobs.names()? {
        let folder = blobs.dir(&algorithm)?;
        for blob in folder.names()? {
            folder.remove_file(&blob)?;
        }
        blobs.remove_dir(&algorithm)?;
    }
    layout.remove_dir(BLOBS)
}

/// The name of a blob in the staging folder.
fn staged(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

fn media_type(form: Form) -> &'static str {
    match form {
        Form::Document => MediaType::OCI_MANIFEST,
        Form::Config => MediaType::OCI_CONFIG,
        Form::Layer | Form::Uncompressed => MediaType::OCI_LAYER,
    }
}
