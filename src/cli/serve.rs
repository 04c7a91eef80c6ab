//! `sealift serve`.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use sealift::image::names;
use sealift::interrupt::Interrupt;
use sealift::serve::{
    Access, Answered, ArchiveFiles, Archives, Event, Live, Options, Reopened, Server, Summary, Tls, Users,
};
use sealift::{Error, Result};

use super::archive::FileArgs;
use super::bars;
use super::client_config::{Client, Endpoint};
use super::notify;
use super::output::{Failure, Outcome, Output, error_json};

/// How long a signal lets requests be answered that are under way.
const GRACE: Duration = Duration::from_secs(30);
/// Lines of the log that wait to be printed. More are counted only.
const WAITING: usize = 4096;
/// Names that a message lists.
const LISTED: usize = 3;

/// Serve archives as a read-only registry, straight from their files
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift serve images.tar
  sealift serve images.tar layout --listen 192.168.1.5:5000 --tls-cert tls.crt --tls-key tls.key
  sealift serve images.tar --print-config containerd     # what clients need, for this address
  docker pull 127.0.0.1:5000/library/httpd:2.4

An image is served under its name, with and without the host of its registry: docker.io/library/httpd:2.4 as \
library/httpd and as docker.io/library/httpd. Nothing is unpacked. Each blob is verified before it is sent for the \
first time. An archive that is replaced is opened again. A browser shows a page with the images, a search, and commands \
that pull them. A signal lets what is under way finish, for 30 seconds at most; a second one ends it at once.

The first line on standard output says where it listens. Each request is one line on standard error; with --json, each \
is one JSON object on standard output.")]
pub struct Serve {
    #[command(flatten)]
    files: FileArgs,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000", value_parser = listen)]
    listen: SocketAddr,
    /// Certificate chain for TLS, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer only the users in this file of `htpasswd -B`
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Verify all blobs before the first request is answered, instead of each before it is first sent
    #[arg(long)]
    verify: bool,
    /// Print the configuration that a client needs, and serve nothing
    #[arg(long, value_name = "CLIENT")]
    print_config: Option<Client>,
}

/// Parses an address with its port.
fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 192.168.1.5:5000, 0.0.0.0:5000 or [::]:5000")
}

/// What is printed while it serves.
enum Message {
    Event(Event),
    Reopened(Reopened),
    /// The server has ended; the last message. Whether all requests were answered.
    Stopped(bool, Sender<()>),
}

impl Serve {
    /// Serves until a signal comes.
    pub fn run(&self, output: &Output, interrupt: &Interrupt) -> Outcome {
        let given = self.files.archives()?.into_iter();
        let given = given.map(|given| ArchiveFiles {
            files: given.files,
            expected: given.expected,
            signature: given.signature,
        });
        let mut archives = Archives::open(given.collect(), self.files.options(interrupt))?;
        let (content, summary) = archives.content()?;
        if let Some(client) = self.print_config {
            // Elsewhere, where it is served, they may be in other places.
            let tls = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
            if let Some((certificate, key)) =
                tls.filter(|(certificate, key)| certificate.exists() && key.exists())
            {
                Tls::read(certificate, key)?;
            }
            return self.print(client, &summary, output);
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
            _ => None,
        };
        let access = match &self.htpasswd {
            Some(file) => Access::Users(Arc::new(Users::read(file)?)),
            None => Access::Everyone,
        };
        let listener = self.bind()?;
        let jobs = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        if self.verify {
            archives.verify(jobs.get(), bars::progress(output).as_ref(), interrupt)?;
        }
        self.warn(&summary, output);

        let (messages, received) = mpsc::sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let options = Options {
            access,
            tls,
            threads: jobs,
            report: reporter(messages.clone(), &lost),
        };
        let live = Live::from(content);
        let refused = Error::io("listen on", self.listen.to_string());
        let server = Server::start_registry(listener, live.clone(), options).map_err(refused)?;
        self.ready(server.address(), &archives, &summary, output)?;
        let reopened = messages.clone();
        let report = move |archive| drop(reopened.send(Message::Reopened(archive)));
        let watcher = archives.watch(live, report);
        let _watcher = watcher.map_err(Error::io("watch", "the archives"))?;
        let stopped = interrupt.clone();
        let _guard = interrupt.on_stop(move || {
            if stop(server, &messages) {
                stopped.complete();
            }
        });
        if let Err(error) = notify::ready() {
            output.warn(&format!(
                "systemd was not told that the service is ready: {error}"
            ));
        }
        print_all(&received, &lost, output)
    }

    fn print(&self, client: Client, summary: &Summary, output: &Output) -> Outcome {
        if self.listen.port() == 0 {
            return Err(Error::Usage {
                message: "a client needs to know the port".into(),
                hint: Some("give --listen with the port that will be used".into()),
            }
            .into());
        }
        let endpoint = Endpoint {
            address: self.listen,
            is_tls: self.tls_cert.is_some(),
            needs_login: self.htpasswd.is_some(),
        };
        let text = client.config(&endpoint, &summary.registries);
        match output.is_json() {
            true => output.json(&serde_json::json!({
                "schema": 1,
                "client": client.name(),
                "config": text,
                "notes": client.notes(&endpoint),
            }))?,
            false => {
                for line in text.lines() {
                    output.line(line)?;
                }
                for note in client.notes(&endpoint) {
                    output.note(&note);
                }
            }
        }
        Ok(None)
    }

    fn bind(&self) -> Result<TcpListener> {
        TcpListener::bind(self.listen).map_err(|source| Error::Io {
            action: "listen on",
            path: self.listen.to_string().into(),
            offset: None,
            hint: (source.kind() == std::io::ErrorKind::AddrInUse)
                .then(|| "give another --listen; with port 0, a free port is picked".into()),
            source: source.into(),
        })
    }

    /// Warns of what clients will not get, and of what others may.
    fn warn(&self, summary: &Summary, output: &Output) {
        if !self.listen.ip().is_loopback() && self.tls_cert.is_none() {
            let what = match self.htpasswd {
                Some(_) => "passwords and images cross the network unencrypted",
                None => "everyone in the network can read the images, unencrypted",
            };
            output.warn(&format!("{} without TLS: {what}", self.listen));
        }
        let named = |list: &[String]| names::first(list, LISTED);
        if !summary.incomplete.is_empty() {
            output.warn(&format!(
                "{} lacks layers in the form that clients ask for; only a client that has them can pull it",
                named(&summary.incomplete)
            ));
        }
        if !summary.substitutes.is_empty() {
            output.warn(&format!(
                "{} has a substitute manifest: clients get its digest, not the original one",
                named(&summary.substitutes)
            ));
        }
        if summary.nameless > 0 {
            output.warn(&format!(
                "{} without a full name: not served",
                names::count(summary.nameless, "image")
            ));
        }
        for (path, full) in summary.contested.iter().take(LISTED) {
            output.warn(&format!(
                "several registries have {path}: pull {}",
                full.join(" or ")
            ));
        }
    }

    fn ready(
        &self,
        address: SocketAddr,
        archives: &Archives,
        summary: &Summary,
        output: &Output,
    ) -> Result<(), Failure> {
        let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        if output.is_json() {
            let archives: Vec<_> = archives
                .digests()
                .map(|(archive, digest)| serde_json::json!({ "archive": archive, "digest": digest }))
                .collect();
            return output.json_line(&serde_json::json!({
                "schema": 1,
                "event": "listening",
                "url": url,
                "images": summary.images,
                "repositories": summary.repositories,
                "archives": archives,
                "nameless": summary.nameless,
                "incomplete": summary.incomplete,
                "stand_ins": summary.substitutes,
            }));
        }
        output.line(format_args!(
            "serving {} at {url}",
            names::count(summary.images, "image")
        ))
    }
}

/// Passes events on without waiting for them to be printed.
fn reporter(messages: SyncSender<Message>, lost: &Arc<AtomicU64>) -> sealift::serve::Report {
    let lost = Arc::clone(lost);
    Arc::new(move |event| {
        if matches!(event, Event::Answered(_) | Event::Failed { .. })
            && messages.try_send(Message::Event(event)).is_err()
        {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Lets the server answer what is under way, unless a second signal comes. Returns whether all was answered.
fn stop(server: Server, messages: &SyncSender<Message>) -> bool {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::clone(&again));
    }
    let until = Instant::now() + GRACE;
    server.finish();
    let has_ended = loop {
        match server.has_ended(Duration::from_millis(50)) {
            true => break true,
            false if Instant::now() >= until || again.load(Ordering::SeqCst) => break false,
            false => {}
        }
    };
    drop(server);
    let (printed, all) = mpsc::channel();
    if messages.try_send(Message::Stopped(has_ended, printed)).is_ok() {
        // Its reader may have stopped reading.
        let _ = all.recv_timeout(Duration::from_secs(1));
    }
    has_ended
}

/// Prints what happens. Ends only if that cannot be printed.
fn print_all(received: &Receiver<Message>, lost: &AtomicU64, output: &Output) -> Outcome {
    while let Ok(message) = received.recv() {
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            count => output.warn(&format!(
                "{} of the log were not printed",
                names::count(usize::try_from(count).unwrap_or(usize::MAX), "line",)
            )),
        }
        match message {
            Message::Event(Event::Answered(answered)) => print_answered(&answered, output)?,
            Message::Event(Event::Failed { error }) => print_error(&error, output)?,
            Message::Event(_) => {}
            Message::Reopened(Reopened { archive, outcome }) => match outcome {
                Ok(digest) if output.is_json() => output.json_line(&line(
                    "reloaded",
                    &serde_json::json!({
                        "archive": archive,
                        "digest": digest,
                    }),
                ))?,
                Ok(digest) => output.note(&format!("{archive} was replaced: serving archive {digest}")),
                Err(error) => {
                    print_error(&error, output)?;
                    output.note(&format!(
                        "{archive} was replaced by one that is not served; the old one still is"
                    ));
                }
            },
            Message::Stopped(has_ended, printed) => {
                if output.is_json() {
                    let stopped = serde_json::json!({ "complete": has_ended });
                    output.json_line(&line("stopped", &stopped))?;
                }
                let _ = printed.send(());
            }
        }
    }
    Ok(None)
}

fn print_answered(answered: &Answered, output: &Output) -> Result<(), Failure> {
    if output.is_quiet() {
        return Ok(());
    }
    if output.is_json() {
        return output.json_line(&line("request", &serde_json::json!(answered)));
    }
    let registry = answered
        .registry
        .as_ref()
        .map(|registry| format!("?ns={registry}"));
    let cut = if answered.complete { "" } else { " incomplete" };
    output.say(format_args!(
        "{} {}{} {} {} {}{cut}",
        answered.method,
        answered.path,
        registry.unwrap_or_default(),
        answered.status,
        answered.bytes,
        answered.client
    ));
    Ok(())
}

fn print_error(error: &Error, output: &Output) -> Result<(), Failure> {
    match output.is_json() {
        true => output.json_line(&line("error", &serde_json::json!({ "error": error_json(error) }))),
        false => {
            output.error(error);
            Ok(())
        }
    }
}

/// One line of the log in JSON.
fn line(event: &str, fields: &serde_json::Value) -> serde_json::Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut line = serde_json::json!({
        "schema": 1,
        "event": event,
        "time": now.map(|now| now.as_secs()).unwrap_or_default(),
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        line[key] = value.clone();
    }
    line
}
