//! Listens on an address, in threads of its own, and accepts connections.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, Sender as Events};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::{Access, Login};
use super::answer::{Answers, Sending};
use super::connection::{Entry, Guest, Served};
use super::content::{Content, Live};
use super::event::{Event, Report};
use super::tls::Tls;

/// What every user of this host can take of a server for an engine.
const LIMITS: Limits = Limits {
    guests: 256,
    connections: 64,
    login: Duration::from_secs(5),
    stalled: Duration::from_secs(60),
};
/// What clients can take of a registry.
const REGISTRY_LIMITS: Limits = Limits {
    guests: 1024,
    connections: 1024,
    login: Duration::from_secs(30),
    stalled: Duration::from_secs(60),
};

/// What clients can take of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time that have not given the password, or that need none. A further one ends the oldest, if
    /// possible one without an answer on its way, so that other users never keep an engine out.
    guests: usize,
    /// Connections at a time that have given the password; further ones wait. An engine has a dozen.
    connections: usize,
    /// How long a client of a private server may be connected without giving the password.
    pub(super) login: Duration,
    /// How long a client may take nothing of an answer that is ready.
    pub(super) stalled: Duration,
}

/// Connections that are accepted before the open ones are served again.
const AT_ONCE: usize = 16;
/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long a server waits for its threads when it is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a registry for other hosts is served.
pub struct Options {
    /// Who may read it.
    pub access: Access,
    /// Its certificate; plain HTTP without one.
    pub tls: Option<Tls>,
    /// Threads that answer, and that verify blobs at the same time.
    pub threads: NonZeroUsize,
    /// Receives each answered request and each failure. It must not wait.
    pub report: Report,
}

/// A running server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<Stop>,
    /// Closed once all connections have ended.
    ended: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Once what is under way is answered.
    Finish,
    Now,
}

impl Server {
    /// Serves on a bound port, in its own thread, until it is dropped: to everyone on this host.
    ///
    /// # Errors
    ///
    /// If the thread or its event loop cannot be started.
    pub fn start(listener: TcpListener, content: impl Into<Content>) -> io::Result<Server> {
        let report: Report = Arc::new(|_| {});
        let served = for_an_engine(content.into(), Access::Everyone, report);
        Server::serve(listener, served, NonZeroUsize::MIN, LIMITS)
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
        let report: Report = Arc::new(move |event| {
            // The receiver may be gone.
            let _ = events.send(event);
        });
        let served = for_an_engine(content, Access::Login(login), report);
        Server::serve(listener, served, NonZeroUsize::MIN, LIMITS)
    }

    /// Serves archives to many clients. A blob is verified before it is sent for the first time.
    ///
    /// # Errors
    ///
    /// If a thread or the event loop cannot be started.
    pub fn start_registry(listener: TcpListener, content: Live, options: Options) -> io::Result<Server> {
        crate::archive::allow_many_files();
        let served = Served {
            answers: Answers {
                content,
                sending: Sending::Proven(Arc::new(Semaphore::new(options.threads.get()))),
                report: options.report,
            },
            access: options.access,
            tls: options.tls,
            is_told: true,
        };
        Server::serve(listener, served, options.threads, REGISTRY_LIMITS)
    }

    fn serve(
        listener: TcpListener,
        served: Served,
        threads: NonZeroUsize,
        limits: Limits,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        // std asks for less.
        rustix::net::listen(&listener, BACKLOG)?;
        let mut builder = match threads.get() {
            1 => tokio::runtime::Builder::new_current_thread(),
            count => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(count);
                builder
            }
        };
        let runtime = builder.enable_io().enable_time().build()?;
        let (stop, stopped) = watch::channel(Stop::No);
        let (alive, ended) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                runtime.block_on(accept(listener, served, limits, stopped));
                drop(alive);
                runtime.shutdown_timeout(PATIENCE);
            })?;
        Ok(Server {
            address,
            stop,
            ended: Mutex::new(ended),
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, and ends each connection once what is under way is answered. Does not wait for that.
    pub fn finish(&self) {
        self.stop.send_if_modified(|stop| {
            let is_first = *stop == Stop::No;
            if is_first {
                *stop = Stop::Finish;
            }
            is_first
        });
    }

    /// Waits for all connections to end after [`Server::finish`]. Returns whether they have.
    pub fn has_ended(&self, patience: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

fn for_an_engine(content: Content, access: Access, report: Report) -> Served {
    Served {
        answers: Answers {
            content: content.into(),
            sending: Sending::Hashed,
            report,
        },
        access,
        tls: None,
        is_told: false,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(Stop::Now);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections until the server stops, and then waits for them if they may finish.
async fn accept(listener: TcpListener, served: Served, limits: Limits, mut stop: watch::Receiver<Stop>) {
    let (finish, finishing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accepting = accept_all(listener, &served, limits, &mut connections, &finishing);
    first(stop.wait_for(|stop| *stop != Stop::No), accepting).await;
    let _ = finish.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    first(stop.wait_for(|stop| *stop == Stop::Now), all).await;
}

/// Waits for the first of two futures, and drops the other.
async fn first(one: impl Future, other: impl Future) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| {
        match one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

async fn accept_all(
    listener: TcpListener,
    served: &Served,
    limits: Limits,
    connections: &mut JoinSet<()>,
    finishing: &watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut guests: VecDeque<Guest> = VecDeque::new();
    for count in 1_usize.. {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        guests.retain(Guest::stays_one);
        let Ok((stream, client)) = accepted else {
            // Out of descriptors, or the client has gone away: others may still come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if guests.len() >= limits.guests {
            let oldest = guests.iter().position(Guest::is_idle).unwrap_or(0);
            if let Some(oldest) = guests.remove(oldest) {
                oldest.connection.abort();
            }
        }
        let entry = Entry::new(&places);
        let connection = served
            .clone()
            .connection(stream, client, entry.clone(), limits, finishing.clone());
        let connection = connections.spawn(connection);
        guests.push_back(Guest { connection, entry });
        // Clients that connect again and again must not keep the others from being served.
        if count % AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
