//! HTTP to the engine over a unix socket or TCP, with one HTTP stack for both.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

use crate::docker::endpoint::{Endpoint, Tls, read_optional};
use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Large enough that a stream of layers is not split into small writes.
const BUFFER: usize = 128 << 10;

/// Set once the engine has closed the connection while a body was still being sent.
///
/// An engine that refuses a stream responds in the middle of it and closes the connection. Its response has the
/// reason and must be read; the rest of the body need not be sent.
#[derive(Debug, Clone, Default)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Clears it.
    pub fn reset(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether the engine has closed the connection.
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Makes the agent for `endpoint`, and the base of its URLs. An engine that neither accepts nor sends a byte
/// for the time of `silence` is given up.
///
/// # Errors
///
/// If certificates cannot be read.
pub fn agent(endpoint: &Endpoint, hangup: &Hangup, silence: Duration) -> Result<(ureq::Agent, String)> {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .timeout_recv_response(Some(silence))
        .output_buffer_size(BUFFER)
        // A pooled connection may be dead after a daemon's restart; a new one costs little here.
        .max_idle_connections(0);
    match endpoint {
        Endpoint::Unix(path) => {
            let connector = UnixConnector {
                path: path.clone(),
                hangup: hangup.clone(),
            };
            let agent = ureq::Agent::with_parts(config.build(), connector, Nowhere);
            Ok((agent, "http://localhost".into()))
        }
        Endpoint::Tcp { authority, tls } => {
            let (config, scheme) = match tls {
                None => (config, "http"),
                Some(tls) => (config.tls_config(tls_config(tls)?), "https"),
            };
            let connector = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
            let agent = ureq::Agent::with_parts(config.build(), connector, DefaultResolver::default());
            Ok((agent, format!("{scheme}://{authority}")))
        }
    }
}

fn tls_config(tls: &Tls) -> Result<TlsConfig> {
    let mut builder = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .disable_verification(!tls.verify);
    let certificates = |path: &Path, bytes: &[u8]| -> Result<Vec<Certificate<'static>>> {
        let mut found = Vec::new();
        for item in parse_pem(bytes) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(path, error))? {
                found.push(certificate);
            }
        }
        Ok(found)
    };
    let ca = tls.folder.join("ca.pem");
    if let Some(bytes) = read_optional(&ca)? {
        let roots = certificates(&ca, &bytes)?;
        builder = builder.root_certs(RootCerts::new_with_certs(&roots));
    }
    let (cert, key) = (tls.folder.join("cert.pem"), tls.folder.join("key.pem"));
    if let (Some(chain), Some(secret)) = (read_optional(&cert)?, read_optional(&key)?) {
        let chain = certificates(&cert, &chain)?;
        let secret = PrivateKey::from_pem(&secret).map_err(|error| unusable(&key, error))?;
        builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, secret)));
    }
    Ok(builder.build())
}

fn unusable(path: &Path, error: ureq::Error) -> Error {
    Error::Io {
        action: "use",
        path: path.into(),
        offset: None,
        source: io::Error::other(error).into(),
        hint: Some("docker's client certificates are PEM: ca.pem, cert.pem, key.pem".into()),
    }
}

/// Resolves nothing, because a socket's path is not in the URL.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(([0, 0, 0, 0], 0).into());
        Ok(addresses)
    }
}

#[derive(Debug)]
struct UnixConnector {
    path: PathBuf,
    hangup: Hangup,
}

impl<In: Transport> Connector<In> for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<In>,
    ) -> Result<Option<UnixTransport>, ureq::Error> {
        let stream = UnixStream::connect(&self.path)?;
        let config = details.config;
        Ok(Some(UnixTransport {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            hangup: self.hangup.clone(),
        }))
    }
}

struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
    hangup: Hangup,
}

impl fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixTransport").finish_non_exhaustive()
    }
}

/// The remaining time in the form of sockets, where zero would mean no limit.
fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout
        .not_zero()
        .map(|left| (*left).max(Duration::from_millis(1)))
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if self.hangup.happened() {
            return Ok(());
        }
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(limit(timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        match (&self.stream).write_all(output) {
            Ok(()) => Ok(()),
            // The response to a refused stream is waiting to be read.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.hangup.0.store(true, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => Err(timed_out(error, timeout)),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(limit(timeout))?;
        let amount = loop {
            match (&self.stream).read(self.buffers.input_append_buf()) {
                Ok(amount) => break amount,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error, timeout)),
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are not kept: one for each request.
        false
    }
}
