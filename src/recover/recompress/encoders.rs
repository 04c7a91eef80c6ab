//! The table of encoders of layers: what is known about each, and which tools use it.
//!
//! Sources: the gzip headers of real blobs and of the tools named here; RFC 1952 for the meaning of the bytes.
//! In all rows the time is zero and there is no name, because tools aim for stable digests.

use std::fmt;

use crate::goflate::Level;

/// Bytes of a gzip header without optional fields.
pub const HEADER: usize = 10;

/// The system in a gzip header, its last byte.
mod system {
    pub const FAT: u8 = 0;
    pub const UNIX: u8 = 3;
    pub const UNKNOWN: u8 = 255;
}

/// The encoder of a DEFLATE stream. Encoders that share one differ only in their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deflate {
    /// Go's `compress/flate` at a level.
    Go(Level, Writes),
    /// zlib at a level, 1 to 9, with its usual window and memory.
    Zlib(u32),
}

/// How a tar was written to Go's encoder, on which its output may depend at levels 2 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// In one Write, or through a buffer of a power of two of at least 512 bytes.
    Whole,
    /// Another Write began after the content of each file.
    Contents,
    /// Also after the data of each extended header.
    ContentsAndHeaders,
}

/// One way to compress layers.
#[derive(Debug)]
pub struct Encoder {
    /// Its name. Encoders that differ only in their headers may share one.
    pub name: &'static str,
    /// The gzip header that it writes.
    pub header: [u8; HEADER],
    /// The encoder of the DEFLATE stream after the header; `None` if it cannot be reproduced.
    pub deflate: Option<Deflate>,
    /// Uncompressed bytes of a block, if blocks are compressed separately.
    pub block: Option<usize>,
    /// The tools that use it.
    pub users: &'static str,
}

/// A gzip header; `effort` is 2 for the best compression and 4 for the fastest.
const fn header(effort: u8, system: u8) -> [u8; HEADER] {
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, effort, system]
}

const BY_ZLIB: &str =
    "zlib's own gzip format: bsdtar and with it Bazel's rules_oci, the gzip of BSD and macOS, Perl";
const BY_PYTHON: &str = "Python from 3.7 on";
const BY_OLD_PYTHON: &str = "Python before 3.7, which calls every level the best";

/// An encoder that is zlib at a level. Only the header shows which one it is, so they share a name.
const fn zlib(level: u32, header: [u8; HEADER], users: &'static str) -> Encoder {
    let name = match level {
        1 => "zlib 1",
        2 => "zlib 2",
        3 => "zlib 3",
        4 => "zlib 4",
        5 => "zlib 5",
        6 => "zlib 6",
        7 => "zlib 7",
        8 => "zlib 8",
        _ => "zlib 9",
    };
    Encoder {
        name,
        header,
        deflate: Some(Deflate::Zlib(level)),
        block: None,
        users,
    }
}

/// All known encoders, the likeliest first. Of zlib's levels, tools choose 6, 9 and 1; their sizes show which
/// of the others are possible.
pub static ENCODERS: [Encoder; 39] = [
    Encoder {
        name: "Go gzip -1",
        header: header(0, system::UNKNOWN),
        deflate: Some(Deflate::DOCKER_PUSH),
        block: None,
        users: "docker push from the classic store, built with Go before 1.27",
    },
    Encoder {
        name: "Go gzip -1 of a tar writer",
        header: header(0, system::UNKNOWN),
        deflate: Some(Deflate::Go(Level::DEFAULT, Writes::ContentsAndHeaders)),
        block: None,
        users: "buildkit, containerd",
    },
    Encoder {
        name: "Go gzip -1 of a whole tar",
        header: header(0, system::UNKNOWN),
        deflate: Some(Deflate::Go(Level::DEFAULT, Writes::Whole)),
        block: None,
        users: "tools that compress an existing tar, such as kaniko by --compression-level=-1",
    },
    Encoder {
        name: "Go gzip 1",
        header: header(4, system::UNKNOWN),
        // The Writes do not matter at level 1.
        deflate: Some(Deflate::Go(Level::FASTEST, Writes::Whole)),
        block: None,
        users: "go-containerregistry: crane, ko, kaniko",
    },
    zlib(
        6,
        header(0, system::UNKNOWN),
        "Python from 3.7 on; Java from 16 on, and with it jib",
    ),
    zlib(6, header(0, system::UNIX), BY_ZLIB),
    zlib(6, header(0, system::FAT), "Java before 16, and with it jib"),
    zlib(6, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(
        9,
        header(2, system::UNKNOWN),
        "Python's gzip and tarfile by default, and with them Bazel's rules_docker",
    ),
    zlib(9, header(2, system::UNIX), BY_ZLIB),
    zlib(1, header(4, system::UNKNOWN), BY_PYTHON),
    zlib(1, header(4, system::UNIX), BY_ZLIB),
    zlib(1, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(3, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(3, header(0, system::UNIX), BY_ZLIB),
    zlib(3, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(4, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(4, header(0, system::UNIX), BY_ZLIB),
    zlib(4, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(5, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(5, header(0, system::UNIX), BY_ZLIB),
    zlib(5, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(2, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(2, header(0, system::UNIX), BY_ZLIB),
    zlib(2, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(7, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(7, header(0, system::UNIX), BY_ZLIB),
    zlib(7, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    zlib(8, header(0, system::UNKNOWN), BY_PYTHON),
    zlib(8, header(0, system::UNIX), BY_ZLIB),
    zlib(8, header(2, system::UNKNOWN), BY_OLD_PYTHON),
    Encoder {
        name: "Go gzip -1 of Go 1.27",
        header: header(0, system::UNKNOWN),
        // Go's own package has had another matcher since then.
        deflate: None,
        block: None,
        users: "docker push, buildkit and containerd, built with Go 1.27",
    },
    Encoder {
        name: "Go gzip 1 of Go 1.27",
        header: header(4, system::UNKNOWN),
        deflate: None,
        block: None,
        users: "go-containerregistry, built with Go 1.27",
    },
    Encoder {
        name: "GNU gzip",
        header: header(0, system::UNIX),
        // Equal to zlib's for what fits into one block, about 30 KiB, and found there. Beyond that, its blocks
        // end elsewhere.
        deflate: None,
        block: None,
        users: "gzip -n on Linux",
    },
    Encoder {
        name: "GNU gzip 9",
        header: header(2, system::UNIX),
        deflate: None,
        block: None,
        users: "gzip -n9 on Linux",
    },
    Encoder {
        name: "pgzip",
        header: header(0, system::UNKNOWN),
        deflate: None,
        block: Some(1 << 20),
        users: "podman, buildah, skopeo",
    },
    Encoder {
        name: "pigz",
        header: header(0, system::UNIX),
        deflate: None,
        block: Some(128 << 10),
        users: "nixpkgs' dockerTools",
    },
    Encoder {
        name: "pargzip",
        header: header(0, system::UNKNOWN),
        deflate: None,
        block: Some(1 << 20),
        users: "apko",
    },
    Encoder {
        name: "eStargz",
        header: header(2, system::UNKNOWN),
        deflate: None,
        block: None,
        users: "stargz snapshotter: one gzip member for each file",
    },
];

impl Deflate {
    /// The encoder of `docker push` from the classic store.
    pub const DOCKER_PUSH: Deflate = Deflate::Go(Level::DEFAULT, Writes::Contents);

    /// All that can be reproduced, each once, the likeliest first.
    pub fn all() -> Vec<Deflate> {
        let mut all = Vec::new();
        for deflate in ENCODERS.iter().filter_map(|encoder| encoder.deflate) {
            if !all.contains(&deflate) {
                all.push(deflate);
            }
        }
        all
    }

    /// The encoders that use it.
    pub fn encoders(self) -> impl Iterator<Item = &'static Encoder> {
        ENCODERS
            .iter()
            .filter(move |encoder| encoder.deflate == Some(self))
    }
}

/// Their names in a list: each once, and zlib's levels together.
pub(super) fn names(deflates: &[Deflate]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut levels = Vec::new();
    for deflate in deflates {
        match deflate {
            Deflate::Zlib(level) => levels.push(*level),
            Deflate::Go(..) if names.contains(&deflate.to_string()) => {}
            Deflate::Go(..) => names.push(deflate.to_string()),
        }
    }
    levels.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for level in levels {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == level => *last = level,
            _ => ranges.push((level, level)),
        }
    }
    names.extend(ranges.iter().map(|(first, last)| match first == last {
        true => format!("zlib {first}"),
        false => format!("zlib {first} to {last}"),
    }));
    names
}

impl fmt::Display for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deflate::Go(Level::DEFAULT, _) => f.write_str("Go gzip -1"),
            Deflate::Go(level, _) => write!(f, "Go gzip {}", level.number()),
            Deflate::Zlib(level) => write!(f, "zlib {level}"),
        }
    }
}
