//! Text and JSON, exit codes, help.

use crate::support::*;

#[test]
fn usage_is_exit_2_and_says_what_is_wrong_at_which_character() {
    let sealift = Sealift::new();
    let run = sealift.run(&["save", "user/App:1", "-o", "x.tar"]).code(2);
    assert!(
        run.stderr
            .contains("a repository name is in lower case at character 6"),
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
        assert!(
            sealift.run(&["man", command]).ok().stdout.starts_with(".ie "),
            "{command}"
        );
    }
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
