//! A report as Markdown, for tickets and wikis.

use std::fmt::Write as _;

use sealift::escape::Escaped;
use sealift::html::{count, thousands};
use sealift::image::provenance::Evidence;
use sealift::size::Size;

use super::contents::Contents;
use super::html::evidences;
use super::{Archive, Report, SIGNATURES, Verdict, Verified, meaning, message_and_hint};

/// The text of a report.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let word = match report.verdict() {
        Verdict::Good => "GOOD",
        Verdict::Bad => "BAD",
        Verdict::Unknown => "NOT VERIFIED",
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "# Verification of {}\n\n**{word}**: {}\n\n",
        plain(&report.title()),
        report.sentence()
    );
    if let Some(error) = &report.error {
        failure(&mut text, &message_and_hint(error));
    }
    let rows = [
        ("Verified", plain(&report.run.times())),
        ("On host", plain(&report.run.host)),
        ("By user", plain(&report.run.users())),
        ("With", report.with()),
        ("Checks", report.checks().to_string()),
    ];
    table(
        &mut text,
        ["", ""],
        &rows.map(|(name, value)| [name.to_string(), value]),
    );
    for archive in &report.archives {
        match archive {
            Archive::Verified(verified) => section(&mut text, verified),
            Archive::Failed { label, error, .. } => {
                let _ = write!(text, "\n## {}\n\n", plain(label));
                failure(&mut text, &message_and_hint(error));
            }
        }
    }
    text
}

fn failure(text: &mut String, (message, hint): &(String, Option<String>)) {
    let _ = write!(text, "{}\n\n", plain(message));
    if let Some(hint) = hint {
        let _ = write!(text, "Hint: {}\n\n", plain(hint));
    }
}

fn section(text: &mut String, archive: &Verified) {
    let _ = write!(text, "\n## {}\n\n", plain(&archive.label));
    let size = archive
        .files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let mut rows = vec![
        ["Digest".into(), format!("`{}`", archive.digest)],
        [
            "Expected".into(),
            match archive.pinned.is_expected {
                true => "yes: this digest was given with `--expect`".into(),
                false => "no digest was given with `--expect`".into(),
            },
        ],
    ];
    if let Some(signer) = &archive.pinned.signed_by {
        rows.push(["Signed by".into(), plain(signer)]);
    }
    match archive.files.len() {
        0 => {}
        1 => rows.push(["Size".into(), bytes(size)]),
        parts => rows.push(["Parts".into(), format!("{parts}, {}", bytes(size))]),
    }
    rows.push([
        "Read".into(),
        format!(
            "{}, {}",
            count(archive.blobs, "blob", "blobs"),
            bytes(archive.bytes)
        ),
    ]);
    rows.extend(
        archive
            .left_out
            .iter()
            .map(|left_out| ["Left out".into(), plain(left_out)]),
    );
    table(text, ["", ""], &rows);
    if archive.files.len() > 1 {
        let parts = archive
            .files
            .iter()
            .map(|file| [plain(&file.path), thousands(file.size)]);
        text.push_str("\n### Parts\n\n");
        table(text, ["File", "Bytes"], &parts.collect::<Vec<_>>());
    }
    text.push_str("\n### Findings\n\n");
    let findings = archive.findings.iter().map(|line| {
        let severity = if line.is_error { "**error**" } else { "note" };
        let hint = line.hint.as_ref().map(|hint| format!(" Hint: {}", plain(hint)));
        [
            severity.to_string(),
            plain(&line.text) + &hint.unwrap_or_default(),
        ]
    });
    let unread = archive
        .unread
        .iter()
        .map(|error| ["**error**".to_string(), plain(error)]);
    let findings: Vec<_> = findings.chain(unread).collect();
    match findings.is_empty() {
        true => text.push_str("None.\n"),
        false => table(text, ["Severity", "Finding"], &findings),
    }
    text.push_str("\n### Images\n\n");
    images(text, archive);
    text.push_str("\n### Signatures and other referrers\n\n");
    match archive.references.is_empty() {
        true => text.push_str("None travel along.\n"),
        false => {
            let _ = write!(text, "{SIGNATURES}\n\n");
            let rows = archive.references.iter().map(|reference| {
                let of = archive.parts.get(&reference.subject);
                let of = of.map_or_else(|| format!("`{}`", reference.subject), |name| plain(name));
                [plain(&reference.kind), format!("`{}`", reference.digest), of]
            });
            table(text, ["Type", "Digest", "Of"], &rows.collect::<Vec<_>>());
        }
    }
    for image in &archive.images {
        parts(text, image);
    }
}

fn images(text: &mut String, archive: &Verified) {
    let rows = archive.names.iter().map(|name| {
        let digest = name
            .digest
            .map_or_else(|| "none is known".into(), |digest| format!("`{digest}`"));
        let digest = match &name.substitute {
            Some(substitute) => format!("{digest}, in its place the substitute `{substitute}`"),
            None => digest,
        };
        let evidence = match name.evidence {
            Some(Evidence::Verified) => "verified".into(),
            Some(other) => format!("**{other}**"),
            None => "**has errors**".into(),
        };
        let absent = match name.absent {
            0 => String::new(),
            absent => format!(" ({absent} of the index not here)"),
        };
        let size = name.size.map(|size| Size(size).to_string());
        [
            plain(&name.label),
            digest,
            evidence,
            plain(&name.platforms) + &absent,
            size.unwrap_or_default(),
        ]
    });
    table(
        text,
        ["Name", "Digest", "Evidence", "Platforms", "Size"],
        &rows.collect::<Vec<_>>(),
    );
    for evidence in evidences(archive) {
        let _ = write!(text, "\nEvidence {evidence}: {}.\n", meaning(evidence));
    }
}

fn parts(text: &mut String, image: &Contents) {
    let _ = write!(text, "\n### {}\n\n", plain(&image.names.join(", ")));
    if let Some(index) = &image.index {
        let _ = writeln!(text, "- index `{index}`");
    }
    if let Some(origin) = &image.origin {
        let _ = writeln!(text, "- origin: {}", plain(origin));
    }
    for variant in &image.manifests {
        let platform = variant
            .platform
            .as_ref()
            .map(|platform| format!("{} ", plain(platform)));
        let platform = platform.unwrap_or_default();
        let _ = writeln!(text, "- {platform}manifest `{}`", variant.digest);
        let _ = writeln!(text, "  - config `{}`", variant.config);
        for (name, value) in &variant.labels {
            let _ = writeln!(text, "  - {name}: {}", plain(value));
        }
        for layer in &variant.layers {
            let remark = layer.form.remark().map(|remark| format!(", {remark}"));
            let remark = remark.unwrap_or_default();
            let _ = writeln!(text, "  - layer `{}`, {}{remark}", layer.digest, Size(layer.size));
        }
    }
}

fn table<const N: usize>(text: &mut String, columns: [&str; N], rows: &[[String; N]]) {
    let mut line = |cells: &[String]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(&columns.map(String::from));
    line(&columns.map(|_| "---".to_string()));
    rows.iter().for_each(|row| line(row));
}

fn bytes(size: u64) -> String {
    format!("{} ({} bytes)", Size(size), thousands(size))
}

/// Text from outside in which nothing is markup.
fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for char in Escaped(text).to_string().chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' | '>'
            | '$' => {
                escaped.push('\\');
                escaped.push(char);
            }
            other => escaped.push(other),
        }
    }
    // What a wiki would make a link of.
    escaped.replace("://", ":&#47;/").replace('@', "&#64;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        for (text, expected) in [
            ("httpd:2.4", "httpd:2.4"),
            ("a|b", "a\\|b"),
            ("[x](https://e)", "\\[x\\]\\(https:&#47;/e\\)"),
            ("<b>&amp;", "&lt;b\\>&amp;amp;"),
            ("a\n# b", "a\\\\u\\{a\\}\\# b"),
            ("`*_", "\\`\\*\\_"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
