//! Whether a load fits into the folder of a target.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::DiskSpace;
use crate::error::Hint;

/// File systems that may compress, so that files take less than their size: btrfs, ZFS, bcachefs.
const COMPRESSING: [u64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Free space in a target's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Space {
    /// The folder, as the target names it or as a path in our namespace.
    pub path: PathBuf,
    /// Free bytes.
    pub free: u64,
    /// Whether everything is written there, uncompressed.
    pub is_certain: bool,
}

impl Space {
    /// Determines it for a folder of this process's user; `None` if that is not possible.
    pub fn of(path: &Path) -> Option<Space> {
        Space::of_folder(path, &std::fs::File::open(path).ok()?)
    }

    /// The same for an open folder, which is named by this path in messages.
    pub fn of_folder(path: &Path, folder: &impl AsFd) -> Option<Space> {
        let stat = rustix::fs::fstatvfs(folder).ok()?;
        let kind = u64::try_from(rustix::fs::fstatfs(folder).ok()?.f_type).unwrap_or_default();
        // Some blocks are for root alone.
        let blocks = match rustix::process::geteuid().is_root() {
            true => stat.f_bfree,
            false => stat.f_bavail,
        };
        Some(Space {
            path: path.into(),
            free: blocks.saturating_mul(stat.f_frsize),
            is_certain: !COMPRESSING.contains(&kind),
        })
    }

    /// Compares the needed space with the free space. A tenth of the layers is allowed for what tars and file
    /// systems add, before the load is refused.
    pub fn needed_for(&self, stream: u64, unpacked: u64, hint: Hint) -> DiskSpace {
        let needed = stream.saturating_add(unpacked);
        DiskSpace {
            path: self.path.display().to_string(),
            needed,
            free: self.free,
            is_insufficient: self.is_certain && needed.saturating_sub(unpacked / 10) > self.free,
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_certainly_does_not_fit_is_refused() {
        let space = |free, is_certain| Space {
            path: "/var/lib/docker".into(),
            free,
            is_certain,
        };
        for (free, is_certain, is_insufficient, is_short) in [
            (1500, true, false, false),
            (1499, true, false, true),
            (1400, true, false, true),
            (1399, true, true, true),
            (10, false, false, true),
        ] {
            let needed = space(free, is_certain).needed_for(500, 1000, Hint::default());
            assert_eq!(
                (needed.is_insufficient, needed.is_short()),
                (is_insufficient, is_short),
                "{free}"
            );
            let checked = needed.check();
            assert_eq!(checked.is_err(), is_insufficient, "{free}");
            if let Err(error) = checked {
                assert_eq!(error.kind(), ErrorKind::Io);
                let said =
                    format!("cannot load into /var/lib/docker: 1500 bytes are needed, {free} are free");
                assert_eq!(error.to_string(), said);
            }
        }
    }
}
