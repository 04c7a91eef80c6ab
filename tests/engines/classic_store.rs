//! What Docker has on disk, read through the library while it runs and after it was stopped.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sealift::blob::Uncompressed as _;
use sealift::docker::api::Client;
use sealift::docker::daemon::process::Process;
use sealift::docker::endpoint::Endpoint;
use sealift::docker::store::files::Files;
use sealift::docker::store::{ClassicStore, containerd, content_of};
use sealift::oci::{Digest, Hasher};
use sealift::store::content::ContentFolders;

use crate::support::{Built, Daemon, Engine, Image, Layer, Platform, Registry, Store, daemon, image, layer};

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

pub fn client(daemon: &Daemon) -> Client {
    Client::connect(&Endpoint::Unix(daemon.socket())).unwrap()
}

fn entry(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(size as u64);
    header
}

/// Every kind of entry that a layer has, names as they come, and a long end.
fn odd_tar() -> Vec<u8> {
    use tar::EntryType as Kind;
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode, bytes: &[u8]| {
        let mut header = entry(Kind::Regular, mode, bytes.len());
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    file("files/empty", 0o644, b"");
    file("files/block", 0o644, &[7; 512]);
    file("files/setuid", 0o4755, b"#!/bin/sh\n");
    file("files/zeros", 0o644, &[0; 300_000]);
    file("files/noise", 0o600, &layer::noise_bytes(3, 3_000_000));
    file(&format!("files/{}", "long/".repeat(60) + "name"), 0o644, b"long");
    file("base/.wh.gone", 0o644, b"");
    file("opaque/.wh..wh..opq", 0o644, b"");
    file("opaque/new", 0o644, b"new");
    for (path, target, kind) in [
        ("files/hard", "files/block", Kind::Link),
        ("files/soft", "../../../../etc/shadow", Kind::Symlink),
        ("near", "files", Kind::Symlink),
        ("far", "/files", Kind::Symlink),
    ] {
        tar.append_link(&mut entry(kind, 0o777, 0), path, target).unwrap();
    }
    // Their folders are links by then.
    for path in ["near/through", "far/through-too"] {
        let mut header = entry(Kind::Regular, 0o644, 7);
        tar.append_data(&mut header, path, &b"through"[..]).unwrap();
    }
    for (path, kind) in [("files/null", Kind::Char), ("files/pipe", Kind::Fifo)] {
        let mut header = entry(kind, 0o666, 0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let mut header = entry(Kind::Regular, 0o644, 5);
    header.as_old_mut().name[..11].copy_from_slice(b"files/\xff\xfe\xe9xy");
    header.set_cksum();
    tar.append(&header, &b"bytes"[..]).unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let records = [
        ("mtime", &b"1700000000.123456789"[..]),
        ("SCHILY.xattr.security.capability", capability),
    ];
    tar.append_pax_extensions(records).unwrap();
    let mut header = entry(Kind::Regular, 0o755, 9);
    tar.append_data(&mut header, "files/ping", &b"no socket"[..])
        .unwrap();
    let mut tar = tar.into_inner().unwrap();
    tar.resize(tar.len() + 1_000_000 / 512 * 512, 0);
    tar
}

fn odd_image() -> Image {
    let base = Layer::busybox()
        .file("base/gone", "gone")
        .file("opaque/old", "old")
        .real("/usr/bin/docker");
    let layers = vec![base, Layer::of_tar(odd_tar()), Layer::of_tar(vec![0; 1024])];
    Image {
        platforms: vec![
            (Platform::host(), layers),
            (Platform::foreign(), vec![Layer::new().file("a", "b")]),
        ],
        index: true,
        attestations: true,
        ..Image::single(Vec::new())
    }
}

/// All of a pulled image is in the store, as the registry has it.
#[track_caller]
fn assert_has_all_of(store: &ClassicStore, content: &ContentFolders, image: &Built) {
    let host = image.host();
    let images = store.images().unwrap();
    assert_eq!(images.len(), 1, "{images:?}");
    let names =
        |names: &[sealift::oci::Reference]| names.iter().map(|name| name.familiar()).collect::<Vec<_>>();
    assert_eq!(images[0].id, digest(&host.config));
    assert_eq!(names(&images[0].tags), ["httpd:2.4"]);
    assert_eq!(names(&images[0].digests), [format!("httpd@{}", image.digest)]);
    let stored = |of: &str| fs::read(image.blob(of)).unwrap();
    assert_eq!(store.config(&images[0].id).unwrap(), Some(stored(&host.config)));
    assert_eq!(store.layers_obstacle(), None);
    for layer in &host.layers {
        let diff_id = digest(&layer.diff_id);
        let (mut hasher, mut count) = (Hasher::sha256(), 0);
        let mut tar = store.open(&diff_id).unwrap();
        let mut buffer = vec![0; 100_000];
        loop {
            let piece = tar.read(&mut buffer).unwrap();
            if piece == 0 {
                break;
            }
            count += piece as u64;
            hasher.update(&buffer[..piece]);
        }
        assert_eq!(hasher.finish(), diff_id);
        assert_eq!(store.size(&diff_id).unwrap(), Some(count));
        let pushed = store.pushed(&diff_id).unwrap();
        assert_eq!(pushed[0].digest, digest(&layer.digest));
        assert_eq!(pushed[0].repository, "docker.io/library/httpd");
    }
    for document in [&image.digest, &host.digest] {
        let found = content.metadata(&digest(document)).unwrap();
        assert_eq!(found, Some(stored(document)), "{document}");
    }
    let foreign = &image.of(&Platform::foreign()).layers[0].diff_id;
    assert_eq!(store.size(&digest(foreign)).unwrap(), None);
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether a folder of content is the one below a containerd's root, under any name.
pub fn is_below(folder: &Path, root: &Path) -> bool {
    is_same_file(folder, &root.join("io.containerd.content.v1.content"))
}

/// A daemon with these options has all of an image that it pulled, while it runs and when it does not.
fn assert_reads_back(engine: Engine, driver: &str, change: impl Fn(daemon::Options) -> daemon::Options) {
    let registry = Registry::start();
    let layout = tempfile::tempdir().unwrap();
    let image = odd_image().build(layout.path(), "httpd");
    registry.push(&image, "library/httpd:2.4");
    let options = Daemon::options(engine, Store::Classic)
        .mirror(&registry)
        .flag(&format!("--storage-driver={driver}"));
    let mut daemon = change(options).start();
    daemon.docker(&["pull", "--quiet", "httpd:2.4"]).ok();

    let running = ClassicStore::of(&client(&daemon)).unwrap();
    assert_eq!(running.files().driver, driver);
    assert_has_all_of(&running, &content_of(&client(&daemon)).unwrap(), &image);
    let open = containerd::root_of(&Process::find(&daemon.socket()).unwrap()).unwrap();
    let own = daemon.data_root().join("containerd/daemon");
    assert!(is_same_file(open.path(), &own), "{open:?}");

    daemon.stop();
    let files = Files::find(Some(&daemon.data_root())).unwrap();
    let content = containerd::content_of_stopped(&daemon.data_root());
    assert_has_all_of(&ClassicStore::open(files).unwrap(), &content, &image);
}

#[test]
fn layers_and_manifests_of_docker_20() {
    assert_reads_back(Engine::Docker20, "overlay2", |options| options);
}

#[test]
fn layers_and_manifests_of_docker_20_with_vfs() {
    assert_reads_back(Engine::Docker20, "vfs", |options| options);
}

#[cfg(feature = "test-all")]
#[test]
fn layers_and_manifests_of_docker_26() {
    assert_reads_back(Engine::Docker26, "overlay2", |options| options);
}

#[test]
fn layers_and_manifests_of_docker_28_in_its_own_mounts() {
    assert_reads_back(Engine::Docker28, "overlay2", daemon::Options::own_mounts);
}

#[test]
fn layers_and_manifests_of_docker_28_with_vfs() {
    assert_reads_back(Engine::Docker28, "vfs", |options| options);
}

#[test]
fn the_containerd_that_a_daemon_was_told_of_is_found() {
    let daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .system_containerd()
        .start();
    let found = content_of(&client(&daemon)).unwrap();
    let own = daemon.data("containerd/root");
    assert!(is_below(found.paths()[0], &own), "{found:?}");
}

#[test]
fn a_containerd_store_has_the_layers_as_they_are_stored() {
    let registry = Registry::start();
    let layout = tempfile::tempdir().unwrap();
    let image = Image::sample("httpd", "2.4").build(layout.path(), "httpd");
    registry.push(&image, "library/httpd:2.4");
    let mut daemon = Daemon::options(Engine::Docker28, Store::Containerd)
        .mirror(&registry)
        .start();
    daemon.docker(&["pull", "--quiet", "httpd:2.4"]).ok();
    let own = daemon.data_root().join("containerd/daemon");
    let has = |content: &ContentFolders| {
        assert!(is_below(content.paths()[0], &own), "{content:?}");
        for layer in &image.host().layers {
            let stored = content.stored(&digest(&layer.digest)).unwrap().unwrap();
            assert_eq!(stored.size, layer.size);
            let bytes = fs::read(&*stored.extents[0].path).unwrap();
            assert_eq!(image::sha256(&bytes), layer.digest);
        }
        let found = content.metadata(&digest(&image.digest)).unwrap();
        assert_eq!(found, Some(fs::read(image.blob(&image.digest)).unwrap()));
    };
    has(&content_of(&client(&daemon)).unwrap());
    daemon.stop();
    has(&containerd::content_of_stopped(&daemon.data_root()));
}
