//! The registry source and target against a real registry, CNCF distribution 2.8: with images that skopeo pushed, and with
//! signed ones of an archive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sealift::archive;
use sealift::error::Remedy;
use sealift::image::referrers::ReferrerKind;
use sealift::interrupt::Interrupt;
use sealift::load::{self, Change, LoadOptions, Outcome, Report};
use sealift::oci::{Descriptor, Document, PlatformSelection, Reference};
use sealift::progress::Silent;
use sealift::registry::{
    ClientCertificate, Credential, Credentials, Options, RegistrySource, RegistryTarget, Secret,
};
use sealift::retry::Retry;
use sealift::source::Source;
use sealift::{Error, ErrorKind};
use support::{Built, Compression, Dialect, Image, Registry};

fn options() -> Options {
    Options {
        retry: Retry {
            attempts: 3,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
        },
        ..Options::default()
    }
}

fn source(options: Options) -> RegistrySource {
    RegistrySource::new(options, Arc::new(Silent), Interrupt::default()).unwrap()
}

fn reference(registry: &Registry, name: &str) -> Reference {
    format!("{}/{name}", registry.address()).parse().unwrap()
}

fn pushed(registry: &Registry, image: Image, name: &str) -> (Built, tempfile::TempDir) {
    let layout = tempfile::tempdir().unwrap();
    let built = image.build(layout.path(), "it");
    registry.push(&built, name);
    (built, layout)
}

fn resolve(options: Options, registry: &Registry, name: &str) -> Result<Descriptor, Error> {
    source(options).resolve(&reference(registry, name))
}

/// Reads everything that a reference stands for, and compares it with what was built.
fn assert_reads_all(source: &RegistrySource, reference: &Reference, built: &Built) {
    let root = source.resolve(reference).unwrap();
    assert_eq!(root.digest.to_string(), built.digest);
    assert_eq!(
        (root.media_type.as_str(), root.size),
        (built.media_type.as_str(), built.size)
    );
    let repository = reference.repository();
    let graph = sealift::image::Graph::walk(&root, &PlatformSelection::All, &mut |descriptor| {
        source.metadata(repository, descriptor).map(Some)
    })
    .unwrap();
    let mut seen = Vec::new();
    for blob in graph.blobs() {
        let expected = std::fs::read(built.blob(&blob.digest.to_string())).unwrap();
        let middle = blob.size / 2;
        for offset in [0, middle] {
            let mut bytes = Vec::new();
            source
                .open(repository, &blob, offset)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            assert_eq!(bytes, expected[usize::try_from(offset).unwrap()..], "{blob:?}");
        }
        seen.push(blob.digest.to_string());
    }
    seen.sort();
    assert_eq!(seen, built.blobs());
}

#[test]
fn loopback_registries_are_reached_over_plain_http() {
    let registry = Registry::start();
    let source = source(options());
    for (name, image) in [
        ("oci", Image::sample("oci", "1")),
        ("zstd", Image::sample("zstd", "1").compression(Compression::Zstd)),
        ("docker", Image::sample("docker", "1").dialect(Dialect::Docker)),
        ("single", Image::sample("single", "1").without_index()),
    ] {
        let (built, _layout) = pushed(&registry, image, &format!("lib/{name}:1"));
        let by_tag = reference(&registry, &format!("lib/{name}:1"));
        assert_reads_all(&source, &by_tag, &built);
        let by_digest = reference(&registry, &format!("lib/{name}@{}", built.digest));
        assert_reads_all(&source, &by_digest, &built);
    }
}

#[test]
fn a_tag_costs_one_request() {
    let mut registry = Registry::start();
    let (built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    registry.forget_requests();
    let source = source(options());
    let reference = reference(&registry, "app:1");
    let root = source.resolve(&reference).unwrap();
    let bytes = source.metadata(reference.repository(), &root).unwrap();
    assert!(matches!(
        Document::parse(&root.media_type, bytes),
        Ok(Document::Index(_))
    ));
    let asked: Vec<String> = registry
        .requests()
        .into_iter()
        .map(|request| format!("{} {} {}", request.method, request.target, request.status))
        .collect();
    assert_eq!(asked, ["GET /v2/ 200", "GET /v2/app/manifests/1 200"]);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| request.agent.starts_with("sealift/"))
    );
    drop(built);
}

#[test]
fn missing_repositories_tags_and_blobs_are_not_found() {
    let registry = Registry::start();
    let (_built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    let tag = resolve(options(), &registry, "app:2").unwrap_err();
    assert_eq!(
        tag.to_string(),
        format!("app:2 not found in {}", registry.address())
    );
    assert_eq!(
        (tag.kind(), tag.hint()),
        (ErrorKind::NotFound, Some("it has 1".into()))
    );
    let repository = resolve(options(), &registry, "none:1").unwrap_err();
    assert_eq!(
        repository.to_string(),
        format!("repository none not found in {}", registry.address())
    );
    let digest = format!("app@sha256:{}", "0".repeat(64));
    assert_eq!(
        resolve(options(), &registry, &digest).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_password_is_sent() {
    let registry = Registry::options().user("ann", "correct horse").start();
    let (built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    let with = |password: &str| {
        let credential = Credential::Password {
            username: "ann".into(),
            password: Secret::new(password),
        };
        let mut options = options();
        options.credentials = Credentials::default().with(registry.address(), credential);
        options
    };
    assert_reads_all(
        &source(with("correct horse")),
        &reference(&registry, "app:1"),
        &built,
    );
    let wrong = resolve(with("battery"), &registry, "app:1").unwrap_err();
    assert!(wrong.to_string().contains("were rejected"), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("battery"));
    let none = resolve(options(), &registry, "app:1").unwrap_err();
    assert!(
        none.to_string().contains("there are no credentials for"),
        "{none}"
    );
    assert_eq!(
        (wrong.kind(), none.kind()),
        (ErrorKind::Registry, ErrorKind::Registry)
    );
}

#[test]
fn a_private_ca_is_trusted() {
    let registry = Registry::options().tls().start();
    let (built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    let trusting = Options {
        ca_files: vec![registry.ca_file()],
        ..options()
    };
    assert_reads_all(&source(trusting.clone()), &reference(&registry, "app:1"), &built);
    // By its other name too.
    let local: Reference = format!("localhost:{}/app:1", registry.port()).parse().unwrap();
    assert_reads_all(&source(trusting), &local, &built);
    let error = resolve(options(), &registry, "app:1").unwrap_err();
    assert!(error.to_string().contains("is not trusted"), "{error}");
    assert_eq!(
        error.hint(),
        Some(Remedy::TrustCa(registry.address().into()).into())
    );
    let insecure = Options {
        insecure: vec![registry.address().parse().unwrap()],
        ..options()
    };
    assert_reads_all(&source(insecure), &reference(&registry, "app:1"), &built);
}

#[test]
fn a_client_certificate_is_sent() {
    let registry = Registry::options().client_certs().start();
    let (built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    let trusting = Options {
        ca_files: vec![registry.ca_file()],
        ..options()
    };
    let error = resolve(trusting.clone(), &registry, "app:1").unwrap_err();
    assert_eq!(error.hint(), Some(Remedy::ClientCertificate.into()), "{error}");
    let (certificate, key) = registry.client_cert();
    let shown = Options {
        client_certificate: Some(ClientCertificate { certificate, key }),
        ..trusting
    };
    assert_reads_all(&source(shown), &reference(&registry, "app:1"), &built);
}

#[test]
fn a_registry_that_comes_back_is_asked_again() {
    let mut registry = Registry::start();
    let (built, _layout) = pushed(&registry, Image::sample("app", "1"), "app:1");
    let mut patient = options();
    patient.retry = Retry {
        attempts: 8,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(1),
    };
    let source = source(patient);
    let name = reference(&registry, "app:1");
    source.resolve(&name).unwrap();
    registry.stop();
    let again = std::thread::scope(|scope| {
        let asking = scope.spawn(|| source.resolve(&name));
        std::thread::sleep(Duration::from_millis(300));
        registry.start_again();
        asking.join().unwrap()
    });
    assert_eq!(again.unwrap().digest.to_string(), built.digest);
}

/// Pushes an archive of signed images below `mirror`.
fn push_signed(registry: &Registry, name: &str) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/signatures/archives");
    let archive = archive::open(
        &[folder.join(format!("{name}.tar.gz"))],
        &archive::Options::default(),
    );
    let destination = format!("{}/mirror", registry.address()).parse().unwrap();
    let target = RegistryTarget::new(
        destination,
        false,
        options(),
        Arc::new(Silent),
        Interrupt::default(),
    );
    let outcome = load::load(
        &target.unwrap(),
        &[archive.unwrap()],
        &LoadOptions::default(),
        &mut (),
        &Silent,
        &Interrupt::default(),
    );
    match outcome.unwrap() {
        Outcome::Loaded(report) => report,
        Outcome::Planned(plan) => panic!("{plan}"),
    }
}

#[test]
fn what_refers_to_an_image_is_found_in_the_registry() {
    let mut registry = Registry::start();
    let report = push_signed(&registry, "r1");
    assert_eq!(report.failure(), None, "{:?}", report.images);
    let shown = report.images[0].referrers.shown.clone();
    assert_eq!(shown.values().sum::<usize>(), 12, "{shown:?}");
    assert!(shown[&ReferrerKind::Signature] > 0 && shown[&ReferrerKind::Sbom] > 0);
    // Each manifest's list, of which the archive's own list is the source.
    let list = archive_list("r1");
    let mut lists: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for entry in list["manifests"].as_array().unwrap() {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let annotations = &entry["annotations"];
        let digest = text(&entry["digest"]);
        if let Some(tag) = annotations["dev.sealift.tag"].as_str() {
            assert_eq!(registry.digest_of(&format!("mirror/acme/app:{tag}")), digest);
            continue;
        }
        let subject = text(&annotations["io.containerd.manifest.subject"]);
        let entry = (digest, text(&entry["artifactType"]));
        lists.entry(subject).or_default().push(entry);
    }
    assert_eq!(lists.len(), 5);
    for (subject, mut expected) in lists {
        let tag = subject.replace(':', "-");
        let raw = registry.raw(&format!("mirror/acme/app:{tag}"));
        let list: serde_json::Value = serde_json::from_str(&raw).unwrap();
        let entries = list["manifests"].as_array().unwrap().iter();
        let found: Vec<_> = entries
            .map(|entry| {
                let text = |key: &str| entry[key].as_str().unwrap().to_owned();
                (text("digest"), text("artifactType"))
            })
            .collect();
        expected.sort();
        assert_eq!(found, expected, "{subject}");
    }
    registry.forget_requests();
    let again = push_signed(&registry, "r1");
    assert_eq!((again.sent, again.changed()), (0, false));
    assert_eq!(again.images[0].change, Change::Unchanged);
    assert_eq!(again.images[0].referrers.shown, shown);
    let asked = registry.requests();
    let changes = asked
        .iter()
        .filter(|one| !["GET", "HEAD"].contains(&one.method.as_str()));
    assert_eq!(changes.count(), 0);
}

/// The list of referrers of an archive's only image.
fn archive_list(name: &str) -> serde_json::Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/signatures/archives/{name}.tar.gz"));
    let file = std::fs::File::open(path).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let digest = index["manifests"][0]["annotations"]["dev.sealift.referrers"].as_str();
    let path = format!("blobs/{}", digest.unwrap().replace(':', "/"));
    serde_json::from_slice(&files[&path]).unwrap()
}
