//! A source in memory that serves real image content, and fails on request.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::testing::{self, TestBlob, TestImage};
use crate::oci::{Descriptor, Digest, Platform, Reference, Repository};
use crate::source::{Answer, Found, Listing, Query, Source};

/// What is wrong with one response.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The body ends after this many bytes.
    CutAt(usize),
    /// The connection breaks after this many bytes.
    BreakAt(usize),
    /// The byte at this position is wrong.
    FlipAt(usize),
    /// There is one byte too many.
    Longer,
    /// The registry is busy.
    Busy,
}

type Hook = Box<dyn Fn(&Descriptor) + Send + Sync>;

#[derive(Default)]
pub struct Fake {
    blobs: HashMap<Digest, Arc<[u8]>>,
    tags: HashMap<String, Descriptor>,
    faults: Mutex<HashMap<Digest, VecDeque<Fault>>>,
    /// Every response: the blob, and the offset of the request.
    pub opened: Mutex<Vec<(Digest, u64)>>,
    /// Bytes sent in bodies.
    pub given: Arc<Mutex<usize>>,
    /// Stops the run after this many bytes were sent.
    pub stop_after: Option<(usize, Interrupt)>,
    /// Whether other users may not read it.
    pub is_private: bool,
    /// Called when a blob is opened.
    pub hook: Option<Hook>,
}

impl Fake {
    fn blob(&mut self, blob: TestBlob) -> Descriptor {
        self.blobs.insert(blob.descriptor.digest, blob.bytes.into());
        blob.descriptor
    }

    /// Adds a manifest with config and layers for a platform.
    pub fn manifest(&mut self, platform: &Platform, layers: &[Vec<u8>]) -> Descriptor {
        let image = layers
            .iter()
            .fold(TestImage::new().platform(platform), |image, layer| {
                image.layer(layer.as_slice())
            });
        for blob in image.blobs() {
            self.blob(blob);
        }
        image.entry()
    }

    /// Tags an index over manifests.
    pub fn index(&mut self, name: &str, manifests: &[Descriptor]) -> Digest {
        let index = self.blob(testing::index(manifests));
        self.tag(name, &index)
    }

    pub fn tag(&mut self, name: &str, descriptor: &Descriptor) -> Digest {
        self.tags.insert(reference(name).full(), descriptor.bare());
        descriptor.digest
    }

    /// Tags an index over one image for amd64 and one for arm64, whose layers differ in a byte.
    pub fn image(&mut self, name: &str, layers: &[Vec<u8>]) -> Digest {
        let amd64 = self.manifest(&Platform::linux("amd64", None), layers);
        let other: Vec<Vec<u8>> = layers
            .iter()
            .map(|layer| [b"arm", layer.as_slice()].concat())
            .collect();
        let arm64 = self.manifest(&Platform::linux("arm64", None), &other);
        self.index(name, &[amd64, arm64])
    }

    fn root(&self, reference: &Reference) -> Result<Descriptor> {
        if let Some(digest) = reference.digest() {
            let known = self.tags.values().find(|descriptor| descriptor.digest == digest);
            if let Some(known) = known {
                return Ok(known.clone());
            }
        }
        self.tags
            .get(&reference.full())
            .cloned()
            .ok_or_else(|| Error::NotFound {
                what: reference.familiar(),
                place: "the fake".into(),
                hint: None,
            })
    }

    pub fn fail(&self, blob: Digest, faults: &[Fault]) {
        self.faults
            .lock()
            .unwrap()
            .entry(blob)
            .or_default()
            .extend(faults);
    }

    /// The offsets of the requests for a blob.
    pub fn offsets(&self, blob: Digest) -> Vec<u64> {
        let opened = self.opened.lock().unwrap();
        opened
            .iter()
            .filter(|(digest, _)| *digest == blob)
            .map(|(_, offset)| *offset)
            .collect()
    }
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Bytes that do not repeat, different for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

impl Source for Fake {
    fn find(&self, query: &Query<'_>) -> Result<Vec<Answer<'_>>> {
        query.each(|reference| {
            let root = self.root(reference)?;
            Ok(Found {
                is_private: self.is_private,
                ..Found::in_registry(root, "memory".into(), query.platforms)
            })
        })
    }

    fn metadata(&self, _: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self
            .blobs
            .get(&descriptor.digest)
            .ok_or_else(|| Error::NotFound {
                what: descriptor.digest.to_string(),
                place: "the fake".into(),
                hint: None,
            })?;
        Ok(bytes.to_vec())
    }

    fn open(&self, _: &Repository, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push((descriptor.digest, offset));
        if let Some(hook) = &self.hook {
            hook(descriptor);
        }
        let fault = self
            .faults
            .lock()
            .unwrap()
            .get_mut(&descriptor.digest)
            .and_then(VecDeque::pop_front);
        let start = usize::try_from(offset).unwrap();
        let mut bytes = self.blobs[&descriptor.digest][start..].to_vec();
        let mut breaks = false;
        match fault {
            Some(Fault::CutAt(at)) => bytes.truncate(at),
            Some(Fault::BreakAt(at)) => {
                bytes.truncate(at);
                breaks = true;
            }
            Some(Fault::FlipAt(at)) => bytes[at] ^= 1,
            Some(Fault::Longer) => bytes.push(0),
            Some(Fault::Busy) => {
                return Err(Error::Registry {
                    registry: "fake".into(),
                    subject: descriptor.digest.to_string(),
                    problem: "503".into(),
                    hint: None,
                    transient: true,
                });
            }
            None => {}
        }
        Ok(Box::new(Body {
            bytes: io::Cursor::new(bytes),
            breaks,
            given: self.given.clone(),
            stop_after: self.stop_after.clone(),
        }))
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing {
            references: self.tags.keys().map(|name| reference(name)).collect(),
            ..Listing::default()
        })
    }
}

struct Body {
    bytes: io::Cursor<Vec<u8>>,
    breaks: bool,
    given: Arc<Mutex<usize>>,
    stop_after: Option<(usize, Interrupt)>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1000);
        let count = self.bytes.read(&mut buffer[..most])?;
        if count == 0 && self.breaks && !buffer.is_empty() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut given = self.given.lock().unwrap();
        *given += count;
        if let Some((limit, interrupt)) = &self.stop_after
            && *given >= *limit
        {
            interrupt.stop();
        }
        Ok(count)
    }
}
