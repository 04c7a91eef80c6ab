//! What a verification reads from a registry: blobs whose length is compared first, sizes without content, documents
//! of any size, and lists of tags.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::header;

use super::blob::BlobReader;
use super::client::Wanted;
use super::mirror::Endpoint;
use super::request_error::marked;
use super::source::{RegistrySource, refused};
use super::transport::Answer;
use crate::error::{Error, Problem, Result};
use crate::oci::{Descriptor, Reference, Repository};
use crate::source::Source as _;

/// Most tags of a repository that are listed.
const MAX_TAGS: usize = 1_000_000;
/// Tags that are requested at once.
const PAGE: &str = "n=1000";
/// Most requests for the tags of a repository: some registries send 100 at a time.
const MAX_PAGES: usize = MAX_TAGS / 100;
/// Bytes of a query that leads to the next page.
pub(super) const MAX_QUERY: usize = 1 << 10;
/// Most pages without tags, one after another. Registries that hide tags may send some.
const EMPTY_PAGES: usize = 10;
/// After this many bytes without a failure, attempts are counted anew.
const HEADWAY: u64 = 1 << 20;

impl RegistrySource {
    /// Lists the tags of a repository, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such repository.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<Reference>> {
        let tags = self.try_endpoints(repository, 0, |place| self.tags_at(place))?;
        let references = tags.iter().map(|tag| {
            let name = format!("{}:{tag}", repository.full());
            name.parse().map_err(|error| Error::Registry {
                registry: repository.domain().into(),
                subject: repository.path().into(),
                problem: format!("it lists a tag that is none: {error}"),
                hint: None,
                transient: false,
            })
        });
        references.collect()
    }

    fn tags_at(&self, place: &Endpoint) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let (mut tags, mut asked) = (Vec::new(), HashSet::new());
        let mut query = PAGE.to_string();
        let mut empty = 0;
        loop {
            let wanted = Wanted::Tags(query.clone());
            let (page, next) = self.read_with_retries(place, &wanted, |answer, subject| {
                let next = next_page(&answer);
                let bytes = self.read_document(answer, subject)?;
                let page = serde_json::from_slice::<Page>(&bytes);
                let page =
                    page.map_err(|error| subject.transient(format!("it is no list of tags: {error}")))?;
                Ok((page, next))
            })?;
            let page = page.tags.unwrap_or_default();
            empty = if page.is_empty() { empty + 1 } else { 0 };
            tags.extend(page);
            let is_new = asked.insert(query);
            let may_end = is_new && tags.len() <= MAX_TAGS && asked.len() < MAX_PAGES && empty <= EMPTY_PAGES;
            query = match next {
                None => break,
                Some(next) if may_end && next.len() <= MAX_QUERY && !asked.contains(&next) => next,
                Some(_) => {
                    let endless = wanted.subject(place).transient("the list never ends".into());
                    return Err(marked(endless, false));
                }
            };
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    /// Resolves a reference, and returns the bytes of its manifest or index, which are right.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Refused`] for wrong bytes, and [`Error::Registry`].
    pub(super) fn resolve_document(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>)> {
        self.try_endpoints(reference.repository(), 0, |place| {
            self.resolve_at(place, reference)
        })
    }

    /// Reads a manifest, index or config. Wrong bytes are requested once more.
    ///
    /// # Errors
    ///
    /// As [`RegistrySource::resolve_document`]. Bytes of another length than the descriptor's are wrong.
    pub(super) fn document(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let wanted = Wanted::of(descriptor);
        self.try_endpoints(repository, 0, |place| {
            self.read_with_retries(place, &wanted, |answer, subject| {
                let bytes = self.read_document(answer, subject)?;
                match wrong_bytes(descriptor, &bytes) {
                    None => Ok(bytes),
                    Some(problem) => Err(refused(place, Some(descriptor.digest), problem)),
                }
            })
        })
    }

    /// Bytes of a blob, as the registry says without sending it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], and [`Error::Registry`], also if it does not say.
    pub(super) fn stored_size(&self, repository: &Repository, descriptor: &Descriptor) -> Result<u64> {
        let wanted = Wanted::Blob(descriptor.digest, 0);
        self.try_endpoints(repository, 0, |place| {
            let answer = self.client.head(place, &wanted)?;
            answer.stated_length().ok_or_else(|| {
                let silent = wanted
                    .subject(place)
                    .transient("it does not say how long this is".into());
                marked(silent, false)
            })
        })
    }

    /// Opens a blob to read all of it, with retries where the connection breaks.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Refused`] if its length differs from the descriptor's, and [`Error::Registry`].
    pub(super) fn stream(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
        descriptor: &Descriptor,
    ) -> Result<ResumingReader> {
        let first = self.times_opened(descriptor.digest);
        let wanted = Wanted::Blob(descriptor.digest, 0);
        let reader = self.try_endpoints(repository, first, |place| {
            let answer = self.client.get(place, &wanted)?;
            if let Some(found) = answer.stated_length()
                && found != descriptor.size
            {
                let problem = wrong_size(descriptor.size, found);
                return Err(refused(place, Some(descriptor.digest), problem));
            }
            let timeouts = &self.client.transport.timeouts;
            BlobReader::new(answer, wanted.subject(place), descriptor.size, 0, timeouts)
        })?;
        Ok(ResumingReader {
            source: Arc::clone(self),
            repository: Arc::clone(repository),
            descriptor: descriptor.clone(),
            reader: Some(Box::new(reader)),
            position: 0,
            mark: 0,
            failed: 0,
        })
    }
}

/// Reads a blob, and goes on where a broken connection ended.
pub(super) struct ResumingReader {
    source: Arc<RegistrySource>,
    repository: Arc<Repository>,
    descriptor: Descriptor,
    /// `None` after a failure.
    reader: Option<Box<dyn Read + Send>>,
    position: u64,
    /// The position at which `failed` began.
    mark: u64,
    failed: u32,
}

impl ResumingReader {
    fn attempt(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let opened = self
                    .source
                    .open(&self.repository, &self.descriptor, self.position);
                self.reader.insert(opened.map_err(io::Error::other)?)
            }
        };
        reader.read(buffer)
    }
}

impl Read for ResumingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let error = match self.attempt(buffer) {
                Ok(count) => {
                    let bytes = u64::try_from(count).unwrap_or(u64::MAX);
                    self.position = self.position.saturating_add(bytes);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => Error::from_reader(error, Error::io("read", "the registry's answer")),
            };
            if self.position >= self.mark.saturating_add(HEADWAY) {
                (self.mark, self.failed) = (self.position, 0);
            }
            self.failed += 1;
            let client = &self.source.client;
            let is_at_the_end = self.position >= self.descriptor.size;
            if is_at_the_end || !error.is_transient() || !client.retry().allows(self.failed) {
                return Err(io::Error::other(marked(error, false)));
            }
            client.note(&format!("{error}; retrying"));
            self.reader = None;
            client.pause(self.failed).map_err(io::Error::other)?;
        }
    }
}

/// What is wrong with the bytes of a document.
fn wrong_bytes(descriptor: &Descriptor, bytes: &[u8]) -> Option<Problem> {
    let (expected, found) = (descriptor.digest, descriptor.digest.of_same_algorithm(bytes));
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found != expected && size == descriptor.size {
        return Some(Problem::DigestDiffers { expected, found });
    }
    (size != descriptor.size).then(|| wrong_size(descriptor.size, size))
}

fn wrong_size(expected: u64, found: u64) -> Problem {
    match found {
        0 => Problem::Empty,
        _ if found < expected => Problem::Truncated { expected, found },
        _ => Problem::SizeDiffers { expected, found },
    }
}

/// The query of the next page, by the `Link` header. The registry cannot lead to another path by it.
pub(super) fn next_page(answer: &Answer) -> Option<String> {
    let links = answer.header(header::LINK)?;
    let next = links.split(',').find(|link| {
        let (_, parameters) = link.split_once('>').unwrap_or_default();
        let mut parameters = parameters.split(';').map(str::trim);
        parameters.any(|parameter| matches!(parameter, "rel=\"next\"" | "rel=next"))
    })?;
    let (target, _) = next.trim().strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    let is_harmless = |char: char| char.is_ascii_graphic() && char != '#';
    query.chars().all(is_harmless).then(|| query.to_string())
}
