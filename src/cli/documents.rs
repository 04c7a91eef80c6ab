//! The JSON documents of a load: the library's plans and reports, with exit codes.

use sealift::Result;
use sealift::host::Choice;
use sealift::load::{
    DiskSpace, Loaded, Outcome, Plan, PlanDetails, PlannedImage, Report, ReportDetails, Skipped, UploadBlob,
};
use serde::Serialize;

use super::output::error_json;
use super::sign::SignedArchive;
use super::{exit, remedy};

/// The version of the documents.
const SCHEMA: u32 = 1;

/// The document of a plan.
#[derive(Serialize)]
pub struct PlanDocument<'p> {
    schema: u32,
    target: &'p str,
    version: Option<&'p str>,
    images: Vec<PlannedImage>,
    left_out: Vec<SkippedDocument<'p>>,
    send: &'p [UploadBlob],
    #[serde(flatten)]
    details: &'p PlanDetails,
    room: Option<&'p DiskSpace>,
}

impl<'p> From<&'p Plan> for PlanDocument<'p> {
    fn from(plan: &'p Plan) -> PlanDocument<'p> {
        let Plan {
            target,
            version,
            images,
            skipped,
            send,
            details,
            space,
        } = plan;
        let mut images = images.clone();
        for image in &mut images {
            remedy::word_status(&mut image.digest_status);
        }
        PlanDocument {
            schema: SCHEMA,
            target,
            version: version.as_deref(),
            images,
            left_out: skipped.iter().map(SkippedDocument::from).collect(),
            send,
            details,
            room: space.as_ref(),
        }
    }
}

/// The document of a report.
#[derive(Serialize)]
pub struct ReportDocument<'r> {
    schema: u32,
    target: &'r str,
    version: Option<&'r str>,
    images: Vec<Loaded>,
    left_out: Vec<SkippedDocument<'r>>,
    changed: bool,
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
    #[serde(flatten)]
    details: &'r ReportDetails,
}

impl<'r> From<&'r Report> for ReportDocument<'r> {
    fn from(report: &'r Report) -> ReportDocument<'r> {
        let Report {
            target,
            version,
            images,
            skipped,
            error,
            sent,
            details,
        } = report;
        let mut images = images.clone();
        for image in &mut images {
            remedy::word_all(&mut image.obstacles);
            remedy::word_all(image.details.push.as_deref_mut().unwrap_or_default());
        }
        ReportDocument {
            schema: SCHEMA,
            target,
            version: version.as_deref(),
            images,
            left_out: skipped.iter().map(SkippedDocument::from).collect(),
            changed: report.changed(),
            sent: *sent,
            error: error.as_ref().map(error_json),
            details,
        }
    }
}

/// A document with what does not concern one target.
#[derive(Serialize)]
pub struct WithRun<'r, D> {
    #[serde(flatten)]
    document: D,
    /// The engine that `auto` means, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    auto: Option<&'r Choice>,
    /// Who signed the archives, if that was demanded.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    signatures: &'r [SignedArchive],
}

impl<'r, D> WithRun<'r, D> {
    /// Adds it to a document.
    pub fn new(document: D, auto: Option<&'r Choice>, signatures: &'r [SignedArchive]) -> WithRun<'r, D> {
        WithRun {
            document,
            auto,
            signatures,
        }
    }
}

/// The document of a load into several engines.
#[derive(Serialize)]
pub struct TargetsDocument<'t> {
    schema: u32,
    targets: Vec<EngineDocument<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
}

/// The document of one engine among several.
#[derive(Serialize)]
struct EngineDocument<'t> {
    engine: &'static str,
    #[serde(flatten)]
    outcome: OutcomeDocument<'t>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutcomeDocument<'t> {
    Plan(PlanDocument<'t>),
    Report(ReportDocument<'t>),
    Failed { error: serde_json::Value },
}

impl<'t> From<&'t [(&'static str, Result<Outcome>)]> for TargetsDocument<'t> {
    fn from(outcomes: &'t [(&'static str, Result<Outcome>)]) -> TargetsDocument<'t> {
        let document = |(engine, outcome): &'t (&'static str, Result<Outcome>)| EngineDocument {
            engine,
            outcome: match outcome {
                Ok(Outcome::Planned(plan)) => OutcomeDocument::Plan(plan.into()),
                Ok(Outcome::Loaded(report)) => OutcomeDocument::Report(report.into()),
                Err(error) => OutcomeDocument::Failed {
                    error: error_json(error),
                },
            },
        };
        let mut errors = outcomes.iter().filter_map(|(_, outcome)| match outcome {
            Ok(Outcome::Loaded(report)) => report.error.as_ref(),
            Ok(Outcome::Planned(_)) => None,
            Err(error) => Some(error),
        });
        let first = errors.next();
        TargetsDocument {
            schema: SCHEMA,
            targets: outcomes.iter().map(document).collect(),
            error: first.map(error_json),
        }
    }
}

/// A skipped image.
#[derive(Serialize)]
struct SkippedDocument<'s> {
    name: &'s str,
    reason: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    exit: u8,
}

impl<'s> From<&'s Skipped> for SkippedDocument<'s> {
    fn from(skipped: &'s Skipped) -> SkippedDocument<'s> {
        let Skipped {
            name,
            reason,
            hint,
            kind,
        } = skipped;
        SkippedDocument {
            name,
            reason,
            hint: hint.as_ref().map(remedy::hint),
            exit: exit::code(*kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use sealift::ErrorKind;
    use sealift::error::Remedy;
    use sealift::load::{Change, DigestStatus, Evidence, Obstacle, Platforms};
    use sealift::oci::Digest;
    use serde_json::json;

    use super::*;

    #[test]
    fn remedies_and_kinds_are_flags_and_codes() {
        let digest = Digest::sha256(b"image");
        let obstacle = Obstacle::new("it needs a restart", "").needing_restart();
        let mut plan = Plan::new("Docker");
        plan.images.push(PlannedImage {
            candidate: 0,
            name: "app:1".parse().unwrap(),
            tag: None,
            digest: Some(digest),
            root: digest,
            manifests: Vec::new(),
            image_id: None,
            platforms: Platforms::default(),
            is_foreign: false,
            evidence: Evidence::Verified,
            present: false,
            tagged: false,
            change: Change::New,
            digest_status: DigestStatus::Unavailable {
                obstacles: vec![obstacle],
            },
        });
        plan.skipped.push(Skipped {
            name: "49eb".into(),
            reason: "it has no name".into(),
            hint: Some(Remedy::Rename("49eb".into()).into()),
            kind: ErrorKind::Usage,
        });
        let left_out = json!([{
            "name": "49eb",
            "reason": "it has no name",
            "hint": "--rename 49eb=NAME:TAG names it",
            "exit": 2,
        }]);
        let hint = json!("--attach offline --allow-restart attaches it, and restarts the engine");
        let document = serde_json::to_value(PlanDocument::from(&plan)).unwrap();
        assert_eq!(document["left_out"], left_out);
        assert_eq!(document["images"][0]["showing"]["obstacles"][0]["hint"], hint);

        let mut report = Report::new(&plan);
        report.images.push(Loaded::planned(&plan.images[0]));
        report.images[0].details.push = Some(report.images[0].obstacles.clone());
        let document = serde_json::to_value(ReportDocument::from(&report)).unwrap();
        assert_eq!(document["left_out"], left_out);
        for list in ["obstacles", "push"] {
            assert_eq!(document["images"][0][list][0]["hint"], hint, "{list}");
        }
    }
}
