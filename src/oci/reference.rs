//! Image references by Docker's rules.
//!
//! Source: `github.com/distribution/reference`, the grammar in its `reference.go` and the
//! normalisation in its `normalize.go`: `httpd` is `docker.io/library/httpd:latest`.

mod parse;

use std::fmt;
use std::sync::Arc;

use super::Digest;
pub use parse::ReferenceError;

/// The registry of names without one: Docker Hub.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library";
/// Names that no repository has, because `sha256:...` alone is a digest or an image id. Docker refuses to tag
/// them too.
const ALGORITHMS: [&str; 2] = ["docker.io/library/sha256", "docker.io/library/sha512"];
/// Longest `domain/path`, in bytes.
const MAX_NAME: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// A repository: the images of one name. Clones share it, because a repository may have very many tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    full: Arc<str>,
    domain_length: usize,
}

impl Repository {
    /// Host and port of the registry; Docker Hub is `docker.io`.
    pub fn domain(&self) -> &str {
        self.full.get(..self.domain_length).unwrap_or_default()
    }

    /// The name within the registry; Docker's official images are `library/...`.
    pub fn path(&self) -> &str {
        self.full.get(self.domain_length + 1..).unwrap_or_default()
    }

    /// The whole name: `docker.io/library/httpd`.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// A registry's host as a component of a path, where a colon would end the path: `_` stands before the port.
    pub fn written_domain(domain: &str) -> String {
        domain.replace(':', "_")
    }

    /// The name as Docker shows it: `httpd`, `user/app`, `quay.io/org/app`.
    pub fn familiar(&self) -> &str {
        if self.domain() != DEFAULT_DOMAIN {
            return &self.full;
        }
        match self.path().split_once('/') {
            Some((OFFICIAL, rest)) if !rest.contains('/') => rest,
            _ => self.path(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.familiar())
    }
}

/// What an image is requested by: a repository with a tag, a digest or both; or a digest alone.
///
/// A name with neither gets the tag `latest`, as in Docker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Names an image of a repository by digest.
    pub fn digested(repository: &Repository, digest: Digest) -> Reference {
        Reference {
            repository: repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// An image without a name, by the digest of its manifest or index, or by its image id. Only an engine or
    /// an archive knows which of them it is. [`Reference::parse_any`] alone parses it.
    pub fn nameless(digest: Digest) -> Reference {
        let repository = Repository {
            full: Arc::default(),
            domain_length: 0,
        };
        Reference::digested(&repository, digest)
    }

    /// Parses a name, or a digest alone.
    ///
    /// # Errors
    ///
    /// If the text is neither.
    pub fn parse_any(text: &str) -> Result<Reference, ReferenceError> {
        match text.parse() {
            Ok(digest) => Ok(Reference::nameless(digest)),
            Err(_) => text.parse(),
        }
    }

    /// Whether this is a digest alone.
    pub fn is_nameless(&self) -> bool {
        self.repository.full.is_empty()
    }

    /// Serialises the name, or null if there is none.
    ///
    /// # Errors
    ///
    /// As the serializer.
    pub fn serialize_name<S: serde::Serializer>(
        reference: &Reference,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let name = Some(reference).filter(|reference| !reference.is_nameless());
        serde::Serialize::serialize(&name, serializer)
    }

    /// The repository. That of an image without a name is empty.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index, if the name pins one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The full form: `docker.io/library/httpd:2.4`.
    pub fn full(&self) -> String {
        format!("{}{}", self.repository.full(), Suffix(self))
    }

    /// The form that Docker shows: `httpd:2.4`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.repository.familiar(), Suffix(self))
    }

    /// The same tag and digest in another repository.
    #[must_use]
    pub fn moved_to(&self, repository: &Repository) -> Reference {
        Reference {
            repository: repository.clone(),
            ..self.clone()
        }
    }

    /// The same name without its digest, if it has a tag.
    pub fn without_digest(&self) -> Option<Reference> {
        self.tag.is_some().then(|| Reference {
            digest: None,
            ..self.clone()
        })
    }
}

struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            let at = if self.0.is_nameless() { "" } else { "@" };
            write!(f, "{at}{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.familiar())
    }
}

#[cfg(test)]
mod tests;
