//! What `sealift load` prints before a load: findings and the plan.

use sealift::ErrorKind;
use sealift::error::{Advice, Finding, Hint, Remedy};
use sealift::escape::shell_word;
use sealift::load::{self, DigestStatus, Obstacle, Plan};
use sealift::verify::Report as Verification;

use super::output::{Failure, Output};
use super::size::Size;
use super::{plugin, policy, remedy};

/// Prints what is found before anything is loaded.
pub struct Printed<'o> {
    output: &'o Output,
    /// The findings of an archive that is refused.
    pub refused: Vec<Finding>,
}

impl<'o> Printed<'o> {
    /// Starts with nothing.
    pub fn new(output: &'o Output) -> Printed<'o> {
        Printed {
            output,
            refused: Vec::new(),
        }
    }
}

impl load::Observer for Printed<'_> {
    fn damaged(&mut self, report: &Verification, is_refused: bool) {
        for finding in report.findings.iter().filter(|finding| finding.is_error()) {
            self.output.warn(&finding.to_string());
        }
        for (_, error) in &report.unread {
            self.output.warn(&error.to_string());
        }
        if is_refused {
            self.refused.clone_from(&report.findings);
        }
    }

    fn planned(&mut self, plan: &Plan) {
        for warning in &plan.details.warnings {
            self.output.warn(warning);
        }
        let space = plan.space.as_ref();
        if let Some(space) = space.filter(|space| space.is_short() && !space.is_insufficient) {
            self.output.warn(&format!(
                "the load may not fit into {}: {} are needed, {} are free",
                space.path,
                Size(space.needed),
                Size(space.free)
            ));
        }
    }
}

/// Prints a plan for people.
pub fn print(output: &Output, plan: &Plan) -> Result<(), Failure> {
    let mut plan = plan.clone();
    let statuses = plan.images.iter_mut().map(|image| &mut image.digest_status);
    for digest_status in statuses {
        if let DigestStatus::Unavailable { obstacles } = digest_status {
            for obstacle in obstacles {
                obstacle.hint = hint(obstacle).map(Hint::from);
            }
        }
    }
    for line in plan.to_string().lines() {
        output.line(line)?;
    }
    for image in &plan.images {
        if let Some(verdict) = &image.policy {
            policy::print(output, &image.name.familiar(), verdict, None)?;
        }
    }
    Ok(())
}

/// Why a load by this plan would fail or be incomplete; reports a lack of space.
pub fn failure(output: &Output, plan: &Plan) -> Option<ErrorKind> {
    if let Err(error) = plan.check_space() {
        output.error(&error);
    }
    plan.failure()
}

/// The hint to an obstacle; where only consent to a restart is missing, the whole command that would show the digest.
pub fn hint(obstacle: &Obstacle) -> Option<String> {
    match obstacle.hint.as_ref()?.advice() {
        [Advice::Remedy(Remedy::AllowRestart)] => {
            let is_root = rustix::process::geteuid().is_root();
            let (program, arguments) = plugin::own_line(std::env::args());
            Some(consenting(program, arguments.into_iter(), is_root))
        }
        _ => remedy::of_obstacle(obstacle),
    }
}

/// The same command line for a shell, with consent to a restart.
fn consenting(program: Vec<String>, arguments: impl Iterator<Item = String>, is_root: bool) -> String {
    // On hosts where root logs in, sudo may not be installed.
    let sudo = (!is_root).then(|| "sudo".to_string());
    let mut words: Vec<String> = sudo.into_iter().chain(program).collect();
    let mut arguments = arguments.filter(|argument| argument != "--dry-run");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--attach" => drop(arguments.next()),
            text if text.starts_with("--attach=") => {}
            text => words.push(shell_word(text)),
        }
    }
    words.extend(["--attach", "offline", "--allow-restart"].map(str::to_string));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::consenting;

    #[test]
    fn the_command_that_would_do_it_can_be_pasted() {
        let program = || vec!["sealift".to_string()];
        let line = |text: &[&str]| consenting(program(), text.iter().map(|word| (*word).to_string()), false);
        assert_eq!(
            line(&[
                "load",
                "a b.tar",
                "--dry-run",
                "--attach",
                "live",
                "--image",
                "httpd:2.4"
            ]),
            "sudo sealift load 'a b.tar' --image httpd:2.4 --attach offline --allow-restart"
        );
        assert_eq!(
            line(&["load", "it's", "--attach=auto"]),
            r"sudo sealift load 'it'\''s' --attach offline --allow-restart"
        );
        assert_eq!(
            consenting(program(), ["load", "x.tar"].map(str::to_string).into_iter(), true),
            "sealift load x.tar --attach offline --allow-restart"
        );
    }
}
