//! Parses references, and says what is wrong at which character.

use std::str::FromStr;

use super::{ALGORITHMS, DEFAULT_DOMAIN, LEGACY_DOMAIN, MAX_NAME, MAX_TAG, OFFICIAL, Reference, Repository};

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
                    use crate::oci::digest::DigestError as E;
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
        full: full.into(),
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
