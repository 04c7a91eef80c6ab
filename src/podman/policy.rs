//! What the host's policy.json keeps podman from pulling.
//!
//! Source: containers/image, `docs/containers-policy.json.5.md` and `signature/policy_config.go`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::load::Obstacle;

/// The user's policy, below the home folder.
const USERS: &str = ".config/containers/policy.json";
/// The host's.
const HOSTS: [&str; 2] = ["/etc/containers/policy.json", "/usr/share/containers/policy.json"];
/// What to do about a policy.
const HINT: &str =
    "podman enforces it, and sealift does not change or bypass it: see man containers-policy.json";

#[derive(Deserialize)]
struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

/// What the policy of this process's user keeps podman from pulling.
pub fn obstacles() -> Vec<Obstacle> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let users = home.map(|home| home.join(USERS));
    let files = users.into_iter().chain(HOSTS.map(PathBuf::from));
    of_first(&files.collect::<Vec<_>>())
}

/// The same for the first of these files that exists.
fn of_first(files: &[PathBuf]) -> Vec<Obstacle> {
    for file in files {
        match fs::read_to_string(file) {
            Ok(text) => return of_text(file, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Obstacle::new(format!("{}: {error}", file.display()), HINT).into(),
        }
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let reason = format!(
        "podman pulls nothing without a policy.json: {} do not exist",
        names.join(", ")
    );
    Obstacle::new(
        reason,
        r#"the one that allows everything is {"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .into()
}

fn of_text(file: &Path, text: &str) -> Vec<Obstacle> {
    let policy: Policy = match serde_json::from_str(text) {
        Ok(policy) => policy,
        Err(error) => return Obstacle::new(format!("{}: {error}", file.display()), HINT).into(),
    };
    let scopes = policy.transports.get("docker");
    let all = scopes
        .and_then(|scopes| scopes.get(""))
        .unwrap_or(&policy.default);
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    if let Some(verb) = verb(all) {
        found
            .entry(verb)
            .or_default()
            .push("all registries that it does not name");
    }
    for (scope, requirements) in scopes
        .into_iter()
        .flatten()
        .filter(|(scope, _)| !scope.is_empty())
    {
        if let Some(verb) = verb(requirements) {
            found.entry(verb).or_default().push(scope);
        }
    }
    let reasons = found
        .into_iter()
        .map(|(verb, scopes)| format!("{} {verb} {}", file.display(), scopes.join(", ")));
    reasons.map(|reason| Obstacle::new(reason, HINT)).collect()
}

/// What these requirements do to an image without a signature; `None` if they accept it.
fn verb(requirements: &[Requirement]) -> Option<&'static str> {
    let has = |kind: &str| requirements.iter().any(|one| one.kind == kind);
    let accepts = |one: &Requirement| one.kind == "insecureAcceptAnything";
    match requirements.iter().all(accepts) {
        true => None,
        false if has("reject") => Some("rejects images from"),
        false => Some("requires a signature for images from"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_keeps_from_being_pulled_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let reasons = |files: &[PathBuf]| {
            let found = of_first(files).into_iter();
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
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(reasons(&files), expected, "{text}");
        }
    }
}
