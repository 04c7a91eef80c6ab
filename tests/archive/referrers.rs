//! What refers to an image, in every form that tools write it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sealift::archive::{ArchiveSource, Graphs, Layout};
use sealift::image::NamedImage;
use sealift::image::referrers::ReferrerKind;
use sealift::interrupt::Interrupt;
use sealift::layout::FolderTarget;
use sealift::load::{self, LoadOptions};
use sealift::oci::Platform;
use sealift::progress::Silent;
use sealift::save::{self, Output};
use sealift::verify::Options;
use serde_json::Value;

use crate::bad::referrers::{referrer, subject};
use crate::good::{check, codes, open};
use crate::images::Sample;
use crate::tar_builder::TarBuilder;

fn archive(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures/archives");
    folder.join(format!("{name}.tar.gz"))
}

fn images(layout: &dyn Layout) -> Vec<NamedImage> {
    let mut graphs = Graphs::new(layout);
    let entries = layout.entries().iter();
    entries.map(|entry| graphs.named(entry).unwrap()).collect()
}

/// The first digits of each referrer, and of what it refers to, and what its tag ends in.
fn referrers(image: &NamedImage) -> BTreeSet<(String, String, String)> {
    let short = |digest: String| digest["sha256:".len()..][..8].to_string();
    let all = image.referrers.iter().map(|referrer| {
        let tag = referrer.tag.as_deref().and_then(|tag| tag.rsplit('.').next());
        (
            short(referrer.subject.to_string()),
            short(referrer.digest().to_string()),
            tag.unwrap_or_default().to_string(),
        )
    });
    all.collect()
}

fn set(all: &[(&str, &str, &str)]) -> BTreeSet<(String, String, String)> {
    let owned = all
        .iter()
        .map(|(of, digest, tag)| (of.to_string(), digest.to_string(), tag.to_string()));
    owned.collect()
}

const INDEX: &str = "38c86590";
const AMD64: &str = "7b54e1c9";
/// Those that have a subject: of the index, amd64, arm64, and the attestations of both.
const BY_SUBJECT: [(&str, &str, &str); 9] = [
    (INDEX, "41ce97e2", ""),
    (INDEX, "52aa3d1c", ""),
    (INDEX, "c5d12af8", ""),
    (INDEX, "9bc2a6ce", ""),
    (AMD64, "6c52e902", ""),
    (AMD64, "7d6437cf", ""),
    ("d403ed34", "cd0d4bc9", ""),
    ("07be4e1a", "f8ce1150", ""),
    ("74d7fa69", "07a297dc", ""),
];
/// Those that have a tag of cosign.
const BY_TAG: [(&str, &str, &str); 3] = [
    (INDEX, "99f93d2e", "sig"),
    (AMD64, "356b8966", "att"),
    (AMD64, "a415e72c", "sbom"),
];

#[test]
fn every_form_has_the_same_referrers() {
    let by_subject = set(&BY_SUBJECT);
    let by_tag = set(&BY_TAG);
    let all: BTreeSet<_> = by_subject.union(&by_tag).cloned().collect();
    // Of a sparse index only what refers to the manifests that are there.
    let is_of_amd64 = |(of, ..): &(String, String, String)| [INDEX, AMD64, "07be4e1a"].contains(&of.as_str());
    let sparse: BTreeSet<_> = all.iter().filter(|one| is_of_amd64(one)).cloned().collect();
    let sparse_by_subject: BTreeSet<_> = sparse.intersection(&by_subject).cloned().collect();
    // `cosign save` does not say to what the SBOM refers.
    let mut of_cosign = by_tag.clone();
    of_cosign.remove(&(AMD64.into(), "a415e72c".into(), "sbom".into()));
    of_cosign.insert((INDEX.into(), "a415e72c".into(), "sbom".into()));
    for (name, expected, count) in [
        ("v0", BTreeSet::new(), 1),
        ("v1b", by_subject.clone(), 1),
        ("v1c", by_subject.clone(), 1),
        ("v4", all.clone(), 1),
        ("v4a", all.clone(), 1),
        ("v5", by_tag.clone(), 1),
        ("v6", by_subject.clone(), 1),
        ("v7", of_cosign, 1),
        ("r1", all.clone(), 1),
        ("r2", all.clone(), 2),
        ("s1b", sparse_by_subject, 1),
        ("s4a", sparse, 1),
    ] {
        let layout = open(&archive(name)).unwrap();
        let images = images(layout.as_ref());
        assert_eq!(images.len(), count, "{name}");
        assert_eq!(referrers(&images[0]), expected, "{name}");
        assert!(
            images[1..].iter().all(|image| image.referrers.is_empty()),
            "{name}"
        );
        let report = check(layout.as_ref(), &Options::default());
        assert!(report.is_good(), "{name}: {:?}", report.findings);
        // These have the blobs of all referrers, whether something names them or not.
        let mut found = codes(&report);
        found.dedup();
        let rest: &[&str] = match name {
            "r1" | "r2" | "s4a" | "v0" | "v4" | "v4a" => &[],
            _ => &["unknown-file"],
        };
        assert_eq!(found, rest, "{name}");
        assert!(report.images.iter().all(|image| image.is_good), "{name}");
    }
}

#[test]
fn referrers_say_what_they_are() {
    let layout = open(&archive("r1")).unwrap();
    let images = images(layout.as_ref());
    let kinds = |kind: ReferrerKind| images[0].referrers.iter().filter(move |one| one.kind() == kind);
    assert_eq!(kinds(ReferrerKind::Sbom).count(), 1);
    let others: Vec<&str> = kinds(ReferrerKind::Other).map(|one| one.told_type()).collect();
    assert_eq!(others, ["application/vnd.acme.note"]);
    let mut attested: Vec<&str> = kinds(ReferrerKind::Attestation)
        .flat_map(|one| one.predicate_types())
        .collect();
    attested.sort_unstable();
    attested.dedup();
    assert!(
        attested.contains(&"https://spdx.dev/Document") || !attested.is_empty(),
        "{attested:?}"
    );
    let mut signed: Vec<&str> = kinds(ReferrerKind::Signature)
        .map(|one| one.told_type())
        .collect();
    signed.sort_unstable();
    signed.dedup();
    assert_eq!(
        signed,
        [
            "application/vnd.cncf.notary.signature",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.dev.sigstore.bundle.v0.3+json",
        ]
    );
}

/// Saves all images of an archive again. Returns the archive's digest and bytes.
fn saved(from: &Path, to: &Path, platforms: &[&str]) -> String {
    let source = ArchiveSource::new(open(from).unwrap()).unwrap();
    let references = sealift::source::Source::list(&source).unwrap().references;
    let only: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
    let options = save::Options {
        platforms: (!only.is_empty()).then_some(sealift::oci::PlatformSelection::Only(only)),
        ..save::Options::default()
    };
    let output = Output::File(to);
    let summary = save::save(
        &source,
        &references,
        &options,
        output,
        &Silent,
        &Interrupt::default(),
    );
    summary.unwrap().digest.to_string()
}

#[test]
fn saving_again_keeps_what_refers_to_the_images() {
    let folder = tempfile::tempdir().unwrap();
    let expected = referrers(&images(open(&archive("r1")).unwrap().as_ref())[0]);
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for name in ["r1", "v4", "v4a"] {
        let path = folder.path().join(format!("{name}.tar"));
        saved(&archive(name), &path, &[]);
        let layout = open(&path).unwrap();
        assert_eq!(referrers(&images(layout.as_ref())[0]), expected, "{name}");
        let report = check(layout.as_ref(), &Options::default());
        assert_eq!(codes(&report), [""; 0], "{name}: {:?}", report.findings);
        assert_eq!(layout.entries().len(), 1);
        bytes.push(std::fs::read(&path).unwrap());
    }
    // The same images with the same referrers give the same archive, whichever form they were read from.
    assert!(bytes[1..].iter().all(|other| *other == bytes[0]));
    let amd64 = folder.path().join("amd64.tar");
    saved(&archive("r1"), &amd64, &["linux/amd64"]);
    let layout = open(&amd64).unwrap();
    let of_amd64 = referrers(&images(layout.as_ref())[0]);
    let is_of_amd64 =
        |(of, ..): &&(String, String, String)| [INDEX, AMD64, "07be4e1a"].contains(&of.as_str());
    assert_eq!(of_amd64, expected.iter().filter(is_of_amd64).cloned().collect());
    assert_eq!(codes(&check(layout.as_ref(), &Options::default())), [""; 0]);
}

fn load_into(folder: &Path, from: &Path, platforms: &[&str]) {
    let options = LoadOptions {
        platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
        ..LoadOptions::default()
    };
    let archives = [open(from).unwrap()];
    let target = FolderTarget::new(folder);
    load::load(
        &target,
        &archives,
        &options,
        &mut (),
        &Silent,
        &Interrupt::default(),
    )
    .unwrap();
}

#[test]
fn a_layout_folder_gets_referrers_and_keeps_those_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    load_into(&whole, &archive("r1"), &[]);
    let expected = referrers(&images(open(&archive("r1")).unwrap().as_ref())[0]);
    let of = |path: &Path| {
        let layout = open(path).unwrap();
        let report = check(layout.as_ref(), &Options::default());
        assert!(report.is_good(), "{:?}", report.findings);
        referrers(&images(layout.as_ref())[0])
    };
    assert_eq!(of(&whole), expected);
    let index = std::fs::read(whole.join("index.json")).unwrap();
    // The same image without its referrers takes nothing away, and the same one again changes nothing.
    for name in ["v0", "r1"] {
        load_into(&whole, &archive(name), &[]);
        assert_eq!(of(&whole), expected, "{name}");
        assert!(
            std::fs::read(whole.join("index.json")).unwrap() == index,
            "{name}"
        );
    }
    // One platform after the other, and by subject, then by tag.
    let parts = folder.path().join("parts");
    load_into(&parts, &archive("r1"), &["linux/amd64"]);
    assert!(of(&parts).len() < expected.len());
    load_into(&parts, &archive("r1"), &["linux/arm64"]);
    assert_eq!(of(&parts), expected);
    let both = folder.path().join("both");
    load_into(&both, &archive("v1b"), &[]);
    assert_eq!(of(&both), set(&BY_SUBJECT));
    load_into(&both, &archive("v5"), &[]);
    assert_eq!(of(&both), expected);
}

/// The codes of what is found in a layout whose `index.json` has further entries beside the plain sample.
fn beside(
    change: impl FnOnce(&Sample, &mut Vec<Value>) -> Vec<(String, Vec<u8>)>,
) -> (Vec<&'static str>, usize, usize) {
    let mut sample = Sample::plain();
    let mut entries = sample.index["manifests"].as_array().unwrap().clone();
    let blobs = change(&sample, &mut entries);
    sample.index["manifests"] = Value::Array(entries);
    sample.index.as_object_mut().unwrap().remove("annotations");
    let file = tempfile::NamedTempFile::new().unwrap();
    let tar = TarBuilder::default().files(&blobs).files(&sample.files()).end();
    std::fs::write(file.path(), tar).unwrap();
    let layout = open(file.path()).unwrap();
    let images = images(layout.as_ref());
    let report = check(layout.as_ref(), &Options::default());
    assert!(report.is_good(), "{:?}", report.findings);
    (codes(&report), images.len(), images[0].referrers.len())
}

#[test]
fn an_entry_that_refers_to_nothing_here_stays() {
    let other = crate::images::descriptor(crate::images::OCI_MANIFEST, b"another image");
    let found = beside(|_, entries| {
        let (entry, blobs) = referrer(&other, "signed");
        entries.push(entry);
        blobs
    });
    assert_eq!(found, (vec![], 2, 0));
    // Without any annotation, its manifest tells.
    let found = beside(|sample, entries| {
        let (mut entry, blobs) = referrer(&subject(sample), "signed");
        entry.as_object_mut().unwrap().remove("annotations");
        entries.push(entry);
        blobs
    });
    assert_eq!(found, (vec![], 1, 1));
}

#[test]
fn an_artifact_with_a_name_is_a_referrer_and_itself() {
    let found = beside(|sample, entries| {
        let (mut entry, blobs) = referrer(&subject(sample), "signed");
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "example.com/sbom:1"});
        entries.push(entry);
        blobs
    });
    assert_eq!(found, (vec![], 2, 1));
}

/// The names and digests of the images of an archive whose `index.json` has these entries.
fn listed(files: &[(String, Vec<u8>)], entries: &[Value]) -> Vec<(Option<String>, String)> {
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": entries,
    });
    let marker = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    let ends = [
        ("oci-layout".to_owned(), marker),
        ("index.json".to_owned(), index.to_string().into_bytes()),
    ];
    let file = tempfile::NamedTempFile::new().unwrap();
    let tar = TarBuilder::default().files(files).files(&ends).end();
    std::fs::write(file.path(), tar).unwrap();
    let layout = open(file.path()).unwrap();
    let entries = layout.entries().iter().map(|entry| {
        let name = entry.reference.as_ref().map(ToString::to_string);
        (name, entry.descriptor.digest.to_string())
    });
    entries.collect()
}

/// As `oras cp -r` lists manifests of an index to which something refers.
#[test]
fn an_entry_that_the_index_of_another_contains_is_an_image_only_if_it_has_a_name() {
    let (sample, index) = Sample::plain().wrap(&[]);
    let root = sample.index["manifests"][0].clone();
    let mut child = subject(&sample);
    let files = [&sample.blobs()[..], &[index]].concat();
    let digest = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
    let image = (Some("app:1".to_owned()), digest(&root));

    for entries in [[root.clone(), child.clone()], [child.clone(), root.clone()]] {
        assert_eq!(listed(&files, &entries), std::slice::from_ref(&image));
    }
    let mut nameless = root.clone();
    nameless.as_object_mut().unwrap().remove("annotations");
    assert_eq!(
        listed(&files, &[child.clone(), nameless]),
        [(None, digest(&root))]
    );
    child["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "example.com/child:1"});
    let named = (Some("example.com/child:1".to_owned()), digest(&child));
    assert_eq!(listed(&files, &[root, child]), [image, named]);
}

/// Their digests are not theirs, which is only found out later.
#[test]
fn of_indexes_that_contain_each_other_one_stays() {
    let [one, other, third] =
        [b"1", b"2", b"3"].map(|text| crate::images::descriptor(crate::images::OCI_INDEX, text));
    let cycle = [(&one, &other), (&other, &third), (&third, &one)];
    let bytes = cycle.map(|(_, child)| {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": [child],
        });
        index.to_string().into_bytes()
    });
    let path = |entry: &Value| {
        entry["digest"]
            .as_str()
            .unwrap()
            .replacen("sha256:", "blobs/sha256/", 1)
    };
    let files: Vec<(String, Vec<u8>)> = cycle
        .iter()
        .zip(bytes)
        .map(|((entry, _), bytes)| (path(entry), bytes))
        .collect();
    for entries in [
        [&one, &other, &third],
        [&other, &one, &third],
        [&third, &other, &one],
    ] {
        let entries = entries.map(Clone::clone);
        let first = entries[0]["digest"].as_str().unwrap().to_owned();
        assert_eq!(listed(&files, &entries), [(None, first)]);
    }
}

#[test]
fn what_does_not_refer_to_its_subject_is_told() {
    let other = crate::images::descriptor(crate::images::OCI_MANIFEST, b"another image");
    let found = beside(|sample, entries| {
        let (listed, mut blobs) = referrer(&other, "signed");
        let list = serde_json::json!({
            "schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": [listed],
        })
        .to_string();
        let mut entry = crate::images::descriptor(crate::images::OCI_INDEX, list.as_bytes());
        let tag = subject(sample)["digest"].as_str().unwrap().replacen(':', "-", 1);
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        entries.push(entry);
        blobs.push(crate::images::blob(list.as_bytes()));
        blobs
    });
    assert_eq!(
        found,
        (vec!["stray-referrer", "unknown-file", "unknown-file"], 1, 0)
    );
}
