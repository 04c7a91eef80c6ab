//! `sealift inventory`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use rustix::fs::FileType;
use sealift::archive::writer;
use sealift::containerd::Containerd;
use sealift::dir::Located;
use sealift::docker::{self, Docker};
use sealift::host::{self, Engine};
use sealift::image::names;
use sealift::inventory::{EngineInventory, HostInventory};
use sealift::layout::FolderTarget;
use sealift::oci::Digest;
use sealift::podman::Options;
use sealift::progress::Progress;
use sealift::{Error, Result};

use super::bars;
use super::containerd::ContainerdArgs;
use super::engines;
use super::output::{Failure, Outcome, Output, document_bytes};
use super::podman;

/// The longest label, in characters.
const MAX_LABEL: usize = 256;
/// The name of this host, on Linux.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// List what this host's engines have, for `save --have` elsewhere
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift inventory -o server1.json
  sudo sealift inventory --from docker --label rack7 > rack7.json
  sudo sealift inventory --from containerd --namespace k8s.io -o node1.json
  sealift inventory --from oci:images -o folder.json

`sealift save --have server1.json` leaves out the layers that the host has, and `load` on the host completes the \
images with them. Run it again before the next update.

The document lists names, digests, layers and versions, and no secrets. The same content makes the same document. As \
root it is complete: only root can read which blobs Docker's containerd store has.")]
pub struct Inventory {
    /// Engines or layouts to list; repeatable
    ///
    /// `auto`: every engine of this host that answers.
    ///
    /// `docker`: the engine of this host. DOCKER_HOST, DOCKER_CONTEXT and the current context say where Docker is.
    ///
    /// `containerd`: the containerd of this host, or of k3s, RKE2 or MicroK8s.
    ///
    /// `oci:PATH`: an OCI layout folder.
    #[arg(long, value_name = "auto|docker|containerd|oci:PATH", default_value = "auto")]
    from: Vec<Listed>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the host, for people [default: its host name]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    containerd: ContainerdArgs,
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    /// Every engine that answers.
    Auto,
    /// An engine.
    Engine(Engine),
    /// A layout folder.
    Folder(PathBuf),
}

impl FromStr for Listed {
    type Err = String;

    fn from_str(text: &str) -> Result<Listed, String> {
        match (engines::by_word(text), text.split_once(':')) {
            (Some(engine), _) => Ok(Listed::Engine(engine)),
            (None, Some(("oci", path))) if !path.is_empty() => Ok(Listed::Folder(path.into())),
            (None, _) if text == "auto" => Ok(Listed::Auto),
            (None, _) => Err(format!("expected auto, {} or oci:PATH", engines::words())),
        }
    }
}

impl Inventory {
    /// Asks the engines, and writes the document.
    pub fn run(&self, output: &Output) -> Outcome {
        let label = self.label()?;
        let progress = bars::progress(output);
        progress.phase("listing", None);
        let engines = self.engines(progress.as_ref())?;
        progress.done();
        for engine in &engines {
            let is_useful = engine.unpacked_suffices && !engine.chains.is_empty();
            let is_unknown = engine.blobs.is_empty() && !is_useful;
            if !engine.images.is_empty() && is_unknown {
                output.warn(&format!(
                    "{}: its blobs are not known, so nothing can be left out for it",
                    engine.target
                ));
                output.hint("only root on its host can read them: run the same command with sudo");
            }
        }
        let host = HostInventory::new(label, engines);
        let bytes = document_bytes(&host)?;
        match self.output.as_deref().filter(|path| *path != Path::new("-")) {
            None => output.bytes(&bytes)?,
            Some(path) => {
                write(path, &bytes)?;
                report(output, path, &host, Digest::sha256(&bytes))?;
            }
        }
        Ok(None)
    }

    /// The name of the host.
    fn label(&self) -> Result<Option<String>> {
        let Some(label) = &self.label else {
            let name = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
            return Ok(Some(name.trim().to_string()).filter(|name| !name.is_empty()));
        };
        match label.chars().count() {
            0 => Ok(None),
            count if count <= MAX_LABEL => Ok(Some(label.clone())),
            count => Err(Error::Usage {
                message: format!("a label has at most {MAX_LABEL} characters, and this one has {count}"),
                hint: None,
            }),
        }
    }

    fn engines(&self, progress: &dyn Progress) -> Result<Vec<EngineInventory>> {
        let mut engines: Vec<EngineInventory> = Vec::new();
        for from in &self.from {
            let found = match from {
                Listed::Auto => self.all(progress)?,
                Listed::Engine(engine) => vec![self.list(*engine)?],
                Listed::Folder(path) => {
                    vec![EngineInventory::new("oci", FolderTarget::new(path).inventory()?)]
                }
            };
            for one in found {
                let is_same =
                    |known: &EngineInventory| known.engine == one.engine && known.target == one.target;
                if !engines.iter().any(is_same) {
                    engines.push(one);
                }
            }
        }
        Ok(engines)
    }

    /// Every engine that is found on this host and answers.
    fn all(&self, progress: &dyn Progress) -> Result<Vec<EngineInventory>> {
        let found = engines::facts().engines();
        let is_named = |engine| engine == Engine::Containerd && self.containerd.given().is_some();
        let found = engines::ALL
            .iter()
            .filter(|engine| found.contains(engine) || is_named(**engine));
        let mut engines = Vec::new();
        let mut errors = Vec::new();
        for engine in found {
            match self.list(*engine) {
                Ok(inventory) => engines.push(inventory),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => errors.push((engine, error)),
            }
        }
        if engines.is_empty() && errors.is_empty() {
            return Err(host::absence());
        }
        if engines.is_empty() {
            return Err(Error::of_several(
                errors.into_iter().map(|(_, error)| error).collect(),
            ));
        }
        for (engine, error) in errors {
            progress.note(&format!("{engine} is not listed: {error}"));
        }
        Ok(engines)
    }

    /// Everything that an engine has.
    fn list(&self, engine: Engine) -> Result<EngineInventory> {
        let word = engine.word();
        Ok(match engine {
            Engine::Docker => {
                let docker = Docker::connect(&docker::Options::from_process())?;
                EngineInventory::new(word, docker.inventory()?)
            }
            Engine::Containerd => {
                let containerd = Containerd::connect(&self.containerd.options())?;
                EngineInventory::new(word, containerd.inventory()?)
            }
            Engine::Podman | Engine::Crio => {
                let podman = podman::connect(engine, Options::from_process())?;
                EngineInventory::new(word, podman.inventory()?)
            }
        })
    }
}

/// Writes a file, which has its old or its new content at any moment. A device or FIFO is written like a pipe.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = writer::locate(path)?;
    let kind = target.kind().map_err(Error::io("look at", path))?;
    let written = match kind {
        None | Some(FileType::RegularFile | FileType::Directory) => replace(&target, bytes),
        Some(_) => target.open_special().and_then(|mut file| file.write_all(bytes)),
    };
    written.map_err(Error::io("write", path))
}

fn replace(target: &Located, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(&target.name);
    name.push(".sealift-new");
    // That of a run that was killed.
    let _ = target.dir.remove_file(&name);
    let mut file = target.dir.create_file(&name, 0o644)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| target.dir.rename(&name, &target.dir, &target.name));
    if placed.is_err() {
        let _ = target.dir.remove_file(&name);
    }
    placed.and_then(|()| target.dir.sync())
}

/// Reports what was written.
fn report(output: &Output, path: &Path, host: &HostInventory, digest: Digest) -> Result<(), Failure> {
    if output.is_json() {
        let engines = host.engines.iter().map(|engine| {
            serde_json::json!({
                "engine": engine.engine,
                "target": engine.target,
                "images": engine.images.len(),
                "blobs": engine.blobs.len(),
                "chains": engine.chains.len(),
            })
        });
        return output.json(&serde_json::json!({
            "schema": 1,
            "file": path.display().to_string(),
            "digest": digest,
            "host": host.host,
            "engines": engines.collect::<Vec<_>>(),
        }));
    }
    if !output.is_quiet() {
        for engine in &host.engines {
            output.line(format_args!(
                "{}: {}, {}, {} unpacked",
                engine.target,
                names::count(engine.images.len(), "image"),
                names::count(engine.blobs.len(), "blob"),
                names::count(engine.chains.len(), "layer"),
            ))?;
        }
    }
    output.line(format_args!("inventory {digest}"))
}
