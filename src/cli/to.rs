//! The option that says where images are loaded.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};
use sealift::host::Engine;
use sealift::registry::Destination;

use super::engines;

/// What images are loaded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The engine of this host.
    Auto,
    /// These engines, each once.
    Engines(Vec<Engine>),
    /// An OCI layout folder.
    Folder(PathBuf),
    /// An archive.
    Archive(PathBuf),
    /// A registry.
    Registry(Destination),
}

/// What stands before a registry.
const REGISTRY: &str = "registry://";

impl To {
    /// Whether it may be this engine.
    pub fn may_be(&self, engine: Engine) -> bool {
        match self {
            To::Auto => true,
            To::Engines(engines) => engines.contains(&engine),
            To::Folder(_) | To::Archive(_) | To::Registry(_) => false,
        }
    }

    /// The folder or archive, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            To::Folder(path) | To::Archive(path) => Some(path),
            To::Auto | To::Engines(_) | To::Registry(_) => None,
        }
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<To, String> {
        if let Some(place) = text.strip_prefix(REGISTRY) {
            return place
                .parse()
                .map(To::Registry)
                .map_err(|error: sealift::registry::DestinationError| error.to_string());
        }
        match (text, text.split_once(':')) {
            ("auto", _) => Ok(To::Auto),
            ("archive:-", _) => Err("an archive to load into is a file; save --from writes a pipe".into()),
            (_, Some(("oci", path))) if !path.is_empty() => Ok(To::Folder(path.into())),
            (_, Some(("archive", path))) if !path.is_empty() => Ok(To::Archive(path.into())),
            (_, Some(("registry", _))) | ("registry", _) => {
                Err("a registry is written registry://HOST[:PORT][/PREFIX]".into())
            }
            _ => listed(text).map(To::Engines),
        }
    }
}

/// Parses the option's value. What is before an `@` may be a password, and is not printed.
#[derive(Debug, Clone, Copy)]
pub struct ToParser;

impl TypedValueParser for ToParser {
    type Value = To;

    fn parse_ref(&self, command: &Command, option: Option<&Arg>, value: &OsStr) -> Result<To, clap::Error> {
        let text = value.to_string_lossy();
        match text.parse::<To>() {
            Err(reason) if text.contains('@') => {
                let message = format!("invalid value for '--to': {reason}");
                Err(clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
            }
            _ => TypedValueParser::parse_ref(&To::from_str, command, option, value),
        }
    }
}

/// The engines of a list.
fn listed(text: &str) -> Result<Vec<Engine>, String> {
    let mut listed = Vec::new();
    for word in text.split(',') {
        let engine = engines::by_word(word).ok_or_else(|| match text.split_once(',') {
            Some(_) if word == "auto" || word.contains(':') => {
                format!("only engines can be listed: {}", engines::words())
            }
            _ => format!(
                "expected auto, {}, oci:PATH, archive:FILE or registry://HOST[/PREFIX]",
                engines::words()
            ),
        })?;
        if listed.contains(&engine) {
            return Err(format!("{word} is listed twice"));
        }
        listed.push(engine);
    }
    Ok(listed)
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            To::Auto => f.write_str("auto"),
            To::Engines(engines) => {
                let words: Vec<&str> = engines.iter().map(|engine| engine.word()).collect();
                f.write_str(&words.join(","))
            }
            To::Folder(path) => write!(f, "oci:{}", path.display()),
            To::Archive(path) => write!(f, "archive:{}", path.display()),
            To::Registry(destination) => write!(f, "{REGISTRY}{destination}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn targets_are_parsed_and_printed() {
        for (text, to) in [
            ("auto", To::Auto),
            ("docker", To::Engines(vec![Engine::Docker])),
            ("podman", To::Engines(vec![Engine::Podman])),
            ("docker,crio", To::Engines(vec![Engine::Docker, Engine::Crio])),
            ("oci:a/b", To::Folder("a/b".into())),
            ("oci:a:b", To::Folder("a:b".into())),
            ("oci:a,docker", To::Folder("a,docker".into())),
            ("archive:/x.tar", To::Archive("/x.tar".into())),
            (
                "registry://h.io:5000/a/b",
                To::Registry("h.io:5000/a/b".parse().unwrap()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(to.clone()));
            assert_eq!(to.to_string(), text);
        }
        for (text, says) in [
            ("", "expected auto"),
            ("lxc", "expected auto"),
            ("oci:", "expected auto"),
            ("archive:", "expected auto"),
            ("archive:-", "is a file"),
            ("images.tar", "expected auto"),
            ("docker,", "expected auto"),
            ("docker,docker", "docker is listed twice"),
            ("docker,auto", "only engines"),
            ("docker,oci:a", "only engines"),
            ("docker,registry://h.io", "only engines"),
            ("registry", "registry://HOST"),
            ("registry:h.io", "registry://HOST"),
            ("registry://h.io/x:1", "a tag does not belong here"),
            ("registry://user:password@h.io", "a user and password"),
            ("registry://h.io/UPPER", "cannot stand before"),
        ] {
            let error = text.parse::<To>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let parse = |to: &str| {
            let parsed = crate::cli::Cli::try_parse_from(["sealift", "load", "x.tar", "--to", to]);
            parsed.err().unwrap().to_string()
        };
        for to in ["registry://user:hunter2@h.io", "registry:user:hunter2@h.io"] {
            let error = parse(to);
            assert!(error.contains("'--to'") && !error.contains("hunter2"), "{error}");
        }
        assert!(parse("lxc").contains("'lxc'"));
    }
}
