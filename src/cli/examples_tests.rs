//! Every sealift command in documents, help texts and hints parses.

use std::path::Path;

use clap::error::ErrorKind;

use super::*;

/// The words of each program in a shell line, with quotes, `|`, `&&`, `;`, `>` and comments as in a shell.
fn programs(line: &str) -> Vec<Vec<String>> {
    let mut programs = vec![vec![]];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut is_target = false;
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | '&' | ';' | '>' | '(' | ')') => {
                if let Some(word) = word.take()
                    && !std::mem::take(&mut is_target)
                {
                    programs.last_mut().unwrap().push(word);
                }
                match c {
                    ' ' => {}
                    '>' => is_target = true,
                    _ => programs.push(vec![]),
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    programs
}

/// The arguments of each sealift command in a line, also after `sudo`, `ssh HOST` and variables.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for words in programs(line.trim_start_matches("$ ")) {
        let mut rest = &words[..];
        while let Some((first, others)) = rest.split_first() {
            rest = match first.as_str() {
                "sudo" => others,
                "ssh" => others.get(1..).unwrap_or_default(),
                variable if variable.contains('=') => others,
                _ => break,
            };
        }
        if rest.first().is_some_and(|first| first == "sealift") {
            calls.push(rest.to_vec());
        }
    }
    calls
}

/// What reads the digest out of the document of a save, in a script.
const OF_DOCUMENT: &str = "\"$(jq -r .digest save.json)\"";

/// Fills in the digests of an example: `sha256:...`, `sha256:4bf5...`.
fn with_digests(text: &str) -> String {
    let text = text.replace(OF_DOCUMENT, "sha256:...");
    let mut parts = text.split("sha256:");
    let mut filled = parts.next().unwrap().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        filled += &format!("sha256:{}", "0".repeat(64));
        filled += rest
            .strip_prefix("...")
            .or(rest.strip_prefix('…'))
            .unwrap_or(rest);
    }
    filled
}

/// Why the parser refuses a line. A `mention` may omit required arguments.
fn refusal(line: &str, mention: bool) -> Option<String> {
    calls(&with_digests(line)).into_iter().find_map(|words| {
        let error = Cli::command().try_get_matches_from(&words).err()?;
        let is_fine = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
            ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                mention
            }
            _ => false,
        };
        (!is_fine).then(|| format!("{line}\n{error}"))
    })
}

/// The indented and fenced lines of a document, and its code spans.
fn code(document: &str) -> (Vec<&str>, Vec<&str>) {
    let mut is_fenced = false;
    let mut lines = Vec::new();
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            lines.push(line.trim());
        }
    }
    (lines, document.split('`').skip(1).step_by(2).collect())
}

#[track_caller]
fn assert_all_parse<'a>(lines: impl IntoIterator<Item = &'a str>, mention: bool) -> usize {
    let lines: Vec<_> = lines.into_iter().filter(|line| !calls(line).is_empty()).collect();
    let refused: Vec<_> = lines.iter().filter_map(|line| refusal(line, mention)).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    lines.len()
}

#[test]
fn documents_name_commands_and_options_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in [root, &root.join("docs")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                let (lines, spans) = code(&text);
                count += assert_all_parse(lines, false) + assert_all_parse(spans, true);
            }
        }
    }
    assert!(count > 20, "only {count} were found");
}

#[test]
fn help_texts_name_commands_and_options_that_exist() {
    let mut root = Cli::command();
    root.build();
    for command in std::iter::once(&root).chain(root.get_subcommands()) {
        let help = command.clone().render_long_help().to_string();
        let examples = help.lines().map(str::trim);
        assert_all_parse(examples.filter(|line| !line.starts_with("Usage:")), false);
        assert_all_parse(help.split('`').skip(1).step_by(2), true);
    }
}

#[test]
fn hints_name_commands_and_options_that_exist() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("examples_tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
                count += assert_all_parse(spans, true);
            }
        }
    }
    assert!(count > 10, "only {count} were found");
}

/// The variables of a configuration, also of lines that are comments.
fn variables(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let lines = lines.filter_map(|line| line.split_once("=\""));
    lines
        .filter_map(|(name, value)| Some((name, value.strip_suffix('"')?)))
        .collect()
}

#[test]
fn units_name_commands_and_options_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: String| std::fs::read_to_string(root.join(path)).unwrap();
    for (command, document, expected) in [("serve", "serving.md", 8), ("verify", "verifying.md", 7)] {
        let unit = read(format!("packaging/systemd/sealift-{command}.service"));
        let configuration = read(format!("packaging/etc/{command}.conf"));
        let document = read(format!("docs/{document}"));
        let mut variables = [variables(&configuration), variables(&document)].concat();
        variables.retain(|(name, _)| unit.contains(&format!("${name}")));
        let mut count = 0;
        for line in unit.lines().chain(document.lines()) {
            let Some(line) = line.strip_prefix("ExecStart=/usr/bin/") else {
                continue;
            };
            for (name, value) in &variables {
                let line = line.replace(&format!("${name}"), value);
                let words = line.split(' ').filter(|word| !word.starts_with('$'));
                let line = words.collect::<Vec<_>>().join(" ");
                count += assert_all_parse([line.as_str()], true);
            }
        }
        assert_eq!(count, expected, "{command}");
    }
}

#[test]
fn a_line_is_taken_apart_as_a_shell_would() {
    let line = "$ ssh h sudo sealift save -o - 'a b' | A=1 sealift load - > \"x y\" # sealift no";
    assert_eq!(
        calls(line),
        [
            vec!["sealift", "save", "-o", "-", "a b"],
            vec!["sealift", "load", "-"]
        ]
    );
    assert_eq!(
        calls("(cd /; sealift list x) && true"),
        [["sealift", "list", "x"]]
    );
    assert_eq!(calls("docker load"), [[""; 0]; 0]);
    for wrong in ["sealift frobnicate", "sealift list --all x", "sealift save x"] {
        assert!(refusal(wrong, false).is_some(), "{wrong}");
    }
    assert!(refusal("sealift save", true).is_none());
    assert!(refusal("sealift save --no-such", true).is_some());
    assert!(refusal("sealift load x --expect sha256:4bf...", false).is_none());
}
