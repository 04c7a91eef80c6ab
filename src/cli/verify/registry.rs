//! `sealift verify IMAGE`.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use sealift::Error;
use sealift::error::{ErrorKind, Finding, Hint, Place};
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::oci::{Platform, PlatformSelection, Reference};
use sealift::registry::RegistrySource;
use sealift::registry::verify::{self as images, BlobFinding, Depth, Options, Report, State};
use sealift::save;
use sealift::trust::{PolicyCheck, Verdict};

use super::metrics::Metrics;
use super::named::{self, Named};
use super::targets::Wanted;
use crate::cli::bars;
use crate::cli::files;
use crate::cli::output::{Failure, Output, error_json, finding_json, hint_of};
use crate::cli::policy;
use crate::cli::registry::RegistryArgs;
use crate::cli::remedy;
use crate::cli::size::Size;

/// A verification of images in registries.
pub struct Run<'a> {
    pub images: Vec<Wanted>,
    pub platforms: Option<&'a PlatformSelection>,
    pub since: Option<&'a Path>,
    pub depth: Depth,
    pub max_layer_size: u64,
    pub jobs: Option<NonZeroUsize>,
    pub registry: &'a RegistryArgs,
    pub policy: Option<PolicyCheck>,
}

impl Run<'_> {
    /// Verifies and prints the result.
    pub fn run(
        self,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Result<(Option<ErrorKind>, Metrics), Failure> {
        let progress = bars::progress(output);
        let source = Arc::new(self.registry.source(progress.clone(), interrupt)?);
        let since = match self.since {
            None => None,
            Some(path) => Some(match files::read(path)? {
                Some(bytes) => State::parse(&bytes, &path.display().to_string())?,
                None => State::default(),
            }),
        };
        let (mut references, mut unlisted) = (Vec::new(), Vec::new());
        for wanted in self.images {
            match wanted {
                Wanted::Image(reference) => references.push(reference),
                Wanted::Repository(repository) => match source.tags(&repository) {
                    Ok(tags) => references.extend(tags),
                    Err(Error::Interrupted) => return Err(Error::Interrupted.into()),
                    Err(error) => unlisted.push(error),
                },
            }
        }
        let mut seen: HashSet<Reference> = HashSet::new();
        references.retain(|reference| seen.insert(reference.clone()));
        let defaults = Options::default();
        let options = Options {
            depth: self.depth,
            platforms: match self.platforms {
                Some(PlatformSelection::Only(platforms)) => Some(platforms.clone()),
                _ => None,
            },
            jobs: self.jobs.unwrap_or(defaults.jobs),
            max_layer_size: self.max_layer_size,
            since,
            ..defaults
        };
        let mut report = images::verify(&source, &references, &options, progress.as_ref(), interrupt)?;
        let verdicts = match &self.policy {
            Some(check) => {
                let options = save::Options {
                    platforms: Some(self.platforms.cloned().unwrap_or(PlatformSelection::Present)),
                    jobs: options.jobs,
                    ..save::Options::default()
                };
                judged(&mut report, source.as_ref(), check, &options, interrupt)?
            }
            None => Vec::new(),
        };
        progress.done();
        match output.is_json() {
            true => output.json(&serde_json::json!({
                "schema": 1,
                "registry": with_verdicts(document(&report, &unlisted), &verdicts),
            }))?,
            false => print(output, &report, &verdicts, &unlisted)?,
        }
        if let Some(path) = self.since {
            let state = images::next_state(&report, &options, SystemTime::now());
            let text = serde_json::to_vec_pretty(&state.to_json()).unwrap_or_default();
            files::write(path, &text)?;
        }
        let failure = unlisted.iter().map(Error::kind).max().max(report.failure());
        Ok((failure, metrics(&report, failure)))
    }
}

/// What a policy says of the images that could be verified, in the report's order. What it does not accept becomes a
/// finding.
fn judged(
    report: &mut Report,
    source: &RegistrySource,
    check: &PolicyCheck,
    options: &save::Options,
    interrupt: &Interrupt,
) -> Result<Vec<Option<Verdict>>, Error> {
    let wanted = report.images.iter().filter(|image| image.error.is_none());
    let wanted: Vec<Reference> = wanted.map(|image| image.reference.clone()).collect();
    let mut answers = match wanted.is_empty() {
        true => Vec::new(),
        false => save::verdicts(source, &wanted, check, options, interrupt)?,
    }
    .into_iter();
    let mut verdicts = Vec::with_capacity(report.images.len());
    for (at, image) in report.images.iter_mut().enumerate() {
        if image.error.is_some() {
            verdicts.push(None);
            continue;
        }
        let verdict = match answers.next() {
            Some(Ok(verdict)) if Some(verdict.digest) != image.digest => Err(Error::NotFound {
                what: format!("the signatures of {}", image.reference),
                place: image.reference.repository().familiar().into(),
                hint: Some("the tag has moved in the meantime; run this again".into()),
            }),
            Some(answer) => answer,
            None => Err(Error::Interrupted),
        };
        match verdict {
            Ok(verdict) => {
                if let Some(problem) = verdict.problem() {
                    image.is_bad = true;
                    let place = Place::blob(verdict.digest);
                    let place = place.within(image.reference.repository().familiar());
                    report.findings.push(BlobFinding {
                        what: Finding { place, problem },
                        digest: None,
                        images: Arc::from([at]),
                    });
                }
                verdicts.push(Some(verdict));
            }
            Err(error) => {
                image.error = Some(error);
                verdicts.push(None);
            }
        }
    }
    Ok(verdicts)
}

/// A document of a report with the verdict of each image.
fn with_verdicts(mut document: serde_json::Value, verdicts: &[Option<Verdict>]) -> serde_json::Value {
    let images = document["images"].as_array_mut();
    for (image, verdict) in images.into_iter().flatten().zip(verdicts) {
        if let Some(verdict) = verdict {
            image["policy"] = serde_json::json!(verdict);
        }
    }
    document
}

fn print(
    output: &Output,
    report: &Report,
    verdicts: &[Option<Verdict>],
    unlisted: &[Error],
) -> Result<(), Failure> {
    let mut named = Named::new();
    let mut print_images = |images: &[usize]| {
        let (images, left_out) = named.images(images.iter().copied());
        for image in images.iter().filter_map(|at| report.images.get(*at)) {
            output.line(format_args!("  in {}", image.reference.familiar()))?;
        }
        named::print_left_out(output, left_out)
    };
    for found in &report.findings {
        let kind = if found.what.is_error() { "error" } else { "note" };
        output.line(format_args!("{kind}: {}", found.what))?;
        print_images(&found.images)?;
    }
    for unread in &report.unread {
        output.line(format_args!("error: {}", unread.what))?;
        print_images(&unread.images)?;
    }
    let failed = report.images.iter().filter_map(|image| image.error.as_ref());
    output.errors(failed.chain(unlisted));
    if output.is_quiet() {
        return Ok(());
    }
    if let Some(hint) = hint(report) {
        output.line(format_args!("hint: {hint}"))?;
    }
    for image in &report.images {
        if !image.absent.is_empty() {
            let absent: Vec<String> = image.absent.iter().map(Platform::to_string).collect();
            output.line(format_args!(
                "note: {}: not verified for {}, which its index names",
                image.reference.familiar(),
                absent.join(", ")
            ))?;
        }
    }
    for (image, verdict) in report.images.iter().zip(verdicts) {
        if let Some(verdict) = verdict {
            policy::print(output, &image.reference.familiar(), verdict, None)?;
        }
    }
    let known = report.images.iter().filter(|image| image.is_known()).count();
    let known = match (known, report.known_blobs) {
        (0, 0) => String::new(),
        (0, blobs) => format!(" ({} verified before)", names::count(blobs, "blob")),
        (images, 0) => format!(" ({images} verified before)"),
        (images, blobs) => format!(
            " ({images} verified before, and {} of the others)",
            names::count(blobs, "blob")
        ),
    };
    let depth = match report.depth {
        Depth::Sizes => ", sizes only",
        Depth::Digests => ", digests only",
        Depth::DiffIds => "",
    };
    let bad = report.images.iter().filter(|image| !image.is_good()).count();
    let verdict = match report.errors() + unlisted.len() {
        0 => "all good".into(),
        errors => format!(
            "{} in {}",
            names::count(errors, "error"),
            names::count(bad, "image")
        ),
    };
    output.line(format_args!(
        "{}{known}: {}, {} read{depth}: {verdict}",
        names::count(report.images.len(), "image"),
        names::count(report.blobs, "blob"),
        Size(report.bytes),
    ))
}

/// What to do about all of it.
pub fn hint(report: &Report) -> Option<String> {
    let bad = report.findings.iter();
    let bad = bad.filter(|found| found.what.is_error() && found.digest.is_some());
    let bad: BTreeSet<usize> = bad.flat_map(|found| found.images.iter().copied()).collect();
    let bad = bad.iter().filter_map(|at| report.images.get(*at));
    let bad: Vec<String> = bad.map(|image| image.reference.familiar()).collect();
    let repair = (!bad.is_empty()).then(|| Hint::from(remedy::repair_images(&bad)));
    let unread = report.unread.iter().filter_map(|unread| unread.what.hint());
    let hint: Hint = repair.into_iter().chain(unread).collect();
    (!hint.is_empty()).then(|| remedy::hint(&hint))
}

/// What is in the registry, as a document.
pub fn document(report: &Report, unlisted: &[Error]) -> serde_json::Value {
    let mut named = Named::new();
    let mut name = |document: &mut serde_json::Value, images: &[usize]| {
        let (images, left_out) = named.images(images.iter().copied());
        let images = images.iter().filter_map(|at| report.images.get(*at));
        document["images"] = images.map(|image| serde_json::json!(image.reference)).collect();
        named::note_left_out(document, left_out);
    };
    let texts = |list: &[Platform]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let images = report.images.iter().map(|image| {
        let mut document = serde_json::json!({
            "name": image.reference,
            "digest": image.digest,
            "good": image.is_good(),
            "known": image.is_known(),
            "platforms": texts(&image.platforms),
            "absent": texts(&image.absent),
        });
        if let Some(error) = &image.error {
            document["error"] = error_json(error);
        }
        document
    });
    let findings = report.findings.iter().map(|found| {
        let mut document = finding_json(&found.what);
        name(&mut document, &found.images);
        document
    });
    let findings: Vec<serde_json::Value> = findings.collect();
    let unread = report.unread.iter().map(|unread| {
        let mut document = serde_json::json!({
            "message": unread.what.to_string(),
            "hint": hint_of(&unread.what),
        });
        name(&mut document, &unread.images);
        document
    });
    let mut document = serde_json::json!({
        "good": report.errors() == 0 && unlisted.is_empty(),
        "quick": report.depth == Depth::Sizes,
        "digests_only": report.depth == Depth::Digests,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "known": report.known_blobs,
        "images": images.collect::<Vec<_>>(),
        "findings": findings,
        "unread": unread.collect::<Vec<_>>(),
        "hint": hint(report),
    });
    if !unlisted.is_empty() {
        document["unlisted"] = unlisted.iter().map(error_json).collect();
    }
    document
}

fn metrics(report: &Report, failure: Option<ErrorKind>) -> Metrics {
    let count = |is: fn(&images::Checked) -> bool| report.images.iter().filter(|image| is(image)).count();
    let findings = |is_error: bool| {
        let findings = report.findings.iter();
        findings.filter(|found| found.what.is_error() == is_error).count()
    };
    let mut metrics = Metrics::default();
    metrics.add_result(failure, findings(true), findings(false), report.unread.len());
    metrics.add_labelled(
        "sealift_verify_images",
        "Images by result; known ones were verified by an earlier run.",
        "result",
        &[
            ("good", count(|image| image.is_good() && !image.is_known())),
            ("known", count(images::Checked::is_known)),
            ("bad", count(|image| image.is_bad)),
            ("failed", count(|image| image.error.is_some())),
        ],
    );
    metrics.add("sealift_verify_blobs", "Blobs that were read.", report.blobs);
    metrics.add("sealift_verify_read_bytes", "Bytes of these blobs.", report.bytes);
    metrics
}
