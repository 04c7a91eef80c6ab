//! Images that go from host to host: what a load leaves is enough for the next save to prove their digests.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::attach_hosts::private;
use crate::attach_offline::{CLASSIC, Offline, assert_no_files_beside};
use crate::loading::{Images, assert_nothing_is_left};
use crate::saving::{at, saved};
use crate::support::{Daemon, Engine, Image, Sealift, Store, run};

const OUT_OF: [&str; 5] = ["--from", "docker", "--offline", "--rebuild", "require"];

/// How digests get to the next host's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `mirror` for docker.io, `hosts` for others.
    Live,
    Offline,
    /// Written into the store while nothing runs.
    DataRoot,
}

/// A host that a load has just put images on.
fn host(engine: Engine, way: Way, archive: &Path) -> Daemon {
    let archive = archive.to_str().unwrap();
    let mut daemon = match way {
        Way::Live => private(engine).start(),
        Way::Offline | Way::DataRoot => Daemon::start(engine, Store::Classic),
    };
    let offline = Offline::beside(&daemon);
    match way {
        Way::Live => drop(offline.sealift.run(&["load", archive]).ok()),
        Way::Offline => drop(offline.load_path(archive).ok()),
        Way::DataRoot => {
            offline.sealift.run(&["load", archive, "--attach", "none"]);
            daemon.stop();
            let root = daemon.data_root();
            let load = ["load", archive, "--data-root", root.to_str().unwrap()];
            offline.sealift.run(&load).ok();
            daemon.start_again();
        }
    }
    assert_nothing_is_left(&offline.loader);
    daemon
}

fn kept(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.data_root().join("sealift/overlay2"));
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn hops(engine: Engine, way: Way) {
    let images = Images::new();
    let names = ["httpd:2.4", "quay.io/a/b:1"];
    let index = images.add(names[0], &Image::sample("httpd", "2.4"));
    let single = images.add(names[1], &Image::sample("app", "1").without_index());
    let sealift = Sealift::new();
    let mut archive = images.path();
    let mut before: Option<Vec<u8>> = None;
    for hop in 1..=3 {
        let daemon = host(engine, way, &archive);
        let next = format!("{hop}.tar");
        let save = [&["save", "--json", "-o", &next][..], &OUT_OF, &names].concat();
        let said = at(&sealift, &daemon, &save).ok().json();
        let told = |at: usize| {
            let image = &said["images"][at];
            json!([
                image["name"],
                image["digest"],
                image["evidence"],
                image["provenance"]["manifest"]["from"]
            ])
        };
        assert_eq!(told(0), json!([names[0], index.digest, "verified", "engine"]));
        assert_eq!(told(1), json!([names[1], single.digest, "verified", "engine"]));
        archive = sealift.path(&next);
        // Nothing is lost or added on the way.
        let bytes = fs::read(&archive).unwrap();
        assert!(
            before.replace(bytes.clone()).is_none_or(|before| before == bytes),
            "hop {hop}"
        );
        // A pull leaves the manifests in the engine's own store.
        assert_eq!(kept(&daemon).is_empty(), way == Way::Live, "{:?}", kept(&daemon));
    }
}

#[test]
fn digests_that_were_attached_live_are_proven_on_every_hop() {
    for engine in CLASSIC {
        hops(*engine, Way::Live);
    }
}

#[test]
fn digests_that_were_attached_offline_are_proven_on_every_hop() {
    for engine in CLASSIC {
        hops(*engine, Way::Offline);
    }
}

#[test]
fn digests_of_a_store_without_a_daemon_are_proven_on_every_hop() {
    for engine in CLASSIC {
        hops(*engine, Way::DataRoot);
    }
}

/// A golden image is saved from by the host that it becomes, or by one that mounts it.
#[test]
fn a_store_that_was_moved_has_what_proves_its_digests() {
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let mut daemon = host(Engine::Docker28, Way::DataRoot, &images.path());
    daemon.stop();
    let sealift = Sealift::new();
    let moved = sealift.path("golden");
    run(Command::new("cp").arg("-a").arg(daemon.data_root()).arg(&moved)).ok();
    let save = [&OUT_OF[..], &["--data-root", "golden", "quay.io/a/b:1"]].concat();
    let image = saved(&sealift, &daemon, &save, "moved.tar");
    assert_eq!(
        json!([image["digest"], image["evidence"]]),
        json!([built.digest, "verified"])
    );
}

#[test]
fn what_is_kept_goes_with_the_image() {
    let images = Images::new();
    images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    images.add("quay.io/a/c:1", &Image::sample("other", "1"));
    let daemon = host(Engine::Docker20, Way::Offline, &images.path());
    let offline = Offline::beside(&daemon);
    let all = kept(&daemon);
    assert_eq!(all.len(), 4, "an index and a manifest of each: {all:?}");
    assert_no_files_beside(&daemon);
    let another = Images::new();
    another.add("quay.io/a/d:1", &Image::sample("third", "1"));
    let another = another.path();
    let load = ["load", "--attach", "none", another.to_str().unwrap()];
    type Next<'a> = (&'a str, &'a dyn Fn());
    let saves = || {
        drop(
            offline
                .sealift
                .run(&["save", "--from", "docker", "quay.io/a/b:1", "-o", "b.tar"])
                .ok(),
        )
    };
    let loads = || assert!(offline.sealift.run(&load).stdout.contains("quay.io/a/d"));
    let repairs = || drop(offline.repair().ok());
    let nexts: [Next<'_>; 3] = [("save", &saves), ("load", &loads), ("doctor --repair", &repairs)];
    for (what, next) in nexts {
        if !daemon
            .images()
            .iter()
            .any(|line| line.starts_with("quay.io/a/c:1"))
        {
            offline.load(&images).ok();
        }
        assert_eq!(kept(&daemon), all, "{what}");
        let gone = daemon.inspect("quay.io/a/c:1").unwrap()["Id"]
            .as_str()
            .unwrap()
            .to_owned();
        daemon.docker(&["rmi", "-f", &gone]).ok();
        // A look changes nothing.
        offline.sealift.run(&["doctor"]).ok();
        assert_eq!(kept(&daemon), all);
        next();
        let left = kept(&daemon);
        assert_eq!(left.len(), 2, "{what}: {left:?}");
        assert!(left.iter().all(|path| all.contains(path)));
    }
}

#[test]
fn what_others_planted_is_not_used() {
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let daemon = host(Engine::Docker28, Way::Offline, &images.path());
    let sealift = Sealift::new();
    let save = ["--from", "docker", "--offline", "quay.io/a/b:1"];
    let folder = daemon.data_root().join("sealift");
    chown(&folder, Some(65534), None).unwrap();
    let line = [&["save", "--json", "-o", "theirs.tar"][..], &save].concat();
    let said = at(&sealift, &daemon, &line);
    assert!(said.stderr.contains("it belongs to another user"), "{said:?}");
    assert_eq!(said.json()["images"][0]["evidence"], "recorded");
    chown(&folder, Some(0), None).unwrap();
    // Altered by root, or by the disk.
    for path in kept(&daemon) {
        fs::write(path, "{}").unwrap();
    }
    let line = [&["save", "--json", "-o", "altered.tar"][..], &save].concat();
    let said = at(&sealift, &daemon, &line);
    assert!(said.stderr.contains(&built.digest), "{said:?}");
    assert_eq!(said.json()["images"][0]["evidence"], "recorded");
}
