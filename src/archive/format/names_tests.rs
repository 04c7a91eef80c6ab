use serde_json::{Value, json};

use super::*;
use crate::archive::format::{RECORDED, parse_index};

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

/// An entry with these annotations.
fn entry(root: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, text)| ((*key).to_string(), (*text).into()))
        .collect();
    json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(root), "size": 2,
        "annotations": annotations,
    })
}

fn codes(manifests: &[Value]) -> Vec<(&'static str, Digest)> {
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    let entries = parse_index(index.as_bytes()).unwrap();
    let found = check(&entries).into_iter();
    found.map(|(digest, problem)| (problem.code(), digest)).collect()
}

/// What containerd, Docker and buildkit write for each form of a name: the second one has the part after the
/// repository.
#[test]
fn names_of_real_tools_are_one() {
    let pin = digest("x").to_string();
    for (name, layout) in [
        ("docker.io/library/app:1".into(), "1".into()),
        ("docker.io/library/app:1".into(), "docker.io/library/app:1".into()),
        ("docker.io/library/app:1".into(), "app:1".into()),
        ("127.0.0.1:5000/x/app".into(), String::new()),
        ("docker.io/library/app".into(), "latest".into()),
        ("weird".into(), String::new()),
        (format!("127.0.0.1:5000/x/app@{pin}"), format!("@{pin}")),
        (format!("127.0.0.1:5000/x/app:1@{pin}"), format!("1@{pin}")),
        (
            format!("import-2024-01-01@{pin}"),
            format!("import-2024-01-01@{pin}"),
        ),
        (format!("docker.io/library/app@{pin}"), "1".into()),
    ] {
        let annotations = [(CONTAINERD_NAME, name.as_str()), (REF_NAME, layout.as_str())];
        assert_eq!(codes(&[entry("x", &annotations)]), [], "{annotations:?}");
    }
    for layout in [
        "1",
        "app:1",
        "docker.io/library/app:1",
        "",
        "v1/app",
        &format!("app@{pin}"),
    ] {
        assert_eq!(codes(&[entry("x", &[(REF_NAME, layout)])]), [], "{layout}");
    }
    let full = format!("docker.io/library/app:1@{pin}");
    for name in [
        "docker.io/library/app:1".to_string(),
        format!("docker.io/library/app@{pin}"),
    ] {
        let annotations = [
            (REFERENCE, full.as_str()),
            (CONTAINERD_NAME, &name),
            (REF_NAME, &name),
        ];
        assert_eq!(codes(&[entry("x", &annotations)]), [], "{annotations:?}");
        assert_eq!(codes(&[entry("x", &[(REFERENCE, &full), (REF_NAME, &name)])]), []);
    }
}

#[test]
fn names_that_disagree_are_found() {
    let (pin, other) = (digest("x").to_string(), digest("y").to_string());
    let pinned = format!("docker.io/library/app:1@{pin}");
    for names in [
        [(CONTAINERD_NAME, "docker.io/library/app:1"), (REF_NAME, "2")],
        [(CONTAINERD_NAME, "docker.io/library/app:1"), (REF_NAME, "app")],
        [
            (CONTAINERD_NAME, "docker.io/library/app:1"),
            (REF_NAME, "quay.io/library/app:1"),
        ],
        [(CONTAINERD_NAME, "docker.io/library/app"), (REF_NAME, "1")],
        [
            (CONTAINERD_NAME, "docker.io/library/app:1"),
            (REF_NAME, &format!("1@{pin}")),
        ],
        [(REFERENCE, &pinned), (CONTAINERD_NAME, "docker.io/library/app:2")],
        [
            (REFERENCE, &pinned),
            (CONTAINERD_NAME, "docker.io/library/other:1"),
        ],
        [(REFERENCE, &pinned), (REF_NAME, "docker.io/library/app:2")],
        [(REFERENCE, &pinned), (REF_NAME, "2")],
    ] {
        assert_eq!(
            codes(&[entry("x", &names)]),
            [("names-differ", digest("x"))],
            "{names:?}"
        );
    }
    let names = format!("docker.io/library/app:1@{other}");
    let names = [(REFERENCE, pinned.as_str()), (CONTAINERD_NAME, names.as_str())];
    let found = codes(&[entry("x", &names)]);
    assert_eq!(
        found,
        [
            ("names-differ", digest("x")),
            ("name-digest-differs", digest("x"))
        ]
    );
}

#[test]
fn a_digest_in_a_name_is_the_manifests_or_the_recorded_one() {
    let other = digest("y").to_string();
    let (name, pinned) = (
        format!("docker.io/library/app@{other}"),
        format!("docker.io/library/app:1@{other}"),
    );
    for names in [
        vec![(CONTAINERD_NAME, name.as_str())],
        vec![(REF_NAME, name.as_str())],
        vec![(REF_NAME, &format!("@{other}")[..])],
        vec![(REFERENCE, &pinned), (CONTAINERD_NAME, "docker.io/library/app:1")],
    ] {
        let found = codes(&[entry("x", &names)]);
        assert_eq!(found, [("name-digest-differs", digest("x"))], "{names:?}");
        let recorded = [&names[..], &[(RECORDED, other.as_str())]].concat();
        assert_eq!(codes(&[entry("x", &recorded)]), [], "{names:?}");
        let nothing = [&names[..], &[(RECORDED, "none")]].concat();
        assert_eq!(codes(&[entry("x", &nothing)]), found, "{names:?}");
    }
}

#[test]
fn a_name_is_that_of_one_image() {
    let named = |root: &str, name: &str| entry(root, &[(CONTAINERD_NAME, name), (REF_NAME, name)]);
    let both = [
        ("name-of-two-images", digest("x")),
        ("name-of-two-images", digest("y")),
    ];
    let pinned = format!("docker.io/library/app:1@{}", digest("y"));
    for second in [
        named("y", "docker.io/library/app:1"),
        named("y", "app:1"),
        entry("y", &[(REF_NAME, "app:1")]),
        entry(
            "y",
            &[(REFERENCE, &pinned), (CONTAINERD_NAME, "docker.io/library/app:1")],
        ),
    ] {
        assert_eq!(
            codes(&[named("x", "docker.io/library/app:1"), second.clone()]),
            both,
            "{second}"
        );
    }
    let third = [both[0], both[1], ("name-of-two-images", digest("z"))];
    assert_eq!(codes(&["x", "y", "z"].map(|root| named(root, "app:1"))), third);
    // One image twice, names of other images, and bare tags, which the image specification's example gives
    // twice.
    let tag = |root: &str| entry(root, &[(REF_NAME, "1")]);
    for entries in [
        [named("x", "app:1"), named("x", "app:1")],
        [named("x", "app:1"), named("y", "app:2")],
        [named("x", "app:1"), named("y", "quay.io/x/app:1")],
        [named("x", "app:1"), tag("y")],
        [tag("x"), tag("y")],
    ] {
        assert_eq!(codes(&entries), [], "{entries:?}");
    }
}
