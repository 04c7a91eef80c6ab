//! Reads one blob and hashes it while reading.
//!
//! The bytes are read into private memory and hashed there. What is returned is what was hashed, even if the
//! file changes.

use std::io::{self, BufRead, Read};

use super::blobs::OpenBlob;
use super::verified::{Verified, Verifier};
use crate::error::{Error, Place, Problem, Result};
use crate::oci::Descriptor;

/// Stored bytes per read.
const PIECE: usize = 256 << 10;

/// Returns a blob's stored bytes, and at the end the proof that they match the descriptor.
pub struct BlobReader {
    input: Box<dyn Read + Send>,
    verifier: Verifier,
    place: Place,
    /// Stored bytes, by the descriptor.
    size: u64,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was not returned yet.
    ready: std::ops::Range<usize>,
}

impl BlobReader {
    /// Starts at the first byte of the blob that `descriptor` names.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the size of a local blob differs from the descriptor's. Nothing is read then.
    pub fn new(open: OpenBlob, descriptor: &Descriptor) -> Result<BlobReader> {
        let mut place = Place::blob(descriptor.digest);
        let input: Box<dyn Read + Send> = match open {
            OpenBlob::Stream(stream) => stream,
            OpenBlob::Stored(stored) => {
                place = stored.locate(place);
                if stored.size != descriptor.size {
                    let problem = Problem::SizeDiffers {
                        expected: descriptor.size,
                        found: stored.size,
                    };
                    return Err(Error::refused(place, problem));
                }
                Box::new(stored.into_reader())
            }
        };
        Ok(BlobReader {
            input,
            verifier: Verifier::new(descriptor),
            place,
            size: descriptor.size,
            buffer: Box::default(),
            ready: 0..0,
        })
    }

    /// Stored bytes that were read and hashed.
    pub fn count(&self) -> u64 {
        self.verifier.count()
    }

    /// Where this blob is, for messages.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Reads and hashes the rest, and verifies the whole.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the digest differs; [`Error::Io`] if the bytes cannot be read.
    pub fn finish(mut self) -> Result<Verified> {
        while self.fill()? {}
        self.verifier
            .finish()
            .map_err(|problem| Error::refused(self.place, problem))
    }

    /// Reads the next piece into `target`. Zero at the end.
    fn read_piece(&mut self, target: &mut [u8]) -> Result<usize> {
        let count = loop {
            match self.input.read(target) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| self.unreadable(error))?,
            }
        };
        self.verifier
            .update(target.get(..count).unwrap_or_default())
            .map_err(|problem| Error::refused(self.place.clone(), problem))?;
        Ok(count)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::from_reader(error, Error::io("read", self.place.to_string()))
    }

    /// Refills the buffer, discarding its content. False at the end.
    fn fill(&mut self) -> Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() {
            let wanted = usize::try_from(self.size).unwrap_or(PIECE);
            buffer = vec![0; wanted.clamp(1, PIECE)].into();
        }
        let read = self.read_piece(&mut buffer);
        self.buffer = buffer;
        self.ready = 0..*read.as_ref().unwrap_or(&0);
        Ok(read? > 0)
    }
}

impl BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ready.is_empty() {
            self.fill().map_err(io::Error::other)?;
        }
        Ok(self.buffer.get(self.ready.clone()).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.ready.start = self.ready.end.min(self.ready.start.saturating_add(count));
    }
}

impl Read for BlobReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && target.len() >= PIECE {
            return self.read_piece(target).map_err(io::Error::other);
        }
        let ready = self.fill_buf()?;
        let count = ready.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::archive::segments::Segments;
    use crate::blob::Stored;
    use crate::error::ErrorKind;
    use crate::oci::{Digest, MediaType};

    fn blob(bytes: &[u8], size: usize) -> (Segments, Stored, Descriptor) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let segments = Segments::of_file("t", file, Path::new("/t")).unwrap();
        let size = u64::try_from(size).unwrap();
        let stored = Stored {
            extents: segments.extents(0, size),
            size,
            entry: "blobs/x".into(),
            offset: None,
        };
        let descriptor = Descriptor::new(MediaType::new("x/y"), Digest::sha256(bytes), size);
        (segments, stored, descriptor)
    }

    proptest! {
        #[test]
        fn stream_hash_is_slice_hash(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(1..700_usize, 0..6),
            reads in proptest::collection::vec(1..300_usize, 1..9),
        ) {
            let (segments, mut stored, descriptor) = blob(&bytes, bytes.len());
            stored.extents.clear();
            let mut at = 0;
            for cut in cuts.iter().copied().chain([bytes.len()]) {
                let length = cut.min(bytes.len() - at);
                stored.extents.extend(segments.extents(at.try_into().unwrap(), length.try_into().unwrap()));
                at += length;
            }
            let mut reader = BlobReader::new(OpenBlob::Stored(stored.clone()), &descriptor).unwrap();
            let mut all = Vec::new();
            for length in reads.iter().cycle() {
                let mut piece = vec![0; *length];
                let count = reader.read(&mut piece).unwrap();
                if count == 0 { break; }
                all.extend_from_slice(&piece[..count]);
            }
            prop_assert_eq!(&all, &bytes);
            let verified = reader.finish().unwrap();
            prop_assert_eq!(*verified.digest(), Digest::sha256(&bytes));
        }
    }

    #[test]
    fn wrong_bytes_end_without_a_proof() {
        let (_, stored, descriptor) = blob(b"right", 5);
        let other = Descriptor::new(MediaType::new("x/y"), Digest::sha256(b"wrong"), 5);
        let mut reader = BlobReader::new(OpenBlob::Stored(stored.clone()), &other).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        let error = reader.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Content);
        assert!(error.to_string().starts_with("blobs/x (sha256:"), "{error}");
        assert!(
            BlobReader::new(OpenBlob::Stored(stored.clone()), &descriptor)
                .unwrap()
                .finish()
                .is_ok(),
            "reads the rest itself"
        );
        let longer = Descriptor::new(MediaType::new("x/y"), Digest::sha256(b"right"), 6);
        assert!(BlobReader::new(OpenBlob::Stored(stored.clone()), &longer).is_err());
    }

    #[test]
    fn a_stream_that_is_too_short_or_too_long_ends_without_a_proof() {
        let (_, _, descriptor) = blob(b"right", 5);
        let open = |bytes: &'static [u8]| OpenBlob::Stream(Box::new(bytes));
        assert!(
            BlobReader::new(open(b"right"), &descriptor)
                .unwrap()
                .finish()
                .is_ok()
        );
        let endless = OpenBlob::Stream(Box::new(io::repeat(b'r')));
        for (stream, found) in [
            (open(b"righ"), "size is 4 bytes, expected 5"),
            (open(b"right!"), "size is 6 bytes, expected 5"),
            (open(b"wrong"), "digest is"),
            (endless, "size is"),
        ] {
            let reader = BlobReader::new(stream, &descriptor).unwrap();
            let error = reader.finish().unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn a_file_that_shrank_keeps_its_meaning_through_read() {
        let (_, stored, descriptor) = blob(b"short", 9);
        let stored = Stored {
            size: 9,
            extents: vec![crate::blob::Extent {
                length: 9,
                ..stored.extents[0].clone()
            }],
            ..stored
        };
        let mut reader = BlobReader::new(OpenBlob::Stored(stored.clone()), &descriptor).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let error = Error::from_reader(error, |error| unreachable!("{error}"));
        assert_eq!(
            (error.kind(), error.to_string()),
            (
                ErrorKind::Io,
                "cannot read /t at byte 5: the file is shorter than it was".into()
            )
        );
    }
}
