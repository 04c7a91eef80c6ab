//! From references and a source to an archive. Every reference is resolved and every manifest read before a
//! byte is written.
//!
//! - `resolve`: references to images
//! - `referrers`: what refers to images, such as signatures
//! - `omit`: what is left out because a host has it
//! - `write`: writes the archive
//! - `forecast`: what a save would write, and the space that it needs

mod forecast;
mod omit;
mod referrers;
mod resolve;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::forecast::{Forecast, Room, forecast, rooms};
use self::omit::Omission;
pub use self::referrers::ReferrerSelection;
use self::resolve::{Images, Resolver};
use self::write::{Run, Written};
use crate::archive::TarPlan;
use crate::archive::format::Omitted;
use crate::archive::signature::{self, Signing};
use crate::error::{Error, ErrorKind, Result};
use crate::image::named::{self, NamedImage};
use crate::image::provenance::{Evidence, Origins};
use crate::image::referrers::ReferrerSummary;
use crate::image::rename::Rename;
use crate::image::{Graph, Image};
use crate::interrupt::Interrupt;
use crate::inventory::{InventoryId, KnownHost};
use crate::oci::{Descriptor, Digest, Platform, PlatformSelection, Reference};
use crate::progress::Progress;
use crate::retry::Retry;
use crate::source::Source;
use crate::transfer::{self, Moved};

/// The output of a save.
pub enum Output<'a> {
    /// A file, or the base name of parts. A device or FIFO is written like a pipe.
    File(&'a Path),
    /// A pipe, and its name in messages.
    Stream(&'a Path, &'a mut (dyn Write + Send)),
}

/// What to save, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The platforms of multi-platform images; `None` for the default of the source.
    pub platforms: Option<PlatformSelection>,
    /// The platforms of single images, by their full names, unless `platforms` says otherwise.
    pub platforms_of: HashMap<String, PlatformSelection>,
    /// Whether an image that is requested by tag and digest is named by its tag only, as one that was requested by the
    /// tag: engines do not give an image the tag of a name with a digest.
    pub names_by_tag: bool,
    /// Bytes of a part, if the archive is split.
    pub split: Option<u64>,
    /// Whether data of an interrupted run is used, and kept if this run is interrupted.
    pub resume: bool,
    /// Whether a file is written from start to end like a pipe, one blob after the other.
    pub in_order: bool,
    /// Bytes of an installer that comes into the archive's folder afterwards and must fit, too.
    pub beside: u64,
    /// Number of blobs fetched at the same time.
    pub jobs: NonZeroUsize,
    /// How many times a blob is requested, and the pauses between.
    pub retry: Retry,
    /// Renames.
    pub renames: Vec<Rename>,
    /// Whether images that cannot be saved are skipped.
    pub keep_going: bool,
    /// Hosts that the archive is for. Layers that all of them have are left out.
    pub have: Vec<KnownHost>,
    /// Whether images are refused that only Docker's classic store loads: those with layers that cannot be saved as they
    /// were stored, and those without a tag whose manifest is lost.
    pub for_other_stores: bool,
    /// How the archive is signed, if it is.
    pub sign: Option<Signing>,
    /// Which signatures, SBOMs and attestations are saved with the images.
    pub referrers: ReferrerSelection,
    /// Whether images without a signature are refused: of the index, or of every platform that is saved.
    pub requires_signature: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            platforms: None,
            platforms_of: HashMap::new(),
            names_by_tag: false,
            split: None,
            resume: true,
            in_order: false,
            beside: 0,
            jobs: transfer::JOBS,
            retry: transfer::RETRY,
            renames: Vec::new(),
            keep_going: false,
            have: Vec::new(),
            for_other_stores: false,
            sign: None,
            referrers: ReferrerSelection::All,
            requires_signature: false,
        }
    }
}

/// What was saved.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Digest of `index.json`, which pins the archive.
    pub digest: Digest,
    /// The archive's size in bytes.
    pub size: u64,
    /// The files, in order; none for a pipe.
    pub files: Vec<PathBuf>,
    /// The images, in the archive's order.
    pub images: Vec<Saved>,
    /// Requested images that were skipped.
    pub skipped: Vec<Skipped>,
    /// Stored bytes that were kept from an interrupted run.
    pub reused: u64,
    /// What was left out; `None` if no inventory was given.
    pub omitted: Option<LeftOut>,
    /// The signature, if the archive was signed.
    pub signature: Option<signature::Written>,
}

/// What was left out of an archive because a host has it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LeftOut {
    /// Number of layers.
    pub layers: usize,
    /// Their stored bytes.
    pub bytes: u64,
    /// The inventories of the hosts.
    #[serde(rename = "for")]
    pub inventories: Vec<InventoryId>,
}

impl LeftOut {
    /// What an archive leaves out: these layers with their stored bytes. `None` if it leaves out nothing.
    pub fn of(layers: &BTreeMap<Digest, u64>, declared: &Omitted) -> Option<LeftOut> {
        (!layers.is_empty()).then(|| LeftOut {
            layers: layers.len(),
            bytes: layers.values().fold(0, |sum, size| sum.saturating_add(*size)),
            inventories: declared.inventories.clone(),
        })
    }
}

/// A requested image that was skipped.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// The reference by which it was requested.
    pub reference: Reference,
    /// Why.
    pub error: Error,
}

/// An image that was saved.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Saved {
    /// Its name in the archive; the requested digest, if it has no name.
    #[serde(rename = "name", serialize_with = "Reference::serialize_name")]
    pub reference: Reference,
    /// The requested name, if it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<Reference>,
    /// Its digest; `None` if it has none.
    pub digest: Option<Digest>,
    /// The evidence for the digest.
    pub evidence: Evidence,
    /// Where it came from.
    pub from: String,
    /// Where its parts came from, if not all from a registry or an archive.
    #[serde(rename = "provenance")]
    pub origins: Option<Origins>,
    /// The platforms whose images are in the archive.
    #[serde(serialize_with = "Platform::serialize_texts")]
    pub platforms: Vec<Platform>,
    /// The type of an artifact, which no engine loads; `None` for an image.
    pub artifact: Option<String>,
    /// Stored bytes of its blobs, including shared ones.
    pub size: u64,
    /// Of these, stored bytes that were kept from an interrupted run.
    pub reused: u64,
    /// Of these, stored bytes that were left out because a host has them.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// What refers to it and is saved: signatures, SBOMs, attestations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<ReferrerSummary>,
    /// Platforms that are not saved, with their signatures.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "Platform::serialize_texts"
    )]
    pub signed_elsewhere: Vec<Platform>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Summary {
    /// The most severe reason why an image was skipped, or its digest is not proven.
    pub fn failure(&self) -> Option<ErrorKind> {
        let recorded = self
            .images
            .iter()
            .any(|image| image.evidence == Evidence::Recorded);
        let skipped = self.skipped.iter().map(|image| image.error.kind());
        skipped.chain(recorded.then_some(ErrorKind::NotShown)).max()
    }
}

/// Saves images into one archive.
///
/// # Errors
///
/// Lists every reference that does not resolve, or names the blob that cannot be fetched or the file that
/// cannot be written. The output's path is unchanged until the archive is complete. With
/// [`Options::keep_going`], it is an error only if all images are skipped.
pub fn save(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    mut output: Output<'_>,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Summary> {
    let (mut images, mut skipped) = resolved(source, references, options, progress, interrupt)?;
    let run = Run {
        source,
        options,
        progress,
        interrupt,
    };
    // Reused bytes of the blobs that were fetched before images were skipped.
    let mut left: HashMap<Digest, u64> = HashMap::new();
    loop {
        let (omission, plan) = planned(&mut images, &mut skipped, options)?;
        let plan = Arc::new(plan);
        match run.write(&images, &plan, &mut output)? {
            Written::Sealed {
                mut moved,
                files,
                signature,
            } => {
                for blob in &mut moved {
                    blob.reused = left.get(blob.verified.digest()).copied().unwrap_or(blob.reused);
                }
                return Ok(Summary {
                    signature,
                    ..summary(&images, skipped, &plan, &moved, &omission, files)
                });
            }
            Written::Lacking { moved, failed } => {
                for blob in moved {
                    left.entry(*blob.verified.digest()).or_insert(blob.reused);
                }
                let lacking = images.without(&failed);
                for image in &lacking {
                    progress.note(&format!(
                        "continuing without {}: {}",
                        image.reference, image.error
                    ));
                }
                skipped.extend(lacking);
            }
        }
    }
}

/// The images of references, and those that are skipped.
fn resolved(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<(Images, Vec<Skipped>)> {
    if references.is_empty() {
        return Err(Error::Usage {
            message: "no image to save was named".into(),
            hint: None,
        });
    }
    progress.phase("resolving", None);
    let (mut images, mut skipped) = Resolver::new(source, options, interrupt).resolve(references)?;
    if options.for_other_stores {
        skipped.extend(images.without_those_for_the_classic_store());
    }
    if options.requires_signature {
        skipped.extend(images.without_unsigned());
    }
    if options.platforms.is_none() {
        note_foreign(&images, progress);
    }
    note_referrers(&images, progress);
    Ok((images, skipped))
}

/// What is left out, and the archive's plan. The errors of skipped images are taken if there is no archive without them.
fn planned(
    images: &mut Images,
    skipped: &mut Vec<Skipped>,
    options: &Options,
) -> Result<(Omission, TarPlan)> {
    if images.named.is_empty() || !skipped.is_empty() && !options.keep_going {
        let errors = skipped.drain(..).map(|image| image.error);
        return Err(Error::of_several(errors.collect()));
    }
    let omission = Omission::find(&mut images.named, &options.have);
    let preferred = preferred(options.platforms.as_ref());
    let plan = TarPlan::omitting(&images.named, &preferred, &omission.declared)?;
    Ok((omission, plan))
}

/// What an image stands for in a source.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its digest; `None` if it has none.
    pub digest: Option<Digest>,
    /// The platforms that were asked for, as far as its index or config names them.
    pub platforms: Vec<Platform>,
    /// Bytes of its blobs for these platforms, as a registry stores them.
    pub size: u64,
    /// These blobs, with uncompressed layers in place of those that could not be recompressed.
    pub blobs: Vec<Descriptor>,
}

/// The manifest or index that a reference leads to.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its digest; `None` if it has none, because it was never in a registry.
    pub digest: Option<Digest>,
    /// Where it was found, for people.
    pub origin: String,
}

/// Looks up the digests of references. Returns one answer for each, in order. A registry is asked for one document of each
/// image.
///
/// # Errors
///
/// If no image can be found.
pub fn digests(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    interrupt: &Interrupt,
) -> Result<Vec<Result<Root>>> {
    Resolver::new(source, options, interrupt).digests(references)
}

/// Resolves references as [`save`] does, and writes nothing. Returns one answer for each, in order.
///
/// # Errors
///
/// If no image can be resolved, or `options` have renames.
pub fn resolve(
    source: &dyn Source,
    references: &[Reference],
    options: &Options,
    interrupt: &Interrupt,
) -> Result<Vec<Result<Resolved>>> {
    let (images, skipped) = Resolver::new(source, options, interrupt).resolve(references)?;
    let mut answers: HashMap<String, Result<Resolved>> = HashMap::new();
    for (named, asked) in images.named.iter().zip(&images.asked) {
        let resolved = Resolved {
            digest: named.digest(),
            platforms: platforms(&named.graph),
            size: named.graph.blobs().iter().map(|blob| blob.size).sum(),
            blobs: named.blobs(),
        };
        answers.insert(asked.reference.full(), Ok(resolved));
    }
    for image in skipped {
        answers.insert(image.reference.full(), Err(image.error));
    }
    let answer = |reference: &Reference| {
        answers.get(&reference.full()).cloned().unwrap_or_else(|| {
            Err(Error::NotFound {
                what: reference.familiar(),
                place: "the source".into(),
                hint: None,
            })
        })
    };
    Ok(references.iter().map(answer).collect())
}

/// Notes the images without an index that do not run on this machine's platform.
fn note_foreign(images: &Images, progress: &dyn Progress) {
    let host = Platform::host();
    let singles = images.named.iter().filter(|named| named.graph.indexes.is_empty());
    for named in singles {
        let platform = named.graph.runnable().find_map(Image::platform);
        if let (Some(platform), Some(name)) = (platform, &named.reference)
            && !host.matches(platform)
        {
            progress.note(&format!("{} is for {platform} only", name.familiar()));
        }
    }
}

/// Notes what is listed as a referrer of an image and is none, and signatures that are left behind with a platform.
fn note_referrers(images: &Images, progress: &dyn Progress) {
    let mut noted: HashSet<(Digest, &str)> = HashSet::new();
    for (named, asked) in images.named.iter().zip(&images.asked) {
        let reference = &asked.reference;
        if !noted.insert((named.graph.root.digest, reference.repository().full())) {
            continue;
        }
        for stray in &asked.referring.strays {
            progress.note(&format!("{}: {stray}", reference.familiar()));
        }
        for platform in &asked.referring.unsaved {
            let name = reference.familiar();
            progress.note(&format!(
                "{name} is signed for {platform} too, which is not saved"
            ));
        }
    }
}

/// The platform of `manifest.json`: this host's if it was chosen, else the first chosen one.
fn preferred(selection: Option<&PlatformSelection>) -> Platform {
    let host = Platform::host();
    match selection {
        Some(PlatformSelection::Only(chosen)) if !chosen.iter().any(|platform| platform.matches(&host)) => {
            chosen.first().cloned().unwrap_or(host)
        }
        _ => host,
    }
}

fn summary(
    images: &Images,
    mut skipped: Vec<Skipped>,
    plan: &TarPlan,
    moved: &[Moved],
    omission: &Omission,
    files: Vec<PathBuf>,
) -> Summary {
    let reused: HashMap<Digest, u64> = moved
        .iter()
        .map(|blob| (*blob.verified.digest(), blob.reused))
        .collect();
    // Several names of one image share the result.
    let mut measured: HashMap<usize, Measured> = HashMap::new();
    let mut saved = Vec::with_capacity(images.named.len());
    let asked = images.named.iter().zip(&images.asked);
    for ((named, asked), first) in asked.zip(named::firsts(&images.named)) {
        let reference = named.reference.as_ref().unwrap_or(&asked.reference);
        let measured = measured
            .entry(first)
            .or_insert_with(|| Measured::of(named, &reused, omission));
        saved.push(Saved {
            reference: reference.clone(),
            renamed_from: (*reference != asked.reference).then(|| asked.reference.clone()),
            digest: named.digest(),
            evidence: named.evidence(),
            from: asked.origin.clone(),
            origins: named.provenance.origins.clone(),
            platforms: measured.platforms.clone(),
            artifact: named.graph.artifact_type().map(str::to_string),
            size: measured.size,
            reused: measured.reused,
            omitted: measured.omitted,
            referrers: measured.referrers.clone(),
            signed_elsewhere: asked.referring.unsaved.clone(),
        });
    }
    skipped.sort_by_key(|image| image.reference.full());
    Summary {
        digest: plan.digest(),
        size: plan.size(),
        files,
        images: saved,
        skipped,
        reused: moved.iter().map(|blob| blob.reused).sum(),
        omitted: omission.left_out(),
        signature: None,
    }
}

/// The platforms of an image.
fn platforms(graph: &Graph) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in graph.runnable().filter_map(|image| image.platform()) {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    platforms
}

/// The platforms of an image, and the stored bytes of its blobs.
struct Measured {
    platforms: Vec<Platform>,
    size: u64,
    reused: u64,
    omitted: u64,
    referrers: Vec<ReferrerSummary>,
}

impl Measured {
    fn of(named: &NamedImage, reused: &HashMap<Digest, u64>, omission: &Omission) -> Measured {
        let blobs = named.blobs();
        let omitted = blobs
            .iter()
            .filter(|blob| omission.declared.layers.contains(&blob.digest));
        Measured {
            platforms: platforms(&named.graph),
            size: blobs.iter().map(|blob| blob.size).sum(),
            reused: blobs.iter().filter_map(|blob| reused.get(&blob.digest)).sum(),
            omitted: omitted.map(|blob| blob.size).sum(),
            referrers: ReferrerSummary::all(named),
        }
    }
}

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod keep_going_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod tests;
