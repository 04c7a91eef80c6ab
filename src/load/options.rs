//! Which of the candidates to load, and under which names.

use std::collections::BTreeMap;

use super::Skipped;
use super::candidate::{Candidate, Candidates, DamagedImage};
use super::omitted::LackingImage;
use crate::error::{Error, ErrorKind, Remedy, Result};
use crate::escape::Escaped;
use crate::image::names;
use crate::image::rename::{self, Rename};
use crate::image::selector::{self, Identity, Selector};
use crate::oci::{Platform, Reference};
use crate::trust::PolicyCheck;
use crate::verify;

/// Which of the candidates to load, and how.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Names of the images to load; all if empty.
    pub images: Vec<String>,
    /// Renames.
    pub renames: Vec<Rename>,
    /// The platforms to load; if empty, those that the target chooses.
    pub platforms: Vec<Platform>,
    /// Whether to skip images that cannot be loaded.
    pub keep_going: bool,
    /// Whether to plan only.
    pub dry_run: bool,
    /// How archives are verified.
    pub verify: verify::Options,
    /// Images, by their positions among the candidates, that are skipped because the target lacks layers of them that
    /// no archive has.
    pub lacking: BTreeMap<usize, LackingImage>,
    /// The policy that the images have to meet.
    pub policy: Option<PolicyCheck>,
    /// Images, by their positions among the candidates, that are skipped because the policy does not accept them.
    pub rejected: BTreeMap<usize, Skipped>,
}

/// The selected images.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// Positions in the candidates, with the names of the images. `None` for one without a name.
    pub images: Vec<(usize, Option<Reference>)>,
    /// Those that are damaged.
    pub skipped: Vec<Skipped>,
}

impl LoadOptions {
    /// The platform to load, for a target that loads one of each image.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there are several.
    pub fn platform(&self) -> Result<Option<&Platform>> {
        match self.platforms.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            _ => Err(Error::Usage {
                message: "an engine gets one platform of an image, and several were named".into(),
                hint: Some(Remedy::OnePlatform.into()),
            }),
        }
    }

    /// Selects candidates.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] with the existing names if one does not exist; [`Error::Usage`] if two images would
    /// get the same name; [`Error::Unverified`] if an image is damaged and none may be skipped.
    pub fn select(&self, candidates: &Candidates<'_>) -> Result<Selected> {
        let mut chosen: Vec<usize> = Vec::new();
        let mut damaged: Vec<usize> = Vec::new();
        if self.images.is_empty() {
            chosen.extend(0..candidates.images.len());
            damaged.extend(0..candidates.damaged.len());
        }
        for text in &self.images {
            let (whole, broken) = hits(text, candidates)?;
            if whole.is_empty() && broken.is_empty() {
                return Err(not_found(text, candidates));
            }
            chosen.extend(whole);
            damaged.extend(broken);
        }
        damaged.sort_unstable();
        damaged.dedup();
        if !damaged.is_empty() && !self.keep_going {
            return Err(Error::Unverified {
                place: candidates.place(),
                count: damaged.len(),
                hint: Some(Remedy::KeepGoing.into()),
            });
        }
        chosen.sort_unstable();
        chosen.dedup();
        let lacking = chosen.iter().filter_map(|at| self.lacking.get(at));
        let lacking: Vec<Skipped> = lacking.map(LackingImage::skipped).collect();
        let rejected = chosen.iter().filter_map(|at| self.rejected.get(at));
        let rejected: Vec<Skipped> = rejected.cloned().collect();
        chosen.retain(|at| !self.lacking.contains_key(at) && !self.rejected.contains_key(at));
        let damaged: Vec<&DamagedImage> = damaged
            .iter()
            .filter_map(|at| candidates.damaged.get(*at))
            .collect();
        Ok(Selected {
            images: self.named(&chosen, &damaged, candidates)?,
            skipped: damaged
                .into_iter()
                .map(|image| Skipped {
                    name: image.label(),
                    reason: "it is damaged".into(),
                    hint: None,
                    kind: ErrorKind::Content,
                })
                .chain(lacking)
                .chain(rejected)
                .collect(),
        })
    }

    /// The selected candidates with their names, each image once under each name.
    fn named(
        &self,
        chosen: &[usize],
        damaged: &[&DamagedImage],
        candidates: &Candidates<'_>,
    ) -> Result<Vec<(usize, Option<Reference>)>> {
        let whole = chosen.iter().filter_map(|at| candidates.images.get(*at));
        let mut identities: Vec<Identity<'_>> = whole.map(Candidate::identity).collect();
        identities.extend(damaged.iter().map(|image| image.identity()));
        let names = rename::apply(&self.renames, &identities)?;
        let mut named: Vec<(usize, Option<Reference>)> = Vec::new();
        for (at, name) in chosen.iter().copied().zip(names) {
            let Some(candidate) = candidates.images.get(at) else {
                continue;
            };
            let twin = named
                .iter()
                .find(|(_, known)| known.is_some() && *known == name)
                .and_then(|(known, _)| candidates.images.get(*known));
            match (twin, &name) {
                (Some(twin), _)
                    if twin.image.graph.root.digest == candidate.image.graph.root.digest
                        && twin.digest() == candidate.digest() => {}
                (Some(_), Some(name)) => {
                    return Err(Error::Usage {
                        message: format!("two different images would be named {name}"),
                        hint: Some(Remedy::SelectOrRename.into()),
                    });
                }
                _ => named.push((at, name)),
            }
        }
        Ok(named)
    }
}

/// An exact name with the further digests of its image, else every image of the repository: positions of
/// undamaged and of damaged images.
fn hits(text: &str, candidates: &Candidates<'_>) -> Result<(Vec<usize>, Vec<usize>)> {
    let positions = |name: &Selector| -> (Vec<usize>, Vec<usize>) {
        let identities: Vec<Identity<'_>> = candidates.images.iter().map(Candidate::identity).collect();
        let named: Vec<&Identity<'_>> = identities.iter().filter(|one| name.is(one)).collect();
        let is_meant =
            |one: &Identity<'_>| name.is(one) || named.iter().any(|named| one.is_further_digest_of(named));
        let whole = identities.iter().enumerate().filter(|(_, one)| is_meant(one));
        let broken = candidates.damaged.iter().enumerate();
        let broken = broken.filter(|(_, image)| name.is(&image.identity()));
        (
            whole.map(|(at, _)| at).collect(),
            broken.map(|(at, _)| at).collect(),
        )
    };
    let named = Selector::parse(text)?;
    let check_prefix = |named: &Selector| match named {
        Selector::Digest(prefix) => {
            let offered = candidates.images.iter().map(Candidate::identity);
            let damaged = candidates.damaged.iter().map(DamagedImage::identity);
            selector::one_digest(prefix, &offered.chain(damaged).collect::<Vec<_>>())
        }
        _ => Ok(()),
    };
    check_prefix(&named)?;
    if let Selector::Repository(_) = named {
        // `httpd` is `httpd:latest` if that exists.
        let exact = positions(&Selector::Image(text.parse()?));
        if !exact.0.is_empty() || !exact.1.is_empty() {
            return Ok(exact);
        }
    }
    let hits = positions(&named);
    match Selector::id(text).filter(|_| hits.0.is_empty() && hits.1.is_empty()) {
        Some(id) => {
            check_prefix(&id)?;
            Ok(positions(&id))
        }
        None => Ok(hits),
    }
}

fn not_found(text: &str, candidates: &Candidates<'_>) -> Error {
    let known: Vec<String> = candidates.images.iter().map(Candidate::label).collect();
    Error::NotFound {
        what: Escaped(text).to_string(),
        place: candidates.place(),
        hint: Some(names::instead_of(text, known).into()),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
