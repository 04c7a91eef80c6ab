//! Registries that send wrong bytes, break off and stall: how a save ends, what it prints and what it leaves.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;

use crate::support::{Image, Sealift, Transcript};

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
    /// Access denied, always.
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
    if target.contains("/referrers/") || name.starts_with("sha256-") {
        return reply("404 Not Found", "", 0, b"");
    }
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
fn faults_of_a_registry_are_reported_and_leave_no_archive() {
    use Fault::{Busy, Cut, Flipped, Forbidden, Long, Short, Stalled};
    let sealift = Sealift::new();
    let image = Image::small("app")
        .without_index()
        .build(&sealift.path("layout"), "1");
    let (manifest, config) = (image.digest.clone(), image.manifests[0].config.clone());
    let layer = &image.manifests[0].layers[1].digest;
    fs::create_dir(sealift.path("out")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.image("app", &image);
    for (what, spoiled, fault, code) in [
        ("layer", layer, Flipped, 4),
        ("layer", layer, Cut, 4),
        ("layer", layer, Short, 4),
        ("layer", layer, Long, 4),
        ("layer", layer, Stalled, 4),
        ("layer", layer, Busy, 4),
        ("layer", layer, Forbidden, 4),
        ("config", &config, Flipped, 4),
        ("manifest", &manifest, Flipped, 1),
        ("manifest", &manifest, Cut, 4),
        ("manifest", &manifest, Busy, 4),
    ] {
        let case = format!("{fault:?} {spoiled}");
        let registry = Liar::serve(sealift.path("layout"), spoiled, fault);
        let auths = serde_json::json!({ "auths": { registry.address.clone(): { "auth": BASIC } } });
        fs::create_dir_all(sealift.path(".docker")).unwrap();
        fs::write(sealift.path(".docker/config.json"), auths.to_string()).unwrap();
        // By digest, so that bytes that differ from it are wrong and not another image.
        let name = format!("{}/app@{}", registry.address, image.digest);
        let line = format!(
            "save -v --json --from registry --no-resume {name} -o out/app.tar --tries 2 --idle-timeout 1"
        );
        let mut run = sealift.run(&line.split(' ').collect::<Vec<_>>());
        let case = format!("{case}\n{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(code), "{case}");
        assert_eq!(run.json()["error"]["exit"], code, "{case}");
        assert!(!case.contains(PASSWORD) && !case.contains(BASIC), "{case}");
        transcript.name(&registry.address, "REGISTRY");
        // Two layers start in any order.
        let lines = run.stderr.lines().filter(|line| !line.starts_with("sha256:"));
        run.stderr = lines.map(|line| line.to_owned() + "\n").collect();
        run.stdout.clear();
        transcript.add(
            &format!("sealift save REGISTRY/app@...   # {what}: {fault:?}"),
            &run,
        );
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
    assert_snapshot!(transcript.text(), @"
    $ sealift save REGISTRY/app@...   # layer: Flipped
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: app@<app linux/amd64 layer 2>: digest is <digest 1>, expected <app linux/amd64 layer 2>; retrying
    2> error: REGISTRY: app@<app linux/amd64 layer 2>: digest is <digest 1>, expected <app linux/amd64 layer 2>
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Cut
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: blob <app linux/amd64 layer 2> of app: REGISTRY closed the connection before the end (at byte 51 of 102); retrying
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: REGISTRY closed the connection before the end (at byte 51 of 102)
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Short
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: blob <app linux/amd64 layer 2> of app: the answer's length is 51 bytes, expected 102; retrying
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: the answer's length is 51 bytes, expected 102
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Long
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: blob <app linux/amd64 layer 2> of app: the answer's length is 103 bytes, expected 102; retrying
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: the answer's length is 103 bytes, expected 102
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Stalled
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: blob <app linux/amd64 layer 2> of app: REGISTRY stopped sending: no data within the idle timeout (at byte 51 of 102); retrying
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: REGISTRY stopped sending: no data within the idle timeout (at byte 51 of 102)
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Busy
    2> resolving
    2> saving: 191 B
    2> note: REGISTRY: blob <app linux/amd64 layer 2> of app: too many requests; retrying in 1 s (1 of 2 attempts)
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: too many requests
    2> hint: wait, log in to get a higher limit, or use a --mirror
    exit 4

    $ sealift save REGISTRY/app@...   # layer: Forbidden
    2> resolving
    2> saving: 191 B
    2> error: REGISTRY: blob <app linux/amd64 layer 2> of app: access denied
    2> hint: log in with `docker login REGISTRY` or `podman login REGISTRY`; if you are, the account may not pull this
    exit 4

    $ sealift save REGISTRY/app@...   # config: Flipped
    2> resolving
    2> note: REGISTRY: blob <app linux/amd64 config> of app: digest is <digest 2>, expected <app linux/amd64 config>; retrying
    2> error: REGISTRY: blob <app linux/amd64 config> of app: digest is <digest 2>, expected <app linux/amd64 config>
    exit 4

    $ sealift save REGISTRY/app@...   # manifest: Flipped
    2> resolving
    2> note: REGISTRY/app: <app>: digest is <digest 3>, expected <app>; retrying
    2> error: REGISTRY/app: <app>: digest is <digest 3>, expected <app>
    exit 1

    $ sealift save REGISTRY/app@...   # manifest: Cut
    2> resolving
    2> note: REGISTRY: app@<app>: REGISTRY closed the connection before the end (at byte 331 of 663); retrying
    2> error: REGISTRY: app@<app>: REGISTRY closed the connection before the end (at byte 331 of 663)
    exit 4

    $ sealift save REGISTRY/app@...   # manifest: Busy
    2> resolving
    2> note: REGISTRY: app@<app>: too many requests; retrying in 1 s (1 of 2 attempts)
    2> error: REGISTRY: app@<app>: too many requests
    2> hint: wait, log in to get a higher limit, or use a --mirror
    exit 4
    ");
}

#[test]
fn an_archive_contains_no_credentials() {
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
