//! Completions in real shells: keys are typed on a terminal.

use std::fs;
use std::process::Stdio;

use crate::support::{Sealift, run};

/// What is typed, and the arguments that sealift gets. `<TAB>` is the key.
const LINES: [(&str, &str); 17] = [
    ("sealift ver<TAB>x", "<verify><x>"),
    ("sealift load --att<TAB>off<TAB>x", "<load><--attach><offline><x>"),
    ("sealift load --attach=off<TAB>x", "<load><--attach=offline><x>"),
    // No space follows what is not complete.
    ("sealift load x --to reg<TAB>h", "<load><x><--to><registry://h>"),
    ("sealift load x --to=reg<TAB>h", "<load><x><--to=registry://h>"),
    (
        "sealift load x --to oc<TAB>lay<TAB>e/",
        "<load><x><--to><oci:lay out/e/>",
    ),
    (
        "sealift load x --to=archive:ima<TAB>",
        "<load><x><--to=archive:images.tar>",
    ),
    ("sealift load ima<TAB>", "<load><images.tar>"),
    ("sealift load my<TAB>x", "<load><my images.tar><x>"),
    ("sealift list a<TAB>", "<list><a:b.tar>"),
    (
        "sealift save app:1 --from pod<TAB>x",
        "<save><app:1><--from><podman><x>",
    ),
    ("sealift save --from ima<TAB>x", "<save><--from><images.tar><x>"),
    ("sealift save -o ima<TAB>", "<save><-o><images.tar>"),
    ("sealift save --output=ima<TAB>", "<save><--output=images.tar>"),
    (
        "sealift save x --platform linux/amd64,linux/arm6<TAB>x",
        "<save><x><--platform><linux/amd64,linux/arm64><x>",
    ),
    (
        "sealift verify --registry-root la<TAB>",
        "<verify><--registry-root><lay out/>",
    ),
    ("sealift man inv<TAB>", "<man><inventory>"),
];

fn assert_completes(shell: &str) {
    let sealift = Sealift::new();
    let typist = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/completions.py");
    let script = sealift.run(&["completions", shell]).ok().stdout;
    fs::write(sealift.path("script"), script).unwrap();
    fs::create_dir(sealift.path("work")).unwrap();
    fs::create_dir(sealift.path("work/lay out")).unwrap();
    for file in ["images.tar", "my images.tar", "a:b.tar"] {
        fs::write(sealift.path("work").join(file), "").unwrap();
    }
    let mut typing = sealift.shell(&format!(
        "cd work && exec python3 {typist} {shell} ../script \"$@\""
    ));
    typing.arg("typist").args(LINES.map(|(typed, _)| typed));
    let told = run(typing.stdin(Stdio::null())).ok().stdout;
    let got: Vec<&str> = told.lines().collect();
    // zsh takes the slash after a folder away when the line ends.
    let expected = LINES.map(|(_, words)| match shell {
        "zsh" => words.replace("lay out/>", "lay out>"),
        _ => words.to_owned(),
    });
    assert_eq!(got, expected);
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    assert_completes("bash");
}

#[test]
fn zsh_completes_commands_options_values_and_files() {
    assert_completes("zsh");
}

#[test]
fn fish_completes_commands_options_values_and_files() {
    assert_completes("fish");
}
