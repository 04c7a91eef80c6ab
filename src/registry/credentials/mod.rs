//! Finds the credentials for a registry.
//!
//! - `file`: Docker's `config.json` and podman's `auth.json`
//! - [`helper`]: the programs that such a file names
//!
//! Files are read in this order; the first that has something for a registry is used:
//!
//! 1. `$REGISTRY_AUTH_FILE`
//! 2. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`
//! 4. `$XDG_CONFIG_HOME/containers/auth.json`, else `~/.config/containers/auth.json`
//! 5. under sudo, if root's own files have nothing: `.docker/config.json` and `.config/containers/auth.json` of
//!    the user who called sudo, and their `/run/user/UID/containers/auth.json`
//!
//! A file is used only if it belongs to this user or to root, or, under sudo, to the user who called it. The
//! files of the last place must be that user's. Links in the path must be theirs or root's, too. A helper runs
//! as the owner of the file that names it, without root's environment.

mod file;
mod helper;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use crate::error::Result;
use crate::net::environment::{Environment, Invoker};
use crate::oci::reference::DEFAULT_DOMAIN;
use file::AuthFile;

/// A credential for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password, for basic auth and for fetching tokens.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token: `identitytoken` in Docker's file, or a helper's password for the user `<token>`.
    Identity(Secret),
    /// A bearer token, sent unchanged: `registrytoken` in Docker's file.
    Bearer(Secret),
}

/// A file in which to look for credentials.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    /// Whether the user named this file, so that it must be readable.
    is_explicit: bool,
    /// Whether it belongs to the user who called sudo.
    is_invokers: bool,
}

/// Credentials by registry.
#[derive(Clone)]
pub struct Credentials {
    given: Vec<(String, Credential)>,
    places: Vec<Place>,
    invoker: Option<Invoker>,
    environment: Environment,
    /// Time limit of a helper.
    helper_timeout: Duration,
}

/// The credential that was found, and the errors that did not prevent it.
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
            invoker: None,
            environment: Environment::default(),
            helper_timeout: Duration::from_secs(30),
        }
    }
}

impl Credentials {
    /// Lists the files of an environment; they are read when a registry requires credentials.
    pub fn locate(environment: &Environment) -> Credentials {
        let mut places = Vec::new();
        let mut add = |path: PathBuf, is_explicit: bool, is_invokers: bool| {
            places.push(Place {
                path,
                is_explicit,
                is_invokers,
            });
        };
        let home = environment.path("HOME");
        if let Some(path) = environment.path("REGISTRY_AUTH_FILE") {
            add(path, true, false);
        }
        if let Some(folder) = environment.path("DOCKER_CONFIG") {
            add(folder.join("config.json"), false, false);
        } else if let Some(home) = &home {
            add(home.join(".docker/config.json"), false, false);
        }
        if let Some(folder) = environment.path("XDG_RUNTIME_DIR") {
            add(folder.join("containers/auth.json"), false, false);
        }
        let config = environment
            .path("XDG_CONFIG_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        if let Some(folder) = config {
            add(folder.join("containers/auth.json"), false, false);
        }
        if let Some(invoker) = environment.invoker() {
            let runtime = PathBuf::from(format!("/run/user/{}", invoker.uid));
            for path in [
                invoker.home.join(".docker/config.json"),
                runtime.join("containers/auth.json"),
                invoker.home.join(".config/containers/auth.json"),
            ] {
                add(path, false, true);
            }
        }
        Credentials {
            places,
            invoker: environment.invoker().cloned(),
            environment: environment.clone(),
            ..Credentials::default()
        }
    }

    /// Adds a credential for a registry's host, which precedes any file.
    #[must_use]
    pub fn with(mut self, registry: &str, credential: Credential) -> Credentials {
        self.given.push((registry.to_ascii_lowercase(), credential));
        self
    }

    /// The users who may own the file at a place.
    fn owners(&self, place: &Place) -> Vec<u32> {
        let invoker = self.invoker.as_ref().map(|invoker| invoker.uid);
        let own = [0, rustix::process::geteuid().as_raw()];
        let own = own.into_iter().filter(|_| !place.is_invokers);
        own.chain(invoker).collect()
    }

    /// Finds the credential for a repository of a registry, both as in a reference.
    ///
    /// # Errors
    ///
    /// If a file is unreadable or malformed.
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
            let Some(file) = AuthFile::read(&place.path, place.is_explicit, &self.owners(place))? else {
                continue;
            };
            if let Some(name) = file.helper(registry) {
                let helper = helper::Helper {
                    name,
                    environment: &self.environment,
                    run_as: self.invoker.as_ref().filter(|invoker| invoker.uid == file.owner),
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

/// The server that a helper is asked for: Docker Hub is stored under the address of its old index.
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
