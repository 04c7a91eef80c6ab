//! Results in Prometheus' text format.
//!
//! Every metric has the label `run`, the name of the file without its extension: so the files of several runs may be
//! in one folder of the textfile collector.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sealift::error::ErrorKind;

use crate::cli::exit;

/// Metrics of one run.
#[derive(Default)]
pub struct Metrics {
    metrics: Vec<Metric>,
}

struct Metric {
    name: &'static str,
    help: &'static str,
    /// Values, each with a label.
    values: Vec<(Option<(&'static str, &'static str)>, String)>,
}

impl Metrics {
    /// Adds a metric of one value.
    pub fn add(&mut self, name: &'static str, help: &'static str, value: impl ToString) {
        self.metrics.push(Metric {
            name,
            help,
            values: vec![(None, value.to_string())],
        });
    }

    /// Adds a metric with a value for each of several labels.
    pub fn add_labelled(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[(&'static str, usize)],
    ) {
        let values = values.iter();
        self.metrics.push(Metric {
            name,
            help,
            values: values
                .map(|(value, number)| (Some((label, *value)), number.to_string()))
                .collect(),
        });
    }

    /// Those of a run that ended without a result.
    pub fn of_failed_run(status: u8) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.add_status(status);
        metrics
    }

    fn add_status(&mut self, status: u8) {
        self.add(
            "sealift_verify_success",
            "Whether everything was read and nothing is wrong.",
            u8::from(status == 0),
        );
        self.add("sealift_verify_exit_code", "The exit code.", status);
    }

    /// Adds whether all was good, and what was found.
    pub fn add_result(&mut self, failure: Option<ErrorKind>, errors: usize, notes: usize, unread: usize) {
        self.add_status(failure.map_or(0, exit::code));
        self.add_labelled(
            "sealift_verify_findings",
            "What was found.",
            "severity",
            &[("error", errors), ("note", notes)],
        );
        self.add("sealift_verify_unread", "What could not be read.", unread);
    }

    /// Adds when the run ends and how long it took.
    pub fn add_run(&mut self, took: Duration) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.add(
            "sealift_verify_duration_seconds",
            "How long the verification took.",
            took.as_secs_f64(),
        );
        self.add(
            "sealift_verify_last_run_timestamp_seconds",
            "When the verification ended, in seconds since 1970.",
            now.unwrap_or_default().as_secs(),
        );
    }

    /// The text of a file.
    pub fn text(&self, path: &Path) -> String {
        let run = path.file_stem().unwrap_or_default().to_string_lossy();
        let run = run
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let mut text = String::new();
        for Metric { name, help, values } in &self.metrics {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (label, value) in values {
                let more = label.map_or_else(String::new, |(label, value)| format!(",{label}=\"{value}\""));
                let _ = writeln!(text, "{name}{{run=\"{run}\"{more}}} {value}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn metrics_are_in_the_text_format() {
        let mut metrics = Metrics::default();
        metrics.add("sealift_verify_blobs", "Blobs.", 3);
        metrics.add_labelled(
            "sealift_verify_findings",
            "Findings.",
            "severity",
            &[("error", 1), ("note", 0)],
        );
        assert_snapshot!(metrics.text(Path::new("/a/ni\"ght.prom")), @r#"
        # HELP sealift_verify_blobs Blobs.
        # TYPE sealift_verify_blobs gauge
        sealift_verify_blobs{run="ni\"ght"} 3
        # HELP sealift_verify_findings Findings.
        # TYPE sealift_verify_findings gauge
        sealift_verify_findings{run="ni\"ght",severity="error"} 1
        sealift_verify_findings{run="ni\"ght",severity="note"} 0
        "#);
    }
}
