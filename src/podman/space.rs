//! Whether a load fits. podman keeps the compressed layers of an image in a folder for temporary files until all of the
//! image is in its storage.
//!
//! Source: containers/image, `storage/storage_dest.go`; measured on podman 4.3 and 5.8, also with one download at a time.

use std::path::Path;

use super::Details;
use crate::error::{Hint, Remedy};
use crate::load::DiskSpace;

/// Whether two folders are on one file system.
pub fn is_shared(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| Some(rustix::fs::stat(path).ok()?.st_dev);
    device(one).is_some_and(|found| device(other) == Some(found))
}

/// What a load needs of the folder that has the least to spare; `None` if the free space is not known. For each image,
/// `staged` has the compressed bytes of the layers that podman will request, and `unpacked` the uncompressed bytes of those
/// that it will unpack.
pub fn needed(staged: &[u64], unpacked: &[u64], details: &Details) -> Option<DiskSpace> {
    let largest = staged.iter().copied().max().unwrap_or_default();
    let total = unpacked
        .iter()
        .fold(0, |total: u64, one| total.saturating_add(*one));
    // On one file system, the compressed layers of an image are beside what is unpacked of it and of those before it.
    let mut before = 0_u64;
    let peaks = unpacked.iter().zip(staged).map(|(unpacked, staged)| {
        before = before.saturating_add(*unpacked);
        before.saturating_add(*staged)
    });
    let beside = match details.is_temporary_shared {
        true => peaks.max().unwrap_or_default().saturating_sub(total),
        false => 0,
    };
    let storage = details.space.as_ref().map(|space| {
        let hint = format!(
            "free some space there (`{} system df` shows what takes it)",
            details.command
        );
        let hint = Hint::from(hint);
        space.needed_for(beside, total, hint.and(Remedy::LoadFewer))
    });
    let temporary = details
        .temporary
        .as_ref()
        .filter(|_| !details.is_temporary_shared);
    let temporary = temporary.map(|space| {
        let hint = "podman keeps the compressed layers of an image there while it loads the image: free some space there, or \
                    set TMPDIR to another folder";
        space.needed_for(largest, 0, hint.into())
    });
    let to_spare = |space: &DiskSpace| i128::from(space.free) - i128::from(space.needed);
    storage
        .into_iter()
        .chain(temporary)
        .min_by_key(|space| (!space.is_insufficient, to_spare(space)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::Space;
    use crate::podman::Policy;

    #[test]
    fn the_folder_with_the_least_to_spare_is_reported() {
        let space = |path: &str, free| {
            Some(Space {
                path: path.into(),
                free,
                is_certain: true,
            })
        };
        for (storage, temporary, is_temporary_shared, expected) in [
            (1000, 1000, false, ("/storage", 180, false)),
            (1000, 100, false, ("/tmp", 60, false)),
            (1000, 59, false, ("/tmp", 60, true)),
            (100, 50, false, ("/storage", 180, true)),
            // At the end of the second image: 100 + 80 unpacked, and 30 beside them.
            (1000, 1000, true, ("/storage", 210, false)),
            (190, 190, true, ("/storage", 210, true)),
        ] {
            let details = Details {
                command: "podman".into(),
                driver: "overlay".into(),
                root: "/storage".into(),
                runroot: "/run".into(),
                is_rootless: false,
                space: space("/storage", storage),
                temporary: space("/tmp", temporary),
                is_temporary_shared,
                unserved: None,
                redirected: Vec::new(),
                policy: Policy::default(),
                shown: BTreeMap::new(),
            };
            let needed = needed(&[60, 30], &[100, 80], &details).unwrap();
            assert_eq!(
                (needed.path.as_str(), needed.needed, needed.is_insufficient),
                expected,
                "{storage} {temporary}"
            );
        }
    }
}
