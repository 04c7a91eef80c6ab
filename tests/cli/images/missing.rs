//! `sealift images --missing-from`.

use std::fs;

use insta::assert_snapshot;

use super::{archives, words};
use crate::support::{Sealift, Serving, Transcript, assert_documented};

#[test]
fn what_a_place_lacks_is_listed_with_exit_code_7() {
    let sealift = Sealift::new();
    let [web, api, changed] = archives(&sealift);
    let registry = Serving::start(&sealift, &["all.tar"]);
    let inventory = "inventory -q --from oci:layout --label host -o host.json";
    sealift.run(&words(inventory)).ok();
    let other = &changed.digest;
    let list = format!(
        "example.com/web:1\nexample.com/api:1@{}\nexample.com/web:1@{other}\nexample.com/api:2\n",
        api.digest
    );
    fs::write(sealift.path("list.txt"), list).unwrap();
    // One engine that tells what is complete: it has one image only in part.
    let document = fs::read(sealift.path("host.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    for image in document["engines"][0]["images"].as_array_mut().unwrap() {
        if image["tags"][0].as_str().unwrap().contains("/web:") {
            image["available"] = serde_json::json!([web.digest]);
        }
    }
    fs::write(sealift.path("part.json"), document.to_string()).unwrap();
    fs::write(
        sealift.path("there.txt"),
        "example.com/web:1\nexample.com/api:1\n",
    )
    .unwrap();
    fs::write(
        sealift.path("compose.yaml"),
        "services: {web: {image: example.com/web:1, platform: linux/s390x}}\n",
    )
    .unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(&registry.address, "<registry>");
    for (name, image) in [("web", &web), ("api", &api), ("changed", &changed)] {
        transcript.image(name, image);
    }
    let place = format!("registry://{}", registry.address);
    for arguments in [
        "list.txt --missing-from all.tar",
        &format!("list.txt --missing-from {place}"),
        "list.txt --missing-from host.json",
        "-q list.txt --missing-from all.tar",
        "there.txt --missing-from all.tar",
        &format!("there.txt --missing-from {place}"),
        "there.txt --missing-from host.json",
        "there.txt --missing-from part.json",
        "there.txt --missing-from all.tar --platform linux/arm64,linux/s390x",
        "compose.yaml --missing-from all.tar",
        "there.txt --missing-from host.json --platform linux/arm64",
        "there.txt --missing-from absent.tar",
        "there.txt --missing-from registry://user:secret@h.io",
        "there.txt --missing-from docker --containerd-address /run/x",
        "there.txt --missing-from all.tar --offline",
        "there.txt --offline",
        "there.txt --root /x",
        "there.txt --from all.tar",
        "there.txt --platform host",
    ] {
        transcript.run(&format!("images {arguments}"));
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift images list.txt --missing-from all.tar
    NAME                                                                                        PLACE        MISSING
    example.com/web:1@<changed>   list.txt:3   example.com/web:1 with the digest <changed> not found in all.tar; it has <web> there
    example.com/api:2                                                                           list.txt:4   example.com/api:2 not found in all.tar; it holds example.com/api:1, example.com/web:1
    4 images, 2 missing from all.tar
    exit 7

    $ sealift images list.txt --missing-from registry://<registry>
    NAME                                                                                        PLACE        MISSING
    example.com/web:1@<changed>   list.txt:3   example.com/web:1 with the digest <changed> not found in registry://<registry>; it has <web> there
    example.com/api:2                                                                           list.txt:4   <registry>/api:2: api:2 not found in <registry>; it has 1
    4 images, 2 missing from registry://<registry>
    exit 7

    $ sealift images list.txt --missing-from host.json
    NAME                                                                                        PLACE        MISSING
    example.com/web:1@<changed>   list.txt:3   example.com/web:1 with the digest <changed> not found in host.json; it has <web> there
    example.com/api:2                                                                           list.txt:4   example.com/api:2 not found in host.json
    4 images, 2 missing from host.json
    exit 7

    $ sealift images -q list.txt --missing-from all.tar
    example.com/web:1@<changed>
    example.com/api:2
    exit 7

    $ sealift images there.txt --missing-from all.tar
    2 images, none missing from all.tar

    $ sealift images there.txt --missing-from registry://<registry>
    2 images, none missing from registry://<registry>

    $ sealift images there.txt --missing-from host.json
    2 images, none missing from host.json

    $ sealift images there.txt --missing-from part.json
    NAME                PLACE         MISSING
    example.com/api:1   there.txt:2   example.com/api:1 not found in part.json; only a part of the image is there
    2 images, 1 missing from part.json
    exit 7

    $ sealift images there.txt --missing-from all.tar --platform linux/arm64,linux/s390x
    NAME                PLACE         MISSING
    example.com/web:1   there.txt:1   example.com/web:1: platform linux/s390x not found in <web>; it has linux/amd64, linux/arm64; choose with --platform
    example.com/api:1   there.txt:2   example.com/api:1: platform linux/s390x not found in <api>; it has linux/amd64, linux/arm64; choose with --platform
    2 images, 2 missing from all.tar
    exit 7

    $ sealift images compose.yaml --missing-from all.tar
    NAME                PLACE            MISSING
    example.com/web:1   compose.yaml:1   example.com/web:1: platform linux/s390x not found in <web>; it has linux/amd64, linux/arm64; choose with --platform
    1 image, 1 missing from all.tar
    exit 7

    $ sealift images there.txt --missing-from host.json --platform linux/arm64
    2> error: --platform is for archives and registries: an engine has images for its own platform
    2> hint: leave out --platform
    exit 2

    $ sealift images there.txt --missing-from absent.tar
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift images there.txt --missing-from registry://user:secret@h.io
    2> error: --missing-from names no registry: a user and password do not belong here: log in with `docker login`; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror
    exit 2

    $ sealift images there.txt --missing-from docker --containerd-address /run/x
    2> error: --containerd-address has no meaning for docker
    2> hint: leave out --containerd-address
    exit 2

    $ sealift images there.txt --missing-from all.tar --offline
    2> error: the argument '--missing-from <PLACE>' cannot be used with '--offline'
    2>
    2> Usage: sealift images --missing-from <PLACE> <FILE>...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift images there.txt --offline
    2> error: --offline is for --pin and --lock
    exit 2

    $ sealift images there.txt --root /x
    2> error: --root is for --missing-from, --pin and --lock
    exit 2

    $ sealift images there.txt --from all.tar
    2> error: --from is for --pin and --lock
    exit 2

    $ sealift images there.txt --platform host
    2> error: --platform is for --missing-from and --lock
    exit 2
    ");
    // The registries that the images name, one of which is gone.
    let stopped = Serving::start(&sealift, &["changed.tar"]).address.clone();
    let list = format!(
        "{0}/web:1\n{0}/web:7\n{stopped}/web:1\n{stopped}/api:1\n",
        registry.address
    );
    fs::write(sealift.path("named.txt"), list).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(&registry.address, "<registry>");
    transcript.name(&stopped, "<stopped>");
    transcript.run("images named.txt --missing-from registry");
    fs::write(sealift.path("gone.txt"), format!("{stopped}/web:1\n")).unwrap();
    transcript.run("images gone.txt --missing-from registry");
    assert_snapshot!(transcript.text(), @"
    $ sealift images named.txt --missing-from registry
    NAME                    PLACE         MISSING
    <registry>/web:7   named.txt:2   <registry>/web:7: web:7 not found in <registry>; it has 1
    4 images, 1 missing from registry, 2 not compared
    2> error: <stopped>: <stopped> refused the connection
    2> hint: nothing listens at <stopped>: check the host and port
    exit 4

    $ sealift images gone.txt --missing-from registry
    1 image, 1 not compared with registry
    2> error: <stopped>: <stopped> refused the connection
    2> hint: nothing listens at <stopped>: check the host and port
    exit 4
    ");
    let run = sealift
        .run(&["images", "--json", "list.txt", "--missing-from", "all.tar"])
        .code(7);
    let document = run.json();
    assert_documented(&document);
    assert_eq!(document["missing"][0]["digest"], web.digest.as_str());
    assert_eq!(document["missing"][1]["exit"], 7);
}

#[test]
fn an_image_of_which_a_part_is_not_there_is_missing() {
    let sealift = Sealift::new();
    let [web, _, _] = archives(&sealift);
    fs::write(sealift.path("list.txt"), "example.com/web:1\nexample.com/api:1\n").unwrap();
    for arguments in [
        "inventory -q --from oci:layout --label host -o host.json",
        "save -q --from all.tar --all --have host.json -o update.tar",
    ] {
        sealift.run(&words(arguments)).ok();
    }
    let missing = |place: &str| {
        let arguments = ["images", "--json", "list.txt", "--missing-from", place];
        let document = sealift.run(&arguments).code(7).json();
        let missing = document["missing"].as_array().unwrap().iter();
        missing
            .map(|one| (one["name"].clone(), one["hint"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let left_out = missing("update.tar");
    assert_eq!(left_out.len(), 2);
    assert!(left_out[0].1.contains("leaves it out"), "{left_out:?}");
    // The others are those of the other image, too.
    let layer = web.manifests[0].layers.first().unwrap();
    fs::remove_file(web.blob(&layer.digest)).unwrap();
    let damaged = missing("layout");
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, "example.com/web:1");
    assert!(damaged[0].1.contains(&layer.digest), "{damaged:?}");
}
