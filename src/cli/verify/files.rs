//! Files that are replaced as a whole: their readers see the old content or the new one.

use std::io::Write as _;
use std::path::Path;

use sealift::dir::{Dir, read_whole};
use sealift::{Error, Result};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// Writes a file, which may exist.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = Dir::locate(path).and_then(|located| {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(&located.name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let dir = &located.dir;
        let mut file = dir.create_file(&temporary, 0o644)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| dir.rename(&temporary, dir, &located.name))
            .and_then(|()| dir.sync());
        if written.is_err() {
            let _ = dir.remove_file(&temporary);
        }
        written
    });
    written.map_err(Error::io("write", path))
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
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path).unwrap(), None);
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text.as_bytes());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = replace(&folder.path().join("absent/file"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }
}
