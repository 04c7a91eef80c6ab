//! What is wanted of the images that are offered: which of them, and under which names.

use std::fmt;

use super::LeftOut;
use super::offer::{Damaged, Offer, Offers};
use crate::error::{Error, Result};
use crate::escape::Escaped;
use crate::oci::{Digest, Reference, Repository};

/// How digests may be attached where the engine forgets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attach {
    /// By the first way that works.
    #[default]
    Auto,
    /// Only by ways that do not stop the engine.
    Live,
    /// Only by ways that stop the engine and start it again.
    Offline,
    /// Not at all.
    None,
}

/// What is wanted of the images that are offered.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names of the images to load; all if empty.
    pub images: Vec<String>,
    /// New names.
    pub renames: Vec<Rename>,
    /// How digests may be attached.
    pub attach: Attach,
    /// Whether images that are whole are loaded when others are not.
    pub keep_going: bool,
}

/// Gives images other names on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    from: Named,
    to: Named,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Repository(Repository),
    Reference(Reference),
    Digest(Digest),
}

impl Named {
    fn parse(text: &str) -> Result<Named> {
        if let Ok(digest) = text.parse() {
            return Ok(Named::Digest(digest));
        }
        if let Ok(repository) = text.parse() {
            return Ok(Named::Repository(repository));
        }
        Ok(Named::Reference(text.parse()?))
    }

    /// Whether an image is meant that is known by a digest, or by none, and has this manifest or index.
    fn is(&self, reference: Option<&Reference>, known: Option<Digest>, root: Digest) -> bool {
        match (self, reference) {
            (Named::Digest(digest), _) => Some(*digest) == known || *digest == root,
            (Named::Repository(repository), Some(reference)) => reference.repository() == repository,
            (Named::Reference(name), Some(reference)) => {
                let is_pinned = name.digest().is_some_and(|digest| Some(digest) == known)
                    && name.repository() == reference.repository()
                    && (name.tag().is_none() || name.tag() == reference.tag());
                is_pinned || name == reference || Some(name) == reference.without_digest().as_ref()
            }
            (_, None) => false,
        }
    }

    fn is_offer(&self, offer: &Offer<'_>) -> bool {
        self.is(offer.reference.as_ref(), offer.digest(), offer.graph.root.digest)
    }

    fn is_damaged(&self, image: &Damaged) -> bool {
        self.is(image.reference.as_ref(), image.digest, image.root)
    }
}

impl std::str::FromStr for Rename {
    type Err = Error;

    /// Parses `FROM=TO`. `FROM` is a repository, a whole name, or the digest of an image without a name.
    fn from_str(text: &str) -> Result<Rename> {
        let usage = |message: String| Error::Usage {
            message,
            hint: Some("it is written FROM=TO: httpd=harbor.local/web, or httpd:2.4=web:1".into()),
        };
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| usage(format!("{text:?} is no new name")))?;
        let rename = Rename {
            from: Named::parse(from)?,
            to: Named::parse(to)?,
        };
        match (&rename.from, &rename.to) {
            (_, Named::Digest(_)) => Err(usage(format!("{to:?} is a digest, not a name"))),
            (Named::Repository(_), Named::Reference(_)) => {
                Err(usage(format!("{from:?} names a repository, {to:?} one image")))
            }
            (Named::Digest(_), Named::Repository(_)) => Err(usage(format!(
                "{to:?} lacks a tag: the image has none of its own"
            ))),
            _ => Ok(rename),
        }
    }
}

/// The images that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Positions in the offers, with the names that they get. One without a name has `None`.
    pub images: Vec<(usize, Option<Reference>)>,
    /// Those that are not whole.
    pub left_out: Vec<LeftOut>,
}

impl Request {
    /// Finds the offers that are meant.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] with what exists if a name is not offered; [`Error::Usage`] if two images would
    /// get one name; [`Error::Unverified`] if an image is not whole and none is to be left out.
    pub fn select(&self, offers: &Offers<'_>) -> Result<Selection> {
        let mut chosen: Vec<usize> = Vec::new();
        let mut damaged: Vec<usize> = Vec::new();
        if self.images.is_empty() {
            chosen.extend(0..offers.images.len());
            damaged.extend(0..offers.damaged.len());
        }
        for text in &self.images {
            let (whole, broken) = hits(text, offers)?;
            if whole.is_empty() && broken.is_empty() {
                return Err(not_offered(text, offers));
            }
            chosen.extend(whole);
            damaged.extend(broken);
        }
        for rename in &self.renames {
            let is_known = offers.images.iter().any(|offer| rename.from.is_offer(offer))
                || offers.damaged.iter().any(|image| rename.from.is_damaged(image));
            if !is_known {
                return Err(not_offered(&rename.from.to_string(), offers));
            }
        }
        damaged.sort_unstable();
        damaged.dedup();
        if !damaged.is_empty() && !self.keep_going {
            return Err(Error::Unverified {
                place: offers.place(),
                count: damaged.len(),
                hint: Some("--keep-going loads the images that are whole".into()),
            });
        }
        let left_out = damaged.iter().filter_map(|at| offers.damaged.get(*at));
        Ok(Selection {
            images: self.named(chosen, offers)?,
            left_out: left_out
                .map(|image| LeftOut {
                    name: image.label(),
                    reason: "it is damaged".into(),
                    exit_code: 1,
                })
                .collect(),
        })
    }

    fn named(&self, mut chosen: Vec<usize>, offers: &Offers<'_>) -> Result<Vec<(usize, Option<Reference>)>> {
        chosen.sort_unstable();
        chosen.dedup();
        let mut named: Vec<(usize, Option<Reference>)> = Vec::new();
        for at in chosen {
            let Some(offer) = offers.images.get(at) else {
                continue;
            };
            let name = self.name(offer);
            let twin = named
                .iter()
                .find(|(_, known)| known.is_some() && *known == name)
                .and_then(|(known, _)| offers.images.get(*known));
            match (twin, &name) {
                (Some(twin), _)
                    if twin.graph.root.digest == offer.graph.root.digest
                        && twin.digest() == offer.digest() => {}
                (Some(_), Some(name)) => {
                    return Err(Error::Usage {
                        message: format!("two different images would be named {name}"),
                        hint: Some("choose one with --image, or another name with --rename".into()),
                    });
                }
                _ => named.push((at, name)),
            }
        }
        Ok(named)
    }

    fn name(&self, offer: &Offer<'_>) -> Option<Reference> {
        let rename = self.renames.iter().find(|rename| rename.from.is_offer(offer));
        match (rename.map(|rename| &rename.to), &offer.reference) {
            (Some(Named::Reference(name)), _) => Some(name.clone()),
            (Some(Named::Repository(repository)), Some(reference)) => Some(reference.moved_to(repository)),
            (_, reference) => reference.clone(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Repository(repository) => write!(f, "{repository}"),
            Named::Reference(reference) => write!(f, "{reference}"),
            Named::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// An exact name, else every image of the repository: positions of whole and of damaged images.
fn hits(text: &str, offers: &Offers<'_>) -> Result<(Vec<usize>, Vec<usize>)> {
    let positions = |name: &Named| -> (Vec<usize>, Vec<usize>) {
        let whole = offers.images.iter().enumerate();
        let whole = whole.filter(|(_, offer)| name.is_offer(offer));
        let broken = offers.damaged.iter().enumerate();
        let broken = broken.filter(|(_, image)| name.is_damaged(image));
        (
            whole.map(|(at, _)| at).collect(),
            broken.map(|(at, _)| at).collect(),
        )
    };
    let named = Named::parse(text)?;
    if let Named::Repository(_) = named {
        // `httpd` is `httpd:latest` where there is one.
        let exact = positions(&Named::Reference(text.parse()?));
        if !exact.0.is_empty() || !exact.1.is_empty() {
            return Ok(exact);
        }
    }
    Ok(positions(&named))
}

fn not_offered(text: &str, offers: &Offers<'_>) -> Error {
    let mut known: Vec<String> = offers.images.iter().map(Offer::label).collect();
    known.sort();
    known.dedup();
    Error::NotFound {
        what: Escaped(text).to_string(),
        place: offers.place(),
        hint: Some(format!("it has {}", known.join(", "))),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
