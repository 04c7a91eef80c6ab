//! Opens the stores, archives and registries that images come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealift::archive::{self, ArchiveSource, Opened};
use sealift::containerd::{self, ContainerdStore};
use sealift::docker;
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::recover::{self, DockerSaveStore, LocalStore, RecoverSource};
use sealift::source::{Fallback, Source, Upstream};
use sealift::{Error, Result};

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

/// What opens stores, archives and registries.
pub struct Stores<'a> {
    /// The data root of a stopped Docker.
    pub data_root: Option<&'a Path>,
    /// Which containerd.
    pub containerd: &'a ContainerdArgs,
    /// Which storage of podman.
    pub podman: &'a PodmanStoreArgs,
    /// How registries are reached.
    pub registry: &'a RegistryArgs,
    /// Whether layers are recompressed.
    pub rebuild: recover::Rebuild,
    /// Where stores look for what they lack.
    pub upstream: Proofs,
    /// Where temporary data is kept.
    pub spool: archive::Options,
    /// Receives reports.
    pub progress: &'a Arc<dyn Progress>,
    /// Stops long work.
    pub interrupt: &'a Interrupt,
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
    /// The images of Docker.
    pub fn docker(&self) -> Result<Box<dyn Source>> {
        let options = docker::Options::from_process();
        let store =
            docker::source::local_store(&options, self.data_root, &self.spool, self.progress.as_ref())?;
        self.recovering(store)
    }

    /// The containerd of the options, else the one at a socket, else one that is found.
    pub fn containerd(&self, socket: Option<PathBuf>) -> Result<Box<dyn Source>> {
        let options = self.containerd.options();
        let options = containerd::Options {
            address: options.address.clone().or(socket),
            ..options
        };
        self.recovering(Box::new(ContainerdStore::open(&options, &self.spool)?))
    }

    /// The images of podman, or of CRI-O.
    pub fn podman(&self, engine: Engine, socket: Option<PathBuf>) -> Result<Box<dyn Source>> {
        let progress = self.progress.clone();
        let store = self.podman.store(engine, socket, &self.spool, progress)?;
        self.recovering(Box::new(store))
    }

    /// The local engine.
    pub fn engine(&self) -> Result<Box<dyn Source>> {
        let Chosen { engine, socket } = Chosen::by(self.containerd, self.podman);
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
                let probe = self.registry.reachable(self.progress.clone(), self.interrupt)?;
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
        let engine = Chosen::by(self.containerd, self.podman).engine;
        let is_absent = match engine {
            Engine::Docker => Stores::has_no_docker(),
            Engine::Podman => self.podman.is_absent(),
            Engine::Containerd | Engine::Crio => false,
        };
        if is_absent {
            return Ok(None);
        }
        match self.engine() {
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
        let source = self.registry.source(self.progress.clone(), self.interrupt)?;
        Ok(Some(Box::new(source)))
    }

    /// An archive or layout.
    pub fn archive(&self, files: &[PathBuf]) -> Result<Box<dyn Source>> {
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
                let source = self.registry.reachable(self.progress.clone(), self.interrupt)?;
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
