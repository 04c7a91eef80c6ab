//! The tar of a layer of a rootless podman.
//!
//! Most of its files belong to its user. Some belong to the user's subordinate ids, or deny reading even to their owner:
//! podman reads them in a user namespace, in which it is root, and which `podman unshare` enters. So a layer is read
//! here up to the first file that denies it, and from there on by another process, in the namespace, which writes the
//! layer's tar into a pipe.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use super::Options;
use super::storage::LayerPlace;
use crate::dir::Dir;
use crate::error::{Error, Hint, Result};
use crate::escape::Escaped;
use crate::store::layer::{self, LayerTar};
use crate::store::rooted::Rooted;

/// Most bytes of a process's standard error that are kept.
const MAX_STDERR: u64 = 4 << 10;
/// Bytes that are written at once.
const PIECE: usize = 256 << 10;

/// How a process enters the namespace of a rootless podman.
#[derive(Debug, Clone)]
pub(super) struct Unshared {
    podman: PathBuf,
    engine: &'static str,
    /// The program that calls [`write_layer`], with the words before its arguments; `None` for root, who needs none.
    reader: Option<Vec<std::ffi::OsString>>,
}

impl Unshared {
    pub fn new(options: &Options, reader: Option<PathBuf>) -> Unshared {
        let is_root = rustix::process::geteuid().is_root();
        Unshared {
            podman: options.program.clone(),
            engine: options.engine,
            reader: reader
                .filter(|_| !is_root)
                .map(|program| vec![program.into(), COMMAND.into()]),
        }
    }

    /// Starts to read a layer in the namespace.
    fn start(&self, folder: &Path, tar_split: &Path, limit: u64) -> Result<Piped> {
        let reader = self.reader.iter().flatten();
        let mut command = Command::new(&self.podman);
        command
            .arg("unshare")
            .args(reader)
            .arg(limit.to_string())
            .args([folder, tar_split])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |error: io::Error| self.error(folder, &error.to_string());
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take();
        let stderr = child.stderr.take();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(MAX_STDERR).read_to_end(&mut text);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Piped {
            child,
            output,
            stderr: Some(stderr),
            unshared: self.clone(),
            folder: folder.to_path_buf(),
        })
    }

    fn error(&self, folder: &Path, problem: &str) -> Error {
        Error::Engine {
            engine: self.engine.into(),
            action: format!("read {} in the user namespace of podman", folder.display()),
            problem: Escaped(problem).to_string(),
            hint: Some(Hint::from(
                "`podman unshare true` shows whether podman can make that namespace",
            )),
        }
    }
}

/// The hidden command that calls [`write_layer`].
pub const COMMAND: &str = "read-layer";

/// The tar of a layer.
pub(super) struct Layer {
    from: From,
    /// Bytes that were read.
    done: u64,
    folder: PathBuf,
    tar_split: PathBuf,
    limit: u64,
    unshared: Unshared,
}

enum From {
    Files(Box<LayerTar>),
    Namespace(Piped),
}

impl Layer {
    /// Opens a layer. Refuses more than `limit` uncompressed bytes.
    pub fn open(root: &Dir, place: &LayerPlace, limit: u64, unshared: &Unshared) -> Result<Layer> {
        let (folder, tar_split) = (root.join(&place.folder), root.join(&place.tar_split));
        let from = match open(root, place, limit) {
            Err(error) if is_denied(&error) && unshared.reader.is_some() => {
                From::Namespace(unshared.start(&folder, &tar_split, limit)?)
            }
            opened => From::Files(Box::new(opened?)),
        };
        Ok(Layer {
            from,
            done: 0,
            folder,
            tar_split,
            limit,
            unshared: unshared.clone(),
        })
    }

    /// Goes on in the namespace, where the files ended.
    fn switch(&mut self) -> Result<()> {
        let mut piped = self.unshared.start(&self.folder, &self.tar_split, self.limit)?;
        let skipped = io::copy(&mut (&mut piped).take(self.done), &mut io::sink());
        let skipped = skipped.map_err(|error| Error::from_reader(error, Error::io("read", &self.folder)))?;
        if skipped != self.done {
            return Err(self.unshared.error(&self.folder, "it is shorter there"));
        }
        self.from = From::Namespace(piped);
        Ok(())
    }
}

impl Read for Layer {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.from {
                From::Namespace(piped) => piped.read(target)?,
                From::Files(tar) => match tar.next_bytes(target) {
                    Ok(count) => count,
                    Err(error) if is_denied(&error) && self.unshared.reader.is_some() => {
                        self.switch().map_err(io::Error::other)?;
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                },
            };
            self.done = self.done.saturating_add(u64::try_from(count).unwrap_or_default());
            return Ok(count);
        }
    }
}

fn open(root: &Dir, place: &LayerPlace, limit: u64) -> Result<LayerTar> {
    let (folder, tar_split) = place.open(root)?;
    let entries = layer::entries(tar_split, &root.join(&place.tar_split))?;
    Ok(LayerTar::new(entries, Rooted::new(folder), limit))
}

fn is_denied(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// What the process in the namespace writes.
struct Piped {
    child: Child,
    output: Option<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    unshared: Unshared,
    folder: PathBuf,
}

impl Piped {
    /// Waits for the end of the process, whose output has ended.
    fn end(&mut self) -> io::Result<()> {
        self.output = None;
        let status = self.child.wait()?;
        let stderr = self
            .stderr
            .take()
            .and_then(|stderr| stderr.join().ok())
            .unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let problem = lines.next_back().unwrap_or("it failed without output");
        let problem = problem.trim_start_matches("error: ");
        Err(io::Error::other(self.unshared.error(&self.folder, problem)))
    }
}

impl Read for Piped {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else {
            return Ok(0);
        };
        match output.read(target)? {
            0 if !target.is_empty() => self.end().map(|()| 0),
            count => Ok(count),
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may be in the middle of a layer: its next write fails then.
        self.output = None;
        let _ = self.child.wait();
    }
}

/// Writes the tar of a layer: the work of the process in the namespace.
///
/// # Errors
///
/// If the layer cannot be read, or its tar not be written.
pub fn write_layer(folder: &Path, tar_split: &Path, limit: u64, output: &mut dyn Write) -> Result<()> {
    let files = Dir::open(folder).map_err(Error::io("open", folder))?;
    let Some(above) = tar_split.parent() else {
        return Err(Error::io("open", tar_split)(io::ErrorKind::InvalidInput.into()));
    };
    let opened =
        Dir::open(above).and_then(|above| above.open_file(tar_split.file_name().unwrap_or_default()));
    let entries = layer::entries(opened.map_err(Error::io("open", tar_split))?, tar_split)?;
    let mut tar = LayerTar::new(entries, Rooted::new(files), limit);
    let mut piece = vec![0; PIECE];
    loop {
        let count = tar.next_bytes(&mut piece)?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return output.flush().map_err(Error::io("write", "the layer"));
        };
        output.write_all(bytes).map_err(Error::io("write", "the layer"))?;
    }
}
