//! `sealift verify`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use sealift::archive::content::Content;
use sealift::archive::verify::{self, Report};
use sealift::archive::{self, segments};
use sealift::escape::Escaped;
use sealift::interrupt::Interrupt;
use sealift::oci::{Digest, Platform};
use sealift::{Error, Result};

use super::bars;
use super::output::{Failure, Outcome, Output, Several, findings_json};
use super::size::{self, Size};

/// Check every byte of an archive, and report all that is wrong
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift verify images.tar
  sealift verify images.tar --expect sha256:...     # the line that save printed
  sealift verify --quick images.tar.001             # an archive in parts; digests only
  sealift verify --json images.tar | jq .findings

Checked are: the tar's structure, digests and sizes, media types, diff ids of gzip, zstd and plain layers, \
that everything named is there and everything there is named.")]
pub struct Verify {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Check digests only: leave out decompressing layers for their diff ids
    #[arg(long)]
    quick: bool,
}

impl Verify {
    /// Verifies the archives, all of them, whatever is found.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let mut end = Several::new(output);
        for (label, content) in self.archive.open(interrupt)? {
            match content.and_then(|content| self.check(content.as_ref(), output, interrupt)) {
                Ok(report) => {
                    if output.is_json() {
                        end.document(document(&report, self.quick));
                    } else {
                        print(output, &report, self.quick)?;
                    }
                    if let Err(error) = report.into_good() {
                        end.code(error.exit_code());
                    }
                }
                Err(error) => end.error(&label, error)?,
            }
        }
        end.outcome()
    }

    fn check(&self, content: &dyn Content, output: &Output, interrupt: &Interrupt) -> Result<Report> {
        let options = verify::Options {
            quick: self.quick,
            ..self.archive.verify_options()
        };
        let progress = bars::progress(output);
        let report = verify::verify(content, &options, progress.as_ref(), interrupt)?;
        progress.done();
        Ok(report)
    }
}

fn print(output: &Output, report: &Report, quick: bool) -> Result<(), Failure> {
    for finding in &report.findings {
        let kind = if finding.is_error() { "error" } else { "note" };
        output.line(format_args!("{kind}: {finding}"))?;
    }
    for error in &report.unread {
        output.line(format_args!("error: {}", Escaped(&error.to_string())))?;
    }
    if !output.is_quiet() {
        let depth = if quick { ", digests only" } else { "" };
        let verdict = match report.errors() + report.unread.len() {
            0 => "all good".to_string(),
            1 => "1 error".to_string(),
            count => format!("{count} errors"),
        };
        let label = Escaped(&report.label);
        output.line(format_args!(
            "{label}: {} blobs, {}{depth}: {verdict}",
            report.blobs,
            Size(report.bytes)
        ))?;
    }
    output.line(format_args!("archive {}", report.archive))
}

fn document(report: &Report, quick: bool) -> serde_json::Value {
    let images: Vec<_> = report
        .images
        .iter()
        .map(|image| {
            let texts = |list: &[Platform]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            serde_json::json!({
                "name": image.reference,
                "digest": image.digest,
                "platforms": texts(&image.platforms),
                "absent": texts(&image.absent),
                "good": image.is_good,
            })
        })
        .collect();
    serde_json::json!({
        "archive": report.label,
        "digest": report.archive,
        "good": report.is_good(),
        "quick": quick,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "images": images,
        "findings": findings_json(&report.findings),
        "unread": report.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Which archives are read, and how they are checked.
#[derive(Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Refuse a layer that decompresses to more than this
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = size::parse)]
    max_layer_size: u64,
    /// Threads that check
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

impl ArchiveArgs {
    /// As [`FileArgs::open`].
    pub fn open<'a>(
        &'a self,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Box<dyn Content>>)> + 'a> {
        self.files.open(interrupt)
    }

    /// How the archives are verified.
    pub fn verify_options(&self) -> verify::Options {
        let mut options = verify::Options {
            max_layer_size: self.max_layer_size,
            ..verify::Options::default()
        };
        if let Some(jobs) = self.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())) {
            options.jobs = jobs;
        }
        options
    }
}

/// Which archives are read.
#[derive(Args)]
pub struct FileArgs {
    /// Archives, parts of archives (.001), OCI layout folders; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Accept only the archive with this digest, as `save` printed it; once for each archive
    #[arg(long, value_name = "DIGEST")]
    expect: Vec<Digest>,
    #[command(flatten)]
    spool: SpoolArgs,
}

impl FileArgs {
    /// Opens the archives one after the other, each compared with what is expected of it. Each comes with
    /// its path as it was given.
    pub fn open<'a>(
        &'a self,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Box<dyn Content>>)> + 'a> {
        let archives = segments::by_archive(&self.files);
        if !self.expect.is_empty() && self.expect.len() != archives.len() {
            return Err(Error::Usage {
                message: format!("{} archives, but {} --expect", archives.len(), self.expect.len()),
                hint: Some("give --expect once for each archive, in the same order".into()),
            });
        }
        let options = self.spool.options(interrupt, None);
        let mut expected = self.expect.iter();
        Ok(archives.into_iter().map(move |files| {
            let label = files.first().map(|file| file.display().to_string());
            let expected = expected.next();
            let content = archive::open(&files, &options).and_then(|content| {
                if let Some(expected) = expected {
                    verify::expect(content.as_ref(), expected)?;
                }
                Ok(content)
            });
            (label.unwrap_or_default(), content)
        }))
    }

    /// Whether more than one archive is given.
    pub fn are_several(&self) -> bool {
        segments::by_archive(&self.files).len() > 1
    }
}

/// Where what cannot be read at random goes first.
#[derive(Args)]
pub struct SpoolArgs {
    /// Where compressed archives, standard input, exports and packed layers are kept meanwhile
    #[arg(long, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
}

impl SpoolArgs {
    /// How archives are opened.
    ///
    /// Without `--tmpdir` the folder of an `output` file is used, else the system's.
    pub fn options(&self, interrupt: &Interrupt, output: Option<&Path>) -> archive::Options {
        let mut options = archive::Options {
            interrupt: interrupt.clone(),
            ..archive::Options::default()
        };
        let beside = output
            .and_then(Path::parent)
            .map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            });
        if let Some(tmpdir) = self.tmpdir.as_deref().or(beside) {
            options.tmpdir = tmpdir.to_path_buf();
        }
        options
    }
}
