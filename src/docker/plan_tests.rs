//! Plans for made-up engines.

use super::*;
use crate::docker::api::OLDEST;
use crate::docker::attach::folder::Folder;
use crate::docker::attach::{HostFacts, Restart, ranking};
use crate::docker::daemon::network::Network;
use crate::docker::inventory::{AttachOption, Details, unpacked};
use crate::error::{ErrorKind, Hint, Remedy};
use crate::load::sample::{candidate, diff_id, stored};
use crate::load::{AttachMethod, Form, LayerForms};
use crate::oci::Digest;

pub(super) const AMD64: &[&str] = &["linux/amd64"];

pub(super) fn inventory(store: Store, images: Vec<KnownImage>) -> Inventory {
    let details = Details {
        api: OLDEST,
        store,
        driver: "overlay2".into(),
        data_root: "/var/lib/docker".into(),
        space: None,
        mirrors: Vec::new(),
        tells_content: store == Store::Containerd,
        attach: [AttachMethod::Mirror, AttachMethod::Hosts]
            .map(|method| AttachOption {
                method,
                disruption: Disruption::Live,
                obstacles: Vec::new(),
            })
            .into(),
        host: HostFacts::default(),
    };
    Inventory {
        version: Some("1".into()),
        platform: Some("linux/amd64".parse().unwrap()),
        platforms: vec!["linux/amd64".parse().unwrap()],
        accepts: LayerForms {
            uncompressed: store == Store::Classic,
            zstd: store == Store::Containerd,
        },
        chains: unpacked(&images, store),
        images,
        ..Inventory::new("docker", details)
    }
}

pub(super) fn held(id: Digest, layers: &[&str]) -> KnownImage {
    KnownImage {
        diff_ids: layers.iter().map(|layer| diff_id(layer)).collect(),
        ..KnownImage::new(id)
    }
}

pub(super) fn planned(
    images: Vec<Candidate<'static>>,
    options: &LoadOptions,
    inventory: &Inventory,
) -> Result<Plan> {
    planned_by(Rules::default(), images, options, inventory)
}

/// The plan for an engine with a store to which these rules may attach digests.
pub(super) fn planned_by(
    rules: Rules,
    images: Vec<Candidate<'static>>,
    options: &LoadOptions,
    inventory: &Inventory,
) -> Result<Plan> {
    let candidates = Candidates {
        images,
        ..Candidates::default()
    };
    let plan = |inventory: &Inventory| {
        let strategies = ranking(&Folder::default(), &Restart::default());
        plan(&candidates, options, rules, inventory, &strategies)
    };
    let planned = plan(inventory);
    let text = serde_json::to_string(inventory).unwrap();
    let read: Inventory = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let told = |plan: &Result<Plan>| match plan {
        Ok(plan) => format!("{plan}{:?}{:?}", plan.send, plan.space),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        told(&plan(&read)),
        told(&planned),
        "a plan from a document is the same"
    );
    planned
}

pub(super) fn sent(plan: &Plan, form: Form) -> Vec<Digest> {
    let upload = plan.send.iter().filter(|piece| piece.form == form);
    upload.map(|piece| piece.digest).collect()
}

#[test]
fn layers_of_chains_that_are_there_stay_here() {
    let other = Digest::sha256(b"another image");
    for (there, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["a"], &["b", "c"]),
        (&["a", "b", "x"], &["c"]),
        // A layer is identified by its chain: the same one on another base must be sent.
        (&["b"], &["a", "b", "c"]),
        (&["a", "b", "c", "d"], &[]),
    ] {
        let mut known = held(other, there);
        known.manifests = vec![other];
        for store in [Store::Classic, Store::Containerd] {
            let inventory = inventory(store, vec![known.clone()]);
            let candidates = vec![candidate(Some("app:1"), &["a", "b", "c"], AMD64)];
            let plan = planned(candidates, &LoadOptions::default(), &inventory).unwrap();
            let layers: Vec<Digest> = expected.iter().map(|layer| stored(layer)).collect();
            assert_eq!(sent(&plan, Form::Layer), layers, "{store:?} {there:?}");
            assert_eq!(sent(&plan, Form::Config).len(), 1);
            let documents = if store == Store::Classic { 0 } else { 2 };
            assert_eq!(sent(&plan, Form::Document).len(), documents);
        }
    }
}

#[test]
fn a_snapshot_without_blobs_counts_for_nothing() {
    // A containerd store that does not report which manifests are complete.
    let inventory = inventory(Store::Containerd, vec![held(Digest::sha256(b"x"), &["a"])]);
    let candidates = vec![candidate(Some("app:1"), &["a"], AMD64)];
    let plan = planned(candidates, &LoadOptions::default(), &inventory).unwrap();
    assert_eq!(sent(&plan, Form::Layer), [stored("a")]);
}

#[test]
fn zstd_goes_out_as_the_engine_reads_it() {
    let options = LoadOptions::default();
    let mut classic = inventory(Store::Classic, Vec::new());
    let app = || vec![candidate(Some("app:1"), &["a", "b.zst"], AMD64)];
    let plan = planned(app(), &options, &classic).unwrap();
    assert_eq!(sent(&plan, Form::Layer), [stored("a")]);
    assert_eq!(sent(&plan, Form::Uncompressed), [diff_id("b.zst")]);
    assert!(plan.bytes() > 1100, "the size is the tar's");

    let mut unknown = app();
    unknown[0].layer_sizes = Default::default();
    assert_eq!(
        planned(unknown, &options, &classic).unwrap_err().kind(),
        ErrorKind::Usage
    );

    classic.accepts.zstd = true;
    let plan = planned(app(), &options, &classic).unwrap();
    assert_eq!(sent(&plan, Form::Layer), [stored("a"), stored("b.zst")]);
    let plan = planned(app(), &options, &inventory(Store::Containerd, Vec::new())).unwrap();
    assert_eq!(sent(&plan, Form::Uncompressed), []);
}

#[test]
fn what_is_there_is_not_sent_and_what_is_named_is_not_named() {
    let app = candidate(Some("app:1"), &["a"], AMD64);
    let (root, image) = (app.image.graph.root.digest, app.image.graph.images[0].clone());
    for store in [Store::Classic, Store::Containerd] {
        let id = if store == Store::Classic { image.id() } else { root };
        let mut known = held(id, &["a"]);
        known.manifests = vec![image.descriptor.digest];
        let look = |known: &KnownImage| {
            let app = candidate(Some("app:1"), &["a"], AMD64);
            let inventory = inventory(store, vec![known.clone()]);
            planned(vec![app], &LoadOptions::default(), &inventory).unwrap()
        };
        let plan = look(&known);
        assert!(plan.send.is_empty() && plan.images[0].present && !plan.images[0].tagged);
        known.tags = vec!["app:1".into()];
        known.digests = vec![format!("app@{root}")];
        let plan = look(&known);
        assert!(plan.images[0].tagged);
        assert_eq!(plan.images[0].digest_status, DigestStatus::Present);
        assert_eq!(plan.failure(), None);
        // The id exists, the layers do not.
        known.diff_ids.clear();
        known.manifests.clear();
        let plan = look(&known);
        assert!(!plan.images[0].present && !plan.images[0].tagged);
        assert!(!plan.send.is_empty());
    }
}

#[test]
fn digests_are_shown_by_the_first_way_that_works() {
    let mut inventory = inventory(Store::Classic, Vec::new());
    let rules = Rules::default();
    let digest_status = |name: &str, rules: Rules, inventory: &Inventory| {
        let images = vec![candidate(Some(name), &["a"], AMD64)];
        let plan = planned_by(rules, images, &LoadOptions::default(), inventory).unwrap();
        (plan.images[0].digest_status.clone(), plan.failure())
    };
    let attached = DigestStatus::ViaAttach {
        method: AttachMethod::Mirror,
    };
    assert_eq!(digest_status("app:1", rules, &inventory), (attached, None));
    let hosts = DigestStatus::ViaAttach {
        method: AttachMethod::Hosts,
    };
    assert_eq!(
        digest_status("quay.io/app:1", rules, &inventory),
        (hosts.clone(), None)
    );
    assert_eq!(
        digest_status("localhost:5000/app:1", rules, &inventory),
        (hosts, None)
    );
    let unavailable = |name: &str, rules: Rules, inventory: &Inventory, says: &str| {
        let (DigestStatus::Unavailable { obstacles }, Some(ErrorKind::NotShown)) =
            digest_status(name, rules, inventory)
        else {
            panic!("{name} is attached")
        };
        let said = obstacles
            .iter()
            .any(|one| one.reason.contains(says) && one.hint.is_some());
        assert!(said, "{obstacles:?}");
        assert_eq!(obstacles.len(), 1);
    };
    unavailable("10.0.0.5:5000/app:1", rules, &inventory, "10.0.0.5 is an address");
    let offline = Rules {
        allowed: Allowed::Offline,
        ..Rules::default()
    };
    unavailable(
        "quay.io/app:1",
        offline,
        &inventory,
        "no way to attach digests of names of quay.io",
    );
    inventory.details.host.network = Some(Network {
        listening: vec!["0.0.0.0:443".parse().unwrap()],
        ..Network::default()
    });
    unavailable("quay.io/app:1", rules, &inventory, "port 443 of every address");
    let switched_off = Rules {
        allowed: Allowed::None,
        ..Rules::default()
    };
    assert_eq!(
        digest_status("app:1", switched_off, &inventory),
        (DigestStatus::Declined, None)
    );
    let obstacle = Obstacle::new("attaching digests needs root", "sudo");
    inventory.details.attach[0].obstacles.push(obstacle.clone());
    let unavailable = DigestStatus::Unavailable {
        obstacles: vec![obstacle],
    };
    assert_eq!(
        digest_status("app:1", rules, &inventory),
        (unavailable, Some(ErrorKind::NotShown))
    );
    inventory.details.store = Store::Containerd;
    assert_eq!(
        digest_status("quay.io/app:1", rules, &inventory),
        (DigestStatus::Native, None)
    );
}

#[test]
fn a_digest_that_names_another_image_is_not_promised() {
    let wanted = || vec![candidate(Some("app:1"), &["a"], AMD64)];
    let pinned = format!("app@{}", wanted()[0].digest().unwrap());
    let mut other = held(Digest::sha256(b"another platform"), &["b"]);
    other.digests = vec![pinned.clone()];
    let inventory = inventory(Store::Classic, vec![other]);
    let plan = planned(wanted(), &LoadOptions::default(), &inventory).unwrap();
    let DigestStatus::Unavailable { obstacles } = &plan.images[0].digest_status else {
        panic!("{plan}")
    };
    let hint = obstacles[0].hint.as_ref().unwrap().to_string();
    assert!(hint.contains(&format!("docker rmi {pinned}")), "{hint}");
    assert_eq!(
        (plan.failure(), plan.details.attach.len()),
        (Some(ErrorKind::NotShown), 0)
    );
}

#[test]
fn an_image_that_is_completed_is_not_moved() {
    let wanted = || vec![candidate(Some("app:1"), &["a"], AMD64)];
    let mut partial = held(wanted()[0].image.graph.root.digest, &[]);
    partial.tags = vec!["app:1".into()];
    let inventory = inventory(Store::Containerd, vec![partial]);
    let plan = planned(wanted(), &LoadOptions::default(), &inventory).unwrap();
    assert!(!plan.images[0].present && !plan.send.is_empty(), "{plan}");
    assert_eq!(plan.images[0].change, Change::Unchanged);
}

#[test]
fn every_way_is_planned_with_its_steps() {
    let inventory = inventory(Store::Classic, Vec::new());
    let names = [
        "app:1",
        "quay.io/app:1",
        "r.example:5000/app:1",
        "localhost/app:1",
    ];
    let candidates = names.map(|name| candidate(Some(name), &["a"], AMD64)).into();
    let plan = planned(candidates, &LoadOptions::default(), &inventory).unwrap();
    let [mirror, hosts] = plan.details.attach.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(
        (mirror.method, hosts.method),
        (AttachMethod::Mirror, AttachMethod::Hosts)
    );
    assert!(!mirror.restarts && !hosts.restarts);
    let digest = plan.images[0].digest.unwrap();
    assert!(
        mirror
            .steps
            .concat()
            .contains(&format!("let it pull app@{digest}: ")),
        "{plan}"
    );
    let said = hosts.steps.concat();
    for part in [
        "port 5000 of a loopback address, port 80 of 127.0.0.1, port 80 of a loopback address",
        "lines that lead there for quay.io, r.example",
        &format!("let it pull quay.io/app@{digest}, r.example:5000/app@{digest}, localhost/app@{digest}: "),
    ] {
        assert!(said.contains(part), "{part}: {plan}");
    }
    let text = plan.to_string();
    assert!(
        text.contains("attach by hosts (the engine keeps running)\n  1. serve"),
        "{text}"
    );
}

#[test]
fn a_digest_in_the_name_leaves_the_tag_alone() {
    let digest = candidate(None, &["a"], AMD64).image.graph.root.digest;
    let name = format!("app:1@{digest}");
    let inventory = inventory(Store::Classic, Vec::new());
    let plan = planned(
        vec![candidate(Some(&name), &["a"], AMD64)],
        &LoadOptions::default(),
        &inventory,
    );
    let plan = plan.unwrap();
    assert_eq!(plan.images[0].tag, None);
    assert!(
        plan.to_string()
            .contains(&format!("digest  {digest} (attached: mirror)")),
        "{plan}"
    );

    let switched_off = Rules {
        allowed: Allowed::None,
        ..Rules::default()
    };
    let candidates = vec![candidate(Some(&name), &["a"], AMD64)];
    let plan = planned_by(switched_off, candidates, &LoadOptions::default(), &inventory).unwrap();
    let tag = plan.images[0].tag.as_ref().map(Reference::familiar);
    assert_eq!(tag.as_deref(), Some("app:1"), "it has no other name");

    let other = format!("app@{}", Digest::sha256(b"another"));
    for name in [None, Some(other.as_str())] {
        let error = planned(
            vec![candidate(name, &["a"], AMD64)],
            &LoadOptions::default(),
            &inventory,
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage, "{name:?}");
    }
}

#[test]
fn only_the_hosts_platform_is_sent_and_other_images_are_named() {
    let inventory = inventory(Store::Containerd, Vec::new());
    let both = candidate(Some("app:1"), &["a"], &["linux/arm64", "linux/amd64"]);
    let plan = planned(vec![both], &LoadOptions::default(), &inventory).unwrap();
    assert_eq!(plan.images[0].platforms.to_string(), "linux/amd64");
    assert_eq!(sent(&plan, Form::Document).len(), 2);

    let unmatched = || {
        vec![
            candidate(Some("one:1"), &["a"], &["linux/arm64"]),
            candidate(Some("app:1"), &["a"], AMD64),
            candidate(Some("two:1"), &["a"], &["linux/s390x"]),
        ]
    };
    let error = planned(unmatched(), &LoadOptions::default(), &inventory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error
            .to_string()
            .starts_with("platform linux/amd64 of one:1, two:1 not found")
    );
    let hint = Hint::from("one:1 is only for linux/arm64")
        .and("two:1 is only for linux/s390x")
        .and(Remedy::KeepGoing)
        .and(Remedy::OtherPlatform {
            offered: "linux/arm64".parse().unwrap(),
            wanted: AMD64[0].into(),
        });
    assert_eq!(error.hint(), Some(hint));
    let options = LoadOptions {
        keep_going: true,
        ..LoadOptions::default()
    };
    let plan = planned(unmatched(), &options, &inventory).unwrap();
    assert_eq!(
        (plan.images.len(), plan.skipped.len(), plan.failure()),
        (1, 2, Some(ErrorKind::NotFound))
    );
}

#[test]
fn a_blob_that_two_images_share_is_sent_once() {
    let candidates = vec![
        candidate(Some("one:1"), &["a", "b"], AMD64),
        candidate(Some("two:1"), &["a", "c"], AMD64),
    ];
    let plan = planned(
        candidates,
        &LoadOptions::default(),
        &inventory(Store::Classic, Vec::new()),
    )
    .unwrap();
    assert_eq!(sent(&plan, Form::Layer), [stored("a"), stored("b"), stored("c")]);
    let owners: Vec<usize> = plan.send.iter().map(|piece| piece.image).collect();
    assert_eq!(owners, [0, 0, 0, 1, 1]);
}
