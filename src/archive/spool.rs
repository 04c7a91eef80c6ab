//! Archives that cannot be read at random: standard input, and files that someone compressed. They are
//! written, decompressed, to a temporary file without a name, which is gone when the process is.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use crate::blob::decompress::compression_of;
use crate::blob::decompress::{DEFAULT_LIMIT, Decompressor};
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;

/// How archives are opened.
#[derive(Clone)]
pub struct Options {
    /// Where a spooled archive goes: it needs room for the whole of it, decompressed.
    pub tmpdir: PathBuf,
    /// Most bytes that a compressed archive may decompress to.
    pub max_size: u64,
    /// Most bytes that one layer of an archive of `docker save` may decompress to.
    pub max_layer_size: u64,
    /// Stops spooling, and reading through a layer to know its size or digest.
    pub interrupt: Interrupt,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tmpdir: std::env::temp_dir(),
            max_size: 16 * DEFAULT_LIMIT,
            max_layer_size: DEFAULT_LIMIT,
            interrupt: Interrupt::default(),
        }
    }
}

/// Copies `input`, decompressed if its first bytes say so, into a temporary file. `check` sees the first block
/// of it, before the rest is let in: what is no archive must not fill a disk.
///
/// # Errors
///
/// [`Error::Io`] if the temporary file cannot be written, as when the disk is full, or the input not be
/// read; [`Error::Refused`] if it does not decompress, or to more than the limit.
pub(super) fn spool(
    label: &str,
    mut input: impl BufRead,
    options: &Options,
    check: impl FnOnce(&[u8]) -> Result<(), Problem>,
) -> Result<File> {
    let unreadable = |error| Error::from_reader(error, Error::io("read", Path::new(label)));
    let compression = compression_of(input.fill_buf().map_err(unreadable)?);
    let place = Place::default().within(label);
    let mut input = Decompressor::new(compression, input, options.max_size, place.clone())?;
    let mut first = Vec::new();
    (&mut input)
        .take(512)
        .read_to_end(&mut first)
        .map_err(unreadable)?;
    check(&first).map_err(|problem| Error::refused(place.at(0), problem))?;
    let full = |source: std::io::Error| Error::Io {
        action: "write",
        path: options.tmpdir.clone(),
        offset: None,
        source: source.into(),
        hint: Some("the archive is copied there first; choose another folder with --tmpdir".into()),
    };
    let mut file = tempfile::tempfile_in(&options.tmpdir).map_err(full)?;
    file.write_all(&first).map_err(full)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        options.interrupt.check()?;
        let count = input.read(&mut buffer).map_err(unreadable)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok(file);
        };
        file.write_all(piece).map_err(full)?;
    }
}
