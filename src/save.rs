//! From references and a source to a sealed archive. Every reference is resolved and every manifest read before
//! a byte is written.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::FileType;

use crate::archive::Verified;
use crate::archive::account::{Evidence, Provenance};
use crate::archive::format::{self, Named};
use crate::archive::layout::Layout;
use crate::archive::writer::{self, Stream, Writer};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::graph::MAX_ALL_DESCRIPTORS;
use crate::oci::{Descriptor, Digest, Documents, Graph, MediaType, Platform, PlatformSelection, Reference};
use crate::progress::Progress;
use crate::source::Source;
use crate::transfer::{self, Moved, Sink, Transfer, Wanted};

/// Most bytes of manifests, indexes and configs in one save, each image's counted: they are held in memory until
/// the archive is laid out. A thousand images have some 20 MB.
const MAX_ALL_METADATA: u64 = 1 << 30;

/// Where an archive goes.
pub enum Output<'a> {
    /// A file, or the name before `.001` of parts. A device or FIFO is written as a pipe.
    File(&'a Path),
    /// A pipe, and what messages call it.
    Stream(&'a Path, &'a mut (dyn Write + Send)),
}

/// What is saved, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The platforms of multi-platform images; `None` for what a source gives by itself.
    pub platforms: Option<PlatformSelection>,
    /// Bytes of a part, if the archive is cut.
    pub split: Option<u64>,
    /// Whether what an interrupted run left is used, and left if this one is interrupted.
    pub resume: bool,
    /// Whether a file is written from its start to its end, as a pipe is: one blob after the other.
    pub in_order: bool,
    /// Blobs at once.
    pub jobs: NonZeroUsize,
    /// How often a blob is asked for in vain.
    pub tries: u32,
    /// The pause before a broken blob is asked for again; it doubles with each further try.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            platforms: None,
            split: None,
            resume: true,
            in_order: false,
            jobs: transfer::JOBS,
            tries: transfer::TRIES,
            pause: transfer::PAUSE,
        }
    }
}

/// What was saved.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// Digest of `index.json`: the one line to compare.
    pub digest: Digest,
    /// The archive's size in bytes.
    pub size: u64,
    /// The files, in order; none for a pipe.
    pub files: Vec<PathBuf>,
    /// The images, in the archive's order.
    pub images: Vec<Saved>,
    /// Stored bytes that an interrupted run had left.
    pub reused: u64,
}

/// An image that was saved.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Saved {
    /// Its name.
    #[serde(rename = "name")]
    pub reference: Reference,
    /// The digest that it is known by; `None` if it has none.
    pub digest: Option<Digest>,
    /// What stands behind the digest.
    pub evidence: Evidence,
    /// Where it came from.
    pub from: String,
    /// Where its parts came from, if not simply from a registry or an archive.
    pub provenance: Option<Provenance>,
    /// The platforms whose images are in the archive.
    #[serde(serialize_with = "Platform::serialize_texts")]
    pub platforms: Vec<Platform>,
    /// The type of an artifact, which no engine loads; `None` for an image.
    pub artifact: Option<String>,
    /// Stored bytes of its blobs, also of those that it shares.
    pub size: u64,
    /// Stored bytes of them that an interrupted run had left.
    pub reused: u64,
}

/// Saves images to one archive.
///
/// # Errors
///
/// Names the reference that does not resolve, the blob that cannot be had, or the file that cannot be written.
/// What was at the output's path stays as it is until the archive is whole.
pub fn save(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    output: Output<'_>,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Summary> {
    if references.is_empty() {
        return Err(Error::Usage {
            message: "no image to save was named".into(),
            hint: None,
        });
    }
    let run = Run {
        source,
        options,
        progress,
        interrupt,
        metadata: AtomicU64::new(0),
        max_metadata: MAX_ALL_METADATA,
        documents: Documents::default(),
        descriptors: AtomicUsize::new(0),
        graphs: Mutex::default(),
    };
    source.prepare(references, options.platforms.as_ref())?;
    progress.phase("resolving", None);
    let images = run.resolve(references)?;
    let layout = Arc::new(Layout::plan(&images, &preferred(options.platforms.as_ref()))?);
    let (moved, files) = run.write(&images, &layout, output)?;
    Ok(summary(source, &images, &layout, &moved, files))
}

/// What every step of one save needs.
struct Run<'a> {
    source: &'a dyn Source,
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    /// Bytes of documents and configs that were read, and how many may be.
    metadata: AtomicU64,
    max_metadata: u64,
    documents: Documents,
    /// Descriptors of all graphs.
    descriptors: AtomicUsize,
    /// The graphs of images that were followed. An image with many names is followed once.
    graphs: Mutex<HashMap<Followed, Arc<Graph>>>,
}

/// What the graph of an image depends on: its root, the platforms, and which source gives it.
type Followed = ((Digest, u64, MediaType), PlatformSelection, String);

impl Run<'_> {
    /// Resolves every reference, several at once, and puts them in the archive's order.
    fn resolve(&self, references: &[Reference]) -> Result<Vec<Named>> {
        let unique: BTreeMap<String, &Reference> = references
            .iter()
            .map(|reference| (reference.full(), reference))
            .collect();
        let queue: Vec<&Reference> = unique.into_values().collect();
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let found: Mutex<Vec<(usize, Result<Named>)>> = Mutex::new(Vec::new());
        let work = || {
            while !failed.load(Ordering::SeqCst) {
                let at = next.fetch_add(1, Ordering::SeqCst);
                let Some(reference) = queue.get(at) else {
                    return;
                };
                let named = self.walk(reference).map_err(|error| naming(error, reference));
                if named.is_err() {
                    failed.store(true, Ordering::SeqCst);
                }
                found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((at, named));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.options.jobs.get().min(queue.len()) {
                // Where no more threads are to be had, there are fewer at work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(at, _)| *at);
        let mut images = found
            .into_iter()
            .map(|(_, named)| named)
            .collect::<Result<Vec<_>>>()?;
        one_digest_a_name(&images)?;
        format::sort(&mut images);
        Ok(images)
    }

    /// Follows one reference down to its layers.
    fn walk(&self, reference: &Reference) -> Result<Named> {
        self.interrupt.check()?;
        let root = self.source.resolve(reference)?;
        let selection = self.source.selection(reference, self.options.platforms.as_ref());
        let id = (root.digest, root.size, root.media_type.clone());
        let key = (id, selection.clone(), self.source.origin(reference));
        let graphs = || self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = graphs().get(&key).cloned();
        let graph = match known {
            Some(graph) => graph,
            None => {
                let graph = self.follow(reference, &root, &selection)?;
                self.count(&graph)?;
                graphs().entry(key).or_insert(Arc::new(graph)).clone()
            }
        };
        Ok(Named {
            reference: Some(reference.clone()),
            account: self.source.account(reference, &graph)?,
            graph,
        })
    }

    fn follow(
        &self,
        reference: &Reference,
        root: &Descriptor,
        selection: &PlatformSelection,
    ) -> Result<Graph> {
        // An engine pulls images without their attestations: who asks for a platform does not ask for those.
        let is_partial = self.source.selection(reference, None) == PlatformSelection::Present;
        Graph::walk_shared(root, selection, &mut |descriptor| {
            self.interrupt.check()?;
            let may_lack =
                *selection == PlatformSelection::Present || is_partial && descriptor.attests().is_some();
            if may_lack && self.source.leaves_out(reference, descriptor) {
                return Ok(None);
            }
            self.documents.get(descriptor, || {
                match self.source.metadata(reference.repository(), descriptor) {
                    Err(Error::NotFound { .. }) if may_lack => Ok(None),
                    Err(error) => Err(error),
                    Ok(bytes) => self.admit(bytes).map(Some),
                }
            })
        })
    }

    /// Counts what the graphs of all images hold.
    fn count(&self, graph: &Graph) -> Result<()> {
        let more = graph.descriptors();
        let found = self.descriptors.fetch_add(more, Ordering::SeqCst);
        if found.saturating_add(more) <= MAX_ALL_DESCRIPTORS {
            return Ok(());
        }
        let limit = MAX_ALL_DESCRIPTORS;
        let place = Place::default().within("all images together");
        Err(Error::refused(place, Problem::TooMany { limit }))
    }

    /// Counts what is held in memory.
    fn admit(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let found = self
            .metadata
            .fetch_add(more, Ordering::SeqCst)
            .saturating_add(more);
        if found <= self.max_metadata {
            return Ok(bytes);
        }
        let limit = self.max_metadata;
        let place = Place::default().within("manifests and configs of all images");
        Err(Error::refused(place, Problem::TooLarge { limit, found }))
    }

    /// Writes the archive that was laid out.
    fn write(
        &self,
        images: &[Named],
        layout: &Arc<Layout>,
        output: Output<'_>,
    ) -> Result<(Vec<Moved>, Vec<PathBuf>)> {
        let wanted = wanted(images, layout);
        match output {
            Output::File(path) => {
                let target = writer::locate(path)?;
                let kind = target.kind().map_err(Error::io("look at", path))?;
                if !matches!(kind, None | Some(FileType::RegularFile | FileType::Directory)) {
                    let mut file = target.open_special().map_err(Error::io("write to", path))?;
                    return self.write(images, layout, Output::Stream(path, &mut file));
                }
                let how = writer::Options {
                    split: self.options.split,
                    resume: self.options.resume,
                    in_order: self.options.in_order,
                };
                let writer = Writer::create(target, layout.clone(), &how, self.interrupt)?;
                let moved = self.fill(&writer, wanted).map_err(|error| match how.resume {
                    true => error.or_hint("what came so far is kept: the same command goes on from there"),
                    false => error,
                })?;
                self.progress.phase("writing to disk", None);
                let files = writer.seal(&proofs(&moved))?;
                Ok((moved, files))
            }
            Output::Stream(..) if self.options.split.is_some() => Err(Error::Usage {
                message: "parts cannot be written to a pipe".into(),
                hint: Some("name a file with -o, or leave --split out".into()),
            }),
            Output::Stream(label, out) => {
                let stream = Stream::new(label, layout, out);
                let moved = self.fill(&stream, wanted)?;
                stream.seal(&proofs(&moved))?;
                Ok((moved, Vec::new()))
            }
        }
    }

    fn fill(&self, sink: &dyn Sink, wanted: Vec<Wanted>) -> Result<Vec<Moved>> {
        let total = wanted
            .iter()
            .fold(0u64, |sum, blob| sum.saturating_add(blob.descriptor.size));
        self.progress.phase("saving", Some(total));
        let transfer = Transfer {
            source: self.source,
            sink,
            jobs: self.options.jobs,
            tries: self.options.tries,
            pause: self.options.pause,
            progress: self.progress,
            interrupt: self.interrupt,
        };
        transfer.run(wanted)
    }
}

/// The blobs to fetch in the layout's order, each from the first repository that names it.
fn wanted(images: &[Named], layout: &Layout) -> Vec<Wanted> {
    let mut repositories = HashMap::new();
    for named in format::distinct(images) {
        let Some(reference) = &named.reference else {
            continue;
        };
        for blob in named.blobs() {
            repositories.entry(blob.digest).or_insert(reference.repository());
        }
    }
    let blobs = layout.blobs().iter().filter_map(|blob| {
        let repository = repositories.get(&blob.descriptor.digest)?;
        Some(Wanted {
            repository: (*repository).clone(),
            descriptor: blob.descriptor.clone(),
        })
    });
    blobs.collect()
}

fn proofs(moved: &[Moved]) -> Vec<Verified> {
    moved.iter().map(|blob| blob.verified).collect()
}

/// The platform that `manifest.json` names: this host's if it was chosen, else the first that was.
fn preferred(selection: Option<&PlatformSelection>) -> Platform {
    let host = Platform::host();
    match selection {
        Some(PlatformSelection::Only(chosen)) if !chosen.iter().any(|platform| platform.matches(&host)) => {
            chosen.first().cloned().unwrap_or(host)
        }
        _ => host,
    }
}

/// Refuses `x:1` beside `x:1@sha256:...` if they are different images: the archive could not name both.
fn one_digest_a_name(images: &[Named]) -> Result<()> {
    let mut known: HashMap<String, Digest> = HashMap::new();
    for named in images {
        let Some(name) = named.reference.as_ref().and_then(Reference::without_digest) else {
            continue;
        };
        let digest = named.graph.root.digest;
        let first = *known.entry(name.full()).or_insert(digest);
        if first != digest {
            return Err(Error::Usage {
                message: format!("{name} was asked for as two images, {first} and {digest}"),
                hint: Some("save them to two archives, or name one of them by digest only".into()),
            });
        }
    }
    Ok(())
}

/// Puts the reference into errors that only know a digest.
fn naming(error: Error, reference: &Reference) -> Error {
    match error {
        Error::Refused(mut finding) if finding.place.archive.is_none() => {
            finding.place = finding.place.within(reference);
            Error::Refused(finding)
        }
        Error::NotFound { what, place, hint } if !what.contains(&reference.familiar()) => Error::NotFound {
            what: format!("{reference}: {what}"),
            place,
            hint,
        },
        other => other,
    }
}

fn summary(
    source: &dyn Source,
    images: &[Named],
    layout: &Layout,
    moved: &[Moved],
    files: Vec<PathBuf>,
) -> Summary {
    let reused: HashMap<Digest, u64> = moved
        .iter()
        .map(|blob| (*blob.verified.digest(), blob.reused))
        .collect();
    // Names of one image are told the same of it.
    let mut measured: HashMap<usize, (Vec<Platform>, u64, u64)> = HashMap::new();
    let mut saved = Vec::with_capacity(images.len());
    for (named, first) in images.iter().zip(format::firsts(images)) {
        let Some(reference) = &named.reference else {
            continue;
        };
        let (platforms, size, reused) = measured
            .entry(first)
            .or_insert_with(|| measure(named, &reused))
            .clone();
        saved.push(Saved {
            reference: reference.clone(),
            digest: named.account.digest(named.graph.root.digest),
            evidence: named.account.evidence(),
            from: source.origin(reference),
            provenance: named.account.provenance.clone(),
            platforms,
            artifact: named.graph.artifact_type().map(str::to_string),
            size,
            reused,
        });
    }
    Summary {
        digest: layout.digest(),
        size: layout.size(),
        files,
        images: saved,
        reused: moved.iter().map(|blob| blob.reused).sum(),
    }
}

/// An image's platforms, the bytes of its blobs, and how many of them an interrupted run had left.
fn measure(named: &Named, reused: &HashMap<Digest, u64>) -> (Vec<Platform>, u64, u64) {
    let blobs = named.blobs();
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in named.graph.runnable().filter_map(|image| image.platform()) {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    (
        platforms,
        blobs.iter().map(|blob| blob.size).sum(),
        blobs.iter().filter_map(|blob| reused.get(&blob.digest)).sum(),
    )
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod tests;
