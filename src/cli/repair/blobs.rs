//! The blobs of a repair: the table, and the document.

use sealift::image::AffectedImage;
use sealift::image::names;
use sealift::repair::{BlobRepair, Fate, Good};

use crate::cli::output::{Failure, Output, finding_json, hint_of};
use crate::cli::size::Size;
use crate::cli::table::{Column, TableArgs, table};

/// Prints a table of blobs, and why some were not mended.
pub fn print(output: &Output, blobs: &[BlobRepair], width: &TableArgs) -> Result<(), Failure> {
    let columns = [
        Column::Digest("BLOB"),
        Column::Text("SIZE"),
        Column::Text("PROBLEM"),
        Column::Text("RESULT"),
        Column::Name("FROM"),
        Column::MinorList("IMAGES"),
    ];
    let rows = blobs.iter().map(|blob| {
        let (result, good) = told(blob);
        let dash = || "-".to_owned();
        vec![
            blob.digest.to_string(),
            good.map_or_else(dash, |good| Size(good.size).to_string()),
            blob.finding.problem.code().into(),
            result.into(),
            good.map_or_else(dash, |good| good.from.clone()),
            tags(&blob.images),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        for line in table(&columns, &rows, width.width(std::io::stdout())) {
            output.line(line)?;
        }
    }
    for blob in blobs {
        if let Some(reason) = reason(blob) {
            output.line(format_args!("error: {}: {reason}", blob.digest))?;
        }
    }
    Ok(())
}

/// The end of a report.
pub struct Sum<'a> {
    /// The storage folder, or the registry.
    pub place: &'a str,
    pub blobs: &'a [BlobRepair],
    /// Images that have no errors any more.
    pub whole: &'a [AffectedImage],
    /// Number of errors that are not about these blobs.
    pub others: usize,
    pub is_dry_run: bool,
    /// Whether there is no error, and nothing else was done than to blobs.
    pub is_good: bool,
}

impl Sum<'_> {
    /// Prints which images are whole again, and how many blobs were mended, or can be.
    pub fn print(&self, output: &Output) -> Result<(), Failure> {
        if output.is_quiet() {
            return Ok(());
        }
        for image in self.whole {
            output.line(format_args!("whole again: {image}"))?;
        }
        let count = |is: fn(&Fate) -> bool| self.blobs.iter().filter(|blob| is(&blob.fate)).count();
        let mended = count(|fate| matches!(fate, Fate::Mended(_)));
        let available = count(|fate| matches!(fate, Fate::Available(_)));
        let unmended = self.blobs.len() - mended - available;
        let mut parts = vec![match self.is_dry_run {
            true => format!("{} can be mended", names::count(available, "blob")),
            false => format!("{} mended", names::count(mended, "blob")),
        }];
        if unmended > 0 {
            parts.push(format!("{unmended} not"));
        }
        if self.others > 0 {
            parts.push(format!("{} left", names::count(self.others, "other error")));
        }
        if self.blobs.is_empty() && self.is_good {
            parts = vec!["all good".into()];
        }
        output.line(format_args!("{}: {}", self.place, parts.join(", ")))
    }
}

/// The result for a blob in a word, and where its bytes come from.
fn told(blob: &BlobRepair) -> (&'static str, Option<&Good>) {
    match &blob.fate {
        Fate::Mended(good) => ("mended", Some(good)),
        Fate::Available(good) => ("available", Some(good)),
        Fate::NotFound(_) => ("not-found", None),
        Fate::Kept(_) => ("kept", None),
        Fate::Failed(_) => ("failed", None),
    }
}

/// Why a blob was not mended, if anything is known about that.
fn reason(blob: &BlobRepair) -> Option<String> {
    match &blob.fate {
        Fate::Mended(_) | Fate::Available(_) => None,
        Fate::NotFound(Some(reason)) => Some(reason.clone()),
        Fate::NotFound(None) if blob.images.is_empty() => {
            Some("no image uses it; the registry's garbage collection removes it".into())
        }
        Fate::NotFound(None) => Some("no source has it".into()),
        Fate::Kept(error) => Some(match hint_of(error) {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        }),
        Fate::Failed(error) => Some(error.to_string()),
    }
}

/// The tags of images, or else their digests.
fn tags(images: &[AffectedImage]) -> String {
    let tagged: Vec<String> = images
        .iter()
        .filter(|image| image.tag.is_some())
        .map(ToString::to_string)
        .collect();
    match tagged.is_empty() {
        false => tagged.join(" "),
        true => {
            let all: Vec<String> = images.iter().map(ToString::to_string).collect();
            all.join(" ")
        }
    }
}

/// The documents of blobs.
pub fn documents(blobs: &[BlobRepair]) -> Vec<serde_json::Value> {
    let documents = blobs.iter().map(|blob| {
        let (result, good) = told(blob);
        let mut finding = finding_json(&blob.finding);
        finding["images"] = serde_json::json!(blob.images);
        serde_json::json!({
            "digest": blob.digest,
            "finding": finding,
            "result": result,
            "from": good.map(|good| &good.from),
            "size": good.map(|good| good.size),
            "reason": reason(blob),
        })
    });
    documents.collect()
}
