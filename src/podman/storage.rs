//! The files of a store of containers-storage, read without podman. Nothing is changed, and no link is followed.
//!
//! ```text
//! ROOT/DRIVER-images/images.json             images: their names and documents
//! ROOT/DRIVER-images/IMAGE-ID/NAME           a document; most names are `=` and the key in base64
//! ROOT/DRIVER-layers/layers.json             layers: diff ids, and the digests of their blobs
//! ROOT/DRIVER-layers/LAYER-ID.tar-split.gz   what of a layer's tar is not in its files
//! ROOT/overlay/LAYER-ID/diff                 the files of a layer
//! ROOT/vfs/dir/LAYER-ID                      the same, and those of the layers below
//! ```
//!
//! podman replaces the lists as a whole, and does not change the files of a layer. So they can be read without its locks,
//! while it runs; an image that it removes meanwhile is an error of that image.
//!
//! Source: containers/storage, `images.go` (`type Image`), `utils.go` (`makeBigDataBaseName`), `layers.go`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::layers::{self, MAX_LIST};
use crate::dir::{Dir, read_whole};
use crate::error::{Error, Result};
use crate::oci::{Digest, MAX_METADATA, Reference};
use crate::store::content::checked;
use crate::store::files::{below, open_below};

/// The beginning of the keys of manifests and indexes.
const MANIFEST: &str = "manifest";
/// The key that only lists of `podman manifest` have.
const INSTANCES: &str = "instances.json";

/// A store: the one that podman writes, or an additional one that it only reads.
#[derive(Debug)]
pub struct Storage {
    root: Dir,
    driver: String,
    /// Its images.
    pub images: Vec<StoredImage>,
    /// The names of lists that `podman manifest` made: they name images, and have no layers of their own.
    pub lists: Vec<String>,
    /// The ids of its layers, by diff id.
    layers: HashMap<Digest, Vec<String>>,
    /// The digests of the blobs that layers were unpacked from, by diff id.
    blobs: HashMap<Digest, Vec<Digest>>,
    /// The files of documents.
    documents: HashMap<Digest, PathBuf>,
}

/// An image of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Digest of its config.
    pub id: Digest,
    /// Its names with a tag.
    pub tags: Vec<Reference>,
    /// Its names with a digest: those that a pull by digest left.
    pub pinned: Vec<Reference>,
    /// The digests of its manifests and indexes.
    pub manifests: Vec<Digest>,
}

/// Where a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlace {
    /// The folder with its files.
    pub folder: PathBuf,
    /// Its `tar-split.gz`.
    pub tar_split: PathBuf,
}

/// An entry of `images.json`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    id: String,
    names: Option<Vec<String>>,
    big_data_digests: Option<BTreeMap<String, String>>,
}

impl Storage {
    /// Reads the lists of a store. Without a driver it is the one that has images.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be read; [`Error::NotFound`] if no driver has a list, and [`Error::Usage`] if several
    /// drivers have images.
    pub fn open(root: &Path, driver: Option<&str>) -> Result<Storage> {
        let absolute = std::path::absolute(root).map_err(Error::io("open", root))?;
        let root = Dir::open(&absolute).map_err(Error::io("open", root))?;
        let driver = match driver {
            Some(driver) => driver.to_string(),
            None => only_driver(&root)?,
        };
        let path = root.path().to_path_buf();
        let failed = |error| Error::io("read the lists of", &path)(error);
        let mut storage = Storage {
            images: Vec::new(),
            lists: Vec::new(),
            layers: HashMap::new(),
            blobs: HashMap::new(),
            documents: HashMap::new(),
            driver,
            root,
        };
        let images = storage.entries().map_err(failed)?;
        // Read later than the images, so that no image lacks one.
        let layers = layers::list(&storage.root, &storage.driver).map_err(failed)?;
        storage.add_layers(layers);
        for image in images {
            storage.add_image(image);
        }
        Ok(storage)
    }

    /// Its folder.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        match images_list(&self.root, &self.driver)? {
            None => Ok(Vec::new()),
            Some(list) => Ok(serde_json::from_slice(&list)?),
        }
    }

    fn add_layers(&mut self, listed: Vec<layers::Layer>) {
        let whole = listed.into_iter().filter(|layer| !layer.is_incomplete());
        for layer in whole.filter(|layer| is_id(&layer.id)) {
            let Some(diff_id) = layer.diff_id() else { continue };
            if let Some(blob) = layer.blob().filter(|blob| *blob != diff_id) {
                let blobs = self.blobs.entry(diff_id).or_default();
                if !blobs.contains(&blob) {
                    blobs.push(blob);
                }
            }
            self.layers.entry(diff_id).or_default().push(layer.id);
        }
    }

    /// Adds an image. An entry without a config is none.
    fn add_image(&mut self, entry: Entry) {
        let Ok(id) = format!("sha256:{}", entry.id).parse::<Digest>() else {
            return;
        };
        let folder = images_folder(&self.driver).join(&entry.id);
        let mut manifests = Vec::new();
        let mut has_config = false;
        let documents = entry.big_data_digests.unwrap_or_default();
        let is_list = documents.contains_key(INSTANCES);
        for (key, digest) in documents {
            let Ok(digest) = digest.parse::<Digest>() else {
                continue;
            };
            match key == id.to_string() {
                true => has_config = digest == id,
                false if !key.starts_with(MANIFEST) => continue,
                false if manifests.contains(&digest) => {}
                false => manifests.push(digest),
            }
            self.documents
                .entry(digest)
                .or_insert(folder.join(file_name(&key)));
        }
        let names = entry.names.unwrap_or_default();
        if !has_config {
            self.lists.extend(names.into_iter().filter(|_| is_list));
            return;
        }
        let names = names.iter().filter_map(|name| name.parse::<Reference>().ok());
        let (pinned, tags) = names.partition(|name| name.digest().is_some());
        self.images.push(StoredImage {
            id,
            tags,
            pinned,
            manifests,
        });
    }

    /// The stored bytes of a manifest, index or config, verified; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or does not match.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(inside) = self.documents.get(digest) else {
            return Ok(None);
        };
        let path = self.root.join(inside);
        let failed = |error| Error::io("read", &path)(error);
        let Some(file) = open_below(&self.root, inside).map_err(failed)? else {
            return Ok(None);
        };
        let bytes = read_whole(file, MAX_METADATA).map_err(failed)?;
        checked(bytes, digest, &path).map(Some)
    }

    /// The digests of the blobs that a layer was unpacked from.
    pub fn blobs(&self, diff_id: &Digest) -> &[Digest] {
        self.blobs.get(diff_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The places of a layer, which has one for each of those that it lies on; none if it is not here.
    pub fn layers(&self, diff_id: &Digest) -> impl Iterator<Item = LayerPlace> {
        let ids = self.layers.get(diff_id).into_iter().flatten();
        ids.map(|id| LayerPlace {
            folder: match self.driver.as_str() {
                "vfs" => Path::new("vfs/dir").join(id),
                driver => Path::new(driver).join(id).join("diff"),
            },
            tar_split: layers::folder(&self.driver).join(format!("{id}.tar-split.gz")),
        })
    }

    /// Why its layers cannot be read as files; `None` if they can.
    pub fn layers_obstacle(&self) -> Option<String> {
        let is_known = matches!(self.driver.as_str(), "overlay" | "vfs");
        let driver = &self.driver;
        (!is_known).then(|| format!("layers of the storage driver {driver} cannot be read as files"))
    }
}

impl LayerPlace {
    /// Opens its folder and its `tar-split.gz`, below the root of its store.
    ///
    /// # Errors
    ///
    /// If one is missing or cannot be opened.
    pub fn open(&self, root: &Dir) -> Result<(Dir, std::fs::File)> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let folder = below(root, &self.folder).and_then(|found| found.ok_or_else(missing));
        let folder = folder.map_err(Error::io("open", root.join(&self.folder)))?;
        Ok((folder, self.open_tar_split(root)?))
    }

    /// Opens its `tar-split.gz`.
    ///
    /// # Errors
    ///
    /// If it is missing or cannot be opened.
    pub fn open_tar_split(&self, root: &Dir) -> Result<std::fs::File> {
        let file = open_below(root, &self.tar_split);
        let file = file.and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()));
        file.map_err(Error::io("open", root.join(&self.tar_split)))
    }
}

/// The bytes of a driver's list of images; `None` if there is none.
fn images_list(root: &Dir, driver: &str) -> io::Result<Option<Vec<u8>>> {
    let file = open_below(root, &images_path(driver))?;
    file.map(|file| read_whole(file, MAX_LIST)).transpose()
}

fn images_path(driver: &str) -> PathBuf {
    images_folder(driver).join("images.json")
}

fn images_folder(driver: &str) -> PathBuf {
    format!("{driver}-images").into()
}

/// The driver that has images in a root. A list that cannot be read is an error: its driver may be the one.
fn only_driver(root: &Dir) -> Result<String> {
    let names = root.names().map_err(Error::io("read", root.path()))?;
    let mut drivers = Vec::new();
    for name in &names {
        let Some(driver) = name.to_str().and_then(|name| name.strip_suffix("-images")) else {
            continue;
        };
        let list = images_list(root, driver);
        let list = list.map_err(|error| Error::io("read", root.join(images_path(driver)))(error))?;
        if let Some(list) = list {
            // podman leaves an empty list for a driver that was only tried.
            drivers.push((list.trim_ascii() == b"[]", driver.to_string()));
        }
    }
    drivers.sort();
    let used = drivers.iter().filter(|(is_empty, _)| !is_empty);
    let used: Vec<&str> = used.map(|(_, driver)| driver.as_str()).collect();
    match (used.as_slice(), drivers.first()) {
        ([one], _) => Ok((*one).to_string()),
        ([], Some((_, empty))) => Ok(empty.clone()),
        ([], None) => Err(Error::NotFound {
            what: "images of podman".into(),
            place: root.path().display().to_string(),
            hint: Some("`podman info` shows the folder of its images as graphRoot".into()),
        }),
        (several, _) => Err(Error::Usage {
            message: format!(
                "{} has images of several storage drivers: {}",
                root.path().display(),
                several.join(", ")
            ),
            hint: Some("leave out the folder, and podman tells which one it uses".into()),
        }),
    }
}

/// The file of a document.
pub(super) fn file_name(key: &str) -> String {
    let is_plain = |byte: u8| byte == b'.' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
    match key.bytes().all(is_plain) {
        true => key.to_string(),
        false => format!("={}", STANDARD.encode(key)),
    }
}

/// Whether text is a single file name, as the ids of layers are.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::ErrorKind;

    fn id(text: &str) -> String {
        Digest::sha256(text.as_bytes()).to_string()
    }

    fn hex(text: &str) -> String {
        id(text).trim_start_matches("sha256:").to_string()
    }

    /// A store with one image, a list of `podman manifest` and two layers, of which one is not whole.
    fn store() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("overlay-images");
        let folder = images.join(hex("config"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(root.path().join("overlay-layers")).unwrap();
        let manifest = format!("manifest-{}", id("index"));
        let list = serde_json::json!([
            {
                "id": hex("config"), "digest": id("index"),
                "names": ["docker.io/library/app:1", format!("quay.io/app@{}", id("index")), "no name"],
                "big-data-digests": { id("config"): id("config"), &manifest: id("index"), "signature-1": id("signature") },
            },
            { "id": hex("list"), "names": ["localhost/list:1"], "big-data-digests": { "instances.json": id("instances") } },
            { "id": "../../etc", "names": ["docker.io/library/other:1"] },
        ]);
        fs::write(images.join("images.json"), list.to_string()).unwrap();
        fs::write(folder.join(file_name(&id("config"))), "config").unwrap();
        fs::write(folder.join(file_name(&manifest)), "index").unwrap();
        let layers = serde_json::json!([
            { "id": hex("chain"), "diff-digest": id("diff"), "compressed-diff-digest": id("blob") },
            { "id": hex("cut"), "diff-digest": id("cut"), "flags": { "incomplete": true } },
            { "id": "../up", "diff-digest": id("up") },
        ]);
        fs::write(root.path().join("overlay-layers/layers.json"), layers.to_string()).unwrap();
        root
    }

    #[test]
    fn images_documents_and_layers_are_found() {
        let root = store();
        let storage = Storage::open(root.path(), None).unwrap();
        let [image] = storage.images.as_slice() else {
            panic!("{:?}", storage.images)
        };
        assert_eq!(image.tags, ["app:1".parse::<Reference>().unwrap()]);
        assert_eq!(image.pinned.len(), 1);
        assert_eq!(image.manifests, [Digest::sha256(b"index")]);
        assert_eq!(storage.lists, ["localhost/list:1"]);
        let document = |text: &str| storage.document(&Digest::sha256(text.as_bytes())).unwrap();
        assert_eq!(document("index"), Some(b"index".to_vec()));
        assert_eq!(document("config"), Some(b"config".to_vec()));
        assert_eq!(document("signature"), None);
        let diff = Digest::sha256(b"diff");
        assert_eq!(storage.blobs(&diff), [Digest::sha256(b"blob")]);
        let places: Vec<LayerPlace> = storage.layers(&diff).collect();
        assert_eq!(places.len(), 1);
        assert_eq!(
            places[0].folder,
            Path::new("overlay").join(hex("chain")).join("diff")
        );
        for other in ["cut", "up"] {
            assert_eq!(
                storage.layers(&Digest::sha256(other.as_bytes())).count(),
                0,
                "{other}"
            );
        }
    }

    #[test]
    fn links_pipes_and_wrong_bytes_are_refused() {
        let root = store();
        let folder = root.path().join("overlay-images").join(hex("config"));
        let index = folder.join(file_name(&format!("manifest-{}", id("index"))));
        let read = || {
            let storage = Storage::open(root.path(), None).unwrap();
            storage.document(&Digest::sha256(b"index")).unwrap_err().kind()
        };
        fs::write(&index, "other").unwrap();
        assert_eq!(read(), ErrorKind::Content);
        fs::remove_file(&index).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &index, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(read(), ErrorKind::Io);
        fs::remove_file(&index).unwrap();
        symlink("/etc/passwd", &index).unwrap();
        assert_eq!(read(), ErrorKind::Io);

        let layers = root.path().join("overlay-layers");
        fs::rename(&layers, root.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &layers).unwrap();
        assert_eq!(
            Storage::open(root.path(), None).unwrap_err().kind(),
            ErrorKind::Io
        );
    }

    #[test]
    fn one_driver_must_have_the_images() {
        let root = store();
        assert_eq!(
            Storage::open(&root.path().join("overlay-layers"), None)
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        let other = root.path().join("vfs-images");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("images.json"), "[]\n").unwrap();
        assert_eq!(Storage::open(root.path(), None).unwrap().images.len(), 1);
        assert!(Storage::open(root.path(), Some("vfs")).unwrap().images.is_empty());
        let list = serde_json::json!([{ "id": hex("config") }]);
        fs::write(other.join("images.json"), list.to_string()).unwrap();
        assert_eq!(
            Storage::open(root.path(), None).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }

    #[test]
    fn a_list_of_images_that_cannot_be_read_is_reported() {
        let root = store();
        for driver in ["overlay", "vfs"] {
            let folder = root.path().join(format!("{driver}-images"));
            let list = folder.join("images.json");
            let _ = fs::create_dir(&folder);
            let _ = fs::rename(&list, folder.join("before.json"));
            rustix::fs::mkfifoat(rustix::fs::CWD, &list, rustix::fs::Mode::RUSR).unwrap();
            let error = Storage::open(root.path(), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains(list.to_str().unwrap()), "{error}");
            fs::remove_file(&list).unwrap();
            let _ = fs::rename(folder.join("before.json"), &list);
        }
        // A folder without a list is none of a driver.
        assert_eq!(Storage::open(root.path(), None).unwrap().images.len(), 1);
    }
}
