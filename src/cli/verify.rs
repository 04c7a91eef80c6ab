//! `sealift verify`.

use std::path::PathBuf;

use clap::Args;
use sealift::archive::content::Content;
use sealift::archive::{self, segments};
use sealift::interrupt::Interrupt;
use sealift::oci::Digest;

use sealift::{Error, Place, Problem, Result};

use super::bars;
use super::output::{Outcome, Output};
use super::size::{self, Size};

/// Check every byte of an archive, and report all that is wrong
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift verify images.tar
  sealift verify images.tar --expect sha256:...     # the line that save printed
  sealift verify --quick images.tar.001             # an archive in parts; digests only
  sealift verify --json images.tar | jq .findings

Checked are: the tar's structure, digests and sizes, media types, diff ids of gzip, zstd and plain layers,
that everything named is there and everything there is named.")]
pub struct Verify {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Check digests only: leave out decompressing layers for their diff ids
    #[arg(long)]
    quick: bool,
}

/// Which archives are read, and how.
#[derive(Args)]
pub struct ArchiveArgs {
    /// Archives, parts of archives (.001), OCI layout folders; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Accept only the archive with this digest, as `save` printed it; once for each archive
    #[arg(long, value_name = "DIGEST")]
    expect: Vec<Digest>,
    /// Refuse a layer that decompresses to more than this
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = size::parse)]
    max_layer_size: u64,
    /// Where compressed archives and standard input are spooled to
    #[arg(long, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// Threads that check
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

impl ArchiveArgs {
    /// Opens the archives one after the other, each compared with what is expected of it.
    pub fn open<'a>(
        &'a self,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = Result<Box<dyn Content>>> + 'a> {
        let archives = segments::by_archive(&self.files);
        if !self.expect.is_empty() && self.expect.len() != archives.len() {
            return Err(Error::Usage {
                message: format!("{} archives, but {} --expect", archives.len(), self.expect.len()),
                hint: Some("give --expect once for each archive, in the same order".into()),
            });
        }
        let mut options = archive::Options { interrupt: interrupt.clone(), ..archive::Options::default() };
        if let Some(tmpdir) = &self.tmpdir {
            options.tmpdir.clone_from(tmpdir);
        }
        let mut expected = self.expect.iter();
        Ok(archives.into_iter().map(move |files| {
            let content = archive::open(&files, &options)?;
            let found = content.digest();
            match expected.next() {
                Some(expected) if *expected != found => {
                    let place = Place::default().within(content.label());
                    Err(Error::refused(place, Problem::Unexpected { expected: *expected, found }))
                }
                _ => Ok(content),
            }
        }))
    }
}
