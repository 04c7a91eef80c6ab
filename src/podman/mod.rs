//! podman, by its own program, and the storage that it shares with CRI-O.
//!
//! A load serves the archives on a loopback address to one podman, which pulls from there as it would from the
//! registries. Names, digests and layers are then what a pull leaves. A save reads the files of the storage.
//!
//! - `program`: runs podman
//! - `answers`: what it prints
//! - `inventory`: what it has
//! - `own_digests`: digests that it shows and no registry has; `policy`: what policy.json keeps it from pulling
//! - `layers`: the list of its layers
//! - `plan`: what a load will do; pure
//! - `replacement`: images that show a digest of no registry, and how they are replaced
//! - `twin`: what keeps the names and layers of an image while it is replaced
//! - `staging`: the server of a load and its files; `private_folder`: the folder of the files, also after a kill
//! - `space`: whether a load fits
//! - `target`: the load itself
//! - `storage`: the files of its storage; `storage_conf`: where they are, without podman
//! - `source`: the images of a storage
//! - `unshared`: layers that only its user namespace may read
//! - `crio`: the storage of CRI-O
//!
//! Source: podman and containers/image; measured on podman 4.3 and 5.8.

mod answers;
mod crio;
mod inventory;
mod layers;
mod own_digests;
mod plan;
mod policy;
mod private_folder;
mod program;
mod replacement;
mod source;
mod space;
mod staging;
mod storage;
mod storage_conf;
mod target;
mod twin;
mod unshared;

use std::path::{Path, PathBuf};

pub use crio::Crio;
pub use inventory::{Details, Inventory, Shown};
pub use own_digests::OwnDigest;
pub use policy::Policy;
pub use source::PodmanStore;
pub use staging::{has_leftovers, remove_leftovers};
pub use unshared::{COMMAND as READ_LAYER, write_layer};

use crate::error::{Error, Remedy, Result};
use crate::escape::Escaped;
use answers::Info;
use program::Program;

/// The variables that make podman a client of another one, which cannot pull from a loopback address here.
const REMOTE: [&str; 2] = ["CONTAINER_HOST", "CONTAINER_CONNECTION"];

/// Which podman, and which storage.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its program; by its name alone it is looked up in `PATH`.
    pub program: PathBuf,
    /// The folder with its images; podman's own default if `None`.
    pub root: Option<PathBuf>,
    /// The folder with its state while the host runs; podman's own default if `None`.
    pub runroot: Option<PathBuf>,
    /// The storage driver; podman's own default if `None`.
    pub driver: Option<String>,
    /// Whether to replace images for which podman shows a digest that no registry has.
    pub replace: bool,
    /// The variable that makes podman a client of another one, if it is set.
    pub remote: Option<&'static str>,
    /// The socket by which the environment names it: it must be that of this user's podman.
    pub socket: Option<PathBuf>,
    /// What loads into this storage, for messages.
    pub engine: &'static str,
    /// Whether the storage is CRI-O's, which is root's.
    pub is_crio: bool,
}

impl Options {
    /// The options of the process's environment.
    pub fn from_process() -> Options {
        let is_set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Options {
            program: "podman".into(),
            root: None,
            runroot: None,
            driver: None,
            replace: false,
            remote: REMOTE.iter().find(is_set).copied(),
            socket: None,
            engine: "podman",
            is_crio: false,
        }
    }
}

/// podman, after it has answered.
pub struct Podman {
    program: Program,
    info: Info,
    replace: bool,
    engine: &'static str,
}

impl Podman {
    /// Asks podman where its storage is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it is a client of another podman; [`Error::Engine`] if there is none, or it does not work.
    pub fn connect(options: &Options) -> Result<Podman> {
        if let Some(variable) = options.remote {
            return Err(Error::Usage {
                message: format!(
                    "{variable} is set, so that podman is a client of another podman, and sealift uses only the podman \
                     of its own host"
                ),
                hint: Some(
                    format!("run sealift there, or without the variable: `env -u {variable} sealift ...`")
                        .into(),
                ),
            });
        }
        let program = Program::find(options);
        let info: Info = program.ask(&["info", "--format", "json"])?;
        if info.host.service_is_remote {
            return Err(Error::Usage {
                message: "podman is configured as a client of another podman, and sealift uses only the podman of its \
                          own host"
                    .into(),
                hint: Some("run sealift there; `podman system connection list` shows where it is".into()),
            });
        }
        if options.is_crio && info.host.security.rootless {
            return Err(Error::Usage {
                message: "CRI-O's storage is root's, and podman without root uses another".into(),
                hint: Some(Remedy::RunAsRoot.into()),
            });
        }
        if let Some(socket) = &options.socket {
            check_socket(socket, &info)?;
        }
        Ok(Podman {
            program,
            info,
            replace: options.replace,
            engine: options.engine,
        })
    }

    /// The folder with its images.
    pub fn root(&self) -> &Path {
        &self.info.store.graph_root
    }
}

/// Refuses the socket of another user's podman.
fn check_socket(socket: &Path, info: &Info) -> Result<()> {
    let own = info.host.remote_socket.as_ref().map(|own| own.path.as_str());
    let own = own.unwrap_or_default().trim_start_matches("unix://");
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    if real(socket) == real(Path::new(own)) {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "{} is the socket of another user's podman",
            Escaped(&socket.display().to_string())
        ),
        hint: Some("run sealift as that user".into()),
    })
}
