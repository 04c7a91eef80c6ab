//! Loads that go wrong: what is said, and that what was there stays.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sealift::archive::{self, Layout};
use sealift::docker::endpoint::Environment;
use sealift::docker::{self, Docker};
use sealift::error::ErrorKind;
use sealift::image::{Graph, NamedImage};
use sealift::interrupt::Interrupt;
use sealift::load::{Candidate, Candidates, LoadOptions, Target};
use sealift::oci::{Digest, PlatformSelection};
use sealift::progress::{Progress, Silent};

use crate::loading::{Images, Loader, assert_runs};
use crate::support::shared::{Shared, frugal};
use crate::support::{
    Built, Daemon, Dialect, Engine, Folder, Image, Layer, Platform, Registry, Sealift, Store, command, image,
    layer,
};

/// A daemon with `app:1`, and an archive with a good `app:1` of other content before a `bad:1`.
fn before_an_update(engine: Engine, store: Store) -> (Daemon, Images, Built) {
    let old = Images::new();
    old.add("app:1", &Image::sample("app", "old"));
    let daemon = Daemon::start(engine, store);
    Loader::beside(&daemon).load(&old);
    let images = Images::new();
    images.add("app:1", &Image::sample("app", "new"));
    let bad = images.add("bad:1", &Image::sample("bad", "1"));
    (daemon, images, bad)
}

/// Changes one byte in the middle of a blob.
fn damage(image: &Built, digest: &str) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(image.blob(digest))
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

fn a_second_image_that_spoils_leaves_the_first_ones_tag(engine: Engine, store: Store) {
    let (daemon, images, bad) = before_an_update(engine, store);
    let shown = daemon.images();
    let top = bad.host().layers[2].digest.clone();
    let error = Loader::beside(&daemon).with_candidates(&images, |docker, candidates| {
        // Verified, and spoiled after that.
        damage(&bad, &top);
        let inventory = docker.probe(candidates, &LoadOptions::default()).unwrap();
        let plan = docker
            .plan(candidates, &LoadOptions::default(), &inventory)
            .unwrap();
        let applied = docker.apply(candidates, &plan, &Silent, &Interrupt::default());
        applied.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Content);
    assert!(error.to_string().contains(&top), "{error}");
    assert_eq!(daemon.images().len(), shown.len());
    assert_eq!(daemon.images(), shown);
    assert_runs(&daemon, "app:1", "old");
}

on_every_engine!(a_second_image_that_spoils_leaves_the_first_ones_tag);

#[test]
fn a_damaged_image_is_refused_or_left_out() {
    let (daemon, images, bad) = before_an_update(Engine::Docker20, Store::Classic);
    damage(&bad, &bad.host().layers[2].digest);
    let loader = Loader::beside(&daemon);
    let error = loader.try_load(&images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content);
    assert_runs(&daemon, "app:1", "old");
    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let report = loader.try_load(&images, &options).unwrap();
    assert_eq!(
        (report.failure(), report.images.len()),
        (Some(ErrorKind::Content), 1)
    );
    assert_eq!(report.skipped[0].name, "bad:1");
    assert_runs(&daemon, "app:1", "new");
    assert_eq!(daemon.inspect("bad:1"), None);
}

/// A name that two images have moves no tag, and the images beside it can be loaded.
fn a_name_of_two_images_is_given_to_none(engine: Engine, store: Store) {
    let (daemon, images, _) = before_an_update(engine, store);
    images.add("other:1", &Image::sample("other", "1"));
    let index = images.path().join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("library/bad:1", "library/app:1")).unwrap();
    let shown = daemon.images();
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().display().to_string();
    let refused = sealift.run(&["load", &path]).code(1);
    let says = "docker.io/library/app:1 is also the name of sha256:";
    assert_eq!(refused.stderr.matches(says).count(), 2, "{refused:?}");
    assert_eq!(daemon.images(), shown);
    let verified = sealift.run(&["verify", "--json", &path]).code(1).json();
    let good = verified["archives"][0]["images"].as_array().unwrap().iter();
    let good: Vec<bool> = good.map(|image| image["good"].as_bool().unwrap()).collect();
    assert_eq!(good, [false, false, true]);
    let saved = sealift
        .run(&["save", "--from", &path, "other:1", "-o", "other.tar"])
        .code(1);
    assert!(saved.stderr.contains(says), "{saved:?}");
    sealift.run(&["load", "--keep-going", &path]).code(1);
    assert!(daemon.inspect("other:1").is_some());
    let app: Vec<String> = daemon
        .images()
        .into_iter()
        .filter(|line| line.starts_with("app:1 "))
        .collect();
    assert_eq!(app, shown);
}

on_every_engine!(a_name_of_two_images_is_given_to_none);

/// What is offered without having been verified.
fn unverified<'a>(layout: &'a dyn Layout) -> Candidates<'a> {
    let images = layout.entries().iter().map(|entry| {
        let mut fetch = |descriptor: &_| layout.metadata(descriptor);
        Candidate {
            blobs: layout,
            image: NamedImage {
                bare_tag: None,
                reference: entry.reference.clone(),
                graph: Graph::walk(&entry.descriptor, &PlatformSelection::Present, &mut fetch)
                    .unwrap()
                    .into(),
                provenance: sealift::image::provenance::Provenance::default(),
                referrers: Default::default(),
            },
            omitted: Default::default(),
            layer_sizes: Default::default(),
        }
    });
    Candidates {
        images: images.collect(),
        ..Candidates::default()
    }
}

fn the_engines_own_refusal_is_understood(engine: Engine, store: Store) {
    // Right digests, but the second layer is not the tar that the config names.
    let images = Images::new();
    let mut image = Image::sample("bad", "1").without_index();
    image.platforms[0].1[1] = Layer::new().file("app/other", "not this");
    let good = Image::sample("bad", "1").without_index();
    let wrong = image.build(tempfile::tempdir().unwrap().path(), "x");
    let mut layers: Vec<_> = good
        .build(tempfile::tempdir().unwrap().path(), "x")
        .host()
        .layers
        .clone();
    layers[1].diff_id = wrong.host().layers[1].diff_id.clone();
    let built = images.add("bad:1", &good);
    rewrite_config(&images, &built, &layers);

    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    let layout = archive::open(&[images.path()], &archive::Options::default()).unwrap();
    let candidates = unverified(&*layout);
    let docker = loader.connect().unwrap();
    let plan = docker
        .plan(
            &candidates,
            &LoadOptions::default(),
            &docker.probe(&candidates, &LoadOptions::default()).unwrap(),
        )
        .unwrap();
    let error = docker
        .apply(&candidates, &plan, &Silent, &Interrupt::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    let says = match (store, engine) {
        (Store::Classic, _) => "invalid diffID for layer 1",
        (Store::Containerd, Engine::Docker26) => "wrong diff id",
        (Store::Containerd, _) => "Error unpacking image",
    };
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert_eq!(daemon.inspect("bad:1"), None);
}

on_every_engine!(the_engines_own_refusal_is_understood);

/// Puts another config, and a manifest that names it, in place of an image's.
fn rewrite_config(images: &Images, built: &Built, layers: &[layer::BuiltLayer]) {
    let blobs = images.path().join("blobs/sha256");
    let manifest = image::manifest(
        &blobs,
        Dialect::Oci,
        &Platform::host(),
        layers.to_vec(),
        &["x".into()],
    );
    let index = images.path().join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    let text = text.replace(&built.digest, &manifest.digest).replace(
        &format!("\"size\":{}", built.size),
        &format!("\"size\":{}", manifest.size),
    );
    fs::write(index, text).unwrap();
}

/// Does something once the first bytes are on their way.
struct AtFirstBytes<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Progress for AtFirstBytes<F> {
    fn blob_advanced(&self, _: &Digest, _: u64) {
        if let Some(act) = self.0.lock().unwrap().take() {
            act();
        }
    }
}

fn an_engine_that_dies_keeps_its_tags_and_a_second_run_completes(engine: Engine, store: Store) {
    let (mut daemon, images, _) = before_an_update(engine, store);
    let loader = Loader::beside(&daemon);
    let pid = rustix::process::Pid::from_raw(daemon.pid().try_into().unwrap()).unwrap();
    let kill = || rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = loader.with_candidates(&images, |docker, candidates| {
        let inventory = docker.probe(candidates, &LoadOptions::default()).unwrap();
        let plan = docker
            .plan(candidates, &LoadOptions::default(), &inventory)
            .unwrap();
        let progress = AtFirstBytes(Mutex::new(Some(kill)));
        let applied = docker.apply(candidates, &plan, &progress, &Interrupt::default());
        applied.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    assert!(error.hint().is_some(), "{error}");
    daemon.kill();
    daemon.start_again();
    assert_runs(&daemon, "app:1", "old");
    assert_eq!(daemon.inspect("bad:1"), None);
    loader.load(&images);
    assert_runs(&daemon, "app:1", "new");
    assert_runs(&daemon, "bad:1", "1");
}

on_every_engine!(an_engine_that_dies_keeps_its_tags_and_a_second_run_completes);

fn a_full_disk_of_the_engine_is_told(engine: Engine, store: Store) {
    let small = Images::new();
    small.add("app:1", &Image::sample("app", "old"));
    let large = Images::new();
    let layer = Layer::busybox().noise("app/large", 7, 60 << 20);
    large.add("app:1", &Image::single(vec![layer]));
    let daemon = Daemon::options(engine, store).disk("400m").start();
    let loader = Loader::beside(&daemon);
    loader.load(&small);
    let shown = daemon.images();
    let error = loader.with_candidates(&large, |docker, candidates| {
        let inventory = docker.probe(candidates, &LoadOptions::default()).unwrap();
        let plan = docker
            .plan(candidates, &LoadOptions::default(), &inventory)
            .unwrap();
        // Someone else fills the disk meanwhile.
        daemon.resize_disk("48m");
        let applied = docker.apply(candidates, &plan, &Silent, &Interrupt::default());
        applied.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no space left on device"), "{error}");
    assert!(
        error.hint().unwrap().to_string().contains("free space"),
        "{error}"
    );
    assert_eq!(daemon.images(), shown);
    assert_runs(&daemon, "app:1", "old");
}

on_every_engine!(a_full_disk_of_the_engine_is_told);

#[test]
fn an_interrupt_ends_the_stream_and_names_nothing() {
    let (daemon, images, _) = before_an_update(Engine::Docker20, Store::Classic);
    let interrupt = Interrupt::default();
    let cleaned = std::sync::Arc::new(AtomicBool::new(false));
    let flag = cleaned.clone();
    let _guard = interrupt.on_stop(move || flag.store(true, Ordering::SeqCst));
    let error = Loader::beside(&daemon).with_candidates(&images, |docker, candidates| {
        let inventory = docker.probe(candidates, &LoadOptions::default()).unwrap();
        let plan = docker
            .plan(candidates, &LoadOptions::default(), &inventory)
            .unwrap();
        let progress = AtFirstBytes(Mutex::new(Some(|| interrupt.stop())));
        docker
            .apply(candidates, &plan, &progress, &interrupt)
            .unwrap_err()
    });
    assert!(matches!(error, sealift::Error::Interrupted), "{error}");
    assert!(cleaned.load(Ordering::SeqCst));
    assert_runs(&daemon, "app:1", "old");
    assert_eq!(daemon.inspect("bad:1"), None);
}

#[test]
fn podman_is_recognised() {
    let folder = Folder::new();
    let socket = folder.path().join("podman.sock");
    let mut command = command::clean("/usr/bin/podman", folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    command
        .args([
            "--root",
            &at("root"),
            "--runroot",
            &at("run"),
            "--storage-driver",
            "vfs",
        ])
        .args(["system", "service", "--time", "0"])
        .arg(format!("unix://{}", socket.display()));
    let mut podman = folder.spawn(&mut command, &folder.path().join("podman.log"));
    let until = Instant::now() + Duration::from_secs(30);
    // The socket is there before it listens.
    while UnixStream::connect(&socket).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let options = docker::Options {
        environment: Environment {
            host: Some(format!("unix://{}", socket.display())),
            ..Environment::default()
        },
        ..docker::Options::default()
    };
    let Err(error) = Docker::connect(&options) else {
        panic!("podman is not Docker")
    };
    assert!(
        error.to_string().contains("podman answers on this socket"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Engine);
    podman.kill().unwrap();
    podman.wait().unwrap();
}

#[test]
fn tcp_with_tls_of_both_sides() {
    let registry = Registry::options().client_certs().start();
    let certs = tempfile::tempdir().unwrap();
    let (cert, key) = registry.client_cert();
    for (from, to) in [
        (registry.ca_file(), "ca.pem"),
        (cert, "cert.pem"),
        (key, "key.pem"),
    ] {
        fs::copy(from, certs.path().join(to)).unwrap();
    }
    let of_server = |name: &str| registry.certs_dir().with_file_name(name);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .flag(&format!("--host=tcp://127.0.0.1:{port}"))
        .flag("--tlsverify")
        .file_flag("--tlscacert", &registry.ca_file())
        .file_flag("--tlscert", &of_server("server.crt"))
        .file_flag("--tlskey", &of_server("server.key"))
        .start();
    let environment = |cert_path: Option<&Path>| Environment {
        host: Some(format!("tcp://127.0.0.1:{port}")),
        cert_path: cert_path.map(Into::into),
        tls_verify: true,
        config: Some("/nonexistent".into()),
        ..Environment::default()
    };
    let images = Images::new();
    images.add("app:1", &Image::sample("app", "1"));
    let loader = Loader::at(environment(Some(certs.path())));
    let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
    assert_runs(&daemon, "app:1", "1");
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    assert!(
        report.images[0].obstacles[0].reason.contains("over the network"),
        "{report:?}"
    );

    // Spoken to without TLS it answers 400.
    let plain = Environment {
        tls_verify: false,
        ..environment(None)
    };
    let error = Loader::at(plain).connect().err().unwrap();
    assert!(error.to_string().contains("it speaks TLS"), "{error}");
    assert!(
        error.hint().unwrap().to_string().contains("DOCKER_TLS_VERIFY=1"),
        "{error}"
    );

    // Without a certificate of ours, and without the CA's, nothing is said to either side.
    fs::remove_file(certs.path().join("cert.pem")).unwrap();
    assert_eq!(
        loader.connect().err().map(|error| error.kind()),
        Some(ErrorKind::Engine)
    );
    let error = Loader::at(environment(None)).connect().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.hint().unwrap().to_string().contains("ca.pem"), "{error}");
}

/// A plan holds each document once, however many names lead to it.
fn a_plan_of_many_names_fits_into_memory(engine: Engine, store: Store) {
    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let shared = Shared::new(&sealift.path("layout"));
    for names in [600, 5_000] {
        shared.name((0..names).map(|name| (format!("a:{name}"), shared.manifest.clone())));
        let plan = frugal(&sealift, &["load", "--jobs", "2", "--dry-run", "layout"]).ok();
        assert!(plan.stdout.contains("send 1 layer, "), "{plan:?}");
    }
    shared.name((0..600).map(|number| (format!("a:{number}"), shared.index(number))));
    frugal(&sealift, &["load", "--jobs", "2", "--dry-run", "layout"]).ok();
}

on_every_engine!(a_plan_of_many_names_fits_into_memory);
