//! `sealift load`.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sealift::archive::content::Content;
use sealift::archive::verify::Report as Verification;
use sealift::docker::attach::{Allowed, Restart, Rules};
use sealift::docker::stopped::StoppedStore;
use sealift::docker::{self, Docker};
use sealift::error::Finding;
use sealift::escape::Escaped;
use sealift::escape::shell_word;
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::layout::{ArchiveTarget, FolderTarget};
use sealift::load::{
    self, Change, DigestStatus, LoadOptions, Obstacle, ObstacleKind, Plan, Platforms, Report, Target,
};
use sealift::oci::{Platform, Reference};
use sealift::{Error, Result};

use super::archive::ArchiveArgs;
use super::bars;
use super::output::{Failure, Outcome, Output, skipped};
use super::rename::RenameArgs;
use super::rows::own_rows;
use super::size::{self, Size};
use super::table::{Column, TableArgs, table};
use super::to::To;

/// Verify archives and load their images, with digests, into an engine, a layout or another archive
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sudo sealift load images.tar
  sudo sealift load images.tar --expect sha256:...     # the line that save printed
  sealift load images.tar --dry-run                    # what would be sent, named and attached
  sudo sealift load images.tar --image httpd:2.4 --rename httpd=harbor.local/web
  sudo sealift load images.tar --rename docker.io/library=harbor.local/lib
  sudo sealift load images.tar --attach offline --allow-restart
  sudo sealift load images.tar --data-root /mnt/golden/var/lib/docker
  ssh build sealift save -o - httpd:2.4 | sudo sealift load -
  sealift load images.tar --to oci:images              # create an OCI layout, or add to it
  sealift load images.tar --image httpd:2.4 --to archive:httpd.tar

`load` verifies every byte before it sends anything, and hashes it again while it sends it. It sends only \
what the engine does not have. It sets the names last, when all content is in the engine. If the load fails \
before that, existing names are unchanged.

Docker's classic store shows a digest only after it is attached, which needs root: see `--attach`. If a digest \
cannot be attached, the image is loaded and the exit code is 6.")]
pub struct Load {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Where to load the images
    ///
    /// `auto`, `docker`: the engine of this host. DOCKER_HOST, DOCKER_CONTEXT and the current context say where Docker is.
    ///
    /// `oci:PATH`: an OCI layout folder. It is created, or the images are added to those that it has.
    ///
    /// `archive:FILE`: an archive as `save` writes it, of the images that are selected. It replaces FILE.
    #[arg(long, value_name = "auto|docker|oci:PATH|archive:FILE", default_value_t = To::Auto)]
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
    /// Without it, an engine gets the platform that a pull would choose, and a layout or archive gets all. The engine need
    /// not be able to run it. A layout or archive can get several, comma-separated.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// How to attach digests to Docker's classic store
    #[arg(long, value_enum, default_value_t = How::Auto)]
    attach: How,
    /// Attach digests that the archive records without proof
    ///
    /// Any archive can claim any digest, so the exit code is 6. --expect implies this option.
    #[arg(long)]
    trust_recorded: bool,
    /// Allow sealift to restart the engine to attach digests
    #[arg(long)]
    allow_restart: bool,
    /// Command that stops the engine [default: systemctl]
    #[arg(long, value_name = "COMMAND", requires = "start_command")]
    stop_command: Option<String>,
    /// Command that starts the engine [default: systemctl]
    #[arg(long, value_name = "COMMAND", requires = "stop_command")]
    start_command: Option<String>,
    /// Write names and digests into the store of a Docker that is not running
    ///
    /// DIR is the data root of a classic store, such as a golden image's var/lib/docker. The store must have the images
    /// already.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["allow_restart", "stop_command"])]
    data_root: Option<PathBuf>,
    /// Make a later `docker push` keep the digests where it can
    ///
    /// Records the layers' compressed digests in Docker's classic store, as a pull does. The exit code is 6 if a push
    /// would change a digest all the same.
    #[arg(long)]
    keep_push_digest: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip images that cannot be loaded
    ///
    /// These are images that are damaged, artifacts, without a name, only for another platform, or with uncompressed
    /// layers where the engine needs compressed ones.
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    table: TableArgs,
}

const COLUMNS: [Column; 6] = [
    Column::Name("NAME"),
    Column::Name("TAG"),
    Column::Digest("DIGEST"),
    // What is not verified or not shown is also a warning.
    Column::Minor("EVIDENCE"),
    Column::Minor("SHOWN"),
    Column::Text("CHANGE"),
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// The first method that works; offline only with --allow-restart
    Auto,
    /// Only methods that keep the engine running
    Live,
    /// Only while the engine is stopped; needs --allow-restart if it is running
    Offline,
    /// Attach no digests
    None,
}

impl Load {
    /// Verifies, plans, applies, and reports what is shown.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.check()?;
        self.archive.check()?;
        match &self.to {
            To::Auto | To::Docker => self.load_into_docker(output, interrupt),
            To::Folder(path) => self.load(&FolderTarget::new(path), output, interrupt),
            To::Archive(path) => self.load(&ArchiveTarget::new(path, self.split)?, output, interrupt),
        }
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
        let given = [
            ("--attach", self.attach != How::Auto),
            ("--trust-recorded", self.trust_recorded),
            ("--allow-restart", self.allow_restart),
            ("--stop-command", self.stop_command.is_some()),
            ("--data-root", self.data_root.is_some()),
            ("--keep-push-digest", self.keep_push_digest),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if !self.to.is_engine() => refuse(option, "Docker"),
            _ => Ok(()),
        }
    }

    fn load_into_docker(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let progress = bars::progress(output);
        let options = docker::Options {
            attach: Rules {
                allowed: match self.attach {
                    How::Auto => Allowed::Auto,
                    How::Live => Allowed::Live,
                    How::Offline => Allowed::Offline,
                    How::None => Allowed::None,
                },
                trust_recorded: self.trust_recorded || self.archive.are_expected(),
            },
            restart: Restart {
                allowed: self.allow_restart,
                stop: self.stop_command.clone(),
                start: self.start_command.clone(),
            },
            keep_push_digest: self.keep_push_digest,
            ..docker::Options::from_process()
        };
        if !self.dry_run {
            // Before the engine is asked for anything: it may be down because of what is repaired.
            docker::repair(&options.folder, self.start_command.as_deref(), progress.as_ref())?;
        }
        if let Some(root) = &self.data_root {
            return self.load(&StoppedStore::find(Some(root), &options)?, output, interrupt);
        }
        match Docker::connect(&options) {
            Ok(docker) => self.load(&docker, output, interrupt),
            Err(error) => match self.stopped(&options) {
                Some(stopped) => self.load(&stopped, output, interrupt),
                None => Err(error.into()),
            },
        }
    }

    /// The store of this host's engine, if it is not running and `--attach offline` was given.
    fn stopped(&self, options: &docker::Options) -> Option<StoppedStore> {
        let is_meant = matches!(self.attach, How::Offline) && StoppedStore::is_of(&options.environment);
        is_meant.then(|| StoppedStore::find(None, options).ok()).flatten()
    }

    fn load<T: Target>(&self, target: &T, output: &Output, interrupt: &Interrupt) -> Outcome {
        let progress = bars::progress(output);
        let archives: Vec<Box<dyn Content>> = self
            .archive
            .open(interrupt)?
            .map(|(_, content)| content)
            .collect::<Result<_>>()?;
        let mut observer = Printed {
            output,
            refused: Vec::new(),
        };
        let loaded = load::load(
            target,
            &archives,
            &self.options(),
            &mut observer,
            progress.as_ref(),
            interrupt,
        );
        match loaded {
            Ok(load::Outcome::Planned(plan)) => {
                progress.done();
                planned(output, &plan)
            }
            Ok(load::Outcome::Loaded(report)) => {
                progress.done();
                self.loaded(output, &report)
            }
            Err(error) if observer.refused.is_empty() => Err(error.into()),
            Err(error) => Err(Failure::Findings(error, observer.refused)),
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
            verify: self.archive.verify_options(),
        }
    }

    fn loaded(&self, output: &Output, report: &Report) -> Outcome {
        if output.is_json() {
            output.json(report)?;
            return Ok(report.exit_code());
        }
        if !output.is_quiet() {
            show(output, report, self.table.width(std::io::stdout()))?;
        }
        if self.platform.is_empty() {
            tell_foreign(output, report);
        }
        told(output, report)
    }
}

/// Prints what is found before anything is loaded.
struct Printed<'o> {
    output: &'o Output,
    /// The findings of an archive that is refused.
    refused: Vec<Finding>,
}

impl load::Observer for Printed<'_> {
    fn damaged(&mut self, report: &Verification, is_refused: bool) {
        for finding in report.findings.iter().filter(|finding| finding.is_error()) {
            self.output.warn(&finding.to_string());
        }
        for error in &report.unread {
            self.output.warn(&error.to_string());
        }
        if is_refused {
            self.refused.clone_from(&report.findings);
        }
    }

    fn planned(&mut self, plan: &Plan) {
        let space = plan.space.as_ref();
        if let Some(space) = space.filter(|space| space.is_short() && !space.is_insufficient) {
            self.output.warn(&format!(
                "the load may not fit into {}: {} are needed, {} are free",
                space.path,
                Size(space.needed),
                Size(space.free)
            ));
        }
    }
}

/// Warns of images that the engine cannot run.
fn tell_foreign(output: &Output, report: &Report) {
    let mut foreign: Vec<(&Platforms, Vec<&Reference>)> = Vec::new();
    for image in report.images.iter().filter(|image| image.is_foreign) {
        match foreign.iter_mut().find(|(known, _)| **known == image.platforms) {
            Some((_, names)) => names.push(&image.name),
            None => foreign.push((&image.platforms, vec![&image.name])),
        }
    }
    for (platforms, names) in foreign {
        let names = first_names(&names);
        output.warn(&format!(
            "for {platforms}, which the engine does not run by itself: {names}"
        ));
    }
}

/// The hint to an obstacle; where only consent to a restart is missing, the whole command that would show the digest.
fn hint(obstacle: &Obstacle) -> Option<String> {
    match obstacle.kind {
        ObstacleKind::NeedsRestart => {
            let is_root = rustix::process::geteuid().is_root();
            Some(consenting(std::env::args().skip(1), is_root))
        }
        ObstacleKind::NeedsRoot | ObstacleKind::Other => obstacle.hint.clone(),
    }
}

/// The same command line for a shell, with consent to a restart.
fn consenting(arguments: impl Iterator<Item = String>, is_root: bool) -> String {
    // On hosts where root logs in, sudo may not be installed.
    let sudo = (!is_root).then(|| "sudo".to_string());
    let mut words: Vec<String> = sudo.into_iter().chain(["sealift".to_string()]).collect();
    let mut arguments = arguments.filter(|argument| argument != "--dry-run");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--attach" => drop(arguments.next()),
            text if text.starts_with("--attach=") => {}
            text => words.push(shell_word(text)),
        }
    }
    words.extend(["--attach", "offline", "--allow-restart"].map(str::to_string));
    words.join(" ")
}

fn planned(output: &Output, plan: &Plan) -> Outcome {
    if output.is_json() {
        output.json(plan)?;
    } else {
        let mut plan = plan.clone();
        let statuses = plan.images.iter_mut().map(|image| &mut image.digest_status);
        for digest_status in statuses {
            if let DigestStatus::Unavailable { obstacles } = digest_status {
                for obstacle in obstacles {
                    obstacle.hint = hint(obstacle);
                }
            }
        }
        for line in plan.to_string().lines() {
            output.line(line)?;
        }
    }
    if let Err(error) = plan.check_space() {
        output.error(&error);
    }
    Ok(plan.exit_code())
}

fn told(output: &Output, report: &Report) -> Outcome {
    let hidden = report.images.iter().filter(|image| !image.is_as_asked());
    tell(
        output,
        "not shown",
        hidden.map(|image| (&image.name, image.obstacles.as_slice())),
    );
    let unproven = report.images.iter().filter(|image| image.is_unproven());
    let unproven: Vec<&Reference> = unproven.map(|image| &image.name).collect();
    if !unproven.is_empty() {
        let names = first_names(&unproven);
        output.warn(&format!(
            "not proven: {names}: nothing proves the digest that is shown; the archive recorded it"
        ));
    }
    if !output.is_quiet() {
        note_undigested(output, report);
    }
    let pushed = report
        .images
        .iter()
        .filter_map(|image| Some((&image.name, image.details.push.as_deref()?)));
    tell(
        output,
        "a push changes the digest",
        pushed.filter(|(_, obstacles)| !obstacles.is_empty()),
    );
    for image in &report.skipped {
        output.warn(&skipped(&image.name, &image.reason));
    }
    Ok(report.exit_code())
}

/// Notes which images show no digest although the load did what was requested.
fn note_undigested(output: &Output, report: &Report) {
    let declined = report.images.iter().filter(|image| image.details.declined);
    let declined: Vec<&Reference> = declined.map(|image| &image.name).collect();
    if !declined.is_empty() {
        output.note(&format!(
            "digest not attached, as --attach none asks: {}",
            first_names(&declined)
        ));
    }
    let mut reasons: Vec<(&str, Vec<&Reference>)> = Vec::new();
    for image in &report.images {
        let Some(reason) = image.no_digest.as_deref() else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(&image.name),
            None => reasons.push((reason, vec![&image.name])),
        }
    }
    for (reason, names) in reasons {
        output.note(&format!("no digest: {}: {reason}", first_names(&names)));
    }
}

/// Reports obstacles, each one once with the names that it concerns.
fn tell<'r>(output: &Output, what: &str, images: impl Iterator<Item = (&'r Reference, &'r [Obstacle])>) {
    let mut groups: Vec<(&[Obstacle], Vec<&Reference>)> = Vec::new();
    for (name, obstacles) in images {
        match groups.iter_mut().find(|(known, _)| *known == obstacles) {
            Some((_, names)) => names.push(name),
            None => groups.push((obstacles, vec![name])),
        }
    }
    for (obstacles, names) in groups {
        let reasons: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
        let names = first_names(&names);
        output.warn(&format!("{what}: {names}: {}", reasons.join("; ")));
        let mut printed: Vec<String> = Vec::new();
        for hint in obstacles.iter().filter_map(hint) {
            if !printed.contains(&hint) {
                output.hint(&hint);
                printed.push(hint);
            }
        }
    }
}

/// The first names of a list, and the number of the others.
fn first_names(names: &[&Reference]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| name.familiar()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// An image id as Docker prints it.
fn short_id(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    let short: String = hex.chars().take(12).collect();
    Escaped(&short).to_string()
}

fn show(output: &Output, report: &Report, width: Option<usize>) -> Result<(), Failure> {
    // The tag that was set, or else the digest.
    let shown: Vec<Reference> = report
        .images
        .iter()
        .map(|image| match (&image.tag, image.digest) {
            (Some(tag), _) => tag.clone(),
            (None, Some(digest)) => Reference::digested(image.name.repository(), digest),
            (None, None) => image.name.clone(),
        })
        .collect();
    let digests = report.images.iter().map(|image| image.digest);
    let has_row = own_rows(shown.iter().map(Some).zip(digests));
    let rows: Vec<Vec<String>> = report
        .images
        .iter()
        .zip(has_row)
        .filter(|(_, has_row)| *has_row)
        .map(|(image, _)| {
            let tag = image.tag.as_ref().and_then(|name| name.tag());
            vec![
                match image.name.is_nameless() {
                    true => "<none>".into(),
                    false => image.name.repository().familiar().to_string(),
                },
                tag.unwrap_or("<none>").to_string(),
                image
                    .digest
                    .map_or_else(|| "<none>".into(), |digest| digest.to_string()),
                image.evidence.to_string(),
                match image.shown {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "-",
                }
                .into(),
                match &image.change {
                    Change::New => "new".into(),
                    Change::Moved { from } => format!("moved from {}", short_id(from)),
                    Change::Unchanged => "unchanged".into(),
                },
            ]
        })
        .collect();
    for line in table(&COLUMNS, &rows, width) {
        output.line(line)?;
    }
    let images: HashSet<_> = report
        .images
        .iter()
        .map(|image| (image.image_id, image.image_id.map_or(image.digest, |_| None)))
        .collect();
    let images = match images.len() {
        count if count < rows.len() => format!("{} with {} names", names::count(count, "image"), rows.len()),
        count => names::count(count, "image"),
    };
    output.line(format_args!(
        "{images} in {}, {} sent",
        report.target,
        Size(report.sent)
    ))?;
    match &report.details.digest {
        Some(digest) => output.line(format_args!("archive {digest}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::consenting;

    #[test]
    fn the_command_that_would_do_it_can_be_pasted() {
        let line = |text: &[&str]| consenting(text.iter().map(|word| (*word).to_string()), false);
        assert_eq!(
            line(&[
                "load",
                "a b.tar",
                "--dry-run",
                "--attach",
                "live",
                "--image",
                "httpd:2.4"
            ]),
            "sudo sealift load 'a b.tar' --image httpd:2.4 --attach offline --allow-restart"
        );
        assert_eq!(
            line(&["load", "it's", "--attach=auto"]),
            r"sudo sealift load 'it'\''s' --attach offline --allow-restart"
        );
        assert_eq!(
            consenting(["load", "x.tar"].map(str::to_string).into_iter(), true),
            "sealift load x.tar --attach offline --allow-restart"
        );
    }
}
