//! Where podman's storage is, told without podman: by its default, or by `storage.conf`.
//!
//! Source: containers/storage, `docs/containers-storage.conf.5.md` and `types/options.go`.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::store::settings::settings;

/// The configuration files of root; the first that exists counts.
const ROOTS: [&str; 2] = [
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
];

/// Whether podman has no storage, which can be seen without running it: neither its default folder, nor a configuration
/// that may name another.
pub fn is_absent() -> bool {
    let mut places = files().into_iter().chain(default_root());
    !places.any(|place| place.exists())
}

/// The folder of images and the storage driver, as podman would choose them. The driver is `None` if no file names it.
///
/// # Errors
///
/// [`Error::Io`] if `storage.conf` cannot be read.
pub fn configured() -> Result<(Option<PathBuf>, Option<String>)> {
    of_first(&files(), default_root())
}

fn of_first(files: &[PathBuf], default: Option<PathBuf>) -> Result<(Option<PathBuf>, Option<String>)> {
    let (mut root, mut driver) = (default, None);
    for file in files {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(Error::io("read", file))?,
        };
        for (key, value) in settings(&text, "storage") {
            match key {
                "graphroot" => root = Some(value.into()),
                "driver" => driver = Some(value.into()),
                _ => {}
            }
        }
        break;
    }
    Ok((root, driver))
}

/// The places of `storage.conf` for this user.
fn files() -> Vec<PathBuf> {
    let named = std::env::var_os("CONTAINERS_STORAGE_CONF").filter(|value| !value.is_empty());
    if let Some(named) = named {
        return vec![named.into()];
    }
    if rustix::process::geteuid().is_root() {
        return ROOTS.map(PathBuf::from).into();
    }
    let user = folder_of_user("XDG_CONFIG_HOME", ".config");
    user.map(|folder| folder.join("containers/storage.conf"))
        .into_iter()
        .collect()
}

/// The folder of images without any configuration.
fn default_root() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/containers/storage".into());
    }
    Some(folder_of_user("XDG_DATA_HOME", ".local/share")?.join("containers/storage"))
}

/// A folder of this user: by a variable, or at its usual place.
fn folder_of_user(variable: &str, usual: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let named = set(variable).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(set("HOME")?).join(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_decides() {
        let folder = tempfile::tempdir().unwrap();
        let [none, first, second] = ["none", "first", "second"].map(|name| folder.path().join(name));
        let default = || Some(PathBuf::from("/default"));
        let found = of_first(std::slice::from_ref(&none), default()).unwrap();
        assert_eq!(found, (default(), None));
        fs::write(
            &first,
            "[storage]\n# graphroot = \"/no\"\ndriver = \"vfs\"\n[storage.options]\ngraphroot = \"/no\"\n",
        )
        .unwrap();
        fs::write(&second, "[storage]\ngraphroot = \"/second\"\n").unwrap();
        let found = of_first(&[none, first.clone(), second.clone()], default()).unwrap();
        assert_eq!(found, (default(), Some("vfs".into())));
        let found = of_first(&[second, first], default()).unwrap();
        assert_eq!(found, (Some("/second".into()), None));
    }
}
