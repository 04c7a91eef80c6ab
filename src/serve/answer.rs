//! The answers to requests.
//!
//! Source: OCI distribution specification 1.1, "Pull", "Content Discovery" and "Error Codes".

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_RANGE, LINK, RANGE, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::Semaphore;

use super::blob::{Blob, FilesState};
use super::body::Body;
use super::content::{self, Content, Live, Repository, Unfound};
use super::event::{Event, Report};
use super::page;
use super::target::{self, Asked};
use crate::oci::{Digest, MediaType};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// How blobs are sent.
#[derive(Clone)]
pub(super) enum Sending {
    /// Hashed again each time, because the archives were verified already.
    Hashed,
    /// Verified before the first time, this many at once.
    Proven(Arc<Semaphore>),
}

/// What answers requests.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) content: Live,
    pub(super) sending: Sending,
    pub(super) report: Report,
}

/// A request, without its body, which no request has.
pub(super) struct Asking<'a> {
    pub(super) method: &'a Method,
    /// Decoded.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    /// The registry that a mirror is asked for.
    pub(super) registry: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) is_tls: bool,
    /// Whether a password was needed.
    pub(super) is_private: bool,
}

impl Answers {
    pub(super) async fn answer(&self, asking: &Asking<'_>) -> Response<Body> {
        if ![Method::GET, Method::HEAD].contains(asking.method) {
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "read-only");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        let content = self.content.get();
        match asking.path {
            "/v2/" | "/v2" => json(StatusCode::OK, "{}"),
            "/" if content.is_listed => front(asking, &content),
            "/v2/_catalog" if content.is_listed => {
                let repositories = content.catalog().iter().map(String::as_str);
                list(asking, "repositories", None, repositories)
            }
            path => self.found(asking, &content, path).await,
        }
    }

    async fn found(&self, asking: &Asking<'_>, content: &Content, path: &str) -> Response<Body> {
        let unknown = || error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "not found");
        let Some(rest) = path.strip_prefix("/v2/") else {
            return unknown();
        };
        let parts = ["/manifests/", "/blobs/", "/referrers/"]
            .into_iter()
            .find_map(|kind| {
                let (name, reference) = rest.rsplit_once(kind)?;
                Some((name, kind, reference))
            });
        let (name, kind, reference) = match (parts, rest.strip_suffix("/tags/list")) {
            (Some(parts), _) => parts,
            (None, Some(name)) => (name, "/tags/list", ""),
            (None, None) => return unknown(),
        };
        let repository = match content.repository(name, asking.registry) {
            Ok(repository) => repository,
            Err(Unfound::Unknown) => {
                let message = format!("{name} is not in these archives");
                return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &message);
            }
            Err(Unfound::Contested(names)) => {
                let message = format!("several registries have {name}: ask for {}", names.join(" or "));
                return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &message);
            }
        };
        match kind {
            "/manifests/" => self.manifest(asking, content, repository, reference),
            "/blobs/" => match reference.parse() {
                Ok(digest) => match content.blob(repository, &digest) {
                    Some(copies) => self.blob(asking, &digest, copies).await,
                    None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "not found"),
                },
                Err(_) => error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest"),
            },
            _ if !content.is_listed => unknown(),
            "/referrers/" => match reference.parse() {
                Ok(digest) => referrers(asking, content, repository, &digest),
                Err(_) => error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest"),
            },
            _ => {
                let tags = repository.tags.keys().map(String::as_str);
                list(asking, "tags", Some(name), tags)
            }
        }
    }

    fn manifest(
        &self,
        asking: &Asking<'_>,
        content: &Content,
        repository: &Repository,
        reference: &str,
    ) -> Response<Body> {
        let Some((digest, media_type, bytes)) = content.manifest(repository, reference) else {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "not found");
        };
        if asking.method == Method::GET {
            (self.report)(Event::Advanced {
                digest,
                bytes: u64::try_from(bytes.len()).unwrap_or_default(),
            });
        }
        let mut response = Response::new(Body::text(Some(bytes.clone())));
        set(&mut response, CONTENT_TYPE, media_type.as_str());
        set(&mut response, DIGEST, &digest.to_string());
        set(&mut response, ETAG, &format!("\"{digest}\""));
        response
    }

    /// The first copy of a blob that is right, and the state of its files in which it was verified, if it was. `None` if
    /// all are wrong.
    async fn right_copy<'a>(
        &self,
        method: &Method,
        copies: &'a [Arc<Blob>],
    ) -> Option<(&'a Arc<Blob>, Option<FilesState>)> {
        // A copy that is known to be wrong is reported again only if no other is right.
        let (wrong, others): (Vec<_>, Vec<_>) = copies.iter().partition(|blob| blob.is_known_wrong());
        let at_once = match &self.sending {
            Sending::Proven(at_once) if method == Method::GET => at_once,
            _ => return others.first().map(|blob| (*blob, None)),
        };
        for blob in others.into_iter().chain(wrong) {
            match blob.prove(at_once).await {
                Ok(state) => return Some((blob, Some(state))),
                Err(error) => (self.report)(Event::Failed { error }),
            }
        }
        None
    }

    async fn blob(&self, asking: &Asking<'_>, digest: &Digest, copies: &[Arc<Blob>]) -> Response<Body> {
        let Some((blob, state)) = self.right_copy(asking.method, copies).await else {
            return broken(digest);
        };
        let size = blob.descriptor.size;
        let tag = format!("\"{digest}\"");
        let asked = match (&self.sending, asking.headers.get(RANGE)) {
            (Sending::Proven(_), Some(header)) if asking.method == Method::GET => {
                let condition = asking.headers.get(IF_RANGE);
                let is_same = condition.is_none_or(|condition| condition.as_bytes() == tag.as_bytes());
                let header = header.to_str().ok().filter(|_| is_same);
                header.map_or(Asked::All, |header| target::range(header, size))
            }
            _ => Asked::All,
        };
        let range = match &asked {
            Asked::All => 0..size,
            Asked::Part(range) => range.clone(),
            Asked::Nothing => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let mut response = error(status, "SIZE_INVALID", "the blob has no such bytes");
                set(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
                return response;
            }
        };
        let length = range.end.saturating_sub(range.start);
        let body = match (&self.sending, state) {
            _ if asking.method == Method::HEAD => Body::text(None),
            (Sending::Proven(at_once), Some(state)) => {
                Body::proven(blob, range, state, at_once, &self.report)
            }
            _ => match Body::hashed(blob, &self.report) {
                Ok(body) => body,
                Err(error) => {
                    (self.report)(Event::Failed { error });
                    return broken(digest);
                }
            },
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        set(&mut response, CONTENT_TYPE, "application/octet-stream");
        set(&mut response, DIGEST, &digest.to_string());
        if let Sending::Proven(_) = self.sending {
            set(&mut response, ACCEPT_RANGES, "bytes");
            set(&mut response, ETAG, &tag);
        }
        if let Asked::Part(range) = asked {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = range.end.saturating_sub(1);
            set(
                &mut response,
                CONTENT_RANGE,
                &format!("bytes {}-{last}/{size}", range.start),
            );
        }
        response
    }
}

/// Sets what every answer has.
pub(super) fn finish(response: &mut Response<Body>) {
    set(response, VERSION, "registry/2.0");
}

/// The answer to a request without a password that is needed.
pub(super) fn unauthorized() -> Response<Body> {
    let mut response = error(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required",
    );
    set(&mut response, WWW_AUTHENTICATE, "Basic realm=\"sealift\"");
    response
}

fn broken(digest: &Digest) -> Response<Body> {
    let message = format!("{digest} is damaged, or cannot be read; the log of this registry says why");
    error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &message)
}

/// The page for people.
fn front(asking: &Asking<'_>, content: &Content) -> Response<Body> {
    let host = asking.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    let shown = page::page(content, asking.query, host, asking.is_tls, asking.is_private);
    let Some(shown) = shown else {
        return error(
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
            "the Host header is not a host",
        );
    };
    let mut response = Response::new(Body::text(Some(shown.html.into())));
    if !shown.is_found {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    set(&mut response, CONTENT_SECURITY_POLICY, &page::POLICY);
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, REFERRER_POLICY, "no-referrer");
    set(&mut response, CACHE_CONTROL, "no-cache");
    response
}

fn referrers(
    asking: &Asking<'_>,
    content: &Content,
    repository: &Repository,
    subject: &Digest,
) -> Response<Body> {
    let wanted = target::field(asking.query, "artifactType").filter(|wanted| !wanted.is_empty());
    let found = content.referrers(repository, subject, wanted.as_deref());
    let mut response = json(StatusCode::OK, content::list(found));
    set(&mut response, CONTENT_TYPE, MediaType::OCI_INDEX);
    if wanted.is_some() {
        set(&mut response, FILTERS, "artifactType");
    }
    response
}

/// A page of a sorted list: `n` entries after `last`, and a link to the next page.
fn list<'a>(
    asking: &Asking<'_>,
    key: &str,
    name: Option<&str>,
    all: impl Iterator<Item = &'a str>,
) -> Response<Body> {
    let count = match target::field(asking.query, "n").map(|text| text.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(count)) => count,
        Some(Err(_)) => {
            let status = StatusCode::BAD_REQUEST;
            return error(status, "PAGINATION_NUMBER_INVALID", "n is not a number");
        }
    };
    let last = target::field(asking.query, "last").filter(|last| !last.is_empty());
    let mut rest = all.skip_while(|entry| last.as_deref().is_some_and(|last| *entry <= last));
    let page: Vec<&str> = rest.by_ref().take(count).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| {
        let registry = asking
            .registry
            .map(|registry| format!("&ns={}", target::encode(registry)));
        let (path, last) = (target::encode(asking.path), target::encode(last));
        format!(
            "<{path}?n={count}&last={last}{}>; rel=\"next\"",
            registry.unwrap_or_default()
        )
    });
    let mut document = serde_json::json!({ key: page });
    if let Some(name) = name {
        document["name"] = name.into();
    }
    let mut response = json(StatusCode::OK, document.to_string());
    if let Some(next) = next {
        set(&mut response, LINK, &next);
    }
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::text(Some(text.into())));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let text = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    json(status, text.to_string())
}
