//! Signatures of archives: files beside them, by SSH keys.
//!
//! What is signed is the line that pins an archive, `archive sha256:<digest of index.json>`, with its line end. Anybody
//! can make and check such a signature with `ssh-keygen -Y` and the namespace [`NAMESPACE`].

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Access, AtFlags, FileType, accessat};

use super::writer::locate;
use super::{Layout, segments};
use crate::dir::{Dir, Located, read_whole};
use crate::error::{Error, Place, Problem, Result, SignatureProblem};
use crate::interrupt::{Guard, Interrupt};
use crate::oci::Digest;
use crate::trust::ssh::{AllowedSigners, MAX_SIGNATURE, Signature, Signer, SigningKey};

/// The namespace of signatures of archives, which keeps those of other files apart.
pub const NAMESPACE: &str = "sealift-archive";
/// The mode of a new file of a signature.
const MODE: u32 = 0o644;

/// The line that is signed.
pub fn statement(digest: &Digest) -> String {
    format!("archive {digest}\n")
}

/// The file that the signature of an archive is in, unless another is named: `images.tar.sig` for `images.tar` and for
/// its parts, `images.sig` for the folder `images`. `None` for standard input, and for a folder without a name.
pub fn file_of(archive: &Path) -> Option<PathBuf> {
    let base = segments::base(archive).unwrap_or_else(|| archive.to_path_buf());
    let mut name = base.file_name()?.to_owned();
    name.push(".sig");
    (archive != Path::new("-")).then(|| base.with_file_name(name))
}

/// A signature that an archive must have.
#[derive(Debug, Clone)]
pub struct Required {
    /// Whose signatures count.
    pub signers: Arc<AllowedSigners>,
    /// Whose it must be; `None` for any of them.
    pub signer: Option<String>,
    /// The file that has it.
    pub file: PathBuf,
}

/// A good signature of an archive.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Signed {
    /// The file that has it.
    pub file: PathBuf,
    /// Whose it is.
    #[serde(flatten)]
    pub signer: Signer,
}

impl Required {
    /// Checks that an archive has it, now.
    ///
    /// # Errors
    ///
    /// [`Problem::Signature`] if it is not there or does not count, [`Error::Io`] if it cannot be read.
    pub fn check(&self, layout: &dyn Layout) -> Result<Signed> {
        let refused = |problem| {
            let file = self.file.display().to_string();
            Error::refused(
                Place::default().within(layout.label()),
                Problem::Signature { file, problem },
            )
        };
        let signature = match read(&self.file) {
            Ok(text) => text.and_then(|text| Signature::parse(&text)).map_err(refused)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(SignatureProblem::Absent));
            }
            Err(error) => return Err(Error::io("read the signature", &self.file)(error)),
        };
        let signer = self.signers.check(
            &signature,
            NAMESPACE,
            statement(&layout.digest()).as_bytes(),
            self.signer.as_deref(),
            SystemTime::now(),
        );
        Ok(Signed {
            file: self.file.clone(),
            signer: signer.map_err(refused)?,
        })
    }
}

/// Whether a file is a signature of an archive, but not of the one with this digest.
pub fn is_of_another(file: &Path, digest: &Digest) -> bool {
    let Ok(Ok(text)) = read(file) else {
        return false;
    };
    let signature = Signature::parse(&text);
    let checked = signature.and_then(|signature| signature.verify(NAMESPACE, statement(digest).as_bytes()));
    matches!(checked, Err(SignatureProblem::Differs { .. }))
}

/// The text of a signature, unless that is too long.
fn read(file: &Path) -> io::Result<Result<Vec<u8>, SignatureProblem>> {
    let located = Dir::locate(file)?;
    let opened = located.dir.open_file(&located.name)?;
    let size = opened.metadata()?.len();
    if size > MAX_SIGNATURE {
        return Ok(Err(SignatureProblem::Malformed {
            reason: format!("it has {size} bytes, over the limit of {MAX_SIGNATURE}"),
        }));
    }
    read_whole(opened, MAX_SIGNATURE).map(Ok)
}

/// How something is signed: by which key, and into which file.
#[derive(Debug, Clone)]
pub struct Signing {
    key: Arc<SigningKey>,
    file: PathBuf,
}

/// A signature that was written.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Written {
    /// Its file.
    pub file: PathBuf,
    /// The algorithm of the key, as in `ssh-ed25519`.
    pub key_type: &'static str,
    /// The fingerprint of the key, as `ssh-keygen -l` prints it.
    pub key: String,
}

impl Signing {
    /// Signs with a key into a file, which is replaced.
    ///
    /// # Errors
    ///
    /// If the file could not be written: its folder does not exist or is not writable, or it is not a regular file.
    pub fn new(key: Arc<SigningKey>, file: PathBuf) -> Result<Signing> {
        let located = locate(&file)?;
        let kind = located.kind().map_err(Error::io("look at", &file))?;
        if !matches!(kind, None | Some(FileType::RegularFile)) {
            return Err(Error::Usage {
                message: format!("{} is not a regular file", file.display()),
                hint: Some("name another file for the signature".into()),
            });
        }
        let access = Access::WRITE_OK.union(Access::EXEC_OK);
        accessat(located.dir.as_file(), ".", access, AtFlags::EACCESS)
            .map_err(|errno| Error::io("write to the folder", located.dir.path())(errno.into()))?;
        Ok(Signing { key, file })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Signs a message for a purpose. The signature is on disk, but has its name only after [`Draft::publish`].
    ///
    /// # Errors
    ///
    /// If the key does not sign, or the file cannot be written.
    pub fn draft(&self, namespace: &str, message: &[u8], interrupt: &Interrupt) -> Result<Draft> {
        let text = self.key.sign(namespace, message)?.armored();
        let located = locate(&self.file)?;
        let written = Temporary::write(located, text.as_bytes());
        let temporary = Arc::new(Mutex::new(Some(written.map_err(Error::io("write", &self.file))?)));
        let guard = interrupt.on_stop({
            let temporary = Arc::clone(&temporary);
            move || drop(temporary.lock().unwrap_or_else(PoisonError::into_inner).take())
        });
        Ok(Draft {
            temporary,
            written: Written {
                file: self.file.clone(),
                key_type: self.key.public().algorithm(),
                key: self.key.public().fingerprint(),
            },
            _guard: guard,
        })
    }
}

/// A signature that has no name yet. Nothing is left of one that is dropped.
pub struct Draft {
    temporary: Arc<Mutex<Option<Temporary>>>,
    written: Written,
    _guard: Guard,
}

impl Draft {
    /// Gives it its name, in place of an older one.
    ///
    /// # Errors
    ///
    /// If it cannot be renamed.
    pub fn publish(self) -> Result<Written> {
        let temporary = self
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let temporary = temporary.ok_or(Error::Interrupted)?;
        temporary
            .publish()
            .map_err(Error::io("write", &self.written.file))?;
        Ok(self.written.clone())
    }
}

/// A file beside the one that it will be.
struct Temporary {
    target: Located,
    name: OsString,
}

impl Temporary {
    fn write(target: Located, bytes: &[u8]) -> io::Result<Temporary> {
        let name = target.dir.temporary_name(&target.name)?;
        let mut file = target.dir.create_file(&name, MODE)?;
        let temporary = Temporary { target, name };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn publish(&self) -> io::Result<()> {
        let dir = &self.target.dir;
        dir.rename(&self.name, dir, &self.target.name)?;
        dir.sync()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = self.target.dir.remove_file(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_beside_its_archive() {
        for (archive, expected) in [
            ("images.tar", Some("images.tar.sig")),
            ("/a/images.tar.001", Some("/a/images.tar.sig")),
            ("a/images.tar.12", Some("a/images.tar.12.sig")),
            ("a/images/", Some("a/images.sig")),
            ("-", None),
            (".", None),
            ("..", None),
            ("/", None),
        ] {
            let expected = expected.map(PathBuf::from);
            assert_eq!(file_of(Path::new(archive)), expected, "{archive}");
        }
    }

    #[test]
    fn what_is_signed_is_the_line_that_pins_an_archive() {
        let digest = Digest::sha256(b"");
        assert_eq!(statement(&digest), format!("archive sha256:{}\n", digest.hex()));
    }
}
