//! Mirrors: tried in order, verified, skipped.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::oci::{Digest, Reference};
use crate::registry::Options;
use crate::registry::testing::{Delivery, Fixture, Reply, Server, noted, quick, read};
use crate::source::Source;

use super::auth::{basic, password};

fn upstream(image: &Fixture) -> Server {
    let image = image.clone();
    Server::start(move |seen| image.answer(seen))
}

fn options(upstream: &Server, mirrors: &[String]) -> Options {
    let mut options = quick();
    options.mirrors = mirrors
        .iter()
        .map(|mirror| format!("{}={mirror}", upstream.host()).parse().unwrap())
        .collect();
    options
}

#[test]
fn the_first_that_has_it() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let empty = Server::start(|seen| match seen.path.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
    });
    let full = {
        let image = image.clone();
        Server::start(move |seen| match seen.path.strip_prefix("/v2/") {
            Some("") => Reply::new(200, "{}"),
            Some(path) if path.starts_with("hub/lib/app/") => image.answer(seen),
            _ => Reply::new(404, ""),
        })
    };
    let options = options(&upstream, &[empty.host(), format!("{}/hub", full.host())]);
    let (source, notes) = noted(options);
    let root = source.resolve(&upstream.reference("1")).unwrap();
    let repository = upstream.repository();
    assert_eq!(source.metadata(&repository, &root).unwrap(), image.index);
    let layer = image.descriptor(&image.layer);
    assert_eq!(read(source.open(&repository, &layer, 0)).unwrap(), image.layer);
    assert_eq!(upstream.seen().len(), 0);
    assert!(
        notes
            .all()
            .contains(&format!("not found in mirror {}; trying", empty.host())),
        "{}",
        notes.all()
    );
}

#[test]
fn a_mirror_that_fails_is_left_out_for_good() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let broken = Server::start(|seen| match seen.path.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(500, ""),
    });
    let (source, notes) = noted(options(&upstream, &[dead.clone(), broken.host()]));
    source.resolve(&upstream.reference("1")).unwrap();
    let asked = broken.seen().len();
    let layer = image.descriptor(&image.layer);
    assert!(read(source.open(&upstream.repository(), &layer, 0)).is_ok());
    assert_eq!(broken.seen().len(), asked, "not asked a second time");
    let notes = notes.all();
    assert_eq!(
        notes.matches("continuing without this mirror").count(),
        2,
        "{notes}"
    );
    assert!(notes.contains(&format!("mirror {dead}")), "{notes}");
}

#[test]
fn a_lying_mirror_is_found_out() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let lying = {
        let image = image.clone();
        Server::start(move |seen| {
            let mut reply = image.answer(seen);
            if seen.path != "/v2/" {
                reply.body[30] ^= 1;
            }
            reply.without("Docker-Content-Digest")
        })
    };
    let (source, notes) = noted(options(&upstream, &[lying.host()]));
    let pinned = Reference::digested(&upstream.repository(), Digest::sha256(&image.index));
    let root = source.resolve(&pinned).unwrap();
    assert_eq!(root, image.descriptor(&image.index));
    assert!(notes.all().contains("digest is sha256:"), "{}", notes.all());
    let config = image.descriptor(&image.config);
    assert_eq!(
        source.metadata(&upstream.repository(), &config).unwrap(),
        image.config
    );
}

#[test]
fn who_begins_a_blob_again_gets_it_from_the_next_place() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let lying = {
        let image = image.clone();
        Server::start(move |seen| {
            let mut reply = image.answer(seen);
            if seen.path.contains("/blobs/") {
                reply.body[30] ^= 1;
            }
            reply
        })
    };
    let (source, _) = noted(options(&upstream, &[lying.host()]));
    let layer = image.descriptor(&image.layer);
    let repository = upstream.repository();
    assert_ne!(read(source.open(&repository, &layer, 0)).unwrap(), image.layer);
    let fault = source.fault(&repository, &layer, crate::error::Problem::Missing);
    assert!(
        fault.to_string().starts_with(&format!("mirror {}", lying.host())),
        "{fault}"
    );
    assert!(fault.is_transient() && fault.kind() == ErrorKind::Registry);
    assert_eq!(read(source.open(&repository, &layer, 0)).unwrap(), image.layer);
    assert_eq!(upstream.paths().len(), 1);
}

#[test]
fn a_wrong_length_is_the_next_places_turn() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let short = {
        let image = image.clone();
        Server::start(move |seen| match seen.path.contains("/blobs/") {
            true => Reply::new(200, "short"),
            false => image.answer(seen),
        })
    };
    let (source, notes) = noted(options(&upstream, &[short.host()]));
    let layer = image.descriptor(&image.layer);
    let got = read(source.open(&upstream.repository(), &layer, 0)).unwrap();
    assert_eq!(got, image.layer);
    assert!(notes.all().contains("length is 5 bytes"), "{}", notes.all());
}

#[test]
fn credentials_are_for_the_place_they_are_for() {
    let image = Fixture::new();
    let greedy = || Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"any\""));
    let (mirror, upstream) = (greedy(), greedy());
    let mut options = options(&upstream, &[mirror.host()]);
    options.credentials = options
        .credentials
        .with(&mirror.host(), password("mirror", "m"))
        .with(&upstream.host(), password("upstream", "u"));
    let (source, _) = noted(options);
    assert!(source.resolve(&upstream.reference("1")).is_err());
    let sent = |server: &Server| -> Vec<String> {
        server
            .seen()
            .iter()
            .filter_map(|seen| seen.authorization().map(ToOwned::to_owned))
            .collect()
    };
    assert_eq!(sent(&mirror), [basic("mirror", "m")]);
    assert_eq!(sent(&upstream), [basic("upstream", "u")]);
    drop(image);
}

#[test]
fn a_mirror_that_hangs_costs_one_wait() {
    let image = Fixture::new();
    let upstream = upstream(&image);
    let hanging = Server::start(|_| Reply::new(200, "{}").sent(Delivery::Drip(Duration::from_secs(3))));
    let (source, notes) = noted(options(&upstream, &[hanging.host()]));
    let started = std::time::Instant::now();
    source.resolve(&upstream.reference("1")).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert!(notes.all().contains("without this mirror"), "{}", notes.all());
}
