//! The layers of a store: `layerdb/sha256/CHAIN/{diff,cache-id,tar-split.json.gz}`.
//!
//! Source: moby, `layer/filestore.go`; `daemon/graphdriver` for each driver's files of a layer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::Files;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::load::Obstacle;
use crate::oci::Digest;
use crate::store::files::digest_path;

/// Largest small file, in bytes: each has a digest or an id.
const MAX_SMALL: u64 = 1 << 10;

/// How a storage driver stores the folders of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `DRIVER/ID/diff` with the files of the layer alone.
    Diff(&'static str),
    /// `FOLDER/ID` with the files of the layer and those below it.
    Whole(&'static str),
}

/// The layers of a store, by diff id. A layer that is used on several others has a folder for each.
#[derive(Debug)]
pub struct Layers {
    files: Files,
    layout: Layout,
    chains: BTreeMap<Digest, Vec<Digest>>,
}

impl Layout {
    /// The layout of a driver.
    ///
    /// # Errors
    ///
    /// Why its layers cannot be read as files.
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
    /// Reads the current layers.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be read. Layers without a usable diff id are omitted, as by dockerd.
    pub fn scan(files: &Files, layout: Layout) -> Result<Layers> {
        let mut chains: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for chain in digests(files, &files.chains().join("sha256"))? {
            let path = digest_path(&files.chains(), &chain).join("diff");
            let diff_id = text(files, &path)?.and_then(|text| text.parse::<Digest>().ok());
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

    /// The chains of which a layer is the top; none if it is missing.
    pub fn chains(&self, diff_id: &Digest) -> &[Digest] {
        self.chains.get(diff_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The `tar-split.json.gz` of a chain's top.
    pub fn tar_split(&self, chain: &Digest) -> PathBuf {
        digest_path(&self.files.chains(), chain).join("tar-split.json.gz")
    }

    /// Opens the folder with the files of a chain's top.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it is unknown or cannot be opened.
    pub fn folder(&self, chain: &Digest) -> Result<Dir> {
        let path = digest_path(&self.files.chains(), chain).join("cache-id");
        let id = text(&self.files, &path)?.filter(|id| is_id(id));
        let id = id.ok_or_else(|| Error::io("read", &path)(io::Error::other("there is no id in it")))?;
        let root = &self.files.data_root;
        let folder = match self.layout {
            Layout::Diff(home) => root.join(home).join(id).join("diff"),
            Layout::Whole(home) => root.join(home).join(id),
        };
        let opened = self.files.folder(&folder).map_err(Error::io("open", &folder))?;
        opened.ok_or_else(|| Error::io("open", &folder)(io::ErrorKind::NotFound.into()))
    }
}

/// The digests in the names of a folder `sha256`, in order.
///
/// # Errors
///
/// [`Error::Io`] if it exists and cannot be read.
pub fn digests(files: &Files, folder: &Path) -> Result<Vec<Digest>> {
    let Some(dir) = files.folder(folder).map_err(Error::io("read", folder))? else {
        return Ok(Vec::new());
    };
    let names = dir.names().map_err(Error::io("read", folder))?;
    let digest = |name: &std::ffi::OsString| format!("sha256:{}", name.to_str()?).parse::<Digest>().ok();
    let mut digests: Vec<Digest> = names.iter().filter_map(digest).collect();
    digests.sort();
    Ok(digests)
}

fn text(files: &Files, path: &Path) -> Result<Option<String>> {
    let bytes = files
        .read_file(path, MAX_SMALL)
        .map_err(Error::io("read", path))?;
    Ok(bytes.and_then(|bytes| Some(String::from_utf8(bytes).ok()?.trim().to_string())))
}

/// Whether text is a single file name.
fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
