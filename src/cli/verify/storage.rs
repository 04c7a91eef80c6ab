//! `sealift verify --registry-root DIR`.

use std::path::Path;

use sealift::error::{ErrorKind, Problem};
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::registry_storage::{self, Options, Report, Sample, StorageFinding, Total, Unreferenced};

use super::metrics::Metrics;
use crate::cli::archive::JobsArgs;
use crate::cli::bars;
use crate::cli::output::{Failure, Output, finding_json};
use crate::cli::size::Size;

/// Verifies the storage folder of a registry.
pub fn run(
    root: &Path,
    sample: Option<Sample>,
    jobs: &JobsArgs,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<(Option<ErrorKind>, Metrics), Failure> {
    let mut options = Options::default();
    options.jobs = jobs.number().unwrap_or(options.jobs);
    options.sample = sample.unwrap_or(options.sample);
    let progress = bars::progress(output);
    let report = registry_storage::verify(root, &options, progress.as_ref(), interrupt)?;
    progress.done();
    match output.is_json() {
        true => output.json(&serde_json::json!({ "schema": 1, "storage": document(&report) }))?,
        false => print(output, &report)?,
    }
    Ok((report.failure(), metrics(&report)))
}

fn metrics(report: &Report) -> Metrics {
    let errors = report.errors();
    let affected = report.affected();
    let tags = affected.iter().filter(|image| image.tag.is_some()).count();
    let unreferenced = report.unreferenced.as_ref();
    let mut metrics = Metrics::default();
    metrics.add_result(
        report.failure(),
        errors,
        report.findings.len() - errors,
        report.unread.len(),
    );
    metrics.add(
        "sealift_verify_affected_tags",
        "Tags whose images have errors.",
        tags,
    );
    metrics.add(
        "sealift_verify_blobs",
        "Blobs in the storage.",
        report.blobs.count,
    );
    metrics.add(
        "sealift_verify_blob_bytes",
        "Bytes of these blobs.",
        report.blobs.bytes,
    );
    metrics.add(
        "sealift_verify_read_bytes",
        "Bytes of the blobs that were hashed.",
        report.hashed.bytes,
    );
    if let Some(unreferenced) = unreferenced {
        metrics.add(
            "sealift_verify_unreferenced_bytes",
            "Bytes of blobs that no manifest refers to.",
            unreferenced.total.bytes,
        );
    }
    metrics.add(
        "sealift_verify_upload_bytes",
        "Bytes of unfinished uploads.",
        report.uploads.bytes,
    );
    metrics
}

fn print(output: &Output, report: &Report) -> Result<(), Failure> {
    let is_dangling = |found: &StorageFinding| matches!(found.finding.problem, Problem::DanglingLink { .. });
    for found in &report.findings {
        if is_dangling(found) && !output.is_verbose() {
            continue;
        }
        let kind = if found.finding.is_error() { "error" } else { "note" };
        output.line(format_args!("{kind}: {}", found.finding))?;
        for image in &found.images {
            output.line(format_args!("  in {image}"))?;
        }
    }
    for error in &report.unread {
        output.line(format_args!("error: {error}"))?;
    }
    if output.is_quiet() {
        return Ok(());
    }
    let dangling = report.findings.iter().filter(|found| is_dangling(found)).count();
    if dangling > 0 && !output.is_verbose() {
        let links = names::count(dangling, "link");
        output.line(format_args!(
            "note: {links} to layers that are gone and that no manifest needs, as garbage collection leaves them"
        ))?;
    }
    if let Some(Unreferenced { total, .. }) = &report.unreferenced
        && total.count > 0
    {
        output.line(format_args!(
            "note: {}, {}, that no manifest refers to",
            count(total.count, "blob"),
            Size(total.bytes)
        ))?;
    }
    output.line(format_args!(
        "{}: {}, {}; {}, {}{}: {}",
        report.root,
        count(report.blobs.count, "blob"),
        Size(report.blobs.bytes),
        match report.repositories {
            1 => "1 repository".into(),
            repositories => format!("{repositories} repositories"),
        },
        count(report.tags, "tag"),
        hashed(report.hashed, report.blobs),
        verdict(report),
    ))
}

fn count(number: u64, thing: &str) -> String {
    names::count(usize::try_from(number).unwrap_or(usize::MAX), thing)
}

/// Which part of the blobs was hashed, if not all were.
fn hashed(hashed: Total, all: Total) -> String {
    if hashed == all {
        return String::new();
    }
    let tenths = u128::from(hashed.bytes) * 1000 / u128::from(all.bytes.max(1));
    let blobs = count(hashed.count, "blob");
    format!("; {blobs} hashed, {}.{}% of the bytes", tenths / 10, tenths % 10)
}

fn verdict(report: &Report) -> String {
    let errors = report.errors() + report.unread.len();
    if errors == 0 {
        return "all good".into();
    }
    let mut tags = 0;
    let mut manifests = 0;
    for image in report.affected() {
        match image.tag {
            Some(_) => tags += 1,
            None => manifests += 1,
        }
    }
    let (errors, tags) = (names::count(errors, "error"), names::count(tags, "tag"));
    let manifests = names::count(manifests, "manifest");
    format!("{errors}; {tags} and {manifests} affected")
}

fn document(report: &Report) -> serde_json::Value {
    let findings = report.findings.iter().map(finding);
    serde_json::json!({
        "root": report.root,
        "good": report.is_good(),
        "blobs": report.blobs,
        "hashed": report.hashed,
        "repositories": report.repositories,
        "manifests": report.manifests,
        "tags": report.tags,
        "findings": findings.collect::<Vec<_>>(),
        "unreferenced": report.unreferenced.as_ref().map(|unreferenced| serde_json::json!({
            "count": unreferenced.total.count,
            "bytes": unreferenced.total.bytes,
            "some": unreferenced.some,
        })),
        "uploads": report.uploads,
        "unread": report.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A finding with the images that it concerns.
pub fn finding(found: &StorageFinding) -> serde_json::Value {
    let mut document = finding_json(&found.finding);
    document["images"] = serde_json::json!(found.images);
    document
}
