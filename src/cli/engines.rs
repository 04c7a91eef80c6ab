//! The engines that images are loaded into: which one `auto` means, and the options that only some of them have.
//!
//! An engine has its place in [`ALL`], its options in a file of their own, and its constructor in
//! [`EngineArgs::target`].

use std::path::Path;

use clap::Args;
use sealift::Result;
use sealift::docker::endpoint::{self, Endpoint};
use sealift::host::{self, Choice, Engine, Facts};
use sealift::load::AnyTarget;
use sealift::progress::Progress;

use super::containerd::ContainerdLoadArgs;
use super::docker::DockerArgs;
use super::output::Output;
use super::podman::PodmanArgs;

/// The engines that images can be loaded into.
pub const ALL: &[Engine] = &[Engine::Docker, Engine::Containerd, Engine::Podman, Engine::Crio];

/// The engine of a word on the command line.
pub fn by_word(word: &str) -> Option<Engine> {
    ALL.iter().copied().find(|engine| engine.word() == word)
}

/// The words of all engines.
pub fn words() -> String {
    let words: Vec<&str> = ALL.iter().map(|engine| engine.word()).collect();
    words.join(", ")
}

/// What this host has.
pub fn facts() -> Facts {
    let docker = endpoint::Environment::from_process();
    // A broken setting of Docker's is an error once Docker is asked.
    let named_by = docker.named_by().unwrap_or_default();
    let named = named_by.map(|by| match Endpoint::find(&docker) {
        Ok(Endpoint::Unix(socket)) => (by, Some(socket)),
        _ => (by, None),
    });
    Facts::look(&host::Environment::from_process(named))
}

/// Notes which of several engines was chosen.
pub fn tell(output: &Output, choice: &Choice) {
    if !output.is_quiet() {
        let Choice { engine, reason, .. } = choice;
        output.note(&format!(
            "loading into {engine}: {reason}; --to names another engine"
        ));
    }
}

/// The options that only some engines have.
#[derive(Args)]
pub struct EngineArgs {
    #[command(flatten)]
    docker: DockerArgs,
    #[command(flatten)]
    containerd: ContainerdLoadArgs,
    #[command(flatten)]
    podman: PodmanArgs,
}

/// What an engine needs to know of a load.
pub struct LoadContext<'a> {
    /// Whether nothing may be changed.
    pub is_dry_run: bool,
    /// Whether `--expect` vouches for what the archives record.
    pub is_expected: bool,
    /// The engine's socket, if `auto` has found one.
    pub socket: Option<&'a Path>,
    /// Receives notes and warnings.
    pub progress: &'a dyn Progress,
}

impl EngineArgs {
    /// The options that were given and only some engines have, with those engines.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &'static [Engine])> {
        const DOCKER: &[Engine] = &[Engine::Docker];
        const CONTAINERD: &[Engine] = &[Engine::Containerd];
        const PODMAN: &[Engine] = &[Engine::Podman, Engine::Crio];
        let given = [
            (self.docker.given(), DOCKER),
            (self.containerd.given(), CONTAINERD),
            (self.podman.given(), PODMAN),
        ];
        given
            .into_iter()
            .filter_map(|(option, engines)| Some((option?, engines)))
    }

    /// The engine that `auto` means: the one that a given option is for, or by the host.
    ///
    /// # Errors
    ///
    /// If the host has none.
    pub fn choose(&self) -> Result<Choice> {
        if let Some((option, [engine, ..])) = self.given().next() {
            return Ok(Choice::asked(*engine, format!("{option} is for it")));
        }
        facts().choose().ok_or_else(host::absence)
    }

    /// Connects to an engine.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn target(&self, engine: Engine, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        match engine {
            Engine::Docker => self.docker.target(context),
            Engine::Containerd => self.containerd.target(context),
            Engine::Podman | Engine::Crio => self.podman.target(engine, context),
        }
    }
}
