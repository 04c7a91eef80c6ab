//! Attestations have to be about what they are attached to: their statements name its digest.

use std::collections::HashSet;

use crate::archive::{Attached, Graphs, Layout};
use crate::error::{Error, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::Digest;
use crate::trust::MAX_ENVELOPE;
use crate::verify::Verification;

/// Notes attestations of something else. Statements that name nothing, as buildkit's may, are not among them. What cannot be
/// read is reported elsewhere.
pub(super) fn check(
    verification: &mut Verification<'_>,
    layout: &dyn Layout,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut graphs = Graphs::new(layout);
    let mut checked: HashSet<(Digest, Digest)> = HashSet::new();
    for entry in layout.entries() {
        interrupt.check()?;
        let Ok(named) = graphs.named(entry) else {
            continue;
        };
        for attached in Attached::all(&named) {
            let subject = attached.subject;
            if !checked.insert((attached.digest, subject)) {
                continue;
            }
            let mut is_other = false;
            let read = attached.each_document(layout, MAX_ENVELOPE, interrupt, &mut |document| {
                let statement = document.statement.as_ref();
                is_other |= statement
                    .is_some_and(|statement| !statement.is_about_nothing() && !statement.is_about(&subject));
            });
            if let Err(Error::Interrupted) = read {
                return Err(Error::Interrupted);
            }
            if is_other {
                verification.find(&attached.digest, Problem::StatementOfAnother { subject });
            }
        }
    }
    Ok(())
}
