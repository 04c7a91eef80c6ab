//! Image references by Docker's rules.
//!
//! Source: `github.com/distribution/reference`, the grammar in its `reference.go` and the
//! normalisation in its `normalize.go`: `httpd` is `docker.io/library/httpd:latest`.

use std::fmt;
use std::str::FromStr;

use super::Digest;

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

/// A repository: the images of one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    full: String,
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
            full: String::new(),
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

/// Why text is not a reference, and at which character.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name {text:?}: at character {position}: {reason}")]
pub struct ReferenceError {
    /// The whole text.
    pub text: String,
    /// What is wrong.
    pub reason: &'static str,
    /// Where, counted in characters from 1.
    pub position: usize,
    /// How to write it instead, if that is known.
    pub hint: Option<String>,
}

fn error(text: &str, byte: usize, reason: &'static str) -> ReferenceError {
    let position = text.get(..byte).map_or(0, |before| before.chars().count()) + 1;
    ReferenceError {
        text: text.into(),
        reason,
        position,
        hint: None,
    }
}

/// The error for text with a scheme, such as `docker://httpd` or an address copied from a browser.
fn with_scheme(text: &str) -> Option<ReferenceError> {
    let (_, rest) = text.split_once("://")?;
    let name = rest.trim_end_matches('/');
    let is_name = !name.contains("://") && name.parse::<Reference>().is_ok();
    Some(ReferenceError {
        hint: is_name.then(|| format!("write {name}")),
        ..error(text, 0, "an image name has no scheme")
    })
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Parses a name without tag and digest.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_name(text, text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(error) = with_scheme(text) {
            return Err(error);
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed = digest.parse().map_err(|reason| {
                    use super::digest::DigestError as E;
                    let reason = match reason {
                        E::NoAlgorithm => "a digest is written algorithm:hex",
                        E::UnknownAlgorithm(_) => "the digest's algorithm is not sha256 or sha512",
                        E::Length { .. } => "the digest has the wrong length (sha256 has 64 hex digits)",
                        E::NotHex(_) => "the digest has a character that is not a lower-case hex digit",
                    };
                    error(text, rest.len() + 1, reason)
                })?;
                (rest, Some(parsed))
            }
        };
        let last_component = rest.rfind('/').map_or(0, |slash| slash + 1);
        let colon = rest
            .get(last_component..)
            .and_then(|last| last.find(':'))
            .map(|at| last_component + at);
        let (name, tag) = match colon {
            None => (rest, None),
            Some(colon) => {
                let tag = rest.get(colon + 1..).unwrap_or_default();
                check_tag(text, tag, colon + 1)?;
                (rest.get(..colon).unwrap_or_default(), Some(tag.to_string()))
            }
        };
        let repository = parse_name(text, name)?;
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Reference {
            repository,
            tag,
            digest,
        })
    }
}

fn check_tag(text: &str, tag: &str, start: usize) -> Result<(), ReferenceError> {
    if tag.is_empty() {
        return Err(error(text, start, "the tag is empty"));
    }
    for (at, char) in tag.char_indices() {
        let word = char.is_ascii_alphanumeric() || char == '_';
        if !word && (at == 0 || !matches!(char, '.' | '-')) {
            return Err(error(
                text,
                start + at,
                "a tag has letters, digits, '_', and further on '.' and '-'",
            ));
        }
    }
    if tag.len() > MAX_TAG {
        return Err(error(text, start + MAX_TAG, "a tag has at most 128 characters"));
    }
    Ok(())
}

/// Parses `name`, the first part of `text`.
fn parse_name(text: &str, name: &str) -> Result<Repository, ReferenceError> {
    if name.is_empty() {
        return Err(error(text, 0, "the name is empty"));
    }
    if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(error(text, 0, "64 hex digits are an image id, not a name"));
    }
    let (domain, path, path_start) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest, first.len() + 1),
        _ => (DEFAULT_DOMAIN, name, 0),
    };
    if path_start > 0 {
        check_domain(text, domain)?;
    }
    check_path(text, path, path_start)?;
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let full = if domain == DEFAULT_DOMAIN && !path.contains('/') {
        format!("{domain}/{OFFICIAL}/{path}")
    } else {
        format!("{domain}/{path}")
    };
    if ALGORITHMS.contains(&full.as_str()) {
        return Err(ReferenceError {
            hint: Some(
                "a digest or image id is written in full: `docker images --no-trunc` shows all 64 digits"
                    .into(),
            ),
            ..error(text, 0, "this is a digest or an image id, not a name")
        });
    }
    if full.len() > MAX_NAME {
        return Err(error(text, 0, "the name is longer than 255 characters"));
    }
    Ok(Repository {
        domain_length: domain.len(),
        full,
    })
}

/// Whether the part before the first slash is a registry rather than the first part of a path.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

fn check_domain(text: &str, domain: &str) -> Result<(), ReferenceError> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(error(text, 0, "the IPv6 address has no closing ']'"));
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(error(text, 1, "not an IPv6 address"));
            }
            match after.strip_prefix(':') {
                Some(port) => ("", Some((port, address.len() + 3))),
                None if after.is_empty() => ("", None),
                None => return Err(error(text, address.len() + 2, "expected ':' and a port")),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some((port, host.len() + 1))),
            None => (domain, None),
        },
    };
    let mut start = 0;
    for component in host.split('.').filter(|_| !domain.starts_with('[')) {
        for (at, char) in component.char_indices() {
            let edge = at == 0 || at + 1 == component.len();
            if !char.is_ascii_alphanumeric() && (char != '-' || edge) {
                return Err(error(
                    text,
                    start + at,
                    "a registry's host has letters, digits, and '-' between them",
                ));
            }
        }
        if component.is_empty() {
            return Err(error(text, start, "a part of the registry's host is empty"));
        }
        start += component.len() + 1;
    }
    if let Some((port, start)) = port {
        if let Some(at) = port.find(|c: char| !c.is_ascii_digit()) {
            return Err(error(text, start + at, "a port has digits only"));
        }
        if port.parse::<u16>().is_err() {
            return Err(error(text, start, "not a port"));
        }
    }
    Ok(())
}

fn check_path(text: &str, path: &str, mut start: usize) -> Result<(), ReferenceError> {
    for component in path.split('/') {
        check_component(text, component, start)?;
        start += component.len() + 1;
    }
    Ok(())
}

fn check_component(text: &str, component: &str, start: usize) -> Result<(), ReferenceError> {
    if component.is_empty() {
        return Err(error(text, start, "a part of the name is empty"));
    }
    let mut separator = "";
    for (at, char) in component.char_indices() {
        let here = start + at;
        match char {
            'a'..='z' | '0'..='9' => separator = "",
            'A'..='Z' => return Err(error(text, here, "repository names are in lower case")),
            '.' | '_' | '-' if at == 0 => {
                return Err(error(
                    text,
                    here,
                    "a part of the name begins with a letter or digit",
                ));
            }
            '.' if separator.is_empty() => separator = ".",
            '_' if separator.is_empty() => separator = "_",
            '_' if separator == "_" => separator = "__",
            '-' if matches!(separator, "" | "-") => separator = "-",
            '.' | '_' | '-' => {
                return Err(error(
                    text,
                    here,
                    "letters or digits stand between '.', '_', '__' and '-'",
                ));
            }
            _ => {
                return Err(error(
                    text,
                    here,
                    "a name has lower-case letters, digits, '.', '_' and '-'",
                ));
            }
        }
    }
    if !separator.is_empty() {
        return Err(error(
            text,
            start + component.len(),
            "a part of the name ends with a letter or digit",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_as_docker_does() {
        for (text, full, familiar) in [
            ("httpd", "docker.io/library/httpd:latest", "httpd:latest"),
            ("httpd:2.4", "docker.io/library/httpd:2.4", "httpd:2.4"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            (
                "docker.io/httpd",
                "docker.io/library/httpd:latest",
                "httpd:latest",
            ),
            (
                "index.docker.io/library/httpd:1",
                "docker.io/library/httpd:1",
                "httpd:1",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            (
                "127.0.0.1:5000/a/b:t",
                "127.0.0.1:5000/a/b:t",
                "127.0.0.1:5000/a/b:t",
            ),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "quay.io/a/b/c:1_2.3-x",
                "quay.io/a/b/c:1_2.3-x",
                "quay.io/a/b/c:1_2.3-x",
            ),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            (
                "a__b/c---d/e.f_g",
                "docker.io/a__b/c---d/e.f_g:latest",
                "a__b/c---d/e.f_g:latest",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.full(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
        let pinned: Reference = format!("httpd@sha256:{HEX}").parse().unwrap();
        assert_eq!(
            (pinned.tag(), pinned.digest().map(|d| d.hex())),
            (None, Some(HEX.into()))
        );
        let both: Reference = format!("h.io:1/x:2@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.full(), format!("h.io:1/x:2@sha256:{HEX}"));
        assert_eq!(both.without_digest().unwrap().full(), "h.io:1/x:2");
    }

    #[test]
    fn says_what_is_wrong_at_which_character() {
        for (text, position, says) in [
            ("", 1, "empty"),
            ("Httpd", 1, "lower case"),
            ("user/App:1", 6, "lower case"),
            ("httpd:", 7, "tag is empty"),
            ("httpd:.1", 7, "a tag has"),
            ("httpd:a b", 8, "a tag has"),
            ("a//b", 3, "part of the name is empty"),
            ("-rm", 1, "begins with"),
            ("a..b", 3, "letters or digits stand between"),
            ("a___b", 4, "letters or digits stand between"),
            ("a-/b", 3, "ends with"),
            ("a\nb", 2, "lower-case letters"),
            ("é/b", 1, "lower-case letters"),
            ("h.io:5x/b", 7, "a port"),
            ("h.io:99999/b", 6, "not a port"),
            ("-h.io/b", 1, "host"),
            ("h..io/b", 3, "host is empty"),
            ("[::g]:1/b", 2, "IPv6"),
            ("httpd@sha256:1", 7, "wrong length"),
            ("httpd@md5:1", 7, "algorithm"),
            (HEX, 1, "image id"),
            (&format!("sha256:{HEX}"), 1, "a digest or an image id"),
            ("sha256:e3b0c44298fc", 1, "a digest or an image id"),
            ("docker.io/sha512", 1, "a digest or an image id"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!(error.position, position, "{text}: {error}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        for (text, hint) in [
            ("docker://httpd:2.4", Some("write httpd:2.4")),
            ("https://quay.io/org/app:1/", Some("write quay.io/org/app:1")),
            ("http://127.0.0.1:5000/app", Some("write 127.0.0.1:5000/app")),
            ("docker://Httpd", None),
            ("docker://https://httpd", None),
            ("://", None),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!((error.position, error.hint.as_deref()), (1, hint), "{text}");
        }
        assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
        assert_eq!(
            format!("a:{}", "t".repeat(129))
                .parse::<Reference>()
                .unwrap_err()
                .position,
            131
        );
        assert!(
            "a/".repeat(127)
                .as_str()
                .trim_end_matches('/')
                .parse::<Reference>()
                .is_err()
        );
    }

    #[test]
    fn a_digest_alone_is_an_image_without_a_name() {
        let text = format!("sha256:{HEX}");
        let nameless = Reference::parse_any(&text).unwrap();
        assert!(nameless.is_nameless() && nameless.tag().is_none());
        assert_eq!(
            (nameless.full(), nameless.familiar()),
            (text.clone(), text.clone())
        );
        assert_eq!(nameless.digest().unwrap().to_string(), text);
        assert_eq!(nameless.repository().full(), "");
        assert_eq!(nameless.without_digest(), None);
        let named = Reference::parse_any(&format!("httpd@{text}")).unwrap();
        assert!(!named.is_nameless());
        assert_eq!(named.full(), format!("docker.io/library/httpd@{text}"));
        for text in ["sha256:e3b0", "sha256:", ""] {
            assert!(Reference::parse_any(text).is_err(), "{text}");
        }
    }

    fn component() -> impl Strategy<Value = String> {
        "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}"
    }

    proptest! {
        #[test]
        fn full_and_familiar_forms_parse_to_the_same(
            domain in proptest::option::of("([a-z0-9]{1,5}\\.){1,2}[a-z]{2,3}(:[1-9][0-9]{0,3})?|localhost(:80)?"),
            path in proptest::collection::vec(component(), 1..4),
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            pinned: bool,
        ) {
            prop_assume!(path[0] != "localhost" || path.len() == 1);
            prop_assume!(domain.is_some() || !path[0].contains('.') || path.len() == 1);
            let mut text = domain.map(|d| d + "/").unwrap_or_default() + &path.join("/");
            if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
            if pinned { text = format!("{text}@sha256:{HEX}"); }
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.tag().map(str::to_string), tag.or((!pinned).then(|| "latest".into())));
            prop_assert_eq!(&reference.full().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            prop_assert!(reference.full().ends_with(&reference.familiar()));
        }

        #[test]
        fn never_panics_and_points_inside(text in "\\PC{0,40}|[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
            if let Err(error) = text.parse::<Reference>() {
                prop_assert!(error.position >= 1 && error.position <= text.chars().count() + 1);
            }
        }
    }
}
