//! The names that a signature may have been made for, as containers' policy.json demands them.
//!
//! Source: containers/image, `docs/containers-policy.json.5.md` (`signedIdentity`) and
//! `signature/policy_reference_match.go`.

use crate::oci::{Reference, Repository};

/// How the name in a signature has to agree with that of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignedIdentity {
    /// The same name, tag included.
    MatchExact,
    /// The same name; of an image that is named by its digest alone, the same repository.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This name.
    ExactReference(Reference),
    /// This repository.
    ExactRepository(Repository),
    /// As `MatchRepoDigestOrExact`, after a prefix of the image's name is replaced.
    RemapIdentity {
        /// The prefix of the image's name.
        prefix: String,
        /// What signatures have there.
        signed_prefix: String,
    },
}

/// A name that may lack tag and digest, which `latest` is not added to.
struct Signed {
    reference: Reference,
    is_name_only: bool,
}

impl Signed {
    fn parse(name: &str) -> Option<Signed> {
        let reference: Reference = name.parse().ok()?;
        // A name alone parses as a repository; one with a tag or a digest does not.
        let is_name_only = name.parse::<Repository>().is_ok();
        Some(Signed {
            reference,
            is_name_only,
        })
    }

    fn is(&self, name: &Reference) -> bool {
        !self.is_name_only && self.reference == *name
    }

    fn is_in(&self, repository: &Repository) -> bool {
        self.reference.repository() == repository
    }

    fn is_or_is_pinned_in(&self, name: &Reference) -> bool {
        match name.tag() {
            Some(_) => self.is(name),
            None => !self.is_name_only && self.is_in(name.repository()),
        }
    }
}

impl SignedIdentity {
    /// Whether a signature with this name counts for an image.
    pub(super) fn accepts(&self, image: &Reference, signed: &str) -> bool {
        let Some(signed) = Signed::parse(signed) else {
            return false;
        };
        if image.is_nameless() {
            return false;
        }
        match self {
            SignedIdentity::MatchExact => signed.is(image),
            SignedIdentity::MatchRepoDigestOrExact => signed.is_or_is_pinned_in(image),
            SignedIdentity::MatchRepository => signed.is_in(image.repository()),
            SignedIdentity::ExactReference(name) => signed.is(name),
            SignedIdentity::ExactRepository(repository) => signed.is_in(repository),
            SignedIdentity::RemapIdentity {
                prefix,
                signed_prefix,
            } => {
                let repository = image.repository().full();
                let rest = repository.strip_prefix(prefix.as_str());
                let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                match rest.filter(|_| is_below) {
                    None => signed.is_or_is_pinned_in(image),
                    Some(rest) => {
                        let moved = format!("{signed_prefix}{rest}").parse::<Repository>();
                        moved.is_ok_and(|moved| signed.is_or_is_pinned_in(&image.moved_to(&moved)))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_podman_compares_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let exact = |text: &str| SignedIdentity::ExactReference(text.parse().unwrap());
        let remap = |prefix: &str, signed: &str| SignedIdentity::RemapIdentity {
            prefix: prefix.into(),
            signed_prefix: signed.into(),
        };
        let pinned = format!("quay.io/a/app@{digest}");
        use SignedIdentity::{ExactRepository, MatchExact, MatchRepoDigestOrExact, MatchRepository};
        for (rule, image, signed, expected) in [
            (MatchExact, "quay.io/a/app:1", "quay.io/a/app:1", true),
            (MatchExact, "quay.io/a/app:1", "quay.io/a/app:2", false),
            (MatchExact, "quay.io/a/app:latest", "quay.io/a/app", false),
            (MatchExact, &pinned, "quay.io/a/app:1", false),
            (MatchExact, "app:1", "docker.io/library/app:1", true),
            (MatchRepoDigestOrExact, "quay.io/a/app:1", "quay.io/a/app:1", true),
            (MatchRepoDigestOrExact, "quay.io/a/app:1", "quay.io/a/app", false),
            (MatchRepoDigestOrExact, &pinned, "quay.io/a/app:1", true),
            (MatchRepoDigestOrExact, &pinned, "quay.io/a/app", false),
            (MatchRepoDigestOrExact, &pinned, "quay.io/b/app:1", false),
            (MatchRepository, "quay.io/a/app:1", "quay.io/a/app", true),
            (MatchRepository, "quay.io/a/app:1", "quay.io/a/app:2", true),
            (MatchRepository, "quay.io/a/app:1", "quay.io/a/other", false),
            (
                exact("quay.io/a/app:2"),
                "quay.io/a/app:1",
                "quay.io/a/app:2",
                true,
            ),
            (
                exact("quay.io/a/app:2"),
                "quay.io/a/app:1",
                "quay.io/a/app:1",
                false,
            ),
            (
                ExactRepository("quay.io/b/app".parse().unwrap()),
                "quay.io/a/app:1",
                "quay.io/b/app:7",
                true,
            ),
            (
                remap("mirror.lan/a", "quay.io/a"),
                "mirror.lan/a/app:1",
                "quay.io/a/app:1",
                true,
            ),
            (
                remap("mirror.lan", "quay.io"),
                "mirror.lan/a/app:1",
                "quay.io/a/app:1",
                true,
            ),
            (
                remap("mirror.lan/a/ap", "quay.io/x"),
                "mirror.lan/a/app:1",
                "quay.io/xp:1",
                false,
            ),
            (
                remap("mirror.lan/a", "quay.io/a"),
                "mirror.lan/a/app:1",
                "mirror.lan/a/app:1",
                false,
            ),
            (
                remap("mirror.lan/b", "quay.io/b"),
                "mirror.lan/a/app:1",
                "mirror.lan/a/app:1",
                true,
            ),
            (MatchRepository, "quay.io/a/app:1", "not a name", false),
            (MatchRepository, "quay.io/a/app:1", "", false),
        ] {
            let image = image.parse().unwrap();
            assert_eq!(
                rule.accepts(&image, signed),
                expected,
                "{rule:?} {image} {signed}"
            );
        }
        let nameless = Reference::parse_any(&digest).unwrap();
        assert!(!MatchRepository.accepts(&nameless, "quay.io/a/app"));
    }
}
