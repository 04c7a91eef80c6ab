//! Tables on terminals of several widths, and what `list` prints below each image.

use insta::assert_snapshot;

use super::progress::drawn_on_a_terminal_of;
use crate::support::{Built, Image, Run, Sealift, Transcript, image};

const NAME: &str = "registry.example.com/team/project/app:1";

/// An archive of one image with a long name.
fn saved(sealift: &Sealift) -> Built {
    let layout = sealift.path("layout");
    let image = Image::small("app").build(&layout, NAME);
    let save = ["save", "-q", "--from", "layout", NAME, "-o", "app.tar"];
    sealift.run(&save).ok();
    image
}

/// Adds what a terminal of this width shows of standard output.
#[track_caller]
fn on_a_terminal_of(columns: u16, transcript: &mut Transcript<'_>, sealift: &Sealift, arguments: &str) {
    let words = arguments.split(' ').collect::<Vec<_>>();
    let shown = drawn_on_a_terminal_of(columns, "xterm", sealift, &words);
    // Bars are drawn before anything else is printed, and erased.
    let printed = |line: &str| line.rsplit("\u{1b}[J").next().unwrap_or_default().to_owned() + "\n";
    let stdout = shown.lines().map(printed).collect();
    let run = Run {
        line: String::new(),
        code: Some(0),
        signal: None,
        stdout,
        stderr: String::new(),
    };
    transcript.add(&format!("sealift {arguments}   # {columns} columns"), &run);
}

#[test]
fn a_table_fits_the_terminal_that_it_is_printed_on() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.name(&image.digest, "<digest of the image>");
    // As long as what it stands for.
    transcript.name(&image.digest["sha256:".len()..][..12], "<short hash>");
    transcript.run("list -q app.tar");
    for columns in [300, 130, 100, 80, 60, 40, 20] {
        on_a_terminal_of(columns, &mut transcript, &sealift, "list -q app.tar");
    }
    on_a_terminal_of(40, &mut transcript, &sealift, "list -q --no-trunc app.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift list -q app.tar
    NAME                                      DIGEST                  EVIDENCE   CONTENT    PLATFORMS                 SIZE
    registry.example.com/team/project/app:1   <digest of the image>   manifest   complete   linux/amd64,linux/arm64   3.2 kB
    archive <digest 1>

    $ sealift list -q app.tar   # 300 columns
    NAME                                      DIGEST                  EVIDENCE   CONTENT    PLATFORMS                 SIZE
    registry.example.com/team/project/app:1   <digest of the image>   manifest   complete   linux/amd64,linux/arm64   3.2 kB
    archive <digest 1>

    $ sealift list -q app.tar   # 130 columns
    NAME                                      DIGEST                EVIDENCE   CONTENT    PLATFORMS                 SIZE
    registry.example.com/team/project/app:1   sha256:<short hash>   manifest   complete   linux/amd64,linux/arm64   3.2 kB
    archive <digest 1>

    $ sealift list -q app.tar   # 100 columns
    NAME                     DIGEST                EVIDENCE   CONTENT    PLATFORMS                SIZE
    registry.e…oject/app:1   sha256:<short hash>   manifest   complete   linux/amd64,linux/arm…   3.2 kB
    archive <digest 1>

    $ sealift list -q app.tar   # 80 columns
    NAME                                     DIGEST                EVIDENCE   SIZE
    registry.example.c…/team/project/app:1   sha256:<short hash>   manifest   3.2 kB
    archive <digest 1>

    $ sealift list -q app.tar   # 60 columns
    NAME                          DIGEST                EVIDENCE
    registry.exam…project/app:1   sha256:<short hash>   manifest
    archive <digest 1>

    $ sealift list -q app.tar   # 40 columns
    NAME
    registry.example.com/team/project/app:1
    archive <digest 1>

    $ sealift list -q app.tar   # 20 columns
    NAME
    registry.…ject/app:1
    archive <digest 1>

    $ sealift list -q --no-trunc app.tar   # 40 columns
    NAME                                      DIGEST                  EVIDENCE   CONTENT    PLATFORMS                 SIZE
    registry.example.com/team/project/app:1   <digest of the image>   manifest   complete   linux/amd64,linux/arm64   3.2 kB
    archive <digest 1>
    ");
}

#[test]
fn reports_of_save_fit_the_terminal() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.name(&image.digest, "<digest of the image>");
    transcript.name(&image.digest["sha256:".len()..][..12], "<short hash>");
    let save = format!("save --from layout {NAME} -o app.tar");
    on_a_terminal_of(90, &mut transcript, &sealift, &save);
    on_a_terminal_of(90, &mut transcript, &sealift, &format!("{save} --no-trunc"));
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from layout registry.example.com/team/project/app:1 -o app.tar   # 90 columns
    NAME                      DIGEST                EVIDENCE   PLATFORMS                SIZE
    registry.ex…oject/app:1   sha256:<short hash>   verified   linux/amd64,linux/arm…   3.2 kB
    app.tar: 13.8 kB
    archive <digest 1>

    $ sealift save --from layout registry.example.com/team/project/app:1 -o app.tar --no-trunc   # 90 columns
    NAME                                      DIGEST                  EVIDENCE   PLATFORMS                 SIZE     FROM
    registry.example.com/team/project/app:1   <digest of the image>   verified   linux/amd64,linux/arm64   3.2 kB   layout
    app.tar: 13.8 kB
    archive <digest 1>
    ");
}

#[test]
fn a_list_shows_every_digest_and_what_docker_will_show_as_image_id() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let single = Image::small("one")
        .without_index()
        .build(&sealift.path("one"), "one:1");
    sealift
        .run(&["save", "-q", "--from", "one", "one:1", "-o", "one.tar"])
        .ok();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &image).image("one", &single);
    for arguments in ["list app.tar", "list one.tar", "list --json app.tar one.tar"] {
        transcript.run(arguments).ok();
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift list app.tar
    NAME                                      DIGEST   EVIDENCE   CONTENT    PLATFORMS                 SIZE
    registry.example.com/team/project/app:1   <app>    manifest   complete   linux/amd64,linux/arm64   3.2 kB
      index                  <app>   IMAGE ID in a containerd store
      linux/amd64 manifest   <app linux/amd64>
      linux/amd64 config     <app linux/amd64 config>   IMAGE ID in a classic store
      linux/arm64 manifest   <app linux/arm64>
      linux/arm64 config     <app linux/arm64 config>   IMAGE ID in a classic store
    archive <digest 1>

    $ sealift list one.tar
    NAME    DIGEST       EVIDENCE   CONTENT    PLATFORMS     SIZE
    one:1   <one>        manifest   complete   linux/amd64   1.3 kB
      linux/amd64 manifest   <one>   IMAGE ID in a containerd store
      linux/amd64 config     <one linux/amd64 config>   IMAGE ID in a classic store
    archive <digest 2>

    $ sealift list --json app.tar one.tar
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
              "name": "registry.example.com/team/project/app:1",
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
        },
        {
          "archive": "one.tar",
          "digest": "<digest 2>",
          "images": [
            {
              "artifact": null,
              "complete": true,
              "digest": "<one>",
              "evidence": "manifest",
              "index": null,
              "layers": 2,
              "manifests": [
                {
                  "config": "<one linux/amd64 config>",
                  "digest": "<one>",
                  "image_id": {
                    "classic": "<one linux/amd64 config>",
                    "containerd": "<one>"
                  },
                  "platform": "linux/amd64"
                }
              ],
              "name": "one:1",
              "platforms": [
                "linux/amd64"
              ],
              "provenance": null,
              "size": 1354,
              "stand_in": null,
              "uncompressed": []
            }
          ]
        }
      ],
      "schema": 1
    }
    "#);
}

#[test]
fn an_artifact_is_called_one() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    image::artifact(&layout, "chart:1", "application/vnd.cncf.helm.config.v1+json");
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "save --from layout chart:1 -o chart.tar",
        "save --json --from layout chart:1 -o chart.tar",
        "list chart.tar",
        "list --json chart.tar",
        "verify chart.tar",
    ] {
        transcript.run(arguments).ok();
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --from layout chart:1 -o chart.tar
    NAME      DIGEST       EVIDENCE   PLATFORMS   SIZE    FROM
    chart:1   <digest 1>   verified   artifact    878 B   layout
    chart:1: artifact of type application/vnd.cncf.helm.config.v1+json, not an image
    chart.tar: 8.7 kB
    archive <digest 2>

    $ sealift save --json --from layout chart:1 -o chart.tar
    {
      "archive": "chart.tar",
      "digest": "<digest 2>",
      "files": [
        "chart.tar"
      ],
      "images": [
        {
          "artifact": "application/vnd.cncf.helm.config.v1+json",
          "digest": "<digest 1>",
          "evidence": "verified",
          "from": "layout",
          "name": "chart:1",
          "platforms": [],
          "provenance": null,
          "reused": 0,
          "size": 878
        }
      ],
      "left_out": [],
      "nameless": [],
      "reused": 0,
      "schema": 1,
      "size": 8704
    }

    $ sealift list chart.tar
    NAME      DIGEST       EVIDENCE   CONTENT    PLATFORMS   SIZE
    chart:1   <digest 1>   manifest   complete   artifact    878 B
      manifest   <digest 1>
      config     <digest 3>
      artifact of type application/vnd.cncf.helm.config.v1+json, not an image
    archive <digest 2>

    $ sealift list --json chart.tar
    {
      "archives": [
        {
          "archive": "chart.tar",
          "digest": "<digest 2>",
          "images": [
            {
              "artifact": "application/vnd.cncf.helm.config.v1+json",
              "complete": true,
              "digest": "<digest 1>",
              "evidence": "manifest",
              "index": null,
              "layers": 2,
              "manifests": [
                {
                  "config": "<digest 3>",
                  "digest": "<digest 1>",
                  "image_id": null,
                  "platform": null
                }
              ],
              "name": "chart:1",
              "platforms": [],
              "provenance": null,
              "size": 878,
              "stand_in": null,
              "uncompressed": []
            }
          ]
        }
      ],
      "schema": 1
    }

    $ sealift verify chart.tar
    chart.tar: 4 blobs, 878 B: all good
    archive <digest 2>
    "#);
}
