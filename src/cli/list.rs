//! `sealift list`.

use clap::Args;
use sealift::Result;
use sealift::archive::content::Content;
use sealift::escape::Escaped;
use sealift::oci::{Graph, PlatformSelection};

use super::output::{Outcome, Output, Several, table};
use super::size::Size;
use super::verify::FileArgs;

/// Show what is inside archives: names, digests, platforms, sizes
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift list images.tar
  sealift list --json images.tar | jq -r '.archives[].images[].digest'

This reads names and manifests only, and looks whether all blobs are there; `sealift verify` checks every
byte.")]
pub struct List {
    #[command(flatten)]
    files: FileArgs,
}

/// One image of an archive.
#[derive(serde::Serialize)]
struct Listed {
    name: Option<String>,
    digest: String,
    /// Whether the digest is only what the source engine said: its manifest is not here.
    recorded: bool,
    /// Whether every blob that it needs is there. Whether they are right is for `verify` to say.
    complete: bool,
    platforms: Vec<String>,
    /// Stored bytes of its blobs.
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
            for line in table(&["NAME", "DIGEST", "CONTENT", "PLATFORMS", "SIZE"], &rows) {
                output.line(line)?;
            }
            output.line(format_args!("archive {digest}"))?;
        }
        end.outcome()
    }
}

fn row(image: &Listed) -> Vec<String> {
    vec![
        image.name.clone().unwrap_or_else(|| "<none>".into()),
        image.digest.clone(),
        match (image.complete, image.recorded) {
            (false, _) => "incomplete",
            (true, true) => "complete, digest recorded",
            (true, false) => "complete",
        }
        .into(),
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
            digest: entry.digest().unwrap_or(entry.descriptor.digest).to_string(),
            recorded: entry.stand_in.is_some(),
            complete: blobs.iter().all(|blob| content.stored(&blob.digest).is_some()),
            platforms,
            size: blobs
                .iter()
                .fold(0, |sum, blob| u64::saturating_add(sum, blob.size)),
        })
    });
    list.collect()
}
