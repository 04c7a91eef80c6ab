//! Storage folders with every kind of damage. What real registries write is verified in `tests/engines`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::layout::blob_entry;
use super::{Options, Report, Sample, verify};
use crate::error::ErrorKind;
use crate::interrupt::Interrupt;
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Platform};
use crate::progress::Silent;

/// A storage folder that is removed at the end.
pub(super) struct Folder {
    pub home: tempfile::TempDir,
}

/// A good image: its blobs, and what is in a repository.
pub(super) struct Pushed {
    pub index: TestBlob,
    pub manifests: Vec<TestBlob>,
    configs: Vec<TestBlob>,
    pub layers: Vec<TestBlob>,
}

impl Folder {
    pub fn new() -> Folder {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder { home };
        for part in ["blobs", "repositories"] {
            fs::create_dir_all(folder.at(part)).unwrap();
        }
        folder
    }

    pub fn at(&self, entry: &str) -> PathBuf {
        self.home.path().join("docker/registry/v2").join(entry)
    }

    pub fn write(&self, entry: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(entry);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // As if it were old, so that no second look is due.
        let old = SystemTime::now() - Duration::from_secs(90_000);
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
    }

    fn blob(&self, blob: &TestBlob) {
        self.write(&blob_entry(&blob.descriptor.digest), &blob.bytes);
    }

    fn link(&self, below: &str, digest: &Digest) {
        self.write(&format!("repositories/{below}/link"), digest.to_string());
    }

    pub fn manifest(&self, repository: &str, manifest: &TestBlob) {
        self.blob(manifest);
        let digest = manifest.descriptor.digest;
        let below = format!("{repository}/_manifests/revisions/sha256/{}", digest.hex());
        self.link(&below, &digest);
    }

    fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let below = format!("{repository}/_manifests/tags/{tag}");
        self.link(&format!("{below}/current"), digest);
        self.link(&format!("{below}/index/sha256/{}", digest.hex()), digest);
    }

    /// Pushes an index of two platforms, which share their first layer.
    pub fn push(&self, repository: &str, tag: &str, seed: &str) -> Pushed {
        let [amd, arm] = ["amd64", "arm64"].map(|architecture| {
            TestImage::new()
                .platform(&Platform::linux(architecture, None))
                .author(seed)
                .layer("a layer of all images")
                .layer(format!("{seed} for {architecture}"))
        });
        let manifests = vec![amd.manifest(), arm.manifest()];
        let mut layers: Vec<TestBlob> = Vec::new();
        for image in [&amd, &arm] {
            for blob in image.blobs() {
                let digest = blob.descriptor.digest;
                let is_layer = digest != image.config().descriptor.digest
                    && digest != image.manifest().descriptor.digest;
                if is_layer && layers.iter().all(|layer| layer.descriptor.digest != digest) {
                    layers.push(blob);
                }
            }
        }
        let pushed = Pushed {
            index: index(&[amd.entry(), arm.entry()]),
            manifests,
            configs: vec![amd.config(), arm.config()],
            layers,
        };
        for blob in pushed.configs.iter().chain(&pushed.layers) {
            self.blob(blob);
            let digest = blob.descriptor.digest;
            self.link(&format!("{repository}/_layers/sha256/{}", digest.hex()), &digest);
        }
        for manifest in pushed.manifests.iter().chain([&pushed.index]) {
            self.manifest(repository, manifest);
        }
        self.tag(repository, tag, &pushed.index.descriptor.digest);
        pushed
    }

    fn verify(&self) -> Report {
        self.verify_with(&Options::default())
    }

    fn verify_with(&self, options: &Options) -> Report {
        verify(self.home.path(), options, &Silent, &Interrupt::default()).unwrap()
    }
}

/// Each finding's code and entry, with the images that it names.
fn found(report: &Report) -> Vec<String> {
    let findings = report.findings.iter().map(|found| {
        let place = found.finding.place.entry.clone().unwrap();
        let images: Vec<String> = found.images.to_set().iter().map(ToString::to_string).collect();
        let severity = if found.finding.is_error() { "" } else { "note " };
        format!(
            "{severity}{} {place}: {}",
            found.finding.problem.code(),
            images.join(" ")
        )
    });
    findings.collect()
}

fn digest(blob: &TestBlob) -> Digest {
    blob.descriptor.digest
}

#[test]
fn a_good_registry_is_good() {
    let folder = Folder::new();
    let app = folder.push("lib/app", "1", "one");
    folder.tag("lib/app", "latest", &digest(&app.index));
    folder.push("lib/app/deep", "1", "one");
    folder.push("web", "2", "two");
    for root in ["", "docker", "docker/registry", "docker/registry/v2"] {
        let root = folder.home.path().join(root);
        let report = verify(&root, &Options::default(), &Silent, &Interrupt::default()).unwrap();
        assert_eq!(found(&report), [""; 0]);
        assert!(report.is_good());
        assert_eq!((report.repositories, report.manifests, report.tags), (3, 9, 4));
        // Two images of 2 configs, 2 layers, 2 manifests and an index each, and one layer of both.
        assert_eq!(report.blobs.count, 15);
        assert_eq!(report.hashed, report.blobs);
        assert_eq!(report.unreferenced.unwrap().total.count, 0);
    }
}

#[test]
fn a_folder_that_is_no_registry_is_told_so() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("blobs")).unwrap();
    let open = |path: &Path| verify(path, &Options::default(), &Silent, &Interrupt::default()).unwrap_err();
    let error = open(home.path());
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().to_string().contains("rootdirectory"));
    assert_eq!(open(&home.path().join("absent")).kind(), ErrorKind::Io);
}

#[test]
fn a_bad_blob_is_told_with_every_image_that_uses_it() {
    for (damage, code) in [
        ((|bytes| bytes[3] ^= 1) as fn(&mut Vec<u8>), "digest-differs"),
        (|bytes| bytes.truncate(5), "truncated"),
        (|bytes| bytes.clear(), "empty"),
        (|bytes| bytes.push(0), "size-differs"),
    ] {
        let folder = Folder::new();
        let app = folder.push("app", "1", "one");
        let web = folder.push("team/web", "2", "two");
        // The layer that all four manifests have.
        let shared = &app.layers[0];
        let mut bytes = shared.bytes.clone();
        damage(&mut bytes);
        folder.write(&blob_entry(&digest(shared)), bytes);
        let report = folder.verify();
        let mut images = vec!["app:1".to_string(), "team/web:2".to_string()];
        for (repository, pushed) in [("app", &app), ("team/web", &web)] {
            let manifests = pushed.manifests.iter().chain([&pushed.index]);
            images.extend(manifests.map(|manifest| format!("{repository}@{}", digest(manifest))));
        }
        images.sort();
        let mut told: Vec<String> = report.findings[0]
            .images
            .to_set()
            .iter()
            .map(ToString::to_string)
            .collect();
        told.sort();
        assert_eq!(told, images, "{code}");
        assert_eq!(report.findings.len(), 1, "{:?}", found(&report));
        assert_eq!(report.findings[0].finding.problem.code(), code);
        assert_eq!(report.failure(), Some(ErrorKind::Content));
    }
}

#[test]
fn a_blob_of_very_many_sizes_is_told_a_few_times() {
    let folder = Folder::new();
    let layer = TestBlob::new(MediaType::OCI_LAYER, "x");
    let image = (2..502).fold(TestImage::new(), |image, size| {
        let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest(&layer), size);
        image.stored_layer(digest(&layer), descriptor)
    });
    for blob in [&layer, &image.config()] {
        folder.blob(blob);
        let below = format!("app/_layers/sha256/{}", digest(blob).hex());
        folder.link(&below, &digest(blob));
    }
    folder.manifest("app", &image.manifest());
    for tag in ["1", "2"] {
        folder.tag("app", tag, &digest(&image.manifest()));
    }
    let report = folder.verify();
    let told: Vec<String> = report
        .findings
        .iter()
        .map(|found| found.finding.problem.to_string())
        .collect();
    assert_eq!(
        told,
        [
            "size is 1 bytes, and more manifests or layers expect yet other sizes",
            "truncated: 1 bytes, expected 2",
            "truncated: 1 bytes, expected 3",
            "truncated: 1 bytes, expected 4",
        ]
    );
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.images.to_set().len() == 3)
    );
}

#[test]
fn a_bad_document_is_told() {
    type Which = fn(&Pushed) -> &TestBlob;
    let damages: [(Which, usize); 3] = [
        (|app| &app.index, 2),
        (|app| &app.manifests[1], 3),
        (|app| &app.configs[0], 3),
    ];
    for (which, images) in damages {
        let folder = Folder::new();
        let app = folder.push("app", "1", "one");
        let blob = which(&app);
        folder.write(&blob_entry(&digest(blob)), &blob.bytes[..20]);
        let report = folder.verify();
        assert_eq!(report.findings.len(), 1, "{:?}", found(&report));
        let finding = &report.findings[0];
        assert_eq!(finding.finding.place.digest, Some(digest(blob)));
        assert_eq!(finding.images.to_set().len(), images, "{:?}", found(&report));
        let is_manifest = digest(blob) != digest(&app.configs[0]);
        // What else a manifest refers to is unknown without it.
        assert_eq!(report.unreferenced.is_none(), is_manifest);
    }
}

#[test]
fn what_is_missing_is_told() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let [layer, manifest] = [digest(&app.layers[1]), digest(&app.manifests[1])];
    fs::remove_file(folder.at(&blob_entry(&layer))).unwrap();
    fs::remove_dir_all(folder.at(&blob_entry(&manifest)).parent().unwrap()).unwrap();
    folder.tag("app", "gone", &Digest::sha256(b"gone"));
    fs::create_dir_all(folder.at("repositories/app/_manifests/tags/half/current")).unwrap();
    let report = folder.verify();
    let [amd, index] = [digest(&app.manifests[0]), digest(&app.index)];
    let mut expected = vec![
        format!("missing {}: app@{amd} app@{index} app:1", blob_entry(&layer)),
        format!(
            "missing {}: app@{manifest} app@{index} app:1",
            blob_entry(&manifest)
        ),
        "no-link repositories/app/_manifests/tags/gone/current/link: app:gone".into(),
        "missing repositories/app/_manifests/tags/half/current/link: app:half".into(),
    ];
    let sorted = |mut lines: Vec<String>| {
        for line in &mut lines {
            let (head, images) = line.split_once(": ").unwrap();
            let mut images: Vec<&str> = images.split(' ').collect();
            images.sort_unstable();
            *line = format!("{head}: {}", images.join(" "));
        }
        lines.sort();
        lines
    };
    expected = sorted(expected);
    assert_eq!(sorted(found(&report)), expected);
}

#[test]
fn links_are_checked() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let [first, second, third] = [0, 1, 2].map(|at| digest(&app.layers[at]));
    let layer = |digest: &Digest| format!("repositories/app/_layers/sha256/{}", digest.hex());
    folder.write(&format!("{}/link", layer(&first)), "garbage");
    folder.link(&format!("app/_layers/sha256/{}", second.hex()), &third);
    fs::remove_dir_all(folder.at(&layer(&third))).unwrap();
    folder.write("repositories/app/_manifests/tags/1/current/link", "");
    // As garbage collection leaves it.
    let gone = Digest::sha256(b"gone");
    folder.link(&format!("app/_layers/sha256/{}", gone.hex()), &gone);
    let report = folder.verify();
    let lines = found(&report);
    let has = |begin: String| {
        let found = lines.iter().find(|line| line.starts_with(&begin));
        found.unwrap_or_else(|| panic!("{begin}: {lines:#?}")).clone()
    };
    has(format!("link {}/link: app@", layer(&first)));
    has(format!("link {}/link: app@", layer(&second)));
    has(format!("no-link {}/link: app@", layer(&third)));
    assert!(has("link repositories/app/_manifests/tags/1/current/link".into()).ends_with(": app:1"));
    has(format!("note dangling-link {}/link: ", layer(&gone)));
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn what_is_not_wrong_is_a_note() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let arm = digest(&app.manifests[1]).hex();
    // Deleted by its digest: the link is gone, its folder stays.
    fs::remove_file(folder.at(&format!(
        "repositories/app/_manifests/revisions/sha256/{arm}/link"
    )))
    .unwrap();
    folder.write("repositories/app/_uploads/some-uuid/data", "part of a layer");
    folder.write(
        "repositories/app/_uploads/some-uuid/startedat",
        "2026-11-27T20:40:33Z",
    );
    let stray = TestBlob::new("", "nobody wants this");
    folder.blob(&stray);
    let young = TestBlob::new("", "this is being pushed");
    let path = folder.at(&blob_entry(&digest(&young)));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &young.bytes).unwrap();
    let report = folder.verify();
    assert!(report.is_good());
    let index = digest(&app.index);
    assert_eq!(
        found(&report),
        [
            format!("note sparse {}: app@{index} app:1", blob_entry(&index)),
            "note unfinished-upload repositories/app/_uploads/some-uuid: ".into(),
        ]
    );
    let text = report.findings[1].finding.to_string();
    assert!(text.contains("15 bytes, started 1 day ago"), "{text}");
    assert_eq!((report.uploads.count, report.uploads.bytes), (1, 15));
    // The config and the layer of the platform that is gone, which other manifests do not have, and the stray.
    let unreferenced = report.unreferenced.unwrap();
    assert!(unreferenced.some.contains(&digest(&stray)) && !unreferenced.some.contains(&digest(&young)));
    assert_eq!(unreferenced.total.count, 3);
}

#[test]
fn an_index_of_which_nothing_is_there_is_wrong() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    fs::remove_dir_all(folder.at("repositories/app/_manifests/revisions")).unwrap();
    folder.manifest("app", &app.index);
    let lines = found(&folder.verify());
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].starts_with("no-manifest ") && lines[0].ends_with(" app:1"),
        "{lines:#?}"
    );
}

#[test]
fn a_tag_without_a_link_is_told_with_what_it_tagged_before() {
    for content in [None, Some("")] {
        let folder = Folder::new();
        let old = folder.push("app", "1", "old");
        let gone = folder.push("app", "1", "gone");
        let new = folder.push("app", "1", "new");
        let index = |pushed: &Pushed| {
            let hex = digest(&pushed.index).hex();
            format!("repositories/app/_manifests/tags/1/index/sha256/{hex}/link")
        };
        // In any order of their digests.
        for (pushed, age) in [(&new, 10_u64), (&gone, 20), (&old, 30)] {
            let time = SystemTime::now() - Duration::from_secs(age * 100_000);
            let file = fs::File::open(folder.at(&index(pushed))).unwrap();
            file.set_modified(time).unwrap();
        }
        fs::remove_file(folder.at(&blob_entry(&digest(&gone.index)))).unwrap();
        let current = "repositories/app/_manifests/tags/1/current/link";
        match content {
            None => fs::remove_file(folder.at(current)).unwrap(),
            Some(text) => folder.write(current, text),
        }
        let report = folder.verify();
        let mut tags = report.findings.iter().filter(|found| {
            let entry = found.finding.place.entry.as_deref();
            entry == Some(current)
        });
        let found = tags.next().unwrap();
        assert_eq!(found.tagged_before, [digest(&new.index), digest(&old.index)]);
        let others = report
            .findings
            .iter()
            .filter(|other| !std::ptr::eq(*other, found));
        assert!(others.into_iter().all(|other| other.tagged_before.is_empty()));
    }
}

#[test]
fn a_cache_lacks_what_nobody_pulled() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    fs::remove_file(folder.at(&blob_entry(&digest(&app.layers[1])))).unwrap();
    fs::remove_file(folder.at(&blob_entry(&digest(&app.manifests[1])))).unwrap();
    assert_eq!(folder.verify().errors(), 2);
    fs::write(folder.home.path().join("scheduler-state.json"), "{}").unwrap();
    assert_eq!(found(&folder.verify()), [""; 0]);
    let layer = &app.layers[0];
    folder.write(&blob_entry(&digest(layer)), "something else of another length");
    assert_eq!(folder.verify().errors(), 1);
}

#[test]
fn what_others_plant_is_not_followed() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let outside = tempfile::tempdir().unwrap();
    let layer = &app.layers[1];
    fs::write(outside.path().join("data"), &layer.bytes).unwrap();
    let path = folder.at(&blob_entry(&digest(layer)));
    fs::remove_file(&path).unwrap();
    symlink(outside.path().join("data"), &path).unwrap();
    let fifo = folder.at(&blob_entry(&digest(&app.layers[2])));
    fs::remove_file(&fifo).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    symlink(outside.path(), folder.at("repositories/elsewhere")).unwrap();
    let tag = folder.at("repositories/app/_manifests/tags/1/current/link");
    fs::remove_file(&tag).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &tag, rustix::fs::Mode::RUSR).unwrap();
    symlink(outside.path(), folder.at("repositories/app/_manifests/tags/2")).unwrap();
    let report = folder.verify();
    let codes: Vec<&str> = report
        .findings
        .iter()
        .map(|found| found.finding.problem.code())
        .collect();
    let text = format!("{:#?}", found(&report));
    assert_eq!(
        codes.iter().filter(|code| **code == "not-a-file").count(),
        2,
        "{text}"
    );
    assert_eq!(
        codes.iter().filter(|code| **code == "not-a-folder").count(),
        1,
        "{text}"
    );
    assert_eq!(codes.iter().filter(|code| **code == "link").count(), 2, "{text}");
    assert_eq!(codes.len(), 5, "{text}");
}

#[test]
fn a_sample_hashes_its_part_and_manifests() {
    let folder = Folder::new();
    let mut pushed = Vec::new();
    for n in 0..20 {
        pushed.push(folder.push("app", &n.to_string(), &n.to_string()));
    }
    let mut bad = Vec::new();
    for app in &pushed {
        let layer = &app.layers[1];
        let mut bytes = layer.bytes.clone();
        bytes[0] ^= 1;
        folder.write(&blob_entry(&digest(layer)), bytes);
        bad.push(digest(layer));
    }
    let sample: Sample = "40%".parse().unwrap();
    let options = Options {
        sample,
        ..Options::default()
    };
    let report = folder.verify_with(&options);
    let in_sample = bad.iter().filter(|digest| sample.has(digest)).count();
    assert!(in_sample > 0 && in_sample < 20);
    assert_eq!(report.findings.len(), in_sample, "{:#?}", found(&report));
    assert!(report.hashed.count < report.blobs.count && report.hashed.count > 0);
    // A manifest is hashed in any case.
    let outside = pushed
        .iter()
        .map(|app| &app.manifests[0])
        .find(|manifest| !sample.has(&digest(manifest)))
        .unwrap();
    let mut bytes = outside.bytes.clone();
    let last = bytes.len() - 1;
    bytes[last] = b' ';
    folder.write(&blob_entry(&digest(outside)), bytes);
    let again = folder.verify_with(&options);
    assert_eq!(again.findings.len(), in_sample + 1, "{:#?}", found(&again));
}

#[test]
fn manifests_of_schema_1_refer_to_layers() {
    let folder = Folder::new();
    let layer = TestBlob::new("", "old");
    folder.blob(&layer);
    let below = format!("old/_layers/sha256/{}", digest(&layer).hex());
    folder.link(&below, &digest(&layer));
    let text = format!(
        r#"{{"schemaVersion":1,"name":"old","tag":"1","fsLayers":[{{"blobSum":"{}"}}]}}"#,
        digest(&layer)
    );
    let manifest = TestBlob::new("", text);
    folder.manifest("old", &manifest);
    folder.tag("old", "1", &digest(&manifest));
    let report = folder.verify();
    assert_eq!(found(&report), [""; 0]);
    assert_eq!(report.unreferenced.unwrap().total.count, 0);
    fs::remove_file(folder.at(&blob_entry(&digest(&layer)))).unwrap();
    assert_eq!(found(&folder.verify()).len(), 1);
}

#[test]
fn a_file_that_is_right_at_the_second_look_is_not_reported() {
    let folder = Folder::new();
    let app = folder.push("app", "1", "one");
    let manifest = &app.manifests[0];
    let path = folder.at(&blob_entry(&digest(manifest)));
    // Version 2 of the registry writes manifests in place: this one is not complete yet.
    fs::write(&path, &manifest.bytes[..10]).unwrap();
    let (path, bytes) = (path.clone(), manifest.bytes.clone());
    /// Completes the file once all blobs were hashed.
    struct Completes(PathBuf, Vec<u8>);
    impl crate::progress::Progress for Completes {
        fn blob_finished(&self, digest: &Digest) {
            if self.0.to_string_lossy().contains(&digest.hex()) {
                fs::write(&self.0, &self.1).unwrap();
            }
        }
    }
    let progress = Completes(path, bytes);
    let report = verify(
        folder.home.path(),
        &Options::default(),
        &progress,
        &Interrupt::default(),
    )
    .unwrap();
    assert_eq!(found(&report), [""; 0]);
}
