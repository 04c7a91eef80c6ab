//! The gzip frame and its writer.

use std::fmt;
use std::io::{self, Write};

use flate2::Crc;

use super::Level;
use super::bits::Bits;
use super::block::put_last;
use super::deep::Deep;
use super::pieces::Pieces;

/// Input is processed in parts of this size, so that few blocks are buffered at once.
const PART: usize = 32 << 10;
/// The writer gets at least this much at once.
const OUTPUT: usize = 32 << 10;

/// Writes what Go's `compress/gzip` writes for the same bytes at the same level.
///
/// How the input is divided into calls of [`Write::write`] does not matter: it counts as one Write of Go's.
/// Where Go got several and the output depends on it, [`Encoder::cut`] marks the place.
///
/// No header fields are set, as in all known tools. After an error of the writer nothing more can be written.
/// An encoder that is dropped before [`Encoder::finish`] leaves its output incomplete.
pub struct Encoder<W: Write> {
    writer: W,
    body: Body,
    bits: Bits,
    crc: Crc,
    /// Whether the writer has failed, so that part of the output may be missing.
    failed: bool,
}

enum Body {
    Deep(Deep),
    Pieces(Pieces),
}

impl<W: Write> Encoder<W> {
    /// An encoder that has not written anything yet.
    pub fn new(writer: W, level: Level) -> Encoder<W> {
        let body = match level.number() {
            2.. => Body::Deep(Deep::new(level)),
            _ => Body::Pieces(Pieces::new(level)),
        };
        let mut bits = Bits::new();
        let flags = match level {
            Level::BEST => 2,
            Level::FASTEST => 4,
            _ => 0,
        };
        bits.put_bytes(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, flags, 0xFF]);
        Encoder {
            writer,
            body,
            bits,
            crc: Crc::new(),
            failed: false,
        }
    }

    /// Marks that a Write of Go's ended here, and that what follows is another one.
    ///
    /// It matters at levels 2 to 9 only, and only at a position that is not a multiple of 512.
    pub fn cut(&mut self) {
        if let Body::Deep(deep) = &mut self.body {
            deep.cut();
        }
    }

    /// The writer, which has all complete blocks but the last few.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// Writes the rest, the end and the trailer, and returns the writer unflushed.
    ///
    /// # Errors
    ///
    /// If the writer fails, or has failed before.
    pub fn finish(mut self) -> io::Result<W> {
        self.check()?;
        match &mut self.body {
            Body::Deep(deep) => deep.finish(&mut self.bits),
            Body::Pieces(pieces) => pieces.finish(&mut self.bits),
        }
        put_last(&mut self.bits);
        // `amount` is the input's length modulo 2^32, as the trailer has it.
        self.bits.put_bytes(&self.crc.sum().to_le_bytes());
        self.bits.put_bytes(&self.crc.amount().to_le_bytes());
        self.drain(0)?;
        Ok(self.writer)
    }

    fn check(&self) -> io::Result<()> {
        if self.failed {
            Err(io::Error::other("the gzip encoder's writer has failed before"))
        } else {
            Ok(())
        }
    }

    fn drain(&mut self, at_least: usize) -> io::Result<()> {
        let drained = self.bits.drain(&mut self.writer, at_least);
        self.failed |= drained.is_err();
        drained
    }
}

impl<W: Write> Write for Encoder<W> {
    /// Adds all bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        for part in bytes.chunks(PART) {
            self.crc.update(part);
            match &mut self.body {
                Body::Deep(deep) => deep.take(part, &mut self.bits),
                Body::Pieces(pieces) => pieces.take(part, &mut self.bits),
            }
            self.drain(OUTPUT)?;
        }
        Ok(bytes.len())
    }

    /// Writes complete bytes. It never changes the output: pending input stays pending.
    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.drain(0)?;
        self.writer.flush()
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("taken", &self.crc.amount())
            .finish_non_exhaustive()
    }
}
