//! The options that say where images come from.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use sealift::archive::writer::Inputs;
use sealift::docker;
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::inventory::EngineInventory;
use sealift::progress::Progress;
use sealift::recover;
use sealift::registry::RegistrySource;
use sealift::source::{Fallback, Source};
use sealift::{Error, Result};

use super::stores::{Archives, Local, Proofs, StoreArgs};

/// Where images come from.
#[derive(Args)]
pub struct FromArgs {
    /// Where the images come from; repeatable, in order
    ///
    /// `auto`: the local engine for images whose digest it can prove, then the registry, then the local engine for the
    /// rest. If there are several engines: the one that the environment names, or else that of Kubernetes, Docker,
    /// podman, containerd or CRI-O, in this order.
    ///
    /// `registry`: registries and mirrors only.
    ///
    /// `docker`: the local Docker, also for images without a digest.
    ///
    /// `containerd`: the containerd of this host, such as that of a Kubernetes node.
    ///
    /// `podman`: the podman of this user, with the additional image stores that it reads.
    ///
    /// `crio`: the storage of CRI-O.
    ///
    /// PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of `docker save`.
    #[arg(
        long,
        value_name = "auto|registry|docker|containerd|podman|crio|PATH",
        default_value = "auto"
    )]
    from: Vec<From>,
    /// Do not contact any registry
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Auto,
    Registry,
    Local(Local),
}

impl From {
    fn local(&self) -> Option<&Local> {
        match self {
            From::Local(local) => Some(local),
            From::Auto | From::Registry => None,
        }
    }
}

impl FromStr for From {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<From, Infallible> {
        Ok(match text {
            "auto" => From::Auto,
            "registry" => From::Registry,
            local => From::Local(Local::parse(local)),
        })
    }
}

/// Whether layers are recompressed.
#[derive(Args)]
pub struct RebuildArgs {
    /// Recompress uncompressed layers into their original, digest-identical form
    ///
    /// Docker's classic store and podman keep layers uncompressed. The digest proves that a layer was recompressed correctly.
    #[arg(long, value_enum, default_value_t = How::Auto)]
    rebuild: How,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// Recompress where a known encoder reproduces the layer; save other layers uncompressed
    Auto,
    /// Save such layers uncompressed
    Never,
    /// Refuse images that are not verified with all layers compressed (exit code 6)
    Require,
}

impl RebuildArgs {
    /// Whether nothing may be written unless everything is proven.
    pub fn requires_proof(&self) -> bool {
        matches!(self.rebuild, How::Require)
    }

    /// The option for stores.
    pub fn rebuild(&self) -> recover::Rebuild {
        match self.rebuild {
            How::Auto => recover::Rebuild::Auto,
            How::Never => recover::Rebuild::Never,
            How::Require => recover::Rebuild::Require,
        }
    }
}

impl FromArgs {
    /// The first option that was given and says where images come from.
    pub fn given(&self) -> Option<&'static str> {
        let given = [("--from", self.from != [From::Auto]), ("--offline", self.offline)];
        let given = given.into_iter().find(|(_, is_given)| *is_given);
        given.map(|(option, _)| option).or_else(|| self.stores.given())
    }

    /// The first option for an engine that `asked` is not.
    pub fn without_effect(&self, asked: Option<Engine>) -> Option<&'static str> {
        let option = self.stores.without_effect(|engine| asked == Some(engine));
        option.map(|(option, _)| option)
    }

    /// The registries that names lead to, without mirrors.
    pub fn direct(&self, progress: &Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        self.stores.registry.direct(progress.clone(), interrupt)
    }

    /// The registries that names lead to, and their mirrors.
    pub fn registries(&self, progress: &Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        self.stores.registry.source(progress.clone(), interrupt)
    }

    /// An archive or layout as it is: what it lacks is not looked for.
    pub fn opened(
        &self,
        path: &Local,
        progress: &Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<Option<Box<dyn Source>>> {
        let rebuild = recover::Rebuild::Never;
        let open = self
            .stores
            .stores(rebuild, Proofs::None, None, progress, interrupt);
        open.local(path, &mut Archives::among(std::iter::once(path)))
    }

    /// What an engine of this host has.
    pub fn inventory(&self, engine: Engine) -> Result<EngineInventory> {
        self.stores.inventory(engine)
    }

    /// Number of attempts for each request.
    pub fn tries(&self) -> u32 {
        self.stores.registry.tries()
    }

    /// Whether naming no image means all images.
    pub fn is_archives(&self) -> bool {
        self.from
            .iter()
            .all(|from| matches!(from, From::Local(Local::Path(_))))
    }

    /// Whether the source was left to sealift, so that an image without a digest is not what was requested.
    pub fn is_auto(&self) -> bool {
        self.stores.data_root.is_none() && self.from.contains(&From::Auto)
    }

    /// Why the local Docker was not asked, if it was to be.
    pub fn unasked(&self) -> Option<String> {
        let absence = docker::source::absence(&docker::Options::from_process());
        absence.filter(|_| self.is_auto() && self.stores.chosen().engine == Engine::Docker)
    }

    /// The sources' names for messages.
    pub fn places(&self) -> String {
        let place = |from: &From| match (from, &self.stores.data_root) {
            (From::Auto | From::Local(Local::Engine(Engine::Docker)), Some(root)) => {
                root.display().to_string()
            }
            (From::Auto, None) => format!("the local {}", self.stores.chosen().engine),
            (From::Registry, _) => "a registry".into(),
            (From::Local(Local::Engine(engine)), _) => format!("the local {engine}"),
            (From::Local(Local::Path(path)), _) => path.display().to_string(),
        };
        self.from.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// Whether the images of this host's running Docker are among the sources.
    pub fn has_docker(&self) -> bool {
        let is_docker = |from: &From| match from {
            From::Auto => self.stores.chosen().engine == Engine::Docker,
            From::Registry => false,
            From::Local(local) => *local == Local::Engine(Engine::Docker),
        };
        self.stores.data_root.is_none() && self.from.iter().any(is_docker)
    }

    /// The folder of temporary files.
    pub fn tmpdir(&self, interrupt: &Interrupt, output: Option<&Path>) -> PathBuf {
        self.stores.spool.options(interrupt, output).tmpdir
    }

    /// The files and folders among the sources.
    pub fn inputs(&self) -> Inputs {
        Inputs::of_paths(
            self.from
                .iter()
                .filter_map(From::local)
                .filter_map(Local::path)
                .cloned(),
        )
    }

    /// Opens the sources. Temporary data is kept beside the `output` file unless an option says otherwise. In a trial,
    /// recompressed layers are not kept.
    pub fn source(
        &self,
        all: bool,
        output: Option<&Path>,
        rebuild: recover::Rebuild,
        is_trial: bool,
        progress: &Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Source>> {
        self.check()?;
        let upstream = match self.offline {
            true => Proofs::None,
            false => Proofs::Registries,
        };
        let open = self.stores.stores(rebuild, upstream, output, progress, interrupt);
        let open = match is_trial {
            true => open.for_a_trial(),
            false => open,
        };
        // The parts of an archive are one source, at the place of its first part.
        let mut archives = Archives::among(self.from.iter().filter_map(From::local));
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        for from in &self.from {
            match from {
                From::Registry => sources.extend(open.registry()?),
                // A registry cannot be saved as a whole, so `--all` means the engine's images.
                From::Auto if self.stores.data_root.is_some() => sources.push(open.docker()?),
                From::Auto if all => sources.push(open.chosen()?),
                From::Auto => sources.extend(open.auto()?),
                From::Local(local) => sources.extend(open.local(local, &mut archives)?),
            }
        }
        match sources.pop() {
            None => Err(Error::Usage {
                message: "no source is available: no engine was found, and --offline asks no registry".into(),
                hint: Some("leave out --offline, or name an archive with --from".into()),
            }),
            Some(only) if sources.is_empty() => Ok(only),
            Some(last) => {
                sources.push(last);
                Ok(Box::new(Fallback::new(sources)))
            }
        }
    }

    /// Refuses options that contradict each other or have no effect.
    fn check(&self) -> Result<()> {
        if self.offline && self.from.contains(&From::Registry) {
            return Err(Error::Usage {
                message: "--from registry asks a registry, and --offline asks none".into(),
                hint: Some("leave out one of them".into()),
            });
        }
        self.stores.check(|engine| {
            self.from.iter().any(|from| match from {
                // With a data root `auto` is the Docker that it belongs to.
                From::Auto => engine != Engine::Containerd || self.stores.data_root.is_none(),
                From::Registry => false,
                From::Local(local) => *local == Local::Engine(engine),
            })
        })
    }
}
