//! `sealift images`: what files name, and whether a place has it.
//!
//! - [`missing`]: which images a place does not have
//! - [`resolved`]: lock files, and files with digests instead of tags

mod missing;
mod resolved;

use std::path::{Path, PathBuf};

use clap::Args;

use sealift::image::names;
use sealift::image_list::Mention;
use sealift::interrupt::Interrupt;
use sealift::oci::{Platform, PlatformSelection};
use sealift::{Error, Result};

use self::missing::{Asking, Missing, Place};
use self::resolved::Resolving;
use super::bars;
use super::from::FromArgs;
use super::lists::{self, ListArgs, Listed, Named};
use super::output::{Failure, Outcome, Output, error_json, hint_of};
use super::table::{Column, TableArgs, table};

/// List the images that files name, find those that a place lacks, pin digests
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift images compose.yaml
  sealift images compose.yaml --profile debug --env-file prod.env
  helm template chart | sealift images -
  sealift images -q compose.yaml manifests.yaml > list.txt
  sealift images --json compose.yaml | jq -r '.images[].name'
  sealift images compose.yaml --missing-from images.tar
  sealift images manifests.yaml --pin --from images.tar -o pinned.yaml
  sealift images compose.yaml --lock images.lock --from images.tar

Each file is a list with one name per line, a compose file, Kubernetes manifests as `kubectl`, `helm template` and \
`kubectl kustomize` print them, a kustomization.yaml, a zarf.yaml, a Hauler manifest, or a lock file. What a file has \
and is not used is reported on standard error. `save --images` and `verify --images` read the same files.")]
pub struct Images {
    /// Files that name images; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Report the images that a place lacks, or has with another digest; exit code 7 if there are any
    ///
    /// PLACE is an archive or layout, registry://HOST[/PREFIX], docker, containerd, podman, crio, or a file that
    /// `sealift inventory` wrote on another host. `registry` asks the registry that each image names. Nothing is fetched
    /// but manifests and configs.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["from", "offline", "data_root", "lock", "pin"])]
    missing_from: Option<String>,
    /// Write the file with NAME@DIGEST in place of each image, with the digests that `--from` has
    ///
    /// Comments, order and everything else stay as they are.
    #[arg(long)]
    pin: bool,
    /// File to write with --pin; `-` is standard output [default: -]
    #[arg(short, long, value_name = "FILE", requires = "pin")]
    output: Option<PathBuf>,
    /// Write a lock file: the digest, platforms and size of each image that `--from` has
    ///
    /// `save --lock` saves exactly that. `-` is standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    lock: Option<PathBuf>,
    /// Platforms that --missing-from and --lock look for: `host`, `all`, or OS/ARCH[/VARIANT], comma-separated
    ///
    /// [default: of --missing-from, those that the place has; of --lock, as in `save`]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "pin")]
    platform: Option<PlatformSelection>,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    lists: ListArgs,
}

const COLUMNS: [Column; 3] = [Column::Name("NAME"), Column::Text("PLACE"), Column::List("PATH")];
const MISSING: [Column; 3] = [
    Column::Name("NAME"),
    Column::Text("PLACE"),
    Column::List("MISSING"),
];

impl Images {
    /// Lists, compares, pins or locks the images.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        self.check()?;
        let files = self.lists.read(&self.files, output)?;
        self.check_output(&files)?;
        let resolving = Resolving {
            from: &self.from,
            platforms: self.platform.as_ref(),
            output,
            interrupt,
        };
        match (&self.missing_from, &self.lock, files.as_slice()) {
            (Some(place), _, _) => return self.missing(place, &files, output, interrupt),
            (None, Some(path), _) => resolving.lock(&files, path, self.table)?,
            (None, None, [file, others @ ..]) if self.pin => {
                if !output.is_quiet() {
                    for other in others.iter().filter(|other| !other.list.mentions.is_empty()) {
                        output.note(&format!("{} has images too: pin it by itself", other.label));
                    }
                }
                resolving.pin(file, self.pinned())?;
            }
            _ => return self.list(&files, output),
        }
        Ok(None)
    }

    /// The file that --pin writes; `None` for standard output.
    fn pinned(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// Refuses options without effect.
    fn check(&self) -> Result<()> {
        let message = match self.from.given() {
            _ if self.pin && self.files.len() != 1 => {
                "--pin writes one file anew, and several are named".into()
            }
            _ if self.pin || self.lock.is_some() || self.missing_from.is_some() => return Ok(()),
            _ if self.platform.is_some() => "--platform is for --missing-from and --lock".into(),
            Some(option @ ("--from" | "--offline")) => format!("{option} is for --pin and --lock"),
            Some(option) => format!("{option} is for --missing-from, --pin and --lock"),
            None => return Ok(()),
        };
        Err(Error::Usage { message, hint: None })
    }

    /// Refuses to write over what is read. A file may be pinned where it is, and a lock file renewed.
    fn check_output(&self, files: &[Listed]) -> Result<()> {
        let Some(written) = self.lock.as_deref().or(self.pinned()) else {
            return Ok(());
        };
        let mut inputs = self.from.inputs();
        if self.lock.is_some() {
            let lists = files.iter().filter(|file| !file.is_lock);
            lists.for_each(|file| inputs.add_path(Path::new(&file.label)));
        }
        inputs.refuse(&[written.to_path_buf()])
    }

    fn list(&self, files: &[Listed], output: &Output) -> Outcome {
        let images = lists::named(files);
        let errors: Vec<&Error> = files.iter().flat_map(|file| &file.list.errors).collect();
        if output.is_json() {
            let mut document = document(files, &images);
            if !errors.is_empty() {
                document["errors"] = errors.iter().map(|error| error_json(error)).collect();
            }
            output.json(&document)?;
        } else {
            self.print(&images, output)?;
        }
        output.errors(errors.iter().copied());
        Ok(errors.iter().map(|error| error.kind()).max())
    }

    fn print(&self, images: &[Named<'_>], output: &Output) -> Result<(), Failure> {
        if output.is_quiet() {
            return images.iter().try_for_each(|image| output.line(image.familiar()));
        }
        if images.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        for image in images {
            for (at, (file, mention)) in image.places.iter().enumerate() {
                let name = match at {
                    0 => image.familiar(),
                    _ => String::new(),
                };
                rows.push(vec![name, place(file, mention), path(mention)]);
            }
        }
        let width = self.table.width(std::io::stdout());
        table(&COLUMNS, &rows, width)
            .into_iter()
            .try_for_each(|line| output.line(line))
    }

    /// Reports what a place lacks.
    fn missing(&self, place_text: &str, files: &[Listed], output: &Output, interrupt: &Interrupt) -> Outcome {
        // What is wrong may be a password, so it is not printed.
        let place: Place = place_text.parse().map_err(|error| Error::Usage {
            message: format!("--missing-from names no registry: {error}"),
            hint: None,
        })?;
        if let Some(option) = self.from.without_effect(place.engine()) {
            return Err(Error::Usage {
                message: format!("{option} has no meaning for {place_text}"),
                hint: Some(format!("leave out {option}").into()),
            }
            .into());
        }
        let references = resolved::references(files)?;
        let progress = bars::progress(output);
        progress.phase("comparing", None);
        let platforms_of = lists::platforms(files);
        let answers = missing::ask(
            &place,
            &references,
            &Asking {
                from: &self.from,
                platforms: self.platform.as_ref(),
                platforms_of: &platforms_of,
                progress: &progress,
                interrupt,
            },
        )?;
        progress.done();
        let images = lists::named(files);
        let missing: Vec<(&Named<'_>, Missing)> = images
            .iter()
            .zip(answers)
            .filter_map(|(image, answer)| Some((image, answer.err()?)))
            .collect();
        if output.is_json() {
            let mut document = document(files, &images);
            document["missing_from"] = place_text.into();
            document["missing"] = missing
                .iter()
                .map(|(image, missing)| missing_json(image, missing))
                .collect();
            output.json(&document)?;
        } else {
            self.print_missing(&missing, images.len(), place_text, output)?;
        }
        let failed = missing.iter().filter(|(_, missing)| !missing.is_missing());
        output.errors(failed.map(|(_, missing)| &missing.error));
        Ok(missing.iter().map(|(_, missing)| missing.error.kind()).max())
    }

    fn print_missing(
        &self,
        missing: &[(&Named<'_>, Missing)],
        count: usize,
        place_text: &str,
        output: &Output,
    ) -> Result<(), Failure> {
        let failed = missing
            .iter()
            .filter(|(_, missing)| !missing.is_missing())
            .count();
        let missing: Vec<_> = missing
            .iter()
            .filter(|(_, missing)| missing.is_missing())
            .collect();
        if output.is_quiet() {
            return missing
                .iter()
                .try_for_each(|(image, _)| output.line(image.familiar()));
        }
        let rows = missing.iter().map(|(image, missing)| {
            let at = image.places.first().map(|(file, mention)| place(file, mention));
            let hint = hint_of(&missing.error).map(|hint| format!("; {hint}"));
            let reason = format!("{}{}", missing.error, hint.unwrap_or_default());
            vec![image.familiar(), at.unwrap_or_default(), reason]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if !rows.is_empty() {
            let width = self.table.width(std::io::stdout());
            for line in table(&MISSING, &rows, width) {
                output.line(line)?;
            }
        }
        let all = names::count(count, "image");
        let text = match (missing.len(), failed) {
            (0, 0) => format!("{all}, none missing from {place_text}"),
            (absent, 0) => format!("{all}, {absent} missing from {place_text}"),
            (0, failed) => format!("{all}, {failed} not compared with {place_text}"),
            (absent, failed) => format!("{all}, {absent} missing from {place_text}, {failed} not compared"),
        };
        output.line(text)
    }
}

/// Where an image is named.
fn place(file: &str, mention: &Mention) -> String {
    format!("{file}:{}", mention.line)
}

/// Where an image is in its document, and what the document says about it.
fn path(mention: &Mention) -> String {
    let mut path = mention.path.clone();
    if !mention.platforms.is_empty() {
        let platforms: Vec<String> = mention.platforms.iter().map(Platform::to_string).collect();
        path.push_str(&format!(" ({})", platforms.join(",")));
    }
    if mention.is_built {
        path.push_str(" (also built)");
    }
    path
}

fn missing_json(image: &Named<'_>, missing: &Missing) -> serde_json::Value {
    serde_json::json!({
        "name": image.familiar(),
        "reason": missing.error.to_string(),
        "hint": hint_of(&missing.error),
        "exit": super::exit::code(missing.error.kind()),
        "digest": missing.digest,
    })
}

fn document(files: &[Listed], images: &[Named<'_>]) -> serde_json::Value {
    let images = images.iter().map(|image| {
        let places = image.places.iter().map(|(file, mention)| {
            serde_json::json!({
                "file": file,
                "kind": mention.kind,
                "line": mention.line,
                "column": mention.column,
                "path": mention.path,
                "written": mention.written,
                "built": mention.is_built,
                "platforms": mention.platforms.iter().map(Platform::to_string).collect::<Vec<_>>(),
            })
        });
        serde_json::json!({ "name": image.familiar(), "places": places.collect::<Vec<_>>() })
    });
    let unused = files.iter().flat_map(|file| {
        file.list.unused.iter().map(|unused| {
            serde_json::json!({
                "file": file.label,
                "line": unused.line,
                "column": unused.column,
                "path": unused.path,
                "reason": unused.reason,
            })
        })
    });
    serde_json::json!({
        "schema": 1,
        "images": images.collect::<Vec<_>>(),
        "unused": unused.collect::<Vec<_>>(),
    })
}
