//! Where a classic store keeps what, and how its small files are read.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::repositories::Repositories;
use crate::docker::attach::config::{Configuration, DEFAULT_PATH};
use crate::docker::attach::daemon::Process;
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::target::Obstacle;

/// Where a stock installation keeps its data.
const DEFAULT_ROOT: &str = "/var/lib/docker";
/// Larger lists of names are not read, in bytes; ten thousand images need two million.
const MAX_NAMES: u64 = 256 << 20;

/// The store of a classic daemon, as paths of ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Files {
    /// Its data root.
    pub data_root: PathBuf,
    /// Its storage driver.
    pub driver: String,
}

fn usage(message: String, hint: &str) -> Error {
    Error::Usage {
        message,
        hint: Some(hint.into()),
    }
}

impl Files {
    /// Finds the store in a data root; without one, in the one that this host's daemon would use.
    ///
    /// # Errors
    ///
    /// If there is none of the classic kind, or several.
    pub fn find(data_root: Option<&Path>) -> Result<Files> {
        let (data_root, driver) = match data_root {
            Some(root) => (root.to_path_buf(), None),
            None => configured()?,
        };
        let drivers = drivers(&data_root)?;
        let driver = match (driver, drivers.as_slice()) {
            (Some(driver), _) if drivers.contains(&driver) => driver,
            (None, [one]) => one.clone(),
            (_, []) | (Some(_), _) => {
                return Err(usage(
                    format!("{} has no classic store of a Docker", data_root.display()),
                    "--data-root names the folder that dockerd keeps its data in; a containerd store is another kind, \
                     and needs no attaching",
                ));
            }
            (None, _) => {
                return Err(usage(
                    format!("{} has stores of {}", data_root.display(), drivers.join(", ")),
                    "start the daemon, which knows the one that it uses",
                ));
            }
        };
        Ok(Files { data_root, driver })
    }

    /// The store of a daemon that runs, by what it says of itself in `GET /info`.
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
        })
    }

    /// The folder of the images' names and documents.
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

    /// The folder of what is known of the layers, by chain id.
    pub fn chains(&self) -> PathBuf {
        self.images().join("layerdb")
    }

    /// The file with the blobs that a layer was pulled from or pushed as.
    pub fn blobs(&self, diff_id: &Digest) -> PathBuf {
        digest_path(&self.images().join("distribution/v2metadata-by-diffid"), diff_id)
    }

    /// The list of names; an empty one if there is no file.
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

    /// Reads the names; `None` if there is no file, as in a store that never had one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no regular file.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.names(), MAX_NAMES)
    }
}

/// `FOLDER/sha256/HEX`.
pub fn digest_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm()).join(digest.hex())
}

/// Reads a file of at most `limit` bytes whole; `None` if there is none.
///
/// # Errors
///
/// If it cannot be read, is larger, or is no regular file.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > limit {
        return Err(io::Error::other("it is not a file of a reasonable size"));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens a file that is no link, without waiting for anything; `None` if there is none.
///
/// # Errors
///
/// If it cannot be opened.
pub fn open_file(path: &Path) -> io::Result<Option<fs::File>> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The data root and driver that this host's `daemon.json` names.
fn configured() -> Result<(PathBuf, Option<String>)> {
    let bytes = match fs::read(DEFAULT_PATH) {
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
fn drivers(data_root: &Path) -> Result<Vec<String>> {
    let folder = data_root.join("image");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    let mut drivers: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("imagedb").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    drivers.sort();
    Ok(drivers)
}
