//! The options for renaming images.

use clap::Args;
use sealift::Error;
use sealift::image::rename::Rename;

use super::remedy;

/// New names for images.
#[derive(Args)]
pub struct RenameArgs {
    /// Rename images, for example httpd=harbor.local/web; repeatable
    ///
    /// FROM is one of these:
    ///
    /// - an image, by name (httpd:2.4), or by digest or image id, which may be shortened (sha256:4bf5b2)
    ///
    /// - a repository (httpd)
    ///
    /// - a registry (127.0.0.1:5210, quay.io), or a path in one (docker.io/library, or user/ with a slash)
    ///
    /// TO replaces FROM, and the rest of the name is kept: the tag, and the part after a path. For an image without a
    /// name, TO needs a tag.
    ///
    /// If several renames match an image, the most specific one applies: the image, then the repository, then the
    /// longest path. A rename that matches no image, or is ambiguous, is refused.
    #[arg(long = "rename", value_name = "FROM=TO", value_parser = parse)]
    renames: Vec<Rename>,
}

impl RenameArgs {
    /// The renames, as given.
    pub fn renames(&self) -> &[Rename] {
        &self.renames
    }
}

/// Parses a rename. An error includes the correct form.
fn parse(text: &str) -> Result<Rename, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}; {}", remedy::hint(&hint)),
        None => error.to_string(),
    })
}
