//! The storage of CRI-O, which is podman's: containers-storage, in the folders that CRI-O's configuration names.
//!
//! Source: CRI-O, `docs/crio.conf.5.md`: `crio.conf`, then the files of `crio.conf.d` in the order of their names; in the
//! table `[crio]` the keys `root`, `runroot` and `storage_driver`.

use std::fs;
use std::path::{Path, PathBuf};

use super::Options;
use crate::error::{Error, Result};
use crate::host::CRIO;
use crate::store::settings::settings;

/// Where its configuration is.
const CONFIG: &str = "etc/crio";
/// The table of its configuration that says where its storage is.
const TABLE: &str = "crio";

/// A CRI-O on this host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Crio {
    /// Whether it listens on its socket.
    pub is_running: bool,
    /// Its configuration files.
    pub files: Vec<PathBuf>,
    /// The folder with its images, if that is configured.
    pub root: Option<PathBuf>,
    /// The folder with its state while the host runs, if that is configured.
    pub runroot: Option<PathBuf>,
    /// Its storage driver, if that is configured.
    pub driver: Option<String>,
}

impl Crio {
    /// Looks for its socket and configuration; `None` if there is neither.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be read.
    pub fn find() -> Result<Option<Crio>> {
        Crio::below(Path::new("/"))
    }

    fn below(host: &Path) -> Result<Option<Crio>> {
        let config = host.join(CONFIG);
        let mut files = vec![config.join("crio.conf")];
        if let Ok(entries) = fs::read_dir(config.join("crio.conf.d")) {
            let mut dropped: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            dropped.sort();
            files.extend(dropped);
        }
        files.retain(|file| file.is_file());
        let mut crio = Crio {
            is_running: host.join(CRIO).exists(),
            files,
            root: None,
            runroot: None,
            driver: None,
        };
        if !crio.is_running && crio.files.is_empty() {
            return Ok(None);
        }
        for file in crio.files.clone() {
            let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
            for (key, value) in settings(&text, TABLE) {
                match key {
                    "root" => crio.root = Some(value.into()),
                    "runroot" => crio.runroot = Some(value.into()),
                    "storage_driver" => crio.driver = Some(value.into()),
                    _ => {}
                }
            }
        }
        Ok(Some(crio))
    }

    /// The options of a podman that uses this storage. What they have already is kept.
    #[must_use]
    pub fn options(self, options: Options) -> Options {
        Options {
            root: options.root.or(self.root),
            runroot: options.runroot.or(self.runroot),
            driver: options.driver.or(self.driver),
            engine: "CRI-O's storage",
            is_crio: true,
            ..options
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_file_that_names_a_folder_wins() {
        let host = tempfile::tempdir().unwrap();
        assert_eq!(Crio::below(host.path()).unwrap(), None);
        let config = host.path().join("etc/crio");
        fs::create_dir_all(config.join("crio.conf.d")).unwrap();
        fs::write(
            config.join("crio.conf"),
            "[crio]\n# root = \"/no\"\nroot = \"/var/a\" # comment\nrunroot = '/run/a'\nstorage_driver = \"\"\n[crio.image]\nroot = \"/no\"\n",
        )
        .unwrap();
        fs::write(
            config.join("crio.conf.d/10-storage.conf"),
            "[crio]\nroot = \"/var/b\"\nstorage_driver = \"overlay\"\nstorage_option = [\n  \"a=b\",\n]\n",
        )
        .unwrap();
        let crio = Crio::below(host.path()).unwrap().unwrap();
        assert_eq!((crio.is_running, crio.files.len()), (false, 2));
        let options = crio.clone().options(Options::from_process());
        assert_eq!(options.root, Some("/var/b".into()));
        assert_eq!(options.runroot, Some("/run/a".into()));
        assert_eq!(options.driver.as_deref(), Some("overlay"));
        let given = Options {
            root: Some("/mine".into()),
            ..Options::from_process()
        };
        assert_eq!(crio.options(given).root, Some("/mine".into()));
    }
}
