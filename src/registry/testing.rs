//! A registry in this process with responses as a test requires, and a small image for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::oci::testing::{self, TestImage};
use crate::oci::{Descriptor, Digest, MediaType, Reference, Repository};
use crate::progress::Progress;
use crate::registry::{Options, RegistrySource, Timeouts};
use crate::retry::Retry;

/// A request as received.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    headers: Vec<(String, String)>,
    /// The content, as far as it is text.
    pub(super) body: String,
    /// The content, or what of it came before the connection broke.
    pub(super) content: Vec<u8>,
    /// Whether the connection broke within the content. The reply then reaches nobody.
    pub(super) is_cut: bool,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

/// How a reply's body is sent.
#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Whole,
    /// This many bytes, then the connection is closed.
    Cut(usize),
    /// This many bytes, then nothing for a long time.
    Stall(usize),
    /// One byte at a time, with a pause before each.
    Drip(Duration),
    /// Nothing before the gate opens, or until a long time has passed.
    Held(Arc<Gate>),
    Chunked,
    /// Chunks, and endless trailers.
    Trailers,
    /// A `Content-Length` that may be wrong.
    Length(usize),
}

/// Blocks responses until it is opened.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    /// Whether a response waited too long.
    pub(super) failed: AtomicBool,
}

impl Gate {
    pub(super) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self) {
        let limit = Duration::from_secs(20);
        let closed = self.is_open.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(closed, limit, |is_open| !*is_open);
        self.failed
            .fetch_or(waited.unwrap().1.timed_out(), Ordering::SeqCst);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    delivery: Delivery,
    raw: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            delivery: Delivery::Whole,
            raw: false,
        }
    }

    /// Bytes that need not be HTTP, after which the connection is closed.
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply {
            raw: true,
            ..Reply::new(0, bytes)
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Reply {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    pub(super) fn sent(mut self, delivery: Delivery) -> Reply {
        self.delivery = delivery;
        self
    }

    fn write(&self, out: &mut dyn Write, is_head: bool) -> io::Result<bool> {
        if self.raw {
            out.write_all(&self.body)?;
            return Ok(false);
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", self.status);
        match self.delivery {
            Delivery::Chunked | Delivery::Trailers => head += "Transfer-Encoding: chunked\r\n",
            Delivery::Length(length) => head += &format!("Content-Length: {length}\r\n"),
            _ => head += &format!("Content-Length: {}\r\n", self.body.len()),
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        out.write_all((head + "\r\n").as_bytes())?;
        if is_head {
            return Ok(true);
        }
        let keep = match &self.delivery {
            Delivery::Whole | Delivery::Length(_) => {
                out.write_all(&self.body)?;
                matches!(self.delivery, Delivery::Whole)
            }
            Delivery::Cut(at) => {
                out.write_all(&self.body[..(*at).min(self.body.len())])?;
                false
            }
            Delivery::Stall(at) => {
                out.write_all(&self.body[..(*at).min(self.body.len())])?;
                out.flush()?;
                thread::sleep(Duration::from_secs(3));
                false
            }
            Delivery::Trailers => {
                write!(out, "{:x}\r\n", self.body.len())?;
                out.write_all(&self.body)?;
                out.write_all(b"\r\n0\r\n")?;
                // Until the reader closes the connection.
                loop {
                    out.write_all(b"X-Trailer: on and on\r\n")?;
                }
            }
            Delivery::Held(gate) => {
                out.flush()?;
                gate.wait();
                out.write_all(&self.body)?;
                true
            }
            Delivery::Drip(pause) => {
                for byte in &self.body {
                    thread::sleep(*pause);
                    out.write_all(&[*byte])?;
                    out.flush()?;
                }
                true
            }
            Delivery::Chunked => {
                for chunk in self.body.chunks(1000) {
                    out.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                    out.write_all(chunk)?;
                    out.write_all(b"\r\n")?;
                }
                out.write_all(b"0\r\n\r\n")?;
                true
            }
        };
        out.flush()?;
        Ok(keep)
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A server on its own port. Each port counts as a host of its own.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::launch(None, Arc::new(handler))
    }

    pub(super) fn start_tls(
        config: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::launch(Some(config), Arc::new(handler))
    }

    fn launch(tls: Option<Arc<rustls::ServerConfig>>, handler: Handler) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            stop: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, stop) = (server.seen.clone(), server.stop.clone());
        let connections = server.connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                *connections.lock().unwrap() += 1;
                stream.set_nodelay(true).unwrap();
                let (tls, handler, seen) = (tls.clone(), handler.clone(), seen.clone());
                thread::spawn(move || {
                    let _ = match tls {
                        None => serve(Plain(stream), &handler, &seen),
                        Some(config) => {
                            let session = rustls::ServerConnection::new(config).unwrap();
                            serve(rustls::StreamOwned::new(session, stream), &handler, &seen)
                        }
                    };
                });
            }
        });
        server
    }

    /// Host and port.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requested paths, in order, without the request that finds out about https.
    pub(super) fn paths(&self) -> Vec<String> {
        self.seen()
            .into_iter()
            .map(|seen| seen.path)
            .filter(|path| path != "/v2/")
            .collect()
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    pub(super) fn repository(&self) -> Repository {
        format!("{}/lib/app", self.host()).parse().unwrap()
    }

    pub(super) fn reference(&self, tag: &str) -> Reference {
        format!("{}/lib/app:{tag}", self.host()).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

struct Plain(TcpStream);

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Plain {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn serve(stream: impl Read + Write, handler: &Handler, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    loop {
        if stream.fill_buf()?.first() == Some(&0x16) {
            // A TLS handshake: the response of Go's server.
            let refusal = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request";
            return stream.get_mut().write_all(refusal);
        }
        let Some(request) = read_request(&mut stream)? else {
            return Ok(());
        };
        seen.lock().unwrap().push(request.clone());
        let reply = handler(&request);
        if request.is_cut {
            return Ok(());
        }
        if !reply.write(stream.get_mut(), request.method == "HEAD")? {
            return Ok(());
        }
    }
}

fn read_request(stream: &mut BufReader<impl Read + Write>) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_string();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_string(), query.to_string());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_string(), value.trim().to_string()));
    }
    let mut seen = Seen {
        method,
        path,
        query,
        headers,
        body: String::new(),
        content: Vec::new(),
        is_cut: false,
    };
    if seen.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    seen.is_cut = match seen.header("transfer-encoding") {
        Some(_) => read_chunks(stream, &mut seen.content).is_err(),
        None => {
            let length: u64 = seen
                .header("content-length")
                .map_or(0, |value| value.parse().unwrap());
            let received = stream.take(length).read_to_end(&mut seen.content);
            received.is_err() || u64::try_from(seen.content.len()) != Ok(length)
        }
    };
    seen.body = String::from_utf8_lossy(&seen.content).into_owned();
    Ok(Some(seen))
}

fn read_chunks(stream: &mut impl BufRead, content: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let before = content.len();
        stream.take(length).read_to_end(content)?;
        let is_whole = u64::try_from(content.len() - before) == Ok(length);
        if !is_whole || stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// A small image, `lib/app:1`: a manifest with one layer, in an index.
#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) layer: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    pub(super) index: Vec<u8>,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let layer: Vec<u8> = (0..40_000_u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
        let image = TestImage::new().layer(layer.as_slice());
        let manifest = image.manifest();
        Fixture {
            layer,
            config: image.config().bytes,
            index: testing::index(&[manifest.descriptor]).bytes,
            manifest: manifest.bytes,
        }
    }

    pub(super) fn descriptor(&self, bytes: &[u8]) -> Descriptor {
        let media_type = if bytes == self.layer {
            MediaType::OCI_LAYER
        } else if bytes == self.config {
            MediaType::OCI_CONFIG
        } else if bytes == self.manifest {
            MediaType::OCI_MANIFEST
        } else {
            MediaType::OCI_INDEX
        };
        testing::describe(media_type, bytes)
    }

    /// Responds like a plain registry that has this image under any name.
    pub(super) fn answer(&self, seen: &Seen) -> Reply {
        let version = |reply: Reply| reply.with("Docker-Distribution-Api-Version", "registry/2.0");
        if seen.path == "/v2/" {
            return version(Reply::new(200, "{}"));
        }
        let last = seen.path.rsplit('/').next().unwrap_or_default();
        if seen.path.ends_with("/tags/list") {
            return Reply::new(200, r#"{"name":"lib/app","tags":["1","2.4"]}"#);
        }
        for bytes in [&self.index, &self.manifest] {
            let descriptor = self.descriptor(bytes);
            if seen.path.contains("/manifests/")
                && (last == descriptor.digest.to_string() || (last == "1" && bytes == &self.index))
            {
                return version(Reply::new(200, bytes.clone()))
                    .with("Content-Type", descriptor.media_type.as_str())
                    .with("Docker-Content-Digest", descriptor.digest.to_string());
            }
        }
        for bytes in [&self.config, &self.layer] {
            if seen.path.contains("/blobs/") && last == Digest::sha256(bytes).to_string() {
                return ranged(seen, bytes);
            }
        }
        let code = if seen.path.contains("/blobs/") {
            "BLOB_UNKNOWN"
        } else {
            "MANIFEST_UNKNOWN"
        };
        Reply::new(
            404,
            format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#),
        )
    }
}

/// Responds with content, or the requested part of it.
pub(super) fn ranged(seen: &Seen, bytes: &[u8]) -> Reply {
    let from = seen.header("range").map(|range| {
        let from = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
        from.parse::<usize>().unwrap()
    });
    match from {
        None => Reply::new(200, bytes),
        Some(from) => Reply::new(206, &bytes[from..]).with(
            "Content-Range",
            format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
    }
}

/// Collects notes.
#[derive(Default)]
pub(super) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(super) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}

/// Options for tests: short pauses, short waits.
pub(super) fn quick() -> Options {
    Options {
        retry: Retry {
            attempts: 3,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(50),
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            idle: Duration::from_millis(400),
            slowest: 100_000,
        },
        ..Options::default()
    }
}

/// The same, for servers that are not silent: a machine with much else to do is no reason to give up.
pub(super) fn patient() -> Options {
    let mut options = quick();
    options.timeouts.idle = Duration::from_secs(30);
    options
}

pub(super) fn source(options: Options) -> RegistrySource {
    noted(options).0
}

pub(super) fn noted(options: Options) -> (RegistrySource, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let source = RegistrySource::new(options, notes.clone(), Interrupt::default()).unwrap();
    (source, notes)
}

/// Reads everything; the error as text.
pub(super) fn read(reader: crate::Result<Box<dyn Read + Send>>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader
        .map_err(|error| error.to_string())?
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
