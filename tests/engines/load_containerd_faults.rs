//! Loads into containerd that go wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread::available_parallelism;

use crate::containerd::twin::{Origin, assert_as_pulled, load, load_command, try_load};
use crate::containerd::{Contents, Cri, Events, NAMESPACE, collect_garbage, removed_blobs};
use crate::support::containerd::Version;
use crate::support::{Containerd, Image, Layer, assert_documented, run};

const NAME: &str = "docker.io/library/app:1";

/// An archive of one image whose top layer has 2 MB.
fn archive(origin: &Origin) -> std::path::PathBuf {
    let mut image = Image::sample("app", "1");
    for (_, layers) in &mut image.platforms {
        layers.push(Layer::new().noise("app/large", 7, 2_000_000));
    }
    origin.push(NAME, &image);
    origin.save("app.tar", &[NAME], &[])
}

#[test]
fn a_containerd_that_does_not_run_or_may_not_be_asked() {
    let origin = Origin::new();
    let archive = archive(&origin);
    let mut containerd = Containerd::start(Version::V1_6);
    let socket = containerd.socket().display().to_string();
    let load = load_command(&origin.sealift, &containerd, &archive, &[]);
    let args: Vec<&str> = load.get_args().map(|arg| arg.to_str().unwrap()).collect();
    // Only the socket's own permissions keep the user out.
    for folder in containerd.socket().ancestors().skip(1).take(4) {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011)).unwrap();
    }
    let refused = run(&mut origin.sealift.command_of_another_user(&args)).code(5);
    assert!(refused.stdout.contains("ermission denied"), "{refused:?}");
    assert!(refused.stdout.contains(&socket), "{refused:?}");
    // Its socket stays, and nothing listens there.
    containerd.kill();
    let refused = try_load(&origin.sealift, &containerd, &archive, &[]).code(5);
    assert!(refused.stdout.contains(&socket), "{refused:?}");
    assert!(refused.stdout.contains("is containerd running?"), "{refused:?}");
    fs::remove_file(containerd.socket()).unwrap();
    let refused = try_load(&origin.sealift, &containerd, &archive, &[]).code(5);
    assert!(refused.stdout.contains(&socket), "{refused:?}");
    containerd.start_again();
    try_load(&origin.sealift, &containerd, &archive, &[]).ok();
}

/// Nothing of a damaged archive is named or kept.
fn a_damaged_archive_is_refused(version: Version) {
    let origin = Origin::new();
    let archive = archive(&origin);
    let mut bytes = fs::read(&archive).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let containerd = Containerd::start(version);
    let before = Contents::of(&containerd, NAMESPACE);
    let refused = try_load(&origin.sealift, &containerd, &archive, &[]).code(1);
    assert!(refused.stdout.contains("sha256:"), "{refused:?}");
    collect_garbage(&containerd, NAMESPACE);
    Contents::of(&containerd, NAMESPACE).assert_same(&before, "after a damaged archive");
}

on_every_containerd!(a_damaged_archive_is_refused);

/// containerd unpacks a layer of any size: it gets none to unpack that verification refuses.
fn a_layer_that_is_refused_is_not_unpacked(version: Version) {
    let origin = Origin::new();
    let mut image = Image::sample("app", "1");
    for (_, layers) in &mut image.platforms {
        layers.push(Layer::new().file("app/zeros", "0".repeat(40_000_000)));
    }
    origin.push(NAME, &image);
    let archive = origin.save("app.tar", &[NAME], &[]);
    let containerd = Containerd::start(version);
    let mut events = Events::subscribe(&containerd);
    let refused = try_load(
        &origin.sealift,
        &containerd,
        &archive,
        &["--max-layer-size", "20MB"],
    )
    .code(1);
    assert!(refused.stdout.contains("sha256:"), "{refused:?}");
    let refused = events.since_last();
    load(&origin.sealift, &containerd, &archive, &[]);
    let loaded = events.since_last();
    let snapshots = Contents::of(&containerd, NAMESPACE).snapshots;
    let is_parent = |name: &String| snapshots.values().any(|snapshot| snapshot.parent == *name);
    let large = snapshots.keys().find(|name| !is_parent(name)).unwrap();
    let prepared = |lines: &[String]| {
        let mut lines = lines.iter().filter(|line| line.contains("/snapshot/prepare"));
        lines.any(|line| line.contains(&format!(" {large}\"")))
    };
    assert!(!prepared(&refused), "{refused:#?}");
    assert!(prepared(&loaded), "{loaded:#?}");
}

on_every_containerd!(a_layer_that_is_refused_is_not_unpacked);

/// Layers of an image: some at the bottom, and above them more large ones than are repacked at a time.
fn below_many(bottom: &[Layer]) -> Image {
    let count = u64::try_from(available_parallelism().unwrap().get()).unwrap() + 1;
    let large = (0..count).map(|seed| Layer::new().noise(&format!("noise{seed}"), seed, 2_000_000));
    Image::single(
        [Layer::busybox()]
            .into_iter()
            .chain(bottom.to_vec())
            .chain(large)
            .collect(),
    )
}

/// Layers that are repacked wait for one below them, and that waits for the verification, which waits for them.
fn the_verification_and_the_repacking_do_not_wait_for_each_other(version: Version) {
    let origin = Origin::new();
    let containerd = Containerd::start(version);
    let bad = Layer::new().file("zeros", "0".repeat(40_000_000));
    origin.push(NAME, &below_many(&[bad]));
    let archive = origin.save("bad.tar", &[NAME], &[]);
    try_load(
        &origin.sealift,
        &containerd,
        &archive,
        &["--max-layer-size", "20MB"],
    )
    .code(1);
    assert!(Contents::of(&containerd, NAMESPACE).images.is_empty());

    // An archive has no proof of a layer that it leaves out.
    let base = "docker.io/library/base:1";
    let kept = Layer::new().noise("kept", 99, 2_000_000);
    origin.push(base, &Image::single(vec![Layer::busybox(), kept.clone()]));
    load(
        &origin.sealift,
        &containerd,
        &origin.save("base.tar", &[base], &[]),
        &[],
    );
    let have = origin.sealift.path("have.json").display().to_string();
    let socket = containerd.socket().display().to_string();
    let inventory = [
        "inventory",
        "-q",
        "--containerd-address",
        &socket,
        "--namespace",
        NAMESPACE,
        "-o",
        &have,
    ];
    origin.sealift.run(&inventory).ok();
    origin.push(NAME, &below_many(&[kept]));
    let archive = origin.save("update.tar", &[NAME], &["--have", &have]);
    load(&origin.sealift, &containerd, &archive, &[]);
    assert!(Contents::of(&containerd, NAMESPACE).images.contains_key(NAME));
}

on_every_containerd!(the_verification_and_the_repacking_do_not_wait_for_each_other);

/// What does not fit is refused before anything is sent, also if only the uncompressed layers do not.
fn what_does_not_fit_is_refused(version: Version) {
    let origin = Origin::new();
    let mut image = Image::sample("app", "1");
    for (_, layers) in &mut image.platforms {
        layers.push(Layer::new().file("app/zeros", "0".repeat(20_000_000)));
    }
    origin.push(NAME, &image);
    let archive = origin.save("app.tar", &[NAME], &[]);
    let containerd = Containerd::start_with_disk(version, "16m");
    let before = Contents::of(&containerd, NAMESPACE);
    for more in [&[][..], &["--dry-run"]] {
        let document = try_load(&origin.sealift, &containerd, &archive, more)
            .code(3)
            .json();
        if more.is_empty() {
            assert_eq!(document["error"]["exit"], 3);
            let message = document["error"]["message"].as_str().unwrap();
            assert!(message.starts_with("cannot load into /"), "{message}");
            assert!(message.contains("containerd/root: 2"), "{message}");
            continue;
        }
        assert_documented(&document);
        let room = &document["room"];
        assert!(
            room["path"].as_str().unwrap().ends_with("containerd/root"),
            "{room}"
        );
        assert!(room["needed"].as_u64() > Some(20_000_000), "{room}");
        assert!(room["free"].as_u64() < Some(16 << 20), "{room}");
        assert_eq!(room["refused"], true);
    }
    Contents::of(&containerd, NAMESPACE).assert_same(&before, "after a load that does not fit");
    let socket = containerd.socket().display().to_string();
    let doctor = ["doctor", "--json"].map(str::to_owned);
    let mut doctor = origin.sealift.command(&doctor);
    let examined = run(doctor.env("CONTAINERD_ADDRESS", &socket)).json();
    let mut engines = examined["engines"].as_array().unwrap().iter();
    let found = engines
        .find(|engine| engine["address"] == socket.as_str())
        .unwrap();
    assert!(found["space"]["free"].as_u64() < Some(16 << 20), "{found}");
    // The layers stay packed.
    load(&origin.sealift, &containerd, &archive, &["--no-unpack"]);
    containerd.resize_disk("64m");
    load(&origin.sealift, &containerd, &archive, &[]);
    // What is there already needs no space.
    containerd.resize_disk("32m");
    let plan = load(&origin.sealift, &containerd, &archive, &["--dry-run"]);
    assert_eq!(plan["room"]["needed"], 0);
}

on_every_containerd!(what_does_not_fit_is_refused);

/// A large gzip layer is unpacked from a temporary blob, which is removed then.
fn a_large_layer_is_repacked(version: Version) {
    let origin = Origin::new();
    let archive = archive(&origin);
    let containerd = Containerd::start(version);
    let mut events = Events::subscribe(&containerd);
    load(&origin.sealift, &containerd, &archive, &[]);
    let happened = events.since_last();
    let removed = removed_blobs(&happened);
    // With one processor it would take longer.
    let expected = usize::from(available_parallelism().unwrap().get() > 1);
    assert_eq!(removed.len(), expected, "{happened:#?}");
    let content = Contents::of(&containerd, NAMESPACE).content;
    for digest in removed {
        assert!(!content.contains_key(digest), "{digest}: {content:#?}");
    }
}

on_every_containerd!(a_large_layer_is_repacked);

/// What is sent only to be unpacked faster is left out where it does not fit.
fn a_disk_without_space_for_more(version: Version) {
    let origin = Origin::new();
    let mut image = Image::sample("app", "1");
    for (_, layers) in &mut image.platforms {
        layers.push(Layer::new().noise("app/large", 7, 40_000_000));
    }
    origin.push(NAME, &image);
    let archive = origin.save("app.tar", &[NAME], &[]);
    let containerd = Containerd::start_with_disk(version, "96m");
    let mut events = Events::subscribe(&containerd);
    load(&origin.sealift, &containerd, &archive, &[]);
    let happened = events.since_last();
    assert_eq!(removed_blobs(&happened), [""; 0], "{happened:#?}");
    assert_as_pulled(&containerd, &origin.pulled(version, &[NAME]), &[NAME]);
}

on_every_containerd!(a_disk_without_space_for_more);

/// The disk is full in the middle, because it has no inodes left; with more of them the next run completes.
fn the_disk_of_containerd_is_full(version: Version) {
    let origin = Origin::new();
    let mut image = Image::sample("app", "1");
    for (_, layers) in &mut image.platforms {
        let files = (0..1000).map(|number| format!("app/files/{number}"));
        layers.push(files.fold(Layer::new(), |layer, name| layer.file(&name, "small")));
    }
    origin.push(NAME, &image);
    let archive = origin.save("app.tar", &[NAME], &[]);
    let containerd = Containerd::start_with_disk(version, "64m,nr_inodes=500");
    let refused = try_load(&origin.sealift, &containerd, &archive, &[]).code(3);
    assert!(refused.stdout.contains("no space left on device"), "{refused:?}");
    let left = Contents::of(&containerd, NAMESPACE);
    assert!(left.images.is_empty() && left.leases.is_empty(), "{left:?}");
    containerd.resize_disk("64m,nr_inodes=5000");
    load(&origin.sealift, &containerd, &archive, &[]);
    collect_garbage(&containerd, NAMESPACE);
    assert_as_pulled(&containerd, &origin.pulled(version, &[NAME]), &[NAME]);
}

on_every_containerd!(the_disk_of_containerd_is_full);

/// In either order, both complete, and leave what each would leave alone.
fn a_pull_at_the_same_time(version: Version) {
    let origin = Origin::new();
    let archive = archive(&origin);
    let twin = origin.pulled(version, &[NAME]);
    let containerd = Containerd::start(version);
    containerd.pull_from(&origin.registry);
    let cri = Cri::of(&containerd);
    for round in 0..5 {
        let mut command = load_command(&origin.sealift, &containerd, &archive, &[]);
        let loading = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = cri.pull(NAME).unwrap();
        let loaded = loading.wait_with_output().unwrap();
        assert!(loaded.status.success(), "round {round}: {loaded:?}");
        collect_garbage(&containerd, NAMESPACE);
        assert_as_pulled(&containerd, &twin, &[NAME]);
        cri.remove(&id);
        collect_garbage(&containerd, NAMESPACE);
    }
}

on_every_containerd!(a_pull_at_the_same_time);
