//! The commands of docs/migrate.md, on a Docker that moves from its classic store to the containerd store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::loading::assert_runs;
use crate::support::documented::code_of;
use crate::support::{
    Built, Compression, Daemon, Engine, Image, Layer, Registry, Run, Sealift, Store, assert_documented, run,
};

/// Stops and starts the daemon as the unit does, and waits.
const SYSTEMCTL: &str = r#"#!/bin/sh
pid=$(cat PIDFILE 2>/dev/null)
stop() {
    STOP
    while grep -qs '^State:[[:space:]]*[^Z[:space:]]' /proc/$pid/status; do sleep 0.05; done
}
start() {
    START
    until [ "$(curl -s --unix-socket SOCKET http://docker/_ping)" = OK ]; do sleep 0.05; done
}
case $1 in
stop) stop ;;
start) start ;;
*) exit 1 ;;
esac
"#;

/// A host with a Docker that uses its classic store, and a registry that it has pulled from.
struct Host {
    sealift: Sealift,
    daemon: Daemon,
    registry: Registry,
}

impl Host {
    fn new() -> Self {
        let registry = Registry::start();
        let daemon = Daemon::options(Engine::Docker28, Store::Classic)
            .mirror(&registry)
            .disk("64m")
            .start();
        let sealift = Sealift::new().docker(&daemon);
        let host = Self {
            sealift,
            daemon,
            registry,
        };
        fs::create_dir(host.sealift.path("bin")).unwrap();
        let client = host.daemon.client();
        let words: Vec<_> = std::iter::once(client.get_program())
            .chain(client.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        host.program("docker", &format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")));
        host.program("sudo", "#!/bin/sh\nexec \"$@\"\n");
        let systemctl = SYSTEMCTL
            .replace("PIDFILE", host.daemon.pid_file().to_str().unwrap())
            .replace("STOP", &host.daemon.stop_command())
            .replace("START", &host.daemon.start_command())
            .replace("SOCKET", host.daemon.socket().to_str().unwrap());
        host.program("systemctl", &systemctl);
        host
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.sealift.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The path of its data root, which is on a disk that only its own root folder shows.
    fn data_root(&self) -> PathBuf {
        self.daemon.root().join("sealift/root")
    }

    /// A script of the document with the paths of this host.
    fn filled(&self, script: &str) -> String {
        let (daemon, backup) = (&self.daemon, self.sealift.path("backup"));
        let paths = [
            ("/etc/docker/daemon.json", daemon.config_file()),
            ("/etc/docker", daemon.config_file().parent().unwrap().into()),
            ("/var/run/docker.sock", daemon.socket()),
            ("/var/lib/docker", self.data_root()),
            ("/backup", backup),
        ];
        let fill =
            |script: String, (path, here): &(&str, PathBuf)| script.replace(path, here.to_str().unwrap());
        paths.iter().fold(script.to_owned(), fill)
    }

    /// Runs a script in the home of its root, up to the first command that fails.
    #[track_caller]
    fn run(&self, script: &str) -> Run {
        let script = self.filled(script);
        let script = format!("set -euo pipefail; PATH=$HOME/bin:$PATH\n{script}");
        run(&mut self.sealift.shell(&script))
    }

    /// Pushes an image to the registry.
    fn push(&self, image: &Image, name: &str) -> Built {
        let (repository, _) = name.split_once(':').unwrap();
        let built = image.build(&self.sealift.path("layout"), repository);
        self.registry.push(&built, &format!("library/{name}"));
        built
    }

    /// The names that are missing, compared with `before.json`.
    #[track_caller]
    fn missing(&self, code: i32) -> Vec<String> {
        let compare = "sealift inventory --from docker --compare before.json --json";
        let document = self.run(compare).code(code).json();
        assert_documented(&document);
        let differences = document["differences"].as_array().unwrap().iter();
        let missing: Vec<_> = differences
            .map(|one| {
                assert_eq!(one["reason"], "missing", "{document:#}");
                one["name"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(document["same"], 8 - missing.len(), "{document:#}");
        missing
    }

    /// The settings of the containers, and their volumes.
    #[track_caller]
    fn containers(&self) -> String {
        self.run(
            "docker ps -aq | xargs docker inspect | jq -S 'sort_by(.Name) | .[] | {
                Name, Config: (.Config | del(.Hostname)), HostConfig: (.HostConfig | del(.Binds)), State: .State.Running,
                Mounts: ([.Mounts[] | {Name, Destination, RW}] | sort_by(.Name))
            }'",
        )
        .ok()
        .stdout
    }

    /// Removes all containers and images.
    #[track_caller]
    fn forget(&self) {
        self.run(
            "docker ps -aq | xargs -r docker rm -f; docker images -q --no-trunc | sort -u | xargs -r docker rmi -f",
        )
        .ok();
        assert_eq!(self.daemon.images(), [""; 0]);
    }
}

/// The dry run of the document with its JSON.
const DRY_RUN: &str =
    "sealift save --from docker --all --offline --for docker-containerd --dry-run -o /backup/images.tar";
/// Bytes of the disk with the data root.
const DISK: u64 = 64 << 20;

#[test]
fn a_host_moves_to_the_containerd_store_with_every_name_and_digest() {
    let host = Host::new();
    let httpd = host.push(&Image::sample("httpd", "2.4"), "httpd:2.4");
    let redis = host.push(&Image::sample("redis", "7"), "redis:7");
    let zstd = Image::sample("zstd", "1").compression(Compression::Zstd);
    let zstd = format!("zstd@{}", host.push(&zstd, "zstd:1").digest);
    let index = format!("httpd@{}", httpd.digest);
    let platform = format!("httpd@{}", httpd.host().digest);
    let pinned = format!("redis@{}", redis.digest);
    let pull = ["httpd:2.4", &platform, &pinned, "zstd:1"].map(|name| format!("docker pull -q {name};"));
    host.run(&format!("{} docker tag httpd:2.4 web:1", pull.concat()))
        .ok();
    let built = [Layer::new().file("app/version", "built")];
    host.daemon.build_on("httpd:2.4", "built:1", &built);
    host.run(&format!(
        "docker run -d --name web --network none --stop-signal KILL --restart always -e A=b -v data:/data -v /cache \
            {index} /bin/busybox sh -c 'echo too >/cache/file; exec /bin/busybox sleep 1000'
         docker run --name once --network none -v data:/data built:1 /bin/busybox sh -c 'echo kept >/data/file'
         docker save httpd:2.4 web:1 zstd:1 built:1 >all.tar"
    ))
    .ok();
    let containers = host.containers();
    the_check_tells_what_is_not_kept(&host);

    let [inspect, save] = code_of("migrate.md", "Save");
    host.run(&inspect).ok();
    host.run(&save.replace("--all", "--all --offline")).ok();
    let rest = fs::read_to_string(host.sealift.path("rest.txt")).unwrap();
    assert_eq!(rest, "zstd:1\n");
    let [switch] = code_of("migrate.md", "Switch");
    host.run(&switch).ok();
    assert_eq!(host.daemon.images(), [""; 0]);
    assert_eq!(host.run("docker ps -aq").ok().stdout, "");

    let [load] = code_of("migrate.md", "Load and compare");
    host.run(&load).code(7);
    assert_eq!(host.missing(7), [zstd.as_str()]);
    for (name, digest) in [("httpd:2.4", &index), ("web:1", &index.replace("httpd", "web"))] {
        let shown = host.daemon.inspect(name).unwrap()["RepoDigests"].clone();
        assert!(
            shown.as_array().unwrap().contains(&json!(digest)),
            "{name}: {shown}"
        );
    }
    assert_runs(&host.daemon, &index, "2.4");
    assert_runs(&host.daemon, &pinned, "7");
    assert_runs(&host.daemon, "zstd:1", "1");

    // A registry that is reached later has what no encoder gives.
    let [later] = code_of("migrate.md", "Images whose digest was not kept");
    let mirror = format!("--mirror docker.io={} zstd:1", host.registry.address());
    host.run(&later.replace("zstd:1", &mirror)).ok();
    assert_eq!(host.missing(0), [""; 0]);

    let [recreate, command] = code_of("migrate.md", "Recreate the containers");
    fs::write(host.sealift.path("recreate.sh"), host.filled(&recreate)).unwrap();
    host.run(&command).ok();
    assert_eq!(host.containers(), containers);
    let volume = host.data_root().join("volumes/data/_data/file");
    assert_eq!(fs::read_to_string(volume).unwrap(), "kept\n");

    // What Docker's own ways keep.
    host.forget();
    host.run("docker load <all.tar").ok();
    let mut digests = [&index, &platform, &pinned, &zstd].map(String::as_str);
    digests.sort();
    assert_eq!(host.missing(7), digests);
    let [back] = code_of("migrate.md", "Go back");
    host.run(&back).ok();
    assert_eq!(host.daemon.info()["Driver"], "overlay2");
    assert_eq!(host.run("docker ps -aq").ok().stdout.lines().count(), 2);

    host.run(&switch).ok();
    let [free] = code_of("migrate.md", "Free the old store");
    host.run(&free).code(7);
    assert_eq!(host.missing(7), digests);
    assert!(!host.data_root().join("overlay2").exists());
    let left = fs::read_dir(host.data_root().join("containers")).unwrap();
    assert_eq!(left.count(), 0);
}

/// A Docker whose containerd is the system's, on a disk of its own, with settings that the switch would meet. Users are
/// remapped in a data root of their own, so it pulls its images after that.
#[test]
fn the_check_sees_the_settings_of_docker_and_the_disk_of_its_containerd() {
    let registry = Registry::start();
    let mut daemon = Daemon::options(Engine::Docker28, Store::Classic)
        .mirror(&registry)
        .system_containerd()
        .containerd_disk("2m")
        .flag("--storage-driver=overlay2")
        .start();
    daemon.stop();
    let config = fs::read_to_string(daemon.config_file()).unwrap();
    let remapped = config.replacen('{', r#"{"userns-remap":"default","#, 1);
    fs::write(daemon.config_file(), remapped).unwrap();
    daemon.start_again();
    let sealift = Sealift::new().docker(&daemon);
    let httpd = Image::sample("httpd", "2.4").build(&sealift.path("layout"), "httpd");
    registry.push(&httpd, "library/httpd:2.4");
    daemon.docker(&["pull", "-q", "httpd:2.4"]).ok();
    fs::create_dir(sealift.path("backup")).unwrap();
    let dry_run = DRY_RUN.replace("/backup", "backup");
    let document = run(&mut sealift.shell(&format!("{dry_run} --json")))
        .code(3)
        .json();
    let obstacles: Vec<_> = document["switch"]["obstacles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        obstacles,
        [
            "Docker remaps users (userns-remap), and cannot build images then in its containerd store",
            "the command line of dockerd sets the storage driver, which would be the name of a snapshotter",
        ]
    );
    let room = &document["switch"]["room"];
    assert!(
        room["path"].as_str().unwrap().ends_with("/containerd/root"),
        "{room}"
    );
    assert!(room["free"].as_u64().unwrap() < 2 << 20, "{room}");
    assert!(room["needed"].as_u64() > room["free"].as_u64(), "{room}");
}

/// The check before, on a disk that is large enough and on one that is not.
#[track_caller]
fn the_check_tells_what_is_not_kept(host: &Host) {
    fs::create_dir(host.sealift.path("backup")).unwrap();
    let [check] = code_of("migrate.md", "Check before");
    let said = host
        .run(&check.replace("--dry-run", "--offline --dry-run"))
        .code(6);
    for line in [
        "warning: zstd:1 was skipped: it has 3 of its 3 layers only uncompressed (zstd layers cannot be recompressed)",
        "note: the containerd store does not show the 2 containers of the classic store: once, web",
    ] {
        assert!(said.stderr.contains(line), "{said:?}");
    }
    assert!(
        said.stdout.contains(" needed by Docker's containerd store, "),
        "{said:?}"
    );
    assert!(!said.stderr.contains("storage-driver"), "{said:?}");
    // The switch removes it again.
    let config = fs::read_to_string(host.daemon.config_file()).unwrap();
    let fixed = config.replacen('{', r#"{"storage-driver":"overlay2","#, 1);
    fs::write(host.daemon.config_file(), fixed).unwrap();
    let document = host.run(&format!("{DRY_RUN} --json")).code(6).json();
    assert_documented(&document);
    assert_eq!(document["left_out"][0]["name"], "zstd:1");
    assert_eq!(document["switch"]["containers"], json!(["once", "web"]));
    let reason = document["switch"]["obstacles"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("storage-driver overlay2"), "{reason}");
    assert!(document["temporary"].as_u64().unwrap() > 0, "{document:#}");

    let room = &document["switch"]["room"];
    let [needed, free] = ["needed", "free"].map(|field| room[field].as_u64().unwrap());
    host.daemon.resize_disk(&(DISK - free + needed / 2).to_string());
    let said = host.run(&DRY_RUN.replace("/backup", "/var/lib/docker")).code(3);
    for line in ["error: cannot write", "beside the classic store"] {
        assert!(said.stderr.contains(line), "{said:?}");
    }
    host.daemon.resize_disk(&DISK.to_string());
    let left = fs::read_dir(host.sealift.path("backup")).unwrap();
    assert_eq!(left.count(), 0);
}
