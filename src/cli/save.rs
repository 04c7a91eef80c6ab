//! `sealift save`.

use std::io::{IsTerminal as _, Stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sealift::archive::signature;
use sealift::archive::writer::{self, Inputs};
use sealift::docker::{self, switch::Switch};
use sealift::error::{ErrorKind, NewFile, Remedy};
use sealift::image::asked::Asked;
use sealift::image_list::Kind;
use sealift::installer::{self, Executable, Installer};
use sealift::interrupt::Interrupt;
use sealift::inventory::KnownHost;
use sealift::oci::{Digest, PlatformSelection, Reference};
use sealift::progress::Progress;
use sealift::retry::Retry;
use sealift::save::{self, Forecast};
use sealift::source::{Listing, Source};
use sealift::{Error, Result, transfer};

use super::bars;
use super::forecast::Needs;
use super::from::{FromArgs, RebuildArgs};
use super::lists::{self, ListArgs, Listed, all_of};
use super::output::{Failure, Outcome, Output};
use super::rename::RenameArgs;
use super::saved::{self, by_id, without_a_name};
use super::sign::SignArgs;
use super::size;
use super::table::TableArgs;

/// Save images and their digests into one archive
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift save httpd:2.4 redis@sha256:... -o images.tar
  sealift save --images list.txt --platform linux/amd64,linux/arm64 -o images.tar
  sealift save --images compose.yaml --images manifests.yaml -o images.tar
  helm template chart | sealift save --images - -o images.tar
  sealift save httpd:2.4 --mirror docker.io=harbor.local/dockerhub -o images.tar
  sealift save httpd:2.4 --split 4G -o /media/stick/images.tar     # images.tar.001, ...
  sealift save httpd:2.4 -o - | ssh host sudo sealift load -
  sudo sealift save --from docker httpd:2.4 myapp:7 -o images.tar  # the registry may be gone
  sudo sealift save --from docker --all -o everything.tar
  sudo sealift save --from containerd --namespace k8s.io --all -o node.tar
  sealift save --from podman --all -o everything.tar
  sealift save --from all.tar --from more.tar httpd:2.4 -o some.tar
  sealift save --images list.txt --keep-going -o images.tar
  sealift save --lock images.lock --locked -o images.tar
  sealift save httpd:2.4 --rename docker.io=harbor.local/dockerhub -o images.tar
  sealift save httpd:2.4 --have server1.json -o update.tar         # from `sealift inventory`
  sealift save httpd:2.4 -o images.tar --sign ~/.ssh/id_ed25519    # into images.tar.sig
  sealift save httpd:2.4 -o images.tar --with-installer            # on the host: sudo sh install.sh
  sudo sealift save --from docker --all --dry-run -o everything.tar

The last line of the output, `archive sha256:...`, pins everything in the archive. Carry it separately and \
give it to `load --expect`. A signature, which `--sign` makes, pins it as well: `load --allowed-signers` demands one.")]
pub struct Save {
    /// Images to save, named as in `docker pull`
    ///
    /// An image id, which may be shortened (49eb034b73f3, sha256:49eb), or the digest of a manifest or index saves an
    /// image without a name.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// File to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Save the images that a file names; repeatable
    ///
    /// A list with one name per line, a compose file, Kubernetes manifests, or another file that `sealift images`
    /// reads. `-` is standard input.
    #[arg(long = "images", value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Save exactly what a lock file names: digests, platforms
    ///
    /// `sealift images FILE --lock LOCK` writes one. A tag that has another digest by now does not matter; --locked refuses it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "list", "platform"])]
    lock: Option<PathBuf>,
    /// Refuse images whose tags do not have the digests that the lock file or NAME:TAG@DIGEST says
    ///
    /// Nothing is written then; the exit code is 7.
    #[arg(long, conflicts_with = "all")]
    locked: bool,
    /// Save every image of the local engine or of the `--from` archives
    ///
    /// Images of Docker without a name are skipped; their ids are listed. Implies --keep-going, unless --rebuild is
    /// `require`.
    #[arg(long, conflicts_with_all = ["images", "list", "lock"])]
    all: bool,
    /// Skip images that cannot be saved
    ///
    /// Images that are not found, damaged or incomplete are reported, and the others are saved. The exit code is that
    /// of the worst failure.
    #[arg(long)]
    keep_going: bool,
    /// Print what would be saved, and the disk space that it needs
    ///
    /// Nothing is written. Layers are recompressed all the same, to see whether they get their digests, which may take
    /// about as long as the save.
    #[arg(long)]
    dry_run: bool,
    /// Refuse images that this engine would not load (exit code 6)
    ///
    /// These have layers that could be saved only uncompressed, or they have neither their manifest nor a tag. With
    /// --keep-going or --all, they are skipped.
    #[arg(long = "for", value_name = "ENGINE", value_enum)]
    target: Option<For>,
    /// Leave out the layers that a host has, by its inventory; repeatable
    ///
    /// `sealift inventory` writes FILE on that host. The archive declares what it leaves out, and `load` refuses it where
    /// that is missing. With several inventories, only layers that all of the hosts have are left out.
    #[arg(long, value_name = "FILE")]
    have: Vec<PathBuf>,
    #[command(flatten)]
    rename: RenameArgs,
    /// Platforms to save: `host`, `all`, or OS/ARCH[/VARIANT], comma-separated
    ///
    /// `host` is Linux on this machine's architecture. An image must have all of them; one without an index has a single
    /// platform, which must be among them.
    ///
    /// [default: from a registry, `host`; from an engine or archive, what it has]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<PlatformSelection>,
    /// Split the archive into parts of at most SIZE: 700MB, 4G, 4GiB
    ///
    /// The parts are named FILE.001, FILE.002, ... Every command reads them as they are.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split: Option<u64>,
    /// Write install.sh, SHA256SUMS and this executable beside the archive
    ///
    /// `sh install.sh` verifies and loads the archive on a host that has nothing but sh and the engine. Its options are
    /// those of `sealift load`, or environment variables: see `sh install.sh --help`.
    #[arg(long)]
    with_installer: bool,
    /// Executable for the installer, in place of this one; repeatable, one for each architecture
    ///
    /// It must be of this version, for linux/amd64 or linux/arm64.
    #[arg(long, value_name = "FILE", requires = "with_installer")]
    executable: Vec<PathBuf>,
    #[command(flatten)]
    sign: SignArgs,
    /// Start again instead of resuming an interrupted save
    ///
    /// If this save is interrupted, nothing is left of it.
    #[arg(long)]
    no_resume: bool,
    /// Number of blobs to fetch at the same time [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    rebuild: RebuildArgs,
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    lists: ListArgs,
}

/// An engine that loads layers only as they were stored.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    /// Docker with its containerd store
    DockerContainerd,
    /// containerd
    Containerd,
    /// podman
    Podman,
    /// CRI-O
    Crio,
}

/// Names of standard output, on which no report may be printed then.
const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

impl Save {
    /// Saves.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let to_stdout = STDOUT.iter().any(|name| self.output == Path::new(name));
        let mut stdout = std::io::stdout();
        let installer = self.installer()?;
        if to_stdout {
            if !self.dry_run {
                may_take_an_archive(&stdout, output)?;
            }
            if installer.is_some() {
                return Err(Error::Usage {
                    message:
                        "an installer is written beside an archive, and standard output has no such place"
                            .into(),
                    hint: Some("name a file with -o".into()),
                }
                .into());
            }
        } else {
            is_plain_tar(&self.output)?;
            writer::check_place(&self.output, self.split.is_some(), Remedy::SaveTo)?;
            self.inputs().refuse_archive(&self.output)?;
            if let Some(installer) = &installer {
                installer.check_place(&self.output)?;
                for executable in installer.executables().iter().filter(|one| !one.is_static) {
                    output.warn(&format!(
                        "{} needs libraries of this system, and runs only where they are as new",
                        executable.path.display()
                    ));
                    output.hint("--executable takes another: those of a release run on any Linux");
                }
            }
        }
        let mut inputs = self.inputs();
        self.sign.key().into_iter().for_each(|key| inputs.add_path(key));
        let file = Some(self.output.as_path()).filter(|_| !to_stdout);
        let sign = self.sign.signing(file, &inputs)?;
        let have = self.have(output)?;
        let lists = self.lists(output)?;
        let named = self.named(&lists)?;
        let progress = bars::progress(output);
        let beside = Some(self.output.as_path()).filter(|_| !to_stdout);
        let source = self.from.source(
            self.all,
            beside,
            self.rebuild.rebuild(),
            self.dry_run,
            &progress,
            interrupt,
        )?;
        let (references, nameless) = self.references(source.as_ref(), named)?;
        if self.locked {
            refuse_moved_tags(source.as_ref(), &references, interrupt)?;
        }
        let options = save::Options {
            platforms: self.platform.clone(),
            platforms_of: lists::platforms(&lists),
            names_by_tag: self.lock.is_some(),
            split: self.split,
            resume: !self.no_resume,
            retry: Retry {
                attempts: self.from.tries(),
                ..transfer::RETRY
            },
            renames: self.rename.renames().to_vec(),
            keep_going: self.keep_going || self.all && !self.rebuild.requires_proof(),
            have,
            for_other_stores: self.target.is_some(),
            sign,
            beside: installer.as_ref().map_or(Ok(0), Installer::size)?,
            jobs: self
                .jobs
                .and_then(|jobs| NonZeroUsize::new(jobs.into()))
                .unwrap_or(transfer::JOBS),
            ..save::Options::default()
        };
        let (source, progress) = (source.as_ref(), progress.as_ref());
        let result = match self.dry_run {
            true => {
                let forecast = save::forecast(source, &references, &options, progress, interrupt);
                forecast.and_then(|forecast| {
                    let needs = self.needs(&forecast, &options, beside, interrupt)?;
                    Ok((forecast.summary, Some(needs)))
                })
            }
            false => {
                let target = match to_stdout {
                    true => save::Output::Stream(Path::new("standard output"), &mut stdout),
                    false => save::Output::File(&self.output),
                };
                let saved = save::save(source, &references, &options, target, progress, interrupt);
                saved.map(|summary| (summary, None))
            }
        };
        if let (Err(error), Some(why)) = (&result, self.from.unasked())
            && matches!(error.kind(), ErrorKind::Registry | ErrorKind::NotFound)
        {
            output.note(&format!("the local Docker was not asked: {why}"));
        }
        let (summary, needs) = result.map_err(|error| match error.each().len() {
            failed if failed < references.len() && !options.keep_going && is_of_images(&error) => {
                Failure::Hinted(error, "--keep-going saves the other images".into())
            }
            _ => error.into(),
        })?;
        let installer = match installer.filter(|_| !self.dry_run) {
            None => Vec::new(),
            Some(installer) => self.write_installer(&installer, &summary, progress, interrupt)?,
        };
        progress.done();
        let report = saved::Report {
            summary: &summary,
            installer: &installer,
            archive: &self.output,
            to_stdout: to_stdout && !self.dry_run,
            nameless: &nameless,
            needs,
            // Who names the source takes what it has.
            needs_digests: self.from.is_auto() && !self.all,
        };
        let width = match report.to_stdout {
            true => self.table.width(std::io::stderr()),
            false => self.table.width(std::io::stdout()),
        };
        let failure = report.print(output, width)?;
        if !self.dry_run && summary.signature.is_none() && !to_stdout {
            self.warn_of_signature(&summary.digest, output);
        }
        if !self.dry_run
            && !self.with_installer
            && let Ok(Some(script)) = installer::outdated(&self.output, &summary.files, &summary.digest)
        {
            let script = script.display();
            output.warn(&format!(
                "{script} is of the archive that was there before, and refuses this one"
            ));
            output.hint("--with-installer writes it anew");
        }
        Ok(failure)
    }

    /// The files and folders that are read.
    fn inputs(&self) -> Inputs {
        let mut inputs = self.from.inputs();
        let lists = self.list.iter().chain(&self.lock);
        for path in lists.chain(&self.have).chain(&self.executable) {
            inputs.add_path(path);
        }
        inputs
    }

    /// Warns of a signature that is beside the archive and of another one.
    fn warn_of_signature(&self, digest: &Digest, output: &Output) {
        if let Some(file) = signature::file_of(&self.output)
            && signature::is_of_another(&file, digest)
        {
            let file = file.display();
            output.warn(&format!(
                "{file} is of the archive that was there before, and not of this one"
            ));
            output.hint("--sign writes it anew");
        }
    }

    /// What is written beside the archive.
    fn installer(&self) -> Result<Option<Installer>> {
        if !self.with_installer {
            return Ok(None);
        }
        let executables = match self.executable.as_slice() {
            [] => vec![Executable::own()?],
            paths => all_of(paths.iter().map(|path| Executable::open(path)))?,
        };
        Installer::new(executables).map(Some)
    }

    /// Writes the installer of a complete archive.
    fn write_installer(
        &self,
        installer: &Installer,
        summary: &save::Summary,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<PathBuf>, Failure> {
        let archive = self.output.display();
        let digest = summary.digest;
        let complete = format!("{archive} is complete, with the digest {digest}: only its installer is not");
        let _remark = interrupt.on_stop({
            let (interrupt, complete) = (interrupt.clone(), complete.clone());
            move || interrupt.remark(complete)
        });
        let written = installer.write(&summary.files, &digest, progress, interrupt);
        written.map_err(|error| Failure::Hinted(error, complete.into()))
    }

    /// What the save needs, and what comes after it.
    fn needs(
        &self,
        forecast: &Forecast,
        options: &save::Options,
        output: Option<&Path>,
        interrupt: &Interrupt,
    ) -> Result<Needs> {
        let tmpdir = self.from.tmpdir(interrupt, output);
        let rooms = save::rooms(forecast, options, output, &tmpdir)?;
        let switches = self.target == Some(For::DockerContainerd) && self.from.has_docker();
        let switch = match switches {
            true => match Switch::look(&docker::Options::from_process()) {
                // The images may come from a registry, on a host without Docker.
                Err(Error::Engine { .. }) if self.from.is_auto() => None,
                looked => looked?,
            },
            false => None,
        };
        Ok(Needs::new(forecast, rooms, switch))
    }

    /// The hosts whose inventories were given.
    fn have(&self, output: &Output) -> Result<Vec<KnownHost>> {
        let hosts = self.have.iter().map(|path| KnownHost::read(path));
        let hosts = all_of(hosts)?;
        for (path, host) in self.have.iter().zip(&hosts) {
            let engines: Vec<&str> = host.engines.iter().map(|engine| engine.engine.as_str()).collect();
            let path = path.display();
            match engines.as_slice() {
                [] => output.note(&format!("{path} lists no images, so nothing is left out")),
                [_] => {}
                engines => {
                    let engines = engines.join(" and ");
                    output.note(&format!(
                        "{path} is of {engines}: a layer is left out if each of them has it"
                    ));
                    output.hint("for one of them, name it, as in `sealift inventory --from docker`");
                }
            }
        }
        Ok(hosts)
    }

    /// What the lists or the lock file name.
    fn lists(&self, output: &Output) -> Result<Vec<Listed>> {
        let Some(lock) = &self.lock else {
            return self.lists.read(&self.list, output);
        };
        let lists = self.lists.read(std::slice::from_ref(lock), output)?;
        let mut mentions = lists.iter().flat_map(|file| &file.list.mentions);
        match mentions.all(|mention| mention.kind == Kind::Lock) {
            true => Ok(lists),
            false => Err(Error::Usage {
                message: format!("{} is not a lock file", lock.display()),
                hint: Some("`sealift images FILE --lock LOCK` writes one".into()),
            }),
        }
    }

    /// The images named in arguments and lists. Every invalid name is reported.
    fn named(&self, lists: &[Listed]) -> Result<Vec<Asked>> {
        let mut names: Vec<Result<Asked>> = Vec::new();
        names.extend(self.images.iter().map(|name| Asked::parse(name)));
        names.extend(lists::asked(lists));
        all_of(names)
    }

    /// The images to save, and those that are skipped as they have no name.
    fn references(&self, source: &dyn Source, named: Vec<Asked>) -> Result<(Vec<Reference>, Vec<Digest>)> {
        let is_whole = self.all
            || (self.from.is_archives() && named.is_empty() && self.list.is_empty() && self.lock.is_none());
        if is_whole {
            let listing = source.list()?.complete()?;
            let nameless = match self.all {
                true => listing.nameless,
                false => Vec::new(),
            };
            return Ok((some(listing.references, &nameless, self.all)?, nameless));
        }
        let has_ids = named.iter().any(|asked| matches!(asked, Asked::Id(_)));
        let listing = match has_ids {
            true => source.list()?,
            false => Listing::default(),
        };
        let references = all_of(named.into_iter().map(|asked| match asked {
            Asked::Image(reference) => Ok(reference),
            Asked::Id(id) => {
                let found = listing.with_id(&id);
                id.one_of(found, &self.from.places())
            }
        }))?;
        Ok((some(references, &[], false)?, Vec::new()))
    }
}

/// Refuses images whose tags have other digests in the source than the references say.
fn refuse_moved_tags(source: &dyn Source, references: &[Reference], interrupt: &Interrupt) -> Result<()> {
    let pinned = |reference: &Reference| Some((reference.without_digest()?, reference.digest()?));
    let (tags, expected): (Vec<Reference>, Vec<Digest>) = references.iter().filter_map(pinned).unzip();
    if tags.is_empty() {
        return Err(Error::Usage {
            message: "--locked compares tags with digests, and no image is named by both".into(),
            hint: Some("name a lock file with --lock, or images as NAME:TAG@sha256:...".into()),
        });
    }
    let roots = save::digests(source, &tags, &save::Options::default(), interrupt)?;
    let moved = roots.into_iter().zip(tags.iter().zip(expected));
    all_of(moved.map(|(root, (tag, expected))| {
        let root = root?;
        let now = match root.digest {
            Some(digest) if digest == expected => return Ok(()),
            Some(digest) => format!("the tag has {digest} there now"),
            None => "the tag has no digest there".into(),
        };
        Err(Error::NotFound {
            what: format!("{tag} with the digest {expected}"),
            place: root.origin,
            hint: Some(now.into()),
        })
    }))
    .map(drop)
}

/// Refuses to save nothing.
fn some(references: Vec<Reference>, nameless: &[Digest], all: bool) -> Result<Vec<Reference>> {
    if !references.is_empty() {
        return Ok(references);
    }
    let (message, hint) = match nameless {
        [] if all => ("there is no image to save".into(), None),
        [] => (
            "no image was named".into(),
            Some("for example: sealift save httpd:2.4 -o images.tar".into()),
        ),
        nameless => (
            format!("nothing to save: {} there", without_a_name(nameless.len())),
            Some(by_id(nameless).into()),
        ),
    };
    Err(Error::Usage { message, hint })
}

/// Whether a save failed because of single images, so that others may succeed.
fn is_of_images(error: &Error) -> bool {
    let mut errors = error.each().iter();
    let is_of_image = |kind| {
        matches!(
            kind,
            ErrorKind::Content | ErrorKind::Registry | ErrorKind::NotShown | ErrorKind::NotFound
        )
    };
    errors.all(|error| is_of_image(error.kind()))
}

/// Refuses to write an archive to standard output if that is a terminal or has the JSON document.
fn may_take_an_archive(stdout: &Stdout, output: &Output) -> Result<()> {
    let (message, hint) = if output.is_json() {
        (
            "standard output cannot take the archive and --json",
            "name a file with -o",
        )
    } else if stdout.is_terminal() {
        (
            "an archive is not for a terminal",
            "send standard output to a file or a pipe, or name a file with -o",
        )
    } else {
        return Ok(());
    };
    Err(Error::Usage {
        message: message.into(),
        hint: Some(hint.into()),
    })
}

/// Extensions of compressed files.
const COMPRESSED: [&str; 14] = [
    "gz", "tgz", "zst", "tzst", "xz", "txz", "bz2", "tbz", "tbz2", "lz", "lz4", "lzma", "z", "zip",
];

/// Refuses to write a plain tar under the name of a compressed one, which readers would rely on.
fn is_plain_tar(output: &Path) -> Result<()> {
    let extension = output.extension().and_then(|extension| extension.to_str());
    let Some(extension) = extension.filter(|text| COMPRESSED.contains(&text.to_ascii_lowercase().as_str()))
    else {
        return Ok(());
    };
    let stem = output.with_extension("");
    let plain = match stem
        .extension()
        .is_some_and(|inner| inner.eq_ignore_ascii_case("tar"))
    {
        true => stem,
        false => output.with_extension("tar"),
    };
    Err(Error::Usage {
        message: format!(
            "{}: an archive is an uncompressed tar, not .{extension}: its layers are compressed already, and blobs are \
             read at their offsets",
            output.display()
        ),
        hint: Some(Remedy::SaveTo(NewFile::Whole(plain)).into()),
    })
}
