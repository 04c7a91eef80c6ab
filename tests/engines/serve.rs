//! `sealift serve` and the clients that pull from it: by name, and as the mirror of other registries. Each gets its
//! configuration from `--print-config`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::containerd::{Containerd, Version as ContainerdVersion};
use crate::support::image::sha256;
use crate::support::podman::{Podman, User, Version as PodmanVersion};
use crate::support::registry::make_certificates;
use crate::support::{Built, Daemon, Engine, Folder, Image, Sealift, Serving, Store, engine, examples, run};

/// An image of Docker Hub and one of another registry, in an archive that is served.
struct Setup {
    sealift: Sealift,
    hub: Built,
    quay: Built,
    serving: Serving,
}

impl Setup {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(args: &[&str]) -> Self {
        let sealift = Sealift::new();
        let hub = Image::sample("httpd", "1").build(&sealift.path("layout"), "docker.io/library/httpd:2.4");
        // Not both have attestations: crane takes them for images that are damaged.
        let mut quay = Image::sample("app", "1");
        quay.attestations = false;
        let quay = quay.build(&sealift.path("layout"), "quay.io/org/app:1");
        let save = ["save", "-q", "--from", "layout", "httpd:2.4", "quay.io/org/app:1"];
        let all = ["--platform", "all", "--split", "300kB", "-o", "images.tar"];
        sealift.run(&[&save[..], &all].concat()).ok();
        fs::create_dir_all(sealift.path("tls/certs.d")).unwrap();
        make_certificates(&sealift.path("tls"));
        let users = run(Command::new("htpasswd").args(["-Bbn", "-C", "4", "anna", "secret"])).ok();
        fs::write(sealift.path("users"), users.stdout).unwrap();
        let serving = Serving::start(&sealift, &[&["images.tar.001"], args].concat());
        Self {
            sealift,
            hub,
            quay,
            serving,
        }
    }

    fn address(&self) -> &str {
        &self.serving.address
    }

    /// What `--print-config` says for this address.
    fn config(&self, client: &str) -> String {
        let args = [
            "serve",
            "images.tar.001",
            "--listen",
            self.address(),
            "--print-config",
            client,
        ];
        self.sealift.run(&args).ok().stdout
    }

    /// Both images with the name that a mirror is asked for, and their names here.
    fn images(&self) -> [(&'static str, String, &Built); 2] {
        let here = |name: &str| format!("{}/{name}", self.address());
        [
            (
                "docker.io/library/httpd:2.4",
                here("library/httpd:2.4"),
                &self.hub,
            ),
            ("quay.io/org/app:1", here("quay.io/org/app:1"), &self.quay),
        ]
    }

    /// Fails unless the server was asked for this.
    #[track_caller]
    fn assert_asked(&self, path: &str) {
        self.serving.until(path, || self.serving.log().contains(path));
        let log = self.serving.log();
        assert!(!log.contains(" 500 "), "{log}");
    }
}

fn docker_pulls(engine: Engine, store: Store) {
    let setup = Setup::new();
    let config = serde_json::from_str(&setup.config("docker")).unwrap();
    let daemon = Daemon::options(engine, store).config(config).start();
    let [(_, hub, _), (_, quay, _)] = setup.images();
    for (name, built) in [
        ("httpd:2.4", &setup.hub),
        (&hub, &setup.hub),
        (&quay, &setup.quay),
    ] {
        daemon.docker(&["pull", "--quiet", name]).ok();
        let (repository, _) = name.rsplit_once(':').unwrap();
        let pinned = format!("{repository}@{}", built.digest);
        let inspected = daemon.inspect(&pinned).unwrap();
        let digests = inspected["RepoDigests"].as_array().unwrap();
        assert!(digests.contains(&serde_json::json!(pinned)), "{inspected}");
        if store == Store::Classic {
            assert_eq!(inspected["Id"], built.host().config.as_str());
        }
        daemon.docker(&["rmi", name]).ok();
        daemon.docker(&["pull", "--quiet", &pinned]).ok();
        daemon
            .docker(&[
                "run",
                "--rm",
                "--network=none",
                &pinned,
                "/bin/busybox",
                "cat",
                "/app/version",
            ])
            .ok();
    }
    setup.assert_asked("GET /v2/library/httpd/manifests/");
    setup.assert_asked("GET /v2/quay.io/org/app/manifests/");
}

on_every_engine!(docker_pulls);

#[test]
fn docker_logs_in() {
    let setup = Setup::with(&["--htpasswd", "users"]);
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let [(_, hub, built), _] = setup.images();
    let refused = daemon.docker(&["pull", "--quiet", &hub]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("no basic auth credentials"),
        "{refused:?}"
    );
    let login = |password: &str| daemon.docker(&["login", "-u", "anna", "-p", password, setup.address()]);
    assert_ne!(login("wrong").code, Some(0));
    login("secret").ok();
    daemon.docker(&["pull", "--quiet", &hub]).ok();
    let (repository, _) = hub.rsplit_once(':').unwrap();
    assert!(
        daemon
            .inspect(&format!("{repository}@{}", built.digest))
            .is_some()
    );
    assert!(!setup.serving.log().contains("secret"));
}

fn containerd_pulls(version: ContainerdVersion) {
    let setup = Setup::new();
    let containerd = Containerd::start(version);
    let mut file = None;
    for line in setup.config("containerd").lines() {
        if let Some(path) = line.strip_prefix("# /etc/containerd/") {
            let path = containerd.data(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            file = Some(path);
        }
        let file = file.as_ref().expect("a file's name comes first");
        let text = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, format!("{text}{line}\n")).unwrap();
    }
    let hosts = containerd.data_inside("certs.d").display().to_string();
    for (name, _, built) in setup.images() {
        containerd
            .ctr("default", &["images", "pull", "--hosts-dir", &hosts, name])
            .ok();
        let list = containerd.ctr("default", &["images", "ls"]).ok().stdout;
        let line = list.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.contains(&built.digest)), "{list}");
        for layer in &built.host().layers {
            let content = ["content", "get", &layer.digest];
            let mut command = containerd.ctr_command("default", &content);
            let output = command.output().unwrap();
            assert_eq!(sha256(&output.stdout), layer.digest);
        }
    }
    setup.assert_asked("/v2/library/httpd/manifests/2.4?ns=docker.io 200");
    setup.assert_asked("/v2/org/app/manifests/1?ns=quay.io 200");
}

on_every_containerd!(containerd_pulls);

fn podman_pulls(version: PodmanVersion, user: User) {
    let setup = Setup::new();
    let podman = Podman::new(version, user);
    fs::write(podman.outside("served.conf"), setup.config("podman")).unwrap();
    for (name, here, built) in setup.images() {
        let mut command = podman.command("podman");
        command.env("CONTAINERS_REGISTRIES_CONF", podman.inside("served.conf"));
        run(command.args(podman.storage()).args(["pull", "--quiet", name])).ok();
        podman
            .podman(&["pull", "--quiet", "--tls-verify=false", &here])
            .ok();
        for name in [name, &here] {
            let inspected = podman.podman(&["image", "inspect", name]).ok().json();
            assert_eq!(inspected[0]["Id"], built.host().config.replace("sha256:", ""));
            let digests = inspected[0]["RepoDigests"].to_string();
            assert!(digests.contains(&built.digest), "{digests}");
        }
    }
    setup.assert_asked("GET /v2/docker.io/library/httpd/manifests/2.4 200");
    setup.assert_asked("GET /v2/quay.io/org/app/manifests/1 200");
}

#[test]
fn podman_4_pulls() {
    podman_pulls(PodmanVersion::Four, User::Root);
}

#[test]
fn podman_4_rootless_pulls() {
    podman_pulls(PodmanVersion::Four, User::Rootless);
}

#[test]
fn podman_5_pulls() {
    podman_pulls(PodmanVersion::Five, User::Root);
}

/// Every blob of an image in a folder, where a file is called by the hex digits of its digest, or by nothing.
#[track_caller]
pub fn assert_has_all(folder: &Path, built: &Built) {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(sha256(&fs::read(path).unwrap()))),
            }
        }
    }
    let lacks: Vec<_> = built
        .blobs()
        .into_iter()
        .filter(|digest| !found.contains(digest))
        .collect();
    assert_eq!(lacks, [""; 0]);
}

#[test]
fn skopeo_copies_everything() {
    let args = [
        "--tls-cert",
        "tls/server.crt",
        "--tls-key",
        "tls/server.key",
        "--htpasswd",
        "users",
    ];
    let setup = Setup::with(&args);
    let folder = Folder::new();
    let root = engine::Root::new(Engine::Docker28, folder.path());
    let certs = root.outside("certs");
    fs::create_dir(&certs).unwrap();
    fs::copy(setup.sealift.path("tls/certs.d/ca.crt"), certs.join("ca.crt")).unwrap();
    let newer = root.command("skopeo");
    let older = crate::support::command::clean("/usr/bin/skopeo", setup.sealift.home());
    for (mut skopeo, certs, folder, outside) in [
        (
            newer,
            root.inside("certs"),
            root.inside("copy"),
            root.outside("copy"),
        ),
        (
            older,
            certs.clone(),
            setup.sealift.path("copy"),
            setup.sealift.path("copy"),
        ),
    ] {
        let [_, (_, name, built)] = setup.images();
        skopeo.args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
        skopeo
            .args(["--src-creds", "anna:secret", "--src-cert-dir"])
            .arg(certs);
        skopeo
            .arg(format!("docker://{name}"))
            .arg(format!("dir:{}", folder.display()));
        run(&mut skopeo).ok();
        assert_has_all(&outside, built);
    }
}

#[test]
fn crane_validates_and_pulls() {
    let setup = Setup::new();
    let folder = Folder::new();
    let root = engine::Root::new(Engine::Docker28, folder.path());
    let crane = |args: &[&str]| run(root.command("crane").args(args));
    for (_, name, built) in setup.images() {
        if built.attestations.is_empty() {
            crane(&["validate", "--remote", &name]).ok();
        }
        assert_eq!(crane(&["digest", &name]).ok().stdout.trim(), built.digest);
        let target = built.host().config.replace(':', "-");
        let inside = root.inside(&target).display().to_string();
        crane(&["pull", "--format", "oci", &name, &inside]).ok();
        assert_has_all(&root.outside(&target), built);
    }
    let catalog = crane(&["catalog", "--insecure", setup.address()]).ok().stdout;
    assert_eq!(catalog, "library/httpd\norg/app\n");
    let tags = crane(&["ls", &format!("{}/library/httpd", setup.address())])
        .ok()
        .stdout;
    assert_eq!(tags, "2.4\n");
}

#[test]
fn oras_copies_an_image_and_discovers_what_refers_to_it() {
    let setup = Setup::new();
    let folder = Folder::new();
    let root = engine::Root::new(Engine::Docker28, folder.path());
    let oras = |args: &[&str]| run(root.command("oras").args(args));
    let [_, (_, name, built)] = setup.images();
    let layout = format!("{}:1", root.inside("layout").display());
    oras(&["cp", "--from-plain-http", "--to-oci-layout", &name, &layout]).ok();
    assert_has_all(&root.outside("layout"), built);

    // A layout that oras made: an image, and a document that is attached to it.
    fs::write(root.outside("sbom.json"), "{}").unwrap();
    let attach = root.inside("sbom.json").display().to_string() + ":application/json";
    let kind = ["--artifact-type", "application/x.sbom"];
    let args = [
        &["attach", "--disable-path-validation", "--oci-layout"],
        &kind[..],
        &[&layout, &attach],
    ];
    oras(&args.concat()).ok();
    let path = root.outside("layout/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for entry in index["manifests"].as_array_mut().unwrap() {
        if let Some(name) = entry.pointer_mut("/annotations/org.opencontainers.image.ref.name") {
            *name = "quay.io/org/app:1".into();
        }
    }
    fs::write(&path, index.to_string()).unwrap();
    let serving = Serving::start(&setup.sealift, &[root.outside("layout").to_str().unwrap()]);
    let name = format!("{}/org/app:1", serving.address);
    let found = oras(&["discover", "--plain-http", "--format", "json", &name])
        .ok()
        .json();
    assert!(found.to_string().contains("application/x.sbom"), "{found}");
    let asked = "/v2/org/app/referrers/sha256:";
    serving.until(asked, || serving.log().contains(asked));
    let copy = format!("{}:1", root.inside("copy").display());
    oras(&["cp", "-r", "--from-plain-http", "--to-oci-layout", &name, &copy]).ok();
    assert_has_all(&root.outside("copy"), built);
}

/// The examples of its help, on addresses that are free.
#[test]
fn its_examples_do_what_they_say() {
    let setup = Setup::new();
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let sealift = &setup.sealift;
    run(&mut sealift
        .shell("cat images.tar.0* >images.tar; cp tls/server.crt tls.crt; cp tls/server.key tls.key"))
    .ok();
    let mut serving = None;
    for line in examples::with_documents(sealift, "serve") {
        let line = line.split(" #").next().unwrap().trim();
        if line.starts_with("docker ") {
            let serving: &Serving = serving.as_ref().unwrap();
            let line = line.replace("127.0.0.1:5000", &serving.address);
            daemon.docker(&line.split(' ').skip(1).collect::<Vec<_>>()).ok();
            continue;
        }
        if line.contains("--print-config") {
            examples::execute(sealift, "", line, &[]);
            continue;
        }
        let line = match line.contains("--listen") {
            // Its archive is in parts too, and both have the same images.
            true => line.replace("192.168.1.5:5000", "127.0.0.1:0"),
            false => format!("{line} --listen 127.0.0.1:0"),
        };
        let started = Serving::of(sealift, sealift.shell(&format!("exec {line}")));
        if started.first.contains("http://") {
            serving = Some(started);
        }
    }
    assert_eq!(daemon.images().len(), 1);
}
