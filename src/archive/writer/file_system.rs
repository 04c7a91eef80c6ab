//! The limits of the file system under an archive, checked before a byte is written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::dir::Dir;
use crate::error::{Error, Hint, Remedy, Result};

/// FAT: `MSDOS_SUPER_MAGIC` in Linux's `magic.h`.
#[cfg(target_os = "linux")]
const FAT: u64 = 0x4d44;
/// File systems, by `f_type`, that fill or may fill a gap with zeros before they write after it: everything
/// would be written twice, and slowly.
#[cfg(target_os = "linux")]
const WITHOUT_GAPS: [u64; 9] = [
    FAT,
    0x2011_bab0, // exFAT
    0x5346_544e, // NTFS
    0x7366_746e, // NTFS, the newer driver
    0x6573_5546, // FUSE: any file system may be behind it
    0x482b,      // HFS+
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2 and 3
];
/// Largest file on FAT, in bytes.
const FAT_LARGEST: u64 = u32::MAX as u64;
/// A round size of parts that fit on FAT.
const FAT_PART: u64 = 4_095_000_000;

/// The relevant properties of a file system.
#[derive(Debug, Clone, Copy)]
pub struct FileSystem {
    /// Whether a gap takes neither space nor time. If not, an archive is written from start to end.
    pub has_gaps: bool,
    /// The largest file in bytes, if the limit is below any archive's size.
    pub largest_file: Option<u64>,
    /// Free bytes.
    pub free: u64,
}

/// Free bytes for this user where `file` is.
///
/// # Errors
///
/// What the system says.
pub fn free(file: &File) -> rustix::io::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    let blocks = match rustix::process::geteuid().is_root() {
        true => stat.f_bfree,
        false => stat.f_bavail,
    };
    Ok(blocks.saturating_mul(stat.f_frsize))
}

impl FileSystem {
    /// Reads the properties of the file system under `folder`.
    ///
    /// # Errors
    ///
    /// If the system does not report them.
    pub fn under(folder: &Dir) -> Result<FileSystem> {
        let failed = |errno: rustix::io::Errno| Error::io("look at", folder.path())(errno.into());
        let mut file_system = FileSystem {
            has_gaps: true,
            largest_file: None,
            free: free(folder.as_file()).map_err(failed)?,
        };
        #[cfg(target_os = "linux")]
        {
            // The field's type differs between architectures.
            let kind = rustix::fs::fstatfs(folder.as_file()).map_err(failed)?.f_type;
            let kind = u64::try_from(kind).unwrap_or_default();
            file_system.has_gaps = !WITHOUT_GAPS.contains(&kind);
            file_system.largest_file = (kind == FAT).then_some(FAT_LARGEST);
        }
        Ok(file_system)
    }

    /// Checks that parts of these sizes fit, of which `written` bytes are written already, and `beside` bytes of other
    /// files.
    ///
    /// # Errors
    ///
    /// Says what does not fit, and what to do.
    pub fn check(&self, target: &Path, parts: &[Range<u64>], written: u64, beside: u64) -> Result<()> {
        self.check_files(target, parts)?;
        let total = parts.last().map_or(0, |part| part.end);
        let need = total.saturating_sub(written).saturating_add(beside);
        match need > self.free {
            true => Err(too_little(target, need, self.free)),
            false => Ok(()),
        }
    }

    /// Checks that files as large as these parts may be written.
    ///
    /// # Errors
    ///
    /// Says which limit they exceed, and what to do.
    pub fn check_files(&self, target: &Path, parts: &[Range<u64>]) -> Result<()> {
        let largest = parts
            .iter()
            .map(|part| part.end - part.start)
            .max()
            .unwrap_or_default();
        let refuse = |problem, hint| Err(refused(target, io::ErrorKind::FileTooLarge, problem, hint));
        if let Some(limit) = self.largest_file.filter(|limit| largest > *limit) {
            return refuse(
                format!("a file of {largest} bytes is needed, this FAT file system allows {limit} at most"),
                Remedy::Split(Some(FAT_PART)).into(),
            );
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        if let Some(limit) = limit.filter(|limit| largest > *limit) {
            return refuse(
                format!("a file of {largest} bytes is needed, this process may write {limit} at most"),
                Hint::from("raise the limit (ulimit -f)").and(Remedy::Split(Some(limit))),
            );
        }
        Ok(())
    }
}

/// The error for too little space.
pub fn too_little(target: &Path, needed: u64, free: u64) -> Error {
    refused(
        target,
        io::ErrorKind::StorageFull,
        format!("{needed} bytes are needed, {free} are free"),
        "free some space, or write to another disk".into(),
    )
}

fn refused(target: &Path, kind: io::ErrorKind, problem: String, hint: Hint) -> Error {
    Error::Io {
        action: "write",
        path: target.to_path_buf(),
        offset: None,
        source: io::Error::new(kind, problem).into(),
        hint: Some(hint),
    }
}
