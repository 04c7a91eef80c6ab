//! Patterns of image names.

use crate::oci::{Reference, Repository};

/// Which names a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    names: Names,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// `**`: every name, and images without one.
    All,
    /// `registry/path/**`: every repository below.
    Below(String),
    /// `registry/path/*`: every repository directly in it.
    Within(String),
    /// `registry/path/app`: every tag and digest.
    Repository(Repository),
    /// `registry/path/app:1`, or with a digest.
    Image(Reference),
}

impl Pattern {
    /// Parses a pattern. Names are read as Docker reads them: `httpd` is `docker.io/library/httpd`. Before an asterisk
    /// the registry is always written.
    ///
    /// # Errors
    ///
    /// The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let names = if text == "**" {
            Names::All
        } else if let Some(path) = text.strip_suffix("/**") {
            Names::Below(prefix(text, path)?)
        } else if let Some(path) = text.strip_suffix("/*") {
            Names::Within(prefix(text, path)?)
        } else if text.contains('*') {
            return Err(format!(
                "{text:?}: an asterisk stands for the last part of a name only, as in quay.io/acme/* and quay.io/**"
            ));
        } else if let Ok(repository) = text.parse() {
            Names::Repository(repository)
        } else {
            Names::Image(text.parse().map_err(|error| format!("{error}"))?)
        };
        Ok(Pattern {
            text: text.into(),
            names,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether another pattern is for the same names.
    pub(super) fn is_same(&self, other: &Pattern) -> bool {
        self.names == other.names
    }

    /// Whether a name is one of it.
    pub(super) fn is(&self, name: &Reference) -> bool {
        let rest = |path: &str| {
            let rest = name.repository().full().strip_prefix(path)?;
            rest.strip_prefix('/').map(str::to_string)
        };
        match &self.names {
            Names::All => true,
            Names::Below(path) => rest(path).is_some(),
            Names::Within(path) => rest(path).is_some_and(|rest| !rest.contains('/')),
            Names::Repository(repository) => name.repository() == repository,
            Names::Image(image) => {
                name.repository() == image.repository()
                    && (image.tag().is_none() || image.tag() == name.tag())
                    && (image.digest().is_none() || image.digest() == name.digest())
            }
        }
    }

    /// Greater for a pattern that is for fewer names, of two that a name is in.
    pub(super) fn specificity(&self) -> (u8, usize, u8) {
        match &self.names {
            Names::All => (0, 0, 0),
            Names::Below(path) => (1, path.len(), 0),
            Names::Within(path) => (1, path.len(), 1),
            Names::Repository(_) => (2, 0, 0),
            Names::Image(image) => match (image.tag(), image.digest()) {
                (_, None) => (3, 0, 0),
                (None, Some(_)) => (4, 0, 0),
                (Some(_), Some(_)) => (5, 0, 0),
            },
        }
    }
}

/// The path before an asterisk: a registry, and possibly a path in it.
fn prefix(text: &str, path: &str) -> Result<String, String> {
    let registry = path.split('/').next().unwrap_or_default();
    if !registry.contains(['.', ':']) && registry != "localhost" {
        return Err(format!(
            "{text:?}: the registry is missing; for Docker Hub write docker.io/{text}"
        ));
    }
    // What follows has two parts, because one alone on Docker Hub gets another before it.
    let parsed = format!("{path}/a/b").parse::<Repository>();
    let parsed = parsed.map_err(|_| format!("{text:?}: {path:?} is not a registry with a path"))?;
    let full = parsed.full();
    Ok(full.strip_suffix("/a/b").unwrap_or(full).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_for_the_fewest_names_counts() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("quay.io/acme/app@{digest}");
        let both = format!("quay.io/acme/app:1@{digest}");
        // Each is more specific than those before it.
        let patterns = [
            "**",
            "quay.io/**",
            "quay.io/*",
            "quay.io/acme/**",
            "quay.io/acme/*",
            "quay.io/acme/app",
            "quay.io/acme/app:1",
            &pinned,
            &both,
        ];
        let patterns = patterns.map(|text| Pattern::parse(text).unwrap());
        assert!(patterns.is_sorted_by(|one, next| one.specificity() < next.specificity()));
        for (name, expected) in [
            (
                both.as_str(),
                &[
                    "**",
                    "quay.io/**",
                    "quay.io/acme/**",
                    "quay.io/acme/*",
                    "quay.io/acme/app",
                    "quay.io/acme/app:1",
                    &pinned,
                    &both,
                ][..],
            ),
            (
                &pinned,
                &[
                    "**",
                    "quay.io/**",
                    "quay.io/acme/**",
                    "quay.io/acme/*",
                    "quay.io/acme/app",
                    &pinned,
                ],
            ),
            (
                "quay.io/acme/app:1",
                &[
                    "**",
                    "quay.io/**",
                    "quay.io/acme/**",
                    "quay.io/acme/*",
                    "quay.io/acme/app",
                    "quay.io/acme/app:1",
                ],
            ),
            (
                "quay.io/acme/app:2",
                &[
                    "**",
                    "quay.io/**",
                    "quay.io/acme/**",
                    "quay.io/acme/*",
                    "quay.io/acme/app",
                ],
            ),
            ("quay.io/acme/x/y", &["**", "quay.io/**", "quay.io/acme/**"]),
            ("quay.io/acmes/app", &["**", "quay.io/**"]),
            ("quay.io/app", &["**", "quay.io/**", "quay.io/*"]),
            ("httpd", &["**"]),
        ] {
            let name = name.parse().unwrap();
            let fitting = patterns.iter().filter(|pattern| pattern.is(&name));
            assert_eq!(fitting.map(Pattern::text).collect::<Vec<_>>(), expected, "{name}");
        }
        let nameless = Reference::parse_any(&digest).unwrap();
        let fitting = patterns.iter().filter(|pattern| pattern.is(&nameless));
        assert_eq!(fitting.map(Pattern::text).collect::<Vec<_>>(), ["**"]);
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let is = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().is(&name.parse().unwrap());
        assert!(is("httpd", "docker.io/library/httpd:2.4"));
        assert!(is("docker.io/**", "httpd"));
        assert!(is("docker.io/library/*", "httpd"));
        assert!(!is("docker.io/*", "httpd"));
        assert!(is("index.docker.io/acme/*", "acme/app"));
        assert!(is("localhost:5000/*", "localhost:5000/app"));
        let same = |one: &str, other: &str| {
            Pattern::parse(one)
                .unwrap()
                .is_same(&Pattern::parse(other).unwrap())
        };
        assert!(same("httpd", "docker.io/library/httpd"));
        assert!(!same("httpd", "httpd:latest"));
        for text in [
            "",
            "*",
            "acme/*",
            "acme/**",
            "quay.io/*/app",
            "quay.io/ac*",
            "quay.io//*",
            "quay.io/A/*",
            "quay.io/App",
            "https://quay.io/a",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
