//! The option that says where images are loaded.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What images are loaded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The engine of this host.
    Auto,
    /// Docker.
    Docker,
    /// An OCI layout folder.
    Folder(PathBuf),
    /// An archive.
    Archive(PathBuf),
}

impl To {
    /// Whether it is an engine.
    pub fn is_engine(&self) -> bool {
        matches!(self, To::Auto | To::Docker)
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<To, String> {
        match (text, text.split_once(':')) {
            ("auto", _) => Ok(To::Auto),
            ("docker", _) => Ok(To::Docker),
            ("archive:-", _) => Err("an archive to load into is a file; save --from writes a pipe".into()),
            (_, Some(("oci", path))) if !path.is_empty() => Ok(To::Folder(path.into())),
            (_, Some(("archive", path))) if !path.is_empty() => Ok(To::Archive(path.into())),
            _ => Err("expected auto, docker, oci:PATH or archive:FILE".into()),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            To::Auto => f.write_str("auto"),
            To::Docker => f.write_str("docker"),
            To::Folder(path) => write!(f, "oci:{}", path.display()),
            To::Archive(path) => write!(f, "archive:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_and_printed() {
        for (text, to) in [
            ("auto", To::Auto),
            ("docker", To::Docker),
            ("oci:a/b", To::Folder("a/b".into())),
            ("oci:a:b", To::Folder("a:b".into())),
            ("archive:/x.tar", To::Archive("/x.tar".into())),
        ] {
            assert_eq!(text.parse(), Ok(to.clone()));
            assert_eq!(to.to_string(), text);
        }
        for text in ["", "podman", "oci:", "archive:", "archive:-", "images.tar"] {
            text.parse::<To>().unwrap_err();
        }
    }
}
