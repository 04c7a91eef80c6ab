//! `sealift list`.

use std::collections::HashMap;
use std::rc::Rc;

use clap::Args;
use sealift::Result;
use sealift::archive::Graphs;
use sealift::archive::Layout;
use sealift::archive::format::{Entry, Omitted};
use sealift::image::named::{self, NamedImage};
use sealift::image::provenance::{Evidence, LayerOrigin, Origins, Provenance};
use sealift::image::referrers::ReferrerSummary;
use sealift::image::{Overview, Variant};
use sealift::oci::{Digest, Platform, Reference};
use sealift::save::LeftOut;

use super::archive::{Accepted, FileArgs};
use super::output::{Failure, MultiReport, Outcome, Output};
use super::referrers;
use super::rows::own_rows;
use super::size::Size;
use super::table::{Column, TableArgs, table, untitled};
use super::{saved, sign};

/// List the images in archives: names, digests, platforms, sizes, image ids
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift list images.tar
  sealift list images.tar --allowed-signers allowed_signers
  sealift list --json images.tar | jq -r '.archives[].images[].digest'

Below each image are the digests of its index, manifests and configs. One of them is what Docker shows as \
IMAGE ID: the config's digest in a classic store; the index's digest in a containerd store, or the manifest's if \
there is no index. If the manifest or a layer did not come from a registry, its origin follows, as the archive \
records it. -q prints only the table and the archive's digest.

`list` reads names and manifests, and reports missing blobs. `sealift verify` checks every byte.")]
pub struct List {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    table: TableArgs,
}

/// The evidence for a digest, without hashing layers.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Behind {
    /// The manifest or index is present and hashes to it.
    Manifest,
    /// The source engine reported it, or its manifest may be in no registry.
    Recorded,
    /// There is no digest.
    None,
}

/// One image of an archive.
#[derive(serde::Serialize)]
struct Listed {
    name: Option<String>,
    /// `None` if it is not known.
    digest: Option<Digest>,
    evidence: Behind,
    /// Digest of the manifest that replaces one that could not be recovered.
    #[serde(rename = "stand_in")]
    substitute: Option<Digest>,
    /// Whether every blob that it needs is present; `verify` checks that they are right.
    complete: bool,
    /// Whether it lacks only layers that the archive declares to leave out.
    #[serde(skip)]
    is_without_omitted: bool,
    #[serde(serialize_with = "Platform::serialize_texts")]
    platforms: Rc<[Platform]>,
    /// Its type, if it is an artifact.
    artifact: Option<String>,
    /// Digest of the index, if there is one.
    index: Option<Digest>,
    /// One for each platform that is present.
    #[serde(serialize_with = "all")]
    manifests: Rc<[Variant]>,
    /// Stored bytes of its blobs.
    size: u64,
    /// Number of layers.
    layers: usize,
    /// The layers that are present only uncompressed.
    uncompressed: Vec<UncompressedLayer>,
    /// The layers that the archive declares to leave out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<OmittedLayer>,
    /// Where its manifest and layers came from, as the archive says.
    #[serde(rename = "provenance")]
    origins: Option<Origins>,
    /// What refers to it: signatures, SBOMs, attestations.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "all_referrers")]
    referrers: Rc<[ReferrerSummary]>,
}

fn all_referrers<S: serde::Serializer>(
    referrers: &[ReferrerSummary],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(referrers)
}

fn all<S: serde::Serializer>(variants: &[Variant], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(variants)
}

/// A layer that is left out.
#[derive(Clone, serde::Serialize)]
struct OmittedLayer {
    /// Digest of its stored form.
    digest: Digest,
    /// Stored bytes.
    size: u64,
}

/// A layer that is present only uncompressed.
#[derive(serde::Serialize)]
struct UncompressedLayer {
    /// Digest of its stored form.
    digest: Digest,
    diff_id: Digest,
    /// Uncompressed bytes.
    size: u64,
}

impl List {
    /// Lists the archives.
    pub fn run(&self, output: &Output, interrupt: &sealift::interrupt::Interrupt) -> Outcome {
        let mut end = MultiReport::new(output);
        for (label, archive) in self.files.open(interrupt)? {
            let listed = archive.and_then(|Accepted { layout, signed }| {
                layout.check_opening()?;
                let omitted = layout.omitted().clone();
                Ok((layout.digest(), images(layout.as_ref())?, omitted, signed))
            });
            let (digest, images, omitted, signed) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    end.error(&label, error)?;
                    continue;
                }
            };
            let left_out = left_out(&images, &omitted);
            if output.is_json() {
                let mut document =
                    serde_json::json!({ "archive": label, "digest": digest, "images": images });
                if let Some(left_out) = left_out {
                    document["omitted"] = serde_json::json!(left_out);
                }
                if let Some(signed) = signed {
                    document["signature"] = serde_json::json!(signed);
                }
                end.document(document);
                continue;
            }
            if self.files.are_several() {
                output.line(format_args!("{label}:"))?;
            }
            let names: Vec<Option<Reference>> = images
                .iter()
                .map(|image| image.name.as_deref()?.parse().ok())
                .collect();
            let digests = images.iter().map(|image| image.digest);
            let has_row = own_rows(names.iter().map(Option::as_ref).zip(digests));
            let images = images.iter().zip(has_row);
            let images: Vec<&Listed> = images
                .filter_map(|(image, has_row)| has_row.then_some(image))
                .collect();
            self.print(output, &images)?;
            if let Some(left_out) = left_out.filter(|_| !output.is_quiet()) {
                output.line(saved::left_out(&left_out))?;
            }
            if let Some(signed) = signed.filter(|_| !output.is_quiet()) {
                output.line(sign::signed_by(&label, &signed))?;
            }
            output.line(format_args!("archive {digest}"))?;
        }
        end.outcome()
    }
    fn print(&self, output: &Output, images: &[&Listed]) -> Result<(), Failure> {
        let width = self.table.width(std::io::stdout());
        let rows: Vec<Vec<String>> = images.iter().map(|image| row(image)).collect();
        let lines = table(&COLUMNS, &rows, width);
        let images = std::iter::once(None).chain(images.iter().map(Some));
        for (line, image) in lines.iter().zip(images) {
            output.line(line)?;
            let Some(image) = image.filter(|_| !output.is_quiet()) else {
                continue;
            };
            let width = width.map(|width| width.saturating_sub(INDENT.len()));
            for line in untitled(&DETAILS, &details(image), width) {
                output.line(format_args!("{INDENT}{line}"))?;
            }
            for line in untitled(&REFERRERS, &referrers::lines(&image.referrers), width) {
                output.line(format_args!("{INDENT}{line}"))?;
            }
            if !image.omitted.is_empty() {
                let (count, all) = (image.omitted.len(), image.layers);
                output.line(format_args!("{INDENT}{count} of {all} layers left out"))?;
            }
            if let Some(artifact) = &image.artifact {
                output.line(format_args!("{INDENT}artifact of type {artifact}, not an image"))?;
            }
            if let Some(origin) = origin(image) {
                output.line(format_args!("{INDENT}{origin}"))?;
            }
        }
        Ok(())
    }
}

const COLUMNS: [Column; 6] = [
    Column::Name("NAME"),
    Column::Digest("DIGEST"),
    Column::Text("EVIDENCE"),
    Column::Minor("CONTENT"),
    Column::MinorList("PLATFORMS"),
    Column::Text("SIZE"),
];
/// The columns of the lines below an image, and their indentation.
const DETAILS: [Column; 3] = [Column::Name(""), Column::Digest(""), Column::Text("")];
/// The columns of the lines about what refers to an image.
pub const REFERRERS: [Column; 3] = [Column::Text(""), Column::Name(""), Column::Minor("")];
const INDENT: &str = "  ";

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
        match (image.complete, image.is_without_omitted) {
            (true, _) => "complete",
            (false, true) => "partial",
            (false, false) => "incomplete",
        }
        .into(),
        match image.artifact {
            Some(_) => "artifact".into(),
            None => platforms.join(","),
        },
        Size(image.size).to_string(),
    ]
}

/// The digests below an image, each with its kind and the store in which Docker shows it as image id.
fn details(image: &Listed) -> Vec<Vec<String>> {
    let row = |what: String, digest: Digest, store: Option<&str>| {
        let id = store.map(|store| format!("IMAGE ID in a {store} store"));
        vec![what, digest.to_string(), id.unwrap_or_default()]
    };
    let mut rows = Vec::new();
    if let Some(index) = image.index {
        let has_images = image.manifests.iter().any(|variant| variant.image_id.is_some());
        rows.push(row("index".into(), index, has_images.then_some("containerd")));
    }
    for variant in image.manifests.iter() {
        let name = match &variant.platform {
            Some(platform) => format!("{platform} "),
            None => String::new(),
        };
        let ids = variant.image_id.as_ref();
        // The digest of a substitute must not be deployed by.
        if image.substitute.is_none() {
            let is_id = ids.is_some_and(|ids| ids.containerd == variant.digest);
            let store = is_id.then_some("containerd");
            rows.push(row(format!("{name}manifest"), variant.digest, store));
        }
        rows.push(row(
            format!("{name}config"),
            variant.config,
            ids.map(|_| "classic"),
        ));
    }
    rows
}

/// The origin of manifest and layers, if the archive has it, and the layers that are present only uncompressed.
fn origin(image: &Listed) -> Option<String> {
    let said = image.origins.as_ref();
    let is_told = |layer: &UncompressedLayer| {
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

fn images(layout: &dyn Layout) -> Result<Vec<Listed>> {
    let mut graphs = Graphs::new(layout);
    let mut images = Vec::new();
    for entry in layout.entries() {
        images.push(graphs.named(entry)?);
    }
    // Several names of one image share the result.
    let mut measured: HashMap<usize, Measured> = HashMap::new();
    let firsts = named::firsts(&images);
    let entries = layout.entries().iter().zip(images).zip(firsts);
    Ok(entries
        .map(|((entry, image), first)| {
            let measured = measured
                .entry(first)
                .or_insert_with(|| Measured::of(&image, layout));
            listed(entry, image.provenance, measured.clone())
        })
        .collect())
}

/// Properties of an image's content.
#[derive(Clone)]
struct Measured {
    platforms: Rc<[Platform]>,
    artifact: Option<String>,
    index: Option<Digest>,
    manifests: Rc<[Variant]>,
    layers: usize,
    complete: bool,
    is_without_omitted: bool,
    omitted: Vec<OmittedLayer>,
    size: u64,
    referrers: Rc<[ReferrerSummary]>,
}

impl Measured {
    fn of(image: &NamedImage, layout: &dyn Layout) -> Measured {
        let overview = Overview::of(image);
        let blobs = image.blobs();
        let missing = || blobs.iter().filter(|blob| layout.stored(&blob.digest).is_none());
        let declared = &layout.omitted().layers;
        let omitted = missing().filter(|blob| declared.contains(&blob.digest));
        let omitted: Vec<OmittedLayer> = omitted
            .map(|blob| OmittedLayer {
                digest: blob.digest,
                size: blob.size,
            })
            .collect();
        Measured {
            platforms: overview.platforms.into(),
            artifact: overview.artifact_type,
            index: overview.index,
            manifests: overview.variants.into(),
            layers: overview.layers,
            complete: missing().next().is_none(),
            is_without_omitted: missing().count() == omitted.len(),
            omitted,
            size: overview.size,
            referrers: ReferrerSummary::all(image).into(),
        }
    }
}

fn listed(entry: &Entry, provenance: Provenance, measured: Measured) -> Listed {
    let uncompressed = provenance
        .uncompressed
        .iter()
        .map(|(digest, tar)| UncompressedLayer {
            digest: *digest,
            diff_id: tar.digest,
            size: tar.size,
        });
    Listed {
        name: match (&entry.reference, &entry.bare_tag) {
            (Some(reference), _) => Some(reference.familiar()),
            (None, tag) => tag.clone().map(|tag| format!(":{tag}")),
        },
        digest: entry.digest(),
        evidence: match provenance.evidence() {
            Evidence::Verified => Behind::Manifest,
            Evidence::Recorded => Behind::Recorded,
            Evidence::None => Behind::None,
        },
        substitute: provenance.substitute.map(|_| entry.descriptor.digest),
        complete: measured.complete,
        is_without_omitted: measured.is_without_omitted,
        omitted: measured.omitted,
        platforms: measured.platforms,
        artifact: measured.artifact,
        index: measured.index,
        manifests: measured.manifests,
        size: measured.size,
        layers: measured.layers,
        uncompressed: uncompressed.collect(),
        origins: provenance.origins,
        referrers: measured.referrers,
    }
}

/// What an archive leaves out, if anything.
fn left_out(images: &[Listed], declared: &Omitted) -> Option<LeftOut> {
    let layers = images.iter().flat_map(|image| &image.omitted);
    LeftOut::of(
        &layers.map(|layer| (layer.digest, layer.size)).collect(),
        declared,
    )
}
