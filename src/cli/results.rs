//! The results of a load into one target or several.

use sealift::host::Choice;
use sealift::load::Outcome as Loading;
use sealift::{Error, Result};
use serde::Serialize;

use super::documents::{PlanDocument, ReportDocument, TargetsDocument, WithRun};
use super::output::{Failure, Outcome, Output};
use super::sign::{self, SignedArchive};
use super::{loaded, planned};

/// Prints the results of a load.
pub struct Results<'o> {
    /// Where to print them.
    pub output: &'o Output,
    /// The engine that `auto` means, if that was asked for.
    pub choice: Option<&'o Choice>,
    /// Who signed the archives, if that was demanded.
    pub signed: &'o [SignedArchive],
    /// Whether to warn of images that the engine does not run.
    pub warns_of_foreign: bool,
    /// The width of the table, if it has to fit.
    pub width: Option<usize>,
}

impl Results<'_> {
    /// Prints the outcome of each target, by its word on the command line.
    pub fn print(&self, mut outcomes: Vec<(&'static str, Result<Loading>)>) -> Outcome {
        match outcomes.pop() {
            Some((_, only)) if outcomes.is_empty() => self.print_one(only?),
            last => {
                outcomes.extend(last);
                self.print_several(outcomes)
            }
        }
    }

    fn print_one(&self, outcome: Loading) -> Outcome {
        match outcome {
            Loading::Planned(plan) => {
                match self.output.is_json() {
                    true => self.json(PlanDocument::from(&plan))?,
                    false => {
                        self.print_signers()?;
                        planned::print(self.output, &plan)?;
                    }
                }
                Ok(planned::failure(self.output, &plan))
            }
            Loading::Loaded(report) if self.output.is_json() => {
                self.json(ReportDocument::from(&report))?;
                report.error.iter().for_each(|error| self.output.error(error));
                Ok(report.failure())
            }
            Loading::Loaded(report) => {
                self.print_signers()?;
                loaded::print(self.output, &report, self.warns_of_foreign, self.width)
            }
        }
    }

    fn json(&self, document: impl Serialize) -> Result<(), Failure> {
        self.output
            .json(&WithRun::new(document, self.choice, self.signed))
    }

    /// Says who signed each archive.
    fn print_signers(&self) -> Result<(), Failure> {
        for archive in self.signed.iter().filter(|_| !self.output.is_quiet()) {
            self.output
                .line(sign::signed_by(&archive.archive, &archive.signed))?;
        }
        Ok(())
    }

    fn print_several(&self, outcomes: Vec<(&'static str, Result<Loading>)>) -> Outcome {
        if self.output.is_json() {
            self.json(TargetsDocument::from(outcomes.as_slice()))?;
        } else {
            self.print_signers()?;
        }
        let mut failure = None;
        for (at, (word, outcome)) in outcomes.iter().enumerate() {
            if at > 0 && !self.output.is_json() && !self.output.is_quiet() {
                self.output.line("")?;
            }
            failure = failure.max(self.print_among(&self.output.about(word), outcome)?);
        }
        Ok(failure)
    }

    /// Prints one of several outcomes; with `--json` only its errors.
    fn print_among(&self, output: &Output, outcome: &Result<Loading>) -> Outcome {
        match outcome {
            Err(Error::Interrupted) => Err(Error::Interrupted.into()),
            Err(error) => {
                output.error(error);
                Ok(Some(error.kind()))
            }
            Ok(Loading::Planned(plan)) => {
                if !output.is_json() {
                    planned::print(output, plan)?;
                }
                Ok(planned::failure(output, plan))
            }
            Ok(Loading::Loaded(report)) if output.is_json() => {
                report.error.iter().for_each(|error| output.error(error));
                Ok(report.failure())
            }
            Ok(Loading::Loaded(report)) => loaded::print(output, report, self.warns_of_foreign, self.width),
        }
    }
}
