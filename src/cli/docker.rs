//! The options of a load into Docker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sealift::Result;
use sealift::docker::attach::{Allowed, Restart, Rules};
use sealift::docker::stopped::StoppedStore;
use sealift::docker::{self, Docker};
use sealift::load::AnyTarget;

use super::engines::LoadContext;

/// How images are loaded into Docker.
#[derive(Args)]
#[command(next_help_heading = "Docker options")]
pub struct DockerArgs {
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

impl DockerArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--attach", self.attach != How::Auto),
            ("--trust-recorded", self.trust_recorded),
            ("--allow-restart", self.allow_restart),
            ("--stop-command", self.stop_command.is_some()),
            ("--data-root", self.data_root.is_some()),
            ("--keep-push-digest", self.keep_push_digest),
        ];
        given
            .into_iter()
            .find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// The Docker of this host, or the store of a stopped one.
    ///
    /// # Errors
    ///
    /// If no Docker answers, or what an earlier load left there cannot be undone.
    pub fn target(&self, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        let options = self.options(context.is_expected);
        if !context.is_dry_run {
            // Before the engine is asked for anything: it may be down because of what is repaired.
            docker::repair(&options.folder, self.start_command.as_deref(), context.progress)?;
        }
        if let Some(root) = &self.data_root {
            return Ok(Box::new(StoppedStore::find(Some(root), &options)?));
        }
        match Docker::connect(&options) {
            Ok(docker) => Ok(Box::new(docker)),
            Err(error) => match self.stopped(&options) {
                Some(stopped) => Ok(Box::new(stopped)),
                None => Err(error),
            },
        }
    }

    fn options(&self, is_expected: bool) -> docker::Options {
        docker::Options {
            attach: Rules {
                allowed: match self.attach {
                    How::Auto => Allowed::Auto,
                    How::Live => Allowed::Live,
                    How::Offline => Allowed::Offline,
                    How::None => Allowed::None,
                },
                trust_recorded: self.trust_recorded || is_expected,
            },
            restart: Restart {
                allowed: self.allow_restart,
                stop: self.stop_command.clone(),
                start: self.start_command.clone(),
            },
            keep_push_digest: self.keep_push_digest,
            ..docker::Options::from_process()
        }
    }

    /// The store of this host's engine, if it is not running and `--attach offline` was given.
    fn stopped(&self, options: &docker::Options) -> Option<StoppedStore> {
        let is_meant = matches!(self.attach, How::Offline) && StoppedStore::is_of(&options.environment);
        is_meant.then(|| StoppedStore::find(None, options).ok()).flatten()
    }
}
