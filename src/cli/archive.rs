//! The options of commands that read archives.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use sealift::archive::Layout;
use sealift::archive::signature::{Required, Signed};
use sealift::archive::{self, segments};
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::oci::Digest;
use sealift::oci::digest::DigestError;
use sealift::{Error, Result, verify};

use super::sign::SignersArgs;
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
    ) -> Result<impl Iterator<Item = (String, Result<Accepted>)> + 'a> {
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
    signers: SignersArgs,
    #[command(flatten)]
    spool: SpoolArgs,
}

/// An archive to read.
pub struct Given {
    /// Its files.
    pub files: Vec<PathBuf>,
    /// The digest that it must have.
    pub expected: Option<Digest>,
    /// The signature that it must have.
    pub signature: Option<Required>,
}

/// An archive that is what it must be.
pub struct Accepted {
    /// The archive.
    pub layout: Box<dyn Layout>,
    /// Who signed it, if that was demanded.
    pub signed: Option<Signed>,
}

impl Given {
    fn open(&self, options: &archive::Options) -> Result<Accepted> {
        let layout = archive::open(&self.files, options)?;
        if let Some(expected) = &self.expected {
            archive::expect(layout.as_ref(), expected)?;
        }
        let required = self.signature.as_ref();
        let signed = required
            .map(|required| required.check(layout.as_ref()))
            .transpose()?;
        Ok(Accepted { layout, signed })
    }
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
    ) -> Result<impl Iterator<Item = (String, Result<Accepted>)> + 'a> {
        self.read.open(&self.files, interrupt)
    }

    /// The options for opening the archives.
    pub fn options(&self, interrupt: &Interrupt) -> archive::Options {
        self.read.options(interrupt)
    }

    /// The files of each archive, and what it must be.
    pub fn archives(&self) -> Result<Vec<Given>> {
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
    /// Opens archives one after the other, and checks that each has its expected digest and the signature that it must
    /// have. Each is returned with its path as given.
    pub fn open<'a>(
        &'a self,
        files: &[PathBuf],
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = (String, Result<Accepted>)> + 'a> {
        let options = self.options(interrupt);
        Ok(self.archives(files)?.into_iter().map(move |given| {
            let label = given.files.first().map(|file| file.display().to_string());
            (label.unwrap_or_default(), given.open(&options))
        }))
    }

    /// The options for opening the archives.
    fn options(&self, interrupt: &Interrupt) -> archive::Options {
        self.spool.options(interrupt, None)
    }

    /// The files of each archive, and what it must be.
    fn archives(&self, files: &[PathBuf]) -> Result<Vec<Given>> {
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
        let signatures = self.signers.required(&archives)?;
        let archives = archives.into_iter().zip(signatures);
        Ok(archives
            .map(|(files, signature)| Given {
                files,
                expected: expected.next(),
                signature,
            })
            .collect())
    }

    /// Whether signatures are demanded.
    pub fn demand_signatures(&self) -> bool {
        self.signers.are_given()
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
