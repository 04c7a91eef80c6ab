//! One connection: its requests, its time limits, and its place among the others.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::access::Access;
use super::answer::{self, Answers, Asking};
use super::body::Body;
use super::event::{Answered, Unsent};
use super::server::Limits;
use super::target;
use super::tls::Tls;

/// A client that sends no request for this long is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer that wait in a connection before more are made, and most bytes of a request.
pub(super) const BUFFERED: u64 = 64 << 10;

/// What every connection needs.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) answers: Answers,
    pub(super) access: Access,
    pub(super) tls: Option<Tls>,
    /// Whether each answer is told.
    pub(super) is_told: bool,
}

/// A connection that is ended for a newer one if there are too many.
pub(super) struct Guest {
    pub(super) connection: AbortHandle,
    pub(super) entry: Entry,
}

impl Guest {
    /// Whether it still counts as one that needs no password, or has not given it.
    pub(super) fn stays_one(&self) -> bool {
        !self.connection.is_finished() && !self.entry.is_admitted.load(Ordering::Relaxed)
    }

    /// Whether no answer is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.entry.answers.load(Ordering::Relaxed) == 0
    }
}

/// A connection's place among the others.
#[derive(Clone)]
pub(super) struct Entry {
    /// Whether the password was given.
    is_admitted: Arc<AtomicBool>,
    /// The answers that are on their way.
    answers: Arc<AtomicUsize>,
    places: Arc<Semaphore>,
    /// Its place among those that have given the password.
    place: Arc<OnceCell<tokio::sync::OwnedSemaphorePermit>>,
}

impl Entry {
    pub(super) fn new(places: &Arc<Semaphore>) -> Entry {
        Entry {
            is_admitted: Arc::default(),
            answers: Arc::default(),
            places: Arc::clone(places),
            place: Arc::default(),
        }
    }

    /// Takes a place until the connection ends.
    async fn take(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
        let take = || Arc::clone(&self.places).acquire_owned();
        // The places are never closed.
        let _ = self.place.get_or_try_init(take).await;
    }
}

/// An answer that is on its way, until it is dropped.
pub(super) struct OnItsWay(Arc<AtomicUsize>);

impl OnItsWay {
    fn new(entry: &Entry) -> OnItsWay {
        entry.answers.fetch_add(1, Ordering::Relaxed);
        OnItsWay(Arc::clone(&entry.answers))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Served {
    /// Answers a client until it ends the connection, or until it is answered once the server stops. One that gives no
    /// password in time is disconnected.
    pub(super) async fn connection(
        self,
        stream: TcpStream,
        client: SocketAddr,
        entry: Entry,
        limits: Limits,
        stopping: watch::Receiver<bool>,
    ) {
        // Answers are written in large pieces.
        let _ = stream.set_nodelay(true);
        let stream = Bounded::new(stream, limits.stalled);
        let Some(tls) = self.tls.clone() else {
            return self.requests(stream, client, entry, limits.login, stopping).await;
        };
        let accepted = unless_stopped(tls.acceptor().accept(stream), stopping.clone());
        let accepted = tokio::time::timeout(REQUEST_TIMEOUT, accepted).await;
        if let Ok(Some(Ok(stream))) = accepted {
            self.requests(stream, client, entry, limits.login, stopping).await;
        }
    }

    async fn requests<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
        client: SocketAddr,
        entry: Entry,
        login: Duration,
        mut stopping: watch::Receiver<bool>,
    ) {
        let admitted = Arc::new(Notify::new());
        let admits = Arc::clone(&admitted);
        let service = hyper::service::service_fn(move |request| {
            let on_its_way = OnItsWay::new(&entry);
            let (served, entry, admits) = (self.clone(), entry.clone(), Arc::clone(&admits));
            async move {
                let header = request_header(&request);
                let is_admitted = served.access.admits(header.as_deref()).await;
                if is_admitted {
                    admits.notify_one();
                    if served.access.is_private() {
                        entry.take().await;
                    }
                }
                let response = served.respond(&request, is_admitted, client, on_its_way).await;
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .max_buf_size(usize::try_from(BUFFERED).unwrap_or(usize::MAX))
                .serve_connection(TokioIo::new(stream), service)
        );
        let stopped = stopping.wait_for(|is_stopping| *is_stopping);
        let (mut admitted, mut stopped) = (pin!(admitted.notified()), pin!(stopped));
        let mut is_stopping = false;
        // What is under way is answered after a stop, and nothing else.
        let mut go_on = |context: &mut Context<'_>| {
            if !is_stopping && stopped.as_mut().poll(context).is_ready() {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(context).map(drop)
        };
        let until_admitted = poll_fn(|context| match go_on(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => admitted.as_mut().poll(context).map(|()| true),
        });
        if tokio::time::timeout(login, until_admitted).await == Ok(true) {
            poll_fn(go_on).await;
        }
    }

    async fn respond(
        &self,
        request: &Request<Incoming>,
        is_admitted: bool,
        client: SocketAddr,
        on_its_way: OnItsWay,
    ) -> Response<Body> {
        let path = target::decode(request.uri().path());
        let query = request.uri().query();
        // A client that calls this registry by another name than its address says so the same way as one of a mirror.
        let host = request.headers().get(HOST);
        let is_own = |registry: &String| host.is_some_and(|host| host.as_bytes() == registry.as_bytes());
        let registry =
            target::field(query, "ns").filter(|registry| !registry.is_empty() && !is_own(registry));
        let asking = Asking {
            method: request.method(),
            path: &path,
            query,
            registry: registry.as_deref(),
            headers: request.headers(),
            is_tls: self.tls.is_some(),
            is_private: self.access.is_private(),
        };
        let mut response = match is_admitted {
            true => self.answers.answer(&asking).await,
            false => answer::unauthorized(),
        };
        answer::finish(&mut response);
        let status = response.status().as_u16();
        let left = match request.method() {
            &Method::HEAD => 0,
            _ => response.body().size_hint().exact().unwrap_or_default(),
        };
        let unsent = self.is_told.then(|| {
            let answered = Answered {
                method: target::shortened(request.method().as_str()),
                path: target::shortened(&path),
                registry: registry.as_deref().map(target::shortened),
                status,
                bytes: 0,
                complete: false,
                client,
            };
            Unsent::new(answered, left, &self.answers.report)
        });
        response.body_mut().begins(unsent, on_its_way);
        response
    }
}

/// The result of a future, unless the server stops before.
async fn unless_stopped<T>(
    future: impl Future<Output = T>,
    mut stopping: watch::Receiver<bool>,
) -> Option<T> {
    let stopped = stopping.wait_for(|is_stopping| *is_stopping);
    let (mut future, mut stopped) = (pin!(future), pin!(stopped));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => stopped.as_mut().poll(context).map(|_| None),
    })
    .await
}

fn request_header(request: &Request<Incoming>) -> Option<Vec<u8>> {
    let header = request.headers().get(AUTHORIZATION);
    header.map(|header| header.as_bytes().to_vec())
}

/// A stream that fails if its client takes nothing for too long.
struct Bounded {
    stream: TcpStream,
    patience: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn new(stream: TcpStream, patience: Duration) -> Bounded {
        Bounded {
            stream,
            patience,
            waits: None,
        }
    }

    fn written<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let patience = self.patience;
        let waits = self
            .waits
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        waits
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
