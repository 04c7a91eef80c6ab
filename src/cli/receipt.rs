//! The receipt of a load: what was loaded from which archive, what the engine shows, and how the load ended.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealift::load::Outcome as Loading;
use sealift::{Error, Result};
use serde_json::{Value, json};

use super::archive::Accepted;
use super::documents::TargetsDocument;
use super::output::json_bytes;
use super::report::Run;
use super::sign::ReceiptSigner;
use super::{ending, files};

/// A receipt that is being written. Clones share it.
#[derive(Clone)]
pub struct Receipt {
    path: PathBuf,
    signer: Option<ReceiptSigner>,
    state: Arc<Mutex<State>>,
}

struct State {
    run: Run,
    archives: Vec<Value>,
    targets: Value,
}

/// Parses the name of a receipt's file.
pub fn parse(text: &str) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("a receipt is a file; --json prints the result".into());
    }
    let path = PathBuf::from(text);
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm" | "md" | "markdown") => Err("a receipt is JSON: FILE.json".into()),
        _ => Ok(path),
    }
}

impl Receipt {
    /// Writes the receipt of a load that is under way, so that none of an earlier load is left.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, is one of those that are read, or is part of the folder or archive that is loaded
    /// into.
    pub fn begin(
        path: &Path,
        read: &[PathBuf],
        target: Option<&Path>,
        signer: Option<ReceiptSigner>,
    ) -> Result<Receipt> {
        ending::check(path, read)?;
        if let Some(target) = target {
            ending::check_target(path, target)?;
        }
        let receipt = Receipt {
            path: path.to_path_buf(),
            signer,
            state: Arc::new(Mutex::new(State {
                run: Run::begin(),
                archives: Vec::new(),
                targets: json!([]),
            })),
        };
        receipt.write(None, None)?;
        Ok(receipt)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an archive that was opened, of which every byte is verified, or only digests if `quick`.
    pub fn archive(&self, label: &str, archive: &Accepted, is_expected: bool, quick: bool) {
        let digest = archive.layout.digest();
        let signed = archive.signed.as_ref();
        let mut archive =
            json!({ "archive": label, "digest": digest, "expected": is_expected, "quick": quick });
        if let Some(signed) = signed {
            archive["signature"] = json!(signed);
        }
        self.state().archives.push(archive);
    }

    /// Adds what became of the load into each target.
    pub fn outcomes(&self, outcomes: &[(&'static str, Result<Loading>)]) {
        let document = serde_json::to_value(TargetsDocument::from(outcomes)).unwrap_or_default();
        self.state().targets = document["targets"].clone();
    }

    /// Writes the receipt of a load that has ended, with its exit code and the error that ended it, and signs it. After a
    /// signal nobody is asked to confirm a signature: there is none then.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn end(&self, exit: u8, error: Option<Value>, is_interrupted: bool) -> Result<()> {
        let bytes = self.write(Some(exit), error)?;
        match self
            .signer
            .as_ref()
            .filter(|signer| !is_interrupted || !signer.may_ask())
        {
            Some(signer) => signer.sign(&bytes),
            None => Ok(()),
        }
    }

    /// Writes the receipt, as a whole, and returns its bytes.
    fn write(&self, exit: Option<u8>, error: Option<Value>) -> Result<Vec<u8>> {
        let mut state = self.state();
        if exit.is_some() {
            state.run.end();
        }
        let mut document = json!({
            "schema": 1,
            "exit": exit,
            "run": state.run,
            "archives": state.archives,
            "targets": state.targets,
        });
        if let Some(error) = error {
            document["error"] = error;
        }
        let bytes = json_bytes(&document).map_err(Error::io("write", &self.path))?;
        match exit {
            Some(_) => files::write(&self.path, &bytes),
            None => files::write_draft(&self.path, &bytes),
        }?;
        Ok(bytes)
    }
}
