//! `sealift load`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sealift::archive::Layout;
use sealift::docker::attach::{Allowed, Restart, Rules};
use sealift::docker::stopped::StoppedStore;
use sealift::docker::{self, Docker};
use sealift::interrupt::Interrupt;
use sealift::layout::{ArchiveTarget, FolderTarget};
use sealift::load::{self, LoadOptions, Target};
use sealift::oci::Platform;
use sealift::{Error, Result};

use super::archive::ArchiveArgs;
use super::bars;
use super::loaded::{self, Printed};
use super::output::{Failure, Outcome, Output};
use super::rename::RenameArgs;
use super::size;
use super::table::TableArgs;
use super::to::To;

/// Verify archives and load their images into an engine, a layout or an archive
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift load images.tar
  sudo sealift load images.tar --expect sha256:...     # the line that save printed
  sealift load images.tar --dry-run                    # what would be sent, named and attached
  sudo sealift load images.tar --image httpd:2.4 --rename httpd=harbor.local/web
  sudo sealift load images.tar --rename docker.io/library=harbor.local/lib
  sudo sealift load images.tar --attach offline --allow-restart
  sudo sealift load images.tar --data-root /mnt/golden/var/lib/docker
  ssh build sealift save -o - httpd:2.4 | sudo sealift load -
  sealift load images.tar --to oci:images              # create an OCI layout, or add to it
  sealift load images.tar --image httpd:2.4 --to archive:httpd.tar

`load` verifies every byte before it sends anything, and hashes it again while it sends it. It sends only \
what the engine does not have. It sets the names last, when all content is in the engine. If the load fails \
before that, existing names are unchanged.

Docker's classic store shows a digest only after it is attached, which needs root: see `--attach`. If a digest \
cannot be attached, the image is loaded and the exit code is 6.")]
pub struct Load {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Where to load the images
    ///
    /// `auto`, `docker`: the engine of this host. DOCKER_HOST, DOCKER_CONTEXT and the current context say where Docker is.
    ///
    /// `oci:PATH`: an OCI layout folder. It is created, or the images are added to those that it has.
    ///
    /// `archive:FILE`: an archive as `save` writes it, of the images that are selected. It replaces FILE.
    #[arg(long, value_name = "auto|docker|oci:PATH|archive:FILE", default_value_t = To::Auto)]
    to: To,
    /// Split an archive into parts of at most SIZE: 700MB, 4G, 4GiB
    ///
    /// The parts are named FILE.001, FILE.002, ... Without it, parts are joined.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split: Option<u64>,
    /// Load only these images, by name, repository or digest; repeatable
    ///
    /// A digest may be shortened.
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    rename: RenameArgs,
    /// Load this platform, for example linux/arm64
    ///
    /// Without it, an engine gets the platform that a pull would choose, and a layout or archive gets all. The engine need
    /// not be able to run it. A layout or archive can get several, comma-separated.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// How to attach digests to Docker's classic store
    #[arg(long, value_enum, default_value_t = How::Auto)]
    attach: How,
    /// Attach digests that the archive records without proof
    ///
    /// Any archive can claim any digest, so the exit code is 6. --expect implies this option.
    #[arg(long)]
    trust_recorded: bool,
    /// Allow sealift to restart the engine to attach digests
    #[arg(long)]
    allow_restart: bool,
    /// Command that stops the engine [default: systemctl]
    #[arg(long, value_name = "COMMAND", requires = "start_command")]
    stop_command: Option<String>,
    /// Command that starts the engine [default: systemctl]
    #[arg(long, value_name = "COMMAND", requires = "stop_command")]
    start_command: Option<String>,
    /// Write names and digests into the store of a stopped Docker
    ///
    /// DIR is the data root of a classic store, such as a golden image's var/lib/docker. The store must have the images
    /// already.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["allow_restart", "stop_command"])]
    data_root: Option<PathBuf>,
    /// Make a later `docker push` keep the digests where it can
    ///
    /// Records the layers' compressed digests in Docker's classic store, as a pull does. The exit code is 6 if a push
    /// would change a digest all the same.
    #[arg(long)]
    keep_push_digest: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip images that cannot be loaded
    ///
    /// These are images that are damaged, artifacts, without a name, only for another platform, or with uncompressed
    /// layers where the engine needs compressed ones.
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    table: TableArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// The first method that works; offline only with --allow-restart
    Auto,
    /// Only methods that keep the engine running
    Live,
    /// Only while the engine is stopped; needs --allow-restart if it is running
    Offline,
    /// Attach no digests
    None,
}

impl Load {
    /// Verifies, plans, applies, and reports what is shown.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.check()?;
        self.archive.check()?;
        match &self.to {
            To::Auto | To::Docker => self.load_into_docker(output, interrupt),
            To::Folder(path) => self.load(&FolderTarget::new(path), output, interrupt),
            To::Archive(path) => self.load(&ArchiveTarget::new(path, self.split)?, output, interrupt),
        }
    }

    /// Refuses options that the target does not have.
    fn check(&self) -> Result<()> {
        let refuse = |option: &str, kind: &str| {
            Err(Error::Usage {
                message: format!("{option} is for {kind}, not for --to {}", self.to),
                hint: None,
            })
        };
        if self.split.is_some() && !matches!(self.to, To::Archive(_)) {
            return refuse("--split", "--to archive:FILE");
        }
        let given = [
            ("--attach", self.attach != How::Auto),
            ("--trust-recorded", self.trust_recorded),
            ("--allow-restart", self.allow_restart),
            ("--stop-command", self.stop_command.is_some()),
            ("--data-root", self.data_root.is_some()),
            ("--keep-push-digest", self.keep_push_digest),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if !self.to.is_engine() => refuse(option, "Docker"),
            _ => Ok(()),
        }
    }

    fn load_into_docker(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let progress = bars::progress(output);
        let options = docker::Options {
            attach: Rules {
                allowed: match self.attach {
                    How::Auto => Allowed::Auto,
                    How::Live => Allowed::Live,
                    How::Offline => Allowed::Offline,
                    How::None => Allowed::None,
                },
                trust_recorded: self.trust_recorded || self.archive.are_expected(),
            },
            restart: Restart {
                allowed: self.allow_restart,
                stop: self.stop_command.clone(),
                start: self.start_command.clone(),
            },
            keep_push_digest: self.keep_push_digest,
            ..docker::Options::from_process()
        };
        if !self.dry_run {
            // Before the engine is asked for anything: it may be down because of what is repaired.
            docker::repair(&options.folder, self.start_command.as_deref(), progress.as_ref())?;
        }
        if let Some(root) = &self.data_root {
            return self.load(&StoppedStore::find(Some(root), &options)?, output, interrupt);
        }
        match Docker::connect(&options) {
            Ok(docker) => self.load(&docker, output, interrupt),
            Err(error) => match self.stopped(&options) {
                Some(stopped) => self.load(&stopped, output, interrupt),
                None => Err(error.into()),
            },
        }
    }

    /// The store of this host's engine, if it is not running and `--attach offline` was given.
    fn stopped(&self, options: &docker::Options) -> Option<StoppedStore> {
        let is_meant = matches!(self.attach, How::Offline) && StoppedStore::is_of(&options.environment);
        is_meant.then(|| StoppedStore::find(None, options).ok()).flatten()
    }

    fn load<T: Target>(&self, target: &T, output: &Output, interrupt: &Interrupt) -> Outcome {
        let progress = bars::progress(output);
        let archives: Vec<Box<dyn Layout>> = self
            .archive
            .open(interrupt)?
            .map(|(_, layout)| layout)
            .collect::<Result<_>>()?;
        let mut observer = Printed::new(output);
        let loaded = load::load(
            target,
            &archives,
            &self.options(),
            &mut observer,
            progress.as_ref(),
            interrupt,
        );
        match loaded {
            Ok(load::Outcome::Planned(plan)) => {
                progress.done();
                loaded::print_plan(output, &plan)
            }
            Ok(load::Outcome::Loaded(report)) => {
                progress.done();
                loaded::print(
                    output,
                    &report,
                    self.platform.is_empty(),
                    self.table.width(std::io::stdout()),
                )
            }
            Err(error) if observer.refused.is_empty() => Err(error.into()),
            Err(error) => Err(Failure::Findings(error, observer.refused)),
        }
    }

    /// What is loaded, and how.
    fn options(&self) -> LoadOptions {
        LoadOptions {
            images: self.image.clone(),
            renames: self.rename.renames().to_vec(),
            platforms: self.platform.clone(),
            keep_going: self.keep_going,
            dry_run: self.dry_run,
            verify: self.archive.verify_options(),
        }
    }
}
