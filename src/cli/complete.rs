//! Completions: what fits after the words of a command line.
//!
//! The scripts of the shells ask sealift `__complete WORD... CURRENT`, and so does `docker`, of the plugin. The answer has
//! a candidate on each line, with a tab before its description. Its last line says whether the shell adds a space and
//! completes files.
//!
//! The values of an option come from its value name in the help: of `docker|oci:PATH`, `docker` and `oci:` are
//! candidates, and a path follows the colon.
//!
//! Source: spf13/cobra, `completions.go`; docker/cli, `cli-plugins/manager/cobra.go`, since 23.0.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use sealift::escape::is_hostile;

use super::Cli;

/// The shell appends no space.
const NO_SPACE: u8 = 2;
/// The shell completes no names of files.
const NO_FILES: u8 = 4;
/// The shell completes names of folders only.
const FOLDERS: u8 = 16;

/// Platforms that images are built for.
const PLATFORMS: [&str; 9] = [
    "host",
    "all",
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];
/// Most names of a folder that are read.
const MAX_NAMES: usize = 10_000;

/// The script that completes commands in a shell, if there is one.
pub fn script(shell: Shell) -> Option<&'static str> {
    match shell {
        Shell::Bash => Some(include_str!("complete/sealift.bash")),
        Shell::Zsh => Some(include_str!("complete/sealift.zsh")),
        Shell::Fish => Some(include_str!("complete/sealift.fish")),
        _ => None,
    }
}

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
        (Some(option), _) => values(root, option, current),
        (None, Some((name, value))) => {
            option(command, name).map_or((Vec::new(), NO_FILES), |option| values(root, option, value))
        }
        (None, None) if current.starts_with('-') && !is_over => (options(command, current), NO_FILES),
        (None, None) => match command.get_positionals().next() {
            Some(first) => values(root, first, current),
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

/// The values of an option or an argument: those that it knows, and files.
fn values(root: &Command, argument: &Arg, current: &str) -> (Candidates, u8) {
    let possible = argument.get_possible_values();
    if !possible.is_empty() {
        let shown = possible.iter().filter(|value| !value.is_hide_set());
        let described = shown.map(|value| {
            let about = value.get_help().map(ToString::to_string);
            (value.get_name().to_string(), about)
        });
        return (fitting(described, current), NO_FILES);
    }
    let name = argument.get_value_names().and_then(|names| names.first());
    match name.map_or("", |name| name.as_str()) {
        "PLATFORM" => (platforms(current), NO_FILES),
        "COMMAND" if argument.is_positional() => (subcommands(root, current), NO_FILES),
        name => alternatives(argument, name, current),
    }
}

/// The values that a value name such as `docker|oci:PATH|FILE` spells.
fn alternatives(argument: &Arg, name: &str, current: &str) -> (Candidates, u8) {
    let mut words = Vec::new();
    let mut directive = NO_FILES;
    for alternative in name.split('|') {
        let literal = alternative.find(|char: char| char.is_ascii_uppercase());
        let (literal, rest) = alternative.split_at(literal.unwrap_or(alternative.len()));
        match (literal, rest) {
            ("", "FILE" | "PATH" | "SOCKET") => directive = 0,
            ("", "DIR") => directive = FOLDERS,
            ("", _) => {}
            (prefix, "PATH" | "FILE") if current.starts_with(prefix) => {
                return (paths(prefix, current), NO_SPACE | NO_FILES);
            }
            // `N%|K/N` is no value.
            (literal, _) if literal.starts_with(|char: char| char.is_ascii_lowercase()) => {
                words.push((literal.to_string(), about(argument, alternative)));
            }
            _ => {}
        }
    }
    let candidates = fitting(words, current);
    let is_begun = |(word, _): &(String, _)| word.ends_with([':', '/']);
    if !candidates.is_empty() && candidates.iter().all(is_begun) {
        directive |= NO_SPACE;
    }
    (candidates, directive)
}

/// What the help of an option says of one of its values, in a paragraph that begins with it.
fn about(argument: &Arg, value: &str) -> Option<String> {
    let help = argument.get_long_help()?.to_string();
    let start = format!("`{value}`: ");
    let mut paragraphs = help.lines().filter_map(|line| line.strip_prefix(&start));
    let text = paragraphs.next()?;
    let sentence = text.split_once(". ").map_or(text, |(first, _)| first);
    Some(sentence.trim_end_matches('.').to_string())
}

/// The last of several platforms.
fn platforms(current: &str) -> Candidates {
    let (before, last) = match current.rfind(',') {
        Some(comma) => current.split_at(comma + 1),
        None => ("", current),
    };
    let is_new = |platform: &&str| !before.split(',').any(|one| one == *platform);
    let platforms = PLATFORMS.into_iter().filter(is_new);
    let fitting = platforms.filter(|platform| platform.starts_with(last));
    fitting
        .map(|platform| (format!("{before}{platform}"), None))
        .collect()
}

/// Files and folders after a prefix such as `oci:`.
fn paths(prefix: &str, current: &str) -> Candidates {
    let path = current.strip_prefix(prefix).unwrap_or_default();
    let (folder, start) = match path.rfind('/') {
        Some(slash) => path.split_at(slash + 1),
        None => ("", path),
    };
    let place = if folder.is_empty() { "." } else { folder };
    let entries = std::fs::read_dir(Path::new(place))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<String> = entries
        .take(MAX_NAMES)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_shown = !name.starts_with('.') || start.starts_with('.');
            let fits = is_shown && name.starts_with(start) && !name.contains(is_hostile);
            let end = if entry.path().is_dir() { "/" } else { "" };
            fits.then(|| format!("{prefix}{folder}{name}{end}"))
        })
        .collect();
    found.sort();
    found.into_iter().map(|path| (path, None)).collect()
}

fn fitting(candidates: impl IntoIterator<Item = (String, Option<String>)>, current: &str) -> Candidates {
    let candidates = candidates.into_iter();
    candidates.filter(|(name, _)| name.starts_with(current)).collect()
}

fn options(command: &Command, current: &str) -> Candidates {
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    let named = options.filter_map(|option| {
        let name = format!("--{}", option.get_long()?);
        Some((name, option.get_help().map(ToString::to_string)))
    });
    fitting(named, current)
}

fn subcommands(command: &Command, current: &str) -> Candidates {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let named = commands.map(|command| {
        let about = command.get_about().map(ToString::to_string);
        (command.get_name().to_string(), about)
    });
    fitting(named, current)
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
        assert_eq!(complete("load --allow-r"), "--allow-restart\n:4\n");
        assert_eq!(complete("save -q --from-"), ":4\n");
        // The shell knows the names of files.
        assert_eq!(complete("load ima"), ":0\n");
        assert_eq!(complete("save httpd:2.4 -o ima"), ":0\n");
        assert_eq!(complete("load -- --a"), ":0\n");
        assert_eq!(complete("man ver"), "verify\n:4\n");
        assert_eq!(complete("help ver"), "verify\n:4\n");
        assert_eq!(complete("completions f"), "fish\n:4\n");
        let all = complete("");
        assert!(all.starts_with("save\nload\nverify\n"), "{all}");
        assert!(!all.contains(sealift::podman::READ_LAYER), "{all}");
    }

    #[test]
    fn values_are_those_that_the_help_spells() {
        assert_eq!(complete("load x --to re"), "registry://\n:6\n");
        assert_eq!(complete("load x --to registry://h"), ":4\n");
        assert_eq!(complete("load x --to=o"), "oci:\n:6\n");
        assert_eq!(complete("load x --to c"), "containerd\ncrio\n:4\n");
        assert_eq!(complete("save --from d"), "docker\n:0\n");
        assert_eq!(complete("save --from ./la"), ":0\n");
        assert_eq!(complete("repair --from r"), "registry://\n:2\n");
        assert_eq!(
            complete("save --platform linux/amd64,linux/a"),
            "linux/amd64,linux/arm64\nlinux/amd64,linux/arm/v7\nlinux/amd64,linux/arm/v6\n:4\n"
        );
        assert_eq!(complete("verify --registry-root /"), ":16\n");
        assert_eq!(complete("verify --sample "), ":4\n");
        assert_eq!(complete("save ht"), ":4\n");
        assert_eq!(complete("load x --split "), ":4\n");
        assert_eq!(
            complete("load x --to oci:src/cli/complete/sealift.z"),
            "oci:src/cli/complete/sealift.zsh\n:6\n"
        );
        assert_eq!(
            complete("inventory --from oci:src/cli/plug"),
            "oci:src/cli/plugin/\n:6\n"
        );
    }

    #[test]
    fn candidates_are_described_on_request() {
        let text = answer(&["verif".into()], true);
        assert!(
            text.starts_with("verify\tVerify every byte of archives"),
            "{text}"
        );
        let words = ["save", "--from", "cr"].map(OsString::from);
        let text = answer(&words, true);
        assert_eq!(text.replace('\t', " = "), "crio = the storage of CRI-O\n:0\n");
    }
}
