//! The options that concern podman, or the storage of CRI-O.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sealift::escape::shell_word;
use sealift::host::Engine;
use sealift::load::AnyTarget;
use sealift::podman::{self, Crio, Options, Podman, PodmanStore};
use sealift::progress::Progress;
use sealift::{Error, Result, archive};

use super::engines::LoadContext;
use super::output::Outcome;

/// Which storage of podman is meant.
#[derive(Args)]
#[command(next_help_heading = "podman and CRI-O options")]
pub struct PodmanArgs {
    /// Use podman's storage in this folder
    ///
    /// podman's own option of the same name. Without it the configuration of podman decides, or that of CRI-O.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Keep podman's state in this folder
    ///
    /// podman's own option of the same name.
    #[arg(long, value_name = "DIR")]
    runroot: Option<PathBuf>,
}

impl PodmanArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--root", self.root.is_some()),
            ("--runroot", self.runroot.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// These options as a shell takes them, each after a space.
    pub fn words(&self) -> String {
        let given = [("--root", &self.root), ("--runroot", &self.runroot)];
        let given = given
            .into_iter()
            .filter_map(|(option, folder)| Some((option, folder.as_ref()?)));
        given
            .map(|(option, folder)| format!(" {option} {}", shell_word(&folder.display().to_string())))
            .collect()
    }

    /// These options, with those of the environment.
    pub fn options(&self) -> Options {
        Options {
            root: self.root.clone(),
            runroot: self.runroot.clone(),
            ..Options::from_process()
        }
    }
}

/// How images are loaded into podman.
#[derive(Args)]
#[command(next_help_heading = "podman and CRI-O options")]
pub struct PodmanLoadArgs {
    #[command(flatten)]
    storage: PodmanArgs,
    /// Replace images for which podman shows a wrong digest
    ///
    /// A `podman load` of another archive, or a build, may have left such a digest, and podman keeps it until the image is
    /// removed. With this option sealift removes the image, loads it again and sets its names again. It never removes
    /// containers: an image that one uses stays as it is.
    #[arg(long)]
    force: bool,
}

impl PodmanLoadArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        self.storage.given().or_else(|| self.force.then_some("--force"))
    }

    /// The podman of this host, or one that uses the storage of CRI-O.
    ///
    /// # Errors
    ///
    /// If podman is not installed, or does not answer.
    pub fn target(&self, engine: Engine, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        let options = Options {
            replace: self.force,
            socket: context.socket.map(PathBuf::from),
            ..self.storage.options()
        };
        Ok(Box::new(connect(engine, options)?))
    }
}

/// Where podman keeps the images to save.
#[derive(Args)]
#[command(next_help_heading = "podman and CRI-O options")]
pub struct PodmanStoreArgs {
    /// Read podman's storage in this folder
    ///
    /// podman's own option of the same name. With it podman itself is not needed.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Let podman keep its state in this folder
    ///
    /// podman's own option of the same name, for what sealift asks podman.
    #[arg(long, value_name = "DIR")]
    runroot: Option<PathBuf>,
}

impl PodmanStoreArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [("--root", &self.root), ("--runroot", &self.runroot)];
        given
            .into_iter()
            .find_map(|(option, given)| given.is_some().then_some(option))
    }

    /// These options, with those of the environment.
    pub fn options(&self) -> Options {
        Options {
            root: self.root.clone(),
            runroot: self.runroot.clone(),
            ..Options::from_process()
        }
    }

    /// Whether there is no storage, which can be seen without running podman.
    pub fn is_absent(&self) -> bool {
        self.root.is_none() && PodmanStore::is_absent()
    }

    /// The images of podman, or of CRI-O.
    ///
    /// # Errors
    ///
    /// If their storage cannot be read.
    pub fn store(
        &self,
        engine: Engine,
        socket: Option<PathBuf>,
        spool: &archive::Options,
        progress: Arc<dyn Progress>,
    ) -> Result<PodmanStore> {
        let options = Options {
            socket,
            ..self.options()
        };
        let options = match engine {
            Engine::Crio => crio()?.options(options),
            _ => options,
        };
        // Without it, layers are read as far as this user may.
        let reader = std::env::current_exe().ok();
        PodmanStore::open(&options, reader, spool, progress)
    }
}

/// Write the tar of a layer: what `save` runs in the user namespace of a rootless podman
#[derive(Args)]
pub struct ReadLayer {
    limit: u64,
    folder: PathBuf,
    tar_split: PathBuf,
}

impl ReadLayer {
    /// Writes the layer to standard output.
    pub fn run(&self) -> Outcome {
        let mut output = io::stdout().lock();
        podman::write_layer(&self.folder, &self.tar_split, self.limit, &mut output)?;
        output.flush().map_err(Error::io("write", "standard output"))?;
        Ok(None)
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
        place: "/etc/crio and /run/crio/crio.sock".into(),
        hint: Some(
            "podman's storage is CRI-O's too if both have the same folders: name podman instead".into(),
        ),
    })
}
