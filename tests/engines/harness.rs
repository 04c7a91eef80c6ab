//! The harness itself: a test that stands on it must be able to trust it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Built, Compression, Daemon, Dialect, Engine, FileState, Image, Registry, Request, Sealift, Store,
    command, files_snapshot, http, image, large, run,
};

fn layout() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn assert_serves_all_of(registry: &Registry, image: &Built, repository: &str) {
    for manifest in image.manifests.iter().chain(&image.attestations) {
        assert_eq!(
            registry.digest_of(&format!("{repository}@{}", manifest.digest)),
            manifest.digest
        );
    }
    for digest in image.blobs() {
        assert_eq!(
            image::sha256(&fs::read(registry.blob_path(&digest)).unwrap()),
            digest
        );
    }
}

#[test]
fn a_registry_serves_the_digests_that_were_built() {
    let (registry, layout) = (Registry::start(), layout());
    let images = [
        ("oci", Image::sample("oci", "1")),
        ("zstd", Image::sample("zstd", "1").compression(Compression::Zstd)),
        (
            "plain",
            Image::sample("plain", "1").compression(Compression::Plain),
        ),
        ("single", Image::sample("single", "1").without_index()),
        ("docker", Image::sample("docker", "1").dialect(Dialect::Docker)),
        (
            "docker-single",
            Image::sample("docker-single", "1")
                .dialect(Dialect::Docker)
                .without_index(),
        ),
    ];
    for (name, image) in images {
        let built = image.build(layout.path(), name);
        registry.push(&built, &format!("library/{name}:1"));
        assert_serves_all_of(&registry, &built, &format!("library/{name}"));
        let answer = http::over_tcp(
            registry.address(),
            "HEAD",
            &format!("/v2/library/{name}/manifests/1"),
            &[("Accept", &built.media_type)],
            &[],
        )
        .unwrap();
        assert_eq!(
            answer.header("content-type"),
            Some(built.media_type.as_str()),
            "{name}"
        );
        assert_eq!(
            answer.header("docker-content-digest"),
            Some(built.digest.as_str()),
            "{name}"
        );
    }
}

#[test]
fn the_same_image_builds_to_the_same_bytes_and_an_update_shares_all_but_the_top() {
    let (one, two) = (layout(), layout());
    let first = Image::sample("app", "1").build(one.path(), "1");
    assert_eq!(
        first.blobs(),
        Image::sample("app", "1").build(two.path(), "1").blobs()
    );
    let update = Image::sample("app", "2").build(one.path(), "2");
    assert_ne!(first.digest, update.digest);
    for (old, new) in first.manifests.iter().zip(&update.manifests) {
        assert_eq!(old.layers[..2], new.layers[..2]);
        assert_ne!(old.layers[2], new.layers[2]);
    }
    let other = Image::sample("other", "1").build(one.path(), "other");
    assert_eq!(first.host().layers[0], other.host().layers[0]);
}

#[test]
fn skopeo_reads_the_built_layout() {
    let layout = layout();
    let image = Image::sample("app", "1").build(layout.path(), "1");
    let source = format!("oci:{}:1", layout.path().display());
    let home = tempfile::tempdir().unwrap();
    let raw = run(command::clean("/usr/bin/skopeo", home.path()).args(["inspect", "--raw", &source])).ok();
    assert_eq!(image::sha256(raw.stdout.as_bytes()), image.digest);
    let shown = run(command::clean("/usr/bin/skopeo", home.path()).args(["inspect", &source]))
        .ok()
        .json();
    let layers: Vec<_> = image
        .host()
        .layers
        .iter()
        .map(|layer| layer.digest.as_str())
        .collect();
    assert_eq!(shown["Layers"], json!(layers));
}

#[test]
fn a_registry_asks_for_a_password() {
    let registry = Registry::options().user("ann", "s3cret").start();
    let bare = http::over_tcp(registry.address(), "GET", "/v2/", &[], &[]).unwrap();
    assert_eq!(bare.status, 401);
    assert!(bare.header("www-authenticate").unwrap().starts_with("Basic "));
    let layout = layout();
    let image = Image::sample("app", "1").build(layout.path(), "1");
    registry.push(&image, "app:1");
}

#[test]
fn a_registry_speaks_tls_of_its_own_ca() {
    let layout = layout();
    let image = Image::sample("app", "1").build(layout.path(), "1");
    let ask = |registry: &Registry, args: &[&str]| {
        let mut command = command::clean("/usr/bin/curl", layout.path());
        run(command
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(args)
            .arg(registry.url() + "/v2/"))
    };
    let plain = Registry::options().tls().start();
    let ca = plain.ca_file();
    assert_eq!(
        ask(&plain, &[]).code,
        Some(60),
        "the CA is not trusted by the machine"
    );
    assert_eq!(
        ask(&plain, &["--cacert", ca.to_str().unwrap()]).ok().stdout,
        "200"
    );
    plain.push(&image, "app:1");

    let mutual = Registry::options().client_certs().start();
    let ca = mutual.ca_file();
    let (cert, key) = mutual.client_cert();
    let [ca, cert, key] = [&ca, &cert, &key].map(|path| path.to_str().unwrap());
    assert_ne!(ask(&mutual, &["--cacert", ca]).code, Some(0));
    assert_eq!(
        ask(&mutual, &["--cacert", ca, "--cert", cert, "--key", key])
            .ok()
            .stdout,
        "200"
    );
    mutual.push(&image, "app:1");
}

#[test]
fn requests_are_counted() {
    let (mut registry, layout) = (Registry::start(), layout());
    let image = Image::sample("app", "1").build(layout.path(), "1");
    registry.push(&image, "app:1");
    registry.forget_requests();
    assert_eq!(registry.requests(), []);
    let layer = &image.host().layers[1];
    let target = format!("/v2/app/blobs/{}", layer.digest);
    http::over_tcp(
        registry.address(),
        "GET",
        &target,
        &[("User-Agent", "a test")],
        &[],
    )
    .unwrap();
    let expected = Request {
        method: "GET".into(),
        target,
        status: 200,
        bytes: layer.size,
        agent: "a test".into(),
    };
    assert_eq!(registry.requests(), [expected]);
    registry.stop();
    assert!(http::over_tcp(registry.address(), "GET", "/v2/", &[], &[]).is_err());
    registry.start_again();
    assert_eq!(registry.digest_of("app:1"), image.digest);
}

/// What an engine answers after pulls by tag and by digest, a run by digest, and a restart.
fn pulls_shows_runs(engine: Engine, store: Store) {
    let (registry, layout) = (Registry::start(), layout());
    let image = Image::sample("httpd", "2.4").build(layout.path(), "httpd");
    let other = Image::sample("redis", "7")
        .dialect(Dialect::Docker)
        .build(layout.path(), "redis");
    registry.push(&image, "library/httpd:2.4");
    registry.push(&other, "library/redis:7");

    let mut daemon = Daemon::options(engine, store).mirror(&registry).start();
    let version = daemon.api("/version");
    assert!(
        version["Version"].as_str().unwrap().starts_with(engine.version()),
        "{version}"
    );
    let driver = daemon.info()["DriverStatus"].to_string();
    assert_eq!(
        driver.contains("io.containerd.snapshotter"),
        store == Store::Containerd,
        "{driver}"
    );
    assert_eq!(daemon.images(), [""; 0]);

    daemon.docker(&["pull", "httpd:2.4"]).ok();
    let by_digest = format!("redis@{}", other.digest);
    daemon.docker(&["pull", &by_digest]).ok();
    let shown = |daemon: &Daemon| {
        let mut expected = vec![
            format!("httpd:2.4 {}", image.digest),
            format!("redis:<none> {}", other.digest),
        ];
        expected.sort();
        assert_eq!(daemon.images(), expected);
    };
    shown(&daemon);
    if store == Store::Classic {
        assert_eq!(
            daemon.inspect("httpd:2.4").unwrap()["Id"],
            image.host().config.as_str()
        );
    }
    assert_eq!(daemon.inspect("httpd:no-such"), None);

    let name = format!("httpd@{}", image.digest);
    let said = daemon.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        &name,
        "/bin/busybox",
        "cat",
        "/app/version",
    ]);
    assert_eq!(said.ok().stdout, "2.4");

    daemon.restart();
    shown(&daemon);
    daemon.kill();
    daemon.start_again();
    shown(&daemon);
}

on_every_engine!(pulls_shows_runs);

/// Processes and mounts that have to do with a folder.
fn left_of(folder: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut left: Vec<_> = mounts
        .lines()
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let root = fs::read_link(entry.path().join("root")).unwrap_or_default();
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if root.starts_with(folder) || line.contains(text) {
            left.push(line);
        }
    }
    left
}

fn nothing_is_left(engine: Engine, store: Store) {
    let (registry, layout) = (Registry::start(), layout());
    let image = Image::sample("httpd", "2.4").build(layout.path(), "httpd");
    registry.push(&image, "library/httpd:2.4");
    let daemon = Daemon::options(engine, store).mirror(&registry).start();
    let folder = daemon.folder().to_path_buf();
    // A container that ignores SIGTERM runs on; shim, process and mounts have to go too.
    let sleep = "trap '' TERM; while true; do /bin/busybox sleep 0.2; done";
    daemon
        .docker(&[
            "run",
            "-d",
            "--network",
            "none",
            "httpd:2.4",
            "/bin/busybox",
            "sh",
            "-c",
            sleep,
        ])
        .ok();
    let container = daemon.api("/containers/json")[0]["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let pid = daemon.api(&format!("/containers/{container}/json"))["State"]["Pid"]
        .as_u64()
        .unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(left_of(&folder).len() > 2, "{:?}", left_of(&folder));
    drop(daemon);
    assert_eq!(left_of(&folder), [""; 0]);
    assert!(!folder.exists());
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

on_every_engine!(nothing_is_left);

#[test]
#[ignore = "the victim of nothing_is_left_of_a_killed_test"]
fn victim() {
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    println!("folder={}", daemon.folder().display());
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nothing_is_left_of_a_killed_test() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::victim", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let folder = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .find_map(|line| {
            line.unwrap()
                .split_once("folder=")
                .map(|(_, folder)| PathBuf::from(folder))
        })
        .expect("its folder");
    assert!(!left_of(&folder).is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while folder.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!folder.exists());
    let left: Vec<_> = left_of(&folder)
        .into_iter()
        .filter(|line| !line.contains("stop.sh"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_snapshot_sees_what_changes() {
    let folder = layout();
    let path = folder.path().join("daemon.json");
    fs::write(&path, "{}").unwrap();
    let before = files_snapshot(&path);
    assert_eq!(before, files_snapshot(&path));
    let changed = |what: &str| assert_ne!(before, files_snapshot(&path), "{what}");

    fs::write(folder.path().join("new"), "{}").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    changed("the same bytes in another inode");

    let before = files_snapshot(&path);
    let changed = |what: &str| assert_ne!(before, files_snapshot(&path), "{what}");
    let xattr =
        |value: &[u8]| rustix::fs::setxattr(&path, "user.test", value, rustix::fs::XattrFlags::empty());
    xattr(b"1").unwrap();
    changed("an attribute");
    rustix::fs::removexattr(&path, "user.test").unwrap();
    assert_eq!(before, files_snapshot(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    changed("the mode");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(before, files_snapshot(&path));
    fs::write(&path, "[]").unwrap();
    changed("the bytes");
}

#[test]
fn a_daemon_reads_its_configuration_again() {
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    assert_eq!(fs::read_to_string(daemon.config_file()).unwrap(), "{}");
    let mirrors = || daemon.info()["RegistryConfig"]["Mirrors"].clone();
    assert_eq!(mirrors(), json!(null));
    fs::write(
        daemon.config_file(),
        r#"{"registry-mirrors":["http://127.0.0.1:9"]}"#,
    )
    .unwrap();
    daemon.reload();
    assert_eq!(mirrors(), json!(["http://127.0.0.1:9/"]));
}

#[test]
fn sealift_runs_in_a_clean_environment() {
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nonexistent");
    let command = sealift.command(&["list"]);
    let names: Vec<_> = command
        .get_envs()
        .map(|(name, _)| name.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["DOCKER_HOST", "HOME", "LC_ALL", "PATH", "SEALIFT_RUN_DIR"]
    );
    assert!(sealift.run(&["--help"]).signal.is_none());
}

#[test]
fn the_large_image_is_kept_and_whole() {
    let sizes = [300_000, 100_000];
    let image = large::image_of(&sizes, "small");
    for (layer, size) in image.host().layers.iter().zip(sizes) {
        assert!(layer.size >= size);
        let stored = fs::read(image.blob(&layer.digest)).unwrap();
        assert_eq!(image::sha256(&stored), layer.digest);
        let mut tar = Vec::new();
        flate2::read::MultiGzDecoder::new(&stored[..])
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(image::sha256(&tar), layer.diff_id);
    }
    let kept = FileState::of(&image.blob(&image.host().layers[0].digest));
    let again = large::image_of(&sizes, "small");
    assert_eq!(again.blobs(), image.blobs());
    assert_eq!(
        FileState::of(&again.blob(&image.host().layers[0].digest)),
        kept,
        "built once"
    );
}
