//! The documents of all commands.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Built, Image, Sealift, Transcript, assert_documented, run};

/// An archive of one image, `app:1`, and what `save --json` said about it.
fn saved(sealift: &Sealift) -> (Built, Value) {
    let layout = sealift.path("layout");
    let image = Image::sample("app", "1").build(&layout, "1");
    let run = sealift.run(&["save", "--json", "--from", "layout", "app:1", "-o", "app.tar"]);
    (image, run.ok().json())
}

#[test]
fn every_document_uses_the_same_names() {
    let sealift = Sealift::new();
    let image = Image::small("app").build(&sealift.path("layout"), "1");
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &image);
    for arguments in [
        "save --json --from layout app:1 -o app.tar",
        "list --json app.tar",
        "verify --json app.tar",
        "load --json app.tar --to oci:out",
    ] {
        let document = transcript.run(arguments).ok().json();
        let archive = document
            .get("archives")
            .map_or(&document, |archives| &archives[0]);
        assert_eq!(archive["images"][0]["digest"], image.digest.as_str());
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --json --from layout app:1 -o app.tar
    {
      "archive": "app.tar",
      "digest": "<digest 1>",
      "files": [
        "app.tar"
      ],
      "images": [
        {
          "artifact": null,
          "digest": "<app>",
          "evidence": "verified",
          "from": "layout",
          "name": "app:1",
          "platforms": [
            "linux/amd64",
            "linux/arm64"
          ],
          "provenance": null,
          "reused": 0,
          "size": 3266
        }
      ],
      "left_out": [],
      "nameless": [],
      "reused": 0,
      "schema": 1,
      "size": 13824
    }

    $ sealift list --json app.tar
    {
      "archives": [
        {
          "archive": "app.tar",
          "digest": "<digest 1>",
          "images": [
            {
              "artifact": null,
              "complete": true,
              "digest": "<app>",
              "evidence": "manifest",
              "index": "<app>",
              "layers": 3,
              "manifests": [
                {
                  "config": "<app linux/amd64 config>",
                  "digest": "<app linux/amd64>",
                  "image_id": {
                    "classic": "<app linux/amd64 config>",
                    "containerd": "<app>"
                  },
                  "platform": "linux/amd64"
                },
                {
                  "config": "<app linux/arm64 config>",
                  "digest": "<app linux/arm64>",
                  "image_id": {
                    "classic": "<app linux/arm64 config>",
                    "containerd": "<app>"
                  },
                  "platform": "linux/arm64"
                }
              ],
              "name": "app:1",
              "platforms": [
                "linux/amd64",
                "linux/arm64"
              ],
              "provenance": null,
              "size": 3266,
              "stand_in": null,
              "uncompressed": []
            }
          ]
        }
      ],
      "schema": 1
    }

    $ sealift verify --json app.tar
    {
      "archives": [
        {
          "archive": "app.tar",
          "blobs": 8,
          "bytes": 3266,
          "digest": "<digest 1>",
          "findings": [],
          "good": true,
          "images": [
            {
              "absent": [],
              "digest": "<app>",
              "evidence": "verified",
              "good": true,
              "name": "app:1",
              "platforms": [
                "linux/amd64",
                "linux/arm64"
              ],
              "stand_in": null,
              "uncompressed": 0
            }
          ],
          "quick": false,
          "unread": []
        }
      ],
      "schema": 1
    }

    $ sealift load --json app.tar --to oci:out
    {
      "schema": 1,
      "target": "OCI layout out",
      "version": null,
      "images": [
        {
          "name": "app:1",
          "tag": "app:1",
          "change": "new",
          "digest": "<app>",
          "image_id": null,
          "platform": null,
          "platforms": [
            "linux/amd64",
            "linux/arm64"
          ],
          "foreign": false,
          "evidence": "verified",
          "shown": true,
          "obstacles": [],
          "sent": 3266
        }
      ],
      "left_out": [],
      "changed": true,
      "sent": 3266,
      "digest": "<digest 2>"
    }
    "#);
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
    let image = Image::small("app").build(&sealift.path("layout"), "1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &image);
    for command in ["verify", "list"] {
        transcript.run(&format!("{command} absent.tar app.tar")).code(3);
        let document = transcript
            .run(&format!("{command} --json absent.tar app.tar"))
            .code(3)
            .json();
        assert_eq!(document["archives"][0]["error"], document["error"]);
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift verify absent.tar app.tar
    app.tar: 8 blobs, 3.2 kB: all good
    archive <digest 1>
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift verify --json absent.tar app.tar
    {
      "archives": [
        {
          "archive": "absent.tar",
          "error": {
            "code": null,
            "exit": 3,
            "hint": null,
            "message": "cannot open absent.tar: No such file or directory (os error 2)"
          }
        },
        {
          "archive": "app.tar",
          "blobs": 8,
          "bytes": 3266,
          "digest": "<digest 1>",
          "findings": [],
          "good": true,
          "images": [
            {
              "absent": [],
              "digest": "<app>",
              "evidence": "verified",
              "good": true,
              "name": "app:1",
              "platforms": [
                "linux/amd64",
                "linux/arm64"
              ],
              "stand_in": null,
              "uncompressed": 0
            }
          ],
          "quick": false,
          "unread": []
        }
      ],
      "error": {
        "code": null,
        "exit": 3,
        "hint": null,
        "message": "cannot open absent.tar: No such file or directory (os error 2)"
      },
      "schema": 1
    }
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift list absent.tar app.tar
    app.tar:
    NAME    DIGEST       EVIDENCE   CONTENT    PLATFORMS                 SIZE
    app:1   <app>        manifest   complete   linux/amd64,linux/arm64   3.2 kB
      index                  <app>   IMAGE ID in a containerd store
      linux/amd64 manifest   <app linux/amd64>
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      linux/arm64 manifest   <app linux/arm64>
      linux/arm64 config     <app linux/arm64 config>   IMAGE ID in a classic store
    archive <digest 1>
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift list --json absent.tar app.tar
    {
      "archives": [
        {
          "archive": "absent.tar",
          "error": {
            "code": null,
            "exit": 3,
            "hint": null,
            "message": "cannot open absent.tar: No such file or directory (os error 2)"
          }
        },
        {
          "archive": "app.tar",
          "digest": "<digest 1>",
          "images": [
            {
              "artifact": null,
              "complete": true,
              "digest": "<app>",
              "evidence": "manifest",
              "index": "<app>",
              "layers": 3,
              "manifests": [
                {
                  "config": "<app linux/amd64 config>",
                  "digest": "<app linux/amd64>",
                  "image_id": {
                    "classic": "<app linux/amd64 config>",
                    "containerd": "<app>"
                  },
                  "platform": "linux/amd64"
                },
                {
                  "config": "<app linux/arm64 config>",
                  "digest": "<app linux/arm64>",
                  "image_id": {
                    "classic": "<app linux/arm64 config>",
                    "containerd": "<app>"
                  },
                  "platform": "linux/arm64"
                }
              ],
              "name": "app:1",
              "platforms": [
                "linux/amd64",
                "linux/arm64"
              ],
              "provenance": null,
              "size": 3266,
              "stand_in": null,
              "uncompressed": []
            }
          ]
        }
      ],
      "error": {
        "code": null,
        "exit": 3,
        "hint": null,
        "message": "cannot open absent.tar: No such file or directory (os error 2)"
      },
      "schema": 1
    }
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3
    "#);
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
fn a_finding_names_archive_entry_digest_and_offset() {
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
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let text = sealift.run(&["doctor"]).code(5).stdout;
    // What else this machine has comes in between.
    let lines: Vec<&str> = text.lines().collect();
    let [first, hint, .., leftovers] = lines.as_slice() else {
        panic!("{text}");
    };
    assert_snapshot!([*first, *hint, *leftovers].join("\n"), @r"
    docker at unix:///nonexistent/docker.sock: connect: No such file or directory (os error 2)
      hint: is Docker installed and running? DOCKER_HOST names another socket
    leftovers: none
    ");
    assert!(
        lines.contains(&"load: into Docker, unless --to names another (DOCKER_HOST names it)"),
        "{text}"
    );
    let mut document = sealift.run(&["doctor", "--json"]).code(5).json();
    assert_eq!(document["host"]["named"][0]["by"], "DOCKER_HOST");
    assert!(document["temporary"]["free"].is_u64());
    let of_docker = |engine: &serde_json::Value| engine["engine"] == "docker";
    document["engines"].as_array_mut().unwrap().retain(of_docker);
    for machines in ["host", "temporary"] {
        document.as_object_mut().unwrap().remove(machines);
    }
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap(), @r#"
    {
      "auto": {
        "engine": "docker",
        "reason": "DOCKER_HOST names it",
        "socket": "/nonexistent/docker.sock"
      },
      "digests": null,
      "docker": null,
      "engines": [
        {
          "address": "docker at unix:///nonexistent/docker.sock",
          "details": {},
          "engine": "docker",
          "error": {
            "code": null,
            "exit": 5,
            "hint": "is Docker installed and running? DOCKER_HOST names another socket",
            "message": "docker at unix:///nonexistent/docker.sock: connect: No such file or directory (os error 2)"
          },
          "images": null,
          "load": null,
          "obstacles": [],
          "platform": null,
          "space": null,
          "version": null
        }
      ],
      "error": {
        "code": null,
        "exit": 5,
        "hint": "is Docker installed and running? DOCKER_HOST names another socket",
        "message": "docker at unix:///nonexistent/docker.sock: connect: No such file or directory (os error 2)"
      },
      "leftover": false,
      "repaired": false,
      "root": true,
      "schema": 1
    }
    "#);
}
