//! Messages that say which of many things is wrong.

use crate::error::{Error, ErrorKind};
use crate::net::proxy::Proxies;
use crate::oci::Reference;
use crate::registry::testing::{Fixture, Reply, Server, quick, source};
use crate::registry::{Environment, Options};
use crate::source::Source;

fn fail(options: Options, reference: &Reference) -> Error {
    source(options).resolve(reference).unwrap_err()
}

#[test]
fn no_such_tag_no_such_repository_no_registry() {
    let image = Fixture::new();
    let unknown_name = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#;
    let harbors = r#"{"errors":[{"code":"NOT_FOUND","message":"repository lib/app not found"}]}"#;
    type Case = (&'static str, fn(&Fixture, &str) -> Option<Reply>);
    let cases: [Case; 5] = [
        ("tag", |_, _| None),
        ("name", |_, path| {
            path.contains("lib/app").then(|| Reply::new(404, "NAME"))
        }),
        ("harbor", |_, path| {
            path.contains("lib/app").then(|| Reply::new(404, "HARBOR"))
        }),
        ("page", |_, _| {
            Some(Reply::new(404, "<!doctype html><title>Not found</title>").with("Content-Type", "text/html"))
        }),
        ("bare", |_, _| Some(Reply::new(404, "404 page not found"))),
    ];
    for (name, change) in cases {
        let image = image.clone();
        let server = Server::start(move |seen| match change(&image, &seen.path) {
            Some(reply) if reply.body == b"NAME" => Reply::new(404, unknown_name),
            Some(reply) if reply.body == b"HARBOR" => Reply::new(404, harbors),
            Some(reply) => reply,
            None => image.answer(seen),
        });
        let host = server.host();
        let error = fail(quick(), &server.reference("9.9"));
        let (text, kind, hint) = match name {
            "tag" => (
                format!("lib/app:9.9 not found in {host}"),
                ErrorKind::NotFound,
                "it has 1, 2.4".to_string(),
            ),
            "name" | "harbor" => (
                format!("repository lib/app not found in {host}"),
                ErrorKind::NotFound,
                "check the name lib/app; it may also be private".into(),
            ),
            "page" => (
                format!("{host}: is not a registry: it answered 404 Not Found with a web page"),
                ErrorKind::Registry,
                format!("check the address {host}"),
            ),
            _ => (
                format!("{host}: is not a registry: it answered 404 Not Found"),
                ErrorKind::Registry,
                format!("check the address {host}"),
            ),
        };
        assert_eq!(error.to_string(), text, "{name}");
        assert_eq!((error.kind(), error.hint()), (kind, Some(hint.into())), "{name}");
    }
}

#[test]
fn a_web_page_is_no_registry() {
    for status in [200, 405] {
        let server = Server::start(move |_| {
            Reply::new(status, "<html><body>Welcome</body></html>").with("Content-Type", "text/html")
        });
        let error = fail(quick(), &server.reference("1"));
        assert!(
            error.to_string().contains("is not a registry: it answered"),
            "{status}: {error}"
        );
        assert_eq!(error.kind(), ErrorKind::Registry);
    }
}

#[test]
fn a_missing_blob() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| image.answer(seen))
    };
    let mut absent = image.descriptor(&image.layer);
    absent.digest = crate::oci::Digest::sha256(b"absent");
    let source = source(quick());
    let error = source.open(&server.repository(), &absent, 0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&absent.digest.to_string()), "{error}");
    assert_eq!(error.hint(), None);
    // A foreign layer is fetched from the registry only.
    let elsewhere = Server::start(|_| Reply::new(200, "x"));
    absent.urls = vec![format!("http://{}/layer", elsewhere.host())];
    let error = source.open(&server.repository(), &absent, 0).err().unwrap();
    assert!(error.hint().unwrap().to_string().contains("foreign layer"));
    assert_eq!(elsewhere.seen().len(), 0);
}

#[test]
fn nobody_there() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let reference: Reference = format!("{closed}/lib/app:1").parse().unwrap();
    let error = fail(quick(), &reference);
    assert!(error.to_string().contains("refused the connection"), "{error}");
    assert!(error.hint().unwrap().to_string().contains("nothing listens"));

    let reference: Reference = "no-such-host.invalid/lib/app:1".parse().unwrap();
    let started = std::time::Instant::now();
    let error = fail(Options::default(), &reference);
    assert!(
        error
            .to_string()
            .contains("the name no-such-host.invalid:443 cannot be resolved"),
        "{error}"
    );
    assert!(
        started.elapsed().as_secs() < 10,
        "a wrong name is not tried five times"
    );
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Registry, false));
}

#[test]
fn a_proxy_that_is_not_there_is_not_taken_for_the_registry() {
    for (proxy, said) in [
        (
            "http://ann:secret@127.0.0.1:1",
            "the proxy failed: 127.0.0.1:1 refused the connection",
        ),
        (
            "http://no-such-proxy.invalid:3128",
            "the proxy failed: the name no-such-proxy.invalid:3128 cannot be resolved",
        ),
    ] {
        let environment = Environment::default().with("HTTPS_PROXY", proxy);
        let options = Options {
            proxies: Proxies::read(&environment).unwrap(),
            ..quick()
        };
        let reference: Reference = "registry.example/lib/app:1".parse().unwrap();
        let error = fail(options, &reference);
        assert!(error.to_string().contains(said), "{error}");
        assert!(
            error.hint().unwrap().to_string().contains("HTTPS_PROXY"),
            "{error:?}"
        );
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[test]
fn what_is_no_http() {
    let server = Server::start(|_| Reply::raw("SSH-2.0-OpenSSH_9.2\r\n"));
    let error = fail(quick(), &server.reference("1"));
    assert!(error.to_string().contains("is not HTTP"), "{error}");
    let closing = Server::start(|_| Reply::raw(""));
    let error = fail(quick(), &closing.reference("1"));
    assert!(error.to_string().contains("closed the connection"), "{error}");
}

#[test]
fn text_of_a_server_cannot_steer_the_terminal() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(
            400,
            "{\"errors\":[{\"code\":\"X\",\"message\":\"\\u001b[2Jevil\\u202e\"}]}",
        ),
    });
    let text = fail(quick(), &server.reference("1")).to_string();
    assert!(text.contains("\\u{1b}[2Jevil\\u{202e}"), "{text}");
    assert!(!text.contains('\u{1b}'));
}
