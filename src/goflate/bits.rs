//! The bit buffer: fields, least significant bit first, collected into bytes.

use std::io::{self, Write};

/// Collects bits into bytes.
///
/// Fewer than eight bits wait in `bits` between calls; `done` is what is complete in `bytes`, which may be longer.
pub(super) struct Bits {
    bytes: Vec<u8>,
    done: usize,
    bits: u64,
    waiting: u32,
}

impl Bits {
    pub(super) fn new() -> Bits {
        Bits {
            bytes: Vec::new(),
            done: 0,
            bits: 0,
            waiting: 0,
        }
    }

    /// Makes room for this many bits, to be added by [`Bits::put`].
    pub(super) fn reserve(&mut self, bits: u64) {
        let bytes = usize::try_from(bits / 8).unwrap_or(usize::MAX).saturating_add(16);
        let wanted = self.done.saturating_add(bytes);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }

    /// Appends up to 48 bits of a value whose other bits are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 48 && value >> count == 0);
        self.bits |= value << self.waiting;
        self.waiting += count;
        // There is room for eight bytes: `reserve` makes more than was requested.
        if let Some(room) = self.bytes.get_mut(self.done..self.done + 8) {
            room.copy_from_slice(&self.bits.to_le_bytes());
        }
        let whole = self.waiting >> 3;
        self.done += whole as usize;
        // At most 55 bits were pending, so the shift is below 64.
        self.bits >>= whole * 8;
        self.waiting &= 7;
    }

    /// Fills the last byte with zero bits.
    pub(super) fn align(&mut self) {
        self.put(0, (8 - self.waiting) % 8);
    }

    /// Appends bytes at a byte boundary.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.waiting, 0);
        self.bytes.truncate(self.done);
        self.bytes.extend_from_slice(bytes);
        self.done += bytes.len();
    }

    /// Writes all complete bytes if there are at least this many.
    pub(super) fn drain(&mut self, writer: &mut impl Write, at_least: usize) -> io::Result<()> {
        if self.done >= at_least {
            let done = std::mem::take(&mut self.done);
            writer.write_all(self.bytes.get(..done).unwrap_or_default())?;
        }
        Ok(())
    }
}
