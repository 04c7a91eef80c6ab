//! `make bench`: sealift beside its peers, on the same machine and disk, in one run. Pairs are interleaved,
//! medians compared, and the ratio printed; every figure that README names comes from here.
//!
//! Arguments choose the parts: `save`, `verify`, `memory`, `memory-10gb`; none means all but the last.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod map_hash;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Built, Daemon, Engine, Registry, Sealift, Store};

const PAIRS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|text| text != "--bench")
        .collect();
    if let Some(("map-hash", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return map_hash::run(rest);
    }
    let wanted = |part: &str| arguments.iter().any(|text| text == part);
    if arguments.is_empty() || wanted("save") {
        save();
    }
    if arguments.is_empty() || wanted("verify") {
        verify_quick();
        verify_full();
    }
    if arguments.is_empty() || wanted("memory") {
        memory("0.7 GB", &support::large::image());
    }
    if wanted("memory-10gb") {
        memory("10 GB", &support::large::image_of(&[2_600_000_000; 4], "huge"));
    }
}

/// A finished command: wall time, processor time, and peak resident memory in KiB.
struct Measured {
    wall: Duration,
    processor: Duration,
    peak: i64,
}

/// Runs a command to its end; `fsync` adds a flush of that file to what is measured.
fn measure(command: &mut Command, fsync: Option<&Path>) -> Measured {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let child = command.spawn().expect("the command starts");
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage, and both pointers live across the call.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = libc::pid_t::try_from(child.id()).expect("a pid");
        assert_eq!(libc::wait4(pid, &mut status, 0, &mut usage), pid);
        usage
    };
    assert_eq!(status, 0, "{command:?} failed");
    if let Some(path) = fsync {
        File::open(path)
            .and_then(|file| file.sync_all())
            .expect("the file reaches the disk");
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Measured {
        wall: started.elapsed(),
        processor: time(usage.ru_utime) + time(usage.ru_stime),
        peak: usage.ru_maxrss,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs two commands in turns and gives the median wall time of each.
fn pairs(mut ours: impl FnMut() -> Measured, mut theirs: impl FnMut() -> Measured) -> (Duration, Duration) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    ours(); // warms caches, not counted
    theirs();
    for turn in 0..PAIRS {
        if turn % 2 == 0 {
            a.push(ours().wall);
            b.push(theirs().wall);
        } else {
            b.push(theirs().wall);
            a.push(ours().wall);
        }
    }
    (median(a), median(b))
}

fn pushed(image: &Built) -> (Registry, String) {
    let registry = Registry::start();
    registry.push(image, "library/bench:1");
    let name = format!("{}/library/bench:1", registry.address());
    (registry, name)
}

fn save() {
    let image = support::large::image();
    let (_registry, name) = pushed(&image);
    let sealift = Sealift::new();
    let (ours, theirs) = (sealift.path("ours.tar"), sealift.path("theirs.tar"));
    let (a, b) = pairs(
        || {
            let _ = std::fs::remove_file(&ours);
            measure(
                &mut sealift.command(&["save", "-q", &name, "-o", "ours.tar"]),
                None,
            )
        },
        || {
            let _ = std::fs::remove_file(&theirs);
            let mut skopeo = support::command::clean("skopeo", sealift.home());
            skopeo.args(["copy", "-q", "--src-tls-verify=false"]);
            skopeo
                .arg(format!("docker://{name}"))
                .arg(format!("oci-archive:{}", theirs.display()));
            measure(&mut skopeo, Some(&theirs))
        },
    );
    println!(
        "save, {} layers, {} MB: sealift {:.2?}, skopeo copy and fsync {:.2?}: ratio {:.2} (aim: at most 0.50)",
        image.manifests[0].layers.len(),
        stored(&image) / 1_000_000,
        a,
        b,
        a.as_secs_f64() / b.as_secs_f64()
    );
}

fn stored(image: &Built) -> u64 {
    image.manifests[0].layers.iter().map(|layer| layer.size).sum()
}

fn saved(sealift: &Sealift, image: &Built) -> PathBuf {
    let layout = image.layout.to_str().expect("a path in UTF-8");
    sealift
        .run(&["save", "-q", "--from", layout, "-o", "images.tar"])
        .ok();
    sealift.path("images.tar")
}

fn verify_quick() {
    let sealift = Sealift::new();
    let image = support::large::image();
    let archive = saved(&sealift, &image);
    let mut stretches = vec!["map-hash".to_string(), archive.display().to_string()];
    let mut tar = tar::Archive::new(File::open(&archive).expect("the archive opens"));
    for entry in tar.entries().expect("a tar") {
        let entry = entry.expect("an entry");
        if entry.path_bytes().starts_with(b"blobs/") {
            // Maps begin at a page.
            let start = entry.raw_file_position() / 4096 * 4096;
            stretches.push(format!(
                "{start}:{}",
                entry.size() + entry.raw_file_position() - start
            ));
        }
    }
    let this = std::env::current_exe().expect("this program's path");
    let (a, b) = pairs(
        || {
            measure(
                &mut sealift.command(&["verify", "-q", "--quick", "images.tar"]),
                None,
            )
        },
        || measure(Command::new(&this).args(&stretches), None),
    );
    println!(
        "verify --quick, {} MB: sealift {a:.3?}, map and hash {b:.3?}: rate {:.2} of it (aim: at least 0.95)",
        stored(&image) / 1_000_000,
        b.as_secs_f64() / a.as_secs_f64()
    );
}

fn verify_full() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let image = support::large::image_of(&vec![120_000_000; 2 * cores], "equal");
    let sealift = Sealift::new();
    saved(&sealift, &image);
    let mut busy: Vec<f64> = (0..PAIRS)
        .map(|_| {
            let run = measure(&mut sealift.command(&["verify", "-q", "images.tar"]), None);
            run.processor.as_secs_f64() / run.wall.as_secs_f64()
        })
        .collect();
    busy.sort_by(f64::total_cmp);
    println!(
        "verify, {} equal layers on {cores} cores: processor time over wall time {:.2} (aim: at least {:.2})",
        2 * cores,
        busy[PAIRS / 2],
        0.9 * f64::from(u32::try_from(cores).unwrap_or(1))
    );
}

fn memory(label: &str, image: &Built) {
    let (_registry, name) = pushed(image);
    let sealift = Sealift::new();
    let mut report = |what: &str, command: &mut Command| {
        println!(
            "memory of {what}, {label}: peak {} MiB",
            measure(command, None).peak / 1024
        );
    };
    report(
        "save",
        &mut sealift.command(&["save", "-q", &name, "-o", "images.tar"]),
    );
    report("verify", &mut sealift.command(&["verify", "-q", "images.tar"]));
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let sealift = sealift.docker(&daemon);
    let mut load = sealift.command(&[
        "load",
        "-q",
        "--attach",
        "none",
        "--rename",
        "IMAGE=bench:1",
        "images.tar",
    ]);
    report("load", &mut load);
}
