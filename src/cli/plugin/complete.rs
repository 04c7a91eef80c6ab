//! Completions for `docker`, which asks the plugin `__complete sealift WORD... CURRENT`.
//!
//! The answer has a candidate on each line, with a tab before its description, and a last line with what the shell does
//! besides.
//!
//! Source: spf13/cobra, `completions.go`; docker/cli, `cli-plugins/manager/cobra.go`, since 23.0.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::cli::Cli;

/// The shell completes names of files.
const FILES: u8 = 0;
/// The shell completes nothing else.
const NO_FILES: u8 = 4;

/// The answer to the words after the plugin's name, of which the last one is not finished.
pub fn answer(words: &[OsString], is_described: bool) -> String {
    let mut root = Cli::command();
    root.build();
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (current, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
    let (candidates, directive) = candidates(&root, before, current);
    let mut text = String::new();
    for (candidate, about) in candidates {
        let _ = match about.filter(|_| is_described) {
            Some(about) => writeln!(text, "{candidate}\t{about}"),
            None => writeln!(text, "{candidate}"),
        };
    }
    let _ = writeln!(text, ":{directive}");
    text
}

type Candidates = Vec<(String, Option<String>)>;

fn candidates(root: &Command, before: &[String], current: &str) -> (Candidates, u8) {
    let mut command = root;
    let mut pending: Option<&Arg> = None;
    let mut is_over = false;
    for word in before {
        if pending.take().is_some() {
            continue;
        }
        match word.strip_prefix('-') {
            _ if is_over => {}
            Some("-") => is_over = true,
            Some(_) => pending = option(command, word).filter(|option| option.get_action().takes_values()),
            None => command = command.find_subcommand(word).unwrap_or(command),
        }
    }
    let value = current.split_once('=').filter(|_| current.starts_with("--"));
    match (pending, value) {
        (Some(option), _) => values(option, current),
        (None, Some((name, value))) => {
            option(command, name).map_or((Vec::new(), NO_FILES), |option| values(option, value))
        }
        (None, None) if current.starts_with('-') && !is_over => (options(command, current), NO_FILES),
        (None, None) => match command.get_positionals().next() {
            Some(first) => values(first, current),
            None => (subcommands(command, current), NO_FILES),
        },
    }
}

/// The option of a word such as `--from`, `-o` or `--from=docker`, which has no value in another word if it is `None`.
fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|option| {
        let is_long = option
            .get_long()
            .is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = word.strip_prefix('-').and_then(|letters| letters.chars().last());
        is_long || (!word.starts_with("--") && option.get_short().is_some() && option.get_short() == short)
    })
}

/// The values of an option or an argument: those that it knows, or files.
fn values(argument: &Arg, current: &str) -> (Candidates, u8) {
    let values = argument.get_possible_values();
    if values.is_empty() {
        return (Vec::new(), FILES);
    }
    let values = values
        .iter()
        .filter(|value| !value.is_hide_set() && value.get_name().starts_with(current));
    let values = values.map(|value| {
        (
            value.get_name().to_string(),
            value.get_help().map(ToString::to_string),
        )
    });
    (values.collect(), NO_FILES)
}

fn options(command: &Command, current: &str) -> Candidates {
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    let named = options.filter_map(|option| Some((format!("--{}", option.get_long()?), option.get_help())));
    let fitting = named.filter(|(name, _)| name.starts_with(current));
    fitting
        .map(|(name, about)| (name, about.map(ToString::to_string)))
        .collect()
}

fn subcommands(command: &Command, current: &str) -> Candidates {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let fitting = commands.filter(|command| command.get_name().starts_with(current));
    let named = fitting.map(|command| {
        (
            command.get_name().to_string(),
            command.get_about().map(ToString::to_string),
        )
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        answer(&words, false)
    }

    #[test]
    fn commands_options_and_values_are_completed() {
        assert_eq!(complete("lo"), "load\n:4\n");
        assert_eq!(complete("load --attach o"), "offline\n:4\n");
        assert_eq!(complete("load --attach=o"), "offline\n:4\n");
        assert_eq!(complete("load --allow"), "--allow-restart\n:4\n");
        assert_eq!(complete("save -q --from-"), ":4\n");
        // The shell knows the names of files.
        assert_eq!(complete("load ima"), ":0\n");
        assert_eq!(complete("save httpd:2.4 -o ima"), ":0\n");
        assert_eq!(complete("load -- --a"), ":0\n");
        let all = complete("");
        assert!(all.starts_with("save\nload\nverify\n"), "{all}");
        assert!(!all.contains(sealift::podman::READ_LAYER), "{all}");
    }

    #[test]
    fn candidates_are_described_on_request() {
        let text = answer(&["verif".into()], true);
        assert!(
            text.starts_with("verify\tVerify every byte of archives"),
            "{text}"
        );
    }
}
