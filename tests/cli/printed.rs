//! Text and JSON, exit codes, help.

use crate::support::{Image, Run, Sealift, run};

#[test]
fn usage_is_exit_2_and_says_what_is_wrong_at_which_character() {
    let sealift = Sealift::new();
    let run = sealift.run(&["save", "user/App:1", "-o", "x.tar"]).code(2);
    assert!(
        run.stderr
            .contains("at character 6: repository names are in lower case"),
        "{}",
        run.stderr
    );
    let run = sealift.run(&["save", "-o", "x.tar"]).code(2);
    assert!(
        run.stderr.contains("no image was named") && run.stderr.contains("hint: "),
        "{}",
        run.stderr
    );
    sealift.run(&["save", "app"]).code(2);
    sealift.run(&["frobnicate"]).code(2);
    sealift.run::<&str>(&[]).code(2);
}

#[test]
fn errors_are_documents_too() {
    let sealift = Sealift::new();
    let run = sealift.run(&["verify", "--json", "absent.tar"]).code(3);
    let document = run.json();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["error"]["exit"], 3);
    assert!(
        document["error"]["message"]
            .as_str()
            .unwrap()
            .contains("absent.tar"),
        "{document}"
    );
}

#[test]
fn help_has_examples_and_says_the_exit_codes() {
    let sealift = Sealift::new();
    for command in ["save", "load", "verify", "list", "doctor", "completions", "man"] {
        let run = sealift.run(&[command, "--help"]).ok();
        assert!(run.stdout.contains("Examples:\n"), "{command}");
        let page = sealift.run(&["man", command]).ok().stdout;
        assert!(
            page.starts_with(".ie ") && page.contains(".SH EXAMPLES\n"),
            "{command}"
        );
        assert!(!page.contains("EXTRA"), "{page}");
        let has_json = !matches!(command, "completions" | "man");
        assert_eq!(page.contains("json"), has_json, "{command}");
        assert_eq!(run.stdout.contains("--json"), has_json, "{command}");
    }
    assert!(sealift.run(&["help", "save"]).ok().stdout.contains("Examples:\n"));
    let list = sealift.run(&["list", "--help"]).ok().stdout;
    assert!(list.contains("--expect") && !list.contains("--jobs"), "{list}");
    assert!(sealift.run(&["--help"]).ok().stdout.contains("Exit codes:"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            sealift
                .run(&["completions", shell])
                .ok()
                .stdout
                .contains("sealift")
        );
    }
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    Image::sample("app", "1").build(&layout, "1");
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    std::fs::write(
        layout.join("index.json"),
        index.replace(":\"1\"", ":\"1\\u001b[2J\\u202e\""),
    )
    .unwrap();
    for command in ["list", "verify"] {
        let run = sealift.run(&[command, "layout"]).code(1);
        let printed = run.stdout + &run.stderr;
        assert!(
            !printed.contains('\u{1b}') && !printed.contains('\u{202e}'),
            "{printed:?}"
        );
    }
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let run = on_a_terminal(&sealift, "", &["save", "--from", "layout", "app:1", "-o", "-"]).code(2);
    assert!(
        run.stdout.contains("terminal") && run.stdout.contains("-o") && run.stdout.len() < 500,
        "{:?}",
        run.stdout
    );
}

#[test]
fn verbose_tells_steps_and_blobs_and_nobody_has_to_listen() {
    let sealift = Sealift::new();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = ["save", "--from", "layout", "app:1", "-o", "app.tar"];
    assert_eq!(sealift.run(&save).ok().stderr, "");
    let told = sealift.run(&[&["-v"], &save[..]].concat()).ok();
    for blob in &image.host().layers {
        assert!(told.stderr.contains(&blob.digest), "{}", told.stderr);
    }
    assert!(told.stderr.starts_with("resolving\nsaving: "), "{}", told.stderr);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut unheard = sealift.command(&["verify", "-v", "app.tar"]);
    unheard.stderr(full);
    let output = unheard.output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
}

#[test]
fn an_option_that_is_wrong_says_how_it_is_written() {
    let sealift = Sealift::new();
    for (args, said) in [
        (&["load", "--rename", "httpd", "x.tar"][..], "FROM=TO"),
        (&["load", "--rename", "httpd=web:1", "x.tar"], "FROM=TO"),
        (&["save", "app", "-o", "x.tar", "--mirror", "x"], "REGISTRY=HOST"),
        (&["save", "app", "-o", "x.tar", "--platform", "x"], "OS/ARCH"),
        (&["save", "app", "-o", "x.tar", "--split", "x"], "4GiB"),
    ] {
        let run = sealift.run(args).code(2);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
}

#[test]
fn a_list_of_names_is_read_as_editors_write_it_and_a_bad_line_is_told() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = [
        "save", "-q", "--from", "layout", "--images", "list.txt", "-o", "x.tar",
    ];
    std::fs::write(
        sealift.path("list.txt"),
        "\u{feff}app:1 # the first\r\n\r\n  # none\r\n",
    )
    .unwrap();
    sealift.run(&save).ok();
    std::fs::write(sealift.path("list.txt"), "app:1\n\nuser/App:2\n").unwrap();
    let wrong = sealift.run(&save).code(2);
    assert!(
        wrong.stderr.contains("list.txt, line 3: ") && wrong.stderr.contains("at character 6"),
        "{}",
        wrong.stderr
    );
    let absent = sealift
        .run(&["save", "--images", "absent.txt", "-o", "x.tar"])
        .code(3);
    assert!(absent.stderr.contains("absent.txt"), "{}", absent.stderr);
}

#[test]
fn every_wrong_name_is_told_in_one_run() {
    let sealift = Sealift::new();
    std::fs::write(sealift.path("list.txt"), "app:1\nB:2\n\nhttps://quay.io/c:3\n").unwrap();
    let save = [
        "save",
        "user/App:1",
        "ok:1",
        "docker://httpd:2.4",
        "--images",
        "list.txt",
        "-o",
        "x.tar",
    ];
    let run = sealift.run(&save).code(2);
    let lines: Vec<_> = run.stderr.lines().collect();
    let expected = [
        "error: invalid image name \"user/App:1\": ",
        "error: invalid image name \"docker://httpd:2.4\": at character 1: an image name has no scheme",
        "hint: write httpd:2.4",
        "error: list.txt, line 2: invalid image name \"B:2\": ",
        "hint: a list has one image per line",
        "error: list.txt, line 4: ",
        "hint: write quay.io/c:3",
    ];
    assert_eq!(lines.len(), expected.len(), "{}", run.stderr);
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    let document = sealift.run(&[&save[..], &["--json"]].concat()).code(2).json();
    assert_eq!(document["error"]["exit"], 2);
    let errors = document["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 4, "{document}");
    assert_eq!(errors[1]["hint"], "write httpd:2.4");
}

#[test]
fn a_plain_tar_is_not_written_under_the_name_of_a_compressed_one() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    for (name, hint) in [
        ("x.tar.gz", "-o x.tar"),
        ("x.tgz", "-o x.tar"),
        ("x y.tar.ZST", "-o 'x y.tar'"),
        ("x.tar.xz", "-o x.tar"),
        ("x.zip", "-o x.tar"),
    ] {
        let run = sealift
            .run(&["save", "--from", "layout", "app:1", "-o", name])
            .code(2);
        assert!(run.stderr.contains(&format!("hint: {hint}\n")), "{}", run.stderr);
        assert!(!sealift.path(name).exists());
    }
    for name in ["gz", "x.gz.tar", "x.oci"] {
        sealift
            .run(&["save", "--from", "layout", "app:1", "-o", name])
            .ok();
    }
}

/// Runs sealift on a terminal, which gets standard output and standard error.
pub fn on_a_terminal(sealift: &Sealift, environment: &str, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let line: Vec<_> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let mut script = std::process::Command::new("script");
    script
        .args([
            "-qec",
            &format!("env TERM=xterm {environment} {}", line.join(" ")),
            "/dev/null",
        ])
        .current_dir(sealift.home())
        .stdin(std::process::Stdio::null());
    run(&mut script)
}

#[test]
fn a_terminal_gets_bars_and_colour_unless_they_are_not_wanted() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = ["save", "--from", "layout", "app:1", "-o", "app.tar"];
    let bars = on_a_terminal(&sealift, "", &save).ok().stdout;
    assert!(bars.contains("saving [") && bars.contains("\u{1b}["), "{bars:?}");
    assert!(
        bars.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("archive sha256:")
    );
    let quiet = on_a_terminal(&sealift, "", &[&save[..], &["-q"]].concat())
        .ok()
        .stdout;
    assert!(
        quiet.starts_with("archive sha256:") && quiet.lines().count() == 1,
        "{quiet:?}"
    );
    let absent = ["verify", "absent.tar"];
    let colour = on_a_terminal(&sealift, "", &absent).code(3).stdout;
    assert!(colour.starts_with("\u{1b}[1;31merror\u{1b}[0m: "), "{colour:?}");
    let plain = on_a_terminal(&sealift, "NO_COLOR=1", &absent).code(3).stdout;
    assert!(
        plain.starts_with("error: ") && !plain.contains('\u{1b}'),
        "{plain:?}"
    );
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    for args in [
        &["list", "app.tar"][..],
        &["verify", "app.tar"],
        &["verify", "--json", "app.tar"],
        &["man"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut child = sealift
            .command(args)
            .stdout(full)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{args:?}");
        assert!(stderr.contains("cannot write standard output"), "{stderr}");
    }
}
