//! What needs no registry. Repairs are tested on a real one in `tests/verify` and `tests/engines`.

use super::certain_target;

#[test]
fn a_link_is_certain_if_its_path_ends_in_a_digest() {
    let hex = "a".repeat(64);
    for (entry, is_certain) in [
        (format!("repositories/a/b/_layers/sha256/{hex}/link"), true),
        (
            format!("repositories/a/_manifests/revisions/sha256/{hex}/link"),
            true,
        ),
        (
            format!("repositories/a/_manifests/tags/1/index/sha256/{hex}/link"),
            true,
        ),
        ("repositories/a/_manifests/tags/1/current/link".into(), false),
        (format!("repositories/a/_uploads/sha256/{hex}/link"), false),
        (format!("repositories/a/_layers/sha256/{}/link", &hex[1..]), false),
        (format!("blobs/sha256/aa/{hex}/data"), false),
    ] {
        let found = certain_target(&entry);
        assert_eq!(found.is_some(), is_certain, "{entry}");
        assert!(found.is_none_or(|digest| digest.hex() == hex));
    }
}
