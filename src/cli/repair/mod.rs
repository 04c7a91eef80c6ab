//! `sealift repair`: images in a registry, and the storage folder of a registry.
//!
//! - [`from`]: where good bytes come from
//! - [`registry`]: images in a registry; [`storage`]: a storage folder
//! - [`blobs`]: the blobs in their results

mod blobs;
mod from;
mod registry;
mod storage;

use std::path::PathBuf;

use clap::Args;
use sealift::Error;
use sealift::interrupt::Interrupt;
use sealift::oci::Reference;

use super::archive::JobsArgs;
use super::output::{Failure, Outcome, Output, hint_of};
use super::table::TableArgs;
use from::FromArgs;

/// Replace damaged and missing blobs in a registry, or in its storage while it runs
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift repair harbor.local/app:1 --from docker --dry-run
  sealift repair harbor.local/app:1 harbor.local/web@sha256:... --from images.tar
  sealift repair harbor.local/app:1 --from registry://other.local/mirror
  sudo sealift repair --registry-root /var/lib/registry --from docker --dry-run
  sudo sealift repair --registry-root /var/lib/registry --from docker
  sudo sealift repair --registry-root /var/lib/registry --from images.tar
  sudo sealift repair --registry-root /var/lib/registry --from registry://other.local/mirror

It verifies the images as `verify IMAGE` does, or the storage as `verify --registry-root` does, and looks for the digest \
of each blob that is wrong, empty, truncated or missing.

Through the registry's API, a blob is fetched, verified and uploaded, and then fetched and verified again. Many \
registries keep a damaged file all the same: CNCF distribution writes only what is missing. Such a blob is `kept`, and \
its file can be replaced with --registry-root.

In the storage folder, a blob is written where the registry does not look, verified, and renamed to its place with the \
owner and mode that the old file has. Nothing is deleted.

What a mended manifest names is verified next.

Exit codes:
  0  all good, or all of it mended; with --dry-run: all of it can be mended
  1  there are errors that other bytes do not mend; `verify` names them
  3  a file could not be read or written
  4  the registry kept a damaged blob, or did not answer
  5  an engine did not give the bytes that it has
  7  for some blobs no good bytes were found")]
pub struct Repair {
    /// Images in a registry, by tag or digest
    #[arg(value_name = "IMAGE", required_unless_present = "registry_root")]
    images: Vec<Reference>,
    /// Repair the storage folder of a registry (CNCF distribution, version 2 or 3)
    ///
    /// DIR is what the registry's configuration calls `rootdirectory`, such as /var/lib/registry.
    #[arg(long, value_name = "DIR", conflicts_with = "images")]
    registry_root: Option<PathBuf>,
    /// Show where the bytes of each blob would come from, and change nothing
    ///
    /// What a damaged manifest names is not known before it is mended.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    from: FromArgs,
}

impl Repair {
    /// Repairs.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.from.check()?;
        match &self.registry_root {
            Some(root) => storage::run(self, root, output, interrupt),
            None => registry::run(self, &self.images, output, interrupt),
        }
    }
}

/// Prints a result, and why sources could not be searched.
fn show(
    output: &Output,
    document: impl FnOnce() -> serde_json::Value,
    print: impl FnOnce() -> Result<(), Failure>,
    unsearched: &[Error],
) -> Result<(), Failure> {
    match output.is_json() {
        true => output.json(&serde_json::json!({ "schema": 1, "repair": document() }))?,
        false => print()?,
    }
    for error in unsearched {
        output.warn(&error.to_string());
        if let Some(hint) = hint_of(error) {
            output.hint(&hint);
        }
    }
    Ok(())
}
