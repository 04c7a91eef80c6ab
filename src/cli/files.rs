//! Files that are replaced as a whole: their readers see the old content or the new one.

use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, RawMode, fchmod, statat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sealift::archive::writer;
use sealift::dir::{Dir, Located, read_whole};
use sealift::{Error, Result};

/// The mode of a new file.
const MODE: RawMode = 0o644;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// Writes a file, which may exist. A device or FIFO is written like a pipe.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = writer::locate(path)?;
    let written = match target.is_special().map_err(Error::io("look at", path))? {
        false => mode(&target).and_then(|kept| {
            let replaced = target.dir.replace(&target.name, kept.unwrap_or(MODE), |file| {
                // The mask of this process is for new files. FAT has no modes to keep.
                let _ = kept.map(|mode| fchmod(&*file, Mode::from_raw_mode(mode)));
                file.write_all(bytes)
            });
            replaced.and_then(|()| target.dir.sync())
        }),
        true => target.open_special().and_then(|mut file| file.write_all(bytes)),
    };
    written.map_err(Error::io("write", path))
}

/// Writes a file that is written again when more is known. A device or FIFO gets only the last text: its reader would
/// get both.
pub fn write_draft(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = writer::locate(path)?;
    match target.is_special().map_err(Error::io("look at", path))? {
        true => target.check_special().map_err(Error::io("write", path)),
        false => write(path, bytes),
    }
}

/// The mode of a file that is replaced, if there is one. That of another user's file may say who can write it, and does
/// not count for that.
fn mode(target: &Located) -> io::Result<Option<RawMode>> {
    match statat(target.dir.as_file(), &target.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(stat) if stat.st_uid == geteuid().as_raw() => Ok(Some(stat.st_mode & 0o777)),
        Ok(stat) => Ok(Some(stat.st_mode & MODE)),
    }
}

/// Reads a file; `None` if it does not exist.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let opened = Dir::locate(path).and_then(|located| located.dir.open_file(&located.name));
    match opened.and_then(|file| read_whole(file, MAX_FILE)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn a_fifo_is_written_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| std::fs::read(&path).unwrap());
            write(&path, b"text").unwrap();
            assert_eq!(reader.join().unwrap(), b"text");
        });
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path).unwrap(), None);
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text.as_bytes());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // What only its owner may read stays so, and so does what the mask of this process takes from new files.
        for mode in [0o600, 0o666] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            write(&path, b"three").unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
        let error = write(&folder.path().join("absent/file"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }
}
