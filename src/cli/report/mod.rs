//! Reports of a verification, for people who sign off a transfer.
//!
//! - this file: what a report says
//! - [`run`]: who ran what, when and where
//! - [`contents`]: what is in an archive
//! - [`html`], [`markdown`]: reports for people; as JSON, a report is the document of `verify --json` with more fields

mod contents;
mod html;
mod markdown;
mod run;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealift::archive::Layout;
use sealift::error::ErrorKind;
use sealift::image::provenance::Evidence;
use sealift::oci::{Digest, Platform};
use sealift::verify::Report as Verification;
use sealift::{Error, Result};
use serde_json::{Value, json};

use super::output::{error_json, json_bytes};
use super::{ending, files, remedy};
use contents::{ArchiveFile, Contents, Reference};
pub use run::Run;

/// The file of a report. Its extension says which format the report has.
#[derive(Debug, Clone)]
pub struct ReportFile {
    path: PathBuf,
    format: Format,
}

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Html,
    Json,
    Markdown,
}

/// Parses the name of a report's file.
pub fn parse(text: &str) -> Result<ReportFile, String> {
    let path = PathBuf::from(text);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm") => Format::Html,
        Some("json") => Format::Json,
        Some("md" | "markdown") => Format::Markdown,
        _ => return Err("a report is HTML, JSON or Markdown: FILE.html, FILE.json or FILE.md".into()),
    };
    Ok(ReportFile { path, format })
}

impl ReportFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a report, as a whole.
    fn write(&self, report: &Report) -> Result<()> {
        let bytes = match self.format {
            Format::Html => html::page(report).into_bytes(),
            Format::Markdown => markdown::text(report).into_bytes(),
            Format::Json => json_bytes(&report.document()).map_err(Error::io("write", &self.path))?,
        };
        match report.exit {
            Some(_) => files::write(&self.path, &bytes),
            None => files::write_draft(&self.path, &bytes),
        }
    }
}

/// What is certain after a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read, and nothing is wrong.
    Good,
    /// Something is wrong.
    Bad,
    /// Nothing wrong was found, but not everything was verified.
    Unknown,
}

/// A report of a verification.
#[derive(Debug, Clone)]
pub struct Report {
    run: Run,
    /// What was to be verified.
    targets: Vec<String>,
    /// Whether only digests were verified.
    quick: bool,
    archives: Vec<Archive>,
    /// Why the run ended early: the error of a document.
    error: Option<Value>,
    /// The exit code, once the run has ended.
    exit: Option<u8>,
}

/// A report that is being written. Clones share it: a signal can end it while archives are added.
#[derive(Clone)]
pub struct SharedReport {
    file: ReportFile,
    report: Arc<Mutex<Report>>,
}

impl SharedReport {
    /// Writes the report of a verification that is under way, so that none of an earlier one is left.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or is one of the targets.
    pub fn begin(file: &ReportFile, targets: &[PathBuf], quick: bool) -> Result<SharedReport> {
        ending::check(&file.path, targets)?;
        let report = Report::begin(targets, quick);
        file.write(&report)?;
        Ok(SharedReport {
            file: file.clone(),
            report: Arc::new(Mutex::new(report)),
        })
    }

    /// The report, for as long as it is changed or written.
    pub fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the report, as a whole: with the exit code of a run that has ended, and the error that ended it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn end(&self, exit: u8, error: Option<Value>) -> Result<()> {
        let mut report = self.lock();
        report.run.end();
        report.exit = Some(exit);
        report.error = error;
        self.file.write(&report)
    }
}

/// An archive in a report.
#[derive(Debug, Clone)]
enum Archive {
    Verified(Box<Verified>),
    /// It could not be verified at all.
    Failed {
        label: String,
        error: Value,
        kind: ErrorKind,
    },
}

/// What says that an archive is the one that was meant.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// Whether its digest is one that was given.
    pub is_expected: bool,
    /// Who signed it, if an allowed signer had to.
    pub signed_by: Option<String>,
}

/// An archive that was verified.
#[derive(Debug, Clone)]
struct Verified {
    label: String,
    digest: Digest,
    pinned: Pinned,
    files: Vec<ArchiveFile>,
    blobs: usize,
    bytes: u64,
    findings: Vec<Line>,
    unread: Vec<String>,
    /// What it leaves out, for people.
    left_out: Option<String>,
    names: Vec<Name>,
    images: Vec<Contents>,
    references: BTreeSet<Reference>,
    /// The name of an image, and of its part, by the digest of its index or manifest.
    parts: HashMap<Digest, String>,
    is_good: bool,
    document: Value,
}

/// A finding, for people.
#[derive(Debug, Clone)]
struct Line {
    is_error: bool,
    text: String,
    hint: Option<String>,
}

/// A name of an image.
#[derive(Debug, Clone)]
struct Name {
    label: String,
    digest: Option<Digest>,
    /// Digest of the manifest that replaces one that could not be recovered.
    substitute: Option<Digest>,
    evidence: Option<Evidence>,
    platforms: String,
    absent: usize,
    size: Option<u64>,
}

impl Report {
    /// A report of a run that begins.
    fn begin(targets: &[PathBuf], quick: bool) -> Report {
        let targets = targets.iter().map(|target| target.display().to_string());
        Report {
            run: Run::begin(),
            targets: targets.collect(),
            quick,
            archives: Vec::new(),
            error: None,
            exit: None,
        }
    }

    /// Adds an archive that was verified, with its part of the document of `verify --json`.
    pub fn add(
        &mut self,
        layout: &dyn Layout,
        pinned: Pinned,
        left_out: Option<String>,
        verification: &Verification,
        document: Value,
    ) {
        let (mut images, references) = contents::contents(layout);
        let at: HashMap<Digest, usize> = images
            .iter()
            .enumerate()
            .map(|(at, image)| (image.root, at))
            .collect();
        // Referrers without a name have a table of their own.
        let referring: HashSet<Digest> = references.iter().map(|reference| reference.digest).collect();
        let mut names = Vec::new();
        for image in &verification.images {
            if image.reference.is_none() && referring.contains(&image.root) {
                continue;
            }
            let label = image.identity().label();
            let contents = at.get(&image.root).and_then(|at| images.get_mut(*at));
            if let Some(contents) = contents {
                contents.names.push(label.clone());
            }
            let contents = at.get(&image.root).and_then(|at| images.get(*at));
            names.push(Name {
                label,
                digest: image.digest,
                substitute: (image.digest != Some(image.root)).then_some(image.root),
                evidence: image.is_good.then_some(image.evidence),
                platforms: match contents.and_then(|contents| contents.artifact.clone()) {
                    Some(artifact) => artifact,
                    None => texts(&image.platforms),
                },
                absent: image.absent.len(),
                size: contents.map(|contents| contents.size),
            });
        }
        let findings = verification.findings.iter().map(|finding| Line {
            is_error: finding.is_error(),
            text: finding.to_string(),
            hint: finding.hint().as_ref().map(remedy::hint),
        });
        let files = contents::files(layout);
        self.archives.push(Archive::Verified(Box::new(Verified {
            label: verification.label.clone(),
            digest: layout.digest(),
            document: extended(document, pinned.is_expected, &files, &images, &references),
            pinned,
            files,
            blobs: verification.blobs,
            bytes: verification.bytes,
            findings: findings.collect(),
            unread: verification
                .unread
                .iter()
                .map(|(_, error)| error.to_string())
                .collect(),
            left_out,
            names,
            parts: parts(&images),
            images: images
                .into_iter()
                .filter(|image| !image.names.is_empty())
                .collect(),
            references,
            is_good: verification.is_good(),
        })));
    }

    /// Adds an archive that could not be verified.
    pub fn add_failed(&mut self, label: &str, error: &Error) {
        self.archives.push(Archive::Failed {
            label: label.into(),
            error: error_json(error),
            kind: error.kind(),
        });
    }

    /// What is certain.
    fn verdict(&self) -> Verdict {
        let is_wrong = |archive: &Archive| match archive {
            Archive::Verified(verified) => verified.errors() > 0,
            Archive::Failed { kind, .. } => *kind == ErrorKind::Content,
        };
        let is_good = |archive: &Archive| matches!(archive, Archive::Verified(verified) if verified.is_good);
        match () {
            () if self.archives.iter().any(is_wrong) => Verdict::Bad,
            () if self.exit == Some(0) && self.error.is_none() && self.archives.iter().all(is_good) => {
                Verdict::Good
            }
            () => Verdict::Unknown,
        }
    }

    fn title(&self) -> String {
        match (self.archives.as_slice(), self.targets.as_slice()) {
            ([only], _) => only.label().to_string(),
            ([], [only]) => only.clone(),
            ([], targets) => sealift::html::count(targets.len(), "file", "files"),
            (several, _) => sealift::html::count(several.len(), "archive", "archives"),
        }
    }

    /// The verdict in a sentence.
    fn sentence(&self) -> String {
        let errors: usize = self.archives.iter().map(Archive::errors).sum();
        let good = match self.quick {
            true => "Every blob has its digest, and nothing is missing.",
            false => "Every byte was verified, and nothing is wrong.",
        };
        match self.verdict() {
            Verdict::Good if self.archives.iter().any(Archive::leaves_out) => {
                format!("{good} What is left out was not verified.")
            }
            Verdict::Good => good.into(),
            Verdict::Bad => format!(
                "{} found. Do not load this.",
                sealift::html::count(errors, "error was", "errors were")
            ),
            Verdict::Unknown if self.exit.is_none() => "The verification has not ended.".into(),
            Verdict::Unknown => "Not everything could be verified.".into(),
        }
    }

    /// The version of sealift and the exit code, for people.
    fn with(&self) -> String {
        let version = self.run.sealift;
        match self.exit {
            Some(exit) => format!("sealift {version}, exit code {exit}"),
            None => format!("sealift {version}"),
        }
    }

    /// What was verified, for people.
    fn checks(&self) -> &'static str {
        match self.quick {
            false => {
                "Every byte: the structure of the archive; digest, size and media type of every blob; the diff id of every \
                 layer; that everything that is named is present, and everything that is present is named"
            }
            true => {
                "Digests only: the structure of the archive; digest, size and media type of every blob; that everything \
                 that is named is present, and everything that is present is named. Layers were not decompressed, so \
                 their diff ids were not verified"
            }
        }
    }

    /// The document.
    fn document(&self) -> Value {
        let archives = self.archives.iter().map(|archive| match archive {
            Archive::Verified(verified) => verified.document.clone(),
            Archive::Failed { label, error, .. } => json!({ "archive": label, "error": error }),
        });
        let mut document = json!({
            "schema": 1,
            "verdict": self.verdict(),
            "exit": self.exit,
            "run": self.run,
            "archives": archives.collect::<Vec<_>>(),
        });
        if let Some(error) = &self.error {
            document["error"] = error.clone();
        }
        document
    }
}

impl Archive {
    fn label(&self) -> &str {
        match self {
            Archive::Verified(verified) => &verified.label,
            Archive::Failed { label, .. } => label,
        }
    }

    fn errors(&self) -> usize {
        match self {
            Archive::Verified(verified) => verified.errors(),
            Archive::Failed { .. } => 1,
        }
    }

    fn leaves_out(&self) -> bool {
        matches!(self, Archive::Verified(verified) if verified.left_out.is_some())
    }
}

impl Verified {
    fn errors(&self) -> usize {
        self.findings.iter().filter(|line| line.is_error).count()
    }
}

/// The names of images and of their parts, by the digests of their indexes and manifests.
fn parts(images: &[Contents]) -> HashMap<Digest, String> {
    let mut parts = HashMap::new();
    for image in images {
        let Some(name) = image.names.first() else { continue };
        for variant in &image.manifests {
            let part = variant.platform.as_deref().unwrap_or("manifest");
            parts.insert(variant.digest, format!("{name}, {part}"));
        }
        parts.insert(image.root, name.clone());
    }
    parts
}

fn texts(platforms: &[Platform]) -> String {
    let texts: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// What a digest's evidence means.
fn meaning(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Verified => {
            "the manifest is here and has this digest; config and layers are the ones that it names"
        }
        Evidence::Recorded => {
            "the digest is recorded, not proven: no manifest with it from a registry is here"
        }
        Evidence::None => "no digest of a registry is known",
    }
}

/// The document of an archive with what a report adds.
fn extended(
    mut document: Value,
    is_expected: bool,
    files: &[ArchiveFile],
    images: &[Contents],
    references: &BTreeSet<Reference>,
) -> Value {
    document["expected"] = is_expected.into();
    document["files"] = json!(files);
    document["referrers"] = json!(references);
    document["contents"] = json!(images);
    document
}

/// The error of a run, for people: its message and hint.
fn message_and_hint(error: &Value) -> (String, Option<String>) {
    let text = |field: &str| error[field].as_str().map(ToString::to_string);
    (text("message").unwrap_or_default(), text("hint"))
}

/// What a report says of signatures.
const SIGNATURES: &str = "They travel along, and their bytes are verified as those of images are. Who signed is not verified: \
                          that a signature is here proves nothing about who made it.";
