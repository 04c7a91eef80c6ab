//! Plans for made-up podmans.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::error::ErrorKind;
use crate::image::provenance::Substitute;
use crate::load::sample::{candidate, diff_id, stored};
use crate::podman::{Details, Policy, Shown};

const AMD64: &[&str] = &["linux/amd64"];

fn inventory(images: Vec<KnownImage>) -> Inventory {
    let shown = images.iter().map(|known| (known.id.clone(), Shown::default()));
    let details = Details {
        command: "podman --root /r".into(),
        driver: "overlay".into(),
        root: "/var/lib/containers/storage".into(),
        runroot: "/run/containers/storage".into(),
        is_rootless: false,
        space: None,
        temporary: None,
        is_temporary_shared: false,
        unserved: None,
        redirected: Vec::new(),
        policy: Policy::default(),
        shown: shown.collect(),
    };
    let layers = images.iter().flat_map(|known| &known.diff_ids);
    let blobs: BTreeMap<Digest, u64> = ["a", "b", "c"]
        .into_iter()
        .filter(|layer| layers.clone().any(|known| *known == diff_id(layer)))
        .map(|layer| (stored(layer), 100))
        .collect();
    Inventory {
        version: Some("5".into()),
        platform: Some("linux/amd64".parse().unwrap()),
        platforms: vec!["linux/amd64".parse().unwrap()],
        chains: chains(images.iter()),
        blobs,
        images,
        ..Inventory::new("podman", details)
    }
}

/// The image of a candidate, as a pull by this name leaves it.
fn pulled(of: &Candidate<'_>, name: &str, layers: &[&str]) -> KnownImage {
    let image = of.image.graph.runnable().next().unwrap();
    let repository = name.split_once(':').unwrap().0;
    KnownImage {
        tags: vec![name.into()],
        digests: [of.image.graph.root.digest, image.descriptor.digest]
            .map(|digest| format!("{repository}@{digest}"))
            .into(),
        diff_ids: layers.iter().map(|layer| diff_id(layer)).collect(),
        ..KnownImage::new(image.id())
    }
}

fn planned(images: Vec<Candidate<'static>>, replaces: bool, inventory: &Inventory) -> Result<Plan> {
    let candidates = Candidates {
        images,
        ..Candidates::default()
    };
    let options = LoadOptions::default();
    let text = serde_json::to_string(inventory).unwrap();
    let read: Inventory = serde_json::from_str(&text).unwrap();
    assert_eq!(&read, inventory);
    plan(&candidates, &options, replaces, &read)
}

fn layers(plan: &Plan) -> Vec<Digest> {
    let sent = plan.send.iter().filter(|blob| blob.form == Form::Layer);
    sent.map(|blob| blob.digest).collect()
}

#[test]
fn only_what_podman_lacks_is_sent() {
    let app = || candidate(Some("app:2"), &["a", "b", "c"], AMD64);
    let old = candidate(Some("app:1"), &["a", "b"], AMD64);
    let empty = planned(vec![app()], false, &inventory(Vec::new())).unwrap();
    assert_eq!(layers(&empty), ["a", "b", "c"].map(stored));
    assert_eq!(empty.send.len(), 6, "an index, a manifest and a config too");

    let known = pulled(&old, "docker.io/library/app:1", &["a", "b"]);
    let update = planned(vec![app()], false, &inventory(vec![known.clone()])).unwrap();
    assert_eq!(layers(&update), [stored("c")]);
    assert_eq!(update.images[0].change, Change::New);

    // The layers of a `podman load` are known by other digests.
    let mut loaded = inventory(vec![known]);
    loaded.blobs.clear();
    assert_eq!(layers(&planned(vec![app()], false, &loaded).unwrap()).len(), 3);
}

#[test]
fn an_image_with_its_name_needs_nothing() {
    let app = || candidate(Some("app:1"), &["a"], AMD64);
    let known = inventory(vec![pulled(&app(), "docker.io/library/app:1", &["a"])]);
    let plan = planned(vec![app()], false, &known).unwrap();
    assert!(plan.send.is_empty() && is_done(&plan.images[0]), "{plan}");
    assert_eq!(plan.images[0].digest_status, DigestStatus::Present);

    // Another name needs the manifests only; so does a digest, which podman keeps as a name.
    let digest = app().image.graph.root.digest;
    for name in ["app:2".to_string(), format!("app:1@{digest}")] {
        let plan = planned(vec![candidate(Some(&name), &["a"], AMD64)], false, &known).unwrap();
        assert!(layers(&plan).is_empty() && plan.send.len() == 3, "{plan}");
        assert_eq!(plan.images[0].change, Change::New, "{name}");
    }
    // Of another image, the name moves.
    let other = planned(vec![candidate(Some("app:1"), &["b"], AMD64)], false, &known).unwrap();
    assert!(matches!(&other.images[0].change, Change::Moved { from } if *from == known.images[0].id));
}

/// A store in which `podman load` left an image with a digest of its own.
fn loaded(app: &Candidate<'_>) -> Inventory {
    let mut known = pulled(app, "docker.io/library/app:1", &["a"]);
    known.tags.push("localhost/mine:kept".into());
    let wrong = Digest::sha256(b"wrong");
    known.digests = vec![format!("docker.io/library/app@{wrong}")];
    let id = known.id.clone();
    let mut inventory = inventory(vec![known]);
    inventory.details.shown.get_mut(&id).unwrap().digest = Some(wrong);
    inventory
}

#[test]
fn a_wrong_digest_is_told_or_replaced() {
    let app = || candidate(Some("app:1"), &["a"], AMD64);
    let mut known = loaded(&app());
    let told = planned(vec![app()], false, &known).unwrap();
    assert_eq!(told.failure(), Some(ErrorKind::NotShown));
    let obstacle = &told.images[0].obstacles()[0];
    assert_eq!(obstacle.hint, Some(Remedy::ReplaceImage.into()));
    assert!(
        told.details.replaced.is_empty() && layers(&told).is_empty(),
        "{told}"
    );

    let replaced = planned(vec![app()], true, &known).unwrap();
    assert_eq!(replaced.failure(), None, "{replaced}");
    assert_eq!(replaced.details.replaced[0].names, ["localhost/mine:kept"]);
    assert_eq!(layers(&replaced), [stored("a")], "they go with the image");

    let shown = known.details.shown.values_mut().next().unwrap();
    shown.pinned = vec!["quay.io/app@sha256:0".into()];
    let kept = planned(vec![app()], true, &known).unwrap();
    assert!(kept.details.replaced.is_empty(), "{kept}");
    let id = app().image.graph.runnable().next().unwrap().id().hex();
    let hint = |plan: &Plan| plan.images[0].obstacles()[0].hint.clone().unwrap().to_string();
    let untag = format!("`podman --root /r untag {id} quay.io/app@sha256:0`");
    assert_eq!(
        hint(&kept),
        format!("load that name too, or remove it with {untag}")
    );
    let shown = known.details.shown.values_mut().next().unwrap();
    (shown.pinned, shown.containers) = (Vec::new(), 1);
    let kept = planned(vec![app()], true, &known).unwrap();
    assert!(
        kept.images[0].obstacles()[0].reason.contains("never removed"),
        "{kept}"
    );
    let ps = format!("`podman --root /r ps --all --external --filter ancestor={id}`");
    assert!(hint(&kept).starts_with(&ps), "{}", hint(&kept));
}

/// A policy that accepts images of one repository, may accept those of quay.io, and rejects the others.
fn policy() -> Policy {
    let text = r#"{"default":[{"type":"reject"}],"transports":{"docker":{
        "docker.io/library/app":[{"type":"insecureAcceptAnything"}],"quay.io":[{"type":"signedBy"}]}}}"#;
    Policy::of_text(Path::new("/policy.json"), text)
}

#[test]
fn what_policy_json_rejects_is_refused_or_skipped() {
    let images = |names: &[&str]| -> Vec<_> {
        let images = names.iter().map(|name| candidate(Some(name), &["a"], AMD64));
        images.collect()
    };
    let mut known = inventory(Vec::new());
    known.details.policy = policy();
    let names = ["app:1", "quay.io/app:1", "web:1", "ghcr.io/web:1"];
    let error = planned(images(&names), false, &known).err().unwrap();
    let rejected = "/policy.json rejects images from all registries that it does not name";
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert_eq!(
        error.to_string(),
        format!("podman (version 5): load web:1, ghcr.io/web:1: {rejected}")
    );

    let candidates = Candidates {
        images: images(&names),
        ..Candidates::default()
    };
    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let plan = plan(&candidates, &options, false, &known).unwrap();
    assert_eq!(plan.images.len(), 2, "{plan}");
    assert_eq!(plan.failure(), Some(ErrorKind::Engine));
    assert!(plan.skipped.iter().all(|image| image.reason == rejected));
    let warning = "/policy.json requires a signature for images from quay.io, which podman checks while it pulls: it may \
                   refuse quay.io/app:1";
    assert_eq!(plan.details.warnings, [warning]);

    // What podman has is not pulled.
    let web = || candidate(Some("web:1"), &["a"], AMD64);
    let mut known = inventory(vec![pulled(&web(), "docker.io/library/web:1", &["a"])]);
    known.details.policy = policy();
    assert!(planned(vec![web()], false, &known).unwrap().send.is_empty());
}

#[test]
fn an_image_whose_twin_policy_json_rejects_is_not_replaced() {
    let app = || candidate(Some("app:1"), &["a"], AMD64);
    let mut known = loaded(&app());
    let scopes = |scope: &str| {
        let text = format!(
            r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{
            "{scope}":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#
        );
        Policy::of_text(Path::new("/policy.json"), &text)
    };
    known.details.policy = scopes("docker.io/library/app:1");
    let kept = planned(vec![app()], true, &known).unwrap();
    assert!(kept.details.replaced.is_empty(), "{kept}");
    let reason = &kept.images[0].obstacles()[0].reason;
    assert!(
        reason.contains("podman has to pull docker.io/library/app:sealift-replaces-"),
        "{reason}"
    );
    known.details.policy = scopes("docker.io/library/app");
    let replaced = planned(vec![app()], true, &known).unwrap();
    assert_eq!(replaced.details.replaced.len(), 1, "{replaced}");
}

#[test]
fn what_podman_cannot_have_is_refused() {
    let app = |name: &str| candidate(Some(name), &["a"], AMD64);
    let mut redirected = inventory(Vec::new());
    redirected.details.redirected = vec!["docker.io/library".into(), "docker.io/library/app".into()];
    let error = planned(vec![app("app:1")], false, &redirected).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("registries.conf.d has an entry for docker.io/library/app"),
        "{error}"
    );
    planned(vec![app("other:1")], false, &redirected).unwrap();

    let mut substitute = app("app:1");
    substitute.image.provenance.substitute = Some(Substitute { recorded: None });
    let by_tag = planned(vec![substitute], false, &inventory(Vec::new())).unwrap();
    assert!(matches!(
        by_tag.images[0].digest_status,
        DigestStatus::NoDigest { .. }
    ));

    let mut uncompressed = app("app:1");
    let tar = Descriptor::new(
        crate::oci::MediaType::new("application/vnd.oci.image.layer.v1.tar"),
        diff_id("a"),
        1000,
    );
    uncompressed
        .image
        .provenance
        .uncompressed
        .insert(stored("a"), tar);
    let error = planned(vec![uncompressed], false, &inventory(Vec::new()))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotShown, "{error}");
    let error = planned(
        vec![candidate(None, &["a"], AMD64)],
        false,
        &inventory(Vec::new()),
    )
    .err()
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}
