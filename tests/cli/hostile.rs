//! Text from outside must not steer a terminal or forge a line of output: paths, names, an engine's answers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{Image, Layer, Run, Sealift};

/// Clears the screen, forges a line, turns the direction of writing around.
const EVIL: &str = "x\u{1b}[2J\nleftovers: none\r\u{202e}y";

#[track_caller]
fn assert_harmless(said: &Run) {
    for text in [&said.stdout, &said.stderr] {
        let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(acts), "{}: {text:?}", said.line);
        assert!(!text.contains("\nleftovers: none\\"), "{}: {text:?}", said.line);
        let forged = text
            .lines()
            .filter(|line| line.starts_with("leftovers: none"))
            .count();
        let own = usize::from(said.line.contains("doctor"));
        assert!(forged <= own, "{}: {text:?}", said.line);
    }
}

#[test]
fn paths_stay_on_their_line() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    Image::single(vec![Layer::new().noise("a", 1, 300_000)]).build(&layout, "1");
    let layout = layout.to_str().unwrap();
    let archive = format!("{EVIL}.tar");
    let saved = sealift
        .run(&["save", "--from", layout, "small:1", "-o", &archive])
        .ok();
    assert_harmless(&saved);
    assert!(saved.stdout.contains("\\u{1b}[2J\\u{a}leftovers"), "{saved:?}");
    let parts = format!("{EVIL}.parts");
    assert_harmless(
        &sealift
            .run(&[
                "save", "--from", layout, "small:1", "--split", "100kB", "-o", &parts,
            ])
            .ok(),
    );
    for command in ["verify", "list"] {
        assert_harmless(&sealift.run(&[command, &archive]).ok());
        assert_harmless(&sealift.run(&[command, &archive, &parts, "none"]).code(3));
    }
    assert_harmless(
        &sealift
            .run(&["save", "--from", &archive, "none:1", "-o", "x.tar"])
            .code(7),
    );
    assert_harmless(
        &sealift
            .run(&[
                "save",
                "--from",
                layout,
                "small:1",
                "-o",
                &format!("{EVIL}/x.tar"),
            ])
            .code(3),
    );
    fs::write(sealift.path(&archive), "no archive").unwrap();
    assert_harmless(&sealift.run(&["verify", &archive]).code(1));
}

/// A daemon of which every word is hostile.
fn evil_engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let evil = serde_json::json!(EVIL);
            let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
                path if path.ends_with("/_ping") => (200, "OK".to_owned()),
                path if path.ends_with("/info") => {
                    let info = serde_json::json!({
                        "Driver": EVIL, "DriverStatus": [[EVIL, EVIL]], "OSType": EVIL, "Architecture": EVIL,
                        "OperatingSystem": EVIL, "ServerVersion": EVIL, "DockerRootDir": EVIL, "HttpProxy": EVIL,
                        "SecurityOptions": [EVIL], "RegistryConfig": { "Mirrors": [EVIL] },
                    });
                    (200, info.to_string())
                }
                path if path.ends_with("/version") => (
                    200,
                    serde_json::json!({ "Version": EVIL, "Os": EVIL, "Arch": EVIL }).to_string(),
                ),
                path if path.contains("/images/json") || path.contains("/containers/json") => {
                    (200, "[]".into())
                }
                _ => (500, format!("{{\"message\":{evil}}}")),
            };
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
}

#[test]
fn text_from_an_engine_is_escaped() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    Image::sample("app", "1").build(&layout, "1");
    let socket = sealift.path("docker.sock");
    evil_engine(&socket);
    let sealift = sealift.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    let doctor = sealift.run(&["doctor"]);
    assert_harmless(&doctor);
    assert!(
        doctor.stdout.contains("\\u{1b}[2J"),
        "what it said is shown: {doctor:?}"
    );
    for arguments in [
        &["load", "layout"][..],
        &["load", "layout", "--dry-run"],
        &["load", "-v", "layout"],
        &["save", "--from", "docker", "--offline", "app:1", "-o", "x.tar"],
        &["save", "--from", "docker", "--all", "-o", "x.tar"],
    ] {
        assert_harmless(&sealift.run(arguments));
    }
}

#[test]
fn passwords_in_refused_names_are_not_printed() {
    let sealift = Sealift::new();
    for line in [
        "verify https://user:hunter2@h.io/x:1",
        "verify --all user:hunter2@h.io/x",
        "repair https://user:hunter2@h.io/x:1 --from a.tar",
        "save user:hunter2@h.io/x:1 -o x.tar",
        "save x --mirror docker.io=https://user:hunter2@h.io -o x.tar",
        "save x --insecure user:hunter2@h.io -o x.tar",
        "load x.tar --rename a=user:hunter2@h.io/x",
    ] {
        for json in ["", " --json"] {
            let line = format!("{line}{json}");
            let run = sealift.run(&line.split_whitespace().collect::<Vec<_>>()).code(2);
            let printed = run.stdout + &run.stderr;
            assert!(
                printed.contains("user:***@h.io") && !printed.contains("hunter2"),
                "{printed}"
            );
        }
    }
}
