//! Docker as a source: its images, read in the best way that this user and host allow.
//!
//! - `disk`: the classic store, from its files: everything that is known, and several layers at a time; needs
//!   root
//! - `content`: the containerd store, from containerd's content folder; needs root
//! - `export`: either store over the Engine API, in the format of `docker save`: one stream, copied first
//!
//! Only root gets the manifests in the classic store's content folder, the compressed digests in its
//! `distribution` folder, and layers in parallel.

mod content;
mod disk;
mod export;

use std::path::Path;

use super::Options;
use super::api::Client;
use super::api::info::{Info, Store, Version};
use super::endpoint::Endpoint;
use super::store::files::Files;
use super::store::{ClassicStore, containerd, content_of};
use crate::archive;
use crate::docker::stopped::StoppedStore;
use crate::error::{Error, Remedy, Result};
use crate::load::Obstacle;
use crate::progress::Progress;
use crate::recover::LocalStore;

/// The store of a running Docker, or the files of one that is not running.
///
/// # Errors
///
/// If nothing answers, and there is no store that can be read without it.
pub fn local_store(
    options: &Options,
    data_root: Option<&Path>,
    spool: &archive::Options,
    progress: &dyn Progress,
) -> Result<Box<dyn LocalStore>> {
    if let Some(root) = data_root {
        return stopped(Some(root), spool, progress);
    }
    let endpoint = Endpoint::find(&options.environment)?;
    match Client::connect(&endpoint) {
        Ok(client) => running(client, spool, progress),
        Err(error) if StoppedStore::is_of(&options.environment) && is_root() => {
            let found = stopped(None, spool, progress);
            progress.note(&match &found {
                Ok(store) => format!("Docker is not running: reading {}", store.label()),
                Err(why) => format!("Docker is not running, and its store cannot be read: {why}"),
            });
            found.map_err(|_| downed(error))
        }
        Err(error) => Err(downed(error)),
    }
}

/// An additional hint, if nothing answers.
fn downed(error: Error) -> Error {
    match error {
        Error::Engine { .. } => error.and_hint(Remedy::ReadStoppedStore),
        other => other,
    }
}

/// Why no Docker is running where the environment says, if that can be seen without asking it.
pub fn absence(options: &Options) -> Option<String> {
    match Endpoint::find(&options.environment) {
        Ok(Endpoint::Unix(socket)) if !socket.exists() => {
            Some(format!("{} does not exist", socket.display()))
        }
        _ => None,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn stopped(
    data_root: Option<&Path>,
    spool: &archive::Options,
    progress: &dyn Progress,
) -> Result<Box<dyn LocalStore>> {
    let files = Files::find(data_root)?;
    let folders = containerd::content_of_stopped(&files.data_root);
    let label = format!("the classic store in {}", files.data_root.display());
    if files.is_used() {
        progress.warn(&format!(
            "{label}: a daemon works on it, and may change it meanwhile; save from the daemon itself if you can"
        ));
    }
    let store = ClassicStore::open(files)?.with_max_layer_size(spool.max_layer_size);
    if let Some(obstacle) = store.layers_obstacle() {
        return Err(Error::Engine {
            engine: label,
            action: "read its layers".into(),
            problem: obstacle.reason.clone(),
            hint: obstacle.hint.clone(),
        });
    }
    Ok(Box::new(disk::Disk::new(store, folders, label, progress)?))
}

fn running(client: Client, spool: &archive::Options, progress: &dyn Progress) -> Result<Box<dyn LocalStore>> {
    let (store, version) = (Info::ask(&client)?.store(), Version::ask(&client)?.version);
    let kind = match store {
        Store::Classic => "classic",
        Store::Containerd => "containerd",
    };
    let label = format!("Docker {version} ({kind} store)");
    let direct: Result<Box<dyn LocalStore>, Obstacle> = match store {
        Store::Classic => classic(&client, &label, spool, progress)?,
        Store::Containerd => match content_of(&client) {
            Ok(folders) => {
                return Ok(Box::new(content::Content::new(client, folders, label)));
            }
            Err(obstacle) => Err(obstacle),
        },
    };
    direct.or_else(|obstacle| {
        progress.note(&format!(
            "{label}: {obstacle}; its images are exported over the API"
        ));
        Ok(Box::new(export::Export::new(client, store, spool.clone(), label)))
    })
}

fn classic(
    client: &Client,
    label: &str,
    spool: &archive::Options,
    progress: &dyn Progress,
) -> Result<Result<Box<dyn LocalStore>, Obstacle>> {
    let (store, folders) = match (ClassicStore::of(client), content_of(client)) {
        (Ok(store), Ok(folders)) => (store, folders),
        (Err(obstacle), _) | (_, Err(obstacle)) => return Ok(Err(obstacle)),
    };
    if let Some(obstacle) = store.layers_obstacle() {
        return Ok(Err(obstacle.clone()));
    }
    Ok(Ok(Box::new(disk::Disk::new(
        store.with_max_layer_size(spool.max_layer_size),
        folders,
        label.into(),
        progress,
    )?)))
}
