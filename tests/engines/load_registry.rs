//! Pushing into a registry, and pulling again with other tools.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::podman::{Podman, User, Version};
use crate::support::registry::Options;
use crate::support::{
    Built, Compression, Daemon, Dialect, Engine, Image, Layer, Registry, Run, Sealift, Store, run,
};

/// A registry, and sealift with images in layout folders.
pub struct Pushes {
    pub registry: Registry,
    pub sealift: Sealift,
}

impl Pushes {
    pub fn new() -> Self {
        Self::into(Registry::options())
    }

    pub fn into(options: Options) -> Self {
        Self {
            registry: options.start(),
            sealift: Sealift::new(),
        }
    }

    /// Adds an image under a name such as `docker.io/library/httpd:2.4`.
    pub fn add(&self, layout: &str, name: &str, image: &Image) -> Built {
        image.build(&self.sealift.path(layout), name)
    }

    /// The command that pushes a layout below `mirror`.
    pub fn command(&self, layout: &str, more: &[&str]) -> Command {
        let place = format!("registry://{}/mirror", self.registry.address());
        let mut command = self.sealift.command(&["load", layout, "--to", &place]);
        command.args(more);
        if self.registry.is_tls() {
            command.arg("--ca-file").arg(self.registry.ca_file());
        }
        command
    }

    /// Pushes a layout.
    #[track_caller]
    pub fn push(&self, layout: &str, more: &[&str]) -> Run {
        run(&mut self.command(layout, more))
    }

    #[track_caller]
    fn push_json(&self, layout: &str) -> Value {
        self.push(layout, &["--json"]).ok().json()
    }

    /// Logs in with a password.
    fn log_in(&self, password: &str) {
        let mut encoded = Command::new("base64");
        let said = run(encoded.arg("-w0").arg({
            let file = self.sealift.path("password");
            fs::write(&file, format!("me:{password}")).unwrap();
            file
        }));
        let config = serde_json::json!({"auths": {self.registry.address(): {"auth": said.ok().stdout}}});
        fs::create_dir_all(self.sealift.path(".docker")).unwrap();
        fs::write(self.sealift.path(".docker/config.json"), config.to_string()).unwrap();
    }

    /// Fails unless the registry has every blob of an image, byte for byte, under a name.
    #[track_caller]
    pub fn assert_has(&self, name: &str, image: &Built) {
        assert_eq!(self.registry.digest_of(name), image.digest, "{name}");
        for digest in image.blobs() {
            let found = fs::read(self.registry.blob_path(&digest)).unwrap();
            assert!(
                found == fs::read(image.blob(&digest)).unwrap(),
                "{digest} differs"
            );
        }
    }

    /// The requests that changed something, without those of authentication.
    fn changes(&self) -> Vec<String> {
        let requests = self.registry.requests().into_iter();
        let changes =
            requests.filter(|one| !["GET", "HEAD"].contains(&one.method.as_str()) && one.status != 401);
        changes
            .map(|one| format!("{} {}", one.method, one.target))
            .collect()
    }
}

fn kept(sample: &str) -> [Image; 3] {
    [
        Image::sample(sample, "2.4"),
        Image::sample("redis", "7").dialect(Dialect::Docker),
        Image::sample("tool", "3")
            .compression(Compression::Zstd)
            .without_index(),
    ]
}

const NAMES: [&str; 3] = [
    "docker.io/library/httpd:2.4",
    "quay.io/team/redis:7",
    "registry.example:5000/tool:3",
];
const PUSHED: [&str; 3] = ["mirror/library/httpd:2.4", "mirror/team/redis:7", "mirror/tool:3"];

/// With a password and TLS: what skopeo reads there is what the archive has.
#[test]
fn what_is_pushed_is_what_the_archive_has() {
    let mut pushes = Pushes::into(Registry::options().user("me", "secret").tls());
    pushes.log_in("secret");
    let images = kept("httpd");
    let built: Vec<Built> = images
        .iter()
        .zip(NAMES)
        .map(|(image, name)| pushes.add("images", name, image))
        .collect();
    let document = pushes.push_json("images");
    for (image, name) in document["images"].as_array().unwrap().iter().zip(PUSHED) {
        let expected = format!("{}/{name}", pushes.registry.address());
        assert_eq!(
            (image["tag"].as_str(), &image["shown"]),
            (Some(expected.as_str()), &true.into())
        );
        assert_eq!(image["change"], "new");
    }
    for (image, name) in built.iter().zip(PUSHED) {
        pushes.assert_has(name, image);
        let copy = pushes.sealift.path("copy");
        let mut skopeo = pushes.registry.skopeo("copy", "--src-");
        skopeo.args(["--all", "--preserve-digests"]);
        skopeo.arg(format!("docker://{}/{name}", pushes.registry.address()));
        run(skopeo.arg(format!("dir:{}", copy.display()))).ok();
        let manifest = fs::read(copy.join("manifest.json")).unwrap();
        assert!(manifest == fs::read(image.blob(&image.digest)).unwrap());
        fs::remove_dir_all(copy).unwrap();
    }
    // The second time there is nothing to do.
    pushes.registry.forget_requests();
    let again = pushes.push_json("images");
    assert_eq!(again["sent"], 0);
    assert!(
        again["images"]
            .as_array()
            .unwrap()
            .iter()
            .all(|image| image["change"] == "unchanged")
    );
    assert_eq!(pushes.changes(), [""; 0]);
}

#[test]
fn docker_and_podman_pull_what_is_pushed() {
    let pushes = Pushes::new();
    let image = pushes.add("images", NAMES[0], &Image::sample("httpd", "2.4"));
    pushes.push("images", &[]).ok();
    let name = format!("{}/mirror/library/httpd", pushes.registry.address());
    let pinned = format!("{name}@{}", image.digest);
    for (engine, store) in [
        (Engine::Docker20, Store::Classic),
        (Engine::Docker28, Store::Containerd),
    ] {
        let daemon = Daemon::start(engine, store);
        daemon.docker(&["pull", "--quiet", &pinned]).ok();
        let tagged = format!("{name}:2.4");
        daemon.docker(&["pull", "--quiet", &tagged]).ok();
        let digests = &daemon.inspect(&tagged).unwrap()["RepoDigests"];
        assert_eq!(digests, &serde_json::json!([pinned]));
    }
    let podman = Podman::new(Version::Five, User::Root);
    let mut pull = podman.command("podman");
    pull.args(podman.storage());
    run(pull.args(["pull", "--quiet", "--tls-verify=false", &pinned])).ok();
    assert!(podman.images()[0]["RepoDigests"].to_string().contains(&pinned));
}

#[test]
fn an_update_sends_only_what_is_new() {
    let mut pushes = Pushes::new();
    let base = || Layer::busybox();
    let app = |version: &str| Image::single(vec![base(), Layer::new().file("app/version", version)]);
    pushes.add("old", "docker.io/team/app:1", &app("1"));
    pushes.push("old", &[]).ok();
    pushes.registry.forget_requests();
    let new = pushes.add("new", "docker.io/team/app:1", &app("2"));
    pushes.add("new", "docker.io/team/other:1", &app("2"));
    let document = pushes.push_json("new");
    let app = &document["images"][0];
    assert_eq!(app["change"], "moved", "{document}");
    assert!(app["moved_from"].as_str().unwrap().starts_with("sha256:"));
    pushes.assert_has("mirror/team/app:1", &new);
    pushes.assert_has("mirror/team/other:1", &new);
    let changes = pushes.changes();
    let sent: Vec<&String> = changes
        .iter()
        .filter(|one| one.contains("/uploads/") && one.starts_with("PUT"))
        .collect();
    // One layer and one config; the other repository mounts all it needs.
    assert_eq!(sent.len(), 2, "{changes:?}");
    let mounted = changes.iter().filter(|one| one.contains("mount="));
    assert_eq!(mounted.count(), 3, "{changes:?}");
    let last: Vec<&str> = changes.iter().rev().take(2).map(String::as_str).collect();
    assert!(last.iter().all(|one| one.contains("/manifests/1")), "{changes:?}");
}

/// Saves this host's platform of httpd:2.4 in the layout `whole` to `one.tar`.
#[track_caller]
pub fn save_one_platform(sealift: &Sealift) {
    let save = ["save", "-q", "--from", "whole", "--platform", "host", "-o"];
    sealift.run(&[&save[..], &["one.tar", "httpd:2.4"]].concat()).ok();
}

#[test]
fn a_sparse_index_is_refused_before_anything_is_sent() {
    let mut pushes = Pushes::new();
    let old = pushes.add("old", NAMES[0], &Image::sample("httpd", "2.3"));
    pushes.push("old", &[]).ok();
    let whole = pushes.add("whole", NAMES[0], &Image::sample("httpd", "2.4"));
    let host = whole.host().clone();
    save_one_platform(&pushes.sealift);
    pushes.registry.forget_requests();
    let refused = pushes.push("one.tar", &[]).code(4);
    for text in [
        "does not take the index of this image",
        "--platform-manifest",
        "--from registry --platform all",
    ] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let changes = pushes.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    pushes.assert_has(PUSHED[0], &old);
    // A dry run warns.
    let planned = pushes.push("one.tar", &["--dry-run"]).ok();
    assert!(planned.stderr.contains("of its index"), "{}", planned.stderr);
    let document = pushes
        .push("one.tar", &["--platform-manifest", "--json"])
        .ok()
        .json();
    assert_eq!(document["images"][0]["digest"], host.digest);
    assert_eq!(pushes.registry.digest_of(PUSHED[0]), host.digest);
    // With all platforms the index is taken.
    pushes.push("whole", &[]).ok();
    pushes.assert_has(PUSHED[0], &whole);
}

#[test]
fn a_push_without_the_right_to_push_says_so() {
    let pushes = Pushes::into(Registry::options().user("me", "secret"));
    pushes.add("images", NAMES[0], &Image::small("httpd"));
    let denied = pushes.push("images", &[]).code(4);
    assert!(
        denied.stderr.contains("a push needs an account"),
        "{}",
        denied.stderr
    );
    assert!(denied.stderr.contains("docker login"), "{}", denied.stderr);
    pushes.log_in("wrong-password");
    let rejected = pushes.push("images", &[]).code(4);
    assert!(rejected.stderr.contains("were rejected"), "{}", rejected.stderr);
    assert!(!rejected.stderr.contains("wrong-password"));
    let read_only = Pushes::into(Registry::options().read_only());
    read_only.add("images", NAMES[0], &Image::small("httpd"));
    let refused = read_only.push("images", &[]).code(4);
    assert!(refused.stderr.contains("takes no pushes"), "{}", refused.stderr);
}

#[test]
fn an_image_is_pushed_under_the_name_that_it_was_given() {
    let pushes = Pushes::new();
    let image = pushes.add("images", NAMES[0], &Image::small("httpd"));
    let renamed = format!("httpd={}/mirror/web", pushes.registry.address());
    pushes.push("images", &["--rename", &renamed]).ok();
    pushes.assert_has("mirror/web:2.4", &image);
}
