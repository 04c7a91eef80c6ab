//! Where good bytes come from.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use sealift::archive::segments;
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::recover::Rebuild;
use sealift::registry::{Destination, DestinationError};
use sealift::registry_storage::repair::{Copies, Names};
use sealift::retry::Retry;
use sealift::source::Source;
use sealift::transfer;
use sealift::{Error, Result};

use crate::cli::archive::SpoolArgs;
use crate::cli::containerd::ContainerdArgs;
use crate::cli::podman::PodmanStoreArgs;
use crate::cli::registry::RegistryArgs;
use crate::cli::stores::{Proofs, Stores};

/// What stands before a registry.
const REGISTRY: &str = "registry://";

/// The places that have good bytes, and how they are reached.
#[derive(Args)]
pub struct FromArgs {
    /// Where good bytes come from; repeatable, in order
    ///
    /// `docker`: the local Docker. It keeps layers uncompressed; they are recompressed bit for bit.
    ///
    /// `containerd`, `podman`, `crio`: the images of another local engine.
    ///
    /// `registry://HOST[/PREFIX]`: another registry, which has the images under the same names, below PREFIX.
    ///
    /// PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of `docker save`.
    #[arg(
        long,
        required = true,
        value_name = "docker|containerd|podman|crio|registry://HOST[/PREFIX]|PATH"
    )]
    from: Vec<String>,
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
    Docker,
    Containerd,
    Podman,
    Crio,
    Registry(Destination),
    Path(PathBuf),
}

impl FromStr for From {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<From, DestinationError> {
        if let Some(place) = text.strip_prefix(REGISTRY) {
            return place.parse().map(From::Registry);
        }
        Ok(match text {
            "docker" => From::Docker,
            "containerd" => From::Containerd,
            "podman" => From::Podman,
            "crio" => From::Crio,
            path => From::Path(path.into()),
        })
    }
}

impl FromArgs {
    /// The places. What is wrong may be a password, so it is not printed.
    fn places(&self) -> Result<Vec<From>> {
        let places = self.from.iter().map(|text| text.parse());
        let places: Result<Vec<From>, DestinationError> = places.collect();
        places.map_err(|error| Error::Usage {
            message: format!("--from names no registry: {error}"),
            hint: None,
        })
    }

    /// Refuses places that are none.
    pub fn check(&self) -> Result<()> {
        self.places().map(drop)
    }

    /// How many times a blob is requested, and the pauses between.
    pub fn retry(&self) -> Retry {
        Retry {
            attempts: self.registry.tries(),
            ..transfer::RETRY
        }
    }

    /// Opens the places. `good` has what is good in the registry.
    pub fn open(
        &self,
        good: Arc<dyn Source>,
        progress: &Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Copies>> {
        let stores = Stores {
            data_root: self.data_root.as_deref(),
            containerd: &self.containerd,
            podman: &self.podman,
            registry: &self.registry,
            rebuild: Rebuild::Auto,
            // The registry that names lead to may be the damaged one.
            upstream: Proofs::Source(good),
            spool: self.spool.options(interrupt, None),
            progress,
            interrupt,
        };
        let places = self.places()?;
        let paths = places.iter().filter_map(|from| match from {
            From::Path(path) => Some(path.clone()),
            _ => None,
        });
        // The parts of an archive are one place.
        let mut archives = segments::by_archive(&paths.collect::<Vec<_>>());
        let engine = |label: &str, source: Box<dyn Source>| Copies {
            label: label.into(),
            source: source.into(),
            names: Names::Listed { all: false },
        };
        let mut all = Vec::new();
        for from in &places {
            all.push(match from {
                From::Docker => engine("docker", stores.docker()?),
                From::Containerd => engine("containerd", stores.containerd(None)?),
                From::Podman => engine("podman", stores.podman(Engine::Podman, None)?),
                From::Crio => engine("crio", stores.podman(Engine::Crio, None)?),
                From::Registry(destination) => Copies {
                    label: format!("{REGISTRY}{destination}"),
                    source: Arc::new(self.registry.source(progress.clone(), interrupt)?),
                    names: Names::Below(destination.to_string()),
                },
                From::Path(path) => {
                    let at = archives.iter().position(|files| files.contains(path));
                    let Some(files) = at.map(|at| archives.remove(at)) else {
                        continue;
                    };
                    Copies {
                        label: path.display().to_string(),
                        source: stores.archive(&files)?.into(),
                        names: Names::Listed { all: true },
                    }
                }
            });
        }
        Ok(all)
    }
}
