//! The host at which the engine looks for a registry, and whether its name can be redirected here. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::file::is_asked_first;
use super::infrastructure;
use crate::docker::daemon::network::Network;
use crate::error::Remedy;
use crate::load::Obstacle;
use crate::serve::privileged_again;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// The addresses to which names are redirected; the first is for the host itself.
const LOOPBACK: std::ops::RangeInclusive<u8> = 2..=254;

/// A registry's host and port, as the engine parses them from a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHost {
    /// The host, in lower case.
    pub host: String,
    /// The port, if the name has one.
    port: Option<u16>,
    /// Its address, if the name is one of this host.
    pub loopback: Option<IpAddr>,
}

impl RegistryHost {
    /// Parses `host[:port]`.
    ///
    /// # Errors
    ///
    /// If no entry of `/etc/hosts` could redirect it.
    pub fn of(domain: &str) -> Result<RegistryHost, Obstacle> {
        let (host, port) = match domain.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (domain, None),
            },
            _ => (domain, None),
        };
        let host = host.to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let ip = bare.unwrap_or(&host).parse::<IpAddr>().ok();
        let loopback = match ip {
            _ if host == "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            Some(ip) if ip.is_loopback() => Some(ip),
            Some(ip) => {
                return Err(Obstacle::new(
                    format!("{ip} is an address, so the engine looks up no name"),
                    "",
                ));
            }
            None if infrastructure::contains(&host) => {
                return Err(Obstacle::new(
                    format!("{host} belongs to a registry's infrastructure and is never redirected"),
                    Remedy::RenameToRegistry,
                ));
            }
            None => None,
        };
        Ok(RegistryHost { host, port, loopback })
    }

    /// The port that the engine finally uses: it tries HTTPS, is refused, and continues with plain HTTP.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(HTTP)
    }

    /// The port of HTTPS, if it is another one, which must refuse connections.
    pub fn refusing(&self) -> Option<u16> {
        self.port.is_none().then_some(HTTPS)
    }

    /// Checks that this process can serve it on this host.
    ///
    /// # Errors
    ///
    /// What prevents it.
    pub fn check(&self, network: &Network) -> Result<(), Obstacle> {
        if let Some(loopback) = self.loopback {
            return self.check_loopback(loopback, network);
        }
        for scheme in ["http", "https"] {
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            if let Some(proxy) = network.proxy_for(&format!("{scheme}://{}{port}/v2/", self.host)) {
                return Err(Obstacle::new(
                    format!("the engine asks the proxy {proxy} for {}", self.host),
                    format!("add {} to NO_PROXY of the engine", self.host),
                ));
            }
        }
        is_asked_first(&network.nsswitch, network.has_own_files, &self.host)?;
        self.check_privileged(network)?;
        let everywhere: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        for port in [Some(self.port()), self.refusing()].into_iter().flatten() {
            if network.is_taken(everywhere, port) {
                return Err(taken("every address", port));
            }
        }
        match address(std::slice::from_ref(self), network).next() {
            Some(_) => Ok(()),
            None => Err(taken("every loopback address", self.port())),
        }
    }

    /// If a load is killed, the name is redirected until that is undone, so no user but root may be able to
    /// answer. A port in the name itself cannot be changed.
    fn check_privileged(&self, network: &Network) -> Result<(), Obstacle> {
        let (Some(first), Some(refusing)) = (network.unprivileged_from, self.refusing()) else {
            return Ok(());
        };
        let ports = [self.port(), refusing];
        let Some(port) = ports.into_iter().find(|port| *port >= first) else {
            return Ok(());
        };
        Err(Obstacle::new(
            format!(
                "every user can bind port {port} where dockerd runs, and answer for {} if this is interrupted",
                self.host
            ),
            privileged_again(),
        ))
    }

    fn check_loopback(&self, loopback: IpAddr, network: &Network) -> Result<(), Obstacle> {
        // A name with both addresses may be reached at either.
        let six = (self.host == "localhost").then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        for ip in std::iter::once(loopback).chain(six) {
            for port in [Some(self.port()), self.refusing()].into_iter().flatten() {
                if network.is_taken(ip, port) {
                    return Err(Obstacle::new(
                        format!(
                            "something listens on port {port} of {ip} already, which the engine would ask"
                        ),
                        format!(
                            "if it is a registry, push the image there and pull it by its digest; else stop it \
                             while loading (ss -ltnp 'sport = :{port}' shows it)"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn taken(host: &str, port: u16) -> Obstacle {
    let why = if port == HTTPS {
        "the engine would speak HTTPS with it and not go on to plain HTTP"
    } else {
        "so the manifests cannot be served there"
    };
    Obstacle::new(
        format!("something listens on port {port} of {host}: {why}"),
        format!("stop it while loading (ss -ltnp 'sport = :{port}' shows it)"),
    )
}

/// Loopback addresses at which all of these registries can be served, as far as is known.
pub fn address<'a>(hosts: &'a [RegistryHost], network: &'a Network) -> impl Iterator<Item = Ipv4Addr> + 'a {
    let addresses = LOOPBACK.map(|last| Ipv4Addr::new(127, 0, 0, last));
    addresses.filter(|ip| {
        let mut ports = hosts.iter().flat_map(|host| [Some(host.port()), host.refusing()]);
        !ports.any(|port| port.is_some_and(|port| network.is_taken((*ip).into(), port)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(listening: &[&str], http_proxy: &str, no_proxy: &str) -> Network {
        Network {
            listening: listening.iter().map(|text| text.parse().unwrap()).collect(),
            http_proxy: http_proxy.into(),
            no_proxy: no_proxy.into(),
            ..Network::default()
        }
    }

    fn lowered(first: u16) -> Network {
        Network {
            unprivileged_from: Some(first),
            ..Network::default()
        }
    }

    #[test]
    fn names_are_read_as_the_engine_reads_them() {
        for (domain, name, port, loopback, refusing) in [
            ("quay.io", "quay.io", 80, None, Some(443)),
            (
                "Registry.Example.com:5000",
                "registry.example.com",
                5000,
                None,
                None,
            ),
            ("localhost", "localhost", 80, Some("127.0.0.1"), Some(443)),
            ("localhost:5000", "localhost", 5000, Some("127.0.0.1"), None),
            ("127.0.0.1:5000", "127.0.0.1", 5000, Some("127.0.0.1"), None),
            ("[::1]:5000", "[::1]", 5000, Some("::1"), None),
        ] {
            let host = RegistryHost::of(domain).unwrap();
            assert_eq!(
                (host.host.as_str(), host.port(), host.refusing()),
                (name, port, refusing)
            );
            assert_eq!(host.loopback, loopback.map(|ip| ip.parse().unwrap()), "{domain}");
        }
        for domain in ["auth.docker.io", "Registry-1.docker.io:443", "cdn.quay.io"] {
            let obstacle = RegistryHost::of(domain).unwrap_err();
            assert!(
                obstacle.reason.contains("a registry's infrastructure"),
                "{obstacle}"
            );
        }
        for domain in ["10.0.0.5:5000", "[fd00::1]", "192.168.0.1"] {
            assert!(
                RegistryHost::of(domain)
                    .unwrap_err()
                    .reason
                    .contains("is an address"),
                "{domain}"
            );
        }
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let proxy = "http://proxy:3128";
        for (domain, network, says) in [
            ("quay.io", network(&[], "", ""), None),
            (
                "quay.io",
                network(&["127.0.0.2:80", "127.0.0.3:443", "[::]:443"], "", ""),
                None,
            ),
            (
                "quay.io",
                network(&["0.0.0.0:443"], "", ""),
                Some("port 443 of every address: the engine would"),
            ),
            (
                "quay.io",
                network(&["0.0.0.0:80"], "", ""),
                Some("port 80 of every address: so the"),
            ),
            (
                "r.example:5000",
                network(&["0.0.0.0:443", "0.0.0.0:80"], "", ""),
                None,
            ),
            (
                "r.example:5000",
                network(&["0.0.0.0:5000"], "", ""),
                Some("port 5000 of every address"),
            ),
            (
                "quay.io",
                network(&[], proxy, ""),
                Some("asks the proxy proxy for quay.io"),
            ),
            ("quay.io", network(&[], proxy, "quay.io"), None),
            ("127.0.0.1:5000", network(&[], proxy, ""), None),
            (
                "127.0.0.1:5000",
                network(&["127.0.0.1:5000"], "", ""),
                Some("port 5000 of 127.0.0.1 already"),
            ),
            ("quay.io", lowered(444), None),
            ("quay.io", lowered(443), Some("bind port 443 where")),
            ("quay.io", lowered(80), Some("bind port 80 where")),
            ("r.example:5000", lowered(0), None),
            ("localhost", lowered(0), None),
            (
                "127.0.0.1:5000",
                network(&["0.0.0.0:5000"], "", ""),
                Some("already"),
            ),
            ("127.0.0.1:5000", network(&["0.0.0.0:443"], "", ""), None),
            (
                "localhost",
                network(&["127.0.0.1:443"], "", ""),
                Some("port 443 of 127.0.0.1"),
            ),
            (
                "localhost:5000",
                network(&["[::1]:5000"], "", ""),
                Some("port 5000 of ::1"),
            ),
        ] {
            let found = RegistryHost::of(domain).unwrap().check(&network);
            match says {
                None => assert_eq!(found, Ok(()), "{domain} {network:?}"),
                Some(says) => {
                    let obstacle = found.unwrap_err();
                    assert!(obstacle.reason.contains(says), "{domain}: {obstacle}");
                    assert!(obstacle.hint.is_some());
                }
            }
        }
    }

    #[test]
    fn an_address_is_chosen_that_serves_all() {
        let hosts = ["quay.io", "r.example:5000"].map(|domain| RegistryHost::of(domain).unwrap());
        let network = network(&["127.0.0.2:5000", "127.0.0.3:443", "127.0.0.4:80"], "", "");
        let first = address(&hosts, &network).next();
        assert_eq!(first, Some(Ipv4Addr::new(127, 0, 0, 5)));
    }
}
