//! Layers whose blobs containerd has discarded: their tars, from the snapshots that they were unpacked into.
//!
//! containerd writes the tar of a snapshot as its own and BuildKit's layers are written. Docker's classic builder, podman
//! and buildah add the type of a file to its mode, some of them also the names of root, and write the rest alike. A tar is a
//! layer only if it has the diff id; what others have packed in another way cannot be had from a snapshot.

use std::io::{self, Read};

use super::Containerd;
use super::leases::Lease;
use super::snapshots::Snapshotter;
use crate::blob::{Stored, StoredReader};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Hasher};

/// Bytes of a tar's block.
const BLOCK: usize = 512;
/// Bytes that are read at once.
const PIECE: usize = 128 * BLOCK;

/// A layer whose blob containerd does not have.
#[derive(Default)]
pub(super) enum Discarded {
    /// It was not looked for yet.
    #[default]
    Unknown,
    /// Its tar cannot be had.
    Lost,
    /// Its tar.
    Found(Tar),
}

/// How the headers of a tar differ from those that containerd writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    /// Whether modes have the types of files, as `st_mode` of stat(2) has them.
    has_types: bool,
    /// Whether user and group 0 have their name.
    has_names: bool,
}

/// All that are known.
///
/// Source: moby, `pkg/archive/archive.go` (`fillGo18FileTypeBits`); Go, `archive/tar/stat_unix.go` (names).
const DIALECTS: [Dialect; 4] = [
    Dialect {
        has_types: false,
        has_names: false,
    },
    Dialect {
        has_types: true,
        has_names: false,
    },
    Dialect {
        has_types: true,
        has_names: true,
    },
    Dialect {
        has_types: false,
        has_names: true,
    },
];

/// The tar of a layer.
#[derive(Clone)]
pub(super) struct Tar {
    /// What containerd wrote.
    written: Stored,
    dialect: Dialect,
}

impl Tar {
    /// Finds out in which dialect `written` is the tar of a layer; `None` if in none.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of(diff_id: &Digest, written: Stored, interrupt: &Interrupt) -> Result<Option<Tar>> {
        for dialect in DIALECTS {
            let tar = Tar {
                written: written.clone(),
                dialect,
            };
            if tar.digest(diff_id, interrupt)? == *diff_id {
                return Ok(Some(tar));
            }
        }
        Ok(None)
    }

    fn digest(&self, like: &Digest, interrupt: &Interrupt) -> Result<Digest> {
        let mut hasher = Hasher::like(like);
        let mut reader = self.reader();
        let mut piece = vec![0; PIECE];
        loop {
            interrupt.check()?;
            let failed = |error| Error::from_reader(error, Error::io("read", &self.written.entry));
            let count = reader.read(&mut piece).map_err(failed)?;
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(hasher.finish());
            }
            hasher.update(bytes);
        }
    }

    /// Uncompressed bytes.
    pub fn size(&self) -> u64 {
        self.written.size
    }

    /// Reads it from its first byte.
    pub fn reader(&self) -> TarReader {
        TarReader {
            input: self.written.reader(0),
            headers: Headers {
                dialect: self.dialect,
                content: 0,
            },
            buffer: vec![0; PIECE],
            ready: 0..0,
        }
    }
}

/// Reads a tar.
pub(super) struct TarReader {
    input: StoredReader,
    headers: Headers,
    buffer: Vec<u8>,
    /// The part of the buffer that was not returned yet.
    ready: std::ops::Range<usize>,
}

impl TarReader {
    /// Fills the buffer, with whole blocks but for the end.
    fn fill(&mut self) -> io::Result<()> {
        let mut count = 0;
        while let Some(rest) = self.buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest)? {
                0 => break,
                more => count += more,
            }
        }
        self.ready = 0..count;
        let filled = self.buffer.get_mut(..count).unwrap_or_default();
        for block in filled.chunks_exact_mut(BLOCK) {
            self.headers.translate(block);
        }
        Ok(())
    }
}

impl Read for TarReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        let ready = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let count = ready.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.ready.start += count;
        Ok(count)
    }
}

/// Translates the headers of a tar, block by block.
///
/// Source: POSIX.1-1988 (ustar).
struct Headers {
    dialect: Dialect,
    /// Blocks of content until the next header.
    content: u64,
}

impl Headers {
    fn translate(&mut self, block: &mut [u8]) {
        if self.content > 0 {
            self.content -= 1;
            return;
        }
        let number = |range: std::ops::Range<usize>| octal(block.get(range).unwrap_or_default());
        let (mode, user, group) = (number(100..108), number(108..116), number(116..124));
        self.content = number(124..136).unwrap_or_default().div_ceil(512);
        let bits = match block.get(156) {
            Some(b'0' | b'1') => 0o100_000,
            Some(b'2') => 0o120_000,
            Some(b'3') => 0o020_000,
            Some(b'4') => 0o060_000,
            Some(b'5') => 0o040_000,
            Some(b'6') => 0o010_000,
            // The end, or an extended header.
            _ => return,
        };
        // A whiteout has neither a mode nor names.
        let Some(mode) = mode.filter(|mode| *mode > 0) else {
            return;
        };
        if self.dialect.has_types {
            write(block, 100, &format!("{:07o}\0", mode | bits));
        }
        for (id, at) in [(user, 265), (group, 297)] {
            if self.dialect.has_names && id == Some(0) {
                write(block, at, "root");
            }
        }
        write(block, 148, "        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        write(block, 148, &format!("{sum:06o}\0 "));
    }
}

/// The number in a field of a header.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

fn write(block: &mut [u8], at: usize, text: &str) {
    if let Some(field) = block.get_mut(at..at + text.len()) {
        field.copy_from_slice(text.as_bytes());
    }
}

impl Containerd {
    /// Has containerd write the tar of a layer from its snapshot, and copies it with `copy`. `None` if the layer is not
    /// unpacked, or its tar cannot be had in this way. What containerd wrote is removed again.
    ///
    /// # Errors
    ///
    /// If containerd does not answer, or the copy fails.
    pub(super) fn discarded_layer(
        &self,
        diff_id: &Digest,
        interrupt: &Interrupt,
        copy: &dyn Fn(&Digest, u64) -> Result<Option<Stored>>,
    ) -> Result<Option<Tar>> {
        let (lease, _guard) = Lease::create_until_signal(&self.client, interrupt)?;
        let client = self.client.with_lease(lease.id())?;
        let snapshotter = Snapshotter::new(&client, &self.snapshotter, lease.id());
        let Some((chain, parent)) = snapshotter.find_layer(diff_id)? else {
            return Ok(None);
        };
        let check = || interrupt.check();
        let Some((digest, size)) = snapshotter.diff(&chain, parent.as_deref(), &check)? else {
            return Ok(None);
        };
        match copy(&digest, size)? {
            Some(written) => Tar::of(diff_id, written, interrupt),
            None => Ok(None),
        }
    }
}
