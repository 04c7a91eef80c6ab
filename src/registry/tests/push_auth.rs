//! Tokens and credentials of pushes.

use std::sync::Arc;
use std::sync::Mutex;

use super::push::{Images, changes, image, push_into, target};
use super::push_registry::{Dialect, PushRegistry};
use crate::error::ErrorKind;
use crate::load::LoadOptions;
use crate::oci::Platform;
use crate::oci::testing::TestImage;
use crate::registry::testing::{Reply, Seen, Server, patient};
use crate::registry::{Credential, Credentials, Options, Secret};

/// A registry that asks for a token with the scopes that a request needs, and its token server.
fn with_tokens(registry: &PushRegistry, may_push: bool) -> Server {
    let registry = registry.clone();
    let host: Arc<Mutex<String>> = Arc::default();
    let own = host.clone();
    let server = Server::start(move |seen: &Seen| {
        if seen.path == "/token" {
            let mut scopes: Vec<&str> = seen
                .query
                .split('&')
                .filter_map(|one| one.strip_prefix("scope="))
                .collect();
            scopes.sort_unstable();
            let text = scopes
                .join("+")
                .replace("%3A", ":")
                .replace("%2F", "/")
                .replace("%2C", ",");
            let text = match may_push {
                true => text,
                false => text.replace(",push", ""),
            };
            return Reply::new(200, format!(r#"{{"token":"{text}"}}"#));
        }
        if seen.path == "/v2/" {
            return Reply::new(401, "").with("WWW-Authenticate", "Bearer realm=\"http://x/\"");
        }
        let repository = seen.path.strip_prefix("/v2/").unwrap();
        let end = ["/blobs/", "/manifests/"]
            .iter()
            .filter_map(|part| repository.find(part))
            .min();
        let repository = &repository[..end.unwrap()];
        // As distribution's `appendAccessRecords` has it.
        let (right, action) = match seen.method.as_str() {
            "GET" | "HEAD" => ("pull", "pull"),
            "DELETE" => ("delete", "delete"),
            _ => ("push", "pull,push"),
        };
        let token = seen
            .authorization()
            .and_then(|text| text.strip_prefix("Bearer "))
            .unwrap_or_default();
        let grants = |resource: &str, action: &str| {
            token.split('+').any(|scope| {
                scope
                    .strip_prefix(resource)
                    .is_some_and(|rest| rest.contains(action))
            })
        };
        let resource = format!("repository:{repository}:");
        if !grants(&resource, right) {
            let challenge = format!(
                "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"{resource}{action}\"",
                own.lock().unwrap()
            );
            return Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#)
                .with("WWW-Authenticate", challenge);
        }
        let from = seen
            .query
            .split("from=")
            .nth(1)
            .map(|from| from.replace("%2F", "/"));
        match from {
            Some(from) if !grants(&format!("repository:{from}:"), "pull") => {
                // A registry without the right to read the other repository starts an upload.
                let mut plain = seen.clone();
                plain.query.clear();
                registry.answer(&plain)
            }
            _ => registry.answer(seen),
        }
    });
    *host.lock().unwrap() = server.host();
    server
}

fn credentials(server: &Server) -> Options {
    let password = Credential::Password {
        username: "me".into(),
        password: Secret::new("secret"),
    };
    Options {
        credentials: Credentials::default().with(&server.host(), password),
        ..patient()
    }
}

#[test]
fn a_token_to_pull_is_never_used_to_push() {
    let registry = PushRegistry::new(Dialect::default());
    let server = with_tokens(&registry, true);
    let (target, _) = target(&server.host(), false, credentials(&server));
    let shared = image(&[2 << 20]);
    let images = Images::new()
        .image("lib/one:1", &shared.clone().author("one"))
        .image("lib/other:1", &shared.author("other"));
    let report = push_into(&target, &images, &LoadOptions::default()).unwrap();
    assert_eq!(report.failure(), None);
    let seen = server.seen();
    let mut tokens: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.path == "/token")
        .map(|seen| seen.query.as_str())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    let all = tokens.join(" ");
    for (repository, other) in [("one", "other"), ("other", "one")] {
        let own = format!("scope=repository%3Amirror%2Flib%2F{repository}%3Apull%2Cpush");
        assert!(all.contains(&own), "{all}");
        let mount = format!("{own}&scope=repository%3Amirror%2Flib%2F{other}%3Apull");
        let mounted = seen
            .iter()
            .any(|seen| seen.query.contains("mount=") && seen.path.contains(&format!("/{repository}/")));
        assert_eq!(all.contains(&mount), mounted, "{all}");
    }
    // Every token is for pushes, and each request has one for its own repository.
    assert!(tokens.iter().all(|query| query.contains("%2Cpush")), "{tokens:?}");
    let layers = seen.iter().filter(|seen| seen.method == "PATCH").count();
    assert_eq!(layers, 1, "the other repository mounts the layer");
}

#[test]
fn what_a_push_wrote_is_deleted_with_the_right_to_delete() {
    let registry = PushRegistry::new(Dialect {
        takes_sparse: true,
        ..Dialect::default()
    });
    let server = with_tokens(&registry, true);
    let (target, _) = target(&server.host(), false, credentials(&server));
    let both = [
        image(&[10]),
        image(&[10]).platform(&Platform::linux("arm64", None)),
    ];
    let images = Images::new().index("lib/one:1", &both, 1);
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    let shelf = registry.shelf.lock().unwrap();
    assert_eq!(shelf.manifests.len(), 2, "the index and one manifest");
}

#[test]
fn an_account_that_may_only_pull_is_told_so() {
    let registry = PushRegistry::new(Dialect::default());
    let server = with_tokens(&registry, false);
    let (target, _) = target(&server.host(), false, credentials(&server));
    let images = Images::new().image("lib/one:1", &image(&[10]));
    let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    let text = error.to_string();
    assert!(text.contains("they lack the right to push"), "{text}");
    let hint = error.hint().unwrap().to_string();
    assert!(
        hint.contains("log in with an account that may push to mirror/lib/one"),
        "{hint}"
    );
    assert!(!text.contains("secret") && !hint.contains("secret"));
    assert!(registry.shelf.lock().unwrap().blobs.is_empty());
}

#[test]
fn a_refusal_names_what_helps() {
    let refusal = ErrorKind::Registry;
    for (status, says, hint, kind) in [
        (403, "may not push here", "an account that may push", refusal),
        (404, "does not take", "project mirror to be created", refusal),
        (405, "takes no pushes", "read-only", refusal),
        (507, "has no space left", "free some space", ErrorKind::Io),
    ] {
        let registry = PushRegistry::new(Dialect::default());
        let server = Server::start(move |seen| match seen.method.as_str() {
            "POST" => Reply::new(status, r#"{"errors":[{"code":"X","message":"for a reason"}]}"#),
            _ => registry.answer(seen),
        });
        let (target, _) = target(&server.host(), false, patient());
        let images = Images::new().image("lib/one:1", &TestImage::new());
        let error = push_into(&target, &images, &LoadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), kind);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("for a reason"), "{text}");
        assert!(error.hint().unwrap().to_string().contains(hint), "{status}");
        assert!(changes(&server.seen()).iter().all(|one| one.starts_with("POST")));
    }
}

#[test]
fn credentials_stay_with_the_registry() {
    let registry = PushRegistry::new(Dialect::default());
    let storage = registry.start();
    let upstream = registry.clone();
    let server = Server::start(move |seen: &Seen| match seen.authorization() {
        Some("Basic bWU6c2VjcmV0") => upstream.answer(seen),
        _ if seen.path == "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"r\""),
    });
    *registry.elsewhere.lock().unwrap() = Some(storage.host());
    let (target, _) = target(&server.host(), false, credentials(&server));
    let images = Images::new().image("lib/one:1", &image(&[2 << 20]));
    push_into(&target, &images, &LoadOptions::default()).unwrap();
    let there = storage.seen();
    assert!(
        there.iter().any(|seen| seen.method == "PATCH"),
        "uploads go there"
    );
    assert!(there.iter().all(|seen| seen.authorization().is_none()));
    assert!(!registry.shelf.lock().unwrap().tags.is_empty());
}
