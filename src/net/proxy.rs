//! Proxies, by the rules of Go's `net/http`, which Docker and skopeo follow: `HTTPS_PROXY` for https,
//! `HTTP_PROXY` for http, `ALL_PROXY` if these are not set, and none for hosts in `NO_PROXY` and for loopback.
//!
//! Requests of both schemes use `CONNECT`.

use std::fmt;
use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::net::address::{Address, Network};

/// The proxies, and the hosts without one.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exempt: Vec<Exempt>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exempt {
    Everything,
    Network(Network),
    Ip(IpAddr, Option<u16>),
    /// A domain and its subdomains; `itself` is false for an entry that begins with a dot.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the proxies from an environment.
    ///
    /// # Errors
    ///
    /// A usage error names the variable with an invalid value.
    pub fn read(environment: &Environment) -> Result<Proxies> {
        let find = |names: [&'static str; 4]| -> Result<Option<Proxy>> {
            for name in names {
                let Some(value) = environment.get(name).filter(|value| !value.is_empty()) else {
                    continue;
                };
                // The value may contain a password, so it is not printed.
                let proxy = value.to_str().and_then(|text| Proxy::new(text.trim()).ok());
                return proxy.map(Some).ok_or_else(|| Error::Usage {
                    message: format!("the value of {name} is not a proxy's address"),
                    hint: Some("such as http://proxy.example:3128".into()),
                });
            }
            Ok(None)
        };
        let exempt = ["NO_PROXY", "no_proxy"]
            .iter()
            .find_map(|name| environment.get(name)?.to_str())
            .unwrap_or_default();
        Ok(Proxies {
            http: find(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
            https: find(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            exempt: exempt.split(',').filter_map(parse).collect(),
        })
    }

    /// The proxy for a URL.
    pub(crate) fn choose(&self, url: &Uri) -> Option<&Proxy> {
        let proxy = if url.scheme() == Some(&Scheme::HTTPS) {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }?;
        let address = Address::of(url)?;
        let direct = address.is_loopback() || self.exempt.iter().any(|entry| entry.covers(&address));
        (!direct).then_some(proxy)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |proxy: &Option<Proxy>| proxy.as_ref().map(|proxy| proxy.host().to_string());
        f.debug_struct("Proxies")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("exempt", &self.exempt)
            .finish()
    }
}

fn parse(entry: &str) -> Option<Exempt> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Exempt::Everything);
    }
    if let Ok(network) = entry.parse() {
        return Some(Exempt::Network(network));
    }
    if let Ok(ip) = entry.parse() {
        return Some(Exempt::Ip(ip, None));
    }
    let (text, itself) = match entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')) {
        Some(rest) => (rest, false),
        None => (entry.as_str(), true),
    };
    let address: Address = text.parse().ok()?;
    Some(match address.ip() {
        Some(ip) => Exempt::Ip(ip, address.port),
        None => Exempt::Domain {
            name: address.host,
            itself,
            port: address.port,
        },
    })
}

impl Exempt {
    fn covers(&self, address: &Address) -> bool {
        let on = |port: &Option<u16>| port.is_none() || *port == address.port;
        match self {
            Exempt::Everything => true,
            Exempt::Network(network) => address.ip().is_some_and(|ip| network.contains(ip)),
            Exempt::Ip(ip, port) => address.ip() == Some(*ip) && on(port),
            Exempt::Domain { name, itself, port } => {
                let below = address
                    .host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.') || (*itself && rest.is_empty()));
                below && on(port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn by_scheme_and_exemption() {
        let environment = Environment::default()
            .with("HTTPS_PROXY", "http://user:secret@secure.proxy:3128")
            .with("http_proxy", "plain.proxy:8080")
            .with(
                "NO_PROXY",
                "in.example, .sub.example,10.0.0.0/8,*.wild.example,192.0.2.1,p.example:8443",
            );
        let proxies = Proxies::read(&environment).unwrap();
        for (url, expected) in [
            ("https://quay.io/v2/", Some("secure.proxy")),
            ("http://quay.io/v2/", Some("plain.proxy")),
            ("https://localhost/v2/", None),
            ("http://127.0.0.1:5000/v2/", None),
            ("https://[::1]:5000/v2/", None),
            ("https://in.example/", None),
            ("https://x.in.example/", None),
            ("https://win.example/", Some("secure.proxy")),
            ("https://sub.example/", Some("secure.proxy")),
            ("https://x.sub.example/", None),
            ("https://a.wild.example/", None),
            ("https://10.2.3.4/", None),
            ("https://11.2.3.4/", Some("secure.proxy")),
            ("https://192.0.2.1:5000/", None),
            ("https://p.example:8443/", None),
            ("https://p.example/", Some("secure.proxy")),
        ] {
            let chosen = proxies.choose(&url.parse().unwrap());
            assert_eq!(chosen.map(Proxy::host), expected, "{url}");
        }
        assert!(!format!("{proxies:?}").contains("secret"));
    }

    #[test]
    fn other_variables() {
        let all = Environment::default().with("ALL_PROXY", "socks5://s.proxy");
        let proxies = Proxies::read(&all).unwrap();
        let url = "https://quay.io/".parse().unwrap();
        assert_eq!(proxies.choose(&url).map(Proxy::host), Some("s.proxy"));
        let none = Proxies::read(&all.with("NO_PROXY", "*")).unwrap();
        assert_eq!(none.choose(&url), None);
        let bad = Environment::default().with("HTTPS_PROXY", "gopher://user:secret@x");
        let error = Proxies::read(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("HTTPS_PROXY") && !error.to_string().contains("secret"));
    }
}
