//! Which image of an index is taken: by sealift the one that engines and skopeo take.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::loading::assert_runs;
use crate::support::command::clean;
use crate::support::image::{sha256, store};
use crate::support::{Built, Daemon, Engine, Image, Layer, Platform, Sealift, Store, run};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NAME: &str = "docker.io/library/app:1";

/// A layout folder with the images `good` and `evil`, whose indexes are made by hand.
struct Layout {
    folder: PathBuf,
    good: Built,
    evil: Built,
}

impl Layout {
    fn new(folder: PathBuf) -> Layout {
        let image = |version: &str| {
            let layers = vec![Layer::busybox(), Layer::new().file("app/version", version)];
            Image::single(layers).build(&folder, version)
        };
        let (good, evil) = (image("good"), image("evil"));
        Layout { folder, good, evil }
    }

    fn entry(image: &Built, platform: Option<&str>) -> Value {
        let mut entry = json!({"mediaType": image.media_type, "digest": image.digest, "size": image.size});
        if let Some(platform) = platform {
            let (os, architecture) = platform.split_once('/').unwrap();
            entry["platform"] = json!({"os": os, "architecture": architecture});
        }
        entry
    }

    /// The manifest of `evil` with a config of a type that is no image's.
    fn artifact(&self) -> Value {
        let manifest = fs::read_to_string(self.evil.blob(&self.evil.digest)).unwrap();
        let manifest = manifest.replace(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.acme.config+json",
        );
        let digest = store(&self.folder.join("blobs/sha256"), manifest.as_bytes());
        json!({"mediaType": self.evil.media_type, "digest": digest, "size": manifest.len()})
    }

    /// Writes an index and gives its descriptor.
    fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
        let digest = store(&self.folder.join("blobs/sha256"), index.as_bytes());
        json!({"mediaType": INDEX, "digest": digest, "size": index.len()})
    }

    /// An archive in which this is `app:1`.
    fn archive(&self, index: &Value, archive: &Path) {
        let mut index = index.clone();
        index["annotations"] =
            json!({"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME});
        let layout = json!({"schemaVersion": 2, "manifests": [index]});
        fs::write(self.folder.join("index.json"), layout.to_string()).unwrap();
        let mut tar = clean("/usr/bin/tar", Path::new("/nonexistent"));
        tar.arg("-cf").arg(archive).arg("-C").arg(&self.folder);
        run(tar.args(["oci-layout", "blobs", "index.json"])).ok();
    }
}

/// What skopeo takes: the id of the image.
fn skopeo_takes(archive: &Path) -> String {
    let mut skopeo = clean("/usr/bin/skopeo", Path::new("/nonexistent"));
    skopeo.args(["inspect", "--config", "--raw"]);
    let config = run(skopeo.arg(format!("oci-archive:{}:{NAME}", archive.display()))).ok();
    sha256(config.stdout.trim_end_matches('\n').as_bytes())
}

fn sealift_takes_what_an_engine_takes(engine: Engine, kind: Store) {
    let sealift = Sealift::new();
    let layout = Layout::new(sealift.path("layout"));
    let host = Platform::host().to_string();
    let host = host.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let named = Some(host.as_str());
    let foreign = Platform::foreign().to_string();
    let foreign = foreign.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let (good, artifact) = (Layout::entry(&layout.good, named), layout.artifact());
    let mut for_host = artifact.clone();
    for_host["platform"] = good["platform"].clone();
    let mut for_foreign = artifact.clone();
    for_foreign["platform"] = json!({"os": "linux", "architecture": foreign.split_once('/').unwrap().1});
    for manifests in [
        [good.clone(), artifact],
        [for_foreign, good.clone()],
        [good.clone(), for_host],
        [layout.index(std::slice::from_ref(&good)), layout.index(&[])],
    ] {
        let index = layout.index(&manifests);
        let archive = sealift.path("app.tar");
        layout.archive(&index, &archive);
        let id = &layout.good.manifests[0].config;
        assert_eq!(skopeo_takes(&archive), *id, "{manifests:?}");
        sealift.run(&["verify", "app.tar"]).ok();

        let daemon = Daemon::start(engine, kind);
        let loader = Sealift::new().docker(&daemon);
        let load = loader.run(&["load", "--attach", "none", archive.to_str().unwrap()]);
        if kind == Store::Containerd {
            let twin = Daemon::start(engine, kind);
            twin.docker_with_stdin(&["load"], &archive).ok();
            if engine == Engine::Docker26 && manifests[0]["mediaType"] == INDEX {
                // It keeps an index in an index, and runs no image of it.
                assert_eq!(twin.docker(&["run", "app:1"]).code, Some(125));
                load.code(5);
                assert_eq!(daemon.images(), ["<none>:<none> <none>"]);
                continue;
            }
            assert_runs(&twin, "app:1", "good");
        }
        load.ok();
        assert_runs(&daemon, "app:1", "good");
    }
}

on_every_engine!(sealift_takes_what_an_engine_takes);

#[test]
fn an_index_that_engines_read_differently_is_refused() {
    let sealift = Sealift::new();
    let layout = Layout::new(sealift.path("layout"));
    let named = Some("linux/amd64");
    let (good, evil) = (&layout.good, &layout.evil);
    let nested = layout.index(&[Layout::entry(good, named)]);
    let x86 = Platform {
        architecture: "386".into(),
        variant: None,
        ..Platform::host()
    };
    let x86 = Image {
        platforms: vec![(x86, vec![Layer::new().file("app/version", "386")])],
        ..Image::single(Vec::new())
    };
    let x86 = x86.build(&layout.folder, "386");
    let two = "platform-of-two-images";
    for (code, manifests) in [
        // Docker 28's containerd store takes it, and calls it the image.
        (
            "platform-of-no-image",
            [layout.artifact(), Layout::entry(good, named)],
        ),
        // skopeo and containerd take the second of these, Docker 28's containerd store the first.
        (two, [Layout::entry(good, None), Layout::entry(evil, named)]),
        (two, [nested, Layout::entry(evil, named)]),
        (two, [Layout::entry(good, named), Layout::entry(evil, named)]),
        (
            two,
            [Layout::entry(good, named), Layout::entry(evil, Some("/amd64"))],
        ),
        (two, [Layout::entry(good, None), Layout::entry(evil, None)]),
        // A pull of Docker 26 and 28 takes the second; skopeo and a load into the containerd store take the first.
        (
            two,
            [Layout::entry(good, None), Layout::entry(&x86, Some("linux/386"))],
        ),
    ] {
        let index = layout.index(&manifests);
        layout.archive(&index, &sealift.path("app.tar"));
        let found = sealift.run(&["verify", "--json", "app.tar"]).code(1).json();
        let finding = &found["archives"][0]["findings"][0];
        assert_eq!(finding["code"], code, "{manifests:?}");
        assert_eq!(finding["place"]["digest"], index["digest"]);
        let save = ["save", "-q", "--from", "app.tar", "app:1", "-o", "saved.tar"];
        let refused = sealift.run(&save).code(1);
        assert!(refused.stderr.contains("engines "), "{refused:?}");
    }
}
