//! What `sealift load` prints after a load.

use std::collections::{BTreeMap, HashSet};

use sealift::escape::Escaped;
use sealift::image::names;
use sealift::image::referrers::{self, ReferrerKind};
use sealift::load::{Change, Obstacle, Platforms, Report};
use sealift::oci::Reference;

use super::output::{Failure, Outcome, Output, skipped};
use super::planned;
use super::policy;
use super::remedy;
use super::rows::own_rows;
use super::size::Size;
use super::table::{Column, table};

const COLUMNS: [Column; 6] = [
    Column::Name("NAME"),
    Column::Name("TAG"),
    Column::Digest("DIGEST"),
    // What is not verified or not shown is also a warning.
    Column::Minor("EVIDENCE"),
    Column::Minor("SHOWN"),
    Column::Text("CHANGE"),
];

/// Prints a report for people; on request also which images the engine does not run.
pub fn print(output: &Output, report: &Report, warns_of_foreign: bool, width: Option<usize>) -> Outcome {
    if !output.is_quiet() {
        show(output, report, width)?;
    }
    if !output.is_quiet() {
        for image in &report.images {
            if let Some(verdict) = &image.details.policy {
                policy::print(output, &image.name.familiar(), verdict, width)?;
            }
        }
    }
    if let Some(digest) = &report.details.digest {
        output.line(format_args!("archive {digest}"))?;
    }
    if warns_of_foreign {
        tell_foreign(output, report);
    }
    told(output, report)
}

/// Warns of images that the engine cannot run.
fn tell_foreign(output: &Output, report: &Report) {
    let mut foreign: Vec<(&Platforms, Vec<&Reference>)> = Vec::new();
    for image in report.images.iter().filter(|image| image.is_foreign) {
        match foreign.iter_mut().find(|(known, _)| **known == image.platforms) {
            Some((_, names)) => names.push(&image.name),
            None => foreign.push((&image.platforms, vec![&image.name])),
        }
    }
    for (platforms, names) in foreign {
        let names = first_names(&names);
        output.warn(&format!(
            "for {platforms}, which the engine does not run by itself: {names}"
        ));
    }
}

fn told(output: &Output, report: &Report) -> Outcome {
    let hidden = report.images.iter().filter(|image| !image.is_as_asked());
    tell(
        output,
        "not shown",
        hidden.map(|image| (&image.name, image.obstacles.as_slice())),
    );
    let unproven = report.images.iter().filter(|image| image.is_unproven());
    let unproven: Vec<&Reference> = unproven.map(|image| &image.name).collect();
    if !unproven.is_empty() {
        let names = first_names(&unproven);
        output.warn(&format!(
            "not proven: {names}: nothing proves the digest that is shown; the archive recorded it"
        ));
    }
    if !output.is_quiet() {
        note_undigested(output, report);
        note_dropped(output, report);
    }
    let pushed = report
        .images
        .iter()
        .filter_map(|image| Some((&image.name, image.details.push.as_deref()?)));
    tell(
        output,
        "a push changes the digest",
        pushed.filter(|(_, obstacles)| !obstacles.is_empty()),
    );
    for image in &report.skipped {
        output.warn(&skipped(&image.name, &image.reason));
        if let Some(hint) = &image.hint {
            output.hint(&remedy::hint(hint));
        }
    }
    report.error.iter().for_each(|error| output.error(error));
    Ok(report.failure())
}

/// Notes which images show no digest although the load did what was requested.
fn note_undigested(output: &Output, report: &Report) {
    let declined = report.images.iter().filter(|image| image.details.declined);
    let declined: Vec<&Reference> = declined.map(|image| &image.name).collect();
    if !declined.is_empty() {
        output.note(&format!(
            "digest not attached, as --attach none asks: {}",
            first_names(&declined)
        ));
    }
    let mut reasons: Vec<(&str, Vec<&Reference>)> = Vec::new();
    for image in &report.images {
        let Some(reason) = image.no_digest.as_deref() else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(&image.name),
            None => reasons.push((reason, vec![&image.name])),
        }
    }
    for (reason, names) in reasons {
        output.note(&format!("no digest: {}: {reason}", first_names(&names)));
    }
}

/// Notes which signatures and the like an engine has no place for. What a registry refuses is an obstacle.
fn note_dropped(output: &Output, report: &Report) {
    type Dropped<'r> = (&'r str, BTreeMap<ReferrerKind, usize>, Vec<&'r Reference>);
    let mut reasons: Vec<Dropped<'_>> = Vec::new();
    let mut counted = HashSet::new();
    for image in report.images.iter().filter(|image| image.obstacles.is_empty()) {
        // Names of one image have the same ones.
        let is_new = counted.insert((image.digest, image.image_id));
        for dropped in &image.referrers.dropped {
            let at = reasons.iter().position(|(reason, ..)| *reason == dropped.reason);
            let at = at.unwrap_or_else(|| {
                reasons.push((&dropped.reason, BTreeMap::new(), Vec::new()));
                reasons.len() - 1
            });
            let Some((_, counts, names)) = reasons.get_mut(at) else {
                continue;
            };
            if is_new {
                *counts.entry(dropped.kind).or_default() += dropped.count;
            }
            if names.last() != Some(&&image.name) {
                names.push(&image.name);
            }
        }
    }
    for (reason, counts, names) in reasons {
        output.note(&format!(
            "not kept: {} of {}: {reason}",
            referrers::count(counts),
            first_names(&names)
        ));
    }
}

/// The signatures and the like that the target shows.
fn shown_referrers(report: &Report) -> BTreeMap<ReferrerKind, usize> {
    let mut counts = BTreeMap::new();
    let mut counted = HashSet::new();
    for image in &report.images {
        let repository = image.name.repository().full();
        if counted.insert((repository, image.digest, image.image_id)) {
            for (kind, count) in &image.referrers.shown {
                *counts.entry(*kind).or_default() += count;
            }
        }
    }
    counts
}

/// Reports obstacles, each one once with the names that it concerns.
fn tell<'r>(output: &Output, what: &str, images: impl Iterator<Item = (&'r Reference, &'r [Obstacle])>) {
    let mut groups: Vec<(&[Obstacle], Vec<&Reference>)> = Vec::new();
    for (name, obstacles) in images {
        match groups.iter_mut().find(|(known, _)| *known == obstacles) {
            Some((_, names)) => names.push(name),
            None => groups.push((obstacles, vec![name])),
        }
    }
    for (obstacles, names) in groups {
        let reasons: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
        let names = first_names(&names);
        output.warn(&format!("{what}: {names}: {}", reasons.join("; ")));
        let mut printed: Vec<String> = Vec::new();
        for hint in obstacles.iter().filter_map(planned::hint) {
            if !printed.contains(&hint) {
                output.hint(&hint);
                printed.push(hint);
            }
        }
    }
}

/// The first names of a list, and the number of the others.
fn first_names(names: &[&Reference]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| name.familiar()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// An image id as Docker prints it.
fn short_id(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    let short: String = hex.chars().take(12).collect();
    Escaped(&short).to_string()
}

fn show(output: &Output, report: &Report, width: Option<usize>) -> Result<(), Failure> {
    // The tag that was set, or else the digest.
    let shown: Vec<Reference> = report
        .images
        .iter()
        .map(|image| match (&image.tag, image.digest) {
            (Some(tag), _) => tag.clone(),
            (None, Some(digest)) => Reference::digested(image.name.repository(), digest),
            (None, None) => image.name.clone(),
        })
        .collect();
    let digests = report.images.iter().map(|image| image.digest);
    let has_row = own_rows(shown.iter().map(Some).zip(digests));
    let rows: Vec<Vec<String>> = report
        .images
        .iter()
        .zip(has_row)
        .filter(|(_, has_row)| *has_row)
        .map(|(image, _)| {
            let tag = image.tag.as_ref().and_then(|name| name.tag());
            vec![
                match image.name.is_nameless() {
                    true => "<none>".into(),
                    false => image.name.repository().familiar().to_string(),
                },
                tag.unwrap_or("<none>").to_string(),
                image
                    .digest
                    .map_or_else(|| "<none>".into(), |digest| digest.to_string()),
                image.evidence.to_string(),
                match image.shown {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "-",
                }
                .into(),
                match &image.change {
                    Change::New => "new".into(),
                    Change::Moved { from } => format!("moved from {}", short_id(from)),
                    Change::Unchanged => "unchanged".into(),
                },
            ]
        })
        .collect();
    for line in table(&COLUMNS, &rows, width) {
        output.line(line)?;
    }
    let images: HashSet<_> = report
        .images
        .iter()
        .map(|image| (image.image_id, image.image_id.map_or(image.digest, |_| None)))
        .collect();
    let images = match images.len() {
        count if count < rows.len() => format!("{} with {} names", names::count(count, "image"), rows.len()),
        count => names::count(count, "image"),
    };
    let shown = shown_referrers(report);
    let with = match shown.is_empty() {
        true => String::new(),
        false => format!(", with {}", referrers::count(shown)),
    };
    output.line(format_args!(
        "{images} in {}{with}, {} sent",
        report.target,
        Size(report.sent)
    ))
}
