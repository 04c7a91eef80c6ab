//! What sealift seals is read by the tools that are there when sealift is not: whole, and joined from parts.
//! And what other tools write is a source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::load_podman::Loader;
use crate::support::containerd::Version;
use crate::support::podman::{self, User};
use crate::support::{
    Built, Containerd, Daemon, Dialect, Engine, Folder, Image, Platform, Registry, Sealift, Store, engine,
    folder, image, run,
};

/// A multi-platform image with attestations, saved for this host: a sparse index. Whole, and joined from parts.
fn archives(sealift: &Sealift) -> (Built, Vec<PathBuf>) {
    let registry = Registry::start();
    let image = Image::sample("httpd", "2.4").build(&sealift.path("layout"), "2.4");
    registry.push(&image, "library/httpd:2.4");
    let mirror = format!("docker.io={}", registry.address());
    sealift
        .run(&["save", "-q", "httpd:2.4", "--mirror", &mirror, "-o", "whole.tar"])
        .ok();
    sealift
        .run(&[
            "save",
            "-q",
            "httpd:2.4",
            "--mirror",
            &mirror,
            "--split",
            "100kB",
            "-o",
            "cut.tar",
        ])
        .ok();
    let mut joined = Vec::new();
    for number in 1.. {
        let Ok(bytes) = fs::read(sealift.path(&format!("cut.tar.{number:03}"))) else {
            break;
        };
        joined.extend(bytes);
    }
    fs::write(sealift.path("joined.tar"), joined).unwrap();
    (image, vec![sealift.path("whole.tar"), sealift.path("joined.tar")])
}

#[test]
fn skopeo_sees_the_original_index() {
    let sealift = Sealift::new();
    let (image, archives) = archives(&sealift);
    for archive in archives {
        let target = format!("oci-archive:{}", archive.display());
        let raw = run(Command::new("skopeo").args(["inspect", "--raw", &target]))
            .ok()
            .stdout;
        assert_eq!(image::sha256(raw.as_bytes()), image.digest);
        let inspected = run(Command::new("skopeo").args(["inspect", &target])).ok().json();
        assert_eq!(inspected["Architecture"], Platform::host().architecture.as_str());
    }
}

#[test]
fn podman_shows_name_and_both_digests() {
    let sealift = Sealift::new();
    let (image, archives) = archives(&sealift);
    for (at, archive) in archives.iter().enumerate() {
        let path = |name: &str| sealift.path(&format!("{name}-{at}")).display().to_string();
        let storage = [
            "--root",
            &path("root"),
            "--runroot",
            &path("run"),
            "--storage-driver",
            "vfs",
        ]
        .map(str::to_owned);
        let podman = |args: &[&str]| run(Command::new("podman").args(&storage).args(args));
        podman(&["load", "-i", archive.to_str().unwrap()]).ok();
        let inspected = podman(&["image", "inspect", "docker.io/library/httpd:2.4"])
            .ok()
            .json();
        let digests = inspected[0]["RepoDigests"].as_array().unwrap();
        for digest in [&image.digest, &image.host().digest] {
            let name = format!("docker.io/library/httpd@{digest}");
            assert!(digests.iter().any(|found| *found == name.as_str()), "{digests:?}");
        }
    }
}

/// One image of several, by its name in the archive.
#[test]
fn podman_pulls_one_image_of_an_archive() {
    for version in [podman::Version::Four, podman::Version::Five] {
        let loader = Loader::new(version, User::Root);
        let podman = &loader.podman;
        let oci = loader.add("images", "docker.io/library/oci:1", &Image::sample("oci", "1"));
        let docker = Image::sample("docker", "1").dialect(Dialect::Docker);
        let docker = loader.add("images", "docker.io/library/docker:1", &docker);
        let sealift = Sealift::new();
        let images = podman.outside("images").display().to_string();
        let archive = podman.outside("images.tar").display().to_string();
        let save = ["save", "-q", "--from", &images, "--all", "-o", &archive];
        sealift.run(&save).ok();
        let pull = |name: &str| {
            let from = format!("oci-archive:{}:{name}", podman.inside("images.tar"));
            podman.podman(&["pull", "--quiet", &from])
        };
        pull("docker.io/library/oci:1").ok();
        assert_eq!(podman.digest("docker.io/library/oci:1"), oci.digest);
        let pulled = pull("docker.io/library/docker:1");
        if version == podman::Version::Four {
            let refused = pulled.code(125);
            let says = "no descriptor found for reference";
            assert!(refused.stderr.contains(says), "{}", refused.stderr);
        } else {
            pulled.ok();
            assert_eq!(podman.digest("docker.io/library/docker:1"), docker.digest);
        }
    }
}

#[test]
fn ctr_imports_under_the_name_with_the_digest() {
    for version in [Version::V1_6, Version::V2_1] {
        let sealift = Sealift::new();
        let (image, archives) = archives(&sealift);
        let containerd = Containerd::start(version);
        let ctr = |args: &[&str]| containerd.ctr("default", args);
        for archive in archives {
            let name = archive.file_name().unwrap().to_str().unwrap();
            folder::linked(&archive, &containerd.data(name));
            let [import, export] =
                [name, "exported.tar"].map(|name| containerd.data_inside(name).display().to_string());
            ctr(&["images", "import", &import]).ok();
            let list = ctr(&["images", "ls"]).ok().stdout;
            let line = list
                .lines()
                .find(|line| line.starts_with("docker.io/library/httpd:2.4 "))
                .unwrap_or_else(|| panic!("{list}"));
            assert!(line.contains(&image.digest), "{line}");
            // As the kubelet's pulls leave them: several names, one without a tag, some with the digest.
            let mut names = vec![
                "docker.io/library/httpd:2.4".to_owned(),
                "docker.io/library/web".into(),
            ];
            names.extend(
                ["httpd", "httpd:2.4"].map(|name| format!("docker.io/library/{name}@{}", image.digest)),
            );
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ctr(&[&["images", "tag"], &names[..]].concat()).ok();
            // Over the transfer service, ctr 2 may end before the last blocks are written.
            let locally: &[&str] = match version {
                Version::V2_1 => &["--local"],
                _ => &[],
            };
            ctr(&[&["images", "export"], locally, &[&export], &names[..]].concat()).ok();
            assert_is_a_source(&containerd.data("exported.tar"), "httpd:2.4", &image.digest);
            ctr(&[&["images", "rm", "--sync"], &names[..]].concat()).ok();
        }
    }
}

fn a_bare_docker_load_takes_it(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let (image, archives) = archives(&sealift);
    let daemon = Daemon::start(engine, store);
    for archive in archives {
        let said = daemon.docker_with_stdin(&["load"], &archive).ok().stdout;
        assert!(said.contains("Loaded image: httpd:2.4"), "{said}");
        let inspected = daemon.inspect("httpd:2.4").unwrap();
        match store {
            // What sealift is for: the classic store forgets the digest.
            Store::Classic => {
                assert_eq!(inspected["Id"], image.host().config.as_str());
                assert_eq!(inspected["RepoDigests"], serde_json::json!([]));
            }
            Store::Containerd => {
                assert_eq!(
                    inspected["RepoDigests"],
                    serde_json::json!([format!("httpd@{}", image.digest)])
                );
            }
        }
        daemon.docker(&["rmi", "httpd:2.4"]).ok();
    }
}

on_every_engine!(a_bare_docker_load_takes_it);

/// Verifies a layout, saves one image of it, and looks at the digest under which it is in the archive.
#[track_caller]
fn assert_is_a_source(layout: &Path, name: &str, digest: &str) {
    let sealift = Sealift::new();
    sealift.run(&["verify", layout.to_str().unwrap()]).ok();
    sealift
        .run(&[
            "save",
            "-q",
            "--from",
            layout.to_str().unwrap(),
            name,
            "-o",
            "images.tar",
        ])
        .ok();
    let verified = sealift.run(&["verify", "--json", "images.tar"]).ok().json();
    assert_eq!(
        verified["archives"][0]["images"][0]["digest"], digest,
        "{verified}"
    );
}

#[test]
fn layouts_of_crane_and_oras_are_sources() {
    let sealift = Sealift::new();
    let registry = Registry::start();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
    registry.push(&image, "library/app:1");
    let name = format!("{}/library/app:1", registry.address());
    let folder = Folder::new();
    let root = engine::Root::new(Engine::Docker28, folder.path());
    let target = |name: &str| root.inside(name).display().to_string();
    run(root
        .command("crane")
        .args(["pull", "--format", "oci", &name, &target("crane")]))
    .ok();
    assert_is_a_source(&root.outside("crane"), "app:1", &image.digest);
    let oras = [
        "cp",
        "--from-plain-http",
        "--to-oci-layout",
        &name,
        &format!("{}:1", target("oras")),
    ];
    run(root.command("oras").args(oras)).ok();
    assert_is_a_source(&root.outside("oras"), "app:1", &image.digest);
    run(root
        .command("tar")
        .args(["-cf", &target("oras.tar"), "-C", &target("oras"), "."]))
    .ok();
    assert_is_a_source(&root.outside("oras.tar"), "app:1", &image.digest);
}

#[test]
fn archives_of_docker_and_buildx_are_sources() {
    let sealift = Sealift::new();
    let (image, archives) = archives(&sealift);
    let daemon = Daemon::start(Engine::Docker28, Store::Containerd);
    daemon.docker_with_stdin(&["load"], &archives[0]).ok();
    let (outside, inside) = (daemon.data("docker.tar"), daemon.data_inside("docker.tar"));
    daemon
        .docker(&["save", "-o", inside.to_str().unwrap(), "httpd:2.4"])
        .ok();
    assert_is_a_source(&outside, "httpd:2.4", &image.digest);

    let context = daemon.data("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let (outside, inside) = (daemon.data("buildx.tar"), daemon.data_inside("buildx.tar"));
    let output = format!("type=oci,dest={}", inside.display());
    let context = daemon.data_inside("context");
    let build = [
        "buildx",
        "build",
        "-t",
        "built:1",
        "--output",
        &output,
        context.to_str().unwrap(),
    ];
    daemon.docker(&build).ok();
    let index: serde_json::Value = serde_json::from_slice(&entry(&outside, "index.json")).unwrap();
    assert_is_a_source(
        &outside,
        "built:1",
        index["manifests"][0]["digest"].as_str().unwrap(),
    );
}

fn entry(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let mut found = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path_bytes() == name.as_bytes())
        .unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut found, &mut bytes).unwrap();
    bytes
}
