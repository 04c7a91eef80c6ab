//! Registries as a source of images.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blob::{BlobReader, RateGuard, Subject};
use super::client::{Client, Wanted, media_type};
use super::mirror::{Endpoint, Mirror, endpoints};
use super::options::Options;
use super::referrers::InRegistry;
use super::request_error::marked;
use super::transport::Answer;
use crate::error::{Error, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Document, MAX_METADATA, MediaType, Reference, Repository};
use crate::progress::Progress;
use crate::source::{self, Found, Listing, Query, Source};

/// Most bytes of resolved manifests that are kept until they are read. Others are fetched again.
const MAX_KEPT: usize = 64 << 20;
/// How often a document with wrong bytes is requested again.
const REREADS: u32 = 1;

/// Every registry, by the host in a reference, through its mirrors.
///
/// A tag is resolved by fetching its manifest, not by requesting its digest alone. The digest is then that of
/// bytes which were received, and registries that do not send a digest need no special case. The bytes are kept
/// until [`Source::metadata`] asks for them, so it is still one request.
pub struct RegistrySource {
    pub(super) client: Client,
    mirrors: Vec<Mirror>,
    resolved: Mutex<HashMap<Digest, Vec<u8>>>,
    opened: Mutex<HashMap<Digest, Opened>>,
}

/// What is known about a blob that was opened.
#[derive(Default)]
struct Opened {
    /// How often it was opened.
    times: usize,
    /// The host that served it last.
    place: String,
}

impl RegistrySource {
    /// Makes a source. It does not contact a registry yet.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be read.
    pub fn new(
        options: Options,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Result<RegistrySource> {
        Ok(RegistrySource {
            mirrors: options.mirrors.clone(),
            client: Client::new(options, progress, interrupt)?,
            resolved: Mutex::default(),
            opened: Mutex::default(),
        })
    }

    /// Tries the hosts of a repository in order, from the one at `first` on, until one returns something good.
    pub(super) fn try_endpoints<T>(
        &self,
        repository: &Repository,
        first: usize,
        get: impl Fn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        // An image without a name.
        if repository.full().is_empty() {
            return Err(Error::NotFound {
                what: "an image without a name".into(),
                place: "registries".into(),
                hint: Some("a registry has images by name: NAME@sha256:...".into()),
            });
        }
        let places = endpoints(&self.mirrors, repository);
        let first = first.min(places.len().saturating_sub(1));
        let mut last = None;
        for place in places.iter().skip(first) {
            if place.is_mirror && self.client.is_given_up(place) {
                continue;
            }
            match get(place) {
                Ok(got) => return Ok(got),
                Err(error @ (Error::Interrupted | Error::Io { .. })) => return Err(error),
                Err(error) if place.is_mirror => self.passed_over(place, &error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Registry {
            registry: repository.domain().into(),
            subject: repository.path().into(),
            problem: "no host to ask".into(),
            hint: None,
            transient: false,
        }))
    }

    /// Notes that a mirror did not help. One that lacks something may have the rest; one that fails is not
    /// asked again.
    fn passed_over(&self, place: &Endpoint, error: &Error) {
        let is_failing = match error {
            Error::Registry { transient, .. } => !transient,
            other => is_damage(other),
        };
        if !is_failing {
            self.client.note(&format!("{error}; trying the next host"));
        } else if self.client.give_up(place) {
            self.client
                .note(&format!("{error}; continuing without this mirror"));
        }
    }

    /// Resolves a reference to the manifest or index that it names now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such repository, tag or digest.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        self.resolve_with_mirror(reference).map(|(root, _)| root)
    }

    /// Resolves a reference, and names the mirror that answered, if one did.
    fn resolve_with_mirror(&self, reference: &Reference) -> Result<(Descriptor, Option<String>)> {
        let (descriptor, bytes, mirror) = self.try_endpoints(reference.repository(), 0, |place| {
            let (descriptor, bytes) = self.resolve_at(place, reference)?;
            Ok((descriptor, bytes, place.is_mirror.then(|| place.name.clone())))
        })?;
        self.keep(&descriptor, bytes);
        Ok((descriptor, mirror))
    }

    /// Keeps the bytes of a manifest until [`Source::metadata`] asks for them.
    pub(super) fn keep(&self, descriptor: &Descriptor, bytes: Vec<u8>) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = resolved.values().map(Vec::len).sum();
        if kept.saturating_add(bytes.len()) <= MAX_KEPT {
            resolved.insert(descriptor.digest, bytes);
        }
    }

    /// What the first host of a repository has that has something; `None` if none has. A registry that cannot be reached is
    /// told once, and then its mirrors' answer counts.
    pub(super) fn find_at_endpoints<T>(
        &self,
        repository: &Repository,
        find: impl Fn(&Endpoint) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut is_answered = false;
        for place in endpoints(&self.mirrors, repository) {
            if self.client.is_given_up(&place) && (place.is_mirror || is_answered) {
                continue;
            }
            match find(&place) {
                Ok(None) => is_answered = true,
                Err(error @ (Error::Interrupted | Error::Io { .. })) => return Err(error),
                Err(error) if place.is_mirror => self.passed_over(&place, &error),
                Err(_) if is_answered && !self.client.has_answered(&place) => {
                    if self.client.give_up(&place) {
                        let name = &place.name;
                        self.client.note(&format!(
                            "{name} cannot be reached, so only its mirrors tell what refers to its images"
                        ));
                    }
                }
                found => return found,
            }
        }
        Ok(None)
    }

    /// The manifest or index that a tag names, verified; `None` if there is no such tag.
    pub(super) fn tagged_at(&self, place: &Endpoint, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>> {
        let wanted = Wanted::Tag(tag.into());
        self.find_with_retries(place, &wanted, |answer, of| {
            self.read_manifest(answer, of, place, &wanted, None)
        })
    }

    pub(super) fn resolve_at(
        &self,
        place: &Endpoint,
        reference: &Reference,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let wanted = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Wanted::Manifest(digest),
            (None, tag) => Wanted::Tag(tag.unwrap_or("latest").into()),
        };
        self.read_with_retries(place, &wanted, |answer, of| {
            self.read_manifest(answer, of, place, &wanted, reference.digest())
        })
    }

    /// Reads a manifest or index of unknown size, which is the expected one if its digest is known.
    fn read_manifest(
        &self,
        answer: Answer,
        of: &Subject,
        place: &Endpoint,
        wanted: &Wanted,
        expected: Option<Digest>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let claimed = header_digest(&answer, place, &wanted.name(&place.path))?;
        let content_type = media_type(&answer);
        let bytes = self.read_document(answer, of)?;
        let digest = confirm(&bytes, expected, claimed)
            .map_err(|problem| refused(place, expected.or(claimed), problem))?;
        let media_type =
            agreed_type(content_type, &bytes).map_err(|problem| refused(place, Some(digest), problem))?;
        Document::parse(&media_type, bytes.clone())
            .map_err(|error| refused(place, Some(digest), error.into()))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok((Descriptor::new(media_type, digest, size), bytes))
    }

    /// Reads a complete document of unknown size.
    pub(super) fn read_document(&self, answer: Answer, subject: &Subject) -> Result<Vec<u8>> {
        let length = answer.length();
        if let Some(found) = length.filter(|length| *length > MAX_METADATA) {
            return Err(too_large(subject, found));
        }
        if let Some(length) = length {
            return self.read_sized(answer, subject, length);
        }
        let mut bytes = Vec::new();
        RateGuard::new(answer, subject.clone(), &self.client.transport.timeouts)
            .take(MAX_METADATA + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::from_reader(error, Error::io("read", "the registry's answer")))?;
        match u64::try_from(bytes.len()) {
            Ok(found) if found <= MAX_METADATA => Ok(bytes),
            _ => Err(too_large(subject, MAX_METADATA + 1)),
        }
    }

    fn read_sized(&self, answer: Answer, subject: &Subject, size: u64) -> Result<Vec<u8>> {
        let timeouts = &self.client.transport.timeouts;
        let mut reader = BlobReader::new(answer, subject.clone(), size, 0, timeouts)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| Error::from_reader(error, Error::io("read", "the registry's answer")))?;
        Ok(bytes)
    }

    /// Fetches something small and reads it. Retries if reading fails, and once if the bytes are wrong, which may have
    /// happened on the way.
    pub(super) fn read_with_retries<T>(
        &self,
        place: &Endpoint,
        wanted: &Wanted,
        read: impl Fn(Answer, &Subject) -> Result<T>,
    ) -> Result<T> {
        let ask = || self.client.get(place, wanted).map(Some);
        let read = self.read_until_good(place, wanted, &ask, read)?;
        read.ok_or_else(|| wanted.subject(place).transient("there is nothing to read".into()))
    }

    /// The same for something that may not exist; `None` if it does not.
    pub(super) fn find_with_retries<T>(
        &self,
        place: &Endpoint,
        wanted: &Wanted,
        read: impl Fn(Answer, &Subject) -> Result<T>,
    ) -> Result<Option<T>> {
        let ask = || self.client.find(place, wanted);
        self.read_until_good(place, wanted, &ask, read)
    }

    fn read_until_good<T>(
        &self,
        place: &Endpoint,
        wanted: &Wanted,
        ask: &dyn Fn() -> Result<Option<Answer>>,
        read: impl Fn(Answer, &Subject) -> Result<T>,
    ) -> Result<Option<T>> {
        let subject = wanted.subject(place);
        let retry = match place.is_mirror {
            // There are other hosts to fetch it from.
            true => self.client.retry().at_most(2),
            false => self.client.retry(),
        };
        let (mut tried, mut wrong) = (0, 0);
        loop {
            tried += 1;
            let Some(answer) = ask()? else {
                return Ok(None);
            };
            match read(answer, &subject) {
                Ok(got) => return Ok(Some(got)),
                Err(error) => {
                    let is_wrong = is_damage(&error);
                    wrong += u32::from(is_wrong);
                    let may_help = match is_wrong {
                        true => wrong <= REREADS,
                        false => error.is_transient(),
                    };
                    if !may_help || !retry.allows(tried) {
                        return Err(marked(error, false));
                    }
                    self.client.note(&format!("{error}; retrying"));
                    self.client.pause(tried)?;
                }
            }
        }
    }

    fn metadata_at(&self, place: &Endpoint, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let is_document = descriptor.media_type.is_document();
        let read = self.read_with_retries(place, &Wanted::of(descriptor), |answer, subject| {
            let bytes = self.read_sized(answer, subject, descriptor.size)?;
            let found = descriptor.digest.of_same_algorithm(&bytes);
            if found == descriptor.digest {
                return Ok(bytes);
            }
            if is_document {
                let expected = descriptor.digest;
                let problem = Problem::DigestDiffers { expected, found };
                return Err(refused(place, Some(expected), problem));
            }
            // A blob that arrives wrong is the registry's or the network's fault, however often it happens.
            Err(subject.transient(format!("digest is {found}, expected {}", descriptor.digest)))
        });
        read.map_err(|error| foreign(error, descriptor))
    }

    fn open_at(&self, place: &Endpoint, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        let wanted = Wanted::Blob(descriptor.digest, offset);
        let answer = self
            .client
            .get(place, &wanted)
            .map_err(|error| foreign(error, descriptor))?;
        let timeouts = &self.client.transport.timeouts;
        BlobReader::new(answer, wanted.subject(place), descriptor.size, offset, timeouts)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Digest, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a blob was opened before. One that is opened again had wrong bytes, so the next host is
    /// better.
    pub(super) fn times_opened(&self, digest: Digest) -> usize {
        let mut opened = self.opened();
        let times = &mut opened.entry(digest).or_default().times;
        *times += 1;
        *times - 1
    }
}

impl Source for RegistrySource {
    fn find(&self, query: &Query<'_>) -> Result<Vec<source::Answer<'_>>> {
        query.each(|reference| {
            let (root, mirror) = self.resolve_with_mirror(reference)?;
            let domain = reference.repository().domain();
            let origin = match mirror {
                Some(mirror) => format!("{mirror} of {domain}"),
                None => format!("registry {domain}"),
            };
            Ok(Found {
                about: Box::new(InRegistry {
                    source: self,
                    repository: reference.repository().clone(),
                }),
                ..Found::in_registry(root, origin, query.platforms)
            })
        })
    }

    fn metadata(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_METADATA {
            let problem = Problem::TooLarge {
                limit: MAX_METADATA,
                found: descriptor.size,
            };
            return Err(Error::refused(Place::blob(descriptor.digest), problem));
        }
        let kept = self
            .resolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&descriptor.digest);
        if let Some(bytes) = kept {
            let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if found == descriptor.size {
                return Ok(bytes);
            }
            let expected = descriptor.size;
            let problem = Problem::SizeDiffers { expected, found };
            return Err(Error::refused(
                Place::blob(descriptor.digest).within(repository.domain()),
                problem,
            ));
        }
        self.try_endpoints(repository, 0, |place| self.metadata_at(place, descriptor))
    }

    fn open(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        if offset > 0 && offset >= descriptor.size {
            return Ok(Box::new(std::io::empty()));
        }
        if descriptor.media_type.is_document() {
            let mut bytes = std::io::Cursor::new(self.metadata(repository, descriptor)?);
            bytes.set_position(offset);
            return Ok(Box::new(bytes));
        }
        let first = if offset == 0 {
            self.times_opened(descriptor.digest)
        } else {
            0
        };
        let (reader, place) = self.try_endpoints(repository, first, |place| {
            Ok((self.open_at(place, descriptor, offset)?, place.name.clone()))
        })?;
        self.opened().entry(descriptor.digest).or_default().place = place;
        Ok(Box::new(reader))
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing::unknown())
    }

    fn fault(&self, repository: &Repository, descriptor: &Descriptor, problem: Problem) -> Error {
        let place = self
            .opened()
            .get(&descriptor.digest)
            .map(|opened| opened.place.clone())
            .filter(|place| !place.is_empty());
        Subject {
            registry: place.unwrap_or_else(|| repository.domain().into()),
            subject: format!("{}@{}", repository.path(), descriptor.digest),
        }
        .transient(problem.to_string())
    }
}

pub(super) fn refused(place: &Endpoint, digest: Option<Digest>, problem: Problem) -> Error {
    Error::refused(
        Place {
            archive: Some(format!("{}/{}", place.name, place.path)),
            digest,
            ..Place::default()
        },
        problem,
    )
}

/// Whether the bytes that arrived are wrong.
fn is_damage(error: &Error) -> bool {
    let Error::Refused(finding) = error else {
        return false;
    };
    matches!(
        finding.problem,
        Problem::DigestDiffers { .. }
            | Problem::Empty
            | Problem::Truncated { .. }
            | Problem::SizeDiffers { .. }
    )
}

fn too_large(subject: &Subject, found: u64) -> Error {
    let limit = MAX_METADATA;
    Error::refused(
        Place::default().within(&subject.registry).entry(&subject.subject),
        Problem::TooLarge { limit, found },
    )
}

/// The digest of a document in a registry's header.
fn header_digest(answer: &Answer, place: &Endpoint, subject: &str) -> Result<Option<Digest>> {
    if !answer.headers.contains_key("docker-content-digest") {
        return Ok(None);
    }
    let text = answer.header("docker-content-digest").unwrap_or_default();
    text.trim().parse().map(Some).map_err(|error| {
        let reason = format!("Docker-Content-Digest of {subject}: {error}");
        refused(place, None, Problem::BadDigest { reason })
    })
}

/// The digest of a document's bytes, which must be the requested and the claimed one if there are any.
fn confirm(bytes: &[u8], asked: Option<Digest>, claimed: Option<Digest>) -> Result<Digest, Problem> {
    for expected in [asked, claimed].into_iter().flatten() {
        let found = expected.of_same_algorithm(bytes);
        if found != expected {
            return Err(Problem::DigestDiffers { expected, found });
        }
    }
    Ok(asked.or(claimed).unwrap_or_else(|| Digest::sha256(bytes)))
}

/// The media type of a document, on which the response and the document must agree.
fn agreed_type(content_type: Option<MediaType>, bytes: &[u8]) -> Result<MediaType, Problem> {
    if let Some(media_type) = content_type {
        return Ok(media_type);
    }
    Document::sniff(bytes).ok_or_else(|| Problem::Document {
        reason: "neither the answer nor the document says what it is".into(),
    })
}

/// Explains a missing foreign layer.
fn foreign(error: Error, descriptor: &Descriptor) -> Error {
    match error {
        Error::NotFound { what, place, .. } if !descriptor.urls.is_empty() => Error::NotFound {
            what,
            place,
            hint: Some(
                "it is a foreign layer, which the registry does not have; the places that it names are not \
                 asked"
                    .into(),
            ),
        },
        other => other,
    }
}
