//! Loading into containerd, compared with a containerd whose kubelet pulled.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::containerd::twin::{Origin, assert_as_pulled, assert_runs, load, size, try_load};
use crate::containerd::{Contents, Cri, NAMESPACE, SOURCE, collect_garbage};
use crate::support::containerd::{PAUSE, Version};
use crate::support::{Compression, Containerd, Dialect, Image, Layer, Platform, Sealift};

const APP: &str = "docker.io/library/app";

/// By tag, by digest and by both; of several registries, with every kind of layer and manifest, some of them shared.
fn everything_is_as_after_a_pull(version: Version) {
    let origin = Origin::new();
    let app = origin.push("docker.io/library/app:1", &Image::sample("app", "1"));
    let update = origin.push("docker.io/library/app:2", &Image::sample("app", "2"));
    // The same image in another registry: its blobs have two sources.
    origin.push("quay.io/team/app:1", &Image::sample("app", "1"));
    let docker = origin.push(
        "registry.example.com:5000/redis:7",
        &Image::sample("redis", "7").dialect(Dialect::Docker),
    );
    let single = origin.push("ghcr.io/a/b/tool:1", &Image::sample("tool", "1").without_index());
    let layer = Layer::new()
        .file("app/version", "9")
        .compression(Compression::Zstd);
    let base = Layer::busybox().file("zstd", "").compression(Compression::Zstd);
    origin.push("docker.io/team/zstd:1", &Image::single(vec![base, layer]));
    let plain = Layer::busybox().file("plain", "").compression(Compression::Plain);
    origin.push("docker.io/team/plain:1", &Image::single(vec![plain]));
    let references = [
        format!("{APP}:1"),
        format!("{APP}:2@{}", update.digest),
        "quay.io/team/app:1".into(),
        format!("registry.example.com:5000/redis@{}", docker.digest),
        format!("ghcr.io/a/b/tool:1@{}", single.digest),
        "docker.io/team/zstd:1".into(),
        "docker.io/team/plain:1".into(),
    ];
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    let archive = origin.save("all.tar", &references, &[]);

    let loaded = Containerd::start(version);
    load(&origin.sealift, &loaded, &archive, &[]);
    // What a pull by tag and digest leaves has the digest only.
    let by_digest: Vec<String> = references
        .iter()
        .map(|name| match name.split_once('@') {
            Some((name, digest)) => {
                let (repository, tag) = name.rsplit_once(':').unwrap_or((name, ""));
                let repository = if tag.contains('/') { name } else { repository };
                format!("{}@{digest}", if tag.is_empty() { name } else { repository })
            }
            None => (*name).to_owned(),
        })
        .collect();
    let names: Vec<&str> = by_digest.iter().map(String::as_str).collect();
    let pulled = origin.pulled(version, &references);
    assert_as_pulled(&loaded, &pulled, &names);

    let before = Contents::of(&loaded, NAMESPACE);
    // Every repository of a shared layer is a source of it for mirrors.
    let shared = before.content[&app.host().layers[0].digest].labels.iter();
    let shared: Vec<_> = shared
        .filter_map(|(key, names)| Some((key.strip_prefix(SOURCE)?, names.as_str())))
        .collect();
    let expected = [
        ("docker.io", "library/app"),
        ("ghcr.io", "a/b/tool"),
        ("quay.io", "team/app"),
        ("registry.example.com", "redis"),
    ];
    assert_eq!(shared, expected);
    collect_garbage(&loaded, NAMESPACE);
    Contents::of(&loaded, NAMESPACE).assert_same(&before, "after garbage collection");
    // The kubelet removes them as it removes what it pulled.
    let cri = Cri::of(&loaded);
    cri.remove_unpinned();
    collect_garbage(&loaded, NAMESPACE);
    let left = Contents::of(&loaded, NAMESPACE);
    assert!(
        left.images.is_empty() && left.content.is_empty() && left.snapshots.is_empty(),
        "{left:#?}"
    );
}

on_every_containerd!(everything_is_as_after_a_pull);

/// The registry is gone; images have a tag, or only a digest, or are not unpacked yet.
fn containers_start_offline(version: Version) {
    let mut origin = Origin::new();
    origin.push_pause();
    let app = origin.push(&format!("{APP}:1"), &Image::sample("app", "1"));
    let web = origin.push(
        "quay.io/team/web:2",
        &Image::sample("web", "2").compression(Compression::Zstd),
    );
    let later = origin.push(&format!("{APP}:3"), &Image::sample("app", "3"));
    let by_digest = format!("quay.io/team/web@{}", web.digest);
    let archive = origin.save("all.tar", &[PAUSE, &format!("{APP}:1"), &by_digest], &[]);
    let packed = origin.save("packed.tar", &[&format!("{APP}:3")], &[]);
    origin.registry.stop();

    let mut loaded = Containerd::start(version);
    loaded.pull_from(&origin.registry);
    load(&origin.sealift, &loaded, &archive, &[]);
    let unpacked = Contents::of(&loaded, NAMESPACE).snapshots;
    load(&origin.sealift, &loaded, &packed, &["--no-unpack"]);
    assert_eq!(Contents::of(&loaded, NAMESPACE).snapshots, unpacked);
    let runs = |loaded: &Containerd| {
        let cri = Cri::of(loaded);
        cri.wait_until("all there", |cri| cri.images().len() == 4);
        assert_runs(&cri, &format!("{APP}:1"), "1");
        assert_runs(&cri, &format!("{APP}@{}", app.digest), "1");
        assert_runs(&cri, &app.host().config, "1");
        assert_runs(&cri, &by_digest, "2");
        assert_runs(&cri, &format!("{APP}:3"), "3");
        assert_runs(&cri, &format!("{APP}@{}", later.digest), "3");
    };
    runs(&loaded);
    loaded.stop();
    loaded.start_again();
    runs(&loaded);
}

on_every_containerd!(containers_start_offline);

/// What the kubelet removes when its disk is full.
fn pinned_images_stay(version: Version) {
    let mut origin = Origin::new();
    origin.push_pause();
    let kept = origin.push(&format!("{APP}:1"), &Image::sample("app", "1"));
    origin.push(&format!("{APP}:2"), &Image::sample("app", "2"));
    let pinned = origin.save("pinned.tar", &[PAUSE, &format!("{APP}:1")], &[]);
    let other = origin.save("other.tar", &[&format!("{APP}:2")], &[]);
    origin.registry.stop();
    let loaded = Containerd::start(version);
    let report = load(&origin.sealift, &loaded, &pinned, &["--pin"]);
    let warnings = report["warnings"].as_array().map_or(0, Vec::len);
    assert_eq!(warnings, usize::from(version == Version::V1_6), "{report:#}");
    let expected = Contents::of(&loaded, NAMESPACE);
    for (name, record) in &expected.images {
        assert_eq!(record.labels["io.cri-containerd.pinned"], "pinned", "{name}");
        assert_eq!(record.labels["io.cri-containerd.image"], "managed", "{name}");
    }
    load(&origin.sealift, &loaded, &other, &[]);
    let cri = Cri::of(&loaded);
    cri.wait_until("all there", |cri| cri.images().len() == 3);
    if version == Version::V1_6 {
        // It knows the label of its sandbox image only, and tells the kubelet of no pinned image.
        assert!(
            cri.images().iter().all(|image| image["pinned"] == false),
            "{:#?}",
            cri.images()
        );
        return;
    }
    let is_pinned = |cri: &Cri, name: &str| cri.image(name).unwrap()["pinned"].clone();
    cri.wait_until("pinned", |cri| is_pinned(cri, &format!("{APP}:1")) == true);
    assert_eq!(is_pinned(&cri, &format!("{APP}:2")), false);
    cri.remove_unpinned();
    collect_garbage(&loaded, NAMESPACE);
    Contents::of(&loaded, NAMESPACE).assert_same(&expected, "after the kubelet's collection");
    assert_runs(&cri, &format!("{APP}@{}", kept.digest), "1");
    // Loaded once more without the option, it stays pinned.
    load(&origin.sealift, &loaded, &pinned, &[]);
    Contents::of(&loaded, NAMESPACE).assert_same(&expected, "after a load without --pin");
}

on_every_containerd!(pinned_images_stay);

fn a_second_load_sends_nothing_and_an_update_one_layer(version: Version) {
    let origin = Origin::new();
    let first = origin.push(&format!("{APP}:1"), &Image::sample("app", "1"));
    let update = origin.push(&format!("{APP}:2"), &Image::sample("app", "2"));
    let old = origin.save("old.tar", &[&format!("{APP}:1")], &[]);
    let new = origin.save("new.tar", &[&format!("{APP}:2")], &[]);
    let loaded = Containerd::start(version);
    let report = load(&origin.sealift, &loaded, &old, &[]);
    assert_eq!(report["images"][0]["change"], "new", "{report}");
    let contents = Contents::of(&loaded, NAMESPACE);
    let total: i64 = contents.content.values().map(|blob| blob.size).sum();
    assert_eq!(report["sent"], json!(total));

    let plan = load(&origin.sealift, &loaded, &old, &["--dry-run"]);
    assert_eq!(plan["images"][0]["digest"], first.digest.as_str(), "{plan}");
    let again = load(&origin.sealift, &loaded, &old, &[]);
    assert_eq!(again["sent"], 0, "{again}");
    assert_eq!(again["images"][0]["change"], "unchanged", "{again}");
    Contents::of(&loaded, NAMESPACE).assert_same(&contents, "after a second load");

    // As if containerd had been killed when it had unpacked the layer, before it labelled the blob.
    let host = update.host();
    let base = &host.layers[0].digest;
    loaded
        .ctr(
            NAMESPACE,
            &["content", "label", base, "containerd.io/uncompressed="],
        )
        .ok();
    let labels = &Contents::of(&loaded, NAMESPACE).content[base].labels;
    assert!(!labels.contains_key("containerd.io/uncompressed"), "{labels:?}");

    let report = load(&origin.sealift, &loaded, &new, &[]);
    let top = host.layers.last().unwrap();
    let documents = [&update.digest, &host.digest, &host.config];
    let sent = top.size + documents.map(|digest| size(&update, digest)).iter().sum::<u64>();
    assert_eq!(report["sent"], sent, "{report}");
    let after = Contents::of(&loaded, NAMESPACE);
    let added: BTreeSet<&str> = after
        .content
        .keys()
        .filter(|digest| !contents.content.contains_key(*digest))
        .map(String::as_str)
        .collect();
    let mut expected: BTreeSet<&str> = documents.map(String::as_str).into();
    expected.insert(&top.digest);
    assert_eq!(added, expected);
    assert_eq!(after.snapshots.len(), contents.snapshots.len() + 1);
    let pulled = origin.pulled(version, &[&format!("{APP}:1"), &format!("{APP}:2")]);
    assert_as_pulled(&loaded, &pulled, &[&format!("{APP}:1"), &format!("{APP}:2")]);
}

on_every_containerd!(a_second_load_sends_nothing_and_an_update_one_layer);

/// An archive of two of three platforms, in which this host's is there, and one in which it is not.
fn subsets_of_platforms(version: Version) {
    let origin = Origin::new();
    let (host, foreign) = (Platform::host().to_string(), Platform::foreign().to_string());
    let image = Image::of_platforms(&["linux/s390x", &foreign, &host]);
    let built = origin.push(&format!("{APP}:1"), &image);
    let tag = format!("{APP}:1");
    let both = origin.save("both.tar", &[&tag], &["--platform", &format!("{host},{foreign}")]);
    let other = origin.save("other.tar", &[&tag], &["--platform", &foreign]);

    let loaded = Containerd::start(version);
    load(&origin.sealift, &loaded, &both, &[]);
    let pulled = origin.pulled(version, &[&tag]);
    assert_as_pulled(&loaded, &pulled, &[&tag]);
    drop(pulled);
    // CRI shows the index for this host's image, which is there.
    load(&origin.sealift, &loaded, &both, &["--platform", &foreign]);

    let loaded = Containerd::start(version);
    let refused = try_load(&origin.sealift, &loaded, &other, &[]).code(7);
    assert!(refused.stderr.contains(&foreign), "{refused:?}");
    assert!(Contents::of(&loaded, NAMESPACE).content.is_empty());
    // Asked for, it is loaded, though this host cannot run it, and CRI does not show it.
    let said = try_load(&origin.sealift, &loaded, &other, &["--platform", &foreign]).code(6);
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["images"][0]["shown"], false);
    assert_eq!(said["images"][0]["obstacles"].as_array().unwrap().len(), 1);
    let cri = Cri::of(&loaded);
    assert!(cri.images().is_empty());
    let contents = Contents::of(&loaded, NAMESPACE);
    let of_platform = built.of(&Platform::foreign());
    let mut expected: BTreeSet<&str> = [&built.digest, &of_platform.digest, &of_platform.config]
        .map(String::as_str)
        .into();
    expected.extend(of_platform.layers.iter().map(|layer| layer.digest.as_str()));
    assert_eq!(
        contents
            .content
            .keys()
            .map(String::as_str)
            .collect::<BTreeSet<_>>(),
        expected
    );
    collect_garbage(&loaded, NAMESPACE);
    Contents::of(&loaded, NAMESPACE).assert_same(&contents, "after garbage collection");

    // Without an index, CRI shows it.
    let single = format!("{APP}:single");
    origin.push(&single, &Image::of_platforms(&[&foreign]).without_index());
    let single = origin.save("single.tar", &[&single], &[]);
    load(&origin.sealift, &loaded, &single, &[]);
    assert_eq!(cri.images().len(), 1);
}

on_every_containerd!(subsets_of_platforms);

/// Names that lead elsewhere afterwards, and names that stay.
fn a_moved_tag_moves_and_other_names_stay(version: Version) {
    let origin = Origin::new();
    let latest = format!("{APP}:latest");
    let first = origin.push(&latest, &Image::sample("app", "1"));
    origin.push("docker.io/library/other:9", &Image::sample("other", "9"));
    let one = origin.save("one.tar", &[&latest, "docker.io/library/other:9"], &[]);
    let before = origin.pulled(version, &[&latest, "docker.io/library/other:9"]);
    let loaded = Containerd::start(version);
    load(&origin.sealift, &loaded, &one, &[]);
    let second = origin.push(&latest, &Image::sample("app", "2"));
    let two = origin.save("two.tar", &[&latest], &[]);
    let report = load(&origin.sealift, &loaded, &two, &[]);
    assert_eq!(report["images"][0]["change"], "moved", "{report}");
    Cri::of(&before).pull(&latest).unwrap();
    let by_digest = [&first, &second].map(|image| format!("{APP}@{}", image.digest));
    assert_as_pulled(&loaded, &before, &[&latest, &by_digest[0], &by_digest[1]]);
}

on_every_containerd!(a_moved_tag_moves_and_other_names_stay);

/// The archive lost the manifest and recorded its digest; containerd has pulled the image.
fn an_image_with_its_own_manifest_is_not_replaced(version: Version) {
    let origin = Origin::new();
    let tag = format!("{APP}:1");
    let own = origin.push(&tag, &Image::sample("app", "1"));
    let pulled = origin.pulled(version, &[&tag]);
    let before = Contents::of(&pulled, NAMESPACE);
    // The same config and layers, and so the same image, in another form.
    let other = Image::sample("app", "1").compression(Compression::Zstd);
    let lost = other.build(&origin.sealift.path("lost"), &tag);
    assert_ne!(lost.digest, own.digest);
    let index = origin.sealift.path("lost").join("index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let annotations = &mut document["manifests"][0]["annotations"];
    annotations["dev.sealift.recorded"] = json!(own.digest);
    let because = json!({ "manifest": { "from": "stand-in", "reason": "it was lost" }, "layers": {} });
    annotations["dev.sealift.provenance"] = json!(because.to_string());
    fs::write(&index, document.to_string()).unwrap();
    let said = try_load(&origin.sealift, &pulled, &origin.sealift.path("lost"), &[]);
    let report = said.json();
    let image = &report["images"][0];
    assert_eq!(
        (&report["sent"], &image["change"], &image["shown"]),
        (&json!(0), &json!("unchanged"), &json!(true)),
        "{report:#}"
    );
    Contents::of(&pulled, NAMESPACE).assert_same(&before, "after the load");
}

on_every_containerd!(an_image_with_its_own_manifest_is_not_replaced);

/// The namespace of containerd's own clients, where the kubelet sees nothing.
fn the_default_namespace(version: Version) {
    let origin = Origin::new();
    let image = origin.push(&format!("{APP}:1"), &Image::sample("app", "1"));
    let archive = origin.save("app.tar", &[&format!("{APP}:1")], &[]);
    let loaded = Containerd::start(version);
    load(&origin.sealift, &loaded, &archive, &["--namespace", "default"]);
    let contents = Contents::of(&loaded, "default");
    assert_eq!(contents.images[&format!("{APP}:1")].digest, image.digest);
    assert!(
        contents.leases.is_empty() && contents.ingests.is_empty(),
        "{contents:#?}"
    );
    collect_garbage(&loaded, "default");
    Contents::of(&loaded, "default").assert_same(&contents, "after garbage collection");
    let checked = loaded.ctr("default", &["images", "check"]).ok().stdout;
    let line = checked
        .lines()
        .find(|line| line.starts_with(&format!("{APP}:1 ")))
        .unwrap();
    assert!(
        line.contains("complete (5/5)") || line.contains("complete (4/4)"),
        "{checked}"
    );
    assert!(line.trim_end().ends_with("true"), "{checked}");
    // It names a cgroup of the host, and other tests run at the same time.
    let id = format!("test-{}-{version:?}", std::process::id());
    let command = [
        "run",
        "--rm",
        &format!("{APP}:1"),
        &id,
        "/bin/busybox",
        "cat",
        "/app/version",
    ];
    assert_eq!(loaded.ctr("default", &command).ok().stdout, "1");
    let other = Contents::of(&loaded, NAMESPACE);
    assert!(other.images.is_empty() && other.content.is_empty(), "{other:#?}");
    assert_eq!(Cri::of(&loaded).images(), [json!(null); 0]);
}

on_every_containerd!(the_default_namespace);

/// Signatures, SBOMs and attestations of an image: nothing but labels keeps them.
fn what_refers_to_an_image_stays_as_long_as_it(version: Version) {
    const REFERRER: &str = "containerd.io/gc.ref.content.referrer.sha256.";
    let sealift = Sealift::new();
    let loaded = Containerd::start(version);
    let signed = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures/archives/r1.tar.gz");
    let report = load(&sealift, &loaded, &signed, &[]);
    let image = &report["images"][0];
    let shown = image["referrers"]["shown"].as_object().unwrap();
    let shown: u64 = shown.values().map(|count| count.as_u64().unwrap()).sum();
    // Those of the index, and of the manifest that is loaded.
    assert_eq!(
        shown,
        if cfg!(target_arch = "x86_64") { 9 } else { 6 },
        "{image:#}"
    );
    let contents = Contents::of(&loaded, NAMESPACE);
    let labels = contents.content.values().flat_map(|blob| &blob.labels);
    let referrers: Vec<(&String, &String)> = labels.filter(|(key, _)| key.starts_with(REFERRER)).collect();
    assert_eq!(referrers.len() as u64, shown, "{referrers:?}");
    for (key, digest) in referrers {
        assert_eq!(key[REFERRER.len()..], digest["sha256:".len()..][..12]);
        assert!(contents.content.contains_key(digest), "{digest}");
    }
    // Nothing of it is an image.
    let cri = Cri::of(&loaded);
    assert_eq!(cri.images().len(), 1);
    collect_garbage(&loaded, NAMESPACE);
    Contents::of(&loaded, NAMESPACE).assert_same(&contents, "after garbage collection");
    let again = load(&sealift, &loaded, &signed, &[]);
    assert_eq!(
        (&again["sent"], &again["changed"]),
        (&json!(0), &json!(false)),
        "{again:#}"
    );
    Contents::of(&loaded, NAMESPACE).assert_same(&contents, "after a second load");
    cri.remove_unpinned();
    collect_garbage(&loaded, NAMESPACE);
    let left = Contents::of(&loaded, NAMESPACE);
    assert!(left.images.is_empty() && left.content.is_empty(), "{left:#?}");
}

on_every_containerd!(what_refers_to_an_image_stays_as_long_as_it);

/// They are sent to a containerd that has the image already.
fn what_refers_to_an_image_is_added_to_it(version: Version) {
    let sealift = Sealift::new();
    let loaded = Containerd::start(version);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures/archives");
    load(&sealift, &loaded, &folder.join("v0.tar.gz"), &[]);
    let before = Contents::of(&loaded, NAMESPACE);
    let report = load(&sealift, &loaded, &folder.join("r1.tar.gz"), &[]);
    assert_eq!(report["images"][0]["change"], "unchanged", "{report:#}");
    assert_eq!(report["changed"], true, "{report:#}");
    let added = Contents::of(&loaded, NAMESPACE);
    assert!(added.content.len() > before.content.len());
    collect_garbage(&loaded, NAMESPACE);
    Contents::of(&loaded, NAMESPACE).assert_same(&added, "after garbage collection");
}

on_every_containerd!(what_refers_to_an_image_is_added_to_it);
