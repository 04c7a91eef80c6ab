//! Loads into layouts and archives that are refused.

use std::fs;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;

use crate::load_files::{archives, tree};
use crate::support::Transcript;

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
        "one.tar --to oci:one.tar",
        "one.tar --to oci:nowhere/out",
        "one.tar --to archive:out",
        "one.tar two.tar --image one --platform linux/s390x --to oci:out",
        "one.tar two.tar --rename two:1=one:1 --to oci:out",
        "one.tar --to oci:out --allow-restart",
        "one.tar --to oci:out --attach none",
        "one.tar --to oci:out --split 4G",
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
    assert_snapshot!(transcript.text(), @"
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
    ");
    assert!(tree(sealift.home()) == before);
}
