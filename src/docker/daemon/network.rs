//! The network of the engine: listeners, proxies, and name lookup.
//!
//! Source: proc(5), `/proc/PID/net/tcp`; moby, `daemon/info.go`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use crate::docker::api::info::Info;
use crate::docker::daemon::process::Process;
use crate::net::environment::Environment;
use crate::net::proxy::Proxies;
use crate::serve::unprivileged_from;

/// The state of a listening socket.
const LISTEN: &str = "0A";
/// An unused address, to try ports on.
const TRIAL: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// The engine's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Network {
    /// Addresses with a listener. A listener on all of IPv6 that accepts IPv4 too is listed twice.
    pub listening: Vec<SocketAddr>,
    /// The engine's proxy for plain HTTP.
    pub http_proxy: String,
    /// Its proxy for HTTPS.
    pub https_proxy: String,
    /// Hosts that it reaches without a proxy.
    pub no_proxy: String,
    /// Its `nsswitch.conf`.
    pub nsswitch: String,
    /// Whether it sees another `/etc` than the services of the host.
    pub has_own_files: bool,
    /// The first port that every user can bind, if it is below the default.
    pub unprivileged_from: Option<u16>,
}

impl Network {
    /// Inspects it. Changes nothing.
    pub fn look(info: &Info, process: &Process) -> Network {
        Network {
            listening: listening(process),
            http_proxy: info.http_proxy.clone(),
            https_proxy: info.https_proxy.clone(),
            no_proxy: info.no_proxy.clone(),
            nsswitch: process.read("/etc/nsswitch.conf").unwrap_or_default(),
            has_own_files: process.has_own_files(),
            unprivileged_from: process
                .namespaces()
                .with_network(unprivileged_from)
                .unwrap_or_default(),
        }
    }

    /// Whether the port of an address has a listener.
    pub fn is_taken(&self, ip: IpAddr, port: u16) -> bool {
        self.listening.iter().any(|taken| {
            taken.port() == port
                && (taken.ip() == ip || (taken.ip().is_unspecified() && taken.is_ipv4() == ip.is_ipv4()))
        })
    }

    /// The proxy that the engine would use for `url`, if any.
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        let environment = Environment::default()
            .with("HTTP_PROXY", self.http_proxy.as_str())
            .with("HTTPS_PROXY", self.https_proxy.as_str())
            .with("NO_PROXY", self.no_proxy.as_str());
        match (Proxies::read(&environment), url.parse()) {
            (Ok(proxies), Ok(url)) => proxies.choose(&url).map(|proxy| proxy.host().to_string()),
            // A value that cannot be parsed here may be valid for the engine.
            _ => Some("of an address that cannot be read".into()),
        }
    }
}

/// The listeners in a process's network.
fn listening(process: &Process) -> Vec<SocketAddr> {
    let table = |name: &str| {
        let path = Path::new("/proc")
            .join(process.pid().to_string())
            .join("net")
            .join(name);
        listeners(&fs::read_to_string(path).unwrap_or_default())
    };
    let mut found = table("tcp");
    for six in table("tcp6") {
        let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), six.port());
        let is_known = found.contains(&four);
        found.push(six);
        // The table does not say whether it accepts IPv4, too.
        if six.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !is_known {
            let tried = process
                .namespaces()
                .with_network(|| TcpListener::bind((TRIAL, six.port())));
            let is_free = matches!(tried, Ok(Ok(_)));
            if !is_free {
                found.push(four);
            }
        }
    }
    found
}

/// Whether addresses of the loopback network can be used in a process's network.
///
/// # Errors
///
/// Why not.
pub fn try_loopback(process: &Process) -> io::Result<()> {
    // If the device is down, an address can be bound, but not reached.
    let reach = || TcpStream::connect(TcpListener::bind((TRIAL, 0))?.local_addr()?).map(drop);
    process.namespaces().with_network(reach)?
}

fn listeners(table: &str) -> Vec<SocketAddr> {
    let one = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (ip, port) = local.split_once(':')?;
        (state == LISTEN).then_some(())?;
        Some(SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?))
    };
    table.lines().skip(1).filter_map(one).collect()
}

/// Parses words of four bytes, each in the byte order of this machine.
fn address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn what_listens_is_read_from_the_kernels_table() {
        let four = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
            0: 0100007F:13CA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
            1: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
            2: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0\n";
        let found = listeners(four);
        assert_eq!(
            found,
            ["127.0.0.1:5066".parse().unwrap(), "0.0.0.0:443".parse().unwrap()]
        );
        let six = "head\n 0: 00000000000000000000000001000000:1388 0:0 0A x\n\
            1: 00000000000000000000000000000000:0050 0:0 0A x\n";
        let found = listeners(six);
        assert_eq!(found, ["[::1]:5000".parse().unwrap(), "[::]:80".parse().unwrap()]);
        assert_eq!(listeners("head\n0: zz:50 x 0A\nshort\n"), []);
    }

    #[test]
    fn a_port_of_every_address_is_a_port_of_each() {
        let network = Network {
            listening: ["0.0.0.0:443", "127.0.0.2:80", "[::]:5000"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            ..Network::default()
        };
        for (ip, port, is_taken) in [
            ("127.0.0.2", 443, true),
            ("127.0.0.2", 80, true),
            ("127.0.0.3", 80, false),
            ("::1", 443, false),
            ("::1", 5000, true),
            ("127.0.0.2", 5000, false),
        ] {
            assert_eq!(
                network.is_taken(ip.parse().unwrap(), port),
                is_taken,
                "{ip} {port}"
            );
        }
    }

    #[test]
    fn a_proxy_is_seen_unless_the_name_is_exempt() {
        let network = Network {
            http_proxy: "http://xxxxx:xxxxx@proxy:3128".into(),
            no_proxy: "localhost,.example.com,quay.io:80".into(),
            ..Network::default()
        };
        for (url, proxy) in [
            ("http://ghcr.io/v2/", Some("proxy")),
            ("https://ghcr.io/v2/", None),
            ("http://r.example.com/v2/", None),
            ("http://quay.io/v2/", None),
            ("http://quay.io:5000/v2/", Some("proxy")),
            ("http://127.0.0.1:5000/v2/", None),
        ] {
            assert_eq!(network.proxy_for(url).as_deref(), proxy, "{url}");
        }
        assert_eq!(Network::default().proxy_for("http://quay.io/"), None);
    }
}
