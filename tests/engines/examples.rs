//! The examples of the help texts and of the documents that need an engine: a Docker and a registry on the connected
//! side, another Docker on the air-gapped one.

use std::fs;
use std::process::Command;

use crate::offline_systemd::Systemd;
use crate::support::containerd::{Containerd, Version};
use crate::support::{Daemon, Engine, Folder, Image, Registry, Run, Sealift, Store, examples, run};

/// What every example finds in its folder, and the two sides.
struct Setup {
    sealift: Sealift,
    registry: Registry,
    connected: Daemon,
    target: Daemon,
    systemd: Systemd,
    redis: String,
    myapp: String,
}

/// Names of the images on the connected side.
const NAMES: [&str; 4] = ["httpd:2.4", "httpd:2.4.66", "redis:7", "myapp:7"];

impl Setup {
    fn new() -> Self {
        let (registry, sealift) = (Registry::start(), Sealift::new());
        let (mut redis, mut myapp) = (String::new(), String::new());
        for name in NAMES {
            let (repository, tag) = name.split_once(':').unwrap();
            let built = Image::sample(repository, tag).build(&sealift.path("layout"), repository);
            for prefix in ["library", "dockerhub/library"] {
                registry.push(&built, &format!("{prefix}/{name}"));
            }
            match repository {
                "redis" => redis = built.digest,
                "myapp" => myapp = built.digest,
                _ => {}
            }
        }
        let connected = Daemon::options(Engine::Docker28, Store::Containerd)
            .mirror(&registry)
            .start();
        for name in NAMES {
            connected.docker(&["pull", "--quiet", name]).ok();
        }
        // Names of other registries lead elsewhere for a moment, in its network only.
        let target = Daemon::options(Engine::Docker28, Store::Classic)
            .own_network(true)
            .start();
        let systemd = Systemd::of(&target, "process");
        let sealift = sealift.env("PATH", systemd.path());
        for folder in ["stick", "parts"] {
            fs::create_dir(sealift.path(folder)).unwrap();
        }
        fs::write(sealift.path("list.txt"), "httpd:2.4 # the server\nredis:7\n").unwrap();
        let setup = Self {
            sealift,
            registry,
            connected,
            target,
            systemd,
            redis,
            myapp,
        };
        for (archive, names) in [
            ("images.tar", "httpd:2.4 redis:7"),
            ("all.tar", "redis:7"),
            ("more.tar", "httpd:2.4"),
            ("platforms.tar", "httpd:2.4 --from registry --platform all"),
            ("parts/images.tar", "httpd:2.4 --split 250kB"),
        ] {
            setup.runs(&format!("sealift save {names} -o {archive}"), &[]);
        }
        setup.runs("sealift inventory --from docker -o server1.json", &[]);
        setup.runs("sealift save httpd:2.4.66 --have server1.json -o update.tar", &[]);
        setup.runs(
            "sealift images list.txt --from images.tar --lock images.lock",
            &[],
        );
        setup
    }

    /// Runs an example. `save` meets the connected side, where the registry is in the place of docker.io;
    /// all else meets the other side.
    #[track_caller]
    fn runs(&self, line: &str, replaced: &[(&str, &str)]) -> Run {
        let host = |daemon: &Daemon| format!("unix://{}", daemon.socket().display());
        let helm = examples::write_lists(&self.sealift);
        let prelude = format!(
            r#"{helm}
            sealift() {{
                local host={} mirror=()
                if [ "$1" = save ]; then
                    host={}
                    [[ " $* " == *" --mirror "* || " $* " == *" --offline "* ]] || mirror=(--mirror docker.io={})
                fi
                DOCKER_HOST=$host command sealift "$@" "${{mirror[@]}}"
            }}
            docker() {{
                # This Docker has no Compose.
                if [ "$1" = compose ]; then cat compose.yaml; else DOCKER_HOST={} command docker "$@"; fi
            }}"#,
            host(&self.target),
            host(&self.connected),
            self.registry.address(),
            host(&self.target),
        );
        let mut archives = line.split_whitespace().filter(|word| word.ends_with(".tar"));
        let archive = archives.next().unwrap_or("images.tar");
        let list = self.sealift.run(&["list", "--json", archive]).json();
        let digest = list["archives"][0]["digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let redis = format!("redis@{}", self.redis);
        let myapp = format!("myapp@{}", self.myapp);
        let place = format!("registry://{}", self.registry.address());
        let hub = format!("{}/dockerhub", self.registry.address());
        let filled = [
            ("redis@sha256:...", redis.as_str()),
            ("myapp@sha256:...", &myapp),
            ("sha256:...", &digest),
            ("harbor.local/dockerhub", &hub),
            ("/media/stick", "stick"),
            ("registry://harbor.local", &place),
        ];
        examples::execute(&self.sealift, &prelude, line, &[&filled[..], replaced].concat())
    }

    /// Makes executables for both machines that an installer may be for: this one, with another machine in its header.
    fn make_executables(&self) {
        let mut program = fs::read(env!("CARGO_BIN_EXE_sealift")).unwrap();
        for (machine, number) in [("amd64", 62), ("arm64", 183)] {
            program[18] = number;
            fs::write(self.sealift.path(&format!("sealift-linux-{machine}")), &program).unwrap();
        }
    }

    /// Takes all images from the air-gapped side.
    fn forget(&self) {
        for id in self
            .target
            .docker(&["images", "-q", "--no-trunc"])
            .ok()
            .stdout
            .lines()
        {
            self.target.docker(&["rmi", "-f", id]);
        }
        assert_eq!(self.target.images(), [""; 0]);
    }
}

#[test]
fn of_sealift_itself() {
    let setup = Setup::new();
    fs::remove_file(setup.sealift.path("images.tar")).unwrap();
    for line in examples::of(&setup.sealift, "") {
        setup.runs(&line, &[]);
    }
    assert_eq!(setup.target.images().len(), 2);
}

#[test]
fn of_save() {
    let mut setup = Setup::new();
    let containerd = Containerd::start(Version::V2_1);
    setup.sealift = setup.sealift.env("CONTAINERD_ADDRESS", containerd.socket());
    setup.runs("sealift load images.tar --to containerd --namespace k8s.io", &[]);
    // This host's podman, with storage of its own.
    let storage = Folder::new();
    let storage = storage.path().to_str().unwrap();
    let (root, runroot) = (format!("{storage}/root"), format!("{storage}/run"));
    let pulled = format!("{}/library/httpd:2.4", setup.registry.address());
    run(Command::new("podman")
        .args(["--root", &root, "--runroot", &runroot])
        .args(["pull", "--quiet", "--tls-verify=false"])
        .arg(&pulled))
    .ok();
    run(Command::new("podman")
        .args(["--root", &root, "--runroot", &runroot])
        .args(["tag", &pulled, "docker.io/library/httpd:2.4"]))
    .ok();
    let podman = format!("--from podman --root {root}");
    // A stopped Docker, and what it saved.
    let mut stopped = Daemon::options(Engine::Docker28, Store::Classic)
        .mirror(&setup.registry)
        .start();
    for name in ["httpd:2.4", "myapp:7"] {
        stopped.docker(&["pull", "--quiet", name]).ok();
    }
    let socket = stopped.socket().display().to_string();
    let save = format!("docker -H unix://{socket} save myapp:7 -o saved-by-docker.tar");
    run(&mut setup.sealift.shell(&save)).ok();
    stopped.stop();
    let disk = format!("--from=podman --root {root}");
    let data_root = stopped.data_root().display().to_string();
    setup.runs("sealift save httpd:2.4 -o base.tar", &[]);
    setup.make_executables();
    let replaced = [
        (
            "--from podman --root /mnt/disk/var/lib/containers/storage",
            disk.as_str(),
        ),
        ("--from podman", &podman),
        ("/mnt/disk/var/lib/docker", &data_root),
        (storage, storage),
    ];
    for line in examples::with_documents(&setup.sealift, "save") {
        setup.forget();
        setup.runs(&line, &replaced);
        if line.contains("sealift load") {
            assert_eq!(setup.target.images().len(), 1, "{line}");
        }
    }
}

#[test]
fn of_load() {
    let mut setup = Setup::new();
    let containerd = Containerd::start(Version::V2_1);
    setup.sealift = setup
        .sealift
        .env("CONTAINERD_ADDRESS", containerd.socket())
        .env("CONTAINERD_NAMESPACE", "k8s.io");
    // A stopped Docker that has the images.
    let mut golden = Daemon::start(Engine::Docker28, Store::Classic);
    let load = ["load", "-q", "images.tar", "--attach", "none"];
    crate::saving::at(&setup.sealift, &golden, &load);
    golden.stop();
    let root = golden.data_root().display().to_string();
    let root = ("/mnt/golden/var/lib/docker", root.as_str());
    let names = golden.data_root().join("image/overlay2/repositories.json");
    assert!(!fs::read_to_string(&names).unwrap().contains("httpd@sha256:"));
    // This host's podman, with storage of its own.
    let storage = Folder::new();
    let storage = storage.path().to_str().unwrap();
    let podman = format!("--to podman --root {storage}/root --runroot {storage}/run");
    let podman = ("--to podman", podman.as_str());
    let place = format!("{}/lib", setup.registry.address());
    let replaced = [
        root,
        podman,
        (storage, storage),
        (
            "docker.io/library=harbor.local/lib",
            &format!("docker.io/library={place}"),
        ),
        ("127.0.0.1:5210=", "docker.io="),
        ("images.tar --to registry:", "platforms.tar --to registry:"),
        ("images.tar.001", "parts/images.tar.001"),
        (
            "images.tar --image httpd:2.4 --platform linux/arm64",
            "platforms.tar --image httpd:2.4 --platform linux/arm64",
        ),
    ];
    for line in examples::with_documents(&setup.sealift, "load") {
        setup.forget();
        setup.runs(&line, &replaced);
        let shown = setup.target.images();
        let is_left_alone = ["--dry-run", "--data-root", "--to "]
            .iter()
            .any(|option| line.contains(option) && !line.contains("--to docker,"));
        assert_eq!(shown.is_empty(), is_left_alone, "{line}: {shown:?}");
        assert!(
            shown.iter().all(|line| !line.contains("<none>")),
            "{line}: {shown:?}"
        );
    }
    assert!(fs::read_to_string(&names).unwrap().contains("httpd@sha256:"));
    assert!(
        setup
            .systemd
            .changes()
            .iter()
            .any(|change| change.starts_with("stop "))
    );
}

#[test]
fn of_inventory() {
    let mut setup = Setup::new();
    let containerd = Containerd::start(Version::V2_1);
    setup.sealift = setup.sealift.env("CONTAINERD_ADDRESS", containerd.socket());
    setup.runs("sealift load images.tar --to docker", &[]);
    setup.runs("sealift load images.tar --to oci:images", &[]);
    // This host's podman, with storage of its own.
    let storage = Folder::new();
    let storage = storage.path().to_str().unwrap();
    let podman = format!("--from podman --root {storage}/root --runroot {storage}/run");
    for line in examples::with_documents(&setup.sealift, "inventory") {
        setup.runs(&line, &[("--from podman", &podman), (storage, storage)]);
    }
    let rack: serde_json::Value =
        serde_json::from_slice(&fs::read(setup.sealift.path("rack7.json")).unwrap()).unwrap();
    assert_eq!(rack["host"], "rack7");
    assert_eq!(rack["engines"][0]["images"].as_array().unwrap().len(), 2);
}

#[test]
fn of_doctor() {
    let setup = Setup::new();
    for line in examples::with_documents(&setup.sealift, "doctor") {
        setup.runs(&line, &[]);
    }
}

#[test]
fn every_command_has_its_examples_run() {
    let sealift = Sealift::new();
    let known = examples::commands(&sealift);
    for command in examples::BESIDE_AN_ENGINE
        .iter()
        .filter(|command| !command.is_empty())
    {
        assert!(known.contains(&(*command).to_owned()), "{command}");
    }
    assert_eq!(
        examples::BESIDE_AN_ENGINE,
        [
            "",
            "save",
            "load",
            "verify",
            "repair",
            "serve",
            "inventory",
            "doctor"
        ],
        "each has a test above, `serve` and `repair` in files of their own, `verify` in tests/verify"
    );
    for (command, line) in examples::documented() {
        assert!(known.contains(&command), "{line}");
    }
}
