//! Replaces the bytes of bad and missing blobs by good ones, while the registry runs.
//!
//! A registry does not write a blob that it believes to have, so a push does not mend a damaged file. A repair
//! verifies the storage, takes bytes with the right digest out of other places, and puts them in the place of the bad
//! ones: each file is written in a folder that the registry ignores, verified on the way, and renamed, with owner and mode
//! kept. Nothing is deleted. A mended manifest may name further blobs that are bad or missing, so this is repeated until
//! nothing more can be mended.
//!
//! Links are written only where they are certain: a path that ends in a digest holds that digest. A tag's
//! link is the only record of where it leads; which manifests it ever had is known, and reported.
//!
//! - `storage_source`: what is good in the storage, for stores that recover images with it
//! - `staging`: replaces files

mod staging;
mod storage_source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::hashing::Bad;
use super::layout::{BlobFile, Storage, blob_entry};
use super::report::{Report, StorageFinding};
use super::{Suspects, examine};
use crate::error::{Error, ErrorKind, Problem, Result};
use crate::image::AffectedImage;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, MAX_METADATA};
use crate::progress::Progress;
use crate::repair::{self as copies, BlobRepair, Fate, Fetch, Offer, Open, Search, Wanted, references_of};
use crate::retry::Retry;
use staging::Staging;
use storage_source::StorageSource;

/// How to repair.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of threads that verify.
    pub jobs: NonZeroUsize,
    /// How many times a blob is requested, and the pauses between.
    pub retry: Retry,
    /// Whether only to find out where good bytes are.
    pub is_dry_run: bool,
}

/// A link that was missing or wrong, although its path says what it holds.
#[derive(Debug)]
pub struct LinkRepair {
    /// Its path below `docker/registry/v2`.
    pub entry: String,
    /// What was wrong with it, and the images that need it.
    pub found: StorageFinding,
    /// Why it could not be written.
    pub failure: Option<Error>,
}

/// The result.
#[derive(Debug)]
pub struct Repair {
    /// Whether nothing was changed.
    pub is_dry_run: bool,
    /// The blobs that were bad or missing, by their digests.
    pub blobs: Vec<BlobRepair>,
    /// Links, by their paths.
    pub links: Vec<LinkRepair>,
    /// Images that had errors and have none any more.
    pub whole: Vec<AffectedImage>,
    /// Why places could not be searched.
    pub failures: Vec<Error>,
    /// What is in the storage now.
    pub report: Report,
}

impl Repair {
    /// The most severe kind of what is left. In a dry run: of what would be.
    pub fn failure(&self) -> Option<ErrorKind> {
        let links = self.links.iter().filter_map(|link| link.failure.as_ref());
        let others = links.chain(&self.report.unread).map(Error::kind);
        let left = self.left().next().map(|_| ErrorKind::Content);
        let blobs = copies::failure(&self.blobs, &self.failures);
        others.chain(left).chain(blobs).max()
    }

    /// The errors that the last verification found, without those of blobs and links that [`Repair::blobs`] and
    /// [`Repair::links`] give as not mended. A mended blob or link that is wrong again is included.
    pub fn left(&self) -> impl Iterator<Item = &StorageFinding> {
        let blobs = self.blobs.iter();
        let blobs = blobs.filter(|blob| !matches!(blob.fate, Fate::Mended(_)));
        let blobs: HashSet<Digest> = blobs.map(|blob| blob.digest).collect();
        let links = self.links.iter();
        let links = links.filter(|link| self.is_dry_run || link.failure.is_some());
        let links: HashSet<&String> = links.map(|link| &link.entry).collect();
        let errors = self
            .report
            .findings
            .iter()
            .filter(|found| found.finding.is_error());
        errors.filter(move |found| {
            let place = &found.finding.place;
            let is_blob = place.digest.is_some_and(|digest| blobs.contains(&digest));
            let is_link = place.entry.as_ref().is_some_and(|entry| links.contains(entry));
            !is_blob && !is_link
        })
    }
}

/// Repairs the storage folder at `root`, as [`super::verify`] takes it. `open` is called once, before anything is
/// verified: a place that is not there is an error even if nothing is to be mended.
///
/// # Errors
///
/// As [`super::verify`], those of `open`, and if another repair is under way. Everything else is in the result.
pub fn repair(
    root: &Path,
    open: &mut Open<'_>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Repair> {
    let storage = Arc::new(Storage::open(root)?);
    // Before blobs are hashed, which takes long.
    let staging = match storage.blobs() {
        Some(_) if !options.is_dry_run => Some(Staging::open(&storage, interrupt)?),
        _ => None,
    };
    let good = Arc::new(StorageSource::new(&storage));
    let search = Search::open(good.clone(), None, open)?;
    let verify = super::Options {
        jobs: options.jobs,
        ..super::Options::default()
    };
    let (mut report, mut bad) = examine(&storage, &verify, Suspects::Hash, progress, interrupt)?;
    let mut affected: BTreeSet<AffectedImage> = report.affected();
    let mut work = Work {
        storage: &storage,
        search,
        options,
        progress,
        interrupt,
        blobs: BTreeMap::new(),
        links: BTreeMap::new(),
    };
    loop {
        let blobs = work.bad_blobs(&report, &bad);
        let links = work.wrong_links(&report, &bad);
        if blobs.is_empty() && links.is_empty() {
            break;
        }
        good.set_bad(bad.keys().copied());
        progress.phase("looking for good copies", None);
        work.search.look(&blobs)?;
        match &staging {
            Some(staging) => work.mend(staging, blobs, links)?,
            None if options.is_dry_run => {
                work.plan(blobs, links);
                break;
            }
            None => {
                return Err(Error::NotFound {
                    what: "blobs".into(),
                    place: storage.root().path().display().to_string(),
                    hint: None,
                });
            }
        }
        let mut suspects: BTreeMap<Digest, Option<Bad>> =
            bad.into_iter().map(|(digest, bad)| (digest, Some(bad))).collect();
        // Those that are mended are hashed again.
        suspects.extend(work.blobs.keys().map(|digest| (*digest, None)));
        (report, bad) = examine(&storage, &verify, Suspects::Known(suspects), progress, interrupt)?;
        affected.extend(report.affected());
    }
    let left = report.affected();
    let whole = affected.iter().filter(|image| !left.contains(image));
    Ok(Repair {
        is_dry_run: options.is_dry_run,
        whole: whole.cloned().collect(),
        failures: std::mem::take(&mut work.search.failures),
        blobs: work.blobs.into_values().collect(),
        links: work.links.into_values().collect(),
        report,
    })
}

struct Work<'a> {
    storage: &'a Storage,
    search: Search,
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    blobs: BTreeMap<Digest, BlobRepair>,
    links: BTreeMap<String, LinkRepair>,
}

impl Work<'_> {
    /// The blobs with errors that other bytes would mend, as far as it was not tried.
    fn bad_blobs(&self, report: &Report, bad: &BTreeMap<Digest, Bad>) -> BTreeMap<Digest, Wanted> {
        let mut blobs: BTreeMap<Digest, Wanted> = BTreeMap::new();
        for found in report.findings.iter().filter(|found| found.finding.is_error()) {
            let place = &found.finding.place;
            let Some(digest) = place.digest.filter(|digest| !self.blobs.contains_key(digest)) else {
                continue;
            };
            let is_blob = place.entry.as_deref() == Some(blob_entry(&digest).as_str());
            let is_absent = matches!(found.finding.problem, Problem::Missing | Problem::NotAFile { .. });
            // Where the bytes are right, what refers to them is wrong.
            if !is_blob || !(is_absent || bad.contains_key(&digest)) {
                continue;
            }
            let known = blobs.entry(digest).or_insert_with(|| Wanted {
                finding: found.finding.clone(),
                images: Vec::new(),
                descriptor: None,
            });
            known.images.extend(found.images.to_set());
            known.images.sort_unstable();
            known.images.dedup();
        }
        describe(self.storage, &mut blobs);
        blobs
    }

    /// The links that are certain, to blobs that are good, as far as it was not tried.
    fn wrong_links(
        &self,
        report: &Report,
        bad: &BTreeMap<Digest, Bad>,
    ) -> BTreeMap<String, (Digest, StorageFinding)> {
        let mut links = BTreeMap::new();
        for found in report.findings.iter().filter(|found| found.finding.is_error()) {
            let problem = &found.finding.problem;
            let is_link = matches!(problem, Problem::Link { .. } | Problem::NoLink { .. });
            let Some(entry) = found.finding.place.entry.as_ref().filter(|_| is_link) else {
                continue;
            };
            let Some(digest) = certain_target(entry) else {
                continue;
            };
            let is_good =
                !bad.contains_key(&digest) && matches!(self.storage.stat(&digest), Ok(BlobFile::Regular(_)));
            if is_good && !self.links.contains_key(entry) {
                links.insert(entry.clone(), (digest, found.clone()));
            }
        }
        links
    }

    /// Notes what a repair would do.
    fn plan(&mut self, blobs: BTreeMap<Digest, Wanted>, links: BTreeMap<String, (Digest, StorageFinding)>) {
        for (digest, wanted) in blobs {
            let fate = self.search.plan(&digest);
            self.blobs.insert(digest, wanted.with(digest, fate));
        }
        for (entry, (_, found)) in links {
            let failure = None;
            let link = LinkRepair {
                entry,
                found,
                failure,
            };
            self.links.insert(link.entry.clone(), link);
        }
    }

    /// Replaces blobs, then writes links.
    fn mend(
        &mut self,
        staging: &Staging<'_>,
        blobs: BTreeMap<Digest, Wanted>,
        links: BTreeMap<String, (Digest, StorageFinding)>,
    ) -> Result<()> {
        let replace = |_: &Digest, offer: &Offer| {
            self.replace(staging, offer)?;
            Ok(Fate::Mended(offer.good()))
        };
        let mended = self.search.mend(blobs, self.progress, self.interrupt, replace)?;
        self.blobs
            .extend(mended.into_iter().map(|blob| (blob.digest, blob)));
        for (entry, (digest, found)) in links {
            let failure = staging.link(&entry, &digest.to_string()).err();
            let link = LinkRepair {
                entry,
                found,
                failure,
            };
            self.links.insert(link.entry.clone(), link);
        }
        Ok(())
    }

    /// Puts good bytes in the place of a blob.
    fn replace(&self, staging: &Staging<'_>, offer: &Offer) -> Result<()> {
        let entry = blob_entry(&offer.descriptor.digest);
        let path = self.storage.root().join(&entry);
        let fetch = Fetch {
            retry: self.options.retry,
            progress: self.progress,
            interrupt: self.interrupt,
        };
        staging.replace(&entry, |file| offer.fetch(file, &path, &fetch))
    }
}

/// Adds the descriptors of blobs, by the good manifests in the storage.
fn describe(storage: &Storage, blobs: &mut BTreeMap<Digest, Wanted>) {
    let mut read: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
    for (digest, wanted) in blobs {
        for manifest in wanted.images.iter().filter_map(|image| image.digest) {
            let below = read.entry(manifest).or_insert_with(|| {
                let bytes = document(storage, &manifest);
                bytes.map(references_of).unwrap_or_default()
            });
            let descriptor = below.iter().find(|descriptor| descriptor.digest == *digest);
            if let Some(descriptor) = descriptor {
                wanted.descriptor = Some(descriptor.clone());
                break;
            }
        }
    }
}

/// The digest that a link must hold, if its path says so: `.../sha256/HEX/link`, of a layer, a manifest, or one of
/// those that a tag had.
fn certain_target(entry: &str) -> Option<Digest> {
    let path = entry.strip_prefix("repositories/")?.strip_suffix("/link")?;
    let (rest, hex) = path.rsplit_once('/')?;
    let (rest, algorithm) = rest.rsplit_once('/')?;
    let is_certain = rest.ends_with("/_layers")
        || rest.ends_with("/_manifests/revisions")
        || rest.ends_with("/index") && rest.contains("/_manifests/tags/");
    let digest = format!("{algorithm}:{hex}").parse().ok()?;
    is_certain.then_some(digest)
}

/// The bytes of a manifest, index or config in the storage; `None` if they are missing, wrong, or cannot be read.
fn document(storage: &Storage, digest: &Digest) -> Option<Vec<u8>> {
    let Ok(BlobFile::Regular(_)) = storage.stat(digest) else {
        return None;
    };
    let (stored, state) = storage.open_blob(digest).ok()??;
    if state.size > MAX_METADATA {
        return None;
    }
    let bytes = stored.read(0, usize::try_from(state.size).ok()?).ok()?;
    (digest.of_same_algorithm(&bytes) == *digest).then_some(bytes)
}
