//! What `sealift save` prints: the report, and what is missing from it.

use std::path::{Path, PathBuf};

use sealift::error::ErrorKind;
use sealift::image::names;
use sealift::image::provenance::{Evidence, LayerOrigin, ManifestOrigin, Origins};
use sealift::oci::Digest;
use sealift::save::{LeftOut, Saved, Skipped, Summary};

use super::exit;
use super::forecast::Needs;
use super::output::{Outcome, Output, hint_of, skipped};
use super::rows::own_rows;
use super::sign;
use super::size::Size;
use super::table::{Column, table};

const COLUMNS: [Column; 6] = [
    Column::Name("NAME"),
    Column::Digest("DIGEST"),
    Column::Text("EVIDENCE"),
    Column::List("PLATFORMS"),
    Column::Text("SIZE"),
    Column::List("FROM"),
];

/// A save to report.
pub struct Report<'s> {
    /// What was saved.
    pub summary: &'s Summary,
    /// The file, as given.
    pub archive: &'s Path,
    /// The files of an installer beside it.
    pub installer: &'s [PathBuf],
    /// Whether standard output has the archive.
    pub to_stdout: bool,
    /// Images that were skipped because they have no name.
    pub nameless: &'s [Digest],
    /// Whether an image without a digest is not what was requested.
    pub needs_digests: bool,
    /// What the save needs, if it is not done.
    pub needs: Option<Needs>,
}

impl Report<'_> {
    /// Prints it, with a table of this width.
    pub fn print(&self, output: &Output, width: Option<usize>) -> Outcome {
        if output.is_json() {
            output.json(&self.document())?;
            return Ok(self.failure());
        }
        let mut lines = Vec::new();
        if !output.is_quiet() {
            lines.extend(self.table(width));
            lines.extend(self.omitted());
            lines.extend(self.files());
            lines.extend(self.summary.signature.as_ref().map(sign::written));
            lines.extend(self.installer());
            lines.extend(self.needs.iter().flat_map(Needs::lines));
        }
        lines.push(format!("archive {}", self.summary.digest));
        for line in lines {
            if self.to_stdout {
                output.say(line)
            } else {
                output.line(line)?
            }
        }
        self.warn_of_evidence(output);
        self.warn_of_uncompressed(output);
        for image in &self.summary.skipped {
            output.warn(&skipped(&image.reference.to_string(), &image.error.to_string()));
            if let Some(hint) = hint_of(&image.error) {
                output.hint(&hint);
            }
        }
        if let Some(needs) = &self.needs {
            needs.report(output);
        }
        if !self.nameless.is_empty() && !output.is_quiet() {
            output.note(&format!("{} skipped", without_a_name(self.nameless.len())));
            output.hint(&by_id(self.nameless));
        }
        Ok(self.failure())
    }

    fn document(&self) -> serde_json::Value {
        let summary = self.summary;
        let mut document = serde_json::json!({
            "schema": 1,
            "archive": self.archive.display().to_string(),
            "digest": summary.digest,
            "size": summary.size,
            "files": summary.files,
            "reused": summary.reused,
            "images": summary.images,
            "nameless": self.nameless,
            "left_out": summary.skipped.iter().map(skipped_json).collect::<Vec<_>>(),
        });
        if let Some(omitted) = &summary.omitted {
            document["omitted"] = serde_json::json!(omitted);
        }
        if let Some(signature) = &summary.signature {
            document["signature"] = serde_json::json!(signature);
        }
        if !self.installer.is_empty() {
            document["installer"] = serde_json::json!(self.installer);
        }
        if let Some(needs) = &self.needs {
            needs.document(&mut document);
        }
        document
    }

    /// A row for each image, and a line for what does not fit into one.
    fn table(&self, width: Option<usize>) -> Vec<String> {
        let names = self.summary.images.iter().map(|image| {
            let name = Some(&image.reference).filter(|name| !name.is_nameless());
            (name, image.digest)
        });
        let images = self.summary.images.iter().zip(own_rows(names));
        let images = images.filter_map(|(image, has_row)| has_row.then_some(image));
        let rows: Vec<Vec<String>> = images.clone().map(row).collect();
        let mut lines = table(&COLUMNS, &rows, width);
        for image in images {
            if let Some(artifact) = &image.artifact {
                lines.push(format!(
                    "{}: artifact of type {artifact}, not an image",
                    image.reference
                ));
            }
            if let Some(origins) = &image.origins {
                lines.push(format!("{}: {origins}", image.reference));
            }
        }
        lines
    }

    /// The line about what was left out; none if no inventory was given.
    fn omitted(&self) -> Option<String> {
        let omitted = self.summary.omitted.as_ref()?;
        Some(match omitted.layers {
            0 => "nothing is left out".into(),
            _ => left_out(omitted),
        })
    }

    /// The line about the files; none if the archive went to standard output.
    fn files(&self) -> Option<String> {
        if let Some(needs) = &self.needs {
            let temporary = match needs.temporary {
                0 => String::new(),
                temporary => format!(", and {} of temporary files", Size(temporary)),
            };
            let size = Size(self.summary.size);
            let archive = self.archive.display();
            return Some(format!("{archive}: would have {size}{temporary}"));
        }
        let files = &self.summary.files;
        let parts = match files.len() {
            1 => String::new(),
            count => format!(" to .{count:03}"),
        };
        let reused = match self.summary.reused {
            0 => String::new(),
            reused => format!(", {} of it from an interrupted run", Size(reused)),
        };
        let size = Size(self.summary.size);
        let first = files.first()?.display();
        Some(format!("{first}{parts}: {size}{reused}"))
    }

    /// The line about the installer.
    fn installer(&self) -> Option<String> {
        let names = self.installer.iter().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        (!names.is_empty())
            .then(|| format!("beside it {}: sh install.sh loads it on a host", names.join(", ")))
    }

    /// Why the save is incomplete.
    fn failure(&self) -> Option<ErrorKind> {
        let is_short = self.summary.images.iter().any(|image| self.lacks_digest(image));
        self.summary
            .failure()
            .max(is_short.then_some(ErrorKind::NotShown))
            .max(self.needs.as_ref().and_then(Needs::failure))
    }

    fn lacks_digest(&self, image: &Saved) -> bool {
        image.evidence == Evidence::None && self.needs_digests
    }

    /// Warns of images without a proven digest.
    fn warn_of_evidence(&self, output: &Output) {
        let images = &self.summary.images;
        let names = |is_meant: &dyn Fn(&Saved) -> bool| {
            let images = images.iter().filter(|image| is_meant(image));
            let names: Vec<String> = images.map(|image| image.reference.familiar()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        if let Some(names) = names(&|image| image.evidence == Evidence::Recorded) {
            output.warn(&format!("the digest is recorded, not proven: {names}"));
            if images.iter().any(is_without_manifest) && !rustix::process::geteuid().is_root() {
                output.hint(
                    "only root can read Docker's store, where the manifest may be: run the same command with sudo",
                );
            }
            if images.iter().any(is_unproven) {
                output.hint(
                    "--from registry saves what the registry has; NAME@sha256:... says that a digest is known from \
                     elsewhere",
                );
            }
        }
        if let Some(names) = names(&|image| self.lacks_digest(image)) {
            output.warn(&format!("no digest was found, here or in a registry: {names}"));
            output.hint("--from docker saves what the local Docker has as it is, with exit code 0");
        }
    }

    /// Warns of images that most engines refuse.
    fn warn_of_uncompressed(&self, output: &Output) {
        let images = self.summary.images.iter().filter(|image| is_uncompressed(image));
        let names: Vec<String> = images.map(|image| image.reference.familiar()).collect();
        if names.is_empty() {
            return;
        }
        output.warn(&format!(
            "podman, containerd and Docker's containerd store refuse images with uncompressed layers, and only Docker's \
             classic store takes them: {}",
            names.join(", ")
        ));
        output.hint(
            "where the registry can be reached, save without --offline: it has the layers as they were",
        );
    }
}

/// Whether an image has layers only uncompressed that its manifest names in a compressed form. A substitute names them
/// as they are, which every engine takes.
fn is_uncompressed(image: &Saved) -> bool {
    let is_whole = |said: &&Origins| !matches!(said.manifest, ManifestOrigin::Substitute { .. });
    let said = image.origins.iter().filter(is_whole);
    let mut layers = said.flat_map(|said| said.layers.values());
    layers.any(|layer| matches!(layer, LayerOrigin::Uncompressed { .. }))
}

fn row(image: &Saved) -> Vec<String> {
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    let platforms = match image.artifact {
        Some(_) => "artifact".into(),
        None => platforms.join(","),
    };
    let digest = image.digest.map(|digest| digest.to_string());
    vec![
        image.reference.familiar(),
        digest.unwrap_or_else(|| "<none>".into()),
        image.evidence.to_string(),
        platforms,
        Size(image.size).to_string(),
        image.from.clone(),
    ]
}

/// Whether an image from Docker has a substitute for its manifest.
fn is_without_manifest(image: &Saved) -> bool {
    let said = image.origins.as_ref().map(|said| &said.manifest);
    image.from.starts_with("Docker ") && matches!(said, Some(ManifestOrigin::Substitute { .. }))
}

/// Whether the manifest of an image is present, but may be in no registry.
fn is_unproven(image: &Saved) -> bool {
    let said = image.origins.as_ref().map(|said| &said.manifest);
    matches!(said, Some(ManifestOrigin::Unproven { .. }))
}

fn skipped_json(image: &Skipped) -> serde_json::Value {
    serde_json::json!({
        "name": image.reference,
        "reason": image.error.to_string(),
        "hint": hint_of(&image.error),
        "exit": exit::code(image.error.kind()),
    })
}

/// The line about what an archive leaves out, and for which hosts.
pub fn left_out(omitted: &LeftOut) -> String {
    let hosts: Vec<String> = omitted.inventories.iter().map(ToString::to_string).collect();
    let inventories = match hosts.len() {
        0 => String::new(),
        1 => format!(" for the inventory {}", hosts.join(", ")),
        _ => format!(" for the inventories {}", hosts.join(", ")),
    };
    let layers = names::count(omitted.layers, "layer");
    format!("{layers}, {}, left out{inventories}", Size(omitted.bytes))
}

/// The number of images without a name, as the subject of a sentence.
pub fn without_a_name(count: usize) -> String {
    match count {
        1 => "1 image without a name (<none>:<none>) is".into(),
        count => format!("{count} images without a name (<none>:<none>) are"),
    }
}

/// The command that saves images without a name.
pub fn by_id(nameless: &[Digest]) -> String {
    const MAX: usize = 3;
    let ids: Vec<String> = nameless.iter().take(MAX).map(ToString::to_string).collect();
    let more = match nameless.len().saturating_sub(MAX) {
        0 => String::new(),
        more => format!(" (and {more} more: --json lists all)"),
    };
    format!(
        "their ids save them, --rename ID=NAME:TAG names them: sealift save --from docker -o FILE {}{more}",
        ids.join(" ")
    )
}
