//! `sealift serve` when something goes wrong meanwhile: archives that are replaced or damaged, clients that are slow or
//! many, signals.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::image::sha256;
use crate::support::serving::body;
use crate::support::{Built, Compression, Image, Layer, Sealift, Serving, run};

/// An image with one layer that is larger than what sockets keep.
fn large(sealift: &Sealift, layout: &str, seed: u64) -> Built {
    let mut layer = Layer::new().noise("data", seed, 30_000_000);
    layer.compression = Compression::Plain;
    Image::single(vec![layer]).build(&sealift.path(layout), "docker.io/library/app:1")
}

fn save(sealift: &Sealift, layout: &str, to: &str) {
    sealift
        .run(&["save", "-q", "--from", layout, "app:1", "-o", to])
        .ok();
}

fn layer_path(built: &Built) -> String {
    format!("/v2/library/app/blobs/{}", built.host().layers[0].digest)
}

/// Reads until this many bytes are there.
fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads an answer to its end, which may be that the connection breaks.
fn rest(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut piece = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn digest_of(serving: &Serving, path: &str) -> Option<String> {
    serving
        .get(path)
        .header("docker-content-digest")
        .map(str::to_owned)
}

#[test]
fn a_replaced_archive_is_served_and_a_broken_one_is_not() {
    let sealift = Sealift::new();
    let build = |name: &str| {
        let built = Image::small(name).build(&sealift.path(name), "docker.io/library/app:1");
        save(&sealift, name, &format!("{name}.tar"));
        built
    };
    let (one, two, three) = (build("one"), build("two"), build("three"));
    let replace = |name: &str| fs::rename(sealift.path(name), sealift.path("served.tar")).unwrap();
    replace("one.tar");
    let serving = Serving::start(&sealift, &["served.tar"]);
    let tag = "/v2/library/app/manifests/1";
    assert_eq!(digest_of(&serving, tag), Some(one.digest.clone()));
    replace("two.tar");
    serving.until("the second", || {
        digest_of(&serving, tag) == Some(two.digest.clone())
    });
    let says = "served.tar was replaced: serving archive sha256:";
    serving.until("the note", || serving.log().contains(says));
    let gone = format!("/v2/library/app/manifests/{}", one.digest);
    assert_eq!(serving.get(&gone).status, 404);

    // A truncated one, and then none: the old one goes on from its open file.
    let bytes = fs::read(sealift.path("three.tar")).unwrap();
    fs::write(sealift.path("cut.tar"), &bytes[..bytes.len() / 2]).unwrap();
    replace("cut.tar");
    let says = "served.tar was replaced by one that is not served";
    serving.until("the cut one", || serving.log().contains(says));
    fs::remove_file(sealift.path("served.tar")).unwrap();
    serving.until("none", || serving.log().matches(says).count() == 2);
    assert_eq!(digest_of(&serving, tag), Some(two.digest.clone()));
    for layer in two.manifests.iter().flat_map(|manifest| &manifest.layers) {
        let answer = serving.get(&format!("/v2/library/app/blobs/{}", layer.digest));
        assert_eq!((answer.status, sha256(&answer.body)), (200, layer.digest.clone()));
    }
    replace("three.tar");
    serving.until("the third", || {
        digest_of(&serving, tag) == Some(three.digest.clone())
    });
}

#[test]
fn systemd_is_told_when_it_listens() {
    let sealift = Sealift::new();
    Image::small("one").build(&sealift.path("one"), "docker.io/library/app:1");
    let path = sealift.path("notify");
    let name = format!("sealift-test-{}", std::process::id());
    let sockets = [
        (
            UnixDatagram::bind(&path).unwrap(),
            path.to_str().unwrap().to_owned(),
        ),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (socket, address) in sockets {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut command = sealift.command(&["serve", "--listen", "127.0.0.1:0", "--verify", "one"]);
        command.env("NOTIFY_SOCKET", &address);
        let serving = Serving::of(&sealift, command);
        let mut told = [0; 64];
        let length = socket.recv(&mut told).unwrap();
        assert_eq!(&told[..length], b"READY=1", "{address}");
        assert_eq!(serving.get("/v2/").status, 200);
        assert!(!serving.log().contains("warning"), "{}", serving.log());
    }
    // One that is not there is no reason to end.
    let mut command = sealift.command(&["serve", "--listen", "127.0.0.1:0", "one"]);
    command.env("NOTIFY_SOCKET", sealift.path("nowhere"));
    let serving = Serving::of(&sealift, command);
    serving.until("the warning", || {
        serving
            .log()
            .starts_with("warning: systemd was not told that the service is ready: ")
    });
    assert_eq!(serving.get("/v2/").status, 200);
}

#[test]
fn a_folder_is_served_as_it_is_added_to() {
    let sealift = Sealift::new();
    Image::small("one").build(&sealift.path("one"), "docker.io/library/app:1");
    Image::small("two").build(&sealift.path("two"), "docker.io/library/app:2");
    let serving = Serving::start(&sealift, &["one", "--json"]);
    sealift.run(&["load", "-q", "two", "--to", "oci:one"]).ok();
    serving.until("the second tag", || {
        serving.json("/v2/library/app/tags/list")["tags"] == serde_json::json!(["1", "2"])
    });
}

/// Changes a byte in the middle of a file, in place.
fn damage(path: &Path, at: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[!byte[0]]).unwrap();
}

#[test]
fn a_damaged_blob_is_never_sent() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 1);
    let layer = built.blob(&built.host().layers[0].digest);
    let path = layer_path(&built);
    let serving = Serving::start(&sealift, &["layout"]);
    damage(&layer, 15_000_000);
    for headers in [&[][..], &[("Range", "bytes=0-9")]] {
        let answer = serving.ask("GET", &path, headers);
        assert_eq!(answer.status, 500);
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(
            document["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("damaged"),
            "{document}"
        );
    }
    assert_eq!(serving.ask("HEAD", &path, &[]).status, 500);
    let name = built.host().layers[0].digest.replace(':', "/");
    let says = format!("error: layout: blobs/{name}: digest is sha256:");
    serving.until(&says, || serving.log().contains(&says));
    assert_eq!(
        serving
            .get(&format!("/v2/library/app/blobs/{}", built.host().config))
            .status,
        200
    );
    let refused = sealift
        .run(&["serve", "layout", "--verify", "--listen", "127.0.0.1:0"])
        .code(1);
    assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    // Mended in place, it is verified again.
    damage(&layer, 15_000_000);
    assert_eq!(serving.ask("HEAD", &path, &[]).status, 200);
    assert_eq!(sha256(&serving.get(&path).body), built.host().layers[0].digest);
}

#[test]
fn a_blob_is_served_from_an_archive_that_has_it_whole() {
    let sealift = Sealift::new();
    let damaged = large(&sealift, "damaged", 6);
    let whole = large(&sealift, "whole", 6);
    let (path, digest) = (layer_path(&whole), &whole.host().layers[0].digest);
    damage(&damaged.blob(digest), 15_000_000);
    let serving = Serving::start(&sealift, &["damaged", "whole"]);
    for _ in 0..2 {
        let answer = serving.get(&path);
        assert_eq!((answer.status, &sha256(&answer.body)), (200, digest));
    }
    assert_eq!(serving.ask("HEAD", &path, &[]).status, 200);
    let says = format!(
        "error: damaged: blobs/{}: digest is sha256:",
        digest.replace(':', "/")
    );
    serving.until("it is reported", || serving.log().contains(&says));
    damage(&whole.blob(digest), 15_000_000);
    assert_eq!(serving.get(&path).status, 500);
    assert_eq!(serving.ask("HEAD", &path, &[]).status, 500);
    // Once when it was found, and again when no other was right.
    serving.until("both are reported", || serving.log().matches(&says).count() == 2);
}

#[test]
fn an_archive_is_replaced_while_a_client_reads_the_old_one() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 7);
    save(&sealift, "layout", "served.tar");
    Image::small("new").build(&sealift.path("new"), "docker.io/library/app:1");
    save(&sealift, "new", "new.tar");
    let serving = Serving::start(&sealift, &["served.tar"]);
    let mut stream = serving.begin(&layer_path(&built));
    let mut bytes = read(&mut stream, 100_000);
    fs::rename(sealift.path("new.tar"), sealift.path("served.tar")).unwrap();
    serving.until("the new one is served", || {
        serving.log().contains("served.tar was replaced: serving")
    });
    rest(&mut stream, &mut bytes);
    assert_eq!(sha256(body(&bytes)), built.host().layers[0].digest);
}

#[test]
fn a_file_that_shrinks_ends_no_connection_but_its_own() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 8);
    let serving = Serving::start_tls(&sealift, &["layout"]);
    let layer = built.host().layers[0].digest.clone();
    let output = sealift.path("received");
    let mut slow = serving.curl(&sealift, &layer_path(&built));
    slow.args(["--limit-rate", "4M", "--output"]).arg(&output);
    let mut slow = slow.spawn().unwrap();
    let received = || fs::metadata(&output).map_or(0, |meta| meta.len());
    serving.until("the first bytes", || received() > 0);
    // The server encrypts what it maps, so that it touches pages that are gone.
    let file = File::options().write(true).open(built.blob(&layer)).unwrap();
    file.set_len(1000).unwrap();
    assert!(!slow.wait().unwrap().success());
    assert!(received() < built.host().layers[0].size);
    run(&mut serving.curl(&sealift, "/v2/")).ok();
}

#[test]
fn a_blob_that_changes_while_it_is_sent_breaks_the_connection() {
    let sealift = Sealift::new();
    for (change, name) in [
        (&(|path: &Path| damage(path, 100)) as &dyn Fn(&Path), "written"),
        (
            &|path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(20_000_000)
                    .unwrap()
            },
            "cut",
        ),
        (
            &|path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(29_999_000)
                    .unwrap()
            },
            "cut at its end",
        ),
    ] {
        let layout = name.replace(' ', "-");
        let built = large(&sealift, &layout, 2);
        let serving = Serving::start(&sealift, &[&layout]);
        let mut stream = serving.begin(&layer_path(&built));
        let mut bytes = read(&mut stream, 100_000);
        change(&built.blob(&built.host().layers[0].digest));
        rest(&mut stream, &mut bytes);
        let sent = body(&bytes).len() as u64;
        assert!(sent < built.host().layers[0].size, "{name}: {sent}");
        // It lives, and says why.
        assert_eq!(serving.get("/v2/").status, 200, "{name}");
        serving.until(name, || serving.log().contains(" incomplete\n"));
    }
}

#[test]
fn what_is_under_way_is_finished_after_a_signal() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 3);
    for signals in 1..=2 {
        let serving = Serving::start(&sealift, &["layout", "--json"]);
        let mut stream = serving.begin(&layer_path(&built));
        let mut idle = TcpStream::connect(&serving.address).unwrap();
        let mut bytes = read(&mut stream, 100_000);
        serving.signal(Signal::TERM);
        serving.until("it listens no longer", || {
            TcpStream::connect(&serving.address).is_err()
        });
        assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "an idle connection is ended");
        if signals == 2 {
            serving.signal(Signal::INT);
            let ended = serving.wait();
            assert_eq!(ended.signal, Some(15));
            assert!(ended.stdout.contains(r#""complete":false"#), "{}", ended.stdout);
            assert_eq!(ended.stderr, "error: interrupted by SIGTERM\n");
            rest(&mut stream, &mut bytes);
            assert!((body(&bytes).len() as u64) < built.host().layers[0].size);
            continue;
        }
        rest(&mut stream, &mut bytes);
        assert_eq!(sha256(body(&bytes)), built.host().layers[0].digest);
        let ended = serving.wait();
        assert_eq!(ended.signal, Some(15));
        assert_eq!(ended.stderr, "note: stopped by SIGTERM\n");
        let lines: Vec<serde_json::Value> = ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let last = lines.last().unwrap();
        assert_eq!(
            (&last["event"], &last["complete"]),
            (&"stopped".into(), &true.into()),
            "{lines:?}"
        );
    }
}

/// The memory of a process in this line of its status, in KiB.
fn memory(serving: &Serving, line: &str) -> u64 {
    let path = format!("/proc/{}/status", serving.pid().as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

#[test]
fn slow_clients_pin_no_memory() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 4);
    save(&sealift, "layout", "images.tar");
    let serving = Serving::start(&sealift, &["images.tar", "--verify", "-q"]);
    let path = layer_path(&built);
    // The first bytes are there, and all that the sockets take is on its way.
    let mut slow: Vec<TcpStream> = (0..400).map(|_| serving.begin(&path)).collect();
    for stream in &mut slow {
        read(stream, 1000);
    }
    assert_eq!(
        sha256(&serving.get(&path).body),
        built.host().layers[0].digest,
        "others are served"
    );
    let private = memory(&serving, "RssAnon");
    assert!(private < 48 << 10, "{private} KiB");
    let mut last = slow.pop().unwrap();
    drop(slow);
    let mut bytes = Vec::new();
    rest(&mut last, &mut bytes);
    assert!(bytes.len() > 29_000_000);
}

#[test]
fn many_clients_at_once_get_what_they_ask_for() {
    let sealift = Sealift::new();
    let built = large(&sealift, "layout", 5);
    save(&sealift, "layout", "images.tar");
    let serving = Serving::start(&sealift, &["images.tar"]);
    let path = layer_path(&built);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let answer = serving.get(&path);
                assert_eq!(
                    (answer.status, sha256(&answer.body)),
                    (200, built.host().layers[0].digest.clone())
                );
                let tag = digest_of(&serving, "/v2/library/app/manifests/1");
                assert_eq!(tag, Some(built.digest.clone()));
            });
        }
    });
    serving.until("each has a line", || {
        let log = serving.log();
        let requests = log
            .lines()
            .filter(|line| line.starts_with("GET /v2/library/app/"));
        requests.count() == 128
    });
}

#[test]
fn text_of_clients_is_escaped_in_the_log() {
    let sealift = Sealift::new();
    Image::small("one").build(&sealift.path("layout"), "docker.io/library/app:1");
    let mut serving = Serving::start(&sealift, &["layout"]);
    let hostile = "/v2/%1b[2Jx%0a/manifests/%e2%80%ae?ns=a%0ab&token=secret";
    assert_eq!(serving.get(hostile).status, 404);
    serving.until("the line", || serving.log().contains("GET"));
    let log = serving.log();
    let line = log.lines().find(|line| line.starts_with("GET")).unwrap();
    let expected = "GET /v2/\\u{1b}[2Jx\\u{a}/manifests/\\u{202e}?ns=a\\u{a}b 404 ";
    assert!(line.starts_with(expected), "{log}");
    assert!(!log.contains("secret"), "{log}");

    serving = Serving::start(&sealift, &["layout", "--json"]);
    assert_eq!(serving.get(hostile).status, 404);
    let line = serving.line();
    assert!(line.contains(r"/v2/\u001b[2Jx\n/manifests/\u202e"), "{line}");
    let document: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(document["path"], "/v2/\u{1b}[2Jx\n/manifests/\u{202e}");
}
