//! Docker, over its Engine API.
//!
//! - [`endpoint`]: `DOCKER_HOST` and contexts
//! - `connection`: HTTP over the socket or TCP
//! - [`api`]: requests, answers, and what errors mean
//! - `stream`: streamed answers, with the errors inside them
//! - [`inventory`]: what an engine has; [`images`]: its images
//! - [`platforms`]: which platforms an engine takes from an index
//! - [`plan`]: what a load will do; pure
//! - `substitutes`: images with a substitute manifest that the engine has with the original
//! - `unsupported`: what it cannot take, and why
//! - `upload`: the archives that the engine is sent; [`content`]: what of images goes into them
//! - `push`: what lets a later push keep a digest
//! - `target`: the load itself
//! - [`attach`]: attaching digests to the classic store
//! - [`stopped`]: the store of a Docker that is not running
//! - [`space`]: whether a load fits where the engine keeps its data
//! - [`source`]: Docker's images as a source
//! - [`store`]: what the classic store keeps on disk, read without the daemon

pub mod api;
pub mod attach;
mod content;
pub mod daemon;
pub mod endpoint;
pub mod inventory;
pub mod plan;
pub mod platforms;
mod push;
pub mod source;
pub mod space;
pub mod stopped;
pub mod store;
mod substitutes;
mod target;
mod unsupported;
mod upload;

use api::Client;
use api::info::Store;
use attach::folder::Folder;
use attach::{Restart, Rules, Strategy};
use endpoint::{Endpoint, Environment};
use inventory::Inventory;

use crate::error::Result;
use crate::load::DigestStatus;
use crate::oci::Repository;
use crate::progress::Progress;

/// How a Docker is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it is.
    pub environment: Environment,
    /// Where the journal of attaching is kept.
    pub folder: Folder,
    /// Which digests may be attached to its classic store, and how.
    pub attach: Rules,
    /// Whether and how it may be stopped and started again.
    pub restart: Restart,
    /// Whether it is told the layers' compressed digests, for a later push.
    pub keep_push_digest: bool,
}

impl Options {
    /// What the process's environment says.
    pub fn from_process() -> Options {
        Options {
            environment: Environment::from_process(),
            ..Options::default()
        }
    }
}

/// A Docker that answered.
pub struct Docker {
    client: Client,
    folder: Folder,
    strategies: Vec<Box<dyn Strategy>>,
    rules: Rules,
    keep_push_digest: bool,
}

impl Docker {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Usage`] for an address that cannot be used, [`crate::Error::Engine`] if nothing or
    /// something else than Docker answers there.
    pub fn connect(options: &Options) -> Result<Docker> {
        let endpoint = Endpoint::find(&options.environment)?;
        Ok(Docker {
            client: Client::connect(&endpoint)?,
            folder: options.folder.clone(),
            strategies: attach::ranking(&options.folder, &options.restart),
            rules: options.attach,
            keep_push_digest: options.keep_push_digest,
        })
    }

    /// How digests of new images of a repository would get shown, by what a probe has found.
    pub fn digest_status(&self, repository: &Repository, inventory: &Inventory) -> DigestStatus {
        match inventory.store {
            Store::Containerd => DigestStatus::Native,
            Store::Classic => plan::way(repository, None, Rules::default(), inventory, &self.strategies),
        }
    }

    /// Removes what sealift keeps for images that the engine no longer has, where this is root on its host.
    pub fn tidy(&self) {
        let files = store::files_of(&self.client);
        // It is in nobody's way: the next run tries again.
        let _ = files.map(|files| {
            let _ = push::tidy(&files);
            store::manifests::KeptManifests::tidy(&files)
        });
    }

    /// Undoes what an attach that was killed has left on this host, if it left something and this is root.
    /// Whether something was undone.
    ///
    /// # Errors
    ///
    /// If it cannot be undone now.
    pub fn repair(&self, progress: &dyn Progress) -> Result<bool> {
        repair(&self.folder, None, progress)
    }
}

/// Undoes what an attach that was killed has left on this host, whether or not its engine still runs.
/// An engine that was left stopped is started with `start_command`, if one is given, instead of the one that failed or
/// was not run. Whether something was undone.
///
/// # Errors
///
/// If it cannot be undone now.
pub fn repair(folder: &Folder, start_command: Option<&str>, progress: &dyn Progress) -> Result<bool> {
    // Nobody else can have started one, nor undo it.
    if !rustix::process::geteuid().is_root() || !folder.has_leftover()? {
        return Ok(false);
    }
    let lock = folder.lock(progress)?;
    if let Some(command) = start_command {
        folder.start_by(command, &lock)?;
    }
    let repaired = folder.repair(&lock)?;
    if repaired {
        progress.note("undid what an interrupted attach had left");
    }
    Ok(repaired)
}
