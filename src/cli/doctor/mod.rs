//! `sealift doctor`.
//!
//! - `docker`, `containerd`, `podman`: what each engine tells
//! - `report`: what `doctor` prints of each engine

mod containerd;
mod docker;
mod podman;
mod report;

use std::io;
use std::path::Path;

use clap::Args;
use sealift::archive;
use sealift::docker::attach::folder::Folder;
use sealift::error::ErrorKind;
use sealift::host::{self, Choice, Engine, Facts};
use sealift::interrupt::Interrupt;
use sealift::load::Space;
use sealift::{Error, Result};

use super::containerd::ContainerdArgs;
use super::output::{Failure, Outcome, Output, error_json};
use super::podman::PodmanArgs;
use super::{bars, engines};
use report::{EngineReport, print_error, print_space, space_json};

/// Show the engines of this host, how digests get shown, and what blocks them
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift doctor
  sudo sealift doctor --repair     # undo what an interrupted load left

Without --repair, `doctor` changes nothing.")]
pub struct Doctor {
    /// Undo what an interrupted load left
    ///
    /// Unmounts files, clears the mirror from Docker's memory, and starts Docker if it was left stopped. Also removes
    /// manifests kept for images that Docker no longer has, and the temporary files of loads into root's podman.
    #[arg(long)]
    repair: bool,
    /// Command that starts Docker if it was left stopped
    ///
    /// [default: the one that the load used]
    #[arg(long, value_name = "COMMAND", requires = "repair")]
    start_command: Option<String>,
    #[command(flatten)]
    containerd: ContainerdArgs,
    #[command(flatten)]
    podman: PodmanArgs,
}

impl Doctor {
    /// Reports, and repairs with `--repair`.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        interrupt.check()?;
        let progress = bars::progress(output);
        let folder = Folder::default();
        if self.repair && !rustix::process::geteuid().is_root() {
            return Err(Error::Io {
                action: "undo",
                path: "what a load left".into(),
                offset: None,
                source: io::Error::from(io::ErrorKind::PermissionDenied).into(),
                hint: Some("run it with sudo".into()),
            }
            .into());
        }
        let start = self.start_command.as_deref();
        let has_repaired = self.repair && sealift::docker::repair(&folder, start, progress.as_ref())?;
        let repaired = self.repair && sealift::podman::remove_leftovers() || has_repaired;
        progress.done();
        let leftover = leftover(&folder)?;
        let facts = engines::facts();
        let given = self.given();
        // Options of several engines are for none of them alone.
        let choice = match given.as_slice() {
            [_] => Some(engines::choice(&given, || facts.clone())?),
            _ => facts.choose(),
        };
        let host = Host {
            docker: docker::examine(self.repair),
            containerd: containerd::examine(&facts, &self.containerd),
            podman: podman::examine(&facts, choice.as_ref(), &self.podman),
            named: given
                .iter()
                .filter_map(|(_, engines)| engines.first().copied())
                .collect(),
            choice,
            facts,
        };
        if output.is_json() {
            let docker = host.docker.as_ref();
            output.json(&serde_json::json!({
                "schema": 1,
                "repaired": repaired,
                "leftover": leftover,
                "root": rustix::process::geteuid().is_root(),
                "docker": docker.ok().map(docker::Examined::document).transpose()?,
                "digests": docker.ok().map(docker::Examined::kinds),
                "error": docker.err().map(error_json),
                "engines": host.reports(),
                "auto": host.choice,
                "host": host.facts,
                "temporary": temporary().as_ref().map(space_json),
            }))?;
        } else {
            host.print(output)?;
            output.line(match (leftover, repaired) {
                (None, _) => "leftovers: not known without root",
                (Some(true), _) => {
                    "leftovers: an interrupted load left something; `sealift doctor --repair` undoes it"
                }
                (Some(false), true) => "leftovers: undone",
                (Some(false), false) => "leftovers: none",
            })?;
        }
        let leftover = (leftover == Some(true)).then_some(ErrorKind::NotShown);
        Ok(host.failure().or(leftover))
    }

    /// The options that were given and are for some engines, with those engines.
    fn given(&self) -> Vec<(&'static str, &'static [Engine])> {
        let given = [
            (self.containerd.given(), engines::CONTAINERD),
            (self.podman.given(), engines::PODMAN),
        ];
        let given = given.into_iter();
        given
            .filter_map(|(option, engines)| Some((option?, engines)))
            .collect()
    }
}

/// What was found on this host.
struct Host {
    facts: Facts,
    choice: Option<Choice>,
    docker: Result<docker::Examined>,
    containerd: Vec<containerd::Examined>,
    podman: Vec<podman::Examined>,
    /// The engines that options are for.
    named: Vec<Engine>,
}

impl Host {
    /// Whether Docker is on this host, or nothing else is.
    fn has_docker(&self) -> bool {
        let engines = self.facts.engines();
        self.docker.is_ok() || engines.contains(&Engine::Docker)
    }

    /// Every engine that was found.
    fn reports(&self) -> Vec<EngineReport> {
        let docker = match &self.docker {
            Ok(docker) => Some(docker.report()),
            Err(_) if !self.has_docker() => None,
            Err(error) => Some(EngineReport::unreachable(
                Engine::Docker,
                &docker::address(),
                error,
            )),
        };
        let containerd = self.containerd.iter().map(containerd::Examined::report);
        let podman = self.podman.iter().map(podman::Examined::report);
        docker.into_iter().chain(containerd).chain(podman).collect()
    }

    /// Prints every engine, and which one `load` takes.
    fn print(&self, output: &Output) -> Result<(), Failure> {
        match &self.docker {
            Ok(docker) => docker.print(output)?,
            Err(error) if self.has_docker() => print_error(output, error)?,
            Err(_) => {}
        }
        for containerd in &self.containerd {
            containerd.print(output)?;
        }
        for podman in &self.podman {
            podman.print(output)?;
        }
        match &self.choice {
            Some(Choice { engine, reason, .. }) => {
                output.line(format_args!(
                    "load: into {engine}, unless --to names another ({reason})"
                ))?;
            }
            None => print_error(output, &host::absence())?,
        }
        let Some(temporary) = temporary() else {
            return Ok(());
        };
        print_space(output, "free space for temporary files", &temporary)
    }

    /// Why `load` would fail without `--to`, or why an engine that an option is for cannot be asked.
    fn failure(&self) -> Option<ErrorKind> {
        let named = self.named.iter().map(|engine| self.failure_of(*engine, None));
        let named = named.max().flatten();
        match &self.choice {
            Some(choice) => named.max(self.failure_of(choice.engine, choice.socket.as_deref())),
            None if self.named.is_empty() => Some(host::absence().kind()),
            None => named,
        }
    }

    /// Why an engine cannot be asked, at this socket if there is one.
    fn failure_of(&self, engine: Engine, socket: Option<&Path>) -> Option<ErrorKind> {
        match engine {
            Engine::Docker => self.docker.as_ref().err().map(Error::kind),
            Engine::Containerd => {
                let is_examined = self.containerd.iter().any(|one| Some(one.socket()) == socket);
                // An option may name another one.
                let socket = socket.filter(|_| is_examined);
                let is_chosen =
                    |one: &&containerd::Examined| socket.is_none_or(|socket| one.socket() == socket);
                let mut chosen = self.containerd.iter().filter(is_chosen).peekable();
                let first = chosen.peek().and_then(|one| one.error()).map(Error::kind);
                match chosen.any(|one| one.error().is_none()) {
                    true => None,
                    false => first.or(Some(ErrorKind::Engine)),
                }
            }
            Engine::Podman | Engine::Crio => {
                let mut chosen = self.podman.iter().filter(|one| one.engine() == engine);
                chosen.find_map(podman::Examined::error).map(Error::kind)
            }
        }
    }
}

/// Free space for temporary files: decompressed archives, standard input, recompressed layers.
fn temporary() -> Option<Space> {
    Space::of(&archive::Options::default().tmpdir)
}

/// Whether an interrupted load of root left something; `None` if only root can know.
fn leftover(folder: &Folder) -> Result<Option<bool>> {
    let is_root = rustix::process::geteuid().is_root();
    match folder.has_leftover() {
        Ok(found) => Ok(Some(found || is_root && sealift::podman::has_leftovers())),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}
