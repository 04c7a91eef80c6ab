//! Inventories of hosts, as documents.

use super::*;
use crate::oci::MediaType;

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn engine(kind: &str, blobs: &[&str], chains: &[&str]) -> EngineInventory {
    let image = KnownImage {
        tags: vec!["app:2".into(), "app:1".into()],
        ..KnownImage::new(digest("image"))
    };
    let inventory = Inventory {
        images: vec![image],
        blobs: blobs.iter().map(|blob| (digest(blob), 100)).collect(),
        chains: chains.iter().map(|chain| digest(chain)).collect(),
        unpacked_suffices: kind != "containerd-store",
        ..Inventory::new(format!("{kind} here"), "a detail".to_string())
    };
    EngineInventory::new(kind, inventory)
}

fn known(engines: Vec<EngineInventory>) -> KnownHost {
    let bytes = serde_json::to_vec(&HostInventory::new(Some("here".into()), engines)).unwrap();
    KnownHost::parse(&bytes, "have.json").unwrap()
}

fn layer(blob: &str) -> Descriptor {
    Descriptor::new(MediaType::new(MediaType::OCI_LAYER_GZIP), digest(blob), 100)
}

#[test]
fn a_document_is_the_same_for_the_same_content() {
    let document = |engines| serde_json::to_string(&HostInventory::new(None, engines)).unwrap();
    let (one, other) = (engine("docker", &["a"], &[]), engine("podman", &[], &["b"]));
    let text = document(vec![one.clone(), other.clone()]);
    assert_eq!(text, document(vec![other, one.clone()]));
    assert!(text.contains(r#""tags":["app:1","app:2"]"#), "{text}");
    assert!(!text.contains("detail"), "{text}");
    let read: HostInventory = serde_json::from_str(&text).unwrap();
    assert_eq!(read.engines[0], one);
}

#[test]
fn a_layer_is_there_as_a_blob_or_unpacked_where_that_suffices() {
    let chain = digest("chain");
    let has = |engines: Vec<EngineInventory>| {
        let host = known(engines);
        let other_size = Descriptor {
            size: 99,
            ..layer("blob")
        };
        assert!(!host.has_layer(&other_size, None));
        [
            host.has_layer(&layer("blob"), None),
            host.has_layer(&layer("other"), Some(&chain)),
            host.has_layer(&layer("other"), None),
        ]
    };
    let whole = || engine("docker", &["blob"], &["chain"]);
    assert_eq!(has(vec![whole()]), [true, true, false]);
    // A store that needs blobs has an unpacked layer in vain.
    let blobs = engine("containerd-store", &["blob"], &["chain"]);
    assert_eq!(has(vec![blobs]), [true, false, false]);
    // Any engine of the host may be the one.
    let unpacked = engine("podman", &[], &["chain"]);
    assert_eq!(has(vec![whole(), unpacked]), [false, true, false]);
    // One without images is not in use.
    let empty = EngineInventory {
        images: Vec::new(),
        ..engine("containerd", &[], &[])
    };
    assert_eq!(has(vec![whole(), empty.clone()]), [true, true, false]);
    assert_eq!(has(vec![empty]), [false; 3]);
    assert_eq!(has(Vec::new()), [false; 3]);
}

#[test]
fn the_namespaces_of_engines_with_images_are_told() {
    let of = |namespace: &str| EngineInventory {
        namespace: Some(namespace.into()),
        ..engine("containerd", &["a"], &[])
    };
    let empty = EngineInventory {
        images: Vec::new(),
        ..of("unused")
    };
    let host = known(vec![
        of("k8s.io"),
        of("default"),
        engine("docker", &["a"], &[]),
        empty,
    ]);
    assert_eq!(host.id.namespaces, ["default", "k8s.io"]);
    assert_eq!(
        host.id.to_string(),
        format!("{} (here, namespace default, namespace k8s.io)", host.id.digest)
    );
    // A document without namespaces is as before there were any.
    let without = serde_json::to_string(&engine("docker", &[], &[])).unwrap();
    assert!(!without.contains("namespace"), "{without}");
    let known_without = known(vec![engine("docker", &["a"], &[])]);
    assert_eq!(known_without.id.namespaces, [""; 0]);
    let id = serde_json::to_string(&known_without.id).unwrap();
    assert!(!id.contains("namespaces"), "{id}");
}

#[test]
fn hostile_documents_are_refused() {
    let error = |bytes: &[u8]| KnownHost::parse(bytes, "have\u{1b}.json").unwrap_err();
    let deep = format!(
        r#"{{"schema":1,"host":null,"engines":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let long = format!(
        r#"{{"schema":1,"host":"{}","engines":[]}}"#,
        "x".repeat(MAX_LABEL + 1)
    );
    let cases: &[(&[u8], &str)] = &[
        (b"", "not an inventory"),
        (b"[]", "not an inventory"),
        (b"{}", "it has no schema"),
        (
            br#"{"schema":2,"host":null,"engines":[]}"#,
            "schema 2, and only 1 is known",
        ),
        (br#"{"schema":"1","host":null,"engines":[]}"#, "only 1 is known"),
        (
            br#"{"schema":1,"schema":1,"host":null,"engines":[]}"#,
            "occurs twice",
        ),
        (br#"{"schema":1,"host":null}"#, "missing field `engines`"),
        (
            br#"{"schema":1,"host":null,"engines":[{"engine":"docker"}]}"#,
            "missing field",
        ),
        (deep.as_bytes(), "nested deeper"),
        (
            br#"{"schema":1,"host":null,"engines":[{"engine":"containerd","namespace":"a b"}]}"#,
            "a name that containerd does not take",
        ),
        (long.as_bytes(), "its label"),
    ];
    for (bytes, expected) in cases {
        let error = error(bytes);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.starts_with(r"have\u{1b}.json: "), "{text}");
        assert_eq!(error.kind(), crate::error::ErrorKind::Usage);
    }
}
