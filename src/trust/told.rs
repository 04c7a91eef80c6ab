//! Verdicts in words and as documents.

use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::check::{CheckedSignature, ManifestVerdict, Role};
use super::flaw::Flaw;
use super::policy::{RuleKind, Verdict};
use super::signer::Signed;
use crate::error::Problem;
use crate::image::names;

/// Most signatures that do not count that a message names.
const SHOWN: usize = 5;

impl Verdict {
    /// What is wrong with an image that does not meet the policy; `None` if it does.
    pub fn problem(&self) -> Option<Problem> {
        Some(Problem::NotAccepted {
            image: match self.name.is_nameless() {
                true => "the image".into(),
                false => self.name.familiar(),
            },
            reason: self.reason()?,
        })
    }

    /// Why an image does not meet the policy, with the signatures that do not count; `None` if it does.
    pub fn reason(&self) -> Option<String> {
        if self.is_met() {
            return None;
        }
        let mut reasons: Vec<String> = self.unmet.iter().map(ToString::to_string).collect();
        let bad = || self.manifests.iter().flat_map(ManifestVerdict::bad);
        reasons.extend(bad().take(SHOWN).map(|(signature, flaw)| flawed(signature, flaw)));
        match bad().count().saturating_sub(SHOWN) {
            0 => {}
            more => reasons.push(format!(
                "{} more that do not count",
                names::count(more, "signature")
            )),
        }
        Some(reasons.join("; "))
    }

    /// The outcome in a few words, with the rule that decided.
    pub fn summary(&self) -> String {
        let outcome = match (self.is_met(), self.rule) {
            (false, _) => "not accepted",
            (true, RuleKind::Verify) => "signed as the policy demands",
            (true, RuleKind::Accept | RuleKind::Reject) => "accepted without a signature",
        };
        match &self.scope {
            Some(scope) => format!("{outcome} (rule {scope})"),
            None => format!("{outcome} (default)"),
        }
    }
}

impl ManifestVerdict {
    /// What the manifest is: `index`, its platform, or `attestation`.
    pub fn part(&self) -> String {
        match (self.role, &self.platform) {
            (Role::Index, _) => "index".into(),
            (Role::Attestation, _) => "attestation".into(),
            (Role::Platform, Some(platform)) => platform.to_string(),
            (Role::Platform, None) => "manifest".into(),
        }
    }
}

/// A signature that does not count, for a message.
fn flawed(signature: &CheckedSignature, flaw: &Flaw) -> String {
    format!("{} in {}: {flaw}", signature.kind.name(), signature.artifact)
}

impl Signed {
    /// Who signed and when, in a few words.
    pub fn told(&self) -> String {
        match &self.at {
            Some(at) => format!("signed by {} at {}", self.by, crate::escape::Escaped(at)),
            None => format!("signed by {}", self.by),
        }
    }
}

/// The name and the digest are in the document of the image.
impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("accepted", &self.is_met())?;
        map.serialize_entry("scope", &self.scope)?;
        map.serialize_entry("rule", &self.rule)?;
        map.serialize_entry("manifests", &self.manifests)?;
        map.serialize_entry("unmet", &self.unmet)?;
        map.end()
    }
}
