//! The paths of a classic store's files, and access to them.
//!
//! A data root may be another machine's, with any content. No link below it is followed, so that none leads to
//! files of this host or to another store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::repositories::Repositories;
use crate::dir::{Dir, read_setting, read_whole};
use crate::docker::daemon::config::{Configuration, DEFAULT_PATH};
use crate::docker::daemon::process::Process;
use crate::error::{Error, Hint, Remedy, Result};
use crate::load::Obstacle;
use crate::oci::Digest;
use crate::process::Identity;
use crate::store::files::{below, digest_path, open_below};

/// The data root of a stock installation.
const DEFAULT_ROOT: &str = "/var/lib/docker";
/// Largest list of names, in bytes; ten thousand images need two million.
const MAX_NAMES: u64 = 256 << 20;

/// The store of a classic daemon, with paths in our namespace.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Files {
    /// Its data root.
    pub data_root: PathBuf,
    /// Its storage driver.
    pub driver: String,
    /// The process through which the path leads, if any. The path is valid only while it runs.
    #[serde(skip)]
    pub through: Option<Identity>,
}

fn usage(message: String, hint: impl Into<Hint>) -> Error {
    Error::Usage {
        message,
        hint: Some(hint.into()),
    }
}

impl Files {
    /// Finds the store in a data root; without one, in that of this host's daemon.
    ///
    /// # Errors
    ///
    /// If there is no classic store, or several.
    pub fn find(data_root: Option<&Path>) -> Result<Files> {
        let (data_root, driver) = match data_root {
            Some(root) => (root.to_path_buf(), None),
            None => configured()?,
        };
        let root = Dir::open(&data_root).map_err(Error::io("open", &data_root))?;
        // The path without links, which is used from here on.
        let data_root = root.path().to_path_buf();
        let drivers = drivers(&root)?;
        let driver = match (driver, drivers.as_slice()) {
            (Some(driver), _) if drivers.contains(&driver) => driver,
            (None, [one]) => one.clone(),
            (_, []) | (Some(_), _) => return Err(without_store(&root)),
            (None, _) => {
                return Err(usage(
                    format!("{} has stores of {}", data_root.display(), drivers.join(", ")),
                    "start the daemon, which knows the one that it uses",
                ));
            }
        };
        Ok(Files {
            data_root,
            driver,
            through: None,
        })
    }

    /// The store of a running daemon, by its report in `GET /info`.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn of(process: &Process, data_root: &Path, driver: &str) -> Result<Files, Obstacle> {
        let is_name = Path::new(driver).components().count() == 1;
        if !data_root.is_absolute() || !is_name {
            return Err(Obstacle::new("the engine does not tell where its store is", ""));
        }
        Ok(Files {
            data_root: process.reach(data_root)?,
            driver: driver.into(),
            through: process.namespaces().mount.as_ref().map(|_| process.identity()),
        })
    }

    /// The folder with the images' names and documents.
    pub fn images(&self) -> PathBuf {
        self.data_root.join("image").join(&self.driver)
    }

    /// The file with the names.
    pub fn names(&self) -> PathBuf {
        self.images().join("repositories.json")
    }

    /// The folder of the images' configs.
    pub fn configs(&self) -> PathBuf {
        self.images().join("imagedb/content")
    }

    /// The file of an image's config.
    pub fn config(&self, image_id: &Digest) -> PathBuf {
        digest_path(&self.configs(), image_id)
    }

    /// The file with the id of the parent image, if the image was built here.
    pub fn parent(&self, image_id: &Digest) -> PathBuf {
        digest_path(&self.images().join("imagedb/metadata"), image_id).join("parent")
    }

    /// The folder with the layers, by chain id.
    pub fn chains(&self) -> PathBuf {
        self.images().join("layerdb")
    }

    /// The file with the blobs that a layer was pulled from or pushed as.
    pub fn blobs(&self, diff_id: &Digest) -> PathBuf {
        digest_path(&self.images().join("distribution/v2metadata-by-diffid"), diff_id)
    }

    /// The list of names; empty if the file does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, or not as dockerd reads it.
    pub fn repositories(&self) -> Result<Repositories> {
        let path = self.names();
        match self.read().map_err(Error::io("read", &path))? {
            None => Ok(Repositories::empty()),
            Some(bytes) => Repositories::parse(&bytes).map_err(|problem| Error::Io {
                action: "read",
                path,
                offset: None,
                source: io::Error::other(problem).into(),
                hint: Some("dockerd would not start with it either".into()),
            }),
        }
    }

    /// Reads the names; `None` if the file does not exist, as in a store that never had one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a regular file.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        self.read_file(&self.names(), MAX_NAMES)
    }

    /// Opens the data root.
    ///
    /// # Errors
    ///
    /// If it does not exist, the path has a link of another user, or the process through which it leads has
    /// ended.
    pub fn root(&self) -> io::Result<Dir> {
        let root = Dir::open(&self.data_root)?;
        self.through.as_ref().map_or(Ok(()), Identity::check)?;
        Ok(root)
    }

    /// Opens a folder of the store by its path; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is not a folder.
    pub fn folder(&self, path: &Path) -> io::Result<Option<Dir>> {
        below(&self.root()?, self.inside(path)?)
    }

    /// Opens a file of the store by its path; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is not a regular file.
    pub fn open_file(&self, path: &Path) -> io::Result<Option<File>> {
        open_below(&self.root()?, self.inside(path)?)
    }

    /// Reads a file of at most `limit` bytes; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is larger, or is not a regular file.
    pub fn read_file(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.open_file(path)?
            .map(|file| read_whole(file, limit))
            .transpose()
    }

    /// A path of the store, relative to its data root.
    ///
    /// # Errors
    ///
    /// If it is outside.
    pub fn inside<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        path.strip_prefix(&self.data_root).map_err(io::Error::other)
    }
}

/// The data root and driver in this host's `daemon.json`.
fn configured() -> Result<(PathBuf, Option<String>)> {
    let bytes = match read_setting(DEFAULT_PATH.as_ref()) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read", DEFAULT_PATH)(error)),
    };
    let configuration = Configuration::parse(bytes.as_deref()).map_err(|problem| {
        usage(
            format!("{DEFAULT_PATH}: {problem}"),
            "dockerd --validate checks it",
        )
    })?;
    Ok((
        configuration.text("data-root").unwrap_or(DEFAULT_ROOT).into(),
        configuration.text("storage-driver").map(str::to_string),
    ))
}

/// Drivers that have images.
fn drivers(root: &Dir) -> Result<Vec<String>> {
    let failed = |source: io::Error| Error::Io {
        action: "read the store",
        path: root.path().to_path_buf(),
        offset: None,
        source: source.into(),
        hint: Some("links in a data root are not followed: put the folder itself there".into()),
    };
    let Some(folder) = below(root, Path::new("image")).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut drivers = Vec::new();
    for name in folder.names().map_err(failed)? {
        if !matches!(
            folder.kind(&name),
            Ok(Some(FileType::Directory | FileType::Symlink))
        ) {
            continue;
        }
        let inside = Path::new("image").join(&name).join("imagedb");
        if below(root, &inside).map_err(failed)?.is_some() {
            drivers.extend(name.into_string().ok());
        }
    }
    drivers.sort();
    Ok(drivers)
}

/// The error if no driver has images.
fn without_store(root: &Dir) -> Error {
    let message = format!("{} has no classic store of Docker", root.path().display());
    // With user namespaces dockerd keeps everything in a folder named after the first ids.
    let is_remapped = |name: &str| {
        let ids = name.split_once('.');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        ids.is_some_and(|(user, group)| is_number(user) && is_number(group))
    };
    let names = root.names().unwrap_or_default();
    let mut remapped: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    remapped.retain(|name| is_remapped(name) && root.dir(name).is_ok_and(|dir| dir.dir("image").is_ok()));
    remapped.sort_unstable();
    if let Some(first) = remapped.first() {
        let hint = Hint::from("this Docker remaps user ids, and its store is a folder below");
        return usage(message, hint.and(Remedy::UseDataRoot(root.join(first))));
    }
    usage(
        message,
        Hint::from(Remedy::NameDataRoot).and("a containerd store is another kind, and needs no attaching"),
    )
}
