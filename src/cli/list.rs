//! `sealift list`.

use clap::Args;
use sealift::Result;
use sealift::archive::content::Content;
use sealift::oci::{Graph, PlatformSelection};

use super::output::{Outcome, Output, table};
use super::size::Size;
use super::verify::ArchiveArgs;

/// Show what is inside archives: names, digests, platforms, sizes
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift list images.tar
  sealift list --json images.tar | jq -r '.archives[].images[].digest'

This reads names and manifests only; `sealift verify` checks every byte.")]
pub struct List {
    #[command(flatten)]
    archive: ArchiveArgs,
}

/// One image of an archive.
#[derive(serde::Serialize)]
struct Listed {
    name: Option<String>,
    digest: String,
    /// What closes the chain of hashes from the digest to the content.
    evidence: &'static str,
    platforms: Vec<String>,
    /// Stored bytes of its blobs.
    size: u64,
}

impl List {
    /// Lists the archives.
    pub fn run(&self, output: &Output, interrupt: &sealift::interrupt::Interrupt) -> Outcome {
        let mut documents = Vec::new();
        for content in self.archive.open(interrupt)? {
            let content = content?;
            content.check_opening()?;
            let images = images(content.as_ref())?;
            if output.is_json() {
                documents.push(serde_json::json!({
                    "archive": content.label(),
                    "digest": content.digest(),
                    "images": images,
                }));
                continue;
            }
            let rows: Vec<Vec<String>> = images.iter().map(row).collect();
            for line in table(&["NAME", "DIGEST", "EVIDENCE", "PLATFORMS", "SIZE"], &rows) {
                output.line(line)?;
            }
            output.line(format_args!("archive {}", content.digest()))?;
        }
        if output.is_json() {
            output.json(&serde_json::json!({ "schema": 1, "archives": documents }))?;
        }
        Ok(0)
    }
}

fn row(image: &Listed) -> Vec<String> {
    vec![
        image.name.clone().unwrap_or_else(|| "<none>".into()),
        image.digest.clone(),
        image.evidence.into(),
        image.platforms.join(","),
        Size(image.size).to_string(),
    ]
}

fn images(content: &dyn Content) -> Result<Vec<Listed>> {
    let list = content.entries().iter().map(|entry| {
        let graph = Graph::walk(
            &entry.descriptor,
            &PlatformSelection::Present,
            &mut |descriptor| content.metadata(descriptor),
        )?;
        let blobs = graph.blobs();
        let whole = blobs.iter().all(|blob| content.stored(&blob.digest).is_some());
        let mut platforms: Vec<String> = graph
            .runnable()
            .filter_map(|image| image.platform())
            .map(ToString::to_string)
            .collect();
        platforms.sort();
        platforms.dedup();
        Ok(Listed {
            name: match (&entry.reference, &entry.bare_tag) {
                (Some(reference), _) => Some(reference.familiar()),
                (None, tag) => tag.clone().map(|tag| format!(":{tag}")),
            },
            digest: entry.recorded.unwrap_or(entry.descriptor.digest).to_string(),
            evidence: match (whole, entry.recorded) {
                (false, _) => "incomplete",
                (true, Some(_)) => "recorded",
                (true, None) => "verified",
            },
            platforms,
            size: blobs.iter().map(|blob| blob.size).sum(),
        })
    });
    list.collect()
}
