//! Images from Docker that cannot be recovered completely, or that were never pushed.

use std::fs;

use serde_json::{Value, json};

use crate::loading::assert_runs;
use crate::saving::{Served, at, layers, saved, told};
use crate::support::{Compression, Daemon, Engine, Image, Layer, Registry, Sealift, Store, run};

const OUT_OF: [&str; 3] = ["--from", "docker", "--offline"];

/// Pushes layers of unknown encoders: by GNU gzip, by skopeo, as zstd.
fn push_unknown_encoders(
    registry: &Registry,
    sealift: &Sealift,
    with_zstd: bool,
) -> Vec<(&'static str, Served)> {
    let layout = sealift.path("layout");
    let image = |compression| Image::single(layers("1")).compression(compression);
    let mut names = vec!["gnu", "skopeo"];
    let gnu = image(Compression::GnuGzip).build(&layout, "gnu");
    registry.push(&gnu, "library/gnu:1");
    image(Compression::Plain).build(&layout, "plain");
    let mut skopeo = registry.skopeo("copy", "--dest-");
    skopeo.args(["--dest-compress-format", "gzip"]);
    skopeo.arg(format!("oci:{}:plain", layout.display()));
    run(skopeo.arg(format!("docker://{}/library/skopeo:1", registry.address()))).ok();
    if with_zstd {
        let zstd = image(Compression::Zstd).build(&layout, "zstd");
        registry.push(&zstd, "library/zstd:1");
        names.push("zstd");
    }
    let served = |name: &str| Served::by(registry, &format!("library/{name}:1"));
    names.into_iter().map(|name| (name, served(name))).collect()
}

/// The reasons why layers are uncompressed.
fn reasons(image: &Value) -> Vec<String> {
    let layers = image["provenance"]["layers"].as_object().unwrap().values();
    layers
        .filter(|layer| layer["from"] == "uncompressed")
        .map(|layer| layer["reason"].as_str().unwrap().to_owned())
        .collect()
}

/// What a folder has, apart from what a save is given.
fn names_in(sealift: &Sealift) -> Vec<String> {
    let entries = fs::read_dir(sealift.home()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn layers_of_unknown_encoders(puller: Engine) {
    let registry = Registry::start();
    let sealift = Sealift::new();
    // 20.10 cannot unpack zstd.
    let pushed = push_unknown_encoders(&registry, &sealift, puller != Engine::Docker20);
    let daemon = Daemon::options(puller, Store::Classic).mirror(&registry).start();
    for (name, _) in &pushed {
        daemon.docker(&["pull", "--quiet", &format!("{name}:1")]).ok();
    }
    drop(registry);
    let classic = Daemon::start(Engine::Docker20, Store::Classic);
    let containerd = Daemon::start(Engine::Docker28, Store::Containerd);
    for (name, served) in &pushed {
        let (image, archive) = (format!("{name}:1"), format!("{name}.tar"));
        let before = names_in(&sealift);
        let require = ["save", "--rebuild", "require", "-o", &archive, &image];
        let said = at(&sealift, &daemon, &[&require[..], &OUT_OF].concat()).code(6);
        let reason = match *name {
            "zstd" => "zstd layers cannot be recompressed",
            _ => "no known encoder reproduces it (tried Go gzip -1, ",
        };
        assert!(said.stderr.contains(reason), "{said:?}");
        assert_eq!(names_in(&sealift), before);

        let told = saved(&sealift, &daemon, &[&OUT_OF[..], &[&image]].concat(), &archive);
        let uncompressed = reasons(&told);
        assert!(
            uncompressed.len() >= 2 && uncompressed[0].starts_with(reason),
            "{told:#}"
        );
        assert_eq!(
            json!([
                told["digest"],
                told["evidence"],
                told["provenance"]["manifest"]["from"]
            ]),
            json!([served.digest, "verified", "engine"])
        );

        let load = ["load", "--json", &archive];
        let loaded = at(&sealift, &classic, &load).ok().json();
        let shown = ["digest", "evidence", "shown"].map(|key| loaded["images"][0][key].clone());
        assert_eq!(json!(shown), json!([served.digest, "verified", true]));
        assert!(classic.images().contains(&format!("{name}:1 {}", served.digest)));
        assert_runs(&classic, &format!("{name}@{}", served.digest), "1");

        let refused = at(&sealift, &containerd, &["load", &archive]).code(6);
        let count = format!("{} of its 3 layers", uncompressed.len());
        let has = |part: &str| refused.stderr.contains(part);
        assert!(has(&count) && has(reason), "{refused:?}");
        assert_eq!(containerd.images(), [""; 0]);
    }
    let never = [&OUT_OF[..], &["--rebuild", "never", "gnu:1"]].concat();
    let told = saved(&sealift, &daemon, &never, "never.tar");
    assert_eq!(reasons(&told), ["recompression is switched off"; 3]);
    assert_eq!(told["evidence"], "verified");
}

#[test]
fn layers_of_unknown_encoders_pulled_with_docker_20() {
    layers_of_unknown_encoders(Engine::Docker20);
}

#[test]
fn layers_of_unknown_encoders_pulled_with_docker_28() {
    layers_of_unknown_encoders(Engine::Docker28);
}

/// Docker 28 as this Debian builds it, with a Go whose gzip is a newer one, pushes layers that cannot be recompressed
/// again; of what it has built it keeps no manifest.
#[test]
fn what_a_newer_docker_has_pushed_is_recorded() {
    let registry = Registry::start();
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let name = format!("{}/app:1", registry.address());
    daemon.build("app", &layers("1"));
    let digest = daemon.push("app", &name);
    drop(registry);
    let sealift = Sealift::new();
    let require = ["save", "--rebuild", "require", "-o", "app.tar", &name];
    let said = at(&sealift, &daemon, &[&require[..], &OUT_OF].concat()).code(6);
    assert!(said.stderr.contains("no known encoder reproduces it"), "{said:?}");
    let save = [&["save", "--json", "-o", "app.tar"][..], &OUT_OF, &[&name]].concat();
    let told = told(&sealift, &at(&sealift, &daemon, &save).code(6), "app.tar");
    let manifest = &told["provenance"]["manifest"];
    assert_eq!(
        json!([told["digest"], told["evidence"], manifest["from"]]),
        json!([digest, "recorded", "stand-in"])
    );
    let reason = manifest["reason"].as_str().unwrap();
    let says = "the compressed sizes of layers 1, 2, 3 of 3 are not known";
    assert!(reason.ends_with(says), "{reason}");

    // A digest without its manifest can be entered only while the engine does not run.
    let other = Daemon::start(Engine::Docker20, Store::Classic);
    let rename = format!("{}=app", name.trim_end_matches(":1"));
    let load = ["load", "app.tar", "--rename", &rename, "--trust-recorded"];
    let said = at(&sealift, &other, &load).code(6);
    assert!(said.stderr.contains("recorded without its manifest"), "{said:?}");
    let (stop, start) = (other.stop_command(), other.start_command());
    let commands = [
        "--attach",
        "offline",
        "--allow-restart",
        "--stop-command",
        &stop,
        "--start-command",
        &start,
    ];
    let said = at(&sealift, &other, &[&load[..], &commands].concat()).code(6);
    assert_eq!(other.images(), [format!("app:1 {digest}")], "{said:?}");
    assert_runs(&other, &format!("app@{digest}"), "1");
}

fn an_image_that_was_never_pushed(engine: Engine, store: Store) {
    let daemon = Daemon::start(engine, store);
    daemon.build("built:1", &layers("1"));
    let sealift = Sealift::new();
    let told = saved(
        &sealift,
        &daemon,
        &[&OUT_OF[..], &["built:1"]].concat(),
        "built.tar",
    );
    // The containerd store has a manifest of everything, and shows its digest.
    let (digest, evidence, targets): (Value, &str, &[Store]) = match store {
        Store::Classic => (Value::Null, "none", &[Store::Classic, Store::Containerd]),
        Store::Containerd => {
            let shown = daemon.inspect("built:1").unwrap()["RepoDigests"][0].clone();
            let digest = shown.as_str().unwrap().strip_prefix("built@").unwrap();
            (digest.into(), "verified", &[Store::Classic, Store::Containerd])
        }
    };
    assert_eq!(
        json!([told["digest"], told["evidence"]]),
        json!([digest, evidence])
    );
    drop(daemon);
    for store in targets {
        let other = Daemon::start(Engine::Docker28, *store);
        let loaded = at(&sealift, &other, &["load", "--json", "built.tar"]).ok().json();
        let shown = ["name", "digest", "evidence"].map(|key| loaded["images"][0][key].clone());
        assert_eq!(json!(shown), json!(["built:1", digest, evidence]));
        assert_runs(&other, "built:1", "1");
    }
}

on_every_engine!(an_image_that_was_never_pushed);

#[test]
fn a_layer_that_is_damaged_is_the_error_of_its_image() {
    let registry = Registry::start();
    let sealift = Sealift::new();
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let mut pushed = Vec::new();
    for name in ["good", "lost", "other"] {
        let to = format!("{}/library/{name}:1", registry.address());
        daemon.build(name, &[Layer::new().file("app/name", name)]);
        let digest = daemon.push(name, &to);
        pushed.push(json!([to, digest, "verified"]));
    }
    drop(registry);
    let format = "{{.GraphDriver.Data.UpperDir}}";
    let folder = daemon
        .docker(&["inspect", "--format", format, "lost"])
        .ok()
        .stdout;
    let folder = std::path::Path::new(folder.trim());
    let folder = folder.strip_prefix(daemon.data_inside("root")).unwrap();
    fs::remove_file(daemon.data_root().join(folder).join("app/name")).unwrap();

    let tags: Vec<&str> = pushed.iter().map(|image| image[0].as_str().unwrap()).collect();
    let save = [&["save", "--json", "-o", "images.tar"][..], &OUT_OF, &tags].concat();
    let said = at(&sealift, &daemon, &save).code(1);
    assert!(
        said.stdout.contains("app/name") && said.stdout.contains("missing"),
        "{said:?}"
    );
    let said = at(&sealift, &daemon, &[&save[..], &["--keep-going"]].concat())
        .code(1)
        .json();
    let images = said["images"].as_array().unwrap().iter();
    let images: Vec<Value> = images
        .map(|image| json!([image["name"], image["digest"], image["evidence"]]))
        .collect();
    assert_eq!(images, [pushed[0].clone(), pushed[2].clone()]);
    let left_out = &said["left_out"][0];
    assert_eq!(
        json!([left_out["name"], left_out["exit"]]),
        json!([pushed[1][0], 1])
    );
    assert!(
        left_out["reason"].as_str().unwrap().contains("app/name"),
        "{left_out}"
    );
}
