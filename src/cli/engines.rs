//! The engines that images are loaded into: which one `auto` means, and the options that only some of them have.
//!
//! An engine has its place in [`ALL`], its options in a file of their own, and its constructor in
//! [`EngineArgs::target`].

use std::path::Path;

use clap::Args;
use sealift::docker::endpoint::{self, DEFAULT_SOCKET, Endpoint};
use sealift::host::{self, Choice, Engine, Facts};
use sealift::load::AnyTarget;
use sealift::progress::Progress;
use sealift::{Error, Result};

use super::containerd::ContainerdLoadArgs;
use super::docker::DockerArgs;
use super::output::Output;
use super::plugin;
use super::podman::PodmanLoadArgs;

/// The engines that images can be loaded into.
pub const ALL: &[Engine] = &[Engine::Docker, Engine::Containerd, Engine::Podman, Engine::Crio];

/// Those that Docker's options are for.
const DOCKER: &[Engine] = &[Engine::Docker];
/// Those that containerd's options are for.
pub const CONTAINERD: &[Engine] = &[Engine::Containerd];
/// Those that podman's options are for.
pub const PODMAN: &[Engine] = &[Engine::Podman, Engine::Crio];

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
    // `docker sealift` is about Docker, whatever else the host has.
    let of_plugin = || plugin::is_plugin().then(|| ("docker sealift".into(), Some(DEFAULT_SOCKET.into())));
    let named = named.or_else(of_plugin);
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
    podman: PodmanLoadArgs,
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
        let given = [
            (self.docker.given(), DOCKER),
            (self.containerd.given(), CONTAINERD),
            (self.podman.given(), PODMAN),
        ];
        given
            .into_iter()
            .filter_map(|(option, engines)| Some((option?, engines)))
    }

    /// The engine that `auto` means.
    ///
    /// # Errors
    ///
    /// As [`choice`].
    pub fn choose(&self) -> Result<Choice> {
        choice(&self.given().collect::<Vec<_>>(), facts)
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

/// The engine that `auto` means: the one that these options are for, or by the host.
///
/// # Errors
///
/// [`Error::Usage`] if no engine has all options; if the host has no engine.
pub fn choice(given: &[(&'static str, &'static [Engine])], facts: impl FnOnce() -> Facts) -> Result<Choice> {
    match (given.first(), common(given)?.as_slice()) {
        (Some((option, _)), [only]) => Ok(Choice::asked(*only, format!("{option} applies only to it"))),
        (Some((option, _)), [first, others @ ..]) => {
            let of_host = facts().choose();
            let fits = |choice: &Choice| choice.engine == *first || others.contains(&choice.engine);
            let asked = || Choice::asked(*first, format!("{option} applies to it"));
            Ok(of_host.filter(fits).unwrap_or_else(asked))
        }
        _ => facts().choose().ok_or_else(host::absence),
    }
}

/// The engines that have all of these options; none without options.
fn common(given: &[(&'static str, &'static [Engine])]) -> Result<Vec<Engine>> {
    let Some((option, engines)) = given.first() else {
        return Ok(Vec::new());
    };
    let mut common = engines.to_vec();
    for (other, others) in given {
        common.retain(|engine| others.contains(engine));
        if common.is_empty() {
            let names = |engines: &[Engine]| {
                let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
                names.join(" or ")
            };
            return Err(Error::Usage {
                message: format!(
                    "{option} is for {}, and {other} for {}: no engine has both",
                    names(engines),
                    names(others)
                ),
                hint: Some("leave out one of them".into()),
            });
        }
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_without_an_engine_in_common_are_refused() {
        const DOCKER: &[Engine] = &[Engine::Docker];
        const CONTAINERD: &[Engine] = &[Engine::Containerd];
        const BOTH: &[Engine] = &[Engine::Podman, Engine::Crio];
        assert_eq!(common(&[]).unwrap(), []);
        assert_eq!(common(&[("--root", BOTH)]).unwrap(), BOTH);
        assert_eq!(common(&[("--attach", DOCKER)]).unwrap(), DOCKER);
        let refused = |given: &[(&'static str, &'static [Engine])]| common(given).unwrap_err().to_string();
        assert_eq!(
            refused(&[("--attach", DOCKER), ("--pin", CONTAINERD)]),
            "--attach is for Docker, and --pin for containerd: no engine has both"
        );
        assert_eq!(
            refused(&[("--pin", CONTAINERD), ("--force", BOTH)]),
            "--pin is for containerd, and --force for podman or CRI-O: no engine has both"
        );
    }
}
