//! The options of commands that read archives.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use sealift::archive::Layout;
use sealift::archive::{self, segments};
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::oci::Digest;
use sealift::oci::digest::DigestError;
use sealift::{Error, Result, verify};

use super::size;

/// Which archives to read, and how to verify them.
#[derive(Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    jobs: JobsArgs,
}

impl ArchiveArgs {
    /// As [`FileArgs::open`].
    pub fn open<'a>(
        &'a self,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Box<dyn Layout>>)> + 'a> {
        self.files.open(interrupt)
    }

    /// The paths, as they were given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files.files
    }

    /// As [`FileArgs::check`].
    pub fn check(&self) -> Result<()> {
        self.files.check()
    }

    /// As [`FileArgs::are_expected`].
    pub fn are_expected(&self) -> bool {
        self.files.are_expected()
    }

    /// The options for verifying.
    pub fn verify_options(&self) -> verify::Options {
        self.files.read.verify_options(&self.jobs)
    }
}

/// How many threads verify.
#[derive(Args)]
pub struct JobsArgs {
    /// Number of threads that verify [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

impl JobsArgs {
    /// The number, if it was given.
    pub fn number(&self) -> Option<NonZeroUsize> {
        self.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into()))
    }
}

/// Which archives to read.
#[derive(Args)]
pub struct FileArgs {
    /// Archives, parts of archives, or layout folders; `-` is standard input
    ///
    /// One part (.001) stands for its whole archive. A folder is an OCI layout, or one of skopeo's `dir:`.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

/// How archives are read.
#[derive(Args)]
pub struct ReadArgs {
    /// Accept only the archive with this digest, as `save` printed it
    ///
    /// With several archives, give it once for each, in the same order.
    #[arg(long, value_name = "DIGEST", value_parser = expected)]
    expect: Vec<Digest>,
    #[command(flatten)]
    spool: SpoolArgs,
}

/// A digest, or the whole line that `save` prints.
fn expected(text: &str) -> Result<Digest, DigestError> {
    text.trim()
        .strip_prefix("archive ")
        .unwrap_or(text)
        .trim()
        .parse()
}

impl FileArgs {
    /// As [`ReadArgs::open`].
    pub fn open<'a>(
        &'a self,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Box<dyn Layout>>)> + 'a> {
        self.read.open(&self.files, interrupt)
    }

    /// The options for opening the archives.
    pub fn options(&self, interrupt: &Interrupt) -> archive::Options {
        self.read.options(interrupt)
    }

    /// The files of each archive, and the digest that it is expected to have.
    pub fn archives(&self) -> Result<Vec<(Vec<PathBuf>, Option<Digest>)>> {
        self.read.archives(&self.files)
    }

    /// Refuses a terminal as standard input.
    fn check(&self) -> Result<()> {
        check(&self.files)
    }

    /// Whether `--expect` was given.
    pub fn are_expected(&self) -> bool {
        self.read.are_expected()
    }

    /// Whether more than one archive is given.
    pub fn are_several(&self) -> bool {
        segments::by_archive(&self.files).len() > 1
    }
}

impl ReadArgs {
    /// Opens archives one after the other, and compares each with its expected digest. Each is returned with its path
    /// as given.
    pub fn open<'a>(
        &'a self,
        files: &[PathBuf],
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Box<dyn Layout>>)> + 'a> {
        let options = self.options(interrupt);
        Ok(self.archives(files)?.into_iter().map(move |(files, expected)| {
            let label = files.first().map(|file| file.display().to_string());
            let layout = archive::open(&files, &options).and_then(|layout| {
                if let Some(expected) = &expected {
                    archive::expect(layout.as_ref(), expected)?;
                }
                Ok(layout)
            });
            (label.unwrap_or_default(), layout)
        }))
    }

    /// The options for opening the archives.
    fn options(&self, interrupt: &Interrupt) -> archive::Options {
        self.spool.options(interrupt, None)
    }

    /// The files of each archive, and the digest that it is expected to have.
    fn archives(&self, files: &[PathBuf]) -> Result<Vec<(Vec<PathBuf>, Option<Digest>)>> {
        let archives = segments::by_archive(files);
        check(files)?;
        if !self.expect.is_empty() && self.expect.len() != archives.len() {
            return Err(Error::Usage {
                message: format!(
                    "{}, but {} --expect",
                    names::count(archives.len(), "archive"),
                    self.expect.len()
                ),
                hint: Some("give --expect once for each archive, in the same order".into()),
            });
        }
        let mut expected = self.expect.iter().copied();
        Ok(archives
            .into_iter()
            .map(|files| (files, expected.next()))
            .collect())
    }

    /// Whether `--expect` was given.
    pub fn are_expected(&self) -> bool {
        !self.expect.is_empty()
    }

    /// The options for verifying.
    pub fn verify_options(&self, jobs: &JobsArgs) -> verify::Options {
        let mut options = verify::Options {
            max_layer_size: self.spool.max_layer_size,
            ..verify::Options::default()
        };
        if let Some(jobs) = jobs.number() {
            options.jobs = jobs;
        }
        options
    }
}

/// Refuses a terminal as standard input.
fn check(files: &[PathBuf]) -> Result<()> {
    let is_typed = files.iter().any(|file| file == Path::new("-")) && std::io::stdin().is_terminal();
    match is_typed {
        false => Ok(()),
        true => Err(Error::Usage {
            message: "standard input is a terminal, not an archive".into(),
            hint: Some("pipe an archive into it, or name a file".into()),
        }),
    }
}

/// Where temporary data is kept.
#[derive(Args)]
pub struct SpoolArgs {
    /// Directory for temporary files
    ///
    /// They hold decompressed archives, standard input, exports and recompressed layers, and have no names.
    ///
    /// [default: the directory of the output file if there is one, else TMPDIR, else /tmp]
    #[arg(long, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// Refuse layers that decompress to more than this
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = size::parse)]
    max_layer_size: u64,
}

impl SpoolArgs {
    /// The options for opening archives. Without `--tmpdir`, temporary data is kept in the folder of an
    /// `output` file, else in the system's.
    pub fn options(&self, interrupt: &Interrupt, output: Option<&Path>) -> archive::Options {
        let mut options = archive::Options {
            max_layer_size: self.max_layer_size,
            interrupt: interrupt.clone(),
            ..archive::Options::default()
        };
        let folder = output.and_then(Path::parent);
        let beside = folder.map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        });
        if let Some(tmpdir) = self.tmpdir.as_deref().or(beside) {
            options.tmpdir = tmpdir.to_path_buf();
        }
        options
    }
}
