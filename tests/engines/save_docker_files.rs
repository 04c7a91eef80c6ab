//! Archives that engines and tools have written, without the manifests that a registry had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::saving::{BY_PUSH, GO, Served, assert_proven, layers_with_twins, told};
use crate::support::{Daemon, Engine, Registry, Sealift, Store, run};

/// An archive, the name that it has in there, and where its manifest is in it, if it is.
struct Archive {
    file: PathBuf,
    name: String,
    has_manifest: bool,
}

/// A daemon's own `docker save`.
fn docker_save(daemon: &Daemon, name: &str) -> Archive {
    let (file, inside) = (daemon.data("saved.tar"), daemon.data_inside("saved.tar"));
    daemon
        .docker(&["save", "-o", inside.to_str().unwrap(), name])
        .ok();
    Archive {
        file,
        name: name.into(),
        has_manifest: daemon.store() == Store::Containerd,
    }
}

fn skopeo_archive(registry: &Registry, folder: &Path) -> Archive {
    let file = folder.join("skopeo.tar");
    let mut skopeo = registry.skopeo("copy", "--src-");
    skopeo.arg(format!("docker://{}/library/app:1", registry.address()));
    run(skopeo.arg(format!("docker-archive:{}:skopeo/app:1", file.display()))).ok();
    Archive {
        file,
        name: "skopeo/app:1".into(),
        has_manifest: false,
    }
}

fn podman_save(registry: &Registry, folder: &Path) -> Archive {
    let file = folder.join("podman.tar");
    let name = format!("{}/library/app:1", registry.address());
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        for (flag, name) in [("--root", "root"), ("--runroot", "run")] {
            command.arg(flag).arg(folder.join(name));
        }
        run(command.args(["--storage-driver", "vfs"]).args(arguments)).ok();
    };
    podman(&["pull", "--quiet", "--tls-verify=false", &name]);
    podman(&["save", "--quiet", "-o", file.to_str().unwrap(), &name]);
    Archive {
        file,
        name,
        has_manifest: false,
    }
}

#[test]
fn archives_of_docker_skopeo_and_podman() {
    let registry = Registry::start();
    let sealift = Sealift::new();
    let builder = Daemon::start(Engine::Docker20, Store::Classic);
    let pushed = format!("{}/library/app:1", registry.address());
    builder.build("app", &layers_with_twins("1"));
    let digest = builder.push("app", &pushed);
    let served = Served::by(&registry, "library/app:1");
    let mirrored = |store| {
        let daemon = Daemon::options(Engine::Docker28, store).mirror(&registry).start();
        daemon.docker(&["pull", "--quiet", "app:1"]).ok();
        daemon
    };
    let pullers = [Store::Classic, Store::Containerd].map(mirrored);
    let archives = [
        docker_save(&builder, &pushed),
        docker_save(&pullers[0], "app:1"),
        docker_save(&pullers[1], "app:1"),
        skopeo_archive(&registry, sealift.home()),
        podman_save(&registry, sealift.home()),
    ];
    drop(registry);

    let regenerated = manifests_in(&archives[1].file);
    assert!(
        regenerated.iter().all(|found| *found != digest),
        "{regenerated:?}"
    );
    for archive in &archives {
        let file = archive.file.to_str().unwrap();
        let line = ["save", "--json", "--offline", "--from", file, "-o", "images.tar"];
        // The archive says nothing of a digest: none is made up.
        let image = told(&sealift, &sealift.run(&line).ok(), "images.tar");
        let by_name = told(
            &sealift,
            &sealift.run(&[&line[..], &[&archive.name]].concat()).ok(),
            "images.tar",
        );
        assert_eq!(by_name, image);
        for compressor in ["gzip", "zstd"] {
            let script =
                format!("{compressor} -q < {file} | sealift save --json --offline --from - -o images.tar");
            let mut compressed = told(&sealift, &run(&mut sealift.shell(&script)).ok(), "images.tar");
            assert_eq!(compressed["from"], "standard input");
            compressed["from"] = image["from"].clone();
            assert_eq!(compressed, image, "{compressor}");
        }
        let by_digest = format!("{}@{digest}", archive.name);
        let proven = sealift
            .run(&[&line[..], &[&by_digest, "--rebuild", "require"]].concat())
            .ok();
        let proven = told(&sealift, &proven, "images.tar");
        if archive.has_manifest {
            assert_eq!(
                (&image["digest"], &image["evidence"]),
                (&json!(digest), &json!("verified"))
            );
            assert_eq!(
                (&proven["digest"], &proven["evidence"]),
                (&json!(digest), &json!("verified"))
            );
        } else {
            assert_eq!(
                json!([
                    image["digest"],
                    image["evidence"],
                    image["provenance"]["manifest"]["from"]
                ]),
                json!([null, "none", "stand-in"])
            );
            assert_proven(&proven, &digest, BY_PUSH, &[(GO, 4)]);
        }
        let blob = entry(
            &sealift.path("images.tar"),
            &format!("blobs/{}", digest.replace(':', "/")),
        );
        assert_eq!(String::from_utf8(blob).unwrap(), served.raw);
        // Nothing is given as another digest.
        let other = format!("{}@sha256:{}", archive.name, "0".repeat(64));
        sealift.run(&[&line[..], &[&other]].concat()).code(7);
    }
}

/// The digests that `index.json` of an archive names.
fn manifests_in(archive: &Path) -> Vec<String> {
    let index: serde_json::Value = serde_json::from_slice(&entry(archive, "index.json")).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["digest"].as_str().unwrap().to_owned())
        .collect()
}

fn entry(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut found = entries
        .find(|entry| entry.path_bytes() == name.as_bytes())
        .unwrap_or_else(|| panic!("no {name}"));
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut found, &mut bytes).unwrap();
    bytes
}
