//! `save --with-installer`, and the script that it writes: on hosts that have little but sh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use insta::assert_snapshot;

use crate::support::command::clean;
use crate::support::{Image, Layer, Run, Sealift, Transcript, run};

/// A folder `stick` with an archive in parts, and its installer.
fn setup() -> Sealift {
    let sealift = Sealift::new();
    let mut image = Image::small("app");
    image.platforms[0].1.push(Layer::new().noise("app", 1, 30_000));
    image.build(&sealift.path("layout"), "1");
    fs::create_dir(sealift.path("stick")).unwrap();
    let save = [
        "save",
        "-q",
        "--from",
        "layout",
        "app:1",
        "-o",
        "stick/my app.tar",
    ];
    let split = ["--split", "20kB", "--with-installer"];
    sealift.run(&[&save[..], &split].concat()).ok();
    sealift
}

fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    }
}

/// sh in a folder of a test.
fn shell(sealift: &Sealift, folder: &str) -> Command {
    let mut command = clean("/bin/sh", sealift.home());
    command.current_dir(sealift.path(folder));
    command
}

/// Runs the script in the folder of a test, with these variables and nothing else, not even programs.
fn install(sealift: &Sealift, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = shell(sealift, "");
    command.env_clear().env("PATH", "/nonexistent");
    command.envs(variables.iter().copied());
    run(command.arg("stick/install.sh").args(arguments))
}

const TO: (&str, &str) = ("SEALIFT_TO", "oci:loaded");

#[test]
fn the_files_are_beside_the_archive_and_the_digests_are_theirs() {
    let sealift = setup();
    let mut names: Vec<String> = fs::read_dir(sealift.path("stick"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let executable = format!("sealift-linux-{}", machine());
    let expected = [
        "SHA256SUMS",
        "install.sh",
        "my app.tar.001",
        "my app.tar.002",
        "my app.tar.003",
        &executable,
    ];
    assert_eq!(names, expected);
    let checked = run(shell(&sealift, "stick").args(["-c", "sha256sum --strict -c SHA256SUMS"]));
    assert_eq!(checked.ok().stdout.matches(": OK\n").count(), 5);
    let mode = |name: &str| {
        fs::metadata(sealift.path("stick").join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(
        [mode(&executable), mode("install.sh")].map(|mode| mode & 0o111),
        [0o111; 2]
    );
}

#[test]
fn a_host_with_nothing_but_sh_loads_and_a_second_time_changes_nothing() {
    let sealift = setup();
    let json = |variables: &[(&str, &str)], arguments: &[&str]| -> serde_json::Value {
        let said = install(&sealift, variables, arguments).ok();
        serde_json::from_str(&said.stdout).unwrap()
    };
    let planned = json(&[TO, ("SEALIFT_OPTIONS", "--dry-run --json")], &[]);
    assert_eq!(planned["images"][0]["change"], "new");
    assert!(!sealift.path("loaded").exists());
    let first = json(&[TO], &["--json"]);
    assert_eq!(
        (&first["changed"], &first["images"][0]["shown"]),
        (&true.into(), &true.into())
    );
    let again = json(&[TO], &["--json"]);
    assert_eq!((&again["changed"], &again["sent"]), (&false.into(), &0.into()));
    // From another folder, and of other images only.
    let mut command = shell(&sealift, "layout");
    command.envs([("SEALIFT_TO", "oci:../other"), ("SEALIFT_IMAGES", "app:1 app:2")]);
    run(command.arg("../stick/install.sh")).code(7);
}

#[test]
fn what_is_damaged_or_not_there_is_not_loaded() {
    let sealift = setup();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(format!("sealift-linux-{}", machine()), "sealift-linux-MACHINE");
    let mut fails = |what: &str, said: Run, code: i32| {
        transcript.add(what, &said.code(code));
        assert!(!sealift.path("loaded").exists());
    };
    let path = |name: &str| sealift.path("stick").join(name);
    let executable = path(&format!("sealift-linux-{}", machine()));
    let programs = |said: &Sealift| {
        let mut command = shell(said, "");
        run(command.env(TO.0, TO.1).arg("stick/install.sh"))
    };
    fails("usage", install(&sealift, &[TO], &["--nonsense"]), 2);
    let part = fs::read(path("my app.tar.002")).unwrap();
    let mut bad = part.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(path("my app.tar.002"), &bad).unwrap();
    fails("damaged archive", install(&sealift, &[TO], &[]), 1);
    fs::remove_file(path("my app.tar.001")).unwrap();
    fails("no archive", install(&sealift, &[TO], &[]), 3);
    fs::write(path("my app.tar.001"), &part).unwrap();
    let text = fs::read(&executable).unwrap();
    fs::write(&executable, b"#!/bin/sh\ntouch loaded\n").unwrap();
    fails("another executable", programs(&sealift), 1);
    fs::remove_file(&executable).unwrap();
    fails("no executable", programs(&sealift), 3);
    // Without a bit for execution, and without the programs that copy it.
    fs::write(&executable, text).unwrap();
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o644)).unwrap();
    let said = install(&sealift, &[TO], &[]).code(3).stderr;
    assert!(
        said.contains(" does not run here, nor does a copy in $TMPDIR: "),
        "{said}"
    );
    assert!(
        said.ends_with("Permission denied\n") && !sealift.path("loaded").exists(),
        "{said}"
    );
    assert_snapshot!(transcript.text(), @r#"
    $ usage
    2> error: unexpected argument '--nonsense' found
    2>
    2>   tip: to pass '--nonsense' as a value, use '-- --nonsense'
    2>
    2> Usage: sealift-linux-MACHINE load --expect <DIGEST> --to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]> <FILE>...
    2>
    2> For more information, try '--help'.
    exit 2

    $ damaged archive
    2> warning: stick/my app.tar.001: blobs/sha256/4c280029e30e0e0457c2d22915f61b61baeb4c7875d33318a3c82c5d24f8b278 at byte 8704: digest is <digest 1>, expected <digest 2>
    2> error: stick/my app.tar.001: 1 of the archive's checks failed
    exit 1

    $ no archive
    2> install.sh: error: stick/my app.tar.001 is not there: install.sh belongs beside it
    exit 3

    $ another executable
    2> install.sh: error: stick/sealift-linux-MACHINE is damaged, or is another file: sha256sum -c SHA256SUMS checks all files
    exit 1

    $ no executable
    2> install.sh: error: stick/sealift-linux-MACHINE is not there: install.sh belongs beside it
    exit 3
    "#);
}

#[test]
fn it_runs_from_a_stick_on_which_nothing_may_be_run() {
    let sealift = setup();
    let executable = sealift.path("stick").join(format!("sealift-linux-{}", machine()));
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o644)).unwrap();
    let temporary = sealift.path("tmp");
    fs::create_dir(&temporary).unwrap();
    for shell in ["sh", "bash --posix", "busybox sh"] {
        let mut words = shell.split(' ');
        let mut command = clean(words.next().unwrap(), sealift.home());
        command.args(words).arg("stick/install.sh");
        command.current_dir(sealift.path("")).env("TMPDIR", &temporary);
        let to = format!("oci:loaded by {shell}");
        let said = run(command.env(TO.0, to)).ok();
        assert!(said.stdout.contains(" new\n"), "{shell}: {said:?}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{shell}");
    }
    // Nothing is left either if it is interrupted while it copies.
    let programs = sealift.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("cp"), "#!/bin/sh\nkill $PPID\n").unwrap();
    fs::set_permissions(programs.join("cp"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = shell(&sealift, "");
    command.env("TMPDIR", &temporary).env("PATH", path);
    run(command.arg("stick/install.sh")).code(143);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn an_archive_without_its_installer_is_reported_as_complete() {
    let sealift = setup();
    // The executable is larger than a file may be, the archive is not. Without --split, the script is of another file.
    let mut limited = sealift
        .shell("ulimit -f 1000; sealift save -q --from layout app:1 -o 'stick/my app.tar' --with-installer");
    let said = run(&mut limited).code(3);
    let digest = sealift.run(&["verify", "-q", "stick/my app.tar"]).ok();
    let digest = digest.stdout.trim().strip_prefix("archive ").unwrap().to_owned();
    let complete =
        format!("hint: stick/my app.tar is complete, with the digest {digest}: only its installer is not\n");
    assert!(said.stderr.contains("File too large"), "{said:?}");
    assert!(said.stderr.ends_with(&complete), "{said:?}");

    // The installer that is there is of the archive in parts.
    let save = [
        "save",
        "-q",
        "--from",
        "layout",
        "app:1",
        "-o",
        "stick/my app.tar",
    ];
    let said = sealift.run(&save).ok();
    let outdated = "warning: stick/install.sh is of the archive that was there before, and refuses this one\n\
                    hint: --with-installer writes it anew\n";
    assert_eq!(said.stderr, outdated);
    let said = sealift.run(&[&save[..], &["--with-installer"]].concat()).ok();
    // The executable of a test is linked with glibc.
    assert!(
        said.stderr.contains(" needs libraries of this system, "),
        "{said:?}"
    );
    assert_eq!(sealift.run(&save).ok().stderr, "");
}

#[test]
fn what_belongs_to_others_is_kept_and_nothing_is_saved() {
    let sealift = setup();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(format!("sealift-linux-{}", machine()), "sealift-linux-MACHINE");
    let save = [
        "save",
        "-q",
        "--from",
        "layout",
        "app:1",
        "--with-installer",
        "-o",
    ];
    let mut saves = |arguments: &[&str]| {
        transcript.run_args(&[&save[..], arguments].concat());
    };
    saves(&["stick/other.tar"]);
    saves(&["-"]);
    saves(&["new.tar", "--executable", "layout/oci-layout"]);
    assert!(!sealift.path("stick/other.tar").exists() && !sealift.path("new.tar").exists());
    // The same archive, in one file.
    sealift.run(&[&save[..], &["stick/my app.tar"]].concat()).ok();
    run(shell(&sealift, "stick").args(["install.sh", "--to", "oci:../loaded"])).ok();
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save -q --from layout app:1 --with-installer -o stick/other.tar
    2> error: stick/install.sh is there, and does not belong to this archive
    2> hint: save into a folder of its own
    exit 2

    $ sealift save -q --from layout app:1 --with-installer -o -
    2> error: an installer is written beside an archive, and standard output has no such place
    2> hint: name a file with -o
    exit 2

    $ sealift save -q --from layout app:1 --with-installer -o new.tar --executable layout/oci-layout
    2> error: layout/oci-layout is not an executable for linux/amd64 or linux/arm64
    2> hint: sealift 0.1.0 is needed, for linux/amd64 or linux/arm64
    exit 2
    "#);
}
