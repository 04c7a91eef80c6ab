//! Whether a registry uses https or http.

use std::sync::PoisonError;

use ureq::http::StatusCode;
use ureq::http::uri::Scheme;

use super::client::{Client, Session, url};
use super::connect::lookup;
use super::failure::Failure;
use super::mirror::{DOCKER_HUB, Endpoint};
use super::transport::Request;
use crate::net::address::is_loopback;
use crate::registry::request_error::RequestError;

/// Largest part of the response to a ping that is read, in bytes.
const MAX_PONG: u64 = 4 << 10;

/// The result of [`Client::ping`].
pub(super) struct Pong {
    pub(super) status: StatusCode,
    pub(super) names_itself: bool,
    pub(super) text: String,
}

impl Client {
    /// Whether a registry uses https or http.
    ///
    /// It is https unless the user or the address allow http. Then an unauthenticated request finds out, so
    /// that no credential is sent before it is known.
    pub(super) fn scheme(&self, session: &Session, endpoint: &Endpoint) -> Result<Scheme, RequestError> {
        let mut known = session.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = &*known {
            return Ok(scheme.clone());
        }
        let address = &endpoint.address;
        let insecure = self.transport.trust.is_insecure(address);
        let scheme = if insecure || (address.is_loopback() && self.transport.trust.expects_tls(address)) {
            self.probe_https_first(endpoint)?
        } else if address.is_loopback() {
            self.probe_http_first(endpoint)?
        } else if self.leads_to_loopback(endpoint)? {
            self.probe_https_first(endpoint)?
        } else {
            Scheme::HTTPS
        };
        *known = Some(scheme.clone());
        Ok(scheme)
    }

    /// Whether a registry's name resolves to loopback. Docker accepts plain HTTP from such registries, and never from
    /// Docker Hub. A proxy resolves names itself.
    fn leads_to_loopback(&self, endpoint: &Endpoint) -> Result<bool, RequestError> {
        let address = &endpoint.address;
        let url = url(&Scheme::HTTPS, endpoint, "/v2/")?;
        if address.ip().is_some() || address.host == DOCKER_HUB || self.transport.is_proxied(&url) {
            return Ok(false);
        }
        // The request reports a name that is not found.
        let found = lookup(&address.host, self.transport.timeouts.connect);
        Ok(found.is_some_and(|found| !found.is_empty() && found.iter().all(is_loopback)))
    }

    /// Asks whether the API exists, without authentication.
    pub(super) fn ping(&self, endpoint: &Endpoint, scheme: &Scheme) -> Result<Pong, Failure> {
        let url =
            url(scheme, endpoint, "/v2/").map_err(|_| Failure::Location(endpoint.address.to_string()))?;
        let answer = self.transport.fetch(&Request::get(url, "*/*"))?;
        Ok(Pong {
            status: answer.status,
            names_itself: answer.headers.contains_key("docker-distribution-api-version"),
            text: String::from_utf8_lossy(&answer.text(MAX_PONG)).into_owned(),
        })
    }

    fn probe_https_first(&self, endpoint: &Endpoint) -> Result<Scheme, RequestError> {
        let failure = match self.ping(endpoint, &Scheme::HTTPS) {
            Ok(_) => return Ok(Scheme::HTTPS),
            Err(failure) => failure,
        };
        let may_be_plain = match &failure {
            Failure::NoTls(_) | Failure::Cut(_) | Failure::Tls(..) => true,
            // Another port is tried over plain HTTP.
            failure => endpoint.address.port.is_none() && failure.is_transient(),
        };
        if may_be_plain && self.ping(endpoint, &Scheme::HTTP).is_ok() {
            return Ok(Scheme::HTTP);
        }
        Err(RequestError::of(failure, endpoint, ""))
    }

    fn probe_http_first(&self, endpoint: &Endpoint) -> Result<Scheme, RequestError> {
        let (is_https, failure) = match self.ping(endpoint, &Scheme::HTTP) {
            // The response of Go and nginx to plain HTTP on an HTTPS port.
            Ok(pong) if pong.status == StatusCode::BAD_REQUEST => (pong.text.contains("HTTPS"), None),
            Ok(_) => (false, None),
            Err(failure @ (Failure::NotHttp(..) | Failure::Cut(_))) => {
                let answer = self.ping(endpoint, &Scheme::HTTPS);
                let is_https = matches!(
                    answer,
                    Ok(_) | Err(Failure::Untrusted(..) | Failure::UnknownIssuer { .. })
                );
                (is_https, Some(failure))
            }
            Err(failure) => (false, Some(failure)),
        };
        match failure {
            _ if is_https => Ok(Scheme::HTTPS),
            Some(failure) => Err(RequestError::of(failure, endpoint, "")),
            None => Ok(Scheme::HTTP),
        }
    }
}
