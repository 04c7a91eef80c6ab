//! Keys that sign: private ones in files, and those of an agent.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::agent::Agent;
use super::private_key::{self, Content, PrivateKey};
use super::public_key::{Mismatch, PublicKey};
use super::signature::Signature;
use super::wire::Malformed;
use crate::dir::{Dir, read_whole};
use crate::error::{Error, Hint, Result};
use crate::escape::shell_word;

/// Largest file of a key that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// A key that signs.
pub struct SigningKey {
    path: PathBuf,
    public: PublicKey,
    means: Means,
}

enum Means {
    File(Box<PrivateKey>),
    Agent(Agent),
}

impl SigningKey {
    /// Opens a private key, or a public one whose private half the agent at the socket `agent` has. An encrypted private
    /// key is that of the agent too. Nobody is asked for a passphrase.
    ///
    /// # Errors
    ///
    /// If it is no such key, if others can read it, or if the agent does not have it.
    pub fn open(path: &Path, agent: Option<&Path>) -> Result<SigningKey> {
        let (text, mode) = read(path).map_err(Error::io("read the key", path))?;
        let usage = |message: String, hint: Hint| Error::Usage {
            message: format!("{}: {message}", path.display()),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        };
        let malformed = |Malformed(reason)| usage(format!("not a whole private key: {reason}"), "".into());
        let (blob, why) = if text.trim_start().starts_with(private_key::BEGIN) {
            if mode & 0o077 != 0 {
                let problem = format!("other users may read it (mode {:04o})", mode & 0o7777);
                let source = io::Error::new(io::ErrorKind::PermissionDenied, problem);
                return Err(Error::io("use the key", path)(source)
                    .and_hint(format!("chmod 600 {}", shell_word(&path.display().to_string()))));
            }
            match PrivateKey::parse(&text).map_err(malformed)? {
                Content::Key(key) => {
                    let key = SigningKey {
                        path: path.to_path_buf(),
                        public: key.public.clone(),
                        means: Means::File(Box::new(key)),
                    };
                    // A file whose halves belong to different keys shows here, and not after hours.
                    key.sign("trial", b"")?;
                    return Ok(key);
                }
                Content::Locked { public, why } => (public, Some(why)),
            }
        } else if text.trim_start().starts_with("-----BEGIN ") {
            return Err(usage(
                "not a private key in OpenSSH's format".into(),
                format!(
                    "`ssh-keygen -p -f {}` converts it",
                    shell_word(&path.display().to_string())
                )
                .into(),
            ));
        } else {
            let mut words = text.split_ascii_whitespace();
            let (algorithm, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let blob = super::public_key::blob_of_words(algorithm, base64);
            let blob = blob.map_err(|Malformed(reason)| {
                usage(
                    format!("neither a private nor a public SSH key: {reason}"),
                    "`ssh-keygen -t ed25519 -f FILE` makes one".into(),
                )
            })?;
            (blob, None)
        };
        let public = PublicKey::parse(&blob).map_err(|error| usage(error.to_string(), "".into()))?;
        let about = |rest: &str| match &why {
            Some(why) => format!("{why}, and {rest}"),
            None => format!("it is a public key, and {rest}"),
        };
        let Some(socket) = agent else {
            return Err(usage(
                about("there is no ssh-agent: SSH_AUTH_SOCK is not set"),
                "start one and add the key: eval \"$(ssh-agent)\" && ssh-add KEY; sudo passes it on as in: sudo \
                 SSH_AUTH_SOCK=\"$SSH_AUTH_SOCK\" ..."
                    .into(),
            ));
        };
        let agent = Agent::at(socket);
        match agent
            .has(public.blob())
            .map_err(Error::io("ask the ssh-agent at", socket))?
        {
            true => Ok(SigningKey {
                path: path.to_path_buf(),
                public,
                means: Means::Agent(agent),
            }),
            false => Err(usage(
                about("the ssh-agent does not have it"),
                "`ssh-add KEY` adds a private key; `ssh-add -l` lists those it has".into(),
            )),
        }
    }

    /// The file, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether an agent signs with it, which may ask a person to confirm it.
    pub fn is_in_agent(&self) -> bool {
        matches!(self.means, Means::Agent(_))
    }

    /// Signs a message for a purpose. An agent may ask a person to confirm it.
    ///
    /// # Errors
    ///
    /// If the agent refuses, has gone away, or answers with something that is not a signature by this key.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<Signature> {
        let made = Signature::make(&self.public, namespace, message, |bytes| match &self.means {
            Means::File(key) => key.sign(bytes).map_err(|Malformed(reason)| self.failed(reason)),
            Means::Agent(agent) => agent
                .sign(&self.public, bytes)
                .map_err(|error| Error::io("sign with the ssh-agent at", agent.path())(error)),
        })?;
        made.map_err(|mismatch| {
            self.failed(match mismatch {
                Mismatch::Malformed(Malformed(reason)) => format!("the signature is malformed: {reason}"),
                Mismatch::Unsupported(what) => format!("{what} is not supported"),
                Mismatch::Differs => "the signature is not one by this key".into(),
            })
        })
    }

    fn failed(&self, problem: String) -> Error {
        let action = "sign with";
        Error::io(action, &self.path)(io::Error::other(problem))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.public)
    }
}

/// The text of a file, and its mode.
fn read(path: &Path) -> io::Result<(String, u32)> {
    let located = Dir::locate(path)?;
    let file = located.dir.open_file(&located.name)?;
    let mode = file.metadata()?.mode();
    let bytes = read_whole(file, MAX_KEY)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text"))?;
    Ok((text, mode))
}
