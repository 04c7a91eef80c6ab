//! Archives that leave out what a host has, by its inventory.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::load_files::tree;
use crate::support::{Built, Image, Layer, Sealift, Transcript, assert_documented, run};

/// A version of `app`: two layers that all versions share, and one of its own.
fn build(sealift: &Sealift, version: &str) -> Built {
    let mut image = Image::small("app").without_index();
    let own = Layer::new().file("version", version);
    image.platforms[0].1.push(own);
    image.build(
        &sealift.path("layout"),
        &format!("docker.io/library/app:{version}"),
    )
}

/// The layout folder `host` with `app:1`, its inventory `have.json`, and `whole.tar` with `app:2`.
fn setup() -> (Sealift, Built) {
    let sealift = Sealift::new();
    build(&sealift, "1");
    let second = build(&sealift, "2");
    for (name, archive) in [("app:1", "first.tar"), ("app:2", "whole.tar")] {
        sealift
            .run(&["save", "-q", "--from", "layout", name, "-o", archive])
            .ok();
    }
    sealift.run(&["load", "-q", "first.tar", "--to", "oci:host"]).ok();
    inventory(&sealift, "host", "have.json");
    (sealift, second)
}

fn inventory(sealift: &Sealift, folder: &str, file: &str) {
    let from = format!("oci:{folder}");
    let args = ["inventory", "-q", "--from", &from, "--label", "rack7", "-o", file];
    sealift.run(&args).ok();
}

/// `update.tar` with what the host lacks of `app:2`.
fn update(sealift: &Sealift) {
    let args = "save -q --from whole.tar --have have.json -o update.tar";
    sealift.run(&args.split(' ').collect::<Vec<_>>()).ok();
}

/// Unpacks `update.tar` into the folder `unpacked`.
fn unpack(sealift: &Sealift) {
    let _ = fs::remove_dir_all(sealift.path("unpacked"));
    fs::create_dir(sealift.path("unpacked")).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("xf").arg(sealift.path("update.tar")).arg("-C");
    run(tar.arg(sealift.path("unpacked"))).ok();
}

/// Changes the annotations of an unpacked archive.
fn annotate(folder: &Path, key: &str, value: &str) {
    let path = folder.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["annotations"][key] = value.into();
    fs::write(path, serde_json::to_vec(&index).unwrap()).unwrap();
}

#[test]
fn an_update_names_the_namespaces_that_its_inventory_is_of() {
    let (sealift, _) = setup();
    let mut document: Value = serde_json::from_slice(&fs::read(sealift.path("have.json")).unwrap()).unwrap();
    document["engines"][0]["namespace"] = "k8s.io".into();
    fs::write(sealift.path("have.json"), document.to_string()).unwrap();
    update(&sealift);
    for command in ["list", "verify"] {
        let shown = sealift.run(&[command, "update.tar"]).ok().stdout;
        let line = shown.lines().find(|line| line.contains("left out for")).unwrap();
        assert!(line.ends_with(" (rack7, namespace k8s.io)"), "{line}");
        let shown = sealift.run(&[command, "update.tar", "--json"]).ok().json();
        assert_documented(&shown);
        let archive = shown["archives"].get(0).unwrap_or(&shown);
        assert_eq!(
            archive["omitted"]["for"][0]["namespaces"],
            json!(["k8s.io"]),
            "{shown}"
        );
    }
    // What has no namespaces misses nothing in them.
    let refused = sealift.run(&["load", "update.tar", "--to", "oci:empty"]).code(7);
    assert!(!refused.stderr.contains("namespace"), "{}", refused.stderr);
}

#[test]
fn an_update_says_what_it_leaves_out_and_is_loaded_only_where_that_is() {
    let (sealift, second) = setup();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &second);
    transcript
        .run("inventory --from oci:host --label rack7 -o have.json")
        .ok();
    transcript
        .run("save --from layout app:2 --have have.json -o update.tar")
        .ok();
    transcript.run("list update.tar").ok();
    transcript.run("verify update.tar").ok();
    transcript.run("load update.tar --to oci:empty").code(7);
    assert!(!sealift.path("empty").exists());
    transcript.run("load update.tar --to archive:joined.tar").code(7);
    transcript
        .run("save --jobs 1 --from update.tar -o joined.tar")
        .code(7);
    assert!(!sealift.path("joined.tar").exists());
    transcript.run("load update.tar --to oci:host").ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift inventory --from oci:host --label rack7 -o have.json
    host: 1 image, 5 blobs, 0 layers unpacked
    inventory <digest 1>

    $ sealift save --from layout app:2 --have have.json -o update.tar
    NAME    DIGEST       EVIDENCE   PLATFORMS     SIZE     FROM
    app:2   <app>        verified   linux/amd64   1.7 kB   layout
    2 layers, 191 B, left out for the inventory <digest 1> (rack7)
    update.tar: 8.7 kB
    archive <digest 2>

    $ sealift list update.tar
    NAME    DIGEST       EVIDENCE   CONTENT   PLATFORMS     SIZE
    app:2   <app>        manifest   partial   linux/amd64   1.7 kB
      linux/amd64 manifest   <app>   IMAGE ID in a containerd store
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      2 of 3 layers left out
    2 layers, 191 B, left out for the inventory <digest 1> (rack7)
    archive <digest 2>

    $ sealift verify update.tar
    2 layers, 191 B, left out for the inventory <digest 1> (rack7)
    update.tar: 3 blobs, 1.5 kB: all good
    archive <digest 2>

    $ sealift load update.tar --to oci:empty
    2> error: 2 layers of app:2 (191 bytes: <app linux/amd64 layer 1>, <app linux/amd64 layer 2>) not found in update.tar, which left them out, nor in OCI layout empty
    2> hint: nothing was sent; `sealift save app:2 --platform linux/amd64 -o images.tar` brings all layers; with --have and a new inventory of this host it brings those that are missing
    exit 7

    $ sealift load update.tar --to archive:joined.tar
    2> error: 2 layers of app:2 (191 bytes: <app linux/amd64 layer 1>, <app linux/amd64 layer 2>) not found in update.tar, which left them out, nor in archive joined.tar
    2> hint: nothing was sent; `sealift save app:2 --platform linux/amd64 -o images.tar` brings all layers; with --have and a new inventory of this host it brings those that are missing
    exit 7

    $ sealift save --jobs 1 --from update.tar -o joined.tar
    2> error: layer <app linux/amd64 layer 2> not found in update.tar, which leaves it out for the host with the inventory <digest 1> (rack7)
    2> hint: name a source that has it as well, such as --from registry
    exit 7

    $ sealift load update.tar --to oci:host
    NAME   TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    app    2     <app>    verified   yes     new
    1 image in OCI layout host, 1.5 kB sent
    archive <digest 3>
    ");
    sealift.run(&["verify", "host"]).ok();
    assert_eq!(fs::read(sealift.path("update.tar")).unwrap(), {
        update(&sealift);
        fs::read(sealift.path("update.tar")).unwrap()
    });
}

#[test]
fn documents_say_what_is_left_out() {
    let (sealift, second) = setup();
    let inventory = sealift
        .run(&["inventory", "--from", "oci:host", "--json"])
        .ok()
        .json();
    assert_documented(&inventory);
    let args = ["inventory", "--from", "oci:host", "--json", "-o", "again.json"];
    let written = sealift.run(&args).ok().json();
    assert_documented(&written);
    assert_eq!(written["engines"][0]["blobs"], 5);
    let bytes: u64 = second.host().layers[..2].iter().map(|layer| layer.size).sum();
    let args = "save --json --from layout app:2 --have have.json -o update.tar";
    let saved = sealift.run(&args.split(' ').collect::<Vec<_>>()).ok().json();
    let listed = sealift.run(&["list", "--json", "update.tar"]).ok().json();
    let verified = sealift.run(&["verify", "--json", "update.tar"]).ok().json();
    let known = &saved["omitted"];
    assert_eq!((&known["layers"], &known["bytes"]), (&json!(2), &json!(bytes)));
    assert_eq!(known["for"][0]["host"], "rack7");
    assert_eq!(&listed["archives"][0]["omitted"], known);
    assert_eq!(&verified["archives"][0]["omitted"], known);
    let image = &listed["archives"][0]["images"][0];
    assert_eq!(image["omitted"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&image["complete"], &saved["images"][0]["omitted"]),
        (&json!(false), &json!(bytes))
    );
    for document in [&saved, &listed, &verified] {
        assert_documented(document);
    }
    // Where nothing is left out, an archive is the same as without an inventory.
    sealift
        .run(&["load", "-q", "whole.tar", "--to", "oci:other"])
        .ok();
    fs::remove_dir_all(sealift.path("other/blobs")).unwrap();
    fs::create_dir(sealift.path("other/blobs")).unwrap();
    self::inventory(&sealift, "other", "none.json");
    let args = "save --json --from layout app:2 --have none.json -o same.tar";
    let saved = sealift.run(&args.split(' ').collect::<Vec<_>>()).ok().json();
    assert_eq!(saved["omitted"]["layers"], 0);
    let bytes = |name: &str| fs::read(sealift.path(name)).unwrap();
    assert_eq!(bytes("same.tar"), bytes("whole.tar"));
}

#[test]
fn pipes_parts_and_later_saves_get_the_same_archive() {
    let (sealift, _) = setup();
    update(&sealift);
    let bytes = |name: &str| fs::read(sealift.path(name)).unwrap();
    let expected = bytes("update.tar");
    let save = "sealift save -q --from whole.tar --have have.json";
    run(&mut sealift.shell(&format!("{save} -o - > piped.tar 2>/dev/null"))).ok();
    run(&mut sealift.shell(&format!(
        "{save} --split 2kB -o parts.tar && cat parts.tar.0* > joined.tar"
    )))
    .ok();
    // From an archive that leaves out the same, and from the host itself.
    run(&mut sealift.shell("sealift save -q --from update.tar --have have.json -o again.tar")).ok();
    for name in ["piped.tar", "joined.tar", "again.tar"] {
        assert_eq!(bytes(name), expected, "{name}");
    }
    // What is left out comes from the next source, or another archive of the same load.
    run(&mut sealift.shell("sealift save -q --from update.tar --from first.tar app:2 -o made.tar")).ok();
    run(&mut sealift.shell("sealift load -q update.tar first.tar --image app:2 --to archive:loaded.tar"))
        .ok();
    for name in ["made.tar", "loaded.tar"] {
        assert_eq!(bytes(name), bytes("whole.tar"), "{name}");
    }
}

#[test]
fn several_hosts_must_have_a_layer() {
    let (sealift, second) = setup();
    // The other host has only the lowest one.
    let lowest = &second.host().layers[0];
    let mut image = Image::small("app").without_index();
    image.platforms[0].1.truncate(1);
    let other = image.build(&sealift.path("lowest"), "docker.io/library/lowest:1");
    assert_eq!(other.host().layers[0].digest, lowest.digest);
    inventory(&sealift, "lowest", "other.json");
    let args = "save --json --from layout app:2 --have have.json --have other.json -o both.tar";
    let saved = sealift.run(&args.split(' ').collect::<Vec<_>>()).ok().json();
    assert_eq!(saved["omitted"]["layers"], 1);
    assert_eq!(saved["omitted"]["for"].as_array().unwrap().len(), 2);
    for host in ["oci:host", "oci:lowest"] {
        sealift.run(&["load", "-q", "both.tar", "--to", host]).ok();
        sealift.run(&["verify", host.trim_start_matches("oci:")]).ok();
    }
}

#[test]
fn only_declared_layers_may_be_missing() {
    let (sealift, second) = setup();
    update(&sealift);
    let unpacked = sealift.path("unpacked");
    let codes = || {
        let found = sealift.run(&["verify", "--json", "unpacked"]).code(1).json();
        sealift
            .run(&["load", "-q", "unpacked", "--to", "oci:host"])
            .code(1);
        let findings = found["archives"][0]["findings"].as_array().unwrap().clone();
        let codes = findings
            .iter()
            .map(|finding| finding["code"].as_str().unwrap().to_owned());
        codes.collect::<Vec<_>>()
    };
    let blob = |digest: &str| {
        unpacked
            .join("blobs/sha256")
            .join(digest.strip_prefix("sha256:").unwrap())
    };
    let layer = |at: usize| second.host().layers[at].digest.clone();
    let declared = format!("{},{}", layer(0), layer(1));
    let all = format!("{declared},{}", layer(2));
    let config = format!("{declared},{}", second.host().config);
    let unknown = format!("{declared},sha256:{}", "0".repeat(64));
    unpack(&sealift);
    sealift.run(&["verify", "unpacked"]).ok();
    for (omitted, removed, expected) in [
        // Not declared.
        (layer(0), None, vec!["missing"]),
        (declared.clone(), Some(layer(2)), vec!["missing"]),
        // Declared, and there.
        (all, None, vec!["document"]),
        // No layer.
        (unknown, None, vec!["document"]),
        (
            config,
            Some(second.host().config.clone()),
            vec!["missing", "document"],
        ),
    ] {
        unpack(&sealift);
        annotate(&unpacked, "dev.sealift.omitted", &omitted);
        if let Some(removed) = removed {
            fs::remove_file(blob(&removed)).unwrap();
        }
        let mut codes = codes();
        codes.dedup();
        assert_eq!(codes, expected, "{omitted}");
    }
    for (key, value) in [
        ("dev.sealift.omitted", "sha256:x"),
        ("dev.sealift.omitted-for", "{"),
        ("dev.sealift.omitted-for", "[{}]"),
    ] {
        unpack(&sealift);
        annotate(&unpacked, key, value);
        let refused = sealift.run(&["verify", "unpacked"]).code(1);
        assert!(refused.stderr.contains(key), "{}", refused.stderr);
    }
}

#[test]
fn a_lying_or_hostile_inventory_does_no_harm() {
    let (sealift, second) = setup();
    // It says that the host has a layer, which it does not.
    let mut lie: Value = serde_json::from_slice(&fs::read(sealift.path("have.json")).unwrap()).unwrap();
    let layer = &second.host().layers[2];
    lie["engines"][0]["blobs"][&layer.digest] = layer.size.into();
    lie["host"] = "\u{1b}[31mred".into();
    fs::write(sealift.path("lie.json"), lie.to_string()).unwrap();
    let args = "save --from layout app:2 --have lie.json -o lie.tar";
    let saved = sealift.run(&args.split(' ').collect::<Vec<_>>()).ok();
    let listed = sealift.run(&["list", "lie.tar"]).ok();
    assert!(!format!("{}{}", saved.stdout, listed.stdout).contains('\u{1b}'));
    let before = tree(&sealift.path("host"));
    let refused = sealift.run(&["load", "lie.tar", "--to", "oci:host"]).code(7);
    assert!(refused.stderr.contains(&layer.digest), "{}", refused.stderr);
    assert_eq!(tree(&sealift.path("host")), before);
    // A layer of the host is damaged: it is read before anything is named.
    update(&sealift);
    let damaged = &second.host().layers[0];
    let hex = damaged.digest.strip_prefix("sha256:").unwrap();
    let path = sealift.path("host/blobs/sha256").join(hex);
    fs::write(&path, vec![0; usize::try_from(damaged.size).unwrap()]).unwrap();
    let before = tree(&sealift.path("host"));
    let refused = sealift.run(&["load", "update.tar", "--to", "oci:host"]).code(1);
    assert!(refused.stderr.contains(hex), "{}", refused.stderr);
    assert_eq!(tree(&sealift.path("host")), before);
    // What is no inventory.
    let huge = fs::File::create(sealift.path("huge.json")).unwrap();
    huge.set_len(1 << 30).unwrap();
    fs::write(sealift.path("deep.json"), "[".repeat(100_000)).unwrap();
    for file in ["huge.json", "deep.json", "whole.tar"] {
        let args = ["save", "--from", "layout", "app:2", "--have", file, "-o", "x.tar"];
        let refused = sealift.run(&args).code(2);
        let message = format!("error: {file}: ");
        assert!(refused.stderr.starts_with(&message), "{}", refused.stderr);
    }
    sealift
        .run(&[
            "save",
            "--from",
            "layout",
            "app:2",
            "--have",
            "absent.json",
            "-o",
            "x.tar",
        ])
        .code(3);
    sealift.run(&["inventory", "--from", "oci:absent"]).code(7);
    let refused = sealift
        .run(&["inventory", "--from", "docker", "--root", "/a"])
        .code(2);
    assert_snapshot!(refused.stderr, @"error: --root is for podman or CRI-O, which --from does not name");
    assert!(!sealift.path("x.tar").exists());
}
