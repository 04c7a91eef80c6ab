//! Speed and memory of the built program beside its peers, side by side on one machine.
//!
//! ```text
//! measure.rs      wall time, processor time and peak memory of a command
//! plain_hash.rs   the yardstick of `verify --quick`: maps an archive, hashes its blobs on all cores
//! registries.rs   pushes, `serve` and the verification of a registry, beside crane, skopeo, docker-registry and curl
//! ```
//!
//! Each pair is run in turn, so that a slow minute of the machine hits both; medians are compared. Both sides of a save
//! are on the disk when the clock stops. A missed target is printed and makes the run fail.
//!
//! - `BENCH_ROUNDS=n` changes the 5 rounds.
//! - `BENCH_10GB=1` measures memory on an image of 10 GB as well, which takes 30 GB of disk.
//! - `BENCH_BESIDE=PATH` puts another build of sealift beside this one.
//! - `cargo bench --bench transfer -- podman` measures only loads into podman, `-- containerd` into containerd,
//!   `-- registries` only what has to do with registries, and `-- load-again` only loads of images that the engine
//!   already has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here ends the run
#![allow(clippy::cast_precision_loss)] // of figures that are printed with two digits

mod measure;
mod plain_hash;
mod registries;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, ExitCode};

use measure::{Cost, median, run_measured};
use support::containerd::{self, Containerd};
use support::podman::{Podman, User, Version};
use support::{Built, Daemon, Engine, Image, Registry, Sealift, Store, large};

const MIB: f64 = 1_048_576.0;

/// The target and the measurement.
struct Report {
    missed: bool,
}

impl Report {
    fn line(&mut self, what: &str, measured: f64, holds: bool, promise: &str) {
        println!(
            "{} {what}: {measured:.2} ({promise})",
            if holds { "ok    " } else { "MISSED" }
        );
        self.missed |= !holds;
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("plain-hash") => {
            plain_hash::run(Path::new(&args[2]));
            ExitCode::SUCCESS
        }
        Some("load-again") => {
            load_again();
            ExitCode::SUCCESS
        }
        Some("podman") => only(load_beside_podman_load),
        Some("containerd") => only(load_beside_ctr_import),
        Some("registries") => only(registries::measure),
        Some("--test") => ExitCode::SUCCESS, // `cargo test --benches`
        _ => measure_all(),
    }
}

fn only(measure: fn(&mut Report)) -> ExitCode {
    let mut report = Report { missed: false };
    measure(&mut report);
    ExitCode::from(u8::from(report.missed))
}

fn measure_all() -> ExitCode {
    let mut report = Report { missed: false };
    let registry = Registry::start();
    let image = large::image();
    println!(
        "{} cores; image of {:.0} MiB in {} layers\n",
        cores(),
        stored(&image),
        image.host().layers.len()
    );
    registry.push(&image, "bench/large:1");
    let reference = format!("{}/bench/large:1", registry.address());
    save_beside_skopeo(&mut report, &registry, &reference);
    verify_quick_beside_plain_hash(&mut report, &reference);
    verify_uses_all_cores(&mut report, &registry);
    memory(&mut report, registry, "bench/large:1", "0.7 GB");
    rebuild_beside_docker_push(&mut report);
    load_again();
    load_beside_podman_load(&mut report);
    load_beside_ctr_import(&mut report);
    registries::measure(&mut report);
    if std::env::var_os("BENCH_10GB").is_some() {
        let (registry, folder) = (Registry::start(), folder());
        registry.push(
            &large::noise(&[2_500_000_000; 4], folder.path(), "huge"),
            "bench/huge:1",
        );
        drop(folder);
        memory(&mut report, registry, "bench/huge:1", "10 GB");
    }
    if report.missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5)
}

fn stored(image: &Built) -> f64 {
    image
        .host()
        .layers
        .iter()
        .map(|layer| layer.size as f64)
        .sum::<f64>()
        / MIB
}

/// A folder on the disk that the images are on.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Runs two commands in turn and gives both medians of the wall time, in seconds.
fn in_turn(mut one: impl FnMut() -> Cost, mut other: impl FnMut() -> Cost) -> (f64, f64) {
    let [one, other] = all_in_turn([&mut one, &mut other]);
    (one, other)
}

/// The same with several.
fn all_in_turn<const N: usize>(mut commands: [&mut dyn FnMut() -> Cost; N]) -> [f64; N] {
    let mut walls = [const { Vec::new() }; N];
    for _ in 0..rounds() {
        for (command, walls) in commands.iter_mut().zip(&mut walls) {
            walls.push(command().wall);
        }
    }
    walls.each_mut().map(|walls| median(walls))
}

/// Prints how long a load of 60 images takes that the engine has, in each store.
fn load_again() {
    let sealift = Sealift::new();
    for number in 0..60 {
        let image = Image::sample("app", &number.to_string());
        image.build(
            &sealift.path("layout"),
            &format!("docker.io/library/app:{number}"),
        );
    }
    for store in [Store::Classic, Store::Containerd] {
        let daemon = Daemon::start(Engine::Docker28, store);
        let docker = format!("unix://{}", daemon.socket().display());
        let load = |program: Option<&str>| {
            let mut command = sealift.command(&["load", "-q", "layout"]);
            command.env("DOCKER_HOST", &docker);
            if let Some(program) = program {
                let mut beside = Command::new(program);
                beside
                    .args(command.get_args())
                    .current_dir(sealift.home())
                    .env_clear();
                let set = command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?)));
                beside.envs(set);
                return run_measured(&mut beside);
            }
            run_measured(&mut command)
        };
        load(None);
        let beside = std::env::var("BENCH_BESIDE").ok();
        let (this, other) = in_turn(|| load(None), || load(beside.as_deref()));
        match beside {
            Some(path) => println!("60 images again, {store:?}: {this:.2} s, {path} {other:.2} s"),
            None => println!("60 images again, {store:?}: {:.2} s", this.min(other)),
        }
    }
}

/// Loads one image into an empty storage.
fn load_beside_podman_load(report: &mut Report) {
    let (registry, image) = (Registry::start(), large::image());
    registry.push(&image, "bench/large:1");
    let reference = format!("{}/bench/large:1", registry.address());
    for version in [Version::Four, Version::Five] {
        let podman = Podman::new(version, User::Root);
        save(&Sealift::new(), &reference, &podman.outside("images.tar"));
        let archive = podman.inside("images.tar");
        let empty = || {
            podman.podman(&["rmi", "--all"]).ok();
        };
        let (sealift, podman_load) = in_turn(
            || {
                empty();
                run_measured(&mut podman.load_command(&["-q", &archive]))
            },
            || {
                empty();
                let mut command = podman.command("podman");
                command
                    .args(podman.storage())
                    .args(["load", "-q", "-i", &archive]);
                run_measured(&mut command)
            },
        );
        println!("load into podman {version:?} {sealift:.2} s, podman load {podman_load:.2} s");
        report.line(
            "load / podman load, wall",
            sealift / podman_load,
            sealift <= podman_load,
            "at most 1.0",
        );
    }
}

/// Loads one image into an empty containerd.
fn load_beside_ctr_import(report: &mut Report) {
    let (registry, image) = (Registry::start(), large::image());
    registry.push(&image, "bench/large:1");
    let reference = format!("{}/bench/large:1", registry.address());
    for version in [containerd::Version::V1_6, containerd::Version::V2_1] {
        let containerd = Containerd::start(version);
        let sealift = Sealift::new();
        save(&sealift, &reference, &containerd.data("images.tar"));
        let archive = containerd.data("images.tar");
        let inside = containerd.data_inside("images.tar");
        let socket = containerd.socket();
        let empty = || {
            let images = containerd.ctr("default", &["images", "ls", "-q"]).ok().stdout;
            let remove = ["images", "rm", "--sync"].into_iter().chain(images.lines());
            containerd.ctr("default", &remove.collect::<Vec<_>>()).ok();
        };
        let mut peak = 0;
        let (ours, ctr_import) = in_turn(
            || {
                let mut load = sealift.command(&["load", "-q", "--to=containerd", "--namespace=default"]);
                load.arg("--containerd-address").arg(&socket).arg(&archive);
                let cost = run_measured(&mut load);
                peak = peak.max(cost.peak);
                empty();
                cost
            },
            || {
                let import = ["images", "import", inside.to_str().unwrap()];
                let cost = run_measured(&mut containerd.ctr_command("default", &import));
                empty();
                cost
            },
        );
        println!("load into containerd {version:?} {ours:.2} s, ctr images import {ctr_import:.2} s");
        report.line(
            "load / ctr images import, wall",
            ours / ctr_import,
            ours <= 0.8 * ctr_import,
            "at most 0.8",
        );
        peak_of(report, "load into containerd", peak);
    }
}

fn save(sealift: &Sealift, reference: &str, archive: &Path) -> Cost {
    let _ = std::fs::remove_file(archive);
    run_measured(&mut sealift.command(&["save", "-q", reference, "-o", archive.to_str().unwrap()]))
}

fn save_beside_skopeo(report: &mut Report, registry: &Registry, reference: &str) {
    let (sealift, folder) = (Sealift::new(), folder());
    let (ours, theirs) = (
        folder.path().join("sealift.tar"),
        folder.path().join("skopeo.tar"),
    );
    let skopeo = || {
        let _ = std::fs::remove_file(&theirs);
        let copy = registry.skopeo("copy", "--src-");
        // skopeo's own arguments, then a sync: it does not wait for the disk by itself.
        let mut command = Command::new("sh");
        command
            .args(["-ec", r#"file=$1; shift; "$@"; sync "$file""#, "sh"])
            .arg(&theirs);
        command.arg(copy.get_program()).args(copy.get_args());
        command.args([
            "--quiet",
            &format!("docker://{reference}"),
            &format!("oci-archive:{}:1", theirs.display()),
        ]);
        run_measured(command.env("TMPDIR", folder.path()))
    };
    let (sealift, skopeo) = in_turn(|| save(&sealift, reference, &ours), skopeo);
    println!("save {sealift:.2} s, skopeo copy {skopeo:.2} s");
    report.line(
        "save / skopeo copy, wall",
        sealift / skopeo,
        sealift <= 0.5 * skopeo,
        "at most 0.5",
    );
}

fn verify_quick_beside_plain_hash(report: &mut Report, reference: &str) {
    let (sealift, folder) = (Sealift::new(), folder());
    let archive = folder.path().join("images.tar");
    save(&sealift, reference, &archive);
    let path = archive.to_str().unwrap();
    let quick = || run_measured(&mut sealift.command(&["verify", "-q", "--quick", path]));
    let plain = || run_measured(Command::new(std::env::current_exe().unwrap()).args(["plain-hash", path]));
    let (quick, plain) = in_turn(quick, plain);
    println!("verify --quick {quick:.3} s, plain hash {plain:.3} s");
    report.line(
        "plain hash / verify --quick, rate",
        plain / quick,
        plain >= 0.95 * quick,
        "at least 0.95",
    );
}

/// Recompressing an image as `docker push` does, beside a push of it to a registry that has nothing. The push does
/// not wait for the disk.
fn rebuild_beside_docker_push(report: &mut Report) {
    let (first, folder) = (Registry::start(), folder());
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    large::build_on(&daemon, "large");
    let reference = format!("{}/bench/large:1", first.address());
    daemon.push("large", &reference);
    drop(first);
    let sealift = Sealift::new().docker(&daemon);
    let archive = folder.path().join("images.tar");
    let mut peak = 0;
    let rebuild = || {
        let _ = std::fs::remove_file(&archive);
        let mut save = sealift.command(&["save", "-q", "--offline", "--from", "docker", &reference]);
        let cost = run_measured(save.args(["--rebuild", "require", "-o"]).arg(&archive));
        peak = peak.max(cost.peak);
        cost
    };
    let push = || {
        let empty = Registry::start();
        let to = format!("{}/bench/large:1", empty.address());
        daemon.docker(&["tag", "large", &to]).ok();
        run_measured(daemon.client().args(["push", "--quiet", &to]))
    };
    let (rebuild, push) = in_turn(rebuild, push);
    println!("save with all layers rebuilt {rebuild:.2} s, docker push {push:.2} s");
    report.line(
        "rebuild / docker push, wall",
        rebuild / push,
        rebuild <= push,
        "at most 1.0",
    );
    peak_of(report, "save with all layers rebuilt", peak);
}

/// Compares a peak of memory, in bytes, with what the design allows.
fn peak_of(report: &mut Report, what: &str, peak: u64) {
    let limit = 32.0 + 4.0 * cores() as f64;
    let peak = peak as f64 / MIB;
    report.line(
        &format!("{what}, peak MiB"),
        peak,
        peak <= limit,
        &format!("at most {limit}"),
    );
}

fn verify_uses_all_cores(report: &mut Report, registry: &Registry) {
    let (sealift, folder) = (Sealift::new(), folder());
    let layers = 2 * cores();
    registry.push(
        &large::image_of(&vec![60_000_000; layers], "equal"),
        "bench/equal:1",
    );
    let archive = folder.path().join("images.tar");
    save(
        &sealift,
        &format!("{}/bench/equal:1", registry.address()),
        &archive,
    );
    let mut ratios: Vec<_> = (0..rounds())
        .map(|_| run_measured(&mut sealift.command(&["verify", "-q", archive.to_str().unwrap()])))
        .map(|cost| cost.cpu / cost.wall / cores() as f64)
        .collect();
    let ratio = median(&mut ratios);
    report.line(
        "verify, processor over wall time a core",
        ratio,
        ratio >= 0.9,
        "at least 0.9",
    );
}

/// The registry goes as soon as it is not needed: of 10 GB there are enough copies at once.
fn memory(report: &mut Report, registry: Registry, name: &str, size: &str) {
    let reference = format!("{}/{name}", registry.address());
    let (sealift, folder) = (Sealift::new(), folder());
    let archive = folder.path().join("images.tar");
    let path = archive.to_str().unwrap();
    let mut check = |what: &str, cost: Cost| peak_of(report, &format!("{what} of {size}"), cost.peak);
    check("save", save(&sealift, &reference, &archive));
    drop(registry);
    check(
        "verify",
        run_measured(&mut sealift.command(&["verify", "-q", path])),
    );
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let sealift = Sealift::new().docker(&daemon);
    check(
        "load",
        run_measured(&mut sealift.command(&["load", "-q", "--attach", "none", path])),
    );
}
