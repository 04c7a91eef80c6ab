//! `load --receipt`: what a receipt says, however the load ends.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Built, Image, Run, Sealift, Transcript, assert_documented, run};

fn archive(sealift: &Sealift) -> Built {
    let built = Image::small("app").build(&sealift.path("layout"), "registry.example/team/app:1");
    sealift
        .run(&[
            "save",
            "-q",
            "--from",
            "layout",
            "registry.example/team/app:1",
            "-o",
            "images.tar",
        ])
        .ok();
    built
}

fn receipt(sealift: &Sealift) -> Value {
    let text = fs::read_to_string(sealift.path("receipt.json")).unwrap();
    let receipt = serde_json::from_str(&text).unwrap();
    assert_documented(&receipt);
    receipt
}

#[test]
fn a_receipt_says_what_was_loaded() {
    let sealift = Sealift::new();
    let built = archive(&sealift);
    let digest =
        sealift.run(&["verify", "--json", "images.tar"]).ok().json()["archives"][0]["digest"].clone();
    let digest = digest.as_str().unwrap();
    let load = [
        "load",
        "--json",
        "images.tar",
        "--to",
        "oci:new",
        "--receipt",
        "receipt.json",
        "--expect",
        digest,
    ];
    let said = sealift.run(&load).ok().json();
    let mut receipt = receipt(&sealift);
    // Who ran it, and when.
    let run = receipt["run"].take();
    assert_eq!(run["sealift"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["host"], rustix::system::uname().nodename().to_str().unwrap());
    assert!(run["started"].as_str() <= run["ended"].as_str(), "{run}");
    // The target's part is the document of `--json`.
    let mut target = receipt["targets"][0].clone();
    assert_eq!(target["engine"].take(), "oci");
    for (field, value) in said.as_object().unwrap() {
        assert_eq!(&target[field], value, "{field}");
    }
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app:1", &built).name(digest, "<images.tar>");
    let shown = Run {
        line: "cat receipt.json".into(),
        code: Some(0),
        signal: None,
        stdout: format!("{receipt:#}"),
        stderr: String::new(),
    };
    assert_snapshot!(transcript.add("cat receipt.json", &shown).text(), @r#"
    $ cat receipt.json
    {
      "archives": [
        {
          "archive": "images.tar",
          "digest": "<images.tar>",
          "expected": true,
          "quick": false
        }
      ],
      "exit": 0,
      "run": null,
      "schema": 1,
      "targets": [
        {
          "changed": true,
          "digest": "<digest 1>",
          "engine": "oci",
          "images": [
            {
              "change": "new",
              "digest": "<app:1>",
              "evidence": "verified",
              "foreign": false,
              "image_id": null,
              "name": "registry.example/team/app:1",
              "obstacles": [],
              "platform": null,
              "platforms": [
                "linux/amd64",
                "linux/arm64"
              ],
              "sent": 3266,
              "shown": true,
              "tag": "registry.example/team/app:1"
            }
          ],
          "left_out": [],
          "schema": 1,
          "sent": 3266,
          "target": "OCI layout new",
          "version": null
        }
      ]
    }
    "#);
}

#[test]
fn a_failed_load_has_a_receipt_too() {
    let sealift = Sealift::new();
    archive(&sealift);
    for (arguments, code, archives, error) in [
        (&["absent.tar"][..], 3, 0, "cannot open absent.tar"),
        (&["images.tar", "--image", "redis"], 7, 1, "redis"),
        (&["images.tar", "--split", "1M"], 2, 0, "--split is for"),
    ] {
        let load = ["load", "-q", "--to", "oci:new", "--receipt", "receipt.json"];
        sealift.run(&[&load[..], arguments].concat()).code(code);
        let receipt = receipt(&sealift);
        assert_eq!(
            (&receipt["exit"], &receipt["targets"]),
            (&json!(code), &json!([])),
            "{arguments:?}"
        );
        assert_eq!(
            receipt["archives"].as_array().unwrap().len(),
            archives,
            "{arguments:?}"
        );
        let message = receipt["error"]["message"].as_str().unwrap();
        assert!(message.contains(error), "{message}");
    }
    let mut transcript = Transcript::of(&sealift);
    transcript.run("load images.tar --to oci:new --receipt receipt.html");
    transcript.run("load images.tar --to oci:new --receipt absent/receipt.json");
    transcript.run("load images.tar --to oci:new --receipt images.tar");
    transcript.run("load images.tar --to oci:new --receipt receipt.json --dry-run");
    // A receipt never replaces what was loaded.
    sealift.run(&["load", "-q", "images.tar", "--to", "oci:old"]).ok();
    transcript.run("load images.tar --to oci:old --receipt old/index.json");
    transcript.run("load images.tar --to archive:new.tar --receipt ./new.tar");
    sealift
        .run(&["load", "-q", "images.tar", "--to", "archive:new.tar"])
        .ok();
    transcript.run("load images.tar --to archive:new.tar --receipt new.tar");
    sealift.run(&["verify", "-q", "old", "new.tar"]).ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift load images.tar --to oci:new --receipt receipt.html
    2> error: invalid value 'receipt.html' for '--receipt <FILE>': a receipt is JSON: FILE.json
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load images.tar --to oci:new --receipt absent/receipt.json
    2> error: cannot write to absent/receipt.json: No such file or directory (os error 2)
    2> hint: mkdir -p absent
    exit 3

    $ sealift load images.tar --to oci:new --receipt images.tar
    2> error: images.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift load images.tar --to oci:new --receipt receipt.json --dry-run
    2> error: the argument '--receipt <FILE>' cannot be used with '--dry-run'
    2>
    2> Usage: sealift load --to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]> --receipt <FILE> <FILE>...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load images.tar --to oci:old --receipt old/index.json
    2> error: old/index.json belongs to the target old
    2> hint: name another file
    exit 2

    $ sealift load images.tar --to archive:new.tar --receipt ./new.tar
    2> error: ./new.tar belongs to the target new.tar
    2> hint: name another file
    exit 2

    $ sealift load images.tar --to archive:new.tar --receipt new.tar
    2> error: new.tar belongs to the target new.tar
    2> hint: name another file
    exit 2
    ");
}

#[test]
fn an_interrupted_load_has_a_receipt() {
    for signal in [Signal::TERM, Signal::KILL] {
        let sealift = Sealift::new();
        fs::write(sealift.path("receipt.json"), "{\"exit\": 0}").unwrap();
        run(Command::new("mkfifo").arg(sealift.path("images.tar"))).ok();
        let load = [
            "load",
            "images.tar",
            "--to",
            "oci:new",
            "--receipt",
            "receipt.json",
        ];
        let mut child = sealift.command(&load).stderr(Stdio::null()).spawn().unwrap();
        // It has opened the archive.
        let _writer = fs::File::create(sealift.path("images.tar")).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(child.wait().unwrap().signal().is_some());
        let receipt = receipt(&sealift);
        match signal {
            Signal::TERM => assert_eq!(receipt["error"]["message"], "interrupted by SIGTERM"),
            _ => assert!(receipt["error"].is_null()),
        }
        let expected = if signal == Signal::TERM {
            json!(143)
        } else {
            Value::Null
        };
        assert_eq!(
            (&receipt["exit"], &receipt["targets"]),
            (&expected, &json!([])),
            "{signal:?}"
        );
    }
}
