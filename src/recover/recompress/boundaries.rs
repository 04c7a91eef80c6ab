//! Where one Write of a tar to Go's encoder ended and another began, as far as the output depends on it.
//!
//! A program that assembles a layer's tar writes headers, contents and padding separately. At levels 2 to 9 the
//! end of a Write matters if it is within the last 258 bytes before a multiple of 32 KiB, and from 65,278 bytes
//! on: Go's window then slides early. Ends at multiples of 512 do not matter, so in a tar only those before a
//! padding do.

use tar::{EntryType, Header, PaxExtensions};

use super::encoders::Writes;

const BLOCK: usize = 512;
/// Where Go's window can slide for the first time, in bytes from the start.
const FIRST: u64 = 65_278;
/// How far Go's window slides.
const SLIDE: u64 = 32 << 10;
/// How much of it must follow an end that matters.
const LATE: u64 = FIRST % SLIDE;
/// The longest extended header that is parsed, in bytes; Go accepts no longer ones.
const LONGEST_HEADER: u64 = 1 << 20;

/// Follows a tar, and collects where Writes ended.
#[derive(Debug)]
pub(super) struct Boundaries {
    /// Bytes of the tar so far.
    at: u64,
    state: State,
    /// The size of the next entry, from an extended header.
    size: Option<u64>,
    found: Vec<(u64, Of)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Content,
    ExtendedHeader,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    /// Data with this much left; `pax` collects it if it may have the next entry's size.
    Data {
        left: u64,
        of: Of,
        pax: Option<Vec<u8>>,
    },
    /// Padding with this much left.
    Padding(u64),
    /// Not a tar, so there are no ends in it.
    Lost,
}

impl Boundaries {
    pub(super) fn new() -> Boundaries {
        Boundaries {
            at: 0,
            state: State::Header(Vec::with_capacity(BLOCK)),
            size: None,
            found: Vec::new(),
        }
    }

    /// Adds the next bytes of the tar.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match &mut self.state {
                State::Lost => return,
                State::Padding(left) | State::Data { left, .. } => clamp(*left, bytes.len()),
                State::Header(header) => (BLOCK - header.len()).min(bytes.len()),
            };
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            let length = u64::try_from(count).unwrap_or(u64::MAX);
            self.at = self.at.saturating_add(length);
            self.step(taken, length);
        }
    }

    /// The ends that matter, depending on how it was written, in order.
    pub(super) fn ends(&self, writes: Writes) -> Vec<u64> {
        let counts = |of: Of| match writes {
            Writes::Whole => false,
            Writes::Contents => of == Of::Content,
            Writes::ContentsAndHeaders => true,
        };
        self.found
            .iter()
            .filter_map(|(at, of)| counts(*of).then_some(*at))
            .collect()
    }

    /// The ends that matter after `start` bytes and up to `end`.
    pub(super) fn ends_within(&self, start: u64, end: u64, writes: Writes) -> Vec<u64> {
        let mut ends = self.ends(writes);
        ends.retain(|at| (start + 1..=end).contains(at));
        ends
    }

    fn step(&mut self, taken: &[u8], length: u64) {
        match &mut self.state {
            State::Lost => {}
            State::Padding(left) => {
                *left -= length;
                if *left == 0 {
                    self.state = State::Header(Vec::with_capacity(BLOCK));
                }
            }
            State::Data { left, pax, .. } => {
                *left -= length;
                if let Some(pax) = pax {
                    pax.extend_from_slice(taken);
                }
                if *left == 0 {
                    self.end_data();
                }
            }
            State::Header(header) => {
                header.extend_from_slice(taken);
                if header.len() == BLOCK {
                    let header = std::mem::take(header);
                    self.state = self.after(&header);
                }
            }
        }
    }

    fn end_data(&mut self) {
        let State::Data { of, pax, .. } = std::mem::replace(&mut self.state, State::Lost) else {
            return;
        };
        if let Some(pax) = pax {
            self.size = size_in(&pax);
        }
        if self.at >= FIRST && self.at % SLIDE >= LATE {
            self.found.push((self.at, of));
        }
        let block = BLOCK as u64;
        self.state = match self.at % block {
            0 => State::Header(Vec::with_capacity(BLOCK)),
            used => State::Padding(block - used),
        };
    }

    /// What follows a header.
    fn after(&mut self, block: &[u8]) -> State {
        let next = || State::Header(Vec::with_capacity(BLOCK));
        if block.iter().all(|byte| *byte == 0) {
            return next();
        }
        let header = Header::from_byte_slice(block);
        let Ok(size) = header.entry_size() else {
            return State::Lost;
        };
        let kind = header.entry_type();
        let extended = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink();
        let (left, of) = if extended {
            (size, Of::ExtendedHeader)
        } else {
            (self.size.take().unwrap_or(size), Of::Content)
        };
        if extended && size > LONGEST_HEADER {
            return State::Lost;
        }
        if left == 0 || has_no_data(kind) {
            return next();
        }
        let pax = kind.is_pax_local_extensions().then(Vec::new);
        State::Data { left, of, pax }
    }
}

/// Whether Go's reader treats an entry as having no data, whatever its size field says.
fn has_no_data(kind: EntryType) -> bool {
    kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_dir()
        || kind.is_fifo()
}

/// The size in an extended header's data, if it has one.
fn size_in(pax: &[u8]) -> Option<u64> {
    PaxExtensions::new(pax)
        .flatten()
        .filter(|record| record.key_bytes() == b"size")
        .last()
        .and_then(|record| record.value().ok()?.parse().ok())
}

fn clamp(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goflate::{Encoder, Level};
    use std::io::Write as _;

    /// A tar of entries: kind, size, and the data if they matter.
    fn tar(entries: &[(u8, usize, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (kind, size, data) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::new(*kind));
            header.set_size(u64::try_from(*size).unwrap());
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            if !has_no_data(header.entry_type()) {
                let end = tar.len() + size;
                tar.extend_from_slice(data);
                tar.resize(end.max(tar.len()), b'x');
                tar.resize(tar.len().next_multiple_of(BLOCK), 0);
            }
        }
        tar.resize(tar.len() + 2 * BLOCK, 0);
        tar
    }

    fn followed(tar: &[u8], piece: usize) -> Boundaries {
        let mut boundaries = Boundaries::new();
        for piece in tar.chunks(piece) {
            boundaries.take(piece);
        }
        boundaries
    }

    #[test]
    fn ends_shortly_before_a_slide_are_found() {
        // The size of the only file, and where it ends if that matters.
        for (size, end) in [
            (65_277 - 512, None),
            (65_278 - 512, Some(65_278)),
            (65_535 - 512, Some(65_535)),
            (65_536 - 512, None),
            (32_768 - 512 - 5, None),
            (98_304 - 512 - 5, Some(98_299)),
            (98_304 - 512 - 300, None),
        ] {
            let tar = tar(&[(b'5', 0, b""), (b'0', size - 512, b"")]);
            for piece in [1, 700, 1 << 20] {
                let found = followed(&tar, piece).ends(Writes::Contents);
                assert_eq!(found, Vec::from_iter(end), "{size} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn extended_headers_count_apart_and_their_sizes_count() {
        // After two blocks of a file and a header, a long name ends shortly before 64 KiB; after two headers
        // and a block, a file ends shortly before 96 KiB.
        let (name, file) = (65_436 - 3 * 512, 98_297 - 65_536 - 3 * 512);
        let pax = format!("14 size={file}\n");
        assert_eq!(pax.len(), 14);
        let tar = tar(&[
            (b'0', 512, b""),
            (b'L', name, b""),
            (b'x', pax.len(), pax.as_bytes()),
            // The extended header's size applies.
            (b'0', 1, &vec![b'y'; file]),
            (b'0', 1, b""),
        ]);
        let found = followed(&tar, 10_000);
        assert!(found.ends(Writes::Whole).is_empty());
        assert_eq!(found.ends(Writes::Contents), [98_297]);
        assert_eq!(found.ends(Writes::ContentsAndHeaders), [65_436, 98_297]);
        for (start, end, inside) in [
            (65_436, 98_297, vec![98_297]),
            (0, 65_436, vec![65_436]),
            (0, 65_435, vec![]),
            (98_297, u64::MAX, vec![]),
        ] {
            assert_eq!(found.ends_within(start, end, Writes::ContentsAndHeaders), inside);
        }
    }

    #[test]
    fn what_is_no_tar_has_no_ends() {
        let mut bad = tar(&[(b'0', 65_400 - 512, b"")]);
        assert_eq!(followed(&bad, 512).ends(Writes::Contents), [65_400]);
        bad[124..136].copy_from_slice(b"not a number");
        for bytes in [bad, vec![b'z'; 200_000]] {
            assert!(followed(&bytes, 512).ends(Writes::ContentsAndHeaders).is_empty());
        }
        let long = tar(&[(b'x', 2 << 20, b"")]);
        assert!(followed(&long, 4096).ends(Writes::ContentsAndHeaders).is_empty());
    }

    #[test]
    fn such_an_end_shows_in_gos_output() {
        // Every position has its only match 32,766 bytes before, which is out of reach after a slide until the
        // window has grown to it. From there on, matches of 258 bytes lead to the exact position at which an
        // early slide is decided.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(32_766)
        .collect();
        let size = 131_072 - 512 - 1;
        let data: Vec<u8> = noise.iter().copied().cycle().take(size).collect();
        let tar = tar(&[(b'0', size, &data), (b'0', 90_000, &data[..90_000])]);
        let [end] = followed(&tar, 512).ends(Writes::Contents)[..] else {
            panic!("one end shows");
        };
        let encoded = |cut: Option<u64>| {
            let mut encoder = Encoder::new(Vec::new(), Level::DEFAULT);
            let (before, after) = tar.split_at(usize::try_from(cut.unwrap_or(0)).unwrap());
            encoder.write_all(before).unwrap();
            encoder.cut();
            encoder.write_all(after).unwrap();
            encoder.finish().unwrap()
        };
        assert!(encoded(Some(end)) != encoded(None));
        assert!(encoded(Some(65_000)) == encoded(None));
    }
}
