//! Layers that are here only uncompressed, and substitute manifests.

use std::io::Write as _;
use std::path::Path;

use sealift::archive::ArchiveSource;
use sealift::archive::Layout;
use sealift::error::ErrorKind;
use sealift::image::Graph;
use sealift::image::provenance::{Evidence, LayerOrigin, ManifestOrigin, Origins};
use sealift::interrupt::Interrupt;
use sealift::load::Candidates;
use sealift::oci::{Digest, PlatformSelection};
use sealift::progress::Silent;
use sealift::save::{self, Output};
use sealift::source::{Fallback, Source};
use sealift::verify::{self, Report};
use serde_json::{Value, json};

use crate::good::{check, codes, open};
use crate::images::{self, GZIP, NAME, OCI_MANIFEST, Sample, ZSTD, blob, descriptor, layer, plain};
use crate::tar_builder::{TarBuilder, length};

const UNCOMPRESSED: &str = "dev.sealift.uncompressed";
const RECORDED: &str = "dev.sealift.recorded";
const PROVENANCE: &str = "dev.sealift.provenance";

fn three() -> Sample {
    Sample::new(vec![
        layer("one"),
        (ZSTD, images::zstd(&plain("two")), plain("two")),
        layer("three"),
    ])
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn report(bytes: &[u8], options: &verify::Options) -> Report {
    check(&*open(file(bytes).path()).unwrap(), options)
}

fn root(sample: &Sample) -> Digest {
    Digest::sha256(sample.manifest.to_string().as_bytes())
}

#[test]
fn a_layer_counts_by_its_diff_id() {
    let sample = three();
    let root = root(&sample);
    let bytes = sample.uncompress(&[0, 1]).tar();
    let full = verify::Options::default();
    let report = report(&bytes, &full);
    assert_eq!(codes(&report), [""; 0]);
    assert!(report.is_good() && report.images[0].is_good);
    let image = &report.images[0];
    assert_eq!((image.root, image.digest), (root, Some(root)));
    assert_eq!((image.evidence, image.uncompressed), (Evidence::Verified, 2));
    assert_eq!((report.blobs, report.layers.len()), (5, 3));
    for text in ["one", "two", "three"] {
        let plain = plain(text);
        assert_eq!(
            report.uncompressed_size(&Digest::sha256(&plain)),
            Some(length(&plain))
        );
    }
    let quick = verify::Options { quick: true, ..full };
    let report = self::report(&bytes, &quick);
    assert!(report.is_good() && report.images[0].is_good);
    assert_eq!((report.blobs, codes(&report)), (5, vec![]));
}

#[test]
fn a_layer_may_be_present_in_both_forms_and_must_be_in_one() {
    let one = blob(&images::gzip(&plain("one")));
    let full = verify::Options::default();
    let sample = three().uncompress(&[0]);
    let both = TarBuilder::default()
        .file(&one.0, &one.1)
        .files(&sample.files())
        .end();
    let report = report(&both, &full);
    assert_eq!((codes(&report), report.images[0].uncompressed), (vec![], 0));
    // The diff id of the unused tar is known all the same.
    let mut spoilt = both.clone();
    let at = both.windows(4).position(|window| window == b"one\0").unwrap();
    spoilt[at] ^= 1;
    let report = self::report(&spoilt, &full);
    assert_eq!(codes(&report), ["digest-differs"]);
    assert!(!report.images[0].is_good);

    // One image has it stored, the other not; each has to say so for itself.
    for declared in [true, false] {
        let mut both = three().uncompress(&[0]);
        let mut other = both.index["manifests"][0].clone();
        other["annotations"]["io.containerd.image.name"] = "docker.io/library/other:1".into();
        other["annotations"]["org.opencontainers.image.ref.name"] = "docker.io/library/other:1".into();
        both.manifest_json[0]["RepoTags"] = json!([NAME, "docker.io/library/other:1"]);
        if !declared {
            other["annotations"].as_object_mut().unwrap().remove(UNCOMPRESSED);
        }
        both.index["manifests"].as_array_mut().unwrap().push(other);
        let report = self::report(&both.tar(), &full);
        let good: Vec<bool> = report.images.iter().map(|image| image.is_good).collect();
        assert_eq!(good, [true, declared]);
        assert_eq!(report.errors(), usize::from(!declared));
    }
}

#[test]
fn an_image_goes_by_its_recorded_digest() {
    let other = Digest::sha256(b"what the engine showed");
    for (recorded, digest, evidence) in [
        (other.to_string(), Some(other), Evidence::Recorded),
        ("none".into(), None, Evidence::None),
        // Its own, which the save could not prove.
        (
            root(&three()).to_string(),
            Some(root(&three())),
            Evidence::Recorded,
        ),
    ] {
        let mut sample = three();
        sample.index["manifests"][0]["annotations"][RECORDED] = recorded.into();
        let report = report(&sample.tar(), &verify::Options::default());
        let image = &report.images[0];
        assert!(report.is_good() && image.is_good);
        assert_eq!((image.digest, image.evidence), (digest, evidence));
        assert_eq!(image.root, root(&three()));
    }
}

fn said() -> Origins {
    let digest = |bytes: &[u8]| Digest::sha256(bytes);
    let reason = "no known encoder reproduces it".to_string();
    Origins {
        manifest: ManifestOrigin::Engine,
        layers: [
            (
                digest(&images::gzip(&plain("one"))),
                LayerOrigin::Uncompressed { reason },
            ),
            (digest(&images::zstd(&plain("two"))), LayerOrigin::Registry),
            (
                digest(&images::gzip(&plain("three"))),
                LayerOrigin::Rebuilt {
                    by: "Go gzip -1".into(),
                },
            ),
        ]
        .into(),
    }
}

fn source(path: &Path) -> ArchiveSource {
    ArchiveSource::new(open(path).unwrap()).unwrap()
}

/// Saves from a source; the annotations of the only image, but for names, and the archive.
fn saved(source: &dyn Source, names: &[&str]) -> (Vec<Value>, Box<dyn Layout>) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("again.tar");
    let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let options = save::Options {
        platforms: Some(PlatformSelection::Present),
        ..save::Options::default()
    };
    let to = Output::File(&target);
    save::save(source, &names, &options, to, &Silent, &Interrupt::default()).unwrap();
    let layout = open(&target).unwrap();
    let report = check(&*layout, &verify::Options::default());
    assert_eq!(codes(&report), [""; 0]);
    let index: Value = serde_json::from_slice(layout.index()).unwrap();
    let annotations = index["manifests"].as_array().unwrap().iter().map(|entry| {
        let mut annotations = entry["annotations"].clone();
        let map = annotations.as_object_mut().unwrap();
        map.retain(|key, _| key.starts_with("dev.sealift") && key != "dev.sealift.reference");
        annotations
    });
    (annotations.collect(), layout)
}

#[test]
fn unknown_provenance_is_ignored() {
    for text in [r#"{"manifest":{"from":"a later way"},"layers":{}}"#, "[", "null"] {
        let mut sample = three();
        sample.index["manifests"][0]["annotations"][PROVENANCE] = text.into();
        let archive = file(&sample.tar());
        let layout = open(archive.path()).unwrap();
        assert!(layout.entries()[0].origins.is_none(), "{text}");
        let found = check(&*layout, &verify::Options::default());
        assert!(found.is_good(), "{text}: {:?}", found.findings);
    }
}

#[test]
fn saving_from_an_archive_keeps_the_provenance() {
    let origins = serde_json::to_string(&said()).unwrap();
    let mut sample = three().uncompress(&[0]);
    let root = root(&three());
    sample.index["manifests"][0]["annotations"][PROVENANCE] = origins.clone().into();
    let told = json!({
        UNCOMPRESSED: Digest::sha256(&images::gzip(&plain("one"))).to_string(), PROVENANCE: origins,
    });
    let archive = file(&sample.tar());
    for name in ["app:1".to_string(), format!("app@{root}")] {
        let (annotations, layout) = saved(&source(archive.path()), &[&name]);
        assert_eq!(annotations, std::slice::from_ref(&told), "{name}");
        assert!(layout.stored(&Digest::sha256(&plain("one"))).is_some());
    }

    // As a substitute, by name and by the digest that was recorded; its own digest names nothing.
    let other = Digest::sha256(b"what the engine showed");
    for recorded in [other.to_string(), "none".into()] {
        let mut sample = three();
        sample.index["manifests"][0]["annotations"][RECORDED] = recorded.clone().into();
        let archive = file(&sample.tar());
        let source = source(archive.path());
        let told = json!({ RECORDED: recorded });
        assert_eq!(saved(&source, &["app:1"]).0, std::slice::from_ref(&told));
        let resolve = |digest: Digest| source.resolve(&format!("app@{digest}").parse().unwrap());
        assert_eq!(resolve(root).unwrap_err().kind(), ErrorKind::NotFound);
        if recorded == "none" {
            assert_eq!(resolve(other).unwrap_err().kind(), ErrorKind::NotFound);
        } else {
            assert_eq!(saved(&source, &[&format!("app@{other}")]).0, [told]);
        }
    }

    // Its own digest stays as unproven as it was, unless the user vouches for it.
    let mut sample = three();
    sample.index["manifests"][0]["annotations"][RECORDED] = json!(root);
    let archive = file(&sample.tar());
    let source = source(archive.path());
    assert_eq!(saved(&source, &["app:1"]).0, [json!({ RECORDED: root })]);
    assert_eq!(saved(&source, &[&format!("app@{root}")]).0, [json!({})]);
}

#[test]
fn one_substitute_may_stand_for_several_digests() {
    let mut sample = three();
    let digests = ["a", "b"].map(|text| Digest::sha256(text.as_bytes()));
    let entries = ["one", "two", "three"].map(|name| {
        let mut entry = sample.entry.clone();
        let name = format!("docker.io/library/{name}:1");
        entry["annotations"] = json!({ "io.containerd.image.name": name, RECORDED: "none" });
        entry
    });
    sample.index["manifests"] = json!(entries);
    sample.manifest_json[0]["RepoTags"] = json!(["one:1", "two:1", "three:1"]);
    for (at, digest) in digests.iter().enumerate() {
        sample.index["manifests"][at + 1]["annotations"][RECORDED] = digest.to_string().into();
    }
    let archive = file(&sample.tar());
    let source = source(archive.path());
    let by_digest: Vec<String> = digests.iter().map(|digest| format!("x@{digest}")).collect();
    for (name, recorded) in [
        ("one:1", "none".to_string()),
        ("two:1", digests[0].to_string()),
        ("three:1", digests[1].to_string()),
        (&by_digest[0], digests[0].to_string()),
        (&by_digest[1], digests[1].to_string()),
    ] {
        assert_eq!(
            saved(&source, &[name]).0,
            [json!({ RECORDED: recorded })],
            "{name}"
        );
    }
}

#[test]
fn one_platform_of_an_index_keeps_its_part() {
    let mut other = Sample::new(vec![layer("three"), layer("four")]);
    other.config["architecture"] = "arm64".into();
    other.reseal();
    let mut beside = descriptor(OCI_MANIFEST, other.manifest.to_string().as_bytes());
    beside["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let (mut sample, index) = three().uncompress(&[0]).wrap(&[beside]);
    let mut said = said();
    let four = Digest::sha256(&images::gzip(&plain("four")));
    said.layers.insert(four, LayerOrigin::Stored);
    sample.index["manifests"][0]["annotations"][PROVENANCE] = json!(serde_json::to_string(&said).unwrap());
    let bytes = TarBuilder::default()
        .file(&index.0, &index.1)
        .files(&other.blobs()[..2])
        .file(
            &blob(&images::gzip(&plain("four"))).0,
            &images::gzip(&plain("four")),
        )
        .files(&sample.files())
        .end();
    let archive = file(&bytes);
    assert_eq!(codes(&report(&bytes, &verify::Options::default())), [""; 0]);
    let source = source(archive.path());
    // All of it, and one manifest by its digest: the provenance is that of the selected layers.
    let (annotations, _) = saved(&source, &["app:1"]);
    let one = Digest::sha256(&images::gzip(&plain("one"))).to_string();
    assert_eq!(annotations[0][UNCOMPRESSED], one);
    let again = |annotations: &Value| {
        let text = annotations[PROVENANCE].as_str().unwrap();
        serde_json::from_str::<Origins>(text).unwrap()
    };
    assert_eq!(again(&annotations[0]), said);
    let (annotations, _) = saved(&source, &[&format!("app@{}", root(&three()))]);
    assert_eq!(annotations[0][UNCOMPRESSED], one);
    assert_eq!(again(&annotations[0]), self::said());
    let (annotations, layout) = saved(&source, &[&format!("app@{}", root(&other))]);
    assert_eq!(annotations[0].get(UNCOMPRESSED), None);
    assert!(layout.stored(&Digest::sha256(&plain("one"))).is_none());
    assert_eq!(again(&annotations[0]).layers.len(), 2);
}

#[test]
fn a_merged_archive_uses_the_stored_layer_where_it_exists() {
    let mut sample = three().uncompress(&[0]);
    sample.index["manifests"][0]["annotations"][PROVENANCE] = json!(serde_json::to_string(&said()).unwrap());
    let mut base = Sample::new(vec![layer("one")]);
    base.index["manifests"][0]["annotations"] =
        json!({"io.containerd.image.name": "docker.io/library/base:1"});
    base.manifest_json[0]["RepoTags"] = json!(["base:1"]);
    let (first, second) = (file(&sample.tar()), file(&base.tar()));
    let several = Fallback::new(vec![
        Box::new(source(first.path())) as Box<dyn Source>,
        Box::new(source(second.path())),
    ]);
    let (annotations, layout) = saved(&several, &["app:1", "base:1"]);
    assert!(annotations[0].get(UNCOMPRESSED).is_some(), "{annotations:?}");
    assert_eq!(annotations[1], json!({}));
    // Read again, the layer is there as it was stored, and nothing is missing of the image.
    let entry = &layout.entries()[0];
    let mut fetch = |descriptor: &sealift::oci::Descriptor| layout.metadata(descriptor);
    let graph = Graph::walk(&entry.descriptor, &PlatformSelection::Present, &mut fetch).unwrap();
    let provenance = layout.provenance(entry, &graph);
    assert!(provenance.uncompressed.is_empty());
    let one = Digest::sha256(&images::gzip(&plain("one")));
    assert_eq!(provenance.origins.unwrap().layers[&one], LayerOrigin::Stored);
    assert_eq!(graph.images[0].manifest.layers[0].media_type.to_string(), GZIP);
    let (annotations, layout) = saved(&ArchiveSource::new(layout).unwrap(), &["app:1"]);
    assert_eq!(annotations[0].get(UNCOMPRESSED), None);
    assert!(layout.stored(&one).is_some() && layout.stored(&Digest::sha256(&plain("one"))).is_none());
}

#[test]
fn two_archives_complete_each_other() {
    let sample = three().uncompress(&[0, 1]);
    let mut base = Sample::new(vec![layer("one")]);
    base.index["manifests"][0]["annotations"] =
        json!({"io.containerd.image.name": "docker.io/library/base:1"});
    base.manifest_json[0]["RepoTags"] = json!(["base:1"]);
    let (first, second) = (file(&sample.tar()), file(&base.tar()));
    let contents = [open(first.path()).unwrap(), open(second.path()).unwrap()];
    let mut candidates = Candidates::default();
    for (layout, expected) in contents.iter().zip([2, 1]) {
        let report = check(&**layout, &verify::Options::default());
        candidates.add(&**layout, &report).unwrap();
        assert_eq!(candidates.images[0].image.provenance.uncompressed.len(), expected);
    }
    let two = Digest::sha256(&images::zstd(&plain("two")));
    assert!(
        candidates.images[0]
            .image
            .provenance
            .uncompressed
            .contains_key(&two)
    );
    let image = &candidates.images[0].image.graph.images[0];
    let obstacle = candidates.images[0].layer_obstacle(image).unwrap();
    assert!(
        obstacle.reason.starts_with("it has 1 of its 3 layers"),
        "{obstacle}"
    );
    let base = &candidates.images[1];
    assert_eq!(base.layer_obstacle(&base.image.graph.images[0]), None);
}
