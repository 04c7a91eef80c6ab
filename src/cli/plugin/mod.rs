//! `docker sealift`: under the name `docker-sealift`, sealift is a plugin of Docker's command line.
//!
//! - this file: how sealift was started, and what it calls itself
//! - [`flags`]: the options of `docker` itself, which stand before the plugin's name
//! - [`client`]: the end of the `docker` that started the plugin
//!
//! `docker` finds the plugin by its file name, asks it `docker-cli-plugin-metadata`, and runs it with all of its own
//! arguments: `docker -H ADDRESS sealift load FILE` runs `docker-sealift -H ADDRESS sealift load FILE`.
//!
//! Source: docker/cli, `cli-plugins/metadata`, `cli-plugins/manager` and `cli-plugins/plugin`.

mod client;
mod flags;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use clap::CommandFactory as _;
use sealift::escape::shell_word;
use sealift::{Error, Result};

use super::{Cli, complete};
use flags::Flags;

pub use client::watch;
pub use flags::Verbosity;

/// The name of the plugin's file.
const FILE: &str = "docker-sealift";
/// The word after which the plugin's own arguments begin.
const WORD: &str = "sealift";
/// The word with which shells ask for completions.
const COMPLETE: &str = "__complete";
/// Holds the id of a process whose other variables say what Docker's options say.
const APPLIED: &str = "SEALIFT_DOCKER_OPTIONS";

/// How sealift was started as a plugin.
struct Plugin {
    /// Docker's words up to the plugin's name; none if the plugin was started without Docker.
    docker: Option<Vec<OsString>>,
    /// The arguments after them.
    arguments: Vec<OsString>,
    verbosity: Option<Verbosity>,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// What the process does once it has read how it was started.
pub enum Begun {
    /// It runs a command: the arguments, of which the first one is the name of the program.
    Command(Vec<OsString>),
    /// It has answered Docker.
    Answered(ExitCode),
}

/// Reads how this process was started. Docker's options become environment variables of the same process, which runs
/// sealift anew.
///
/// # Errors
///
/// If Docker's options cannot be used.
pub fn begin() -> Result<Begun> {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let arguments: Vec<OsString> = words.collect();
    if Path::new(&name).file_name() != Some(OsStr::new(FILE)) {
        if let Some((_, words)) = arguments.split_first().filter(|(first, _)| *first == COMPLETE) {
            return Ok(Begun::Answered(answer(&complete::answer(words, true))));
        }
        return Ok(Begun::Command(std::iter::once(name).chain(arguments).collect()));
    }
    let second = arguments.get(2..).unwrap_or_default();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("docker-cli-plugin-metadata") => return Ok(Begun::Answered(answer(&metadata()))),
        Some(COMPLETE) => return Ok(Begun::Answered(answer(&complete::answer(second, true)))),
        Some("__completeNoDesc") => return Ok(Begun::Answered(answer(&complete::answer(second, false)))),
        _ => {}
    }
    let Some((flags, own)) = Flags::parse(&arguments) else {
        let plugin = Plugin {
            docker: None,
            arguments,
            verbosity: None,
        };
        return Ok(Begun::Command(command(plugin)));
    };
    if std::env::var(APPLIED).ok().as_deref() != Some(&*std::process::id().to_string()) {
        apply(&flags, &name, &arguments)?;
    }
    let docker = arguments.get(..arguments.len().saturating_sub(own.len() + 1));
    Ok(Begun::Command(command(Plugin {
        docker: docker.map(<[_]>::to_vec),
        verbosity: flags.verbosity(),
        arguments: own,
    })))
}

fn command(plugin: Plugin) -> Vec<OsString> {
    let plugin = PLUGIN.get_or_init(|| plugin);
    let name = std::iter::once(OsString::from(FILE));
    name.chain(plugin.arguments.iter().cloned()).collect()
}

/// Sets the variables that say what Docker's options say, if there are such options.
fn apply(flags: &Flags, name: &OsStr, arguments: &[OsString]) -> Result<()> {
    let changes = flags.variables(&|name| std::env::var_os(name))?;
    if changes.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(Error::io("find", FILE))?;
    let mut command = Command::new(&program);
    command.arg0(name).args(arguments);
    command.env(APPLIED, std::process::id().to_string());
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(Error::io("run", &program)(command.exec()))
}

fn answer(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What `docker info` and `docker help` show of the plugin.
fn metadata() -> String {
    let about = Cli::command().get_about().map(ToString::to_string);
    let document = serde_json::json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "sealift",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": about,
    });
    format!("{document:#}\n")
}

/// Whether this process is a plugin of Docker's.
pub fn is_plugin() -> bool {
    PLUGIN.get().is_some()
}

/// Whether Docker's client waits for the process: it takes the death by a signal for exit code 255.
pub fn is_of_client() -> bool {
    PLUGIN.get().is_some_and(|plugin| plugin.docker.is_some())
}

/// How much Docker's options want printed.
pub fn verbosity() -> Option<Verbosity> {
    PLUGIN.get().and_then(|plugin| plugin.verbosity)
}

/// The words that run this program again, with the arguments that it was given, for a shell.
pub fn own_line(arguments: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let Some(plugin) = PLUGIN.get() else {
        return (vec![WORD.into()], arguments.skip(1).collect());
    };
    let text = |words: &[OsString]| -> Vec<String> {
        let words = words.iter();
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    };
    let docker = plugin.docker.as_deref().unwrap_or_default();
    let mut program = vec!["docker".to_string()];
    program.extend(text(docker).iter().map(|word| shell_word(word).to_string()));
    program.push(WORD.into());
    (program, text(&plugin.arguments))
}

/// The command as it is called here.
pub fn named(command: clap::Command) -> clap::Command {
    match is_plugin() {
        false => command,
        true => in_words(command.bin_name("docker sealift")),
    }
}

/// Names the commands of this program in the help texts of a command as they are called here.
fn in_words(command: clap::Command) -> clap::Command {
    let after = command
        .get_after_long_help()
        .map(|text| worded(&text.to_string()).into_owned());
    let command = match after {
        Some(after) => command.after_long_help(after),
        None => command,
    };
    command.mut_subcommands(in_words)
}

/// Text with the commands of this program as they are called here: `docker sealift load` in a plugin.
pub fn worded(text: &str) -> Cow<'_, str> {
    match is_plugin() {
        false => text.into(),
        true => as_plugin(text),
    }
}

fn as_plugin(text: &str) -> Cow<'_, str> {
    const CALL: &str = "sealift ";
    let is_word = |char: char| char.is_alphanumeric() || "-_/.:".contains(char);
    let commands = Cli::command();
    let is_call = |at: usize| {
        let (before, rest) = text.split_at_checked(at).unwrap_or((text, ""));
        let rest = rest.get(CALL.len()..).unwrap_or_default();
        let word = rest.split(|char: char| !char.is_ascii_lowercase()).next();
        let is_command = word.is_some_and(|word| commands.find_subcommand(word).is_some());
        let is_option = rest.starts_with("--");
        !before.ends_with(is_word) && !before.ends_with("docker ") && (is_command || is_option)
    };
    let mut changed = String::new();
    let mut copied = 0;
    for (at, _) in text.match_indices(CALL).filter(|(at, _)| is_call(*at)) {
        changed += text.get(copied..at).unwrap_or_default();
        changed += "docker ";
        copied = at;
    }
    match copied {
        0 if changed.is_empty() => text.into(),
        _ => (changed + text.get(copied..).unwrap_or_default()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_as_docker_calls_them() {
        for (text, expected) in [
            (
                "`sealift doctor --repair` undoes it",
                "`docker sealift doctor --repair` undoes it",
            ),
            (
                "sealift save x | sudo sealift load -",
                "docker sealift save x | sudo docker sealift load -",
            ),
            ("see `sealift --help`", "see `docker sealift --help`"),
            ("docker sealift load", "docker sealift load"),
            ("sealift keeps digests", "sealift keeps digests"),
            ("/srv/sealift load", "/srv/sealift load"),
            ("", ""),
        ] {
            assert_eq!(as_plugin(text), expected);
        }
    }
}
