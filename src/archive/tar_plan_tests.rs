use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::*;
use crate::error::ErrorKind;
use crate::image::provenance::Provenance;
use crate::image::{Graph, Image};
use crate::oci::testing::{TestImage, index};
use crate::oci::{Config, Document, MediaType, PlatformSelection};

/// An image of one manifest whose layers are only described.
fn image(name: &str, layers: &[Descriptor]) -> NamedImage {
    let image = layers.iter().fold(TestImage::new(), |image, layer| {
        image.stored_layer(layer.digest, layer.clone())
    });
    let config = image.config().bytes;
    let manifest = image.manifest();
    let root = manifest.descriptor;
    let Ok(Document::Manifest(manifest)) = Document::parse(&root.media_type, manifest.bytes) else {
        panic!("not a manifest");
    };
    NamedImage {
        reference: Some(name.parse().unwrap()),
        bare_tag: None,
        provenance: Provenance::default(),
        referrers: Arc::default(),
        graph: Arc::new(Graph {
            root: root.clone(),
            indexes: Vec::new(),
            images: vec![Image {
                descriptor: root,
                manifest: Arc::new(manifest),
                config: Some(Arc::new(Config::parse(&config).unwrap())),
                config_raw: Some(config.into()),
            }],
            absent: Vec::new(),
        }),
    }
}

fn layer(seed: u8, size: u64) -> Descriptor {
    let media_type = MediaType::new("application/vnd.oci.image.layer.v1.tar");
    Descriptor::new(media_type, Digest::Sha256([seed; 32]), size)
}

fn plan(images: &[NamedImage]) -> Result<TarPlan> {
    TarPlan::new(images, &Platform::linux("amd64", None))
}

/// Writes the known bytes of an archive into a sparse file; blobs are gaps.
fn sparse(plan: &TarPlan) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(plan.size()).unwrap();
    for run in plan.runs() {
        file.write_all_at(&run.bytes, run.offset).unwrap();
    }
    file
}

#[test]
fn runs_and_blobs_are_the_whole_without_gaps() {
    let layers = [
        layer(1, 0),
        layer(2, 1),
        layer(3, 511),
        layer(4, 512),
        layer(5, 513),
    ];
    let plan = plan(&[image("a:1", &layers), image("b:1", &layers[..2])]).unwrap();
    let mut stretches: Vec<(u64, u64)> = plan
        .runs()
        .iter()
        .map(|run| (run.offset, length(&run.bytes)))
        .collect();
    stretches.extend(
        plan.blobs()
            .iter()
            .map(|blob| (blob.offset, blob.descriptor.size)),
    );
    stretches.retain(|(_, length)| *length > 0);
    stretches.sort();
    let mut at = 0;
    for (offset, length) in stretches {
        assert_eq!(offset, at);
        at += length;
    }
    assert_eq!(at, plan.size());
    assert_eq!(plan.size() % BLOCK, 0);
    assert_eq!(plan.blobs().len(), 5);
    assert!(plan.blobs().iter().all(|blob| blob.offset % BLOCK == 0));
    assert!(
        plan.runs().iter().any(|run| run.offset == plan.names_at()),
        "names can be held back"
    );
    let entries = read_back(&plan);
    let names: Vec<&str> = entries.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(names[names.len() - 2..], ["index.json", "manifest.json"]);
    let (_, offset, size) = entries.last().unwrap();
    assert_eq!(plan.size(), (offset + size).next_multiple_of(BLOCK) + 2 * BLOCK);
}

/// Paths, offsets and sizes as the tar crate reads them.
fn read_back(plan: &TarPlan) -> Vec<(String, u64, u64)> {
    let mut archive = tar::Archive::new(sparse(plan));
    let entries = archive.entries_with_seek().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_string();
        (path, entry.raw_file_position(), entry.size())
    });
    entries.collect()
}

#[test]
fn sizes_beyond_8_gib_are_read_back() {
    // The last size that fits into octal digits, the first that does not, and one beyond 32 bits of blocks.
    let sizes = [(1, MAX_OCTAL), (2, MAX_OCTAL + 1), (3, 3 << 40), (4, 7)];
    let layers: Vec<Descriptor> = sizes.iter().map(|(seed, size)| layer(*seed, *size)).collect();
    let plan = plan(&[image("a:1", &layers)]).unwrap();
    let planned: Vec<(String, u64, u64)> = plan
        .blobs()
        .iter()
        .map(|blob| {
            let path = format::blob_path(&blob.descriptor.digest);
            (path, blob.offset, blob.descriptor.size)
        })
        .collect();
    let found = read_back(&plan);
    assert_eq!(found[3..7], planned);
    let sizes_found: Vec<u64> = planned.iter().map(|(.., size)| *size).collect();
    assert_eq!(sizes_found, [MAX_OCTAL, MAX_OCTAL + 1, 3 << 40, 7]);
}

#[test]
fn a_sha512_path_that_ustar_cannot_hold_is_read_back() {
    let mut long = layer(1, 3);
    long.digest = Digest::Sha512([0xab; 64]);
    let plan = plan(&[image("a:1", &[long.clone()])]).unwrap();
    let mut archive = tar::Archive::new(sparse(&plan));
    let paths: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            entry.path().unwrap().to_str().unwrap().to_string()
        })
        .collect();
    assert!(paths.contains(&format::blob_path(&long.digest)), "{paths:?}");
}

#[test]
fn pax_records_count_themselves() {
    assert_eq!(record("size", "8589934592"), "19 size=8589934592\n");
    // 2 digits, key, value and three more are 100: then the length needs a third digit.
    for value in 0..2000 {
        let record = record("path", &"x".repeat(value));
        let said: usize = record.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(said, record.len());
    }
}

#[test]
fn the_order_asked_for_makes_no_difference() {
    let mut images = vec![
        image("b:1", &[layer(9, 10), layer(2, 20)]),
        image("a:1", &[layer(2, 20)]),
        image("c:1", &[]),
    ];
    named::sort(&mut images);
    let first = plan(&images).unwrap();
    images.reverse();
    named::sort(&mut images);
    let second = plan(&images).unwrap();
    assert_eq!(read_back(&first), read_back(&second));
    assert_eq!(first.digest(), second.digest());
    let digests: Vec<_> = first.blobs().iter().map(|blob| blob.descriptor.digest).collect();
    assert_eq!(digests, [layer(2, 0).digest, layer(9, 0).digest]);
}

#[test]
fn refuses_what_cannot_be_right() {
    let code = |images: &[NamedImage]| match plan(images) {
        Err(Error::Refused(finding)) => finding.problem.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        code(&[image("a:1", &[layer(1, 10)]), image("b:1", &[layer(1, 11)])]),
        "size-differs"
    );
    assert_eq!(
        code(&[image("a:1", &[layer(1, 10), layer(1, 11)])]),
        "size-differs"
    );
    let most = u64::MAX >> 1;
    let three = [layer(1, most), layer(2, most), layer(3, most)];
    assert_eq!(code(&[image("a:1", &three)]), "too-large");
    assert_eq!(code(&[image("a:1", &[layer(1, most)])]), "too-large");
    let mut forged = image("a:1", &[]);
    let config = &mut Arc::make_mut(&mut forged.graph).images[0].config_raw;
    *config = Some([b" ", &config.as_ref().unwrap()[1..]].concat().into());
    assert_eq!(code(&[forged]), "digest-differs");
    // An index that gives a present manifest another size, for a platform that was not chosen.
    let named = image("a:1", &[]);
    let manifest = named.graph.root.clone();
    let mut chosen = manifest.clone();
    chosen.platform = Some(Platform::linux("amd64", None));
    let mut other = manifest.clone();
    other.platform = Some(Platform::linux("arm64", None));
    other.size += 1;
    let index = index(&[chosen, other]);
    let root = index.descriptor;
    let image = &named.graph.images[0];
    let only = PlatformSelection::Only(vec![Platform::linux("amd64", None)]);
    let graph = Graph::walk(&root, &only, &mut |wanted| {
        Ok(Some(match wanted.digest {
            digest if digest == root.digest => index.bytes.clone(),
            digest if digest == image.descriptor.digest => image.manifest.raw.to_vec(),
            _ => image.config_raw.as_ref().unwrap().to_vec(),
        }))
    })
    .unwrap();
    let reference = named.reference.clone();
    assert_eq!(
        code(&[NamedImage {
            reference,
            bare_tag: None,
            graph: Arc::new(graph),
            provenance: Provenance::default(),
            referrers: Arc::default(),
        }]),
        "size-differs"
    );
}

#[test]
fn names_that_no_reader_would_read_are_not_written() {
    let one = image("a:1", &[]);
    let named = |number: usize| NamedImage {
        reference: Some(format!("a:{number}").parse().unwrap()),
        bare_tag: None,
        ..one.clone()
    };
    let plan = |images: usize| {
        let images: Vec<NamedImage> = (0..images).map(named).collect();
        TarPlan::new(&images, &Platform::host()).map(drop)
    };
    assert!(plan(10_000).is_ok());
    let error = plan(20_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error.to_string().starts_with("index.json of 20000 images"),
        "{error}"
    );
}
