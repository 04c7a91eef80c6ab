//! Loads into layouts and archives that are refused.

use std::fs;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;

use crate::load_files::{archives, tree};
use crate::support::{Transcript, run};

#[test]
fn impossible_loads_are_refused_and_change_nothing() {
    let (sealift, _) = archives();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:out"]).ok();
    sealift
        .run(&[
            "load",
            "-q",
            "two.tar",
            "--split",
            "4kB",
            "--to",
            "archive:part.tar",
        ])
        .ok();
    fs::create_dir(sealift.path("full")).unwrap();
    fs::write(sealift.path("full/note"), "mine").unwrap();
    sealift
        .run(&["load", "-q", "one.tar", "--to", "oci:unpacked"])
        .ok();
    fs::write(sealift.path("unpacked/manifest.json"), "[]").unwrap();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:newer"]).ok();
    fs::write(
        sealift.path("newer/oci-layout"),
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    )
    .unwrap();
    fs::hard_link(sealift.path("one.tar"), sealift.path("same.tar")).unwrap();
    symlink("out", sealift.path("link")).unwrap();
    let before = tree(sealift.home());
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "one.tar --to archive:one.tar",
        "one.tar two.tar --to archive:same.tar",
        "part.tar.001 --split 5kB --to archive:part.tar",
        "out --to oci:link",
        "one.tar --to oci:full",
        "one.tar --to oci:unpacked",
        "two.tar --to oci:newer",
        "one.tar --to oci:fresh:one:1",
        "one.tar --to oci:one.tar",
        "one.tar --to oci:nowhere/out",
        "one.tar --to archive:out",
        "one.tar two.tar --image one --platform linux/s390x --to oci:out",
        "one.tar two.tar --rename two:1=one:1 --to oci:out",
        "one.tar --to oci:out --allow-restart",
        "one.tar --to oci:out --attach none",
        "one.tar --to oci:out --split 4G",
        "one.tar --to docker --root /a",
        "one.tar --attach none --pin",
        "one.tar --pin --force",
        "one.tar --to docker,docker",
        "one.tar --to docker,oci:out",
        "one.tar --to docker,lxc",
        "one.tar --to oci:out --platform-manifest",
        "one.tar --to docker --digests-only",
        "one.tar --to docker --ca-file ca.pem",
        "one.tar --to registry://h.io/x:1",
        "one.tar --to registry://https://h.io",
        "one.tar --to registry:h.io",
        "one.tar --to registry://registry/x",
        "one.tar --to registry://h.io --ca-file missing.pem",
    ] {
        let run = transcript.run(&format!("load {arguments}"));
        // A plan refuses the same.
        let line = format!("load {arguments} --dry-run");
        let dry_run = sealift.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(
            (run.code, run.stdout, run.stderr),
            (dry_run.code, dry_run.stdout, dry_run.stderr)
        );
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift load one.tar --to archive:one.tar
    2> error: one.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift load one.tar two.tar --to archive:same.tar
    2> error: same.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift load part.tar.001 --split 5kB --to archive:part.tar
    2> error: part.tar.001 is both read and written
    2> hint: name another target
    exit 2

    $ sealift load out --to oci:link
    2> error: link is both read and written
    2> hint: name another target
    exit 2

    $ sealift load one.tar --to oci:full
    2> error: full is not an OCI layout, and not empty
    2> hint: name a layout, or a new folder
    exit 2

    $ sealift load one.tar --to oci:unpacked
    2> error: unpacked has a manifest.json, which would no longer say what is in the layout
    2> hint: it is for `docker load`, and can be removed; or load into another folder
    exit 2

    $ sealift load two.tar --to oci:newer
    2> error: newer: oci-layout: imageLayoutVersion is "2.0.0", expected "1.0.0"
    exit 1

    $ sealift load one.tar --to oci:fresh:one:1
    2> error: fresh:one:1 does not exist, and no tag can follow the path: images keep their names
    2> hint: choose one with --image, or another name with --rename
    exit 2

    $ sealift load one.tar --to oci:one.tar
    2> error: one.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift load one.tar --to oci:nowhere/out
    2> error: cannot write to nowhere/out: No such file or directory (os error 2)
    2> hint: mkdir -p nowhere
    exit 3

    $ sealift load one.tar --to archive:out
    2> error: out names a folder, not a file
    2> hint: --to archive:out/images.tar
    exit 2

    $ sealift load one.tar two.tar --image one --platform linux/s390x --to oci:out
    2> error: platform linux/s390x of one:1 not found in one.tar, two.tar
    2> hint: one:1 is only for linux/amd64, linux/arm64; --keep-going loads the others; --platform linux/amd64 loads that platform; or save again with --platform linux/s390x
    exit 7

    $ sealift load one.tar two.tar --rename two:1=one:1 --to oci:out
    2> error: two different images would be named one:1
    2> hint: choose one with --image, or another name with --rename
    exit 2

    $ sealift load one.tar --to oci:out --allow-restart
    2> error: --allow-restart is for Docker, not for --to oci:out
    exit 2

    $ sealift load one.tar --to oci:out --attach none
    2> error: --attach is for Docker, not for --to oci:out
    exit 2

    $ sealift load one.tar --to oci:out --split 4G
    2> error: --split is for --to archive:FILE, not for --to oci:out
    exit 2

    $ sealift load one.tar --to docker --root /a
    2> error: --root is for podman, not for --to docker
    exit 2

    $ sealift load one.tar --attach none --pin
    2> error: --attach is for Docker, and --pin for containerd: no engine has both
    2> hint: leave out one of them
    exit 2

    $ sealift load one.tar --pin --force
    2> error: --pin is for containerd, and --force for podman or CRI-O: no engine has both
    2> hint: leave out one of them
    exit 2

    $ sealift load one.tar --to docker,docker
    2> error: invalid value 'docker,docker' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': docker is listed twice
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to docker,oci:out
    2> error: invalid value 'docker,oci:out' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': only engines can be listed: docker, containerd, podman, crio
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to docker,lxc
    2> error: invalid value 'docker,lxc' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': expected auto, docker, containerd, podman, crio, oci:PATH, archive:FILE or registry://HOST[/PREFIX]
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to oci:out --platform-manifest
    2> error: --platform-manifest is for --to registry://HOST, not for --to oci:out
    exit 2

    $ sealift load one.tar --to docker --digests-only
    2> error: --digests-only is for --to registry://HOST, not for --to docker
    exit 2

    $ sealift load one.tar --to docker --ca-file ca.pem
    2> error: --ca-file is for --to registry://HOST, not for --to docker
    exit 2

    $ sealift load one.tar --to registry://h.io/x:1
    2> error: invalid value 'registry://h.io/x:1' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': a tag does not belong here: each image keeps its own, or is renamed; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to registry://https://h.io
    2> error: invalid value 'registry://https://h.io' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': give the host without http:// or https://; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to registry:h.io
    2> error: invalid value 'registry:h.io' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': a registry is written registry://HOST[:PORT][/PREFIX]
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to registry://registry/x
    2> error: invalid value 'registry://registry/x' for '--to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>': no image can have the registry "registry" in its name: it needs a dot or a port, or is localhost; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load one.tar --to registry://h.io --ca-file missing.pem
    2> error: cannot read missing.pem: No such file or directory (os error 2)
    exit 3
    "#);
    assert!(tree(sealift.home()) == before);
}

#[test]
fn nothing_is_written_into_a_layout_that_is_read() {
    let (sealift, _) = archives();
    sealift.run(&["load", "-q", "one.tar", "--to", "oci:in"]).ok();
    sealift
        .run(&["load", "-q", "one.tar", "two.tar", "--to", "archive:both.tar"])
        .ok();
    let split = ["load", "-q", "both.tar", "--split", "4kB", "--to"];
    sealift.run(&[&split[..], &["archive:part.tar"]].concat()).ok();
    symlink("in/index.json", sealift.path("file")).unwrap();
    symlink("in/blobs", sealift.path("blobs")).unwrap();
    let before = tree(sealift.home());
    symlink("in/new.tar", sealift.path("dangling")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    for line in [
        "load in --to archive:in/index.json",
        "load in --to archive:in/oci-layout",
        "load in --to archive:in/x.tar",
        "load in --to oci:in/sub",
        "load in --to oci:in/blobs",
        "load two.tar in --to archive:file",
        "load in --to archive:dangling",
        "load in --to oci:blobs/sub",
        "load in --to archive:in/../in/x.tar --split 4kB",
        "save --from in --all -o in/index.json",
        "save --from two.tar --from in one:1 -o blobs/x.tar",
        "save --from both.tar one:1 -o both.tar",
        "save --from part.tar one:1 -o part.tar",
        "save --from part.tar.001 one:1 -o part.tar --split 5kB",
        "save --from part.tar.002 one:1 -o part.tar",
    ] {
        transcript.run(line).code(2);
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift load in --to archive:in/index.json
    2> error: in/index.json is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to archive:in/oci-layout
    2> error: in/oci-layout is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to archive:in/x.tar
    2> error: in/x.tar is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to oci:in/sub
    2> error: in/sub is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to oci:in/blobs
    2> error: in/blobs is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load two.tar in --to archive:file
    2> error: file is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to archive:dangling
    2> error: dangling is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to oci:blobs/sub
    2> error: blobs/sub is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift load in --to archive:in/../in/x.tar --split 4kB
    2> error: in/../in/x.tar is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift save --from in --all -o in/index.json
    2> error: in/index.json is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift save --from two.tar --from in one:1 -o blobs/x.tar
    2> error: blobs/x.tar is inside in, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift save --from both.tar one:1 -o both.tar
    2> error: both.tar is both read and written
    2> hint: name another target
    exit 2

    $ sealift save --from part.tar one:1 -o part.tar
    2> error: part.tar.001 is both read and written
    2> hint: name another target
    exit 2

    $ sealift save --from part.tar.001 one:1 -o part.tar --split 5kB
    2> error: part.tar.001 is both read and written
    2> hint: name another target
    exit 2

    $ sealift save --from part.tar.002 one:1 -o part.tar
    2> error: part.tar.001 is both read and written
    2> hint: name another target
    exit 2
    ");
    fs::remove_file(sealift.path("dangling")).unwrap();
    let mut from_inside = sealift.command(&["save", "--from", ".", "--all", "-o", "x.tar"]);
    let refused = run(from_inside.current_dir(sealift.path("in"))).code(2);
    assert!(
        refused.stderr.contains("x.tar is inside ., which is read"),
        "{refused:?}"
    );
    assert!(tree(sealift.home()) == before);
    // Beside it, and with a name that begins like its own.
    sealift.run(&["load", "-q", "in", "--to", "archive:in.tar"]).ok();
    sealift.run(&["load", "-q", "in", "--to", "oci:in2"]).ok();
}
