//! The names of containerd's namespaces.

use serde::de::{Deserialize as _, Deserializer};

/// Longest name, in bytes.
const MAX_NAME: usize = 76;

/// Whether containerd takes a namespace of this name.
///
/// Source: containerd, `pkg/identifiers/validate.go`.
pub fn is_namespace(name: &str) -> bool {
    let mut parts = name.split(['.', '_', '-']);
    let is_good = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parts.all(is_good) && name.len() <= MAX_NAME
}

/// Reads the name of a namespace, if there is one.
pub(super) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.map(checked).transpose()
}

/// Reads names of namespaces.
pub(super) fn several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names.into_iter().map(checked).collect()
}

fn checked<E: serde::de::Error>(name: String) -> Result<String, E> {
    match is_namespace(&name) {
        true => Ok(name),
        false => Err(E::custom("a namespace has a name that containerd does not take")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_as_containerd_names_them() {
        for name in ["default", "k8s.io", "a_b-c.D9", &"x".repeat(76)] {
            assert!(is_namespace(name), "{name}");
        }
        for name in ["", "a..b", "-a", "a/b", "a b", "ä", &"x".repeat(77)] {
            assert!(!is_namespace(name), "{name}");
        }
    }
}
