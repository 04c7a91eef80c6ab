//! Pushing into another registry than distribution: that of go-containerregistry, which crane serves.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load_registry::save_one_platform;
use crate::serve::assert_has_all;
use crate::support::engine::Root;
use crate::support::podman::{Podman, User, Version};
use crate::support::{Built, Compression, Dialect, Engine, Folder, Image, Layer, Sealift, command, run};

/// How long a registry may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `crane registry serve` that keeps everything in memory.
struct Crane {
    address: String,
    folder: Folder,
    _child: Child,
}

impl Crane {
    fn start() -> Self {
        let folder = Folder::new();
        let root = Root::new(Engine::Docker28, folder.path());
        let log = folder.path().join("crane.log");
        let mut serve = root.command("crane");
        serve.args(["registry", "serve", "--address", "127.0.0.1:0"]);
        let mut child = folder.spawn(&mut serve, &log);
        let until = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = text.split_once("serving on port ")
                && let Some((port, _)) = rest.split_once('\n')
            {
                let address = format!("127.0.0.1:{port}");
                return Self {
                    address,
                    folder,
                    _child: child,
                };
            }
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "crane does not listen ({ended:?}): {text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The requests that write, of those that it has logged since `before` bytes of its log.
    fn writes_since(&self, before: usize) -> Vec<String> {
        let lines = self.log()[before..]
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let reads = |line: &String| [" GET ", " HEAD "].iter().any(|method| line.contains(method));
        lines.into_iter().filter(|line| !reads(line)).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("crane.log")).unwrap()
    }

    fn push(&self, sealift: &Sealift, archive: &str, more: &[&str]) -> Command {
        let place = format!("registry://{}/mirror", self.address);
        sealift.command(&[&["load", archive, "--to", &place][..], more].concat())
    }

    /// Fails unless skopeo finds every byte of an image under this name.
    fn assert_has(&self, name: &str, image: &Built) {
        let copy = tempfile::tempdir().unwrap();
        let mut skopeo = command::clean("/usr/bin/skopeo", copy.path());
        skopeo.args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
        skopeo.args([
            "--src-tls-verify=false",
            &format!("docker://{}/{name}", self.address),
        ]);
        run(skopeo.arg(format!("dir:{}", copy.path().display()))).ok();
        assert_has_all(copy.path(), image);
    }
}

#[test]
fn what_is_pushed_is_pulled_again() {
    let (crane, sealift) = (Crane::start(), Sealift::new());
    let images = [
        Image::sample("httpd", "2.4"),
        Image::sample("redis", "7").dialect(Dialect::Docker),
        // Large enough to be streamed.
        Image::single(vec![
            Layer::busybox(),
            Layer::new().noise("app/data", 1, 3_000_000),
        ])
        .compression(Compression::Zstd),
    ];
    let names = [
        "docker.io/library/httpd:2.4",
        "quay.io/team/redis:7",
        "registry.example:5000/tool:3",
    ];
    let pushed = ["mirror/library/httpd:2.4", "mirror/team/redis:7", "mirror/tool:3"];
    let layout = sealift.path("images");
    let built = [0, 1, 2].map(|at: usize| images[at].build(&layout, names[at]));
    let document = run(&mut crane.push(&sealift, "images", &["--json"])).ok().json();
    let shown: Vec<&Value> = document["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["shown"])
        .collect();
    assert_eq!(shown, [&Value::Bool(true); 3], "{document}");
    for (name, image) in pushed.iter().zip(&built) {
        crane.assert_has(name, image);
        let reference = format!("{}/{name}", crane.address);
        sealift.run(&["verify", &reference]).ok();
    }
    let podman = Podman::new(Version::Five, User::Root);
    let pinned = format!("{}/mirror/library/httpd@{}", crane.address, built[0].digest);
    let mut pull = podman.command("podman");
    pull.args(podman.storage());
    run(pull.args(["pull", "--quiet", "--tls-verify=false", &pinned])).ok();
    assert!(podman.images()[0]["RepoDigests"].to_string().contains(&pinned));
    // The second time there is nothing to do.
    let before = crane.log().len();
    let again = run(&mut crane.push(&sealift, "images", &["--json"])).ok().json();
    assert_eq!(again["sent"], 0);
    assert_eq!(crane.writes_since(before), [""; 0]);
}

#[test]
fn a_sparse_index_is_refused_before_anything_is_sent() {
    let (crane, sealift) = (Crane::start(), Sealift::new());
    let image = Image::sample("httpd", "2.4").build(&sealift.path("whole"), "docker.io/library/httpd:2.4");
    save_one_platform(&sealift);
    let before = crane.log().len();
    let refused = run(&mut crane.push(&sealift, "one.tar", &[])).code(4);
    assert!(
        refused.stderr.contains("does not take the index of this image"),
        "{}",
        refused.stderr
    );
    let writes = crane.writes_since(before);
    assert_eq!(writes.len(), 1, "only the question: {writes:?}");
    run(&mut crane.push(&sealift, "one.tar", &["--platform-manifest"])).ok();
    let mut digest = command::clean("/usr/bin/skopeo", &sealift.path(""));
    digest.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    let name = format!("docker://{}/mirror/library/httpd:2.4", crane.address);
    assert_eq!(run(digest.arg(name)).ok().stdout.trim(), image.host().digest);
}
