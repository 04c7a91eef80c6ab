//! Refuses false declarations of layers that are left out: of those that are present, and of what no image has as a
//! layer.

use crate::archive::Layout;
use crate::archive::format::{INDEX, OMITTED};
use crate::error::{Finding, Place, Problem};
use crate::verify::Verification;

/// Checks what the archive declares to leave out, after its images were followed.
pub(super) fn check(verification: &mut Verification<'_>, layout: &dyn Layout) {
    let place = Place::default().within(layout.label()).entry(INDEX);
    for layer in &layout.omitted().layers {
        if verification.is_omitted(layer) {
            continue;
        }
        let why = match layout.stored(layer) {
            Some(_) => "is in the archive",
            None => "is no layer of an image in it",
        };
        let reason = format!("{OMITTED}: {layer} {why}");
        verification.add(Finding {
            place: place.clone(),
            problem: Problem::Document { reason },
        });
    }
}
