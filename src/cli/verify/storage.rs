//! `sealift verify --registry-root DIR`.

use std::path::Path;

use sealift::error::{ErrorKind, Hint, Problem, Span};
use sealift::image::{AffectedImage, names};
use sealift::interrupt::Interrupt;
use sealift::registry_storage::{self, Options, Report, Sample, StorageFinding, Total, Unreferenced};

use super::metrics::Metrics;
use super::named::{self, Named};
use crate::cli::archive::JobsArgs;
use crate::cli::bars;
use crate::cli::output::{Failure, Output, finding_json};
use crate::cli::remedy;
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
    let mut named = Named::new();
    let is_upload =
        |found: &StorageFinding| matches!(found.finding.problem, Problem::UnfinishedUpload { .. });
    for found in &report.findings {
        if (is_dangling(found) || is_upload(found)) && !output.is_verbose() {
            continue;
        }
        let kind = if found.finding.is_error() { "error" } else { "note" };
        output.line(format_args!("{kind}: {}", found.finding))?;
        let (images, left_out) = named.images(found.images.to_set());
        for image in images {
            output.line(format_args!("  in {image}"))?;
        }
        named::print_left_out(output, left_out)?;
        if let Some(text) = tagged_before(found) {
            output.line(format_args!("  {text}"))?;
        }
    }
    for error in &report.unread {
        output.line(format_args!("error: {error}"))?;
    }
    if output.is_quiet() {
        return Ok(());
    }
    if let Some(hint) = hint(report, true) {
        output.line(format_args!("hint: {hint}"))?;
    }
    if report.uploads.count > 0 && !output.is_verbose() {
        let ages = report.findings.iter().map(|found| match &found.finding.problem {
            Problem::UnfinishedUpload { seconds, .. } => *seconds,
            _ => 0,
        });
        output.line(format_args!(
            "note: {}, {}; the oldest started {} ago",
            count(report.uploads.count, "unfinished upload"),
            Size(report.uploads.bytes),
            Span(ages.max().unwrap_or_default())
        ))?;
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

/// What to do about all of it. `repairs` says whether a repair may mend what it has not tried.
pub fn hint(report: &Report, repairs: bool) -> Option<String> {
    let errors = || report.findings.iter().filter(|found| found.finding.is_error());
    let is_tag = |found: &&StorageFinding| {
        let entry = found.finding.place.entry.as_deref();
        entry.is_some_and(|entry| entry.ends_with("/current/link"))
    };
    let is_used = errors().any(|found| !is_tag(&found) && !found.images.is_empty());
    let repair = (repairs && is_used).then(|| Hint::from(remedy::repair_storage(&report.root)));
    let tag = errors().find_map(|found| {
        let digest = found.tagged_before.first()?;
        let image = found.images.to_set().pop_first()?;
        Some(Hint::from(remedy::set_tag(
            &image.repository,
            image.tag.as_ref()?,
            digest,
        )))
    });
    let unread = report.unread.iter().filter_map(|error| error.hint());
    let hint: Hint = repair.into_iter().chain(tag).chain(unread).collect();
    (!hint.is_empty()).then(|| remedy::hint(&hint))
}

/// What a tag named before its link was lost.
pub fn tagged_before(found: &StorageFinding) -> Option<String> {
    let digests: Vec<String> = found.tagged_before.iter().map(ToString::to_string).collect();
    (!digests.is_empty()).then(|| format!("it named {} before", names::first(&digests, 2)))
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
    let mut named = Named::new();
    let findings = report.findings.iter().map(|found| finding(found, &mut named));
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
        "hint": hint(report, true),
    })
}

/// A finding with the images that it concerns.
pub fn finding(found: &StorageFinding, named: &mut Named<AffectedImage>) -> serde_json::Value {
    let mut document = finding_json(&found.finding);
    let (images, left_out) = named.images(found.images.to_set());
    document["images"] = serde_json::json!(images);
    named::note_left_out(&mut document, left_out);
    if !found.tagged_before.is_empty() {
        document["tagged_before"] = serde_json::json!(found.tagged_before);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::super::named::REPEATED;
    use super::*;
    use sealift::oci::Digest;
    use sealift::progress::Silent;

    /// 30 layers of another size than their manifest says, which has 400 tags.
    fn report() -> Report {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("docker/registry/v2");
        let write = |entry: String, bytes: &[u8]| {
            let path = root.join(entry);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let blob = |bytes: &[u8]| {
            let digest = Digest::sha256(bytes);
            let hex = digest.hex();
            write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), bytes);
            write(
                format!("repositories/app/_layers/sha256/{hex}/link"),
                digest.to_string().as_bytes(),
            );
            digest
        };
        let config = blob(b"{}");
        let layers: Vec<serde_json::Value> = (10..40)
            .map(|layer: u8| {
                let media_type = "application/vnd.oci.image.layer.v1.tar";
                serde_json::json!({ "mediaType": media_type, "digest": blob(&[layer]), "size": 2 })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": layers,
        });
        let manifest = blob(manifest.to_string().as_bytes());
        let link = manifest.to_string();
        let manifests = "repositories/app/_manifests";
        write(
            format!("{manifests}/revisions/sha256/{}/link", manifest.hex()),
            link.as_bytes(),
        );
        for tag in 0..400 {
            write(format!("{manifests}/tags/{tag}/current/link"), link.as_bytes());
        }
        registry_storage::verify(home.path(), &Options::default(), &Silent, &Interrupt::default()).unwrap()
    }

    #[test]
    fn images_of_many_findings_are_not_all_named_again() {
        let report = report();
        assert_eq!((report.errors(), report.affected().len()), (30, 401));
        let mut named = Named::new();
        let all: Vec<_> = report
            .findings
            .iter()
            .map(|found| named.images(found.images.to_set()))
            .collect();
        let lines: usize = all.iter().map(|(images, _)| images.len()).sum();
        let left_out: usize = all.iter().map(|(_, left_out)| left_out).sum();
        assert_eq!((lines, left_out), (401 + REPEATED, 30 * 401 - 401 - REPEATED));
        // Each one is named once at least.
        assert_eq!((all[0].0.len(), all[0].1), (401, 0));
        let document = document(&report);
        let findings = document["findings"].as_array().unwrap();
        assert_eq!(findings[29]["images_named_before"], 401);
        assert_eq!(findings[0].get("images_named_before"), None);
    }
}
