//! Broken lists of referrers, and referrers that are damaged.

use sealift::oci::Digest;
use serde_json::{Value, json};

use super::{Case, case};
use crate::images::{OCI_INDEX, OCI_MANIFEST, Sample, blob, descriptor};
use crate::tar_builder::TarBuilder;

const SIGNATURE: &str = "application/vnd.example.signature";

/// Blobs by their paths.
type Files = Vec<(String, Vec<u8>)>;

/// A referrer of a manifest: its descriptor as a list has it, then its blobs: manifest, config, content.
pub fn referrer(subject: &Value, text: &str) -> (Value, Files) {
    let config = b"{}";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SIGNATURE,
        "config": descriptor("application/vnd.oci.empty.v1+json", config),
        "layers": [descriptor(SIGNATURE, text.as_bytes())], "subject": subject,
    })
    .to_string();
    let mut listed = descriptor(OCI_MANIFEST, manifest.as_bytes());
    listed["artifactType"] = SIGNATURE.into();
    listed["annotations"] = json!({"io.containerd.manifest.subject": subject["digest"]});
    let blobs = [manifest.as_bytes(), config, text.as_bytes()];
    (listed, blobs.map(blob).to_vec())
}

/// The image's manifest as a subject.
pub fn subject(sample: &Sample) -> Value {
    descriptor(OCI_MANIFEST, sample.manifest.to_string().as_bytes())
}

fn list(listed: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).to_string()
}

/// The archive of an image whose entry names this list, beside these blobs.
fn listing(mut sample: Sample, list: &str, mut blobs: Files) -> Vec<u8> {
    let digest = Digest::sha256(list.as_bytes()).to_string();
    sample.index["manifests"][0]["annotations"]["dev.sealift.referrers"] = digest.into();
    blobs.push(blob(list.as_bytes()));
    blobs.sort();
    blobs.dedup();
    TarBuilder::default().files(&blobs).files(&sample.files()).end()
}

/// The same with the one referrer of the plain sample, changed.
fn changed(change: impl FnOnce(&mut Value, &mut Files)) -> Vec<u8> {
    let sample = Sample::plain();
    let (mut listed, mut blobs) = referrer(&subject(&sample), "signed");
    change(&mut listed, &mut blobs);
    listing(sample, &list(&[listed]), blobs)
}

/// Referrers of each other, this deep.
fn chain(depth: usize) -> Vec<u8> {
    let sample = Sample::plain();
    let (mut all, mut blobs) = (Vec::new(), Vec::new());
    let mut of = subject(&sample);
    for level in 0..depth {
        let (listed, more) = referrer(&of, &format!("level {level}"));
        of = descriptor(OCI_MANIFEST, &more[0].1);
        all.push(listed);
        blobs.extend(more);
    }
    listing(sample, &list(&all), blobs)
}

fn many(count: usize) -> Vec<u8> {
    let sample = Sample::plain();
    let of = subject(&sample);
    let all: Vec<Value> = (0..count).map(|at| referrer(&of, &at.to_string()).0).collect();
    listing(sample, &list(&all), Vec::new())
}

pub fn cases() -> Vec<Case> {
    let sample = Sample::plain;
    let altered_list = {
        let (listed, blobs) = referrer(&subject(&sample()), "signed");
        let tar = listing(sample(), &list(&[listed]), blobs);
        let text = String::from_utf8_lossy(&tar).into_owned();
        let at = text.find("\"artifactType\":\"application/vnd.example.signature\",\"digest\"");
        let at = at.unwrap_or_else(|| text.find("io.containerd.manifest.subject").unwrap());
        let mut tar = tar;
        tar[at + 5] ^= 1;
        tar
    };
    let other = descriptor(OCI_MANIFEST, b"another image");
    let of_another = {
        let (mut listed, blobs) = referrer(&other, "signed");
        listed["annotations"]["io.containerd.manifest.subject"] = subject(&sample())["digest"].clone();
        listing(sample(), &list(&[listed]), blobs)
    };
    let of_nothing = {
        let (listed, blobs) = referrer(&other, "signed");
        listing(sample(), &list(&[listed]), blobs)
    };
    let tagged = |tag: String| changed(|listed, _| listed["annotations"]["dev.sealift.tag"] = tag.into());
    let bad_digest = {
        let mut sample = sample();
        sample.index["manifests"][0]["annotations"]["dev.sealift.referrers"] = "sha256:1".into();
        sample.tar()
    };
    let missing_list = {
        let mut sample = sample();
        let digest = Digest::sha256(b"none").to_string();
        sample.index["manifests"][0]["annotations"]["dev.sealift.referrers"] = digest.into();
        sample.tar()
    };
    vec![
        case(
            "referrer-without-content",
            &["damaged-referrer", "missing"],
            "is damaged, and refers to app:1",
            changed(|_, blobs| drop(blobs.pop())),
        ),
        case(
            "referrer-altered",
            &["damaged-referrer", "digest-differs"],
            "is damaged, and refers to app:1",
            changed(|_, blobs| blobs[2].1[0] ^= 1),
        ),
        case(
            "referrer-of-another-size",
            &["damaged-referrer", "size-differs"],
            "size is 7 bytes, expected 6",
            changed(|_, blobs| blobs[2].1.push(b'!')),
        ),
        case(
            "referrer-without-manifest",
            &["damaged-referrer", "missing"],
            "missing",
            changed(|_, blobs| drop(blobs.remove(0))),
        ),
        case(
            "referrer-no-manifest",
            &["document"],
            "to which it does not refer",
            changed(|listed, _| listed["mediaType"] = "text/plain".into()),
        ),
        case("referrers-list-missing", &["missing"], "missing", missing_list),
        case(
            "referrers-list-altered",
            &["digest-differs"],
            "digest is",
            altered_list,
        ),
        case(
            "referrers-list-digest",
            &["document"],
            "dev.sealift.referrers: ",
            bad_digest,
        ),
        case(
            "referrers-list-no-index",
            &["document"],
            "an index without manifests",
            listing(sample(), r#"{"schemaVersion":2}"#, Vec::new()),
        ),
        case(
            "referrers-list-huge",
            &["too-large"],
            "over the limit",
            listing(sample(), &" ".repeat(5 << 20), Vec::new()),
        ),
        case(
            "referrer-without-subject",
            &["document"],
            "it does not say what",
            changed(|listed, _| listed["annotations"] = json!({})),
        ),
        case(
            "referrer-of-another",
            &["document"],
            "to which it does not refer",
            of_another,
        ),
        case(
            "referrers-of-nothing",
            &["document"],
            "which is not in the image",
            of_nothing,
        ),
        case(
            "referrer-with-a-tag",
            &["document"],
            "which is no tag for",
            tagged("latest".into()),
        ),
        case(
            "referrer-with-another-tag",
            &["document"],
            "which is no tag for",
            tagged(format!("sha256-{}.sig", Digest::sha256(b"other").hex())),
        ),
        case(
            "referrers-too-many",
            &["too-many"],
            "more than 1000 manifests refer to it",
            many(10_000),
        ),
        case(
            "referrers-too-deep",
            &["too-deep"],
            "nested deeper than 4 levels",
            chain(5),
        ),
    ]
}
