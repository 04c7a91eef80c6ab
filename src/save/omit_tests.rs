//! What a save leaves out.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::image::Graph;
use crate::image::provenance::Provenance;
use crate::inventory::{EngineInventory, HostInventory, Inventory, KnownImage};
use crate::oci::testing::TestImage;
use crate::oci::{MediaType, PlatformSelection, chain_ids};

fn diff_id(layer: &str) -> Digest {
    Digest::sha256(layer.as_bytes())
}

fn stored(layer: &str) -> Digest {
    Digest::sha256(format!("compressed {layer}").as_bytes())
}

/// An image with these layers, of 100 bytes each.
fn image(layers: &[&str]) -> NamedImage {
    let image = layers.iter().fold(TestImage::new(), |image, layer| {
        let media_type = MediaType::new(MediaType::OCI_LAYER_GZIP);
        image.stored_layer(diff_id(layer), Descriptor::new(media_type, stored(layer), 100))
    });
    let blobs = image.blobs().into_iter();
    let blobs: HashMap<Digest, Vec<u8>> = blobs.map(|blob| (blob.descriptor.digest, blob.bytes)).collect();
    let graph = Graph::walk(&image.entry(), &PlatformSelection::All, &mut |descriptor| {
        Ok(blobs.get(&descriptor.digest).cloned())
    });
    NamedImage {
        reference: None,
        bare_tag: None,
        graph: Arc::new(graph.unwrap()),
        provenance: Provenance::default(),
        referrers: Arc::default(),
    }
}

/// A host with these blobs, and these layers unpacked on each other.
fn host(blobs: &[&str], unpacked: &[&str]) -> KnownHost {
    let diff_ids: Vec<Digest> = unpacked.iter().map(|layer| diff_id(layer)).collect();
    let inventory = Inventory {
        images: vec![KnownImage::new("image")],
        blobs: blobs.iter().map(|layer| (stored(layer), 100)).collect(),
        chains: chain_ids(&diff_ids).into_iter().collect(),
        unpacked_suffices: true,
        ..Inventory::new("an engine", ())
    };
    let document = HostInventory::new(None, vec![EngineInventory::new("docker", inventory)]);
    KnownHost::parse(&serde_json::to_vec(&document).unwrap(), "have.json").unwrap()
}

#[track_caller]
fn assert_omitted(images: &[&[&str]], have: &[KnownHost], expected: &[&str]) {
    let mut images: Vec<NamedImage> = images.iter().map(|layers| image(layers)).collect();
    let omission = Omission::find(&mut images, have);
    let expected: BTreeSet<Digest> = expected.iter().map(|layer| stored(layer)).collect();
    assert_eq!(omission.declared.layers, expected);
    let left_out = omission
        .left_out()
        .map(|left_out| (left_out.layers, left_out.bytes));
    let size = u64::try_from(expected.len()).unwrap() * 100;
    assert_eq!(left_out, (!have.is_empty()).then_some((expected.len(), size)));
}

#[test]
fn layers_are_left_out_that_every_host_has_wherever_they_are() {
    assert_omitted(&[&["a", "b"]], &[], &[]);
    assert_omitted(&[&["a", "b"]], &[host(&["a"], &[])], &["a"]);
    assert_omitted(&[&["a", "b", "c"]], &[host(&[], &["a", "b"])], &["a", "b"]);
    // Unpacked on another layer, it is not there.
    assert_omitted(&[&["x", "b"]], &[host(&[], &["a", "b"])], &[]);
    assert_omitted(&[&["a", "b"], &["x", "b"]], &[host(&[], &["a", "b"])], &["a"]);
    // As a blob, it is.
    assert_omitted(&[&["a", "b"], &["x", "b"]], &[host(&["b"], &["a"])], &["a", "b"]);
    let both = [host(&["a", "b"], &[]), host(&["b"], &["x"])];
    assert_omitted(&[&["a", "b"]], &both, &["b"]);
}

#[test]
fn a_layer_that_is_left_out_is_not_there_uncompressed_either() {
    let mut images = [image(&["a", "b"])];
    for layer in ["a", "b"] {
        let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), diff_id(layer), 1000);
        images[0].provenance.uncompressed.insert(stored(layer), tar);
    }
    let omission = Omission::find(&mut images, &[host(&[], &["a"])]);
    assert_eq!(omission.declared.layers, BTreeSet::from([stored("a")]));
    let left: Vec<&Digest> = images[0].provenance.uncompressed.keys().collect();
    assert_eq!(left, [&stored("b")]);
}

#[test]
fn what_is_also_something_else_stays() {
    // The tar of a layer has the digest of another layer's stored form.
    let mut images = [image(&["a", "b"])];
    let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), stored("a"), 100);
    images[0].provenance.uncompressed.insert(stored("b"), tar);
    let omission = Omission::find(&mut images, &[host(&["a"], &[])]);
    assert!(omission.declared.layers.is_empty());
}
