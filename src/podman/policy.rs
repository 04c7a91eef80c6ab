//! What the host's policy.json keeps podman from pulling.
//!
//! podman looks for the most specific scope that an image is in, and applies its requirements alone. A requirement of a
//! signature is podman's to check: only a rejection is certain before the pull.
//!
//! Source: containers/image, `docs/containers-policy.json.5.md`, `signature/policy_config.go` and
//! `signature/policy_eval.go`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::names;
use crate::load::Obstacle;
use crate::oci::Reference;
use crate::trust::policy::scopes;

/// The user's policy, below the home folder.
const USERS: &str = ".config/containers/policy.json";
/// The host's.
const HOSTS: [&str; 2] = ["/etc/containers/policy.json", "/usr/share/containers/policy.json"];
/// What to do about a policy.
const HINT: &str =
    "podman enforces it, and sealift does not change or bypass it: see man containers-policy.json";
/// Number of images that a warning names.
const SHOWN: usize = 3;

/// What a policy.json lets podman pull from registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The file.
    file: PathBuf,
    /// Why podman pulls nothing at all, if it does not.
    unusable: Option<Obstacle>,
    /// What it demands of images, by their scopes; of those that are in none of these, by the empty scope.
    scopes: BTreeMap<String, Demand>,
}

/// What a policy demands of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Demand {
    /// Nothing.
    Nothing,
    /// A signature, or what only podman knows.
    Signature,
    /// It rejects all.
    Rejected,
}

#[derive(Deserialize)]
struct Document {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

impl Demand {
    /// All requirements of a scope have to be met.
    fn of(requirements: &[Requirement]) -> Demand {
        let demands = requirements.iter().map(|one| match one.kind.as_str() {
            "insecureAcceptAnything" => Demand::Nothing,
            "reject" => Demand::Rejected,
            _ => Demand::Signature,
        });
        demands.max().unwrap_or(Demand::Nothing)
    }

    fn verb(self) -> &'static str {
        match self {
            Demand::Nothing => "accepts images from",
            Demand::Signature => "requires a signature for images from",
            Demand::Rejected => "rejects images from",
        }
    }
}

impl Policy {
    /// The policy of this process's user.
    pub fn of_process() -> Policy {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let users = home.map(|home| home.join(USERS));
        let files = users.into_iter().chain(HOSTS.map(PathBuf::from));
        Policy::of_first(&files.collect::<Vec<_>>())
    }

    /// The first of these files that exists.
    fn of_first(files: &[PathBuf]) -> Policy {
        for file in files {
            match fs::read_to_string(file) {
                Ok(text) => return Policy::of_text(file, &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Policy::unusable(file, &error.to_string()),
            }
        }
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let reason = format!(
            "podman pulls nothing without a policy.json: {} do not exist",
            names.join(", ")
        );
        let hint = r#"the one that allows everything is {"default":[{"type":"insecureAcceptAnything"}]}"#;
        Policy {
            unusable: Some(Obstacle::new(reason, hint)),
            ..Policy::default()
        }
    }

    pub(super) fn of_text(file: &Path, text: &str) -> Policy {
        let mut document: Document = match serde_json::from_str(text) {
            Ok(document) => document,
            Err(error) => return Policy::unusable(file, &error.to_string()),
        };
        let mut all = document.transports.values().flat_map(BTreeMap::values);
        if document.default.is_empty() || all.any(Vec::is_empty) {
            return Policy::unusable(file, "a list of requirements is empty");
        }
        let mut scopes = document.transports.remove("docker").unwrap_or_default();
        scopes.entry(String::new()).or_insert(document.default);
        let demands = scopes.into_iter();
        Policy {
            file: file.into(),
            unusable: None,
            scopes: demands
                .map(|(scope, requirements)| (scope, Demand::of(&requirements)))
                .collect(),
        }
    }

    /// A policy that podman does not understand either.
    fn unusable(file: &Path, problem: &str) -> Policy {
        Policy {
            file: file.into(),
            unusable: Some(Obstacle::new(format!("{}: {problem}", file.display()), HINT)),
            ..Policy::default()
        }
    }

    /// Everything that it keeps podman from pulling, or may.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        if let Some(unusable) = &self.unusable {
            return vec![unusable.clone()];
        }
        let scopes = |demand| {
            let found = self.scopes.iter().filter(move |(_, found)| **found == demand);
            found.map(|(scope, _)| described(scope)).collect::<Vec<_>>()
        };
        let obstacles = [Demand::Rejected, Demand::Signature].map(|demand| (demand, scopes(demand)));
        let obstacles = obstacles.into_iter().filter(|(_, scopes)| !scopes.is_empty());
        obstacles
            .map(|(demand, scopes)| self.obstacle(demand, &scopes.join(", ")))
            .collect()
    }

    /// Why podman certainly does not pull an image by this name; `None` if it may.
    pub fn rejection(&self, name: &Reference) -> Option<Obstacle> {
        if let Some(unusable) = &self.unusable {
            return Some(unusable.clone());
        }
        match self.demand(name) {
            (scope, Demand::Rejected) => Some(self.obstacle(Demand::Rejected, described(scope))),
            _ => None,
        }
    }

    /// Warnings of images that podman may refuse, by the names that it pulls them by.
    pub fn warnings<'n>(&self, pulled: impl Iterator<Item = &'n Reference>) -> Vec<String> {
        let mut doubtful: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for name in pulled {
            if let (scope, Demand::Signature) = self.demand(name) {
                doubtful.entry(scope).or_default().push(name.familiar());
            }
        }
        let warnings = doubtful.into_iter().map(|(scope, images)| {
            let obstacle = self.obstacle(Demand::Signature, described(scope));
            format!(
                "{obstacle}, which podman checks while it pulls: it may refuse {}",
                names::first(&images, SHOWN)
            )
        });
        warnings.collect()
    }

    fn obstacle(&self, demand: Demand, scopes: &str) -> Obstacle {
        Obstacle::new(
            format!("{} {} {scopes}", self.file.display(), demand.verb()),
            HINT,
        )
    }

    /// The most specific scope that a name is in, and what the policy demands there.
    fn demand(&self, name: &Reference) -> (&str, Demand) {
        let mut scopes = scopes(name).into_iter();
        let found = scopes.find_map(|scope| self.scopes.get_key_value(&scope));
        found.map_or(("", Demand::Nothing), |(scope, demand)| (scope.as_str(), *demand))
    }
}

/// A scope in words.
fn described(scope: &str) -> &str {
    match scope {
        "" => "all registries that it does not name",
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn what_a_policy_keeps_from_being_pulled_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let reasons = |files: &[PathBuf]| {
            let found = Policy::of_first(files).obstacles().into_iter();
            found
                .map(|obstacle| obstacle.reason)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let file = folder.path().join("policy.json");
        let path = file.display();
        let files = [folder.path().join("absent"), file.clone()];
        assert!(reasons(&files).contains("podman pulls nothing without a policy.json"));
        for (text, expected) in [
            (
                r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
                String::new(),
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
                String::new(),
            ),
            // Other transports do not matter.
            (
                r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"reject"}]}}}"#,
                String::new(),
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{
                    "quay.io/a":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a"}],
                    "docker.io":[{"type":"sigstoreSigned"}],"ghcr.io":[{"type":"insecureAcceptAnything"}]}}}"#,
                format!(
                    "{path} rejects images from all registries that it does not name\n\
                     {path} requires a signature for images from docker.io, quay.io/a"
                ),
            ),
            (
                "{",
                format!("{path}: EOF while parsing an object at line 1 column 1"),
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io":[]}}}"#,
                format!("{path}: a list of requirements is empty"),
            ),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(reasons(&files), expected, "{text}");
        }
    }

    #[test]
    fn the_most_specific_scope_decides() {
        let digest = Digest::sha256(b"image");
        let demand = |scopes: &[(&str, &str)], name: &str| {
            let scopes: serde_json::Map<String, serde_json::Value> = scopes
                .iter()
                .map(|(scope, kind)| {
                    let scope = scope.replace("DIGEST", &digest.to_string());
                    (scope, serde_json::json!([{ "type": kind }]))
                })
                .collect();
            let text = serde_json::json!({
                "default": [{ "type": "insecureAcceptAnything" }, { "type": "reject" }],
                "transports": { "docker": scopes },
            });
            let policy = Policy::of_text(Path::new("/policy.json"), &text.to_string());
            let name = name.replace("DIGEST", &digest.to_string()).parse().unwrap();
            let rejection = policy.rejection(&name).map(|obstacle| obstacle.reason);
            rejection.or_else(|| policy.warnings([&name].into_iter()).pop())
        };
        let rejects = |scope: &str| Some(format!("/policy.json rejects images from {scope}"));
        let (accept, signed) = ("insecureAcceptAnything", "signedBy");
        for (scopes, name, expected) in [
            (&[][..], "app:1", rejects("all registries that it does not name")),
            (&[("", accept)], "app:1", None),
            (&[("", accept), ("docker.io", "reject")], "app:1", rejects("docker.io")),
            (&[("docker.io", accept)], "app:1", None),
            (&[("docker.io", accept)], "quay.io/app:1", rejects("all registries that it does not name")),
            (
                &[("docker.io", accept), ("docker.io/library", "reject")],
                "app:1",
                rejects("docker.io/library"),
            ),
            (&[("", accept), ("docker.io/lib", "reject")], "app:1", None),
            (
                &[("docker.io/library", "reject"), ("docker.io/library/app", accept)],
                "app:1",
                None,
            ),
            (
                &[("docker.io/library/app", accept), ("docker.io/library/app:1", "reject")],
                "app:1",
                rejects("docker.io/library/app:1"),
            ),
            (&[("", accept), ("docker.io/library/app:1", "reject")], "app:2", None),
            (&[("docker.io/library/app@DIGEST", accept)], "app@DIGEST", None),
            (&[("", accept), ("*.example.com", "reject")], "example.com/app:1", None),
            (
                &[("", accept), ("*.example.com", "reject")],
                "a.b.example.com:5000/app:1",
                rejects("*.example.com"),
            ),
            (
                &[("*.example.com", "reject"), ("a.example.com:5000", accept)],
                "a.example.com:5000/app:1",
                None,
            ),
            (
                &[("quay.io", signed)],
                "quay.io/app:1",
                Some(
                    "/policy.json requires a signature for images from quay.io, which podman checks while it pulls: it \
                     may refuse quay.io/app:1"
                        .into(),
                ),
            ),
        ] {
            assert_eq!(demand(scopes, name), expected, "{scopes:?} {name}");
        }
    }
}
