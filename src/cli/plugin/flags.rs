//! The options of `docker` itself, which stand before the plugin's name.
//!
//! Source: docker/cli, `cli/flags/options.go`, `cli/command/cli.go` and `opts/hosts.go`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use sealift::{Error, Result};

use super::WORD;

/// The options. A later one of the same name replaces an earlier one.
#[derive(Parser)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_override_self = true
)]
pub struct Flags {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(short = 'c', long)]
    context: Option<String>,
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    debug: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    help: Option<bool>,
    #[arg(short = 'H', long)]
    host: Vec<String>,
    #[arg(short = 'l', long)]
    log_level: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    tls: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    tlsverify: Option<bool>,
    #[arg(long)]
    tlscacert: Option<PathBuf>,
    #[arg(long)]
    tlscert: Option<PathBuf>,
    #[arg(long)]
    tlskey: Option<PathBuf>,
    #[command(subcommand)]
    rest: Rest,
}

#[derive(Subcommand)]
enum Rest {
    #[command(external_subcommand)]
    Words(Vec<OsString>),
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Only results and errors.
    Quiet,
    /// Each step.
    Verbose,
}

/// A variable, and its new value; `None` removes it.
type Change = (&'static str, Option<OsString>);

impl Flags {
    /// Parses a command line: the options, the plugin's name, and the plugin's own arguments, which it returns with the
    /// options. `None` if the line is not Docker's.
    pub fn parse(line: &[OsString]) -> Option<(Flags, Vec<OsString>)> {
        let docker = OsString::from("docker");
        let flags = Flags::try_parse_from(std::iter::once(&docker).chain(line)).ok()?;
        let Rest::Words(words) = &flags.rest;
        let own = match words.as_slice() {
            // `docker --help sealift save`
            [name, rest @ ..] if name == WORD && flags.help == Some(true) => helped(rest),
            [name, rest @ ..] if name == WORD => rest.to_vec(),
            // `docker help sealift save`
            [help, name, rest @ ..] if help == "help" && name == WORD => helped(rest),
            _ => return None,
        };
        Some((flags, own))
    }

    /// How much is to be printed.
    pub fn verbosity(&self) -> Option<Verbosity> {
        match self.log_level.as_deref().map(str::to_ascii_lowercase).as_deref() {
            _ if self.debug == Some(true) => Some(Verbosity::Verbose),
            Some("trace" | "debug") => Some(Verbosity::Verbose),
            Some("warn" | "warning" | "error" | "fatal" | "panic") => Some(Verbosity::Quiet),
            _ => None,
        }
    }

    /// The variables that say the same, given those that are set.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the options contradict each other, or name certificates in a way that no variable does.
    pub fn variables(&self, set: &dyn Fn(&'static str) -> Option<OsString>) -> Result<Vec<Change>> {
        let set = |name| set(name).filter(|value| !value.is_empty());
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(
            self.config
                .iter()
                .map(|folder| ("DOCKER_CONFIG", Some(folder.into()))),
        );
        let context = self.context.as_deref().filter(|name| !name.is_empty());
        match (self.host.as_slice(), context) {
            ([], None) => {}
            ([], Some(name)) => {
                if name != "default" {
                    changes.push(("DOCKER_HOST", None));
                }
                changes.push(("DOCKER_CONTEXT", Some(name.into())));
            }
            ([_], Some(_)) => {
                return Err(usage(
                    "docker's --host and --context contradict each other",
                    "leave out one of them",
                ));
            }
            ([host], None) => {
                changes.push(("DOCKER_HOST", address(host)));
                changes.push(("DOCKER_CONTEXT", Some("default".into())));
            }
            ([_, _, ..], _) => {
                return Err(usage("docker's --host was given more than once", "give it once"));
            }
        }
        changes.extend(self.tls(&set)?);
        Ok(changes)
    }

    /// The variables about TLS.
    fn tls(&self, set: &dyn Fn(&'static str) -> Option<OsString>) -> Result<Vec<Change>> {
        let files = [
            ("ca.pem", self.tlscacert.as_deref()),
            ("cert.pem", self.tlscert.as_deref()),
            ("key.pem", self.tlskey.as_deref()),
        ];
        let given = files.iter().find_map(|(_, path)| *path);
        if self.tls.is_none() && self.tlsverify.is_none() && given.is_none() {
            return Ok(Vec::new());
        }
        let verify = self.tlsverify.unwrap_or(set("DOCKER_TLS_VERIFY").is_some());
        let is_on = self.tlsverify.is_some() || verify || self.tls.unwrap_or(set("DOCKER_TLS").is_some());
        if !is_on {
            return match given {
                None => Ok(vec![("DOCKER_CERT_PATH", None)]),
                Some(_) => Err(usage(
                    "docker's --tlscacert, --tlscert and --tlskey have no effect without TLS",
                    "add --tlsverify, or leave them out",
                )),
            };
        }
        let home = || set("HOME").map(|home| Path::new(&home).join(".docker").into_os_string());
        let usual = set("DOCKER_CERT_PATH")
            .or_else(|| set("DOCKER_CONFIG"))
            .or_else(home);
        let usual = PathBuf::from(usual.unwrap_or_default());
        let folder = match given {
            Some(path) => path.parent().unwrap_or(Path::new("")),
            None => &usual,
        };
        for (name, given) in files {
            let ours = folder.join(name);
            let theirs = given.map_or_else(|| usual.join(name), Path::to_path_buf);
            if ours != theirs && (given.is_some() || ours.exists() || theirs.exists()) {
                return Err(usage(
                    "docker's --tlscacert, --tlscert and --tlskey name files of several folders, or with other names",
                    "put ca.pem, cert.pem and key.pem into one folder, and name it with DOCKER_CERT_PATH",
                ));
            }
        }
        // An empty variable would not be read.
        let folder = if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        };
        Ok(vec![
            ("DOCKER_CERT_PATH", Some(folder.into())),
            ("DOCKER_TLS_VERIFY", verify.then(|| "1".into())),
        ])
    }
}

/// The arguments that print the help of a command.
fn helped(words: &[OsString]) -> Vec<OsString> {
    let command = words
        .first()
        .filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let help = OsStr::new("--help");
    command
        .map(OsString::as_os_str)
        .into_iter()
        .chain([help])
        .map(OsString::from)
        .collect()
}

/// The value of `DOCKER_HOST` that means the same as an address of `--host`; none for the default socket.
fn address(host: &str) -> Option<OsString> {
    match host.trim() {
        "" => None,
        address if address.contains("://") => Some(address.into()),
        authority => Some(format!("tcp://{authority}").into()),
    }
}

fn usage(message: &str, hint: &'static str) -> Error {
    Error::Usage {
        message: message.into(),
        hint: Some(hint.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(Flags, String)> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let (flags, own) = Flags::parse(&words)?;
        let own: Vec<_> = own.iter().map(|word| word.to_str().unwrap()).collect();
        Some((flags, own.join(" ")))
    }

    fn own(line: &str) -> Option<String> {
        parse(line).map(|(_, own)| own)
    }

    /// The variables that are changed, as `NAME=VALUE` or `-NAME`.
    fn variables(line: &str, set: &[(&str, &str)]) -> Result<String> {
        let (flags, _) = parse(line).unwrap();
        let value = |name: &'static str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let changes = flags.variables(&value)?;
        let texts = changes.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={}", value.to_str().unwrap()),
            None => format!("-{name}"),
        });
        Ok(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn own_arguments_begin_after_the_name() {
        for (line, expected) in [
            ("sealift save --from docker -H x", Some("save --from docker -H x")),
            ("-H unix:///x sealift load x.tar", Some("load x.tar")),
            ("--tls --tlscacert=/c sealift", Some("")),
            ("--config sealift sealift list x", Some("list x")),
            ("sealift --help", Some("--help")),
            ("help sealift", Some("--help")),
            ("help sealift save", Some("save --help")),
            ("--help sealift", Some("--help")),
            ("--help=false sealift list", Some("list")),
            // Started without Docker.
            ("list x", None),
            ("--json list sealift", None),
            ("", None),
            ("--version", None),
        ] {
            assert_eq!(own(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn options_about_the_engine_become_variables() {
        let all = [
            ("HOME", "/h"),
            ("DOCKER_HOST", "unix:///x"),
            ("DOCKER_CONTEXT", "lab"),
        ];
        for (line, expected) in [
            ("", ""),
            ("-H tcp://a:1", "DOCKER_HOST=tcp://a:1 DOCKER_CONTEXT=default"),
            ("-H=tcp://a:1", "DOCKER_HOST=tcp://a:1 DOCKER_CONTEXT=default"),
            ("-DHtcp://a:1", "DOCKER_HOST=tcp://a:1 DOCKER_CONTEXT=default"),
            ("--host a:1", "DOCKER_HOST=tcp://a:1 DOCKER_CONTEXT=default"),
            ("--host=", "-DOCKER_HOST DOCKER_CONTEXT=default"),
            ("-c there", "-DOCKER_HOST DOCKER_CONTEXT=there"),
            (
                "--context there --context here",
                "-DOCKER_HOST DOCKER_CONTEXT=here",
            ),
            ("--context default", "DOCKER_CONTEXT=default"),
            ("--config /c", "DOCKER_CONFIG=/c"),
            ("--tls", "DOCKER_CERT_PATH=/h/.docker -DOCKER_TLS_VERIFY"),
            (
                "--config /c --tlsverify",
                "DOCKER_CONFIG=/c DOCKER_CERT_PATH=/h/.docker DOCKER_TLS_VERIFY=1",
            ),
            (
                "--tlsverify=false",
                "DOCKER_CERT_PATH=/h/.docker -DOCKER_TLS_VERIFY",
            ),
            ("--tls=0", "-DOCKER_CERT_PATH"),
            (
                "--tlsverify --tlscacert=/e/ca.pem --tlscert /e/cert.pem --tlskey /e/key.pem",
                "DOCKER_CERT_PATH=/e DOCKER_TLS_VERIFY=1",
            ),
            (
                "--tlsverify --tlscacert ca.pem",
                "DOCKER_CERT_PATH=. DOCKER_TLS_VERIFY=1",
            ),
            ("--log-level debug", ""),
        ] {
            assert_eq!(
                variables(&format!("{line} sealift list x"), &all).unwrap(),
                expected,
                "{line}"
            );
        }
        let tls = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/e")];
        assert_eq!(
            variables("--tls sealift", &tls).unwrap(),
            "DOCKER_CERT_PATH=/e DOCKER_TLS_VERIFY=1"
        );
    }

    #[test]
    fn options_that_cannot_be_used_are_refused() {
        for (line, expected) in [
            ("-H a -H b", "more than once"),
            ("-H a -c b", "contradict"),
            ("--tlscacert /e/ca.pem", "no effect"),
            ("--tls --tlscacert /e/root.pem", "several folders"),
            (
                "--tls --tlscacert /e/ca.pem --tlskey /f/key.pem",
                "several folders",
            ),
        ] {
            let error = variables(&format!("{line} sealift"), &[]).unwrap_err();
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
        // A certificate for the client that only one of the two would use.
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        std::fs::write(home.path().join("cert.pem"), "").unwrap();
        let error = variables(
            "--tls --tlscacert /e/ca.pem sealift",
            &[("DOCKER_CERT_PATH", folder)],
        );
        assert!(error.unwrap_err().to_string().contains("several folders"));
    }

    #[test]
    fn docker_says_how_much_is_printed() {
        for (line, expected) in [
            ("", None),
            ("-l info", None),
            ("-D", Some(Verbosity::Verbose)),
            ("--debug=false", None),
            ("--log-level=DEBUG", Some(Verbosity::Verbose)),
            ("-l error", Some(Verbosity::Quiet)),
        ] {
            let (flags, _) = parse(&format!("{line} sealift list")).unwrap();
            assert_eq!(flags.verbosity(), expected, "{line}");
        }
    }
}
