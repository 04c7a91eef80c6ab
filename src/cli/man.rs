//! Manual pages, made of the same definitions as the help.
//!
//! The text after the options in a help is `Examples:`, `Exit codes:` and paragraphs; a page has a section for each.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};
use roff::{Inline, Roff, bold, italic, roman};

/// Examples longer than this have their comment on a line before, so that they fit 80 columns.
const WIDTH: usize = 72;
/// The bullet of a list.
const BULLET: &str = concat!("\\(b", "u");
/// Stands for the date of a page, which has none.
const NO_DATE: &str = "NO-DATE";

/// The page of a command, or of sealift itself. `root` is built.
pub fn page(root: &Command, name: Option<&str>) -> Option<String> {
    let command = match name {
        None => root,
        Some(name) => shown(root).find(|command| command.get_name() == name)?,
    };
    let title = title(name);
    let mut page = Page(Roff::new());
    page.heading(command, &title);
    let text = After::of(command);
    page.section("DESCRIPTION");
    page.0.text(inlines(&format!("{}.", words(command.get_about()))));
    page.paragraphs(&text.paragraphs.join("\n\n"), "PP");
    page.arguments(command);
    page.options(command);
    if name.is_none() {
        page.section("COMMANDS");
        for command in shown(root) {
            let name = format!("{}(1)", self::title(Some(command.get_name())));
            page.item(vec![bold(name)], &words(command.get_about()));
        }
    }
    if !text.examples.is_empty() {
        page.section("EXAMPLES");
        page.examples(&text.examples);
    }
    let codes = match text.codes.is_empty() {
        true => After::of(root).codes,
        false => text.codes,
    };
    page.section("EXIT STATUS");
    for (code, meaning) in &codes {
        page.item(vec![bold(code)], meaning);
    }
    page.section("SEE ALSO");
    page.references(root, &title);
    // The generator drops an argument that is empty.
    Some(page.0.render().replacen(NO_DATE, "\"\"", 1))
}

fn shown(root: &Command) -> impl Iterator<Item = &Command> {
    let commands = root.get_subcommands();
    commands.filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn title(name: Option<&str>) -> String {
    name.map_or("sealift".into(), |name| format!("sealift-{name}"))
}

fn words(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// The text after the options of a help.
#[derive(Default)]
struct After {
    paragraphs: Vec<String>,
    examples: Vec<String>,
    /// Each with its meaning.
    codes: Vec<(String, String)>,
}

impl After {
    fn of(command: &Command) -> After {
        let text = words(command.get_after_long_help());
        let mut after = After::default();
        for block in text.split("\n\n") {
            match block.split_once('\n') {
                Some(("Examples:", lines)) => after.examples = lines.lines().map(str::to_owned).collect(),
                Some(("Exit codes:", lines)) => lines.lines().for_each(|line| after.code(line)),
                _ => after.paragraphs.push(block.into()),
            }
        }
        after
    }

    /// A line such as `  6  done, but`, or one that continues it.
    fn code(&mut self, line: &str) {
        let text = line.trim();
        let start = text
            .split_once("  ")
            .filter(|(code, _)| code.parse::<u8>().is_ok());
        match (start, self.codes.last_mut()) {
            (Some((code, meaning)), _) => self.codes.push((code.into(), meaning.into())),
            (None, Some((_, meaning))) => *meaning += &format!(" {text}"),
            (None, None) => {}
        }
    }
}

struct Page(Roff);

impl Page {
    fn section(&mut self, name: &str) {
        self.0.control("SH", [name]);
    }

    fn heading(&mut self, command: &Command, title: &str) {
        let version = format!("sealift {}", env!("CARGO_PKG_VERSION"));
        let upper = title.to_uppercase();
        self.0
            .control("TH", [upper.as_str(), "1", NO_DATE, &version, "User Commands"]);
        self.section("NAME");
        self.0
            .text([roman(format!("{title} - {}", words(command.get_about())))]);
        self.section("SYNOPSIS");
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let name = title.replacen('-', " ", 1);
        let rest = usage.strip_prefix(&name).unwrap_or(usage);
        self.0.text([bold(name), roman(rest)]);
    }

    fn arguments(&mut self, command: &Command) {
        let positionals: Vec<&Arg> = command.get_positionals().collect();
        if !positionals.is_empty() {
            self.section("ARGUMENTS");
        }
        for argument in positionals {
            self.item(vec![italic(argument.to_string())], "");
            self.help(argument);
        }
    }

    fn options(&mut self, command: &Command) {
        self.section("OPTIONS");
        let mut options: Vec<&Arg> = command
            .get_arguments()
            .filter(|option| !option.is_positional() && !option.is_hide_set())
            .collect();
        // As the help has them: `--json` and the like are the last ones of those without a heading.
        options.sort_by_key(|option| is_of_every_command(option));
        let mut headings: Vec<Option<&str>> = vec![None];
        for option in &options {
            if !headings.contains(&option.get_help_heading()) {
                headings.push(option.get_help_heading());
            }
        }
        for heading in headings {
            if let Some(heading) = heading {
                self.0.control("SS", [heading]);
            }
            for option in options
                .iter()
                .filter(|option| option.get_help_heading() == heading)
            {
                self.option(option);
            }
        }
    }

    fn option(&mut self, option: &Arg) {
        let short = option.get_short().map(|short| format!("-{short}"));
        let long = option.get_long().map(|long| format!("--{long}"));
        let mut tag = Vec::new();
        for name in short.into_iter().chain(long) {
            if !tag.is_empty() {
                tag.push(roman(", "));
            }
            tag.push(bold(name));
        }
        if matches!(option.get_action(), ArgAction::Set | ArgAction::Append) {
            let name = option.get_value_names().and_then(|names| names.first());
            let name = name.map_or_else(|| option.get_id().as_str().to_uppercase(), ToString::to_string);
            tag.extend([roman(" "), italic(name)]);
        }
        self.item(tag, "");
        self.help(option);
    }

    /// A tag, and below it a text.
    fn item(&mut self, tag: Vec<Inline>, text: &str) {
        self.0.control("TP", []);
        self.0.text(tag);
        if !text.is_empty() {
            self.0.text(inlines(text));
        }
    }

    fn help(&mut self, argument: &Arg) {
        let text = argument.get_long_help().or(argument.get_help());
        let values = argument.get_possible_values();
        let values: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
        let text = words(text);
        let mut blocks = text.split("\n\n");
        self.0.text(inlines(blocks.next().unwrap_or_default()));
        self.paragraphs(&blocks.collect::<Vec<_>>().join("\n\n"), "IP");
        if !argument.get_action().takes_values() {
            return;
        }
        if values.iter().any(|value| value.get_help().is_some()) {
            self.0.control("IP", []);
            self.0.text([roman("Possible values:")]);
            self.0.control("RS", []);
            for value in &values {
                self.0.control("TP", []);
                self.0.text([bold(value.get_name())]);
                self.0.text(inlines(&words(value.get_help())));
            }
            self.0.control("RE", []);
        } else if !values.is_empty() {
            let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            self.0.control("IP", []);
            self.0
                .text([roman(format!("[possible values: {}]", names.join(", ")))]);
        }
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !argument.is_hide_default_value_set() {
            self.0.control("IP", []);
            self.0.text([roman(format!("[default: {}]", defaults.join(" ")))]);
        }
    }

    /// Paragraphs, each after a macro. Lines with a dash are items of a list.
    fn paragraphs(&mut self, text: &str, start: &str) {
        for block in text.split("\n\n").filter(|block| !block.is_empty()) {
            let mut paragraph = Vec::new();
            let mut items: Vec<String> = Vec::new();
            for line in block.lines() {
                match (line.trim_start().strip_prefix("- "), items.last_mut()) {
                    (Some(item), _) => items.push(item.into()),
                    (None, Some(item)) => *item += &format!(" {}", line.trim()),
                    (None, None) => paragraph.push(line.trim()),
                }
            }
            if !paragraph.is_empty() {
                self.0.control(start, []);
                self.0.text(inlines(&paragraph.join(" ")));
            }
            if !items.is_empty() {
                self.0.control("RS", []);
            }
            for item in &items {
                self.0.control("IP", [BULLET, "2"]);
                self.0.text(inlines(item));
            }
            if !items.is_empty() {
                self.0.control("RE", []);
            }
        }
    }

    fn examples(&mut self, lines: &[String]) {
        self.0.control("nf", []);
        for line in lines {
            let line = line.strip_prefix("  ").unwrap_or(line);
            match line.split_once("  #").filter(|_| line.len() > WIDTH) {
                Some((command, comment)) => {
                    self.0.text([roman(format!("#{comment}"))]);
                    self.0.text([roman(command.trim_end())]);
                }
                None => drop(self.0.text([roman(line)])),
            }
        }
        self.0.control("fi", []);
    }

    fn references(&mut self, root: &Command, own: &str) {
        let commands = shown(root).map(|command| title(Some(command.get_name())));
        let others = std::iter::once(title(None)).chain(commands);
        let mut text = Vec::new();
        for name in others.filter(|name| name != own) {
            if !text.is_empty() {
                text.push(roman(", "));
            }
            text.extend([bold(name), roman("(1)")]);
        }
        self.0.text(text);
    }
}

fn is_of_every_command(option: &Arg) -> bool {
    let names = ["no_trunc", "json", "quiet", "verbose", "help", "version"];
    names.contains(&option.get_id().as_str())
}

/// Text with `code` in bold.
fn inlines(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    let parts = parts.filter(|(_, part)| !part.is_empty());
    parts
        .map(|(at, part)| match at % 2 {
            0 => roman(part),
            _ => bold(part),
        })
        .collect()
}
