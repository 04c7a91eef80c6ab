//! `sealift repair`.

mod from;

use std::path::PathBuf;

use clap::Args;
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::registry_storage::AffectedImage;
use sealift::registry_storage::repair::{self, BlobRepair, Fate, LinkRepair, Options, Repair as Repaired};

use super::archive::JobsArgs;
use super::bars;
use super::output::{Failure, Outcome, Output};
use super::size::Size;
use super::table::{Column, TableArgs, table};
use super::verify::storage;
use from::FromArgs;

/// Replace damaged and missing blobs in a registry's storage while the registry runs
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift repair --registry-root /var/lib/registry --from docker --dry-run
  sudo sealift repair --registry-root /var/lib/registry --from docker
  sudo sealift repair --registry-root /var/lib/registry --from images.tar
  sudo sealift repair --registry-root /var/lib/registry --from registry://harbor.local/mirror

It verifies the storage as `verify --registry-root` does, and looks for the digest of each blob that is wrong, empty, \
truncated or missing. A blob is written beside the others, verified, and renamed to its place with the owner and mode \
that the old file has. Then it is verified again, and so is what a mended manifest names. Nothing is deleted.

Exit codes:
  0  all good, or all of it mended; with --dry-run: all of it can be mended
  1  there are errors that other bytes do not mend; `verify --registry-root` names them
  7  for some blobs no good bytes were found")]
pub struct Repair {
    /// The storage folder of a registry (CNCF distribution, version 2 or 3)
    ///
    /// DIR is what the registry's configuration calls `rootdirectory`, such as /var/lib/registry.
    #[arg(long, value_name = "DIR", required = true)]
    registry_root: PathBuf,
    /// Show where the bytes of each blob would come from, and change nothing
    ///
    /// What a damaged manifest names is not known before it is mended.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    from: FromArgs,
}

impl Repair {
    /// Repairs.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.from.check()?;
        let progress = bars::progress(output);
        let default = sealift::registry_storage::Options::default();
        let options = Options {
            jobs: self.jobs.number().unwrap_or(default.jobs),
            retry: self.from.retry(),
            is_dry_run: self.dry_run,
        };
        let repaired = repair::repair(
            &self.registry_root,
            &mut |good| self.from.open(good, &progress, interrupt),
            &options,
            progress.as_ref(),
            interrupt,
        )?;
        progress.done();
        match output.is_json() {
            true => output.json(&serde_json::json!({ "schema": 1, "repair": document(&repaired) }))?,
            false => self.print(output, &repaired)?,
        }
        for error in &repaired.failures {
            output.warn(&error.to_string());
        }
        Ok(repaired.failure())
    }

    fn print(&self, output: &Output, repaired: &Repaired) -> Result<(), Failure> {
        let columns = [
            Column::Digest("BLOB"),
            Column::Text("SIZE"),
            Column::Text("PROBLEM"),
            Column::Text("RESULT"),
            Column::Name("FROM"),
            Column::MinorList("IMAGES"),
        ];
        let blobs = repaired.blobs.iter().map(|blob| {
            let (result, good) = told(blob);
            let dash = || "-".to_owned();
            vec![
                blob.digest.to_string(),
                good.map_or_else(dash, |good| Size(good.size).to_string()),
                blob.found.finding.problem.code().into(),
                result.into(),
                good.map_or_else(dash, |good| good.from.clone()),
                tags(&blob.found.images),
            ]
        });
        let rows: Vec<Vec<String>> = blobs.collect();
        if !rows.is_empty() {
            for line in table(&columns, &rows, self.table.width(std::io::stdout())) {
                output.line(line)?;
            }
        }
        for blob in &repaired.blobs {
            if let Some(reason) = reason(blob) {
                output.line(format_args!("error: {}: {reason}", blob.digest))?;
            }
        }
        for link in &repaired.links {
            let entry = &link.entry;
            match (&link.failure, repaired.is_dry_run) {
                (Some(error), _) => output.line(format_args!("error: {entry}: {error}"))?,
                (None, true) => output.line(format_args!("{entry}: the link would be written"))?,
                (None, false) => output.line(format_args!("{entry}: the link was written"))?,
            }
        }
        self.print_rest(output, repaired)
    }

    /// Prints what is whole again, what is left, and the sum.
    fn print_rest(&self, output: &Output, repaired: &Repaired) -> Result<(), Failure> {
        let report = &repaired.report;
        let left: Vec<_> = repaired.left().collect();
        for found in &left {
            output.line(format_args!("error: {}", found.finding))?;
        }
        for error in &report.unread {
            output.line(format_args!("error: {error}"))?;
        }
        if output.is_quiet() {
            return Ok(());
        }
        for image in &repaired.whole {
            output.line(format_args!("whole again: {image}"))?;
        }
        let count = |is: fn(&Fate) -> bool| repaired.blobs.iter().filter(|blob| is(&blob.fate)).count();
        let mended = count(|fate| matches!(fate, Fate::Mended(_)));
        let available = count(|fate| matches!(fate, Fate::Available(_)));
        let unmended = repaired.blobs.len() - mended - available;
        let mut parts = Vec::new();
        if repaired.is_dry_run {
            parts.push(format!("{} can be mended", names::count(available, "blob")));
        } else {
            parts.push(format!("{} mended", names::count(mended, "blob")));
        }
        if unmended > 0 {
            parts.push(format!("{unmended} not"));
        }
        if !left.is_empty() {
            parts.push(format!("{} left", names::count(left.len(), "other error")));
        }
        if repaired.blobs.is_empty() && repaired.links.is_empty() && report.is_good() {
            parts = vec!["all good".into()];
        }
        output.line(format_args!("{}: {}", report.root, parts.join(", ")))
    }
}

/// The result for a blob in a word, and where its bytes come from.
fn told(blob: &BlobRepair) -> (&'static str, Option<&repair::Good>) {
    match &blob.fate {
        Fate::Mended(good) => ("mended", Some(good)),
        Fate::Available(good) => ("available", Some(good)),
        Fate::NotFound(_) => ("not-found", None),
        Fate::Failed(_) => ("failed", None),
    }
}

/// Why a blob was not mended, if anything is known about that.
fn reason(blob: &BlobRepair) -> Option<String> {
    match &blob.fate {
        Fate::Mended(_) | Fate::Available(_) => None,
        Fate::NotFound(Some(reason)) => Some(reason.clone()),
        Fate::NotFound(None) if blob.found.images.is_empty() => {
            Some("no image uses it; the registry's garbage collection removes it".into())
        }
        Fate::NotFound(None) => Some("no source has it".into()),
        Fate::Failed(error) => Some(error.to_string()),
    }
}

/// The tags of images, or else their digests.
fn tags(images: &[AffectedImage]) -> String {
    let tagged: Vec<String> = images
        .iter()
        .filter(|image| image.tag.is_some())
        .map(ToString::to_string)
        .collect();
    match tagged.is_empty() {
        false => tagged.join(" "),
        true => {
            let all: Vec<String> = images.iter().map(ToString::to_string).collect();
            all.join(" ")
        }
    }
}

fn document(repaired: &Repaired) -> serde_json::Value {
    let blobs = repaired.blobs.iter().map(|blob| {
        let (result, good) = told(blob);
        serde_json::json!({
            "digest": blob.digest,
            "finding": storage::finding(&blob.found),
            "result": result,
            "from": good.map(|good| &good.from),
            "size": good.map(|good| good.size),
            "reason": reason(blob),
        })
    });
    let links = repaired.links.iter().map(|link: &LinkRepair| {
        serde_json::json!({
            "entry": link.entry,
            "finding": storage::finding(&link.found),
            "error": link.failure.as_ref().map(ToString::to_string),
        })
    });
    let findings = repaired.report.findings.iter();
    serde_json::json!({
        "root": repaired.report.root,
        "dry_run": repaired.is_dry_run,
        "good": repaired.report.is_good(),
        "blobs": blobs.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "whole": repaired.whole,
        "findings": findings.map(storage::finding).collect::<Vec<_>>(),
        "unread": repaired.report.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unsearched": repaired.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
