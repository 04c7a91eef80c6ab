//! Loads into CRI-O's storage.

use std::fs;

use insta::assert_snapshot;

use crate::load_podman::Loader;
use crate::support::podman::{User, Version};
use crate::support::{Image, run};

#[test]
fn cri_o_s_storage_is_for_root() {
    let loader = Loader::new(Version::Five, User::Rootless);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let config = podman.root().join("etc/crio");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("crio.conf"), "[crio]\n").unwrap();
    let refused = run(podman
        .command("sealift")
        .args(["load", "--to", "crio"])
        .arg(podman.inside("images")))
    .code(2);
    assert_snapshot!(refused.stderr, @"
    error: CRI-O's storage is root's, and podman without root uses another
    hint: run the same command with sudo
    ");
    assert_eq!(podman.names(), [""; 0]);
}

#[test]
fn the_storage_of_cri_o_is_found_by_its_configuration() {
    let loader = Loader::new(Version::Five, User::Root);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let load = || {
        run(podman
            .command("sealift")
            .args(["load", "--to", "crio"])
            .arg(podman.inside("images")))
    };
    let missing = load().code(7);
    assert_snapshot!(missing.stderr, @"
    error: CRI-O not found in /etc/crio and /run/crio/crio.sock
    hint: podman's storage is CRI-O's too if both have the same folders: name podman instead
    ");
    let config = podman.root().join("etc/crio/crio.conf.d");
    fs::create_dir_all(&config).unwrap();
    let storage = podman.storage();
    fs::write(
        config.join("10-storage.conf"),
        format!(
            "[crio]\nroot = \"{}\"\nrunroot = \"{}\"\nstorage_driver = \"overlay\"\n",
            storage[1], storage[3]
        ),
    )
    .unwrap();
    let said = load().ok().stdout;
    assert!(said.contains("1 image in CRI-O's storage"), "{said}");
    fs::write(podman.outside("list.txt"), "app:1\nabsent:1\n").unwrap();
    let list = podman.inside("list.txt");
    let images = ["images", "-q", &list, "--missing-from", "crio"];
    let absent = run(podman.command("sealift").args(images)).code(7);
    assert_eq!(absent.stdout, "absent:1\n");
    assert_eq!(podman.digest("docker.io/library/app:1"), app.digest);

    let listed = |args: &[&str]| {
        let mut command = podman.command("sealift");
        let engines = run(command.arg("inventory").args(args)).ok().json()["engines"].take();
        let engines = engines.as_array().unwrap().clone().into_iter();
        engines
            .map(|one| (one["engine"].clone(), one["images"][0]["tags"][0].clone()))
            .collect::<Vec<_>>()
    };
    let name = serde_json::Value::from("docker.io/library/app:1");
    assert_eq!(listed(&["--from", "crio"]), [("crio".into(), name.clone())]);
    // podman has the same storage, which is listed once.
    let both = ["--from", "podman", "--from", "crio"];
    let storage: Vec<&str> = storage.iter().map(String::as_str).collect();
    assert_eq!(listed(&[&both[..], &storage].concat()), [("podman".into(), name)]);
    // If an option is for an engine, that engine must answer, even if others have images.
    let mut named = podman.command("sealift");
    let named = run(named.args(["inventory", "--containerd-address", "/none.sock"])).code(5);
    assert!(named.stderr.contains("/none.sock"), "{}", named.stderr);
    assert_eq!(named.stdout, "");
}
