//! What can go wrong on the way to a registry, each with its own message.

use std::io;

use rustls::{AlertDescription, CertificateError};
use ureq::Timeout;

use super::connect::NameError;
use super::tls::ConfigError;
use crate::error::{Error, Hint, Remedy};
use crate::escape::Escaped;

/// Why a request got no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The host's name is not known.
    Name(String),
    Refused(String),
    /// No route, no network.
    Unreachable(String, String),
    ConnectTimeout(String),
    IdleTimeout(String),
    /// The connection broke off.
    Cut(String),
    /// The host's certificate is not trusted.
    Untrusted(String, String),
    /// No CA that is trusted has signed the host's certificate.
    UnknownIssuer {
        host: String,
        /// Whether the options name CAs.
        has_given: bool,
    },
    /// The host does not speak TLS where that was expected.
    NoTls(String),
    /// TLS failed for another reason.
    Tls(String, String),
    /// The host requires a client certificate, or another one.
    ClientCertificate(String),
    Proxy(String),
    /// The response is not HTTP.
    NotHttp(String, String),
    Location(String),
    Downgrade(String),
    Redirects,
    /// A local problem, such as an unreadable certificate.
    Local(Error),
}

impl Failure {
    /// Interprets an error of a request to `host`.
    pub(super) fn of(error: ureq::Error, host: &str) -> Failure {
        let host = host.to_string();
        match error {
            ureq::Error::Timeout(Timeout::Resolve) => Failure::Name(host),
            ureq::Error::Timeout(Timeout::Connect) => Failure::ConnectTimeout(host),
            ureq::Error::Timeout(_) => Failure::IdleTimeout(host),
            ureq::Error::HostNotFound => Failure::Name(host),
            ureq::Error::Rustls(error) => Failure::of_tls(&error, host),
            ureq::Error::ConnectProxyFailed(reason) => Failure::Proxy(reason),
            ureq::Error::Io(error) => Failure::of_io(error, host),
            ureq::Error::Other(error) => match error.downcast::<ConfigError>() {
                Ok(error) => match *error {
                    ConfigError::Local(error) => Failure::Local(error),
                    ConfigError::Tls(error) => Failure::of_tls(&error, host),
                },
                Err(error) if error.is::<NameError>() => Failure::Name(host),
                Err(error) => Failure::NotHttp(host, error.to_string()),
            },
            other => Failure::NotHttp(host, other.to_string()),
        }
    }

    /// The same through a proxy: a failed connection is one to the proxy.
    pub(super) fn of_proxied(error: ureq::Error, host: &str, proxy: &str) -> Failure {
        match Failure::of(error, host) {
            Failure::Name(_) => Failure::Proxy(Failure::Name(proxy.into()).text()),
            Failure::Refused(_) => Failure::Proxy(Failure::Refused(proxy.into()).text()),
            Failure::Unreachable(_, reason) => {
                Failure::Proxy(Failure::Unreachable(proxy.into(), reason).text())
            }
            Failure::ConnectTimeout(_) => Failure::Proxy(Failure::ConnectTimeout(proxy.into()).text()),
            other => other,
        }
    }

    /// As [`Failure::of`], for an error while reading a body.
    pub(super) fn of_io(error: io::Error, host: String) -> Failure {
        use io::ErrorKind as Kind;
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<ureq::Error>() || inner.is::<rustls::Error>())
        {
            let Some(inner) = error.into_inner() else {
                return Failure::Cut(host);
            };
            return match inner.downcast::<ureq::Error>() {
                Ok(error) => Failure::of(*error, &host),
                Err(inner) => match inner.downcast::<rustls::Error>() {
                    Ok(error) => Failure::of_tls(&error, host),
                    Err(inner) => Failure::NotHttp(host, inner.to_string()),
                },
            };
        }
        match error.kind() {
            Kind::ConnectionRefused => Failure::Refused(host),
            Kind::TimedOut | Kind::WouldBlock => Failure::IdleTimeout(host),
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                Failure::Unreachable(host, error.to_string())
            }
            _ => Failure::Cut(host),
        }
    }

    fn of_tls(error: &rustls::Error, host: String) -> Failure {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Failure::UnknownIssuer {
                host,
                has_given: false,
            },
            rustls::Error::InvalidCertificate(reason) => Failure::Untrusted(host, reason_of(reason)),
            rustls::Error::InvalidMessage(_) => Failure::NoTls(host),
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied,
            ) => Failure::ClientCertificate(host),
            other => Failure::Tls(host, other.to_string()),
        }
    }

    /// The same, if the options name CAs.
    pub(super) fn with_given_cas(self) -> Failure {
        match self {
            Failure::UnknownIssuer { host, .. } => Failure::UnknownIssuer {
                host,
                has_given: true,
            },
            other => other,
        }
    }

    /// Whether the same request may succeed in a retry.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Failure::Name(_)
                | Failure::Refused(_)
                | Failure::Unreachable(..)
                | Failure::ConnectTimeout(_)
                | Failure::IdleTimeout(_)
                | Failure::Cut(_)
                | Failure::Proxy(_)
        )
    }

    /// Whether nothing answered, which a retry rarely changes unless it answered before.
    pub(super) fn is_absence(&self) -> bool {
        matches!(
            self,
            Failure::Name(_) | Failure::Refused(_) | Failure::Unreachable(..)
        )
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Failure::Name(host) => format!("check the name {host} and this machine's DNS").into(),
            Failure::Refused(host) => format!("nothing listens at {host}: check the host and port").into(),
            Failure::UnknownIssuer {
                host,
                has_given: true,
            } => Remedy::OtherCa(without_https_port(host).into()).into(),
            Failure::Untrusted(host, _) | Failure::UnknownIssuer { host, .. } => {
                Remedy::TrustCa(without_https_port(host).into()).into()
            }
            Failure::NoTls(host) => Remedy::AllowInsecure(without_https_port(host).into()).into(),
            Failure::ClientCertificate(_) => Remedy::ClientCertificate.into(),
            Failure::ConnectTimeout(_) => "check the address, a firewall, or HTTPS_PROXY".into(),
            Failure::Proxy(_) => "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY".into(),
            _ => return None,
        })
    }

    fn text(&self) -> String {
        match self {
            Failure::Name(host) => format!("the name {host} cannot be resolved"),
            Failure::Refused(host) => format!("{host} refused the connection"),
            Failure::Unreachable(host, reason) => format!("{host} cannot be reached: {reason}"),
            Failure::ConnectTimeout(host) => format!("{host} did not take the connection in time"),
            Failure::IdleTimeout(host) => format!("{host} stopped sending: no data within the idle timeout"),
            Failure::Cut(host) => format!("{host} closed the connection before the end"),
            Failure::Untrusted(host, reason) => {
                format!("the TLS certificate of {host} is not trusted: {reason}")
            }
            Failure::UnknownIssuer { host, .. } => {
                format!("the TLS certificate of {host} is not trusted: its issuer is unknown")
            }
            Failure::NoTls(host) => format!("{host} answers in plain HTTP where HTTPS was expected"),
            Failure::Tls(host, reason) => format!("TLS with {host} failed: {}", Escaped(reason)),
            Failure::ClientCertificate(host) => {
                format!("{host} asks for a client certificate, or does not accept the one it got")
            }
            Failure::Proxy(reason) => format!("the proxy failed: {}", Escaped(reason)),
            Failure::NotHttp(host, reason) => {
                format!("the answer of {host} is not HTTP: {}", Escaped(reason))
            }
            Failure::Location(host) => format!("{host} redirects to something that is not a URL"),
            Failure::Downgrade(host) => {
                format!("a redirect leads from https to http on {host}, which is refused")
            }
            Failure::Redirects => "more than 10 redirects".into(),
            Failure::Local(error) => error.to_string(),
        }
    }

    /// The error for people. The caller, who knows the number of attempts, keeps or clears `transient`.
    pub(super) fn into_error(self, registry: &str, subject: &str, transient: bool) -> Error {
        if let Failure::Local(error) = self {
            return error;
        }
        Error::Registry {
            registry: registry.into(),
            subject: subject.into(),
            problem: self.text(),
            hint: self.hint(),
            transient,
        }
    }
}

/// A host as certificates and options name it.
fn without_https_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

fn reason_of(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check this machine's clock".into()
        }
        CertificateError::NotValidForName => "it is for another name".into(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            format!("it is for other names: {}", Escaped(&names))
        }
        CertificateError::Revoked => "it was revoked".into(),
        CertificateError::BadSignature => "its signature is wrong".into(),
        CertificateError::BadEncoding => "it is malformed".into(),
        // What the verifier has no name for, as it is written in code: `Other(OtherError(CaUsedAsEndEntity))`.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is a CA's own certificate, not a server's: the server needs another one".into()
        }
        other => {
            let text = format!("{other:?}");
            let cause = text
                .trim_start_matches("Other(")
                .trim_start_matches("OtherError(");
            Escaped(cause.trim_end_matches(')')).to_string()
        }
    }
}
