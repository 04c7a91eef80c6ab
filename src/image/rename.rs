//! Renames of images, `FROM=TO`, for `save` and `load`.
//!
//! FROM is read as in `Selector::readings`. Of several readings, the one that matches an image applies. Of
//! several renames that match an image, the most specific one applies: an image before a repository, and that
//! before a registry or path.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::image::selector::{Identity, Selector, one_digest, rest};
use crate::oci::{Reference, Repository};

/// Renames images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    from: String,
    to: String,
    readings: Vec<Selector>,
}

impl FromStr for Rename {
    type Err = Error;

    /// Parses `FROM=TO`.
    fn from_str(text: &str) -> Result<Rename> {
        let usage = |message: String| Error::Usage {
            message,
            hint: Some(
                "it is written FROM=TO: httpd:2.4=web:1, httpd=harbor.local/web, quay.io=harbor.local/quay"
                    .into(),
            ),
        };
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| usage(format!("{text:?} is not a valid name")))?;
        let readings = Selector::readings(from)?;
        let fitting = |reading: &Selector| Target::parse(reading, to).map(drop);
        // One valid reading is enough: the images decide which one applies.
        let mut wrong = None;
        for reading in &readings {
            match fitting(reading) {
                Ok(()) => {
                    wrong = None;
                    break;
                }
                Err(reason) => drop(wrong.get_or_insert(reason)),
            }
        }
        match wrong {
            Some(reason) => Err(usage(format!("{from:?} {reason}"))),
            None => Ok(Rename {
                from: from.into(),
                to: to.into(),
                readings,
            }),
        }
    }
}

/// The new name of the images that a selector matches.
enum Target {
    /// One image: this name.
    Image(Reference),
    /// Images with a name: the same tag in this repository.
    Repository(Repository),
    /// Images below a registry or path: the rest of their names below this.
    Below(String),
}

impl Target {
    /// Reads `TO` for a reading of `FROM`; an error if the two do not match.
    fn parse(from: &Selector, to: &str) -> Result<Target, String> {
        let wrong = |error: Error| format!("gets no new name: {error}");
        let repository = || to.parse::<Repository>().map(Target::Repository);
        match from {
            Selector::Digest(_) | Selector::Image(_) => match repository() {
                Ok(repository) => Ok(repository),
                Err(_) => match to.parse() {
                    Ok(name) => Ok(Target::Image(name)),
                    Err(error) => Err(wrong(error.into())),
                },
            },
            Selector::Repository(_) => repository().map_err(|_| match to.parse::<Reference>() {
                Ok(_) => format!("names a repository, {to:?} one image"),
                Err(error) => wrong(error.into()),
            }),
            Selector::Below(path) => {
                let below = to.trim_end_matches('/');
                match format!("{below}/x/x").parse::<Repository>() {
                    Ok(_) => Ok(Target::Below(below.into())),
                    Err(_) if to.parse::<Reference>().is_ok() => {
                        Err(format!("means all below {path}/, {to:?} one image"))
                    }
                    Err(error) => Err(wrong(error.into())),
                }
            }
        }
    }
}

/// A rename, with its reading for these images.
struct Meant<'a> {
    rename: &'a Rename,
    from: &'a Selector,
    target: Target,
}

impl Meant<'_> {
    /// How specific it is: the greatest applies.
    fn rank(&self) -> (u8, usize) {
        match self.from {
            Selector::Digest(_) | Selector::Image(_) => (2, 0),
            Selector::Repository(repository) => (1, repository.full().len()),
            Selector::Below(path) => (1, path.len()),
        }
    }

    fn name(&self, image: &Identity<'_>) -> Result<Reference> {
        let usage = |message: String| Error::Usage { message, hint: None };
        let name = match (&self.target, image.reference) {
            (Target::Image(name), _) => name.clone(),
            (Target::Repository(repository), Some(reference)) => reference.moved_to(repository),
            (Target::Below(to), Some(reference)) => {
                let rest = match self.from {
                    Selector::Below(path) => rest(path, reference.repository()),
                    _ => None,
                };
                let moved = format!("{to}{}", rest.unwrap_or_default());
                let moved = moved.parse().map_err(|error| {
                    usage(format!(
                        "{}: {}={}: {error}",
                        image.label(),
                        self.rename.from,
                        self.rename.to
                    ))
                })?;
                reference.moved_to(&moved)
            }
            (Target::Repository(_) | Target::Below(_), None) => {
                let (label, to) = (image.label(), &self.rename.to);
                return Err(Error::Usage {
                    message: format!("{label} has no tag of its own, and {to} names none"),
                    hint: Some(format!("{label}={to}:TAG").into()),
                });
            }
        };
        match (name.digest(), image.digest) {
            (Some(pinned), known) if known != Some(pinned) => Err(usage(format!(
                "{name} names another digest than that of {}",
                image.label()
            ))),
            _ => Ok(name),
        }
    }
}

/// Renames images. Returns their names in order, `None` for one without a name. Further digests of an image are
/// renamed with its tags, unless one of those keeps its repository.
///
/// # Errors
///
/// [`Error::Usage`] if a rename matches no image or is ambiguous, if two give an image different names, or if a
/// result is not a name.
pub fn apply(renames: &[Rename], images: &[Identity<'_>]) -> Result<Vec<Option<Reference>>> {
    let meant: Vec<Meant<'_>> = renames
        .iter()
        .map(|rename| rename.meant(images))
        .collect::<Result<_>>()?;
    let names: Vec<_> = images
        .iter()
        .map(|image| name(&meant, image))
        .collect::<Result<_>>()?;
    let is_meant = |image: &Identity<'_>| meant.iter().any(|meant| meant.from.is(image));
    let follow = |(image, name): (&Identity<'_>, &Option<Reference>)| match image.reference {
        Some(own) if !is_meant(image) => {
            let moved = led_by(image, images, &names);
            Some(moved.map_or_else(|| own.clone(), |repository| own.moved_to(repository)))
        }
        _ => name.clone(),
    };
    Ok(images.iter().zip(&names).map(follow).collect())
}

/// The repository to which the tags of an image move of which this is a further digest; `None` if it has no
/// tags, or one keeps its repository.
fn led_by<'n>(
    image: &Identity<'_>,
    images: &[Identity<'_>],
    names: &'n [Option<Reference>],
) -> Option<&'n Repository> {
    let pairs = images.iter().zip(names);
    let mut tags = pairs.filter(|(tagged, _)| image.is_further_digest_of(tagged));
    let moved = |(tagged, name): (&Identity<'_>, &'n Option<Reference>)| {
        let repository = name.as_ref()?.repository();
        (Some(repository) != tagged.reference.map(Reference::repository)).then_some(repository)
    };
    let first = moved(tags.next()?)?;
    tags.all(|tag| moved(tag).is_some()).then_some(first)
}

fn name(meant: &[Meant<'_>], image: &Identity<'_>) -> Result<Option<Reference>> {
    let matching = || meant.iter().filter(|meant| meant.from.is(image));
    let Some(narrowest) = matching().map(Meant::rank).max() else {
        return Ok(image.reference.cloned());
    };
    let mut chosen: Option<(&Rename, Reference)> = None;
    for meant in matching().filter(|meant| meant.rank() == narrowest) {
        let name = meant.name(image)?;
        match &chosen {
            Some((first, known)) if *known != name => {
                return Err(Error::Usage {
                    message: format!("{} gets two names, {known} and {name}", image.label()),
                    hint: Some(
                        format!(
                            "leave out {}={} or {}={}",
                            first.from, first.to, meant.rename.from, meant.rename.to
                        )
                        .into(),
                    ),
                });
            }
            _ => chosen = Some((meant.rename, name)),
        }
    }
    Ok(chosen.map(|(_, name)| name))
}

impl Rename {
    /// The reading that matches images.
    fn meant(&self, images: &[Identity<'_>]) -> Result<Meant<'_>> {
        let is_of = |reading: &&Selector| images.iter().any(|image| reading.is(image));
        let mut matching = self.readings.iter().filter(is_of);
        let text = format!("{}={}", self.from, self.to);
        let Some(from) = matching.next() else {
            return Err(Error::Usage {
                message: format!("{text} renames nothing: no image has this name"),
                hint: Some(format!("there is {}", listed(images)).into()),
            });
        };
        if let Some(other) = matching.next() {
            return Err(Error::Usage {
                message: format!("{text} can mean {from} and {other}"),
                hint: Some(
                    format!(
                        "write {}={to} or {}={to}",
                        from.text(),
                        other.text(),
                        to = self.to
                    )
                    .into(),
                ),
            });
        }
        if let Selector::Digest(prefix) = from {
            one_digest(prefix, images)?;
        }
        match Target::parse(from, &self.to) {
            Ok(target) => Ok(Meant {
                rename: self,
                from,
                target,
            }),
            Err(reason) => Err(Error::Usage {
                message: format!("{:?} {reason}", self.from),
                hint: None,
            }),
        }
    }
}

/// The existing names.
fn listed(images: &[Identity<'_>]) -> String {
    let mut known: Vec<String> = images.iter().map(Identity::label).collect();
    known.sort();
    known.dedup();
    known.join(", ")
}

#[cfg(test)]
#[path = "rename_tests.rs"]
mod tests;
