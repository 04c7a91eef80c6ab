//! `sealift inventory`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use sealift::containerd::Containerd;
use sealift::docker::{self, Docker};
use sealift::host::{self, Engine};
use sealift::image::names;
use sealift::inventory::{Comparison, EngineInventory, HostInventory, KnownHost, MAX_LABEL};
use sealift::layout::FolderTarget;
use sealift::oci::Digest;
use sealift::progress::Progress;
use sealift::{Error, Result};

use super::bars;
use super::compare;
use super::containerd::ContainerdArgs;
use super::engines;
use super::files;
use super::output::{Failure, Outcome, Output, document_bytes};
use super::podman::{self, PodmanArgs};
use super::table::TableArgs;

/// The name of this host, on Linux.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// List what this host's engines have, for `save --have` elsewhere
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift inventory -o server1.json
  sudo sealift inventory --from docker --label rack7 > rack7.json
  sudo sealift inventory --from containerd --namespace k8s.io -o node1.json
  sealift inventory --from podman -o laptop.json        # rootless: the images of this user
  sealift inventory --from oci:images -o folder.json
  sudo sealift inventory --from docker --compare server1.json   # what differs now

`sealift save --have server1.json` leaves out the layers that the host has, and `load` on the host completes the \
images with them. Write a new inventory before the next update.

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
    /// `podman`: the podman of the user who runs sealift.
    ///
    /// `crio`: the storage of CRI-O. One that podman has too is listed once.
    ///
    /// `oci:PATH`: an OCI layout folder.
    #[arg(
        long,
        value_name = "auto|docker|containerd|podman|crio|oci:PATH",
        default_value = "auto"
    )]
    from: Vec<Listed>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compare with an inventory, of this host before or of another one, and print what differs
    ///
    /// Every name and digest of FILE must lead to the same image. The exit code is 7 if one is missing, and 6 if it leads
    /// to another image or one that is incomplete. Extra names are no difference.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Name of the host, for people [default: its host name]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    containerd: ContainerdArgs,
    #[command(flatten)]
    podman: PodmanArgs,
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
        self.check()?;
        let file = self.output.as_deref().filter(|path| *path != Path::new("-"));
        if self.compare.is_some() && file.is_none() && self.output.is_some() {
            return Err(Error::Usage {
                message: "standard output cannot take the inventory and the comparison".into(),
                hint: Some("name a file with -o".into()),
            }
            .into());
        }
        let label = self.label()?;
        let before = self.compare.as_deref();
        let before = before
            .map(|path| Ok::<_, Error>((path, KnownHost::read(path)?)))
            .transpose()?;
        let progress = bars::progress(output);
        progress.phase("listing", None);
        let engines = self.engines(progress.as_ref())?;
        progress.done();
        for engine in &engines {
            let is_useful = engine.unpacked_suffices && !engine.chains.is_empty();
            let is_unknown = engine.blobs.is_empty() && !is_useful && self.compare.is_none();
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
        if let Some((path, before)) = &before {
            if let Some(file) = file {
                files::write(file, &bytes)?;
            }
            let comparison = Comparison::of(before, &host.engines);
            let width = self.table.width(std::io::stdout());
            return compare::print(output, path, before, &comparison, width);
        }
        match file {
            None => output.bytes(&bytes)?,
            Some(path) => {
                files::write(path, &bytes)?;
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

    /// Refuses options of an engine that is not listed.
    fn check(&self) -> Result<()> {
        let given = [
            (self.containerd.given(), &[Engine::Containerd][..]),
            (self.podman.given(), &[Engine::Podman, Engine::Crio]),
        ];
        for (option, engines) in given {
            let Some(option) = option else { continue };
            let may_be = |from: &Listed| match from {
                Listed::Auto => true,
                Listed::Engine(engine) => engines.contains(engine),
                Listed::Folder(_) => false,
            };
            if !self.from.iter().any(may_be) {
                let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
                return Err(Error::Usage {
                    message: format!(
                        "{option} is for {}, which --from does not name",
                        names.join(" or ")
                    ),
                    hint: None,
                });
            }
        }
        Ok(())
    }

    fn engines(&self, progress: &dyn Progress) -> Result<Vec<EngineInventory>> {
        let mut found = Found::default();
        for from in &self.from {
            match from {
                Listed::Auto => self.all(&mut found, progress)?,
                Listed::Engine(engine) => self.list(*engine, &mut found)?,
                Listed::Folder(path) => found.add("oci", FolderTarget::new(path).inventory()?),
            }
        }
        Ok(found.engines)
    }

    /// Every engine that is found on this host and answers. One that an option is for must answer.
    fn all(&self, found: &mut Found, progress: &dyn Progress) -> Result<()> {
        let of_host = engines::facts().engines();
        let is_named = |engine| match engine {
            Engine::Containerd => self.containerd.given().is_some(),
            Engine::Podman => self.podman.given().is_some(),
            Engine::Docker | Engine::Crio => false,
        };
        let mut errors = Vec::new();
        let mut has_answered = false;
        for engine in engines::ALL {
            if !of_host.contains(engine) && !is_named(*engine) {
                continue;
            }
            match self.list(*engine, found) {
                Ok(()) => has_answered = true,
                Err(error) if is_named(*engine) || matches!(error, Error::Interrupted) => return Err(error),
                Err(error) => errors.push((engine, error)),
            }
        }
        if !has_answered && errors.is_empty() {
            return Err(host::absence());
        }
        if !has_answered {
            return Err(Error::of_several(
                errors.into_iter().map(|(_, error)| error).collect(),
            ));
        }
        for (engine, error) in errors {
            progress.note(&format!("{engine} is not listed: {error}"));
        }
        Ok(())
    }

    /// Everything that an engine has.
    fn list(&self, engine: Engine, found: &mut Found) -> Result<()> {
        let word = engine.word();
        match engine {
            Engine::Docker => {
                let docker = Docker::connect(&docker::Options::from_process())?;
                found.add(word, docker.inventory()?);
            }
            Engine::Containerd => {
                let containerd = Containerd::connect(&self.containerd.options())?;
                found.add(word, containerd.inventory()?);
            }
            Engine::Podman | Engine::Crio => {
                let podman = podman::connect(engine, self.podman.options())?;
                let root = podman.root().to_path_buf();
                if !found.storages.contains(&root) {
                    found.add(word, podman.inventory()?);
                    found.storages.push(root);
                }
            }
        }
        Ok(())
    }
}

/// The inventories of the engines so far.
#[derive(Default)]
struct Found {
    engines: Vec<EngineInventory>,
    /// The folders of podman's storages among them: CRI-O may have the same one.
    storages: Vec<PathBuf>,
}

impl Found {
    /// Adds an inventory, unless it is there.
    fn add<D>(&mut self, engine: &str, inventory: sealift::inventory::Inventory<D>) {
        let one = EngineInventory::new(engine, inventory);
        let is_same = |known: &EngineInventory| known.engine == one.engine && known.target == one.target;
        if !self.engines.iter().any(is_same) {
            self.engines.push(one);
        }
    }
}

/// Reports what was written.
fn report(output: &Output, path: &Path, host: &HostInventory, digest: Digest) -> Result<(), Failure> {
    if output.is_json() {
        let engines = host.engines.iter().map(|engine| {
            serde_json::json!({
                "engine": engine.engine,
                "target": engine.target,
                "namespace": engine.namespace,
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
            let namespace = engine.namespace.as_ref();
            let namespace = namespace.map(|name| format!(", namespace {name}"));
            output.line(format_args!(
                "{}{}: {}, {}, {} unpacked",
                engine.target,
                namespace.unwrap_or_default(),
                names::count(engine.images.len(), "image"),
                names::count(engine.blobs.len(), "blob"),
                names::count(engine.chains.len(), "layer"),
            ))?;
        }
    }
    output.line(format_args!("inventory {digest}"))
}
