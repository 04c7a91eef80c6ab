//! The options of a load into podman, or into the storage of CRI-O.

use std::path::PathBuf;

use clap::Args;
use sealift::host::Engine;
use sealift::load::AnyTarget;
use sealift::podman::{Crio, Options, Podman};
use sealift::{Error, Result};

use super::engines::LoadContext;

/// How images are loaded into podman.
#[derive(Args)]
pub struct PodmanArgs {
    /// Load into podman's storage in this folder
    ///
    /// podman's own option of the same name. Without it podman's configuration decides, or with --to crio that of CRI-O.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Keep podman's state in this folder
    ///
    /// podman's own option of the same name.
    #[arg(long, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// Replace images for which podman shows a wrong digest
    ///
    /// A `podman load` of another archive, or a build, may have left such a digest, and podman keeps it until the image is
    /// removed. With this option sealift removes the image, loads it anew and sets its names again. It never removes
    /// containers: an image that one uses stays as it is.
    #[arg(long)]
    force: bool,
}

impl PodmanArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--root", self.root.is_some()),
            ("--runroot", self.runroot.is_some()),
            ("--force", self.force),
        ];
        given
            .into_iter()
            .find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// The podman of this host, or one that uses the storage of CRI-O.
    ///
    /// # Errors
    ///
    /// If podman is not installed, or does not answer.
    pub fn target(&self, engine: Engine, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        let options = Options {
            root: self.root.clone(),
            runroot: self.runroot.clone(),
            replace: self.force,
            socket: context.socket.map(PathBuf::from),
            ..Options::from_process()
        };
        Ok(Box::new(connect(engine, options)?))
    }
}

/// Connects to podman, or to one that uses the storage of CRI-O.
///
/// # Errors
///
/// If podman is not installed, or does not answer.
pub fn connect(engine: Engine, options: Options) -> Result<Podman> {
    let options = match engine {
        Engine::Crio => crio()?.options(options),
        _ => options,
    };
    Podman::connect(&options)
}

fn crio() -> Result<Crio> {
    Crio::find()?.ok_or_else(|| Error::NotFound {
        what: "CRI-O".into(),
        place: "/etc/crio and /var/run/crio/crio.sock".into(),
        hint: Some(
            "--to podman loads into podman's storage, which CRI-O uses too if it has the same folders".into(),
        ),
    })
}
