//! The images of findings, not repeated without end.

use std::collections::BTreeSet;

use sealift::image::names;

use crate::cli::output::{Failure, Output};

/// How many images are named again for another finding.
pub const REPEATED: usize = 10_000;

/// Names the images of findings: each one once, and again as long as that is not too often. One manifest may have
/// thousands of findings and of tags.
pub struct Named<T> {
    before: BTreeSet<T>,
    repeated: usize,
}

impl<T: Clone + Ord> Named<T> {
    /// None were named yet.
    pub fn new() -> Named<T> {
        Named {
            before: BTreeSet::new(),
            repeated: 0,
        }
    }

    /// The images to name for a finding, and the number of those that were named before and are left out.
    pub fn images(&mut self, images: impl IntoIterator<Item = T>) -> (Vec<T>, usize) {
        let mut named = Vec::new();
        let mut left_out = 0;
        for image in images {
            if self.before.contains(&image) {
                if self.repeated == REPEATED {
                    left_out += 1;
                    continue;
                }
                self.repeated += 1;
            } else {
                self.before.insert(image.clone());
            }
            named.push(image);
        }
        (named, left_out)
    }
}

/// Says how many images are among those above.
pub fn print_left_out(output: &Output, left_out: usize) -> Result<(), Failure> {
    if left_out == 0 {
        return Ok(());
    }
    let images = names::count(left_out, "image");
    output.line(format_args!("  in {images} named above"))
}

/// The same in the document of a finding.
pub fn note_left_out(document: &mut serde_json::Value, left_out: usize) {
    if left_out > 0 {
        document["images_named_before"] = serde_json::json!(left_out);
    }
}
