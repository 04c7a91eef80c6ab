//! Listens on a loopback address, in its own thread, and answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender as Events;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OnceCell, Semaphore, oneshot};
use tokio::task::AbortHandle;

use super::body::{Body, Event};
use super::content::Content;

/// A client that sends no request for this long is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What every user of this host can take of a server.
const LIMITS: Limits = Limits {
    guests: 256,
    connections: 64,
    login: Duration::from_secs(5),
};

/// What clients can take of a server.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at a time that have not given the password, or that need none. A further one ends the oldest, so that
    /// other users never keep an engine out.
    guests: usize,
    /// Connections at a time that have given the password; further ones wait. An engine has a dozen.
    connections: usize,
    /// How long a client of a private server may be connected without giving the password.
    login: Duration,
}

/// Connections that are accepted before the open ones are served again.
const AT_ONCE: usize = 16;
/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// A name and a password that clients must give, so that other users of this host read nothing.
#[derive(Clone)]
pub struct Login(String);

impl Login {
    /// A random password.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn random() -> io::Result<Login> {
        let mut bytes = [0_u8; 24];
        let mut left = bytes.as_mut_slice();
        while !left.is_empty() {
            let count = rustix::rand::getrandom(&mut *left, rustix::rand::GetRandomFlags::empty())?;
            left = left.get_mut(count..).unwrap_or_default();
        }
        let password = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        Ok(Login(STANDARD.encode(format!("sealift:{password}"))))
    }

    /// Name and password as basic auth and auth files have them: in base64, with a colon between them.
    pub fn encoded(&self) -> &str {
        &self.0
    }

    /// Whether a request has them. The time that it takes does not depend on where they differ.
    fn admits(&self, request: &Request<Incoming>) -> bool {
        let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|given| given.strip_prefix(b"Basic "));
        let (given, own) = (given.unwrap_or_default(), self.0.as_bytes());
        given.len() == own.len()
            && given
                .iter()
                .zip(own)
                .fold(0, |differing, (one, other)| differing | (one ^ other))
                == 0
    }
}

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on a bound port, in its own thread, until it is dropped: to everyone on this host.
    ///
    /// # Errors
    ///
    /// If the thread or its event loop cannot be started.
    pub fn start(listener: TcpListener, content: impl Into<Content>) -> io::Result<Server> {
        let served = Served {
            content: Arc::new(content.into()),
            login: None,
            events: None,
        };
        Server::serve(listener, served, LIMITS)
    }

    /// The same, to those who give a password. Tells what happens to blobs.
    ///
    /// # Errors
    ///
    /// If the thread or its event loop cannot be started.
    pub fn start_private(
        listener: TcpListener,
        content: Content,
        login: Login,
        events: Events<Event>,
    ) -> io::Result<Server> {
        let served = Served {
            content: Arc::new(content),
            login: Some(login),
            events: Some(events),
        };
        Server::serve(listener, served, LIMITS)
    }

    fn serve(listener: TcpListener, served: Served, limits: Limits) -> io::Result<Server> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        // std asks for less.
        rustix::net::listen(&listener, BACKLOG)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                runtime.block_on(async {
                    let accepting = tokio::spawn(accept(listener, served, limits));
                    let _ = stopped.await;
                    accepting.abort();
                });
            })?;
        Ok(Server {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Served {
    content: Arc<Content>,
    login: Option<Login>,
    events: Option<Events<Event>>,
}

async fn accept(listener: TcpListener, served: Served, limits: Limits) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = tokio::task::JoinSet::new();
    let mut guests: VecDeque<Guest> = VecDeque::new();
    for count in 1_usize.. {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        guests.retain(Guest::stays_one);
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or the client has gone away: others may still come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if guests.len() >= limits.guests
            && let Some(oldest) = guests.pop_front()
        {
            oldest.connection.abort();
        }
        let entry = Entry {
            is_admitted: Arc::default(),
            places: Arc::clone(&places),
            place: Arc::default(),
        };
        let is_admitted = Arc::clone(&entry.is_admitted);
        let connection = connections.spawn(served.clone().connection(stream, entry, limits.login));
        guests.push_back(Guest {
            connection,
            is_admitted,
        });
        // Clients that connect again and again must not keep the others from being served.
        if count % AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A connection that is ended for a newer one if there are too many.
struct Guest {
    connection: AbortHandle,
    is_admitted: Arc<AtomicBool>,
}

impl Guest {
    fn stays_one(&self) -> bool {
        !self.connection.is_finished() && !self.is_admitted.load(Ordering::Relaxed)
    }
}

/// What a connection needs to be served for a password.
#[derive(Clone)]
struct Entry {
    /// Whether the password was given.
    is_admitted: Arc<AtomicBool>,
    places: Arc<Semaphore>,
    /// Its place among those that have given the password.
    place: Arc<OnceCell<tokio::sync::OwnedSemaphorePermit>>,
}

impl Entry {
    /// Takes a place until the connection ends.
    async fn take(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
        let take = || Arc::clone(&self.places).acquire_owned();
        // The places are never closed.
        let _ = self.place.get_or_try_init(take).await;
    }
}

impl Served {
    /// Answers a client until it ends the connection. One that gives no password in time is disconnected.
    async fn connection(self, stream: TcpStream, entry: Entry, login: Duration) {
        let admitted = Arc::new(Notify::new());
        let admits = Arc::clone(&admitted);
        let service = hyper::service::service_fn(move |request| {
            let is_admitted = self.admits(&request);
            if is_admitted {
                admits.notify_one();
            }
            let (served, entry) = (self.clone(), entry.clone());
            async move {
                if is_admitted && served.login.is_some() {
                    entry.take().await;
                }
                Ok::<_, Infallible>(served.answer(&request, is_admitted))
            }
        });
        let mut connection = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut admitted = pin!(admitted.notified());
        let until_admitted = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending => admitted.as_mut().poll(context).map(|()| true),
        });
        if tokio::time::timeout(login, until_admitted).await == Ok(true) {
            let _ = connection.await;
        }
    }

    fn admits(&self, request: &Request<Incoming>) -> bool {
        self.login.as_ref().is_none_or(|login| login.admits(request))
    }

    fn answer(&self, request: &Request<Incoming>, is_admitted: bool) -> Response<Body> {
        let mut response = match (request.method(), request.uri().path()) {
            _ if !is_admitted => unauthorized(),
            (&Method::GET | &Method::HEAD, "/v2/" | "/v2") => json(StatusCode::OK, "{}"),
            (method @ (&Method::GET | &Method::HEAD), path) => self.found(method, path),
            _ => {
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "read-only");
                let allowed = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(ALLOW, allowed);
                response
            }
        };
        let version = HeaderValue::from_static("registry/2.0");
        response
            .headers_mut()
            .insert("docker-distribution-api-version", version);
        response
    }

    fn report(&self, event: Event) {
        // The receiver may be gone.
        let _ = self.events.as_ref().map(|events| events.send(event));
    }

    fn found(&self, method: &Method, path: &str) -> Response<Body> {
        let rest = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
            return self.manifest(method, name, reference);
        }
        match rest.rsplit_once("/blobs/") {
            Some((name, digest)) => self.blob(method, name, digest),
            None => error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "not found"),
        }
    }

    fn manifest(&self, method: &Method, name: &str, reference: &str) -> Response<Body> {
        let Some((digest, media_type, bytes)) = self.content.manifest(name, reference) else {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "not found");
        };
        if method == Method::GET {
            self.report(Event::Advanced {
                digest,
                bytes: u64::try_from(bytes.len()).unwrap_or_default(),
            });
        }
        let mut response = Response::new(Body::Text(Some(bytes.clone())));
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(media_type.as_str()) {
            headers.insert(CONTENT_TYPE, value);
        }
        if let Ok(value) = HeaderValue::from_str(&digest.to_string()) {
            headers.insert("docker-content-digest", value);
        }
        response
    }

    fn blob(&self, method: &Method, name: &str, digest: &str) -> Response<Body> {
        let Some(blob) = self.content.blob(name, digest) else {
            return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "not found");
        };
        let body = match method {
            &Method::HEAD => Ok(Body::Text(None)),
            _ => Body::blob(blob, self.events.clone()),
        };
        let body = match body {
            Ok(body) => body,
            Err(failed) => {
                self.report(Event::Failed { error: failed });
                return error(StatusCode::INTERNAL_SERVER_ERROR, "BLOB_UNKNOWN", "it changed");
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, blob.descriptor.size.into());
        let bytes = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, bytes);
        if let Ok(value) = HeaderValue::from_str(digest) {
            headers.insert("docker-content-digest", value);
        }
        response
    }
}

fn unauthorized() -> Response<Body> {
    let mut response = error(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required",
    );
    let challenge = HeaderValue::from_static("Basic realm=\"sealift\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Text(Some(text.into())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let text = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    json(status, text.to_string())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
