//! Mirrors: other hosts that have a registry's content.
//!
//! A mirror's content is verified by digest like any other, so it need not be trusted for a name with a digest.
//! The digest of a *tag* is what the first host that answers says.

use std::str::FromStr;

use crate::error::{Hint, Remedy};
use crate::net::address::Address;
use crate::oci::Repository;
use crate::oci::reference::DEFAULT_DOMAIN;

/// The host of Docker Hub's API.
pub(super) const DOCKER_HUB: &str = "registry-1.docker.io";

/// A host that has another registry's repositories, possibly below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry whose content it has, as in references: `docker.io`.
    pub upstream: String,
    /// Its address.
    pub address: Address,
    /// The path before the repository; may be empty.
    pub prefix: String,
}

/// Why text is not a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mirror: {reason}; an example is docker.io=harbor.local/dockerhub")]
pub struct MirrorError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<Hint>,
}

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Mirror, MirrorError> {
        let error = |reason: String| MirrorError {
            text: text.into(),
            reason,
            hint: None,
        };
        let (upstream, place) = text
            .split_once('=')
            .ok_or_else(|| error("expected REGISTRY=HOST[/PREFIX]".into()))?;
        if let Some(plain) = place.strip_prefix("http://") {
            return Err(MirrorError {
                hint: Some(Remedy::AllowInsecure(plain.split('/').next().unwrap_or(plain).into()).into()),
                ..error("give the host without http://".into())
            });
        }
        let place = place.strip_prefix("https://").unwrap_or(place);
        let (host, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && format!("h.io/{prefix}").parse::<Repository>().is_err() {
            return Err(error(format!("{prefix:?} cannot stand before a repository")));
        }
        let upstream: Address = upstream
            .parse()
            .map_err(|reason: crate::net::address::AddressError| error(reason.to_string()))?;
        Ok(Mirror {
            upstream: match upstream.to_string().as_str() {
                "index.docker.io" | DOCKER_HUB => DEFAULT_DOMAIN.into(),
                other => other.into(),
            },
            address: host
                .parse()
                .map_err(|reason: crate::net::address::AddressError| error(reason.to_string()))?,
            prefix: prefix.into(),
        })
    }
}

/// One host to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its name in messages.
    pub(super) name: String,
    /// The name under which its credentials are stored: a host as in references.
    pub(super) account: String,
    /// Its address.
    pub(super) address: Address,
    /// The repository's name on it.
    pub(super) path: String,
    /// Whether it is not the registry in the reference.
    pub(super) is_mirror: bool,
}

impl Endpoint {
    /// The registry in a reference.
    pub(super) fn of(repository: &Repository) -> Endpoint {
        let domain = repository.domain().to_ascii_lowercase();
        let host = match domain.as_str() {
            DEFAULT_DOMAIN => DOCKER_HUB,
            domain => domain,
        };
        // A reference's host is always an address; otherwise connecting returns the error.
        let address = host.parse().unwrap_or_else(|_| Address {
            host: host.into(),
            port: None,
        });
        Endpoint {
            name: domain.clone(),
            account: domain,
            address,
            path: repository.path().into(),
            is_mirror: false,
        }
    }
}

/// The hosts of a repository: its mirrors in order, then the registry itself.
pub(super) fn endpoints(mirrors: &[Mirror], repository: &Repository) -> Vec<Endpoint> {
    let domain = repository.domain().to_ascii_lowercase();
    let mut places: Vec<Endpoint> = mirrors
        .iter()
        .filter(|mirror| mirror.upstream == domain)
        .map(|mirror| Endpoint {
            name: format!("mirror {}", mirror.address),
            account: mirror.address.to_string(),
            address: mirror.address.clone(),
            path: match mirror.prefix.as_str() {
                "" => repository.path().into(),
                prefix => format!("{prefix}/{}", repository.path()),
            },
            is_mirror: true,
        })
        .collect();
    places.push(Endpoint::of(repository));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_in_order_then_upstream() {
        let mirrors: Vec<Mirror> = [
            "docker.io=harbor.local/dockerhub",
            "index.docker.io=https://m.local:5000/",
            "quay.io=q.local",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let places: Vec<(String, String, bool)> = endpoints(&mirrors, &"httpd".parse().unwrap())
            .into_iter()
            .map(|place| (place.address.to_string(), place.path, place.is_mirror))
            .collect();
        let expected = [
            ("harbor.local", "dockerhub/library/httpd", true),
            ("m.local:5000", "library/httpd", true),
            ("registry-1.docker.io", "library/httpd", false),
        ];
        assert_eq!(
            places,
            expected.map(|(a, b, c)| (a.to_string(), b.to_string(), c))
        );
        let quay = endpoints(&mirrors, &"quay.io/a/b".parse().unwrap());
        assert_eq!(quay.len(), 2);
        assert_eq!(quay[0].account, "q.local");
        assert_eq!(endpoints(&mirrors, &"ghcr.io/a/b".parse().unwrap()).len(), 1);
    }

    #[test]
    fn refuses_other_forms() {
        for (text, says) in [
            ("harbor.local", "expected REGISTRY=HOST"),
            ("docker.io=http://h", "without http://"),
            ("docker.io=h/../x", "cannot stand before"),
            ("docker.io=h/UPPER", "cannot stand before"),
            ("docker.io=h:x", "a port has digits"),
            ("=h", "a host has"),
        ] {
            let error = text.parse::<Mirror>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let plain = "docker.io=http://h:80/x".parse::<Mirror>().unwrap_err();
        assert_eq!(plain.hint, Some(Remedy::AllowInsecure("h:80".into()).into()));
    }
}
