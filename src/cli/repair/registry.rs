//! `repair IMAGE`.

use std::collections::HashSet;
use std::sync::Arc;

use sealift::interrupt::Interrupt;
use sealift::oci::Reference;
use sealift::registry::repair::{self, Options, Repair as Repaired};
use sealift::registry::verify;

use super::{Repair, blobs};
use crate::cli::bars;
use crate::cli::output::{Failure, Outcome, Output};
use crate::cli::table::TableArgs;
use crate::cli::verify::registry;

/// Repairs and prints the result.
pub fn run(args: &Repair, images: &[Reference], output: &Output, interrupt: &Interrupt) -> Outcome {
    let progress = bars::progress(output);
    let source = Arc::new(args.from.registry(progress.clone(), interrupt)?);
    let spool = args.from.spool(interrupt);
    let options = Options {
        jobs: args.jobs.number().unwrap_or(verify::Options::default().jobs),
        max_layer_size: spool.max_layer_size,
        retry: args.from.retry(),
        tmpdir: spool.tmpdir,
        is_dry_run: args.dry_run,
    };
    let mut seen: HashSet<&Reference> = HashSet::new();
    let images: Vec<Reference> = images
        .iter()
        .filter(|image| seen.insert(image))
        .cloned()
        .collect();
    let repaired = repair::repair(
        &source,
        &images,
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
    for found in repaired.left() {
        output.line(format_args!("error: {}", found.what))?;
    }
    output.errors(repaired.left_errors());
    if let Some(hint) = hint(repaired).filter(|_| !output.is_quiet()) {
        output.line(format_args!("hint: {hint}"))?;
    }
    let sum = blobs::Sum {
        place: &repaired.registry,
        blobs: &repaired.blobs,
        whole: &repaired.whole,
        others: repaired.left().count() + repaired.left_errors().count(),
        is_dry_run: repaired.is_dry_run,
        is_good: repaired.report.errors() == 0,
    };
    sum.print(output)
}

/// What to do about a manifest that the registry does not serve.
fn hint(repaired: &Repaired) -> Option<String> {
    let mut images = repaired.report.images.iter();
    let unnamed = images.find(|image| {
        image.error.is_some() && image.digest.is_none() && image.reference.digest().is_none()
    })?;
    Some(format!(
        "a manifest is mended by its digest: {}@sha256:..., as `docker images --digests` prints it",
        unnamed.reference.repository().familiar()
    ))
}

fn document(repaired: &Repaired) -> serde_json::Value {
    let mut now = registry::document(&repaired.report, &[]);
    serde_json::json!({
        "registry": repaired.registry,
        "dry_run": repaired.is_dry_run,
        "good": now["good"],
        "blobs": blobs::documents(&repaired.blobs),
        "whole": repaired.whole,
        "images": now["images"].take(),
        "findings": now["findings"].take(),
        "unread": now["unread"].take(),
        "hint": hint(repaired),
        "unsearched": repaired.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
