//! What refers to an image in a registry.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Tools;

/// The digests of the manifests that a reference leads to: the index and its entries.
fn manifests(tools: &Tools, reference: &str) -> Vec<String> {
    let digest = tools.run("crane", &["digest", reference]).ok().stdout;
    let fetch = ["manifest", "fetch", "--plain-http", reference];
    let index = tools.run("oras", &fetch).ok().json();
    let entries = index["manifests"].as_array().unwrap().iter();
    let entries = entries.map(|entry| entry["digest"].as_str().unwrap().to_owned());
    [digest.trim().to_owned()].into_iter().chain(entries).collect()
}

/// What refers to an image in a registry, as oras and crane see it: `SUBJECT <- DIGEST`, and cosign's tags.
pub fn tree(tools: &Tools, repository: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for digest in manifests(tools, &format!("{repository}:1.0")) {
        let reference = format!("{repository}@{digest}");
        let discover = ["discover", "--plain-http", "--format", "json", &reference];
        collect(&tools.run("oras", &discover).ok().json(), &digest, &mut found);
        let tag = digest.replace(':', "-");
        for end in ["sig", "att", "sbom"] {
            let attached = tools.run("crane", &["digest", &format!("{repository}:{tag}.{end}")]);
            if attached.code == Some(0) {
                found.insert(format!("{digest} <- {} .{end}", attached.stdout.trim()));
            }
        }
    }
    found
}

fn collect(node: &Value, subject: &str, found: &mut BTreeSet<String>) {
    for referrer in node["referrers"].as_array().into_iter().flatten() {
        let digest = referrer["digest"].as_str().unwrap();
        found.insert(format!("{subject} <- {digest}"));
        collect(referrer, digest, found);
    }
}
