//! What a policy says of the images of an archive.

use super::graphs::Graphs;
use super::layout::Layout;
use crate::error::{ErrorKind, Finding, Place, Result};
use crate::oci::Reference;
use crate::trust::{FetchFrom, PolicyCheck, Subjects, Verdict};
use crate::verify::Report;

/// Checks all images of a verified archive by a policy. One that the policy does not accept becomes a finding of the report.
/// Returns a verdict for each image, in the report's order; `None` where the image is too damaged for one.
///
/// # Errors
///
/// If blobs cannot be read now; [`crate::Error::Interrupted`].
pub fn check_policy(
    layout: &dyn Layout,
    check: &PolicyCheck,
    report: &mut Report,
) -> Result<Vec<Option<Verdict>>> {
    let mut graphs = Graphs::new(layout);
    let mut verdicts = Vec::with_capacity(report.images.len());
    for (entry, image) in layout.entries().iter().zip(&mut report.images) {
        check.interrupt.check()?;
        let named = match graphs.named(entry) {
            Ok(named) => named,
            // The verification has reported this.
            Err(error) if error.kind() == ErrorKind::Content && !image.is_good => {
                verdicts.push(None);
                continue;
            }
            Err(error) => return Err(error),
        };
        let root = named.graph.root.digest;
        let name = entry.reference.clone();
        let name = name.unwrap_or_else(|| Reference::nameless(entry.digest().unwrap_or(root)));
        let subjects = Subjects::of(name, root, [&named], None);
        let mut fetch = FetchFrom::new(vec![layout], &check.interrupt);
        let verdict = check.check(&subjects, &mut fetch)?;
        if let Some(problem) = verdict.problem() {
            image.is_good = false;
            report.findings.push(Finding {
                place: Place::blob(root).within(layout.label()),
                problem,
            });
        }
        verdicts.push(Some(verdict));
    }
    Ok(verdicts)
}
