//! The options that say where images come from.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use sealift::archive::segments;
use sealift::archive::writer::Inputs;
use sealift::docker;
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::recover;
use sealift::source::{Fallback, Source};
use sealift::{Error, Result};

use super::archive::SpoolArgs;
use super::containerd::ContainerdArgs;
use super::podman::PodmanStoreArgs;
use super::registry::RegistryArgs;
use super::stores::{Chosen, Proofs, Stores};

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
    /// Recompress uncompressed layers into their original, digest-identical form
    ///
    /// Docker's classic store and podman keep layers uncompressed. The digest proves that a layer was recompressed correctly.
    #[arg(long, value_enum, default_value_t = How::Auto)]
    rebuild: How,
    /// Do not contact any registry
    #[arg(long)]
    offline: bool,
    /// Read the classic store of a stopped Docker
    ///
    /// DIR is its data root, such as /mnt/disk/var/lib/docker.
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    #[command(flatten)]
    containerd: ContainerdArgs,
    #[command(flatten)]
    podman: PodmanStoreArgs,
    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Auto,
    Registry,
    Docker,
    Containerd,
    Podman,
    Crio,
    Path(PathBuf),
}

impl From {
    fn path(&self) -> Option<&PathBuf> {
        match self {
            From::Path(path) => Some(path),
            _ => None,
        }
    }
}

impl FromStr for From {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<From, Infallible> {
        Ok(match text {
            "auto" => From::Auto,
            "registry" => From::Registry,
            "docker" => From::Docker,
            "containerd" => From::Containerd,
            "podman" => From::Podman,
            "crio" => From::Crio,
            // In skopeo's form. A layout or archive is recognised by its content.
            path => From::Path(match path.strip_prefix("dir:") {
                Some(folder) if !Path::new(path).exists() => folder.into(),
                _ => path.into(),
            }),
        })
    }
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

impl FromArgs {
    /// Number of attempts for each request.
    pub fn tries(&self) -> u32 {
        self.registry.tries()
    }

    /// Whether naming no image means all images.
    pub fn is_archives(&self) -> bool {
        self.from.iter().all(|from| matches!(from, From::Path(_)))
    }

    /// Whether the source was left to sealift, so that an image without a digest is not what was requested.
    pub fn is_auto(&self) -> bool {
        self.data_root.is_none() && self.from.contains(&From::Auto)
    }

    /// Why the local Docker was not asked, if it was to be.
    pub fn unasked(&self) -> Option<String> {
        let absence = docker::source::absence(&docker::Options::from_process());
        absence.filter(|_| self.is_auto() && self.chosen().engine == Engine::Docker)
    }

    fn chosen(&self) -> Chosen {
        Chosen::by(&self.containerd, &self.podman)
    }

    /// Whether nothing may be written unless everything is proven.
    pub fn requires_proof(&self) -> bool {
        matches!(self.rebuild, How::Require)
    }

    /// The sources' names for messages.
    pub fn places(&self) -> String {
        let place = |from: &From| match (from, &self.data_root) {
            (From::Auto | From::Docker, Some(root)) => root.display().to_string(),
            (From::Auto, None) => format!("the local {}", self.chosen().engine),
            (From::Docker, None) => "the local Docker".into(),
            (From::Containerd, _) => "the local containerd".into(),
            (From::Podman, _) => "the local podman".into(),
            (From::Crio, _) => "the local CRI-O".into(),
            (From::Registry, _) => "a registry".into(),
            (From::Path(path), _) => path.display().to_string(),
        };
        self.from.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// The files and folders among the sources.
    pub fn inputs(&self) -> Inputs {
        Inputs::of_paths(self.from.iter().filter_map(From::path).cloned())
    }

    /// Opens the sources. Temporary data is kept beside the `output` file unless an option says otherwise.
    pub fn source(
        &self,
        all: bool,
        output: Option<&Path>,
        progress: &Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Source>> {
        self.check()?;
        let open = Stores {
            data_root: self.data_root.as_deref(),
            containerd: &self.containerd,
            podman: &self.podman,
            registry: &self.registry,
            rebuild: match self.rebuild {
                How::Auto => recover::Rebuild::Auto,
                How::Never => recover::Rebuild::Never,
                How::Require => recover::Rebuild::Require,
            },
            upstream: match self.offline {
                true => Proofs::None,
                false => Proofs::Registries,
            },
            spool: self.spool.options(interrupt, output),
            progress,
            interrupt,
        };
        let paths = self.from.iter().filter_map(From::path).cloned();
        // The parts of an archive are one source, at the place of its first part.
        let mut archives = segments::by_archive(&paths.collect::<Vec<_>>());
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        for from in &self.from {
            match from {
                From::Registry => sources.extend(open.registry()?),
                From::Docker => sources.push(open.docker()?),
                From::Containerd => sources.push(open.containerd(None)?),
                From::Podman => sources.push(open.podman(Engine::Podman, None)?),
                From::Crio => sources.push(open.podman(Engine::Crio, None)?),
                // A registry cannot be saved as a whole, so `--all` means the engine's images.
                From::Auto if self.data_root.is_some() => sources.push(open.docker()?),
                From::Auto if all => sources.push(open.engine()?),
                From::Auto => sources.extend(open.auto()?),
                From::Path(path) => {
                    if let Some(at) = archives.iter().position(|files| files.contains(path)) {
                        sources.push(open.archive(&archives.remove(at))?);
                    }
                }
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
        // With a data root `auto` is the Docker that it belongs to.
        let is_containerd = |from: &From| match from {
            From::Auto => self.data_root.is_none(),
            other => *other == From::Containerd,
        };
        if let Some(option) = self.containerd.given()
            && !self.from.iter().any(is_containerd)
        {
            return Err(Error::Usage {
                message: format!("{option} is for containerd, and --from asks no containerd"),
                hint: Some(format!("add --from containerd, or leave out {option}").into()),
            });
        }
        let is_podman = |from: &From| matches!(from, From::Podman | From::Crio | From::Auto);
        if let Some(option) = self.podman.given()
            && !self.from.iter().any(is_podman)
        {
            return Err(Error::Usage {
                message: format!("{option} is for podman, and --from asks no podman"),
                hint: Some(format!("add --from podman, or leave out {option}").into()),
            });
        }
        let is_docker = |from: &From| matches!(from, From::Docker | From::Auto);
        if self.data_root.is_none() || self.from.iter().any(is_docker) {
            return Ok(());
        }
        Err(Error::Usage {
            message: "--data-root names a store of Docker, and --from asks no Docker".into(),
            hint: Some("add --from docker, or leave out --data-root".into()),
        })
    }
}
