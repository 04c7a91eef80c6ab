//! A layout folder as a target, created or added to.
//!
//! Blobs are written to a locked folder within it, hashed as they are written, and made durable. Only when all of them
//! are there they get their places, and at last `index.json` is replaced. So a load that fails or is killed leaves what
//! the layout had, and at most blobs that nothing names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::index::{self, LayoutIndex, NewIndex};
use super::lists;
use super::staged::{self, Modes, StagedLayout};
use super::{inputs, is_private};
use crate::archive::format;
use crate::archive::writer::{self, Staging, file_system};
use crate::dir::{self, Dir};
use crate::error::{Error, Place, Remedy, Result};
use crate::image::NamedImage;
use crate::interrupt::Interrupt;
use crate::load::chosen::{self, Chosen};
use crate::load::{self, Candidates, Change, Copier, DiskSpace, LoadOptions, Plan, Report, Target};
use crate::oci::{Digest, MAX_METADATA};
use crate::progress::Progress;

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
    /// The lists of referrers that `index.json` names, by their digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<Digest, String>,
    /// Free bytes.
    pub free: u64,
}

impl FolderTarget {
    /// The layout in a folder, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> FolderTarget {
        FolderTarget { path: path.into() }
    }

    /// Everything that the layout has. Its blobs are not read: a load into it does that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no layout; the errors of reading it.
    pub fn inventory(&self) -> Result<Inventory> {
        let no_layout = || Error::NotFound {
            what: "OCI layout".into(),
            place: self.label(),
            hint: None,
        };
        let dir = self.open()?.ok_or_else(no_layout)?;
        let index = self.read(&dir)?.ok_or_else(no_layout)?;
        let details = Details {
            index: Some(index.text()),
            lists: index.list_texts(),
            free: file_system::free(dir.as_file())
                .map_err(|errno| Error::io("look at", &self.path)(errno.into()))?,
        };
        let inventory = Inventory {
            images: index.images(),
            blobs: all_sizes(&dir).map_err(Error::io("list", &self.path))?,
            ..Inventory::new(self.label(), details)
        };
        Ok(inventory.sorted())
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

    /// The `index.json` in a folder; `None` in an empty one, and in one that a killed load has begun.
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
        if has(format::OCI_LAYOUT)? {
            self.check_version(dir)?;
        }
        if !has(format::INDEX)? {
            let names = dir.names().map_err(Error::io("list", &self.path))?;
            let staged = Staging::name_of(format::INDEX.as_ref());
            let is_begun =
                |name: &OsString| *name == staged || name == staged::BLOBS || name == format::OCI_LAYOUT;
            return match names.iter().all(is_begun) {
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
        let mut index = LayoutIndex::parse(&self.label(), bytes)?;
        index.lists = lists::read(dir, &index.entries);
        Ok(Some(index))
    }

    /// Refuses a folder that is marked as a layout of another version, or whose mark is not a file.
    fn check_version(&self, dir: &Dir) -> Result<()> {
        let failed = || Error::io("read", dir.join(format::OCI_LAYOUT));
        let file = dir.open_file(format::OCI_LAYOUT).map_err(failed())?;
        let bytes = dir::read_whole(file, MAX_METADATA).map_err(failed())?;
        format::check_layout(&bytes).map_err(|problem| {
            let place = Place::default().within(self.path.display());
            Error::refused(place.entry(format::OCI_LAYOUT), problem)
        })
    }

    /// Refuses to create a folder whose name looks like a path and a tag, as skopeo takes them.
    fn refuse_tag(&self) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        match name.as_encoded_bytes().contains(&b':') {
            false => Ok(()),
            true => Err(Error::Usage {
                message: format!(
                    "{} does not exist, and no tag can follow the path: images keep their names",
                    self.path.display()
                ),
                hint: Some(Remedy::SelectOrRename.into()),
            }),
        }
    }

    /// The images of a plan with the `index.json` that names them.
    fn index(&self, known: Option<&LayoutIndex>, chosen: &[Chosen]) -> Result<NewIndex> {
        let images = chosen::listed(chosen);
        match known {
            Some(known) => known.with(&self.label(), &images),
            None => index::new(&self.label(), &images),
        }
    }
}

impl Target for FolderTarget {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
        inputs(wanted).refuse(std::slice::from_ref(&self.path))?;
        let dir = self.open()?;
        if dir.is_none() {
            self.refuse_tag()?;
        }
        let index = dir.as_ref().map(|dir| self.read(dir)).transpose()?.flatten();
        let free = match &dir {
            Some(dir) => file_system::free(dir.as_file()),
            None => file_system::free(writer::locate(&self.path)?.dir.as_file()),
        };
        let details = Details {
            index: index.as_ref().map(LayoutIndex::text),
            lists: index.as_ref().map(LayoutIndex::list_texts).unwrap_or_default(),
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
        let chosen = chosen::choose(candidates, options, &mut plan)?;
        let index = inventory.details.index.as_ref();
        let index = index.map(|text| LayoutIndex::parse(&inventory.target, text.clone().into_bytes()));
        let mut known = index.transpose()?;
        if let Some(known) = &mut known {
            let texts = inventory.details.lists.iter();
            known.lists = texts
                .map(|(digest, text)| (*digest, text.clone().into_bytes()))
                .collect();
        }
        let known = known.as_ref();
        plan.images = chosen::planned(&chosen, candidates, |named| {
            let is_present = named
                .blobs()
                .iter()
                .all(|blob| inventory.has_blob(&blob.digest, blob.size));
            (change(known, named), is_present)
        });
        let index = self.index(known, &chosen)?;
        plan.send = chosen::blobs(&chosen);
        plan.send
            .retain(|blob| !inventory.has_blob(&blob.digest, blob.size));
        let files = plan.send.iter().map(|blob| blob.size.saturating_add(OVERHEAD));
        let documents = std::iter::once(&index.bytes).chain(index.lists.values());
        let documents = documents.map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let needed = files.chain(documents).fold(0, u64::saturating_add);
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
        let chosen = chosen::of_plan(plan, candidates)?;
        let modes = Modes::new(is_private(candidates));
        let staged_layout = StagedLayout::begin(&self.path, self.open()?, modes, interrupt)?;
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
        let copier = Copier::new(candidates, progress, interrupt);
        let written = staged_layout.fill(chosen::blobs(&chosen), &copier, progress, interrupt)?;
        progress.phase("writing to disk", None);
        interrupt.check()?;
        staged_layout.publish(&written, known.as_ref(), &index)?;
        report.details.digest = Some(Digest::sha256(&index.bytes));
        report.sent = written.iter().map(|blob| blob.size).sum();
        report.images = chosen::loaded(plan, &written);
        Ok(report)
    }
}

/// What becomes of an image's name in a layout, which may have no `index.json` yet.
fn change(known: Option<&LayoutIndex>, named: &NamedImage) -> Change {
    known.map_or(Change::New, |known| known.change(named))
}

/// Sizes of all blobs that a layout has.
fn all_sizes(dir: &Dir) -> io::Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    let blobs = dir.dir(staged::BLOBS)?;
    for algorithm in blobs.names()? {
        let Ok(folder) = blobs.dir(&algorithm) else {
            continue;
        };
        for name in folder.names()? {
            let digest = format!("{}:{}", algorithm.display(), name.display()).parse();
            let (Ok(digest), Ok(file)) = (digest, folder.open_file(&name)) else {
                continue;
            };
            sizes.insert(digest, file.metadata()?.len());
        }
    }
    Ok(sizes)
}

/// Sizes of the blobs of these images that a layout has.
fn sizes(dir: &Dir, wanted: &Candidates<'_>) -> BTreeMap<Digest, u64> {
    let mut sizes = BTreeMap::new();
    let mut folders: HashMap<&str, Option<Dir>> = HashMap::new();
    let mut seen: HashSet<Digest> = HashSet::new();
    for candidate in &wanted.images {
        for blob in candidate.image.blobs() {
            let digest = blob.digest;
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
