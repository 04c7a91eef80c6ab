//! `sealift verify FILE`.

use std::path::PathBuf;

use sealift::Result;
use sealift::archive::signature::Signed;
use sealift::archive::{self, Graphs, Layout};
use sealift::image::names;
use sealift::image::provenance::Evidence;
use sealift::image::referrers::ReferrerSummary;
use sealift::interrupt::Interrupt;
use sealift::oci::Platform;
use sealift::save::LeftOut;
use sealift::trust::{PolicyCheck, Verdict};
use sealift::verify::{Image, Options, Report};

use crate::cli::archive::{Accepted, ReadArgs};
use crate::cli::bars;
use crate::cli::output::{Failure, MultiReport, Outcome, Output, findings_json};
use crate::cli::policy;
use crate::cli::referrers;
use crate::cli::report::{Pinned, SharedReport};
use crate::cli::saved::left_out;
use crate::cli::sign;
use crate::cli::size::Size;

/// A verification of archives.
pub struct Run<'a> {
    pub files: &'a [PathBuf],
    pub read: &'a ReadArgs,
    pub options: &'a Options,
    pub policy: Option<PolicyCheck>,
    /// The report for people who sign it.
    pub signed: Option<&'a SharedReport>,
}

/// An archive that was verified.
struct Verified {
    label: String,
    layout: Box<dyn Layout>,
    /// Who signed the archive, if that was demanded.
    signed_by: Option<Signed>,
    report: Report,
    omitted: Option<LeftOut>,
    /// What refers to each image.
    referrers: Vec<Vec<ReferrerSummary>>,
    /// What the policy says of each image, if there is one.
    verdicts: Vec<Option<Verdict>>,
}

impl Run<'_> {
    /// Verifies archives, all of them even if one has errors.
    pub fn run(self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let mut end = MultiReport::new(output);
        for (label, archive) in self.read.open(self.files, interrupt)? {
            let verified = archive.and_then(|archive| self.verify(&label, archive, output, interrupt));
            match verified {
                Ok(verified) => {
                    let document = || document(&verified, self.options.quick);
                    if let Some(signed) = self.signed {
                        signed.lock().add(
                            verified.layout.as_ref(),
                            Pinned {
                                is_expected: self.read.are_expected(),
                                signed_by: verified
                                    .signed_by
                                    .as_ref()
                                    .map(|signed| signed.signer.to_string()),
                            },
                            verified.omitted.as_ref().map(left_out),
                            &verified.report,
                            &verified.verdicts,
                            document(),
                        );
                    }
                    if output.is_json() {
                        end.document(document());
                    } else {
                        print(output, &verified, self.options.quick)?;
                    }
                    if let Err(error) = verified.report.into_good() {
                        end.failure(error.kind());
                    }
                }
                Err(error) => {
                    if let Some(signed) = self.signed {
                        signed.lock().add_failed(&label, &error);
                    }
                    end.error(&label, error)?;
                }
            }
        }
        end.outcome()
    }

    fn verify(
        &self,
        label: &str,
        archive: Accepted,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Result<Verified> {
        let Accepted { layout, signed } = archive;
        let progress = bars::progress(output);
        let mut report = archive::verify(layout.as_ref(), self.options, progress.as_ref(), interrupt)?;
        let referrers = referrers(layout.as_ref(), &report);
        let verdicts = match &self.policy {
            Some(check) => archive::check_policy(layout.as_ref(), check, &mut report)?,
            None => Vec::new(),
        };
        progress.done();
        Ok(Verified {
            omitted: LeftOut::of(&report.omitted, layout.omitted()),
            label: label.into(),
            layout,
            signed_by: signed,
            report,
            referrers,
            verdicts,
        })
    }
}

fn print(output: &Output, verified: &Verified, quick: bool) -> Result<(), Failure> {
    let report = &verified.report;
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
        for (image, referrers) in report.images.iter().zip(&verified.referrers) {
            if let Some(told) = told(image, names_bad) {
                output.line(told)?;
            }
            for line in referrers::named(&image.identity().label(), referrers) {
                output.line(line)?;
            }
        }
        for (image, verdict) in report.images.iter().zip(&verified.verdicts) {
            if let Some(verdict) = verdict {
                policy::print(output, &image.identity().label(), verdict, None)?;
            }
        }
        if let Some(omitted) = &verified.omitted {
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
    if let Some(signed) = verified.signed_by.as_ref().filter(|_| !output.is_quiet()) {
        output.line(sign::signed_by(&verified.label, signed))?;
    }
    output.line(format_args!("archive {}", verified.layout.digest()))
}

/// What refers to each image of a report that has no errors.
fn referrers(layout: &dyn Layout, report: &Report) -> Vec<Vec<ReferrerSummary>> {
    let mut graphs = Graphs::new(layout);
    let images = report.images.iter().zip(layout.entries());
    images
        .map(|(image, entry)| {
            let named = image.is_good.then(|| graphs.named(entry).ok()).flatten();
            named.as_ref().map(ReferrerSummary::all).unwrap_or_default()
        })
        .collect()
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

fn document(verified: &Verified, quick: bool) -> serde_json::Value {
    let report = &verified.report;
    let verdicts = verified.verdicts.iter().map(Some);
    let images: Vec<_> = report
        .images
        .iter()
        .zip(&verified.referrers)
        .zip(verdicts.chain(std::iter::repeat(None)))
        .map(|((image, referrers), verdict)| {
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
            if !referrers.is_empty() {
                document["referrers"] = serde_json::json!(referrers);
            }
            if let Some(verdict) = verdict {
                document["policy"] = serde_json::json!(verdict);
            }
            document
        })
        .collect();
    let mut document = serde_json::json!({
        "archive": report.label,
        "digest": verified.layout.digest(),
        "good": report.is_good(),
        "quick": quick,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "images": images,
        "findings": findings_json(&report.findings),
        "unread": report.unread.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>(),
    });
    if let Some(omitted) = &verified.omitted {
        document["omitted"] = serde_json::json!(omitted);
    }
    if let Some(signed) = &verified.signed_by {
        document["signature"] = serde_json::json!(signed);
    }
    document
}
