//! `images --missing-from`: which images a place does not have.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use sealift::error::ErrorKind;
use sealift::host::Engine;
use sealift::interrupt::Interrupt;
use sealift::inventory::{EngineInventory, KnownHost, KnownImage};
use sealift::oci::{Digest, PlatformSelection, Reference};
use sealift::progress::Progress;
use sealift::registry::{Destination, DestinationError};
use sealift::save::{self, Resolved};
use sealift::source::Source;
use sealift::{Error, Result};

use crate::cli::from::FromArgs;
use crate::cli::stores::Local;

/// What stands before a registry.
const REGISTRY: &str = "registry://";

/// The word for the registries that images name, as in `--from`.
const REGISTRIES: &str = "registry";

/// A place that may have images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A registry, and a path below which its images are.
    Registry(Destination),
    /// The registries that the images name.
    Registries,
    /// An engine, an archive or layout, or the inventory of a host.
    Local(Local),
}

impl FromStr for Place {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Place, DestinationError> {
        match text.strip_prefix(REGISTRY) {
            Some(place) => place.parse().map(Place::Registry),
            None if text == REGISTRIES => Ok(Place::Registries),
            None => Ok(Place::Local(Local::parse(text))),
        }
    }
}

impl Place {
    /// The engine that is asked.
    pub fn engine(&self) -> Option<Engine> {
        match self {
            Place::Local(Local::Engine(engine)) => Some(*engine),
            _ => None,
        }
    }
}

/// How a place is asked.
pub struct Asking<'a> {
    /// The options for sources.
    pub from: &'a FromArgs,
    /// The platforms that images must have.
    pub platforms: Option<&'a PlatformSelection>,
    /// Those of single images, by their full names.
    pub platforms_of: &'a HashMap<String, PlatformSelection>,
    /// Receives notes.
    pub progress: &'a Arc<dyn Progress>,
    /// Stops it.
    pub interrupt: &'a Interrupt,
}

/// Why an image is missing.
pub struct Missing {
    /// The reason.
    pub error: Error,
    /// The digest that its tag has instead of the one in the list.
    pub digest: Option<Digest>,
}

impl From<Error> for Missing {
    fn from(error: Error) -> Missing {
        Missing { error, digest: None }
    }
}

impl Missing {
    /// Whether the place was asked, and does not have the image.
    pub fn is_missing(&self) -> bool {
        self.error.kind() == ErrorKind::NotFound
    }
}

/// Whether a place has each image; one answer for each, in order.
pub fn ask(place: &Place, references: &[Reference], asking: &Asking<'_>) -> Result<Vec<Result<(), Missing>>> {
    match place {
        Place::Registry(destination) => {
            let moved: Result<Vec<Reference>> = references.iter().map(|one| destination.name(one)).collect();
            let source = asking.from.direct(asking.progress, asking.interrupt)?;
            let label = format!("{REGISTRY}{destination}");
            Ok(there(in_source(&source, references, &moved?, &label, asking)?))
        }
        Place::Registries => {
            let source = asking.from.registries(asking.progress, asking.interrupt)?;
            let answers = in_source(&source, references, references, "the registry", asking)?;
            Ok(there(answers))
        }
        Place::Local(Local::Engine(engine)) => {
            if asking.platforms.is_some() {
                return Err(no_platform());
            }
            let engines = [asking.from.inventory(*engine)?];
            Ok(in_engines(&engines, references, &format!("the local {engine}")))
        }
        Place::Local(Local::Path(path)) if is_inventory(path) => {
            if asking.platforms.is_some() {
                return Err(no_platform());
            }
            let host = KnownHost::read(path)?;
            Ok(in_engines(&host.engines, references, &path.display().to_string()))
        }
        Place::Local(local @ Local::Path(path)) => {
            let source = asking.from.opened(local, asking.progress, asking.interrupt)?;
            let label = path.display().to_string();
            match source {
                Some(source) => in_files(source.as_ref(), references, &label, asking),
                None => Ok(Vec::new()),
            }
        }
    }
}

/// What is there, without what it is.
fn there(answers: Vec<Result<Resolved, Missing>>) -> Vec<Result<(), Missing>> {
    answers.into_iter().map(|answer| answer.map(drop)).collect()
}

fn no_platform() -> Error {
    Error::Usage {
        message: "--platform is for archives and registries: an engine has images for its own platform"
            .into(),
        hint: Some("leave out --platform".into()),
    }
}

/// Whether a file is a JSON document, and so no archive.
fn is_inventory(path: &Path) -> bool {
    let mut first = [0; 64];
    let is_file = path.is_file();
    let read = is_file.then(|| std::fs::File::open(path).and_then(|mut file| file.read(&mut first)));
    let Some(Ok(length)) = read else { return false };
    let begins = first.get(..length).unwrap_or_default();
    begins.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Asks an archive or layout. An image of which a blob is not there is missing, and so is one whose layers are left out.
fn in_files(
    source: &dyn Source,
    references: &[Reference],
    label: &str,
    asking: &Asking<'_>,
) -> Result<Vec<Result<(), Missing>>> {
    let answers = in_source(source, references, references, label, asking)?;
    let looked_at = references.iter().zip(answers).map(|(reference, answer)| {
        let blobs = answer?.blobs;
        let absent = |blob| source.open(reference.repository(), blob, 0).err();
        match blobs.iter().find_map(absent) {
            None => Ok(()),
            Some(error) => Err(Missing::from(Error::NotFound {
                what: reference.familiar(),
                place: label.into(),
                hint: Some(format!("only a part of the image is there: {error}").into()),
            })),
        }
    });
    Ok(looked_at.collect())
}

/// Asks a source: by the tag if there is one, so that its digest can be compared, else by the digest.
fn in_source(
    source: &dyn Source,
    references: &[Reference],
    moved: &[Reference],
    label: &str,
    asking: &Asking<'_>,
) -> Result<Vec<Result<Resolved, Missing>>> {
    let tagged = |one: &Reference| one.without_digest().unwrap_or_else(|| one.clone());
    let by_tag: Vec<Reference> = moved.iter().map(tagged).collect();
    // What has no such tag may have the digest.
    let mut answers = resolve(source, &by_tag, references, asking)?;
    let is_absent = |answer: &Result<Resolved>| {
        answer
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let again: Vec<usize> = (0..moved.len())
        .filter(|at| answers.get(*at).is_some_and(is_absent))
        .filter(|at| {
            moved
                .get(*at)
                .is_some_and(|one| one.digest().is_some() && one.tag().is_some())
        })
        .collect();
    let pick = |from: &[Reference]| {
        again
            .iter()
            .filter_map(|at| from.get(*at).cloned())
            .collect::<Vec<_>>()
    };
    let by_digest: Vec<Reference> = pick(moved)
        .iter()
        .filter_map(|one| Some(Reference::digested(one.repository(), one.digest()?)))
        .collect();
    let found = resolve(source, &by_digest, &pick(references), asking)?;
    for (at, answer) in again.into_iter().zip(found) {
        if let (Some(slot), Ok(_)) = (answers.get_mut(at), &answer) {
            *slot = answer;
        }
    }
    let compared = references.iter().zip(answers);
    Ok(compared
        .map(|(reference, answer)| {
            let found = answer?;
            match reference.digest() {
                Some(expected) if found.digest != Some(expected) => {
                    Err(other_digest(reference, expected, found.digest, label))
                }
                _ => Ok(found),
            }
        })
        .collect())
}

fn resolve(
    source: &dyn Source,
    moved: &[Reference],
    references: &[Reference],
    asking: &Asking<'_>,
) -> Result<Vec<Result<Resolved>>> {
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    let named = moved.iter().zip(references);
    let platforms_of = named.map(|(moved, reference)| {
        let own = asking.platforms_of.get(&reference.full());
        (moved.full(), own.cloned().unwrap_or(PlatformSelection::Present))
    });
    let options = save::Options {
        referrers: save::ReferrerSelection::None,
        platforms: asking.platforms.cloned(),
        platforms_of: platforms_of.collect(),
        keep_going: true,
        ..save::Options::default()
    };
    save::resolve(source, moved, &options, asking.interrupt)
}

fn other_digest(reference: &Reference, expected: Digest, found: Option<Digest>, label: &str) -> Missing {
    let hint = match found {
        Some(found) => format!("it has {found} there"),
        None => "it has no digest there".into(),
    };
    let name = reference.without_digest().unwrap_or_else(|| reference.clone());
    Missing {
        error: Error::NotFound {
            what: format!("{name} with the digest {expected}"),
            place: label.into(),
            hint: Some(hint.into()),
        },
        digest: found,
    }
}

/// Looks images up in inventories. One engine of a host is enough.
fn in_engines(
    engines: &[EngineInventory],
    references: &[Reference],
    label: &str,
) -> Vec<Result<(), Missing>> {
    let mut tags: HashMap<String, Vec<Known<'_>>> = HashMap::new();
    let mut digests: HashMap<String, Vec<Known<'_>>> = HashMap::new();
    for engine in engines {
        for image in &engine.images {
            for (names, known) in [(&image.tags, &mut tags), (&image.digests, &mut digests)] {
                for name in names.iter().filter_map(|name| name.parse::<Reference>().ok()) {
                    known.entry(name.full()).or_default().push((engine, image));
                }
            }
        }
    }
    let look_up = |reference: &Reference| {
        let by_tag = reference.without_digest().and_then(|name| tags.get(&name.full()));
        let by_digest = reference.digest().map(|digest| {
            let name = Reference::digested(reference.repository(), digest);
            (digest, digests.get(&name.full()))
        });
        let found = match (by_tag, by_digest) {
            (_, Some((_, Some(found)))) | (Some(found), None) => found,
            (Some(others), Some((expected, None))) => {
                let found = digest_of(others, reference);
                return Err(other_digest(reference, expected, found, label));
            }
            (None, _) => return Err(absent(reference, label, None)),
        };
        match found.iter().all(|(engine, image)| engine.lacks_content(image)) {
            true => Err(absent(
                reference,
                label,
                Some("only a part of the image is there"),
            )),
            false => Ok(()),
        }
    };
    references.iter().map(look_up).collect()
}

/// An image, and the engine that has it.
type Known<'e> = (&'e EngineInventory, &'e KnownImage);

/// A digest that images have in the repository of a reference.
fn digest_of(images: &[Known<'_>], reference: &Reference) -> Option<Digest> {
    let names = images.iter().flat_map(|(_, image)| image.digests.iter());
    names
        .filter_map(|name| name.parse::<Reference>().ok())
        .find(|name| name.repository() == reference.repository())
        .and_then(|name| name.digest())
}

fn absent(reference: &Reference, label: &str, hint: Option<&'static str>) -> Missing {
    Missing::from(Error::NotFound {
        what: reference.familiar(),
        place: label.into(),
        hint: hint.map(Into::into),
    })
}
