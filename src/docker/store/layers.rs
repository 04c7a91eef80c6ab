//! What the store knows of its layers: `layerdb/sha256/CHAIN/{diff,cache-id,tar-split.json.gz}`.
//!
//! Source: moby, `layer/filestore.go`; `daemon/graphdriver` for where each driver keeps a layer's files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::files::{Files, digest_path, read_file};
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::target::Obstacle;

/// Largest of the small files, in bytes: each holds a digest or an id.
const MAX_SMALL: u64 = 1 << 10;

/// How a storage driver lays out the folders of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `DRIVER/ID/diff` with what the layer has of its own.
    Diff(&'static str),
    /// `FOLDER/ID` with all of what is below it, too.
    Whole(&'static str),
}

/// The layers of a store, by diff id: one that stands on several others has a folder for each.
#[derive(Debug)]
pub struct Layers {
    files: Files,
    layout: Layout,
    chains: BTreeMap<Digest, Vec<Digest>>,
}

impl Layout {
    /// That of a driver.
    ///
    /// # Errors
    ///
    /// Its layers cannot be read as files.
    pub fn of(driver: &str) -> Result<Layout, Obstacle> {
        match driver {
            "overlay2" => Ok(Layout::Diff("overlay2")),
            "fuse-overlayfs" => Ok(Layout::Diff("fuse-overlayfs")),
            "vfs" => Ok(Layout::Whole("vfs/dir")),
            other => Err(Obstacle::new(
                format!("layers of the storage driver {other} cannot be read as files"),
                "start the engine, and they come out of its API",
            )),
        }
    }
}

impl Layers {
    /// Looks at what is there now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read. Layers without a usable diff id are left out, as dockerd does.
    pub fn scan(files: &Files, layout: Layout) -> Result<Layers> {
        let mut chains: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for chain in digests(&files.chains().join("sha256"))? {
            let path = digest_path(&files.chains(), &chain).join("diff");
            let diff_id = text(path)?.and_then(|text| text.parse::<Digest>().ok());
            if let Some(diff_id) = diff_id {
                chains.entry(diff_id).or_default().push(chain);
            }
        }
        Ok(Layers {
            files: files.clone(),
            layout,
            chains,
        })
    }

    /// The chains that a layer is the top of; none if it is not here.
    pub fn chains(&self, diff_id: &Digest) -> &[Digest] {
        self.chains.get(diff_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The `tar-split.json.gz` of a chain's top.
    pub fn tar_split(&self, chain: &Digest) -> PathBuf {
        digest_path(&self.files.chains(), chain).join("tar-split.json.gz")
    }

    /// The folder with the files of a chain's top.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it is not known.
    pub fn folder(&self, chain: &Digest) -> Result<PathBuf> {
        let path = digest_path(&self.files.chains(), chain).join("cache-id");
        let id = text(path.clone())?.filter(|id| is_id(id));
        let id = id.ok_or_else(|| Error::io("read", &path)(io::Error::other("there is no id in it")))?;
        let root = &self.files.data_root;
        Ok(match self.layout {
            Layout::Diff(home) => root.join(home).join(id).join("diff"),
            Layout::Whole(home) => root.join(home).join(id),
        })
    }
}

/// The digests that a folder `sha256` has files or folders of, in order.
///
/// # Errors
///
/// [`Error::Io`] if it is there and cannot be read.
pub fn digests(folder: &std::path::Path) -> Result<Vec<Digest>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    let mut digests = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("read", folder))?.file_name();
        let digest = name.to_str().map(|hex| format!("sha256:{hex}").parse::<Digest>());
        digests.extend(digest.and_then(Result::ok));
    }
    digests.sort();
    Ok(digests)
}

fn text(path: PathBuf) -> Result<Option<String>> {
    let bytes = read_file(&path, MAX_SMALL).map_err(Error::io("read", &path))?;
    Ok(bytes.and_then(|bytes| Some(String::from_utf8(bytes).ok()?.trim().to_string())))
}

/// One name of a folder and nothing else.
fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
