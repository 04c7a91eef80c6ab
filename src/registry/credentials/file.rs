//! Docker's `config.json` and podman's `auth.json`, which have the same format.
//!
//! Sources: docker/cli, `cli/config/configfile`; containers-auth.json(5). Keys are hosts, old forms such as
//! `https://index.docker.io/v1/`, and in podman's file also `HOST/NAMESPACE/REPOSITORY`, of which the longest
//! match applies.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use rustix::io::Errno;

use super::Credential;
use crate::dir;
use crate::error::{Error, Result};
use crate::oci::json;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::registry::secret::Secret;

/// Largest file that is read.
const MAX_FILE: u64 = 4 << 20;
/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(serde::Deserialize)]
struct Fields {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

pub(super) struct AuthFile {
    path: PathBuf,
    fields: Fields,
    /// The user that it belongs to.
    pub(super) owner: u32,
}

impl AuthFile {
    /// Reads a file of one of `owners`; `None` if it does not exist and is optional.
    pub(super) fn read(path: &Path, is_explicit: bool, owners: &[u32]) -> Result<Option<AuthFile>> {
        let read = dir::open_owned(path, owners).and_then(|file| {
            let owner = file.metadata()?.uid();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut bytes)?;
            Ok((bytes, owner))
        });
        let (bytes, owner) = match read {
            Ok(read) => read,
            Err(error) => {
                let is_absent = matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                );
                // root may not be allowed to read another user's file on a network file system.
                let is_closed = error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
                if !is_explicit && (is_absent || is_closed && is_root()) {
                    return Ok(None);
                }
                return Err(Error::Io {
                    action: "read credentials from",
                    path: path.to_path_buf(),
                    offset: None,
                    hint: (!is_absent && !is_closed).then(|| {
                        "credentials are read from a regular file of your own; under sudo also from root's".into()
                    }),
                    source: error.into(),
                });
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // The parser's message may contain a value of the file, so it is not shown.
        let fields =
            json::from_slice(&bytes).map_err(|_| malformed(path, "it is not of the form of config.json"))?;
        Ok(Some(AuthFile {
            path: path.to_path_buf(),
            fields,
            owner,
        }))
    }

    /// The helper for a registry: a specific one before the general one.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.fields.helpers.as_ref().and_then(|helpers| {
            helpers
                .iter()
                .find(|(key, _)| scope(key).is_some_and(|scope| scope.covers(registry, None)))
        });
        own.map(|(_, name)| name.as_str())
            .or(self.fields.store.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// The entry for a repository of a registry: the one whose key matches the longest part of the name.
    pub(super) fn entry(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let mut best: Option<(usize, Credential)> = None;
        for (key, entry) in self.fields.auths.iter().flatten() {
            let Some(scope) = scope(key).filter(|scope| scope.covers(registry, Some(repository))) else {
                continue;
            };
            let length = scope.path.len();
            if best.as_ref().is_some_and(|(longest, _)| *longest >= length) {
                continue;
            }
            if let Some(credential) = entry
                .credential()
                .map_err(|reason| malformed(&self.path, &format!("the entry for {registry} {reason}")))?
            {
                best = Some((length, credential));
            }
        }
        Ok(best.map(|(_, credential)| credential))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn malformed(path: &Path, reason: &str) -> Error {
    Error::Io {
        action: "use credentials from",
        path: path.to_path_buf(),
        offset: None,
        source: io::Error::new(io::ErrorKind::InvalidData, reason.to_string()).into(),
        hint: Some("log in again with docker login or podman login".into()),
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = text(&self.registrytoken) {
            return Ok(Some(Credential::Bearer(Secret::new(token))));
        }
        if let Some(token) = text(&self.identitytoken) {
            return Ok(Some(Credential::Identity(Secret::new(token))));
        }
        if let Some(auth) = text(&self.auth) {
            let decoded = BASE64
                .decode(auth.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or("is not base64")?;
            let (username, password) = decoded.split_once(':').ok_or("has no user and password")?;
            return Ok(Some(Credential::Password {
                username: username.into(),
                // Like Docker: old versions padded the password.
                password: Secret::new(password.trim_matches('\0')),
            }));
        }
        Ok(match (text(&self.username), text(&self.password)) {
            (Some(username), Some(password)) => Some(Credential::Password {
                username,
                password: Secret::new(password),
            }),
            _ => None,
        })
    }
}

/// What a key applies to.
struct Scope {
    host: String,
    path: String,
}

fn scope(key: &str) -> Option<Scope> {
    let (rest, is_url) = match key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
    {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let path = if is_url || matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    };
    let host = match host.to_ascii_lowercase().as_str() {
        "" => return None,
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.into(),
        other => other.to_string(),
    };
    Some(Scope {
        host,
        path: path.into(),
    })
}

impl Scope {
    fn covers(&self, registry: &str, repository: Option<&str>) -> bool {
        let path = match repository {
            Some(repository) => {
                self.path.is_empty()
                    || repository
                        .strip_prefix(self.path.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => self.path.is_empty(),
        };
        self.host == registry && path
    }
}
