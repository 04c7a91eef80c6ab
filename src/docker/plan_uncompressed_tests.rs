//! Plans for images whose layers are only uncompressed, and for substitutes.

use super::tests::{AMD64, held, inventory, planned, planned_by, sent};
use super::*;
use crate::docker::inventory::AttachOption;
use crate::error::{Advice, ErrorKind, Remedy};
use crate::image::provenance::{LayerOrigin, ManifestOrigin, Origins, Substitute};
use crate::load::sample::{candidate, diff_id, stored};
use crate::load::{AttachMethod, Form};
use crate::oci::{Descriptor, Digest, MediaType};

/// An image of which these layers are present only uncompressed.
fn uncompressed(name: &str, layers: &[&str], only: &[&str]) -> Candidate<'static> {
    let mut candidate = candidate(Some(name), layers, AMD64);
    candidate.image.provenance.uncompressed = only
        .iter()
        .map(|layer| {
            let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), diff_id(layer), 1000);
            (stored(layer), tar)
        })
        .collect();
    candidate
}

fn substitute(name: &str, recorded: Option<Digest>) -> Candidate<'static> {
    let mut candidate = candidate(Some(name), &["a"], AMD64);
    candidate.image.provenance.substitute = Some(Substitute { recorded });
    candidate
}

#[test]
fn a_classic_store_takes_uncompressed_layers_as_they_are() {
    let mut classic = inventory(Store::Classic, Vec::new());
    for zstd in [false, true] {
        classic.accepts.zstd = zstd;
        let mut app = uncompressed("app:1", &["a", "b.zst", "c"], &["a", "b.zst"]);
        // Nobody has to count what is not decompressed.
        app.layer_sizes = Default::default();
        let plan = planned(vec![app], &LoadOptions::default(), &classic).unwrap();
        assert_eq!(
            sent(&plan, Form::Layer),
            [diff_id("a"), diff_id("b.zst"), stored("c")]
        );
        assert_eq!(sent(&plan, Form::Uncompressed), []);
        let config = plan.send.iter().find(|piece| piece.form == Form::Config).unwrap();
        assert_eq!(plan.bytes(), 2100 + config.size);
        assert_eq!(plan.images[0].evidence, Evidence::Verified);
        assert!(matches!(
            plan.images[0].digest_status,
            DigestStatus::ViaAttach { .. }
        ));
    }
}

#[test]
fn a_containerd_store_refuses_them_by_name_with_the_reason() {
    let containerd = inventory(Store::Containerd, Vec::new());
    let images = || {
        let mut app = uncompressed("app:1", &["a", "b", "c"], &["a", "b"]);
        let reason = || LayerOrigin::Uncompressed {
            reason: "no known encoder\u{1b} gives it".into(),
        };
        app.image.provenance.origins = Some(Origins {
            manifest: ManifestOrigin::Registry,
            layers: [(stored("a"), reason()), (stored("b"), reason())].into(),
        });
        vec![
            app,
            candidate(Some("good:1"), &["d"], AMD64),
            uncompressed("other:1", &["e"], &["e"]),
        ]
    };
    let error = planned(images(), &LoadOptions::default(), &containerd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotShown);
    let said = error.to_string();
    for part in [
        "containerd store",
        "app:1: it has 2 of its 3 layers only uncompressed (no known encoder\\u{1b} gives it)",
        "other:1: it has 1 of its 1 layers only uncompressed, and",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("good:1"), "{said}");
    assert!(
        error.hint().unwrap().to_string().contains("classic store"),
        "{error:?}"
    );

    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let plan = planned(images(), &options, &containerd).unwrap();
    assert_eq!(plan.images.len(), 1);
    let skipped: Vec<&str> = plan.skipped.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(skipped, ["app:1", "other:1"]);
    assert!(plan.skipped.iter().all(|image| image.kind == ErrorKind::NotShown));
    assert_eq!(
        (plan.failure(), sent(&plan, Form::Layer)),
        (Some(ErrorKind::NotShown), vec![stored("d")])
    );
}

#[test]
fn what_the_containerd_store_has_needs_no_layers() {
    let app = uncompressed("app:1", &["a"], &["a"]);
    let (root, manifest) = (
        app.image.graph.root.digest,
        app.image.graph.images[0].descriptor.digest,
    );
    let mut known = held(root, &["a"]);
    known.manifests = vec![manifest];
    let there = inventory(Store::Containerd, vec![known]);
    let plan = planned(vec![app], &LoadOptions::default(), &there).unwrap();
    assert!(plan.images[0].present && plan.send.is_empty());
    assert_eq!(plan.failure(), None);
}

#[test]
fn a_substitute_without_a_digest_goes_by_its_tag() {
    let reason = "it was built there and never pushed";
    for store in [Store::Classic, Store::Containerd] {
        let mut app = substitute("app:1", None);
        app.image.provenance.origins = Some(Origins {
            manifest: ManifestOrigin::Substitute {
                reason: reason.into(),
            },
            layers: Default::default(),
        });
        let own = app.image.graph.root.digest;
        let there = inventory(store, Vec::new());
        let plan = planned(vec![app], &LoadOptions::default(), &there).unwrap();
        let image = &plan.images[0];
        assert_eq!(
            (image.digest, image.evidence, image.root),
            (None, Evidence::None, own)
        );
        assert_eq!(image.tag.as_ref().unwrap().familiar(), "app:1");
        assert_eq!(
            image.digest_status,
            DigestStatus::NoDigest {
                reason: reason.into()
            }
        );
        assert!(plan.details.attach.is_empty());
        assert_eq!(plan.failure(), None);
        let text = plan.to_string();
        assert!(text.contains(&format!("digest  <none>: {reason}")), "{text}");
        let json = serde_json::to_string(&plan.images).unwrap();
        assert!(
            !json.contains(&own.to_string()) && json.contains(r#""digest":null"#),
            "{json}"
        );
        let named = substitute(&format!("app:1@{own}"), None);
        let error = planned(vec![named], &LoadOptions::default(), &there).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Usage,
            "the digest of a substitute manifest"
        );
    }
}

#[test]
fn a_recorded_digest_is_never_that_of_the_substitute() {
    let recorded = Digest::sha256(b"what the engine showed");
    for store in [Store::Classic, Store::Containerd] {
        let there = inventory(store, Vec::new());
        let app = substitute("app:1", Some(recorded));
        let plan = planned(vec![app], &LoadOptions::default(), &there).unwrap();
        let image = &plan.images[0];
        assert_eq!(
            (image.digest, image.evidence),
            (Some(recorded), Evidence::Recorded)
        );
        let [obstacle] = image.obstacles() else {
            panic!("{image:?}")
        };
        let says = match store {
            Store::Classic => "without its manifest, so nothing proves it",
            Store::Containerd => "recorded without its manifest",
        };
        assert!(obstacle.reason.contains(says), "{obstacle}");
        assert_eq!(plan.failure(), Some(ErrorKind::NotShown));
        // By its digest alone: the containerd store would have to be told another.
        let app = substitute(&format!("app@{recorded}"), Some(recorded));
        let error = planned(vec![app], &LoadOptions::default(), &there).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotShown);
        let says = match store {
            Store::Classic => "it has no tag, and the archive recorded",
            Store::Containerd => "only by a tag",
        };
        assert!(error.to_string().contains(says), "{error}");
        let hint = error.hint().unwrap();
        let rename = Advice::Remedy(Remedy::Rename(format!("app@{recorded}")));
        assert!(hint.advice().contains(&rename), "{error:?}");
    }
}

#[test]
fn a_recorded_digest_is_attached_on_request_and_takes_it_from_no_other_image() {
    let recorded = Digest::sha256(b"what the engine showed");
    let app = || vec![substitute("app:1", Some(recorded))];
    let trusting = Rules {
        trust_recorded: true,
        ..Rules::default()
    };
    let mut there = inventory(Store::Classic, Vec::new());
    there.details.attach = vec![AttachOption {
        method: AttachMethod::Offline,
        disruption: Disruption::Restarting,
        obstacles: Vec::new(),
    }];
    let plan = planned_by(trusting, app(), &LoadOptions::default(), &there).unwrap();
    let attached = DigestStatus::ViaAttach {
        method: AttachMethod::Offline,
    };
    assert_eq!(
        (&plan.images[0].digest_status, plan.failure()),
        (&attached, Some(ErrorKind::NotShown))
    );
    let declined = Rules {
        allowed: Allowed::None,
        ..trusting
    };
    assert_eq!(
        planned_by(declined, app(), &LoadOptions::default(), &there)
            .unwrap()
            .failure(),
        None
    );

    let mut other = held(Digest::sha256(b"another image"), &["b"]);
    other.digests = vec![format!("app@{recorded}")];
    there.images = vec![other.clone()];
    let plan = planned_by(trusting, app(), &LoadOptions::default(), &there).unwrap();
    let [obstacle] = plan.images[0].obstacles() else {
        panic!("{plan}")
    };
    assert!(obstacle.reason.contains(&other.id), "{obstacle}");
    // What the engine shows for this image already is not proven either.
    there.images[0].id = plan.images[0].image_id.unwrap().to_string();
    there.images[0].diff_ids = vec![diff_id("a")];
    let plan = planned(app(), &LoadOptions::default(), &there).unwrap();
    assert_eq!(
        (&plan.images[0].digest_status, plan.failure()),
        (&DigestStatus::Present, Some(ErrorKind::NotShown))
    );
}

#[test]
fn a_digest_that_only_its_manifest_has_is_attached_on_request_and_live() {
    let app = || {
        let mut app = candidate(Some("app:1"), &["a"], AMD64);
        app.image.provenance.is_unproven = true;
        vec![app]
    };
    let own = app()[0].image.graph.root.digest;
    let trusting = Rules {
        trust_recorded: true,
        ..Rules::default()
    };
    let classic = inventory(Store::Classic, Vec::new());
    let plan = planned(app(), &LoadOptions::default(), &classic).unwrap();
    let image = &plan.images[0];
    assert_eq!((image.digest, image.evidence), (Some(own), Evidence::Recorded));
    let [obstacle] = image.obstacles() else {
        panic!("{plan}")
    };
    assert!(
        obstacle
            .reason
            .contains(&format!("nothing proves that a registry has {own}")),
        "{obstacle}"
    );
    assert_eq!(plan.failure(), Some(ErrorKind::NotShown));
    let plan = planned_by(trusting, app(), &LoadOptions::default(), &classic).unwrap();
    let attached = DigestStatus::ViaAttach {
        method: AttachMethod::Mirror,
    };
    assert_eq!(
        (&plan.images[0].digest_status, plan.failure()),
        (&attached, Some(ErrorKind::NotShown))
    );

    // The containerd store shows it by itself, and names it by its digest alone, too.
    let containerd = inventory(Store::Containerd, Vec::new());
    for name in ["app:1".to_string(), format!("app@{own}")] {
        let mut app = app();
        app[0].image.reference = Some(name.parse().unwrap());
        let plan = planned(app, &LoadOptions::default(), &containerd).unwrap();
        assert_eq!(
            (&plan.images[0].digest_status, plan.failure()),
            (&DigestStatus::Native, Some(ErrorKind::NotShown))
        );
        assert!(
            plan.to_string()
                .contains(&format!("digest  {own} (recorded, not proven)")),
            "{plan}"
        );
    }
}

#[test]
fn further_digests_of_an_image_cost_nothing_and_stop_nothing() {
    let recorded = Digest::sha256(b"what the engine showed besides");
    let name = format!("app@{recorded}");
    let same = |layers: &[&str]| {
        let mut same = candidate(Some(&name), layers, AMD64);
        same.image.provenance.substitute = Some(Substitute {
            recorded: Some(recorded),
        });
        same
    };
    let app = || candidate(Some("app:1"), &["a", "b"], AMD64);
    // As another push stored it.
    let pushed = uncompressed("mirror.example/app:1", &["a", "b"], &["a", "b"]);
    let classic = inventory(Store::Classic, Vec::new());
    let all = vec![app(), same(&["a", "b"]), pushed];
    let plan = planned(all, &LoadOptions::default(), &classic).unwrap();
    assert_eq!((plan.images.len(), plan.skipped.len()), (2, 1));
    assert_eq!(sent(&plan, Form::Layer), [stored("a"), stored("b")]);

    let containerd = inventory(Store::Containerd, Vec::new());
    let all = vec![app(), same(&["a", "b"])];
    let plan = planned(all, &LoadOptions::default(), &containerd).unwrap();
    assert_eq!(
        (plan.images.len(), plan.failure()),
        (1, Some(ErrorKind::NotShown))
    );
    assert_eq!(plan.skipped[0].name, name);
    // One that is not there otherwise is refused.
    let error = planned(vec![app(), same(&["c"])], &LoadOptions::default(), &containerd).unwrap_err();
    assert!(
        error.to_string().contains(&format!("{name}: its manifest")),
        "{error}"
    );
}
