//! Where `save` looks for images.

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{Built, Image, Layer, Platform, Sealift, Transcript, image, layer};

/// A `docker save` archive of one image, `app:1`, without a digest, as Docker 20.10 writes it.
fn saved(sealift: &Sealift) -> String {
    let layer = Layer::new().file("etc/app", "text").tar();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [image::sha256(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", &image::sha256(&config)["sha256:".len()..]);
    let manifest = json!([{
        "Config": config_name, "RepoTags": ["app:1", "quay.io/org/app:1"], "Layers": ["a/layer.tar"],
    }]);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (config_name.as_str(), config.as_slice()),
        ("a/layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        layer::append(&mut builder, name, 0o644, tar::EntryType::Regular, bytes);
    }
    let path = sealift.path("saved.tar");
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn options_that_leave_nothing_to_ask_are_refused() {
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nope.sock");
    saved(&sealift);
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "--from registry --offline",
        "--offline",
        "--from registry --data-root /",
        "--from saved.tar --data-root /",
    ] {
        transcript.run(&format!("save app:1 -o out.tar {arguments}"));
        assert!(!sealift.path("out.tar").exists());
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift save app:1 -o out.tar --from registry --offline
    2> error: --from registry asks a registry, and --offline asks none
    2> hint: leave out one of them
    exit 2

    $ sealift save app:1 -o out.tar --offline
    2> error: no source is available: no engine was found, and --offline asks no registry
    2> hint: leave out --offline, or name an archive with --from
    exit 2

    $ sealift save app:1 -o out.tar --from registry --data-root /
    2> error: --data-root names a store of Docker, and --from asks no Docker
    2> hint: add --from docker, or leave out --data-root
    exit 2

    $ sealift save app:1 -o out.tar --from saved.tar --data-root /
    2> error: --data-root names a store of Docker, and --from asks no Docker
    2> hint: add --from docker, or leave out --data-root
    exit 2
    ");
}

#[test]
fn a_registry_error_says_why_docker_was_not_asked() {
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nope.sock");
    let mut transcript = Transcript::of(&sealift);
    // Nothing listens at port 1.
    transcript.run("save 127.0.0.1:1/app:1 -o out.tar");
    transcript.run("save 127.0.0.1:1/app:1 -o out.tar --from registry");
    assert_snapshot!(transcript.text(), @"
    $ sealift save 127.0.0.1:1/app:1 -o out.tar
    2> note: the local Docker was not asked: /nope.sock does not exist
    2> error: 127.0.0.1:1: 127.0.0.1:1 refused the connection
    2> hint: nothing listens at 127.0.0.1:1: check the host and port
    exit 4

    $ sealift save 127.0.0.1:1/app:1 -o out.tar --from registry
    2> error: 127.0.0.1:1: 127.0.0.1:1 refused the connection
    2> hint: nothing listens at 127.0.0.1:1: check the host and port
    exit 4
    ");
}

#[test]
fn a_missing_name_is_answered_with_the_names_that_exist() {
    let sealift = Sealift::new();
    saved(&sealift);
    let mut transcript = Transcript::of(&sealift);
    for name in ["49eb034b73f3", "nothing", "sha256:49eb"] {
        transcript.run(&format!("save --offline --from saved.tar -o out.tar {name}"));
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift save --offline --from saved.tar -o out.tar 49eb034b73f3
    2> error: 49eb034b73f3:latest not found in saved.tar
    2> hint: no image has this id either; it has app:1, quay.io/org/app:1
    exit 7

    $ sealift save --offline --from saved.tar -o out.tar nothing
    2> error: nothing:latest not found in saved.tar
    2> hint: it has app:1, quay.io/org/app:1
    exit 7

    $ sealift save --offline --from saved.tar -o out.tar sha256:49eb
    2> error: an image id that begins with sha256:49eb not found in saved.tar
    2> hint: `docker images`, `crictl images` and `podman images` show ids; `sealift list` shows those of an archive's images
    exit 7
    ");
}

#[test]
fn an_image_without_an_index_is_saved_and_loaded_for_its_platform() {
    let sealift = Sealift::new();
    let mut image = Image::small("app").without_index();
    image.platforms[0].0 = Platform::new("linux/s390x");
    image.build(&sealift.path("layout"), "docker.io/library/single:1");
    let indexed = Image::small("app");
    indexed.build(&sealift.path("layout"), "docker.io/library/indexed:1");
    let save = |platforms: &str, name: &str| {
        let args = format!("save -q --from layout --platform {platforms} {name} -o images.tar");
        sealift.run(&args.split(' ').collect::<Vec<_>>())
    };
    let refused = save("linux/amd64", "single:1").code(7);
    assert!(
        refused
            .stderr
            .contains("single:1: platform linux/amd64 not found in sha256:")
            && refused
                .stderr
                .contains("hint: it has no index, and is for linux/s390x only; choose with --platform"),
        "{refused:?}"
    );
    save("linux/amd64,linux/arm64", "single:1").code(7);
    save("all", "single:1").ok();
    save("linux/s390x", "single:1").ok();
    // It is one of them; an index must have both.
    save("linux/amd64,linux/s390x", "indexed:1").code(7);
    save("linux/amd64,linux/s390x", "single:1").ok();

    let load = |platforms: &str| {
        let args = format!("load -q images.tar --to oci:loaded --platform {platforms}");
        sealift.run(&args.split(' ').collect::<Vec<_>>())
    };
    let refused = load("linux/amd64").code(7);
    assert!(
        refused.stderr.contains("single:1 is only for linux/s390x"),
        "{refused:?}"
    );
    load("linux/s390x").ok();
    load("linux/s390x,linux/amd64").ok();
}

#[test]
fn a_missing_docker_is_reported_with_a_way_out() {
    let sealift = Sealift::new().env("DOCKER_HOST", "unix:///nope.sock");
    std::fs::create_dir(sealift.path("nothing")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save --from docker app:1 -o out.tar");
    transcript.run("save --data-root nothing --all -o out.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from docker app:1 -o out.tar
    2> error: docker at unix:///nope.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket; --data-root DIR reads the classic store of a stopped Docker
    exit 5

    $ sealift save --data-root nothing --all -o out.tar
    2> error: nothing has no classic store of Docker
    2> hint: --data-root names the folder that dockerd keeps its data in; a containerd store is another kind, and needs no attaching
    exit 2
    ");
}

#[test]
fn an_archive_of_docker_save_becomes_one_that_says_what_it_is() {
    let sealift = Sealift::new();
    saved(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.name("0".repeat(64), "000...");
    transcript.run("save --offline --from saved.tar -o out.tar").ok();
    transcript.run("list out.tar").ok();
    transcript.run("verify out.tar").ok();
    let listed = sealift.run(&["list", "--json", "out.tar"]).ok().json();
    assert_eq!(listed["archives"][0]["images"][0]["evidence"], "none");

    let absent = format!("app@sha256:{}", "0".repeat(64));
    for rebuild in ["auto", "require"] {
        let before = std::fs::read(sealift.path("out.tar")).unwrap();
        transcript.run(&format!(
            "save --offline --from saved.tar -o out.tar {absent} --rebuild {rebuild}"
        ));
        let after = std::fs::read(sealift.path("out.tar")).unwrap();
        assert_eq!(before, after, "the old file stays");
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift save --offline --from saved.tar -o out.tar
    NAME                DIGEST   EVIDENCE   PLATFORMS     SIZE     FROM
    app:1               <none>   none       linux/amd64   3.2 kB   saved.tar
    quay.io/org/app:1   <none>   none       linux/amd64   3.2 kB   saved.tar
    app:1: no manifest: archives of docker save and of podman's docker formats have none; to have it looked for, request the image as NAME@sha256:...
    quay.io/org/app:1: no manifest: archives of docker save and of podman's docker formats have none; to have it looked for, request the image as NAME@sha256:...
    out.tar: 10.2 kB
    archive <digest 1>

    $ sealift list out.tar
    NAME                DIGEST   EVIDENCE   CONTENT    PLATFORMS     SIZE
    app:1               <none>   none       complete   linux/amd64   3.2 kB
      linux/amd64 config   <digest 2>   IMAGE ID in a classic store
      no manifest: archives of docker save and of podman's docker formats have none; to have it looked for, request the image as NAME@sha256:...
    quay.io/org/app:1   <none>   none       complete   linux/amd64   3.2 kB
      linux/amd64 config   <digest 2>   IMAGE ID in a classic store
      no manifest: archives of docker save and of podman's docker formats have none; to have it looked for, request the image as NAME@sha256:...
    archive <digest 1>

    $ sealift verify out.tar
    app:1: no digest is known
    quay.io/org/app:1: no digest is known
    out.tar: 3 blobs, 3.2 kB: all good
    archive <digest 1>

    $ sealift save --offline --from saved.tar -o out.tar app@sha256:000... --rebuild auto
    2> error: app@sha256:000... not found in saved.tar
    2> hint: it has an image of that name, but nothing that proves this digest for it; without the digest, the image is saved as one that has none (it is not known which blob layer 1 of 1 was in a registry, and what docker push would have made of them does not give the digest)
    exit 7

    $ sealift save --offline --from saved.tar -o out.tar app@sha256:000... --rebuild require
    2> error: app@sha256:000...: it has an image of that name, but nothing that proves this digest for it; without the digest, the image is saved as one that has none (it is not known which blob layer 1 of 1 was in a registry, and what docker push would have made of them does not give the digest)
    2> hint: --rebuild auto saves what can be recovered, and reports the rest
    exit 6
    ");
}

/// An archive of one image under a name.
fn archive(sealift: &Sealift, name: &str, version: &str) -> (String, Built) {
    let layout = sealift.path(&format!("layout-{version}"));
    let built = Image::small(&format!("app {version}")).build(&layout, name);
    let file = format!("{version}.tar");
    let layout = layout.display().to_string();
    sealift
        .run(&["save", "--from", &layout, "--offline", "-o", &file])
        .ok();
    (file, built)
}

#[test]
fn archives_with_different_images_of_one_name_are_not_merged() {
    let sealift = Sealift::new();
    let name = "quay.io/org/app:1";
    let [(one, first), (two, second)] = ["1", "2"].map(|version| archive(&sealift, name, version));
    let from = [
        "save",
        "--offline",
        "--from",
        &one,
        "--from",
        &two,
        "-o",
        "out.tar",
    ];
    let mut transcript = Transcript::of(&sealift);
    transcript.image("first", &first).image("second", &second);
    for what in [&[][..], &["--all"], &[name]] {
        transcript.run_args(&[&from[..], what].concat());
        assert!(!sealift.path("out.tar").exists());
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift save --offline --from 1.tar --from 2.tar -o out.tar
    2> error: two different images would be named quay.io/org/app:1: <first> in 1.tar and <second> in 2.tar
    2> hint: name the images to save, and this one by its digest: quay.io/org/app:1@sha256:...
    exit 2

    $ sealift save --offline --from 1.tar --from 2.tar -o out.tar --all
    2> error: two different images would be named quay.io/org/app:1: <first> in 1.tar and <second> in 2.tar
    2> hint: name the images to save, and this one by its digest: quay.io/org/app:1@sha256:...
    exit 2

    $ sealift save --offline --from 1.tar --from 2.tar -o out.tar quay.io/org/app:1
    2> error: two different images would be named quay.io/org/app:1: <first> in 1.tar and <second> in 2.tar
    2> hint: name the images to save, and this one by its digest: quay.io/org/app:1@sha256:...
    exit 2
    ");
    // One is chosen by its digest.
    let chosen = format!("{name}@{}", second.digest);
    let said = sealift
        .run(&[&from[..], &[&chosen, "--json"]].concat())
        .ok()
        .json();
    assert_eq!(said["images"][0]["digest"], second.digest.as_str());
    // The same image may be in both.
    let twice = ["save", "--offline", "--from", &one, "--from", "out.tar"];
    std::fs::copy(sealift.path(&one), sealift.path("out.tar")).unwrap();
    sealift.run(&[&twice[..], &["-o", "twice.tar"]].concat()).ok();
}
