//! One image: its digests, how it is pulled, its platforms, and what refers to it.

use std::collections::BTreeMap;

use super::commands::{Command, Site, pulls};
use super::{Shown, copy, frame, size};
use crate::escape::shell_word;
use crate::html::{Html, count};
use crate::image::Image;
use crate::image::provenance::Evidence;
use crate::image::referrers::{self, ReferrerKind};
use crate::oci::Digest;
use crate::serve::content::Content;
use crate::serve::images::ServedName;

/// The page of an image.
pub(super) fn page(content: &Content, site: &Site, image: &ServedName) -> Shown {
    let mut body = Html::default();
    body.raw("<header><p><a href=\"/\">All images</a></p><h1>")
        .text(&image.label)
        .raw("</h1></header><main>");
    facts(&mut body, image);
    pull(&mut body, site, image);
    platforms(&mut body, content, image);
    referrers(&mut body, content, image);
    body.raw("</main>");
    Shown::found(frame(&image.label, body))
}

fn facts(body: &mut Html, image: &ServedName) {
    let overview = &image.overview;
    let of = match image.named.provenance.substitute {
        Some(_) => "Substitute's digest",
        None => "Digest",
    };
    body.raw("<dl class=\"facts\">");
    fact(body, of, |body| full(body, &image.digest()));
    if let Some(recorded) = image
        .named
        .provenance
        .substitute
        .and_then(|substitute| substitute.recorded)
    {
        fact(body, "Recorded digest", |body| full(body, &recorded));
    }
    fact(body, "Evidence", |body| {
        body.text(evidence(image));
    });
    if !image.is_complete {
        fact(body, "Content", |body| {
            body.text("Incomplete: the archive lacks some layers in their stored form. Only a client that already has these layers can pull the image.");
        });
    }
    if let Some(artifact) = &overview.artifact_type {
        fact(body, "Artifact", |body| {
            body.raw("<code>").text(artifact).raw("</code>");
        });
    }
    if !overview.platforms.is_empty() {
        fact(body, "Platforms", |body| {
            body.each(&overview.platforms, ", ", |body, platform| {
                body.text(platform);
            });
        });
    }
    if !image.named.referrers.is_empty() {
        let mut counts: BTreeMap<ReferrerKind, usize> = BTreeMap::new();
        for referrer in image.named.referrers.iter() {
            *counts.entry(referrer.kind()).or_default() += 1;
        }
        fact(body, "Signatures and more", |body| {
            body.text(referrers::count(counts));
        });
    }
    fact(body, "Size", |body| {
        body.text(size(overview.size)).text(" stored, ");
        body.text(count(overview.layers, "layer", "layers"));
    });
    body.raw("</dl>");
}

fn fact(body: &mut Html, name: &'static str, value: impl FnOnce(&mut Html)) {
    body.raw("<div><dt>").raw(name).raw("</dt><dd>");
    value(body);
    body.raw("</dd></div>");
}

/// A whole digest that can be copied.
fn full(body: &mut Html, digest: &Digest) {
    body.raw("<code>").text(digest).raw("</code>");
    copy(body, &digest.to_string(), "digest");
}

/// How sealift knows the digest.
fn evidence(image: &ServedName) -> &'static str {
    let is_substitute = image.named.provenance.substitute.is_some();
    match image.evidence() {
        Evidence::Verified => {
            "Manifest: the archive has the manifest that the registry served, and it hashes to this digest. Each blob is verified before it is first sent."
        }
        Evidence::Recorded if is_substitute => {
            "Recorded: the engine that the image was saved from reported the recorded digest. The manifest with that digest is lost. Clients get a substitute manifest, which has another digest."
        }
        Evidence::Recorded => {
            "Recorded: the manifest hashes to this digest, but the tool that wrote the archive may have made it."
        }
        Evidence::None => {
            "None: no digest from a registry is known. Clients get a substitute manifest. Do not use its digest in deployments."
        }
    }
}

fn pull(body: &mut Html, site: &Site, image: &ServedName) {
    let repository = format!("{}/{}", site.host, image.path);
    let by_digest = format!("{repository}@{}", image.digest());
    let by_tag = image.tag().map(|tag| format!("{repository}:{tag}"));
    let is_sparse = !image.named.graph.absent.is_empty();
    body.raw("<section aria-labelledby=\"pull\"><h2 id=\"pull\">Pull</h2>");
    if by_tag.is_some() {
        body.raw("<fieldset class=\"by\"><legend>Name the image by</legend>");
        body.raw("<label><input type=\"radio\" name=\"by\" id=\"by-tag\" checked> tag</label>");
        body.raw("<label><input type=\"radio\" name=\"by\" id=\"by-digest\"> digest</label></fieldset>");
    }
    let is_artifact = image.overview.artifact_type.is_some();
    let of = |reference: &str| pulls(site, reference, is_sparse, is_artifact);
    let tagged = by_tag.as_deref().map(of).unwrap_or_default();
    body.raw("<dl class=\"commands\">");
    for (at, command) in of(&by_digest).iter().enumerate() {
        body.raw("<div><dt>").raw(command.client).raw("</dt>");
        if let Some(tagged) = tagged.get(at) {
            paste(body, tagged, "tagged");
            paste(body, command, "digested");
        } else {
            paste(body, command, "only");
        }
        body.raw("</div>");
    }
    body.raw("</dl>");
    notes(body, site);
    body.raw("</section>");
}

fn paste(body: &mut Html, command: &Command, class: &'static str) {
    body.raw("<dd class=\"")
        .raw(class)
        .raw("\"><code>")
        .text(&command.text)
        .raw("</code>");
    copy(body, &command.text, "command");
    body.raw("</dd>");
}

/// What must be done before the commands work.
fn notes(body: &mut Html, site: &Site) {
    if site.is_private {
        let host = shell_word(&site.host);
        body.raw("<p class=\"note\">This registry asks for a password. Log in first, for example with <code>docker login ");
        body.text(&host)
            .raw("</code> or <code>podman login ")
            .text(&host)
            .raw("</code>.</p>");
    }
    if site.is_tls {
        body.raw(
            "<p class=\"note\">If a private CA has signed the certificate, each client needs the CA's file: ",
        );
        body.raw("docker, podman and skopeo as <code>/etc/docker/certs.d/")
            .text(&site.host)
            .raw("/ca.crt</code>, ctr with <code>--tlscacert FILE</code>.</p>");
    } else {
        body.raw("<p class=\"note\">This registry uses plain HTTP. Docker and containerd on other hosts accept that only if their configuration ");
        body.raw("allows it. <code>sealift serve</code> can print this configuration.</p>");
    }
}

fn platforms(body: &mut Html, content: &Content, image: &ServedName) {
    let graph = &image.named.graph;
    body.raw("<section aria-labelledby=\"content\"><h2 id=\"content\">Content</h2>");
    if let Some(index) = image.overview.index {
        body.raw("<dl class=\"digests\"><div><dt>index</dt><dd>");
        full(body, &index);
        body.raw("</dd></div></dl>");
    }
    for image in graph.variants() {
        platform(body, content, image);
    }
    if !graph.absent.is_empty() {
        let absent = count(graph.absent.len(), "entry", "entries");
        body.raw("<p class=\"note\">This archive lacks ")
            .text(absent)
            .raw(" of the index.</p>");
    }
    body.raw("</section>");
}

fn platform(body: &mut Html, content: &Content, image: &Image) {
    let layers = &image.manifest.layers;
    body.raw("<article>");
    if let Some(platform) = image.platform().filter(|_| image.is_runnable()) {
        body.raw("<h3>").text(platform).raw("</h3>");
    }
    body.raw("<dl class=\"digests\"><div><dt>manifest</dt><dd>");
    full(body, &image.descriptor.digest);
    body.raw("</dd></div><div><dt>config</dt><dd>");
    full(body, &image.id());
    body.raw("</dd></div></dl>");
    if !layers.is_empty() {
        let stored = layers
            .iter()
            .fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        body.raw("<details><summary>")
            .text(count(layers.len(), "layer", "layers"))
            .raw(", ");
        body.text(size(stored)).raw("</summary><ol>");
        for layer in layers {
            body.raw("<li><code>")
                .text(layer.digest)
                .raw("</code> <span class=\"size\">")
                .text(size(layer.size));
            match content.has_blob(&layer.digest) {
                true => {
                    body.raw("</span>");
                }
                false => {
                    body.raw("</span> <span class=\"caution\">not here</span>");
                }
            }
            body.raw("</li>");
        }
        body.raw("</ol></details>");
    }
    body.raw("</article>");
}

/// What refers to the image or to one of its platforms: referrers of the registry, and attestations in the index.
fn referrers(body: &mut Html, content: &Content, image: &ServedName) {
    let listed = content.referrers_of(image).map(|(subject, referrer)| {
        let kind = referrer.artifact_type.as_deref();
        (
            kind.unwrap_or(referrer.media_type.as_str()),
            referrer.digest,
            subject,
        )
    });
    let listed: Vec<_> = listed.collect();
    let tagged = image.named.referrers.iter();
    let tagged = tagged.map(|referrer| (referrer.told_type(), referrer.digest(), referrer.subject));
    let is_new = |row: &(&str, Digest, Digest)| {
        let mut listed = listed.iter();
        listed.all(|(_, digest, subject)| (*digest, *subject) != (row.1, row.2))
    };
    let tagged: Vec<_> = tagged.filter(is_new).collect();
    let attestations = image.named.graph.images.iter().filter_map(|image| {
        let subject = image.descriptor.attests()?.parse().ok()?;
        Some(("attestation", image.descriptor.digest, subject))
    });
    let mut rows = listed.into_iter().chain(tagged).chain(attestations).peekable();
    if rows.peek().is_none() {
        return;
    }
    body.raw("<section aria-labelledby=\"referrers\"><h2 id=\"referrers\">Referrers</h2>");
    body.begin_table("referrers", &["Type", "Digest", "Of"]);
    for (kind, digest, subject) in rows {
        body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">")
            .text(kind);
        body.raw("</th><td role=\"cell\" class=\"digest\"><code title=\"")
            .text(digest)
            .raw("\">");
        body.text(digest.short()).raw("</code>");
        copy(body, &digest.to_string(), "digest");
        body.raw("</td><td role=\"cell\">")
            .text(part(image, subject))
            .raw("</td></tr>");
    }
    body.raw("</tbody></table></section>");
}

/// The part of an image that has this digest: its index, or the manifest of a platform.
fn part(image: &ServedName, digest: Digest) -> String {
    if image.overview.index == Some(digest) {
        return "index".into();
    }
    let mut variants = image.overview.variants.iter();
    let variant = variants.find(|variant| variant.digest == digest);
    let mut referrers = image.named.referrers.iter();
    match variant.and_then(|variant| variant.platform.as_ref()) {
        Some(platform) => platform.to_string(),
        None if referrers.any(|referrer| referrer.digest() == digest) => "referrer".into(),
        None => "manifest".into(),
    }
}
