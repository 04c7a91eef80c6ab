//! Pushes over connections that break, and into registries that have too much to do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::push::{Images, image, push_into, target};
use super::push_registry::{Dialect, PushRegistry};
use crate::error::{Error, ErrorKind};
use crate::interrupt::Interrupt;
use crate::load::{LoadOptions, load};
use crate::oci::Digest;
use crate::oci::testing::TestImage;
use crate::progress::{Progress, Silent};
use crate::registry::testing::{Gate, Reply, Seen, Server, patient};
use crate::registry::{Options, RegistryTarget};
use crate::retry::Retry;

/// Passes connections on to a server, and cuts each after this many bytes to it. Returns the host.
fn cutting_proxy(server: &Server, most: usize) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let upstream = server.host();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&upstream) else {
                return;
            };
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let (mut client, mut server) = (client, server);
                let mut buffer = vec![0; 16 << 10];
                let mut left = most;
                while left > 0 {
                    let length = buffer.len().min(left);
                    match client.read(&mut buffer[..length]) {
                        Ok(count) if count > 0 && server.write_all(&buffer[..count]).is_ok() => left -= count,
                        _ => break,
                    }
                }
                // The server ends the connection once it has noted what it got.
                let _ = server.shutdown(Shutdown::Write);
            });
        }
    });
    host
}

fn large() -> TestImage {
    image(&[9 << 20])
}

fn assert_whole(registry: &PushRegistry, image: &TestImage) {
    let shelf = registry.shelf.lock().unwrap();
    for blob in &image.blobs()[1..] {
        let key = ("mirror/lib/one".into(), blob.descriptor.digest);
        assert!(shelf.blobs.get(&key) == Some(&blob.bytes));
    }
    assert_eq!(shelf.tags.len(), 1);
}

fn patched(seen: &[Seen]) -> usize {
    let patches = seen.iter().filter(|seen| seen.method == "PATCH");
    patches.map(|seen| seen.content.len()).sum()
}

#[test]
fn an_upload_goes_on_where_the_connection_broke() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let host = cutting_proxy(&server, 2_000_000);
    let (target, notes) = target(&host, false, patient());
    let images = Images::new().image("lib/one:1", &large());
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &large());
    let layer = large().blobs()[2].bytes.len();
    let seen = server.seen();
    assert_eq!(patched(&seen), layer, "nothing is sent twice: {}", notes.all());
    assert!(seen.iter().filter(|seen| seen.is_cut).count() >= 3);
}

#[test]
fn an_upload_that_hardly_gets_on_ends() {
    let registry = PushRegistry::new(Dialect::default());
    let (inner, asked) = (registry.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| match seen.method.as_str() {
        "PATCH" => Reply::new(503, ""),
        "GET" if seen.path.contains("/uploads/") => {
            let last = asked.fetch_add(1, Ordering::SeqCst);
            Reply::new(204, "")
                .with("Location", seen.path.clone())
                .with("Range", format!("0-{last}"))
        }
        _ => inner.answer(seen),
    });
    let (target, _) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &large());
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
    let patches = server.seen().into_iter().filter(|seen| seen.method == "PATCH");
    assert_eq!(patches.count(), 3);
}

#[test]
fn an_upload_that_the_registry_forgets_is_sent_in_parts() {
    let registry = PushRegistry::new(Dialect {
        continues: false,
        ..Dialect::default()
    });
    let server = registry.start();
    let host = cutting_proxy(&server, 2_000_000);
    let (target, notes) = target(&host, false, patient());
    let images = Images::new().image("lib/one:1", &large());
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &large());
    let seen = server.seen();
    let cut = seen.iter().filter(|seen| seen.is_cut).count();
    assert!((1..=3).contains(&cut), "{cut}: {}", notes.all());
}

#[test]
fn a_request_that_is_too_large_is_sent_in_parts() {
    let registry = PushRegistry::new(Dialect {
        most: 1 << 20,
        ..Dialect::default()
    });
    let server = registry.start();
    let (target, _) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &large());
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &large());
    // A limit below the smallest part is an error that says so: below that of this program, or of the registry.
    for (most, least) in [(100 << 10, 0), (1 << 20, 2 << 20)] {
        let registry = PushRegistry::new(Dialect {
            most,
            least,
            ..Dialect::default()
        });
        let server = registry.start();
        let (target, _) = super::push::target(&server.host(), false, patient());
        let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("takes no request of this size"),
            "{error}"
        );
        assert!(error.hint().unwrap().to_string().contains("client_max_body_size"));
    }
}

#[test]
fn a_registry_with_too_much_to_do_is_asked_again() {
    let registry = PushRegistry::new(Dialect::default());
    let upstream = registry.clone();
    let asked: Arc<[AtomicUsize; 4]> = Arc::default();
    let server = Server::start(move |seen: &Seen| {
        let at = ["POST", "PATCH", "PUT", "HEAD"]
            .iter()
            .position(|method| *method == seen.method);
        // Each kind of request is refused once.
        let is_first = at.is_some_and(|at| asked[at].fetch_add(1, Ordering::SeqCst) == 0);
        match is_first {
            true => Reply::new(429, "").with("Retry-After", "0"),
            false => upstream.answer(seen),
        }
    });
    let (target, notes) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &image(&[3 << 20]));
    assert_eq!(
        notes.all().matches("too many requests").count(),
        4,
        "{}",
        notes.all()
    );
}

#[test]
fn a_registry_that_cannot_write_is_not_asked_again() {
    let nested = |number: u32| {
        format!(r#"{{"DriverName":"filesystem","Enclosed":{{"Op":"write","Path":"/x","Err":{number}}}}}"#)
    };
    for (detail, says, hint, kind) in [
        (
            nested(28),
            "the registry's disk is full",
            "free some space",
            ErrorKind::Io,
        ),
        (
            r#""write /x/data: no space left on device""#.into(),
            "the registry's disk is full",
            "free some space",
            ErrorKind::Io,
        ),
        (nested(122), "quota is used up", "free some space", ErrorKind::Io),
        (
            nested(30),
            "file system is read-only",
            "log names the file",
            ErrorKind::Registry,
        ),
        (
            nested(13),
            "permission denied",
            "log names the file",
            ErrorKind::Registry,
        ),
    ] {
        for (method, size) in [("POST", 3 << 20), ("PATCH", 3 << 20), ("PUT", 10)] {
            let upstream = PushRegistry::new(Dialect::default());
            let body =
                format!(r#"{{"errors":[{{"code":"UNKNOWN","message":"unknown error","detail":{detail}}}]}}"#);
            let server = Server::start(move |seen: &Seen| match seen.method == method {
                true => Reply::new(500, body.clone()),
                false => upstream.answer(seen),
            });
            let (target, notes) = target(&server.host(), false, patient());
            let images = Images::new().image("lib/one:1", &image(&[size]));
            let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.hint().unwrap().to_string().contains(hint), "{error}");
            assert_eq!(notes.all(), "");
        }
    }
}

#[test]
fn a_registry_that_fails_without_a_reason_has_a_log() {
    let upstream = PushRegistry::new(Dialect::default());
    let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
        "PATCH" => Reply::new(500, ""),
        _ => upstream.answer(seen),
    });
    let (target, notes) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert_eq!(error.hint().unwrap().to_string(), "the registry's log says why");
    assert!(notes.all().contains("retrying"), "{}", notes.all());
}

/// Stops a push once bytes of a blob are sent.
struct Stopping {
    interrupt: Interrupt,
    has_sent: mpsc::Sender<()>,
}

impl Progress for Stopping {
    fn blob_advanced(&self, _: &Digest, _: u64) {
        let _ = self.has_sent.send(());
        while self.interrupt.check().is_ok() {
            thread::yield_now();
        }
    }
}

#[test]
fn a_signal_cancels_uploads() {
    // One that broke within a request cannot be cancelled in distribution 2.
    let registry = PushRegistry::new(Dialect {
        continues: false,
        ..Dialect::default()
    });
    let server = registry.start();
    let images = Images::new().image("lib/one:1", &image(&[3 << 20, 4 << 20]));
    let interrupt = Interrupt::default();
    let destination = format!("{}/mirror", server.host()).parse().unwrap();
    let target =
        RegistryTarget::new(destination, false, patient(), Arc::new(Silent), interrupt.clone()).unwrap();
    let (has_sent, sent) = mpsc::channel();
    let progress = Stopping {
        interrupt: interrupt.clone(),
        has_sent,
    };
    thread::scope(|scope| {
        let archives = images.open();
        let (target, interrupt) = (&target, &interrupt);
        let options = LoadOptions::default();
        let pushing =
            scope.spawn(move || load(target, &archives, &options, &mut (), &progress, interrupt).map(drop));
        sent.recv().unwrap();
        interrupt.stop();
        // The process would die now.
        let shelf = registry.shelf.lock().unwrap();
        assert!(
            shelf.started > 0 && shelf.uploads.is_empty(),
            "{:?}",
            server.seen()
        );
        assert!(shelf.tags.is_empty());
        drop(shelf);
        assert!(matches!(pushing.join().unwrap(), Err(Error::Interrupted)));
    });
}

#[test]
fn no_attempt_leaves_an_upload() {
    for (method, status, size) in [
        ("PATCH", 503, 3 << 20),
        ("PATCH", 403, 3 << 20),
        ("PUT", 500, 3 << 20),
        ("PUT", 400, 3 << 20),
        ("PUT", 500, 10),
        ("PUT", 403, 10),
    ] {
        let registry = PushRegistry::new(Dialect::default());
        let upstream = registry.clone();
        let server = Server::start(move |seen: &Seen| match seen.method == method {
            true => Reply::new(status, ""),
            false => upstream.answer(seen),
        });
        let (target, _) = target(&server.host(), false, patient());
        let images = Images::new().image("lib/one:1", &image(&[size]));
        let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Registry { .. }), "{error}");
        let shelf = registry.shelf.lock().unwrap();
        assert!(shelf.started > 0 && shelf.uploads.is_empty(), "{method} {status}");
    }
}

#[test]
fn a_registry_that_cancels_no_upload_does_not_matter() {
    for silent in [false, true] {
        let upstream = PushRegistry::new(Dialect::default());
        let gate = Arc::new(Gate::default());
        let closed = Arc::clone(&gate);
        let server = Server::start(move |seen: &Seen| match (seen.method.as_str(), silent) {
            ("DELETE", false) => Reply::new(405, ""),
            ("DELETE", true) => {
                closed.wait();
                Reply::new(204, "")
            }
            ("PUT", _) => Reply::new(403, ""),
            _ => upstream.answer(seen),
        });
        let (target, notes) = target(&server.host(), false, patient());
        let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
        let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
        gate.open();
        assert!(
            !gate.failed.load(Ordering::SeqCst),
            "the push waited for the response"
        );
        assert!(error.to_string().contains("may not push here"), "{error}");
        assert_eq!(notes.all(), "");
    }
}

#[test]
fn a_push_gives_up_after_as_many_attempts_as_are_allowed() {
    let registry = PushRegistry::new(Dialect::default());
    let upstream = registry.clone();
    let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
        "PATCH" => Reply::new(503, ""),
        _ => upstream.answer(seen),
    });
    let options = Options {
        retry: Retry {
            attempts: 3,
            ..patient().retry
        },
        ..patient()
    };
    let (target, _) = target(&server.host(), false, options);
    let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert!(!error.is_transient());
    let patches = server.seen().iter().filter(|seen| seen.method == "PATCH").count();
    assert_eq!(patches, 3);
    assert!(registry.shelf.lock().unwrap().tags.is_empty());
}

#[test]
fn a_blob_whose_acknowledgement_was_lost_is_not_sent_again() {
    let registry = PushRegistry::new(Dialect::default());
    let upstream = registry.clone();
    let lost = AtomicUsize::new(0);
    let server = Server::start(move |seen: &Seen| {
        let reply = upstream.answer(seen);
        let is_completion =
            seen.method == "PUT" && seen.path.contains("/uploads/") && seen.content.is_empty();
        match is_completion && lost.fetch_add(1, Ordering::SeqCst) == 0 {
            // The connection closes before the response.
            true => Reply::raw(""),
            false => reply,
        }
    });
    let (target, _) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &image(&[3 << 20]));
    let patches = server.seen().iter().filter(|seen| seen.method == "PATCH").count();
    assert_eq!(patches, 1);
}

#[test]
fn an_upload_that_is_sent_elsewhere_goes_on_there() {
    let registry = PushRegistry::new(Dialect::default());
    let upstream = registry.clone();
    let server = Server::start(move |seen: &Seen| {
        let is_moved = seen.query.contains("moved=1");
        match seen.method.as_str() {
            "PATCH" if !is_moved => {
                let location = format!("{}?{}&moved=1", seen.path, seen.query);
                Reply::new(307, "").with("Location", location)
            }
            _ => upstream.answer(seen),
        }
    });
    let (target, _) = target(&server.host(), false, patient());
    let images = Images::new().image("lib/one:1", &image(&[3 << 20]));
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_whole(&registry, &image(&[3 << 20]));
}

#[test]
fn one_failure_ends_the_other_uploads() {
    let registry = PushRegistry::new(Dialect::default());
    let upstream = registry.clone();
    let images = Images::new().image("lib/one:1", &image(&[3 << 20, 2 << 20]));
    // The larger one is tried again and again, until the other has failed.
    let server = Server::start(
        move |seen: &Seen| match (seen.method.as_str(), seen.content.len()) {
            ("PATCH", 0..0x28_0000) => Reply::new(507, ""),
            ("PATCH", _) => Reply::new(503, ""),
            _ => upstream.answer(seen),
        },
    );
    let mut options = patient();
    options.retry.attempts = 200;
    let (target, _) = target(&server.host(), false, options);
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("has no space left"), "{error}");
    assert!(
        !server
            .seen()
            .iter()
            .any(|seen| seen.path.contains("/manifests/") && seen.method == "PUT")
    );
}
