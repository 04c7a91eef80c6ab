//! What attaching digests leaves of the engine's configuration, and what keeps it from being done.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use sealift::error::ErrorKind;
use sealift::load::{DigestStatus, LoadOptions};
use serde_json::json;

use crate::attach_offline::{Offline, process_of, running};
use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left, assert_runs};
use crate::support::{Built, Daemon, Engine, Image, Sealift, Store, command, files_snapshot, run};

const CLASSIC: [Engine; 2] = [Engine::Docker20, Engine::Docker28];

fn httpd() -> (Images, Built) {
    let images = Images::new();
    let built = images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
    (images, built)
}

/// Loads, and sees that the digest is shown and all else is as before.
#[track_caller]
fn assert_attaches_without_a_trace(daemon: &Daemon) {
    let (images, built) = httpd();
    let loader = Loader::beside(daemon);
    let before = Untouched::of(daemon);
    loader.load(&images);
    assert_eq!(Untouched::of(daemon), before);
    assert_nothing_is_left(&loader);
    assert_eq!(daemon.images(), [format!("httpd:2.4 {}", built.digest)]);
}

#[test]
fn a_daemon_with_mirrors_and_more_keeps_them() {
    for engine in CLASSIC {
        let config = json!({
            "registry-mirrors": ["http://127.0.0.1:9/", "https://mirror.invalid"],
            "insecure-registries": ["harbor.local:5000"],
            "labels": ["rack=7"],
            "max-concurrent-downloads": 9,
            "live-restore": true,
        });
        let daemon = Daemon::options(engine, Store::Classic).config(config).start();
        let file = daemon.config_file();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        chown(&file, Some(0), Some(65534)).unwrap();
        assert_attaches_without_a_trace(&daemon);
        let log = daemon.log();
        let last = log
            .lines()
            .rfind(|line| line.contains("Reloaded configuration"))
            .unwrap();
        assert!(last.contains(r#"\"max-concurrent-downloads\":9"#), "{last}");
    }
}

#[test]
fn a_daemon_without_a_file_gets_none() {
    let daemon = Daemon::options(Engine::Docker28, Store::Classic).stock().start();
    let folder = daemon.config_file().parent().unwrap().to_path_buf();
    fs::create_dir_all(folder.join("certs.d/harbor.local")).unwrap();
    fs::write(folder.join("certs.d/harbor.local/ca.crt"), "a certificate").unwrap();
    let before = files_snapshot(&folder);
    assert_attaches_without_a_trace(&daemon);
    assert_eq!(files_snapshot(&folder), before);
}

#[test]
fn a_daemon_without_even_a_folder_gets_none() {
    let daemon = Daemon::options(Engine::Docker28, Store::Classic).stock().start();
    let folder = daemon.config_file().parent().unwrap().to_path_buf();
    fs::remove_dir_all(&folder).unwrap();
    assert_attaches_without_a_trace(&daemon);
    assert!(!folder.exists());
}

#[test]
fn a_daemon_that_inherited_its_socket_is_found() {
    for engine in CLASSIC {
        let daemon = Daemon::options(engine, Store::Classic).activated().start();
        assert_attaches_without_a_trace(&daemon);
    }
}

/// Loads where digests cannot be attached: the image is loaded, the reason is reported, nothing else is changed.
#[track_caller]
fn assert_attach_is_refused(daemon: &Daemon, options: &LoadOptions, says: &str) {
    let (images, built) = httpd();
    let loader = Loader::beside(daemon);
    let before = Untouched::of(daemon);
    let plan = loader.plan(&images, options).unwrap();
    let DigestStatus::Unavailable { obstacles } = &plan.images[0].digest_status else {
        panic!("{plan}")
    };
    assert!(obstacles.iter().any(|one| one.reason.contains(says)), "{plan}");
    assert!(obstacles.iter().all(|one| one.hint.is_some()), "{plan}");
    let report = loader.try_load(&images, options).unwrap();
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    assert_eq!(report.images[0].shown, Some(false));
    assert_eq!(report.images[0].obstacles, *obstacles);
    assert_eq!(Untouched::of(daemon), before);
    assert_eq!(daemon.images(), ["httpd:2.4 <none>"]);
    assert_runs(daemon, "httpd:2.4", "2.4");
    assert_eq!(built.host().config, daemon.inspect("httpd:2.4").unwrap()["Id"]);
}

#[test]
fn flags_and_edits_that_a_reload_would_harm_are_told() {
    let attach = LoadOptions::default();
    for engine in CLASSIC {
        let flagged = Daemon::options(engine, Store::Classic).flag("--registry-mirror=http://127.0.0.1:9");
        assert_attach_is_refused(&flagged.start(), &attach, "--registry-mirror");

        // Allowed to restart it, the other way is free: the flag stays what it is.
        let flagged = Daemon::options(engine, Store::Classic).flag("--registry-mirror=http://127.0.0.1:9");
        let mirrors = json!(["http://127.0.0.1:9/"]);
        let daemon = flagged.start();
        let (images, built) = httpd();
        let offline = Offline::beside(&daemon);
        offline
            .sealift
            .run(&["load", images.path().to_str().unwrap(), "--attach", "none"])
            .ok();
        let process = running(&daemon, "httpd:2.4", "web");
        offline.load(&images).ok();
        assert_eq!(daemon.images(), [format!("httpd:2.4 {}", built.digest)]);
        assert_eq!(daemon.info()["RegistryConfig"]["Mirrors"], mirrors, "{engine:?}");
        assert_eq!(process_of(&daemon, "web"), process, "{engine:?}");
        assert_nothing_is_left(&offline.loader);
        daemon.docker(&["rm", "-f", "web"]).ok();
        // Set in both places, it would not start again.
        fs::write(
            daemon.config_file(),
            r#"{"registry-mirrors":["http://127.0.0.1:9"]}"#,
        )
        .unwrap();
        daemon.docker(&["rmi", &format!("httpd@{}", built.digest)]).ok();
        let said = offline.load(&images).code(6);
        assert!(
            said.stderr.contains("dockerd would not start with both"),
            "{said:?}"
        );
        assert_eq!(daemon.images(), ["httpd:2.4 <none>"]);

        let flagged = Daemon::options(engine, Store::Classic).flag("--max-concurrent-downloads=9");
        assert_attach_is_refused(&flagged.start(), &attach, "--max-concurrent-downloads");

        let edited = Daemon::start(engine, Store::Classic);
        fs::write(edited.config_file(), r#"{"debug":true}"#).unwrap();
        assert_attach_is_refused(&edited, &attach, "debug: true in the file, false in dockerd");
        let said = Sealift::new()
            .docker(&edited)
            .run(&["load", httpd().0.path().to_str().unwrap()])
            .code(6);
        assert_eq!(
            said.stderr.matches("daemon.json has changed").count(),
            1,
            "{said:?}"
        );
        assert_eq!(
            said.stderr.matches("systemctl reload docker").count(),
            1,
            "{said:?}"
        );
        fs::write(edited.config_file(), r#"{"debug":"#).unwrap();
        assert_attach_is_refused(&edited, &attach, "daemon.json");
    }
}

#[test]
fn nothing_is_attached_where_that_is_asked_for() {
    for engine in CLASSIC {
        let mut daemon = Daemon::start(engine, Store::Classic);
        let images = Images::new();
        images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
        let alone = images.add_by_digest("alone", &Image::sample("alone", "1"));
        let sealift = Sealift::new().docker(&daemon);
        let path = images.path();
        let load = ["load", path.to_str().unwrap(), "--attach", "none"];
        let before = Untouched::of(&daemon);
        let said = sealift.run(&[&load[..], &["--image", "httpd:2.4"]].concat()).ok();
        let note = "note: digest not attached, as --attach none asks: httpd:2.4";
        assert!(said.stderr.contains(note), "{said:?}");
        let plan = sealift.run(&[&load[..], &["--image", "httpd", "--dry-run"]].concat());
        assert!(plan.ok().stdout.contains("(not attached, as requested)"));
        assert_eq!(Untouched::of(&daemon), before);
        assert_eq!(daemon.images(), ["httpd:2.4 <none>"]);
        assert_runs(&daemon, "httpd:2.4", "2.4");

        // Without its digest nothing names this one.
        let said = sealift.run(&[&load[..], &["--json"]].concat()).code(6).json();
        let told = |at: usize| ["name", "shown", "declined"].map(|key| said["images"][at][key].clone());
        let name = format!("alone@{}", alone.digest);
        let expected = json!([["httpd:2.4", false, true], [name, false, true]]);
        assert_eq!(json!([told(0), told(1)]), expected);
        let obstacle = said["images"][1]["obstacles"][0]["reason"].as_str().unwrap();
        assert!(obstacle.contains("it has no tag"), "{said}");
        assert_eq!(said["images"][0]["obstacles"], json!([]));

        // A digest alone is a change, once.
        daemon.stop();
        let root = daemon.data_root().display().to_string();
        let load = [
            "load",
            load[1],
            "--image",
            "httpd:2.4",
            "--json",
            "--data-root",
            &root,
        ];
        for changed in [true, false] {
            let said = sealift.run(&load).ok().json();
            let told = [&said["images"][0]["change"], &said["sent"], &said["changed"]];
            assert_eq!(json!(told), json!(["unchanged", 0, changed]), "{said:#}");
        }
    }
}

#[test]
fn a_mirror_answers_digests_only_and_on_a_port_of_root() {
    // The daemon logs the configuration that it has for that moment.
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    assert_attaches_without_a_trace(&daemon);
    let log = daemon.log();
    let mirrors: Vec<&str> = log
        .matches(r#"\"registry-mirrors\":[\"http://127.0.0.1:"#)
        .collect();
    assert_eq!(mirrors.len(), 1, "{log}");
    let (_, rest) = log.split_once(r#"[\"http://127.0.0.1:"#).unwrap();
    let port: u16 = rest.split('\\').next().unwrap().parse().unwrap();
    assert!(port < 1024, "{port}");
    assert_eq!(log.matches("Reloaded configuration").count(), 2);
}

#[test]
fn two_loads_of_one_host_wait_for_each_other() {
    let (images, built) = httpd();
    let other = Images::new();
    let redis = other.add("redis:7", &Image::sample("redis", "7"));
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let loader = Loader::beside(&daemon);
    std::thread::scope(|scope| {
        scope.spawn(|| loader.load(&images));
        scope.spawn(|| loader.load(&other));
    });
    let mut expected = [
        format!("httpd:2.4 {}", built.digest),
        format!("redis:7 {}", redis.digest),
    ];
    expected.sort();
    assert_eq!(daemon.images(), expected);
    assert_nothing_is_left(&loader);
    assert_eq!(
        fs::metadata(loader.folder.path().join("run")).unwrap().mode() & 0o777,
        0o700
    );
}

#[test]
fn without_root_the_images_are_loaded_and_sudo_is_told() {
    let (images, _) = httpd();
    let open = fs::Permissions::from_mode(0o755);
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    fs::set_permissions(daemon.folder(), open.clone()).unwrap();
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(images.path(), open.clone()).unwrap();
    // Also where nobody else can read it.
    let program = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(program.path(), open).unwrap();
    let copy = program.path().join("sealift");
    command::install(env!("CARGO_BIN_EXE_sealift"), &copy);
    let mut command = command::clean(copy, std::path::Path::new("/nonexistent"));
    command
        .arg("load")
        .arg(images.path())
        .env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    let said = run(&mut command).code(6);
    assert!(said.stderr.contains("sudo"), "{said:?}");
    assert_runs(&daemon, "httpd:2.4", "2.4");
}
