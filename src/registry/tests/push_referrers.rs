//! Signatures, SBOMs and what else refers to images that are pushed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::push::{Images, changes, image, push, push_into, target};
use super::push_registry::{Dialect, PushRegistry};
use crate::error::ErrorKind;
use crate::image::referrers::ReferrerKind;
use crate::load::{Change, LoadOptions, Report};
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Platform, Referrer};
use crate::registry::testing::{Server, patient};

const REPOSITORY: &str = "mirror/library/app";
const SBOM: &str = "application/spdx+json";
const NOTE: &str = "application/vnd.acme.note";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// An artifact that refers to a manifest, with its content.
fn referrer(subject: &Descriptor, artifact_type: &str, content: &str) -> [TestBlob; 3] {
    let config = TestBlob::new(MediaType::OCI_EMPTY, "{}");
    let layer = TestBlob::new(artifact_type, content);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": artifact_type,
        "config": config.descriptor, "layers": [layer.descriptor],
        "subject": subject.bare(), "annotations": {"made": "by a test"},
    });
    [TestBlob::json(MediaType::OCI_MANIFEST, &manifest), config, layer]
}

/// A manifest of cosign with these signatures of one payload.
fn signatures(signatures: &[&str]) -> Vec<TestBlob> {
    let payload = TestBlob::new(PAYLOAD, "what is signed");
    let layers = signatures.iter().map(|signature| {
        let mut layer = payload.descriptor.clone();
        layer.annotations =
            BTreeMap::from([("dev.cosignproject.cosign/signature".into(), (*signature).into())]);
        layer
    });
    let layers: Vec<Descriptor> = layers.collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = TestBlob::json(MediaType::OCI_CONFIG, &config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": config.descriptor, "layers": layers,
    });
    let manifest = TestBlob::json(MediaType::OCI_MANIFEST, &manifest);
    vec![manifest, config, payload]
}

/// An index of two platforms; an SBOM of it, a note about the SBOM, a note about the first platform, and a signature of that
/// platform.
struct Signed {
    index: Descriptor,
    platform: Descriptor,
    sbom: Descriptor,
    note: Descriptor,
    note_of_platform: Descriptor,
    images: Images,
}

impl Signed {
    fn new() -> Signed {
        Signed::with(&["one"])
    }

    fn with(signed: &[&str]) -> Signed {
        let both = [
            image(&[1000]),
            image(&[2000]).platform(&Platform::linux("arm64", None)),
        ];
        let root = index(&both.each_ref().map(TestImage::entry)).descriptor;
        let platform = both[0].manifest().descriptor;
        let sbom = referrer(&root, SBOM, "what is in it");
        let note = referrer(&sbom[0].descriptor, NOTE, "about the SBOM");
        let note_of_platform = referrer(&platform, NOTE, "about the platform");
        let signature = signatures(signed);
        let descriptors = [&sbom, &note, &note_of_platform].map(|blobs| blobs[0].descriptor.clone());
        let [sbom_root, note_root, note_of_platform_root] = descriptors;
        let of = |subject: &Descriptor| json!({"io.containerd.manifest.subject": subject.digest});
        let tag = Referrer::tag(&platform.digest, "sig");
        let images = Images::new()
            .index("app:1", &both, 2)
            .annotated(of(&root), &sbom_root, sbom.to_vec())
            .annotated(of(&sbom_root), &note_root, note.to_vec())
            .annotated(of(&platform), &note_of_platform_root, note_of_platform.to_vec())
            .named(&tag, &signature[0].descriptor.clone(), signature);
        Signed {
            index: root,
            platform,
            sbom: sbom_root,
            note: note_root,
            note_of_platform: note_of_platform_root,
            images,
        }
    }

    fn list_tag(&self) -> String {
        Referrer::list_tag(&self.index.digest)
    }

    fn cosign_tag(&self) -> String {
        Referrer::tag(&self.platform.digest, "sig")
    }
}

/// Puts blobs into a registry; the first is a manifest.
fn put(registry: &PushRegistry, blobs: &[TestBlob], tag: Option<&str>) {
    let mut shelf = registry.shelf.lock().unwrap();
    for (at, blob) in blobs.iter().enumerate() {
        let key = (REPOSITORY.to_string(), blob.descriptor.digest);
        let media_type = blob.descriptor.media_type.to_string();
        match at {
            0 => drop(shelf.manifests.insert(key, (media_type, blob.bytes.clone()))),
            _ => drop(shelf.blobs.insert(key, blob.bytes.clone())),
        }
    }
    if let Some(tag) = tag {
        let key = (REPOSITORY.to_string(), tag.to_string());
        shelf.tags.insert(key, blobs[0].descriptor.digest);
    }
}

/// The document under a tag.
fn under(registry: &PushRegistry, tag: &str) -> Value {
    let shelf = registry.shelf.lock().unwrap();
    let digest = shelf.tags[&(REPOSITORY.to_string(), tag.to_string())];
    let (_, bytes) = &shelf.manifests[&(REPOSITORY.to_string(), digest)];
    serde_json::from_slice(bytes).unwrap()
}

fn tags(registry: &PushRegistry) -> Vec<String> {
    let shelf = registry.shelf.lock().unwrap();
    shelf.tags.keys().map(|(_, tag)| tag.clone()).collect()
}

#[track_caller]
fn assert_shown(report: &Report) {
    let image = &report.images[0];
    let shown = [
        (ReferrerKind::Signature, 1),
        (ReferrerKind::Sbom, 1),
        (ReferrerKind::Other, 2),
    ];
    assert_eq!(image.referrers.shown, BTreeMap::from(shown));
    assert_eq!(image.referrers.dropped, []);
    assert_eq!(report.failure(), None);
}

/// Pushes once more: nothing is sent or changed.
#[track_caller]
fn assert_unchanged(server: &Server, images: &Images) {
    let before = changes(&server.seen()).len();
    let report = push(server, images).unwrap();
    assert_eq!(changes(&server.seen())[before..], [""; 0]);
    assert_eq!((report.sent, report.changed()), (0, false));
    assert_eq!(report.images[0].change, Change::Unchanged);
    assert_shown(&report);
}

#[test]
fn a_registry_without_an_api_gets_lists_of_referrers_after_them() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let signed = Signed::new();
    let report = push(&server, &signed.images).unwrap();
    assert_shown(&report);
    let list = under(&registry, &signed.list_tag());
    assert_eq!(
        list,
        json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
            "manifests": [{
                "mediaType": MediaType::OCI_MANIFEST, "digest": signed.sbom.digest, "size": signed.sbom.size,
                "artifactType": SBOM, "annotations": {"made": "by a test"},
            }],
        })
    );
    for (subject, found) in [
        (&signed.sbom, &signed.note),
        (&signed.platform, &signed.note_of_platform),
    ] {
        let list = under(&registry, &Referrer::list_tag(&subject.digest));
        assert_eq!(list["manifests"][0]["digest"], json!(found.digest));
        assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
    }
    // Each after what it refers to, the lists after all, and the tag of the image at the end.
    let puts: Vec<String> = changes(&server.seen())
        .into_iter()
        .filter_map(|change| {
            Some(
                change
                    .strip_prefix("PUT ")?
                    .rsplit_once("/manifests/")?
                    .1
                    .to_string(),
            )
        })
        .collect();
    let at = |reference: &str| puts.iter().position(|put| put == reference).unwrap();
    let order = [
        signed.platform.digest.to_string(),
        signed.index.digest.to_string(),
        signed.sbom.digest.to_string(),
        signed.note.digest.to_string(),
        signed.list_tag(),
        signed.cosign_tag(),
        "1".into(),
    ];
    assert!(order.map(|one| at(&one)).is_sorted(), "{puts:?}");
    assert_eq!(puts.last().unwrap(), "1");
    let all: u64 = {
        let shelf = registry.shelf.lock().unwrap();
        let blobs = shelf.blobs.values().map(Vec::len);
        let manifests = shelf.manifests.values().map(|(_, bytes)| bytes.len());
        blobs.chain(manifests).sum::<usize>() as u64
    };
    assert_eq!(report.sent, all);
    assert_unchanged(&server, &signed.images);
}

#[test]
fn a_registry_with_the_api_gets_no_lists() {
    let registry = PushRegistry::new(Dialect {
        lists_referrers: true,
        ..Dialect::default()
    });
    let server = registry.start();
    let signed = Signed::new();
    // More than a page of them.
    for name in ["a", "b", "c"] {
        put(&registry, &referrer(&signed.index, NOTE, name), None);
    }
    assert_shown(&push(&server, &signed.images).unwrap());
    assert_eq!(tags(&registry), ["1".to_string(), signed.cosign_tag()]);
    assert_unchanged(&server, &signed.images);
}

#[test]
fn what_a_registry_lists_already_stays() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let signed = Signed::with(&["one", "two"]);
    // Of another program: a further referrer, and the SBOM with a wrong type.
    let other = referrer(&signed.index, NOTE, "of the registry");
    put(&registry, &other, None);
    let mut wrong = serde_json::to_value(&signed.sbom).unwrap();
    wrong["artifactType"] = json!("application/vnd.oci.empty.v1+json");
    wrong["annotations"] = json!({"of": "another program"});
    let mut entries = [serde_json::to_value(&other[0].descriptor).unwrap(), wrong];
    entries.sort_by_key(|entry| std::cmp::Reverse(entry["digest"].to_string()));
    let list = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries,
        "annotations": {"kept": "yes"},
    });
    let list = TestBlob::json(MediaType::OCI_INDEX, &list);
    put(&registry, &[list], Some(&signed.list_tag()));
    let signature = signatures(&["two", "three"]);
    put(&registry, &signature, Some(&signed.cosign_tag()));

    assert_shown(&push(&server, &signed.images).unwrap());
    let list = under(&registry, &signed.list_tag());
    assert_eq!(list["annotations"], json!({"kept": "yes"}));
    let mut expected = [signed.sbom.digest, other[0].descriptor.digest];
    expected.sort();
    let entries = list["manifests"].as_array().unwrap();
    let digests: Vec<&Value> = entries.iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(json!(digests), json!(expected));
    let sbom = entries
        .iter()
        .find(|entry| entry["digest"] == json!(signed.sbom.digest));
    assert_eq!(sbom.unwrap()["artifactType"], SBOM);
    assert_eq!(
        sbom.unwrap()["annotations"],
        json!({"of": "another program", "made": "by a test"})
    );
    // The signatures of both, each once.
    let manifest = under(&registry, &signed.cosign_tag());
    let layers = manifest["layers"].as_array().unwrap().iter();
    let signed_with: Vec<&str> = layers
        .map(|layer| {
            layer["annotations"]["dev.cosignproject.cosign/signature"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(signed_with, ["two", "three", "one"]);
    let config: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let config: Value = {
        let shelf = registry.shelf.lock().unwrap();
        serde_json::from_slice(&shelf.blobs[&(REPOSITORY.into(), config)]).unwrap()
    };
    let diff_ids: Vec<&Value> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| &layer["digest"])
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], json!(diff_ids));
    assert_unchanged(&server, &signed.images);
}

#[test]
fn a_tag_of_cosign_with_more_signatures_stays_or_is_taken_as_it_is() {
    for (there, ours, expected) in [
        (&["one", "two"][..], &["two"][..], &["one", "two"][..]),
        (&["two"], &["one", "two"], &["one", "two"]),
    ] {
        let registry = PushRegistry::new(Dialect::default());
        let server = registry.start();
        let signed = Signed::with(ours);
        put(&registry, &signatures(there), Some(&signed.cosign_tag()));
        assert_shown(&push(&server, &signed.images).unwrap());
        let whole = signatures(expected);
        let shelf = registry.shelf.lock().unwrap();
        let tagged = shelf.tags[&(REPOSITORY.to_string(), signed.cosign_tag())];
        assert_eq!(tagged, whole[0].descriptor.digest, "{there:?} {ours:?}");
        drop(shelf);
        assert_unchanged(&server, &signed.images);
    }
}

#[test]
fn a_registry_that_takes_no_referrers_gets_the_image_and_is_reported() {
    let registry = PushRegistry::new(Dialect {
        takes_referrers: false,
        ..Dialect::default()
    });
    let server = registry.start();
    let signed = Signed::new();
    let report = push(&server, &signed.images).unwrap();
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    let image = &report.images[0];
    assert_eq!(image.shown, Some(true));
    let shown = BTreeMap::from([(ReferrerKind::Signature, 1)]);
    assert_eq!(image.referrers.shown, shown);
    let reasons: Vec<&str> = image
        .obstacles
        .iter()
        .map(|obstacle| obstacle.reason.as_str())
        .collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for reason in &reasons {
        assert!(
            reason.starts_with("the registry does not show its 1 "),
            "{reason}"
        );
        assert!(reason.contains("unknown field: subject"), "{reason}");
    }
    assert_eq!(tags(&registry), ["1".to_string(), signed.cosign_tag()]);
}

#[test]
fn a_list_that_another_program_overwrites_is_written_again() {
    let registry = PushRegistry::new(Dialect::default());
    let signed = Signed::new();
    let other = referrer(&signed.index, NOTE, "of another program");
    put(&registry, &other, None);
    let list = index(&[other[0].descriptor.clone()]);
    let path = format!("/v2/{REPOSITORY}/manifests/{}", signed.list_tag());
    for (times, is_shown) in [(2, true), (usize::MAX, false)] {
        registry.shelf.lock().unwrap().tags.clear();
        let written = AtomicUsize::new(0);
        let (registry, list, path) = (registry.clone(), list.clone(), path.clone());
        let tag = signed.list_tag();
        let server = Server::start({
            let registry = registry.clone();
            move |seen| {
                let reply = registry.answer(seen);
                let is_list = seen.method == "PUT" && seen.path == path;
                if is_list && written.fetch_add(1, Ordering::SeqCst) < times {
                    put(&registry, std::slice::from_ref(&list), Some(&tag));
                }
                reply
            }
        });
        let report = push(&server, &signed.images).unwrap();
        let failure = (!is_shown).then_some(ErrorKind::NotShown);
        assert_eq!(report.failure(), failure);
        let count = under(&registry, &signed.list_tag())["manifests"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(count, 1 + usize::from(is_shown));
        if !is_shown {
            let reason = &report.images[0].obstacles[0].reason;
            assert!(reason.contains("keeps changing the tag"), "{reason}");
        }
    }
}

#[test]
fn a_tag_that_names_something_else_is_left_alone() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let signed = Signed::new();
    let other = image(&[10]);
    let bad = TestBlob::new("application/x", "[]");
    put(&registry, &other.blobs(), Some(&signed.list_tag()));
    put(&registry, std::slice::from_ref(&bad), Some(&signed.cosign_tag()));
    let report = push(&server, &signed.images).unwrap();
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    assert_eq!(report.images[0].shown, Some(true));
    let dropped: Vec<(ReferrerKind, usize)> = report.images[0]
        .referrers
        .dropped
        .iter()
        .map(|dropped| (dropped.kind, dropped.count))
        .collect();
    assert_eq!(dropped.len(), 2, "{dropped:?}");
    assert!(dropped.contains(&(ReferrerKind::Sbom, 1)) && dropped.contains(&(ReferrerKind::Signature, 1)));
    let shelf = registry.shelf.lock().unwrap();
    let tagged = |tag: String| shelf.tags[&(REPOSITORY.to_string(), tag)];
    assert_eq!(tagged(signed.list_tag()), other.manifest().descriptor.digest);
    assert_eq!(tagged(signed.cosign_tag()), bad.descriptor.digest);
}

#[test]
fn a_platform_is_pushed_with_its_own_referrers() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let signed = Signed::new();
    let options = LoadOptions {
        platforms: vec![Platform::linux("amd64", None)],
        ..LoadOptions::default()
    };
    let (target, _) = target(&server.host(), true, patient());
    let report = push_into(&target, &signed.images, &options).unwrap();
    let shown = [(ReferrerKind::Signature, 1), (ReferrerKind::Other, 1)];
    assert_eq!(report.images[0].referrers.shown, BTreeMap::from(shown));
    let list = Referrer::list_tag(&signed.platform.digest);
    let mut expected = ["1".to_string(), list, signed.cosign_tag()];
    expected.sort();
    assert_eq!(tags(&registry), expected);
}

#[test]
fn names_of_one_image_share_its_referrers() {
    let registry = PushRegistry::new(Dialect::default());
    let server = registry.start();
    let signed = Signed::new();
    let images = signed.images.named("app:2", &signed.index, Vec::new());
    let images = images.named("other/app:1", &signed.index, Vec::new());
    let report = push(&server, &images).unwrap();
    assert_eq!(report.failure(), None);
    let list = Referrer::list_tag(&signed.index.digest);
    let changes = changes(&server.seen()).into_iter();
    // One in each repository.
    assert_eq!(changes.filter(|change| change.ends_with(&list)).count(), 2);
    assert!(
        report
            .images
            .iter()
            .all(|image| !image.referrers.shown.is_empty())
    );
}
