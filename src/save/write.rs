//! Writes an archive whose plan is known.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::resolve::Images;
use super::{Options, Output};
use crate::archive::TarPlan;
use crate::archive::signature;
use crate::archive::writer::{self, Stream, Writer};
use crate::blob::Verified;
use crate::error::{Error, Remedy, Result};
use crate::image::named;
use crate::interrupt::Interrupt;
use crate::oci::Digest;
use crate::progress::Progress;
use crate::source::Source;
use crate::transfer::{Moved, Outcome, Sink, Transfer, Wanted};

/// The result of writing an archive.
pub(super) enum Written {
    /// It is complete.
    Sealed {
        /// Its blobs.
        moved: Vec<Moved>,
        /// The files, in order; none for a pipe.
        files: Vec<PathBuf>,
        /// The signature, if there is one.
        signature: Option<signature::Written>,
    },
    /// Blobs are missing: a new plan without their images is needed.
    Lacking {
        /// The blobs that were fetched.
        moved: Vec<Moved>,
        /// The blobs that were not, each with its error.
        failed: Vec<(Digest, Error)>,
    },
}

/// The parameters of writing one.
pub(super) struct Run<'a> {
    pub source: &'a dyn Source,
    pub options: &'a Options,
    pub progress: &'a dyn Progress,
    pub interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Writes the archive.
    pub fn write(&self, images: &Images, plan: &Arc<TarPlan>, output: &mut Output<'_>) -> Result<Written> {
        let wanted = wanted(images, plan);
        match output {
            Output::File(path) => {
                let target = writer::locate(path)?;
                if target.is_special().map_err(Error::io("look at", &path))? {
                    let mut file = target.open_special().map_err(Error::io("write to", &path))?;
                    return self.write(images, plan, &mut Output::Stream(path, &mut file));
                }
                let how = writer::Options {
                    split: self.options.split,
                    resume: self.options.resume,
                    private: is_private(images),
                    in_order: self.options.in_order,
                    beside: self.options.beside,
                    sign: self.options.sign.clone(),
                };
                let writer = Writer::create(target, plan.clone(), &how, self.interrupt)?;
                let outcome = self.fill(&writer, wanted, self.options.keep_going);
                // After a signal, its handler reports this.
                if let (Err(_), Some(kept), Ok(())) = (&outcome, writer.kept(), self.interrupt.check()) {
                    self.progress.note(&kept);
                }
                let outcome = outcome?;
                if !outcome.failed.is_empty() {
                    let Outcome { moved, failed } = outcome;
                    return Ok(Written::Lacking { moved, failed });
                }
                self.progress.phase("writing to disk", None);
                let published = writer.seal(&proofs(&outcome.moved))?;
                Ok(Written::Sealed {
                    moved: outcome.moved,
                    files: published.files,
                    signature: published.signature,
                })
            }
            Output::Stream(..) if self.options.split.is_some() => Err(Error::Usage {
                message: "parts cannot be written to a pipe".into(),
                hint: Some(Remedy::SaveToFile.into()),
            }),
            Output::Stream(label, out) => {
                let stream = Stream::new(label, plan, *out);
                // What was written to a pipe cannot be changed.
                let Outcome { moved, .. } = self.fill(&stream, wanted, false)?;
                let signature = stream.seal(&proofs(&moved), self.options.sign.as_ref(), self.interrupt)?;
                Ok(Written::Sealed {
                    moved,
                    files: Vec::new(),
                    signature,
                })
            }
        }
    }

    fn fill(&self, sink: &dyn Sink, wanted: Vec<Wanted>, keep_going: bool) -> Result<Outcome> {
        let total = wanted
            .iter()
            .fold(0u64, |sum, blob| sum.saturating_add(blob.descriptor.size));
        self.progress.phase("saving", Some(total));
        let transfer = Transfer {
            source: self.source,
            sink,
            jobs: self.options.jobs,
            retry: self.options.retry,
            keep_going,
            progress: self.progress,
            interrupt: self.interrupt,
        };
        transfer.run(wanted)
    }
}

/// The blobs to fetch in the layout's order, each from the first repository that has it.
fn wanted(images: &Images, plan: &TarPlan) -> Vec<Wanted> {
    let mut repositories = HashMap::new();
    let firsts = named::firsts(&images.named);
    let images = images.named.iter().zip(&images.asked).enumerate();
    for ((at, (named, asked)), first) in images.zip(firsts) {
        if at != first {
            continue;
        }
        for blob in named.blobs() {
            repositories
                .entry(blob.digest)
                .or_insert(asked.reference.repository());
        }
    }
    let blobs = plan.blobs().iter().filter_map(|blob| {
        let repository = repositories.get(&blob.descriptor.digest)?;
        Some(Wanted {
            repository: (*repository).clone(),
            descriptor: blob.descriptor.clone(),
        })
    });
    blobs.collect()
}

fn proofs(moved: &[Moved]) -> Vec<Verified> {
    moved.iter().map(|blob| blob.verified).collect()
}

/// Whether an image comes from a place that others may not read.
fn is_private(images: &Images) -> bool {
    images.asked.iter().any(|asked| asked.is_private)
}
