//! Loading into podman, compared with a podman that pulled.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::podman::{Podman, User, Version};
use crate::support::{Built, Compression, Dialect, Image, Platform, Registry, run};

/// A podman with images in a layout folder, under whole names.
pub struct Loader {
    pub podman: Podman,
}

impl Loader {
    pub fn new(version: Version, user: User) -> Self {
        Self {
            podman: Podman::new(version, user),
        }
    }

    /// Adds an image under a name such as `docker.io/library/httpd:2.4`.
    pub fn add(&self, folder: &str, name: &str, image: &Image) -> Built {
        let layout = self.podman.outside(folder);
        fs::create_dir_all(&layout).unwrap();
        let built = image.build(&layout, name);
        run(std::process::Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(&layout))
        .ok();
        built
    }

    /// Adds an image under `NAME@DIGEST`.
    pub fn add_by_digest(&self, folder: &str, name: &str, image: &Image) -> Built {
        let elsewhere = tempfile::tempdir().unwrap();
        let digest = image.build(elsewhere.path(), "x").digest;
        self.add(folder, &format!("{name}@{digest}"), image)
    }
}

/// Whether both show the same, field by field.
#[track_caller]
pub fn assert_equal(one: &Podman, other: &Podman) {
    let (mut images, mut twins) = (one.images(), other.images());
    for image in images.iter_mut().chain(&mut twins) {
        // In the order in which the names came.
        if let Some(history) = image["History"].as_array_mut() {
            history.sort_by_key(Value::to_string);
        }
    }
    assert_eq!(images, twins);
    for image in &images {
        let id = image["Id"].as_str().unwrap();
        let [mut one, mut other] = [one, other].map(|podman| podman.inspect(id));
        for image in [&mut one, &mut other] {
            if let Some(history) = image["NamesHistory"].as_array_mut() {
                history.sort_by_key(Value::to_string);
            }
        }
        assert_eq!(one, other);
    }
}

/// Nothing of a load is left in the folder of temporary files.
#[track_caller]
pub fn assert_nothing_is_left(podman: &Podman) {
    let left: Vec<String> = fs::read_dir(podman.outside("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [""; 0]);
}

fn an_empty_podman_ends_up_as_after_a_pull(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let sample = Image::sample("httpd", "2.4");
    let httpd = loader.add("images", "docker.io/library/httpd:2.4", &sample);
    loader.add("images", "quay.io/mirror/web:x", &sample);
    let docker = Image::sample("redis", "7").dialect(Dialect::Docker);
    let redis = loader.add_by_digest("images", "docker.io/library/redis", &docker);
    let single = Image::sample("nginx", "1").without_index();
    let nginx = loader.add_by_digest("images", "docker.io/library/nginx:1", &single);
    let zstd = Image::sample("tool", "3").compression(Compression::Zstd);
    let tool = loader.add("images", "registry.example:5000/team/tool:3", &zstd);

    let document = podman.load_json(&[&podman.inside("images")]);
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.len(), 5);
    for image in images {
        assert_eq!(
            (&image["shown"], &image["obstacles"]),
            (&json!(true), &json!([])),
            "{image}"
        );
    }
    assert_nothing_is_left(podman);

    let twin = Podman::new(version, user);
    let registry = Registry::start();
    for (image, to) in [
        (&httpd, "library/httpd:2.4"),
        (&httpd, "mirror/web:x"),
        (&redis, "library/redis:7"),
        (&nginx, "library/nginx:1"),
        (&tool, "team/tool:3"),
    ] {
        registry.push(image, to);
    }
    let references = [
        "docker.io/library/httpd:2.4".to_string(),
        "quay.io/mirror/web:x".into(),
        format!("docker.io/library/redis@{}", redis.digest),
        format!("docker.io/library/nginx:1@{}", nginx.digest),
        "registry.example:5000/team/tool:3".into(),
    ];
    twin.pull(&registry, &references);
    drop(registry);
    assert_equal(podman, &twin);

    let shown = podman.podman(&["images", "--digests", "--no-trunc"]).ok().stdout;
    for image in [&httpd, &redis, &nginx, &tool] {
        assert!(
            shown.contains(&image.digest),
            "{} is not in:\n{shown}",
            image.digest
        );
    }
    // Offline: by tag, by the index, by the platform's manifest.
    let platform = &httpd.host().digest;
    for (name, says) in [
        ("docker.io/library/httpd:2.4".to_string(), "2.4"),
        (format!("docker.io/library/httpd@{}", httpd.digest), "2.4"),
        (format!("docker.io/library/httpd@{platform}"), "2.4"),
        (format!("quay.io/mirror/web@{}", httpd.digest), "2.4"),
        (format!("docker.io/library/redis@{}", redis.digest), "7"),
        (format!("docker.io/library/nginx@{}", nginx.digest), "1"),
        (format!("registry.example:5000/team/tool@{}", tool.digest), "3"),
    ] {
        assert_eq!(podman.cat(&name, "/app/version"), says, "{name}");
    }
}

on_every_podman!(an_empty_podman_ends_up_as_after_a_pull);

fn a_second_load_sends_nothing_and_an_update_one_layer(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    loader.add("old", "docker.io/library/app:1", &Image::sample("app", "1"));
    loader.add_by_digest("old", "docker.io/library/other", &Image::sample("other", "1"));
    let update = loader.add("new", "docker.io/library/app:2", &Image::sample("app", "2"));
    podman.load_json(&[&podman.inside("old")]);
    let before = podman.images();
    let again = podman.load_json(&[&podman.inside("old")]);
    assert_eq!(again["sent"], 0, "{again}");
    assert_eq!(podman.images(), before);

    let plan = podman.load_json(&[&podman.inside("new"), "--dry-run"]);
    let host = update.host();
    let config = fs::metadata(update.blob(&host.config)).unwrap().len();
    let top = host.layers.last().unwrap();
    let needed = update.size + host.size + config + top.size;
    let planned: u64 = plan["send"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blob| blob["size"].as_u64().unwrap())
        .sum();
    assert_eq!(planned, needed, "{plan}");
    assert_eq!(podman.images(), before, "a dry run changes nothing");
    let loaded = podman.load_json(&[&podman.inside("new")]);
    assert_eq!(loaded["sent"], needed, "{loaded}");
    assert_eq!(podman.cat("docker.io/library/app:1", "/app/version"), "1");
    assert_eq!(podman.cat("docker.io/library/app:2", "/app/version"), "2");
}

on_both_podmans!(a_second_load_sends_nothing_and_an_update_one_layer);

fn a_wrong_digest_is_told_and_replaced(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let twin = Podman::new(version, user);
    let registry = Registry::start();
    registry.push(&app, "library/app:1");
    twin.pull(&registry, &["docker.io/library/app:1".into()]);
    twin.podman(&[
        "save",
        "-q",
        "-o",
        &twin.inside("home/app.tar"),
        "docker.io/library/app:1",
    ])
    .ok();
    let saved = podman.outside("app.tar");
    fs::copy(twin.outside("home/app.tar"), &saved).unwrap();
    podman
        .podman(&["load", "-q", "-i", &podman.inside("app.tar")])
        .ok();
    podman
        .podman(&["tag", "docker.io/library/app:1", "localhost/mine:kept"])
        .ok();
    let wrong = podman.images()[0]["Digest"].clone();
    assert_ne!(wrong, app.digest.as_str());
    let names = ["docker.io/library/app:1", "localhost/mine:kept"];
    let told = doctor(podman);
    assert_eq!(
        (&told["images"], &told["error"]),
        (&1.into(), &Value::Null),
        "{told:#}"
    );
    assert_eq!(told["details"]["own_digests"][0]["digest"], wrong, "{told:#}");
    assert_eq!(told["details"]["own_digests"][0]["names"], json!(names));
    assert_eq!(doctor(&twin)["details"]["own_digests"], json!([]));

    let told = podman.load(&[&podman.inside("images")]).code(6);
    let says = format!("podman images --digests shows {} for it", wrong.as_str().unwrap());
    assert!(
        told.stderr.contains(&says) && told.stderr.contains("--force"),
        "{}",
        told.stderr
    );
    assert_eq!(podman.images()[0]["Digest"], wrong);
    assert_eq!(
        podman.cat(&format!("docker.io/library/app@{}", app.digest), "/app/version"),
        "1"
    );

    // A container of it is not removed.
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
    let create = [
        &["create", "--network", "none", "--name", "user"][..],
        &limits,
        &["docker.io/library/app:1"],
    ]
    .concat();
    podman.podman(&create).ok();
    let used = podman.load(&[&podman.inside("images"), "--force"]).code(6);
    let says = "1 container uses it, and containers are never removed";
    assert!(used.stderr.contains(says), "{}", used.stderr);
    // The command of the hint lists it, as it is.
    let hint = used
        .stderr
        .lines()
        .find(|line| line.starts_with("hint: "))
        .unwrap();
    let listed = run(podman.command("sh").args(["-c", hint.split('`').nth(1).unwrap()])).ok();
    assert!(listed.stdout.trim_end().ends_with("user"), "{}", listed.stdout);
    podman.podman(&["container", "exists", "user"]).ok();
    assert_eq!(podman.images()[0]["Digest"], wrong);
    podman.podman(&["rm", "user"]).ok();

    podman.load(&[&podman.inside("images"), "--force"]).ok();
    assert_eq!(podman.names(), names);
    assert_eq!(doctor(podman)["details"]["own_digests"], json!([]));
    twin.podman(&["tag", "docker.io/library/app:1", "localhost/mine:kept"])
        .ok();
    assert_equal(podman, &twin);
}

on_every_podman!(a_wrong_digest_is_told_and_replaced);

/// What `doctor` reports about a podman.
#[track_caller]
pub fn doctor(podman: &Podman) -> Value {
    let mut command = podman.command("sealift");
    command.args(["doctor", "--json"]).args(podman.storage());
    let socket = match podman.user() {
        User::Rootless => podman.inside("state/podman/podman.sock"),
        User::Root => "/run/podman/podman.sock".into(),
    };
    // Whatever else this host has, podman is meant.
    command.env("DOCKER_HOST", format!("unix://{socket}"));
    let document = run(&mut command).ok().json();
    let engines = document["engines"].as_array().unwrap();
    let told = engines.iter().find(|one| one["engine"] == "podman").unwrap();
    told.clone()
}

fn platforms_of_whole_and_sparse_indexes(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let foreign = Platform::foreign();
    // A sparse archive: the index with the blobs of one platform.
    let text = foreign.to_string();
    let save = |platform: &str, to: &str| {
        let images = podman.outside("images").display().to_string();
        let to = podman.outside(to).display().to_string();
        let mut sealift = podman_free_sealift();
        run(sealift.args([
            "save",
            "-q",
            "app:1",
            "--from",
            &images,
            "--platform",
            platform,
            "-o",
            &to,
        ]))
        .ok();
        run(std::process::Command::new("chmod").args(["a+r", &to])).ok();
    };
    save(&text, "foreign.tar");
    save(&Platform::host().to_string(), "host.tar");

    let refused = podman.load(&[&podman.inside("foreign.tar")]).code(7);
    assert!(refused.stderr.contains("--platform"), "{}", refused.stderr);
    assert_eq!(podman.names(), [""; 0]);
    podman
        .load(&[&podman.inside("foreign.tar"), "--platform", &text])
        .ok();
    let shown = podman.inspect("docker.io/library/app:1");
    assert_eq!(shown["Architecture"], foreign.architecture.as_str());
    assert_eq!(podman.digest("docker.io/library/app:1"), app.digest);

    podman.load(&[&podman.inside("host.tar")]).ok();
    let shown = podman.inspect("docker.io/library/app:1");
    assert_eq!(shown["Architecture"], Platform::host().architecture.as_str());
    assert_eq!(podman.digest("docker.io/library/app:1"), app.digest);
    assert_eq!(podman.cat("docker.io/library/app:1", "/app/version"), "1");
}

on_both_podmans!(platforms_of_whole_and_sparse_indexes);

/// sealift as a user of this host runs it.
fn podman_free_sealift() -> std::process::Command {
    let mut command =
        crate::support::command::clean(env!("CARGO_BIN_EXE_sealift"), Path::new("/nonexistent"));
    command.current_dir("/");
    command
}
