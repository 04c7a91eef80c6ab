//! Names of archives that say that they are compressed.

use std::path::Path;

use sealift::error::{NewFile, Remedy};
use sealift::{Error, Result};

/// Extensions of compressed files.
const COMPRESSED: [&str; 14] = [
    "gz", "tgz", "zst", "tzst", "xz", "txz", "bz2", "tbz", "tbz2", "lz", "lz4", "lzma", "z", "zip",
];

/// Refuses to write a plain tar under the name of a compressed one, which readers would rely on.
pub fn is_plain_tar(output: &Path) -> Result<()> {
    let extension = output.extension().and_then(|extension| extension.to_str());
    let Some(extension) = extension.filter(|text| COMPRESSED.contains(&text.to_ascii_lowercase().as_str()))
    else {
        return Ok(());
    };
    let stem = output.with_extension("");
    let plain = match stem
        .extension()
        .is_some_and(|inner| inner.eq_ignore_ascii_case("tar"))
    {
        true => stem,
        false => output.with_extension("tar"),
    };
    Err(Error::Usage {
        message: format!(
            "{}: an archive is an uncompressed tar, not .{extension}: its layers are compressed already, and blobs are \
             read at their offsets",
            output.display()
        ),
        hint: Some(Remedy::SaveTo(NewFile::Whole(plain)).into()),
    })
}
