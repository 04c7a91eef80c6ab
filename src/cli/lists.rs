//! Lists of image names, as `--images` reads them.

use std::path::Path;

use sealift::image::asked::Asked;
use sealift::{Error, Result};

/// Reads a list; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<Result<Asked>>> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    Ok(listed(path, &text.map_err(Error::io("read", path))?))
}

/// All values, or else every error.
pub fn all_of<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => all.push(one),
            Err(error) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(all),
        false => Err(Error::of_several(errors)),
    }
}

/// The references in a list, one per line. Some editors put a byte order mark before it.
fn listed(path: &Path, text: &str) -> Vec<Result<Asked>> {
    let mut references = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let name = line.split_once('#').map_or(line, |(name, _)| name).trim();
        if name.is_empty() {
            continue;
        }
        references.push(Asked::parse(name).map_err(|error| {
            Error::Usage {
                message: format!("{}, line {number}: {error}", path.display()),
                hint: error
                    .hint()
                    .or_else(|| Some("a list has one image per line; `#` begins a comment".into())),
            }
        }));
    }
    references
}
