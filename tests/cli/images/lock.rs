//! `sealift images --lock`, and lock files in `save`.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use super::{archives, words};
use crate::support::{Sealift, Serving, Transcript};

#[test]
fn a_lock_file_is_saved_exactly_and_a_tag_that_moved_is_refused() {
    let sealift = Sealift::new();
    let [web, api, changed] = archives(&sealift);
    fs::write(
        sealift.path("compose.yaml"),
        "services: {web: {image: example.com/web:1, platform: linux/arm64}, api: {image: example.com/api:1}}\n",
    )
    .unwrap();
    let mut transcript = Transcript::of(&sealift);
    for (name, image) in [("web", &web), ("api", &api), ("changed", &changed)] {
        transcript.image(name, image);
    }
    let lock = "images compose.yaml --from all.tar --lock";
    transcript.run(&format!("{lock} images.lock")).ok();
    transcript.run_command(
        "cat images.lock",
        Command::new("cat").arg("images.lock").current_dir(sealift.home()),
    );
    let text = fs::read_to_string(sealift.path("images.lock")).unwrap();
    let again = sealift.run(&words(&format!("{lock} -"))).ok();
    assert_eq!(again.stdout, text);
    let registry = Serving::start(&sealift, &["all.tar"]);
    let moved = Serving::start(&sealift, &["changed.tar"]);
    transcript
        .name(&registry.address, "<registry>")
        .name(&moved.address, "<moved>");
    let save = |registry: &Serving| format!("save --from registry --mirror example.com={}", registry.address);
    transcript
        .run(&format!(
            "{} --lock images.lock --locked --referrers none -o locked.tar",
            save(&registry)
        ))
        .ok();
    transcript
        .run("images compose.yaml --missing-from locked.tar")
        .ok();
    transcript.run(&format!(
        "{} --lock images.lock --locked -o moved.tar",
        save(&moved)
    ));
    let pinned = format!("example.com/web:1@{}", web.digest);
    transcript.run(&format!("{} {pinned} --locked -o moved.tar", save(&moved)));
    transcript.run("save --from all.tar example.com/web:1 --locked -o moved.tar");
    transcript.run("save --from all.tar --lock compose.yaml -o moved.tar");
    transcript.run(&format!("{lock} all.tar"));
    transcript.run(&format!("{lock} compose.yaml"));
    transcript.run("save --from all.tar --images compose.yaml -o compose.yaml");
    sealift
        .run(&words("images images.lock --from all.tar --lock images.lock"))
        .ok();
    assert_eq!(fs::read_to_string(sealift.path("images.lock")).unwrap(), text);
    assert!(!sealift.path("moved.tar").exists());
    assert_snapshot!(transcript.text(), @r#"
    $ sealift images compose.yaml --from all.tar --lock images.lock
    NAME                DIGEST   PLATFORMS                 SIZE
    example.com/api:1   <api>    linux/amd64,linux/arm64   3.2 kB
    example.com/web:1   <web>    linux/arm64               2.0 kB

    $ cat images.lock
    {
      "kind": "SealiftLock",
      "schema": 1,
      "images": [
        {
          "name": "example.com/api:1",
          "digest": "<api>",
          "platforms": [
            "linux/amd64",
            "linux/arm64"
          ],
          "size": 3266
        },
        {
          "name": "example.com/web:1",
          "digest": "<web>",
          "platforms": [
            "linux/arm64"
          ],
          "size": 2000
        }
      ]
    }

    $ sealift save --from registry --mirror example.com=<registry> --lock images.lock --locked --referrers none -o locked.tar
    NAME                DIGEST   EVIDENCE   PLATFORMS                 SIZE     FROM
    example.com/api:1   <api>    verified   linux/amd64,linux/arm64   3.2 kB   mirror <registry> of example.com
    example.com/web:1   <web>    verified   linux/arm64               2.0 kB   mirror <registry> of example.com
    locked.tar: 19.9 kB
    archive <digest 1>

    $ sealift images compose.yaml --missing-from locked.tar
    2 images, none missing from locked.tar

    $ sealift save --from registry --mirror example.com=<moved> --lock images.lock --locked -o moved.tar
    2> error: example.com/web:1 with the digest <web> not found in mirror <moved> of example.com
    2> hint: the tag has <changed> there now
    exit 7

    $ sealift save --from registry --mirror example.com=<moved> example.com/web:1@<web> --locked -o moved.tar
    2> error: example.com/web:1 with the digest <web> not found in mirror <moved> of example.com
    2> hint: the tag has <changed> there now
    exit 7

    $ sealift save --from all.tar example.com/web:1 --locked -o moved.tar
    2> error: --locked compares tags with digests, and no image is named by both
    2> hint: name a lock file with --lock, or images as NAME:TAG@sha256:...
    exit 2

    $ sealift save --from all.tar --lock compose.yaml -o moved.tar
    2> error: compose.yaml is not a lock file
    2> hint: `sealift images FILE --lock LOCK` writes one
    exit 2

    $ sealift images compose.yaml --from all.tar --lock all.tar
    2> error: all.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift images compose.yaml --from all.tar --lock compose.yaml
    2> error: compose.yaml is both read and written
    2> hint: name another target
    exit 2

    $ sealift save --from all.tar --images compose.yaml -o compose.yaml
    2> error: compose.yaml is both read and written
    2> hint: name another target
    exit 2
    "#);
}
