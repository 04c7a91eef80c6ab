//! One load into Docker and containerd: one verification, an outcome for each.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::containerd::{Contents, NAMESPACE};
use crate::support::containerd::Version;
use crate::support::{Built, Containerd, Daemon, Engine, Image, Sealift, Store, run};

const NAME: &str = "registry.example/app:1";

/// Two engines, a sealift that finds both, and `images.tar` with one image.
struct Setup {
    daemon: Daemon,
    containerd: Containerd,
    sealift: Sealift,
    image: Built,
}

impl Setup {
    fn new(store: Store) -> Self {
        let daemon = Daemon::options(Engine::Docker28, store).own_network(true).start();
        let containerd = Containerd::start(Version::V2_1);
        let sealift = Sealift::new()
            .docker(&daemon)
            .env("CONTAINERD_ADDRESS", containerd.socket())
            .env("CONTAINERD_NAMESPACE", NAMESPACE);
        let image = Image::sample("app", "1").build(&sealift.path("layout"), NAME);
        sealift
            .run(&["save", "-q", "--from", "layout", "--all", "-o", "images.tar"])
            .ok();
        Self {
            daemon,
            containerd,
            sealift,
            image,
        }
    }

    /// Names in containerd.
    fn names(&self) -> Vec<String> {
        let contents = Contents::of(&self.containerd, NAMESPACE);
        contents.images.keys().cloned().collect()
    }
}

#[test]
fn both_engines_get_the_images_with_one_verification() {
    let setup = Setup::new(Store::Containerd);
    let digest = setup.image.digest.as_str();
    let load = ["load", "images.tar", "--to", "docker,containerd"];
    let planned = setup.sealift.run(&[&load[..], &["--dry-run", "--json"]].concat());
    let planned = planned.ok().json();
    let engines = planned["targets"].as_array().unwrap();
    assert_eq!(
        engines.iter().map(|one| &one["engine"]).collect::<Vec<_>>(),
        ["docker", "containerd"]
    );
    for engine in engines {
        assert_eq!(engine["images"][0]["digest"], digest);
        assert!(!engine["send"].as_array().unwrap().is_empty());
    }
    assert_eq!(setup.daemon.images(), [""; 0]);
    assert_eq!(setup.names(), [""; 0]);

    let said = setup.sealift.run(&[&load[..], &["-v"]].concat()).ok();
    assert_eq!(said.stderr.matches("verifying").count(), 1, "{}", said.stderr);
    let tables = said.stdout.matches(digest).count();
    assert_eq!(tables, 2, "{}", said.stdout);
    assert!(setup.daemon.images()[0].contains(digest));
    assert!(setup.names().iter().any(|name| name == NAME));

    // The second load sends nothing to either.
    let again = setup.sealift.run(&[&load[..], &["--json"]].concat()).ok().json();
    for engine in again["targets"].as_array().unwrap() {
        assert_eq!(
            (&engine["sent"], &engine["images"][0]["shown"]),
            (&0.into(), &true.into())
        );
        assert_eq!(engine["images"][0]["change"], "unchanged", "{engine:#}");
    }
    doctor_reports_both(&setup);
}

fn doctor_reports_both(setup: &Setup) {
    let document = setup.sealift.run(&["doctor", "--json"]).ok().json();
    let socket = setup.containerd.socket().display().to_string();
    let engines = document["engines"].as_array().unwrap();
    let docker = engines.iter().find(|one| one["engine"] == "docker").unwrap();
    let containerd = engines.iter().find(|one| one["address"] == socket.as_str());
    let containerd = containerd.unwrap_or_else(|| panic!("{document:#}"));
    assert_eq!(docker["details"]["store"], "containerd");
    assert_eq!(docker["version"], document["docker"]["version"]);
    assert_eq!(containerd["details"]["namespace"], NAMESPACE);
    assert!(
        containerd["version"]
            .as_str()
            .unwrap()
            .starts_with(Version::V2_1.text())
    );
    for engine in [docker, containerd] {
        assert_eq!(
            (&engine["images"], &engine["error"]),
            (&1.into(), &serde_json::Value::Null)
        );
    }
    assert_eq!(document["auto"]["reason"], "DOCKER_HOST names it");
    let text = setup.sealift.run(&["doctor"]).ok().stdout;
    let line = format!("containerd at {socket}: version ");
    assert!(
        text.contains("docker at unix://") && text.contains(&line),
        "{text}"
    );

    // Where nothing answers is no failure if another engine is meant.
    let absent = setup.sealift.path("absent.sock");
    let mut command = setup.sealift.command(&["doctor", "--json"]);
    let document = run(command.env("CONTAINERD_ADDRESS", &absent)).ok().json();
    let engines = document["engines"].as_array().unwrap();
    let absent = absent.to_str().unwrap();
    let containerd = engines.iter().find(|one| one["address"] == absent).unwrap();
    assert_eq!(containerd["error"]["exit"], 5);
    // It is one if it was named.
    let document = setup
        .sealift
        .run(&["doctor", "--json", "--containerd-address", absent])
        .code(5)
        .json();
    assert_eq!(addresses(&document, "containerd"), [absent]);
    let other = ["--containerd-address", &socket, "--namespace", "other"];
    let document = setup
        .sealift
        .run(&[&["doctor", "--json"][..], &other].concat())
        .ok()
        .json();
    assert_eq!(addresses(&document, "containerd"), [socket.as_str()]);
    // As in a load with these options.
    assert_eq!(document["auto"]["engine"], "containerd");
    let engines = document["engines"].as_array().unwrap();
    let containerd = engines.iter().find(|one| one["engine"] == "containerd").unwrap();
    assert_eq!(containerd["details"]["namespace"], "other");
    assert_eq!(containerd["images"], 0);
    let mut command = setup.sealift.command(&["doctor", "--json"]);
    let no_docker = format!("unix://{absent}");
    run(command.args(other).env("DOCKER_HOST", no_docker)).ok();
}

/// The addresses of an engine's kind in a document of `doctor`.
fn addresses<'d>(document: &'d serde_json::Value, engine: &str) -> Vec<&'d str> {
    let engines = document["engines"].as_array().unwrap().iter();
    let engines = engines.filter(|one| one["engine"] == engine);
    engines.map(|one| one["address"].as_str().unwrap()).collect()
}

#[test]
fn nothing_is_sent_if_one_engine_cannot_be_asked() {
    let mut setup = Setup::new(Store::Containerd);
    setup.containerd.stop();
    let load = ["load", "images.tar", "--to", "docker,containerd", "--json"];
    let said = setup.sealift.run(&load).code(5);
    assert!(
        said.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("containerd")
    );
    assert_eq!(setup.daemon.images(), [""; 0]);
}

#[test]
fn an_engine_that_ends_does_not_keep_the_other_from_its_images() {
    let setup = Setup::new(Store::Classic);
    let load = ["load", "images.tar", "--to", "docker,containerd", "--json"];
    let child = setup
        .sealift
        .command(&load)
        .stdout(fs::File::create(setup.sealift.path("out")).unwrap())
        .stderr(fs::File::create(setup.sealift.path("err")).unwrap())
        .spawn();
    let mut child = child.unwrap();
    // Docker has the image seconds before its digest is attached, and containerd comes after that.
    let until = Instant::now() + Duration::from_secs(60);
    while setup.daemon.images().is_empty() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < until, "{ended:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let pid = i32::try_from(setup.containerd.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let code = child.wait().unwrap().code();
    let text = fs::read_to_string(setup.sealift.path("out")).unwrap();
    let said = fs::read_to_string(setup.sealift.path("err")).unwrap();
    assert_eq!(code, Some(5), "{text}{said}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [docker, containerd] = document["targets"].as_array().unwrap().as_slice() else {
        panic!("{document:#}");
    };
    assert_eq!(docker["images"][0]["shown"], true, "{document:#}");
    assert_eq!(
        (&containerd["engine"], &containerd["error"]["exit"]),
        (&"containerd".into(), &5.into())
    );
    assert_eq!(document["error"], containerd["error"]);
    assert!(said.contains("error: containerd at "), "{said}");
    assert!(setup.daemon.images()[0].contains(&setup.image.digest));
}
