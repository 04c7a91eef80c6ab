//! `repositories.json`: read, and written again with one more name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::docker::store::repositories::Repositories;
use sealift::oci::{Digest, Reference};

fuzz_target!(|bytes: &[u8]| {
    let Ok(repositories) = Repositories::parse(bytes) else { return };
    let again = Repositories::parse(&repositories.to_bytes()).expect("what was written can be read");
    assert_eq!(again, repositories);
    for (name, id) in repositories.names() {
        let Ok(name) = name.parse::<Reference>() else { continue };
        // Names that stand below another repository's are never found, by dockerd neither.
        if let Some(found) = repositories.get(&name) {
            assert!(repositories.names().any(|(other, id)| other == name.familiar() && id == found), "{name} {id}");
        }
    }
    let mut changed = repositories.clone();
    let name: Reference = "quay.io/org/app:1".parse().expect("a name");
    let id = Digest::sha256(bytes);
    let before = repositories.names().count();
    let is_new = repositories.get(&name).is_none();
    assert!(changed.set(&name, &id));
    assert!(!changed.set(&name, &id));
    assert_eq!(changed.get(&name), Some(id));
    assert_eq!(changed.names().count(), before + usize::from(is_new));
    assert_eq!(Repositories::parse(&changed.to_bytes()), Ok(changed));
});
