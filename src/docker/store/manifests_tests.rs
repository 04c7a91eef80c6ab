use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;

use super::*;
use crate::error::ErrorKind;
use crate::oci::testing::{TestImage, describe, index};
use crate::oci::{MediaType, PlatformSelection};

struct Home {
    _folder: tempfile::TempDir,
    files: Files,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let files = Files {
        data_root: folder.path().into(),
        driver: "overlay2".into(),
        through: None,
    };
    fs::create_dir_all(files.images()).unwrap();
    Home {
        _folder: folder,
        files,
    }
}

impl Home {
    fn folder(&self) -> PathBuf {
        self.files.data_root.join("sealift/overlay2")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        KeptManifests::open(&self.files)?.map_or(Ok(None), |kept| kept.get(digest))
    }
}

/// An index over two platforms, one of which is present.
fn graph(seed: &str) -> Graph {
    let image = TestImage::new().author(seed);
    let absent = describe(MediaType::OCI_MANIFEST, seed.as_bytes());
    let index = index(&[image.manifest().descriptor, absent]);
    let root = index.descriptor.clone();
    let documents = [image.config(), image.manifest(), index];
    Graph::walk(&root, &PlatformSelection::Present, &mut |descriptor| {
        let document = documents
            .iter()
            .find(|document| document.descriptor.digest == descriptor.digest);
        Ok(document.map(|document| document.bytes.clone()))
    })
    .unwrap()
}

fn digests(graph: &Graph) -> Vec<String> {
    let mut digests = vec![
        graph.root.digest.to_string(),
        graph.images[0].descriptor.digest.to_string(),
    ];
    digests.sort();
    digests
}

#[test]
fn documents_are_kept_and_only_as_they_were() {
    let home = home();
    let graph = graph("a");
    assert_eq!(home.get(&graph.root.digest).unwrap(), None);
    let locked = KeptManifests::lock(&home.files).unwrap();
    locked.keep(&graph, &graph.images[0].id()).unwrap();
    assert_eq!(home.names(), digests(&graph));
    for path in [home.folder(), home.files.data_root.join("sealift")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let raw = home.get(&graph.root.digest).unwrap().unwrap();
    assert_eq!(Digest::sha256(&raw), graph.root.digest);
    let file = home.folder().join(graph.root.digest.to_string());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Altered, and kept again.
    fs::write(&file, "{}").unwrap();
    assert_eq!(
        home.get(&graph.root.digest).unwrap_err().kind(),
        ErrorKind::Content
    );
    locked.keep(&graph, &graph.images[0].id()).unwrap();
    assert_eq!(home.get(&graph.root.digest).unwrap(), Some(raw.clone()));

    // A link or file in its place is not used.
    let elsewhere = home.files.data_root.join("elsewhere");
    fs::write(&elsewhere, &raw).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(home.get(&graph.root.digest).unwrap_err().kind(), ErrorKind::Io);
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(home.get(&graph.root.digest).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_folder_of_others_is_not_used() {
    let graph = graph("a");
    let is_refused = |home: &Home| {
        for error in [
            KeptManifests::open(&home.files).unwrap_err(),
            KeptManifests::lock(&home.files).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        }
    };
    let kept = || {
        let home = home();
        let locked = KeptManifests::lock(&home.files).unwrap();
        locked.keep(&graph, &graph.images[0].id()).unwrap();
        home
    };
    for name in ["sealift", "sealift/overlay2"] {
        let home = kept();
        let path = home.files.data_root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o710)).unwrap();
        is_refused(&home);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let moved = home.files.data_root.join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        is_refused(&home);
    }
    if rustix::process::geteuid().is_root() {
        let home = kept();
        chown(home.folder(), Some(65534), None).unwrap();
        is_refused(&home);
        let home = kept();
        let file = home.folder().join(graph.root.digest.to_string());
        chown(file, Some(65534), None).unwrap();
        assert_eq!(home.get(&graph.root.digest).unwrap_err().kind(), ErrorKind::Io);
    }
}

#[test]
fn what_no_name_leads_to_is_removed() {
    let home = home();
    let (one, two) = (graph("a"), graph("b"));
    let locked = KeptManifests::lock(&home.files).unwrap();
    for graph in [&one, &two] {
        locked.keep(graph, &graph.images[0].id()).unwrap();
    }
    fs::write(home.folder().join(".new"), "half").unwrap();
    let named = |graph: &Graph| {
        let mut names = Repositories::empty();
        let name = Reference::digested(&"quay.io/a/b".parse().unwrap(), graph.root.digest);
        names.set(&name, &graph.images[0].id());
        fs::write(home.files.names(), names.to_bytes()).unwrap();
    };
    named(&one);
    // Another sealift has the lock: it may just have written a document that it is about to name.
    KeptManifests::tidy(&home.files).unwrap();
    assert_eq!(home.names().len(), 5);
    drop(locked);
    KeptManifests::tidy(&home.files).unwrap();
    assert_eq!(home.names(), digests(&one));
    named(&two);
    KeptManifests::tidy(&home.files).unwrap();
    assert_eq!(home.names(), [""; 0]);
    // An unreadable list does not tell which documents are in use.
    let locked = KeptManifests::lock(&home.files).unwrap();
    locked.keep(&one, &one.images[0].id()).unwrap();
    drop(locked);
    fs::write(home.files.names(), "").unwrap();
    assert!(KeptManifests::tidy(&home.files).is_err());
    assert_eq!(home.names(), digests(&one));
}
