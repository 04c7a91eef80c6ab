//! Images with uncompressed layers and substitute manifests.

use std::fs;

use serde_json::{Value, json};

use crate::attach_offline::CLASSIC;
use crate::loading::{Images, Loader, assert_nothing_is_left, assert_runs, comparable, pulled};
use crate::support::{Built, Compression, Daemon, Engine, Image, Sealift, Store};

/// A sealift beside a daemon, and the arguments that load these images.
fn beside(daemon: &Daemon, images: &Images) -> (Sealift, Loader, Vec<String>) {
    let loader = Loader::beside(daemon);
    let run = loader.folder.path().join("run");
    let sealift = Sealift::new().docker(daemon).env("SEALIFT_RUN_DIR", run);
    let path = images.path().to_str().unwrap().to_owned();
    (sealift, loader, vec!["load".into(), path])
}

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

fn sample() -> Image {
    Image::sample("app", "1").without_index()
}

/// The names of all blobs that the engine keeps.
fn content(daemon: &Daemon) -> Vec<String> {
    let folder = daemon
        .data_root()
        .join("containerd/daemon/io.containerd.content.v1.content/blobs/sha256");
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The classic store shows the digest as after a pull; the containerd store, which needs layers as they were
/// stored, is left as it was.
fn uncompressed_layers_go_where_they_are_taken(engine: Engine, store: Store) {
    let images = Images::new();
    let image = images.add("app:1", &sample());
    let twin = pulled(engine, store, &[(&image, "library/app:1")], &["app:1".into()]);
    let daemon = Daemon::start(engine, store);
    let (sealift, loader, load) = beside(&daemon, &images);
    image.uncompress(&[0, 1, 2]);
    if store == Store::Containerd {
        return assert_refused(&daemon, &images, &image);
    }
    let plan = sealift.run(&with(&load, &["--dry-run", "--json"])).ok().json();
    let layers = &image.host().layers;
    let tar = |diff_id: &String| fs::metadata(image.blob(diff_id)).unwrap().len();
    let expected: Vec<Value> = layers
        .iter()
        .map(|layer| json!({ "digest": layer.diff_id, "size": tar(&layer.diff_id), "form": "layer" }))
        .collect();
    let pieces = plan["send"].as_array().unwrap().iter();
    assert_eq!(
        pieces
            .filter(|piece| piece["form"] != "config")
            .cloned()
            .collect::<Vec<_>>(),
        expected
    );

    let loaded = sealift.run(&with(&load, &["--json"])).ok().json();
    let shown = &loaded["images"][0];
    assert_eq!(
        json!([
            shown["digest"],
            shown["evidence"],
            shown["shown"],
            shown["obstacles"]
        ]),
        json!([image.digest, "verified", true, []])
    );
    let config = fs::metadata(image.blob(&image.host().config)).unwrap().len();
    let sum: u64 = layers.iter().map(|layer| tar(&layer.diff_id)).sum();
    assert_eq!(shown["sent"], sum + config);
    assert_eq!(daemon.images(), [format!("app:1 {}", image.digest)]);
    assert_eq!(comparable(&daemon, "app:1"), comparable(&twin, "app:1"));
    assert_runs(&daemon, &format!("app@{}", image.digest), "1");
    assert_nothing_is_left(&loader);

    // Which blobs the layers are in a registry is known all the same.
    let said = sealift.run(&with(&load, &["--keep-push-digest"])).code(6);
    assert!(said.stderr.contains("a push changes"), "{said:?}");
    let known = daemon
        .data_root()
        .join("image/overlay2/distribution/diffid-by-digest");
    for layer in layers {
        let file = known.join(layer.digest.replace(':', "/"));
        assert_eq!(fs::read_to_string(file).unwrap(), layer.diff_id);
    }
}

on_every_engine!(uncompressed_layers_go_where_they_are_taken);

#[track_caller]
fn assert_refused(daemon: &Daemon, images: &Images, image: &Built) {
    let (sealift, _loader, load) = beside(daemon, images);
    let because = json!({
        "manifest": { "from": "engine" },
        "layers": { &image.host().layers[1].digest: { "from": "uncompressed", "reason": "an unknown encoder" } },
    });
    image.annotate("dev.sealift.provenance", &because.to_string());
    let before = content(daemon);
    for more in [&[][..], &["--dry-run"]] {
        let said = sealift.run(&with(&load, more)).code(6);
        for part in [
            "app:1: it has 3 of its 3 layers only uncompressed (an unknown encoder)",
            "hint: ",
        ] {
            assert!(said.stderr.contains(part), "{said:?}");
        }
    }
    let document = sealift.run(&with(&load, &["--json"])).code(6).json();
    assert_eq!(document["error"]["exit"], 6);
    assert_eq!((daemon.images(), content(daemon)), (vec![], before));

    // Others are loaded without it.
    let good = images.add("good:1", &Image::sample("good", "1"));
    let said = sealift
        .run(&with(&load, &["--keep-going", "--json"]))
        .code(6)
        .json();
    assert_eq!(said["images"][0]["digest"], good.digest.as_str());
    assert_eq!(
        json!([
            said["images"].as_array().unwrap().len(),
            said["left_out"][0]["name"],
            said["left_out"][0]["exit"]
        ]),
        json!([1, "app:1", 6])
    );
    assert_eq!(daemon.images(), [format!("good:1 {}", good.digest)]);

    assert!(
        !content(daemon).is_empty(),
        "they are looked for in the right place"
    );

    // What the engine has as it was stored needs nothing, and gets its name.
    let whole = Images::new();
    whole.add("other:1", &sample());
    let (sealift, _loader, other) = beside(daemon, &whole);
    sealift.run(&other).ok();
    sealift.run(&load).ok();
    assert_runs(daemon, &format!("app@{}", image.digest), "1");
}

/// An image that has never had a digest goes by its tag, and nothing is called its digest.
fn a_substitute_without_a_digest_goes_by_its_tag(engine: Engine, store: Store) {
    let daemon = Daemon::start(engine, store);
    let images = Images::new();
    let image = images.add("app:1", &sample());
    image.annotate("dev.sealift.recorded", "none");
    let reason = "it was built there and never pushed";
    let because = json!({ "manifest": { "from": "stand-in", "reason": reason }, "layers": {} });
    image.annotate("dev.sealift.provenance", &because.to_string());
    let (sealift, loader, load) = beside(&daemon, &images);
    let plan = sealift.run(&with(&load, &["--dry-run"])).ok().stdout;
    assert!(
        plan.contains(&format!("digest  <none>: {reason}")) && !plan.contains(&image.digest),
        "{plan}"
    );
    let said = sealift.run(&load).ok();
    let row = said.stdout.lines().find(|line| line.starts_with("app ")).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row, ["app", "1", "<none>", "none", "-", "new"]);
    assert!(
        said.stderr.contains(&format!("note: no digest: app:1: {reason}")),
        "{said:?}"
    );
    assert!(!(said.stdout + &said.stderr).contains(&image.digest));
    // The containerd store shows the digest of the manifest that it has.
    let shown = match store {
        Store::Classic => "<none>",
        Store::Containerd => &image.digest,
    };
    assert_eq!(daemon.images(), [format!("app:1 {shown}")]);
    assert_runs(&daemon, "app:1", "1");

    let again = sealift
        .run(&with(&load, &["--json", "--keep-push-digest"]))
        .ok()
        .json();
    let told = &again["images"][0];
    let told = ["digest", "evidence", "shown", "obstacles", "no_digest", "push"].map(|key| told[key].clone());
    assert_eq!(json!(told), json!([null, "none", null, [], reason, null]));
    let quiet = sealift.run(&with(&load, &["-q"])).ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_nothing_is_left(&loader);
}

on_every_engine!(a_substitute_without_a_digest_goes_by_its_tag);

#[test]
fn a_containerd_store_is_not_told_a_recorded_digest() {
    let daemon = Daemon::start(Engine::Docker28, Store::Containerd);
    let images = Images::new();
    let recorded = format!("sha256:{}", "5".repeat(64));
    let image = images.add("app:1", &sample());
    image.annotate("dev.sealift.recorded", &recorded);
    let (sealift, _loader, load) = beside(&daemon, &images);
    let said = sealift.run(&with(&load, &["--json"])).code(6).json();
    let told = ["digest", "evidence", "shown"].map(|key| said["images"][0][key].clone());
    assert_eq!(json!(told), json!([recorded, "recorded", false]));
    let obstacles = said["images"][0]["obstacles"].to_string();
    assert!(
        obstacles.contains(&recorded) && !obstacles.contains(&image.digest),
        "{obstacles}"
    );
    assert_runs(&daemon, "app:1", "1");
}

#[test]
fn a_bare_docker_load_takes_what_was_sealed() {
    for engine in CLASSIC {
        let daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        images.add("app:1", &sample()).uncompress(&[0, 2]);
        let (sealift, _loader, load) = beside(&daemon, &images);
        let save = ["save", "--from", &load[1], "app:1", "-o", "app.tar"];
        sealift.run(&save).ok();
        sealift.run(&["verify", "app.tar"]).ok();
        daemon.docker_with_stdin(&["load"], &sealift.path("app.tar")).ok();
        assert_runs(&daemon, "app:1", "1");
    }
}

#[test]
fn zstd_layers_beside_uncompressed_ones() {
    for engine in CLASSIC {
        let daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        let image = images.add("app:1", &sample().compression(Compression::Zstd));
        image.uncompress(&[0, 2]);
        let loader = Loader::beside(&daemon);
        loader.load(&images);
        assert_eq!(daemon.images(), [format!("app:1 {}", image.digest)]);
        assert_runs(&daemon, &format!("app@{}", image.digest), "1");
    }
}

#[test]
fn a_store_without_a_daemon_gets_what_there_is_to_name() {
    for engine in CLASSIC {
        let mut daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        let app = images.add("app:1", &sample());
        app.uncompress(&[0, 1, 2]);
        let built = images.add("built:1", &Image::sample("built", "1").without_index());
        built.annotate("dev.sealift.recorded", "none");
        let (sealift, _loader, load) = beside(&daemon, &images);
        sealift.run(&with(&load, &["--attach", "none"])).ok();
        daemon.docker(&["tag", "built:1", "kept:1"]).ok();
        daemon.docker(&["rmi", "built:1"]).ok();
        daemon.stop();
        let root = daemon.data_root().to_str().unwrap().to_owned();
        let offline = with(&load, &["--data-root", &root]);
        let plan = sealift.run(&[&offline[..], &["--dry-run"]].concat()).ok().stdout;
        let steps = format!("write app@{}, built:1 into ", app.digest);
        assert!(plan.contains(&steps), "{plan}");
        let said = sealift.run(&[&offline[..], &["--json"]].concat()).ok().json();
        let shown = [0, 1].map(|at| said["images"][at]["shown"].clone());
        assert_eq!(json!(shown), json!([true, null]));
        daemon.start_again();
        let shown = daemon.images();
        for expected in [
            format!("app:1 {}", app.digest),
            "built:1 <none>".into(),
            "kept:1 <none>".into(),
        ] {
            assert!(shown.contains(&expected), "{shown:?}");
        }
        assert_runs(&daemon, &format!("app@{}", app.digest), "1");
        assert_runs(&daemon, "built:1", "1");
    }
}
