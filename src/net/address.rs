//! Addresses of registries: host and port, and sets of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// A host, with a port if one is given. The host is in lower case, an IPv6 address without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port, if it is given.
    pub port: Option<u16>,
}

impl Address {
    /// Whether this is this machine, judged by the name alone. Names are not looked up.
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => is_loopback(&ip),
            None => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// The IP address, if the host is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The host and port of a URL; the port is always set.
    pub(crate) fn of(url: &Uri) -> Option<Address> {
        let host = url.host()?;
        let host = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let default = if url.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        Some(Address {
            host: host.to_ascii_lowercase(),
            port: Some(url.port_u16().unwrap_or(default)),
        })
    }
}

/// Whether an address is this machine's own.
pub(crate) fn is_loopback(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        IpAddr::V4(ip) => ip.is_loopback(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Why text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a registry's address: {reason}")]
pub struct AddressError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn error(text: &str, reason: &'static str) -> AddressError {
    AddressError {
        text: text.into(),
        reason,
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| error(text, "no closing ']'"))?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| error(text, "not an IPv6 address in the brackets"))?;
                let port = match port.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if port.is_empty() => None,
                    None => return Err(error(text, "expected ':' and a port")),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if host.is_empty() || !host.chars().all(allowed) {
            return Err(error(text, "a host has letters, digits, '.' and '-'"));
        }
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| error(text, "not a port"))?)
            }
            Some(_) => return Err(error(text, "a port has digits only")),
        };
        Ok(Address {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// A network in CIDR form, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

impl Network {
    /// Whether the network contains an address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                base.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                base.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Network, AddressError> {
        let parsed = text.split_once('/').and_then(|(base, bits)| {
            let base: IpAddr = base.parse().ok()?;
            let bits: u32 = bits.parse().ok()?;
            (bits <= if base.is_ipv4() { 32 } else { 128 }).then_some(Network { base, bits })
        });
        parsed.ok_or_else(|| error(text, "not a network such as 10.0.0.0/8"))
    }
}

/// Registries for which plain HTTP and unverified TLS are allowed, as in Docker's `insecure-registries`: a host
/// on any port, a host and port, or a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insecure {
    /// One host; without a port, on any port.
    Host(Address),
    /// Every registry that is named by an IP address in this network.
    Network(Network),
}

impl Insecure {
    /// Whether this includes a registry.
    pub fn covers(&self, address: &Address) -> bool {
        match self {
            Insecure::Host(host) => {
                host.host == address.host && (host.port.is_none() || host.port == address.port)
            }
            Insecure::Network(network) => address.ip().is_some_and(|ip| network.contains(ip)),
        }
    }
}

impl FromStr for Insecure {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Insecure, AddressError> {
        if text.contains('/') {
            return Ok(Insecure::Network(text.parse()?));
        }
        Ok(Insecure::Host(text.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("Quay.io", "quay.io", None),
            ("h:5000", "h", Some(5000)),
            ("[::1]:5000", "::1", Some(5000)),
            ("[fe80::1]", "fe80::1", None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text.to_lowercase());
        }
        for text in [
            "", ":1", "h:", "h:99999", "h:-1", "[::1", "[x]", "[::1]x", "a/b", "a@b", "h:1:2",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_by_its_name_only() {
        for (text, expected) in [
            ("localhost:5000", true),
            ("x.localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9:80", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("128.0.0.1", false),
            ("notlocalhost", false),
            ("127.0.0.1.example.org", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn insecure_as_in_docker() {
        for (text, address, expected) in [
            ("h.io", "h.io", true),
            ("h.io", "h.io:5000", true),
            ("h.io:5000", "h.io:5000", true),
            ("h.io:5000", "h.io", false),
            ("h.io", "x.h.io", false),
            ("10.0.0.0/8", "10.1.2.3:80", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "ten.example", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("fd00::/8", "10.0.0.1", false),
        ] {
            let set: Insecure = text.parse().unwrap();
            assert_eq!(
                set.covers(&address.parse().unwrap()),
                expected,
                "{text} {address}"
            );
        }
        assert!("10.0.0.0/33".parse::<Insecure>().is_err());
    }
}
