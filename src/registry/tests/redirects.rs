//! Where redirects lead, and what is sent there.

use std::sync::{Arc, Mutex};

use crate::registry::credentials::{Credential, Credentials};
use crate::registry::secret::Secret;
use crate::registry::testing::{Delivery, Fixture, Gate, Reply, Seen, Server, quick, ranged, read, source};
use crate::source::Source;

/// A registry with basic auth whose blobs are on another host.
fn guarded(image: &Fixture, location: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Server {
    let image = image.clone();
    Server::start(move |seen| {
        if seen.authorization().is_none() {
            return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if seen.path.contains("/blobs/") {
            return Reply::new(307, "moved").with("Location", location(seen));
        }
        image.answer(seen)
    })
}

fn options(server: &Server) -> crate::registry::Options {
    let mut options = quick();
    options.credentials = Credentials::default().with(
        &server.host(),
        Credential::Password {
            username: "ann".into(),
            password: Secret::new("pw"),
        },
    );
    options
}

#[test]
fn authorization_stays_with_the_registry() {
    let image = Fixture::new();
    let layer = image.layer.clone();
    let storage = Server::start(move |seen| ranged(seen, &layer));
    let target = format!("http://{}/data?sig=a|b", storage.host());
    let server = guarded(&image, move |_| target.clone());
    let source = source(options(&server));
    let layer = image.descriptor(&image.layer);
    for offset in [0, 1234] {
        let got = read(source.open(&server.repository(), &layer, offset)).unwrap();
        assert_eq!(got, image.layer[usize::try_from(offset).unwrap()..]);
    }
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.authorization().is_none()));
    assert_eq!(seen[0].query, "sig=a%7Cb");
    assert_eq!(seen[1].header("range"), Some("bytes=1234-"));
    let last = server.seen().pop().unwrap();
    assert!(last.authorization().unwrap().starts_with("Basic "));
}

#[test]
fn authorization_does_not_come_back_on_the_way_back() {
    let image = Fixture::new();
    let home: Arc<Mutex<String>> = Arc::default();
    let back = home.clone();
    let detour = Server::start(move |_| {
        Reply::new(302, "").with("Location", format!("http://{}/back", back.lock().unwrap()))
    });
    let away = format!("http://{}/away", detour.host());
    let content = image.layer.clone();
    let server = {
        let image = image.clone();
        Server::start(move |seen| match seen.path.as_str() {
            "/back" => ranged(seen, &content),
            path if path.contains("/blobs/") && seen.authorization().is_some() => {
                Reply::new(307, "").with("Location", away.clone())
            }
            _ if seen.authorization().is_none() => {
                Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"")
            }
            _ => image.answer(seen),
        })
    };
    *home.lock().unwrap() = server.host();
    let source = source(options(&server));
    let got = read(source.open(&server.repository(), &image.descriptor(&image.layer), 0));
    assert_eq!(got.unwrap(), image.layer);
    let returned: Vec<Seen> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.path == "/back")
        .collect();
    assert_eq!(returned.len(), 1);
    assert_eq!(returned[0].authorization(), None);
    assert_eq!(detour.seen()[0].authorization(), None);
}

#[test]
fn within_one_host_authorization_goes_along() {
    let image = Fixture::new();
    let layer = image.layer.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        _ if seen.authorization().is_none() => {
            Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"")
        }
        "/elsewhere/data" => ranged(seen, &layer),
        _ => Reply::new(301, "").with("Location", "/elsewhere/data"),
    });
    let source = source(options(&server));
    let got = read(source.open(&server.repository(), &image.descriptor(&image.layer), 0));
    assert_eq!(got.unwrap(), image.layer);
}

#[test]
fn redirects_end() {
    let image = Fixture::new();
    let server = guarded(&image, |seen| format!("{}x", seen.path));
    let error = source(options(&server))
        .open(&server.repository(), &image.descriptor(&image.layer), 0)
        .err()
        .unwrap();
    assert!(error.to_string().ends_with("more than 10 redirects"), "{error}");
    let hops = server
        .paths()
        .iter()
        .filter(|path| path.contains("/blobs/"))
        .count();
    // The request without credentials, and eleven with them.
    assert_eq!(hops, 12);
}

#[test]
fn redirects_to_what_is_no_url_are_refused() {
    let image = Fixture::new();
    for location in ["file:///etc/passwd", "http://ann:pw@h/", "http://"] {
        let server = guarded(&image, move |_| location.into());
        let error = source(options(&server))
            .open(&server.repository(), &image.descriptor(&image.layer), 0)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("something that is not a URL"),
            "{error}"
        );
        assert!(!error.to_string().contains("pw"));
    }
}

#[test]
fn a_challenge_of_the_storage_gets_no_credentials() {
    let image = Fixture::new();
    let storage = Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"give me\""));
    let target = format!("http://{}/data", storage.host());
    let server = guarded(&image, move |_| target.clone());
    let error = source(options(&server))
        .open(&server.repository(), &image.descriptor(&image.layer), 0)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("where it redirects to, answered 401"),
        "{error}"
    );
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].authorization(), None);
}

#[test]
fn an_expired_signature_is_renewed_by_asking_again() {
    let image = Fixture::new();
    let layer = image.layer.clone();
    let storage = Server::start(move |seen| match seen.query.as_str() {
        "sig=2" => ranged(seen, &layer),
        _ => Reply::new(403, "<Error><Code>AccessDenied</Code></Error>"),
    });
    let host = storage.host();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = guarded(&image, move |_| {
        let count = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        format!("http://{host}/data?sig={count}")
    });
    let got = read(source(options(&server)).open(&server.repository(), &image.descriptor(&image.layer), 0));
    assert_eq!(got.unwrap(), image.layer);
}

#[test]
fn the_text_of_a_redirect_is_not_waited_for() {
    let image = Fixture::new();
    let gate = Arc::new(Gate::default());
    let (layer, at_storage) = (image.layer.clone(), gate.clone());
    let storage = Server::start(move |seen| {
        at_storage.open();
        ranged(seen, &layer)
    });
    let target = format!("http://{}/data", storage.host());
    let (registry, held) = (image.clone(), gate.clone());
    let server = Server::start(move |seen| match seen.path.contains("/blobs/") {
        // Its body arrives once it has been followed.
        true => Reply::new(307, "moved")
            .with("Location", target.clone())
            .sent(Delivery::Held(held.clone())),
        false => registry.answer(seen),
    });
    let mut options = quick();
    options.timeouts.idle = std::time::Duration::from_secs(60);
    let layer = image.descriptor(&image.layer);
    let got = read(source(options).open(&server.repository(), &layer, 0)).unwrap();
    assert!(got == image.layer);
    assert!(!gate.failed.load(std::sync::atomic::Ordering::SeqCst));
}
