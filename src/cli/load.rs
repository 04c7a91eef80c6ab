//! `sealift load`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sealift::archive::Layout;
use sealift::host::Choice;
use sealift::interrupt::Interrupt;
use sealift::layout::{ArchiveTarget, FolderTarget};
use sealift::load::{self, AnyTarget, LoadOptions};
use sealift::oci::Platform;
use sealift::progress::Progress;
use sealift::{Error, Result, verify};

use super::archive::{Accepted, ArchiveArgs};
use super::bars;
use super::engines::{self, EngineArgs, LoadContext};
use super::output::{Failure, Outcome, Output};
use super::planned::Printed;
use super::receipt::{self, Receipt};
use super::registry::PushArgs;
use super::rename::RenameArgs;
use super::results::Results;
use super::sign::{ReceiptSigner, SignedArchive};
use super::table::TableArgs;
use super::to::{To, ToParser};
use super::{ending, size};

/// Verify archives and load their images into an engine, registry, layout or archive
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift load images.tar
  sudo sealift load images.tar --expect sha256:...     # the line that save printed
  sealift load images.tar --dry-run                    # what would be sent, named and attached
  sudo sealift load images.tar --receipt load.json     # what was loaded, for the records
  sudo sealift load images.tar --allowed-signers /etc/sealift/allowed_signers
  sudo sealift load images.tar --receipt load.json --sign /root/.ssh/id_ed25519
  sudo sealift load images.tar --image httpd:2.4 --rename httpd=harbor.local/web
  sudo sealift load images.tar --rename docker.io/library=harbor.local/lib
  sudo sealift load images.tar --attach offline --allow-restart
  sudo sealift load images.tar --data-root /mnt/golden/var/lib/docker
  ssh build sealift save -o - httpd:2.4 | sudo sealift load -
  sudo sealift load images.tar --to containerd --namespace k8s.io
  sudo sealift load images.tar --to docker,containerd  # into both, with one verification
  sudo sealift load images.tar --to containerd --pin   # the kubelet never removes them
  sealift load images.tar --to podman                  # rootless: the images of this user
  sudo sealift load images.tar --to podman --force     # also replace images with a wrong digest
  sealift load platforms.tar --to registry://harbor.local/mirror    # with all platforms
  sealift load images.tar --to oci:images              # create an OCI layout, or add to it
  sealift load images.tar --image httpd:2.4 --to archive:httpd.tar

`load` verifies every byte before it sends anything, and hashes it again while it sends it. Only containerd and \
registries get stored bytes while the archive is being verified. containerd unpacks no layer before that layer is \
verified. `load` sends \
only what the engine does not have. It sets the names last, when all content is in the engine and verified. If the load fails before that, existing names are unchanged.

Docker's classic store shows a digest only after it is attached, which needs root: see `--attach`. If a digest \
cannot be attached, the image is loaded and the exit code is 6.")]
pub struct Load {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Where to load the images
    ///
    /// `auto`: the engine of this host. If there are several: the one that the environment names, or else that of
    /// Kubernetes, Docker, podman, containerd or CRI-O, in this order.
    ///
    /// `docker`: DOCKER_HOST, DOCKER_CONTEXT and the current context say where Docker is.
    ///
    /// `containerd`: that of this host, such as a Kubernetes node, k3s, RKE2 or MicroK8s.
    ///
    /// `podman`: the podman of the user who runs sealift: root's with sudo, or the user's own without.
    ///
    /// `crio`: the storage of CRI-O on this host, as /etc/crio names it. It needs podman's program.
    ///
    /// `docker,containerd`: both, with one verification. If one fails, the other is loaded all the same.
    ///
    /// `oci:PATH`: an OCI layout folder. It is created, or the images are added to those that it has.
    ///
    /// `archive:FILE`: an archive as `save` writes it, of the images that are selected. It replaces FILE.
    ///
    /// `registry://HOST[:PORT][/PREFIX]`: a registry. docker.io/library/httpd:2.4 becomes
    /// HOST/PREFIX/library/httpd:2.4, as mirrors name it. A name that begins with HOST/PREFIX is kept.
    #[arg(
        long,
        value_name = "auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]",
        value_parser = ToParser,
        default_value_t = To::Auto
    )]
    to: To,
    /// Split an archive into parts of at most SIZE: 700MB, 4G, 4GiB
    ///
    /// The parts are named FILE.001, FILE.002, ... Without it, parts are joined.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split: Option<u64>,
    /// Load only these images, by name, repository or digest; repeatable
    ///
    /// A digest may be shortened.
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    #[command(flatten)]
    rename: RenameArgs,
    /// Load this platform, for example linux/arm64
    ///
    /// Without it, an engine gets the platform that a pull would choose, and a registry, layout or archive gets all. The
    /// engine need not be able to run it. A registry, layout or archive can get several, comma-separated. An image that is
    /// for other platforms only is refused.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip images that cannot be loaded
    ///
    /// These are:
    ///
    /// - artifacts
    ///
    /// - images that are damaged, have no name, or are only for another platform
    ///
    /// - images with uncompressed layers where the engine needs compressed ones
    ///
    /// - images with layers that neither the archive nor the target has
    ///
    /// - images that podman or a registry refuses
    #[arg(long)]
    keep_going: bool,
    /// Write a receipt to FILE, as JSON: what was loaded from which archive, and what the engine shows
    ///
    /// It is written also if the load fails, as far as that got.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run", value_parser = receipt::parse)]
    receipt: Option<PathBuf>,
    /// Sign the receipt with an SSH key, into FILE.sig
    ///
    /// KEY is as in `save --sign`. `ssh-keygen -Y verify -n sealift-receipt` checks the signature.
    #[arg(long, value_name = "KEY", requires = "receipt")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    engines: EngineArgs,
    #[command(flatten)]
    push: PushArgs,
}

impl Load {
    /// Loads. Writes a receipt however that ends.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let Some(path) = &self.receipt else {
            return self.load(None, output, interrupt);
        };
        let signer = self.sign.as_ref();
        let signer = signer.map(|key| ReceiptSigner::begin(key, path, self.archive.paths()));
        let receipt = Receipt::begin(path, self.archive.paths(), self.to.path(), signer.transpose()?)?;
        let write = {
            let (receipt, interrupt) = (receipt.clone(), interrupt.clone());
            move |exit, error| receipt.end(exit, error, interrupt.signal().is_some())
        };
        ending::written(path, write, output, interrupt, || {
            self.load(Some(&receipt), output, interrupt)
        })
    }

    /// Verifies, plans, applies, and reports what is shown.
    fn load(&self, receipt: Option<&Receipt>, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.check()?;
        self.archive.check()?;
        let progress = bars::progress(output);
        let choice = match &self.to {
            To::Auto => Some(self.engines.choose()?),
            To::Engines(_) | To::Folder(_) | To::Archive(_) | To::Registry(_) => None,
        };
        if let Some(choice) = choice.as_ref().filter(|choice| choice.is_one_of_several) {
            engines::tell(output, choice);
        }
        let targets = self.targets(choice.as_ref(), &progress, interrupt)?;
        let mut signed = Vec::new();
        let archives: Vec<Box<dyn Layout>> = self
            .archive
            .open(interrupt)?
            .map(|(label, archive)| {
                let archive = archive?;
                if let Some(receipt) = receipt {
                    let quick = self.push.digests_only();
                    receipt.archive(&label, &archive, self.archive.are_expected(), quick);
                }
                let Accepted { layout, signed: by } = archive;
                signed.extend(by.map(|by| SignedArchive {
                    archive: label,
                    digest: layout.digest(),
                    signed: by,
                }));
                Ok(layout)
            })
            .collect::<Result<_>>()?;
        let mut observer = Printed::new(output);
        let loaded = load::load_each(
            &targets
                .iter()
                .map(|(_, target)| target.as_ref())
                .collect::<Vec<_>>(),
            &archives,
            &self.options(),
            &mut observer,
            progress.as_ref(),
            interrupt,
        );
        let outcomes = match loaded {
            Ok(outcomes) => outcomes,
            Err(error) if observer.refused.is_empty() => return Err(error.into()),
            Err(error) => return Err(Failure::Findings(error, observer.refused)),
        };
        progress.done();
        let results = Results {
            output,
            choice: choice.as_ref(),
            signed: &signed,
            warns_of_foreign: self.platform.is_empty(),
            width: self.table.width(std::io::stdout()),
        };
        let outcomes: Vec<_> = targets.iter().map(|(label, _)| *label).zip(outcomes).collect();
        if let Some(receipt) = receipt {
            receipt.outcomes(&outcomes);
        }
        results.print(outcomes)
    }

    /// Refuses options that the target does not have.
    fn check(&self) -> Result<()> {
        let refuse = |option: &str, kind: &str| {
            Err(Error::Usage {
                message: format!("{option} is for {kind}, not for --to {}", self.to),
                hint: None,
            })
        };
        if self.split.is_some() && !matches!(self.to, To::Archive(_)) {
            return refuse("--split", "--to archive:FILE");
        }
        if let Some(option) = self.push.given().filter(|_| !matches!(self.to, To::Registry(_))) {
            return refuse(option, "--to registry://HOST");
        }
        for (option, engines) in self.engines.given() {
            if let Some(first) = engines
                .first()
                .filter(|_| !engines.iter().any(|one| self.to.may_be(*one)))
            {
                return refuse(option, first.name());
            }
        }
        Ok(())
    }

    /// The targets, each with its label; `choice` is what `auto` means.
    fn targets(
        &self,
        choice: Option<&Choice>,
        progress: &Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<Vec<(&'static str, Box<dyn AnyTarget>)>> {
        let engines = match &self.to {
            To::Folder(path) => {
                let folder: Box<dyn AnyTarget> = Box::new(FolderTarget::new(path));
                return Ok(vec![("oci", folder)]);
            }
            To::Archive(path) => {
                let archive: Box<dyn AnyTarget> = Box::new(ArchiveTarget::new(path, self.split)?);
                return Ok(vec![("archive", archive)]);
            }
            To::Registry(destination) => {
                let target = self
                    .push
                    .target(destination.clone(), Arc::clone(progress), interrupt)?;
                return Ok(vec![("registry", Box::new(target))]);
            }
            To::Auto => choice.map_or(&[][..], |choice| std::slice::from_ref(&choice.engine)),
            To::Engines(engines) => engines,
        };
        let context = LoadContext {
            is_dry_run: self.dry_run,
            is_expected: self.archive.are_expected(),
            socket: choice.and_then(|choice| choice.socket.as_deref()),
            progress: progress.as_ref(),
        };
        let mut targets = Vec::new();
        let mut errors = Vec::new();
        for engine in engines {
            match self.engines.target(*engine, &context) {
                Ok(target) => targets.push((engine.word(), target)),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) if choice.is_some_and(|choice| choice.is_one_of_several) => {
                    errors.push(error.and_hint("--to names another engine"));
                }
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(targets),
            false => Err(Error::of_several(errors)),
        }
    }

    /// What is loaded, and how.
    fn options(&self) -> LoadOptions {
        LoadOptions {
            images: self.image.clone(),
            renames: self.rename.renames().to_vec(),
            platforms: self.platform.clone(),
            keep_going: self.keep_going,
            dry_run: self.dry_run,
            verify: verify::Options {
                quick: self.push.digests_only(),
                ..self.archive.verify_options()
            },
            ..LoadOptions::default()
        }
    }
}
