//! The Engine API: requests, responses, and the meaning of its errors.
//!
//! Source: moby, `api/swagger.yaml`.

mod connection;
pub mod images;
pub mod info;
mod stream;

use std::borrow::Cow;
use std::io::Read;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Body, SendBody};

use connection::Hangup;
use stream::{End, Message};

use super::endpoint::Endpoint;
use crate::error::{Error, Hint, Remedy, Result, tells_of_full_disk};
use crate::escape::Escaped;

/// The oldest supported API version: Docker 20.10's.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The newest known API version: Docker 28's.
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// Largest response that is not a stream, in bytes: a list of many thousand images.
const MAX_ANSWER: u64 = 256 << 20;

/// Most characters of an engine's error message that are shown.
const MAX_PROBLEM: usize = 2000;

/// How long an engine may neither accept nor send a byte.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the first request: a daemon that systemd starts for it may take some time with many containers.
    pub greeting: Duration,
    /// For a query. A list of images can take a minute if the disk is busy.
    pub answer: Duration,
    /// While content is transferred. Docker up to 28 writes all layers of an export to its disk before the
    /// first byte, and its containerd store sends nothing while it unpacks an image: minutes for some gigabytes
    /// on a slow disk.
    pub content: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Patience {
            greeting: minutes(2),
            answer: minutes(5),
            content: minutes(30),
        }
    }
}

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// 1 for all so far.
    pub major: u32,
    /// What counts up.
    pub minor: u32,
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl serde::Serialize for ApiVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ApiVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        ApiVersion::parse(&text).ok_or_else(|| serde::de::Error::custom("not an API version"))
    }
}

impl ApiVersion {
    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// A connection to an engine with a negotiated API version.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    endpoint: Endpoint,
    hangup: Hangup,
    version: ApiVersion,
    patience: Patience,
}

impl Client {
    /// Connects and negotiates the API version.
    ///
    /// # Errors
    ///
    /// If nothing answers, the engine is too old, or it is podman.
    pub fn connect(endpoint: &Endpoint) -> Result<Client> {
        Client::with_patience(endpoint, Patience::default())
    }

    /// As [`Client::connect`], with other time limits.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn with_patience(endpoint: &Endpoint, patience: Patience) -> Result<Client> {
        let hangup = Hangup::default();
        let (agent, base) = connection::agent(endpoint, &hangup, patience.answer)?;
        let mut client = Client {
            agent,
            base,
            endpoint: endpoint.clone(),
            hangup,
            version: OLDEST,
            patience,
        };
        client.version = client.negotiate()?;
        Ok(client)
    }

    fn negotiate(&self) -> Result<ApiVersion> {
        let action = "connect";
        let greeting = self.agent.get(format!("{}/_ping", self.base));
        let mut answer = silent_for(greeting, self.patience.greeting)
            .call()
            .map_err(|error| self.unreachable(action, error, self.patience.greeting))?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        if header("Libpod-API-Version").is_some()
            || header("Server").is_some_and(|server| server.starts_with("Libpod/"))
        {
            return Err(self.podman());
        }
        let Some(offered) = header("Api-Version").and_then(ApiVersion::parse) else {
            let status = answer.status();
            let text = self.body(action, &mut answer).unwrap_or_default();
            // In the words of Go's server.
            if String::from_utf8_lossy(&text).contains("HTTP request to an HTTPS server") {
                let hint = "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and \
                            key.pem; or choose a context that has them";
                return Err(self.error(
                    action,
                    "it speaks TLS, and was spoken to without",
                    Some(hint.into()),
                ));
            }
            let problem = format!("answers {status} without an API version");
            return Err(self.error(action, &problem, Some("is this Docker's address?".into())));
        };
        if offered < OLDEST {
            let problem = format!("speaks API {offered}, at least {OLDEST} is needed");
            return Err(self.error(action, &problem, Some("Docker 20.10 or newer is needed".into())));
        }
        Ok(offered.min(NEWEST))
    }

    /// The error for podman, which has this API but stores images differently.
    pub fn podman(&self) -> Error {
        self.error(
            "connect",
            "podman answers on this socket, not Docker",
            Some("set DOCKER_HOST to Docker's own socket".into()),
        )
    }

    /// The endpoint of the connection.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The negotiated API version.
    pub fn version(&self) -> ApiVersion {
        self.version
    }

    /// An error of this engine.
    pub fn error(&self, action: &str, problem: &str, hint: Option<Hint>) -> Error {
        Error::Engine {
            engine: self.endpoint.to_string(),
            action: Escaped(action).to_string(),
            problem: Escaped(&shortened(problem)).to_string(),
            hint,
        }
    }

    fn refused(&self, action: &str, problem: &str) -> Error {
        self.error(action, problem, hint(problem))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/v{}{path}", self.base, self.version)
    }

    /// Reads a JSON response.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn get<T: DeserializeOwned>(&self, action: &str, path: &str) -> Result<T> {
        let (status, body) = self.exchange(action, self.agent.get(self.address(path)).call())?;
        self.accept(action, status, &body)?;
        self.parse(action, &body)
    }

    /// Reads a JSON response; `None` if the engine answers 404.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn find<T: DeserializeOwned>(&self, action: &str, path: &str) -> Result<Option<T>> {
        let (status, body) = self.exchange(action, self.agent.get(self.address(path)).call())?;
        if status == 404 {
            return Ok(None);
        }
        self.accept(action, status, &body)?;
        self.parse(action, &body).map(Some)
    }

    /// Reads a sequence of JSON values, from a stream that ends.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn get_list<T: DeserializeOwned>(&self, action: &str, path: &str) -> Result<Vec<T>> {
        let (status, body) = self.exchange(action, self.agent.get(self.address(path)).call())?;
        self.accept(action, status, &body)?;
        let values = serde_json::Deserializer::from_slice(&body).into_iter();
        values
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(action, &format!("an answer that cannot be read: {error}"), None))
    }

    /// Opens a response of any length.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn get_stream(&self, action: &str, path: &str) -> Result<impl Read + use<>> {
        let silence = self.patience.content;
        let sent = silent_for(self.agent.get(self.address(path)), silence).call();
        let mut answer = sent.map_err(|error| self.unreachable(action, error, silence))?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            let body = self.body(action, &mut answer)?;
            self.accept(action, status, &body)?;
        }
        Ok(answer.into_body().into_reader())
    }

    /// Posts, and returns the response.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn post(&self, action: &str, path: &str, json: Option<&serde_json::Value>) -> Result<Vec<u8>> {
        let request = self.agent.post(self.address(path));
        let sent = match json {
            None => request.send_empty(),
            Some(json) => request
                .header("Content-Type", "application/json")
                .send(json.to_string()),
        };
        let (status, body) = self.exchange(action, sent)?;
        self.accept(action, status, &body)?;
        Ok(body)
    }

    /// Deletes.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub fn delete(&self, action: &str, path: &str) -> Result<()> {
        let (status, body) = self.exchange(action, self.agent.delete(self.address(path)).call())?;
        self.accept(action, status, &body)
    }

    /// Posts without a body, and reads the streamed response.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], also for an error inside the stream.
    pub fn post_stream(&self, action: &str, path: &str, each: &mut dyn FnMut(&Message)) -> Result<()> {
        let request = self.agent.post(self.address(path));
        let sent = silent_for(request, self.patience.content).send_empty();
        self.finish_stream(action, sent, each)
    }

    /// Posts a tar of unknown length, and reads the streamed response.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], also for an error inside the stream. An error of `body` that wraps a [`crate::Error`]
    /// is returned as that one.
    pub fn post_tar(
        &self,
        action: &str,
        path: &str,
        body: &mut dyn Read,
        each: &mut dyn FnMut(&Message),
    ) -> Result<()> {
        self.hangup.reset();
        let mut body = Pumped {
            body,
            hangup: &self.hangup,
            failed: None,
        };
        let request = self.agent.post(self.address(path));
        let sent = silent_for(request, self.patience.content)
            .header("Content-Type", "application/x-tar")
            .send(SendBody::from_reader(&mut body));
        if let Some(error) = body.failed.take() {
            return Err(error);
        }
        self.finish_stream(action, sent, each)
    }

    fn finish_stream(
        &self,
        action: &str,
        sent: Result<Response<Body>, ureq::Error>,
        each: &mut dyn FnMut(&Message),
    ) -> Result<()> {
        let silence = self.patience.content;
        let mut answer = sent.map_err(|error| self.unreachable(action, error, silence))?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            let body = self.body(action, &mut answer)?;
            return self.accept(action, status, &body);
        }
        match stream::read(answer.body_mut().as_reader(), each) {
            End::Whole if self.hangup.happened() => {
                let problem = "the connection was closed before all of the stream was taken";
                Err(self.error(action, problem, Some(DIED.into())))
            }
            End::Whole => Ok(()),
            End::Failed(problem) => Err(self.refused(action, &problem)),
            End::Broken(error) => Err(self.lost(action, &error, silence)),
        }
    }

    /// The error of an engine that was silent for too long.
    fn silent(&self, action: &str, silence: Duration) -> Error {
        let time = match silence.as_secs() {
            seconds @ 0..120 => format!("{seconds} seconds"),
            seconds => format!("{} minutes", seconds / 60),
        };
        let hint = "is it stuck? its log says what it does (journalctl -u docker)";
        self.error(
            action,
            &format!("nothing came from it for {time}"),
            Some(hint.into()),
        )
    }

    /// The error of a response that broke off.
    fn lost(&self, action: &str, error: &std::io::Error, silence: Duration) -> Error {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ureq::Error>());
        if let Some(ureq::Error::Timeout(_)) = inner {
            return self.silent(action, silence);
        }
        let problem = format!("the connection was lost: {error}");
        self.error(action, &problem, Some(DIED.into()))
    }

    fn exchange(&self, action: &str, sent: Result<Response<Body>, ureq::Error>) -> Result<(u16, Vec<u8>)> {
        let mut answer = sent.map_err(|error| self.unreachable(action, error, self.patience.answer))?;
        let body = self.body(action, &mut answer)?;
        Ok((answer.status().as_u16(), body))
    }

    fn body(&self, action: &str, answer: &mut Response<Body>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut body = answer.body_mut().as_reader().take(MAX_ANSWER.saturating_add(1));
        body.read_to_end(&mut bytes)
            .map_err(|error| self.lost(action, &error, self.patience.answer))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_ANSWER) {
            return Ok(bytes);
        }
        let problem = format!("an answer of more than {MAX_ANSWER} bytes");
        Err(self.error(action, &problem, None))
    }

    fn accept(&self, action: &str, status: u16, body: &[u8]) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Refusal {
            message: String,
        }
        if (200..300).contains(&status) {
            return Ok(());
        }
        let problem = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => refusal.message,
            Err(_) => format!(
                "status {status}: {}",
                String::from_utf8_lossy(body)
                    .trim()
                    .chars()
                    .take(300)
                    .collect::<String>()
            ),
        };
        Err(self.refused(action, &problem))
    }

    fn parse<T: DeserializeOwned>(&self, action: &str, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body)
            .map_err(|error| self.error(action, &format!("an answer that cannot be read: {error}"), None))
    }

    fn unreachable(&self, action: &str, error: ureq::Error, silence: Duration) -> Error {
        use std::io::ErrorKind as Kind;
        const CERTIFICATES: &str = "check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH or the context";
        let hint = match &error {
            ureq::Error::Timeout(reason) if *reason != ureq::Timeout::Connect => {
                return self.silent(action, silence);
            }
            ureq::Error::Io(cause) if cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Some(CERTIFICATES)
            }
            ureq::Error::Io(cause) => match cause.kind() {
                Kind::NotFound => Some("is Docker installed and running? DOCKER_HOST names another socket"),
                Kind::PermissionDenied => Some("run with sudo, or as a member of the group docker"),
                Kind::ConnectionRefused => Some("is Docker running? systemctl status docker"),
                Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof => Some(DIED),
                _ => None,
            },
            ureq::Error::Protocol(_) => Some(DIED),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Some(CERTIFICATES),
            _ => None,
        };
        let problem = match error {
            ureq::Error::Io(cause) => cause.to_string(),
            other => other.to_string(),
        };
        self.error(action, &problem, hint.map(Hint::from))
    }
}

/// The same request, with this limit for silence.
fn silent_for<B>(request: ureq::RequestBuilder<B>, silence: Duration) -> ureq::RequestBuilder<B> {
    request
        .config()
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .timeout_recv_response(Some(silence))
        .build()
}

/// The beginning of a text of any length.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_PROBLEM) {
        None => text.into(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
    }
}

/// What to do if an engine stopped responding during work.
const DIED: &str = "see the engine's log (journalctl -u docker); names that existed still point to what they did, \
                    and running the same load again completes it";

/// A hint about an engine's error message.
fn hint(problem: &str) -> Option<Hint> {
    let has = |text: &str| problem.contains(text);
    let text = if has("invalid diffID for layer") || has("wrong diff id") {
        let text = "a layer's content is not what the image's config says";
        return Some(Hint::from(text).and(Remedy::VerifyArchive));
    } else if has("archive/tar: invalid tar header") || has("unexpected EOF") {
        let text = "the engine could not read a layer as a tar";
        return Some(Hint::from(text).and(Remedy::VerifyArchive));
    } else if tells_of_full_disk(problem) {
        "free space where docker info shows Docker Root Dir, then run the same load again"
    } else if has("is too old. Minimum supported API version") {
        "this engine needs a newer sealift"
    } else if has("read-only file system") {
        "the folder that docker info shows as Docker Root Dir cannot be written"
    } else if has("Error unpacking image") {
        "the engine took the content but could not unpack it; see its log (journalctl -u docker)"
    } else {
        return None;
    };
    Some(text.into())
}

/// A body that ends early if the engine has closed the connection, and keeps its own errors apart.
struct Pumped<'a> {
    body: &'a mut dyn Read,
    hangup: &'a Hangup,
    failed: Option<Error>,
}

impl Read for Pumped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.hangup.happened() {
            return Ok(0);
        }
        self.body
            .read(buffer)
            .map_err(|error| match error.downcast::<Error>() {
                Ok(error) => {
                    self.failed = Some(error);
                    std::io::Error::other("the content could not be read")
                }
                Err(error) => error,
            })
    }
}

/// Escapes text for a URL.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
