//! The API against engines with given responses.

use super::testing::PING;
use super::*;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use crate::error::ErrorKind;

/// The same with texts.
fn engine(answers: Vec<&'static str>) -> (tempfile::TempDir, Endpoint) {
    testing::engine(answers.into_iter().map(str::to_string).collect())
}

#[test]
fn agrees_on_a_version_that_both_know() {
    for (ping, expected) in [
        (PING, Ok("1.41")),
        (
            "HTTP/1.1 200 OK\r\nApi-Version: 1.99\r\nContent-Length: 0\r\n\r\n",
            Ok("1.51"),
        ),
        (
            "HTTP/1.1 200 OK\r\nApi-Version: 1.40\r\nContent-Length: 0\r\n\r\n",
            Err("at least 1.41 is needed"),
        ),
        (
            "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Libpod/4.3.1 (linux)\r\nContent-Length: 0\r\n\r\n",
            Err("podman answers"),
        ),
        (
            "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-API-Version: 5.0\r\nContent-Length: 0\r\n\r\n",
            Err("podman answers"),
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            Err("without an API version"),
        ),
    ] {
        let (_folder, endpoint) = engine(vec![ping]);
        match (Client::connect(&endpoint), expected) {
            (Ok(client), Ok(version)) => assert_eq!(client.version().to_string(), version),
            (Err(error), Err(says)) => {
                assert!(error.to_string().contains(says), "{error}");
                assert!(error.hint().is_some());
                assert_eq!(error.kind(), ErrorKind::Engine);
            }
            (other, _) => panic!("{ping}: {:?}", other.map(|client| client.version())),
        }
    }
}

#[test]
fn nothing_there_says_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    for (says, hint) in [
        ("No such file", "installed and running"),
        ("refused", "systemctl"),
    ] {
        let Err(error) = Client::connect(&Endpoint::Unix(path.clone())) else {
            panic!("nothing listens")
        };
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().unwrap().to_string().contains(hint), "{error}");
        if !path.exists() {
            drop(UnixListener::bind(&path).unwrap());
        }
    }
}

#[test]
fn refusals_carry_the_engines_words_and_a_remedy() {
    let refusal = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 66\r\n\r\n\
                   {\"message\":\"write /x: no space left on device\\u001b[2J, so there\"}\n\n";
    let (_folder, endpoint) = engine(vec![PING, refusal]);
    let client = Client::connect(&endpoint).unwrap();
    let error = client.post("load", "/images/load", None).unwrap_err();
    assert!(
        error.to_string().contains("no space left on device\\u{1b}[2J"),
        "{error}"
    );
    assert!(error.hint().unwrap().to_string().contains("free space"));
}

#[test]
fn an_answer_in_the_middle_of_the_stream_is_read() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 44\r\n\r\n\
                   {\"message\":\"archive/tar: invalid tar header\"}";
    let (_folder, endpoint) = engine(vec![PING, refusal]);
    let client = Client::connect(&endpoint).unwrap();
    let mut endless = std::io::repeat(7);
    let error = client
        .post_tar("load", "/images/load", &mut endless, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("invalid tar header"), "{error}");
}

#[test]
fn an_engine_that_goes_away_is_an_error() {
    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{\"stream\":\"Loaded";
    let (_folder, endpoint) = engine(vec![PING, cut, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"]);
    let client = Client::connect(&endpoint).unwrap();
    let error = client.post_stream("load", "/x", &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("connection was lost"), "{error}");
    let error = client.get::<serde_json::Value>("ask", "/x").unwrap_err();
    assert!(error.to_string().contains("connection was lost"), "{error}");
    assert!(error.hint().unwrap().to_string().contains("again"));
}

#[test]
fn our_own_error_in_a_body_stays_what_it_is() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other(Error::Interrupted))
        }
    }
    let (_folder, endpoint) = engine(vec![PING, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
    let client = Client::connect(&endpoint).unwrap();
    let error = client
        .post_tar("load", "/images/load", &mut Bad, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error, Error::Interrupted));
}

#[test]
fn names_stand_in_addresses() {
    assert_eq!(encode("a/b:1@sha256:x y"), "a%2Fb%3A1%40sha256%3Ax%20y");
}

/// An engine that answers the first request and no other.
fn silent_engine() -> (tempfile::TempDir, Endpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let started = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n";
            stream
                .write_all(match at {
                    0 => PING.as_bytes(),
                    1 => b"",
                    _ => started.as_bytes(),
                })
                .unwrap();
            held.push(stream);
        }
    });
    (folder, Endpoint::Unix(path))
}

#[test]
fn an_engine_that_says_nothing_is_given_up() {
    let (_folder, endpoint) = silent_engine();
    let short = Duration::from_millis(100);
    let patience = Patience {
        answer: short,
        content: short,
        ..Patience::default()
    };
    let client = Client::with_patience(&endpoint, patience).unwrap();
    let silent: Vec<Error> = vec![
        client.get::<serde_json::Value>("ask", "/info").unwrap_err(),
        client.get::<serde_json::Value>("ask", "/info").unwrap_err(),
        client
            .post_stream("pull", "/images/create", &mut |_| {})
            .unwrap_err(),
        client
            .post_tar("load", "/images/load", &mut "tar".as_bytes(), &mut |_| {})
            .unwrap_err(),
    ];
    for error in silent {
        assert!(
            error.to_string().contains("nothing came from it for 0 seconds"),
            "{error}"
        );
        assert!(error.hint().unwrap().to_string().contains("stuck"), "{error}");
    }
    let mut stream = client.get_stream("export", "/images/get").unwrap();
    let mut all = Vec::new();
    assert!(stream.read_to_end(&mut all).is_err());
    assert_eq!(all, b"{\"a\":1}\n");
    // Nor does one that does not accept connections.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let patience = Patience {
        greeting: short,
        ..patience
    };
    let error = Client::with_patience(&Endpoint::Unix(path), patience)
        .err()
        .unwrap();
    assert!(error.to_string().contains("nothing came from it"), "{error}");
}

#[test]
fn a_long_complaint_is_shortened() {
    let text = format!("{{\"message\":\"{}\"}}", "é\\u001b".repeat(5000));
    let answer = format!("HTTP/1.1 500 X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let (_folder, endpoint) = engine(vec![PING, Box::leak(answer.into_boxed_str())]);
    let error = Client::connect(&endpoint)
        .unwrap()
        .delete("delete", "/x")
        .unwrap_err()
        .to_string();
    assert!(
        error.len() < 20_000 && error.ends_with("...") && !error.contains('\u{1b}'),
        "{error}"
    );
}

#[test]
fn an_image_without_a_name_has_none_in_the_list() {
    // As Docker 20.10 lists a dangling image, and one that was pulled by its digest and has no tag.
    let list = testing::json(
        r#"[
        {"Id": "sha256:267d1850572e3f0419acc60d4869a1130d5db8ca41ca782df542a8829cd25dd1",
            "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]},
        {"Id": "sha256:07c371c8bdef2e52e3bf2d8957f87ea88165ce98c715cf5e634294bfc9e08833",
            "RepoTags": ["<none>:<none>"],
            "RepoDigests": ["app@sha256:a7dea737c8ebb573d7c7fd08384be5dc05fd5b2f0d1dab0f953a7e782ccc1f26"]}
        ]"#,
    );
    let (_folder, endpoint) = testing::engine(vec![PING.into(), list]);
    let client = Client::connect(&endpoint).unwrap();
    let known = images::list(&client, info::Store::Classic).unwrap();
    let names: Vec<_> = known
        .iter()
        .map(|image| (&image.tags[..], &image.digests[..]))
        .collect();
    let digest = "app@sha256:a7dea737c8ebb573d7c7fd08384be5dc05fd5b2f0d1dab0f953a7e782ccc1f26".to_string();
    assert_eq!(names, [(&[][..], &[][..]), (&[][..], &[digest][..])]);
}
