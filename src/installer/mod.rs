//! An archive that installs itself: beside it, an executable for each machine, `install.sh`, which loads it, and
//! `SHA256SUMS` of all.
//!
//! - [`Executable`]: executables of this program
//! - `install.sh`: the script, with the names and digests left open

mod executable;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

pub use executable::{Executable, Machine};

use crate::archive::writer;
use crate::dir::{Dir, Located};
use crate::error::{Error, Result};
use crate::escape::shell_word;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Hasher};
use crate::progress::Progress;

/// The script's name.
const SCRIPT: &str = "install.sh";
/// The name of the file with the digests.
const SUMS: &str = "SHA256SUMS";
/// What the script is made of.
const TEMPLATE: &str = include_str!("install.sh");
/// What a script of this module has in one of its first lines.
const WRITTEN_BY: &str = "# Written by sealift ";
/// Largest older script or list of digests that is looked at, in bytes.
const MAX_OLDER: u64 = 1 << 20;
/// More bytes than the script and the list of digests have.
const MAX_TEXTS: u64 = 64 << 10;
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// What is written beside an archive.
#[derive(Debug)]
pub struct Installer {
    executables: Vec<Executable>,
}

impl Installer {
    /// An installer with these executables.
    ///
    /// # Errors
    ///
    /// If there is none, or two are for the same machine.
    pub fn new(mut executables: Vec<Executable>) -> Result<Installer> {
        executables.sort_by_key(|executable| executable.machine);
        for pair in executables.windows(2) {
            if let [one, two] = pair
                && one.machine == two.machine
            {
                return Err(Error::Usage {
                    message: format!(
                        "{} and {} are both for linux/{}",
                        one.path.display(),
                        two.path.display(),
                        one.machine.name()
                    ),
                    hint: None,
                });
            }
        }
        match executables.is_empty() {
            true => Err(Error::Usage {
                message: "an installer needs an executable".into(),
                hint: None,
            }),
            false => Ok(Installer { executables }),
        }
    }

    /// Its executables.
    pub fn executables(&self) -> &[Executable] {
        &self.executables
    }

    /// Checks, before anything is saved, that the installer can be written beside an archive: its names are free, or
    /// have an older installer of the same archive.
    ///
    /// # Errors
    ///
    /// If the archive's name does not fit into a list of digests or is one of the installer's, or a name belongs to
    /// something else.
    pub fn check_place(&self, archive: &Path) -> Result<()> {
        let target = writer::locate(archive)?;
        let name = listed_name(&target)?;
        let executables: Vec<String> = self.executables.iter().map(Executable::name).collect();
        let mut own = executables.iter().map(String::as_str).chain([SCRIPT, SUMS]);
        // FAT, for example, does not tell cases apart.
        if own.any(|own| own.eq_ignore_ascii_case(&name)) {
            return Err(Error::Usage {
                message: format!("{} is the name of a file of the installer", archive.display()),
                hint: Some("give the archive another name".into()),
            });
        }
        for executable in &executables {
            self.check_older(&target.dir, executable, |bytes| bytes.starts_with(b"\x7fELF"))?;
        }
        self.check_older(&target.dir, SCRIPT, |bytes| is_script_of(bytes, &name))?;
        self.check_older(&target.dir, SUMS, |bytes| self.are_sums_of(bytes, &name))
    }

    /// Bytes that it needs beside an archive, at most.
    ///
    /// # Errors
    ///
    /// If the size of an executable cannot be read.
    pub fn size(&self) -> Result<u64> {
        self.executables.iter().try_fold(MAX_TEXTS, |sum, executable| {
            Ok(sum.saturating_add(executable.size()?))
        })
    }

    fn check_older(&self, dir: &Dir, name: &str, is_ours: impl Fn(&[u8]) -> bool) -> Result<()> {
        let path = dir.join(name);
        let is_older = match dir.kind(name).map_err(Error::io("look at", &path))? {
            None => true,
            Some(FileType::RegularFile) => is_ours(&read_older(dir, name).map_err(Error::io("read", &path))?),
            Some(_) => false,
        };
        match is_older {
            true => Ok(()),
            false => Err(Error::Usage {
                message: format!("{} is there, and does not belong to this archive", path.display()),
                hint: Some("save into a folder of its own".into()),
            }),
        }
    }

    /// Whether these are the digests of an installer of an archive.
    fn are_sums_of(&self, bytes: &[u8], archive: &str) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        text.lines().all(|line| {
            line.split_once("  ").is_some_and(|(_, name)| {
                name == SCRIPT || name.starts_with("sealift-linux-") || is_file_of(name, archive)
            })
        })
    }

    /// Writes the installer of an archive that is in these files, and returns the names of what it wrote. The script
    /// is last: without it nothing is installed.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, and [`Error::Interrupted`].
    pub fn write(
        &self,
        archive: &[PathBuf],
        digest: &Digest,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Vec<PathBuf>> {
        let first = archive.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        let target = writer::locate(first)?;
        let dir = &target.dir;
        // After a signal, an unfinished file is removed.
        let _cleanup = interrupt.cleanup();
        let mut written = Vec::new();
        let mut executables = Vec::new();
        let mut sums = archive_sums(archive, digest, progress, interrupt)?;
        for executable in &self.executables {
            let name = executable.name();
            let path = dir.join(&name);
            let copied = dir.replace(&name, 0o755, |new| {
                let copied = copy(
                    executable.file().map_err(io::Error::other)?,
                    &executable.path,
                    new,
                    &path,
                    |_| interrupt.check(),
                );
                copied.map_err(io::Error::other)
            });
            let sum = copied.map_err(|error| Error::from_reader(error, Error::io("write", &path)))?;
            executables.push(format!("{}:{}", executable.machine.name(), sum.hex()));
            sums.push((sum, name));
            written.push(path);
        }
        let script = script(&listed_name(&target)?, digest, &executables);
        sums.push((Digest::sha256(script.as_bytes()), SCRIPT.into()));
        let mut text = String::new();
        for (sum, name) in sums {
            let _ = writeln!(text, "{}  {name}", sum.hex());
        }
        for (name, mode, text) in [(SUMS, 0o644, text), (SCRIPT, 0o755, script)] {
            let replaced = dir.replace(name, mode, |new| new.write_all(text.as_bytes()));
            replaced.map_err(Error::io("write", dir.join(name)))?;
            written.push(dir.join(name));
        }
        dir.sync().map_err(Error::io("sync", dir.path()))?;
        Ok(written)
    }
}

/// The script of an older installer beside an archive of this name, if it would refuse what is in these files now.
///
/// # Errors
///
/// If there is a script that cannot be read.
pub fn outdated(archive: &Path, files: &[PathBuf], digest: &Digest) -> Result<Option<PathBuf>> {
    let target = writer::locate(archive)?;
    let path = target.dir.join(SCRIPT);
    let (Some(name), Some(first)) = (target.name.to_str(), files.first()) else {
        return Ok(None);
    };
    let kind = target.dir.kind(SCRIPT).map_err(Error::io("look at", &path))?;
    if kind != Some(FileType::RegularFile) {
        return Ok(None);
    }
    let bytes = read_older(&target.dir, SCRIPT).map_err(Error::io("read", &path))?;
    let Some(text) = std::str::from_utf8(&bytes)
        .ok()
        .filter(|_| is_script_of(&bytes, name))
    else {
        return Ok(None);
    };
    let settings = settings(&listed_name(&writer::locate(first)?)?, digest);
    let is_current = settings
        .iter()
        .all(|setting| text.lines().any(|line| line == setting));
    Ok((!is_current).then_some(path))
}

/// The lines of the script that name an archive and its digest.
fn settings(archive: &str, digest: &Digest) -> [String; 2] {
    [
        format!("archive={}", shell_word(archive)),
        format!("digest={digest}"),
    ]
}

/// The beginning of a file that may be of an older installer.
fn read_older(dir: &Dir, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    dir.open_file(name)?.take(MAX_OLDER).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name of an archive, if it can be in a list of digests as it is.
fn listed_name(target: &Located) -> Result<String> {
    let name = target.name.to_str();
    match name.filter(|name| !name.contains(|c: char| c.is_control() || c == '\\')) {
        Some(name) => Ok(name.into()),
        None => Err(Error::Usage {
            message: format!(
                "{} cannot be in a list of digests: its name is not text, or has a backslash or control characters",
                target.path().display()
            ),
            hint: None,
        }),
    }
}

/// Whether a name is that of an archive or of one of its parts.
fn is_file_of(name: &str, archive: &str) -> bool {
    name.strip_prefix(archive).is_some_and(|rest| {
        let number = rest.strip_prefix('.');
        rest.is_empty()
            || number.is_some_and(|number| number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether a file is the script of an installer for this archive.
fn is_script_of(bytes: &[u8], archive: &str) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let is_ours = text.lines().take(5).any(|line| line.starts_with(WRITTEN_BY));
    let loaded = text.lines().find_map(|line| line.strip_prefix("archive="));
    let names = [archive.into(), format!("{archive}.001")];
    is_ours && loaded.is_some_and(|loaded| names.iter().any(|name| shell_word(name) == loaded))
}

/// The digests of an archive's files, by their names. They are read: what a medium returns is what will be there.
fn archive_sums(
    archive: &[PathBuf],
    digest: &Digest,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<(Digest, String)>> {
    let mut files = Vec::new();
    let mut total = 0_u64;
    for path in archive {
        let located = writer::locate(path)?;
        let file = located
            .dir
            .open_file(&located.name)
            .map_err(Error::io("read", path))?;
        total = total.saturating_add(file.metadata().map_err(Error::io("read", path))?.len());
        files.push((file, path, listed_name(&located)?));
    }
    progress.phase("hash", Some(total));
    progress.blob_started(digest, total, 0);
    let mut sums = Vec::new();
    for (file, path, name) in files {
        let sum = copy(&file, path, &mut io::sink(), path, |bytes| {
            progress.blob_advanced(digest, bytes);
            interrupt.check()
        })?;
        sums.push((sum, name));
    }
    progress.blob_finished(digest);
    Ok(sums)
}

/// Copies a file to its end, and returns the digest of what was copied.
fn copy(
    mut from: &File,
    path: &Path,
    to: &mut impl Write,
    new: &Path,
    each: impl Fn(u64) -> Result<()>,
) -> Result<Digest> {
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        hasher.update(piece);
        to.write_all(piece).map_err(Error::io("write", new))?;
        each(u64::try_from(count).unwrap_or_default())?;
    }
}

/// The script that loads an archive.
fn script(archive: &str, digest: &Digest, executables: &[String]) -> String {
    TEMPLATE
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@DIGEST@", &digest.to_string())
        .replace("@EXECUTABLES@", &executables.join(" "))
        .replace("@ARCHIVE@", &shell_word(archive))
}

#[cfg(test)]
mod tests;
