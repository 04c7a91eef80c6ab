//! `sealift verify FILE`.

use std::path::PathBuf;

use sealift::Result;
use sealift::archive::{self, Layout};
use sealift::image::names;
use sealift::image::provenance::Evidence;
use sealift::interrupt::Interrupt;
use sealift::oci::{Digest, Platform};
use sealift::save::LeftOut;
use sealift::verify::{Image, Options, Report};

use crate::cli::archive::{Accepted, ReadArgs};
use crate::cli::bars;
use crate::cli::output::{Failure, MultiReport, Outcome, Output, findings_json};
use crate::cli::report::{Pinned, SharedReport};
use crate::cli::saved::left_out;
use crate::cli::sign;
use crate::cli::size::Size;

/// Verifies archives, all of them even if one has errors. Adds them to a report for people who sign it.
pub fn run(
    files: &[PathBuf],
    read: &ReadArgs,
    options: &Options,
    signed: Option<&SharedReport>,
    output: &Output,
    interrupt: &Interrupt,
) -> Outcome {
    let mut end = MultiReport::new(output);
    for (label, archive) in read.open(files, interrupt)? {
        let verified = archive.and_then(|Accepted { layout, signed }| {
            let report = verify(layout.as_ref(), options, output, interrupt)?;
            let omitted = LeftOut::of(&report.omitted, layout.omitted());
            Ok((layout, signed, omitted, report))
        });
        match verified {
            Ok((layout, signed_by, omitted, report)) => {
                let digest = layout.digest();
                let document = || {
                    let mut document = document(digest, omitted.as_ref(), &report, options.quick);
                    if let Some(signed) = &signed_by {
                        document["signature"] = serde_json::json!(signed);
                    }
                    document
                };
                if let Some(signed) = signed {
                    let left_out = omitted.as_ref().map(left_out);
                    signed.lock().add(
                        layout.as_ref(),
                        Pinned {
                            is_expected: read.are_expected(),
                            signed_by: signed_by.as_ref().map(|signed| signed.signer.to_string()),
                        },
                        left_out,
                        &report,
                        document(),
                    );
                }
                if output.is_json() {
                    end.document(document());
                } else {
                    print(output, omitted.as_ref(), &report, options.quick)?;
                    if let Some(signed) = signed_by.filter(|_| !output.is_quiet()) {
                        output.line(sign::signed_by(&label, &signed))?;
                    }
                    output.line(format_args!("archive {digest}"))?;
                }
                if let Err(error) = report.into_good() {
                    end.failure(error.kind());
                }
            }
            Err(error) => {
                if let Some(signed) = signed {
                    signed.lock().add_failed(&label, &error);
                }
                end.error(&label, error)?;
            }
        }
    }
    end.outcome()
}

fn verify(layout: &dyn Layout, options: &Options, output: &Output, interrupt: &Interrupt) -> Result<Report> {
    let progress = bars::progress(output);
    let report = archive::verify(layout, options, progress.as_ref(), interrupt)?;
    progress.done();
    Ok(report)
}

fn print(output: &Output, omitted: Option<&LeftOut>, report: &Report, quick: bool) -> Result<(), Failure> {
    for finding in &report.findings {
        let kind = if finding.is_error() { "error" } else { "note" };
        output.line(format_args!("{kind}: {finding}"))?;
    }
    for (_, error) in &report.unread {
        output.line(format_args!("error: {error}"))?;
    }
    if !output.is_quiet() {
        // If all images have errors, naming each adds nothing.
        let names_bad = report.images.iter().any(|image| image.is_good);
        for image in &report.images {
            if let Some(told) = told(image, names_bad) {
                output.line(told)?;
            }
        }
        if let Some(omitted) = omitted {
            output.line(left_out(omitted))?;
        }
        let depth = if quick { ", digests only" } else { "" };
        let verdict = match report.errors() + report.unread.len() {
            0 => "all good".to_string(),
            1 => "1 error".to_string(),
            count => format!("{count} errors"),
        };
        output.line(format_args!(
            "{}: {}, {}{depth}: {verdict}",
            report.label,
            names::count(report.blobs, "blob"),
            Size(report.bytes)
        ))?;
    }
    Ok(())
}

/// What a report adds to the findings of an image: that it has errors, what is not proven, and which layers are
/// present only uncompressed.
fn told(image: &Image, names_bad: bool) -> Option<String> {
    let mut told = Vec::new();
    if names_bad && !image.is_good {
        told.push("has errors".into());
    }
    match (image.evidence, image.digest) {
        (Evidence::Recorded, Some(digest)) => {
            let why = match digest == image.root {
                true => "the tool that made the archive may have written its manifest",
                false => "its manifest could not be recovered",
            };
            told.push(format!("{digest} is recorded, not proven: {why}"));
        }
        (Evidence::Verified, _) => {}
        (Evidence::Recorded | Evidence::None, _) => told.push("no digest is known".into()),
    }
    match image.uncompressed {
        0 => {}
        1 => told.push("1 layer is present only uncompressed".into()),
        count => told.push(format!("{count} layers are present only uncompressed")),
    }
    if told.is_empty() {
        return None;
    }
    Some(format!("{}: {}", image.identity().label(), told.join("; ")))
}

fn document(digest: Digest, omitted: Option<&LeftOut>, report: &Report, quick: bool) -> serde_json::Value {
    let images: Vec<_> = report
        .images
        .iter()
        .map(|image| {
            let texts = |list: &[Platform]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            let mut document = serde_json::json!({
                "name": image.reference,
                "digest": image.digest,
                "evidence": image.is_good.then_some(image.evidence),
                "stand_in": (image.digest != Some(image.root)).then_some(image.root),
                "uncompressed": image.uncompressed,
                "platforms": texts(&image.platforms),
                "absent": texts(&image.absent),
                "good": image.is_good,
            });
            if image.omitted > 0 {
                document["omitted"] = image.omitted.into();
            }
            document
        })
        .collect();
    let mut document = serde_json::json!({
        "archive": report.label,
        "digest": digest,
        "good": report.is_good(),
        "quick": quick,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "images": images,
        "findings": findings_json(&report.findings),
        "unread": report.unread.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>(),
    });
    if let Some(omitted) = omitted {
        document["omitted"] = serde_json::json!(omitted);
    }
    document
}
