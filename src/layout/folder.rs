//! A layout folder as a target, created or added to.
//!
//! Blobs are written to a locked folder within it, hashed as they are written, and made durable. Only when all of them
//! are there they get their places, and at last `index.json` is replaced. So a load that fails or is killed leaves what
//! the layout had, and at most blobs that nothing names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blobs::{self, Copier};
use super::images::{self, Chosen};
use super::index::{self, LayoutIndex};
use super::{is_private, refuse_inputs};
use crate::archive::format;
use crate::archive::writer::{self, Staging, file_system};
use crate::blob::Verifier;
use crate::dir::{self, Dir, Located};
use crate::error::{Error, Result};
use crate::image::NamedImage;
use crate::interrupt::{Guard, Interrupt};
use crate::load::{self, Candidates, Change, DiskSpace, Form, LoadOptions, Plan, Report, Target, UploadBlob};
use crate::oci::{Descriptor, Digest, MAX_METADATA, MediaType};
use crate::progress::Progress;

/// Bytes that are read at once of a blob that is there.
const BUFFER: usize = 256 << 10;
/// What file systems take for a file beside its bytes, at most.
const OVERHEAD: u64 = 4096;

/// A layout folder that images are loaded into.
#[derive(Debug, Clone)]
pub struct FolderTarget {
    path: PathBuf,
}

/// What there is of a layout folder.
pub type Inventory = load::Inventory<Details>;

/// What only a layout folder has in its inventory.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Its `index.json`, if there is a layout.
    pub index: Option<String>,
    /// Free bytes.
    pub free: u64,
}

impl FolderTarget {
    /// The layout in a folder, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> FolderTarget {
        FolderTarget { path: path.into() }
    }

    fn label(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the folder; `None` if there is none.
    fn open(&self) -> Result<Option<Dir>> {
        match Dir::open(&self.path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &self.path)(error)),
        }
    }

    /// The `index.json` in a folder; `None` in an empty one.
    fn read(&self, dir: &Dir) -> Result<Option<LayoutIndex>> {
        let failed = |name: &str| Error::io("read", dir.join(name));
        let has = |name: &str| dir.kind(name).map(|kind| kind.is_some()).map_err(failed(name));
        let refuse = |message: String, hint: &'static str| {
            Err(Error::Usage {
                message,
                hint: Some(hint.into()),
            })
        };
        let label = self.path.display();
        if !has(format::INDEX)? && !has(format::OCI_LAYOUT)? {
            let names = dir.names().map_err(Error::io("list", &self.path))?;
            let staged = Staging::name_of(format::INDEX.as_ref());
            return match names.iter().all(|name| *name == staged) {
                true => Ok(None),
                false => refuse(
                    format!("{label} is not an OCI layout, and not empty"),
                    "name a layout, or a new folder",
                ),
            };
        }
        if has(format::MANIFEST)? {
            return refuse(
                format!(
                    "{label} has a {}, which would no longer say what is in the layout",
                    format::MANIFEST
                ),
                "it is for `docker load`, and can be removed; or load into another folder",
            );
        }
        let file = dir.open_file(format::INDEX).map_err(failed(format::INDEX))?;
        let bytes = dir::read_whole(file, MAX_METADATA).map_err(failed(format::INDEX))?;
        LayoutIndex::parse(&self.label(), bytes).map(Some)
    }

    /// The images of a plan with the `index.json` that names them.
    fn index(&self, known: Option<&LayoutIndex>, chosen: &[Chosen]) -> Result<Vec<u8>> {
        let images = images::listed(chosen);
        match known {
            Some(known) => known.with(&self.label(), &images),
            None => index::new(&self.label(), &images),
        }
    }
}

impl Target for FolderTarget {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>) -> Result<Inventory> {
        refuse_inputs(wanted, std::slice::from_ref(&self.path))?;
        let dir = self.open()?;
        let index = dir.as_ref().map(|dir| self.read(dir)).transpose()?.flatten();
        let free = match &dir {
            Some(dir) => file_system::free(dir.as_file()),
            None => file_system::free(writer::locate(&self.path)?.dir.as_file()),
        };
        let details = Details {
            index: index.as_ref().map(LayoutIndex::text),
            free: free.map_err(|errno| Error::io("look at", &self.path)(errno.into()))?,
        };
        let inventory = Inventory {
            images: index.as_ref().map(LayoutIndex::images).unwrap_or_default(),
            blobs: match &dir {
                Some(dir) => sizes(dir, wanted),
                None => BTreeMap::new(),
            },
            ..Inventory::new(self.label(), details)
        };
        Ok(inventory.sorted())
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        let mut plan = Plan::new(format!("OCI layout {}", inventory.target));
        let chosen = images::choose(candidates, options, &mut plan)?;
        let index = inventory.details.index.as_ref();
        let index = index.map(|text| LayoutIndex::parse(&inventory.target, text.clone().into_bytes()));
        let known = index.transpose()?;
        let known = known.as_ref();
        plan.images = images::planned(&chosen, candidates, |named| {
            let is_present = named
                .blobs()
                .iter()
                .all(|blob| inventory.has_blob(&blob.digest, blob.size));
            (change(known, named), is_present)
        });
        let index = self.index(known, &chosen)?;
        plan.send = blobs::all(&chosen);
        plan.send
            .retain(|blob| !inventory.has_blob(&blob.digest, blob.size));
        let files = plan.send.iter().map(|blob| blob.size.saturating_add(OVERHEAD));
        let needed = files.fold(
            u64::try_from(index.len()).unwrap_or(u64::MAX),
            u64::saturating_add,
        );
        plan.space = Some(DiskSpace {
            path: self.label(),
            needed,
            free: inventory.details.free,
            is_insufficient: plan.bytes() > inventory.details.free,
            hint: "free some space, or load into a folder on another disk".into(),
        });
        Ok(plan)
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut report = Report::new(plan);
        if plan.images.is_empty() {
            return Ok(report);
        }
        let chosen = images::of_plan(plan, candidates)?;
        let modes = Modes::new(is_private(candidates));
        let staged_layout = StagedLayout::begin(self, modes, interrupt)?;
        let known = self.read(&staged_layout.dir)?;
        for (planned, image) in plan.images.iter().zip(&chosen) {
            if change(known.as_ref(), &image.named) != planned.change {
                return Err(Error::Io {
                    action: "write",
                    path: staged_layout.dir.join(format::INDEX),
                    offset: None,
                    source: io::Error::other("somebody else has changed it meanwhile").into(),
                    hint: Some("run this again".into()),
                });
            }
        }
        let index = self.index(known.as_ref(), &chosen)?;
        let written = staged_layout.fill(&chosen, candidates, progress, interrupt)?;
        progress.phase("writing to disk", None);
        interrupt.check()?;
        staged_layout.publish(&written, known.as_ref(), &index)?;
        report.details.digest = Some(Digest::sha256(&index));
        report.sent = written.iter().map(|blob| blob.size).sum();
        report.images = images::loaded(plan, &written);
        Ok(report)
    }
}

/// What becomes of an image's name in a layout, which may have no `index.json` yet.
fn change(known: Option<&LayoutIndex>, named: &NamedImage) -> Change {
    known.map_or(Change::New, |known| {
        known.change(named.reference.as_ref(), &named.graph.root.digest)
    })
}

/// Sizes of the blobs of these images that a layout has.
fn sizes(dir: &Dir, wanted: &Candidates<'_>) -> BTreeMap<Digest, u64> {
    let mut sizes = BTreeMap::new();
    let mut folders: HashMap<&str, Option<Dir>> = HashMap::new();
    let mut seen: HashSet<Digest> = HashSet::new();
    for candidate in &wanted.images {
        for blob in candidate.image.graph.blobs() {
            let digest = candidate.image.provenance.layer(&blob).digest;
            if !seen.insert(digest) {
                continue;
            }
            let folder = folders.entry(digest.algorithm()).or_insert_with(|| {
                let path = Path::new("blobs").join(digest.algorithm());
                dir.below(&path).ok()
            });
            let file = folder
                .as_ref()
                .and_then(|folder| folder.open_file(digest.hex()).ok());
            if let Some(meta) = file.and_then(|file| file.metadata().ok()) {
                sizes.insert(digest, meta.len());
            }
        }
    }
    sizes
}

/// The modes of files and folders that are made.
#[derive(Debug, Clone, Copy)]
struct Modes {
    file: u32,
    folder: u32,
}

impl Modes {
    fn new(is_private: bool) -> Modes {
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

/// The folder in the layout where blobs are until all of them are there. It goes whatever happens, and the layout's
/// folder with it if that was made for it and is empty.
struct StagedLayout {
    dir: Arc<Dir>,
    modes: Modes,
    staging: Arc<Staging>,
    /// The folder around the layout and the layout's name, if it was made.
    made: Option<Arc<Located>>,
    _guard: Guard,
}

impl StagedLayout {
    /// Makes the layout's folder, if there is none, and locks it for one load.
    fn begin(target: &FolderTarget, modes: Modes, interrupt: &Interrupt) -> Result<StagedLayout> {
        let (dir, made) = match target.open()? {
            Some(dir) => (dir, None),
            None => {
                let located = writer::locate(&target.path)?;
                let failed = || Error::io("create", &target.path);
                located
                    .dir
                    .make_dir(&located.name, modes.folder)
                    .map_err(failed())?;
                let dir = located.dir.dir(&located.name).map_err(failed())?;
                (dir, Some(Arc::new(located)))
            }
        };
        let dir = Arc::new(dir);
        let place = Located::within(Arc::clone(&dir), format::INDEX);
        let claimed = Staging::claim(&place).inspect_err(|_| unmake(made.as_deref()));
        let staging = Arc::new(claimed?);
        let guard = interrupt.on_stop({
            let (staging, made) = (Arc::clone(&staging), made.clone());
            move || {
                staging.remove();
                unmake(made.as_deref());
            }
        });
        let staged_layout = StagedLayout {
            dir,
            modes,
            staging,
            made,
            _guard: guard,
        };
        // What a load that was killed has left.
        staged_layout.staging.clear(&[])?;
        Ok(staged_layout)
    }

    /// Writes the blobs that the layout lacks. Those that are there are read, and written again if they are wrong.
    fn fill(
        &self,
        chosen: &[Chosen],
        candidates: &Candidates<'_>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<UploadBlob>> {
        let all = blobs::all(chosen);
        progress.phase("writing", Some(all.iter().map(|blob| blob.size).sum()));
        let copier = Copier::new(chosen, candidates, progress, interrupt);
        let mut written = Vec::new();
        for blob in all {
            // Its type does not matter here.
            let descriptor = Descriptor::new(MediaType::new(media_type(blob.form)), blob.digest, blob.size);
            if self.has(&descriptor, progress, interrupt)? {
                continue;
            }
            let folder = self.staging.folder();
            let name = staged(&blob.digest);
            let path = folder.join(&name);
            let mut file = folder
                .create_file(&name, self.modes.file)
                .map_err(Error::io("create", &path))?;
            copier.copy(&descriptor, &mut |at, bytes| {
                let done = file.write_all(bytes);
                done.map_err(|error| writer::write_error(&path, at, error))
            })?;
            file.sync_all().map_err(Error::io("sync", &path))?;
            written.push(blob);
        }
        Ok(written)
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

    /// Gives the blobs their places, then replaces `index.json`.
    fn publish(&self, written: &[UploadBlob], known: Option<&LayoutIndex>, index: &[u8]) -> Result<()> {
        let mut folders: HashMap<&str, Dir> = HashMap::new();
        for blob in written {
            let algorithm = blob.digest.algorithm();
            if !folders.contains_key(algorithm) {
                folders.insert(algorithm, self.folder(algorithm)?);
            }
            if let Some(folder) = folders.get(algorithm) {
                let renamed = self
                    .staging
                    .folder()
                    .rename(staged(&blob.digest), folder, blob.digest.hex());
                renamed.map_err(Error::io("rename to", folder.join(blob.digest.hex())))?;
            }
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
        if known.is_none_or(|known| known.bytes != index) {
            self.replace(format::INDEX, index)?;
        }
        self.dir.sync().map_err(Error::io("sync", self.dir.path()))
    }

    /// The folder of the blobs with digests of an algorithm.
    fn folder(&self, algorithm: &str) -> Result<Dir> {
        let make = |parent: &Dir, name: &str| -> io::Result<Dir> {
            match parent.make_dir(name, self.modes.folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => parent.dir(name),
            }
        };
        let path = self.dir.join("blobs").join(algorithm);
        let folder = make(&self.dir, "blobs").and_then(|blobs| make(&blobs, algorithm));
        folder.map_err(Error::io("create", path))
    }

    /// Replaces a file of the layout as a whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.staging.folder();
        let write = || -> io::Result<()> {
            let mut file: File = folder.create_file(name, self.modes.file)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            folder.rename(name, &self.dir, name)
        };
        write().map_err(|error| writer::write_error(&self.dir.join(name), 0, error))
    }
}

impl Drop for StagedLayout {
    fn drop(&mut self) {
        self.staging.remove();
        unmake(self.made.as_deref());
    }
}

/// Removes the folder that was made for a layout, if nothing is in it.
fn unmake(made: Option<&Located>) {
    if let Some(made) = made {
        let _ = made.dir.remove_dir(&made.name);
    }
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
