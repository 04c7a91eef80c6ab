//! Plans of pushes, without a registry.

use super::*;
use crate::error::ErrorKind;
use crate::image::provenance::Substitute;
use crate::load::sample::{candidate, diff_id, stored};
use crate::oci::{Descriptor, MediaType};

const REPOSITORY: &str = "mirror/library/app";

fn planned(images: Vec<Candidate<'static>>, options: &LoadOptions, known: &[Digest]) -> Result<Plan> {
    let candidates = Candidates {
        images,
        ..Candidates::default()
    };
    let mut details = Details::default();
    let content = details.repositories.entry(REPOSITORY.into()).or_default();
    content.digests.extend(known);
    let mut inventory = Inventory::new("h.io/mirror", details);
    inventory.blobs.extend(known.iter().map(|digest| (*digest, 100)));
    plan(
        &"h.io/mirror".parse().unwrap(),
        false,
        &candidates,
        options,
        &inventory,
    )
}

fn app(layers: &[&str]) -> Candidate<'static> {
    candidate(Some("app:1"), layers, &["linux/amd64"])
}

#[test]
fn what_the_registry_has_is_not_sent() {
    let options = LoadOptions::default();
    let sent = |known: &[Digest]| {
        let plan = planned(vec![app(&["base", "top"])], &options, known).unwrap();
        plan.send.len()
    };
    // Index, manifest, config and two layers.
    assert_eq!(sent(&[]), 5);
    assert_eq!(sent(&[stored("base")]), 4);
    // A layer that the archive leaves out is never sent.
    let mut image = app(&["base", "top"]);
    image.omitted.layers.insert(stored("base"));
    let plan = planned(vec![image], &options, &[stored("base")]).unwrap();
    assert_eq!(plan.send.len(), 4);
}

#[test]
fn a_layer_that_is_only_uncompressed_is_refused_unless_the_registry_has_it() {
    let uncompressed = || {
        let mut image = app(&["base", "top"]);
        let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), diff_id("base"), 1000);
        image.image.provenance.uncompressed.insert(stored("base"), tar);
        image
    };
    let options = LoadOptions::default();
    let error = planned(vec![uncompressed()], &options, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotShown);
    assert!(
        error.to_string().contains("1 of its 2 layers only uncompressed"),
        "{error}"
    );
    let plan = planned(vec![uncompressed()], &options, &[stored("base")]).unwrap();
    assert!(plan.send.iter().all(|blob| blob.digest != diff_id("base")));
    let skipping = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let plan = planned(vec![uncompressed()], &skipping, &[]).unwrap();
    assert_eq!((plan.images.len(), plan.skipped.len()), (0, 1));
}

#[test]
fn a_substitute_never_passes_for_the_digest_that_was_recorded() {
    let recorded = Digest::sha256(b"recorded");
    let with = |recorded: Option<Digest>, name: &str| {
        let mut image = candidate(Some(name), &["base"], &["linux/amd64"]);
        image.image.provenance.substitute = Some(Substitute { recorded });
        planned(vec![image], &LoadOptions::default(), &[])
    };
    let plan = with(Some(recorded), "app:1").unwrap();
    assert_eq!(plan.failure(), Some(ErrorKind::NotShown));
    let obstacles = plan.images[0].obstacles();
    assert!(
        obstacles[0].reason.contains(&recorded.to_string()),
        "{obstacles:?}"
    );
    let error = with(Some(recorded), &format!("app@{recorded}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotShown);
    // An image that never had a digest gets one.
    let plan = with(None, "app:1").unwrap();
    assert_eq!(plan.failure(), None);
    let image = &plan.images[0];
    assert_eq!(image.digest, Some(image.root));
    assert_eq!(
        (image.evidence, &image.digest_status),
        (Evidence::Verified, &DigestStatus::Native)
    );
}

#[test]
fn an_image_without_a_name_has_no_place_in_a_registry() {
    let unnamed = || candidate(None, &["base"], &["linux/amd64"]);
    let error = planned(vec![unnamed()], &LoadOptions::default(), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("no name"), "{error}");
}
