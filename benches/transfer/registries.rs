//! Pushes into a registry, `serve`, and the verification of images in a registry.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::measure::{median, process_seconds, run_measured};
use super::support::engine::{Engine, Root};
use super::support::serving::Serving;
use super::support::{Built, Folder, Registry, Sealift, large, run};
use super::{MIB, Report, all_in_turn, cores, folder, peak_of, rounds, save, stored};

/// Clients of a registry at the same time.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// Measures all three.
pub fn measure(report: &mut Report) {
    let (registry, image) = (Registry::start(), large::image());
    registry.push(&image, "bench/large:1");
    let reference = format!("{}/bench/large:1", registry.address());
    let sealift = Sealift::new();
    let folder = folder();
    let archive = folder.path().join("images.tar");
    save(&sealift, &reference, &archive);
    push_beside_others(report, &sealift, &reference);
    serve_beside_docker_registry(report, &sealift, &registry, &image, &archive);
    verify_beside_openssl(report, &sealift, &registry, &image);
}

/// Pushes into an empty registry.
fn push_beside_others(report: &mut Report, sealift: &Sealift, reference: &str) {
    let folder = Folder::new();
    let root = Root::new(Engine::Docker28, folder.path());
    let [archive, layout] = ["images.tar", "layout"].map(|name| root.outside(name));
    save(sealift, reference, &archive);
    let mut load = sealift.command(&["load", "-q", "--to"]);
    run(load.arg(format!("oci:{}", layout.display())).arg(&archive)).ok();
    let archived = format!("oci-archive:{}", root.inside("images.tar").display());
    let peak = Cell::new(0);
    let load = |options: &[&str]| {
        let empty = Registry::start();
        let mut load = sealift.command(&["load", "-q"]);
        load.args(options)
            .arg(&archive)
            .arg("--to")
            .arg(format!("registry://{}", empty.address()));
        let cost = run_measured(&mut load);
        peak.set(cost.peak.max(peak.get()));
        cost
    };
    let mut push = || load(&[]);
    let mut push_digests = || load(&["--digests-only"]);
    let mut crane = || {
        let empty = Registry::start();
        let mut crane = root.command("crane");
        crane.args(["push", "--insecure"]).arg(root.inside("layout"));
        crane.arg(format!("{}/bench/large:1", empty.address()));
        run_measured(crane.stderr(Stdio::null()))
    };
    let mut skopeo = || {
        let empty = Registry::start();
        let mut skopeo = root.command("skopeo");
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--all",
            "--dest-tls-verify=false",
            &archived,
        ]);
        skopeo.arg(format!("docker://{}/bench/large:1", empty.address()));
        run_measured(&mut skopeo)
    };
    let [ours, digests, crane, skopeo] = all_in_turn([&mut push, &mut push_digests, &mut crane, &mut skopeo]);
    println!(
        "push {ours:.2} s, with --digests-only {digests:.2} s, crane push {crane:.2} s, skopeo copy {skopeo:.2} s"
    );
    for (what, ours) in [("push", ours), ("push --digests-only", digests)] {
        report.line(
            &format!("{what} / crane push, wall"),
            ours / crane,
            ours <= 0.9 * crane,
            "at most 0.9",
        );
        report.line(
            &format!("{what} / skopeo copy, wall"),
            ours / skopeo,
            ours <= 0.8 * skopeo,
            "at most 0.8",
        );
    }
    peak_of(report, "push", peak.get());
}

/// The bytes that each server sends per second of its processor time.
fn serve_beside_docker_registry(
    report: &mut Report,
    sealift: &Sealift,
    registry: &Registry,
    image: &Built,
    archive: &Path,
) {
    let serving = Serving::start(sealift, &["-q", archive.to_str().unwrap()]);
    // As its users have it: every blob is verified before it is first sent.
    let servers = [
        (serving.address.as_str(), serving.pid()),
        (registry.address(), registry.pid()),
    ];
    for (address, _) in servers {
        pull(address, image, 1);
    }
    for clients in CLIENTS {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..rounds() {
            for ((address, pid), rates) in servers.iter().zip(&mut rates) {
                let before = process_seconds(*pid);
                let bytes = pull(address, image, clients);
                rates.push(bytes as f64 / MIB / (process_seconds(*pid) - before));
            }
        }
        let [ours, theirs] = rates.each_mut().map(|rates| median(rates));
        println!(
            "serve to {clients} clients: {ours:.0} MiB a second of processor time, docker-registry {theirs:.0}"
        );
        report.line(
            &format!("serve / docker-registry, {clients} clients, bytes per processor second"),
            ours / theirs,
            ours >= 1.5 * theirs,
            "at least 1.5",
        );
    }
}

/// Each client fetches all layers, one after another. Returns the bytes of all.
fn pull(address: &str, image: &Built, clients: usize) -> u64 {
    std::thread::scope(|scope| {
        let pulling: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| pull_once(address, image)))
            .collect();
        pulling.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

fn pull_once(address: &str, image: &Built) -> u64 {
    let mut buffer = vec![0; 1 << 18];
    let layers = image.host().layers.iter();
    layers
        .map(|layer| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(
                stream,
                "GET /v2/bench/large/blobs/{} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n",
                layer.digest
            )
            .unwrap();
            let mut bytes = 0;
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    count => bytes += count as u64,
                }
            }
            assert!(
                bytes > layer.size,
                "{address} sent {bytes} of {} bytes",
                layer.size
            );
            bytes
        })
        .sum()
}

/// Verifies an image of a registry, also the diff ids of its layers, beside plain hashing of what curl fetches.
fn verify_beside_openssl(report: &mut Report, sealift: &Sealift, registry: &Registry, image: &Built) {
    let urls: Vec<String> = image
        .host()
        .layers
        .iter()
        .map(|layer| {
            format!(
                "http://{}/v2/bench/large/blobs/{}",
                registry.address(),
                layer.digest
            )
        })
        .collect();
    let reference = format!("{}/bench/large:1", registry.address());
    let peak = Cell::new(0);
    let run_verify = |option: &str| {
        let cost = run_measured(&mut sealift.command(&["verify", option, &reference]));
        peak.set(cost.peak.max(peak.get()));
        cost
    };
    let mut verify = || run_verify("-q");
    let mut verify_digests = || run_verify("--digests-only");
    let fetch = |pipe: &str| {
        let mut command = Command::new("sh");
        let each = format!(r#"xargs -P {} -n 1 bash -c 'curl -sS "$0" | {pipe}'"#, cores());
        command.args(["-ec", &format!(r#"printf '%s\n' "$@" | {each}"#), "sh"]);
        run_measured(command.args(&urls))
    };
    let mut hash = || fetch("openssl sha256");
    let mut hash_both = || fetch("tee >(openssl sha256) | gzip -dc | openssl sha256");
    let [ours, digests, hash, hash_both] =
        all_in_turn([&mut verify, &mut verify_digests, &mut hash, &mut hash_both]);
    println!(
        "verify of a registry {ours:.2} s ({:.0} MiB a second), with --digests-only {digests:.2} s, curl | openssl sha256 \
         {hash:.2} s, of the uncompressed layers too {hash_both:.2} s",
        stored(image) / ours
    );
    for (what, ours) in [("verify", ours), ("verify --digests-only", digests)] {
        report.line(
            &format!("curl | openssl sha256 / {what} of a registry, rate"),
            hash / ours,
            hash >= 0.9 * ours,
            "at least 0.9",
        );
    }
    report.line(
        "curl | openssl sha256 of stored and uncompressed layers / verify of a registry, rate",
        hash_both / ours,
        hash_both >= 0.9 * ours,
        "at least 0.9",
    );
    peak_of(report, "verify of a registry", peak.get());
}
