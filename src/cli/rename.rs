//! How the command line gives images other names.

use clap::Args;
use sealift::Error;
use sealift::image::rename::Rename;

/// New names for images.
#[derive(Args)]
pub struct RenameArgs {
    /// Give images other names: httpd:2.4=web:1, httpd=harbor.local/web, quay.io=harbor.local/quay; repeatable
    ///
    /// FROM is one image by its whole name (httpd:2.4) or by digest or image id, which may be shortened
    /// (sha256:4bf5b2); a repository (httpd); or what names begin with, a registry (127.0.0.1:5210, quay.io) or a path
    /// in one (docker.io/library, or user/ with a slash). TO takes its place, and the rest of the name stays: the tag,
    /// and what stands behind a path. An image without a name needs a tag in TO.
    ///
    /// Of several that match an image the narrowest counts: the image, then the repository, then the longest path. A
    /// rename that matches no image, or could mean several things, is refused.
    #[arg(long = "rename", value_name = "FROM=TO", value_parser = parse)]
    renames: Vec<Rename>,
}

impl RenameArgs {
    /// The renames, as they were given.
    pub fn renames(&self) -> &[Rename] {
        &self.renames
    }
}

/// Parses a new name; what is wrong with it comes with how it is written.
fn parse(text: &str) -> Result<Rename, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}
