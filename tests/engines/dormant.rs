//! Names and digests into the store of a Docker that does not run.

use std::fs;

use crate::attach_offline::{CLASSIC, names_file, nothing_beside};
use crate::loading::*;
use crate::support::*;

#[test]
fn a_store_without_a_daemon_gets_names_and_digests() {
    for engine in CLASSIC {
        let mut daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        let app = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let alone = images.add_by_digest("alone", &Image::sample("alone", "1"));
        let run = tempfile::tempdir().unwrap();
        let sealift = Sealift::new()
            .docker(&daemon)
            .env("SEALIFT_RUN_DIR", run.path().join("run"));
        let path = images.path().to_str().unwrap().to_owned();
        sealift.run(&["load", &path, "--attach", "none"]).code(6);
        daemon.docker(&["tag", "quay.io/a/b:1", "other:1"]).ok();
        daemon.docker(&["rmi", "quay.io/a/b:1"]).ok();
        let root = daemon.data_root().to_str().unwrap().to_owned();
        let load = ["load", &path, "--data-root", &root];

        // A daemon that runs is not gone behind.
        let before = files_snapshot(&names_file(&daemon));
        let said = sealift.run(&load).code(5);
        assert!(said.stderr.contains("a daemon works on it"), "{said:?}");
        assert_eq!(files_snapshot(&names_file(&daemon)), before);

        daemon.stop();
        let before = files_snapshot(&names_file(&daemon));
        let plan = sealift.run(&[&load[..], &["--dry-run"]].concat()).ok();
        assert!(plan.stdout.contains("repositories.json"), "{plan:?}");
        assert_eq!(files_snapshot(&names_file(&daemon)), before);
        let said = sealift.run(&load).ok();
        assert_eq!(said.stdout.matches(" yes").count(), 2, "{said:?}");
        nothing_beside(&daemon);
        // Again there is nothing to do.
        let after = files_snapshot(&names_file(&daemon));
        sealift.run(&load).ok();
        assert_eq!(files_snapshot(&names_file(&daemon)), after);

        daemon.start_again();
        let shown = daemon.images();
        assert!(
            shown.contains(&format!("quay.io/a/b:1 {}", app.digest)),
            "{shown:?}"
        );
        assert!(shown.contains(&"other:1 <none>".to_owned()), "{shown:?}");
        runs(&daemon, &format!("quay.io/a/b@{}", app.digest), "1");
        runs(&daemon, &format!("alone@{}", alone.digest), "1");
    }
}

#[test]
fn what_the_store_does_not_have_is_told() {
    let mut daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    images.add("app:1", &Image::sample("app", "1"));
    let run = tempfile::tempdir().unwrap();
    let sealift = Sealift::new()
        .docker(&daemon)
        .env("SEALIFT_RUN_DIR", run.path().join("run"));
    let path = images.path().to_str().unwrap().to_owned();
    sealift.run(&["load", &path]).ok();
    images.add("new:1", &Image::sample("new", "1"));
    daemon.stop();
    let root = daemon.data_root().to_str().unwrap().to_owned();
    let load = ["load", &path, "--data-root", &root];
    let before = files_snapshot(&names_file(&daemon));
    let said = sealift.run(&load).code(7);
    assert!(
        said.stderr.contains("new:1") && said.stderr.contains("start it"),
        "{said:?}"
    );
    assert_eq!(files_snapshot(&names_file(&daemon)), before);
    let said = sealift.run(&[&load[..], &["--keep-going"]].concat()).code(7);
    assert!(
        said.stdout.contains("app") && !said.stdout.contains("new"),
        "{said:?}"
    );

    fs::write(names_file(&daemon), "").unwrap();
    let said = sealift.run(&load).code(3);
    assert!(said.stderr.contains("repositories.json"), "{said:?}");
    assert_eq!(fs::read(names_file(&daemon)).unwrap(), b"");

    let nothing = tempfile::tempdir().unwrap();
    let load = ["load", &path, "--data-root", nothing.path().to_str().unwrap()];
    let said = sealift.run(&load).code(2);
    assert!(said.stderr.contains("no classic store"), "{said:?}");
    // The engine that is meant is another one than this host's own.
    let said = sealift.run(&["load", &path, "--attach", "offline"]).code(5);
    assert!(said.stderr.contains("connect"), "{said:?}");
}
