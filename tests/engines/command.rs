//! The command as a user runs it: save, verify, load, and what Docker shows.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Built, Compression, Daemon, Engine, Image, Platform, Registry, Sealift, Store, assert_documented,
    command, folder, old_kernel, run,
};

/// A registry with an image, saved: the printed line, and the image.
fn saved(sealift: &Sealift, compression: Compression) -> (String, Built) {
    let registry = Registry::start();
    let image = Image::sample("httpd", "2.4")
        .compression(compression)
        .build(&sealift.path("layout"), "2.4");
    registry.push(&image, "library/httpd:2.4");
    let mirror = format!("docker.io={}", registry.address());
    let run = sealift
        .run(&["save", "httpd:2.4", "--mirror", &mirror, "-o", "images.tar"])
        .ok();
    let digest = run.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(
        run.stdout.ends_with(&format!("archive {digest}\n")) && digest.starts_with("sha256:"),
        "{}",
        run.stdout
    );
    (digest, image)
}

fn from_a_registry_to_a_digest_that_docker_shows(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let (digest, image) = saved(&sealift, Compression::Zstd);
    sealift.run(&["verify", "images.tar", "--expect", &digest]).ok();
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);

    let other = format!("sha256:{}", "0".repeat(64));
    let refused = sealift.run(&["load", "images.tar", "--expect", &other]).code(1);
    assert!(
        refused.stderr.contains(&digest) && refused.stderr.contains(&other),
        "{}",
        refused.stderr
    );
    let pinned = format!("httpd@{}", image.digest);
    let planned = sealift
        .run(&["load", "images.tar", "--dry-run", "--json", "--image", &pinned])
        .ok()
        .json();
    assert_eq!(planned["images"][0]["digest"], image.digest.as_str());
    assert_eq!(planned["images"][0]["platform"], Platform::host().to_string());
    assert_eq!(daemon.images(), [""; 0]);

    let loaded = sealift.run(&["load", "images.tar", "--expect", &digest]).ok();
    let row = loaded
        .stdout
        .lines()
        .find(|line| line.starts_with("httpd "))
        .unwrap_or_else(|| panic!("{}", loaded.stdout));
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["httpd", "2.4", &image.digest, "verified", "yes", "new"]
    );
    let listed = daemon
        .docker(&[
            "images",
            "--digests",
            "--format",
            "{{.Repository}} {{.Tag}} {{.Digest}}",
        ])
        .ok();
    assert_eq!(listed.stdout.trim(), format!("httpd 2.4 {}", image.digest));
    daemon
        .docker(&["create", &format!("httpd@{}", image.digest)])
        .ok();

    let again = sealift.run(&["load", "images.tar", "--json"]).ok().json();
    assert_eq!(
        (&again["schema"], &again["images"][0]["shown"]),
        (&1.into(), &true.into())
    );
    assert_eq!(sealift.run(&["doctor", "--json"]).ok().json()["leftover"], false);
}

on_every_engine!(from_a_registry_to_a_digest_that_docker_shows);

fn nothing_newer_than_linux_3_10_is_needed(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    saved(&sealift, Compression::Gzip);
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);
    old_kernel::run(&sealift, &["load", "images.tar"]).ok();
}

on_every_engine!(nothing_newer_than_linux_3_10_is_needed);

#[test]
fn without_root_the_image_is_loaded_and_the_exit_code_says_what_is_missing() {
    let sealift = Sealift::new();
    let (_, image) = saved(&sealift, Compression::Gzip);
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let sealift = sealift.docker(&daemon);
    // In the group of the socket, as a user in the docker group is.
    let socket = daemon.socket();
    assert!(
        Command::new("chgrp")
            .arg("65534")
            .arg(&socket)
            .status()
            .unwrap()
            .success()
    );
    assert!(
        Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(sealift.home())
            .status()
            .unwrap()
            .success()
    );
    let program = sealift.path("sealift");
    command::install(env!("CARGO_BIN_EXE_sealift"), &program);
    for folder in socket
        .ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(folder::base()))
    {
        assert!(
            Command::new("chmod")
                .arg("a+x")
                .arg(folder)
                .status()
                .unwrap()
                .success()
        );
    }
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(args);
        command
            .current_dir(sealift.home())
            .env("DOCKER_HOST", format!("unix://{}", socket.display()));
        run(&mut command)
    };
    let run = as_nobody(&["load", "images.tar"]).code(6);
    assert!(
        run.stderr.contains("not shown: httpd:2.4: ") && run.stderr.contains("sudo"),
        "{}",
        run.stderr
    );
    let inspected = daemon.inspect("httpd:2.4").unwrap();
    assert_eq!(
        (&inspected["Id"], &inspected["RepoDigests"]),
        (&image.host().config.clone().into(), &serde_json::json!([]))
    );
    // As a load by root leaves it.
    let mut journal = std::fs::DirBuilder::new();
    journal
        .mode(0o700)
        .recursive(true)
        .create("/run/sealift")
        .unwrap();
    let doctor = as_nobody(&["doctor"]).ok();
    assert!(
        doctor.stdout.contains("store: classic") && doctor.stdout.contains("leftovers: not known"),
        "{}",
        doctor.stdout
    );
    let repair = as_nobody(&["doctor", "--repair"]).code(3);
    assert!(repair.stderr.contains("sudo"), "{}", repair.stderr);
}

#[test]
fn what_is_wrong_with_an_archive_stands_in_the_document() {
    let sealift = Sealift::new();
    let (_, image) = saved(&sealift, Compression::Gzip);
    let layer = &image.host().layers[2].digest;
    let stored = std::fs::read(image.blob(layer)).unwrap();
    let mut bytes = std::fs::read(sealift.path("images.tar")).unwrap();
    let at = bytes
        .windows(stored.len())
        .position(|window| window == stored)
        .unwrap();
    bytes[at + 7] ^= 1;
    std::fs::write(sealift.path("images.tar"), bytes).unwrap();
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let sealift = sealift.docker(&daemon);
    let document = sealift.run(&["load", "--json", "images.tar"]).code(1).json();
    assert_eq!(
        (&document["schema"], &document["error"]["exit"]),
        (&1.into(), &1.into())
    );
    let finding = &document["findings"][0];
    assert_eq!(
        (&finding["place"]["digest"], &finding["place"]["offset"]),
        (&layer.as_str().into(), &at.into()),
        "{document}"
    );
    assert_eq!(daemon.images(), [""; 0]);
}

#[test]
fn a_signal_at_any_time_ends_a_load_by_that_signal_and_leaves_nothing_halfway() {
    let sealift = Sealift::new();
    let (_, image) = saved(&sealift, Compression::Gzip);
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let sealift = sealift.docker(&daemon);
    let config = std::fs::read(daemon.config_file()).unwrap();
    let (mut ended, mut step) = (0, 0);
    // Where others keep the processor, a load may be complete before the first signal.
    for _ in 0..100 {
        let mut child = sealift
            .command(&["load", "-q", "images.tar"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 + 35 * step));
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, if step % 2 == 0 { Signal::INT } else { Signal::TERM });
        let status = child.wait().unwrap();
        let cover = daemon.config_file().display().to_string();
        assert!(!daemon.mounts().contains(&cover), "{step}");
        assert_eq!(std::fs::read(daemon.config_file()).unwrap(), config, "{step}");
        let mirrors = &daemon.info()["RegistryConfig"]["Mirrors"];
        assert!(mirrors.as_array().is_none_or(Vec::is_empty), "{step}: {mirrors}");
        let shown = daemon.images();
        if status.success() {
            assert_eq!(shown, [format!("httpd:2.4 {}", image.digest)]);
            if ended >= 5 {
                break;
            }
            step = 0;
        } else {
            let number = if step % 2 == 0 { 2 } else { 15 };
            assert_eq!(status.signal(), Some(number), "{step}: {status:?}");
            ended += 1;
            step += 1;
        }
        // The tag comes after all content, the digest after the tag.
        for line in &shown {
            let known = ["httpd:2.4 <none>", "<none>:<none> <none>"];
            assert!(
                known.contains(&line.as_str()) || *line == format!("httpd:2.4 {}", image.digest),
                "{step}: {shown:?}"
            );
        }
        let ids: Vec<_> = daemon
            .docker(&["images", "-qa"])
            .ok()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect();
        for id in ids {
            daemon.docker(&["rmi", "-f", &id]);
        }
    }
    assert!(ended >= 5, "only {ended} loads were cut");
    assert_eq!(sealift.run(&["doctor", "--json"]).ok().json()["leftover"], false);
}

fn every_field_is_documented(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let rename = "app:1=10.0.0.1:5000/app:1";
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);
    for line in [
        &["load", "--dry-run", "app.tar"][..],
        &["load", "--dry-run", "app.tar", "--rename", rename],
        &["load", "app.tar", "--attach", "none"],
        &["load", "app.tar", "--keep-push-digest"],
        &["load", "app.tar", "--rename", rename],
        &["doctor"],
    ] {
        assert_documented(&sealift.run(&[line, &["--json"]].concat()).json());
    }
}

#[test]
fn every_field_of_a_classic_store_is_documented() {
    every_field_is_documented(Engine::Docker20, Store::Classic);
}

#[test]
fn every_field_of_a_containerd_store_is_documented() {
    every_field_is_documented(Engine::Docker28, Store::Containerd);
}
