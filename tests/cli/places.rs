//! Where archives are written to, and standard streams.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::command::bounded;
use crate::support::{Image, Sealift, run};

/// A save that fails only after its output was looked at: there is nothing to take an image from.
fn refused(sealift: &Sealift, output: &[&str], code: i32) -> String {
    let save = ["save", "--from", "absent.tar", "-o"];
    sealift.run(&[&save[..], output].concat()).code(code).stderr
}

#[test]
fn the_place_of_an_archive_is_looked_at_first() {
    let sealift = Sealift::new();
    fs::create_dir(sealift.path("folder")).unwrap();
    for (output, code, message, hint) in [
        (
            &["no dir/x.tar"][..],
            3,
            "cannot write to no dir/x.tar",
            "mkdir -p 'no dir'",
        ),
        (&["folder"], 2, "folder names a folder", "-o folder/images.tar"),
        (&["folder/"], 2, "folder/ names a folder", "-o folder/images.tar"),
        (
            &["new/sub/"],
            2,
            "new/sub/ names a folder",
            "-o new/sub/images.tar",
        ),
        (
            &["x.tar.001", "--split", "1M"],
            2,
            "x.tar.001 names the first part",
            "-o x.tar --split",
        ),
    ] {
        let told = refused(&sealift, output, code);
        assert!(told.contains(message), "{output:?}: {told}");
        assert!(told.contains(&format!("hint: {hint}")), "{output:?}: {told}");
    }
    for output in ["x.tar", "folder/x.tar", "x.tar.001"] {
        assert!(refused(&sealift, &[output], 3).contains("absent.tar"));
    }
}

#[test]
fn a_folder_that_takes_no_files_is_told_before_the_work() {
    let sealift = Sealift::new();
    fs::create_dir(sealift.path("closed")).unwrap();
    let save = ["save", "--from", "absent.tar", "-o", "closed/x.tar"];
    let told = run(&mut sealift.command_of_another_user(&save)).code(3).stderr;
    assert!(
        told.contains("error: cannot write to the folder closed: Permission denied"),
        "{told}"
    );
    assert!(
        told.contains("hint: name a file in another folder with -o"),
        "{told}"
    );
}

#[test]
fn an_archive_that_another_user_may_not_read_is_told_so() {
    let sealift = Sealift::new();
    fs::write(sealift.path("x.tar"), "").unwrap();
    fs::set_permissions(sealift.path("x.tar"), fs::Permissions::from_mode(0o600)).unwrap();
    for command in ["list", "verify"] {
        let told = run(&mut sealift.command_of_another_user(&[command, "x.tar"]))
            .code(3)
            .stderr;
        assert!(told.contains("cannot open x.tar: Permission denied"), "{told}");
        assert!(
            told.contains("hint: run this with sudo, or chown the file"),
            "{told}"
        );
    }
}

#[test]
fn dev_stdout_is_standard_output() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = "sealift save --from layout app:1 -o";
    run(&mut sealift.shell(&format!("{save} plain.tar && {save} /dev/stdout > piped.tar"))).ok();
    assert!(fs::read(sealift.path("plain.tar")).unwrap() == fs::read(sealift.path("piped.tar")).unwrap());
}

#[test]
fn a_terminal_is_no_archive() {
    let sealift = Sealift::new();
    for command in ["list", "verify", "load"] {
        let inner = sealift.command(&[command, "-"]);
        let line = format!("{} {command} -", inner.get_program().to_str().unwrap());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]);
        let told = bounded(script.current_dir(sealift.home())).code(2).stdout;
        assert!(told.contains("standard input is a terminal"), "{told}");
    }
}

#[test]
fn the_line_that_save_prints_can_be_expected_as_it_is() {
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
    let told = sealift
        .run(&["save", "--from", "registry", "--offline", "app:1", "-o", "x.tar"])
        .code(2)
        .stderr;
    assert!(
        told.contains("--from registry asks a registry, and --offline asks none"),
        "{told}"
    );
}
