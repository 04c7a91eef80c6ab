//! `sealift verify`: archives, images in registries, and the storage of registries.
//!
//! - [`targets`]: which of them are meant
//! - [`archives`]: archives and layout folders
//! - [`registry`]: images in registries
//! - [`storage`]: the storage folder of a registry
//! - [`metrics`]: results for Prometheus

mod archives;
mod metrics;
pub mod named;
pub mod registry;
pub mod storage;
mod targets;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use sealift::error::ErrorKind;
use sealift::interrupt::Interrupt;
use sealift::oci::PlatformSelection;
use sealift::registry::verify::Depth;
use sealift::registry_storage::Sample;
use sealift::verify::Options;
use sealift::{Error, Result};
use serde_json::Value;

use super::archive::{JobsArgs, ReadArgs};
use super::lists::ListArgs;
use super::output::{Failure, Outcome, Output};
use super::registry::RegistryArgs;
use super::report::{self, ReportFile, SharedReport};
use super::{ending, files};
use metrics::Metrics;
use targets::Targets;

/// Verify every byte of archives, of images in registries, or of a registry's storage
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift verify images.tar
  sealift verify images.tar --expect sha256:...     # the line that save printed
  sealift verify images.tar --allowed-signers allowed_signers
  sealift verify --digests-only images.tar.001      # an archive in parts
  sealift verify images.tar --report images.html    # for people who sign off a transfer
  sealift verify --json images.tar | jq '.archives[].findings'
  sealift verify harbor.local/app:1 harbor.local/web@sha256:...
  sealift verify --images list.txt --since state.json --metrics verify.prom
  sealift verify --all harbor.local/app --quick
  sudo sealift verify --registry-root /var/lib/registry
  sudo sealift verify --registry-root /var/lib/registry --sample 5%

What is FILE, and what is IMAGE:
  - FILE exists, begins with `/` or `.`, or ends like an archive (.tar, .tar.gz, .tgz, .tar.001)
  - everything else is IMAGE, named as in `docker pull`; ./app:1 is a file of that name

Of an archive it verifies:
  - the structure of the tar
  - digests, sizes and media types
  - diff ids of gzip, zstd and uncompressed layers
  - that every blob that is named is present, and every blob that is present is named
  - that names and platforms do not contradict each other

Of an image in a registry it fetches and verifies every manifest, config and layer, each blob once. Nothing is kept \
on disk. Wrong bytes are fetched a second time before they are reported.

Of a registry's storage folder it verifies the digests and sizes of all blobs, and that links, tags and manifests \
lead to what is there. It names every image that something wrong affects. It writes nothing, and the registry may run.")]
pub struct Verify {
    /// Archives, parts of archives, or layout folders (`-` is standard input); or images in registries
    ///
    /// One part (.001) stands for its whole archive. A folder is an OCI layout, or one of skopeo's `dir:`.
    #[arg(value_name = "FILE|IMAGE", required_unless_present_any = ["registry_root", "list"])]
    targets: Vec<PathBuf>,
    /// Verify the images that a file names; repeatable
    ///
    /// A list with one name per line, a compose file, Kubernetes manifests, or another file that `sealift images`
    /// reads. `-` is standard input.
    #[arg(long = "images", value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Verify all tags of the repositories that are named
    #[arg(long, conflicts_with = "list")]
    all: bool,
    /// Platforms to verify: `host`, `all`, or OS/ARCH[/VARIANT], comma-separated
    ///
    /// An image in a registry must have all of them. One without an index must have one of them.
    ///
    /// [default: those that the registry has]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<PlatformSelection>,
    /// Skip what the last run verified, and write to FILE what this one did
    ///
    /// Blobs with digests that FILE has are not fetched again: what became of them in the registry since is not found. An
    /// image is verified anew if its tag has another digest. FILE need not exist.
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    since: Option<PathBuf>,
    /// Write the result to FILE as metrics, for the textfile collector of Prometheus' node_exporter
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Write a report of archives to FILE, for people who sign off a transfer: FILE.html, FILE.json or FILE.md
    ///
    /// It says what is in the archives, whose digests these are, what was verified, when, where and by whom. It is written
    /// also if something is wrong.
    #[arg(
        long,
        value_name = "FILE",
        value_parser = report::parse,
        conflicts_with_all = ["list", "all", "platform", "since", "metrics"]
    )]
    report: Option<ReportFile>,
    /// Verify the storage folder of a registry (CNCF distribution, version 2 or 3)
    ///
    /// DIR is what the registry's configuration calls `rootdirectory`, such as /var/lib/registry.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["targets", "list", "all", "platform", "since", "expect", "allowed_signers", "quick", "digests_only", "report"]
    )]
    registry_root: Option<PathBuf>,
    /// Hash only a part of the blobs: a percentage, or one of equal parts, as in 3/7
    ///
    /// The digests decide which blobs belong to a part, so it has the same ones in every run. With 1/7 to 7/7, one on
    /// each day of a week, every blob is hashed once a week. Links and manifests are always verified.
    #[arg(long, value_name = "N%|K/N", requires = "registry_root")]
    sample: Option<Sample>,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    jobs: JobsArgs,
    /// Verify digests only, without decompressing layers for their diff ids
    #[arg(long, conflicts_with = "since")]
    digests_only: bool,
    /// As --digests-only; of images in a registry, compare sizes only
    ///
    /// Of these it fetches manifests and configs, and asks the registry for the sizes of everything else.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    lists: ListArgs,
}

impl Verify {
    /// Verifies. Writes metrics or a report however it ends.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        match (&self.report, &self.metrics) {
            (Some(file), _) => self.with_report(file, output, interrupt),
            (None, Some(path)) => self.with_metrics(path, output, interrupt),
            (None, None) => self.verify(None, output, interrupt).map(|(failure, _)| failure),
        }
    }

    fn with_metrics(&self, path: &Path, output: &Output, interrupt: &Interrupt) -> Outcome {
        let started = Instant::now();
        let found = Arc::new(Mutex::new(None));
        let write = {
            let (path, found) = (path.to_path_buf(), Arc::clone(&found));
            move |exit, error: Option<Value>| {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
                let found = found.filter(|_| error.is_none());
                let mut metrics = found.unwrap_or_else(|| Metrics::of_failed_run(exit));
                metrics.add_run(started.elapsed());
                files::write(&path, metrics.text(&path).as_bytes())
            }
        };
        ending::written(path, write, output, interrupt, || {
            let (failure, metrics) = self.verify(None, output, interrupt)?;
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
            Ok(failure)
        })
    }

    fn with_report(&self, file: &ReportFile, output: &Output, interrupt: &Interrupt) -> Outcome {
        let report = SharedReport::begin(file, &self.targets, self.is_quick())?;
        let write = {
            let report = report.clone();
            move |exit, error| report.end(exit, error)
        };
        ending::written(file.path(), write, output, interrupt, || {
            let (failure, _) = self.verify(Some(&report), output, interrupt)?;
            Ok(failure)
        })
    }

    fn is_quick(&self) -> bool {
        self.quick || self.digests_only
    }

    fn verify(
        &self,
        report: Option<&SharedReport>,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Result<(Option<ErrorKind>, Metrics), Failure> {
        if let Some(root) = &self.registry_root {
            return storage::run(root, self.sample, &self.jobs, output, interrupt);
        }
        let options = Options {
            quick: self.is_quick(),
            ..self.read.verify_options(&self.jobs)
        };
        let lists = self.lists.read(&self.list, output)?;
        match Targets::parse(&self.targets, &lists, self.all)? {
            Targets::Files(files) => {
                self.check_for_files()?;
                let failure = archives::run(&files, &self.read, &options, report, output, interrupt)?;
                Ok((failure, Metrics::default()))
            }
            Targets::Images(_) if report.is_some() => Err(Error::Usage {
                message: "--report is for archives, and images in registries were named".into(),
                hint: Some("--json and --metrics report on registries".into()),
            }
            .into()),
            Targets::Images(images) => {
                if self.read.are_expected() {
                    return Err(Error::Usage {
                        message: "--expect is for archives".into(),
                        hint: Some("an image is pinned by its digest: NAME@sha256:...".into()),
                    }
                    .into());
                }
                if self.read.demand_signatures() {
                    return Err(Error::Usage {
                        message: "--allowed-signers is for archives, and images in registries were named"
                            .into(),
                        hint: None,
                    }
                    .into());
                }
                let run = registry::Run {
                    images,
                    platforms: self.platform.as_ref(),
                    since: self.since.as_deref(),
                    depth: match (self.quick, self.digests_only) {
                        (true, _) => Depth::Sizes,
                        (false, true) => Depth::Digests,
                        (false, false) => Depth::DiffIds,
                    },
                    max_layer_size: options.max_layer_size,
                    jobs: self.jobs.number(),
                    registry: &self.registry,
                };
                run.run(output, interrupt)
            }
        }
    }

    /// Refuses options that have no effect on archives.
    fn check_for_files(&self) -> Result<()> {
        let given = [
            ("--platform", self.platform.is_some()),
            ("--since", self.since.is_some()),
            ("--metrics", self.metrics.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((option, _)) => Err(Error::Usage {
                message: format!("{option} is for images in registries, and a file was named"),
                hint: Some(format!("leave out {option}").into()),
            }),
        }
    }
}
