use std::sync::Arc;

use super::*;
use crate::containerd::address::NamespaceReason;
use crate::containerd::inventory::Details;
use crate::error::ErrorKind;
use crate::image::provenance::Substitute;
use crate::load::sample::{candidate, stored};
use crate::load::{Inventory as Any, LayerForms, Space};
use crate::oci::{Digest, Platform};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// A containerd without content.
fn empty(namespace: &str) -> Inventory {
    let own: Platform = "linux/amd64".parse().unwrap();
    Inventory {
        version: Some("1.6.20".into()),
        namespace: Some(namespace.into()),
        platforms: own.runs(),
        platform: Some(own),
        accepts: LayerForms {
            uncompressed: false,
            zstd: true,
        },
        ..Any::new(
            "containerd at /run/containerd/containerd.sock",
            Details {
                reason: NamespaceReason::Requested,
                has_cri: namespace == "k8s.io",
                snapshotter: "overlayfs".into(),
                records: Default::default(),
                space: Default::default(),
            },
        )
    }
}

/// As `empty`, with everything of the first image for amd64.
fn full(candidates: &Candidates<'_>, names: &[&str]) -> Inventory {
    let mut inventory = empty("k8s.io");
    let candidate = &candidates.images[0];
    let image = candidate.image_to_load(None, &inventory.platforms).unwrap();
    let blobs = blobs(candidate, image).map(|(blob, _)| (blob.digest, blob.size));
    inventory.blobs.extend(blobs);
    let layers = snapshots::layers(image);
    inventory.chains.extend(layers.iter().map(|layer| layer.chain));
    let root = candidate.image.graph.root.digest;
    for name in names {
        let name = name
            .replace("ROOT", &root.to_string())
            .replace("ID", &image.id().to_string());
        inventory.details.records.insert(name, root.to_string());
    }
    inventory
}

fn of(images: Vec<Candidate<'static>>) -> Candidates<'static> {
    Candidates {
        images,
        ..Candidates::default()
    }
}

/// Plans, also from the inventory as a document, which must give the same.
fn planned_with(
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    unpacks: bool,
    inventory: &Inventory,
) -> Result<Plan> {
    let document = serde_json::to_string(inventory).unwrap();
    let read: Inventory = serde_json::from_str(&document).unwrap();
    assert_eq!(read, *inventory);
    let text = |plan: &Result<Plan>| match plan {
        Ok(plan) => plan.to_string(),
        Err(error) => error.to_string(),
    };
    let result = plan(candidates, options, unpacks, inventory);
    assert_eq!(text(&plan(candidates, options, unpacks, &read)), text(&result));
    result
}

fn planned(candidates: &Candidates<'_>, inventory: &Inventory) -> Plan {
    planned_with(candidates, &LoadOptions::default(), true, inventory).unwrap()
}

fn records_of(plan: &Plan, at: usize, namespace: &str) -> Vec<String> {
    let image = &plan.images[at];
    let shorten = |name: String| {
        name.replace(&image.root.to_string(), "ROOT")
            .replace(&image.image_id.unwrap().to_string(), "ID")
    };
    records::of(image, namespace).into_iter().map(shorten).collect()
}

#[test]
fn the_records_are_those_of_a_pull() {
    let root = candidate(None, &["a"], &BOTH).image.graph.root.digest;
    for (name, namespace, expected) in [
        (
            "httpd:2.4".to_string(),
            "k8s.io",
            vec![
                "ID",
                "docker.io/library/httpd@ROOT",
                "docker.io/library/httpd:2.4",
            ],
        ),
        (
            format!("quay.io/o/a@{root}"),
            "k8s.io",
            vec!["ID", "quay.io/o/a@ROOT"],
        ),
        (
            format!("quay.io/o/a:1@{root}"),
            "k8s.io",
            vec!["ID", "quay.io/o/a@ROOT"],
        ),
        (
            "127.0.0.1:5000/a:1".into(),
            "default",
            vec!["127.0.0.1:5000/a@ROOT", "127.0.0.1:5000/a:1"],
        ),
        (format!("quay.io/o/a@{root}"), "default", vec!["quay.io/o/a@ROOT"]),
    ] {
        let candidates = of(vec![candidate(Some(&name), &["a"], &BOTH)]);
        let plan = planned(&candidates, &empty(namespace));
        assert_eq!(records_of(&plan, 0, namespace), expected, "{name}");
        let image = &plan.images[0];
        assert_eq!(image.change, Change::New);
        assert_eq!(image.digest_status, DigestStatus::Native);
        assert_eq!(image.platforms.to_string(), "linux/amd64");
        assert_eq!(plan.send.len(), 4);
        assert_eq!(plan.failure(), None);
    }
}

#[test]
fn only_what_is_missing_is_sent() {
    let candidates = of(vec![
        candidate(Some("app:1"), &["base", "one"], &BOTH),
        candidate(Some("app:2"), &["base", "two"], &BOTH),
        candidate(Some("other:1"), &["base", "one"], &BOTH),
    ]);
    let layers = |plan: &Plan| -> Vec<Digest> {
        let layers = plan.send.iter().filter(|blob| blob.form == Form::Layer);
        layers.map(|blob| blob.digest).collect()
    };
    let plan = planned(&candidates, &empty("k8s.io"));
    assert_eq!(layers(&plan), [stored("base"), stored("one"), stored("two")]);
    assert_eq!(
        plan.send.len(),
        9,
        "and a config, a manifest and an index of each"
    );

    let names = ["docker.io/library/app:1", "docker.io/library/app@ROOT", "ID"];
    let inventory = full(&candidates, &names);
    let plan = planned(&candidates, &inventory);
    assert_eq!(layers(&plan), [stored("two")]);
    let [first, second, third] = &plan.images[..] else {
        panic!("{plan}");
    };
    assert!(first.present && first.tagged && third.present && !third.tagged && !second.present);
    assert_eq!(first.digest_status, DigestStatus::Present);
    assert_eq!(third.digest_status, DigestStatus::Native, "not by this name");
    assert_eq!((&first.change, &third.change), (&Change::Unchanged, &Change::New));

    // As in a pull, a layer whose blob is gone after it was unpacked is not needed.
    let mut unpacked = inventory.clone();
    unpacked.blobs.remove(&stored("base"));
    let plan = planned(&candidates, &unpacked);
    assert!(plan.images[0].present);
    assert_eq!(layers(&plan), [stored("two")]);
    let plan = planned_with(&candidates, &LoadOptions::default(), false, &unpacked).unwrap();
    assert_eq!(
        layers(&plan),
        [stored("base"), stored("two")],
        "without unpacking it is"
    );

    // A blob that is there, and not unpacked.
    let mut packed = inventory.clone();
    packed.chains.clear();
    let plan = planned(&candidates, &packed);
    assert!(!plan.images[0].present);
    assert_eq!(plan.images[0].digest_status, DigestStatus::Native);
    assert_eq!(layers(&plan), [stored("two")]);

    // One of another size is not it.
    let mut torn = inventory.clone();
    torn.blobs.insert(stored("one"), 1);
    torn.chains.clear();
    assert_eq!(
        layers(&planned(&candidates, &torn)),
        [stored("one"), stored("two")]
    );
}

#[test]
fn a_name_of_another_image_moves() {
    let candidates = of(vec![candidate(Some("app:1"), &["a"], &BOTH)]);
    let mut inventory = empty("k8s.io");
    let old = Digest::sha256(b"old").to_string();
    let records = &mut inventory.details.records;
    records.insert("docker.io/library/app:1".into(), old.clone());
    let image = &planned(&candidates, &inventory).images[0];
    assert_eq!(image.change, Change::Moved { from: old });
    assert!(!image.tagged);
}

#[test]
fn images_are_removed_by_a_program_that_sees_them() {
    let candidates = of(vec![candidate(Some("app:1"), &["base"], &["linux/amd64"])]);
    for (namespace, expected) in [
        ("k8s.io", "free some space there: crictl rmi removes images"),
        (
            "default",
            "free some space there: ctr -n default images rm removes images",
        ),
    ] {
        let mut inventory = empty(namespace);
        inventory.details.space.content = Some(Space {
            path: "/var/lib/containerd".into(),
            free: 1,
            is_certain: true,
        });
        let space = planned(&candidates, &inventory).space.unwrap();
        assert!(space.hint.to_string().starts_with(expected), "{}", space.hint);
    }
}

#[test]
fn one_platform_is_loaded() {
    let candidates = of(vec![candidate(Some("app:1"), &["a"], &BOTH)]);
    let with = |platforms: &[&str]| {
        let options = LoadOptions {
            platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
            ..LoadOptions::default()
        };
        planned_with(&candidates, &options, true, &empty("k8s.io"))
    };
    let plan = with(&["linux/arm64"]).unwrap();
    assert!(plan.images[0].is_foreign);
    assert_eq!(plan.images[0].platforms.to_string(), "linux/arm64");
    assert_eq!(with(&["linux/s390x"]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(with(&BOTH).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn cri_shows_an_index_with_an_image_for_its_own_platform() {
    let candidates = of(vec![candidate(Some("app:1"), &["a"], &BOTH)]);
    let options = LoadOptions {
        platforms: vec!["linux/arm64".parse().unwrap()],
        ..LoadOptions::default()
    };
    let with = |inventory: &Inventory| planned_with(&candidates, &options, true, inventory).unwrap();
    let plan = with(&empty("k8s.io"));
    assert_eq!(plan.failure(), Some(ErrorKind::NotShown));
    let reason = plan.images[0].obstacles()[0].to_string();
    assert!(reason.contains("it is for linux/arm64") && reason.ends_with("its image for linux/amd64"));
    assert_eq!(with(&empty("default")).failure(), None);
    assert_eq!(with(&full(&candidates, &[])).failure(), None);

    let mut single = candidate(Some("single:1"), &["a"], &["linux/arm64"]);
    Arc::make_mut(&mut single.image.graph).indexes.clear();
    let single = of(vec![single]);
    let plan = planned(&single, &empty("k8s.io"));
    assert!(plan.images[0].is_foreign);
    assert_eq!(plan.failure(), None);
}

#[test]
fn what_containerd_cannot_have_is_refused_or_skipped() {
    let digest = Digest::sha256(b"recorded");
    let substitute = |name: &str| {
        let mut candidate = candidate(Some(name), &["a"], &["linux/amd64"]);
        candidate.image.provenance.substitute = Some(Substitute {
            recorded: Some(digest),
        });
        candidate
    };
    let mut uncompressed = candidate(Some("packed:1"), &["u"], &["linux/amd64"]);
    let tar = Descriptor::new(
        crate::oci::MediaType::new(crate::oci::MediaType::OCI_LAYER),
        crate::load::sample::diff_id("u"),
        10,
    );
    let in_place_of = stored("u");
    uncompressed
        .image
        .provenance
        .uncompressed
        .insert(in_place_of, tar);
    let candidates = of(vec![
        candidate(Some("app:1"), &["a"], &BOTH),
        candidate(None, &["b"], &BOTH),
        candidate(Some("arm:1"), &["c"], &["linux/arm64"]),
        substitute("lost:1"),
        substitute(&format!("lost@{digest}")),
        uncompressed,
    ]);
    let all = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let plan = planned_with(&candidates, &all, true, &empty("k8s.io")).unwrap();
    let names: Vec<String> = plan.images.iter().map(|image| image.name.familiar()).collect();
    assert_eq!(names, ["app:1", "lost:1"]);
    let skipped: Vec<ErrorKind> = plan.skipped.iter().map(|image| image.kind).collect();
    let expected = [
        ErrorKind::NotFound,
        ErrorKind::Usage,
        ErrorKind::NotShown,
        ErrorKind::NotShown,
    ];
    assert_eq!(skipped, expected);
    // A substitute has no digest of a registry, so it gets no name with one.
    assert_eq!(records_of(&plan, 1, "k8s.io"), ["ID", "docker.io/library/lost:1"]);
    let status = &plan.images[1].digest_status;
    assert!(matches!(status, DigestStatus::Unavailable { .. }), "{status:?}");
    for (at, kind) in [
        (1, ErrorKind::Usage),
        (2, ErrorKind::NotFound),
        (5, ErrorKind::NotShown),
    ] {
        let only = LoadOptions {
            images: vec![candidates.images[at].handle().to_string()],
            ..LoadOptions::default()
        };
        let error = planned_with(&candidates, &only, true, &empty("k8s.io")).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn an_image_that_is_there_with_its_own_manifest_is_not_replaced() {
    let recorded = Digest::sha256(b"the manifest that the archive lost");
    let substitute = |name: &str| {
        let mut candidate = candidate(Some(name), &["a"], &["linux/amd64"]);
        candidate.image.provenance.substitute = Some(Substitute {
            recorded: Some(recorded),
        });
        candidate
    };
    let known = |names: &[&str], config: Digest| {
        let mut inventory = empty("k8s.io");
        let mut known = crate::load::KnownImage::new(recorded);
        known.configs = Some(vec![config]);
        for name in names {
            let name = name.replace("DIGEST", &recorded.to_string());
            let is_tag = !name.contains('@');
            let list = if is_tag {
                &mut known.tags
            } else {
                &mut known.digests
            };
            list.push(name.clone());
            inventory.details.records.insert(name, recorded.to_string());
        }
        inventory.images.push(known);
        inventory
    };
    let (by_tag, by_digest) = ("docker.io/library/app:1", "docker.io/library/app@DIGEST");
    let pinned = format!("app@{recorded}");
    for (name, names, change, tagged) in [
        ("app:1", &[by_tag, by_digest][..], Change::Unchanged, false),
        ("app:1", &[by_digest], Change::New, false),
        ("app:2", &[by_tag, by_digest], Change::New, false),
        (&pinned, &[by_digest], Change::Unchanged, false),
    ] {
        let candidates = of(vec![substitute(name)]);
        let image = candidates.images[0].image.graph.runnable().next().unwrap();
        let plan = planned(&candidates, &known(names, image.id()));
        let planned = &plan.images[0];
        assert_eq!(
            (planned.root, planned.present, &planned.change, planned.tagged),
            (recorded, true, &change, tagged),
            "{name} {names:?}"
        );
        assert_eq!(planned.tag.is_some(), name != pinned);
        assert!(
            matches!(
                planned.digest_status,
                DigestStatus::Present | DigestStatus::Native
            ),
            "{:?}",
            planned.digest_status
        );
        assert!(plan.send.is_empty(), "{:?}", plan.send);
        let named = records::of(planned, "k8s.io");
        assert!(
            named.contains(&by_digest.replace("DIGEST", &recorded.to_string())),
            "{named:?}"
        );
    }
    // Another image under the same digest and tag is replaced.
    let candidates = of(vec![substitute("app:1")]);
    let plan = planned(
        &candidates,
        &known(&[by_tag, by_digest], Digest::sha256(b"other")),
    );
    assert_eq!(
        plan.images[0].change,
        Change::Moved {
            from: recorded.to_string()
        }
    );
    assert!(!plan.send.is_empty());
}
