//! Makes a later `docker push` from the classic store keep a digest.
//!
//! The store keeps layers uncompressed. A push compresses them again, which gives other blobs, unless the store
//! knows the digest of a layer in a repository. A pull records that, a load does not. A running daemon reads it
//! at every push, so it can be written while the daemon runs, file by file.
//!
//! Source: moby, `distribution/metadata`: `diffid-by-digest/sha256/<blob>` has the diff id,
//! `v2metadata-by-diffid/sha256/<diff id>` a list of blobs and repositories, the newest last.

use std::io::{self, Write as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Pid;
use serde_json::{Value, json};

use super::content::ImageToLoad;
use super::daemon::process::obstacle;
use super::store::MAX_BLOBS;
use super::store::files::Files;
use crate::dir::Dir;
use crate::error::{Error, Hint, Remedy, Result};
use crate::image::{Graph, Image};
use crate::load::Obstacle;
use crate::oci::{Compression, Descriptor, Digest, Index, Kind, Reference, Repository, json as strict};
use crate::recover::lost::templates::{Blob, DOCKER_PUSH};
use crate::store::files::digest_path;

/// The most entries that the daemon keeps for a layer.
const MAX_ENTRIES: usize = 100;

/// What changes an image's digest in a later push, once `files`, the classic store's, record where its layers are. `None`
/// if it has no digest.
pub fn obstacles(
    to_load: &ImageToLoad<'_, '_>,
    files: Option<Result<&Files, Obstacle>>,
) -> Option<Vec<Obstacle>> {
    let ImageToLoad {
        planned,
        candidate,
        image,
        ..
    } = to_load;
    if let Some(substitute) = candidate.image.provenance.substitute {
        return substitute.recorded.map(|digest| vec![unproven(&digest)]);
    }
    let Some(files) = files else {
        // A containerd store has the blobs themselves, so nothing needs to be recorded. What it lacks of an index, it
        // cannot push.
        return Some(partial(&candidate.image.graph, image).into_iter().collect());
    };
    // The origin has the blobs, and may be the registry of the push.
    let origin = candidate.image.reference.as_ref().map(Reference::repository);
    let name = planned.name.repository();
    let repositories: Vec<&Repository> = origin
        .into_iter()
        .filter(|one| *one != name)
        .chain([name])
        .collect();
    let recorded =
        files.and_then(|files| remember(files, &repositories, image).map_err(|error| obstacle(&error)));
    let differs = differs(&candidate.image.graph, image);
    Some(recorded.err().into_iter().chain(differs).collect())
}

/// Records where the layers of an image are, as pulls from these repositories do, the best last.
///
/// # Errors
///
/// If it cannot be written. Existing records stay.
fn remember(files: &Files, repositories: &[&Repository], image: &Image) -> Result<()> {
    let folder = files.images().join("distribution");
    let diff_ids = image.config.iter().flat_map(|config| &config.diff_ids);
    for (layer, diff_id) in image.manifest.layers.iter().zip(diff_ids) {
        // A push calls every layer gzip, whatever it is.
        if layer.media_type.kind() != Kind::Layer(Compression::Gzip) {
            continue;
        }
        let blobs = files.blobs(diff_id);
        let known = files
            .read_file(&blobs, MAX_BLOBS)
            .map_err(Error::io("read", &blobs))?;
        // The daemon replaces what it cannot read.
        let known: Vec<Value> = known
            .and_then(|bytes| strict::from_slice(&bytes).ok())
            .unwrap_or_default();
        let known = repositories.iter().fold(known, |known, repository| {
            with_entry(known, &layer.digest, repository)
        });
        let list = crate::archive::format::to_json(&known)?;
        replace(files, &blobs, &list).map_err(Error::io("write", &blobs))?;
        let path = digest_path(&folder.join("diffid-by-digest"), &layer.digest);
        replace(files, &path, diff_id.to_string().as_bytes()).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// The list with an additional entry at its end, the newest.
fn with_entry(mut known: Vec<Value>, digest: &Digest, repository: &Repository) -> Vec<Value> {
    let ours = json!({
        "Digest": digest.to_string(),
        "SourceRepository": repository.full(),
        // Set only by a push: a hash of its credentials.
        "HMAC": "",
    });
    known.retain(|entry| *entry != ours);
    known.push(ours);
    known.split_off(known.len().saturating_sub(MAX_ENTRIES))
}

/// Removes partly written files of a killed run.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn tidy(files: &Files) -> io::Result<()> {
    let folder = files.images().join("distribution");
    for kind in ["diffid-by-digest/sha256", "v2metadata-by-diffid/sha256"] {
        let Some(folder) = files.folder(&folder.join(kind))? else {
            continue;
        };
        for name in folder.names()? {
            if name.to_str().is_some_and(is_left) {
                folder.remove_file(&name)?;
            }
        }
    }
    Ok(())
}

/// Whether a file is a temporary one of ours whose process has ended. The daemon's own have no second dash.
fn is_left(name: &str) -> bool {
    let rest = name.strip_prefix(".tmp-").and_then(|rest| rest.split_once('-'));
    let pid = rest.and_then(|(_, pid)| pid.parse().ok());
    pid.and_then(Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
}

/// Replaces a file atomically.
fn replace(files: &Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let inside = files.inside(path)?;
    let name = inside.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = make_below(files.root()?, inside.parent().unwrap_or(Path::new("")))?;
    // The daemon's own temporary files have such names, too.
    let fresh = format!(".tmp-{}-{}", name.display(), std::process::id());
    match folder.remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = folder.create_file(&fresh, 0o644)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written
        .and_then(|()| folder.rename(&fresh, &folder, name))
        .inspect_err(|_| drop(folder.remove_file(&fresh)))?;
    folder.sync()
}

/// Opens a folder below another one, and makes missing ones.
fn make_below(root: Dir, path: &Path) -> io::Result<Dir> {
    path.iter()
        .try_fold(root, |at, name| match at.make_dir(name, 0o755) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => at.dir(name),
        })
}

/// Why a push would give another digest than `root` even if the registry has all layers.
fn differs(graph: &Graph, image: &Image) -> Option<Obstacle> {
    let reason = if graph.root.digest != image.descriptor.digest {
        format!(
            "docker push sends the manifest of one platform ({}), never the index",
            image.descriptor.digest
        )
    } else if *image.manifest.raw != *as_pushed(image).as_bytes() {
        "docker push writes a new manifest in Docker's own form, which differs from this one".into()
    } else {
        return None;
    };
    Some(Obstacle::new(reason, elsewhere(graph)))
}

/// Why a push from the containerd store would give another digest: one image of an index is loaded.
fn partial(graph: &Graph, image: &Image) -> Option<Obstacle> {
    let lists_others = |index: &Index| {
        let mut listed = index.manifests.iter().map(|listed| listed.digest);
        let nested = |digest: &Digest| graph.indexes.iter().any(|(nested, _)| nested.digest == *digest);
        listed.any(|digest| digest != image.descriptor.digest && !nested(&digest))
    };
    graph.indexes.iter().any(|(_, index)| lists_others(index)).then(|| {
        Obstacle::new(
            "one image is loaded of an index that lists more, and docker push sends that image's manifest alone where the others are missing",
            elsewhere(graph),
        )
    })
}

/// How to push an image with its digest.
fn elsewhere(graph: &Graph) -> Hint {
    match graph.absent.is_empty() {
        true => Remedy::PushArchive.into(),
        false => Hint::from(
            "the archive lacks platforms of the index, and most registries refuse an index without them",
        )
        .and(Remedy::SaveAllPlatforms)
        .and(Remedy::PushArchive),
    }
}

/// Why a push changes a digest that was recorded without its manifest.
fn unproven(recorded: &Digest) -> Obstacle {
    Obstacle::new(
        format!("{recorded} was recorded without its manifest, which a push would have to write"),
        "save the image again from a registry that has it",
    )
}

/// The manifest that a push writes.
fn as_pushed(image: &Image) -> String {
    let blob = |of: &Descriptor| Blob {
        digest: of.digest,
        size: of.size,
    };
    let layers: Vec<Blob> = image.manifest.layers.iter().map(blob).collect();
    DOCKER_PUSH.write(blob(&image.manifest.config), &layers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::oci::testing::{TestImage, describe};
    use crate::oci::{Document, MediaType, PlatformSelection};

    /// A manifest pushed by docker 20.10.
    const PUSHED: &str = r#"{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
   "config": {
      "mediaType": "application/vnd.docker.container.image.v1+json",
      "size": CONFIG_SIZE,
      "digest": "CONFIG"
   },
   "layers": [
      {
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "size": 4131397,
         "digest": "LAYER"
      }
   ]
}"#;

    fn graph(manifest: &str) -> Graph {
        let layer = Digest::sha256(b"layer");
        let config = TestImage::new().layer("tar").config();
        let text = manifest
            .replace("CONFIG_SIZE", &config.descriptor.size.to_string())
            .replace("CONFIG", &config.descriptor.digest.to_string())
            .replace("LAYER", &layer.to_string());
        let root = describe(MediaType::DOCKER_MANIFEST, text.as_bytes());
        assert!(Document::parse(&root.media_type, text.clone().into_bytes()).is_ok());
        Graph::walk(&root, &PlatformSelection::Present, &mut |descriptor| {
            let bytes = if descriptor.digest == root.digest {
                text.as_bytes()
            } else {
                &config.bytes
            };
            Ok(Some(bytes.to_vec()))
        })
        .unwrap()
    }

    #[test]
    fn a_manifest_of_docker_push_is_told_from_others() {
        let pushed = graph(PUSHED);
        assert_eq!(differs(&pushed, &pushed.images[0]), None);
        let spaced = graph(&PUSHED.replace("   ", "  "));
        let obstacle = differs(&spaced, &spaced.images[0]).unwrap();
        assert!(obstacle.reason.contains("new manifest"), "{obstacle}");
        let obstacle = differs(&spaced, &pushed.images[0]).unwrap();
        assert!(obstacle.reason.contains("never the index"), "{obstacle}");
    }

    #[test]
    fn what_the_daemon_knew_stays() {
        let home = tempfile::tempdir().unwrap();
        let files = Files {
            data_root: home.path().into(),
            driver: "overlay2".into(),
            through: None,
        };
        let graph = graph(PUSHED);
        let repository = |text: &str| text.parse::<Repository>().unwrap();
        for name in ["harbor.local/a/b", "httpd", "harbor.local/a/b"] {
            remember(&files, &[&repository(name)], &graph.images[0]).unwrap();
        }
        let folder = files.images().join("distribution");
        let (layer, diff_id) = (Digest::sha256(b"layer"), Digest::sha256(b"tar"));
        let read = |kind: &str, digest: &Digest| {
            fs::read_to_string(digest_path(&folder.join(kind), digest)).unwrap()
        };
        assert_eq!(read("diffid-by-digest", &layer), diff_id.to_string());
        let entry = |name: &str| format!(r#"{{"Digest":"{layer}","HMAC":"","SourceRepository":"{name}"}}"#);
        assert_eq!(
            read("v2metadata-by-diffid", &diff_id),
            format!(
                "[{},{}]",
                entry("docker.io/library/httpd"),
                entry("harbor.local/a/b")
            )
        );
        // Of an ended process, of a running one, and the daemon's own.
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let left = [gone.id().to_string(), std::process::id().to_string()];
        let beside = |name: &str| folder.join("diffid-by-digest/sha256").join(name);
        let [dead, alive] = left.map(|pid| beside(&format!(".tmp-{}-{pid}", layer.hex())));
        let daemons = beside(&format!(".tmp-{}123456", layer.hex()));
        for path in [&dead, &alive, &daemons] {
            fs::write(path, "sha").unwrap();
        }
        tidy(&files).unwrap();
        assert_eq!(
            [dead, alive, daemons].map(|path| path.exists()),
            [false, true, true]
        );
        fs::write(digest_path(&folder.join("v2metadata-by-diffid"), &diff_id), "[").unwrap();
        remember(&files, &[&repository("httpd")], &graph.images[0]).unwrap();
        assert_eq!(
            read("v2metadata-by-diffid", &diff_id),
            format!("[{}]", entry("docker.io/library/httpd"))
        );
        let full = vec![Value::Null; MAX_ENTRIES];
        assert_eq!(with_entry(full, &layer, &repository("x")).len(), MAX_ENTRIES);
    }
}
