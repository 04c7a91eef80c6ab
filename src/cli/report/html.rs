//! A report as one page, for a browser and for paper.

use sealift::html::{self, Html, Page, count};
use sealift::image::provenance::Evidence;
use sealift::oci::Digest;
use sealift::size::Size;

use super::contents::{Contents, Variant};
use super::{Archive, Report, Verdict, Verified, meaning, message_and_hint};

const STYLE: &str = include_str!("style.css");

/// The page of a report.
pub fn page(report: &Report) -> String {
    // The page has no script and loads nothing.
    let policy = format!(
        "default-src 'none'; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        html::hashes(&[html::STYLE, STYLE])
    );
    let mut body = Html::default();
    header(&mut body, report);
    body.raw("<main>");
    for (at, archive) in report.archives.iter().enumerate() {
        match archive {
            Archive::Verified(verified) => section(&mut body, verified, at),
            Archive::Failed { label, error, .. } => {
                body.raw("<section><h2>").text(label).raw("</h2>");
                failure(&mut body, &message_and_hint(error));
                body.raw("</section>");
            }
        }
    }
    sign_off(&mut body);
    body.raw("</main>");
    Page {
        title: &format!("Verification of {}", report.title()),
        policy: Some(&policy),
        style: STYLE,
        script: None,
        body,
    }
    .html()
}

fn header(body: &mut Html, report: &Report) {
    body.raw("<header><p>Verification report</p><h1>")
        .text(report.title())
        .raw("</h1>");
    let (class, word) = match report.verdict() {
        Verdict::Good => ("<p class=\"verdict good\">", "Good"),
        Verdict::Bad => ("<p class=\"verdict bad\">", "Bad"),
        Verdict::Unknown => ("<p class=\"verdict bad\">", "Not verified"),
    };
    body.raw(class).raw("<strong>").raw(word).raw("</strong> ");
    body.text(report.sentence()).raw("</p>");
    if let Some(error) = &report.error {
        failure(body, &message_and_hint(error));
    }
    body.raw("<dl class=\"facts\">");
    fact(body, "Verified", |body| {
        body.text(report.run.times());
    });
    fact(body, "On host", |body| {
        body.text(&report.run.host);
    });
    fact(body, "By user", |body| {
        body.text(report.run.users());
    });
    fact(body, "With", |body| {
        body.text(report.with());
    });
    fact(body, "Checks", |body| {
        body.text(report.checks()).raw(".");
    });
    body.raw("</dl></header>");
}

fn failure(body: &mut Html, (message, hint): &(String, Option<String>)) {
    body.raw("<p class=\"caution\">").text(message).raw("</p>");
    if let Some(hint) = hint {
        body.raw("<p class=\"note\">Hint: ").text(hint).raw("</p>");
    }
}

fn fact(body: &mut Html, name: &'static str, value: impl FnOnce(&mut Html)) {
    body.raw("<div><dt>").raw(name).raw("</dt><dd>");
    value(body);
    body.raw("</dd></div>");
}

fn code(body: &mut Html, digest: &Digest) {
    body.raw("<code>").text(digest).raw("</code>");
}

fn section(body: &mut Html, archive: &Verified, at: usize) {
    body.raw("<section aria-labelledby=\"archive-")
        .text(at)
        .raw("\"><h2 id=\"archive-")
        .text(at)
        .raw("\">");
    body.text(&archive.label).raw("</h2><dl class=\"facts\">");
    fact(body, "Digest", |body| code(body, &archive.digest));
    fact(body, "Expected", |body| {
        body.raw(match archive.pinned.is_expected {
            true => "This digest was given with <code>--expect</code>: it is the archive that was meant.",
            false => "No digest was given with <code>--expect</code>. Compare this one with the line that <code>sealift save</code> printed.",
        });
    });
    if let Some(signer) = &archive.pinned.signed_by {
        fact(body, "Signed by", |body| {
            body.text(signer);
        });
    }
    let size = archive
        .files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    match archive.files.as_slice() {
        [] => {}
        [_] => fact(body, "Size", |body| {
            body.text(bytes(size));
        }),
        parts => fact(body, "Parts", |body| {
            body.text(format_args!("{}, {}", parts.len(), bytes(size)));
        }),
    }
    fact(body, "Read", |body| {
        body.text(format_args!(
            "{}, {}",
            count(archive.blobs, "blob", "blobs"),
            bytes(archive.bytes)
        ));
    });
    if let Some(left_out) = &archive.left_out {
        fact(body, "Left out", |body| {
            body.text(left_out);
        });
    }
    body.raw("</dl>");
    parts(body, archive);
    findings(body, archive);
    names(body, archive);
    references(body, archive);
    if !archive.images.is_empty() {
        body.raw("<h3>What the images consist of</h3>");
        for image in &archive.images {
            article(body, image);
        }
    }
    body.raw("</section>");
}

fn bytes(size: u64) -> String {
    format!("{} ({} bytes)", Size(size), html::thousands(size))
}

fn parts(body: &mut Html, archive: &Verified) {
    if archive.files.len() < 2 {
        return;
    }
    body.raw("<h3>Parts</h3>")
        .begin_table("parts", &["File", "Bytes"]);
    for file in &archive.files {
        body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">")
            .text(&file.path);
        body.raw("</th><td role=\"cell\" class=\"number\">")
            .text(html::thousands(file.size))
            .raw("</td></tr>");
    }
    body.raw("</tbody></table>");
}

fn findings(body: &mut Html, archive: &Verified) {
    body.raw("<h3>Findings</h3>");
    if archive.findings.is_empty() && archive.unread.is_empty() {
        body.raw("<p>None.</p>");
        return;
    }
    body.begin_table("findings", &["Severity", "Finding"]);
    for line in &archive.findings {
        row_of_finding(body, line.is_error, &line.text, line.hint.as_deref());
    }
    for text in &archive.unread {
        row_of_finding(body, true, text, None);
    }
    body.raw("</tbody></table>");
}

fn row_of_finding(body: &mut Html, is_error: bool, text: &str, hint: Option<&str>) {
    body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">");
    body.raw(match is_error {
        true => "<strong class=\"caution\">error</strong>",
        false => "note",
    });
    body.raw("</th><td role=\"cell\">").text(text);
    if let Some(hint) = hint {
        body.raw("<br><span class=\"note\">Hint: ")
            .text(hint)
            .raw("</span>");
    }
    body.raw("</td></tr>");
}

fn names(body: &mut Html, archive: &Verified) {
    body.raw("<h3>Images</h3>");
    if archive.names.is_empty() {
        body.raw("<p>None.</p>");
        return;
    }
    body.begin_table("names", &["Name and digest", "Evidence", "Platforms", "Size"]);
    for name in &archive.names {
        body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\"><span class=\"name\">")
            .text(&name.label);
        body.raw("</span> ");
        match &name.digest {
            Some(digest) => code(body, digest),
            None => drop(body.raw("<span class=\"caution\">no digest is known</span>")),
        }
        if let Some(substitute) = &name.substitute {
            body.raw("<br><span class=\"note\">Its manifest is lost. A substitute has its place: ");
            code(body, substitute);
            body.raw("</span>");
        }
        body.raw("</th><td role=\"cell\" class=\"evidence\">");
        match name.evidence {
            Some(Evidence::Verified) => drop(body.raw("verified")),
            Some(other) => drop(body.raw("<span class=\"caution\">").text(other).raw("</span>")),
            None => drop(body.raw("<strong class=\"caution\">has errors</strong>")),
        }
        body.raw("</td><td role=\"cell\" class=\"platforms\">")
            .text(&name.platforms);
        if name.absent > 0 {
            body.raw(" <span class=\"note\">")
                .text(format_args!("({} of the index not here)", name.absent))
                .raw("</span>");
        }
        body.raw("</td><td role=\"cell\" class=\"number\">");
        if let Some(size) = name.size {
            body.text(Size(size));
        }
        body.raw("</td></tr>");
    }
    body.raw("</tbody></table>");
    for evidence in evidences(archive) {
        body.raw("<p class=\"note\">Evidence ")
            .text(evidence)
            .raw(": ")
            .raw(meaning(evidence))
            .raw(".</p>");
    }
}

/// Each kind of evidence that the images have, once.
pub(super) fn evidences(archive: &Verified) -> Vec<Evidence> {
    let all = [Evidence::Verified, Evidence::Recorded, Evidence::None];
    let has = |evidence: &Evidence| archive.names.iter().any(|name| name.evidence == Some(*evidence));
    all.into_iter().filter(has).collect()
}

fn references(body: &mut Html, archive: &Verified) {
    body.raw("<h3>Signatures and other referrers</h3>");
    if archive.references.is_empty() {
        body.raw("<p>None travel along.</p>");
        return;
    }
    body.raw("<p class=\"note\">").raw(super::SIGNATURES).raw("</p>");
    body.begin_table("referrers", &["Type and digest", "Of"]);
    for reference in &archive.references {
        body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\"><span class=\"name\">")
            .text(&reference.kind);
        body.raw("</span> ");
        code(body, &reference.digest);
        body.raw("</th><td role=\"cell\">");
        match archive.parts.get(&reference.subject) {
            Some(name) => drop(body.text(name)),
            None => code(body, &reference.subject),
        }
        body.raw("</td></tr>");
    }
    body.raw("</tbody></table>");
}

fn article(body: &mut Html, image: &Contents) {
    body.raw("<article><h4>");
    body.each(&image.names, ", ", |body, name| {
        body.text(name);
    });
    body.raw("</h4>");
    if image.index.is_some() || image.origin.is_some() {
        body.raw("<dl class=\"digests\">");
        if let Some(index) = &image.index {
            fact(body, "index", |body| code(body, index));
        }
        if let Some(origin) = &image.origin {
            fact(body, "origin", |body| {
                body.text(origin);
            });
        }
        body.raw("</dl>");
    }
    for variant in &image.manifests {
        platform(body, variant);
    }
    body.raw("</article>");
}

fn platform(body: &mut Html, variant: &Variant) {
    if let Some(platform) = &variant.platform {
        body.raw("<h5>").text(platform).raw("</h5>");
    }
    body.raw("<dl class=\"digests\">");
    fact(body, "manifest", |body| code(body, &variant.digest));
    fact(body, "config", |body| code(body, &variant.config));
    for (name, value) in &variant.labels {
        body.raw("<div><dt>")
            .text(name)
            .raw("</dt><dd>")
            .text(value)
            .raw("</dd></div>");
    }
    fact(body, "layers", |body| {
        body.raw("<ol>");
        for layer in &variant.layers {
            body.raw("<li>");
            code(body, &layer.digest);
            body.raw(" <span class=\"size\">")
                .text(Size(layer.size))
                .raw("</span>");
            if let Some(remark) = layer.form.remark() {
                body.raw(" <span class=\"caution\">").raw(remark).raw("</span>");
            }
            body.raw("</li>");
        }
        body.raw("</ol>");
    });
    body.raw("</dl>");
}

/// Lines for those who sign.
fn sign_off(body: &mut Html) {
    body.raw(
        "<section class=\"sign-off\" aria-labelledby=\"sign-off\"><h2 id=\"sign-off\">Sign-off</h2><dl>",
    );
    for role in ["Verified by", "Approved by"] {
        body.raw("<div><dt>")
            .raw(role)
            .raw("</dt><dd></dd><dt>Date</dt><dd></dd><dt>Signature</dt><dd></dd></div>");
    }
    body.raw("</dl></section>");
}
