//! The requests of a push, each with what its responses mean.
//!
//! Source: OCI distribution specification 1.1, "Pushing".

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ureq::http::uri::Scheme;
use ureq::http::{HeaderValue, Method, StatusCode, Uri, header};

use super::location::locate;
use crate::error::{Error, Hint, Remedy, Result};
use crate::oci::{Descriptor, Digest, MAX_METADATA};
use crate::registry::access::Access;
use crate::registry::auth::may_push;
use crate::registry::client::{ACCEPT_MANIFESTS, Client, url};
use crate::registry::location::{escape, same_origin};
use crate::registry::mirror::Endpoint;
use crate::registry::request_error::{ErrorBody, RequestError};
use crate::registry::retry_after::retry_after;
use crate::registry::transport::{Answer, Content, Request, Stream};

/// How much longer than for other responses a registry may take to store a blob that was sent.
const PATIENCE: u32 = 10;
/// How long the cancellation of an upload may take.
const CANCEL_TIME: Duration = Duration::from_secs(2);
/// The media type of the bytes of a blob.
pub(super) const BYTES: &str = "application/octet-stream";

/// An upload in a registry.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    /// Where the next request goes.
    pub(super) url: Uri,
    /// The access that it was started with.
    pub(super) access: Access,
    /// Fewest bytes that the registry takes at once, if it says.
    pub(super) least: u64,
}

impl Upload {
    /// The upload, at the address where a response says that it goes on, if it says so.
    pub(super) fn moved(
        &self,
        at: &Endpoint,
        answer: &Answer,
        subject: &str,
    ) -> Result<Upload, RequestError> {
        let mut moved = self.clone();
        if answer.headers.contains_key(header::LOCATION) {
            moved.url = locate(at, &self.url, answer, subject)?;
        }
        Ok(moved)
    }
}

/// The response to the start of an upload.
pub(super) enum Started {
    /// The repository has the blob now.
    Mounted,
    Upload(Upload),
}

/// Where an upload is.
pub(super) enum Status {
    /// The registry has this many bytes of it.
    At(u64, Upload),
    /// The registry does not know it, or cannot continue it.
    Forgotten,
}

/// The response to the request that completes an upload.
pub(super) enum Completed {
    Stored,
    /// The registry does not know the upload, or has other bytes of it.
    Lost(Error),
}

/// The response to a manifest.
pub(in crate::registry) enum Offered {
    /// The repository has it now.
    Stored {
        /// Whether the registry lists it as a referrer of its subject.
        is_listed: bool,
    },
    /// Why the registry does not take this manifest.
    Refused(Error),
}

/// The subject of a blob in messages.
pub(super) fn subject(at: &Endpoint, blob: &Digest) -> String {
    format!("blob {blob} of {}", at.path)
}

impl Client {
    /// Makes a request for what a push needs to know or to change, which can be repeated as a whole.
    pub(super) fn request(
        &self,
        at: &Endpoint,
        access: &Access,
        subject: &str,
        request: impl Fn(&Uri) -> Result<Request, RequestError>,
    ) -> Result<Answer, RequestError> {
        let (scheme, root) = self.root(at)?;
        self.authenticated(at, access, &scheme, request(&root)?, subject)
    }

    /// The scheme of a registry, and the root of its URLs.
    fn root(&self, at: &Endpoint) -> Result<(Scheme, Uri), RequestError> {
        let scheme = self.scheme(&self.session(at), at)?;
        let root = url(&scheme, at, "/")?;
        Ok((scheme, root))
    }

    pub(super) fn path_url(&self, at: &Endpoint, path: &str) -> Result<Uri, RequestError> {
        let (scheme, _) = self.root(at)?;
        url(&scheme, at, path)
    }

    /// Whether a repository has a blob of this size.
    pub(in crate::registry) fn has_blob(&self, at: &Endpoint, blob: &Descriptor) -> Result<bool> {
        let subject = subject(at, &blob.digest);
        let path = format!("/v2/{}/blobs/{}", at.path, blob.digest);
        self.with_retries(at, || {
            let answer = self.request(at, &Access::Push, &subject, |_| {
                Ok(Request {
                    method: Method::HEAD,
                    ..Request::get(self.path_url(at, &path)?, "*/*")
                })
            })?;
            match answer.status {
                StatusCode::OK => Ok(answer.stated_length().is_none_or(|length| length == blob.size)),
                StatusCode::NOT_FOUND => Ok(false),
                // A full disk left distribution an empty link to it, which an upload writes anew.
                StatusCode::INTERNAL_SERVER_ERROR if !answer.elsewhere => Ok(false),
                // It exists, and a signed URL of some storage does not allow to ask.
                _ if answer.elsewhere && answer.status.is_client_error() => Ok(true),
                _ => Err(refusal(at, &Access::Push, &subject, answer)),
            }
        })
    }

    /// The digest of the manifest or index that a tag or digest names in a repository.
    pub(in crate::registry) fn named(&self, at: &Endpoint, reference: &str) -> Result<Option<Digest>> {
        let name = manifest_subject(at, reference);
        let path = format!("/v2/{}/manifests/{reference}", at.path);
        let ask = |method: Method| {
            let answer = self.request(at, &Access::Push, &name, |_| {
                Ok(Request {
                    method: method.clone(),
                    ..Request::get(self.path_url(at, &path)?, ACCEPT_MANIFESTS)
                })
            })?;
            match answer.status {
                StatusCode::OK => Ok(Some(answer)),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(refusal(at, &Access::Push, &name, answer)),
            }
        };
        self.with_retries(at, || {
            let Some(answer) = ask(Method::HEAD)? else {
                return Ok(None);
            };
            let told = answer.header("docker-content-digest").map(str::trim);
            if let Some(digest) = told.and_then(|text| text.parse().ok()) {
                return Ok(Some(digest));
            }
            // Some registries tell no digest: it is that of the bytes.
            Ok(ask(Method::GET)?.map(|answer| Digest::sha256(&answer.text(MAX_METADATA))))
        })
    }

    /// Starts the upload of a blob, or mounts it from another repository.
    pub(super) fn start(
        &self,
        at: &Endpoint,
        blob: &Digest,
        from: Option<&str>,
    ) -> Result<Started, RequestError> {
        let subject = subject(at, blob);
        let (access, query) = match from {
            None => (Access::Push, String::new()),
            Some(from) => (
                Access::Mount(from.into()),
                format!("?mount={}&from={}", escape(&blob.to_string()), escape(from)),
            ),
        };
        let path = format!("/v2/{}/blobs/uploads/{query}", at.path);
        let answer = self.request(at, &access, &subject, |_| {
            Ok(Request {
                method: Method::POST,
                ..Request::get(self.path_url(at, &path)?, "*/*")
            })
        })?;
        match answer.status {
            StatusCode::CREATED if from.is_some() => Ok(Started::Mounted),
            StatusCode::ACCEPTED => {
                let base = self.path_url(at, &path)?;
                let least = answer
                    .header("oci-chunk-min-length")
                    .and_then(|text| text.parse().ok());
                Ok(Started::Upload(Upload {
                    url: locate(at, &base, &answer, &subject)?,
                    access,
                    least: least.unwrap_or_default(),
                }))
            }
            _ => Err(refusal(at, &access, &subject, answer)),
        }
    }

    /// Sends bytes of an upload from an offset on, once: a broken connection leaves some of them in the registry.
    pub(super) fn patch(
        &self,
        at: &Endpoint,
        upload: &Upload,
        subject: &str,
        offset: u64,
        stream: Stream<'_>,
        form: Form,
    ) -> Result<Answer, RequestError> {
        let (scheme, root) = self.root(at)?;
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(BYTES))];
        if !form.is_whole {
            let last = offset.saturating_add(stream.length).saturating_sub(1);
            headers.push((header::CONTENT_RANGE, value(&format!("{offset}-{last}"))));
        }
        if form.asks_first {
            headers.push((header::EXPECT, HeaderValue::from_static("100-continue")));
        }
        let mut request = Request {
            method: Method::PATCH,
            headers,
            is_elsewhere: !same_origin(&root, &upload.url),
            is_alone: form.is_alone,
            ..Request::get(upload.url.clone(), "*/*")
        };
        let answer = self.attempt(at, &upload.access, &scheme, &mut request, Some(stream), subject)?;
        // There is a new token: the same bytes can be sent again.
        answer.ok_or_else(|| {
            let problem = "asked for another token while it got a blob".to_string();
            RequestError::end(at, subject, problem, None).again()
        })
    }

    /// Asks how much of an upload a registry has.
    pub(super) fn status(
        &self,
        at: &Endpoint,
        upload: &Upload,
        subject: &str,
    ) -> Result<Status, RequestError> {
        let answer = self.request(at, &upload.access, subject, |root| {
            Ok(Request {
                is_elsewhere: !same_origin(root, &upload.url),
                ..Request::get(upload.url.clone(), "*/*")
            })
        })?;
        match answer.status {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let Some(count) = received(&answer) else {
                    return Ok(Status::Forgotten);
                };
                Ok(Status::At(count, upload.moved(at, &answer, subject)?))
            }
            // distribution 2 does not continue an upload that broke off within a request: 404 BLOB_UPLOAD_INVALID.
            status if status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 429) => {
                Ok(Status::Forgotten)
            }
            _ => Err(refusal(at, &upload.access, subject, answer)),
        }
    }

    /// Completes an upload, with all of the blob if nothing of it was sent before.
    pub(super) fn complete(
        &self,
        at: &Endpoint,
        upload: &Upload,
        blob: &Digest,
        content: Content,
    ) -> Result<Completed, RequestError> {
        let subject = subject(at, blob);
        let text = upload.url.to_string();
        let separator = if text.contains('?') { '&' } else { '?' };
        let text = format!("{text}{separator}digest={}", escape(&blob.to_string()));
        let target: Uri = text.parse().map_err(|_| {
            RequestError::end(
                at,
                &subject,
                "gave an address for an upload that is none".into(),
                None,
            )
        })?;
        let bytes = |content: &Content| match content {
            Content::Bytes(media_type, bytes) => Content::Bytes(media_type.clone(), Arc::clone(bytes)),
            Content::Form(_) | Content::None => Content::None,
        };
        let answer = self.request(at, &upload.access, &subject, |root| {
            Ok(Request {
                method: Method::PUT,
                content: bytes(&content),
                is_elsewhere: !same_origin(root, &target),
                patience: Some(self.patience()),
                ..Request::get(target.clone(), "*/*")
            })
        })?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                Ok(Completed::Stored)
            }
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::RANGE_NOT_SATISFIABLE => {
                let lost = refusal(at, &upload.access, &subject, answer).again();
                match lost {
                    RequestError::Again { error, .. } => Ok(Completed::Lost(error)),
                    other => Err(other),
                }
            }
            _ => Err(refusal(at, &upload.access, &subject, answer)),
        }
    }

    fn patience(&self) -> Duration {
        self.transport.timeouts.idle.saturating_mul(PATIENCE)
    }

    /// Cancels an upload that will not be completed, if the registry is willing.
    pub(super) fn cancel(&self, at: &Endpoint, upload: &Upload) {
        let answer = self.request(at, &Access::Delete, "", |root| {
            Ok(Request {
                method: Method::DELETE,
                is_elsewhere: !same_origin(root, &upload.url),
                limit: Some(CANCEL_TIME),
                ..Request::get(upload.url.clone(), "*/*")
            })
        });
        drop(answer);
    }

    /// Gives a repository a manifest or index, under a tag or its digest.
    pub(in crate::registry) fn put_manifest(
        &self,
        at: &Endpoint,
        reference: &str,
        manifest: &Descriptor,
        bytes: &Arc<[u8]>,
    ) -> Result<()> {
        match self.offer_manifest(at, reference, manifest, bytes)? {
            Offered::Stored { .. } => Ok(()),
            Offered::Refused(error) => Err(error),
        }
    }

    /// The same; a registry that does not take this manifest is no error.
    pub(in crate::registry) fn offer_manifest(
        &self,
        at: &Endpoint,
        reference: &str,
        manifest: &Descriptor,
        bytes: &Arc<[u8]>,
    ) -> Result<Offered> {
        let name = manifest_subject(at, reference);
        let path = format!("/v2/{}/manifests/{reference}", at.path);
        self.with_retries(at, || {
            let answer = self.request(at, &Access::Push, &name, |_| {
                let media_type = manifest.media_type.as_str().to_string();
                Ok(Request {
                    method: Method::PUT,
                    content: Content::Bytes(media_type, Arc::clone(bytes)),
                    patience: Some(self.patience()),
                    ..Request::get(self.path_url(at, &path)?, "*/*")
                })
            })?;
            let status = answer.status;
            if !status.is_success() {
                let (body, error) = read_refusal(at, &Access::Push, &name, answer);
                let is_about_it = matches!(status.as_u16(), 400 | 409 | 412 | 415 | 422)
                    || status == StatusCode::NOT_FOUND && body.is_specified && body.code != "NAME_UNKNOWN";
                return match error {
                    RequestError::End(error) if is_about_it => Ok(Offered::Refused(error)),
                    error => Err(error),
                };
            }
            let told = answer.header("docker-content-digest").map(str::trim);
            let told: Option<Digest> = told.and_then(|text| text.parse().ok());
            match told {
                Some(other)
                    if other != manifest.digest && other.algorithm() == manifest.digest.algorithm() =>
                {
                    let problem = format!("stored it as {other}, expected {}", manifest.digest);
                    Err(RequestError::end(at, &name, problem, None))
                }
                // Source: OCI distribution specification 1.1, "Pushing Manifests with Subject".
                _ => Ok(Offered::Stored {
                    is_listed: answer.headers.contains_key("oci-subject"),
                }),
            }
        })
    }

    /// Removes a blob from a repository. False only if the registry certainly has not: it does not allow that.
    pub(in crate::registry) fn remove_blob(&self, at: &Endpoint, blob: &Digest) -> bool {
        let path = format!("/v2/{}/blobs/{blob}", at.path);
        let answer = self.request(at, &Access::Delete, &subject(at, blob), |_| {
            Ok(Request {
                method: Method::DELETE,
                ..Request::get(self.path_url(at, &path)?, "*/*")
            })
        });
        match answer {
            Ok(answer) => !answer.status.is_client_error(),
            // No login may do it.
            Err(RequestError::End(Error::Registry { .. })) => false,
            Err(_) => true,
        }
    }

    /// Removes a manifest, if the registry allows that.
    pub(in crate::registry) fn remove_manifest(&self, at: &Endpoint, digest: &Digest) {
        let path = format!("/v2/{}/manifests/{digest}", at.path);
        let answer = self.request(at, &Access::Delete, "", |_| {
            Ok(Request {
                method: Method::DELETE,
                ..Request::get(self.path_url(at, &path)?, "*/*")
            })
        });
        drop(answer);
    }
}

/// How a part of a blob is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Whether it is all of the blob.
    pub(super) is_whole: bool,
    /// Whether the registry is asked before it gets the bytes: one that refuses them closes the connection, and its reason
    /// would be lost.
    pub(super) asks_first: bool,
    /// Whether it gets a connection of its own.
    pub(super) is_alone: bool,
}

pub(super) fn manifest_subject(at: &Endpoint, reference: &str) -> String {
    let separator = if reference.contains(':') { '@' } else { ':' };
    format!("{}{separator}{reference}", at.path)
}

/// How many bytes of an upload a registry says that it has: `Range: 0-99` for a hundred. Some say `bytes=0-99`, and
/// `0-0` is also what distribution says of none.
pub(super) fn received(answer: &Answer) -> Option<u64> {
    let text = answer.header(header::RANGE)?;
    let text = text.trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (first, last) = text.split_once('-')?;
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(0_u64), Ok(0_u64)) => Some(0),
        (Ok(0), Ok(last)) => Some(last.saturating_add(1)),
        _ => None,
    }
}

/// Why a registry did not do what a push asks for.
pub(super) fn refusal(at: &Endpoint, access: &Access, subject: &str, answer: Answer) -> RequestError {
    read_refusal(at, access, subject, answer).1
}

/// The same, with what the registry said.
fn read_refusal(at: &Endpoint, access: &Access, subject: &str, answer: Answer) -> (ErrorBody, RequestError) {
    let status = answer.status;
    let pause = retry_after(&answer.headers, SystemTime::now());
    let (elsewhere, host) = (answer.elsewhere, answer.host.clone());
    let body = ErrorBody::read(answer);
    let suffix = body.suffix();
    if let Some(fault) = body.storage.filter(|_| status.is_server_error()) {
        // A retry would only leave one more upload.
        let hint = Some(fault.hint().into());
        return (body, RequestError::end(at, subject, fault.problem().into(), hint));
    }
    if elsewhere {
        let problem = format!("{host}, where uploads go, answered {status}{suffix}");
        return (body, RequestError::of_status(status, pause, at, subject, problem));
    }
    let (problem, hint): (String, Option<Hint>) = match status {
        StatusCode::FORBIDDEN => {
            let problem = format!("the account may not {} here{suffix}", access.verb());
            (problem, Some(may_push(at)))
        }
        StatusCode::NOT_FOUND if body.code != "MANIFEST_BLOB_UNKNOWN" => {
            let project = at.path.split('/').next().unwrap_or_default();
            let hint =
                format!("check the address; some registries need the project {project} to be created first");
            (
                format!("does not take {subject}: 404 Not Found{suffix}"),
                Some(hint.into()),
            )
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            let hint = "it may be read-only, as mirrors and caches are";
            (format!("takes no pushes{suffix}"), Some(hint.into()))
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            let hint =
                "raise the limit of the proxy before the registry, such as nginx's client_max_body_size";
            (
                format!("takes no request of this size{suffix}"),
                Some(hint.into()),
            )
        }
        StatusCode::TOO_MANY_REQUESTS => (format!("too many requests{suffix}"), None),
        StatusCode::INSUFFICIENT_STORAGE => (
            format!("has no space left{suffix}"),
            Some("free some space there".into()),
        ),
        StatusCode::INTERNAL_SERVER_ERROR => {
            let hint = "the registry's log says why";
            (format!("answered {status}{suffix}"), Some(hint.into()))
        }
        _ => (format!("answered {status}{suffix}"), None),
    };
    let mut error = RequestError::of_status(status, pause, at, subject, problem);
    if let Some(hint) = hint {
        error = error.and_hint(hint);
    }
    (body, error)
}

/// The error of a registry that does not take an index of which it lacks manifests.
pub(in crate::registry) fn sparse(error: Error, name: &str, missing: usize, is_end: bool) -> Error {
    let Error::Registry {
        registry, problem, ..
    } = error
    else {
        return error;
    };
    let remedies = Hint::from(Remedy::PushPlatform).and(Remedy::SaveAllPlatforms);
    Error::Registry {
        registry,
        subject: name.into(),
        problem: format!(
            "does not take the index of this image without {} that the archive does not have: {problem}",
            crate::image::names::count(missing, "manifest")
        ),
        hint: Some(match is_end {
            true => Hint::from("no blob was sent, and no tag was changed").and(remedies),
            false => remedies,
        }),
        transient: false,
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0-0"))
}
