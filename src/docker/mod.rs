//! Docker, over its Engine API.
//!
//! - [`endpoint`]: `DOCKER_HOST` and contexts
//! - `connection`: HTTP over the socket or TCP
//! - [`api`]: requests, responses, and the meaning of errors
//! - `stream`: streamed responses, with errors inside them
//! - [`inventory`]: what an engine has
//! - `platforms`: which platforms an engine takes from an index
//! - `plan`: what a load will do; pure
//! - `substitutes`: images with a substitute manifest that the engine has with the original
//! - `unsupported`: what it does not accept, and why
//! - `upload`: the archives that are sent to an engine; `content`: their content
//! - `push`: makes a later push keep a digest
//! - `target`: the load itself
//! - [`attach`]: attaching digests to the classic store
//! - [`stopped`]: the store of a stopped Docker
//! - `space`: whether a load fits into the engine's data folder
//! - [`source`]: Docker's images as a source
//! - [`store`]: the classic store's files, read without the daemon
//! - [`switch`]: what a switch to the containerd store would meet

pub mod api;
pub mod attach;
mod content;
pub mod daemon;
pub mod endpoint;
pub mod inventory;
pub(crate) mod plan;
pub(crate) mod platforms;
mod push;
pub mod source;
pub(crate) mod space;
pub mod stopped;
pub mod store;
mod substitutes;
pub mod switch;
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

/// How to reach Docker.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Its endpoint.
    pub environment: Environment,
    /// The folder of the journal of an attach.
    pub folder: Folder,
    /// Which digests may be attached to its classic store, and how.
    pub attach: Rules,
    /// Whether and how it may be restarted.
    pub restart: Restart,
    /// Whether to record the layers' compressed digests for a later push.
    pub keep_push_digest: bool,
}

impl Options {
    /// The options of the process's environment.
    pub fn from_process() -> Options {
        Options {
            environment: Environment::from_process(),
            ..Options::default()
        }
    }
}

/// Docker, after it has answered.
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
    /// [`crate::Error::Usage`] for an invalid address, [`crate::Error::Engine`] if nothing answers or it is not
    /// Docker.
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

    /// How digests of new images of a repository get shown, according to a probe.
    pub fn digest_status(&self, repository: &Repository, inventory: &Inventory) -> DigestStatus {
        match inventory.details.store {
            Store::Containerd => DigestStatus::Native,
            Store::Classic => plan::way(repository, None, Rules::default(), inventory, &self.strategies),
        }
    }

    /// Removes the manifests kept for images that the engine no longer has, if this is root on its host.
    pub fn tidy(&self) {
        let files = store::files_of(&self.client);
        // A failure does no harm: the next run tries again.
        let _ = files.map(|files| {
            let _ = push::tidy(&files);
            store::manifests::KeptManifests::tidy(&files)
        });
    }

    /// Undoes an interrupted attach on this host, if this is root. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it cannot be undone now.
    pub fn repair(&self, progress: &dyn Progress) -> Result<bool> {
        repair(&self.folder, None, progress)
    }
}

/// Undoes an interrupted attach on this host, whether its engine is running or not. An engine that was left
/// stopped is started with `start_command`, if given, instead of the recorded one. Returns whether there was
/// one.
///
/// # Errors
///
/// If it cannot be undone now.
pub fn repair(folder: &Folder, start_command: Option<&str>, progress: &dyn Progress) -> Result<bool> {
    // Only root can have started one, or undo it.
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
