//! Images from containerd: what CRI has pulled, after the registry is gone.

use std::process::Command;

use serde_json::Value;

use crate::containerd::twin::Origin;
use crate::containerd::{Contents, NAMESPACE, collect_garbage};
use crate::support::containerd::Version;
use crate::support::{Containerd, Daemon, Engine, Image, Layer, Run, Store, run};

const NAME: &str = "quay.io/team/app";

/// The label of a layer that is unpacked.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

#[track_caller]
fn save(origin: &Origin, containerd: &Containerd, more: &[&str]) -> Run {
    let socket = containerd.socket();
    let place = ["save", "--json", "--from", "containerd", "--containerd-address"];
    let args = [
        &place[..],
        &[socket.to_str().unwrap(), "--namespace", NAMESPACE],
        more,
    ]
    .concat();
    origin.sealift.run(&args)
}

/// Name, digest and evidence of each image that is verified in an archive.
#[track_caller]
fn verified(origin: &Origin, archive: &str) -> Vec<(Value, Value, Value)> {
    let document = origin.sealift.run(&["verify", "--json", archive]).ok().json();
    let images = document["archives"][0]["images"].as_array().unwrap().clone();
    let image = |image: Value| {
        (
            image["name"].clone(),
            image["digest"].clone(),
            image["evidence"].clone(),
        )
    };
    images.into_iter().map(image).collect()
}

/// Everything is saved with its digests, from the folder or over the API, and is what the registry gave.
fn what_was_pulled_is_saved_when_the_registry_is_gone(version: Version) {
    let mut origin = Origin::new();
    let (tag, pinned) = (format!("{NAME}:1"), "docker.io/library/web");
    let app = origin.push(&tag, &Image::sample("app", "1"));
    let web = origin.push(&format!("{pinned}:2"), &Image::sample("web", "2").without_index());
    let by_digest = format!("{pinned}@{}", web.digest);
    let containerd = origin.pulled(version, &[&tag, &by_digest]);
    let platform = crate::support::Platform::host().to_string();
    origin.save("registry.tar", &[&tag], &["--platform", &platform]);
    origin.registry.stop();

    save(&origin, &containerd, &["--offline", "-o", "one.tar", &tag]).ok();
    let expected = vec![(tag.as_str().into(), app.digest.as_str().into(), "verified".into())];
    assert_eq!(verified(&origin, "one.tar"), expected);
    // The image id that CRI shows, and the digest that `ctr` shows.
    for id in [
        &app.host().config[..],
        &app.host().config[7..19],
        &app.digest,
        &app.digest[7..19],
    ] {
        save(&origin, &containerd, &["--offline", "-o", "id.tar", id]).ok();
        let [(name, digest, evidence)] = &verified(&origin, "id.tar")[..] else {
            panic!("{id}");
        };
        assert_eq!((name, digest), (&Value::Null, &expected[0].1));
        assert_eq!(evidence, "verified");
    }
    // But for attestations, which a pull leaves out.
    let manifests = |archive: &str| {
        let list = origin.sealift.run(&["list", "--json", archive]).ok().json();
        list["archives"][0]["images"][0]["manifests"].clone()
    };
    assert_eq!(manifests("one.tar"), manifests("registry.tar"));

    let document = save(&origin, &containerd, &["--offline", "--all", "-o", "all.tar"])
        .ok()
        .json();
    assert_eq!(document["nameless"], serde_json::json!([]));
    let mut found = verified(&origin, "all.tar");
    found.sort_by_key(|(name, ..)| name.to_string());
    let digest = |digest: &str| Value::from(digest);
    assert_eq!(
        found
            .iter()
            .map(|(_, digest, _)| digest.clone())
            .collect::<Vec<_>>(),
        [digest(&app.digest), digest(&web.digest)],
        "{found:?}"
    );
    assert!(
        found.iter().all(|(.., evidence)| evidence == "verified"),
        "{found:?}"
    );
    // `auto` asks it too where the environment names it.
    let place = [
        ("CONTAINERD_ADDRESS", containerd.socket()),
        ("CONTAINERD_NAMESPACE", NAMESPACE.into()),
    ];
    let mut command = origin
        .sealift
        .command(&["save", "--offline", "-q", "-o", "auto.tar", &by_digest]);
    crate::support::run(command.envs(place)).ok();
    assert_eq!(verified(&origin, "auto.tar")[0].1, digest(&web.digest));
    save(
        &origin,
        &containerd,
        &["--offline", "-o", "x.tar", "quay.io/team/app:9"],
    )
    .code(7);
}

on_every_containerd!(what_was_pulled_is_saved_when_the_registry_is_gone);

/// A layer that containerd has discarded comes from the registry, or is reported as missing.
#[test]
fn a_discarded_layer_is_fetched_or_reported() {
    let origin = Origin::new();
    let tag = format!("{NAME}:1");
    let app = origin.push(&tag, &Image::sample("app", "1"));
    let containerd = origin.pulled(Version::V2_1, &[&tag]);
    let layer = &app.host().layers[1].digest;
    containerd.ctr(NAMESPACE, &["content", "rm", layer]).ok();
    let said = save(&origin, &containerd, &["--offline", "-o", "app.tar", &tag]);
    assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
    assert!(said.stderr.contains(&layer[..19]), "{}", said.stderr);
    assert!(!origin.sealift.path("app.tar").exists());
    let mirror = format!("quay.io={}", origin.registry.address());
    save(
        &origin,
        &containerd,
        &["--mirror", &mirror, "-o", "app.tar", &tag],
    )
    .ok();
    assert_eq!(verified(&origin, "app.tar")[0].1, app.digest.as_str());
}

/// Layers that containerd has discarded are written from their snapshots, and recompressed where the encoder is known: those
/// of Docker's classic builder, and of BuildKit.
fn a_discarded_layer_is_recompressed(version: Version) {
    for engine in [Engine::Docker20, Engine::Docker28] {
        let mut origin = Origin::new();
        let docker = Daemon::start(engine, Store::Classic);
        docker.build_of("app", 2, |at, folder| match at {
            0 => Layer::busybox().file("app/name", "app").write_to(folder),
            _ => Layer::new()
                .file("app/version", "1")
                .noise("app/data", 5, 200_000)
                .write_to(folder),
        });
        let digest = docker.push("app", &format!("{}/team/app:1", origin.registry.address()));
        let tag = format!("{NAME}:1");
        let containerd = origin.pulled(version, &[&tag]);
        origin.registry.stop();
        let before = Contents::of(&containerd, NAMESPACE);
        let layers: Vec<_> = before
            .content
            .iter()
            .filter(|(_, blob)| blob.labels.contains_key(UNCOMPRESSED))
            .collect();
        assert_eq!(layers.len(), 2);
        for (layer, _) in &layers {
            containerd.ctr(NAMESPACE, &["content", "rm", layer]).ok();
        }
        collect_garbage(&containerd, NAMESPACE);
        let report = save(&origin, &containerd, &["--offline", "-o", "app.tar", &tag]).ok();
        assert_eq!(
            verified(&origin, "app.tar"),
            [(tag.as_str().into(), digest.as_str().into(), "verified".into())],
            "{report:?}"
        );
        let mut tar = Command::new("tar");
        let entries = run(tar.arg("-tf").arg(origin.sealift.path("app.tar")))
            .ok()
            .stdout;
        for (layer, _) in &layers {
            // Debian's Docker 28 has the gzip encoder of Go 1.27, which is not known: its layers stay uncompressed.
            let is_stored = entries.contains(&layer.replace(':', "/"));
            assert_eq!(is_stored, engine == Engine::Docker20, "{layer}: {entries}");
        }
        let mut expected = before.clone();
        expected
            .content
            .retain(|digest, _| !layers.iter().any(|(layer, _)| *layer == digest));
        Contents::of(&containerd, NAMESPACE).assert_same(&expected, "after the save");
    }
}

on_every_containerd!(a_discarded_layer_is_recompressed);
