//! `sealift images --pin`.

use std::fs;

use insta::assert_snapshot;

use super::archives;
use crate::support::{Sealift, Serving, Transcript};

#[test]
fn a_file_is_pinned_to_the_digests_of_an_archive() {
    let sealift = Sealift::new();
    let [web, api, _] = archives(&sealift);
    let compose = "\
# The site
services:
  web:
    image:   'example.com/web:${TAG:-1}' # é
  api: {image: example.com/api:1, ports: [\"80:80\"]}
";
    fs::write(sealift.path("compose.yaml"), compose).unwrap();
    let args = ["images", "compose.yaml", "--pin", "--from", "all.tar"];
    let pinned = compose
        .replace("web:${TAG:-1}", &format!("web@{}", web.digest))
        .replace("api:1", &format!("api@{}", api.digest));
    assert_eq!(sealift.run(&args).ok().stdout, pinned);
    assert_eq!(
        sealift.run(&[&args[..], &["-o", "-"]].concat()).ok().stdout,
        pinned
    );
    sealift.run(&[&args[..], &["-o", "compose.yaml"]].concat()).ok();
    assert_eq!(fs::read_to_string(sealift.path("compose.yaml")).unwrap(), pinned);
    sealift
        .run(&["images", "compose.yaml", "--missing-from", "all.tar"])
        .ok();
    let json = sealift
        .run(&[&args[..], &["-o", "again.yaml", "--json"]].concat())
        .ok()
        .json();
    assert_eq!(json["file"], "again.yaml");
    assert_eq!(
        json["digests"][format!("example.com/web@{}", web.digest)],
        web.digest.as_str()
    );
    // A registry is asked for one document of each image.
    let registry = Serving::start(&sealift, &["all.tar"]);
    let mirror = format!("example.com={}", registry.address);
    fs::write(sealift.path("list.txt"), "example.com/web:1\nexample.com/api:1\n").unwrap();
    let args = [
        "images", "list.txt", "--pin", "--from", "registry", "--mirror", &mirror,
    ];
    let list = format!("example.com/web@{}\nexample.com/api@{}\n", web.digest, api.digest);
    assert_eq!(sealift.run(&args).ok().stdout, list);
    let log = registry.log();
    let manifests = log.lines().filter(|line| line.contains("/manifests/"));
    assert_eq!(manifests.count(), 2, "{log}");
    assert!(!log.contains("/blobs/"), "{log}");
    fs::write(sealift.path("more.txt"), "example.com/web:1\nredis:7\n").unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("web", &web).image("api", &api);
    for arguments in [
        "images more.txt --pin --from all.tar -o pinned.txt",
        "images more.txt compose.yaml --pin --from all.tar",
        "images more.txt --pin --from all.tar --json",
        "images list.txt --pin --from all.tar -o all.tar",
    ] {
        transcript.run(arguments);
    }
    assert!(!sealift.path("pinned.txt").exists());
    assert_snapshot!(transcript.text(), @r#"
    $ sealift images more.txt --pin --from all.tar -o pinned.txt
    2> error: redis:7 not found in all.tar
    2> hint: it holds example.com/api:1, example.com/web:1
    exit 7

    $ sealift images more.txt compose.yaml --pin --from all.tar
    2> error: --pin writes one file anew, and several are named
    exit 2

    $ sealift images more.txt --pin --from all.tar --json
    {
      "error": {
        "code": null,
        "exit": 2,
        "hint": "name a file with -o",
        "message": "standard output cannot take the file and --json"
      },
      "schema": 1
    }
    2> error: standard output cannot take the file and --json
    2> hint: name a file with -o
    exit 2

    $ sealift images list.txt --pin --from all.tar -o all.tar
    2> error: all.tar is both read and written
    2> hint: name another target
    exit 2
    "#);
    sealift.run(&["verify", "all.tar"]).ok();
}
