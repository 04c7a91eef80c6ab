//! Updates that bring only what a host lacks: the inventory of its engines, a save by it, and the load.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::containerd::{Cri, NAMESPACE};
use crate::support::containerd::{Containerd, PAUSE, Version};
use crate::support::podman::{self, Podman, User};
use crate::support::{Built, Daemon, Engine, Image, Layer, Sealift, Store, run};

/// How many images the host has, and how many of them are updated.
const ALL: usize = 10;
const UPDATED: usize = 3;

/// Builds a version of an image. All share their lowest layer, and versions of one share the next.
fn build(sealift: &Sealift, number: usize, version: &str) -> Built {
    let name = format!("app{number}");
    let image = Image::sample(&name, version);
    image.build(
        &sealift.path("layout"),
        &format!("docker.io/library/{name}:{version}"),
    )
}

/// Builds the first versions of all images.
fn build_first(sealift: &Sealift) -> Vec<(usize, &'static str)> {
    let first: Vec<(usize, &str)> = (0..ALL).map(|number| (number, "1")).collect();
    for (number, version) in &first {
        build(sealift, *number, version);
    }
    first
}

/// Saves images for this machine's platform.
fn save(sealift: &Sealift, images: &[(usize, &str)], more: &[&str], to: &str) -> serde_json::Value {
    let args = "save --json --from layout --platform host -o"
        .split(' ')
        .chain([to]);
    let mut args: Vec<String> = args.map(str::to_owned).collect();
    args.extend(
        images
            .iter()
            .map(|(number, version)| format!("app{number}:{version}")),
    );
    args.extend(more.iter().map(|one| (*one).to_owned()));
    sealift.run(&args).ok().json()
}

/// The blobs in an archive.
fn blobs(archive: &Path) -> BTreeSet<String> {
    let listed = run(std::process::Command::new("tar").arg("tf").arg(archive)).ok();
    let names = listed
        .stdout
        .lines()
        .filter_map(|name| name.strip_prefix("blobs/sha256/"));
    names.map(|hex| format!("sha256:{hex}")).collect()
}

/// Builds and saves second versions, without what the host has by `have.json`: the layer that all share, and one of each
/// image.
fn update(sealift: &Sealift) -> (Vec<(usize, &'static str)>, Vec<Built>) {
    let second: Vec<(usize, &str)> = (0..UPDATED).map(|number| (number, "2")).collect();
    let built: Vec<Built> = second
        .iter()
        .map(|(number, version)| build(sealift, *number, version))
        .collect();
    let saved = save(sealift, &second, &["--have", "have.json"], "update.tar");
    assert_eq!(saved["omitted"]["layers"], 1 + UPDATED);
    let here = blobs(&sealift.path("update.tar"));
    for image in &built {
        let is_here: Vec<bool> = layers(image).iter().map(|layer| here.contains(layer)).collect();
        assert_eq!(is_here, [false, false, true], "{}", image.tag);
        assert!(here.contains(&image.digest) && here.contains(&image.host().config));
    }
    (second, built)
}

/// Digests of an image's layers for this machine.
fn layers(image: &Built) -> Vec<String> {
    let layers = image.host().layers.iter();
    layers.map(|layer| layer.digest.clone()).collect()
}

/// The host with the first versions of all images, and its inventory in `have.json`.
fn setup(engine: Engine, store: Store) -> (Sealift, Daemon) {
    let sealift = Sealift::new();
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);
    let first = build_first(&sealift);
    save(&sealift, &first, &[], "first.tar");
    sealift.run(&["load", "-q", "first.tar"]).ok();
    let inventory = ["inventory", "--from", "docker", "--label", "rack7"];
    sealift.run(&[&inventory[..], &["-o", "have.json"]].concat()).ok();
    // The same content makes the same document.
    let again = sealift.run(&inventory).ok();
    let written = fs::read_to_string(sealift.path("have.json")).unwrap();
    assert_eq!(again.stdout, written);
    let images = &again.json()["engines"][0]["images"];
    assert_eq!(images.as_array().unwrap().len(), ALL);
    fs::write(sealift.path("list.txt"), "app0:1\nabsent:1\n").unwrap();
    for place in ["docker", "have.json"] {
        let missing = sealift.run(&["images", "-q", "list.txt", "--missing-from", place]);
        assert_eq!(missing.code(7).stdout, "absent:1\n", "{place}");
    }
    (sealift, daemon)
}

fn an_update_holds_only_what_the_host_lacks(engine: Engine, store: Store) {
    let (sealift, daemon) = setup(engine, store);
    let (second, built) = update(&sealift);
    sealift.run(&["verify", "update.tar"]).ok();

    // What other tools do with it, where the layers are.
    daemon
        .docker_with_stdin(&["load"], &sealift.path("update.tar"))
        .ok();
    daemon.docker(&["create", "app0:2"]).ok();
    daemon.docker(&["rmi", "-f", "app1:2"]).ok();

    sealift.run(&["load", "update.tar"]).ok();
    for (image, (number, _)) in built.iter().zip(&second) {
        let name = format!("app{number}");
        let shown = daemon.inspect(&format!("{name}:2")).unwrap();
        let digest = format!("{name}@{}", image.digest);
        assert_eq!(shown["RepoDigests"], serde_json::json!([digest]), "{name}");
        daemon.docker(&["create", &digest]).ok();
        assert!(daemon.inspect(&format!("{name}:1")).is_some());
    }

    // The engine fills in what the archive leaves out, whichever is asked first.
    for sources in [["update.tar", "docker"], ["docker", "update.tar"]] {
        let from = sources.map(|source| ["--from", source]).concat();
        let save = ["save", "--offline", "-q", "app0:2", "-o", "whole.tar"];
        sealift.run(&[&save[..], &from].concat()).ok();
        let whole = blobs(&sealift.path("whole.tar"));
        assert!(layers(&built[0]).iter().all(|layer| whole.contains(layer)));
        sealift.run(&["verify", "whole.tar"]).ok();
    }
}

on_every_engine!(an_update_holds_only_what_the_host_lacks);

fn a_host_that_lacks_a_layer_refuses_before_anything_is_sent(engine: Engine, store: Store) {
    let (sealift, daemon) = setup(engine, store);
    let built = [build(&sealift, 0, "2"), build(&sealift, 1, "2")];
    let images = [(0, "2"), (1, "2")];
    save(&sealift, &images, &["--have", "have.json"], "update.tar");
    // The host lost one image, and with it a layer of its second version.
    daemon.docker(&["rmi", "-f", "app1:1"]).ok();
    let before = daemon.images();
    let refused = sealift.run(&["load", "update.tar"]).code(7);
    let missing = &layers(&built[1])[1];
    for text in [
        missing.as_str(),
        "app1:2",
        "nothing was sent",
        "sealift save app1:2 ",
    ] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("app0"), "{}", refused.stderr);
    assert_eq!(daemon.images(), before);
    sealift.run(&["load", "--dry-run", "update.tar"]).code(7);
    // A bare Docker refuses too, or names what it cannot run.
    save(&sealift, &images[1..], &["--have", "have.json"], "only.tar");
    let bare = daemon.docker_with_stdin(&["load"], &sealift.path("only.tar"));
    match store {
        Store::Classic => assert!(bare.code == Some(1) && daemon.inspect("app1:2").is_none()),
        Store::Containerd => drop(daemon.docker(&["rmi", "-f", "app1:2"]).ok()),
    }
    // The other image can be loaded, and the archive that the hint asks for brings the rest.
    sealift.run(&["load", "--keep-going", "update.tar"]).code(7);
    assert!(daemon.inspect("app0:2").is_some() && daemon.inspect("app1:2").is_none());
    save(&sealift, &images[1..], &[], "whole.tar");
    sealift.run(&["load", "update.tar", "whole.tar"]).ok();
    let shown = daemon.inspect("app1:2").unwrap();
    let digest = format!("app1@{}", built[1].digest);
    assert_eq!(shown["RepoDigests"], serde_json::json!([digest]));
}

on_every_engine!(a_host_that_lacks_a_layer_refuses_before_anything_is_sent);

fn an_update_of_a_kubernetes_node_holds_only_what_it_lacks(version: Version) {
    let containerd = Containerd::start(version);
    let sealift = Sealift::new().env("CONTAINERD_ADDRESS", containerd.socket());
    let first = build_first(&sealift);
    let mut pause = Image::single(vec![Layer::busybox()]);
    pause.cmd = ["/bin/busybox", "sleep", "1000000"].map(str::to_owned).into();
    pause.build(&sealift.path("layout"), PAUSE);
    save(&sealift, &first, &[PAUSE], "first.tar");
    let load = |archives: &[&str], code: i32| {
        let args = [
            &["load", "--to", "containerd", "--namespace", NAMESPACE],
            archives,
        ]
        .concat();
        sealift.run(&args).code(code)
    };
    load(&["first.tar"], 0);
    // The layer that all share is there unpacked, as where containerd discards what it has unpacked.
    let shared = layers(&build(&sealift, 0, "1"))[0].clone();
    containerd.ctr(NAMESPACE, &["content", "rm", &shared]).ok();
    let inventory = "inventory --from containerd --label node1 -o have.json --namespace";
    let inventory: Vec<&str> = inventory.split(' ').chain([NAMESPACE]).collect();
    let listed = sealift.run(&inventory).ok();
    assert!(listed.stdout.contains(", namespace k8s.io: "), "{listed:?}");
    // By tag, by tag and digest, and by digest alone.
    let app = build(&sealift, 0, "1").digest;
    let known = format!("app0:1\napp0:1@{app}\napp0@{app}\n{PAUSE}\n");
    fs::write(sealift.path("list.txt"), format!("{known}absent:1\n")).unwrap();
    for (namespace, missing) in [
        (NAMESPACE, "absent:1\n".to_owned()),
        ("other", format!("{known}absent:1\n")),
    ] {
        let list = ["images", "-q", "list.txt", "--missing-from", "containerd"];
        let found = sealift.run(&[&list[..], &["--namespace", namespace]].concat());
        assert_eq!(found.code(7).stdout, missing);
    }
    let (second, built) = update(&sealift);
    // Another namespace lacks everything.
    let args = [
        "load",
        "--to",
        "containerd",
        "--namespace",
        "other",
        "update.tar",
        "--no-unpack",
    ];
    let refused = sealift.run(&args).code(7);
    for text in [
        layers(&built[0])[0].as_str(),
        " (node1, namespace k8s.io), and this load looked in namespace other; --namespace k8s.io loads into that one; ",
        "--have and an inventory of this namespace (`sealift inventory --from containerd --namespace other -o FILE`, and \
         --containerd-address if this load has it)",
    ] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    assert_eq!(containerd.ctr("other", &["images", "ls", "-q"]).ok().stdout, "");

    load(&["update.tar"], 0);
    let cri = Cri::of(&containerd);
    for (image, (number, _)) in built.iter().zip(&second) {
        let name = format!("docker.io/library/app{number}");
        let digest = format!("{name}@{}", image.digest);
        let shown = cri.image(&digest).unwrap();
        assert_eq!(shown["id"], image.host().config.as_str());
        assert_eq!(shown["repo_digests"], serde_json::json!([digest]));
        assert_eq!(shown["repo_tags"], serde_json::json!([format!("{name}:2")]));
    }
    let name = format!("docker.io/library/app0@{}", built[0].digest);
    let version = ["/bin/busybox", "cat", "/app/version"];
    assert_eq!(cri.run(&name, &version).unwrap(), "2");
}

on_every_containerd!(an_update_of_a_kubernetes_node_holds_only_what_it_lacks);

fn an_update_of_podman_holds_only_what_it_lacks(version: podman::Version, user: User) {
    let podman = Podman::new(version, user);
    let sealift = Sealift::new();
    let first = build_first(&sealift);
    let give = |podman: &Podman, name: &str| {
        let path = podman.outside(name);
        fs::copy(sealift.path(name), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        podman.inside(name)
    };
    save(&sealift, &first, &[], "first.tar");
    podman.load(&[&give(&podman, "first.tar")]).ok();
    let inventory = || {
        let mut command = podman.command("sealift");
        command.args(["inventory", "--from", "podman", "--label", "laptop"]);
        run(command.args(podman.storage())).ok()
    };
    let written = inventory();
    assert_eq!(
        inventory().stdout,
        written.stdout,
        "the same content makes the same document"
    );
    let images = &written.json()["engines"][0]["images"];
    assert_eq!(images.as_array().unwrap().len(), ALL);
    fs::write(sealift.path("have.json"), &written.stdout).unwrap();
    fs::write(podman.outside("list.txt"), "app0:1\nabsent:1\n").unwrap();
    let mut missing = podman.command("sealift");
    missing.args([
        "images",
        "-q",
        &podman.inside("list.txt"),
        "--missing-from",
        "podman",
    ]);
    let missing = run(missing.args(podman.storage())).code(7);
    assert_eq!(missing.stdout, "absent:1\n");

    let (second, built) = update(&sealift);
    // Another podman lacks everything.
    let other = Podman::new(version, user);
    let refused = other.load(&[&give(&other, "update.tar")]).code(7);
    assert!(
        refused.stderr.contains(&layers(&built[0])[0]),
        "{}",
        refused.stderr
    );
    assert_eq!(other.names(), [""; 0]);

    podman.load(&[&give(&podman, "update.tar")]).ok();
    let names = podman.names();
    assert_eq!(names.len(), ALL + UPDATED);
    for (image, (number, _)) in built.iter().zip(&second) {
        let name = format!("docker.io/library/app{number}");
        assert_eq!(podman.digest(&format!("{name}:2")), image.digest);
        assert_eq!(
            podman.cat(&format!("{name}@{}", image.digest), "/app/version"),
            "2"
        );
        assert_eq!(podman.cat(&format!("{name}:1"), "/app/version"), "1");
    }
}

on_every_podman!(an_update_of_podman_holds_only_what_it_lacks);
