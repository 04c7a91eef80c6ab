//! Where the engine is: `DOCKER_HOST`, contexts, or the default socket.
//!
//! Source: docker/cli, `cli/command/cli.go` (`resolveContextName`) and `cli/context/store` (the folders
//! `contexts/meta/<sha256 of the name>` and `contexts/tls/<sha256 of the name>/docker`); moby,
//! `client/envvars.go`.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::dir;
use crate::error::{Error, Result};
use crate::oci::{Digest, json};

/// The socket of a stock installation.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Largest settings file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// The context that means the environment and the default socket.
const DEFAULT_CONTEXT: &str = "default";

/// The environment variables about the engine.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub config: Option<PathBuf>,
    /// `DOCKER_CERT_PATH`.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY`, set to anything.
    pub tls_verify: bool,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_process() -> Environment {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let home = text("HOME").map(|home| Path::new(&home).join(".docker"));
        Environment {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            config: text("DOCKER_CONFIG").map(PathBuf::from).or(home),
            cert_path: text("DOCKER_CERT_PATH").map(PathBuf::from),
            tls_verify: text("DOCKER_TLS_VERIFY").is_some(),
        }
    }
}

/// Where to connect to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this host.
    Unix(PathBuf),
    /// A host over TCP.
    Tcp {
        /// Host and port.
        authority: String,
        /// TLS, if it is used.
        tls: Option<Tls>,
    },
}

/// TLS to an engine: Docker's mutual certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The folder with `ca.pem`, `cert.pem`, `key.pem`; each may be absent.
    pub folder: PathBuf,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "docker at unix://{}", path.display()),
            Endpoint::Tcp { authority, .. } => write!(f, "docker at tcp://{authority}"),
        }
    }
}

impl Environment {
    /// The setting that names the endpoint, such as `DOCKER_HOST`; `None` if it is that of a stock installation.
    ///
    /// # Errors
    ///
    /// If docker's `config.json` cannot be read.
    pub fn named_by(&self) -> Result<Option<String>> {
        if self.host.is_some() {
            return Ok(Some("DOCKER_HOST".into()));
        }
        let (context, by) = match &self.context {
            Some(name) => (Some(name.clone()), "DOCKER_CONTEXT"),
            None => (current_context(self)?, "docker's current context"),
        };
        let is_named = self.config.is_some() && context.is_some_and(|name| name != DEFAULT_CONTEXT);
        Ok(is_named.then(|| by.into()))
    }
}

impl Endpoint {
    /// Finds the endpoint like docker's own client: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the current
    /// context of `config.json`, then the default socket.
    ///
    /// # Errors
    ///
    /// An invalid or unsupported address, or a context that does not exist.
    pub fn find(environment: &Environment) -> Result<Endpoint> {
        if let Some(host) = &environment.host {
            return Endpoint::parse(host, "DOCKER_HOST", environment_tls(environment));
        }
        let context = match &environment.context {
            Some(name) => Some(name.clone()),
            None => current_context(environment)?,
        };
        match (context, &environment.config) {
            (Some(name), Some(config)) if name != DEFAULT_CONTEXT => from_context(config, &name),
            _ => Ok(Endpoint::Unix(DEFAULT_SOCKET.into())),
        }
    }

    /// Parses an address such as `unix:///run/docker.sock` or `tcp://10.0.0.5:2376`.
    fn parse(address: &str, origin: &str, tls: Option<Tls>) -> Result<Endpoint> {
        let usage = |message: String, hint: &'static str| {
            Err(Error::Usage {
                message,
                hint: Some(hint.into()),
            })
        };
        // A password may precede the host; ssh takes a user.
        if address.contains('@') && !address.starts_with("ssh://") && !address.starts_with("unix://") {
            return usage(
                format!("{origin} names a user, which no engine's address does"),
                "it is written unix:///path/to/docker.sock or tcp://host:port",
            );
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return usage(
                format!("{origin}: {address:?} is not an engine's address"),
                "it is written unix:///path/to/docker.sock or tcp://host:port",
            );
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
            "tcp" | "http" | "https" => {
                let authority = rest.split('/').next().unwrap_or_default();
                if authority.is_empty() {
                    return usage(
                        format!("{origin}: {address:?} names no host"),
                        "it is written tcp://host:port",
                    );
                }
                let tls = match (tls, scheme) {
                    (None, "https") => Some(Tls {
                        folder: PathBuf::new(),
                        verify: true,
                    }),
                    (tls, _) => tls,
                };
                let port = if tls.is_some() { TLS_PORT } else { PLAIN_PORT };
                let authority = if has_port(authority) {
                    authority.to_string()
                } else {
                    format!("{authority}:{port}")
                };
                Ok(Endpoint::Tcp { authority, tls })
            }
            "ssh" => usage(
                format!("{origin}: {address:?}: engines over ssh are not supported yet"),
                "run sealift on that host, or forward its socket: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock \
                 HOST, then DOCKER_HOST=unix:///tmp/docker.sock",
            ),
            _ => usage(
                format!("{origin}: {address:?} cannot be used as an engine's address"),
                "it is written unix:///path/to/docker.sock or tcp://host:port",
            ),
        }
    }
}

fn has_port(authority: &str) -> bool {
    match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address are inside brackets.
        Some((_, port)) => !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()),
        None => false,
    }
}

fn environment_tls(environment: &Environment) -> Option<Tls> {
    let folder = environment.cert_path.clone().or_else(|| {
        environment
            .tls_verify
            .then(|| environment.config.clone())
            .flatten()
    })?;
    Some(Tls {
        folder,
        verify: environment.tls_verify,
    })
}

/// Reads a settings file; `None` if it does not exist. It is used only if it belongs to root, to this user, or
/// to the user who called sudo: no other user may decide which engine root talks to.
pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    let own = rustix::process::geteuid();
    let caller = std::env::var("SUDO_UID").ok().filter(|_| own.is_root());
    let mut owners = vec![0, own.as_raw()];
    owners.extend(caller.and_then(|uid| uid.parse::<u32>().ok()));
    let read = dir::open_owned(path, &owners).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    json::from_slice(bytes).map_err(|error| Error::Usage {
        message: format!("{}: {error}", path.display()),
        hint: None,
    })
}

fn current_context(environment: &Environment) -> Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct ConfigFile {
        #[serde(rename = "currentContext")]
        current_context: Option<String>,
    }
    let Some(path) = environment
        .config
        .as_ref()
        .map(|config| config.join("config.json"))
    else {
        return Ok(None);
    };
    let Some(bytes) = read_optional(&path)? else {
        return Ok(None);
    };
    let file: ConfigFile = parse(&path, &bytes)?;
    Ok(file.current_context.filter(|name| !name.is_empty()))
}

fn from_context(config: &Path, name: &str) -> Result<Endpoint> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Meta {
        endpoints: std::collections::BTreeMap<String, Docker>,
    }
    #[derive(serde::Deserialize)]
    struct Docker {
        #[serde(rename = "Host")]
        host: Option<String>,
        #[serde(rename = "SkipTLSVerify", default)]
        skip_tls_verify: bool,
    }
    let contexts = config.join("contexts");
    let id = Digest::sha256(name.as_bytes()).hex();
    let path = contexts.join("meta").join(&id).join("meta.json");
    let not_found = || Error::NotFound {
        what: format!("context {name:?}"),
        place: contexts.display().to_string(),
        hint: Some("docker context ls shows those that exist".into()),
    };
    let bytes = read_optional(&path)?.ok_or_else(not_found)?;
    let meta: Meta = parse(&path, &bytes)?;
    let docker = meta.endpoints.get("docker").ok_or_else(not_found)?;
    let folder = contexts.join("tls").join(&id).join("docker");
    let tls = folder.is_dir().then_some(Tls {
        folder,
        verify: !docker.skip_tls_verify,
    });
    let host = docker.host.as_deref().unwrap_or_default();
    Endpoint::parse(host, &format!("context {name:?}"), tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn tcp(authority: &str, tls: Option<(&str, bool)>) -> Endpoint {
        let tls = tls.map(|(folder, verify)| Tls {
            folder: folder.into(),
            verify,
        });
        Endpoint::Tcp {
            authority: authority.into(),
            tls,
        }
    }

    #[test]
    fn addresses_as_docker_reads_them() {
        for (host, cert_path, verify, expected) in [
            (
                "unix:///run/x.sock",
                None,
                false,
                Endpoint::Unix("/run/x.sock".into()),
            ),
            ("tcp://10.0.0.5", None, false, tcp("10.0.0.5:2375", None)),
            ("tcp://10.0.0.5:99", None, false, tcp("10.0.0.5:99", None)),
            ("tcp://[::1]", None, false, tcp("[::1]:2375", None)),
            (
                "tcp://h/",
                None,
                true,
                tcp("h:2376", Some(("/home/.docker", true))),
            ),
            ("tcp://h", Some("/c"), true, tcp("h:2376", Some(("/c", true)))),
            ("tcp://h", Some("/c"), false, tcp("h:2376", Some(("/c", false)))),
            ("https://h:1", None, false, tcp("h:1", Some(("", true)))),
        ] {
            let environment = Environment {
                host: Some(host.into()),
                config: Some("/home/.docker".into()),
                cert_path: cert_path.map(Into::into),
                tls_verify: verify,
                context: Some("never looked at".into()),
            };
            assert_eq!(Endpoint::find(&environment).unwrap(), expected, "{host}");
        }
        for (host, says) in [
            ("ssh://user@host", "not supported yet"),
            ("npipe:////./pipe/docker", "cannot be used"),
            ("fd://", "cannot be used"),
            ("unix://relative", "cannot be used"),
            ("/var/run/docker.sock", "not an engine's address"),
            ("tcp://", "names no host"),
            ("tcp://user:secret@host:2375", "names a user"),
        ] {
            let environment = Environment {
                host: Some(host.into()),
                ..Environment::default()
            };
            let error = Endpoint::find(&environment).unwrap_err();
            assert!(error.to_string().contains(says), "{host}: {error}");
            assert!(error.hint().is_some(), "{host}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn contexts_are_found_by_the_hash_of_their_name() {
        let home = tempfile::tempdir().unwrap();
        let environment = |context: Option<&str>| Environment {
            context: context.map(Into::into),
            config: Some(home.path().into()),
            ..Environment::default()
        };
        let usual = Endpoint::Unix(DEFAULT_SOCKET.into());
        assert_eq!(Endpoint::find(&environment(None)).unwrap(), usual);
        let missing = Endpoint::find(&environment(Some("lab"))).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);

        // The folder that docker 28.2 made for a context of this name.
        let id = "a51146d38077ff992eba84cf1d5e9b249073503eb74868699016153b031a38f7";
        let meta = home.path().join("contexts/meta").join(id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"lab","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://lab:1","SkipTLSVerify":true}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        assert_eq!(
            Endpoint::find(&environment(Some("lab"))).unwrap(),
            tcp("lab:1", None)
        );

        let tls = home.path().join("contexts/tls").join(id).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        std::fs::write(home.path().join("config.json"), r#"{"currentContext":"lab"}"#).unwrap();
        let expected = tcp("lab:1", Some((tls.to_str().unwrap(), false)));
        assert_eq!(Endpoint::find(&environment(None)).unwrap(), expected);
        let named_by = |context| environment(context).named_by().unwrap();
        assert_eq!(named_by(None).as_deref(), Some("docker's current context"));
        assert_eq!(named_by(Some("lab")).as_deref(), Some("DOCKER_CONTEXT"));
        assert_eq!(named_by(Some("default")), None);
        let by_address = Environment {
            host: Some("tcp://lab".into()),
            ..environment(Some("lab"))
        };
        assert_eq!(by_address.named_by().unwrap().as_deref(), Some("DOCKER_HOST"));
        assert_eq!(Endpoint::find(&environment(Some("default"))).unwrap(), usual);
    }
}
