//! What `sealift inventory --compare FILE` prints.

use std::path::Path;

use sealift::error::ErrorKind;
use sealift::image::names;
use sealift::inventory::{Comparison, KnownHost, Reason};

use super::output::{Failure, Outcome, Output};
use super::table::{Column, table};

const COLUMNS: [Column; 4] = [
    Column::Name("NAME"),
    Column::Text("NOW"),
    Column::Digest("BEFORE"),
    Column::Digest("DIGEST"),
];

/// Prints the differences, in a table of this width.
pub fn print(
    output: &Output,
    path: &Path,
    before: &KnownHost,
    comparison: &Comparison,
    width: Option<usize>,
) -> Outcome {
    if output.is_json() {
        output.json(&document(path, before, comparison))?;
    } else {
        text(output, path, comparison, width)?;
    }
    Ok(failure(comparison))
}

fn text(output: &Output, path: &Path, comparison: &Comparison, width: Option<usize>) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = comparison
        .differences
        .iter()
        .map(|one| {
            let now = one.now.clone().unwrap_or_default();
            vec![
                one.name.clone(),
                reason(one.reason).into(),
                one.before.clone(),
                now,
            ]
        })
        .collect();
    if !rows.is_empty() {
        for line in table(&COLUMNS, &rows, width) {
            output.line(line)?;
        }
    }
    if output.is_quiet() {
        return Ok(());
    }
    let all = comparison.same.saturating_add(rows.len());
    let more = match comparison.more.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    output.line(format_args!(
        "{} of {} as in {}{more}",
        comparison.same,
        names::count(all, "name"),
        path.display()
    ))?;
    if comparison.nameless > 0 {
        output.note(&format!(
            "{} in {} without a name: not compared",
            names::count(comparison.nameless, "image"),
            path.display()
        ));
    }
    Ok(())
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "missing",
        Reason::OtherImage => "another image",
        Reason::Unknown => "unknown",
        Reason::Incomplete => "incomplete",
    }
}

/// The most severe difference.
fn failure(comparison: &Comparison) -> Option<ErrorKind> {
    let kinds = comparison.differences.iter().map(|one| match one.reason {
        Reason::Missing => ErrorKind::NotFound,
        Reason::OtherImage | Reason::Unknown | Reason::Incomplete => ErrorKind::NotShown,
    });
    kinds.max()
}

fn document(path: &Path, before: &KnownHost, comparison: &Comparison) -> serde_json::Value {
    serde_json::json!({
        "schema": 1,
        "file": path.display().to_string(),
        "inventory": before.id.digest,
        "host": before.id.host,
        "same": comparison.same,
        "differences": comparison.differences,
        "more": comparison.more,
        "nameless": comparison.nameless,
    })
}
