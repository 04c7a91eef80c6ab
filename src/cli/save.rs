//! `sealift save`.

use std::path::PathBuf;

use clap::Args;
use sealift::interrupt::Interrupt;
use sealift::oci::{PlatformSelection, Reference};

use super::bars;
use super::output::{Outcome, Output};
use super::size::{self, Size};

/// Seal images into one archive
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift save httpd:2.4 redis@sha256:... -o images.tar
  sealift save --images list.txt --platform linux/amd64,linux/arm64 -o images.tar
  sealift save httpd:2.4 --mirror docker.io=harbor.local/dockerhub -o images.tar
  sealift save httpd:2.4 --split 4G -o /media/stick/images.tar     # images.tar.001, ...
  sealift save httpd:2.4 -o - | ssh host sudo sealift load -
  sealift save --from all.tar --from more.tar httpd:2.4 -o some.tar

The last line that it prints, `archive sha256:...`, pins everything in the archive:
carry it by another way and give it to `load --expect`.")]
pub struct Save {
    /// Images, as in `docker pull`
    #[arg(value_name = "IMAGE")]
    images: Vec<Reference>,
    /// Write the archive here; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the images come from: `registry`, or an OCI layout folder or archive; several are merged
    #[arg(long, value_name = "registry|PATH", default_value = "registry")]
    from: Vec<PathBuf>,
    /// Take image names from a file, one a line; `#` begins a comment
    #[arg(long = "images", value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Every image that the `--from` archives name
    #[arg(long, conflicts_with_all = ["images", "list"])]
    all: bool,
    /// `host` (Linux on this architecture), `all`, or OS/ARCH[/VARIANT], comma-separated
    #[arg(long, value_name = "PLATFORM", default_value = "host")]
    platform: PlatformSelection,
    /// Cut the archive into parts FILE.001, FILE.002, ... of at most SIZE: 700MB, 4G, 4GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split: Option<u64>,
    /// Begin anew instead of resuming an interrupted save, and leave nothing when interrupted
    #[arg(long)]
    no_resume: bool,
    /// Blobs fetched at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// How registries are reached.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Ask MIRROR for images of REGISTRY first, for example docker.io=harbor.local/dockerhub; repeatable, in order
    #[arg(long, value_name = "REGISTRY=MIRROR")]
    mirror: Vec<String>,
    /// Allow plain HTTP, and certificates that cannot be verified, for this registry; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    /// Trust the certificate authorities in this PEM file as well
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Present this client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The client certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// How often a request is tried
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Give up on a connection that is silent for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
}
