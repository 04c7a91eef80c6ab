//! The engines that images are loaded into, and the options that only some of them have.
//!
//! An engine is a variant of [`Engine`], its options in a file of their own, and its constructor in
//! [`EngineArgs::target`].

use clap::Args;
use sealift::Result;
use sealift::load::AnyTarget;
use sealift::progress::Progress;

use super::containerd::ContainerdLoadArgs;
use super::docker::DockerArgs;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker.
    Docker,
    /// containerd.
    Containerd,
}

impl Engine {
    /// All engines.
    pub const ALL: &[Engine] = &[Engine::Docker, Engine::Containerd];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Containerd => "containerd",
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Docker => "Docker",
            Engine::Containerd => "containerd",
        }
    }

    /// The words of all engines.
    pub fn words() -> String {
        let words: Vec<&str> = Engine::ALL.iter().map(|engine| engine.word()).collect();
        words.join(", ")
    }
}

/// The options that only some engines have.
#[derive(Args)]
pub struct EngineArgs {
    #[command(flatten)]
    docker: DockerArgs,
    #[command(flatten)]
    containerd: ContainerdLoadArgs,
}

/// What an engine needs to know of a load.
pub struct LoadContext<'a> {
    /// Whether nothing may be changed.
    pub is_dry_run: bool,
    /// Whether `--expect` vouches for what the archives record.
    pub is_expected: bool,
    /// Receives notes and warnings.
    pub progress: &'a dyn Progress,
}

impl EngineArgs {
    /// The first option that was given and only one engine has, with that engine.
    pub fn given(&self) -> Option<(&'static str, Engine)> {
        let docker = self.docker.given().map(|option| (option, Engine::Docker));
        let containerd = || self.containerd.given().map(|option| (option, Engine::Containerd));
        docker.or_else(containerd)
    }

    /// Connects to an engine.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn target(&self, engine: Engine, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        match engine {
            Engine::Docker => self.docker.target(context),
            Engine::Containerd => self.containerd.target(),
        }
    }
}
