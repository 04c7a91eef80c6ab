//! Where images are pushed: a registry, and a path below which their names are.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::oci::{Reference, Repository};

/// A registry, and a path before the names of images. As text, `harbor.local/mirror`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The registry's host, as in references.
    host: String,
    /// The path; may be empty.
    prefix: String,
}

/// Why text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror")]
pub struct DestinationError {
    reason: String,
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Destination, DestinationError> {
        let refuse = |reason: String| Err(DestinationError { reason });
        if text.contains("://") {
            return refuse("give the host without http:// or https://".into());
        }
        let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if host.contains('@') {
            return refuse("a user and password do not belong here: log in with `docker login`".into());
        }
        if prefix.contains('@') {
            return refuse("a digest does not belong here: each image keeps its own".into());
        }
        if prefix.contains(':') {
            return refuse("a tag does not belong here: each image keeps its own, or is renamed".into());
        }
        if let Err(error) = host.parse::<Address>() {
            return refuse(error.to_string());
        }
        // Read as names of images are: a host without a dot or port would be a user of Docker Hub.
        let is_host = |repository: &Repository| repository.domain().eq_ignore_ascii_case(host);
        let sample = match prefix {
            "" => format!("{host}/x"),
            prefix => format!("{host}/{prefix}/x"),
        };
        match (sample.parse::<Repository>(), format!("{host}/x/x").parse()) {
            (Ok(repository), _) if is_host(&repository) => Ok(Destination {
                host: repository.domain().to_ascii_lowercase(),
                prefix: prefix.into(),
            }),
            (Err(_), Ok(plain)) if is_host(&plain) => {
                refuse(format!("{prefix:?} cannot stand before a repository"))
            }
            _ => refuse(format!(
                "no image can have the registry {host:?} in its name: it needs a dot or a port, or is localhost"
            )),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl Destination {
    /// The name that an image gets: its repository without the domain below the prefix, as mirrors have it. A name that is
    /// of the registry already, and below the prefix, stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if that is no name, as it is too long.
    pub fn name(&self, image: &Reference) -> Result<Reference> {
        let repository = image.repository();
        if self.has(repository) {
            return Ok(image.clone());
        }
        let moved = format!("{self}/{}", repository.path());
        let moved = moved.parse::<Repository>().map_err(|error| Error::Usage {
            message: format!("{} cannot be pushed to {self}: {error}", image.familiar()),
            hint: None,
        })?;
        Ok(image.moved_to(&moved))
    }

    /// Whether a repository is here already.
    fn has(&self, repository: &Repository) -> bool {
        let below = repository.path().strip_prefix(self.prefix.as_str());
        let is_below =
            below.is_some_and(|rest| self.prefix.is_empty() || rest.is_empty() || rest.starts_with('/'));
        repository.domain().eq_ignore_ascii_case(&self.host) && is_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_get_the_names_that_mirrors_have() {
        for (place, image, expected) in [
            (
                "harbor.local/mirror",
                "httpd:2.4",
                "harbor.local/mirror/library/httpd:2.4",
            ),
            ("harbor.local", "httpd:2.4", "harbor.local/library/httpd:2.4"),
            ("h.io:5000/a/b", "quay.io/x/y:1", "h.io:5000/a/b/x/y:1"),
            ("localhost", "quay.io/x/y", "localhost/x/y:latest"),
            // Named for it already.
            (
                "harbor.local/mirror",
                "harbor.local/mirror/web:1",
                "harbor.local/mirror/web:1",
            ),
            (
                "harbor.local/mirror",
                "harbor.local/mirror:1",
                "harbor.local/mirror:1",
            ),
            ("harbor.local", "harbor.local/web:1", "harbor.local/web:1"),
            // Of the registry, and not below the prefix.
            (
                "harbor.local/mirror",
                "harbor.local/web:1",
                "harbor.local/mirror/web:1",
            ),
            (
                "harbor.local/mirror",
                "harbor.local/mirrors/web:1",
                "harbor.local/mirror/mirrors/web:1",
            ),
            // Another port is another registry.
            (
                "harbor.local:5000",
                "harbor.local/web:1",
                "harbor.local:5000/web:1",
            ),
        ] {
            let place: Destination = place.parse().unwrap();
            let name = place.name(&image.parse().unwrap()).unwrap();
            assert_eq!(name.full(), expected, "{place} {image}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("httpd@{digest}").parse().unwrap();
        let place: Destination = "harbor.local/m/".parse().unwrap();
        assert_eq!(
            place.name(&pinned).unwrap().full(),
            format!("harbor.local/m/library/httpd@{digest}")
        );
        let long = format!("h.io/{}", "x/".repeat(110))
            .parse::<Destination>()
            .unwrap();
        let error = long.name(&"quay.io/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r".parse().unwrap());
        assert!(error.unwrap_err().to_string().contains("cannot be pushed"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (text, says) in [
            ("", "a host has letters"),
            ("/x", "a host has letters"),
            ("https://h.io", "without http"),
            ("h.io/x:1", "a tag does not belong here"),
            ("h.io/x@sha256:aa", "a digest does not belong here"),
            ("user:secret@h.io/x", "a user and password do not belong here"),
            ("h.io/UPPER", "cannot stand before"),
            ("h.io/../x", "cannot stand before"),
            ("h.io//x", "cannot stand before"),
            ("h.io:x", "a port has digits"),
            ("registry/x", "needs a dot or a port"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
