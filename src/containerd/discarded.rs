//! Layers whose blobs containerd has discarded: their tars, from the snapshots that they were unpacked into.
//!
//! containerd writes the tar of a snapshot as its own and BuildKit's layers are written. Docker's classic builder, podman
//! and buildah add the type of a file to its mode, some of them also the names of root, and write the rest alike. A tar is a
//! layer only if it has the diff id: a layer that was packed in another way cannot be recovered from its snapshot.

use std::io::{self, Read};

use tar::{EntryType, Header};

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
    /// Its tar cannot be recovered.
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
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        self.content = header.entry_size().unwrap_or_default().div_ceil(512);
        let bits = match header.entry_type() {
            EntryType::Regular | EntryType::Link => 0o100_000,
            EntryType::Symlink => 0o120_000,
            EntryType::Char => 0o020_000,
            EntryType::Block => 0o060_000,
            EntryType::Directory => 0o040_000,
            EntryType::Fifo => 0o010_000,
            // An extended header.
            _ => return,
        };
        // A whiteout has neither a mode nor names, and the end has nothing.
        let Some(mode) = header.mode().ok().filter(|mode| *mode > 0) else {
            return;
        };
        if self.dialect.has_types {
            header.set_mode(mode | bits);
        }
        if self.dialect.has_names {
            let (user, group) = (header.uid().ok(), header.gid().ok());
            for (id, at) in [(user, 265), (group, 297)] {
                if id == Some(0) {
                    write(&mut header, at, "root");
                }
            }
        }
        // Go has six digits, and `Header::set_cksum` has seven.
        write(&mut header, 148, "        ");
        let sum: u32 = header.as_bytes().iter().copied().map(u32::from).sum();
        write(&mut header, 148, &format!("{sum:06o}\0 "));
        block.copy_from_slice(header.as_bytes());
    }
}

fn write(header: &mut Header, at: usize, text: &str) {
    if let Some(field) = header.as_mut_bytes().get_mut(at..at + text.len()) {
        field.copy_from_slice(text.as_bytes());
    }
}

impl Containerd {
    /// Has containerd write the tar of a layer from its snapshot, and copies it with `copy`. `None` if the layer is not
    /// unpacked, or its tar cannot be recovered from the snapshot. What containerd wrote is removed again.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_translated_as_go_writes_them() {
        let header = |kind: EntryType, mode: u32, user: u64, size: u64| {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(user);
            header.set_gid(0);
            header.set_size(size);
            header
        };
        // The second block looks like a header, and is content.
        let blocks = [
            header(EntryType::Regular, 0o755, 0, 513),
            header(EntryType::Directory, 0o700, 0, 0),
            header(EntryType::Directory, 0o700, 0, 0),
            header(EntryType::Directory, 0o1777, 7, 0),
            header(EntryType::Regular, 0, 0, 0),
            header(EntryType::XHeader, 0o644, 0, 0),
        ];
        let mut headers = Headers {
            dialect: Dialect {
                has_types: true,
                has_names: true,
            },
            content: 0,
        };
        let translated = blocks.clone().map(|mut block| {
            headers.translate(block.as_mut_bytes());
            block
        });
        for at in [1, 2, 4, 5] {
            assert_eq!(translated[at].as_bytes(), blocks[at].as_bytes(), "{at}");
        }
        for (at, mode, user) in [(0, "0100755\0", "root"), (3, "0041777\0", "")] {
            let block = translated[at].as_bytes();
            let text = |from: usize, to: usize| std::str::from_utf8(&block[from..to]).unwrap();
            assert_eq!(text(100, 108), mode);
            assert_eq!(text(265, 297).trim_end_matches('\0'), user);
            assert_eq!(text(297, 329).trim_end_matches('\0'), "root");
            assert!(text(148, 156).ends_with("\0 "), "{:?}", text(148, 156));
            let fields = block[..148].iter().chain(&block[156..]);
            let sum = fields.copied().map(u32::from).sum::<u32>() + 8 * u32::from(b' ');
            assert_eq!(translated[at].cksum().unwrap(), sum);
        }
        let mut end = [0; BLOCK];
        headers.translate(&mut end);
        assert_eq!(end, [0; BLOCK]);
    }
}
