//! What refers to an image, followed level by level.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::image::testing::Store;
use crate::oci::testing::{TestBlob, TestImage, describe, index};
use crate::oci::{MediaType, PlatformSelection};

const TYPE: &str = "application/vnd.example.note";

/// A manifest that refers to another one, with this text in it.
fn referring(subject: &Descriptor, text: &str) -> TestBlob {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": TYPE,
        "config": describe(MediaType::OCI_EMPTY, b"{}"),
        "layers": [describe("text/plain", text.as_bytes())], "subject": subject,
    });
    TestBlob::json(MediaType::OCI_MANIFEST, &manifest)
}

fn listed(subject: Digest, descriptor: &Descriptor) -> ListedReferrer {
    ListedReferrer {
        subject,
        descriptor: descriptor.clone(),
        tag: None,
    }
}

fn graph(store: &Store, root: &Descriptor) -> Graph {
    Graph::walk(root, &PlatformSelection::Present, &mut |descriptor| {
        Ok(store.0.get(&descriptor.digest).cloned())
    })
    .unwrap()
}

/// Follows what is listed. Also returns how often each was asked for.
fn walk(store: &Store, graph: &Graph, all: &[ListedReferrer]) -> Result<(Referrers, Vec<usize>)> {
    let mut walk = ReferrerWalk::new(graph);
    let mut levels = Vec::new();
    while !walk.subjects().is_empty() {
        levels.push(walk.subjects().len());
        assert!(levels.len() <= MAX_REFERRER_DEPTH + 1);
        let wanted = all.iter().filter(|one| walk.subjects().contains(&one.subject));
        let wanted: Vec<&ListedReferrer> = wanted.filter(|one| walk.wants(one)).collect();
        let mut read = Vec::new();
        for one in wanted {
            read.push(one.read(&mut |descriptor| {
                let bytes = store.0.get(&descriptor.digest).cloned();
                bytes.map(|bytes| Parsed::parse(descriptor, bytes)).transpose()
            })?);
        }
        walk.add(read)?;
    }
    Ok((walk.finish(), levels))
}

#[test]
fn referrers_of_all_manifests_and_of_referrers_are_followed() {
    let mut store = Store::default();
    let (one, two) = (
        TestImage::new(),
        TestImage::new().platform(&"linux/arm64".parse().unwrap()),
    );
    store.add_image(&one);
    store.add_image(&two);
    let root = store.add(index(&[one.entry(), two.entry()]));
    let image = graph(&store, &root);
    let of_index = store.add(referring(&root, "of the index"));
    let of_two = store.add(referring(&two.entry(), "of arm64"));
    let of_note = store.add(referring(&of_two, "of the note"));
    let all = [
        listed(root.digest, &of_index),
        listed(two.entry().digest, &of_two),
        listed(two.entry().digest, &of_two),
        listed(of_two.digest, &of_note),
        listed(Digest::sha256(b"elsewhere"), &of_note),
    ];
    let (found, levels) = walk(&store, &image, &all).unwrap();
    assert_eq!(levels, [3, 2, 1]);
    let digests: HashMap<Digest, Digest> = found
        .graphs
        .iter()
        .map(|one| (one.digest(), one.subject))
        .collect();
    assert_eq!(found.graphs.len(), 3);
    assert_eq!(digests[&of_note.digest], of_two.digest);
    assert!(
        found
            .graphs
            .iter()
            .all(|one| one.artifact_type.as_deref() == Some(TYPE))
    );
    assert!(found.graphs.is_sorted_by_key(|one| (one.subject, one.digest())));
    // A part of the image has what refers to it, and what refers to that.
    let part = graph(&store, &two.manifest().descriptor);
    let kept: Vec<Digest> = within(found.graphs.iter(), &part)
        .iter()
        .map(ReferrerGraph::digest)
        .collect();
    assert_eq!(kept.len(), 2);
    assert!(kept.contains(&of_two.digest) && kept.contains(&of_note.digest));
}

#[test]
fn what_is_in_the_image_is_not_a_referrer_too() {
    let mut store = Store::default();
    let one = TestImage::new();
    store.add_image(&one);
    // As buildkit writes it with `oci-artifact=true`.
    let attestation = store.add(referring(&one.entry(), "provenance"));
    let mut entry = attestation.clone();
    entry.annotations = [
        ("vnd.docker.reference.type", "attestation-manifest".to_string()),
        ("vnd.docker.reference.digest", one.entry().digest.to_string()),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into();
    let root = store.add(index(&[one.entry(), entry]));
    let image = graph(&store, &root);
    assert_eq!(image.images.len(), 2);
    let (found, _) = walk(&store, &image, &[listed(one.entry().digest, &attestation)]).unwrap();
    assert!(found.graphs.is_empty() && found.strays.is_empty());
}

#[test]
fn tags_make_referrers_and_wrong_subjects_make_strays() {
    let mut store = Store::default();
    let (one, other) = (TestImage::new(), TestImage::new().author("other"));
    let root = store.add_image(&one);
    let signature = store.add(other.manifest());
    let of_other = store.add(referring(&other.manifest().descriptor, "of another"));
    let gone = describe(MediaType::OCI_MANIFEST, b"gone");
    let layer = describe(MediaType::OCI_LAYER, b"layer");
    let tag = |suffix: &str| Some(Referrer::tag(&root.digest, suffix));
    let all = [
        ListedReferrer {
            tag: tag("sbom"),
            ..listed(root.digest, &signature)
        },
        ListedReferrer {
            tag: tag("att"),
            ..listed(root.digest, &signature)
        },
        listed(root.digest, &of_other),
        listed(root.digest, &gone),
        listed(root.digest, &layer),
    ];
    let (found, _) = walk(&store, &graph(&store, &root), &all).unwrap();
    let tags: Vec<Option<&str>> = found.graphs.iter().map(|one| one.tag.as_deref()).collect();
    assert_eq!(tags, [tag("att").as_deref(), tag("sbom").as_deref()]);
    let strays: Vec<(Digest, StrayReason)> = found
        .strays
        .iter()
        .map(|one| (one.digest, one.reason.clone()))
        .collect();
    assert_eq!(
        strays,
        [
            (of_other.digest, StrayReason::OtherSubject),
            (gone.digest, StrayReason::Missing),
            (layer.digest, StrayReason::Unsupported(layer.media_type.clone())),
        ]
    );
}

#[test]
fn an_index_can_refer_to_an_image() {
    let mut store = Store::default();
    let root = store.add_image(&TestImage::new());
    let (one, gone) = (TestImage::new().author("one"), TestImage::new().author("two"));
    store.add(one.manifest());
    let list = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "artifactType": TYPE,
        "manifests": [one.manifest().descriptor, gone.manifest().descriptor], "subject": root,
    });
    let list = store.add(TestBlob::json(MediaType::OCI_INDEX, &list));
    let (found, _) = walk(&store, &graph(&store, &root), &[listed(root.digest, &list)]).unwrap();
    let graph = &found.graphs[0].graph;
    assert_eq!(
        (graph.indexes.len(), graph.images.len(), graph.absent.len()),
        (1, 1, 1)
    );
    // The config is carried, and not read.
    assert_eq!(graph.blobs().len(), 3);
}

#[test]
fn limits_are_told() {
    let mut store = Store::default();
    let root = store.add_image(&TestImage::new());
    let image = graph(&store, &root);
    let mut all: Vec<ListedReferrer> = (0..=MAX_REFERRERS)
        .map(|at| listed(root.digest, &store.add(referring(&root, &at.to_string()))))
        .collect();
    let problem = |all: &[ListedReferrer]| match walk(&store, &image, all) {
        Err(Error::Refused(finding)) => Some(finding.problem),
        _ => None,
    };
    let limit = MAX_REFERRERS;
    assert_eq!(problem(&all), Some(Problem::TooManyReferrers { limit }));
    all.pop();
    assert_eq!(problem(&all), None);
    let mut chain = Vec::new();
    let mut of = root.clone();
    for level in 0..=MAX_REFERRER_DEPTH {
        let next = store.add(referring(&of, &format!("level {level}")));
        chain.push(listed(of.digest, &next));
        of = next;
    }
    let problem = |all: &[ListedReferrer]| match walk(&store, &image, all) {
        Err(Error::Refused(finding)) => Some(finding.problem),
        _ => None,
    };
    let limit = MAX_REFERRER_DEPTH;
    assert_eq!(problem(&chain), Some(Problem::ReferrersTooDeep { limit }));
    chain.pop();
    assert_eq!(problem(&chain), None);
}

#[test]
fn loops_of_tags_end() {
    let mut store = Store::default();
    let root = store.add_image(&TestImage::new());
    let other = store.add(TestImage::new().author("other").manifest());
    let tagged = |subject: &Descriptor, descriptor: &Descriptor| ListedReferrer {
        tag: Some(Referrer::tag(&subject.digest, "sig")),
        ..listed(subject.digest, descriptor)
    };
    let all = [
        tagged(&root, &other),
        tagged(&other, &root),
        tagged(&other, &other),
    ];
    let (found, levels) = walk(&store, &graph(&store, &root), &all).unwrap();
    assert_eq!((found.graphs.len(), levels), (3, vec![1, 1]));
}
