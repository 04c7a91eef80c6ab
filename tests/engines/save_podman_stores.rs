//! Images from podman's storage where that is CRI-O's, where podman is not installed, with the driver vfs, and while
//! podman pulls; and manifests that no registry has.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::load_podman::doctor;
use crate::loading::assert_runs;
use crate::save_podman::{Origin, carry, save, saved};
use crate::saving::{at, origins};
use crate::support::podman::{Podman, User, Version};
use crate::support::{Compression, Daemon, Engine, Image, Layer, Sealift, Store, proxy, relay, run};

/// Name, digest and evidence of a proven image.
fn verified(name: &str, digest: &str) -> [String; 3] {
    [name, digest, "verified"].map(String::from)
}

#[test]
fn cri_o_s_storage_is_read_without_podman() {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let podman = Podman::new(Version::Five, User::Root);
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    origin.registry.stop();
    let archive = podman.inside("home/images.tar");
    let from = |engine: &str| {
        let mut sealift = podman.command("sealift");
        sealift.args(["save", "--offline", "--from", engine, "--all", "-o", &archive]);
        sealift.env("PATH", "/nonexistent");
        sealift
    };
    let missing = run(&mut from("crio")).code(7);
    insta::assert_snapshot!(missing.stderr, @"
    error: CRI-O not found in /etc/crio and /run/crio/crio.sock
    hint: podman's storage is CRI-O's too if both have the same folders: name podman instead
    ");
    let missing = run(&mut from("podman")).code(5);
    insta::assert_snapshot!(missing.stderr, @"
    error: podman: info: there is no program podman
    hint: install podman, or see that it is in PATH
    ");

    let [_, root, _, runroot] = podman.storage().try_into().unwrap();
    let config = podman.root().join("etc/crio");
    fs::create_dir_all(&config).unwrap();
    let settings = format!("[crio]\nroot = {root:?}\nrunroot = {runroot:?}\nstorage_driver = \"overlay\"\n");
    fs::write(config.join("crio.conf"), settings).unwrap();
    let document = run(from("crio").arg("--json")).ok().json();
    assert_eq!(saved(&document), [verified("app:1", &app.digest)]);
    run(podman.command("sealift").args(["verify", &archive])).ok();

    // Where crio.conf names no folder, it is the one of storage.conf.
    fs::write(config.join("crio.conf"), "[crio]\n").unwrap();
    podman.write_home(
        "storage.conf",
        &format!("[storage]\ndriver = \"overlay\"\ngraphroot = {root:?}\nrunroot = {runroot:?}\n"),
    );
    for engine in ["crio", "podman"] {
        let mut sealift = from(engine);
        sealift.env("CONTAINERS_STORAGE_CONF", podman.inside("home/storage.conf"));
        let again = run(sealift.arg("--json")).ok().json();
        assert_eq!(again["digest"], document["digest"], "{engine}");
    }
}

fn layers_of_vfs_are_recompressed_too(version: Version) {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let podman = Podman::new(version, User::Root);
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    let (root, runroot) = (podman.inside("vfs"), podman.inside("run-vfs"));
    let name = format!("{}/library/app:1", origin.registry.address());
    let storage = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
    let mut vfs = podman.command("podman");
    run(vfs
        .args(storage)
        .args(["pull", "--quiet", "--tls-verify=false", &name]))
    .ok();
    origin.registry.stop();

    let archive = podman.inside("home/vfs.tar");
    let mut sealift = podman.command("sealift");
    sealift.args(["save", "--json", "--offline", "--from", "podman", "--root", &root]);
    sealift.args(["--rename", &format!("{name}=app:1"), &name, "-o", &archive]);
    let document = run(&mut sealift).ok().json();
    assert_eq!(
        saved(&document)[0][1..],
        verified("", &app.digest)[1..],
        "{document:#}"
    );
    assert!(
        origins(&document["images"][0])
            .iter()
            .all(|(way, _)| way.starts_with("rebuilt"))
    );
    // The same archive as from the driver overlay.
    let overlay = save(&podman, &["app:1", "-o", &podman.inside("home/overlay.tar")])
        .ok()
        .json();
    assert_eq!(document["digest"], overlay["digest"]);
}

#[test]
fn layers_of_vfs_are_recompressed_too_4() {
    layers_of_vfs_are_recompressed_too(Version::Four);
}

#[test]
fn layers_of_vfs_are_recompressed_too_5() {
    layers_of_vfs_are_recompressed_too(Version::Five);
}

/// A proxy before a registry that holds the request for one blob.
struct Held {
    address: String,
    requested: Receiver<()>,
    released: Sender<()>,
}

impl Held {
    fn new(registry: &str, digest: &str) -> Held {
        let (asked, requested) = channel();
        let (released, go) = channel();
        let (go, digest) = (Mutex::new(go), digest.to_owned());
        let address = proxy(registry, move |client, server| {
            relay(&server, &client);
            forward(client, server, &digest, &asked, &go);
        });
        Held {
            address,
            requested,
            released,
        }
    }
}

/// Sends requests on; those for the blob wait until they are released, once.
fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    digest: &str,
    asked: &Sender<()>,
    go: &Mutex<Receiver<()>>,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(count @ 1..) = client.read(&mut piece) {
        let is_held = String::from_utf8_lossy(&piece[..count]).contains(digest);
        if is_held && asked.send(()).is_ok() {
            // Fails once the test has ended.
            let _ = go.lock().unwrap().recv();
        }
        if server.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

fn a_save_beside_a_pull(version: Version, user: User) {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let web = Image::single(vec![
        Layer::busybox(),
        Layer::new().file("first", "1"),
        Layer::new().noise("last", 7, 100_000),
    ]);
    let web = origin.push("library/web:2", &web);
    let podman = Podman::new(version, user);
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    let archive = format!("{}/images.tar", podman.inside("home"));
    let before = save(&podman, &["--all", "-o", &archive]).ok().json();

    let last = web.host().layers.last().unwrap().digest.clone();
    let held = Held::new(origin.registry.address(), &last);
    let name = format!("{}/library/web:2", held.address);
    let mut pull = podman.command("podman");
    pull.args(podman.storage())
        .args(["pull", "--quiet", "--tls-verify=false", &name]);
    let mut pull = pull.stdout(Stdio::null()).spawn().unwrap();
    held.requested.recv().unwrap();
    let meanwhile = save(&podman, &["--all", "-o", &archive]).ok().json();
    assert_eq!(meanwhile, before);
    assert!(pull.try_wait().unwrap().is_none(), "the pull still waits");
    for _ in 0..9 {
        // A retry of podman passes too.
        held.released.send(()).unwrap();
    }
    assert!(pull.wait().unwrap().success());
    origin.registry.stop();
    let both = save(&podman, &["--all", "-o", &archive]).ok().json();
    assert_eq!(
        saved(&both),
        [verified(&name, &web.digest), verified("app:1", &app.digest)]
    );
}

on_both_podmans!(a_save_beside_a_pull);

#[test]
fn docker_shows_the_digests_of_what_came_from_podman() {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let zstd = Image::sample("zstd", "1").compression(Compression::Zstd);
    let zstd = origin.push("library/zstd:1", &zstd);
    let podman = Podman::new(Version::Four, User::Root);
    let names = ["docker.io/library/app:1", "docker.io/library/zstd:1"].map(String::from);
    podman.pull(&origin.registry, &names);
    origin.registry.stop();
    let sealift = Sealift::new();
    let archive = sealift.path("images.tar");
    let document = save(&podman, &["--all", "-o", archive.to_str().unwrap()])
        .ok()
        .json();
    assert_eq!(
        saved(&document),
        [verified("app:1", &app.digest), verified("zstd:1", &zstd.digest)]
    );
    let classic = Daemon::start(Engine::Docker28, Store::Classic);
    at(&sealift, &classic, &["load", "-q", "images.tar"]).ok();
    let containerd = Daemon::start(Engine::Docker28, Store::Containerd);
    // The layers of zstd are uncompressed here.
    at(
        &sealift,
        &containerd,
        &["load", "-q", "images.tar", "--image", "app:1"],
    )
    .ok();
    let shown = |name: &str, digest: &str| format!("{name} {digest}");
    assert_eq!(
        classic.images(),
        [shown("app:1", &app.digest), shown("zstd:1", &zstd.digest)]
    );
    assert_eq!(containerd.images(), [shown("app:1", &app.digest)]);
    for daemon in [&classic, &containerd] {
        assert_runs(daemon, &format!("app@{}", app.digest), "1");
    }
}

/// An image whose manifest is of no registry is told, and saved without a digest. Returns the digest that podman shows.
#[track_caller]
fn assert_is_saved_without_digest(podman: &Podman, name: &str, is_substitute: bool) -> String {
    let made = podman.digest(name);
    let own = doctor(podman)["details"]["own_digests"].clone();
    let told: Vec<Value> = own
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["digest"] == *made)
        .cloned()
        .collect();
    assert_eq!(told.len(), 1, "{own:#}");
    assert_eq!(told[0]["is_substitute"], is_substitute);

    let archive = format!("{}/made.tar", podman.inside("home"));
    let document = save(podman, &[name, "-o", &archive]).ok().json();
    let image = &document["images"][0];
    assert_eq!(
        (&image["evidence"], &image["digest"]),
        (&json!("none"), &Value::Null),
        "{image:#}"
    );
    made
}

/// What was made of a manifest of no registry, loaded into podman, is not found by its digest either.
#[track_caller]
fn assert_has_no_digest(podman: &Podman, name: &str, is_substitute: bool) {
    let made = assert_is_saved_without_digest(podman, name, is_substitute);
    let archive = format!("{}/made.tar", podman.inside("home"));
    let (repository, _) = name.rsplit_once(':').unwrap();
    let by_digest = format!("{repository}@{made}");
    let refused = save(podman, &[&by_digest, "-o", &archive]).code(7);
    let familiar = repository.trim_start_matches("docker.io/library/");
    let text = refused
        .stderr
        .replace(&made, "DIGEST")
        .replace(&podman.graph_root(), "ROOT");
    // In brackets: what was tried.
    let (text, _) = text.split_once(" (").unwrap();
    let text = text.replace(&format!("{familiar}@"), "NAME@");
    insta::allow_duplicates!(insta::assert_snapshot!(text, @"
    error: NAME@DIGEST not found in podman with ROOT
    hint: it has an image of that name, but nothing that proves this digest for it; without the digest, the image is saved as one that has none
    "));
}

fn manifests_of_no_registry_prove_nothing(version: Version, user: User) {
    let mut origin = Origin::new();
    origin.push("library/app:1", &Image::sample("app", "1").without_index());
    let podman = Podman::new(version, user);
    podman.pull(&origin.registry, &["docker.io/library/app:1".into()]);
    origin.registry.stop();
    // A build, whose archive has a substitute.
    podman.write_home(
        "context/Containerfile",
        "FROM docker.io/library/app:1\nCOPY more /more\n",
    );
    podman.write_home("context/more", "more");
    let context = format!("{}/context", podman.inside("home"));
    podman
        .podman(&["build", "--quiet", "-t", "localhost/mine:1", &context])
        .ok();
    assert_has_no_digest(&podman, "localhost/mine:1", false);
    // Builds without layers.
    podman.write_home("empty/Containerfile", "FROM scratch\nENV A=b\n");
    let empty = format!("{}/empty", podman.inside("home"));
    for format in ["oci", "docker"] {
        let name = format!("localhost/empty-{format}:1");
        podman
            .podman(&["build", "--quiet", "--format", format, "-t", &name, &empty])
            .ok();
        // Docker's form of a manifest without layers is written anew for whoever knows its digest.
        match format {
            "oci" => assert_has_no_digest(&podman, &name, false),
            _ => drop(assert_is_saved_without_digest(&podman, &name, false)),
        }
    }
    let archive = format!("{}/mine.tar", podman.inside("home"));
    save(&podman, &["localhost/mine:1", "-o", &archive]).ok();

    let other = Podman::new(version, user);
    other
        .podman(&["load", "--quiet", "-i", &carry(&podman, &other, "mine.tar")])
        .ok();
    assert_has_no_digest(&other, "localhost/mine:1", true);
    // podman makes one of its own for an archive without any.
    let saved = podman.inside("home/docker.tar");
    podman
        .podman(&["save", "--quiet", "-o", &saved, "docker.io/library/app:1"])
        .ok();
    other
        .podman(&["load", "--quiet", "-i", &carry(&podman, &other, "docker.tar")])
        .ok();
    assert_has_no_digest(&other, "docker.io/library/app:1", false);
}

on_both_podmans!(manifests_of_no_registry_prove_nothing);

#[test]
fn what_docker_made_for_its_archive_proves_nothing() {
    let mut origin = Origin::new();
    let app = origin.push("library/app:1", &Image::sample("app", "1"));
    let docker = Daemon::options(Engine::Docker28, Store::Classic)
        .mirror(&origin.registry)
        .start();
    docker.docker(&["pull", "--quiet", "app:1"]).ok();
    origin.registry.stop();
    let (file, inside) = (docker.data("saved.tar"), docker.data_inside("saved.tar"));
    docker
        .docker(&["save", "-o", inside.to_str().unwrap(), "app:1"])
        .ok();
    let podman = Podman::new(Version::Five, User::Root);
    let archive = podman.outside("saved.tar");
    fs::copy(file, &archive).unwrap();
    podman
        .podman(&["load", "--quiet", "-i", &podman.inside("saved.tar")])
        .ok();
    assert_ne!(podman.images()[0]["Digest"], app.digest.as_str());
    assert_has_no_digest(&podman, "docker.io/library/app:1", false);
}
