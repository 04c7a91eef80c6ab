//! Tokens, basic auth, and what happens when they are refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, ErrorKind};
use crate::registry::credentials::{Credential, Credentials};
use crate::registry::secret::Secret;
use crate::registry::testing::{Fixture, Reply, Seen, Server, noted, quick, read, source};
use crate::registry::{Environment, Options};
use crate::source::Source;

pub(super) fn password(user: &str, password: &str) -> Credential {
    Credential::Password {
        username: user.into(),
        password: Secret::new(password),
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub(super) fn with(host: &str, credential: Credential) -> Options {
    let mut options = quick();
    options.credentials = Credentials::default().with(host, credential);
    options
}

/// A token server that issues `t1`, `t2`, ..., and the latest one.
struct Issuer {
    server: Server,
    latest: Arc<Mutex<String>>,
}

fn issuer(answer: impl Fn(&Seen, &str) -> Reply + Send + Sync + 'static) -> Issuer {
    let latest: Arc<Mutex<String>> = Arc::default();
    let (current, count) = (latest.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        let token = format!("t{}", count.fetch_add(1, Ordering::SeqCst) + 1);
        *current.lock().unwrap() = token.clone();
        answer(seen, &token)
    });
    Issuer { server, latest }
}

fn plain_token(_: &Seen, token: &str) -> Reply {
    Reply::new(200, format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

impl Issuer {
    /// A registry that accepts the latest token for this many requests.
    fn registry(&self, image: &Fixture, uses: usize) -> Server {
        let (image, latest) = (image.clone(), self.latest.clone());
        let realm = format!("http://{}/token", self.server.host());
        let left = Mutex::new((String::new(), 0));
        Server::start(move |seen| {
            let latest = latest.lock().unwrap().clone();
            let mut left = left.lock().unwrap();
            if left.0 != latest {
                *left = (latest.clone(), uses);
            }
            let taken = seen.authorization() == Some(&format!("Bearer {latest}")) && left.1 > 0;
            if !taken {
                return Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).with(
                    "WWW-Authenticate",
                    format!(r#"Bearer realm="{realm}",service="reg",scope="repository:lib/app:pull""#),
                );
            }
            left.1 -= 1;
            image.answer(seen)
        })
    }
}

#[test]
fn a_token_is_got_once_and_used_again() {
    let image = Fixture::new();
    let issuer = issuer(plain_token);
    let server = issuer.registry(&image, 1000);
    let source = source(quick());
    let root = source.resolve(&server.reference("1")).unwrap();
    source.metadata(&server.repository(), &root).unwrap();
    let layer = image.descriptor(&image.layer);
    assert!(read(source.open(&server.repository(), &layer, 0)).is_ok());
    let asked = issuer.server.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].query, "service=reg&scope=repository%3Alib%2Fapp%3Apull");
    assert_eq!(asked[0].authorization(), None);
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let image = Fixture::new();
    let issuer = issuer(plain_token);
    let server = issuer.registry(&image, 2);
    let source = source(quick());
    let layer = image.descriptor(&image.layer);
    for offset in 0..7 {
        assert!(read(source.open(&server.repository(), &layer, offset)).is_ok());
    }
    assert_eq!(issuer.server.seen().len(), 4);
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let image = Fixture::new();
    let issuer = issuer(|_, token| Reply::new(200, format!(r#"{{"token":"{token}","expires_in":1}}"#)));
    let server = issuer.registry(&image, 1000);
    let source = source(quick());
    let layer = image.descriptor(&image.layer);
    assert!(read(source.open(&server.repository(), &layer, 0)).is_ok());
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert!(read(source.open(&server.repository(), &layer, 0)).is_ok());
    assert_eq!(issuer.server.seen().len(), 2);
    let refusals = server.seen().iter().filter(|seen| seen.path != "/v2/").count();
    assert_eq!(refusals, 3, "only the very first request was refused");
}

#[test]
fn many_workers_get_one_token() {
    let image = Fixture::new();
    let issuer = issuer(|seen, token| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        plain_token(seen, token)
    });
    let server = issuer.registry(&image, 1000);
    let source = source(quick());
    let layer = image.descriptor(&image.layer);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert!(read(source.open(&server.repository(), &layer, 0)).is_ok()));
        }
    });
    assert_eq!(issuer.server.seen().len(), 1);
}

#[test]
fn a_password_goes_to_the_token_server_and_not_to_the_registry() {
    let image = Fixture::new();
    let issuer = issuer(|seen, token| {
        if seen.authorization() == Some(&basic("ann", "pw")) {
            plain_token(seen, token)
        } else {
            Reply::new(401, r#"{"details":"incorrect username or password"}"#)
        }
    });
    let server = issuer.registry(&image, 1000);
    let source_of = |credential| source(with(&server.host(), credential));
    source_of(password("ann", "pw"))
        .resolve(&server.reference("1"))
        .unwrap();
    let sent: Vec<String> = server
        .seen()
        .iter()
        .filter_map(|seen| seen.authorization().map(ToOwned::to_owned))
        .collect();
    assert!(sent.iter().all(|value| value.starts_with("Bearer ")), "{sent:?}");

    let error = source_of(password("ann", "wrong-pw"))
        .resolve(&server.reference("1"))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("the credentials for {} were rejected", server.host())),
        "{text}"
    );
    assert!(!format!("{error:?}").contains("wrong-pw"));
    assert!(error.hint().unwrap().to_string().contains("docker login"));
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Registry, false));
}

#[test]
fn an_identity_token_is_posted() {
    let image = Fixture::new();
    let issuer = issuer(|seen, token| {
        if seen.method == "POST" && seen.body.contains("refresh_token=refresh%2Fme") {
            Reply::new(200, format!(r#"{{"access_token":"{token}"}}"#))
        } else {
            Reply::new(400, r#"{"error":"unsupported_grant_type"}"#)
        }
    });
    let server = issuer.registry(&image, 1000);
    let credential = Credential::Identity(Secret::new("refresh/me"));
    source(with(&server.host(), credential))
        .resolve(&server.reference("1"))
        .unwrap();
    let asked = &issuer.server.seen()[0];
    assert_eq!(
        asked.body,
        "service=reg&grant_type=refresh_token&client_id=sealift&scope=repository%3Alib%2Fapp%3Apull&\
         refresh_token=refresh%2Fme"
    );
    assert_eq!((asked.query.as_str(), asked.authorization()), ("", None));
    assert_eq!(
        asked.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[test]
fn a_form_is_not_redirected() {
    let image = Fixture::new();
    let thief = Server::start(|_| Reply::new(200, r#"{"token":"x"}"#));
    let target = format!("http://{}/", thief.host());
    let issuer = issuer(move |_, _| Reply::new(307, "").with("Location", target.clone()));
    let server = issuer.registry(&image, 1000);
    let credential = Credential::Identity(Secret::new("refresh"));
    let error = source(with(&server.host(), credential))
        .resolve(&server.reference("1"))
        .unwrap_err();
    assert!(error.to_string().contains("answered 307"), "{error}");
    assert_eq!(thief.seen().len(), 0);
}

#[test]
fn basic_auth_and_its_failures() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| match seen.authorization() {
            Some(value) if value == basic("ann", "pw") => image.answer(seen),
            value => Reply::new(401, format!("no: {value:?} wrong-pw"))
                .with("WWW-Authenticate", r#"Basic realm="Registry Realm""#),
        })
    };
    let good = source(with(&server.host(), password("ann", "pw")));
    good.resolve(&server.reference("1")).unwrap();
    let before = server.seen().len();
    good.resolve(&server.reference("1")).unwrap();
    assert_eq!(server.seen().len(), before + 1, "sent at once from then on");

    let wrong = source(with(&server.host(), password("ann", "wrong-pw")))
        .resolve(&server.reference("1"))
        .unwrap_err();
    assert!(wrong.to_string().ends_with("were rejected"), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("wrong-pw"), "{wrong:?}");

    let none = source(quick()).resolve(&server.reference("1")).unwrap_err();
    assert!(
        none.to_string().contains("there are no credentials for"),
        "{none}"
    );
    assert!(
        none.hint()
            .unwrap()
            .to_string()
            .contains(&format!("podman login {}", server.host()))
    );
    // Credentials of another registry are not sent.
    let other = source(with("quay.io", password("ann", "pw")));
    assert!(other.resolve(&server.reference("1")).is_err());
}

#[test]
fn a_given_bearer_token_is_sent_as_it_is() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| match seen.authorization() {
            Some("Bearer given") => image.answer(seen),
            _ => Reply::new(401, "").with("WWW-Authenticate", r#"Bearer realm="http://127.0.0.1:9/""#),
        })
    };
    let source_of = |token| source(with(&server.host(), Credential::Bearer(Secret::new(token))));
    source_of("given").resolve(&server.reference("1")).unwrap();
    let error = source_of("other").resolve(&server.reference("1")).unwrap_err();
    assert!(error.to_string().contains("were rejected"), "{error}");
    let split = source_of("a\r\nb").resolve(&server.reference("1")).unwrap_err();
    assert!(
        split.to_string().contains("characters that no token may have"),
        "{split}"
    );
}

#[test]
fn challenges_that_cannot_be_met() {
    for (header, says) in [
        (Some("Negotiate"), "asks for authentication by negotiate"),
        (None, "without saying how"),
        (
            Some("Bearer service=\"x\""),
            "asks for a token without saying where",
        ),
        (
            Some("Bearer realm=\"x"),
            "malformed way: no closing quote at byte 15",
        ),
        (
            Some("Bearer realm=\"ftp://x/\""),
            "token server that is not a URL",
        ),
        (
            Some("Bearer realm=\"http://ann:pw@127.0.0.1:1/\""),
            "token server that is not a URL",
        ),
    ] {
        let server = Server::start(move |seen| match header {
            _ if seen.path == "/v2/" => Reply::new(200, "{}"),
            Some(header) => Reply::new(401, "").with("WWW-Authenticate", header),
            None => Reply::new(401, ""),
        });
        let error = source(with(&server.host(), password("ann", "secret")))
            .resolve(&server.reference("1"))
            .unwrap_err();
        assert!(error.to_string().contains(says), "{header:?}: {error}");
        assert!(server.seen().iter().all(|seen| seen.authorization().is_none()));
    }
}

#[test]
fn what_was_sent_is_not_shown_when_a_server_sends_it_back() {
    let echo = |seen: &Seen, status: u16| {
        let sent = seen.authorization().unwrap_or_default();
        let code = sent
            .strip_prefix("Basic ")
            .map(|pair| STANDARD.decode(pair).unwrap());
        let clear = code.map_or(sent.to_string(), |pair| String::from_utf8(pair).unwrap());
        Reply::new(
            status,
            format!(r#"{{"errors":[{{"code":"X","message":"no: {clear}"}}]}}"#),
        )
    };
    for status in [401, 403, 404, 500] {
        let server = Server::start(move |seen| match seen.authorization() {
            _ if seen.path == "/v2/" => Reply::new(200, "{}"),
            Some(_) => echo(seen, status),
            None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
        });
        let error = source(with(&server.host(), password("ann", "s3cret")))
            .resolve(&server.reference("1"))
            .unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{status}: {error}");

        let issuer = issuer(|_, _| Reply::new(200, r#"{"token":"t0ken","expires_in":300}"#));
        let realm = format!("Bearer realm=\"http://{}/token\"", issuer.server.host());
        let server = Server::start(move |seen| match seen.authorization() {
            _ if seen.path == "/v2/" => Reply::new(200, "{}"),
            Some(_) => echo(seen, status),
            None => Reply::new(401, "").with("WWW-Authenticate", &realm),
        });
        let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
        assert!(!error.to_string().contains("t0ken"), "{status}: {error}");
    }
}

#[test]
fn what_a_token_server_may_answer() {
    let image = Fixture::new();
    for (status, body, says) in [
        (200, "<html>", "gave no token"),
        (200, "{}", "gave no token"),
        (
            200,
            r#"{"token":"a\u0001b"}"#,
            "characters that no token may have",
        ),
        (404, "not here", "answered 404 Not Found (not here)"),
        (403, "", "access denied, and there are no credentials"),
        (503, "", "answered 503"),
    ] {
        let issuer = issuer(move |_, _| Reply::new(status, body));
        let server = issuer.registry(&image, 10);
        let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
        assert!(error.to_string().contains(says), "{status} {body}: {error}");
        let tries = if status == 503 { 3 } else { 1 };
        assert_eq!(issuer.server.seen().len(), tries, "{status} {body}");
    }
}

#[test]
fn a_fresh_token_that_is_refused_ends() {
    let image = Fixture::new();
    let issuer = issuer(plain_token);
    let server = issuer.registry(&image, 0);
    for (options, says) in [
        (quick(), "the repository is private or does not exist"),
        (
            with(&server.host(), password("ann", "pw")),
            "access denied with the credentials for",
        ),
    ] {
        let before = issuer.server.seen().len();
        let error = source(options).resolve(&server.reference("1")).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(issuer.server.seen().len(), before + 1);
    }
}

#[test]
fn credentials_come_out_of_files() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| match seen.authorization() {
            Some(value) if value == basic("ann", "pw") => image.answer(seen),
            _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let text = format!(
        r#"{{"credsStore":"none-such","auths":{{"{}":{{"auth":"{}"}}}}}}"#,
        server.host(),
        STANDARD.encode("ann:pw")
    );
    std::fs::write(&file, text).unwrap();
    let environment = Environment::default().with("DOCKER_CONFIG", folder.path());
    let mut options = Options::from_environment(&environment).unwrap();
    (options.retry, options.timeouts) = (quick().retry, quick().timeouts);
    let (source, notes) = noted(options.clone());
    source.resolve(&server.reference("1")).unwrap();
    assert!(
        notes.all().contains("continuing without: ")
            && notes.all().contains("docker-credential-none-such cannot be run"),
        "{}",
        notes.all()
    );
    std::fs::write(&file, "{").unwrap();
    let error = noted(options).0.resolve(&server.reference("1")).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path == &file),
        "{error}"
    );
}
