//! `sealift list`.

use std::collections::BTreeSet;

use clap::Args;
use sealift::Result;
use sealift::archive::account::{Evidence, LayerOrigin, Provenance};
use sealift::archive::content::Content;
use sealift::archive::format::{Entry, Named};
use sealift::escape::Escaped;
use sealift::oci::{Digest, Graph, Platform, PlatformSelection};

use super::archive::FileArgs;
use super::output::{Outcome, Output, Several, table};
use super::size::Size;

/// Show what is inside archives: names, digests, platforms, sizes
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift list images.tar
  sealift list --json images.tar | jq -r '.archives[].images[].digest'

A second line tells where manifest and layers came from, as the archive says, where that was not simply a \
registry. Digests prove content, wherever it came from.

This reads names and manifests only, and looks whether all blobs are there; `sealift verify` checks every \
byte.")]
pub struct List {
    #[command(flatten)]
    files: FileArgs,
}

/// What stands behind a digest, as far as it is seen without hashing layers.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Behind {
    /// The manifest or index is here and hashes to it.
    Manifest,
    /// The engine that the image came from said so.
    Recorded,
    /// There is no digest.
    None,
}

/// One image of an archive.
#[derive(serde::Serialize)]
struct Listed {
    name: Option<String>,
    /// `None` if none is known.
    digest: Option<Digest>,
    evidence: Behind,
    /// Digest of the manifest that was made because the original could not be had, if that is so.
    stand_in: Option<Digest>,
    /// Whether every blob that it needs is there. Whether they are right is for `verify` to say.
    complete: bool,
    #[serde(serialize_with = "Platform::serialize_texts")]
    platforms: Vec<Platform>,
    /// Stored bytes of its blobs.
    size: u64,
    /// How many layers it has.
    layers: usize,
    /// Those that are here only uncompressed.
    uncompressed: Vec<Unpacked>,
    /// Where its manifest and layers came from, as the archive says.
    provenance: Option<Provenance>,
}

/// A layer that is here only uncompressed.
#[derive(serde::Serialize)]
struct Unpacked {
    /// Of the layer as it was stored.
    digest: Digest,
    diff_id: Digest,
    /// Uncompressed bytes.
    size: u64,
}

impl List {
    /// Lists the archives.
    pub fn run(&self, output: &Output, interrupt: &sealift::interrupt::Interrupt) -> Outcome {
        let mut end = Several::new(output);
        for (label, content) in self.files.open(interrupt)? {
            let listed = content.and_then(|content| {
                content.check_opening()?;
                Ok((content.digest(), images(content.as_ref())?))
            });
            let (digest, images) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    end.error(&label, error)?;
                    continue;
                }
            };
            if output.is_json() {
                end.document(serde_json::json!({ "archive": label, "digest": digest, "images": images }));
                continue;
            }
            if self.files.are_several() {
                output.line(format_args!("{}:", Escaped(&label)))?;
            }
            let rows: Vec<Vec<String>> = images.iter().map(row).collect();
            let lines = table(
                &["NAME", "DIGEST", "EVIDENCE", "CONTENT", "PLATFORMS", "SIZE"],
                &rows,
            );
            let notes = std::iter::once(None).chain(images.iter().map(origin));
            for (line, note) in lines.iter().zip(notes) {
                output.line(line)?;
                if let Some(note) = note.filter(|_| !output.is_quiet()) {
                    output.line(format_args!("  {}", Escaped(&note)))?;
                }
            }
            output.line(format_args!("archive {digest}"))?;
        }
        end.outcome()
    }
}

fn row(image: &Listed) -> Vec<String> {
    let none = || "<none>".to_string();
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    vec![
        image.name.clone().unwrap_or_else(none),
        image.digest.map_or_else(none, |digest| digest.to_string()),
        match image.evidence {
            Behind::Manifest => "manifest",
            Behind::Recorded => "recorded",
            Behind::None => "none",
        }
        .into(),
        if image.complete { "complete" } else { "incomplete" }.into(),
        platforms.join(","),
        Size(image.size).to_string(),
    ]
}

/// Where everything came from, if that is told, and what is here only uncompressed, which is seen.
fn origin(image: &Listed) -> Option<String> {
    let said = image.provenance.as_ref();
    let is_told = |layer: &Unpacked| {
        let origin = said.and_then(|said| said.layers.get(&layer.digest));
        matches!(origin, Some(LayerOrigin::Uncompressed { .. }))
    };
    let seen = format!(
        "{} of {} layers uncompressed",
        image.uncompressed.len(),
        image.layers
    );
    match said {
        Some(said) if image.uncompressed.iter().all(is_told) => Some(said.to_string()),
        Some(said) => Some(format!("{seen}; {said}")),
        None if image.uncompressed.is_empty() => None,
        None => Some(seen),
    }
}

fn images(content: &dyn Content) -> Result<Vec<Listed>> {
    content
        .entries()
        .iter()
        .map(|entry| listed(content, entry))
        .collect()
}

fn listed(content: &dyn Content, entry: &Entry) -> Result<Listed> {
    let graph = Graph::walk(
        &entry.descriptor,
        &PlatformSelection::Present,
        &mut |descriptor| content.metadata(descriptor),
    )?;
    let account = content.account(entry, &graph);
    let mut platforms: Vec<Platform> = graph
        .runnable()
        .filter_map(|image| image.platform().cloned())
        .collect();
    platforms.sort_by_cached_key(ToString::to_string);
    platforms.dedup();
    let layers: BTreeSet<Digest> = graph
        .images
        .iter()
        .flat_map(|image| image.manifest.layers.iter().map(|layer| layer.digest))
        .collect();
    let uncompressed = account.uncompressed.iter().map(|(digest, tar)| Unpacked {
        digest: *digest,
        diff_id: tar.digest,
        size: tar.size,
    });
    let mut listed = Listed {
        name: match (&entry.reference, &entry.bare_tag) {
            (Some(reference), _) => Some(reference.familiar()),
            (None, tag) => tag.clone().map(|tag| format!(":{tag}")),
        },
        digest: entry.digest(),
        evidence: match account.evidence() {
            Evidence::Verified => Behind::Manifest,
            Evidence::Recorded => Behind::Recorded,
            Evidence::None => Behind::None,
        },
        stand_in: account.stand_in.map(|_| entry.descriptor.digest),
        complete: false,
        platforms,
        size: 0,
        layers: layers.len(),
        uncompressed: uncompressed.collect(),
        provenance: account.provenance.clone(),
    };
    let reference = entry.reference.clone();
    let blobs = Named {
        reference,
        graph,
        account,
    }
    .blobs();
    listed.complete = blobs.iter().all(|blob| content.stored(&blob.digest).is_some());
    listed.size = blobs
        .iter()
        .fold(0, |sum, blob| u64::saturating_add(sum, blob.size));
    Ok(listed)
}
