//! Layouts and folders that podman, buildah or skopeo may have written: what their manifests prove.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sealift::archive::{ArchiveSource, Opened, open_any};
use sealift::image::Graph;
use sealift::image::provenance::{Evidence, Provenance};
use sealift::oci::{Descriptor, Digest, MediaType, PlatformSelection, Reference, Repository};
use sealift::progress::Silent;
use sealift::source::{Answer, Found, Listing, Query, Source, Upstream};
use sealift::verify;
use sealift::{Error, ErrorKind, Result};

use crate::good::{check, codes, open};
use crate::images::{GZIP, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Sample, blob, plain};
use crate::tar_builder::TarBuilder;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A descriptor as containers/image writes it.
fn descriptor(kind: &str, bytes: &[u8]) -> String {
    let (digest, size) = (Digest::sha256(bytes), bytes.len());
    match kind.contains("docker") {
        true => format!(r#"{{"mediaType":"{kind}","size":{size},"digest":"{digest}"}}"#),
        false => format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#),
    }
}

/// A manifest as containers/image writes it.
fn manifest(sample: &Sample, [kind, config_kind, layer_kind]: [&str; 3]) -> String {
    let config = descriptor(config_kind, sample.config.to_string().as_bytes());
    let layers = sample.layers.iter();
    let layers: Vec<String> = layers
        .map(|(_, stored, _)| descriptor(layer_kind, stored))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    )
}

fn written() -> String {
    manifest(&Sample::plain(), [OCI_MANIFEST, OCI_CONFIG, GZIP])
}

/// The same with spaces, as a registry may have it.
fn spaced() -> String {
    written().replace(':', ": ").replace("sha256: ", "sha256:")
}

/// An `index.json` as skopeo 1.22 writes it; 1.9 writes no media type.
fn index(kind: &str, root: &str, annotations: &str) -> String {
    let entry = descriptor(kind, root.as_bytes());
    let entry = format!("{}{annotations}}}", entry.strip_suffix('}').unwrap());
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#)
}

fn named(name: &str) -> String {
    format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

/// A layout of the plain sample's blobs with these documents.
fn layout(documents: &[&str], index: &str) -> tempfile::NamedTempFile {
    let sample = Sample::plain();
    let mut files = vec![(
        "oci-layout".to_string(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    files.extend(documents.iter().map(|document| blob(document.as_bytes())));
    files.extend(sample.blobs().split_off(1));
    files.push(("index.json".into(), index.as_bytes().to_vec()));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &TarBuilder::default().files(&files).end()).unwrap();
    file
}

/// The digest and evidence of the only image.
fn evidence(path: &Path) -> (Option<Digest>, Evidence) {
    let report = check(&*open(path).unwrap(), &verify::Options::default());
    assert_eq!(codes(&report), [""; 0]);
    (report.images[0].digest, report.images[0].evidence)
}

#[test]
fn a_manifest_that_podman_may_have_written_proves_no_digest() {
    let (written, spaced) = (written(), spaced());
    let older = |index: String| index.replace(&format!(r#""mediaType":"{OCI_INDEX}","#), "");
    let of = |root: &str, annotations: &str| index(OCI_MANIFEST, root, annotations);
    let own = Digest::sha256(written.as_bytes());
    let pinned = Digest::sha256(b"what podman pulled");
    let at = |digest: Digest| named(&format!("docker.io/library/app@{digest}"));
    let name = named("docker.io/library/app:1");
    let containerd = r#","annotations":{"io.containerd.image.name":"docker.io/library/app:1"}"#;
    let source = r#","annotations":{"containerd.io/distribution.source.docker.io":"library/app"}"#;
    for (what, root, index, digest, expected) in [
        (
            "podman save",
            &written,
            of(&written, &name),
            own,
            Evidence::Recorded,
        ),
        (
            "podman 4",
            &written,
            older(of(&written, &name)),
            own,
            Evidence::Recorded,
        ),
        ("no name", &written, of(&written, ""), own, Evidence::Recorded),
        (
            "a tag",
            &written,
            of(&written, &named("1")),
            own,
            Evidence::Recorded,
        ),
        // `podman save NAME@DIGEST`: the digest that podman knew, over another manifest.
        (
            "pinned",
            &written,
            of(&written, &at(pinned)),
            pinned,
            Evidence::Recorded,
        ),
        (
            "pinned, other form",
            &spaced,
            of(&spaced, &at(pinned)),
            pinned,
            Evidence::Recorded,
        ),
        (
            "its own",
            &written,
            of(&written, &at(own)),
            own,
            Evidence::Verified,
        ),
        (
            "containerd",
            &written,
            of(&written, containerd),
            own,
            Evidence::Verified,
        ),
        ("docker", &written, of(&written, source), own, Evidence::Verified),
        (
            "crane",
            &written,
            of(&written, &name).replace(',', ", "),
            own,
            Evidence::Verified,
        ),
        (
            "skopeo copy",
            &spaced,
            of(&spaced, &name),
            Digest::sha256(spaced.as_bytes()),
            Evidence::Verified,
        ),
    ] {
        let file = layout(&[root], &index);
        assert_eq!(evidence(file.path()), (Some(digest), expected), "{what}");
    }
}

#[test]
fn an_index_that_skopeo_converted_proves_no_digest_either() {
    let spaced = spaced();
    let platform = r#","platform":{"architecture":"amd64","os":"linux"}"#;
    let converted = index(OCI_MANIFEST, &spaced, platform);
    let original = converted.replacen(',', ", ", 1);
    for (index, expected) in [(converted, Evidence::Recorded), (original, Evidence::Verified)] {
        let file = layout(&[&spaced, &index], &self::index(OCI_INDEX, &index, &named("1")));
        let digest = Digest::sha256(index.as_bytes());
        assert_eq!(evidence(file.path()), (Some(digest), expected));
    }
}

/// A registry that has some digests, and what it was asked for.
struct Registry {
    has: Vec<Digest>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Source for Registry {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            self.asked.lock().unwrap().push(reference.to_string());
            let digest = reference.digest().unwrap();
            match self.has.contains(&digest) {
                true => {
                    let root = Descriptor::new(MediaType::new(OCI_MANIFEST), digest, 1);
                    Ok(Found::in_registry(root, "a registry".into(), query.platforms))
                }
                false => {
                    let error = Error::NotFound {
                        what: reference.to_string(),
                        place: "a registry".into(),
                        hint: None,
                    };
                    Err(error.into())
                }
            }
        })
    }

    fn metadata(&self, _: &Repository, _: &Descriptor) -> Result<Vec<u8>> {
        unreachable!("only digests are asked for")
    }

    fn open(&self, _: &Repository, _: &Descriptor, _: u64) -> Result<Box<dyn std::io::Read + Send>> {
        unreachable!("only digests are asked for")
    }

    fn list(&self) -> Result<Listing> {
        unreachable!("only digests are asked for")
    }
}

fn provenance(source: &ArchiveSource, name: &str) -> Provenance {
    let reference = Reference::parse_any(name).unwrap();
    let root = source.resolve(&reference).unwrap();
    let selection = PlatformSelection::Present;
    let graph = Graph::walk(&root, &selection, &mut |descriptor| {
        source.metadata(reference.repository(), descriptor).map(Some)
    });
    source.provenance(&reference, &graph.unwrap()).unwrap()
}

#[test]
fn a_registry_or_the_user_proves_what_an_archive_does_not() {
    let written = written();
    let own = Digest::sha256(written.as_bytes());
    let index = index(OCI_MANIFEST, &written, &named("quay.io/org/app:1"));
    let file = layout(&[&written], &index);
    let source = || ArchiveSource::new(open(file.path()).unwrap()).unwrap();
    let name = "quay.io/org/app:1";
    let pinned = format!("quay.io/org/app@{own}");
    for (has, name, expected, asks) in [
        (vec![own], name, Evidence::Verified, true),
        (vec![], name, Evidence::Recorded, true),
        (vec![], pinned.as_str(), Evidence::Verified, false),
        // Without a name there is no repository to ask for it.
        (vec![own], &own.to_string(), Evidence::Recorded, false),
    ] {
        let asked = Arc::default();
        let registry = Registry {
            has,
            asked: Arc::clone(&asked),
        };
        let source = source().asking(Upstream::new(Some(Arc::new(registry)), Arc::new(Silent)));
        let provenance = provenance(&source, name);
        assert_eq!(provenance.evidence(), expected, "{name}");
        assert_eq!(
            provenance.origins.is_some(),
            expected == Evidence::Recorded,
            "{name}"
        );
        let expected: &[String] = if asks { std::slice::from_ref(&pinned) } else { &[] };
        assert_eq!(*asked.lock().unwrap(), expected, "{name}");
    }
    assert_eq!(provenance(&source(), name).evidence(), Evidence::Recorded);
}

/// A folder of skopeo's `dir:` with the blobs of a sample.
fn folder(manifest: &str, files: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("version", b"Directory Transport Version: 1.1\n");
    put("manifest.json", manifest.as_bytes());
    for (path, bytes) in files {
        put(path.strip_prefix("blobs/sha256/").unwrap_or(path), bytes);
    }
    folder
}

#[test]
fn a_dir_folder_of_skopeo_is_an_image_without_a_name() {
    let blobs = || Sample::plain().blobs().split_off(1);
    let docker = manifest(&Sample::plain(), [DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_GZIP]);
    for (manifest, expected) in [
        (spaced(), Evidence::Verified),
        (docker.replacen(',', ", ", 1), Evidence::Verified),
        (written(), Evidence::Recorded),
        (docker, Evidence::Recorded),
    ] {
        let folder = folder(&manifest, &blobs());
        let own = Digest::sha256(manifest.as_bytes());
        assert_eq!(evidence(folder.path()), (Some(own), expected), "{manifest}");
        let source = ArchiveSource::new(open(folder.path()).unwrap()).unwrap();
        assert_eq!(source.list().unwrap().references, [Reference::nameless(own)]);
        assert_eq!(provenance(&source, "whatever:2").evidence(), expected);
    }

    // All platforms: the index, and its manifests beside it. Signatures are no part of an image.
    let index = index(OCI_MANIFEST, &spaced(), "").replacen(',', ", ", 1);
    let mut files = blobs();
    let instance = Digest::sha256(spaced().as_bytes()).hex();
    files.push((format!("{instance}.manifest.json"), spaced().into_bytes()));
    files.push((format!("{instance}.signature-1"), b"signed".to_vec()));
    let folder = folder(&index, &files);
    let report = check(&*open(folder.path()).unwrap(), &verify::Options::default());
    assert_eq!(codes(&report), ["unknown-file"]);
    assert!(report.is_good());
    assert_eq!(report.images[0].digest, Some(Digest::sha256(index.as_bytes())));
    assert_eq!((report.blobs, report.images[0].evidence), (4, Evidence::Verified));
}

#[test]
fn an_extracted_docker_save_archive_is_read() {
    let mut sample = Sample::plain();
    sample.layers[0].1 = plain("the only layer");
    let blobs = sample.blobs().split_off(1);
    // `podman save --format docker-dir`, which may call plain tars compressed.
    for kind in [DOCKER_GZIP, "application/vnd.docker.image.rootfs.diff.tar"] {
        let manifest = manifest(&sample, [DOCKER_MANIFEST, DOCKER_CONFIG, kind]);
        let folder = folder(&manifest, &blobs);
        let opened = open_any(&[folder.path().into()], &Default::default()).unwrap();
        let Opened::DockerSave(save) = opened else {
            panic!("{kind}: a layout");
        };
        let [image] = save.images() else {
            panic!("{:?}", save.images());
        };
        assert_eq!(
            image.image_id,
            Digest::sha256(sample.config.to_string().as_bytes())
        );
        assert!(image.tags.is_empty());
        assert_eq!(save.stored(&image.config.diff_ids[0]).len(), 1);
    }
}

#[test]
fn faults_of_a_skopeo_folder_are_found() {
    let blobs = Sample::plain().blobs().split_off(1);
    let layer = blobs[1].0.strip_prefix("blobs/sha256/").unwrap();
    let changed = |change: &dyn Fn(&Path)| {
        let folder = folder(&spaced(), &blobs);
        change(folder.path());
        let layout = open(folder.path()).unwrap();
        codes(&check(&*layout, &verify::Options::default())).join(" ")
    };
    assert_eq!(changed(&|_| ()), "");
    let remove = |at: &Path| fs::remove_file(at.join(layer)).unwrap();
    assert_eq!(changed(&remove), "missing");
    assert_eq!(
        changed(&|at| fs::write(at.join(layer), b"x").unwrap()),
        "size-differs"
    );
    let flip = |at: &Path| {
        let mut bytes = blobs[1].1.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(at.join(layer), bytes).unwrap();
    };
    assert_eq!(changed(&flip), "digest-differs");
    let link = |at: &Path| {
        remove(at);
        fs::write(at.with_extension("elsewhere"), &blobs[1].1).unwrap();
        std::os::unix::fs::symlink(at.with_extension("elsewhere"), at.join(layer)).unwrap();
        fs::remove_file(at.with_extension("elsewhere")).unwrap();
    };
    assert_eq!(changed(&link), "missing not-a-file");

    let refused = |manifest: &str| {
        let folder = folder(manifest, &blobs);
        let opened = open_any(&[folder.path().into()], &Default::default());
        let Err(error) = opened else { panic!("{manifest}") };
        (error.kind(), error.to_string())
    };
    for manifest in ["", "{}", "[", r#"{"schemaVersion":1}"#] {
        let (kind, text) = refused(manifest);
        assert_eq!(kind, ErrorKind::Content);
        assert!(
            text.contains("manifest.json: neither a manifest nor an index"),
            "{text}"
        );
    }
    let twice = written().replacen('{', r#"{"schemaVersion":2,"#, 1);
    assert_eq!(refused(&twice).0, ErrorKind::Content);
}
