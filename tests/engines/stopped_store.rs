//! Names and digests into the store of a stopped Docker.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::attach_offline::{CLASSIC, assert_no_files_beside, names_file};
use crate::loading::{Images, assert_runs};
use crate::support::command::bounded;
use crate::support::folder::base;
use crate::support::{Daemon, Engine, Image, Sealift, Store, files_snapshot, run};

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
        // An image that is known by digest alone gets no name then.
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
        assert_no_files_beside(&daemon);
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
        assert_runs(&daemon, &format!("quay.io/a/b@{}", app.digest), "1");
        assert_runs(&daemon, &format!("alone@{}", alone.digest), "1");
    }
}

#[test]
fn a_recorded_digest_is_written_on_request_only() {
    let mut daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    let app = images.add("app:1", &Image::sample("app", "1").without_index());
    let (recorded, other) = (
        format!("sha256:{}", "5".repeat(64)),
        format!("sha256:{}", "6".repeat(64)),
    );
    app.annotate("dev.sealift.recorded", &recorded);
    let run = tempfile::tempdir().unwrap();
    let sealift = Sealift::new()
        .docker(&daemon)
        .env("SEALIFT_RUN_DIR", run.path().join("run"));
    let path = images.path().to_str().unwrap().to_owned();
    sealift.run(&["load", &path]).code(6);
    assert_eq!(daemon.images(), ["app:1 <none>"]);
    daemon.docker(&["tag", "app:1", "kept:1"]).ok();
    daemon.docker(&["rmi", "app:1"]).ok();
    daemon.stop();
    let root = daemon.data_root().to_str().unwrap().to_owned();
    let load = ["load", &path, "--data-root", &root];
    let names = || fs::read_to_string(names_file(&daemon)).unwrap();

    let said = sealift.run(&load).code(6);
    assert!(said.stderr.contains("--trust-recorded"), "{said:?}");
    assert!(!names().contains(&recorded));
    assert!(names().contains("\"app:1\""), "{}", names());
    let trusting = [&load[..], &["--trust-recorded"]].concat();
    let said = sealift.run(&trusting).code(6);
    assert!(said.stderr.contains("not proven: app:1: "), "{said:?}");
    assert!(names().contains(&format!("app@{recorded}")));

    // The digest of another image stays that image's.
    let taken = names().replace(&format!("app@{recorded}"), &format!("app@{other}"));
    let (head, id) = taken.split_once(&format!("app@{other}\":\"")).unwrap();
    let taken = format!("{head}app@{other}\":\"sha256:{}{}", "7".repeat(64), &id[71..]);
    fs::write(names_file(&daemon), &taken).unwrap();
    app.annotate("dev.sealift.recorded", &other);
    let said = sealift.run(&trusting).code(6);
    assert!(said.stderr.contains("for another image, sha256:777"), "{said:?}");
    assert_eq!(names(), taken);
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
    let rename = ["--dry-run", "--image", "app:1", "--rename", "app:1=web:2"];
    let plan = sealift.run(&[&load[..], &rename].concat()).ok();
    assert!(
        plan.stdout
            .contains("attach by offline (the engine does not run)\n"),
        "{plan:?}"
    );
    let save = ["save", "-q", "app:1", "--data-root", &root, "-o"];
    let save = |to: &str| sealift.run(&[&save[..], &[to]].concat()).ok();
    assert_eq!(save("stopped.tar").stderr, "");
    daemon.start_again();
    let said = save("running.tar");
    assert!(
        said.stderr
            .contains("a daemon works on it, and may change it meanwhile"),
        "{said:?}"
    );
    daemon.stop();
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

/// A data root as somebody else's disk may have it: a copy of a real one, in which a script plants what leads to the
/// real one, `$V`, or is waited for.
fn planted(victim: &Path, script: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir_in(base()).unwrap();
    let copy = home.path().join("docker");
    run(Command::new("cp").arg("-a").arg(victim).arg(&copy)).ok();
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", script])
        .env("V", victim)
        .env("I", "image/overlay2")
        .current_dir(copy);
    run(&mut shell).ok();
    home
}

#[test]
fn a_planted_data_root_leads_nowhere_else() {
    for engine in CLASSIC {
        let mut daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let run_folder = tempfile::tempdir().unwrap();
        let sealift = Sealift::new()
            .docker(&daemon)
            .env("SEALIFT_RUN_DIR", run_folder.path().join("run"));
        let path = images.path().to_str().unwrap().to_owned();
        sealift.run(&["load", &path, "--attach", "none"]).ok();
        daemon.stop();
        let victim = daemon.data_root();
        fs::create_dir(victim.join("secret")).unwrap();
        let unchanged = || {
            let names = files_snapshot(&names_file(&daemon));
            let beside = fs::read_dir(victim.join("image/overlay2")).unwrap().count();
            (
                names,
                beside,
                fs::read_dir(victim.join("secret")).unwrap().count(),
            )
        };
        let before = unchanged();
        for (script, code, says) in [
            (
                "rm -r image; ln -s $V/image image",
                3,
                "image: it is a symbolic link",
            ),
            (
                "rm -r $I; ln -s $V/$I $I",
                3,
                "image/overlay2: it is a symbolic link",
            ),
            (
                "rm -r $I/imagedb; ln -s $V/$I/imagedb $I/imagedb",
                3,
                "imagedb: it is a symbolic link",
            ),
            (
                "rm -r $I/layerdb; ln -s $V/$I/layerdb $I/layerdb",
                3,
                "layerdb: it is a symbolic link",
            ),
            (
                "rm $I/repo*; ln -s $V/$I/repositories.json $I",
                3,
                "repositories.json: it is a symbolic link",
            ),
            (
                "rm $I/repo*; mkfifo $I/repositories.json",
                3,
                "repositories.json: it is a FIFO",
            ),
            (
                "rm -r volumes; ln -s $V/volumes volumes",
                3,
                "volumes: it is a symbolic link",
            ),
            (
                "rm volumes/m*; ln -s $V/volumes/metadata.db volumes",
                3,
                "it is a symbolic link",
            ),
            ("rm volumes/m*; mkfifo volumes/metadata.db", 3, "it is a FIFO"),
            (
                "rm -rf $I/dist*; ln -s $V/secret $I/distribution",
                6,
                "distribution: it is a symbolic link",
            ),
            // A file at a new name's path is removed, not followed.
            (
                "ln -s $V/$I/repositories.json $I/repositories.json.sealift-new",
                6,
                "",
            ),
            (
                "ln -s $V/$I/repositories.json $I/repositories.json.sealift-old",
                6,
                "",
            ),
        ] {
            let home = planted(&victim, script);
            let root = home.path().join("docker").to_str().unwrap().to_owned();
            let load = ["load", &path, "--data-root", &root, "--keep-push-digest"];
            let said = bounded(&mut sealift.command(&load)).code(code);
            assert!(
                format!("{}{}", said.stdout, said.stderr).contains(says),
                "{script}: {said:?}"
            );
            assert_eq!(unchanged(), before, "{script}");
        }
        for (script, says) in [
            (
                "rm -r image; ln -s $V/image image",
                "image: it is a symbolic link",
            ),
            (
                "rm -r overlay2; ln -s $V/overlay2 overlay2",
                "overlay2: it is a symbolic link",
            ),
            (
                "for f in $I/layerdb/sha256/*/tar-split.json.gz; do rm $f; mkfifo $f; done",
                "tar-split.json.gz: it is a FIFO",
            ),
            (
                "for f in $I/imagedb/content/sha256/*; do rm $f; mkfifo $f; done",
                "it is a FIFO",
            ),
        ] {
            let home = planted(&victim, script);
            let root = home.path().join("docker").to_str().unwrap().to_owned();
            let save = [
                "save",
                "--data-root",
                &root,
                "--offline",
                "quay.io/a/b:1",
                "-o",
                "x.tar",
            ];
            let said = bounded(&mut sealift.command(&save)).code(3);
            assert!(said.stderr.contains(says), "{script}: {said:?}");
            assert!(!sealift.path("x.tar").exists());
        }
        // The way to it.
        let home = planted(&victim, ":");
        let link = home.path().join("link");
        std::os::unix::fs::symlink("docker", &link).unwrap();
        let root = link.to_str().unwrap();
        sealift
            .run(&["load", &path, "--data-root", root, "--dry-run"])
            .ok();
        std::os::unix::fs::lchown(&link, Some(65_534), Some(65_534)).unwrap();
        let said = sealift.run(&["load", &path, "--data-root", root]).code(3);
        assert!(said.stderr.contains("link of another user"), "{said:?}");
    }
}

#[test]
fn the_folder_below_is_named_where_user_ids_are_remapped() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("100000.100000/image/overlay2/imagedb");
    fs::create_dir_all(store).unwrap();
    let sealift = Sealift::new();
    let root = home.path().to_str().unwrap();
    let said = sealift
        .run(&["save", "--data-root", root, "--all", "-o", "x.tar"])
        .code(2);
    let hint = format!("--data-root {root}/100000.100000");
    assert!(said.stderr.contains(&hint), "{said:?}");
}
