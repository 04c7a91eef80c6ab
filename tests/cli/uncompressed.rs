//! What commands print about layers that are there only uncompressed, and about substitute manifests.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Built, Image, Layer, Platform, Sealift, Transcript};

/// A layout with the same image under several names.
fn layout(sealift: &Sealift, names: &[&str]) -> Vec<Built> {
    let layers = ["base", "app", "top"].map(|name| Layer::new().file(name, name));
    let mut image = Image::single(layers.into());
    image.platforms[0].0 = Platform::new("linux/amd64");
    let path = sealift.path("layout");
    let build = |name: &&str| image.build(&path, &format!("docker.io/library/{name}"));
    names.iter().map(build).collect()
}

fn images(sealift: &Sealift, command: &str) -> Vec<Value> {
    let document = sealift.run(&[command, "--json", "layout"]).ok().json();
    document["archives"][0]["images"].as_array().unwrap().clone()
}

#[test]
fn an_image_with_uncompressed_layers_is_complete_and_says_so() {
    let sealift = Sealift::new();
    let image = &layout(&sealift, &["app:1"])[0];
    let layers = &image.manifests[0].layers;
    image.uncompress(&[1, 2]);
    let listed = &images(&sealift, "list")[0];
    let tar = |at: usize| std::fs::metadata(image.blob(&layers[at].diff_id)).unwrap().len();
    let config = std::fs::metadata(image.blob(&image.manifests[0].config))
        .unwrap()
        .len();
    assert_eq!(
        listed["size"],
        image.size + config + layers[0].size + tar(1) + tar(2)
    );
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", image);
    for arguments in [
        "list layout",
        "list --json layout",
        "verify layout",
        "verify --json layout",
        "verify --quick -q layout",
    ] {
        transcript.run(arguments).ok();
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift list layout
    NAME    DIGEST       EVIDENCE   CONTENT    PLATFORMS     SIZE
    app:1   <app>        manifest   complete   linux/amd64   5.6 kB
      linux/amd64 manifest   <app>   IMAGE ID in a containerd store
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      2 of 3 layers uncompressed
    archive <digest 1>

    $ sealift list --json layout
    {
      "archives": [
        {
          "archive": "layout",
          "digest": "<digest 1>",
          "images": [
            {
              "artifact": null,
              "complete": true,
              "digest": "<app>",
              "evidence": "manifest",
              "index": null,
              "layers": 3,
              "manifests": [
                {
                  "config": "<app linux/amd64 config>",
                  "digest": "<app>",
                  "image_id": {
                    "classic": "<app linux/amd64 config>",
                    "containerd": "<app>"
                  },
                  "platform": "linux/amd64"
                }
              ],
              "name": "app:1",
              "platforms": [
                "linux/amd64"
              ],
              "provenance": null,
              "size": 5676,
              "stand_in": null,
              "uncompressed": [
                {
                  "diff_id": "<app linux/amd64 diff id 2>",
                  "digest": "<app linux/amd64 layer 2>",
                  "size": 2048
                },
                {
                  "diff_id": "<app linux/amd64 diff id 3>",
                  "digest": "<app linux/amd64 layer 3>",
                  "size": 2048
                }
              ]
            }
          ]
        }
      ],
      "schema": 1
    }

    $ sealift verify layout
    app:1: 2 layers are present only uncompressed
    layout: 5 blobs, 5.6 kB: all good
    archive <digest 1>

    $ sealift verify --json layout
    {
      "archives": [
        {
          "archive": "layout",
          "blobs": 5,
          "bytes": 5676,
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
                "linux/amd64"
              ],
              "stand_in": null,
              "uncompressed": 2
            }
          ],
          "quick": false,
          "unread": []
        }
      ],
      "schema": 1
    }

    $ sealift verify --quick -q layout
    archive <digest 1>
    "#);
}

#[test]
fn the_provenance_of_an_archive_is_text_from_outside() {
    let sealift = Sealift::new();
    let image = &layout(&sealift, &["app:1"])[0];
    let layers = &image.manifests[0].layers;
    image.uncompress(&[1, 2]);
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", image);
    let hostile = json!({
        "manifest": { "from": "rebuilt", "by": "docker push" },
        "layers": {
            &layers[0].digest: { "from": "rebuilt", "by": "Go gzip -1" },
            &layers[1].digest: { "from": "uncompressed", "reason": "\u{1b}[2Jnone" },
            &layers[2].digest: { "from": "uncompressed", "reason": "\u{1b}[2Jnone" },
        },
    });
    image.annotate("dev.sealift.provenance", &hostile.to_string());
    transcript.run("list layout").ok();
    assert_eq!(images(&sealift, "list")[0]["provenance"], hostile);
    // Layers that the provenance does not mention.
    let mut unlike = hostile;
    unlike["layers"] = json!({});
    image.annotate("dev.sealift.provenance", &unlike.to_string());
    transcript.run("list layout").ok();
    assert_snapshot!(transcript.text(), @r"
    $ sealift list layout
    NAME    DIGEST       EVIDENCE   CONTENT    PLATFORMS     SIZE
    app:1   <app>        manifest   complete   linux/amd64   5.6 kB
      linux/amd64 manifest   <app>   IMAGE ID in a containerd store
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      manifest rebuilt (docker push), 1 of 3 layers rebuilt (Go gzip -1), 2 of 3 layers uncompressed (\u{1b}[2Jnone)
    archive <digest 1>

    $ sealift list layout
    NAME    DIGEST       EVIDENCE   CONTENT    PLATFORMS     SIZE
    app:1   <app>        manifest   complete   linux/amd64   5.6 kB
      linux/amd64 manifest   <app>   IMAGE ID in a containerd store
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      2 of 3 layers uncompressed; manifest rebuilt (docker push)
    archive <digest 2>
    ");
}

#[test]
fn a_layer_that_is_in_neither_form_is_missing() {
    let sealift = Sealift::new();
    let image = &layout(&sealift, &["app:1"])[0];
    let layers = &image.manifests[0].layers;
    image.uncompress(&[1, 2]);
    std::fs::remove_file(image.blob(&layers[1].diff_id)).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", image);
    transcript.run("verify layout").code(1);
    transcript.run("list layout");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify layout
    error: layout: <app linux/amd64 layer 2>: missing, and so is <app linux/amd64 diff id 2>, its declared uncompressed form
    app:1: 1 layer is present only uncompressed
    layout: 4 blobs, 3.6 kB: 1 error
    archive <digest 1>
    exit 1

    $ sealift list layout
    NAME    DIGEST       EVIDENCE   CONTENT      PLATFORMS     SIZE
    app:1   <app>        manifest   incomplete   linux/amd64   3.7 kB
      linux/amd64 manifest   <app>   IMAGE ID in a containerd store
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      1 of 3 layers uncompressed
    archive <digest 1>
    ");
    assert_eq!(images(&sealift, "list")[0]["complete"], false);
    let document = sealift.run(&["verify", "--json", "layout"]).code(1).json();
    assert_eq!(document["archives"][0]["images"][0]["evidence"], Value::Null);
}

#[test]
fn a_substitute_is_never_called_by_its_own_digest() {
    let sealift = Sealift::new();
    let built = layout(&sealift, &["known:1", "unknown:1"]);
    let recorded = format!("sha256:{}", "5".repeat(64));
    built[0].annotate("dev.sealift.recorded", &recorded);
    built[1].annotate("dev.sealift.recorded", "none");
    let own = &built[0].digest;
    for command in ["list", "verify"] {
        let images = images(&sealift, command);
        let told = |at: usize| ["name", "digest", "evidence", "stand_in"].map(|key| images[at][key].clone());
        assert_eq!(
            json!(told(0)),
            json!(["known:1", recorded, "recorded", own]),
            "{command}"
        );
        assert_eq!(
            json!(told(1)),
            json!(["unknown:1", null, "none", own]),
            "{command}"
        );
    }
    let mut transcript = Transcript::of(&sealift);
    transcript
        .name(&recorded, "<recorded digest>")
        .image("substitute", &built[0]);
    transcript.run("list layout").ok();
    transcript.run("verify layout").ok();
    let text = transcript.text();
    assert!(!text.contains("<substitute>"), "{text}");
    assert_snapshot!(text, @"
    $ sealift list layout
    NAME        DIGEST              EVIDENCE   CONTENT    PLATFORMS     SIZE
    known:1     <recorded digest>   recorded   complete   linux/amd64   1.7 kB
      linux/amd64 config   <substitute linux/amd64 config>   IMAGE ID in a classic store
    unknown:1   <none>              none       complete   linux/amd64   1.7 kB
      linux/amd64 config   <substitute linux/amd64 config>   IMAGE ID in a classic store
    archive <digest 1>

    $ sealift verify layout
    known:1: <recorded digest> is recorded, not proven: its manifest could not be recovered
    unknown:1: no digest is known
    layout: 5 blobs, 1.7 kB: all good
    archive <digest 1>
    ");
}
