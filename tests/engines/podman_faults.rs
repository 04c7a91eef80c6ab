//! Loads into podman that go wrong, and what a host's configuration does to them.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::load_podman::{Loader, assert_nothing_is_left, doctor};
use crate::podman_killed::update;
use crate::support::podman::{User, Version};
use crate::support::{Image, Layer, run};

fn damage_is_refused_before_anything(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let before = update(&loader);
    let podman = &loader.podman;
    let images = podman.images();
    let built = Image::sample("app", "2").build(tempfile::tempdir().unwrap().path(), "x");
    let layer = built.host().layers.last().unwrap().digest.replace(':', "/");
    let path = podman.outside("new").join("blobs").join(layer);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    podman.load(&[&podman.inside("new")]).code(1);
    assert_eq!((podman.names(), podman.images()), (before, images));
    assert_nothing_is_left(podman);
    // The others are loaded on request.
    podman.load(&[&podman.inside("new"), "--keep-going"]).code(1);
    assert_eq!(podman.cat("docker.io/library/two:1", "/app/version"), "1");
    assert_eq!(podman.cat("docker.io/library/app:latest", "/app/version"), "1");
}

on_both_podmans!(damage_is_refused_before_anything);

fn a_host_s_registries_conf_does_not_disturb(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    loader.add_by_digest("images", "docker.io/library/app", &Image::sample("app", "1"));
    let folder = ".config/containers/registries.conf.d/50-host.conf";
    podman.write_home(
        folder,
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\nblocked = true\n\
         [[registry]]\nprefix = \"docker.io/library\"\nlocation = \"mirror.example/library\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/library\"\n\
         [aliases]\n\"app\" = \"quay.io/other/app\"\n",
    );
    podman.load(&[&podman.inside("images")]).ok();
    let names = [
        "docker.io/library/app:1".to_string(),
        format!("docker.io/library/app@{}", app.digest),
    ];
    assert_eq!(podman.names(), names);

    // Nor do entries for one tag or digest: podman looks for that of the repository.
    podman.podman(&["rmi", "--all", "--force"]).ok();
    let prefixes = [
        "docker.io/library/app:1".to_string(),
        format!("docker.io/library/app@{}", app.digest),
    ];
    let entries = prefixes
        .map(|prefix| format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"127.0.0.1:1/app\"\n"));
    podman.write_home(folder, &entries.concat());
    podman.load(&[&podman.inside("images")]).ok();
    assert_eq!(podman.names(), names);

    // Only an entry for the very repository wins, which the plan says.
    podman.podman(&["rmi", "--all", "--force"]).ok();
    podman.write_home(
        folder,
        "[[registry]]\nprefix = \"docker.io/library/app\"\nlocation = \"mirror.example/app\"\n",
    );
    let refused = podman.load(&[&podman.inside("images")]).code(6);
    let says = "a file in registries.conf.d has an entry for docker.io/library/app";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    assert_eq!(podman.names(), [""; 0]);
}

on_both_podmans!(a_host_s_registries_conf_does_not_disturb);

/// A podman with three images to load, of which policy.json treats `two` in its own way.
fn with_policy(version: Version, requirement: &str) -> Loader {
    let loader = Loader::new(version, User::Rootless);
    for name in ["one", "two", "three"] {
        let whole = format!("docker.io/library/{name}:1");
        loader.add("images", &whole, &Image::sample(name, "1"));
    }
    loader.podman.write_home(
        ".config/containers/policy.json",
        &format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],
            "transports":{{"docker":{{"docker.io/library/two":[{requirement}]}}}}}}"#
        ),
    );
    loader
}

/// The names of the images in a list of a document.
fn named(list: &Value) -> Vec<&str> {
    let images = list.as_array().unwrap().iter();
    images.map(|image| image["name"].as_str().unwrap()).collect()
}

#[test]
fn what_policy_json_rejects_is_refused_before_anything() {
    for version in [Version::Four, Version::Five] {
        let loader = with_policy(version, r#"{"type":"reject"}"#);
        let podman = &loader.podman;
        let images = podman.inside("images");
        let reason = format!(
            "{} rejects images from docker.io/library/two",
            podman.inside("home/.config/containers/policy.json")
        );
        let refused = podman.load(&[&images]).code(5);
        let says = format!("load two:1: {reason}\nhint: podman enforces it");
        assert!(refused.stderr.contains(&says), "{}", refused.stderr);
        assert!(refused.stderr.contains("--keep-going"), "{}", refused.stderr);
        let planned = podman.load(&[&images, "--dry-run"]).code(5);
        assert_eq!(planned.stderr, refused.stderr);
        assert_eq!(podman.names(), [""; 0]);

        let planned = podman.load(&[&images, "--keep-going", "--dry-run"]).code(5);
        let says = format!("two:1 is skipped: {reason}\n");
        assert!(planned.stdout.contains(&says), "{}", planned.stdout);
        let loaded = podman.load(&[&images, "--keep-going", "--json"]).code(5).json();
        assert_eq!(named(&loaded["images"]), ["one:1", "three:1"]);
        let left_out = json!([{ "name": "two:1", "reason": reason, "exit": 5 }]);
        assert_eq!(loaded["left_out"], left_out);
        let names = ["docker.io/library/one:1", "docker.io/library/three:1"];
        assert_eq!(podman.names(), names);
        let told = doctor(podman);
        assert_eq!(told["obstacles"][0]["reason"], reason, "{told:#}");
    }
}

/// Only podman can check a signature, so that it refuses an image in the middle of a load.
#[test]
fn what_is_loaded_before_a_refusal_is_reported() {
    for version in [Version::Four, Version::Five] {
        let signed = r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}"#;
        let loader = with_policy(version, signed);
        let podman = &loader.podman;
        let images = podman.inside("images");
        let warning = format!(
            "{} requires a signature for images from docker.io/library/two, which podman checks while it pulls: it may \
             refuse two:1",
            podman.inside("home/.config/containers/policy.json")
        );
        let planned = podman.load_json(&[&images, "--dry-run"]);
        assert_eq!(planned["warnings"], json!([warning]));

        let refused = podman.load(&[&images]).code(5);
        let mut lines = refused.stdout.lines();
        assert!(lines.next().unwrap().starts_with("NAME"), "{}", refused.stdout);
        assert!(lines.next().unwrap().starts_with("one "), "{}", refused.stdout);
        assert!(
            lines.next().unwrap().starts_with("1 image in"),
            "{}",
            refused.stdout
        );
        for says in [
            "warning: two:1 was skipped: podman did not load it\n",
            "warning: three:1 was skipped: the load ended before it\n",
            "\nerror: podman: pull docker.io/library/two:1: ",
            "A signature was required, but no signature exists\n",
        ] {
            assert!(refused.stderr.contains(says), "{}", refused.stderr);
        }
        assert_eq!(podman.names(), ["docker.io/library/one:1"]);

        podman.podman(&["rmi", "docker.io/library/one:1"]).ok();
        let refused = podman.load(&[&images, "--json"]).code(5).json();
        assert_eq!(named(&refused["images"]), ["one:1"]);
        assert_eq!(refused["images"][0]["shown"], true);
        assert_eq!(named(&refused["left_out"]), ["two:1", "three:1"]);
        assert_eq!(refused["error"]["exit"], 5);
        let hint = refused["error"]["hint"].as_str().unwrap();
        assert!(hint.ends_with("; --keep-going loads the others"), "{hint}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("podman: pull docker.io/library/two:1: "),
            "{message}"
        );

        let loaded = podman.load(&[&images, "--json", "--keep-going"]).code(5).json();
        assert_eq!(named(&loaded["images"]), ["one:1", "three:1"]);
        assert_eq!(loaded["images"][0]["change"], "unchanged");
        assert_eq!(named(&loaded["left_out"]), ["two:1"]);
        let left_out = &loaded["left_out"][0];
        assert_eq!(
            (&left_out["reason"], &left_out["exit"]),
            (&json!(message), &json!(5))
        );
        assert_eq!(loaded["error"], Value::Null);
        let names = ["docker.io/library/one:1", "docker.io/library/three:1"];
        assert_eq!(podman.names(), names);
        assert_nothing_is_left(podman);
    }
}

#[test]
fn a_podman_elsewhere_or_none_is_told() {
    let loader = Loader::new(Version::Five, User::Root);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let mut remote = podman.load_command(&[&podman.inside("images")]);
    let remote = run(remote.env("CONTAINER_HOST", "ssh://other/run/podman/podman.sock")).code(2);
    assert_snapshot!(remote.stderr, @"
    error: CONTAINER_HOST is set, so that podman is a client of another podman, and sealift uses only the podman of its own host
    hint: run sealift there, or without the variable: `env -u CONTAINER_HOST sealift ...`
    ");
    let mut doctor = podman.command("sealift");
    let doctor = run(doctor.args(["doctor", "--namespace", "k8s.io"])).code(5);
    let says = "containerd at /run/containerd/containerd.sock";
    assert!(doctor.stdout.contains(says), "{}", doctor.stdout);
    let mut none = podman.load_command(&[&podman.inside("images")]);
    let none = run(none.env("PATH", "/nonexistent")).code(5);
    assert_snapshot!(none.stderr, @"
    error: podman: info: there is no program podman
    hint: install podman, or see that it is in PATH
    ");
}

#[test]
fn what_does_not_fit_into_podman_s_temporary_folder_is_refused() {
    for (version, user) in [(Version::Four, User::Root), (Version::Five, User::Root)] {
        let loader = Loader::new(version, user);
        let podman = &loader.podman;
        let layers = vec![
            Layer::busybox(),
            Layer::new().noise("one", 7, 10_000_000),
            Layer::new().noise("two", 8, 10_000_000),
        ];
        loader.add("images", "docker.io/library/app:1", &Image::single(layers));
        let inside = podman.inside("tmp");
        podman.mount_disk("tmp", "18m");
        for more in [&[][..], &["--dry-run"]] {
            let refused = podman.load(&[&[podman.inside("images").as_str()][..], more].concat());
            let says = format!("cannot load into {inside}: ");
            let refused = refused.code(3);
            assert!(refused.stderr.contains(&says), "{}", refused.stderr);
            assert!(refused.stderr.contains("TMPDIR"), "{}", refused.stderr);
        }
        let plan = podman
            .load(&[&podman.inside("images"), "--dry-run", "--json"])
            .code(3)
            .json();
        assert_eq!(plan["room"]["path"], inside);
        assert_eq!(podman.names(), [""; 0]);
        podman.resize_disk("tmp", "40m");
        podman.load(&[&podman.inside("images")]).ok();
        assert_eq!(podman.names(), ["docker.io/library/app:1"]);
    }
}

/// The disk is full in the middle, because it has no inodes left; with more of them the next run completes.
#[test]
fn the_disk_of_podman_is_full() {
    for version in [Version::Four, Version::Five] {
        let loader = Loader::new(version, User::Root);
        let podman = &loader.podman;
        let files = (0..1000).map(|number| format!("app/files/{number}"));
        let layer = files.fold(Layer::new(), |layer, name| layer.file(&name, "small"));
        loader.add(
            "images",
            "docker.io/library/small:1",
            &Image::sample("small", "1"),
        );
        loader.add("images", "docker.io/library/app:1", &Image::single(vec![layer]));
        podman.mount_disk("storage", "64m,nr_inodes=500");
        let refused = podman
            .load(&[&podman.inside("images"), "--json", "--keep-going"])
            .code(3);
        let system_df = format!("`podman {} system df`", podman.storage().join(" "));
        assert!(refused.stderr.contains(&system_df), "{}", refused.stderr);
        let document = refused.json();
        let error = &document["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("no space left on device"), "{message}");
        assert_eq!(named(&document["images"]), ["small:1"]);
        assert_eq!(named(&document["left_out"]), ["app:1"]);
        assert_eq!(podman.names(), ["docker.io/library/small:1"]);
        podman.resize_disk("storage", "64m,nr_inodes=5000");
        podman.load(&[&podman.inside("images")]).ok();
        let names = ["docker.io/library/app:1", "docker.io/library/small:1"];
        assert_eq!(podman.names(), names);
    }
}
