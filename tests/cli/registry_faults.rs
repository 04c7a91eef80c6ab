//! Registries that lie, break off and stall: how a save ends, what it says, what it leaves and what it never tells.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Image, Sealift};

const PASSWORD: &str = "correct-horse-battery";
/// `ann:correct-horse-battery`.
const BASIC: &str = "YW5uOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";

/// What happens to an answer that would be right.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A byte in the middle is another one.
    Flipped,
    /// The connection ends in the middle.
    Cut,
    /// Half of it, and the length says so.
    Short,
    /// A byte more, and the length says so.
    Long,
    /// Half of it, then silence.
    Stalled,
    /// Come back later, always.
    Busy,
    /// Not allowed, whoever asks.
    Forbidden,
}

/// A registry that serves a layout folder as `app`, over plain HTTP with a password, and spoils some answers.
struct Liar {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    fn serve(layout: PathBuf, spoiled: &str, fault: Fault) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, spoiled) = (Arc::clone(&asked), spoiled.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (layout, spoiled, log) = (layout.clone(), spoiled.clone(), Arc::clone(&log));
                thread::spawn(move || {
                    let _ = answer(stream.unwrap(), &layout, &spoiled, fault, &log);
                });
            }
        });
        Liar { address, asked }
    }
}

fn answer(
    stream: TcpStream,
    layout: &std::path::Path,
    spoiled: &str,
    fault: Fault,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut target, mut trusted) = (String::new(), false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if target.is_empty() {
            target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        trusted |= line.contains(BASIC);
    }
    log.lock().unwrap().push(target.clone());
    let mut out = stream;
    let mut reply = |status: &str, headers: &str, length: usize, body: &[u8]| {
        write!(
            out,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        )?;
        out.write_all(body)
    };
    if !trusted {
        let challenge = "WWW-Authenticate: Basic realm=\"of a test\"\r\n";
        return reply("401 Unauthorized", challenge, 0, b"");
    }
    let name = target.rsplit('/').next().unwrap_or_default();
    let index = fs::read_to_string(layout.join("index.json"))?;
    let index: serde_json::Value = serde_json::from_str(&index)?;
    let root = index["manifests"][0]["digest"].as_str().unwrap_or_default();
    let digest = if name == "1" { root } else { name };
    let Ok(body) = fs::read(layout.join("blobs").join(digest.replace(':', "/"))) else {
        return reply("200 OK", "", 2, b"{}");
    };
    let kind = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|document| document["mediaType"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "application/octet-stream".into());
    let kind = format!("Content-Type: {kind}\r\n");
    let half = &body[..body.len() / 2];
    if digest != spoiled {
        return reply("200 OK", &kind, body.len(), &body);
    }
    match fault {
        Fault::Flipped => {
            let mut body = body.clone();
            let middle = body.len() / 2;
            body[middle] ^= 1;
            reply("200 OK", &kind, body.len(), &body)
        }
        Fault::Cut => reply("200 OK", &kind, body.len(), half),
        Fault::Short => reply("200 OK", &kind, half.len(), half),
        Fault::Long => reply("200 OK", &kind, body.len() + 1, &[body.as_slice(), b"x"].concat()),
        Fault::Stalled => {
            reply("200 OK", &kind, body.len(), half)?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Fault::Busy => reply("429 Too Many Requests", "Retry-After: 0\r\n", 0, b""),
        Fault::Forbidden => reply("403 Forbidden", "", 0, b""),
    }
}

#[test]
fn what_a_registry_does_wrong_is_told_and_leaves_no_archive() {
    use Fault::{Busy, Cut, Flipped, Forbidden, Long, Short, Stalled};
    let sealift = Sealift::new();
    let image = Image::sample("app", "1")
        .without_index()
        .build(&sealift.path("layout"), "1");
    let (manifest, config) = (image.digest.clone(), image.host().config.clone());
    let layer = &image.host().layers[1];
    let size = fs::metadata(image.blob(&layer.digest)).unwrap().len();
    let (whole, half) = (format!("expected {size}"), format!("is {} bytes", size / 2));
    let layer = &layer.digest;
    fs::create_dir(sealift.path("out")).unwrap();
    for (spoiled, fault, code, said) in [
        (layer, Flipped, 4, &["digest is sha256:", "expected"][..]),
        (layer, Cut, 4, &["closed the connection"]),
        (layer, Short, 4, &[half.as_str(), &whole]),
        (layer, Long, 4, &[&whole]),
        (layer, Stalled, 4, &["idle timeout"]),
        (layer, Busy, 4, &["too many requests"]),
        (layer, Forbidden, 4, &["denied"]),
        (&config, Flipped, 4, &["digest is sha256:", "expected"]),
        (&manifest, Flipped, 1, &["digest is sha256:", "expected"]),
        (&manifest, Cut, 4, &["closed the connection"]),
        (&manifest, Busy, 4, &["too many requests"]),
    ] {
        let case = format!("{fault:?} {spoiled}");
        let registry = Liar::serve(sealift.path("layout"), spoiled, fault);
        let auths = serde_json::json!({ "auths": { registry.address.clone(): { "auth": BASIC } } });
        fs::create_dir_all(sealift.path(".docker")).unwrap();
        fs::write(sealift.path(".docker/config.json"), auths.to_string()).unwrap();
        // By digest, so that bytes that differ from it are wrong and not another image.
        let name = format!("{}/app@{}", registry.address, image.digest);
        let run = sealift.run(&[
            "save",
            "-v",
            "--json",
            "--no-resume",
            &name,
            "-o",
            "out/app.tar",
            "--tries",
            "2",
            "--idle-timeout",
            "1",
        ]);
        let case = format!("{case}\n{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(code), "{case}");
        assert_eq!(run.json()["error"]["exit"], code, "{case}");
        let message = run.json()["error"]["message"].as_str().unwrap().to_owned();
        for part in [registry.address.as_str(), spoiled].iter().chain(said) {
            assert!(message.contains(part), "{part}: {case}");
        }
        assert!(!case.contains(PASSWORD) && !case.contains(BASIC), "{case}");
        let asked = registry.asked.lock().unwrap();
        let times = asked
            .iter()
            .filter(|target| target.contains(spoiled.as_str()))
            .count();
        // The first request of all is for the manifest, and learns of the password.
        assert!(times <= 4, "asked {times} times: {case}");
        let left: Vec<_> = fs::read_dir(sealift.path("out")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn an_archive_holds_nothing_of_the_credentials_that_it_took() {
    let sealift = Sealift::new();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let registry = Liar::serve(sealift.path("layout"), "", Fault::Forbidden);
    let auths = serde_json::json!({ "auths": { registry.address.clone(): { "auth": BASIC } } });
    fs::create_dir(sealift.path(".docker")).unwrap();
    fs::write(sealift.path(".docker/config.json"), auths.to_string()).unwrap();
    let name = format!("{}/app:1", registry.address);
    let run = sealift.run(&["save", "-v", &name, "-o", "app.tar"]).ok();
    assert!(run.stdout.contains(&image.digest), "{}", run.stdout);
    let archive = fs::read(sealift.path("app.tar")).unwrap();
    for secret in [PASSWORD, BASIC] {
        assert!(!(run.stdout.clone() + &run.stderr).contains(secret));
        assert!(
            !archive
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        );
    }
}
