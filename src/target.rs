//! Where images go. A target is three steps: [`Target::probe`] asks what the host has, [`Target::plan`] says
//! what will be sent, named and attached, and what is in the way, and [`Target::apply`] does it and asks
//! afterwards what is shown.

use std::collections::BTreeMap;
use std::fmt;

use crate::archive::content::Content;
use crate::archive::verify;
use crate::error::{Error, Result};
use crate::escape::Escaped;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Graph, Platform, PlatformSelection, Reference, Repository};
use crate::progress::Progress;

/// The version of the JSON documents that plans and reports are printed as.
const SCHEMA: u32 = 1;

/// Why something cannot be done here, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Obstacle {
    /// What is in the way.
    pub reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Obstacle {
    /// Makes one; an empty hint is none.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Obstacle {
        Obstacle {
            reason: reason.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        }
    }

    /// Makes one of several.
    pub fn joined(all: Vec<Obstacle>) -> Obstacle {
        let join = |texts: Vec<String>| texts.join("; ");
        let reasons = all.iter().map(|one| one.reason.clone()).collect();
        let hints = all.into_iter().filter_map(|one| one.hint).collect();
        Obstacle::new(join(reasons), join(hints))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.reason))
    }
}

/// What stands behind a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The documents hash to it, and config and layers to what they say.
    Verified,
    /// The engine that the image came from says so.
    Recorded,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::Verified => "verified",
            Evidence::Recorded => "recorded",
        })
    }
}

/// An image that could be loaded: one entry of an archive.
pub struct Offer<'a> {
    /// The archive with its blobs.
    pub content: &'a dyn Content,
    /// Its name there.
    pub reference: Option<Reference>,
    /// What it stands for.
    pub graph: Graph,
    /// What stands behind its digest.
    pub evidence: Evidence,
    /// Uncompressed bytes of its layers by their diff ids, as far as they were counted.
    pub layer_sizes: BTreeMap<Digest, u64>,
}

impl Offer<'_> {
    /// The name for messages: as it was given, or the digest.
    pub fn label(&self) -> String {
        label(self.reference.as_ref(), &self.graph.root.digest)
    }
}

fn label(reference: Option<&Reference>, digest: &Digest) -> String {
    reference.map_or_else(|| digest.to_string(), Reference::familiar)
}

/// An image that is in an archive and not whole.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Its name there.
    pub reference: Option<Reference>,
    /// Digest of its manifest or index.
    pub digest: Digest,
}

/// What is offered to a target: the images of archives that were verified.
#[derive(Default)]
pub struct Offers<'a> {
    /// Images that are whole.
    pub images: Vec<Offer<'a>>,
    /// Images that are not.
    pub damaged: Vec<Damaged>,
}

impl<'a> Offers<'a> {
    /// Adds the images of an archive, as its verification found them.
    ///
    /// # Errors
    ///
    /// If the documents of an image that was found whole cannot be read now.
    pub fn add(&mut self, content: &'a dyn Content, report: &verify::Report) -> Result<()> {
        let layer_sizes: BTreeMap<Digest, u64> = report
            .layers
            .values()
            .map(|layer| (layer.diff_id, layer.size))
            .collect();
        for image in &report.images {
            let entry = content
                .entries()
                .iter()
                .find(|entry| entry.descriptor.digest == image.digest && entry.reference == image.reference);
            let Some(entry) = entry.filter(|_| image.is_good) else {
                self.damaged.push(Damaged {
                    reference: image.reference.clone(),
                    digest: image.digest,
                });
                continue;
            };
            let graph = Graph::walk(
                &entry.descriptor,
                &PlatformSelection::Present,
                &mut |descriptor| content.metadata(descriptor),
            )?;
            self.images.push(Offer {
                content,
                reference: image.reference.clone(),
                graph,
                evidence: Evidence::Verified,
                layer_sizes: layer_sizes.clone(),
            });
        }
        Ok(())
    }
}

/// How digests may be attached where the engine forgets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attach {
    /// By the first way that works.
    #[default]
    Auto,
    /// Only by ways that do not stop the engine.
    Live,
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

    fn is(&self, reference: Option<&Reference>, root: &Digest) -> bool {
        match (self, reference) {
            (Named::Digest(digest), _) => digest == root,
            (Named::Repository(repository), Some(reference)) => reference.repository() == repository,
            (Named::Reference(name), Some(reference)) => {
                let is_pinned = name.digest() == Some(*root)
                    && name.repository() == reference.repository()
                    && (name.tag().is_none() || name.tag() == reference.tag());
                is_pinned || name == reference || Some(name) == reference.without_digest().as_ref()
            }
            (_, None) => false,
        }
    }

    fn is_offer(&self, offer: &Offer<'_>) -> bool {
        self.is(offer.reference.as_ref(), &offer.graph.root.digest)
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
            let is_damaged = |image: &Damaged| rename.from.is(image.reference.as_ref(), &image.digest);
            let is_known = offers.images.iter().any(|offer| rename.from.is_offer(offer))
                || offers.damaged.iter().any(is_damaged);
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
                    name: label(image.reference.as_ref(), &image.digest),
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
                (Some(twin), _) if twin.graph.root.digest == offer.graph.root.digest => {}
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
        let broken = broken.filter(|(_, image)| name.is(image.reference.as_ref(), &image.digest));
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

impl Offers<'_> {
    /// The archives' names, for messages.
    pub fn place(&self) -> String {
        let mut labels: Vec<&str> = self.images.iter().map(|offer| offer.content.label()).collect();
        labels.dedup();
        if labels.is_empty() {
            "the archive".into()
        } else {
            labels.join(", ")
        }
    }
}

/// How an image's digest gets shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "way")]
pub enum Showing {
    /// The target shows it without being asked to.
    Inherent,
    /// It is shown already.
    Already,
    /// It is attached by this strategy.
    Attach {
        /// The strategy's name.
        strategy: &'static str,
    },
    /// It will not be shown.
    Hidden {
        /// What is in the way.
        obstacles: Vec<Obstacle>,
    },
}

/// One image in a plan.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlannedImage {
    /// Which of the offers it is.
    #[serde(skip)]
    pub offer: usize,
    /// The name that it gets, with a tag or a digest.
    pub name: Reference,
    /// The tag that is set, if one is.
    pub tag: Option<Reference>,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its platform on this target.
    #[serde(serialize_with = "Platform::serialize_text")]
    pub platform: Platform,
    /// What stands behind the digest.
    pub evidence: Evidence,
    /// Whether the target has all of its content.
    pub present: bool,
    /// Whether the name that is to be set names this image already.
    pub tagged: bool,
    /// How its digest gets shown.
    pub showing: Showing,
}

/// An image that is asked for and left out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The exit code that this means.
    #[serde(rename = "exit")]
    pub exit_code: u8,
}

/// What a piece that is sent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A manifest or index.
    Document,
    /// A config.
    Config,
    /// A layer as it is stored.
    Layer,
    /// A layer that is decompressed for the target; digest and size are those of the tar.
    Uncompressed,
}

/// One blob that is sent.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Piece {
    /// Its digest, which is also its name in the stream.
    pub digest: Digest,
    /// Bytes in the stream.
    pub size: u64,
    /// What it is.
    pub form: Form,
    /// The image in the plan that it is sent for first.
    #[serde(skip)]
    pub image: usize,
}

/// What a load will do.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Plan {
    /// The version of this document.
    pub schema: u32,
    /// The target.
    pub target: String,
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Images that are asked for and left out.
    pub left_out: Vec<LeftOut>,
    /// What is sent.
    pub send: Vec<Piece>,
}

impl Plan {
    /// Makes an empty one.
    pub fn new(target: impl Into<String>) -> Plan {
        Plan {
            schema: SCHEMA,
            target: target.into(),
            images: Vec::new(),
            left_out: Vec::new(),
            send: Vec::new(),
        }
    }

    /// Bytes of all blobs that are sent.
    pub fn bytes(&self) -> u64 {
        self.send.iter().map(|piece| piece.size).sum()
    }

    /// The exit code that a load by this plan would end with if all of it goes well.
    pub fn exit_code(&self) -> u8 {
        let hidden = |image: &PlannedImage| matches!(image.showing, Showing::Hidden { .. });
        let shown = if self.images.iter().any(hidden) { 6 } else { 0 };
        most_severe(self.left_out.iter().map(|image| image.exit_code).chain([shown]))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self
            .send
            .iter()
            .filter(|piece| matches!(piece.form, Form::Layer | Form::Uncompressed))
            .count();
        writeln!(f, "to {}", self.target)?;
        writeln!(
            f,
            "send {layers} layers, {} bytes in {} blobs",
            self.bytes(),
            self.send.len()
        )?;
        for image in &self.images {
            writeln!(
                f,
                "{} ({}, image {})",
                image.name,
                image.platform,
                image.image_id.short()
            )?;
            match &image.tag {
                Some(tag) if image.tagged => writeln!(f, "  tag     {tag} (is so already)")?,
                Some(tag) => writeln!(f, "  tag     {tag}")?,
                None => {}
            }
            match &image.showing {
                Showing::Inherent => writeln!(f, "  digest  {}", image.digest)?,
                Showing::Already => writeln!(f, "  digest  {} (is shown already)", image.digest)?,
                Showing::Attach { strategy } => {
                    writeln!(f, "  digest  {} (attached: {strategy})", image.digest)?;
                }
                Showing::Hidden { obstacles } => {
                    writeln!(f, "  digest  {} will not be shown:", image.digest)?;
                    for obstacle in obstacles {
                        writeln!(f, "          {obstacle}")?;
                        if let Some(hint) = &obstacle.hint {
                            writeln!(f, "          hint: {hint}")?;
                        }
                    }
                }
            }
        }
        for image in &self.left_out {
            writeln!(
                f,
                "{} is left out: {}",
                Escaped(&image.name),
                Escaped(&image.reason)
            )?;
        }
        Ok(())
    }
}

/// What became of one image.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Loaded {
    /// Its name.
    pub name: Reference,
    /// The tag that names it now, if one was to be set.
    pub tag: Option<Reference>,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its platform.
    #[serde(serialize_with = "Platform::serialize_text")]
    pub platform: Platform,
    /// What stands behind the digest.
    pub evidence: Evidence,
    /// Whether the target shows the digest.
    pub shown: bool,
    /// Why not, if it does not.
    pub obstacles: Vec<Obstacle>,
    /// Bytes of the blobs that were sent for it. Blobs that several share count for the first.
    pub sent: u64,
}

/// What a load has done.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The version of this document.
    pub schema: u32,
    /// The target.
    pub target: String,
    /// The images that are loaded.
    pub images: Vec<Loaded>,
    /// Images that were asked for and left out.
    pub left_out: Vec<LeftOut>,
    /// Bytes of all streams that were sent, with their framing.
    pub sent: u64,
}

impl Report {
    /// Makes one without images for a plan.
    pub fn new(plan: &Plan) -> Report {
        Report {
            schema: SCHEMA,
            target: plan.target.clone(),
            images: Vec::new(),
            left_out: plan.left_out.clone(),
            sent: 0,
        }
    }

    /// The exit code: the most severe one of all images.
    pub fn exit_code(&self) -> u8 {
        let shown = if self.images.iter().all(|image| image.shown) {
            0
        } else {
            6
        };
        most_severe(self.left_out.iter().map(|image| image.exit_code).chain([shown]))
    }
}

/// The exit code that counts of several: content that is wrong before an engine that fails before what is
/// merely missing.
fn most_severe(codes: impl Iterator<Item = u8>) -> u8 {
    const RANKING: [u8; 7] = [1, 5, 3, 4, 7, 2, 6];
    codes
        .filter(|code| *code != 0)
        .min_by_key(|code| RANKING.iter().position(|known| known == code))
        .unwrap_or(0)
}

/// A place that images are loaded into.
pub trait Target {
    /// What such a place tells about itself.
    type Inventory: serde::Serialize;

    /// Asks what the target has. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self) -> Result<Self::Inventory>;

    /// Says what will be sent, named and attached, and what is in the way. Pure.
    ///
    /// # Errors
    ///
    /// If what is asked for is not offered, or cannot be loaded at all.
    fn plan(&self, offers: &Offers<'_>, request: &Request, inventory: &Self::Inventory) -> Result<Plan>;

    /// Does it, names last, and asks what is shown.
    ///
    /// # Errors
    ///
    /// If content could not be sent or is not right on the target: then nothing was named.
    fn apply(
        &self,
        offers: &Offers<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report>;
}
