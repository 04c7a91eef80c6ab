//! What images stand for in a source: `images --lock` and `images --pin`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::Path;

use sealift::image::asked::Asked;
use sealift::image_list::{ImageFile, Lock, LockedImage, Mention};
use sealift::interrupt::Interrupt;
use sealift::oci::{Digest, Platform, PlatformSelection, Reference};
use sealift::recover::Rebuild;
use sealift::save;
use sealift::source::Source;
use sealift::{Error, Result};

use crate::cli::bars;
use crate::cli::files;
use crate::cli::from::FromArgs;
use crate::cli::lists::{self, Listed};
use crate::cli::output::{Failure, Output, document_bytes};
use crate::cli::size::Size;
use crate::cli::table::{Column, TableArgs, table};

const COLUMNS: [Column; 4] = [
    Column::Name("NAME"),
    Column::Digest("DIGEST"),
    Column::List("PLATFORMS"),
    Column::Text("SIZE"),
];

/// How images are resolved.
pub struct Resolving<'a> {
    /// The source.
    pub from: &'a FromArgs,
    /// The platforms that are asked for.
    pub platforms: Option<&'a PlatformSelection>,
    /// Where notes go.
    pub output: &'a Output,
    /// Stops it.
    pub interrupt: &'a Interrupt,
}

impl Resolving<'_> {
    /// Asks the source about images. Manifests are recovered, as a save would, to learn their digests.
    fn ask<T>(
        &self,
        references: &[Reference],
        about: impl FnOnce(&dyn Source) -> Result<Vec<Result<T>>>,
    ) -> Result<Vec<(Reference, T)>> {
        let progress = bars::progress(self.output);
        progress.phase("resolving", None);
        let rebuild = Rebuild::Manifests;
        let source = self
            .from
            .source(false, None, rebuild, true, &progress, self.interrupt)?;
        let answers = about(source.as_ref())?;
        progress.done();
        let answers = references.iter().zip(answers);
        lists::all_of(answers.map(|(reference, answer)| Ok((reference.clone(), answer?))))
    }

    /// Writes a lock file of the images that files name.
    pub fn lock(&self, files: &[Listed], path: &Path, table_args: TableArgs) -> Result<(), Failure> {
        let references = references(files)?;
        let options = save::Options {
            referrers: save::ReferrerSelection::None,
            platforms: self.platforms.cloned(),
            platforms_of: lists::platforms(files),
            keep_going: true,
            ..save::Options::default()
        };
        let resolved = self.ask(&references, |source| {
            save::resolve(source, &references, &options, self.interrupt)
        })?;
        let images = resolved.into_iter().map(|(reference, resolved)| {
            let digest = resolved.digest.ok_or_else(|| without_digest(&reference))?;
            Ok(LockedImage::new(
                &reference,
                digest,
                resolved.platforms,
                resolved.size,
            ))
        });
        let lock = Lock::new(lists::all_of(images)?);
        let bytes = document_bytes(&lock)?;
        if path == Path::new("-") {
            return self.output.bytes(&bytes);
        }
        files::write(path, &bytes)?;
        if self.output.is_json() {
            return self.output.json(&serde_json::json!({
                "schema": 1,
                "file": path.display().to_string(),
                "images": lock.images(),
            }));
        }
        if !self.output.is_quiet() {
            let rows: Vec<Vec<String>> = lock.images().iter().map(row).collect();
            for line in table(&COLUMNS, &rows, table_args.width(std::io::stdout())) {
                self.output.line(line)?;
            }
        }
        Ok(())
    }

    /// Writes a file anew, with a digest in place of each tag.
    pub fn pin(&self, listed: &Listed, path: Option<&Path>) -> Result<(), Failure> {
        if path.is_none() && self.output.is_json() {
            return Err(Error::Usage {
                message: "standard output cannot take the file and --json".into(),
                hint: Some("name a file with -o".into()),
            }
            .into());
        }
        let references = references(std::slice::from_ref(listed))?;
        let roots = self.ask(&references, |source| {
            save::digests(source, &references, &save::Options::default(), self.interrupt)
        })?;
        let digests = roots.into_iter().map(|(reference, root)| {
            let digest = root.digest.ok_or_else(|| without_digest(&reference))?;
            Ok((reference.full(), digest))
        });
        let digests: HashMap<String, Digest> = lists::all_of(digests)?.into_iter().collect();
        let digest_of = |mention: &Mention| match &mention.asked {
            Asked::Image(reference) => digests.get(&reference.full()).copied(),
            Asked::Id(_) => None,
        };
        let file = ImageFile::parse(&listed.label, &listed.bytes)?;
        let pinned = file.pinned(&listed.list, digest_of)?;
        let Some(path) = path else {
            return self.output.bytes(pinned.as_bytes());
        };
        files::write(path, pinned.as_bytes())?;
        if self.output.is_json() {
            let images: serde_json::Map<String, serde_json::Value> = references
                .iter()
                .filter_map(|one| Some((one.familiar(), serde_json::json!(digests.get(&one.full())?))))
                .collect();
            return self.output.json(&serde_json::json!({
                "schema": 1,
                "file": path.display().to_string(),
                "digests": images,
            }));
        }
        if !self.output.is_quiet() && std::io::stderr().is_terminal() {
            self.output.note(&format!("{} has digests now", path.display()));
        }
        Ok(())
    }
}

fn row(image: &LockedImage) -> Vec<String> {
    let platforms: Vec<String> = image.platforms.iter().map(Platform::to_string).collect();
    vec![
        image.name.clone(),
        image.digest.to_string(),
        platforms.join(","),
        Size(image.size).to_string(),
    ]
}

fn without_digest(reference: &Reference) -> Error {
    Error::NotShown {
        message: format!("{reference} has no digest: it was never in a registry"),
        hint: None,
    }
}

/// The images of files, each once, by name.
///
/// # Errors
///
/// With every name that is none, and every image id.
pub fn references(files: &[Listed]) -> Result<Vec<Reference>> {
    let errors = files
        .iter()
        .flat_map(|file| file.list.errors.iter().cloned().map(Err));
    let named = lists::named(files);
    let references = named.iter().map(|image| match image.reference() {
        Some(reference) if !reference.is_nameless() => Ok(reference.clone()),
        _ => Err(Error::Usage {
            message: format!(
                "{} is an image id, and only names can be compared",
                image.familiar()
            ),
            hint: Some("name the image, as in app:1".into()),
        }),
    });
    lists::all_of(references.chain(errors))
}
