//! Refuses to write to what is read.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::publish;
use crate::archive::segments;
use crate::error::{Error, Result};

/// The files and folders that images are read from, each with its path.
#[derive(Debug, Default)]
pub struct Inputs(HashMap<(u64, u64), PathBuf>);

impl Inputs {
    /// The files of these archives, and these folders.
    pub fn of_paths(paths: impl IntoIterator<Item = PathBuf>) -> Inputs {
        let mut inputs = Inputs::default();
        for path in paths {
            for file in segments::files(&path) {
                inputs.add_path(&file);
            }
        }
        inputs
    }

    /// Adds a file or folder, if there is one at this path.
    pub fn add_path(&mut self, path: &Path) {
        if let Ok(meta) = path.metadata() {
            self.add(&meta, path);
        }
    }

    /// Adds a file or folder that was at this path.
    pub fn add(&mut self, meta: &Metadata, path: &Path) {
        self.0.entry(id(meta)).or_insert_with(|| path.to_path_buf());
    }

    /// Refuses to write to one of these files and folders, or to anything inside one of these folders.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names the target.
    pub fn refuse(&self, targets: &[PathBuf]) -> Result<()> {
        let refuse = |message: String, hint: &'static str| {
            Err(Error::Usage {
                message,
                hint: Some(hint.into()),
            })
        };
        for target in targets {
            let shown = target.display();
            if target
                .metadata()
                .is_ok_and(|meta| self.0.contains_key(&id(&meta)))
            {
                return refuse(format!("{shown} is both read and written"), "name another target");
            }
            if let Some(folder) = self.folder_of(target) {
                return refuse(
                    format!("{shown} is inside {}, which is read", folder.display()),
                    "name a target outside of it",
                );
            }
        }
        Ok(())
    }

    /// As [`Inputs::refuse`], for every file that an archive at `path` may replace.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names the file.
    pub fn refuse_archive(&self, path: &Path) -> Result<()> {
        self.refuse(&segments::files(path))
    }

    /// The folder among these that a target is in.
    fn folder_of(&self, target: &Path) -> Option<&Path> {
        let resolved = place(target)?;
        let mut folders = resolved.ancestors().skip(1);
        folders.find_map(|folder| self.0.get(&id(&folder.metadata().ok()?)).map(PathBuf::as_path))
    }
}

/// The real path of a file, which need not exist: without links and relative parts.
pub fn place(target: &Path) -> Option<PathBuf> {
    target.canonicalize().ok().or_else(|| {
        let located = publish::locate(target).ok()?;
        let path = std::path::absolute(located.dir.join(&located.name)).ok()?;
        Some(path.parent()?.canonicalize().ok()?.join(located.name))
    })
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}
