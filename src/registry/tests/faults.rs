//! Lies, truncation, stalls, throttling.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Problem};
use crate::oci::{Digest, MediaType, Reference};
use crate::registry::testing::{Delivery, Fixture, Reply, Seen, Server, noted, quick, read, source};
use crate::source::Source;

fn serve(image: &Fixture, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let image = image.clone();
    Server::start(move |seen| change(seen, image.answer(seen)))
}

fn is_blob(seen: &Seen) -> bool {
    seen.path.contains("/blobs/")
}

fn is_manifest(seen: &Seen) -> bool {
    seen.path.contains("/manifests/")
}

#[test]
fn resolves_reads_and_opens() {
    let image = Fixture::new();
    let server = serve(&image, |_, reply| reply);
    let source = source(quick());
    let repository = server.repository();
    let root = source.resolve(&server.reference("1")).unwrap();
    assert_eq!(root, image.descriptor(&image.index));
    assert_eq!(source.metadata(&repository, &root).unwrap(), image.index);
    for bytes in [&image.manifest, &image.config] {
        let descriptor = image.descriptor(bytes);
        assert_eq!(&source.metadata(&repository, &descriptor).unwrap(), bytes);
    }
    let layer = image.descriptor(&image.layer);
    for offset in [0, 1, layer.size - 1, layer.size] {
        let got = read(source.open(&repository, &layer, offset)).unwrap();
        assert_eq!(got, image.layer[usize::try_from(offset).unwrap()..], "{offset}");
    }
    let seen = server.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.header("accept-encoding") == Some("identity"))
    );
    assert_eq!(
        seen.last().unwrap().header("range"),
        Some("bytes=159999-"),
        "the end itself is not asked for"
    );
    // The index was fetched once, though it was resolved and read.
    let asked = server
        .paths()
        .iter()
        .filter(|path| path.contains("/manifests/"))
        .count();
    assert_eq!((asked, server.connections()), (2, 1));
    assert_eq!(
        source.list().unwrap().complete().unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn a_reference_by_digest_is_that_digest() {
    let image = Fixture::new();
    let server = serve(&image, |_, reply| reply.without("Docker-Content-Digest"));
    let manifest = image.descriptor(&image.manifest);
    let pinned = Reference::digested(&server.repository(), manifest.digest);
    assert_eq!(source(quick()).resolve(&pinned).unwrap(), manifest);
    // An additional tag does not matter.
    let both: Reference = format!("{}:gone@{}", server.repository().full(), manifest.digest)
        .parse()
        .unwrap();
    assert_eq!(source(quick()).resolve(&both).unwrap(), manifest);
}

#[test]
fn a_tag_is_hashed_where_the_header_is_missing_and_refused_where_it_lies() {
    let image = Fixture::new();
    let bare = serve(&image, |_, reply| reply.without("Docker-Content-Digest"));
    let root = source(quick()).resolve(&bare.reference("1")).unwrap();
    assert_eq!(root.digest, Digest::sha256(&image.index));

    let other = Digest::sha256(b"other");
    for (value, code) in [
        (other.to_string(), "digest-differs"),
        ("sha256:xyz".to_string(), "bad-digest"),
    ] {
        let lying = serve(&image, move |_, reply| {
            reply
                .without("Docker-Content-Digest")
                .with("Docker-Content-Digest", value.clone())
        });
        let error = source(quick()).resolve(&lying.reference("1")).unwrap_err();
        let Error::Refused(finding) = &error else {
            panic!("{error}");
        };
        assert_eq!((finding.problem.code(), error.kind()), (code, ErrorKind::Content));
        assert!(error.to_string().starts_with(&lying.host()), "{error}");
    }
}

#[test]
fn a_document_with_other_bytes_is_refused() {
    let image = Fixture::new();
    let server = serve(&image, |seen, mut reply| {
        if is_manifest(seen) {
            reply.body[20] ^= 1;
        }
        reply.without("Docker-Content-Digest")
    });
    let pinned = Reference::digested(&server.repository(), Digest::sha256(&image.index));
    let error = source(quick()).resolve(&pinned).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content, "{error}");
    assert!(error.to_string().contains("digest is sha256:"), "{error}");

    let manifest = image.descriptor(&image.manifest);
    let error = source(quick())
        .metadata(&server.repository(), &manifest)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Refused(finding) if finding.problem.code() == "digest-differs"),
        "{error}"
    );
    // One flipped byte costs only a retry.
    let flips = AtomicUsize::new(0);
    let once = serve(&image, move |seen, mut reply| {
        if is_manifest(seen) && flips.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.body[20] ^= 1;
        }
        reply
    });
    let got = source(quick()).metadata(&once.repository(), &manifest);
    assert_eq!(got.unwrap(), image.manifest);
}

#[test]
fn a_config_that_stays_wrong_is_the_registrys_fault() {
    let image = Fixture::new();
    let server = serve(&image, |seen, mut reply| {
        if is_blob(seen) {
            reply.body[3] ^= 1;
        }
        reply
    });
    let config = image.descriptor(&image.config);
    let error = source(quick())
        .metadata(&server.repository(), &config)
        .unwrap_err();
    let text = error.to_string();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::Registry, false),
        "{text}"
    );
    for part in [
        server.host(),
        config.digest.to_string(),
        "expected".into(),
        "digest is".into(),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!(server.paths().len(), 3, "as often as tries allow");
}

#[test]
fn media_types_have_to_agree() {
    let image = Fixture::new();
    for (content_type, expected) in [
        ("application/json", Ok(MediaType::OCI_INDEX)),
        ("text/plain; charset=utf-8", Ok(MediaType::OCI_INDEX)),
        (
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            Ok(MediaType::OCI_INDEX),
        ),
        (MediaType::DOCKER_LIST, Err("media-type-differs")),
        (MediaType::OCI_MANIFEST, Err("media-type-differs")),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            Err("schema1"),
        ),
        ("application/x-tar", Err("media-type-differs")),
    ] {
        let server = serve(&image, move |_, reply| {
            reply.without("Content-Type").with("Content-Type", content_type)
        });
        let got = source(quick()).resolve(&server.reference("1"));
        let got = got
            .as_ref()
            .map(|root| root.media_type.as_str())
            .map_err(|error| {
                let Error::Refused(finding) = error else {
                    panic!("{error}");
                };
                finding.problem.code()
            });
        assert_eq!(got, expected, "{content_type}");
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(
            200,
            r#"{"schemaVersion":1,"name":"lib/app","fsLayers":[],"history":[]}"#,
        )
        .with(
            "Content-Type",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
    });
    let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
    assert!(
        matches!(&error, Error::Refused(finding) if finding.problem == Problem::Schema1),
        "{error}"
    );
    assert!(error.hint().unwrap().to_string().contains("schema 2"));
}

#[test]
fn documents_over_the_limit_are_refused_before_they_are_read() {
    let image = Fixture::new();
    for delivery in [Delivery::Whole, Delivery::Chunked] {
        let manner_ = delivery.clone();
        let server = serve(&image, move |seen, mut reply| {
            if is_manifest(seen) {
                reply.body = vec![b' '; (4 << 20) + 1];
            }
            reply.sent(manner_.clone())
        });
        let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
        assert!(
            matches!(&error, Error::Refused(finding) if finding.problem.code() == "too-large"),
            "{error}"
        );
    }
    let server = serve(&image, |_, reply| reply);
    let mut huge = image.descriptor(&image.config);
    huge.size = 5 << 20;
    let error = source(quick()).metadata(&server.repository(), &huge).unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::Content, 0));
}

#[test]
fn a_blobs_answer_that_cannot_be_right_is_an_error_that_says_so() {
    type Change = fn(Reply) -> Reply;
    let cases: [(&str, u64, Change, &str); 10] = [
        (
            "cut",
            0,
            |reply| reply.sent(Delivery::Cut(1000)),
            "closed the connection before the end (at byte 1000 of 160000)",
        ),
        (
            "cut behind an offset",
            500,
            |reply| reply.sent(Delivery::Cut(1000)),
            "(at byte 1500 of 160000)",
        ),
        (
            "shorter",
            0,
            |mut reply| {
                reply.body.truncate(10);
                reply
            },
            "length is 10 bytes, expected 160000",
        ),
        (
            "longer",
            0,
            |mut reply| {
                reply.body.push(0);
                reply
            },
            "length is 160001 bytes, expected 160000",
        ),
        (
            "shorter in chunks",
            0,
            |mut reply| {
                reply.body.truncate(10);
                reply.sent(Delivery::Chunked)
            },
            "the content ended at byte 10, expected 160000",
        ),
        (
            "longer in chunks",
            0,
            |mut reply| {
                reply.body.push(0);
                reply.sent(Delivery::Chunked)
            },
            "longer than the expected 160000 bytes",
        ),
        (
            "wrong range",
            700,
            |reply| {
                reply
                    .without("Content-Range")
                    .with("Content-Range", "bytes 600-159999/160000")
            },
            "is for the range \"bytes 600-159999/160000\", expected bytes 700-159999/160000",
        ),
        (
            "wrong total",
            700,
            |reply| {
                reply
                    .without("Content-Range")
                    .with("Content-Range", "bytes 700-159999/160001")
            },
            "expected bytes 700-159999/160000",
        ),
        (
            "no range",
            700,
            |reply| reply.without("Content-Range"),
            "is for the range \"\"",
        ),
        (
            "a lie about the length",
            0,
            |mut reply| {
                reply.body.truncate(10);
                reply.sent(Delivery::Length(160_000))
            },
            "closed the connection before the end (at byte 10 of 160000)",
        ),
    ];
    let image = Fixture::new();
    let layer = image.descriptor(&image.layer);
    for (name, offset, change, says) in cases {
        let server = serve(
            &image,
            move |seen, reply| {
                if is_blob(seen) { change(reply) } else { reply }
            },
        );
        let source = source(quick());
        let mut bytes = Vec::new();
        let error = match source.open(&server.repository(), &layer, offset) {
            Err(error) => error,
            Ok(mut reader) => {
                let error = reader.read_to_end(&mut bytes).unwrap_err();
                error.downcast::<Error>().unwrap()
            }
        };
        let text = error.to_string();
        assert!(text.contains(says), "{name}: {text}");
        assert!(text.contains(&layer.digest.to_string()), "{name}: {text}");
        assert!(
            error.is_transient() && error.kind() == ErrorKind::Registry,
            "{name}: {text}"
        );
        let offset = usize::try_from(offset).unwrap();
        assert!(image.layer[offset..].starts_with(&bytes), "{name}");
    }
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_beginning() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| match is_blob(seen) {
            true => Reply::new(200, image.layer.clone()),
            false => image.answer(seen),
        })
    };
    let layer = image.descriptor(&image.layer);
    let got = read(source(quick()).open(&server.repository(), &layer, 100_001)).unwrap();
    assert_eq!(got, image.layer[100_001..]);
}

#[test]
fn chunks_without_a_length_are_read() {
    let image = Fixture::new();
    let server = serve(&image, |_, reply| reply.sent(Delivery::Chunked));
    let source = source(quick());
    source.resolve(&server.reference("1")).unwrap();
    let layer = image.descriptor(&image.layer);
    for _ in 0..2 {
        assert_eq!(
            read(source.open(&server.repository(), &layer, 0)).unwrap(),
            image.layer
        );
    }
    assert_eq!(server.connections(), 1, "what was read to its end is used again");
}

#[test]
fn a_stall_and_a_drip_end_with_words() {
    let image = Fixture::new();
    let layer = image.descriptor(&image.layer);
    for (delivery, says) in [
        (Delivery::Stall(70_000), "no data within the idle timeout"),
        (
            Delivery::Drip(Duration::from_millis(20)),
            "sends too slowly: less than",
        ),
        (Delivery::Trailers, "no data within the idle timeout"),
    ] {
        let server = serve(&image, move |seen, reply| {
            if is_blob(seen) {
                reply.sent(delivery.clone())
            } else {
                reply
            }
        });
        let started = Instant::now();
        let error = read(source(quick()).open(&server.repository(), &layer, 0)).unwrap_err();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(&server.host()), "{error}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }
    // The same before any header.
    let silent = Server::start(|seen| {
        if seen.path != "/v2/" {
            std::thread::sleep(Duration::from_secs(2));
        }
        Reply::new(200, "{}")
    });
    let mut options = quick();
    options.retry.attempts = 2;
    let (source, notes) = noted(options);
    let error = source.resolve(&silent.reference("1")).unwrap_err();
    assert!(error.to_string().contains("stopped sending"), "{error}");
    assert!(notes.all().contains("retrying"), "{}", notes.all());
}

#[test]
fn throttling_is_waited_for() {
    let image = Fixture::new();
    for (status, header, tries) in [
        (429, Some("0"), 3),
        (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), 3),
        (502, None, 3),
        (504, None, 3),
        (500, None, 3),
    ] {
        let count = AtomicUsize::new(0);
        let server = serve(&image, move |seen, reply| {
            if is_manifest(seen) && count.fetch_add(1, Ordering::SeqCst) < 2 {
                let refusal = Reply::new(status, "later");
                return match header {
                    Some(value) => refusal.with("Retry-After", value),
                    None => refusal,
                };
            }
            reply
        });
        source(quick()).resolve(&server.reference("1")).unwrap();
        assert_eq!(server.paths().len(), tries, "{status}");
    }
}

#[test]
fn the_wait_is_what_the_registry_asks_for_and_capped() {
    let image = Fixture::new();
    let asking = |seconds: &'static str| {
        let count = AtomicUsize::new(0);
        serve(&image, move |seen, reply| {
            if is_manifest(seen) && count.fetch_add(1, Ordering::SeqCst) == 0 {
                return Reply::new(429, "").with("Retry-After", seconds);
            }
            reply
        })
    };
    let timed = |server: &Server, longest: Duration| {
        let mut options = quick();
        options.retry.longest_pause = longest;
        let started = Instant::now();
        source(options).resolve(&server.reference("1")).unwrap();
        started.elapsed()
    };
    assert!(timed(&asking("1"), Duration::from_secs(60)) >= Duration::from_secs(1));
    assert!(timed(&asking("3600"), Duration::from_millis(50)) < Duration::from_secs(1));
}

#[test]
fn throttling_without_end_is_an_error_after_all_tries() {
    let image = Fixture::new();
    let server = serve(&image, |seen, reply| {
        if is_manifest(seen) {
            return Reply::new(
                429,
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate\nlimit"}]}"#,
            );
        }
        reply
    });
    let (source, notes) = noted(quick());
    let error = source.resolve(&server.reference("1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: lib/app:1: too many requests (pull rate\\u{{a}}limit)",
            server.host()
        )
    );
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Registry, false));
    assert!(error.hint().unwrap().to_string().contains("log in"));
    assert_eq!(server.paths().len(), 3);
    assert_eq!(notes.all().lines().count(), 2);
}

#[test]
fn a_document_that_go_reads_otherwise_is_refused() {
    for (from, to) in [
        ("\"manifests\":", "\"manifests\":[],\"Manifests\":"),
        ("\"digest\":", "\"Digest\":\"sha256:00\",\"digest\":"),
    ] {
        let image = Fixture::new();
        let text = String::from_utf8(image.index.clone()).unwrap();
        let index = text.replacen(from, to, 1).into_bytes();
        assert_ne!(index, image.index);
        let server = serve(&image, move |seen, reply| match is_manifest(seen) {
            true => Reply::new(200, index.clone()).with("Content-Type", MediaType::OCI_INDEX),
            false => reply,
        });
        let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
        let Error::Refused(finding) = &error else {
            panic!("{error}");
        };
        assert_eq!(finding.problem.code(), "json");
        assert!(
            error.to_string().contains("Go programs such as Docker"),
            "{error}"
        );
    }
}
