//! `repair --registry-root`.

use std::path::Path;

use sealift::interrupt::Interrupt;
use sealift::registry_storage::repair::{self, LinkRepair, Options, Repair as Repaired};

use super::{Repair, blobs};
use crate::cli::bars;
use crate::cli::output::{Failure, Outcome, Output};
use crate::cli::table::TableArgs;
use crate::cli::verify::named::Named;
use crate::cli::verify::storage;

/// Repairs and prints the result.
pub fn run(args: &Repair, root: &Path, output: &Output, interrupt: &Interrupt) -> Outcome {
    let progress = bars::progress(output);
    let default = sealift::registry_storage::Options::default();
    let options = Options {
        jobs: args.jobs.number().unwrap_or(default.jobs),
        retry: args.from.retry(),
        is_dry_run: args.dry_run,
    };
    let repaired = repair::repair(
        root,
        &mut |good| args.from.open(good, &progress, interrupt),
        &options,
        progress.as_ref(),
        interrupt,
    )?;
    progress.done();
    let print = || print(output, &repaired, &args.table);
    super::show(output, || document(&repaired), print, &repaired.failures)?;
    Ok(repaired.failure())
}

fn print(output: &Output, repaired: &Repaired, width: &TableArgs) -> Result<(), Failure> {
    blobs::print(output, &repaired.blobs, width)?;
    for link in &repaired.links {
        let entry = &link.entry;
        match (&link.failure, repaired.is_dry_run) {
            (Some(error), _) => output.line(format_args!("error: {entry}: {error}"))?,
            (None, true) => output.line(format_args!("{entry}: the link would be written"))?,
            (None, false) => output.line(format_args!("{entry}: the link was written"))?,
        }
    }
    let report = &repaired.report;
    let left: Vec<_> = repaired.left().collect();
    for found in &left {
        output.line(format_args!("error: {}", found.finding))?;
        if let Some(text) = storage::tagged_before(found) {
            output.line(format_args!("  {text}"))?;
        }
    }
    for error in &report.unread {
        output.line(format_args!("error: {error}"))?;
    }
    if let Some(hint) = storage::hint(report, false).filter(|_| !output.is_quiet()) {
        output.line(format_args!("hint: {hint}"))?;
    }
    let is_good = repaired.links.is_empty() && report.is_good();
    let failed_links = repaired.links.iter().filter(|link| link.failure.is_some());
    let sum = blobs::Sum {
        place: &report.root,
        blobs: &repaired.blobs,
        whole: &repaired.whole,
        others: left.len() + report.unread.len() + failed_links.count(),
        is_dry_run: repaired.is_dry_run,
        is_good,
    };
    sum.print(output)
}

fn document(repaired: &Repaired) -> serde_json::Value {
    let mut named = Named::new();
    let links = repaired.links.iter().map(|link: &LinkRepair| {
        serde_json::json!({
            "entry": link.entry,
            "finding": storage::finding(&link.found, &mut named),
            "error": link.failure.as_ref().map(ToString::to_string),
        })
    });
    let links: Vec<_> = links.collect();
    let findings = repaired.report.findings.iter();
    let findings = findings.map(|found| storage::finding(found, &mut named));
    serde_json::json!({
        "root": repaired.report.root,
        "dry_run": repaired.is_dry_run,
        "good": repaired.report.is_good(),
        "blobs": blobs::documents(&repaired.blobs),
        "links": links,
        "whole": repaired.whole,
        "findings": findings.collect::<Vec<_>>(),
        "unread": repaired.report.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "hint": storage::hint(&repaired.report, false),
        "unsearched": repaired.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
