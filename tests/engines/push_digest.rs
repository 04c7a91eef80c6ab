//! Pushing from the classic store after a load: when the digest stays, and when it does not.

use crate::attach_offline::CLASSIC;
use crate::loading::{Images, Loader, assert_nothing_is_left};
use crate::support::{Daemon, Dialect, Engine, Image, Platform, Registry, Run, Sealift, Store};

/// An image in a registry as docker's own push leaves it, over layers that no Docker would compress so.
fn pushed_by_docker(registry: &Registry, engine: Engine) -> String {
    let images = Images::new();
    let image = Image::sample("app", "1").dialect(Dialect::Docker).without_index();
    let built = images.add("seed:1", &image);
    registry.push(&built, "seed:1");
    let daemon = Daemon::start(engine, Store::Classic);
    let (seed, app) = (
        format!("{}/seed:1", registry.address()),
        format!("{}/app:1", registry.address()),
    );
    daemon.docker(&["pull", "--quiet", &seed]).ok();
    daemon.docker(&["tag", &seed, &app]).ok();
    daemon.docker(&["push", "--quiet", &app]).ok();
    registry.digest_of("app:1")
}

struct PreparedDaemon {
    registry: Registry,
    daemon: Daemon,
    sealift: Sealift,
    loader: Loader,
}

impl PreparedDaemon {
    fn new(engine: Engine) -> (Self, String) {
        let registry = Registry::start();
        let digest = pushed_by_docker(&registry, engine);
        let daemon = Daemon::start(engine, Store::Classic);
        let loader = Loader::beside(&daemon);
        let run = loader.folder.path().join("run");
        let sealift = Sealift::new().docker(&daemon).env("SEALIFT_RUN_DIR", run);
        let app = format!("{}/app:1", registry.address());
        sealift.run(&["save", &app, "-o", "images.tar"]).ok();
        (
            Self {
                registry,
                daemon,
                sealift,
                loader,
            },
            digest,
        )
    }

    fn load(&self, arguments: &[&str]) -> Run {
        let load = ["load", "images.tar", "--attach", "none"];
        self.sealift.run(&[&load[..], arguments].concat())
    }

    /// Pushes and gives the digest that the registry then has.
    fn push(&self, to: &str) -> String {
        let name = format!("{}/{to}", self.registry.address());
        self.daemon.docker(&["push", "--quiet", &name]).ok();
        self.registry.digest_of(to)
    }
}

#[test]
fn it_stays_where_the_registry_has_the_layers() {
    for engine in CLASSIC {
        let (prepared, digest) = PreparedDaemon::new(*engine);
        let address = prepared.registry.address().to_owned();
        // Without being told, the engine compresses anew.
        prepared.load(&[]).ok();
        assert_ne!(prepared.push("app:1"), digest, "{engine:?}");
        prepared
            .daemon
            .docker(&["rmi", "-f", &format!("{address}/app:1")])
            .ok();
        let metadata = prepared.daemon.data_root().join("image/overlay2/distribution");
        std::fs::remove_dir_all(metadata.join("v2metadata-by-diffid/sha256")).unwrap();
        std::fs::remove_dir_all(metadata.join("diffid-by-digest/sha256")).unwrap();

        // As a load that was killed leaves it; no process has this number.
        let left = metadata
            .join("diffid-by-digest/sha256")
            .join(format!(".tmp-{}-4194304", "0".repeat(64)));
        std::fs::create_dir_all(left.parent().unwrap()).unwrap();
        std::fs::write(&left, "sha").unwrap();
        let pid = prepared.daemon.pid();
        let said = prepared.load(&["--keep-push-digest"]).ok();
        assert!(!said.stderr.contains("a push changes"), "{said:?}");
        assert_eq!(prepared.daemon.pid(), pid);
        assert!(!left.exists());
        assert_eq!(prepared.push("app:1"), digest, "{engine:?}");

        // Another repository of that registry mounts them.
        let rename = format!("{address}/app={address}/team/web");
        prepared.load(&["--keep-push-digest", "--rename", &rename]).ok();
        assert_eq!(prepared.push("team/web:1"), digest, "{engine:?}");

        // It is as a pull leaves it: another repository without a rename, too.
        let other = format!("{address}/third:1");
        prepared
            .daemon
            .docker(&["tag", &format!("{address}/app:1"), &other])
            .ok();
        assert_eq!(prepared.push("third:1"), digest, "{engine:?}");
        assert_nothing_is_left(&prepared.loader);
    }
}

#[test]
fn it_does_not_where_the_registry_has_nothing() {
    for engine in CLASSIC {
        let (prepared, digest) = PreparedDaemon::new(*engine);
        let empty = Registry::start();
        let rename = format!("{}/app={}/app", prepared.registry.address(), empty.address());
        prepared.load(&["--keep-push-digest", "--rename", &rename]).ok();
        prepared
            .daemon
            .docker(&["push", "--quiet", &format!("{}/app:1", empty.address())])
            .ok();
        assert_ne!(empty.digest_of("app:1"), digest, "{engine:?}");
    }
}

/// The containerd store pushes the one image that it has of an index: the digest is another, and that is told. From an
/// archive with all platforms the hint's command keeps it.
#[test]
fn one_image_of_an_index_is_not_pushed_as_the_index() {
    let (images, registry) = (Images::new(), Registry::start());
    let name = format!("{}/app:1", registry.address());
    let index = images.add(&name, &Image::sample("app", "1"));
    let single = format!("{}/single:1", registry.address());
    let alone = images.add(&single, &Image::sample("single", "1").without_index());
    let daemon = Daemon::start(Engine::Docker28, Store::Containerd);
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    for platforms in ["all", &Platform::host().to_string()] {
        let save = [
            "save",
            "-q",
            "--from",
            &path,
            "--all",
            "--platform",
            platforms,
            "-o",
            "app.tar",
        ];
        sealift.run(&save).ok();
        let said = sealift.run(&["load", "app.tar", "--keep-push-digest"]).code(6);
        let warning = format!("warning: a push changes the digest: {name}: one image is loaded of an index");
        assert!(said.stderr.contains(&warning), "{said:?}");
        assert!(!said.stderr.contains(&single), "{said:?}");
        let push = "push it from the archive with `sealift load FILE --to registry://HOST`";
        assert!(said.stderr.contains(push), "{said:?}");
        let again = said
            .stderr
            .contains("`sealift save --from registry --platform all IMAGE -o FILE`");
        assert_eq!(again, platforms != "all", "{said:?}");
    }
    for (name, digest) in [("app:1", &index.digest), ("single:1", &alone.digest)] {
        daemon
            .docker(&["push", "--quiet", &format!("{}/{name}", registry.address())])
            .ok();
        assert_eq!(registry.digest_of(name) == *digest, name == "single:1", "{name}");
    }
    let save = [
        "save",
        "-q",
        "--from",
        &path,
        &name,
        "--platform",
        "all",
        "-o",
        "all.tar",
    ];
    sealift.run(&save).ok();
    let place = format!("registry://{}", registry.address());
    sealift.run(&["load", "all.tar", "--to", &place]).ok();
    assert_eq!(registry.digest_of("app:1"), index.digest);
}

#[test]
fn manifests_that_a_push_does_not_write_are_told() {
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    images.add("quay.io/a/index:1", &Image::sample("index", "1"));
    images.add("quay.io/a/oci:1", &Image::sample("oci", "1").without_index());
    let run = tempfile::tempdir().unwrap();
    let sealift = Sealift::new()
        .docker(&daemon)
        .env("SEALIFT_RUN_DIR", run.path().join("run"));
    let path = images.path();
    let load = ["load", path.to_str().unwrap(), "--keep-push-digest", "--json"];
    let report = sealift.run(&load).code(6).json();
    let said = |at: usize| {
        report["images"][at]["push"][0]["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut all = [said(0), said(1)];
    all.sort();
    assert!(all[0].contains("never the index"), "{all:?}");
    assert!(all[1].contains("Docker's own form"), "{all:?}");
}
