//! `sealift completions` and `sealift man`.

use std::io::{self, Write as _};

use clap::Args;
use clap_complete::Shell;
use sealift::Error;

use super::output::Outcome;
use super::{complete, man};

/// The flag of every other command, hidden where it does not apply.
#[derive(Args)]
struct NoJson {
    #[arg(long, hide = true)]
    json: bool,
}

/// Refuses `--json` here.
pub fn no_json() -> Error {
    Error::Usage {
        message: "completions and manual pages are not JSON".into(),
        hint: Some("leave out --json".into()),
    }
}

/// Print shell completions
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift completions bash > /etc/bash_completion.d/sealift
  sealift completions zsh  > \"${fpath[1]}/_sealift\"
  sealift completions fish > ~/.config/fish/completions/sealift.fish")]
pub struct Completions {
    /// Shell to print completions for
    shell: Shell,
    #[command(flatten)]
    _no_json: NoJson,
}

impl Completions {
    /// Prints the completions.
    pub fn run(&self, command: &clap::Command) -> Outcome {
        print(&completions(self.shell, command))
    }
}

/// The completions of a command: a script that asks sealift itself, or for other shells a list without hidden
/// subcommands, which clap_complete would offer too.
fn completions(shell: Shell, command: &clap::Command) -> Vec<u8> {
    if let Some(script) = complete::script(shell) {
        return script.into();
    }
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut command = clap::Command::new("sealift")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(shown.cloned());
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "sealift", &mut text);
    text
}

/// Print the manual page
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sealift man > /usr/local/share/man/man1/sealift.1
  sealift man save | man -l -")]
pub struct Man {
    /// Command to describe [default: sealift itself]
    command: Option<String>,
    #[command(flatten)]
    _no_json: NoJson,
}

impl Man {
    /// Prints the page.
    pub fn run(&self, root: &clap::Command) -> Outcome {
        let mut root = root.clone();
        // Adds the options of every command to each of them.
        root.build();
        match man::page(&root, self.command.as_deref()) {
            Some(page) => print(page.as_bytes()),
            None => Err(Error::Usage {
                message: format!(
                    "there is no command {:?}",
                    self.command.as_deref().unwrap_or_default()
                ),
                hint: Some("see `sealift --help`".into()),
            }
            .into()),
        }
    }
}

fn print(text: &[u8]) -> Outcome {
    io::stdout()
        .lock()
        .write_all(text)
        .map_err(Error::io("write", "standard output"))?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, ValueEnum as _};

    #[test]
    fn completions_have_every_command_but_the_hidden_one() {
        let command = crate::cli::Cli::command();
        for shell in Shell::value_variants() {
            if complete::script(*shell).is_some() {
                continue;
            }
            let text = String::from_utf8(completions(*shell, &command)).unwrap();
            let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
            for name in shown.map(clap::Command::get_name).chain(["json", "version"]) {
                assert!(text.contains(name), "{shell}: {name}");
            }
            assert!(!text.contains(sealift::podman::READ_LAYER), "{shell}");
        }
    }
}
