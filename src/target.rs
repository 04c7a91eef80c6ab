//! Where images go. A target is three steps: [`Target::probe`] asks what the host has, [`Target::plan`] says
//! what will be sent, named and attached, and what is in the way, and [`Target::apply`] does it and asks
//! afterwards what is shown.

mod offer;
mod report;
mod request;
#[cfg(test)]
pub(crate) mod sample;

use std::fmt;
use std::io;

use crate::error::{Error, Result, most_severe};
use crate::escape::Escaped;
use crate::image::names;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Progress;

pub use crate::image::provenance::Evidence;
pub use offer::{Damaged, Offer, Offers};
pub use report::{Loaded, Report};
pub use request::{Attach, Request, Selection};

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

    /// What is in the way of everybody but root.
    pub fn needs_root() -> Obstacle {
        Obstacle::new("attaching digests needs root", "run the same command with sudo")
    }

    /// Makes one of several.
    pub fn joined(all: Vec<Obstacle>) -> Obstacle {
        let join = |texts: &mut dyn Iterator<Item = String>| {
            let mut said: Vec<String> = Vec::new();
            texts.for_each(|text| {
                if !said.contains(&text) {
                    said.push(text);
                }
            });
            said.join("; ")
        };
        let reasons = join(&mut all.iter().map(|one| one.reason.clone()));
        Obstacle::new(reasons, join(&mut all.into_iter().filter_map(|one| one.hint)))
    }
}

impl From<Obstacle> for Vec<Obstacle> {
    fn from(only: Obstacle) -> Vec<Obstacle> {
        vec![only]
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.reason))
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
    /// It is not attached, as it was asked for.
    Declined,
    /// There is none: the image goes by its name alone.
    NoDigest {
        /// Why it has none.
        reason: String,
    },
}

/// What a load makes of an image's name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum Change {
    /// The name did not exist.
    New,
    /// It named another image.
    Moved {
        /// The target's id of that image.
        #[serde(rename = "moved_from")]
        from: String,
    },
    /// It names this image already.
    Unchanged,
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
    /// The digest that it is known by; `None` if none is known.
    pub digest: Option<Digest>,
    /// Digest of its manifest or index as the archive has it, which may be a stand-in.
    #[serde(skip)]
    pub root: Digest,
    /// Digest of its manifest.
    #[serde(skip)]
    pub manifest: Digest,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its platform on this target.
    #[serde(serialize_with = "Platform::serialize_text")]
    pub platform: Platform,
    /// Whether the target runs other platforms.
    #[serde(rename = "foreign")]
    pub is_foreign: bool,
    /// What stands behind the digest.
    pub evidence: Evidence,
    /// Whether the target has all of its content.
    pub present: bool,
    /// Whether the name that is to be set names this image already.
    pub tagged: bool,
    /// What becomes of the name.
    #[serde(flatten)]
    pub change: Change,
    /// How its digest gets shown.
    pub showing: Showing,
}

impl PlannedImage {
    /// The name with a digest that is to be shown, if there is one.
    pub fn pinned(&self) -> Option<Reference> {
        let digest = self.digest?;
        Some(Reference::digested(self.name.repository(), digest))
    }

    /// Whether its digest is shown without being proven: all goes well, and is told all the same.
    fn is_unproven(&self) -> bool {
        let is_shown = matches!(
            self.showing,
            Showing::Already | Showing::Inherent | Showing::Attach { .. }
        );
        is_shown && self.evidence == Evidence::Recorded
    }

    /// What is in the way of showing its digest, as far as it is known before the load.
    pub fn obstacles(&self) -> &[Obstacle] {
        match &self.showing {
            Showing::Hidden { obstacles } => obstacles,
            _ => &[],
        }
    }
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
    /// A layer as the archive has it.
    Layer,
    /// A layer that is decompressed for the target; digest and size are those of the tar.
    Uncompressed,
}

/// One blob that is sent.
#[derive(Debug, Clone, serde::Serialize)]
pub struct UploadBlob {
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

/// What a way of attaching digests will do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Attachment {
    /// The strategy's name.
    pub strategy: &'static str,
    /// Whether the engine is stopped and started again.
    pub restarts: bool,
    /// Whether the engine runs at all.
    #[serde(skip)]
    pub runs: bool,
    /// What is done, step by step.
    pub steps: Vec<String>,
}

/// Room that a load needs, and that there is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Room {
    /// Where.
    pub path: String,
    /// Bytes that are needed at most at once, as far as it can be told.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Whether it certainly does not fit, so that nothing is sent.
    #[serde(rename = "refused")]
    pub is_refused: bool,
}

impl Room {
    /// Whether it may not fit.
    pub fn is_short(&self) -> bool {
        self.needed > self.free
    }

    /// The refusal, if it certainly does not fit.
    pub fn refusal(&self) -> Option<Error> {
        let said = format!("{} bytes are needed, {} are free", self.needed, self.free);
        self.is_refused.then(|| Error::Io {
            action: "load into",
            path: self.path.clone().into(),
            offset: None,
            source: io::Error::new(io::ErrorKind::StorageFull, said).into(),
            hint: Some(
                "nothing was sent; free some space there (docker system df shows what takes it), or load fewer \
                 images at a time (--image)"
                    .into(),
            ),
        })
    }
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
    pub send: Vec<UploadBlob>,
    /// How digests are attached.
    pub attach: Vec<Attachment>,
    /// Room that is needed, if it is known what there is.
    pub room: Option<Room>,
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
            attach: Vec::new(),
            room: None,
        }
    }

    /// Bytes of all blobs that are sent.
    pub fn bytes(&self) -> u64 {
        self.send.iter().map(|piece| piece.size).sum()
    }

    /// The exit code that a load by this plan would end with if all of it goes well.
    pub fn exit_code(&self) -> u8 {
        let hidden = |image: &PlannedImage| matches!(image.showing, Showing::Hidden { .. });
        let is_lacking = |image: &PlannedImage| hidden(image) || image.is_unproven();
        let shown = if self.images.iter().any(is_lacking) { 6 } else { 0 };
        let refusal = self.room.as_ref().and_then(Room::refusal);
        let room = refusal.map_or(0, |error| error.exit_code());
        most_severe(
            self.left_out
                .iter()
                .map(|image| image.exit_code)
                .chain([shown, room]),
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self
            .send
            .iter()
            .filter(|piece| matches!(piece.form, Form::Layer | Form::Uncompressed))
            .count();
        writeln!(f, "to {}", Escaped(&self.target))?;
        writeln!(
            f,
            "send {}, {} bytes in {}",
            names::count(layers, "layer"),
            self.bytes(),
            names::count(self.send.len(), "blob")
        )?;
        let mut hidden: Vec<&PlannedImage> = Vec::new();
        for image in &self.images {
            writeln!(
                f,
                "{} ({}{}, image {})",
                image.name,
                image.platform,
                if image.is_foreign {
                    ", which the engine does not run by itself"
                } else {
                    ""
                },
                image.image_id.short()
            )?;
            if let Some(tag) = &image.tag {
                match &image.change {
                    Change::New => writeln!(f, "  tag     {tag}")?,
                    Change::Moved { from } => {
                        writeln!(f, "  tag     {tag} (names {} now)", Escaped(from))?;
                    }
                    Change::Unchanged => writeln!(f, "  tag     {tag} (is so already)")?,
                }
            }
            let same = hidden.iter().find(|known| known.showing == image.showing);
            match (same, image.digest) {
                // Reasons and hints are long, and often those of all images.
                (Some(same), Some(digest)) => {
                    writeln!(
                        f,
                        "  digest  {digest} will not be shown, like that of {}",
                        same.name
                    )?;
                }
                _ => write_showing(f, image)?,
            }
            if !image.obstacles().is_empty() {
                hidden.push(image);
            }
        }
        for attachment in &self.attach {
            let engine = match (attachment.restarts, attachment.runs) {
                (true, _) => "is restarted",
                (false, true) => "keeps running",
                (false, false) => "does not run",
            };
            writeln!(f, "attach by {} (the engine {engine})", attachment.strategy)?;
            for (at, step) in (1..).zip(&attachment.steps) {
                writeln!(f, "  {at}. {}", Escaped(step))?;
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

fn write_showing(f: &mut fmt::Formatter<'_>, image: &PlannedImage) -> fmt::Result {
    let digest = image.digest.map(|digest| digest.to_string());
    let digest = digest.as_deref().unwrap_or("<none>");
    let recorded = match image.evidence {
        Evidence::Recorded => "recorded, not proven; ",
        Evidence::Verified | Evidence::None => "",
    };
    match &image.showing {
        Showing::Inherent if image.evidence == Evidence::Recorded => {
            writeln!(f, "  digest  {digest} (recorded, not proven)")
        }
        Showing::Inherent => writeln!(f, "  digest  {digest}"),
        Showing::Already => writeln!(f, "  digest  {digest} ({recorded}is shown already)"),
        Showing::Attach { strategy } => {
            writeln!(f, "  digest  {digest} ({recorded}attached: {strategy})")
        }
        Showing::Declined => writeln!(f, "  digest  {digest} (not attached: --attach none)"),
        Showing::Hidden { obstacles } => {
            writeln!(f, "  digest  {digest} will not be shown:")?;
            for obstacle in obstacles {
                writeln!(f, "          {obstacle}")?;
                if let Some(hint) = &obstacle.hint {
                    writeln!(f, "          hint: {}", Escaped(hint))?;
                }
            }
            Ok(())
        }
        Showing::NoDigest { reason } => writeln!(f, "  digest  {digest}: {}", Escaped(reason)),
    }
}

/// A place that images are loaded into.
pub trait Target {
    /// What such a place tells about itself.
    type Inventory: serde::Serialize;

    /// Asks what the target has of what is wanted; without it, of everything. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn probe(&self, wanted: Option<&Offers<'_>>) -> Result<Self::Inventory>;

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
