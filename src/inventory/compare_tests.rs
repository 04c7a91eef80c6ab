//! Inventories before and after.

use super::*;
use crate::inventory::{HostInventory, Inventory, LayerForms};

const CLASSIC: &str = "classic";
const CONTAINERD: &str = "containerd store";

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

/// An image of this config, manifest and layer. The classic store names it by its config, the other by its manifest.
fn image(store: &str, content: &str, tags: &[&str], repositories: &[&str]) -> KnownImage {
    let [config, manifest, layer] =
        ["config", "manifest", "layer"].map(|part| digest(&format!("{content} {part}")));
    let is_classic = store == CLASSIC;
    KnownImage {
        tags: tags.iter().map(ToString::to_string).collect(),
        digests: repositories
            .iter()
            .map(|name| format!("{name}@{manifest}"))
            .collect(),
        diff_ids: vec![layer],
        image_ids: if is_classic { Vec::new() } else { vec![config] },
        available: if is_classic { Vec::new() } else { vec![manifest] },
        ..KnownImage::new(if is_classic { config } else { manifest })
    }
}

fn engine(store: &str, images: Vec<KnownImage>) -> EngineInventory {
    let inventory = Inventory {
        images,
        accepts: LayerForms {
            uncompressed: store == CLASSIC,
            zstd: true,
        },
        ..Inventory::new("docker here", ())
    };
    EngineInventory::new("docker", inventory)
}

fn known(engines: Vec<EngineInventory>) -> KnownHost {
    let bytes = serde_json::to_vec(&HostInventory::new(None, engines)).unwrap();
    KnownHost::parse(&bytes, "before.json").unwrap()
}

fn compared(before: Vec<KnownImage>, now: Vec<KnownImage>) -> Comparison {
    Comparison::of(&known(vec![engine(CLASSIC, before)]), &[engine(CONTAINERD, now)])
}

fn reasons(comparison: &Comparison) -> Vec<(&str, Reason)> {
    let differences = comparison.differences.iter();
    differences.map(|one| (one.name.as_str(), one.reason)).collect()
}

#[test]
fn an_image_is_the_same_in_either_store() {
    let before = vec![
        image(CLASSIC, "httpd", &["httpd:2.4", "web:1"], &["httpd"]),
        image(CLASSIC, "local", &["local:1"], &[]),
        image(CLASSIC, "dangling", &[], &[]),
    ];
    let now = vec![
        image(
            CONTAINERD,
            "httpd",
            &["docker.io/library/httpd:2.4", "web:1"],
            &["httpd", "web"],
        ),
        // The manifest is not the one that a push would have made; the config is the same.
        KnownImage {
            digests: vec![format!("local@{}", digest("made"))],
            ..image(CONTAINERD, "local", &["local:1"], &[])
        },
    ];
    let comparison = compared(before, now);
    assert_eq!(reasons(&comparison), []);
    assert_eq!((comparison.same, comparison.nameless), (4, 1));
    let more = ["httpd", "made"].map(|content| match content {
        "made" => format!("local@{}", digest("made")),
        _ => format!("web@{}", digest("httpd manifest")),
    });
    let mut more = more.to_vec();
    more.sort();
    assert_eq!(comparison.more, more);
}

#[test]
fn every_name_that_differs_is_told() {
    let pinned = format!("httpd@{}", digest("httpd manifest"));
    let lost = image(CLASSIC, "lost", &["lost:1"], &[]);
    let before = vec![
        image(CLASSIC, "httpd", &["httpd:2.4"], &["httpd"]),
        image(CLASSIC, "app", &["app:1"], &["app"]),
        image(CLASSIC, "broken", &["broken:1"], &[]),
        lost,
    ];
    let now = vec![
        // As `docker load` writes it: another manifest, the same config.
        KnownImage {
            digests: vec![format!("httpd@{}", digest("made"))],
            ..image(CONTAINERD, "httpd", &["httpd:2.4"], &[])
        },
        image(CONTAINERD, "app 2", &["app:1"], &["app"]),
        KnownImage {
            available: Vec::new(),
            digests: vec![digest("broken manifest").to_string()],
            ..image(CONTAINERD, "broken", &["broken:1"], &[])
        },
    ];
    let comparison = compared(before, now);
    let app = format!("app@{}", digest("app manifest"));
    let mut expected = vec![
        ("app:1", Reason::OtherImage),
        (&app, Reason::Missing),
        ("broken:1", Reason::Incomplete),
        (&pinned, Reason::Missing),
        ("lost:1", Reason::Missing),
    ];
    expected.sort_by_key(|(name, _)| *name);
    assert_eq!(reasons(&comparison), expected);
    assert_eq!(comparison.same, 1, "httpd:2.4");
    let made = format!("httpd@{}", digest("made"));
    let mut more = vec![format!("app@{}", digest("app 2 manifest")), made];
    more.sort();
    assert_eq!(comparison.more, more);
    let other = comparison
        .differences
        .iter()
        .find(|one| one.name == "app:1")
        .unwrap();
    assert_eq!(other.before, digest("app manifest").to_string());
    assert_eq!(other.now, Some(digest("app 2 manifest").to_string()));
}

#[test]
fn what_cannot_be_compared_is_not_called_the_same() {
    let before = vec![image(CLASSIC, "local", &["local:1"], &[])];
    let unread = KnownImage {
        image_ids: Vec::new(),
        ..image(CONTAINERD, "local", &["local:1"], &[])
    };
    // The layers are the same.
    assert_eq!(compared(before.clone(), vec![unread.clone()]).same, 1);
    let bare = KnownImage {
        diff_ids: Vec::new(),
        ..unread
    };
    let comparison = compared(before, vec![bare]);
    assert_eq!(reasons(&comparison), [("local:1", Reason::Unknown)]);
}

#[test]
fn engines_are_compared_with_their_own_kind() {
    let of = |kind: &str, images: Vec<KnownImage>| EngineInventory {
        engine: kind.into(),
        ..engine(CLASSIC, images)
    };
    let app = || vec![image(CLASSIC, "app", &["app:1"], &[])];
    let other = || vec![image(CLASSIC, "other", &["other:1"], &[])];
    let both = known(vec![of("docker", app()), of("podman", other())]);
    let same = Comparison::of(&both, &[of("docker", app()), of("podman", other())]);
    assert_eq!((same.same, same.differences.len()), (2, 0));
    let swapped = Comparison::of(&both, &[of("docker", other()), of("podman", app())]);
    assert_eq!(swapped.differences.len(), 2);
    assert_eq!(swapped.more, ["app:1", "other:1"]);
    let gone = Comparison::of(&both, &[of("docker", app())]);
    assert_eq!(reasons(&gone), [("other:1", Reason::Missing)]);
    assert_eq!(gone.differences[0].engine, "podman");
    // Of several of one kind, with that of the same target.
    let folder = |path: &str, images: Vec<KnownImage>| EngineInventory {
        target: path.into(),
        ..of("oci", images)
    };
    let folders = || vec![folder("one", app()), folder("two", other())];
    let same = Comparison::of(&known(folders()), &folders());
    assert_eq!((same.same, same.differences.len()), (2, 0));
    // One on either side: a host moves from one engine to the other.
    let moved = Comparison::of(&known(vec![of("docker", app())]), &[of("podman", app())]);
    assert_eq!((moved.same, moved.differences.len()), (1, 0));
}
