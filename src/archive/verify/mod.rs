//! Everything that can be wrong with an archive or a layout folder, in one report: with its images, as for any blobs,
//! and with what it says about them.
//!
//! - [`manifest_json`]: compares `manifest.json`, which a bare `docker load` reads, with `index.json`
//! - [`omitted`]: refuses false declarations of layers that are left out
//! - [`recorded`]: refuses recorded digests that belong to other images in the archive
//! - [`referrers`]: follows what refers to the images
//! - [`statements`]: finds attestations of something else

mod manifest_json;
mod omitted;
mod recorded;
mod referrers;
mod statements;

use super::format::{Entry, digest_of_path};
use super::layout::Layout;
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::Digest;
use crate::progress::Progress;
use crate::verify::{Delegated, Followed, Options, Report, Root, Verification};

/// Refuses an archive other than the expected one. A digest that was carried separately from the archive proves
/// which archive it is.
///
/// # Errors
///
/// [`Error::Refused`] with both digests.
pub fn expect(layout: &dyn Layout, expected: &Digest) -> Result<()> {
    let found = expected.of_same_algorithm(layout.index());
    if found == *expected {
        return Ok(());
    }
    let place = Place::default().within(layout.label());
    let expected = *expected;
    Err(Error::refused(place, Problem::Unexpected { expected, found }))
}

/// Verifies an archive: all its images, and that there is nothing else.
///
/// # Errors
///
/// [`Error::Interrupted`] only: everything else is in the report.
pub fn verify(
    layout: &dyn Layout,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    verify_beside(layout, None, options, progress, interrupt)
}

/// As [`verify`]. Leaves layers to others, which verify them meanwhile.
///
/// # Errors
///
/// As [`verify`].
pub(crate) fn verify_beside(
    layout: &dyn Layout,
    delegated: Option<&Delegated>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let mut verification = Verification::new(layout);
    if let Some(delegated) = delegated {
        verification.delegating(delegated);
    }
    for finding in layout.findings() {
        verification.opened_with(finding.clone(), blob_of(finding));
    }
    verification.omitting(layout.omitted().layers.clone());
    let mut images = Vec::new();
    for entry in layout.entries() {
        interrupt.check()?;
        images.push(verification.follow(Root::from(entry)));
    }
    referrers::follow(&mut verification, layout, &mut images);
    omitted::check(&mut verification, layout);
    recorded::check(&mut verification, layout, &images);
    manifest_json::check(&mut verification, layout, &images);
    if !options.documents_only {
        statements::check(&mut verification, layout, interrupt)?;
    }
    let mut report = verification.finish(images, &layout.blobs(), options, progress, interrupt)?;
    // Notes: they concern no image.
    let unknown = layout.unknown_files().into_iter().map(|name| Finding {
        place: Place::default().within(layout.label()).entry(name),
        problem: Problem::UnknownFile,
    });
    report.findings.extend(unknown);
    Ok(report)
}

/// The blob that a finding is about, if it is about one.
fn blob_of(finding: &Finding) -> Option<Digest> {
    let of_entry = || digest_of_path(finding.place.entry.as_deref()?).ok().flatten();
    finding.place.digest.or_else(of_entry)
}

impl From<&Entry> for Root {
    fn from(entry: &Entry) -> Root {
        let provenance = entry.provenance();
        Root {
            descriptor: entry.descriptor.clone(),
            reference: entry.reference.clone(),
            digest: entry.digest(),
            evidence: provenance.evidence(),
            platforms: entry.platforms.clone(),
            uncompressed: entry.uncompressed.clone(),
        }
    }
}
