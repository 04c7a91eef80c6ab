//! How well-known registries ask for tokens, and where they redirect clients for blobs. Hosts are ports of this
//! machine here; header forms, codes and responses are those of the named sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::registry::testing::{Fixture, Reply, Seen, Server, quick, ranged, read, source};
use crate::source::Source;

use super::auth::{basic, password, with};

struct Dialect {
    /// The challenge to a request without a token, with placeholders `{realm}` and `{scope}`.
    challenge: &'static str,
    /// The token server's response to a good request.
    token: &'static str,
    /// The path of the token server.
    realm: &'static str,
    /// The query that the token server must receive.
    query: &'static str,
    redirect: Option<(u16, &'static str)>,
    /// Whether storage refuses a request with Authorization.
    strict_storage: bool,
    digest_header: bool,
    needs_password: bool,
}

const QUERY: &str = "service={service}&scope=repository%3Alib%2Fapp%3Apull";

impl Dialect {
    fn run(self) {
        let image = Fixture::new();
        let layer = image.layer.clone();
        let storage = Server::start(move |seen| {
            if seen.authorization().is_some() && self.strict_storage {
                return Reply::new(400, "<Error><Code>InvalidAuthenticationInfo</Code></Error>");
            }
            ranged(seen, &layer)
        });
        let token = self.token;
        let tokens = Server::start(move |seen| {
            let allowed = !self.needs_password || seen.authorization() == Some(&basic("ann", "pw"));
            if seen.path == self.realm && seen.query == self.query && allowed {
                Reply::new(200, token).with("Content-Type", "application/json")
            } else {
                Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#)
            }
        });
        let challenge = self
            .challenge
            .replace("{realm}", &format!("http://{}{}", tokens.host(), self.realm))
            .replace("{scope}", "repository:lib/app:pull");
        let server = {
            let (image, storage) = (image.clone(), storage.host());
            Server::start(move |seen: &Seen| {
                if seen.authorization() != Some("Bearer tok.en") {
                    return Reply::new(
                        401,
                        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
                    )
                    .with("Content-Type", "application/json")
                    .with("Docker-Distribution-Api-Version", "registry/2.0")
                    .with("Www-Authenticate", challenge.clone());
                }
                match self.redirect {
                    Some((status, path)) if seen.path.contains("/blobs/") => {
                        // Quay sends a page too.
                        Reply::new(status, "<!doctype html><title>Redirecting...</title>")
                            .with("Location", format!("http://{storage}{path}"))
                    }
                    _ if self.digest_header => image.answer(seen),
                    _ => image.answer(seen).without("Docker-Content-Digest"),
                }
            })
        };
        let options = if self.needs_password {
            with(&server.host(), password("ann", "pw"))
        } else {
            quick()
        };
        let source = source(options);
        let root = source.resolve(&server.reference("1")).unwrap();
        assert_eq!(root, image.descriptor(&image.index));
        let repository = server.repository();
        let manifest = image.descriptor(&image.manifest);
        assert_eq!(source.metadata(&repository, &manifest).unwrap(), image.manifest);
        for offset in [0, 99] {
            let got = read(source.open(&repository, &image.descriptor(&image.layer), offset)).unwrap();
            assert_eq!(got, image.layer[usize::try_from(offset).unwrap()..]);
        }
        assert_eq!(tokens.seen().len(), 1);
        let stored = storage.seen();
        assert_eq!(stored.len(), if self.redirect.is_some() { 2 } else { 0 });
        assert!(stored.iter().all(|seen| seen.authorization().is_none()));
        // The password is for the token server alone.
        let sent = server.seen();
        let mut sent = sent.iter().filter_map(|seen| seen.authorization());
        assert!(sent.all(|value| value == "Bearer tok.en"));
    }
}

fn query(service: &str) -> &'static str {
    QUERY.replace("{service}", service).leak()
}

/// Sources: distribution/distribution issue 1589 (challenge; a token without a lifetime),
/// opencontainers/distribution-spec issue 299 (307 to production.cloudflare.docker.com).
#[test]
fn docker_hub() {
    Dialect {
        challenge: r#"Bearer realm="{realm}",service="registry.docker.io",scope="{scope}""#,
        token: r#"{"token":"tok.en"}"#,
        realm: "/token",
        query: query("registry.docker.io"),
        redirect: Some((
            307,
            "/registry-v2/docker/registry/v2/blobs/sha256/fa/fa41/data?verify=1632139768-qcB4OlxVYmlgJCLs%3D",
        )),
        strict_storage: true,
        digest_header: true,
        needs_password: false,
    }
    .run();
}

/// Source: CNCF distribution, `docs/content/spec/auth/token.md` (both fields, lifetime, time of issue); with an
/// account as `docker login` leaves it.
#[test]
fn docker_hub_with_an_account() {
    Dialect {
        challenge: r#"Bearer realm="{realm}",service="registry.docker.io",scope="{scope}""#,
        token: r#"{"token":"tok.en","access_token":"tok.en","expires_in":300,"issued_at":"2024-01-02T03:04:05.678901234Z"}"#,
        realm: "/token",
        query: query("registry.docker.io"),
        redirect: Some((307, "/registry-v2/data?X-Amz-Signature=00")),
        strict_storage: true,
        digest_header: true,
        needs_password: true,
    }
    .run();
}

/// Sources: goharbor/harbor-helm issue 1743 (the token server's path and service),
/// goharbor/harbor, `src/common/models/token.go` and `src/core/service/token/authutils.go` (the answer); storage
/// behind Harbor redirects only if it is set up so: distribution/distribution issue 4609.
#[test]
fn harbor() {
    for redirect in [
        None,
        Some((
            307,
            "/harbor/docker/registry/v2/blobs/data?Signature=a~b&Key-Pair-Id=K",
        )),
    ] {
        Dialect {
            challenge: r#"Bearer realm="{realm}",service="harbor-registry",scope="{scope}""#,
            token: r#"{"token":"tok.en","expires_in":1800,"issued_at":"2024-01-02T03:04:05Z"}"#,
            realm: "/service/token",
            query: query("harbor-registry"),
            redirect,
            strict_storage: true,
            digest_header: true,
            needs_password: true,
        }
        .run();
    }
}

/// Sources: renovatebot/renovate, `lib/modules/datasource/docker/common.ts` (challenge); FiloSottile/mkcert issue
/// 397 (the form of the address on pkg-containers.githubusercontent.com).
#[test]
fn ghcr() {
    Dialect {
        challenge: r#"Bearer realm="{realm}",service="ghcr.io",scope="{scope}""#,
        token: r#"{"token":"tok.en"}"#,
        realm: "/token",
        query: query("ghcr.io"),
        redirect: Some((
            307,
            "/ghcr1/blobs/sha256:79c5?se=2023-04-04T13%3A05%3A00Z&sig=OXUs%3D&sp=r&spr=https&sr=b&sv=2019-12-12",
        )),
        strict_storage: true,
        digest_header: true,
        needs_password: false,
    }
    .run();
}

/// Sources: rkt/rkt issue 2248 (no scope), fluxcd/flux pull request 123 (a scope without quotes),
/// oras-project/rust-oci-client issue 226 (302 with a page, to cdn03.quay.io).
#[test]
fn quay() {
    for challenge in [
        r#"Bearer realm="{realm}",service="quay.io""#,
        r#"Bearer realm="{realm}",service="quay.io",scope={scope}"#,
        r#"Bearer realm="{realm}",service="quay.io",scope="{scope}""#,
    ] {
        Dialect {
            challenge,
            token: r#"{"token":"tok.en"}"#,
            realm: "/v2/auth",
            query: query("quay.io"),
            redirect: Some((
                302,
                "/quayio-production-s3/sha256/83/8376?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F2\
                 &namespace=fedora&repo_name=fedora",
            )),
            strict_storage: true,
            digest_header: true,
            needs_password: true,
        }
        .run();
    }
}

/// Sources: deitch/docker_registry2 issue 14 (challenge).
#[test]
fn gitlab() {
    Dialect {
        challenge: r#"Bearer realm="{realm}",service="container_registry",scope="{scope}""#,
        token: r#"{"token":"tok.en"}"#,
        realm: "/jwt/auth",
        query: query("container_registry"),
        redirect: None,
        strict_storage: true,
        digest_header: true,
        needs_password: true,
    }
    .run();
}

/// Sources: Azure/acr issues 217 (storage answers 400 to Authorization) and 466 (basic auth is offered besides
/// but not taken), and its `docs/AAD-OAuth.md` (an `access_token` only).
#[test]
fn azure() {
    Dialect {
        challenge: r#"Basic realm="reg.azurecr.io", Bearer realm="{realm}",service="reg.azurecr.io",scope="{scope}""#,
        token: r#"{"access_token":"tok.en"}"#,
        realm: "/oauth2/token",
        query: query("reg.azurecr.io"),
        redirect: Some((307, "/blobs/sha256/3a/data?se=2019&sig=x%2By&sr=b")),
        strict_storage: true,
        digest_header: true,
        needs_password: true,
    }
    .run();
}

/// Sources: mayflower/docker-ls issue 28 (basic auth with a realm that looks like one for tokens),
/// broadinstitute/cromwell pull request 4864 (no digest in the headers), awsdocs/amazon-ecr-user-guide issue 24
/// (layers in S3).
#[test]
fn amazon() {
    let image = Fixture::new();
    let layer = image.layer.clone();
    let storage = Server::start(move |seen| match seen.authorization() {
        Some(_) => Reply::new(400, "<Error><Code>InvalidArgument</Code></Error>"),
        None => ranged(seen, &layer),
    });
    let (image_, host) = (image.clone(), storage.host());
    let server = Server::start(move |seen| {
        if seen.authorization() != Some(&basic("AWS", "pw")) {
            return Reply::new(401, "Not Authorized\n").with(
                "Www-Authenticate",
                r#"Basic realm="https://111111111111.dkr.ecr.us-east-1.amazonaws.com/",service="ecr.amazonaws.com""#,
            );
        }
        if seen.path.contains("/blobs/") {
            return Reply::new(307, "").with("Location", format!("http://{host}/starport?X-Amz-Signature=0"));
        }
        image_.answer(seen).without("Docker-Content-Digest")
    });
    let source = source(with(&server.host(), password("AWS", "pw")));
    let root = source.resolve(&server.reference("1")).unwrap();
    assert_eq!(root, image.descriptor(&image.index));
    let got = read(source.open(&server.repository(), &image.descriptor(&image.layer), 7));
    assert_eq!(got.unwrap(), image.layer[7..]);
    assert!(storage.seen().iter().all(|seen| seen.authorization().is_none()));
}

/// Source: moby/moby issue 22158: a new token is refused for a moment if clocks differ.
#[test]
fn docker_hub_with_a_slow_clock() {
    let image = Fixture::new();
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"tok.en"}"#));
    let realm = format!("http://{}/token", tokens.host());
    let count = AtomicUsize::new(0);
    let image_ = image.clone();
    let server = Server::start(move |seen| {
        let error = match seen.authorization() {
            None => "",
            Some(_) if count.fetch_add(1, Ordering::SeqCst) == 0 => ",error=\"invalid_token\"",
            Some(_) => return image_.answer(seen),
        };
        Reply::new(401, "").with(
            "Www-Authenticate",
            format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:lib/app:pull\"{error}"),
        )
    });
    let root = source(quick()).resolve(&server.reference("1")).unwrap();
    assert_eq!(root, image.descriptor(&image.index));
}

/// Source: sigstore/scaffolding issue 127: the token server itself says DENIED for a private package.
#[test]
fn ghcr_private() {
    let tokens = Server::start(|_| Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#));
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="ghcr.io",scope="repository:lib/app:pull""#,
        tokens.host()
    );
    let server = Server::start(move |_| Reply::new(401, "").with("Www-Authenticate", challenge.clone()));
    let error = source(quick()).resolve(&server.reference("1")).unwrap_err();
    assert!(
        error.to_string().contains("there are no credentials") && error.to_string().ends_with("(denied)"),
        "{error}"
    );
}

/// Source: con/tinuous pull request 232: an invalid token gets 403 and no challenge, while no token gets 401.
#[test]
fn ghcr_with_an_expired_token() {
    let image = Fixture::new();
    let latest = Arc::new(AtomicUsize::new(0));
    let issued = latest.clone();
    let tokens = Server::start(move |_| {
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(200, format!(r#"{{"token":"t{number}"}}"#))
    });
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="ghcr.io",scope="repository:lib/app:pull""#,
        tokens.host()
    );
    let (image_, uses) = (image.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        let good = format!("Bearer t{}", latest.load(Ordering::SeqCst));
        // Each token is good for two requests; the third one is never good.
        let allowed = 2 * latest.load(Ordering::SeqCst).min(2);
        match seen.authorization() {
            None => Reply::new(401, "").with("Www-Authenticate", challenge.clone()),
            Some(value) if value == good && uses.load(Ordering::SeqCst) < allowed => {
                uses.fetch_add(1, Ordering::SeqCst);
                image_.answer(seen)
            }
            Some(_) => Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#),
        }
    });
    let source = source(quick());
    let layer = image.descriptor(&image.layer);
    for _ in 0..4 {
        assert!(read(source.open(&server.repository(), &layer, 0)).is_ok());
    }
    assert_eq!(tokens.seen().len(), 2);
    let error = read(source.open(&server.repository(), &layer, 0)).unwrap_err();
    assert!(error.ends_with("access denied (denied)"), "{error}");
    assert_eq!(tokens.seen().len(), 3, "one more token was tried, and no further");
}

/// Source: ahmetb/serverless-registry-proxy issue 8: Artifact Registry redirects within itself, by a path.
#[test]
fn google_artifact_registry() {
    let image = Fixture::new();
    let image_ = image.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/artifacts-downloads/namespaces/n/repositories/r/downloads/AAbb_-" => ranged(seen, &image_.layer),
        path if path.contains("/blobs/") => Reply::new(302, "").with(
            "Location",
            "/artifacts-downloads/namespaces/n/repositories/r/downloads/AAbb_-",
        ),
        _ => image_.answer(seen),
    });
    let source = source(quick());
    for offset in [0, 5] {
        let got = read(source.open(&server.repository(), &image.descriptor(&image.layer), offset)).unwrap();
        assert_eq!(got, image.layer[usize::try_from(offset).unwrap()..]);
    }
}
