//! Which source a save takes, what it asks for, and what it leaves.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::saving::{BY_PUSH, GO, assert_proven, at, layers, mode, told};
use crate::support::{Daemon, Engine, Image, Layer, Platform, Registry, Run, Sealift, Store, run};

fn images(said: &Run) -> Vec<Value> {
    said.json()["images"].as_array().unwrap().clone()
}

#[test]
fn the_local_engine_is_asked_first_and_the_registry_for_the_rest() {
    let mut registry = Registry::start();
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    for name in ["here", "there"] {
        let image = Image::sample(name, "1").build(&layout, name);
        registry.push(&image, &format!("library/{name}:1"));
    }
    let here_digest = registry.digest_of("library/here:1");
    let daemon = Daemon::options(Engine::Docker28, Store::Classic)
        .mirror(&registry)
        .start();
    daemon.docker(&["pull", "--quiet", "here:1"]).ok();
    let mirror = format!("docker.io={}", registry.address());
    let line = [
        "save",
        "here:1",
        "there:1",
        "--mirror",
        &mirror,
        "-o",
        "images.tar",
    ];
    let said = at(&sealift, &daemon, &[&line[..], &["--json"]].concat()).ok();
    let from = |image: &Value| image["from"].as_str().unwrap().to_owned();
    let [here, there] = &images(&said)[..] else {
        panic!("{said:?}")
    };
    let label = from(here);
    assert!(
        label.starts_with("Docker 28.") && label.ends_with(" (classic store)"),
        "{label}"
    );
    let mirrored = format!("mirror {} of docker.io", registry.address());
    assert_eq!(from(there), mirrored);
    let text = at(&sealift, &daemon, &line).ok().stdout;
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        row("here:1 ").ends_with(&label) && row("there:1 ").ends_with(&mirrored),
        "{text}"
    );

    // An engine's images are not for everybody to read, also not in parts; a registry's are.
    assert_eq!(mode(&sealift, "images.tar"), 0o600);
    let parts = [&line[..], &["--split", "300kB"]].concat();
    at(&sealift, &daemon, &parts).ok();
    assert_eq!(
        (mode(&sealift, "images.tar.001"), mode(&sealift, "images.tar.002")),
        (0o600, 0o600)
    );

    // Of another platform the engine has nothing.
    let foreign = Platform::foreign().to_string();
    let line = [
        "save",
        "here:1",
        "--platform",
        &foreign,
        "--mirror",
        &mirror,
        "--json",
        "-o",
        "foreign.tar",
    ];
    let image = &images(&at(&sealift, &daemon, &line).ok())[0];
    assert_eq!(
        (from(image).as_str(), &image["platforms"]),
        (mirrored.as_str(), &json!([foreign]))
    );
    assert_eq!(mode(&sealift, "foreign.tar") & 0o044, 0o044);

    let other = Daemon::options(Engine::Docker28, Store::Containerd)
        .mirror(&registry)
        .start();
    other.docker(&["pull", "--quiet", "here:1"]).ok();
    let image = &images(&at(&sealift, &other, &line).ok())[0];
    assert_eq!(image["platforms"], json!([foreign]));
    // And where no platform is asked for, no more than it has is fetched.
    let host = Platform::host().to_string();
    let line = ["save", "here:1", "--mirror", &mirror, "--json", "-o", "host.tar"];
    let image = &images(&at(&sealift, &other, &line).ok())[0];
    assert!(from(image).ends_with(" (containerd store)"), "{image:#}");
    assert_eq!(
        (&image["digest"], &image["platforms"]),
        (&json!(here_digest), &json!([host]))
    );

    // Offline nothing is asked for, and what only a registry has is not there.
    registry.forget_requests();
    let line = [
        "save",
        "here:1",
        "--mirror",
        &mirror,
        "--offline",
        "-o",
        "offline.tar",
    ];
    at(&sealift, &daemon, &line).ok();
    let absent = [
        "save",
        "there:1",
        "--mirror",
        &mirror,
        "--offline",
        "-o",
        "absent.tar",
    ];
    let said = at(&sealift, &daemon, &absent).code(7);
    assert!(said.stderr.contains("there:1"), "{said:?}");
    assert!(!sealift.path("absent.tar").exists());
    assert_eq!(registry.requests(), []);
    let line = ["save", "here:1", "--mirror", &mirror, "-o", "online.tar"];
    at(&sealift, &daemon, &line).ok();
    assert!(!registry.requests().is_empty());
}

#[test]
fn everything_of_an_engine() {
    for store in [Store::Classic, Store::Containerd] {
        let registry = Registry::start();
        let sealift = Sealift::new();
        let layout = sealift.path("layout");
        let [app, web] = ["app", "web"].map(|name| {
            let image = Image::sample(name, "1").build(&layout, name);
            registry.push(&image, &format!("library/{name}:1"));
            image
        });
        let daemon = Daemon::options(Engine::Docker28, store).mirror(&registry).start();
        daemon.docker(&["pull", "--quiet", "app:1"]).ok();
        daemon.docker(&["tag", "app:1", "app:again"]).ok();
        let by_digest = format!("web@{}", web.digest);
        daemon.docker(&["pull", "--quiet", &by_digest]).ok();
        daemon.build("built:1", &layers("1"));
        drop(registry);
        for from in ["docker", "auto"] {
            let line = ["save", "--all", "--from", from, "--json", "-o", "all.tar"];
            let said = at(&sealift, &daemon, &line).ok();
            let found: Vec<_> = images(&said)
                .iter()
                .map(|image| json!([image["name"], image["digest"]]))
                .collect();
            let built = match store {
                Store::Classic => Value::Null,
                Store::Containerd => {
                    let shown = daemon.inspect("built:1").unwrap()["RepoDigests"][0].clone();
                    shown.as_str().unwrap().split_once('@').unwrap().1.into()
                }
            };
            let expected = [
                json!(["app:1", app.digest]),
                json!(["app:again", app.digest]),
                json!(["built:1", built]),
                json!([by_digest, web.digest]),
            ];
            assert_eq!(found, expected, "{store:?}");
            sealift.run(&["verify", "all.tar"]).ok();
        }
    }
}

/// The stock Docker of a host that does not run: its files are at the usual places, and no other files are touched.
#[test]
fn the_stock_docker_of_a_host_that_does_not_run() {
    let registry = Registry::start();
    let sealift = Sealift::new();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "app");
    registry.push(&image, "library/app:1");
    let mut daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .mirror(&registry)
        .start();
    daemon.docker(&["pull", "--quiet", "app:1"]).ok();
    daemon.stop();
    drop(registry);
    let save = sealift.command(&[
        "save",
        "--offline",
        "--from",
        "docker",
        "app:1",
        "--json",
        "-o",
        "images.tar",
    ]);
    let mut command = Command::new("unshare");
    let mounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/docker && \
                  mount --bind \"$0\" /var/lib/docker && exec \"$@\"";
    command.args(["--mount", "--propagation=private", "sh", "-c", mounts]);
    command
        .arg(daemon.data_root())
        .arg(save.get_program())
        .args(save.get_args());
    command.current_dir(sealift.home()).env("HOME", sealift.home());
    command
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_CONFIG");
    let said = run(&mut command).ok();
    assert!(
        said.stderr
            .contains("Docker is not running: reading the classic store in /var/lib/docker"),
        "{said:?}"
    );
    let told = told(&sealift, &said, "images.tar");
    assert_proven(&told, &image.digest, "engine", &[("rebuilt: zlib 6", 3)]);
}

/// A save that runs, and the folder that it writes to.
struct Victim {
    child: Child,
}

impl Victim {
    fn start(sealift: &Sealift, daemon: &Daemon, name: &str) -> Self {
        let mut command = sealift.command(&[
            "save",
            "-q",
            "--offline",
            "--from",
            "docker",
            name,
            "-o",
            "out/images.tar",
        ]);
        command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Kills it as soon as something holds; whether that came to be.
    fn kill_when(mut self, mut holds: impl FnMut(u32) -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(600);
        let mut held = false;
        while !held && self.child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            held = holds(self.child.id());
        }
        held |= holds(self.child.id());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        held
    }
}

/// Whether a process has a file without a name open, with something in it.
fn has_recompressed(pid: u32, folder: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.map(|file| file.path()).any(|file| {
        let is_there = fs::read_link(&file)
            .is_ok_and(|to| to.starts_with(folder) && to.to_string_lossy().ends_with(" (deleted)"));
        is_there && fs::metadata(&file).is_ok_and(|meta| meta.size() > 0)
    })
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_save_that_was_killed_leaves_nothing_that_the_next_does_not_take_up() {
    let registry = Registry::start();
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let name = format!("{}/app:1", registry.address());
    let mut heavy = layers("1");
    heavy.push(
        Layer::new()
            .real("/usr/bin/skopeo")
            .noise("app/heavy", 11, 8_000_000),
    );
    daemon.build("app", &heavy);
    let digest = daemon.push("app", &name);
    drop(registry);
    let sealift = Sealift::new();
    let out = sealift.path("out");
    fs::create_dir(&out).unwrap();

    let recompressing = Victim::start(&sealift, &daemon, &name);
    assert!(
        recompressing.kill_when(|pid| has_recompressed(pid, &out)),
        "it has recompressed nothing"
    );
    assert_eq!(names_in(&out), [""; 0]);
    let writing = Victim::start(&sealift, &daemon, &name);
    assert!(
        writing.kill_when(|_| !names_in(&out).is_empty()),
        "it has written nothing"
    );
    let left = names_in(&out);
    assert!(left.len() <= 1, "{left:?}");

    let line = [
        "save",
        "--offline",
        "--from",
        "docker",
        &name,
        "--json",
        "-o",
        "out/images.tar",
    ];
    let told = told(&sealift, &at(&sealift, &daemon, &line).ok(), "out/images.tar");
    assert_proven(&told, &digest, BY_PUSH, &[(GO, 4)]);
    assert_eq!(names_in(&out), ["images.tar"]);
    let whole = fs::read(out.join("images.tar")).unwrap();
    let line = [
        "save",
        "-q",
        "--offline",
        "--from",
        "docker",
        &name,
        "-o",
        "fresh.tar",
    ];
    at(&sealift, &daemon, &line).ok();
    assert!(
        whole == fs::read(sealift.path("fresh.tar")).unwrap(),
        "the archives differ"
    );

    // A pipe gets the same bytes, and recompressed layers go elsewhere meanwhile.
    let line = ["save", "--offline", "--from", "docker", &name, "-o", "-"];
    let mut command = sealift.command(&line);
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    let piped = command.output().unwrap();
    assert!(piped.status.success(), "{piped:?}");
    assert!(whole == piped.stdout, "the archives differ");
}
