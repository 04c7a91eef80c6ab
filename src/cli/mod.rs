//! The command line: one file per command, output, flags and exit codes.
//!
//! - [`save`], [`verify`], [`repair`], [`load`], [`list`], [`images`], [`serve`], [`inventory`], [`doctor`], [`shell`]: the
//!   commands
//! - [`archive`]: the options for reading archives
//! - [`from`]: the options for the sources of images; [`stores`]: opens them
//! - [`saved`]: what `save` prints
//! - [`planned`], [`loaded`]: what `load` prints before and after; [`results`]: for one target or several
//! - [`to`]: the option for where images are loaded; [`engines`]: the engines among them
//! - [`docker`]: the options of a load into Docker; [`containerd`], [`podman`]: those that concern containerd and podman
//! - [`client_config`]: what clients of `serve` need; [`notify`]: tells systemd that it is ready
//! - [`rename`]: the options for renaming images
//! - [`lists`]: files that name images, and the options for reading them; [`elsewhere`]: those that they refer to
//! - [`sign`]: the options for signing, and for the signatures that archives must have
//! - [`registry`]: the options for reaching registries
//! - [`exit`]: exit codes
//! - [`remedy`]: hints with flags and commands
//! - [`documents`]: the JSON documents of a load
//! - [`output`]: text for people, JSON for scripts, errors with hints
//! - [`bars`]: progress on a terminal; [`meter`]: its rate and time left; [`screen`]: where it is
//! - [`complete`]: completions for shells and for `docker`
//! - [`man`]: manual pages
//! - [`plugin`]: `docker sealift`
//! - [`receipt`]: the receipt of a load
//! - [`report`]: reports of a verification, for people who sign off a transfer
//! - [`table`]: tables that fit the terminal
//! - [`files`]: files that are replaced as a whole; [`ending`]: those that say how a run ended
//! - [`rows`]: which names get a row of a table
//! - [`size`]: sizes as people write them

mod archive;
mod bars;
mod client_config;
mod compare;
mod complete;
mod containerd;
mod docker;
mod doctor;
mod documents;
mod elsewhere;
mod ending;
mod engines;
mod exit;
mod files;
mod forecast;
mod from;
mod images;
mod inventory;
mod list;
mod lists;
mod load;
mod loaded;
mod man;
mod meter;
mod notify;
mod output;
mod planned;
mod plugin;
mod podman;
mod receipt;
mod referrers;
mod registry;
mod remedy;
mod rename;
mod repair;
mod report;
mod results;
mod rows;
mod save;
mod saved;
mod screen;
mod serve;
mod shell;
mod sign;
mod size;
mod stores;
mod table;
mod to;
mod verify;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use sealift::Error;
use sealift::error::{ErrorKind, Finding};
use sealift::escape::{Escaped, without_passwords};
use sealift::interrupt::Interrupt;

use output::{Failure, Output};
use plugin::{Begun, Verbosity};

/// Move container images between hosts that cannot reach each other, and keep every digest
#[derive(Parser)]
#[command(name = "sealift", version, max_term_width = 100)]
#[command(after_long_help = "\
Examples:
  On the connected machine:
    sealift save httpd:2.4 redis:7 -o images.tar
  On the air-gapped host:
    sealift verify images.tar
    sudo sealift load images.tar --expect sha256:...

Exit codes:
  0  done
  1  content is wrong or hostile, or exceeds a limit; nothing of it was named on the target
  2  usage
  3  local I/O: disk full (the engine's too), no permission, unreadable medium
  4  registry or network
  5  the engine refused or stopped responding
  6  done, but a requested digest is not shown or not proven, a push would change it, or an image
     lacks the layer form that the engine needs
  7  not found: image, tag, platform")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The options of every command.
#[derive(Args, Clone, Copy, Default)]
struct Global {
    /// Print one JSON document on standard output
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Print only results and errors
    #[arg(short, long, global = true, display_order = 901, conflicts_with = "verbose")]
    quiet: bool,
    /// Print each step and each blob on standard error
    #[arg(short, long, global = true, display_order = 902)]
    verbose: bool,
}

impl Global {
    /// Prints as much as Docker's options want, unless an option of a command says otherwise.
    fn ask(&mut self, wanted: Option<Verbosity>) {
        if self.quiet || self.verbose {
            return;
        }
        match wanted {
            None => {}
            Some(Verbosity::Quiet) => self.quiet = true,
            Some(Verbosity::Verbose) => self.verbose = true,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    Save(save::Save),
    Load(load::Load),
    Verify(verify::Verify),
    Repair(repair::Repair),
    List(list::List),
    Images(images::Images),
    Serve(serve::Serve),
    Inventory(inventory::Inventory),
    Doctor(doctor::Doctor),
    Completions(shell::Completions),
    Man(shell::Man),
    #[command(name = sealift::podman::READ_LAYER, hide = true)]
    ReadLayer(podman::ReadLayer),
}

/// Parses, runs, and returns the exit code.
pub fn main() -> ExitCode {
    let words = match plugin::begin() {
        Ok(Begun::Command(words)) => words,
        Ok(Begun::Answered(code)) => return code,
        Err(error) => {
            Output::new(Global::default()).error(&error);
            return exit::status(Some(error.kind()));
        }
    };
    let mut command = plugin::named(Cli::command());
    let parsed = command.try_get_matches_from_mut(words);
    let parsed =
        parsed.and_then(|found| Cli::from_arg_matches(&found).map_err(|error| error.format(&mut command)));
    let mut cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    cli.global.ask(plugin::verbosity());
    let interrupt = Interrupt::default();
    let output = Output::new(cli.global);
    let held = move |signal| output.delayed(signal);
    let state = interrupt.clone();
    let report = move |signal, remarks: &[String]| {
        match state.is_complete() {
            true => output.stopped(signal),
            false => output.interrupted(signal, remarks),
        }
        if plugin::is_of_client() {
            std::process::exit(exit::after_signal(signal).into());
        }
    };
    if let Err(source) = interrupt.install(held, report) {
        output.warn(&format!("signals are not handled: {source}"));
    }
    if plugin::is_plugin() {
        plugin::watch(&interrupt);
    }
    if output.is_json() && matches!(cli.command, Command::Completions(_) | Command::Man(_)) {
        return failed(&output, &interrupt, &shell::no_json(), &[]);
    }
    let result = match cli.command {
        Command::Save(command) => command.run(&output, &interrupt),
        Command::Load(command) => command.run(&output, &interrupt),
        Command::Doctor(command) => command.run(&output, &interrupt),
        Command::Verify(command) => command.run(&output, &interrupt),
        Command::Repair(command) => command.run(&output, &interrupt),
        Command::List(command) => command.run(&output, &interrupt),
        Command::Images(command) => command.run(&output, &interrupt),
        Command::Serve(command) => command.run(&output, &interrupt),
        Command::Inventory(command) => command.run(&output),
        Command::Completions(command) => command.run(&Cli::command()),
        Command::Man(command) => command.run(&Cli::command()),
        Command::ReadLayer(command) => command.run(),
    };
    match result {
        Ok(failure) => exit::status(failure),
        Err(Failure::BrokenPipe) => {
            let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
            ExitCode::FAILURE
        }
        Err(Failure::Error(error)) => failed(&output, &interrupt, &error, &[]),
        Err(Failure::Hinted(error, hint)) => {
            let code = failed(&output, &interrupt, &error, &[]);
            output.hint(&hint);
            code
        }
        Err(Failure::Findings(error, findings)) => failed(&output, &interrupt, &error, &findings),
    }
}

fn failed(output: &Output, interrupt: &Interrupt, error: &Error, findings: &[Finding]) -> ExitCode {
    interrupt.wait_if_stopped();
    output.failure(error, findings);
    exit::status(Some(error.kind()))
}

/// Reports wrong arguments in clap's words; with `--json`, also as a document.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let first: Vec<&str> = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let message = first.join(" ").trim_start_matches("error: ").into();
        let error = Error::Usage { message, hint: None };
        let _ = output::print_document(&output::error_document(&error, &[]));
    }
    let text = error.to_string();
    // An option's value may be an address with a password.
    match without_passwords(&text) {
        shown if shown == text => drop(error.print()),
        shown => shown.lines().for_each(|line| eprintln!("{}", Escaped(line))),
    }
    exit::status(Some(ErrorKind::Usage))
}

#[cfg(test)]
#[path = "examples_tests.rs"]
mod examples_tests;
