//! `tar-split.json.gz`: the parts of a layer's tar that are not in its files.
//!
//! Source: github.com/vbatts/tar-split, `tar/storage/entry.go` and `packer.go`: JSON objects, one per line.
//! Type 1 is a file: its name and size, and the CRC of its content. Type 2 is a range of the tar: headers and
//! padding, in base64. Positions count the entries from 0.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::blob::decompress::Decompressor;
use crate::error::{Error, Place, Problem, Result};
use crate::oci::Compression;

/// Longest line that is read at once, in bytes. Longer ones are ranges of the tar, read in pieces.
const MAX_LINE: usize = 64 << 10;
/// Bytes of text that a long line is decoded from at once: complete groups of base64.
const PIECE: usize = 32 << 10;
/// The start of a line with a range of the tar, as Go writes it.
const STRETCH: &[u8] = br#"{"type":2,"payload":""#;

/// The next part of the tar.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes that [`Entries::take`] returns.
    Segment,
    /// A file's content.
    File {
        /// Its name in the layer, which need not be valid text.
        name: Vec<u8>,
        /// Its size in bytes, which is never 0: files without content are headers only.
        size: u64,
    },
}

/// The entries of a `tar-split.json.gz`, in the order of the tar.
pub struct Entries<R> {
    lines: BufReader<Decompressor<R>>,
    place: Place,
    position: u64,
    line: Vec<u8>,
    /// Start in `line` of the text that was not decoded yet, if the line is longer than that.
    text: Option<usize>,
    payload: Vec<u8>,
    /// The part of `payload` that was not returned yet.
    ready: Range<usize>,
}

/// A line. An unknown field could change its meaning, and a repeated field is ambiguous: both are refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow, default)]
    name: Option<Cow<'l, str>>,
    #[serde(borrow, default)]
    name_raw: Option<Cow<'l, str>>,
    #[serde(default)]
    size: u64,
    // That of a file is the CRC64 of its content. It is ignored, because the digest of the whole layer is
    // compared.
    #[serde(borrow, default)]
    payload: Option<Cow<'l, str>>,
    position: u64,
}

impl<R: BufRead> Entries<R> {
    /// Starts at the first stored byte of the file. Refuses more than `limit` bytes of JSON; errors name
    /// `place`.
    ///
    /// # Errors
    ///
    /// Only if a decompressor cannot be allocated.
    pub fn new(input: R, limit: u64, place: Place) -> Result<Entries<R>> {
        let plain = Decompressor::new(Compression::Gzip, input, limit, place.clone())?;
        Ok(Entries {
            lines: BufReader::with_capacity(MAX_LINE, plain),
            place,
            position: 0,
            line: Vec::new(),
            text: None,
            payload: Vec::new(),
            ready: 0..0,
        })
    }

    /// Returns the next entry, even if the last one was not read; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the file is damaged, truncated or not of this format.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        while self.text.is_some() {
            self.decode_more()?;
        }
        self.ready = 0..0;
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if self.text.is_some() {
                return Ok(Some(Entry::Segment));
            }
            let line = std::mem::take(&mut self.line);
            let entry = self.parse(&line);
            self.line = line;
            if let Some(entry) = entry? {
                return Ok(Some(entry));
            }
        }
    }

    /// Returns the next bytes of a segment, filling `target` at most; zero at its end.
    ///
    /// # Errors
    ///
    /// As [`Entries::next_entry`].
    pub fn take(&mut self, target: &mut [u8]) -> Result<usize> {
        while self.ready.is_empty() && self.text.is_some() {
            self.decode_more()?;
        }
        let ready = self.payload.get(self.ready.clone()).unwrap_or_default();
        let count = ready.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.ready.start += count;
        Ok(count)
    }

    /// Skips a segment that was not read, and returns its size.
    ///
    /// # Errors
    ///
    /// As [`Entries::next_entry`].
    pub fn skip_segment(&mut self) -> Result<u64> {
        let mut count = to_u64(self.ready.len());
        while self.text.is_some() {
            self.decode_more()?;
            count = count.saturating_add(to_u64(self.ready.len()));
        }
        self.ready = 0..0;
        Ok(count)
    }

    /// Reads a line, or the beginning of a long one. False at the end.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.read_until(b'\n', MAX_LINE)?;
        if self.line.last() == Some(&b'\n') {
            return Ok(true);
        }
        if self.line.is_empty() {
            return Ok(false);
        }
        if self.line.len() < MAX_LINE {
            return Err(self.wrong("it ends in the middle of a line"));
        }
        if !self.line.starts_with(STRETCH) {
            return Err(self.wrong("a line is too long"));
        }
        self.text = Some(STRETCH.len());
        self.payload.clear();
        Ok(true)
    }

    /// Appends to the line, up to `end` or by `most` bytes.
    fn read_until(&mut self, end: u8, most: usize) -> Result<()> {
        let mut input = (&mut self.lines).take(to_u64(most));
        let read = input.read_until(end, &mut self.line);
        read.map_err(|error| {
            let path = self.place.archive.clone().unwrap_or_default();
            Error::from_reader(error, Error::io("read", path))
        })?;
        Ok(())
    }

    /// Parses a complete line; `None` if it has no bytes of the tar.
    fn parse(&mut self, line: &[u8]) -> Result<Option<Entry>> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| self.wrong(error.to_string()))?;
        self.count(line.position)?;
        match line.kind {
            1 => {
                let name = match (line.name, line.name_raw) {
                    (Some(name), None) => name.into_owned().into_bytes(),
                    (None, Some(raw)) => STANDARD
                        .decode(raw.as_bytes())
                        .map_err(|error| self.wrong(error.to_string()))?,
                    (None, None) => Vec::new(),
                    (Some(_), Some(_)) => return Err(self.wrong("a file has two names")),
                };
                let size = line.size;
                Ok((size > 0).then_some(Entry::File { name, size }))
            }
            2 => {
                self.payload.clear();
                let text = line.payload.as_deref().unwrap_or_default();
                let decoded = STANDARD.decode_vec(text, &mut self.payload);
                decoded.map_err(|error| self.wrong(error.to_string()))?;
                self.ready = 0..self.payload.len();
                Ok((!self.payload.is_empty()).then_some(Entry::Segment))
            }
            other => Err(self.wrong(format!("an entry is of type {other}"))),
        }
    }

    /// Decodes the next piece of a long line.
    fn decode_more(&mut self) -> Result<()> {
        let Some(start) = self.text else { return Ok(()) };
        self.line.drain(..start);
        self.text = Some(0);
        let mut end = self.line.iter().position(|byte| *byte == b'"');
        if end.is_none() && self.line.len() < PIECE {
            self.read_until(b'"', PIECE)?;
            end = self.line.iter().position(|byte| *byte == b'"');
            if end.is_none() && self.line.len() < PIECE {
                return Err(self.wrong("it ends in the middle of a line"));
            }
        }
        let whole = end.unwrap_or(self.line.len() / 4 * 4);
        self.payload.clear();
        let text = self.line.get(..whole).unwrap_or_default();
        // Padding in the middle would turn one payload into two.
        if end.is_none() && text.ends_with(b"=") {
            return Err(self.wrong("padding in the middle of a payload"));
        }
        let decoded = STANDARD.decode_vec(text, &mut self.payload);
        decoded.map_err(|error| self.wrong(error.to_string()))?;
        self.ready = 0..self.payload.len();
        if end.is_none() {
            self.text = Some(whole);
            return Ok(());
        }
        self.text = None;
        self.end_line(whole + 1)
    }

    /// Reads the rest of a long line after its payload.
    fn end_line(&mut self, start: usize) -> Result<()> {
        self.line.drain(..start);
        if !self.line.contains(&b'\n') {
            self.read_until(b'\n', 64)?;
        }
        let position = std::str::from_utf8(&self.line).ok().and_then(|text| {
            text.strip_prefix(r#","position":"#)?
                .strip_suffix("}\n")?
                .parse()
                .ok()
        });
        match position {
            Some(position) => self.count(position),
            None => Err(self.wrong("a long line does not end with its position")),
        }
    }

    fn count(&mut self, position: u64) -> Result<()> {
        if position != self.position {
            let reason = format!("position {position} where {} was expected", self.position);
            return Err(self.wrong(reason));
        }
        self.position += 1;
        Ok(())
    }

    fn wrong(&self, reason: impl Into<String>) -> Error {
        let reason = format!("entry {}: {}", self.position, reason.into());
        Error::refused(self.place.clone(), Problem::Document { reason })
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "tar_split_tests.rs"]
mod tests;
