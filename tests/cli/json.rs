//! The documents of all commands.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Built, Image, Platform, Sealift, assert_documented, run};

/// An archive of one image, `app:1`, and what `save --json` said about it.
fn saved(sealift: &Sealift) -> (Built, Value) {
    let layout = sealift.path("layout");
    let image = Image::sample("app", "1").build(&layout, "1");
    let run = sealift.run(&["save", "--json", "--from", "layout", "app:1", "-o", "app.tar"]);
    (image, run.ok().json())
}

#[test]
fn every_document_says_the_same_by_the_same_names() {
    let sealift = Sealift::new();
    let (image, saved) = saved(&sealift);
    let listed = sealift.run(&["list", "--json", "app.tar"]).ok().json();
    let verified = sealift.run(&["verify", "--json", "app.tar"]).ok().json();
    let platforms = json!([Platform::host().to_string(), Platform::foreign().to_string()]);
    for (schema, archive) in [
        (&saved["schema"], &saved),
        (&listed["schema"], &listed["archives"][0]),
        (&verified["schema"], &verified["archives"][0]),
    ] {
        assert_eq!(*schema, 1);
        assert_eq!(archive["archive"], "app.tar");
        assert_eq!(archive["digest"], saved["digest"]);
        let first = &archive["images"][0];
        assert_eq!(first["name"], "app:1", "{archive}");
        assert_eq!(first["digest"], image.digest.as_str());
        let mut shown: Vec<_> = first["platforms"].as_array().unwrap().clone();
        shown.sort_by_key(ToString::to_string);
        assert_eq!(json!(shown), platforms);
    }
    assert_eq!(verified["archives"][0]["findings"], json!([]));
}

#[test]
fn every_field_is_documented() {
    let sealift = Sealift::new();
    let (_, saved) = saved(&sealift);
    let shell = "head -c 9000 app.tar > cut.tar; cp app.tar bad.tar;
        printf x | dd of=bad.tar bs=1 seek=1600 conv=notrunc status=none";
    run(&mut sealift.shell(shell)).ok();
    let docker_save = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/bad/docker-save-of-28.tar");
    let mut documents = vec![saved];
    for line in [
        "save --json --from app.tar app:1 app:2 --keep-going --rename app:1=web:2 -o some.tar",
        &format!("save --json --from {docker_save} --offline -o unpacked.tar"),
        "list --json app.tar cut.tar unpacked.tar",
        "verify --json app.tar cut.tar bad.tar unpacked.tar",
        "save --json -o x.tar App:1 Web:2",
        "doctor --json",
        "load --json app.tar",
    ] {
        let line: Vec<&str> = line.split(' ').collect();
        documents.push(sealift.run(&line).json());
    }
    documents.iter().for_each(assert_documented);
    assert!(
        documents[1]["left_out"][0]["hint"].is_string(),
        "{}",
        documents[1]
    );
    assert!(
        !documents[4]["archives"][2]["findings"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(documents[5]["errors"].as_array().unwrap().len(), 2);
}

#[test]
fn a_usage_error_is_a_document_too() {
    let sealift = Sealift::new();
    for args in [
        &["load", "--json"][..],
        &["--json", "save", "App:1", "-o", "x.tar"],
        &["save", "--json", "-o", "x.tar"],
        &["verify", "--json", "--expect", "sha256:12", "x.tar"],
        &["frobnicate", "--json"],
        &["completions", "--json", "bash"],
        &["--json", "man"],
        &["man", "save", "--json"],
    ] {
        let run = sealift.run(args).code(2);
        let document = run.json();
        assert_eq!(
            (&document["schema"], &document["error"]["exit"]),
            (&json!(1), &json!(2))
        );
        let message = document["error"]["message"].as_str().unwrap();
        assert!(run.stderr.contains(message.split('<').next().unwrap().trim()));
        assert!(message.len() > 10 && !message.starts_with("error"), "{message}");
    }
    // What was asked for is not an error.
    assert!(
        sealift
            .run(&["save", "--json", "--help"])
            .ok()
            .stdout
            .contains("Usage: ")
    );
}

#[test]
fn one_archive_that_cannot_be_read_hides_no_other() {
    let sealift = Sealift::new();
    let (_, saved) = saved(&sealift);
    for command in ["verify", "list"] {
        let run = sealift.run(&[command, "--json", "absent.tar", "app.tar"]).code(3);
        let document = run.json();
        let archives = &document["archives"];
        assert_eq!(archives[0]["archive"], "absent.tar", "{document}");
        assert_eq!(archives[0]["error"], document["error"]);
        assert_eq!(document["error"]["exit"], 3);
        assert_eq!(archives[1]["digest"], saved["digest"]);
        assert!(run.stderr.contains("absent.tar"));
        let text = sealift.run(&[command, "absent.tar", "app.tar"]).code(3);
        assert!(
            text.stdout.contains(saved["digest"].as_str().unwrap()),
            "{}",
            text.stdout
        );
    }
}

#[test]
fn no_character_of_a_document_acts_on_a_terminal() {
    let sealift = Sealift::new();
    // An override of the writing direction, a control sequence introducer of one character, a tag character.
    let name = "a\u{202e}b\u{9b}2Jc\u{e0041}.tar";
    let run = sealift.run(&["verify", "--json", name]).code(3);
    assert!(run.stdout.is_ascii(), "{:?}", run.stdout);
    assert!(run.stderr.is_ascii(), "{:?}", run.stderr);
    assert_eq!(run.json()["archives"][0]["archive"], name);
}

#[test]
fn a_finding_tells_archive_entry_digest_and_offset() {
    let sealift = Sealift::new();
    let (image, _) = saved(&sealift);
    let layer = &image.host().layers[1].digest;
    let mut bytes = fs::read(sealift.path("app.tar")).unwrap();
    let stored = fs::read(image.blob(layer)).unwrap();
    let offset = bytes
        .windows(stored.len())
        .position(|window| window == stored)
        .unwrap();
    bytes[offset + 100] ^= 1;
    fs::write(sealift.path("app.tar"), &bytes).unwrap();
    let document = sealift.run(&["verify", "--json", "app.tar"]).code(1).json();
    let findings = document["archives"][0]["findings"].as_array().unwrap().clone();
    let entry = format!("blobs/{}", layer.replace(':', "/"));
    let place = json!({ "archive": "app.tar", "entry": entry, "digest": layer, "offset": offset });
    assert!(
        findings
            .iter()
            .any(|finding| finding["place"] == place && finding["code"] == "digest-differs"),
        "{findings:?}"
    );
    // The same over parts.
    for (number, part) in (1..).zip(bytes.chunks(100_000)) {
        fs::write(sealift.path(&format!("part.tar.{number:03}")), part).unwrap();
    }
    let text = sealift.run(&["verify", "part.tar"]).code(1).stdout;
    assert!(text.contains(&format!("{entry} at byte {offset}: ")), "{text}");
    // A list looks at names and manifests only, and claims no more.
    let list = sealift.run(&["list", "--json", "app.tar"]).ok();
    assert_eq!(list.json()["archives"][0]["images"][0]["complete"], true);
    let text = sealift.run(&["list", "app.tar"]).ok().stdout;
    assert!(text.contains("complete") && !text.contains("verified"), "{text}");
}

#[test]
fn a_doctor_without_an_engine_says_so_in_its_document() {
    let sealift = Sealift::new();
    let sealift = sealift.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let document = sealift.run(&["doctor", "--json"]).code(5).json();
    assert_eq!(
        (&document["schema"], &document["docker"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(document["error"]["exit"], 5);
    assert!(document["error"]["hint"].is_string(), "{document}");
}
