//! containerd's content folder, read without containerd: blobs by digest.
//!
//! A pull into Docker's classic store leaves the original index and manifest there; its containerd store has all
//! blobs there. A blob is named by its digest and never changes, so the folder can be read while containerd
//! runs; that needs the same privilege as its socket. It does not matter which containerd it belongs to,
//! because everything is verified against its digest.
//!
//! Source: containerd, `core/content` and `plugins/content/local/store.go` (before 2.0 `content/local/store.go`).

use std::io::Read;
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{digest_path, open_below};
use super::settings::settings;
use crate::archive::format::SUBSTITUTE;
use crate::blob::{Extent, Stored};
use crate::dir::Dir;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::{Config, Descriptor, Digest, Document, MAX_METADATA, Manifest};
use crate::source::StoredForm;

/// The content folder below containerd's root.
pub const CONTENT: &str = "io.containerd.content.v1.content";
/// containerd's default root.
pub const DEFAULT_ROOT: &str = "/var/lib/containerd";
/// The file that configures another one.
pub const CONFIG: &str = "/etc/containerd/config.toml";

/// The content folders that may have an engine's blobs, the likeliest first.
#[derive(Debug, Clone, Default)]
pub struct ContentFolders(Vec<Arc<Dir>>);

impl ContentFolders {
    /// The existing content folders below these roots.
    pub fn below(roots: impl IntoIterator<Item = PathBuf>) -> ContentFolders {
        ContentFolders::of_roots(roots.into_iter().filter_map(|root| Dir::open(&root).ok()))
    }

    /// The existing content folders in these roots.
    pub fn of_roots(roots: impl IntoIterator<Item = Dir>) -> ContentFolders {
        let mut known = Vec::new();
        let mut folders = Vec::new();
        for folder in roots.into_iter().filter_map(|root| root.dir(CONTENT).ok()) {
            let id = folder.metadata().map(|meta| (meta.dev(), meta.ino()));
            // Several names of one folder count once.
            if let Ok(id) = id
                && !known.contains(&id)
            {
                known.push(id);
                folders.push(Arc::new(folder));
            }
        }
        ContentFolders(folders)
    }

    /// The folders' paths.
    pub fn paths(&self) -> Vec<&Path> {
        self.0.iter().map(|folder| folder.path()).collect()
    }

    /// The stored bytes of a blob, in its own file; `None` if it is missing. They are not verified.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it exists and cannot be opened.
    pub fn stored(&self, digest: &Digest) -> Result<Option<Stored>> {
        for folder in &self.0 {
            let inside = digest_path(Path::new("blobs"), digest);
            let path = folder.join(&inside);
            let Some(file) = open_below(folder, &inside).map_err(Error::io("open", &path))? else {
                continue;
            };
            let meta = file.metadata().map_err(Error::io("read", &path))?;
            let size = meta.len();
            return Ok(Some(Stored {
                extents: vec![Extent {
                    file: Arc::new(file),
                    path: Arc::new(path.clone()),
                    offset: 0,
                    length: size,
                }],
                size,
                entry: path.display().to_string(),
                offset: None,
            }));
        }
        Ok(None)
    }

    /// The manifests of all images here: files that are small, parse as one and hash to their name. Unreadable
    /// ones are omitted.
    fn manifests(&self) -> Vec<Manifest> {
        let mut manifests = Vec::new();
        for folder in &self.0 {
            let blobs = folder.below(Path::new("blobs/sha256"));
            for name in blobs.and_then(|blobs| blobs.names()).unwrap_or_default() {
                let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                manifests.extend(digest.and_then(|digest| self.manifest(&digest)));
            }
        }
        manifests
    }

    /// The layers in these manifests. `config` looks up their configs elsewhere.
    pub fn stored_forms(&self, config: impl Fn(&Digest) -> Option<Vec<u8>>) -> Vec<StoredForm> {
        let is_here = |layer: &Descriptor| {
            let stored = self.stored(&layer.digest).ok().flatten();
            stored.is_some_and(|stored| stored.size == layer.size)
        };
        let forms = |manifest: Manifest| {
            let digest = &manifest.config.digest;
            let bytes = self.metadata(digest).ok().flatten().or_else(|| config(digest));
            let config = bytes.and_then(|bytes| Config::parse(&bytes).ok());
            StoredForm::of(&manifest, config.as_ref(), is_here)
        };
        self.manifests().into_iter().flat_map(forms).collect()
    }

    fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let stored = self.stored(digest).ok()??;
        let mut first = [0];
        // Layers and archives of all kinds begin differently.
        let read = stored.extents.first()?.file.read_exact_at(&mut first, 0);
        if stored.size > MAX_METADATA || read.is_err() || first != *b"{" {
            return None;
        }
        let bytes = self.metadata(digest).ok()??;
        match Document::parse(&Document::sniff(&bytes)?, bytes) {
            // Those that sealift made name no blobs of a registry.
            Ok(Document::Manifest(manifest)) => {
                Some(manifest).filter(|manifest| !manifest.annotations.contains_key(SUBSTITUTE))
            }
            _ => None,
        }
    }

    /// Reads a manifest, index or config, verified against its digest; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the digest differs or there are more than [`MAX_METADATA`] bytes; [`Error::Io`] if
    /// they cannot be read.
    pub fn metadata(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.stored(digest)? else {
            return Ok(None);
        };
        let Some(extent) = stored.extents.first() else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut input = extent.file.as_ref().take(MAX_METADATA.saturating_add(1));
        let read = input.read_to_end(&mut bytes);
        read.map_err(Error::io("read", extent.path.as_ref()))?;
        checked(bytes, digest, &extent.path).map(Some)
    }
}

/// Verifies a document's bytes against its digest.
///
/// # Errors
///
/// [`Error::Refused`] if they do not match, or are too many.
pub fn checked(bytes: Vec<u8>, digest: &Digest, path: &Path) -> Result<Vec<u8>> {
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found > MAX_METADATA {
        let problem = Problem::TooLarge {
            limit: MAX_METADATA,
            found,
        };
        return Err(Error::refused(place(path, digest), problem));
    }
    let found = digest.of_same_algorithm(&bytes);
    if found != *digest {
        let problem = Problem::DigestDiffers {
            expected: *digest,
            found,
        };
        return Err(Error::refused(place(path, digest), problem));
    }
    Ok(bytes)
}

fn place(path: &Path, digest: &Digest) -> Place {
    Place::blob(*digest).entry(path.display().to_string())
}

/// `root` of a containerd's [`CONFIG`]: a top-level key, before the first table.
pub fn configured_root(config: &str) -> Option<PathBuf> {
    let top = settings(config, "").into_iter();
    let mut roots = top.filter(|(key, value)| *key == "root" && value.starts_with('/'));
    roots.next().map(|(_, value)| value.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::ErrorKind;

    fn put(root: &Path, digest: &Digest, bytes: &[u8]) {
        let path = digest_path(&root.join(CONTENT).join("blobs"), digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn blobs_are_found_and_checked() {
        let home = tempfile::tempdir().unwrap();
        let root = |name: &str| home.path().join(name);
        let [one, two, bad, large] =
            ["one", "two", "bad", "large"].map(|text| Digest::sha256(text.as_bytes()));
        put(&root("a"), &one, b"one");
        put(&root("b"), &two, b"two");
        put(&root("b"), &bad, b"worse");
        let size = usize::try_from(MAX_METADATA).unwrap();
        put(&root("b"), &large, &vec![b' '; size + 1]);
        symlink(root("a"), root("again")).unwrap();
        let folders = ContentFolders::below(["a", "none", "again", "b"].map(root));
        assert_eq!(
            folders.paths(),
            [root("a").join(CONTENT), root("b").join(CONTENT)]
        );
        assert_eq!(folders.metadata(&one).unwrap(), Some(b"one".to_vec()));
        assert_eq!(folders.metadata(&two).unwrap(), Some(b"two".to_vec()));
        let stored = folders.stored(&two).unwrap().unwrap();
        assert_eq!((stored.size, stored.extents[0].length), (3, 3));
        assert_eq!(folders.metadata(&Digest::sha256(b"none")).unwrap(), None);
        for (digest, says) in [(&bad, "expected"), (&large, "limit")] {
            let error = folders.metadata(digest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Content);
            assert!(error.to_string().contains(says), "{error}");
        }
        let linked = digest_path(&root("a").join(CONTENT).join("blobs"), &two);
        symlink("/etc/passwd", linked).unwrap();
        assert_eq!(folders.stored(&two).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn manifests_are_told_from_all_else() {
        let home = tempfile::tempdir().unwrap();
        let blob = |text: &str| {
            let digest = Digest::sha256(text.as_bytes());
            put(home.path(), &digest, text.as_bytes());
            serde_json::json!({ "mediaType": "application/x", "digest": digest, "size": text.len() })
        };
        let config = blob("{}");
        let manifest = |annotation: &str| {
            let text = serde_json::json!({
                "schemaVersion": 2, "config": config, "layers": [blob("layer"), config],
                "annotations": { "a": annotation },
            });
            text.to_string()
        };
        let (one, damaged) = (manifest("one"), manifest("damaged"));
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [blob(&one)] });
        blob(&index.to_string());
        blob("");
        put(home.path(), &Digest::sha256(damaged.as_bytes()), one.as_bytes());
        let found = ContentFolders::below([home.path().into()]).manifests();
        let found: Vec<&[u8]> = found.iter().map(|manifest| &*manifest.raw).collect();
        assert_eq!(found, [one.as_bytes()]);
    }

    #[test]
    fn the_root_in_a_configuration() {
        for (text, expected) in [
            (
                "version = 2\nroot = \"/data/c\" # here\n[plugins]\n",
                Some("/data/c"),
            ),
            ("  root='/data/c'\n", Some("/data/c")),
            ("# root = \"/no\"\n", None),
            ("[plugins.x]\nroot = \"/no\"\n", None),
            ("root = 7\n", None),
            ("root = \"relative\"\n", None),
            ("root = \"", None),
            ("root =\nrooted = \"/no\"", None),
            ("", None),
        ] {
            assert_eq!(configured_root(text), expected.map(PathBuf::from), "{text}");
        }
    }
}
