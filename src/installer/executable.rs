//! Executables of this program, for the machines of an installer.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::error::{Error, Result};

/// Largest executable that is read, in bytes.
const MAX_SIZE: u64 = 512 << 20;

/// What marks an executable of this program, and its version up to the `;`.
#[used]
static MARK: &str = concat!("sealift executable, version ", env!("CARGO_PKG_VERSION"), ";");

/// The part of it that does not depend on the version.
const PREFIX: usize = "sealift executable, version ".len();

/// Machines that `load` runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Machine {
    /// Its name in platforms of images.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Amd64 => "amd64",
            Machine::Arm64 => "arm64",
        }
    }

    /// The machine in the header of an ELF file.
    fn of_elf(header: &[u8; 20]) -> Option<Machine> {
        // 64 bits, little-endian, version 1; then an executable, with or without a fixed address.
        let is_elf =
            header.starts_with(b"\x7fELF\x02\x01\x01") && matches!(header.get(16..18), Some([2 | 3, 0]));
        match header.get(18..20) {
            Some([62, 0]) if is_elf => Some(Machine::Amd64),
            Some([183, 0]) if is_elf => Some(Machine::Arm64),
            _ => None,
        }
    }
}

/// An executable of this program.
#[derive(Debug)]
pub struct Executable {
    /// Where it runs.
    pub machine: Machine,
    /// Its path, for messages.
    pub path: PathBuf,
    /// Whether it needs no loader, and so no library of the system that it runs on.
    pub is_static: bool,
    file: File,
}

impl Executable {
    /// The one that runs now.
    ///
    /// # Errors
    ///
    /// If the system does not tell it, or it is not of Linux on x86-64 or arm64.
    pub fn own() -> Result<Executable> {
        let path = Path::new("/proc/self/exe");
        let file = File::open(path).map_err(Error::io("read", path))?;
        Executable::of_file(file, std::env::current_exe().unwrap_or_else(|_| path.into()))
    }

    /// Opens one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not an executable of this version for Linux on x86-64 or arm64.
    pub fn open(path: &Path) -> Result<Executable> {
        let located = Dir::locate(path).map_err(Error::io("read", path))?;
        let file = located
            .dir
            .open_file(&located.name)
            .map_err(Error::io("read", path))?;
        Executable::of_file(file, path.to_path_buf())
    }

    fn of_file(file: File, path: PathBuf) -> Result<Executable> {
        let wrong = |what: &str| Error::Usage {
            message: format!("{} {what}", path.display()),
            hint: Some(
                format!(
                    "sealift {} is needed, for linux/amd64 or linux/arm64",
                    env!("CARGO_PKG_VERSION")
                )
                .into(),
            ),
        };
        let mut header = [0; 20];
        let machine = match file.read_exact_at(&mut header, 0) {
            Ok(()) => Machine::of_elf(&header),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let machine = machine.ok_or_else(|| wrong("is not an executable for linux/amd64 or linux/arm64"))?;
        if file.metadata().map_err(Error::io("read", &path))?.len() > MAX_SIZE {
            return Err(wrong("is too large to be sealift"));
        }
        let mut bytes = Vec::new();
        let read = (&file).take(MAX_SIZE).read_to_end(&mut bytes);
        read.map_err(Error::io("read", &path))?;
        match version(&bytes) {
            Some(version) if version == env!("CARGO_PKG_VERSION").as_bytes() => {}
            Some(version) => {
                let version = String::from_utf8_lossy(version);
                return Err(wrong(&format!("is sealift {version}, another version")));
            }
            None => return Err(wrong("is not sealift")),
        }
        Ok(Executable {
            machine,
            path,
            is_static: !needs_loader(&bytes),
            file,
        })
    }

    /// Its name beside an archive.
    pub fn name(&self) -> String {
        format!("sealift-linux-{}", self.machine.name())
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(Error::io("read", &self.path))?;
        Ok(metadata.len())
    }

    /// The open file, at its first byte.
    pub(super) fn file(&self) -> Result<&File> {
        let mut file = &self.file;
        file.rewind().map_err(Error::io("read", &self.path))?;
        Ok(file)
    }
}

/// Whether a 64-bit, little-endian ELF file names a loader: it has a program header of the type `PT_INTERP`.
fn needs_loader(elf: &[u8]) -> bool {
    let field = |at: usize| elf.get(at..at.checked_add(8)?)?.first_chunk().copied();
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?)));
    let headers = || {
        let first = usize::try_from(u64::from_le_bytes(field(32)?)).ok()?;
        let (size, count) = (short(54)?, short(56)?);
        Some((0..count).filter_map(move |at| first.checked_add(at.checked_mul(size)?)))
    };
    let is_loader =
        |at: usize| elf.get(at..).and_then(|header| header.first_chunk()) == Some(&3_u32.to_le_bytes());
    headers().is_some_and(|mut headers| headers.any(is_loader))
}

/// The version in the mark of an executable. The text may be there several times, once with the version.
fn version(bytes: &[u8]) -> Option<&[u8]> {
    let prefix = MARK.as_bytes().get(..PREFIX)?;
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, prefix) {
        rest = rest.get(at + prefix.len()..)?;
        let end = rest.iter().take(64).position(|byte| *byte == b';');
        if let Some(version) = end.and_then(|end| rest.get(..end))
            && !version.is_empty()
            && version
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(byte))
        {
            return Some(version);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of an ELF file for a machine, and some bytes after it.
    fn elf(machine: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([3, 0, machine, 0]);
        bytes.extend(rest);
        bytes
    }

    fn open(bytes: &[u8]) -> Result<Executable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealift");
        std::fs::write(&path, bytes).unwrap();
        Executable::open(&path)
    }

    #[test]
    fn this_program_is_one() {
        let own = Executable::own().unwrap();
        let expected = match std::env::consts::ARCH {
            "x86_64" => Machine::Amd64,
            _ => Machine::Arm64,
        };
        assert_eq!(own.machine, expected);
        assert_eq!(own.is_static, cfg!(target_feature = "crt-static"));
    }

    #[test]
    fn another_machine_is_told_from_the_header() {
        assert_eq!(open(&elf(62, MARK.as_bytes())).unwrap().machine, Machine::Amd64);
        assert_eq!(open(&elf(183, MARK.as_bytes())).unwrap().machine, Machine::Arm64);
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let (prefix, _) = MARK.split_at(PREFIX);
        let other = format!("{prefix}9.9.9;");
        for (bytes, reason) in [
            (
                b"#!/bin/sh".to_vec(),
                "is not an executable for linux/amd64 or linux/arm64",
            ),
            (
                b"".to_vec(),
                "is not an executable for linux/amd64 or linux/arm64",
            ),
            (
                elf(40, MARK.as_bytes()),
                "is not an executable for linux/amd64 or linux/arm64",
            ),
            (elf(62, prefix.as_bytes()), "is not sealift"),
            (elf(62, other.as_bytes()), "is sealift 9.9.9, another version"),
        ] {
            let error = open(&bytes).unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }

    #[test]
    fn an_executable_that_names_a_loader_is_not_static() {
        let kinds = |kinds: &[u8]| {
            let mut bytes = vec![0; 64];
            bytes[32] = 64;
            bytes[54] = 56;
            bytes[56] = u8::try_from(kinds.len()).unwrap();
            for kind in kinds {
                bytes.push(*kind);
                bytes.resize(bytes.len() + 55, 0);
            }
            bytes
        };
        assert!(!needs_loader(&kinds(&[])));
        assert!(!needs_loader(&kinds(&[6, 1, 2])));
        assert!(needs_loader(&kinds(&[6, 3, 1])));
        // One that is cut short, or claims more headers than it has.
        for length in 0..64 {
            assert!(!needs_loader(&kinds(&[6, 3])[..length]), "{length}");
        }
        let mut claims = kinds(&[1]);
        claims[32..40].fill(0xff);
        assert!(!needs_loader(&claims));
    }
}
