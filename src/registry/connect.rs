//! How connections are made: name lookup, TCP, proxies, and TLS with a configuration for each host.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::tls::Trust;
use crate::net::address::Address;

/// A host's name could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NameError(io::Error);

/// Looks names up as the system does, and distinguishes a failure from other I/O errors.
#[derive(Debug, Default)]
pub(super) struct Names(DefaultResolver);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(error) => ureq::Error::Other(Box::new(NameError(error))),
            other => other,
        })
    }
}

/// The addresses of a host's name, if they are found in time.
pub(super) fn lookup(host: &str, limit: Duration) -> Option<Vec<IpAddr>> {
    let (sender, found) = mpsc::sync_channel(1);
    let name = host.to_string();
    let look = move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        // Where nobody waits any more, it came too late.
        let _ = sender.send(found.map(|found| found.map(|address| address.ip()).collect()));
    };
    thread::Builder::new().spawn(look).ok()?;
    found.recv_timeout(limit).ok()?.ok()
}

thread_local! {
    /// Deadline for the current read of a body by this thread.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reads from a body. A read that returns nothing within `limit` fails, whatever else the other side sends:
/// endless trailers are not content.
pub(super) fn read_within(limit: Duration, body: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    END.set(Instant::now().checked_add(limit));
    let outcome = body.read(buffer);
    END.set(None);
    outcome
}

/// Makes connections respect [`read_within`].
#[derive(Debug)]
pub(super) struct LimitConnector;

impl<In: Transport> Connector<In> for LimitConnector {
    type Out = LimitTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(LimitTransport))
    }
}

/// A connection that respects [`read_within`].
#[derive(Debug)]
pub(super) struct LimitTransport<In>(In);

impl<In: Transport> Transport for LimitTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if END.get().is_some_and(|end| Instant::now() >= end) {
            return Err(ureq::Error::Timeout(ureq::Timeout::PerRead));
        }
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// Wraps a connection in TLS if the URL is https.
#[derive(Debug)]
pub(super) struct TlsConnector(pub(super) Arc<Trust>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let address = Address::of(details.uri).ok_or_else(|| ureq::Error::BadUri(details.uri.to_string()))?;
        let config = self
            .0
            .config(&address)
            .map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let name = ServerName::try_from(address.host).map_err(|_| ureq::Error::Tls("not a host's name"))?;
        let mut session = ClientConnection::new(config, name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsTransport {
            buffers,
            stream: StreamOwned::new(session, socket),
        })))
    }
}

/// A connection over TLS.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}
