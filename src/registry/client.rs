//! One registry's API, with authentication and retries, and `GET /v2/...` with specific errors.
//!
//! Source: OCI distribution specification 1.1, "Pulling" and "Error Codes".

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ureq::http::uri::Scheme;
use ureq::http::{Method, StatusCode, Uri, header};

use super::access::Access;
use super::auth::{Context, Login};
use super::blob::Subject;
use super::credentials::Credentials;
use super::mirror::Endpoint;
use super::options::Options;
use super::retry_after::retry_after;
use super::tls::Trust;
use super::transport::{Answer, Request, Stream, Transport};
use crate::error::{Error, Hint, Remedy, Result};
use crate::escape::Escaped;
use crate::interrupt::{self, Interrupt};
use crate::net::address::Address;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::progress::Progress;
use crate::registry::request_error::{ErrorBody, RequestError, marked};
use crate::retry::Retry;

/// Number of 401 responses to a request before it is given up: a challenge, an expired token, and one that
/// another worker renewed in the meantime.
const MAX_CHALLENGES: usize = 4;
/// Why a tag that the registry lists is not found.
const LOST_TAG: &str = "the registry lists this tag, but finds no manifest for it: the tag's link in its storage may be lost or \
                        damaged; push the image again";
/// Number of tags that are shown if one does not exist.
const SHOWN_TAGS: usize = 8;
/// Largest list of tags that is read, in bytes.
const MAX_TAGS: u64 = 1 << 20;
/// Accepted types of manifests: both kinds of index first, because they name the image for every platform.
pub(super) const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What is requested.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Tag(String),
    Manifest(Digest),
    /// A blob's stored bytes from an offset on.
    Blob(Digest, u64),
    /// A page of a repository's tags, by its query.
    Tags(String),
    /// A page of the referrers of a manifest, by its query.
    Referrers(Digest, String),
}

impl Wanted {
    /// A manifest or index by its media type, otherwise a whole blob.
    pub(super) fn of(descriptor: &Descriptor) -> Wanted {
        match descriptor.media_type.is_document() {
            true => Wanted::Manifest(descriptor.digest),
            false => Wanted::Blob(descriptor.digest, 0),
        }
    }

    fn path(&self, repository: &str) -> String {
        match self {
            Wanted::Tag(tag) => format!("/v2/{repository}/manifests/{tag}"),
            Wanted::Manifest(digest) => format!("/v2/{repository}/manifests/{digest}"),
            Wanted::Blob(digest, _) => format!("/v2/{repository}/blobs/{digest}"),
            Wanted::Tags(query) => format!("/v2/{repository}/tags/list?{query}"),
            Wanted::Referrers(digest, query) if query.is_empty() => {
                format!("/v2/{repository}/referrers/{digest}")
            }
            Wanted::Referrers(digest, query) => format!("/v2/{repository}/referrers/{digest}?{query}"),
        }
    }

    /// Its name in messages.
    pub(super) fn name(&self, repository: &str) -> String {
        match self {
            Wanted::Tag(tag) => format!("{repository}:{tag}"),
            Wanted::Manifest(digest) => format!("{repository}@{digest}"),
            // The digest of a layer or config is not that of an image.
            Wanted::Blob(digest, _) => format!("blob {digest} of {repository}"),
            Wanted::Tags(_) => format!("the tags of {repository}"),
            Wanted::Referrers(digest, _) => format!("the referrers of {repository}@{digest}"),
        }
    }

    /// Whether an answer with this status says that there is none of it. A registry without an API for referrers may answer
    /// with any of these.
    fn is_absent(&self, status: StatusCode) -> bool {
        match self {
            Wanted::Referrers(..) => matches!(status.as_u16(), 400 | 404 | 405 | 406 | 501),
            _ => status == StatusCode::NOT_FOUND,
        }
    }

    /// The same, with its registry.
    pub(super) fn subject(&self, place: &Endpoint) -> Subject {
        Subject {
            registry: place.name.clone(),
            subject: self.name(&place.path),
        }
    }
}

/// Talks to registries.
pub(super) struct Client {
    pub(super) transport: Transport,
    credentials: Credentials,
    retry: Retry,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
    sessions: Mutex<HashMap<Address, Arc<Session>>>,
}

/// What is known about one registry.
#[derive(Default)]
pub(super) struct Session {
    pub(super) scheme: Mutex<Option<Scheme>>,
    answered: AtomicBool,
    given_up: AtomicBool,
    logins: Mutex<HashMap<(String, Access), Arc<Login>>>,
}

impl Client {
    pub(super) fn new(options: Options, progress: Arc<dyn Progress>, interrupt: Interrupt) -> Result<Client> {
        let trust = Trust::new(
            &options.ca_files,
            options.client_certificate.as_ref(),
            &options.certificate_folders,
            &options.insecure,
        )?;
        Ok(Client {
            transport: Transport::new(options.proxies, trust, options.timeouts),
            credentials: options.credentials,
            retry: options.retry,
            progress,
            interrupt,
            sessions: Mutex::default(),
        })
    }

    pub(super) fn retry(&self) -> Retry {
        self.retry
    }

    /// Pauses between two attempts of the caller.
    pub(super) fn pause(&self, tried: u32) -> Result<()> {
        self.wait(self.retry.pause(tried, None))
    }

    fn wait(&self, pause: Duration) -> Result<()> {
        interrupt::pause(pause, || self.interrupt.check())
    }

    pub(super) fn note(&self, text: &str) {
        self.progress.note(text);
    }

    /// Whether a mirror was given up for the rest of the run.
    pub(super) fn is_given_up(&self, endpoint: &Endpoint) -> bool {
        self.session(endpoint).given_up.load(Ordering::Relaxed)
    }

    /// Whether a host has answered anything so far.
    pub(super) fn has_answered(&self, endpoint: &Endpoint) -> bool {
        self.session(endpoint).answered.load(Ordering::Relaxed)
    }

    /// Gives a mirror up; true the first time.
    pub(super) fn give_up(&self, endpoint: &Endpoint) -> bool {
        !self.session(endpoint).given_up.swap(true, Ordering::Relaxed)
    }

    pub(super) fn session(&self, endpoint: &Endpoint) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions
            .entry(endpoint.address.clone())
            .or_insert_with(|| {
                self.transport.trust.name_registry(&endpoint.address);
                Arc::default()
            })
            .clone()
    }

    /// Requests something until there is a response: 200, or 206 with an offset.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist; [`Error::Registry`] for everything else, not marked as
    /// transient because it was retried already.
    pub(super) fn get(&self, endpoint: &Endpoint, wanted: &Wanted) -> Result<Answer> {
        self.ask(endpoint, wanted, Method::GET)
    }

    /// Requests something that may not exist; `None` if it does not. Nothing is found out about why.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`], as [`Client::get`].
    pub(super) fn find(&self, endpoint: &Endpoint, wanted: &Wanted) -> Result<Option<Answer>> {
        let session = self.session(endpoint);
        self.with_retries(endpoint, || {
            let answer = self.asked(&session, endpoint, wanted, &Method::GET)?;
            let is_other = matches!(wanted, Wanted::Referrers(..)) && is_page(&answer);
            match !answer.elsewhere && wanted.is_absent(answer.status) || is_other {
                true => Ok(None),
                false => self.judge(&session, endpoint, wanted, answer).map(Some),
            }
        })
    }

    /// Requests only the headers of something; otherwise as [`Client::get`].
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(super) fn head(&self, endpoint: &Endpoint, wanted: &Wanted) -> Result<Answer> {
        self.ask(endpoint, wanted, Method::HEAD)
    }

    fn ask(&self, endpoint: &Endpoint, wanted: &Wanted, method: Method) -> Result<Answer> {
        let session = self.session(endpoint);
        self.with_retries(endpoint, || {
            let answer = self.asked(&session, endpoint, wanted, &method)?;
            self.judge(&session, endpoint, wanted, answer)
        })
    }

    /// Makes the request for something, whatever the answer is.
    fn asked(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        wanted: &Wanted,
        method: &Method,
    ) -> Result<Answer, RequestError> {
        let scheme = self.scheme(session, endpoint)?;
        let url = url(&scheme, endpoint, &wanted.path(&endpoint.path))?;
        let mut request = match wanted {
            Wanted::Blob(_, offset) => Request {
                offset: *offset,
                ..Request::get(url, "*/*")
            },
            Wanted::Tags(_) => Request::get(url, "application/json"),
            Wanted::Referrers(..) => Request::get(url, MediaType::OCI_INDEX),
            _ => Request::get(url, ACCEPT_MANIFESTS),
        };
        request.method = method.clone();
        let subject = wanted.name(&endpoint.path);
        self.authenticated(endpoint, &Access::Pull, &scheme, request, &subject)
    }

    /// Makes a request, and authenticates if necessary.
    pub(super) fn authenticated(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        scheme: &Scheme,
        mut request: Request,
        subject: &str,
    ) -> Result<Answer, RequestError> {
        for _ in 0..MAX_CHALLENGES {
            let answer = self.attempt(endpoint, access, scheme, &mut request, None, subject)?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        let problem = "asks for authentication again and again".to_string();
        Err(RequestError::end(endpoint, subject, problem, None))
    }

    /// Makes a request once, with what is known to authenticate it. `None` if more is known now: the same request can be
    /// repeated.
    pub(super) fn attempt(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        scheme: &Scheme,
        request: &mut Request,
        stream: Option<Stream<'_>>,
        subject: &str,
    ) -> Result<Option<Answer>, RequestError> {
        let session = self.session(endpoint);
        let login = session.login(endpoint, access);
        let context = Context {
            transport: &self.transport,
            endpoint,
            access,
            credentials: &self.credentials,
            progress: &*self.progress,
            is_plain: *scheme == Scheme::HTTP,
        };
        let grant = login.grant(&context)?;
        request.authorization = grant.header.clone();
        let answer = match stream {
            None => self.transport.fetch(request),
            Some(stream) => self.transport.send(request, stream),
        };
        let answer = answer.map_err(|failure| RequestError::of(failure, endpoint, subject))?;
        session.answered.store(true, Ordering::Relaxed);
        match answer.status {
            StatusCode::UNAUTHORIZED if !answer.elsewhere => {}
            StatusCode::FORBIDDEN if !answer.elsewhere => {
                let is_renewed = login.renewed(&context, &grant)?;
                return Ok((!is_renewed).then_some(answer));
            }
            _ => {
                login.accepted(&grant);
                return Ok(Some(answer));
            }
        }
        let headers = answer.headers.clone();
        let body = ErrorBody::read(answer);
        login.challenged(&context, &grant, &headers, body)?;
        Ok(None)
    }

    /// Turns the status of a response into a result.
    fn judge(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        wanted: &Wanted,
        answer: Answer,
    ) -> Result<Answer, RequestError> {
        let status = answer.status;
        let partial = status == StatusCode::PARTIAL_CONTENT && matches!(wanted, Wanted::Blob(_, 1..));
        if status == StatusCode::OK || partial {
            if is_page(&answer) && !matches!(wanted, Wanted::Blob(..)) {
                return Err(not_a_registry(endpoint, "it answered with a web page"));
            }
            return Ok(answer);
        }
        let subject = wanted.name(&endpoint.path);
        let pause = retry_after(&answer.headers, SystemTime::now());
        let (elsewhere, host) = (answer.elsewhere, answer.host.clone());
        let body = ErrorBody::read(answer);
        if elsewhere {
            let problem = format!(
                "{host}, where it redirects to, answered {status}{}",
                body.suffix()
            );
            let error = RequestError::of_status(status, pause, endpoint, &subject, problem);
            // A signed URL that has expired: the registry gives a new one.
            return Err(match status {
                StatusCode::FORBIDDEN => error.again(),
                _ => error,
            });
        }
        Err(match status {
            StatusCode::NOT_FOUND => self.missing(session, endpoint, wanted, &body),
            StatusCode::FORBIDDEN => RequestError::end(
                endpoint,
                &subject,
                format!("access denied{}", body.suffix()),
                Some(format!(
                    "log in with `docker login {0}` or `podman login {0}`; if you are, the account may not pull \
                     this",
                    endpoint.account
                ).into()),
            ),
            _ if status.is_success() || status.is_redirection() => {
                let problem = format!("answered {status}, which makes no sense here");
                RequestError::end(endpoint, &subject, problem, None)
            }
            _ if body.is_html && !matches!(status.as_u16(), 429 | 500..) => {
                not_a_registry(endpoint, &format!("it answered {status} with a web page"))
            }
            _ => {
                let what = match status {
                    StatusCode::TOO_MANY_REQUESTS => "too many requests".into(),
                    _ => format!("answered {status}"),
                };
                let problem = format!("{what}{}", body.suffix());
                let error = RequestError::of_status(status, pause, endpoint, &subject, problem);
                match (status, wanted) {
                    // CNCF distribution does not serve a damaged manifest.
                    (StatusCode::INTERNAL_SERVER_ERROR, Wanted::Tag(_) | Wanted::Manifest(_)) => {
                        error.and_hint(Remedy::VerifyStorage.into())
                    }
                    _ => error,
                }
            }
        })
    }

    /// Finds out what is missing: the blob, the tag, the repository, or the registry itself.
    fn missing(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        wanted: &Wanted,
        body: &ErrorBody,
    ) -> RequestError {
        let not_found = |what: String, hint: Option<Hint>| {
            RequestError::End(Error::NotFound {
                what,
                place: endpoint.name.clone(),
                hint,
            })
        };
        let subject = wanted.name(&endpoint.path);
        if !body.is_specified && !self.is_registry(session, endpoint) {
            let page = if body.is_html { " with a web page" } else { "" };
            return not_a_registry(endpoint, &format!("it answered 404 Not Found{page}"));
        }
        if matches!(wanted, Wanted::Blob(..)) {
            return not_found(subject, None);
        }
        let tags = self.tags(session, endpoint);
        if body.code == "NAME_UNKNOWN" || matches!(tags, Tags::NoRepository) {
            let hint = format!("check the name {}; it may also be private", endpoint.path);
            return not_found(format!("repository {}", endpoint.path), Some(hint.into()));
        }
        let hint = match (wanted, tags) {
            (Wanted::Tag(tag), Tags::Some(tags)) if tags.iter().any(|listed| *listed == **tag) => {
                Some(LOST_TAG.into())
            }
            (Wanted::Tag(_), Tags::Some(tags)) => Some(format!("it has {}", first(&tags)).into()),
            _ => None,
        };
        not_found(subject, hint)
    }

    /// Whether the API exists. True if that is not known.
    fn is_registry(&self, session: &Session, endpoint: &Endpoint) -> bool {
        let Ok(scheme) = self.scheme(session, endpoint) else {
            return true;
        };
        self.ping(endpoint, &scheme).map_or(true, |pong| {
            let is_page = pong.text.trim_start().starts_with('<');
            pong.names_itself || (matches!(pong.status.as_u16(), 200 | 401) && !is_page)
        })
    }

    /// Some of a repository's tags, for messages only.
    fn tags(&self, session: &Session, endpoint: &Endpoint) -> Tags {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let path = format!("/v2/{}/tags/list?n=100", endpoint.path);
        let answer = self.scheme(session, endpoint).and_then(|scheme| {
            let request = Request::get(url(&scheme, endpoint, &path)?, "application/json");
            self.authenticated(endpoint, &Access::Pull, &scheme, request, "")
        });
        let Ok(answer) = answer else {
            return Tags::Unknown;
        };
        match answer.status {
            StatusCode::NOT_FOUND => {
                let body = ErrorBody::read(answer);
                // Harbor has one error code for everything that is missing.
                let is_harbors = body.code == "NOT_FOUND" && body.message.contains("repository");
                if body.code == "NAME_UNKNOWN" || is_harbors {
                    Tags::NoRepository
                } else {
                    Tags::Unknown
                }
            }
            StatusCode::OK => match serde_json::from_slice::<List>(&answer.text(MAX_TAGS)) {
                Ok(List { tags: Some(tags) }) if !tags.is_empty() => Tags::Some(tags),
                _ => Tags::Unknown,
            },
            _ => Tags::Unknown,
        }
    }

    /// Repeats a request as long as that may help and is allowed.
    pub(super) fn with_retries<T>(
        &self,
        endpoint: &Endpoint,
        mut request: impl FnMut() -> Result<T, RequestError>,
    ) -> Result<T> {
        let session = self.session(endpoint);
        let mut tried = 0;
        loop {
            self.interrupt.check()?;
            tried += 1;
            let (error, asked, is_absence) = match request() {
                Ok(answer) => return Ok(answer),
                Err(RequestError::End(error)) => return Err(error),
                Err(RequestError::Again {
                    error,
                    wait,
                    is_absence,
                }) => (error, wait, is_absence),
            };
            let known = session.answered.load(Ordering::Relaxed);
            let retry = match (known, is_absence, endpoint.is_mirror) {
                (true, ..) => self.retry,
                // The host never answered: rather a wrong address than an outage.
                (false, true, _) | (false, _, true) => self.retry.at_most(1),
                (false, false, false) => self.retry.at_most(2),
            };
            if !retry.allows(tried) {
                return Err(marked(error, false));
            }
            let pause = retry.pause(tried, asked);
            self.note(&format!(
                "{error}; retrying in {} s ({tried} of {} attempts)",
                pause.as_secs_f32().ceil(),
                retry.attempts
            ));
            self.wait(pause)?;
        }
    }
}

/// The first of a repository's tags.
fn first(tags: &[String]) -> String {
    let shown = tags.iter().take(SHOWN_TAGS);
    let mut shown: Vec<String> = shown.map(|tag| Escaped(tag).to_string()).collect();
    if tags.len() > SHOWN_TAGS {
        shown.push("others".into());
    }
    shown.join(", ")
}

enum Tags {
    Some(Vec<String>),
    NoRepository,
    Unknown,
}

impl Session {
    fn login(&self, endpoint: &Endpoint, access: &Access) -> Arc<Login> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint.path.clone(), access.clone());
        logins.entry(key).or_default().clone()
    }
}

pub(super) fn url(scheme: &Scheme, endpoint: &Endpoint, path: &str) -> Result<Uri, RequestError> {
    let text = format!("{scheme}://{}{path}", endpoint.address);
    text.parse().map_err(|_| {
        let problem = format!("{} makes no URL", Escaped(&text));
        RequestError::end(endpoint, "", problem, None)
    })
}

fn is_page(answer: &Answer) -> bool {
    answer
        .header(header::CONTENT_TYPE)
        .is_some_and(|text| text.starts_with("text/html"))
}

fn not_a_registry(endpoint: &Endpoint, why: &str) -> RequestError {
    RequestError::end(
        endpoint,
        "",
        format!("is not a registry: {why}"),
        Some(format!("check the address {}", endpoint.address).into()),
    )
}

/// The media type of a response, if its `Content-Type` is specific.
pub(super) fn media_type(answer: &Answer) -> Option<MediaType> {
    let text = answer.header(header::CONTENT_TYPE)?;
    let text = text.split(';').next().unwrap_or_default().trim();
    let generic = [
        "",
        "application/json",
        "application/octet-stream",
        "binary/octet-stream",
        "text/plain",
    ];
    (!generic.contains(&text)).then(|| MediaType::new(text))
}
