//! The stores, archives and registries that images come from, as `save --from` and `repair --from` name them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sealift::archive::{self, ArchiveSource, Opened, segments};
use sealift::containerd::{self, Containerd, ContainerdStore};
use sealift::docker::{self, Docker};
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::inventory::EngineInventory;
use sealift::progress::Progress;
use sealift::recover::{self, DockerSaveStore, LocalStore, RecoverSource};
use sealift::source::{Fallback, Source, Upstream};
use sealift::{Error, Result};

use super::archive::SpoolArgs;
use super::containerd::ContainerdArgs;
use super::engines;
use super::podman::PodmanStoreArgs;
use super::registry::RegistryArgs;

/// A local engine.
pub struct Chosen {
    /// Which one.
    pub engine: Engine,
    /// Its socket, if the reason for it names one.
    pub socket: Option<PathBuf>,
}

impl Chosen {
    /// The local engine that `auto` asks: the one that an option is for, else the one that the host suggests, else Docker.
    pub fn by(containerd: &ContainerdArgs, podman: &PodmanStoreArgs) -> Chosen {
        let asked = |engine| Chosen { engine, socket: None };
        if containerd.given().is_some() {
            return asked(Engine::Containerd);
        }
        if podman.given().is_some() {
            return asked(Engine::Podman);
        }
        match engines::facts().choose() {
            Some(choice) => Chosen {
                engine: choice.engine,
                socket: choice.socket,
            },
            None => asked(Engine::Docker),
        }
    }
}

/// A place on this host that `--from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The images of an engine.
    Engine(Engine),
    /// An archive or layout.
    Path(PathBuf),
}

impl Local {
    /// Parses the name of an engine, or a path.
    pub fn parse(text: &str) -> Local {
        match engines::by_word(text) {
            Some(engine) => Local::Engine(engine),
            // In skopeo's form. A layout or archive is recognised by its content.
            None => Local::Path(match text.strip_prefix("dir:") {
                Some(folder) if !Path::new(text).exists() => folder.into(),
                _ => text.into(),
            }),
        }
    }

    /// The path of an archive or layout.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Local::Path(path) => Some(path),
            Local::Engine(_) => None,
        }
    }
}

/// Which stores images come from, and how registries are reached.
#[derive(Args)]
pub struct StoreArgs {
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// Read the classic store of a stopped Docker
    ///
    /// DIR is its data root, such as /mnt/disk/var/lib/docker.
    #[arg(long, value_name = "DIR", help_heading = "Docker options")]
    pub data_root: Option<PathBuf>,
    #[command(flatten)]
    containerd: ContainerdArgs,
    #[command(flatten)]
    podman: PodmanStoreArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl StoreArgs {
    /// The local engine that `auto` asks.
    pub fn chosen(&self) -> Chosen {
        Chosen::by(&self.containerd, &self.podman)
    }

    /// What an engine of this host has.
    pub fn inventory(&self, engine: Engine) -> Result<EngineInventory> {
        let word = engine.word();
        Ok(match engine {
            Engine::Docker => {
                let docker = Docker::connect(&docker::Options::from_process())?;
                EngineInventory::new(word, docker.inventory()?)
            }
            Engine::Containerd => {
                let containerd = Containerd::connect(&self.containerd.options())?;
                EngineInventory::new(word, containerd.inventory()?)
            }
            Engine::Podman | Engine::Crio => {
                let podman = super::podman::connect(engine, self.podman.options())?;
                EngineInventory::new(word, podman.inventory()?)
            }
        })
    }

    /// The first option for an engine that was given.
    pub fn given(&self) -> Option<&'static str> {
        let docker = self.data_root.as_ref().map(|_| "--data-root");
        docker.or_else(|| self.without_effect(|_| false).map(|(option, _)| option))
    }

    /// The first option for containerd or podman that was given, if that is not asked, and its engine.
    pub fn without_effect(&self, is_asked: impl Fn(Engine) -> bool) -> Option<(&'static str, Engine)> {
        let containerd = self.containerd.given().filter(|_| !is_asked(Engine::Containerd));
        let podman = self.podman.given();
        let podman = podman.filter(|_| !is_asked(Engine::Podman) && !is_asked(Engine::Crio));
        let containerd = containerd.map(|option| (option, Engine::Containerd));
        containerd.or_else(|| podman.map(|option| (option, Engine::Podman)))
    }

    /// Refuses options for engines that are not asked.
    pub fn check(&self, is_asked: impl Fn(Engine) -> bool) -> Result<()> {
        if let Some((option, engine)) = self.without_effect(&is_asked) {
            return Err(Error::Usage {
                message: format!("{option} is for {engine}, and --from asks no {engine}"),
                hint: Some(format!("add --from {engine}, or leave out {option}").into()),
            });
        }
        if self.data_root.is_none() || is_asked(Engine::Docker) {
            return Ok(());
        }
        Err(Error::Usage {
            message: "--data-root names a store of Docker, and --from asks no Docker".into(),
            hint: Some("add --from docker, or leave out --data-root".into()),
        })
    }

    /// What opens the stores. Temporary data is kept beside the `output` file unless an option says otherwise.
    pub fn stores<'a>(
        &'a self,
        rebuild: recover::Rebuild,
        upstream: Proofs,
        output: Option<&Path>,
        progress: &'a Arc<dyn Progress>,
        interrupt: &'a Interrupt,
    ) -> Stores<'a> {
        Stores {
            args: self,
            rebuild,
            upstream,
            spool: self.spool.options(interrupt, output),
            is_trial: false,
            progress,
            interrupt,
        }
    }
}

/// Archives that are named by one or all of their parts, and are opened once.
pub struct Archives(Vec<Vec<PathBuf>>);

impl Archives {
    /// The archives among places.
    pub fn among<'a>(places: impl Iterator<Item = &'a Local>) -> Archives {
        let paths: Vec<PathBuf> = places.filter_map(Local::path).cloned().collect();
        Archives(segments::by_archive(&paths))
    }

    /// The files of the archive that a path belongs to; `None` if they were taken before.
    fn take(&mut self, path: &PathBuf) -> Option<Vec<PathBuf>> {
        let at = self.0.iter().position(|files| files.contains(path))?;
        Some(self.0.remove(at))
    }
}

/// Opens stores, archives and registries.
pub struct Stores<'a> {
    args: &'a StoreArgs,
    /// Whether layers are recompressed.
    rebuild: recover::Rebuild,
    /// Where stores look for what they lack.
    upstream: Proofs,
    /// Where temporary data is kept.
    spool: archive::Options,
    /// Whether recompressed layers are not kept.
    is_trial: bool,
    progress: &'a Arc<dyn Progress>,
    interrupt: &'a Interrupt,
}

/// What proves digests that a store cannot prove, and has what it lacks.
pub enum Proofs {
    /// Nothing.
    None,
    /// The registries that names lead to.
    Registries,
    /// This source.
    Source(Arc<dyn Source>),
}

impl Stores<'_> {
    /// Keeps no recompressed layers: they cannot be read.
    #[must_use]
    pub fn for_a_trial(self) -> Self {
        Stores {
            is_trial: true,
            ..self
        }
    }

    /// A place; `None` for a further part of an archive that was opened.
    pub fn local(&self, local: &Local, archives: &mut Archives) -> Result<Option<Box<dyn Source>>> {
        match local {
            Local::Engine(engine) => self.engine(*engine, None).map(Some),
            Local::Path(path) => archives.take(path).map(|files| self.archive(&files)).transpose(),
        }
    }

    /// The images of Docker.
    pub fn docker(&self) -> Result<Box<dyn Source>> {
        let options = docker::Options::from_process();
        let store = docker::source::local_store(
            &options,
            self.args.data_root.as_deref(),
            &self.spool,
            self.progress.as_ref(),
        )?;
        self.recovering(store)
    }

    /// The containerd of the options, else the one at a socket, else one that is found.
    fn containerd(&self, socket: Option<PathBuf>) -> Result<Box<dyn Source>> {
        let options = self.args.containerd.options();
        let options = containerd::Options {
            address: options.address.clone().or(socket),
            ..options
        };
        self.recovering(Box::new(ContainerdStore::open(&options, &self.spool)?))
    }

    /// The images of podman, or of CRI-O.
    fn podman(&self, engine: Engine, socket: Option<PathBuf>) -> Result<Box<dyn Source>> {
        let progress = self.progress.clone();
        let store = self.args.podman.store(engine, socket, &self.spool, progress)?;
        self.recovering(Box::new(store))
    }

    /// The local engine that `auto` asks.
    pub fn chosen(&self) -> Result<Box<dyn Source>> {
        let Chosen { engine, socket } = self.args.chosen();
        self.engine(engine, socket)
    }

    /// The images of an engine, which may be the one at a socket.
    fn engine(&self, engine: Engine, socket: Option<PathBuf>) -> Result<Box<dyn Source>> {
        match engine {
            Engine::Docker => self.docker(),
            Engine::Containerd => self.containerd(socket),
            Engine::Podman | Engine::Crio => self.podman(engine, socket),
        }
    }

    /// The local engine for images whose digest it can prove, then the registry.
    pub fn auto(&self) -> Result<Option<Box<dyn Source>>> {
        Ok(match (self.engine_if_there()?, self.registry()?) {
            (Some(engine), Some(registry)) => {
                let probe = self
                    .args
                    .registry
                    .reachable(self.progress.clone(), self.interrupt)?;
                let both = Fallback::new(vec![engine, registry]);
                Some(Box::new(
                    both.preferring_proof(Box::new(probe), self.progress.clone()),
                ))
            }
            (engine, registry) => engine.or(registry),
        })
    }

    /// The local engine, if it can be asked.
    fn engine_if_there(&self) -> Result<Option<Box<dyn Source>>> {
        let engine = self.args.chosen().engine;
        let is_absent = match engine {
            Engine::Docker => Stores::has_no_docker(),
            Engine::Podman => self.args.podman.is_absent(),
            Engine::Containerd | Engine::Crio => false,
        };
        if is_absent {
            return Ok(None);
        }
        match self.chosen() {
            Ok(source) => Ok(Some(source)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.progress
                    .note(&format!("the local {engine} is skipped: {error}"));
                Ok(None)
            }
        }
    }

    fn has_no_docker() -> bool {
        docker::source::absence(&docker::Options::from_process()).is_some()
    }

    /// The registries, if they may be asked.
    pub fn registry(&self) -> Result<Option<Box<dyn Source>>> {
        if !matches!(self.upstream, Proofs::Registries) {
            return Ok(None);
        }
        let source = self.args.registry.source(self.progress.clone(), self.interrupt)?;
        Ok(Some(Box::new(source)))
    }

    /// An archive or layout.
    fn archive(&self, files: &[PathBuf]) -> Result<Box<dyn Source>> {
        match archive::open_any(files, &self.spool)? {
            Opened::Layout(layout) => {
                let upstream = Upstream::new(self.upstream()?, self.progress.clone());
                Ok(Box::new(ArchiveSource::new(layout)?.asking(upstream)))
            }
            Opened::DockerSave(save) => self.recovering(Box::new(DockerSaveStore::new(save)?)),
        }
    }

    /// The source of what a store lacks. Registries have short timeouts.
    fn upstream(&self) -> Result<Option<Arc<dyn Source>>> {
        Ok(match &self.upstream {
            Proofs::None => None,
            Proofs::Registries => {
                let source = self
                    .args
                    .registry
                    .reachable(self.progress.clone(), self.interrupt)?;
                Some(Arc::new(source))
            }
            Proofs::Source(source) => Some(Arc::clone(source)),
        })
    }

    fn recovering(&self, store: Box<dyn LocalStore>) -> Result<Box<dyn Source>> {
        let upstream = self.upstream()?;
        let options = recover::Options {
            rebuild: self.rebuild,
            tmpdir: self.spool.tmpdir.clone(),
            is_trial: self.is_trial,
            ..recover::Options::default()
        };
        Ok(Box::new(RecoverSource::new(
            store,
            upstream,
            options,
            self.progress.clone(),
            self.interrupt.clone(),
        )))
    }
}
