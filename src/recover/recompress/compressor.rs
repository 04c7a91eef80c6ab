//! Encoders: the uncompressed bytes of a layer go in, a gzip stream comes out.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::encoders::{Deflate, HEADER};
use crate::goflate;

/// Buffer for zlib's output, in bytes.
const OUTPUT: usize = 64 << 10;

/// Compresses one layer. Ten bytes of a header come first, whatever the encoder's header is.
pub(super) enum Compressor<W: Write> {
    Go(Box<goflate::Encoder<W>>),
    Zlib(Box<Zlib<W>>),
}

impl<W: Write> Compressor<W> {
    pub(super) fn new(deflate: Deflate, writer: W) -> Compressor<W> {
        match deflate {
            Deflate::Go(level, _) => Compressor::Go(Box::new(goflate::Encoder::new(writer, level))),
            Deflate::Zlib(level) => Compressor::Zlib(Box::new(Zlib::new(writer, level))),
        }
    }

    /// Adds the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Compressor::Go(encoder) => encoder.write_all(bytes),
            Compressor::Zlib(encoder) => encoder.take(bytes),
        }
    }

    /// Marks that a Write ended here.
    pub(super) fn cut(&mut self) {
        if let Compressor::Go(encoder) = self {
            encoder.cut();
        }
    }

    /// Where the output goes.
    pub(super) fn writer(&self) -> &W {
        match self {
            Compressor::Go(encoder) => encoder.get_ref(),
            Compressor::Zlib(encoder) => &encoder.writer,
        }
    }

    /// Ends the stream.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Compressor::Go(encoder) => encoder.finish(),
            Compressor::Zlib(encoder) => encoder.finish(),
        }
    }
}

/// zlib, with a gzip frame around its bare DEFLATE stream.
pub(super) struct Zlib<W: Write> {
    writer: W,
    state: Compress,
    crc: Crc,
    output: Vec<u8>,
}

impl<W: Write> Zlib<W> {
    fn new(writer: W, level: u32) -> Zlib<W> {
        let mut output = Vec::with_capacity(OUTPUT);
        output.extend([0; HEADER]);
        Zlib {
            writer,
            state: Compress::new(Compression::new(level), false),
            crc: Crc::new(),
            output,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        let before = self.state.total_in();
        loop {
            let taken = usize::try_from(self.state.total_in() - before).unwrap_or(usize::MAX);
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            self.step(rest, FlushCompress::None)?;
        }
    }

    /// Fills the output once.
    fn step(&mut self, bytes: &[u8], flush: FlushCompress) -> io::Result<Status> {
        if self.output.len() == self.output.capacity() {
            self.drain()?;
        }
        Ok(self.state.compress_vec(bytes, &mut self.output, flush)?)
    }

    fn drain(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        while self.step(&[], FlushCompress::Finish)? != Status::StreamEnd {}
        self.output.extend(self.crc.sum().to_le_bytes());
        self.output.extend(self.crc.amount().to_le_bytes());
        self.drain()?;
        Ok(self.writer)
    }
}
