//! Stops and starts the engine, by systemd or by the user's commands.
//!
//! Source: systemctl(1), systemd.unit(5): a unit's reverse dependencies are its properties `RequiredBy`,
//! `RequisiteOf`, `BoundBy` and `ConsistsOf`; `TriggeredBy` are the sockets that start it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::docker::attach::Restart;
use crate::error::Remedy;
use crate::escape::Escaped;
use crate::load::Obstacle;

/// The unit of a stock installation.
const UNIT: &str = "docker.service";
/// The properties with the units that stop with a unit.
const REVERSE: [&str; 4] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];
/// Longest time that a command may take; systemd gives a service 90 s to stop.
const LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);
/// Largest part of a command's last output that is reported, in bytes.
const TAIL: u64 = 2000;

/// What stops and starts the engine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Control {
    /// systemd.
    Systemd {
        /// Active units that start it on demand: its socket.
        triggers: Vec<String>,
        /// Active units that stop with it.
        dependents: Vec<String>,
    },
    /// Shell commands.
    Commands {
        /// Stops it.
        stop: String,
        /// Starts it.
        start: String,
    },
}

/// A control, and its effect on containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What stops and starts the engine.
    pub control: Control,
    /// Why its containers stop with it even with live-restore.
    pub kills: Option<String>,
}

impl Control {
    /// Finds what controls the engine with this process. Changes nothing.
    ///
    /// # Errors
    ///
    /// If that is not known.
    pub fn find(restart: &Restart, pid: i32) -> Result<Found, Obstacle> {
        if let (Some(stop), Some(start)) = (&restart.stop, &restart.start) {
            return Ok(Found {
                control: Control::Commands {
                    stop: stop.clone(),
                    start: start.clone(),
                },
                kills: None,
            });
        }
        let unknown = |reason: String| {
            Obstacle::new(
                format!("it is not known how to stop and start this dockerd: {reason}"),
                Remedy::NameCommands,
            )
        };
        let properties = ["MainPID", "KillMode", "TriggeredBy"];
        let unit = show(UNIT, &properties).map_err(|problem| unknown(problem.clone()))?;
        let main = unit.get("MainPID").map(String::as_str).unwrap_or_default();
        if main != pid.to_string() {
            return Err(unknown(format!("systemd's {UNIT} is not process {pid}")));
        }
        let kill_mode = unit.get("KillMode").cloned().unwrap_or_default();
        let kills = (kill_mode != "process" && kill_mode != "none")
            .then(|| format!("{UNIT} has KillMode={}", Escaped(&kill_mode)));
        let triggers: Vec<String> = words(&unit, "TriggeredBy")
            .filter(|name| is_active(name))
            .collect();
        let dependents = dependents(&triggers).map_err(unknown)?;
        Ok(Found {
            control: Control::Systemd { triggers, dependents },
            kills,
        })
    }

    /// How it is stopped, for people.
    pub fn stop_line(&self) -> String {
        match self {
            Control::Systemd { triggers, .. } => format!("systemctl stop {}", units(triggers).join(" ")),
            Control::Commands { stop, .. } => stop.clone(),
        }
    }

    /// How it is started, for people.
    pub fn start_line(&self) -> String {
        match self {
            Control::Systemd { triggers, .. } => format!("systemctl start {}", units(triggers).join(" ")),
            Control::Commands { start, .. } => start.clone(),
        }
    }

    /// Units that stop with it and are started again.
    pub fn dependents(&self) -> &[String] {
        match self {
            Control::Systemd { dependents, .. } => dependents,
            Control::Commands { .. } => &[],
        }
    }

    /// Stops it, and waits until the command has ended. The command keeps `held` open as its input, so that a
    /// lock on it outlives this process.
    ///
    /// # Errors
    ///
    /// The output of the command.
    pub fn stop(&self, held: Stdio) -> Result<(), String> {
        let mut command = match self {
            Control::Systemd { triggers, .. } => systemctl("stop", &units(triggers)),
            Control::Commands { stop, .. } => shell(stop),
        };
        let stopped = Running::start(command.stdin(held)).and_then(|mut running| running.wait(&mut || false));
        stopped.map_err(|problem| named(&self.stop_line(), &problem))
    }

    /// Starts it, and waits until it `is_up` or the command has failed.
    ///
    /// # Errors
    ///
    /// The output of the command, or that the engine never came up.
    pub fn start(&self, is_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let mut command = match self {
            Control::Systemd { triggers, .. } => {
                let units = units(triggers);
                // Otherwise a unit that failed too often is not started again.
                if let Ok(mut running) = Running::start(&mut systemctl("reset-failed", &units)) {
                    let _ = running.wait(&mut || false);
                }
                systemctl("start", &units)
            }
            Control::Commands { start, .. } => shell(start),
        };
        let started = Running::start(&mut command).and_then(|mut running| running.wait(is_up));
        started.map_err(|problem| named(&self.start_line(), &problem))
    }

    /// Starts the units that stopped with it.
    ///
    /// # Errors
    ///
    /// The units that could not be started.
    pub fn start_dependents(&self) -> Result<(), String> {
        if self.dependents().is_empty() {
            return Ok(());
        }
        Running::start(&mut systemctl("start", self.dependents()))?.wait(&mut || false)
    }
}

/// A command's error, with the command.
fn named(line: &str, problem: &str) -> String {
    format!("`{}`: {problem}", Escaped(line))
}

/// The units that are stopped and started together.
fn units(triggers: &[String]) -> Vec<String> {
    triggers.iter().cloned().chain([UNIT.to_string()]).collect()
}

fn systemctl(verb: &str, units: &[String]) -> Command {
    let mut command = Command::new("systemctl");
    command.arg("--no-ask-password").arg(verb).args(units);
    command
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line);
    command
}

fn show(unit: &str, properties: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let shown = Command::new("systemctl")
        .arg("show")
        .arg(format!("--property={}", properties.join(",")))
        .arg(unit)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("systemctl: {error}"))?;
    if !shown.status.success() {
        let said = String::from_utf8_lossy(&shown.stderr);
        let first = said.trim().lines().next().unwrap_or("it failed without output");
        return Err(format!("systemctl: {}", Escaped(first)));
    }
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect())
}

fn words<'a>(unit: &'a BTreeMap<String, String>, key: &str) -> impl Iterator<Item = String> + 'a {
    let value = unit.get(key).map(String::as_str).unwrap_or_default();
    value.split_whitespace().map(str::to_string)
}

fn is_active(unit: &str) -> bool {
    const RUNS: [&str; 3] = ["active", "activating", "reloading"];
    show(unit, &["ActiveState"])
        .is_ok_and(|shown| RUNS.contains(&shown.get("ActiveState").map(String::as_str).unwrap_or_default()))
}

/// Active units that stop with the engine and its triggers, and those that stop with these.
fn dependents(triggers: &[String]) -> Result<Vec<String>, String> {
    let ours = units(triggers);
    let mut found: Vec<String> = Vec::new();
    let mut open: VecDeque<String> = ours.iter().cloned().collect();
    while let Some(unit) = open.pop_front() {
        let shown = show(&unit, &REVERSE)?;
        for name in REVERSE.iter().flat_map(|key| words(&shown, key)) {
            if !ours.contains(&name) && !found.contains(&name) && is_active(&name) {
                found.push(name.clone());
                open.push_back(name);
            }
        }
    }
    Ok(found)
}

/// A running command in its own process group, so that Ctrl-C does not reach it.
struct Running {
    child: Child,
    said: File,
}

impl Running {
    fn start(command: &mut Command) -> Result<Running, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| format!("{name}: {error}");
        // A file, not a pipe: processes that the command leaves running may continue to write.
        let said = tempfile::tempfile().map_err(failed)?;
        let (out, err) = (
            said.try_clone().map_err(failed)?,
            said.try_clone().map_err(failed)?,
        );
        let child = command
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Running { child, said })
    }

    /// Waits for the command's end, or until `is_enough`.
    fn wait(&mut self, is_enough: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let until = Instant::now() + LIMIT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.with_tail(&status.to_string())),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            if is_enough() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(self.with_tail(&format!("it did not end within {} s", LIMIT.as_secs())));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The error, with the last output if there is any.
    fn with_tail(&mut self, problem: &str) -> String {
        match self.tail() {
            tail if tail.is_empty() => problem.into(),
            tail => format!("{problem}: {tail}"),
        }
    }

    fn tail(&mut self) -> String {
        let length = self.said.metadata().map_or(0, |meta| meta.len());
        let mut text = Vec::new();
        let _ = self
            .said
            .seek(SeekFrom::Start(length.saturating_sub(TAIL)))
            .and_then(|_| (&mut self.said).take(TAIL).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
        Escaped(&last.join("; ")).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(stop: &str, start: &str) -> Control {
        let restart = Restart {
            allowed: true,
            stop: Some(stop.into()),
            start: Some(start.into()),
        };
        Control::find(&restart, 1).unwrap().control
    }

    #[test]
    fn commands_are_run_and_their_last_words_told() {
        let home = tempfile::tempdir().unwrap();
        let mark = home.path().join("mark");
        let control = commands(&format!("echo off > {}", mark.display()), "echo no; exit 3");
        control.stop(Stdio::null()).unwrap();
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "off\n");
        let problem = control.start(&mut || false).unwrap_err();
        assert_eq!(problem, "`echo no; exit 3`: exit status: 3: no");
        let silent = commands("true", "exit 1").start(&mut || false).unwrap_err();
        assert_eq!(silent, "`exit 1`: exit status: 1");
        assert_eq!(control.start_line(), "echo no; exit 3");
        assert_eq!(control.dependents(), [""; 0]);
    }

    #[test]
    fn a_start_command_in_the_foreground_is_left_running() {
        let control = commands("true", "sleep 20");
        let mut asked = 0;
        let since = Instant::now();
        control
            .start(&mut || {
                asked += 1;
                asked > 2
            })
            .unwrap();
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}
