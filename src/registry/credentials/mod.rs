//! Which credentials belong to which registry.
//!
//! - [`file`]: Docker's `config.json` and podman's `auth.json`
//! - [`helper`]: the programs that such a file names
//!
//! Files are looked at in this order; the first that has something for a registry wins:
//!
//! 1. `$REGISTRY_AUTH_FILE`
//! 2. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`
//! 4. `$XDG_CONFIG_HOME/containers/auth.json`, else `~/.config/containers/auth.json`
//! 5. under sudo, where root's own files have nothing: `.docker/config.json` and `.config/containers/auth.json`
//!    of the user who called sudo, and their `/run/user/UID/containers/auth.json`. Helpers that these files name
//!    run as that user, as their key rings are theirs.

mod file;
mod helper;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::environment::{Environment, Invoker};
use super::secret::Secret;
use crate::error::Result;
use crate::oci::reference::DEFAULT_DOMAIN;
use file::AuthFile;

/// What proves to a registry who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password, for basic auth and for getting tokens.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token: `identitytoken` in Docker's file, or what a helper gives for the user `<token>`.
    Identity(Secret),
    /// A bearer token to be sent as it is: `registrytoken` in Docker's file.
    Bearer(Secret),
}

/// A place where credentials are looked for.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    /// Whether the user named this very file, so that it must be readable.
    is_explicit: bool,
    run_as: Option<Invoker>,
}

/// Credentials by registry.
#[derive(Clone)]
pub struct Credentials {
    given: Vec<(String, Credential)>,
    places: Vec<Place>,
    search_path: Option<std::ffi::OsString>,
    /// How long a helper may take.
    helper_timeout: Duration,
}

/// What was found, and what went wrong on the way but need not be the end.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    pub(super) credential: Option<Credential>,
    pub(super) notes: Vec<String>,
}

impl Default for Credentials {
    /// No credentials.
    fn default() -> Credentials {
        Credentials {
            given: Vec::new(),
            places: Vec::new(),
            search_path: None,
            helper_timeout: Duration::from_secs(30),
        }
    }
}

impl Credentials {
    /// Finds the files of an environment; they are read when a registry asks for credentials.
    pub fn locate(environment: &Environment) -> Credentials {
        let mut places = Vec::new();
        let mut add = |path: PathBuf, is_explicit: bool, run_as: Option<&Invoker>| {
            places.push(Place {
                path,
                is_explicit,
                run_as: run_as.cloned(),
            });
        };
        let home = environment.path("HOME");
        if let Some(path) = environment.path("REGISTRY_AUTH_FILE") {
            add(path, true, None);
        }
        if let Some(folder) = environment.path("DOCKER_CONFIG") {
            add(folder.join("config.json"), false, None);
        } else if let Some(home) = &home {
            add(home.join(".docker/config.json"), false, None);
        }
        if let Some(folder) = environment.path("XDG_RUNTIME_DIR") {
            add(folder.join("containers/auth.json"), false, None);
        }
        let config = environment
            .path("XDG_CONFIG_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        if let Some(folder) = config {
            add(folder.join("containers/auth.json"), false, None);
        }
        if let Some(invoker) = environment.invoker() {
            let runtime = PathBuf::from(format!("/run/user/{}", invoker.uid));
            for path in [
                invoker.home.join(".docker/config.json"),
                runtime.join("containers/auth.json"),
                invoker.home.join(".config/containers/auth.json"),
            ] {
                add(path, false, Some(invoker));
            }
        }
        Credentials {
            places,
            search_path: environment.get("PATH").map(ToOwned::to_owned),
            ..Credentials::default()
        }
    }

    /// Adds a credential for a registry's host, which goes before any file.
    #[must_use]
    pub fn with(mut self, registry: &str, credential: Credential) -> Credentials {
        self.given.push((registry.to_ascii_lowercase(), credential));
        self
    }

    /// Finds the credential for a repository of a registry, as they stand in a reference.
    ///
    /// # Errors
    ///
    /// If a file is there but unreadable or malformed.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Lookup> {
        let mut lookup = Lookup::default();
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN,
            other => other,
        };
        if let Some((_, credential)) = self.given.iter().find(|(host, _)| host == registry) {
            lookup.credential = Some(credential.clone());
            return Ok(lookup);
        }
        for place in &self.places {
            let Some(file) = AuthFile::read(&place.path, place.is_explicit, place.run_as.is_some())? else {
                continue;
            };
            if let Some(name) = file.helper(registry) {
                let helper = helper::Helper {
                    name,
                    search_path: self.search_path.as_deref(),
                    run_as: place.run_as.as_ref(),
                    timeout: self.helper_timeout,
                };
                match helper.get(server_of(registry)) {
                    Ok(Some(credential)) => lookup.credential = Some(credential),
                    Ok(None) => {}
                    Err(reason) => lookup.notes.push(format!("{}: {reason}", place.path.display())),
                }
            }
            if lookup.credential.is_none() {
                lookup.credential = file.entry(registry, repository)?;
            }
            if lookup.credential.is_some() {
                break;
            }
        }
        Ok(lookup)
    }
}

/// What a helper is asked for: Docker Hub is kept under the address of its old index.
fn server_of(registry: &str) -> &str {
    if registry == DEFAULT_DOMAIN {
        "https://index.docker.io/v1/"
    } else {
        registry
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<&str> = self.given.iter().map(|(host, _)| host.as_str()).collect();
        f.debug_struct("Credentials")
            .field("given", &hosts)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
