//! Whose keys count: files of allowed signers, ssh-keygen(1), ALLOWED SIGNERS.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::local_time;
use super::pattern::list_matches;
use super::public_key::{KeyError, PublicKey};
use super::signature::Signature;
use crate::dir::{self, Dir, read_whole};
use crate::error::{Error, Result, SignatureProblem};
use crate::escape::Escaped;

/// Largest file of allowed signers that is read, in bytes.
pub const MAX_ALLOWED_SIGNERS: u64 = 1 << 20;

/// Types of keys that OpenSSH has and that are not supported here. Their lines are skipped.
const UNSUPPORTED: [&str; 4] = [
    "ssh-dss",
    "ecdsa-sha2-nistp521",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-xmss@openssh.com",
];
/// Those that are supported.
const SUPPORTED: [&str; 6] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The signers that are allowed.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<Line>);

/// A signer, as a line has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line {
    /// Patterns.
    principals: String,
    /// Whether the key is that of a certification authority.
    is_authority: bool,
    /// Patterns.
    namespaces: Option<String>,
    valid_after: Option<SystemTime>,
    valid_before: Option<SystemTime>,
    key: Key,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Key {
    Supported(PublicKey),
    /// One that no signature can be checked with.
    #[default]
    Unsupported,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Signer {
    /// The signer that was asked for, or else the patterns of principals beside the key.
    pub principal: String,
    /// The algorithm of the key, as in `ssh-ed25519`.
    pub key_type: &'static str,
    /// The fingerprint of the key, as `ssh-keygen -l` prints it.
    pub key: String,
}

/// As in `signed by alice@example.com (ssh-ed25519 SHA256:...)`.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", Escaped(&self.principal), self.key_type, self.key)
    }
}

impl AllowedSigners {
    /// Reads a file that only root and this user can have written.
    ///
    /// # Errors
    ///
    /// If it cannot be read, another user may have written it, or a line of it is wrong.
    pub fn read(path: &Path) -> Result<AllowedSigners> {
        let text = read(path).map_err(|source| Error::Io {
            action: "read the allowed signers",
            path: path.to_path_buf(),
            offset: None,
            hint: (source.kind() == io::ErrorKind::PermissionDenied)
                .then(|| "install a copy that only root can write: sudo install -D -m 644 FILE /etc/sealift/allowed_signers".into()),
            source: source.into(),
        })?;
        AllowedSigners::parse(&text, &path.display().to_string())
    }

    /// Parses the text of a file, which messages call `label`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names the first line that is wrong, or if there is no signer.
    pub fn parse(text: &[u8], label: &str) -> Result<AllowedSigners> {
        AllowedSigners::of_lines(text).map_err(|problem| Error::Usage {
            message: format!("{label}: {problem}"),
            hint: Some(
                "a line is: PRINCIPALS OPTIONS KEY-TYPE KEY; ssh-keygen(1) has them under ALLOWED SIGNERS"
                    .into(),
            ),
        })
    }

    fn of_lines(text: &[u8]) -> Result<AllowedSigners, String> {
        let text = String::from_utf8_lossy(text);
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line =
                Line::parse(line).map_err(|reason| format!("line {}: {}", at + 1, Escaped(&reason)))?;
            lines.push(line);
        }
        match lines.is_empty() {
            false => Ok(AllowedSigners(lines)),
            true => Err("it names no signer".into()),
        }
    }

    /// Checks that an allowed signer signed a message for this purpose, at a time: `signer`, or if that is `None`, any
    /// of them.
    ///
    /// # Errors
    ///
    /// Why the signature does not count. Of several lines with its key, the reason of the last one.
    pub fn check(
        &self,
        signature: &Signature,
        namespace: &'static str,
        message: &[u8],
        signer: Option<&str>,
        now: SystemTime,
    ) -> Result<Signer, SignatureProblem> {
        signature.verify(namespace, message)?;
        let key = signature.key();
        let fingerprint = key.fingerprint();
        let mut problem = SignatureProblem::UnknownKey {
            key: fingerprint.clone(),
        };
        for line in &self.0 {
            if line.key != Key::Supported(key.clone()) || line.is_authority {
                continue;
            }
            match line.allows(&fingerprint, namespace, signer, now) {
                Ok(()) => {
                    return Ok(Signer {
                        principal: signer.unwrap_or(&line.principals).to_string(),
                        key_type: key.algorithm(),
                        key: fingerprint,
                    });
                }
                // Of a line for the signer that is asked for, a reason says more.
                Err(SignatureProblem::OtherSigner { .. })
                    if !matches!(problem, SignatureProblem::UnknownKey { .. }) => {}
                Err(reason) => problem = reason,
            }
        }
        Err(problem)
    }
}

impl Line {
    fn allows(
        &self,
        key: &str,
        namespace: &'static str,
        signer: Option<&str>,
        now: SystemTime,
    ) -> Result<(), SignatureProblem> {
        let key = key.to_string();
        if let Some(signer) = signer.filter(|signer| !list_matches(&self.principals, signer)) {
            return Err(SignatureProblem::OtherSigner {
                key,
                principals: self.principals.clone(),
                signer: signer.into(),
            });
        }
        if let Some(namespaces) = &self.namespaces
            && !list_matches(namespaces, namespace)
        {
            return Err(SignatureProblem::NamespaceNotAllowed { key, namespace });
        }
        if let Some(after) = self.valid_after.filter(|after| now < *after) {
            return Err(SignatureProblem::NotYetValid { key, after });
        }
        if let Some(before) = self.valid_before.filter(|before| now > *before) {
            return Err(SignatureProblem::Expired { key, before });
        }
        Ok(())
    }

    /// Parses a line that is not empty and no comment: `PRINCIPALS [OPTIONS] KEY-TYPE KEY [COMMENT]`.
    fn parse(line: &str) -> Result<Line, String> {
        if line.contains(|letter: char| letter.is_control() && letter != '\t') {
            return Err("it has control characters".into());
        }
        let (principals, rest) = principals(line)?;
        let mut parsed = Line {
            principals: principals.into(),
            ..Line::default()
        };
        if rest.is_empty() {
            return Err("the key is missing".into());
        }
        let (word, after) = word(rest);
        let (algorithm, rest) = match is_algorithm(word) {
            true => (word, after),
            false => {
                let (options, rest) = split_options(rest)?;
                parsed.add_options(options)?;
                self::word(rest)
            }
        };
        if algorithm.is_empty() {
            return Err("the key is missing".into());
        }
        if !is_algorithm(algorithm) {
            return Err(format!("{algorithm} is not a type of key"));
        }
        let (base64, _comment) = self::word(rest);
        parsed.key = match PublicKey::of_words(algorithm, base64) {
            Ok(key) => Key::Supported(key),
            Err(KeyError::Unsupported(_)) => Key::Unsupported,
            Err(error) => return Err(error.to_string()),
        };
        Ok(parsed)
    }

    fn add_options(&mut self, mut options: &str) -> Result<(), String> {
        loop {
            let end = options.find(['=', ',']).unwrap_or(options.len());
            let (name, rest) = options.split_at_checked(end).unwrap_or((options, ""));
            let (value, rest) = match rest.strip_prefix('=') {
                None => (None, rest),
                Some(rest) => {
                    let (value, rest) = quoted(rest)?;
                    (Some(value), rest)
                }
            };
            self.add_option(&name.to_ascii_lowercase(), value)?;
            options = match rest.strip_prefix(',') {
                Some(rest) if !rest.is_empty() => rest,
                None if rest.is_empty() => break,
                _ => return Err("an option is expected after a comma, and a comma after an option".into()),
            };
        }
        match (self.valid_after, self.valid_before) {
            (Some(after), Some(before)) if before <= after => {
                Err("valid-before is not after valid-after".into())
            }
            _ => Ok(()),
        }
    }

    fn add_option(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let time = |text: &str| {
            let parsed = local_time::parse(text, local_time::zone);
            parsed.map_err(|reason| format!("{name}=\"{text}\": {reason}"))
        };
        let is_new = match (name, value) {
            ("cert-authority", None) => !std::mem::replace(&mut self.is_authority, true),
            ("namespaces", Some(list)) => self.namespaces.replace(list).is_none(),
            ("valid-after", Some(text)) => self.valid_after.replace(time(&text)?).is_none(),
            ("valid-before", Some(text)) => self.valid_before.replace(time(&text)?).is_none(),
            ("cert-authority", Some(_)) => return Err(format!("{name} has no value")),
            ("namespaces" | "valid-after" | "valid-before", None) => {
                return Err(format!("{name} needs a value"));
            }
            _ => return Err(format!("{name} is neither an option nor a type of key")),
        };
        match is_new {
            true => Ok(()),
            false => Err(format!("{name} is there twice")),
        }
    }
}

/// Reads the file, if no other user can have written it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = match rustix::process::geteuid().is_root() {
        // What root trusts, others may not replace either.
        true => Dir::locate_private(path)?.open_private()?,
        false => dir::open_owned(path, &[0, rustix::process::geteuid().as_raw()])?,
    };
    read_whole(file, MAX_ALLOWED_SIGNERS)
}

/// The principals at the beginning of a line, which may be in quotes, and what follows.
fn principals(line: &str) -> Result<(&str, &str), String> {
    let (principals, rest) = match line.strip_prefix('"') {
        Some(inside) => {
            let (principals, rest) = inside.split_once('"').ok_or("a quote is not closed")?;
            if !rest.starts_with([' ', '\t']) {
                return Err("a space is expected after the principals".into());
            }
            (principals, skip_space(rest))
        }
        None => word(line),
    };
    match principals.is_empty() || principals.contains('"') {
        false => Ok((principals, rest)),
        true => Err("the principals are empty, or have a quote inside".into()),
    }
}

/// The word at the beginning, and what follows.
fn word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, skip_space(rest)),
        None => (text, ""),
    }
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// The options at the beginning, which may have spaces in quotes, and what follows.
fn split_options(text: &str) -> Result<(&str, &str), String> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !is_escaped => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => {
                let (options, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                return Ok((options, skip_space(rest)));
            }
            _ => {}
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    match is_quoted {
        true => Err("a quote is not closed".into()),
        false => Ok((text, "")),
    }
}

/// The text in the quotes at the beginning, and what follows. A backslash makes a quote part of the text.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let inside = text
        .strip_prefix('"')
        .ok_or("the value of an option must be in quotes")?;
    let mut value = String::new();
    let mut letters = inside.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, inside.get(at + 1..).unwrap_or_default())),
            '\\' if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                value.push('"');
                letters.next();
            }
            other => value.push(other),
        }
    }
    Err("a quote is not closed".into())
}

/// Whether a word is a type of key, supported or not.
fn is_algorithm(word: &str) -> bool {
    SUPPORTED.contains(&word)
        || UNSUPPORTED.contains(&word)
        || (word.contains("-cert-v") && word.ends_with("@openssh.com"))
}
