//! A plan as text.

use std::fmt;

use super::{Change, DigestStatus, Evidence, Form, Plan, PlannedImage};
use crate::escape::Escaped;
use crate::image::names;

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
        if let Some(space) = &self.space {
            let path = Escaped(&space.path);
            match space.is_short() {
                false => writeln!(f, "needs {} bytes in {path}, which are free", space.needed)?,
                true => writeln!(
                    f,
                    "needs {} bytes in {path}, where {} are free",
                    space.needed, space.free
                )?,
            }
        }
        let mut unavailable: Vec<&PlannedImage> = Vec::new();
        for image in &self.images {
            let mut facts: Vec<String> = Vec::new();
            if !image.platforms.0.is_empty() {
                facts.push(image.platforms.to_string());
            }
            if image.is_foreign {
                facts.push("which the engine does not run by itself".into());
            }
            if let Some(id) = &image.image_id {
                facts.push(format!("image {}", id.short()));
            }
            match facts.is_empty() {
                true => writeln!(f, "{}", image.name)?,
                false => writeln!(f, "{} ({})", image.name, facts.join(", "))?,
            }
            if let Some(tag) = &image.tag {
                match &image.change {
                    Change::New => writeln!(f, "  tag     {tag}")?,
                    Change::Moved { from } => {
                        writeln!(f, "  tag     {tag} (names {} now)", Escaped(from))?;
                    }
                    Change::Unchanged => writeln!(f, "  tag     {tag} (is so already)")?,
                }
            }
            let same = unavailable
                .iter()
                .find(|known| known.digest_status == image.digest_status);
            match (same, image.digest) {
                // Reasons and hints are long, and often the same for all images.
                (Some(same), Some(digest)) => {
                    writeln!(
                        f,
                        "  digest  {digest} will not be shown, like that of {}",
                        same.name
                    )?;
                }
                _ => write_digest(f, image)?,
            }
            if !image.obstacles().is_empty() {
                unavailable.push(image);
            }
            if !image.referrers.shown.is_empty() {
                writeln!(f, "  with    {}", image.referrers.shown_text())?;
            }
            for dropped in &image.referrers.dropped {
                writeln!(f, "  without {dropped}: {}", Escaped(&dropped.reason))?;
            }
        }
        for attachment in &self.details.attach {
            let engine = match (attachment.restarts, attachment.runs) {
                (true, _) => "is restarted",
                (false, true) => "keeps running",
                (false, false) => "does not run",
            };
            writeln!(f, "attach by {} (the engine {engine})", attachment.method)?;
            for (at, step) in (1..).zip(&attachment.steps) {
                writeln!(f, "  {at}. {}", Escaped(step))?;
            }
        }
        for image in &self.details.replaced {
            writeln!(
                f,
                "replace image {}, which shows {}",
                image.image_id.short(),
                image.digest
            )?;
            for name in &image.names {
                writeln!(f, "  keep    {}", Escaped(name))?;
            }
        }
        for image in &self.skipped {
            writeln!(
                f,
                "{} is skipped: {}",
                Escaped(&image.name),
                Escaped(&image.reason)
            )?;
        }
        Ok(())
    }
}

fn write_digest(f: &mut fmt::Formatter<'_>, image: &PlannedImage) -> fmt::Result {
    let digest = image.digest.map(|digest| digest.to_string());
    let digest = digest.as_deref().unwrap_or("<none>");
    let recorded = match image.evidence {
        Evidence::Recorded => "recorded, not proven; ",
        Evidence::Verified | Evidence::None => "",
    };
    match &image.digest_status {
        DigestStatus::Native if image.evidence == Evidence::Recorded => {
            writeln!(f, "  digest  {digest} (recorded, not proven)")
        }
        DigestStatus::Native => writeln!(f, "  digest  {digest}"),
        DigestStatus::Present => writeln!(f, "  digest  {digest} ({recorded}is shown already)"),
        DigestStatus::ViaAttach { method } => {
            writeln!(f, "  digest  {digest} ({recorded}attached: {method})")
        }
        DigestStatus::Declined => writeln!(f, "  digest  {digest} (not attached, as requested)"),
        DigestStatus::Unavailable { obstacles } => {
            writeln!(f, "  digest  {digest} will not be shown:")?;
            for obstacle in obstacles {
                writeln!(f, "          {obstacle}")?;
                if let Some(hint) = &obstacle.hint {
                    writeln!(f, "          hint: {}", Escaped(&hint.to_string()))?;
                }
            }
            Ok(())
        }
        DigestStatus::NoDigest { reason } => writeln!(f, "  digest  {digest}: {}", Escaped(reason)),
    }
}
