//! Where good bytes come from.

use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use sealift::archive;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::recover::Rebuild;
use sealift::registry::{Destination, DestinationError, RegistrySource};
use sealift::repair::{Copies, Names};
use sealift::retry::Retry;
use sealift::source::Source;
use sealift::transfer;
use sealift::{Error, Result};

use crate::cli::stores::{Archives, Local, Proofs, StoreArgs};

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
    /// `registry://HOST[/PREFIX]`: another registry, which has the images below PREFIX.
    ///
    /// PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of `docker save`.
    #[arg(
        long,
        required = true,
        value_name = "docker|containerd|podman|crio|registry://HOST[/PREFIX]|PATH"
    )]
    from: Vec<String>,
    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Registry(Destination),
    Local(Local),
}

impl From {
    fn local(&self) -> Option<&Local> {
        match self {
            From::Local(local) => Some(local),
            From::Registry(_) => None,
        }
    }
}

impl FromStr for From {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<From, DestinationError> {
        match text.strip_prefix(REGISTRY) {
            Some(place) => place.parse().map(From::Registry),
            None => Ok(From::Local(Local::parse(text))),
        }
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

    /// Refuses places that are none, and options without effect.
    pub fn check(&self) -> Result<()> {
        let places = self.places()?;
        let is_asked = |engine| {
            let mut locals = places.iter().filter_map(From::local);
            locals.any(|local| *local == Local::Engine(engine))
        };
        self.stores.check(is_asked)
    }

    /// The registry that is repaired. A mirror may have what it lacks, so none is asked.
    pub fn registry(&self, progress: Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        self.stores.registry.direct(progress, interrupt)
    }

    /// Where temporary data is kept.
    pub fn spool(&self, interrupt: &Interrupt) -> archive::Options {
        self.stores.spool.options(interrupt, None)
    }

    /// How many times a blob is requested, and the pauses between.
    pub fn retry(&self) -> Retry {
        Retry {
            attempts: self.stores.registry.tries(),
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
        // The registry that names lead to may be the damaged one.
        let upstream = Proofs::Source(good);
        let stores = self
            .stores
            .stores(Rebuild::Auto, upstream, None, progress, interrupt);
        let places = self.places()?;
        // The parts of an archive are one place.
        let mut archives = Archives::among(places.iter().filter_map(From::local));
        let mut all = Vec::new();
        for from in &places {
            let copies = match from {
                From::Registry(destination) => Copies {
                    label: format!("{REGISTRY}{destination}"),
                    source: Arc::new(self.stores.registry.source(progress.clone(), interrupt)?),
                    names: Names::Below(destination.to_string()),
                },
                From::Local(local) => {
                    let Some(source) = stores.local(local, &mut archives)? else {
                        continue;
                    };
                    let (label, all) = match local {
                        Local::Engine(engine) => (engine.word().to_owned(), false),
                        Local::Path(path) => (path.display().to_string(), true),
                    };
                    Copies {
                        label,
                        source: source.into(),
                        names: Names::Listed { all },
                    }
                }
            };
            all.push(copies);
        }
        Ok(all)
    }
}
