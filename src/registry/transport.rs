//! One HTTP request with its redirects. Independent of registries.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, SocksConnector, TcpConnector};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::connect::{LimitConnector, Names, TlsConnector, read_within};
use super::failure::Failure;
use super::location;
use super::tls::Trust;
use crate::net::address::Address;
use crate::net::proxy::Proxies;

/// Most redirects that one request follows.
const MAX_REDIRECTS: usize = 10;
/// Time limit for a small body: an error's text, a token.
const MAX_SMALL_TIME: Duration = Duration::from_secs(60);
/// Bytes of a small body that are read at once.
const SMALL_BUFFER: usize = 8 << 10;
/// A connection's read buffer: one system call fills it.
const INPUT_BUFFER: usize = 128 << 10;
/// A connection's write buffer: one system call sends it.
const OUTPUT_BUFFER: usize = 64 << 10;
/// Connections that are kept open for later requests; each worker needs at most one.
const MAX_IDLE: usize = 16;

/// Time limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For looking a name up, and then for making a connection with its TLS handshake.
    pub connect: Duration,
    /// For waiting for the next bytes.
    pub idle: Duration,
    /// Minimum rate in bytes per second, on the average of an idle time.
    pub slowest: u32,
}

impl Default for Timeouts {
    /// 10 seconds, 30 seconds, 1 KiB per second.
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            slowest: 1024,
        }
    }
}

/// A request, before redirects.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) accept: &'static str,
    /// First requested byte, if it is not the first of all.
    pub(super) offset: u64,
    pub(super) authorization: Option<HeaderValue>,
    /// Further headers.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
    /// Whether the URL is of another host than the registry, which gets no `Authorization`.
    pub(super) is_elsewhere: bool,
    /// Whether to open a connection for it.
    pub(super) is_alone: bool,
    /// How long to wait for a response, if it may take longer than others.
    pub(super) patience: Option<Duration>,
    /// How long all of it may take, if that is limited.
    pub(super) limit: Option<Duration>,
}

/// What a request sends.
pub(super) enum Content {
    /// Nothing.
    None,
    /// A form, which contains a secret.
    Form(String),
    /// Bytes of a media type.
    Bytes(String, Arc<[u8]>),
}

/// Content that is sent once: the caller makes the next request for the rest of it.
pub(super) struct Stream<'s> {
    pub(super) reader: &'s mut dyn Read,
    /// Bytes that are sent. A reader that ends earlier must return an error, unless they are sent in chunks.
    pub(super) length: u64,
    /// Whether they are sent in chunks instead of with a `Content-Length`: an early end then breaks no connection. As
    /// `docker push` does; not every server takes it.
    pub(super) in_chunks: bool,
}

impl Request {
    pub(super) fn get(url: Uri, accept: &'static str) -> Request {
        Request {
            method: Method::GET,
            url,
            accept,
            offset: 0,
            authorization: None,
            headers: Vec::new(),
            content: Content::None,
            is_elsewhere: false,
            is_alone: false,
            patience: None,
            limit: None,
        }
    }

    /// Whether a redirect is followed. Content is sent again only where the redirect asks for the same request, and a
    /// form to its recipient only.
    fn follows(&self, status: StatusCode) -> bool {
        let is_read = matches!(self.method, Method::GET | Method::HEAD);
        let is_same = matches!(status.as_u16(), 307 | 308);
        (is_read || is_same) && !matches!(self.content, Content::Form(_))
    }
}

/// A response, after redirects.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The host that responded.
    pub(super) host: String,
    /// Whether a redirect led to another host.
    pub(super) elsewhere: bool,
    /// The `Authorization` that it was sent.
    pub(super) authorization: Option<HeaderValue>,
}

impl Answer {
    /// The content's length in bytes, if the response has it.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The length that the response states, also if it has no content, as one to `HEAD`.
    pub(super) fn stated_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads a small body, or as much of it as arrives within a time limit. A body that was read to its end
    /// frees its connection for reuse.
    pub(super) fn text(self, limit: u64) -> Vec<u8> {
        let end = Instant::now() + MAX_SMALL_TIME;
        let mut reader = self.body.into_reader().take(limit);
        let left = || end.saturating_duration_since(Instant::now());
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; SMALL_BUFFER]);
        while Instant::now() < end {
            match read_within(left(), &mut reader, &mut buffer) {
                Ok(count) if count > 0 => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                _ => break,
            }
        }
        bytes
    }
}

/// Makes requests; keeps connections open between them.
pub(super) struct Transport {
    agent: Agent,
    proxies: Proxies,
    pub(super) trust: Arc<Trust>,
    pub(super) timeouts: Timeouts,
}

impl Transport {
    pub(super) fn new(proxies: Proxies, trust: Trust, timeouts: Timeouts) -> Transport {
        let trust = Arc::new(trust);
        let config = Config::builder()
            // The environment is not read here.
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .timeout_recv_response(Some(timeouts.idle.saturating_mul(2)))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_idle_connections(MAX_IDLE * 2)
            .max_idle_connections_per_host(MAX_IDLE)
            .build();
        let connector =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(TlsConnector(trust.clone()))
                .chain(LimitConnector);
        Transport {
            agent: Agent::with_parts(config, connector, Names::default()),
            proxies,
            trust,
            timeouts,
        }
    }

    /// Whether requests to a URL go through a proxy.
    pub(super) fn is_proxied(&self, url: &Uri) -> bool {
        self.proxies.choose(url).is_some()
    }

    /// Makes a request and follows redirects. `Authorization` is sent only to the requested host, and not again
    /// if a redirect leads back to it.
    pub(super) fn fetch(&self, request: &Request) -> Result<Answer, Failure> {
        let mut url = request.url.clone();
        let mut elsewhere = request.is_elsewhere;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(&url, request, None, elsewhere)?;
            let follows = request.follows(answer.status);
            let Some(target) = redirect(&answer).filter(|_| follows) else {
                return Ok(answer);
            };
            let next = location::join(&url, &target).ok_or_else(|| Failure::Location(answer.host.clone()))?;
            if url.scheme() == Some(&http::uri::Scheme::HTTPS)
                && next.scheme() != Some(&http::uri::Scheme::HTTPS)
            {
                return Err(Failure::Downgrade(host_of(&next)));
            }
            elsewhere |= !location::same_origin(&request.url, &next);
            url = next;
            // Its body does not matter and may never end, so the connection is closed with it.
            drop(answer);
        }
        Err(Failure::Redirects)
    }

    /// Makes a request that sends a stream, which no redirect repeats.
    pub(super) fn send(&self, request: &Request, stream: Stream<'_>) -> Result<Answer, Failure> {
        self.once(&request.url, request, Some(stream), request.is_elsewhere)
    }

    fn once(
        &self,
        url: &Uri,
        request: &Request,
        stream: Option<Stream<'_>>,
        elsewhere: bool,
    ) -> Result<Answer, Failure> {
        let host = host_of(url);
        let mut builder = http::Request::builder()
            .method(&request.method)
            .uri(url)
            .header(header::ACCEPT, request.accept);
        if request.offset > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.offset));
        }
        let authorization = request.authorization.clone().filter(|_| !elsewhere);
        if let Some(authorization) = &authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let proxy = self.proxies.choose(url).cloned();
        let through = proxy
            .as_ref()
            .map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let fail = |error: ureq::Error| {
            let failure = match &through {
                Some(proxy) => Failure::of_proxied(error, &host, proxy),
                None => Failure::of(error, &host),
            };
            match self.trust.has_given_cas() {
                true => failure.with_given_cas(),
                false => failure,
            }
        };
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let mut bytes: &[u8] = &[];
        let media_type = match &request.content {
            Content::None => None,
            Content::Form(form) => {
                bytes = form.as_bytes();
                Some("application/x-www-form-urlencoded")
            }
            Content::Bytes(media_type, content) => {
                bytes = content;
                Some(media_type.as_str())
            }
        };
        if let Some(media_type) = media_type {
            builder = builder.header(header::CONTENT_TYPE, media_type);
        }
        let response = match stream {
            _ if matches!(request.method, Method::GET | Method::HEAD) => {
                let sent = builder.body(()).map_err(|error| fail(error.into()))?;
                self.run(sent, request, proxy)
            }
            Some(Stream {
                reader,
                in_chunks: true,
                ..
            }) => {
                let sent = builder.body(SendBody::from_reader(reader));
                self.run(sent.map_err(|error| fail(error.into()))?, request, proxy)
            }
            Some(Stream { reader, length, .. }) => {
                let sent = sized(builder, reader, length).map_err(|error| fail(error.into()))?;
                self.run(sent, request, proxy)
            }
            None => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let sent = sized(builder, &mut bytes, length).map_err(|error| fail(error.into()))?;
                self.run(sent, request, proxy)
            }
        };
        let (parts, body) = response.map_err(fail)?.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            host,
            elsewhere,
            authorization,
        })
    }
}

impl Transport {
    /// Sends a request by the connection that it needs.
    fn run(
        &self,
        sent: http::Request<impl AsSendBody>,
        request: &Request,
        proxy: Option<Proxy>,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let mut config = self.agent.configure_request(sent).proxy(proxy);
        if request.is_alone {
            config = config.max_idle_age(Duration::ZERO);
        }
        if let Some(patience) = request.patience {
            config = config.timeout_recv_response(Some(patience));
        }
        if request.limit.is_some() {
            config = config.timeout_global(request.limit);
        }
        self.agent.run(config.build())
    }
}

/// A request with content of this length.
fn sized<'r>(
    builder: http::request::Builder,
    reader: &'r mut dyn Read,
    length: u64,
) -> http::Result<http::Request<SendBody<'r>>> {
    let builder = builder.header(header::CONTENT_LENGTH, length);
    builder.body(SendBody::from_reader(reader))
}

fn host_of(url: &Uri) -> String {
    Address::of(url).map_or_else(String::new, |address| address.to_string())
}

fn redirect(answer: &Answer) -> Option<Vec<u8>> {
    matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| answer.headers.get(header::LOCATION))
        .flatten()
        .map(|value| value.as_bytes().to_vec())
}
