//! An archive with signatures loads into every engine as one without: the right digest, and nothing else shown.

use std::fs;
use std::path::PathBuf;

use super::signed::Signed;
use crate::support::containerd::Version;
use crate::support::podman::{self, Podman, User};
use crate::support::{Built, Containerd, Daemon, Engine, Registry, Sealift, Store, folder, image, run};

/// The name of the image that has everything, where every engine shows digests.
const NAME: &str = "docker.io/acme/all:1.0";

/// The archive of the image that has everything.
fn archive(sealift: &Sealift, platform: &str) -> (&'static Built, PathBuf) {
    let signed = Signed::get();
    let mirror = format!("docker.io={}", signed.registry.address());
    let archive = sealift.path("signed.tar");
    let save = ["save", "-q", NAME, "--mirror", &mirror, "-o", "signed.tar"];
    sealift.run(&[&save[..], &["--platform", platform]].concat()).ok();
    (signed.image("all"), archive)
}

fn docker_takes_it(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let (image, archive) = archive(&sealift, "host");
    let daemon = Daemon::start(engine, store);
    let digest = format!("acme/all:1.0 {}", image.digest);

    let said = daemon.docker_with_stdin(&["load"], &archive).ok().stdout;
    assert_eq!(said, "Loaded image: acme/all:1.0\n");
    let forgotten = "acme/all:1.0 <none>".to_owned();
    let shown = if store == Store::Classic {
        &forgotten
    } else {
        &digest
    };
    assert_eq!(&daemon.images(), std::slice::from_ref(shown));
    assert_eq!(image_count(&daemon), "1");
    daemon.docker(&["rmi", "acme/all:1.0"]).ok();
    assert_eq!(image_count(&daemon), "0");

    let loader = Sealift::new().docker(&daemon);
    loader.run(&["load", "-q", archive.to_str().unwrap()]).ok();
    assert_eq!(daemon.images(), [digest]);
    assert_eq!(image_count(&daemon), "1");
}

on_every_engine!(docker_takes_it);

/// How many images there are, also those that no list shows.
fn image_count(daemon: &Daemon) -> String {
    let format = "{{.Type}} {{.TotalCount}}";
    let said = daemon.docker(&["system", "df", "--format", format]).ok().stdout;
    let images = said.lines().find_map(|line| line.strip_prefix("Images "));
    images.unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn containerd_takes_it(version: Version) {
    let sealift = Sealift::new();
    let (image, archive) = archive(&sealift, "host");
    let containerd = Containerd::start(version);
    folder::linked(&archive, &containerd.data("signed.tar"));
    let inside = containerd.data_inside("signed.tar").display().to_string();
    for namespace in ["imported", "loaded"] {
        let ctr = |args: &[&str]| containerd.ctr(namespace, args).ok().stdout;
        if namespace == "imported" {
            ctr(&["images", "import", &inside]);
        } else {
            let address = containerd.socket().display().to_string();
            let to = [
                "--to",
                "containerd",
                "--containerd-address",
                &address,
                "--namespace",
                namespace,
            ];
            let load = ["load", "-q", archive.to_str().unwrap()];
            sealift.run(&[&load[..], &to].concat()).ok();
        }
        let names = ctr(&["images", "ls", "-q"]);
        let is_it = |name: &&str| *name == NAME || *name == format!("docker.io/acme/all@{}", image.digest);
        let others: Vec<&str> = names
            .lines()
            .filter(|name| !is_it(name) && !name.starts_with("sha256:"))
            .collect();
        assert_eq!(others, [""; 0], "{namespace}");
        let list = ctr(&["images", "ls"]);
        let line = list.lines().find(|line| line.starts_with(&format!("{NAME} ")));
        assert!(line.is_some_and(|line| line.contains(&image.digest)), "{list}");
    }
}

on_every_containerd!(containerd_takes_it);

fn podman_takes_it(version: podman::Version, user: User) {
    let sealift = Sealift::new();
    let (image, archive) = archive(&sealift, "host");
    let podman = Podman::new(version, user);
    let place = podman.outside("signed.tar");
    fs::copy(archive, &place).unwrap();
    let inside = podman.inside("signed.tar");
    for load in [false, true] {
        if load {
            podman.load(&["-q", &inside]).ok();
        } else {
            podman.podman(&["load", "-q", "-i", &inside]).ok();
        }
        assert_eq!(podman.names(), [NAME]);
        assert_eq!(podman.digest(NAME), image.digest);
        podman.podman(&["rmi", NAME]).ok();
        assert!(podman.images().is_empty());
    }
}

on_both_podmans!(podman_takes_it);

#[test]
fn skopeo_and_crane_take_it() {
    let (sealift, signed) = (Sealift::new(), Signed::get());
    let (image, archive) = archive(&sealift, "all");
    let copy = sealift.path("copy");
    let from = format!("oci-archive:{}", archive.display());
    let mut skopeo = crate::support::command::clean("/usr/bin/skopeo", sealift.home());
    skopeo.args([
        "--insecure-policy",
        "copy",
        "-q",
        "--all",
        "--preserve-digests",
        &from,
    ]);
    run(skopeo.arg(format!("dir:{}", copy.display()))).ok();
    let manifest = fs::read(copy.join("manifest.json")).unwrap();
    assert_eq!(image::sha256(&manifest), image.digest);

    let tools = &signed.tools;
    let place = format!("taken-{}", std::process::id());
    fs::create_dir(tools.outside(&place)).unwrap();
    folder::linked(&archive, &tools.outside(&place).join("signed.tar"));
    let inside = tools.inside(&place);
    let from = format!("oci-archive:{inside}/signed.tar");
    let raw = tools.run("skopeo", &["inspect", "--raw", &from]).ok().stdout;
    assert_eq!(image::sha256(raw.as_bytes()), image.digest);
    tools
        .run("tar", &["-xf", &format!("{inside}/signed.tar"), "-C", &inside])
        .ok();
    let registry = Registry::start();
    let to = format!("{}/acme/all:1.0", registry.address());
    tools.run("rm", &[&format!("{inside}/signed.tar")]).ok();
    tools.run("crane", &["push", &inside, &to]).ok();
    assert_eq!(registry.digest_of("acme/all:1.0"), image.digest);
}
