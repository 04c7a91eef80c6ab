//! Who may read what a server has.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::net::pem::unusable;
use crate::oci::Digest;

/// Accepted headers that are remembered. A password of bcrypt takes long to verify, and clients give it with each
/// request.
const REMEMBERED: usize = 1024;
/// Passwords that are verified at a time.
const AT_ONCE: usize = 2;
/// Bytes of a file of htpasswd that are too many.
const MAX_FILE: u64 = 16 << 20;
/// Most work that a password may take: 2 to the power of this, which is about two seconds.
const MAX_COST: u32 = 15;

/// Who may read what a server has.
#[derive(Clone)]
pub enum Access {
    /// Everyone who can reach it.
    Everyone,
    /// Those who have a password that was made for it.
    Login(Login),
    /// The users of a file.
    Users(Arc<Users>),
}

impl Access {
    /// Whether a request with this `Authorization` header is answered.
    pub(super) async fn admits(&self, header: Option<&[u8]>) -> bool {
        match self {
            Access::Everyone => true,
            Access::Login(login) => login.admits(header),
            Access::Users(users) => users.admit(header).await,
        }
    }

    /// Whether a password is needed.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self, Access::Everyone)
    }
}

/// A name and a password that clients must give, so that other users of this host read nothing.
#[derive(Clone)]
pub struct Login(String);

impl Login {
    /// A random password.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn random() -> io::Result<Login> {
        let mut bytes = [0_u8; 24];
        let mut left = bytes.as_mut_slice();
        while !left.is_empty() {
            let count = rustix::rand::getrandom(&mut *left, rustix::rand::GetRandomFlags::empty())?;
            left = left.get_mut(count..).unwrap_or_default();
        }
        let password = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        Ok(Login(STANDARD.encode(format!("sealift:{password}"))))
    }

    /// Name and password as basic auth and auth files have them: in base64, with a colon between them.
    pub fn encoded(&self) -> &str {
        &self.0
    }

    /// Whether a header has them. The time that it takes does not depend on where they differ.
    fn admits(&self, header: Option<&[u8]>) -> bool {
        let given = header.and_then(|given| given.strip_prefix(b"Basic "));
        let (given, own) = (given.unwrap_or_default(), self.0.as_bytes());
        given.len() == own.len()
            && given
                .iter()
                .zip(own)
                .fold(0, |differing, (one, other)| differing | (one ^ other))
                == 0
    }
}

/// The users of a file of htpasswd, with passwords of bcrypt.
pub struct Users {
    /// Hashes of passwords, by name.
    hashes: HashMap<String, String>,
    /// One of them that takes longest to compare. It is compared for a name that is not in the file.
    slowest: String,
    /// Hashes of the headers that were accepted.
    accepted: Mutex<HashSet<Digest>>,
    verifying: Semaphore,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has no user or a line that is not one with a password of bcrypt.
    pub fn read(path: &Path) -> Result<Users> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        let length = read.map_err(Error::io("read", path))?;
        if u64::try_from(length).is_ok_and(|length| length == MAX_FILE) {
            return Err(unusable(path, "it is larger than 16 MiB"));
        }
        let mut hashes = HashMap::new();
        let mut slowest: Option<(u32, String)> = None;
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: &str| {
                let error = unusable(path, &format!("line {}: {reason}", at + 1));
                error.and_hint("make it with `htpasswd -B`")
            };
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong("no user and password"))?;
            let parts = bcrypt::HashParts::from_str(hash).map_err(|_| wrong("not a password of bcrypt"))?;
            if parts.get_cost() > MAX_COST {
                return Err(wrong("a cost of bcrypt over 15"));
            }
            if hashes.insert(name.to_string(), hash.to_string()).is_some() {
                return Err(wrong("the same user again"));
            }
            if slowest.as_ref().is_none_or(|(cost, _)| parts.get_cost() > *cost) {
                slowest = Some((parts.get_cost(), hash.to_string()));
            }
        }
        let Some((_, slowest)) = slowest else {
            return Err(unusable(path, "it has no users").and_hint("make it with `htpasswd -B`"));
        };
        Ok(Users {
            hashes,
            slowest,
            accepted: Mutex::default(),
            verifying: Semaphore::new(AT_ONCE),
        })
    }

    async fn admit(self: &Arc<Users>, header: Option<&[u8]>) -> bool {
        let Some(header) = header else {
            return false;
        };
        let key = Digest::sha256(header);
        if self.accepted().contains(&key) {
            return true;
        }
        let Some((name, password)) = basic(header) else {
            return false;
        };
        // The semaphore is never closed.
        let _permit = self.verifying.acquire().await;
        let users = Arc::clone(self);
        let verify = tokio::task::spawn_blocking(move || users.is_right(&name, &password));
        let is_right = verify.await.unwrap_or(false);
        if is_right {
            let mut accepted = self.accepted();
            if accepted.len() >= REMEMBERED {
                accepted.clear();
            }
            accepted.insert(key);
        }
        is_right
    }

    /// Takes as long for an unknown name as for a user with the highest cost, so that names cannot be guessed by time
    /// where all passwords have one cost.
    fn is_right(&self, name: &str, password: &[u8]) -> bool {
        let (hash, is_known) = self.compared(name);
        let is_equal = bcrypt::verify(password, hash).unwrap_or(false);
        is_equal && is_known
    }

    /// The hash that a password is compared with, and whether it is this user's.
    fn compared(&self, name: &str) -> (&str, bool) {
        match self.hashes.get(name) {
            Some(hash) => (hash, true),
            None => (&self.slowest, false),
        }
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name and the password of a header of basic auth.
fn basic(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, given) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(given.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    Some((
        String::from_utf8(name.to_vec()).ok()?,
        password.get(1..)?.to_vec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_not_read_whole() {
        let error = Users::read(Path::new("/dev/zero")).err().unwrap();
        assert!(error.to_string().contains("larger than 16 MiB"), "{error}");
    }

    #[test]
    fn an_unknown_name_takes_as_long_as_the_highest_cost() {
        let hash = |cost| bcrypt::hash("secret", cost).unwrap();
        let (quick, slow) = (hash(4), hash(6));
        for lines in [
            format!("anna:{quick}\notto:{slow}\n"),
            format!("otto:{slow}\nanna:{quick}\n"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("users");
            std::fs::write(&path, lines).unwrap();
            let users = Users::read(&path).unwrap();
            assert_eq!(users.compared("nobody"), (&*slow, false));
            assert_eq!(users.compared("anna"), (&*quick, true));
            assert!(users.is_right("anna", b"secret"));
            assert!(!users.is_right("nobody", b"secret"));
        }
    }
}
