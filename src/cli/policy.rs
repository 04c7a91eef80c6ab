//! `--policy`: whose signatures images need, and what a check found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use sealift::Result;
use sealift::interrupt::Interrupt;
use sealift::trust::{ArtifactKind, Policy, PolicyCheck, Verdict};

use super::output::{Failure, Output};
use super::table::{Column, untitled};

/// Whose signatures images need.
#[derive(Args)]
pub struct PolicyArgs {
    /// Accept only images that are signed as this policy demands
    ///
    /// A policy of sealift, or a policy.json of podman and skopeo. It is checked without a network, by the signatures that
    /// travel with the images.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// The columns of the lines about signatures: the part of the image, its digest, who signed it, the format.
const COLUMNS: [Column; 4] = [
    Column::Text(""),
    Column::Digest(""),
    Column::Name(""),
    Column::Minor(""),
];
const INDENT: &str = "  ";

impl PolicyArgs {
    /// The policy with the current time, if there is one.
    pub fn read(&self, interrupt: &Interrupt) -> Result<Option<PolicyCheck>> {
        let policy = self.policy.as_deref().map(Policy::read).transpose()?;
        Ok(policy.map(|policy| PolicyCheck {
            policy: Arc::new(policy),
            now: SystemTime::now(),
            interrupt: interrupt.clone(),
        }))
    }

    /// The file.
    pub fn path(&self) -> Option<&PathBuf> {
        self.policy.as_ref()
    }
}

/// The lines about an image: the outcome, and a line for each signature.
pub fn lines(label: &str, verdict: &Verdict, width: Option<usize>) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for manifest in &verdict.manifests {
        let row =
            |told: String, format: String| vec![manifest.part(), manifest.digest.to_string(), told, format];
        let signatures = manifest.signatures.iter();
        for signature in signatures.filter(|one| one.kind != ArtifactKind::Attestation) {
            rows.push(match &signature.outcome {
                Ok(signed) => row(signed.told(), signature.kind.name().into()),
                Err(flaw) => row(
                    format!("does not count: {flaw}"),
                    format!("{} in {}", signature.kind.name(), signature.artifact),
                ),
            });
        }
        if manifest.unchecked > 0 {
            rows.push(row(
                format!("{} more not checked", manifest.unchecked),
                String::new(),
            ));
        }
    }
    let width = width.map(|width| width.saturating_sub(INDENT.len()));
    let below = untitled(&COLUMNS, &rows, width);
    let below = below.into_iter().map(|line| format!("{INDENT}{line}"));
    std::iter::once(format!("{label}: {}", verdict.summary()))
        .chain(below)
        .collect()
}

/// Prints the same.
pub fn print(output: &Output, label: &str, verdict: &Verdict, width: Option<usize>) -> Result<(), Failure> {
    lines(label, verdict, width)
        .into_iter()
        .try_for_each(|line| output.line(line))
}
