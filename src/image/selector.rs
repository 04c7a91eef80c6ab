//! Selects images: by name, by repository, by registry or path, or by digest.

use std::fmt;

use crate::error::{Error, Result};
use crate::oci::{Digest, Reference, Repository};

/// Digits of an image id as `docker images` shows it, and of a whole one.
const SHORT_ID: usize = 12;
const LONG_ID: usize = 64;

/// What identifies an image.
#[derive(Debug, Clone)]
pub struct Identity<'a> {
    /// Its name, if it has one.
    pub reference: Option<&'a Reference>,
    /// Its digest, if that is known.
    pub digest: Option<Digest>,
    /// Digest of its manifest or index, which may be a substitute.
    pub root: Digest,
    /// Digests of its configs, one for each platform.
    pub image_ids: Vec<Digest>,
}

impl Identity<'_> {
    /// Whether this is a further digest of an image: `NAME@DIGEST` without a tag, in the repository of that image's tag
    /// and with its config.
    pub fn is_further_digest_of(&self, tagged: &Identity<'_>) -> bool {
        let (Some(own), Some(tag)) = (self.reference, tagged.reference) else {
            return false;
        };
        own.tag().is_none()
            && tag.tag().is_some()
            && own.repository() == tag.repository()
            && self.image_ids.iter().any(|id| tagged.image_ids.contains(id))
    }

    fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digest.iter().chain([&self.root]).chain(&self.image_ids)
    }

    /// A digest that selects it: its own, else its image id, else that of its substitute.
    pub fn handle(&self) -> Digest {
        let image_id = match self.image_ids.as_slice() {
            [only] => *only,
            _ => self.root,
        };
        self.digest.unwrap_or(image_id)
    }

    /// Its name, or else a digest that selects it.
    pub fn label(&self) -> String {
        self.reference
            .map_or_else(|| self.handle().to_string(), Reference::familiar)
    }
}

/// Which images are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The image whose digest or image id begins with this: `sha256:4bf5b2`.
    Digest(String),
    /// One image by its full name. A name with a digest and no tag matches any tag.
    Image(Reference),
    /// Every image of a repository.
    Repository(Repository),
    /// Every image below a registry, or below a path in one, such as `docker.io/library`.
    Below(String),
}

impl Selector {
    /// Parses text as Docker does: a digest, a repository, or a full name.
    ///
    /// # Errors
    ///
    /// If it is none of them.
    pub fn parse(text: &str) -> Result<Selector> {
        if let Some(digest) = digest(text) {
            return digest;
        }
        // No repository has such a name.
        if let Some(id) = Selector::id(text).filter(|_| text.len() == LONG_ID) {
            return Ok(id);
        }
        match text.parse() {
            Ok(repository) => Ok(Selector::Repository(repository)),
            Err(_) => Ok(Selector::Image(text.parse()?)),
        }
    }

    /// An image id as `docker images` shows it, without `sha256:`; `None` if the text is not one. It may be a repository.
    pub fn id(text: &str) -> Option<Selector> {
        let is_id = (SHORT_ID..=LONG_ID).contains(&text.len()) && text.chars().all(is_hex);
        is_id.then(|| Selector::Digest(format!("sha256:{text}")))
    }

    /// The same; text that names a registry or ends in a slash also selects everything below it.
    /// `docker.io/library` may be the repository `docker.io/library/library` or everything below it,
    /// `localhost:5000` a tag of `docker.io/library/localhost` or a registry.
    ///
    /// # Errors
    ///
    /// If it has no valid reading.
    pub fn readings(text: &str) -> Result<Vec<Selector>> {
        if let Some(below) = text.strip_suffix('/').and_then(below) {
            return Ok(vec![below]);
        }
        let names_registry = text.contains(['.', ':']) || text.starts_with("localhost");
        let below = below(text).filter(|_| names_registry && !text.contains('@'));
        match (Selector::parse(text), below) {
            // A repository counts as below itself, because nothing else can be meant.
            (Ok(Selector::Repository(repository)), Some(Selector::Below(path)))
                if repository.full() == path =>
            {
                Ok(vec![Selector::Below(path)])
            }
            (Ok(digest @ Selector::Digest(_)), _) => Ok(vec![digest]),
            (Ok(named), below) => Ok([Some(named), below, Selector::id(text)]
                .into_iter()
                .flatten()
                .collect()),
            (Err(_), Some(below)) => Ok(vec![below]),
            (Err(error), None) => Err(error),
        }
    }

    /// Whether it selects an image.
    pub fn is(&self, image: &Identity<'_>) -> bool {
        match (self, image.reference) {
            (Selector::Digest(prefix), _) => image
                .digests()
                .any(|digest| digest.to_string().starts_with(prefix)),
            (Selector::Image(name), Some(reference)) => {
                let is_pinned = name.digest().is_some_and(|digest| Some(digest) == image.digest)
                    && name.repository() == reference.repository()
                    && (name.tag().is_none() || name.tag() == reference.tag());
                is_pinned || name == reference || Some(name) == reference.without_digest().as_ref()
            }
            (Selector::Repository(repository), Some(reference)) => reference.repository() == repository,
            (Selector::Below(path), Some(reference)) => rest(path, reference.repository()).is_some(),
            (_, None) => false,
        }
    }

    /// Text that has only this reading.
    pub fn text(&self) -> String {
        match self {
            Selector::Digest(digest) => digest.clone(),
            Selector::Image(reference) => reference.full(),
            Selector::Repository(repository) => repository.full().into(),
            Selector::Below(path) => format!("{path}/"),
        }
    }
}

/// The part of a repository's full name after `path`, if the repository is below it or is it.
pub(crate) fn rest<'a>(path: &str, repository: &'a Repository) -> Option<&'a str> {
    let rest = repository.full().strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Refuses a prefix of several digests.
///
/// # Errors
///
/// [`Error::Usage`] with the digests.
pub(crate) fn one_digest(prefix: &str, images: &[Identity<'_>]) -> Result<()> {
    let mut found: Vec<String> = images
        .iter()
        .flat_map(Identity::digests)
        .map(|digest| digest.to_string())
        .filter(|digest| digest.starts_with(prefix))
        .collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] | [_] => Ok(()),
        several => Err(Error::Usage {
            message: format!(
                "{prefix} is the beginning of {} digests: {}",
                several.len(),
                several.join(", ")
            ),
            hint: Some("write more of it".into()),
        }),
    }
}

fn is_hex(char: char) -> bool {
    matches!(char, '0'..='9' | 'a'..='f')
}

/// A digest or the beginning of one; `None` if the text is neither. No repository has such a name.
fn digest(text: &str) -> Option<Result<Selector>> {
    let (algorithm, hex) = text.split_once(':')?;
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    if hex.is_empty() || hex.len() > length || !hex.chars().all(is_hex) {
        return Some(Err(Error::Usage {
            message: format!(
                "{text:?} is not a digest: it has up to {length} lower-case hex digits after {algorithm}:"
            ),
            hint: None,
        }));
    }
    Some(Ok(Selector::Digest(text.into())))
}

/// A registry or a path in one, in Docker's full form.
fn below(path: &str) -> Option<Selector> {
    const ANY: &str = "/x/x";
    let repository: Repository = format!("{path}{ANY}").parse().ok()?;
    let path = repository.full().strip_suffix(ANY)?;
    Some(Selector::Below(path.into()))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Digest(_) | Selector::Image(_) => write!(f, "the image {}", self.text()),
            Selector::Repository(_) => write!(f, "the repository {}", self.text()),
            Selector::Below(_) => write!(f, "all below {}", self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(text: &str) -> String {
        match Selector::readings(text) {
            Ok(readings) => {
                let readings: Vec<String> = readings.iter().map(ToString::to_string).collect();
                readings.join(" | ")
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
                "-".into()
            }
        }
    }

    #[test]
    fn a_text_means_what_docker_makes_of_it_and_what_is_below() {
        let full = format!("sha256:{}", "a".repeat(64));
        let long = format!("sha256:{}", "a".repeat(65));
        for (text, readings) in [
            ("httpd", "the repository docker.io/library/httpd"),
            ("httpd:2.4", "the image docker.io/library/httpd:2.4"),
            ("user/app", "the repository docker.io/user/app"),
            ("user/", "all below docker.io/user/"),
            (
                "docker.io",
                "the repository docker.io/library/docker.io | all below docker.io/",
            ),
            ("docker.io/", "all below docker.io/"),
            (
                "docker.io/library",
                "the repository docker.io/library/library | all below docker.io/library/",
            ),
            ("docker.io/library/httpd", "all below docker.io/library/httpd/"),
            ("quay.io/org", "all below quay.io/org/"),
            ("index.docker.io/", "all below docker.io/"),
            (
                "127.0.0.1:5210",
                "the image docker.io/library/127.0.0.1:5210 | all below 127.0.0.1:5210/",
            ),
            ("127.0.0.1:5210/", "all below 127.0.0.1:5210/"),
            ("[::1]:5000", "all below [::1]:5000/"),
            ("sha256:4b", "the image sha256:4b"),
            (
                "49eb034b73f3",
                "the repository docker.io/library/49eb034b73f3 | the image sha256:49eb034b73f3",
            ),
            (&full["sha256:".len()..], &format!("the image {full}")),
            (&full, &format!("the image {full}")),
            (&long, "-"),
            ("sha256:", "-"),
            ("sha256:XY", "-"),
            ("", "-"),
            ("/", "-"),
            ("a//", "-"),
            ("Httpd", "-"),
            ("docker://httpd", "-"),
            ("httpd:2.4/", "-"),
        ] {
            assert_eq!(read(text), readings, "{text}");
        }
    }
}
