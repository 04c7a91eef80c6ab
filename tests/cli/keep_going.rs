//! Saves of which some images are missing or damaged, and images under new names.

use std::fs;

use insta::assert_snapshot;

use crate::support::{Built, Image, Sealift, Transcript};

/// A layout with two images.
fn layout(sealift: &Sealift) -> [Built; 2] {
    ["app:1", "web:1"].map(|name| {
        let (repository, _) = name.split_once(':').unwrap();
        Image::small(repository).build(&sealift.path("layout"), name)
    })
}

const SAVE: [&str; 5] = ["save", "--from", "layout", "-o", "images.tar"];

#[test]
fn missing_names_are_all_reported_or_skipped() {
    let sealift = Sealift::new();
    let [app, web] = layout(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &app).image("web", &web);
    let save = "save --from layout -o images.tar app:1 none:1 web:1 none:2";
    transcript.run(save).code(7);
    assert!(!sealift.path("images.tar").exists());
    transcript.run(&format!("{save} --keep-going")).code(7);
    sealift.run(&["verify", "-q", "images.tar"]).ok();
    transcript.run(&format!("{save} --keep-going --json")).code(7);
    transcript
        .run("save --from layout -o images.tar none:1 none:2 --keep-going")
        .code(7);
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --from layout -o images.tar app:1 none:1 web:1 none:2
    2> error: none:1 not found in layout
    2> hint: it holds app:1, web:1
    2> error: none:2 not found in layout
    2> hint: it holds app:1, web:1
    2> hint: --keep-going saves the other images
    exit 7

    $ sealift save --from layout -o images.tar app:1 none:1 web:1 none:2 --keep-going
    NAME    DIGEST       EVIDENCE   PLATFORMS                 SIZE     FROM
    app:1   <app>        verified   linux/amd64,linux/arm64   3.2 kB   layout
    web:1   <web>        verified   linux/amd64,linux/arm64   3.2 kB   layout
    images.tar: 22.5 kB
    archive <digest 1>
    2> warning: none:1 was skipped: none:1 not found in layout
    2> hint: it holds app:1, web:1
    2> warning: none:2 was skipped: none:2 not found in layout
    2> hint: it holds app:1, web:1
    exit 7

    $ sealift save --from layout -o images.tar app:1 none:1 web:1 none:2 --keep-going --json
    {
      "archive": "images.tar",
      "digest": "<digest 1>",
      "files": [
        "images.tar"
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
        },
        {
          "artifact": null,
          "digest": "<web>",
          "evidence": "verified",
          "from": "layout",
          "name": "web:1",
          "platforms": [
            "linux/amd64",
            "linux/arm64"
          ],
          "provenance": null,
          "reused": 0,
          "size": 3266
        }
      ],
      "left_out": [
        {
          "exit": 7,
          "hint": "it holds app:1, web:1",
          "name": "none:1",
          "reason": "none:1 not found in layout"
        },
        {
          "exit": 7,
          "hint": "it holds app:1, web:1",
          "name": "none:2",
          "reason": "none:2 not found in layout"
        }
      ],
      "nameless": [],
      "reused": 0,
      "schema": 1,
      "size": 22528
    }
    exit 7

    $ sealift save --from layout -o images.tar none:1 none:2 --keep-going
    2> error: none:1 not found in layout
    2> hint: it holds app:1, web:1
    2> error: none:2 not found in layout
    2> hint: it holds app:1, web:1
    exit 7
    "#);
}

#[test]
fn all_images_of_a_layout_are_saved_but_the_damaged_one() {
    let sealift = Sealift::new();
    let [app, web] = layout(&sealift);
    fs::remove_file(web.blob(&web.manifests[0].layers[0].digest)).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &app).image("web", &web);
    // The finding names the blob; the image that needs it is named below it.
    transcript.run("verify layout").code(1);
    for images in ["--all", "app:1 web:1 --keep-going"] {
        let _ = fs::remove_file(sealift.path("images.tar"));
        transcript
            .run(&format!("save --from layout -o images.tar {images}"))
            .code(1);
        let listed = sealift.run(&["list", "--json", "images.tar"]).ok().json();
        let images = listed["archives"][0]["images"].as_array().unwrap().clone();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0]["name"], "app:1");
        sealift.run(&["verify", "-q", "images.tar"]).ok();
    }
    fs::remove_file(sealift.path("images.tar")).unwrap();
    transcript
        .run("save --from layout -o images.tar app:1 web:1")
        .code(1);
    assert!(!sealift.path("images.tar").exists());
    assert_snapshot!(transcript.text(), @"
    $ sealift verify layout
    error: layout: <web linux/amd64 layer 1>: missing
    web:1: has errors
    layout: 13 blobs, 6.2 kB: 1 error
    archive <digest 1>
    exit 1

    $ sealift save --from layout -o images.tar --all
    NAME    DIGEST       EVIDENCE   PLATFORMS                 SIZE     FROM
    app:1   <app>        verified   linux/amd64,linux/arm64   3.2 kB   layout
    images.tar: 13.8 kB
    archive <digest 2>
    2> note: continuing without web:1: layout: <web linux/amd64 layer 1>: missing
    2> warning: web:1 was skipped: layout: <web linux/amd64 layer 1>: missing
    exit 1

    $ sealift save --from layout -o images.tar app:1 web:1 --keep-going
    NAME    DIGEST       EVIDENCE   PLATFORMS                 SIZE     FROM
    app:1   <app>        verified   linux/amd64,linux/arm64   3.2 kB   layout
    images.tar: 13.8 kB
    archive <digest 2>
    2> note: continuing without web:1: layout: <web linux/amd64 layer 1>: missing
    2> warning: web:1 was skipped: layout: <web linux/amd64 layer 1>: missing
    exit 1

    $ sealift save --from layout -o images.tar app:1 web:1
    2> note: what was fetched so far is kept in .images.tar.sealift-part: the same command resumes, or remove the folder
    2> error: layout: <web linux/amd64 layer 1>: missing
    2> hint: --keep-going saves the other images
    exit 1
    ");
}

#[test]
fn images_are_saved_under_new_names() {
    let sealift = Sealift::new();
    let [app, _] = layout(&sealift);
    let short = &app.digest[..15];
    for (renames, expected) in [
        (&["app:1=harbor.local/a:9"][..], ["harbor.local/a:9", "web:1"]),
        (&["docker.io/library=lib"], ["lib/app:1", "lib/web:1"]),
        (&[&format!("{short}=zoo:1")], ["web:1", "zoo:1"]),
    ] {
        let mut line = SAVE.to_vec();
        line.extend(renames.iter().flat_map(|rename| ["--rename", rename]));
        let said = sealift.run(&[&line[..], &["--json"]].concat()).ok().json();
        let listed = sealift.run(&["list", "--json", "images.tar"]).ok().json();
        let images = listed["archives"][0]["images"].as_array().unwrap();
        let mut names: Vec<_> = images
            .iter()
            .map(|image| image["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{renames:?}");
        let renamed = said["images"].as_array().unwrap().iter();
        let renamed = renamed.filter(|image| image["renamed_from"].is_string());
        assert!(renamed.count() > 0, "{said}");
    }
    let mut transcript = Transcript::of(&sealift);
    transcript
        .run("save --from layout -o images.tar --rename none=x")
        .code(2);
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from layout -o images.tar --rename none=x
    2> error: none=x renames nothing: no image has this name
    2> hint: there is app:1, web:1
    exit 2
    ");
}
