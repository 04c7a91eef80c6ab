//! Where archives are written to, and standard streams.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use insta::assert_snapshot;

use crate::support::command::bounded;
use crate::support::{Image, Sealift, Transcript};

#[test]
fn the_place_of_an_archive_is_checked_first() {
    let sealift = Sealift::new();
    fs::create_dir(sealift.path("folder")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    for output in [
        "folder",
        "folder/",
        "new/sub/",
        "x.tar.001 --split 1M",
        // Nothing is wrong with these: what is missing is the source.
        "x.tar",
        "folder/x.tar",
        "x.tar.001",
    ] {
        transcript.run(&format!("save --from absent.tar -o {output}"));
    }
    transcript.run_args(&["save", "--from", "absent.tar", "-o", "no dir/x.tar"]);
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --from absent.tar -o folder
    2> error: folder names a folder, not a file
    2> hint: -o folder/images.tar
    exit 2

    $ sealift save --from absent.tar -o folder/
    2> error: folder/ names a folder, not a file
    2> hint: -o folder/images.tar
    exit 2

    $ sealift save --from absent.tar -o new/sub/
    2> error: new/sub/ names a folder, not a file
    2> hint: -o new/sub/images.tar
    exit 2

    $ sealift save --from absent.tar -o x.tar.001 --split 1M
    2> error: x.tar.001 names the first part: the parts of x.tar.001 would be x.tar.001.001, ...
    2> hint: -o x.tar --split writes x.tar.001, ...
    exit 2

    $ sealift save --from absent.tar -o x.tar
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift save --from absent.tar -o folder/x.tar
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift save --from absent.tar -o x.tar.001
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift save --from absent.tar -o "no dir/x.tar"
    2> error: cannot write to no dir/x.tar: No such file or directory (os error 2)
    2> hint: mkdir -p 'no dir'
    exit 3
    "#);
}

#[test]
fn a_folder_that_takes_no_files_is_reported_before_the_work() {
    let sealift = Sealift::new();
    fs::create_dir(sealift.path("closed")).unwrap();
    let save = ["save", "--from", "absent.tar", "-o", "closed/x.tar"];
    let mut transcript = Transcript::of(&sealift);
    transcript.run_command(
        "sealift save --from absent.tar -o closed/x.tar",
        &mut sealift.command_of_another_user(&save),
    );
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from absent.tar -o closed/x.tar
    2> error: cannot write to the folder closed: Permission denied (os error 13)
    2> hint: name a file in another folder with -o
    exit 3
    ");
}

#[test]
fn an_archive_that_another_user_may_not_read_says_so() {
    let sealift = Sealift::new();
    fs::write(sealift.path("x.tar"), "").unwrap();
    fs::set_permissions(sealift.path("x.tar"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut transcript = Transcript::of(&sealift);
    for command in ["list", "verify"] {
        transcript.run_command(
            &format!("sealift {command} x.tar"),
            &mut sealift.command_of_another_user(&[command, "x.tar"]),
        );
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift list x.tar
    2> error: cannot open x.tar: Permission denied (os error 13)
    2> hint: run this with sudo, or chown the file
    exit 3

    $ sealift verify x.tar
    2> error: cannot open x.tar: Permission denied (os error 13)
    2> hint: run this with sudo, or chown the file
    exit 3
    ");
}

#[test]
fn dev_stdout_is_standard_output() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = "sealift save --from layout app:1 -o";
    crate::support::run(&mut sealift.shell(&format!("{save} plain.tar && {save} /dev/stdout > piped.tar")))
        .ok();
    assert!(fs::read(sealift.path("plain.tar")).unwrap() == fs::read(sealift.path("piped.tar")).unwrap());
}

#[test]
fn a_terminal_is_no_archive() {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    for command in ["list", "verify", "load"] {
        let inner = sealift.command(&[command, "-"]);
        let line = format!("NO_COLOR=1 {} {command} -", inner.get_program().to_str().unwrap());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]);
        let run = bounded(script.current_dir(sealift.home()));
        transcript.add(&format!("sealift {command} -"), &run);
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift list -
    error: standard input is a terminal, not an archive
    hint: pipe an archive into it, or name a file
    exit 2

    $ sealift verify -
    error: standard input is a terminal, not an archive
    hint: pipe an archive into it, or name a file
    exit 2

    $ sealift load -
    error: standard input is a terminal, not an archive
    hint: pipe an archive into it, or name a file
    exit 2
    ");
}

#[test]
fn the_line_that_save_prints_can_be_passed_to_expect() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let saved = sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "x.tar"])
        .ok()
        .stdout;
    assert!(saved.starts_with("archive sha256:"));
    sealift
        .run(&["verify", "x.tar", "--expect", saved.trim_end()])
        .ok();
    sealift
        .run(&[
            "verify",
            "x.tar",
            "--expect",
            saved["archive ".len()..].trim_end(),
        ])
        .ok();
    sealift
        .run(&["verify", "x.tar", "--expect", "archive: sha256:12"])
        .code(2);
}

#[test]
fn offline_and_a_registry_exclude_each_other() {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save --from registry --offline app:1 -o x.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from registry --offline app:1 -o x.tar
    2> error: --from registry asks a registry, and --offline asks none
    2> hint: leave out one of them
    exit 2
    ");
}
