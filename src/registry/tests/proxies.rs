//! Through a proxy, by `CONNECT`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::net::proxy::Proxies;
use crate::oci::Reference;
use crate::registry::testing::{Fixture, Server, quick, read, source};
use crate::registry::{Environment, Options};
use crate::source::Source;

/// A proxy that connects port 80 of anything to `target`, and nothing else. Returns its address and the
/// requests.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (target, log) = (target.clone(), log.clone());
            thread::spawn(move || serve(stream, &target, &log));
        }
    });
    (address, asked)
}

fn serve(stream: TcpStream, target: &str, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    log.lock().unwrap().push(head.clone());
    let mut stream = stream;
    if !head.lines().next().unwrap_or_default().contains(":80 ") {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    let mut there = TcpStream::connect(target)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (there.try_clone()?, stream.try_clone()?);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    std::io::copy(&mut stream, &mut there)?;
    Ok(())
}

fn through(proxy: &str) -> Options {
    let address = format!("http://ann:pr%6Fxy@{proxy}");
    let environment = Environment::default()
        .with("HTTP_PROXY", &address)
        .with("HTTPS_PROXY", &address);
    Options {
        proxies: Proxies::read(&environment).unwrap(),
        insecure: vec!["registry.invalid".parse().unwrap()],
        ..quick()
    }
}

#[test]
fn a_registry_behind_a_proxy() {
    let image = Fixture::new();
    let server = {
        let image = image.clone();
        Server::start(move |seen| image.answer(seen))
    };
    let (address, asked) = proxy(server.host());
    let source = source(through(&address));
    let reference: Reference = "registry.invalid/lib/app:1".parse().unwrap();
    let root = source.resolve(&reference).unwrap();
    assert_eq!(root, image.descriptor(&image.index));
    let layer = image.descriptor(&image.layer);
    let got = read(source.open(reference.repository(), &layer, 0)).unwrap();
    assert_eq!(got, image.layer);
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("CONNECT registry.invalid:443 "), "{asked:?}");
    assert!(asked[1].starts_with("CONNECT registry.invalid:80 "), "{asked:?}");
    // The proxy's own password, sent to the proxy only.
    assert!(
        asked
            .iter()
            .all(|head| head.contains("Proxy-Authorization: Basic YW5uOnByb3h5"))
    );
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("proxy-authorization").is_none())
    );
}

#[test]
fn loopback_goes_by_itself() {
    let image = Fixture::new();
    let server = Server::start(move |seen| image.answer(seen));
    let (address, asked) = proxy(server.host());
    source(through(&address)).resolve(&server.reference("1")).unwrap();
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn a_proxy_that_fails_is_named() {
    let (address, _) = proxy("127.0.0.1:1".into());
    let reference: Reference = "other.invalid/lib/app:1".parse().unwrap();
    let error = source(through(&address)).resolve(&reference).unwrap_err();
    assert!(error.to_string().contains("the proxy failed: "), "{error}");
    assert!(error.hint().unwrap().to_string().contains("HTTPS_PROXY"));
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = source(through(&closed)).resolve(&reference).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("the proxy failed: {closed} refused the connection")),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("proxy@") && !format!("{error:?}").contains("pr%6Fxy"));
}
