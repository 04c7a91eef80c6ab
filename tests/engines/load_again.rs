//! Loading images that the engine already has: the report, and the number of requests to the engine.

use serde_json::{Value, json};

use crate::loading::{Images, Loader};
use crate::support::{Daemon, Engine, Image, Run, Sealift, Store};

fn told(said: &Value, at: usize) -> Value {
    json!(["name", "change", "moved_from"].map(|key| said["images"][at][key].clone()))
}

/// A name is new, has moved from another image, or names this one already.
fn what_became_of_each_name(engine: Engine, store: Store) {
    let (one, two) = (Images::new(), Images::new());
    one.add("app:1", &Image::sample("app", "1"));
    one.add("kept:1", &Image::sample("kept", "1"));
    two.add("app:1", &Image::sample("app", "2"));
    two.add("kept:1", &Image::sample("kept", "1"));
    two.add("more:1", &Image::sample("more", "1"));
    let alone = two.add_by_digest("alone", &Image::sample("alone", "1"));
    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let load = |images: &Images, more: &[&str]| {
        let path = images.path();
        sealift
            .run(&[&["load", path.to_str().unwrap()][..], more].concat())
            .ok()
    };
    let said = load(&one, &["--json"]).json();
    assert_eq!(told(&said, 0), json!(["app:1", "new", null]));
    let before = daemon.inspect("app:1").unwrap()["Id"]
        .as_str()
        .unwrap()
        .to_owned();

    let alone = format!("alone@{}", alone.digest);
    let expected = json!([
        ["app:1", "moved", before],
        ["kept:1", "unchanged", null],
        ["more:1", "new", null],
        [alone, "new", null],
    ]);
    let plan = load(&two, &["--dry-run", "--json"]).json();
    assert_eq!(json!([0, 1, 2, 3].map(|at| told(&plan, at))), expected);
    let text = load(&two, &["--dry-run"]).stdout;
    assert!(
        text.contains(&format!("tag     app:1 (names {before} now)")),
        "{text}"
    );
    let text = load(&two, &[]).stdout;
    let short = &before["sha256:".len()..][..12];
    for line in [
        format!("yes     moved from {short}"),
        "yes     unchanged".into(),
        "yes     new".into(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }

    let again = load(&two, &["--json"]).json();
    for at in 0..4 {
        assert_eq!(again["images"][at]["change"], "unchanged", "{again}");
    }
}

on_every_engine!(what_became_of_each_name);

/// Docker has no place for what refers to an image: it gets nothing of that, and the load says so.
fn what_refers_to_an_image_is_reported_as_dropped(engine: Engine, store: Store) {
    let daemon = Daemon::start(engine, store);
    let sealift = Sealift::new().docker(&daemon);
    let signed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/testdata/signatures/archives/r1.tar.gz"
    );
    let plan = sealift
        .run(&["load", signed, "--attach", "none", "--dry-run"])
        .ok();
    let without = plan.stdout.lines().filter(|line| line.starts_with("  without "));
    assert!(
        without.count() > 1 && plan.stdout.contains(": Docker's "),
        "{plan:?}"
    );
    let said = sealift.run(&["load", signed, "--attach", "none"]).ok();
    let note = said.stderr.lines().find(|line| line.contains("not kept: "));
    let reason = match store {
        Store::Classic => "Docker's classic store keeps no signatures, SBOMs or attestations",
        Store::Containerd => "Docker's containerd store takes them for images, or loses them",
    };
    assert!(
        note.unwrap().ends_with(&format!(" of acme/app:1.0: {reason}")),
        "{said:?}"
    );
    let again = sealift
        .run(&["load", signed, "--attach", "none", "--json"])
        .ok()
        .json();
    let referrers = &again["images"][0]["referrers"];
    assert_eq!(referrers["shown"], json!({}), "{again:#}");
    let dropped = referrers["dropped"].as_array().unwrap().iter();
    let dropped: u64 = dropped.map(|one| one["count"].as_u64().unwrap()).sum();
    // Those of the index, and of the manifest that is loaded.
    assert_eq!(
        dropped,
        if cfg!(target_arch = "x86_64") { 9 } else { 6 },
        "{again:#}"
    );
    // Hidden images are counted here.
    let counted = daemon
        .docker(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"])
        .ok()
        .stdout;
    assert_eq!(counted.lines().next(), Some("Images 1"), "{counted}");
}

on_every_engine!(what_refers_to_an_image_is_reported_as_dropped);

/// Requests about images that a daemon has logged.
fn asked(daemon: &Daemon) -> usize {
    let log = daemon.log();
    let is_request = |line: &&str| line.contains("GET") && line.contains("/images/");
    log.lines().filter(is_request).count()
}

/// The engine is not asked about each image in turn where a list tells of all.
fn a_load_of_what_is_there_asks_once(engine: Engine, store: Store) {
    let mut counts = Vec::new();
    for images in [2, 9] {
        let daemon = Daemon::options(engine, store)
            .config(json!({ "debug": true }))
            .start();
        let many = Images::new();
        for number in 0..images {
            many.add(
                &format!("app{number}:1"),
                &Image::sample("app", &number.to_string()),
            );
        }
        let loader = Loader::beside(&daemon);
        loader.load(&many);
        let before = asked(&daemon);
        assert!(before > 0, "{}", daemon.log());
        let report = loader.load(&many);
        assert_eq!(report.sent, 0);
        counts.push(asked(&daemon) - before);
    }
    // What does not tell its content is asked for the layers of each image, and for nothing else.
    let is_told = engine == Engine::Docker28 && store == Store::Containerd;
    let expected = counts[0] + if is_told { 0 } else { 7 };
    assert_eq!(counts[1], expected, "{counts:?}");
    assert!(counts[0] <= if is_told { 3 } else { 5 }, "{counts:?}");
}

on_every_engine!(a_load_of_what_is_there_asks_once);

/// Names of one digest in one repository have one row, as `docker images --digests` has one line, and images are
/// counted, not names.
fn a_digest_has_one_row(engine: Engine, store: Store) {
    let sealift = Sealift::new();
    let images = Images::new();
    let image = Image::sample("app", "1");
    let digest = images.add("app:1", &image).digest;
    images.add_by_digest("app:1", &image);
    images.add_by_digest("app", &image);
    images.add("web:1", &image);
    let path = images.path();
    let path = path.to_str().unwrap();
    let daemon = Daemon::start(engine, store);
    let sealift = sealift.docker(&daemon);
    let rows = |said: &Run| said.stdout.lines().filter(|line| line.contains(&digest)).count();
    let save = [
        "save",
        "-o",
        "all.tar",
        "--offline",
        "--from",
        path,
        "app:1",
        "web:1",
        &format!("app:1@{digest}"),
        &format!("app@{digest}"),
    ];
    assert_eq!(rows(&sealift.run(&save).ok()), 2);
    let listed = sealift.run(&["list", "all.tar"]).ok();
    let names = listed.stdout.lines().filter(|line| line.contains("  index "));
    assert_eq!(names.count(), 2, "{listed:?}");
    let listed = sealift.run(&["list", "--json", "all.tar"]).ok().json();
    assert_eq!(listed["archives"][0]["images"].as_array().unwrap().len(), 4);
    let pinned = format!("app:1@{digest}");
    let both = [
        "load",
        "all.tar",
        "--image",
        &pinned,
        "--image",
        &format!("app@{digest}"),
    ];
    let said = sealift.run(&both).ok();
    assert_eq!(rows(&said), 1, "{said:?}");
    assert!(said.stdout.contains("\n1 image in "), "{said:?}");
    let said = sealift.run(&["load", "all.tar"]).ok();
    assert_eq!(rows(&said), 2, "{said:?}");
    assert!(said.stdout.contains("\n1 image with 2 names in "), "{said:?}");
}

on_every_engine!(a_digest_has_one_row);
