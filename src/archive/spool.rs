//! Archives without random access: standard input and compressed files. The data of their entries is written,
//! decompressed, to a temporary file without a name, which disappears with the process.
//!
//! The tar's headers limit what is written: an entry's data is decompressed only after its header was found
//! valid and its size was found to fit. Nothing else is kept.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format;
use super::reader::foreign;
use super::tar_index::Input;
use super::writer::file_system;
use crate::blob::Extent;
use crate::blob::decompress::compression_of;
use crate::blob::decompress::{DEFAULT_LIMIT, Decompressor};
use crate::error::{Error, Hint, Place, Problem, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Compression, MAX_METADATA};

/// Bytes that are decompressed at once.
const PIECE: usize = 1 << 18;

/// How archives are opened.
#[derive(Clone)]
pub struct Options {
    /// Folder for the data of a spooled archive. It needs room for all of it, decompressed.
    pub tmpdir: PathBuf,
    /// Most bytes of one entry of a spooled archive, and of one decompressed layer of an archive of
    /// `docker save`.
    pub max_layer_size: u64,
    /// Stops spooling, and reading a layer for its size or digest.
    pub interrupt: Interrupt,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tmpdir: std::env::temp_dir(),
            max_layer_size: DEFAULT_LIMIT,
            interrupt: Interrupt::default(),
        }
    }
}

/// Number of first bytes that identify a stream.
const MAGIC: u64 = 6;

/// A stream whose first bytes were inspected.
type Peeked<R> = io::Chain<Cursor<Vec<u8>>, R>;

fn peek<R: Read>(mut input: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut magic = Vec::new();
    input.by_ref().take(MAGIC).read_to_end(&mut magic)?;
    Ok((magic.clone(), Cursor::new(magic).chain(input)))
}

/// A stream whose entries' data is kept while it is read.
pub(super) struct Spool<R> {
    label: String,
    input: Peeked<Decompressor<Peeked<R>>>,
    expands: bool,
    options: Options,
    /// Created when there is something to keep.
    file: Option<Kept>,
}

/// The temporary file.
struct Kept {
    file: Arc<File>,
    path: Arc<PathBuf>,
    length: u64,
}

impl<R: BufRead> Spool<R> {
    /// Starts with a stream, which is decompressed if its first bytes say so.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is another format; [`Error::Io`] if it cannot be read.
    pub fn new(label: &str, input: R, options: &Options) -> Result<Spool<R>> {
        let unreadable = |error| Error::from_reader(error, Error::io("read", Path::new(label)));
        let (magic, input) = peek(input).map_err(unreadable)?;
        let compression = compression_of(&magic);
        let place = Place::default().within(label);
        if let Some(problem) = foreign(&magic) {
            return Err(Error::refused(place.at(0), problem));
        }
        // Its tar limits how far it expands.
        let input = Decompressor::new(compression, input, u64::MAX, place.clone())?;
        let (start, input) = peek(input).map_err(unreadable)?;
        if let Some(problem) = foreign(&start) {
            return Err(Error::refused(place.at(0), problem));
        }
        Ok(Spool {
            label: label.into(),
            input,
            expands: compression != Compression::None,
            options: options.clone(),
            file: None,
        })
    }

    /// Reads some of the next bytes; none only at the end.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.options.interrupt.check()?;
        let unreadable = |error| Error::from_reader(error, Error::io("read", &self.label));
        self.input.read(buffer).map_err(unreadable)
    }

    /// Checks that an entry is not larger than allowed.
    fn check_size(&self, size: u64, place: &Place) -> Result<()> {
        let limit = match place.entry.as_deref() {
            Some(format::OCI_LAYOUT | format::INDEX | format::MANIFEST) => MAX_METADATA,
            _ => self.options.max_layer_size,
        };
        if size > limit {
            let problem = match limit {
                MAX_METADATA => Problem::TooLarge { limit, found: size },
                _ => Problem::Expands { limit },
            };
            return Err(Error::refused(place.clone(), problem));
        }
        Ok(())
    }

    /// Checks that there is room for an entry.
    fn check_room(&self, size: u64, place: &Place, file: &File) -> Result<()> {
        let free = file_system::free(file).map_err(|errno| full(&self.options.tmpdir, errno.into()))?;
        if size > free {
            let said = format!("{place} needs {size} bytes, {free} are free");
            let error = io::Error::new(io::ErrorKind::StorageFull, said);
            return Err(full(&self.options.tmpdir, error));
        }
        Ok(())
    }

    fn file(&mut self) -> Result<Kept> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        let tmpdir = &self.options.tmpdir;
        let file = tempfile::tempfile_in(tmpdir).map_err(|error| full(tmpdir, error))?;
        Ok(Kept {
            file: Arc::new(file),
            path: Arc::new(self.label.clone().into()),
            length: 0,
        })
    }
}

impl<R: BufRead> Input for Spool<R> {
    fn label(&self) -> &str {
        &self.label
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.step(rest)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn keep(&mut self, size: u64, place: &Place) -> Result<Vec<Extent>> {
        if size == 0 {
            return Ok(Vec::new());
        }
        self.check_size(size, place)?;
        let mut kept = self.file()?;
        self.check_room(size, place, &kept.file)?;
        let begin = kept.length;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let count = self.step(buffer.get_mut(..most).unwrap_or_default())?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                break;
            };
            let written = (&*kept.file).write_all(piece);
            written.map_err(|error| full(&self.options.tmpdir, error))?;
            left -= u64::try_from(count).unwrap_or(left);
        }
        let length = size - left;
        kept.length = begin.saturating_add(length);
        let extent = Extent {
            file: Arc::clone(&kept.file),
            path: Arc::clone(&kept.path),
            offset: begin,
            length,
        };
        self.file = Some(kept);
        Ok(vec![extent])
    }

    fn expands(&self) -> bool {
        self.expands
    }
}

fn full(tmpdir: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "write",
        path: tmpdir.to_path_buf(),
        offset: None,
        source: source.into(),
        hint: Some(Hint::from("the archive is copied there first").and(Remedy::OtherTemporaryFolder)),
    }
}
