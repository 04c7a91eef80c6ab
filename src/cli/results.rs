//! The results of a load into one target or several.

use sealift::host::Choice;
use sealift::load::Outcome as Loading;
use sealift::{Error, Result};

use super::documents::{PlanDocument, ReportDocument, TargetsDocument, WithChoice};
use super::output::{Outcome, Output};
use super::{loaded, planned};

/// Prints the results of a load.
pub struct Results<'o> {
    /// Where to print them.
    pub output: &'o Output,
    /// The engine that `auto` means, if that was asked for.
    pub choice: Option<&'o Choice>,
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
                    true => self
                        .output
                        .json(&WithChoice::new(PlanDocument::from(&plan), self.choice))?,
                    false => planned::print(self.output, &plan)?,
                }
                Ok(planned::failure(self.output, &plan))
            }
            Loading::Loaded(report) if self.output.is_json() => {
                self.output
                    .json(&WithChoice::new(ReportDocument::from(&report), self.choice))?;
                report.error.iter().for_each(|error| self.output.error(error));
                Ok(report.failure())
            }
            Loading::Loaded(report) => loaded::print(self.output, &report, self.warns_of_foreign, self.width),
        }
    }

    fn print_several(&self, outcomes: Vec<(&'static str, Result<Loading>)>) -> Outcome {
        if self.output.is_json() {
            self.output.json(&TargetsDocument::from(outcomes.as_slice()))?;
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
