//! Loads into podman that are killed, or ended by a signal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::load_podman::{Loader, assert_equal, assert_nothing_is_left};
use crate::support::podman::{Podman, User, Version};
use crate::support::{Image, Registry, run};

/// Images with much content, and one that a tag names before the load.
pub fn update(loader: &Loader) -> Vec<String> {
    loader.add("old", "docker.io/library/app:latest", &Image::sample("app", "1"));
    loader.podman.load_json(&[&loader.podman.inside("old")]);
    loader.add("new", "docker.io/library/app:latest", &Image::sample("app", "2"));
    for name in ["one", "two"] {
        loader.add(
            "new",
            &format!("docker.io/library/{name}:1"),
            &Image::sample(name, "1"),
        );
    }
    loader.podman.names()
}

/// The process id of a podman that `parent` runs for a pull of this name, once there is one. `None` if `parent` has ended.
pub fn pull_of(child: &mut Child, name: &str) -> Option<Pid> {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let is_pull = words.first().is_some_and(|program| program.ends_with(b"podman"))
                && words.contains(&&b"pull"[..])
                && words.contains(&name.as_bytes());
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if is_pull && parent == Some(child.id()) {
                let pid: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
                return Pid::from_raw(pid);
            }
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < until, "no pull of {name}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a process has ended.
pub fn wait_gone(pid: Pid) {
    let until = Instant::now() + Duration::from_secs(60);
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    while Path::new(&path).exists() {
        let stat = fs::read_to_string(format!("{path}/stat")).unwrap_or_default();
        if stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
        {
            return;
        }
        assert!(Instant::now() < until, "{path} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a load, and the process that is sealift.
pub fn start(podman: &Podman, args: &[&str]) -> Child {
    let mut command = podman.load_command(args);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn killed_at_every_image(version: Version, user: User) {
    let twin = Podman::new(version, user);
    let registry = Registry::start();
    let elsewhere = tempfile::tempdir().unwrap();
    for (name, version) in [("app", "1"), ("app", "2"), ("one", "1"), ("two", "1")] {
        let built = Image::sample(name, version).build(elsewhere.path(), "x");
        let tag = if name == "app" { "latest" } else { "1" };
        registry.push(&built, &format!("library/{name}:{tag}"));
        twin.pull(&registry, &[format!("docker.io/library/{name}:{tag}")]);
    }
    for (signal, name) in [
        (Signal::KILL, "app:latest"),
        (Signal::KILL, "two:1"),
        (Signal::TERM, "one:1"),
    ] {
        let loader = Loader::new(version, user);
        let before = update(&loader);
        let podman = &loader.podman;
        let new = podman.inside("new");
        let mut child = start(podman, &[&new]);
        let pull = pull_of(&mut child, &format!("docker.io/library/{name}"));
        // chroot, unshare and setpriv become sealift.
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        // Nobody serves podman any more, and it does not outlive sealift.
        wait_gone(pull.expect("it was pulled"));
        if signal == Signal::TERM {
            assert_nothing_is_left(podman);
        }
        // The name leads to a whole image: its old one or its new one.
        let says = podman.cat("docker.io/library/app:latest", "/app/version");
        assert!(["1", "2"].contains(&says.as_str()), "{says}");
        let names = podman.names();
        assert!(before.iter().all(|name| names.contains(name)), "{names:?}");
        podman.load(&[&new]).ok();
        assert_eq!(podman.cat("docker.io/library/app:latest", "/app/version"), "2");
        assert_equal(podman, &twin);
    }
}

on_both_podmans!(killed_at_every_image);

fn a_signal_tells_what_was_loaded(version: Version, user: User) {
    let loader = Loader::new(version, user);
    update(&loader);
    let podman = &loader.podman;
    let mut command = podman.load_command(&[&podman.inside("new"), "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pull = pull_of(&mut child, "docker.io/library/one:1");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    wait_gone(pull.expect("it was pulled"));
    let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(document["error"]["exit"], 143, "{document}");
    let hint = "loaded and named before that: app:latest; run the same load again for the others";
    assert_eq!(document["error"]["hint"], hint);
}

on_both_podmans!(a_signal_tells_what_was_loaded);

fn files_of_a_killed_load_are_removed_by_the_next(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let images = podman.inside("images");
    let mut child = start(podman, &[&images]);
    let pull = pull_of(&mut child, "docker.io/library/app:1").expect("it was pulled");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_gone(pull);
    let left: Vec<_> = fs::read_dir(podman.outside("tmp")).unwrap().flatten().collect();
    assert!(
        left.iter().any(|entry| entry.path().join("auth.json").exists()),
        "{left:?}"
    );
    // Folders of others have similar names.
    let others = ["sealift-project", "sealift-podman-a12345"].map(|name| podman.outside("tmp").join(name));
    for other in &others {
        fs::create_dir(other).unwrap();
        for file in ["lock", "data"] {
            fs::write(other.join(file), "").unwrap();
        }
        // As if the user had made it.
        let owner = fs::metadata(left[0].path()).unwrap();
        for path in [other.clone(), other.join("lock"), other.join("data")] {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
    if user == User::Root {
        let doctor = |args: &[&str]| {
            let mut command = podman.command("sealift");
            run(command.arg("doctor").args(args)).stdout
        };
        let said = doctor(&[]);
        assert!(
            said.contains("leftovers: an interrupted load left something"),
            "{said}"
        );
        let said = doctor(&["--repair"]);
        assert!(said.contains("leftovers: undone"), "{said}");
    } else {
        podman.load(&[&images]).ok();
        assert_eq!(podman.names(), ["docker.io/library/app:1"]);
    }
    let left = fs::read_dir(podman.outside("tmp")).unwrap().flatten();
    let mut left: Vec<_> = left.map(|entry| entry.path()).collect();
    left.retain(|path| path.to_string_lossy().contains("/sealift-"));
    left.sort();
    assert_eq!(left, [others[1].clone(), others[0].clone()]);
    assert!(others.iter().all(|path| path.join("data").exists()));
}

on_both_podmans!(files_of_a_killed_load_are_removed_by_the_next);
