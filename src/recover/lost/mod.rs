//! Rebuilds a lost manifest from what is known about its config and layers. Its digest proves it.
//!
//! A layer may be stored as several blobs, because registries may have different ones. Every choice of blobs is
//! tried with every template. If only one stored size is unknown, it is searched for.

mod sizes;
pub mod templates;

use std::fmt;
use std::time::Duration;

use self::sizes::{Gap, Near};
use self::templates::{Blob, Rebuilt};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::oci::Digest;

/// Time limit of the search for an unknown size, on all cores.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Most choices of blobs that are tried.
const MAX_CHOICES: usize = 1024;
/// Most choices for which a size is searched for.
const MAX_GAPS: usize = 16;

/// What is known about a lost manifest.
#[derive(Debug)]
pub struct LostManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its config.
    pub config: Blob,
    /// Its layers, base first.
    pub layers: Vec<Layer>,
}

/// What is known about one layer of a lost manifest.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of the uncompressed tar. A layer that occurs twice in an image is the same blob both times.
    pub diff_id: Digest,
    /// The blobs that it may be stored as, the likeliest first.
    pub candidates: Vec<Candidate>,
    /// Whether these are only assumed.
    pub is_assumed: bool,
    /// Uncompressed bytes.
    pub uncompressed: u64,
    /// Sizes that encoders produced for it, the likeliest first.
    pub near: Vec<u64>,
}

/// A blob that a layer may be stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes, if that is known.
    pub size: Option<u64>,
}

/// Why a manifest could not be rebuilt. Layers are counted from the base, which is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrecovered {
    /// The blobs of these layers are not known.
    Digests(Vec<usize>, usize),
    /// More than one stored size is unknown.
    Sizes(Vec<usize>, usize),
    /// There was only one unknown size, and the search failed.
    Searched {
        /// The layer's position.
        layer: usize,
        /// Number of layers.
        of: usize,
        /// Digest of its stored bytes.
        digest: Digest,
        /// The time limit, if not every possible size was tried.
        given_up: Option<Duration>,
    },
    /// The assumed blobs of these layers do not reproduce the digest.
    Assumed(Vec<usize>, usize),
    /// Everything is known, and no template reproduces the digest.
    Template,
}

impl fmt::Display for Unrecovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unrecovered::Digests(layers, of) => {
                write!(
                    f,
                    "it is not known which blob {} was in a registry",
                    places(layers, *of)
                )
            }
            Unrecovered::Sizes(layers, of) => {
                let (size, is) = match layers.len() {
                    1 => ("size", "is"),
                    _ => ("sizes", "are"),
                };
                write!(
                    f,
                    "the compressed {size} of {} {is} not known",
                    places(layers, *of)
                )
            }
            Unrecovered::Searched {
                layer,
                of,
                digest,
                given_up,
            } => {
                let layer = places(&[*layer], *of);
                write!(f, "the compressed size of {layer} ({digest}) is not known, and ")?;
                match given_up {
                    None => f.write_str("no possible size reproduces the digest"),
                    Some(time) => write!(f, "was not found in {} s", time.as_secs()),
                }
            }
            Unrecovered::Assumed(layers, of) => write!(
                f,
                "it is not known which {} in a registry, and what docker push would have made of them does not give the \
                 digest",
                blobs(layers, *of)
            ),
            Unrecovered::Template => f.write_str(
                "no known tool writes a manifest over these layers that has the digest: it may be an index's",
            ),
        }
    }
}

/// `blob layer 2 of 4 was`, `blobs layers 2, 3 of 4 were`.
fn blobs(layers: &[usize], of: usize) -> String {
    let (blob, was) = match layers.len() {
        1 => ("blob", "was"),
        _ => ("blobs", "were"),
    };
    format!("{blob} {} {was}", places(layers, of))
}

/// `layer 2 of 4`, `layers 2, 3 of 4`.
fn places(layers: &[usize], of: usize) -> String {
    let numbers: Vec<String> = layers.iter().map(|place| (place + 1).to_string()).collect();
    let noun = if layers.len() == 1 { "layer" } else { "layers" };
    format!("{noun} {} of {of}", numbers.join(", "))
}

impl LostManifest {
    /// The manifest, if enough is known. With `patience`, an unknown size is searched for that long.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Interrupted`].
    pub fn recover(
        &self,
        patience: Option<Duration>,
        interrupt: &Interrupt,
    ) -> Result<Result<Rebuilt, Unrecovered>> {
        let nameless = self.places(|layer| layer.candidates.is_empty());
        if !nameless.is_empty() {
            return Ok(Err(Unrecovered::Digests(nameless, self.layers.len())));
        }
        let mut gaps: Vec<(usize, Vec<Candidate>)> = Vec::new();
        let mut unknown: Option<Vec<usize>> = None;
        for choice in self.choices() {
            interrupt.check()?;
            match self.unknown(&choice).as_slice() {
                [] => {
                    let blobs: Vec<Blob> = choice.iter().map(|candidate| candidate.blob(0)).collect();
                    if let Some(rebuilt) = self.written(&blobs) {
                        return Ok(Ok(rebuilt));
                    }
                }
                [one, twins @ ..] if twins.iter().all(|twin| self.is_twin(*one, *twin)) => {
                    let gap = (*one, choice);
                    if gaps.len() < MAX_GAPS && !gaps.contains(&gap) {
                        gaps.push(gap);
                    }
                }
                several if unknown.is_none() => unknown = Some(several.to_vec()),
                _ => {}
            }
        }
        let of = self.layers.len();
        match (gaps.first(), patience, unknown) {
            (Some((layer, choice)), Some(patience), _) => {
                let digest = choice
                    .get(*layer)
                    .map_or(self.digest, |candidate| candidate.digest);
                let found = self.search(&gaps, patience, interrupt)?;
                Ok(found.map_err(|is_exhausted| Unrecovered::Searched {
                    layer: *layer,
                    of,
                    digest,
                    given_up: (!is_exhausted).then_some(patience),
                }))
            }
            (Some((layer, _)), None, _) => Ok(Err(Unrecovered::Sizes(vec![*layer], of))),
            (None, _, Some(layers)) => Ok(Err(Unrecovered::Sizes(layers, of))),
            (None, _, None) => {
                let assumed = self.places(|layer| layer.is_assumed);
                Ok(Err(match assumed.is_empty() {
                    true => Unrecovered::Template,
                    false => Unrecovered::Assumed(assumed, of),
                }))
            }
        }
    }

    /// Searches for the unknown size in each of these choices. Otherwise returns whether all sizes were tried.
    fn search(
        &self,
        gaps: &[(usize, Vec<Candidate>)],
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<Result<Rebuilt, bool>> {
        let near: Vec<Near> = gaps
            .iter()
            .filter_map(|(place, _)| self.layers.get(*place))
            .map(|layer| Near::of(layer.uncompressed, &layer.near))
            .collect();
        let mut asked = Vec::new();
        for ((_, choice), near) in gaps.iter().zip(&near) {
            for template in templates::all() {
                asked.push(Gap::new(&self.digest, template, near, &|size| {
                    let blobs: Vec<Blob> = choice.iter().map(|candidate| candidate.blob(size)).collect();
                    template.write(self.config, &blobs)
                }));
            }
        }
        let found = sizes::search(&self.digest, &asked, patience, interrupt)?;
        Ok(found.map(|(template, bytes)| Rebuilt::new(template, bytes)))
    }

    fn written(&self, blobs: &[Blob]) -> Option<Rebuilt> {
        templates::find(&self.digest, self.config, blobs)
    }

    fn places(&self, is_one: impl Fn(&Layer) -> bool) -> Vec<usize> {
        let places = self.layers.iter().enumerate();
        places
            .filter_map(|(place, layer)| is_one(layer).then_some(place))
            .collect()
    }

    fn is_twin(&self, one: usize, other: usize) -> bool {
        let diff_id = |place: usize| self.layers.get(place).map(|layer| layer.diff_id);
        diff_id(one) == diff_id(other)
    }

    /// The positions of the layers whose size is unknown in a choice.
    fn unknown(&self, choice: &[Candidate]) -> Vec<usize> {
        let choice = choice.iter().enumerate();
        choice
            .filter_map(|(place, candidate)| candidate.size.is_none().then_some(place))
            .collect()
    }

    /// One candidate for each layer, in all combinations: first those with the nth candidate everywhere.
    fn choices(&self) -> impl Iterator<Item = Vec<Candidate>> + '_ {
        let mut diff_ids: Vec<Digest> = Vec::new();
        let mut counts = Vec::new();
        for layer in &self.layers {
            if !diff_ids.contains(&layer.diff_id) {
                diff_ids.push(layer.diff_id);
                counts.push(layer.candidates.len());
            }
        }
        let most = counts.iter().copied().max().unwrap_or_default();
        let nth = |n: usize| {
            counts
                .iter()
                .map(|count| n.min(count.saturating_sub(1)))
                .collect::<Vec<usize>>()
        };
        let alike: Vec<Vec<usize>> = (1..most).map(nth).collect();
        let mut all = Odometer::new(counts);
        let picks = all.next().into_iter().chain(alike).chain(all).take(MAX_CHOICES);
        picks.filter_map(move |pick| {
            let of = |layer: &Layer| {
                let place = diff_ids.iter().position(|diff_id| *diff_id == layer.diff_id)?;
                layer.candidates.get(*pick.get(place)?).copied()
            };
            self.layers.iter().map(of).collect()
        })
    }
}

impl Candidate {
    fn blob(self, unknown: u64) -> Blob {
        Blob {
            digest: self.digest,
            size: self.size.unwrap_or(unknown),
        }
    }
}

/// Counts through all combinations of numbers below these, the last one fastest.
struct Odometer {
    counts: Vec<usize>,
    next: Option<Vec<usize>>,
}

impl Odometer {
    fn new(counts: Vec<usize>) -> Odometer {
        Odometer {
            next: Some(vec![0; counts.len()]),
            counts,
        }
    }
}

impl Iterator for Odometer {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let now = self.next.take()?;
        let mut next = now.clone();
        for (digit, count) in next.iter_mut().zip(&self.counts).rev() {
            *digit += 1;
            if *digit < *count {
                self.next = Some(next);
                break;
            }
            *digit = 0;
        }
        Some(now)
    }
}
