//! Attaching digests on hosts with an administrator's history: shown, or the exact reason told, and nothing
//! is changed.

use std::fs;
use std::os::unix::fs::symlink;

use sealift::error::ErrorKind;
use sealift::load::{DigestStatus, LoadOptions};
use serde_json::json;

use crate::attach_hosts::{CLASSIC, private};
use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left};
use crate::support::{Built, Daemon, Engine, Image, Sealift, Store, daemon};

/// One image of each kind of name.
pub const HUB: &str = "httpd:2.4";
const OTHER: &str = "quay.io/a/b:1";
const PORT: &str = "registry.example.com:5000/a/b/c:1";
const OWN: &str = "127.0.0.1:5000/x:1";
const ALL: [&str; 4] = [HUB, OTHER, PORT, OWN];

pub fn images() -> (Images, Built) {
    let images = Images::new();
    let app = Image::sample("app", "1");
    let mut built: Vec<Built> = ALL.iter().map(|name| images.add(name, &app)).collect();
    (images, built.pop().unwrap())
}

/// Loads all: these names do not show their digest, for the reasons that the plan told before; the others do.
/// Nothing is changed.
#[track_caller]
pub fn assert_attaches_all_but(daemon: &Daemon, hidden: &[(&str, &str)]) {
    let (images, built) = images();
    let loader = Loader::beside(daemon);
    let before = Untouched::of(daemon);
    let options = LoadOptions::default();
    let plan = loader.plan(&images, &options).unwrap();
    for image in &plan.images {
        let name = image.name.familiar();
        let says = hidden
            .iter()
            .find(|(hidden, _)| *hidden == name)
            .map(|(_, says)| says);
        match (&image.digest_status, says) {
            (DigestStatus::ViaAttach { .. }, None) => {}
            (DigestStatus::Unavailable { obstacles }, Some(says)) => {
                // After it stands what it would take to restart the engine.
                assert!(obstacles[0].reason.contains(says), "{name}: {plan}");
                assert!(obstacles.iter().all(|one| one.hint.is_some()), "{name}: {plan}");
            }
            _ => panic!("{name}: {plan}"),
        }
    }
    let report = loader.try_load(&images, &options).unwrap();
    for image in &report.images {
        let is_hidden = hidden.iter().any(|(hidden, _)| *hidden == image.name.familiar());
        assert_eq!(image.shown, Some(!is_hidden), "{image:#?}");
    }
    assert_eq!(
        report.failure(),
        (!hidden.is_empty()).then_some(ErrorKind::NotShown)
    );
    assert_eq!(Untouched::of(daemon), before);
    assert_nothing_is_left(&loader);
    for name in ALL {
        let image = daemon.inspect(name).unwrap();
        let repository = name.rsplit_once(':').unwrap().0;
        let digests = image["RepoDigests"].as_array().unwrap();
        let is_hidden = hidden.iter().any(|(hidden, _)| *hidden == name);
        let shown = digests.contains(&format!("{repository}@{}", built.digest).into());
        assert_eq!(shown, !is_hidden, "{name}: {image}");
    }
}

/// A load into each classic engine, started with something in its history, while `meanwhile` lasts.
fn on_each<T>(
    options: impl Fn(daemon::Options) -> daemon::Options + Sync,
    meanwhile: impl Fn(&Daemon) -> T + Sync,
    hidden: &[(&str, &str)],
) {
    // At once: most of the time they wait.
    std::thread::scope(|scope| {
        for engine in CLASSIC {
            scope.spawn(|| {
                let daemon = options(private(*engine)).start();
                let _kept = meanwhile(&daemon);
                assert_attaches_all_but(&daemon, hidden);
            });
        }
    });
}

#[test]
fn a_socket_of_systemds() {
    on_each(daemon::Options::activated, |_| (), &[]);
}

#[test]
fn a_containerd_of_the_system() {
    let daemon = private(Engine::Docker20).system_containerd().start();
    assert_attaches_all_but(&daemon, &[]);
}

#[test]
fn listeners_on_every_address() {
    on_each(
        |options| options,
        |daemon| [daemon.listen("0.0.0.0:443"), daemon.listen("[::]:80")],
        &[(OTHER, "port 80 of every address")],
    );
    let https = "port 443 of every address: the engine would speak HTTPS with it";
    on_each(
        |options| options,
        |daemon| daemon.listen("[::]:443"),
        &[(OTHER, https)],
    );
}

#[test]
fn a_dry_run_and_doctor_say_it_beforehand() {
    let (images, built) = images();
    let daemon = private(Engine::Docker28).start();
    let _web = daemon.listen("0.0.0.0:443");
    let loader = Loader::beside(&daemon);
    let before = Untouched::of(&daemon);
    let sealift = Sealift::new()
        .docker(&daemon)
        .env("SEALIFT_RUN_DIR", loader.folder.path().join("run"));
    let path = images.path();
    let said = sealift
        .run(&["load", "--dry-run", path.to_str().unwrap()])
        .code(6)
        .stdout;
    for part in [
        "port 443 of every address: the engine would speak HTTPS with it",
        "attach by mirror (the engine keeps running)\n  1. serve the manifests",
        "attach by hosts (the engine keeps running)\n  1. serve the manifests",
        "on port 5000 of 127.0.0.1, port 5000 of a loopback address\n",
        "with lines that lead there for registry.example.com",
        &format!(
            "let it pull registry.example.com:5000/a/b/c@{}, 127.0.0.1:5000/x@",
            built.digest
        ),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = sealift.run(&["doctor"]).ok().stdout;
    for part in [
        "store: classic (overlay2)\n",
        &format!("process: {}\n", daemon.pid()),
        "digests of docker.io: can be attached (mirror)\n",
        "digests of other registries: cannot be attached\n    something listens on port 443 of every address",
        "digests of registries with a port: can be attached (hosts)\n",
        "digests of registries of this host: can be attached (hosts)\n",
        "leftovers: none\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let document = sealift.run(&["doctor", "--json"]).ok().json();
    assert_eq!(document["digests"][0]["strategy"], "mirror");
    assert_eq!(document["digests"][1]["way"], "hidden");
    assert_eq!(Untouched::of(&daemon), before);
    assert!(daemon.images().is_empty());
}

#[test]
fn listeners_on_some_addresses() {
    on_each(
        |options| options,
        |daemon| ["127.0.0.2:80", "127.0.0.3:443", "127.0.0.4:5000"].map(|address| daemon.listen(address)),
        &[],
    );
    on_each(
        |options| options,
        |daemon| daemon.listen("127.0.0.1:5000"),
        &[(OWN, "port 5000 of 127.0.0.1 already")],
    );
}

#[test]
fn a_dead_mirror_and_edits_of_names() {
    let config = json!({
        "registry-mirrors": ["http://127.0.0.1:9/"],
        "insecure-registries": ["registry.example.com:5000", "10.0.0.0/8"],
    });
    on_each(|options| options.config(config.clone()), |_| (), &[]);
}

#[test]
fn a_mirror_given_as_a_flag() {
    on_each(
        |options| options.flag("--registry-mirror=http://127.0.0.1:9"),
        |_| (),
        &[(HUB, "--registry-mirror")],
    );
}

#[test]
fn an_edit_that_nobody_reloaded() {
    on_each(
        |options| options,
        |daemon| fs::write(daemon.config_file(), r#"{"debug":true}"#).unwrap(),
        &[(HUB, "debug: true in the file, false in dockerd")],
    );
}

#[test]
fn proxies() {
    // Its own loopback is asked without one, mirrors on it as well.
    on_each(
        |options| options.env("HTTP_PROXY", "http://user:secret@proxy.invalid:3128"),
        |_| (),
        &[
            (OTHER, "the proxy proxy.invalid for quay.io"),
            (PORT, "the proxy proxy.invalid"),
        ],
    );
    on_each(
        |options| {
            options
                .env("HTTPS_PROXY", "http://proxy.invalid:3128")
                .env("NO_PROXY", "quay.io,10.0.0.0/8")
        },
        |_| (),
        &[(PORT, "the proxy proxy.invalid for registry.example.com")],
    );
    // From 23 on they may be in daemon.json.
    let config = json!({ "proxies": { "http-proxy": "http://proxy.invalid:3128" } });
    let daemon = private(Engine::Docker28).config(config).start();
    assert_attaches_all_but(
        &daemon,
        &[
            (OTHER, "the proxy proxy.invalid"),
            (PORT, "the proxy proxy.invalid"),
        ],
    );
}

#[test]
fn a_configuration_that_is_a_link() {
    on_each(
        |options| options,
        |daemon| {
            let file = daemon.config_file();
            let real = daemon.data("managed.json");
            fs::rename(&file, &real).unwrap();
            symlink("managed.json", &file).unwrap();
        },
        &[],
    );
}

#[test]
fn a_configuration_that_is_none() {
    let daemon = Daemon::options(Engine::Docker28, Store::Classic)
        .own_mounts()
        .own_network(true)
        .stock()
        .start();
    assert_attaches_all_but(&daemon, &[]);
    assert!(!daemon.config_file().exists());
}

#[test]
fn names_that_are_looked_up_elsewhere_first() {
    let daemon = private(Engine::Docker28).start();
    let switch = daemon.root().join("etc/nsswitch.conf");
    fs::write(switch, "passwd: files\nhosts: dns files\n").unwrap();
    let says = "looked up by dns before /etc/hosts";
    assert_attaches_all_but(&daemon, &[(OTHER, says), (PORT, says)]);
}

#[test]
fn an_engine_in_a_container_is_told() {
    let daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .contained()
        .start();
    let says = "in a container";
    assert_attaches_all_but(&daemon, &ALL.map(|name| (name, says)));
}

#[test]
fn an_engine_behind_a_forwarded_socket_is_told() {
    // As ssh does it: what answers here is no dockerd.
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("forwarded.sock");
    let _forwarder = forward(&socket, &daemon.socket());
    let loader = Loader::at(sealift::docker::endpoint::Environment {
        host: Some(format!("unix://{}", socket.display())),
        ..Default::default()
    });
    let (images, _) = images();
    let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
    for image in &plan.images {
        let DigestStatus::Unavailable { obstacles } = &image.digest_status else {
            panic!("{plan}")
        };
        assert!(
            obstacles[0]
                .reason
                .contains("is not a dockerd that can be seen here"),
            "{plan}"
        );
        assert!(obstacles[0].hint.is_some());
    }
    assert_eq!(plan.failure(), Some(ErrorKind::NotShown));
}

/// Carries connections over from one socket to another for as long as the test lasts.
pub fn forward(from: &std::path::Path, to: &std::path::Path) -> std::thread::JoinHandle<()> {
    use std::os::unix::net::{UnixListener, UnixStream};
    let listener = UnixListener::bind(from).unwrap();
    let to = to.to_path_buf();
    std::thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let Ok(there) = UnixStream::connect(&to) else {
                return;
            };
            let ends = [(&here, &there), (&there, &here)];
            for (mut one, mut other) in
                ends.map(|(one, other)| (one.try_clone().unwrap(), other.try_clone().unwrap()))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut one, &mut other);
                    let _ = other.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    })
}
