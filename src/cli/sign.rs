//! The options for signing, and for the signatures that archives must have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sealift::archive::signature::{self, Required, Signed, Signing};
use sealift::archive::writer::{self, Inputs};
use sealift::image::names;
use sealift::oci::Digest;
use sealift::trust::ssh::{AllowedSigners, SigningKey};
use sealift::{Error, Result};
use serde::Serialize;

use super::{ending, files};

/// How a new archive is signed.
#[derive(Args)]
pub struct SignArgs {
    /// Sign the archive with an SSH key, into FILE.sig
    ///
    /// KEY is a private key. If it has a passphrase, or if KEY is a public key, ssh-agent signs. `load --allowed-signers` and
    /// `ssh-keygen -Y verify -n sealift-archive` check the signature.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// File of the signature [default: that of the archive, with .sig at its end]
    #[arg(long, value_name = "FILE", requires = "sign")]
    signature: Option<PathBuf>,
}

impl SignArgs {
    /// Opens the key, so that a save that could not be signed does not begin. `archive` is the file to write, if it is
    /// one.
    pub fn signing(&self, archive: Option<&Path>, inputs: &Inputs) -> Result<Option<Signing>> {
        let Some(key) = &self.sign else {
            return Ok(None);
        };
        let named = self.signature.clone();
        let file = named.or_else(|| archive.and_then(signature::file_of));
        let file = file.ok_or_else(|| Error::Usage {
            message: "an archive on standard output has no file that its signature could be beside".into(),
            hint: Some("name a file for it with --signature".into()),
        })?;
        inputs.refuse(std::slice::from_ref(&file))?;
        if let Some(archive) = archive {
            ending::check_target(&file, archive)?;
        }
        Signing::new(Arc::new(open_key(key)?), file).map(Some)
    }

    /// The file of the key, which is read.
    pub fn key(&self) -> Option<&Path> {
        self.sign.as_deref()
    }
}

/// Opens a key, or finds it in the agent that the environment names.
pub fn open_key(key: &Path) -> Result<SigningKey> {
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    SigningKey::open(key, agent.as_deref().map(Path::new))
}

/// The line about a signature that was written.
pub fn written(written: &signature::Written) -> String {
    let signature::Written { file, key_type, key } = written;
    format!("{}: signed by {key_type} {key}", file.display())
}

/// Whose signatures archives must have.
#[derive(Args)]
pub struct SignersArgs {
    /// Accept only archives that one of these signers has signed
    ///
    /// `ssh-keygen -Y verify` reads the same kind of FILE. The signature is in ARCHIVE.sig.
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Accept only this one of the signers
    #[arg(long, value_name = "NAME", requires = "allowed_signers")]
    signer: Option<String>,
    /// File of the signature [default: that of the archive, with .sig at its end]
    ///
    /// With several archives, give it once for each, in the same order.
    #[arg(long, value_name = "FILE", requires = "allowed_signers")]
    signature: Vec<PathBuf>,
}

impl SignersArgs {
    /// Whether signatures are demanded.
    pub fn are_given(&self) -> bool {
        self.allowed_signers.is_some()
    }

    /// The signature that each archive must have, if any; each is given by its files.
    pub fn required(&self, archives: &[Vec<PathBuf>]) -> Result<Vec<Option<Required>>> {
        let Some(path) = &self.allowed_signers else {
            return Ok(vec![None; archives.len()]);
        };
        if !self.signature.is_empty() && self.signature.len() != archives.len() {
            return Err(Error::Usage {
                message: format!(
                    "{}, but {} --signature",
                    names::count(archives.len(), "archive"),
                    self.signature.len()
                ),
                hint: Some("give --signature once for each archive, in the same order".into()),
            });
        }
        let mut named = self.signature.iter().cloned();
        let files = archives.iter().map(|files| {
            let archive = files.first().map_or(Path::new(""), PathBuf::as_path);
            let file = named.next().or_else(|| signature::file_of(archive));
            file.ok_or_else(|| Error::Usage {
                message: match archive == Path::new("-") {
                    true => "standard input has no file that its signature could be beside".into(),
                    false => format!("{} has no name that its signature could have", archive.display()),
                },
                hint: Some("name the file of the signature with --signature".into()),
            })
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let signers = Arc::new(AllowedSigners::read(path)?);
        let required = files.into_iter().map(|file| {
            Some(Required {
                signers: Arc::clone(&signers),
                signer: self.signer.clone(),
                file,
            })
        });
        Ok(required.collect())
    }
}

/// The line about who signed an archive.
pub fn signed_by(label: &str, signed: &Signed) -> String {
    format!("{label}: signed by {}", signed.signer)
}

/// A signed archive in a document.
#[derive(Debug, Clone, Serialize)]
pub struct SignedArchive {
    /// As it was given.
    pub archive: String,
    /// Its digest, which the signature is of.
    pub digest: Digest,
    /// Who signed it.
    #[serde(flatten)]
    pub signed: Signed,
}

/// The namespace of signatures of receipts.
const RECEIPTS: &str = "sealift-receipt";

/// How a receipt is signed: into a file beside it.
#[derive(Clone)]
pub struct ReceiptSigner(Signing);

impl ReceiptSigner {
    /// Opens the key, and removes the signature of an earlier receipt, so that none is left if the load is killed.
    pub fn begin(key: &Path, receipt: &Path, read: &[PathBuf]) -> Result<ReceiptSigner> {
        let target = writer::locate(receipt)?;
        if target.is_special().map_err(Error::io("look at", receipt))? {
            return Err(Error::Usage {
                message: format!(
                    "{} is not a regular file, and cannot be signed",
                    receipt.display()
                ),
                hint: Some("name a file for the receipt".into()),
            });
        }
        let mut file = receipt.as_os_str().to_owned();
        file.push(".sig");
        let file = PathBuf::from(file);
        let mut inputs = Inputs::of_paths(read.iter().cloned());
        inputs.add_path(key);
        inputs.refuse(&[receipt.to_path_buf(), file.clone()])?;
        let signer = ReceiptSigner(Signing::new(Arc::new(open_key(key)?), file.clone())?);
        let located = writer::locate(&file)?;
        match located.dir.remove_file(&located.name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", file)(error))
            }
            _ => Ok(signer),
        }
    }

    /// Signs a receipt as it was written.
    pub fn sign(&self, receipt: &[u8]) -> Result<()> {
        let signature = self.0.key().sign(RECEIPTS, receipt)?;
        files::write(self.0.file(), signature.armored().as_bytes())
    }

    /// Whether an agent signs, which may ask a person to confirm it.
    pub fn may_ask(&self) -> bool {
        self.0.key().is_in_agent()
    }
}
