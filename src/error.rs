//! The library's error type, and the findings of a verification.
//!
//! An [`Error`] ends an operation and says on which side the cause is; exit codes follow from that. A
//! [`Finding`] is data: a verification collects all of them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::escape::Escaped;
use crate::oci::manifest::DocumentError;
use crate::oci::reference::ReferenceError;
use crate::oci::{Digest, Platform};

/// The result of the library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Content is wrong or hostile, or exceeds a limit.
    #[error("{0}")]
    Refused(Box<Finding>),
    /// A verification found errors; the report holds all of them.
    #[error("{place}: {count} of the archive's checks failed")]
    Unverified {
        /// The archive.
        place: String,
        /// Number of findings that are errors.
        count: usize,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The request itself is invalid.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Text is not an image reference.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// A local file could not be read or written.
    #[error("cannot {action} {}{}: {source}", path.display(), At(*offset))]
    Io {
        /// What was tried: a verb, as in "cannot read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes, if that is known.
        offset: Option<u64>,
        /// What the system said.
        source: Arc<io::Error>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The registry, or the network on the way to it.
    #[error("{registry}: {}{problem}", About(subject))]
    Registry {
        /// The registry's host, as the reference names it.
        registry: String,
        /// What was requested: a reference, digest or address. May be empty.
        subject: String,
        /// What went wrong, with what was expected and found.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether a retry may help.
        transient: bool,
    },
    /// A container engine refused or stopped responding.
    #[error("{engine}: {action}: {problem}")]
    Engine {
        /// Which engine, at which address.
        engine: String,
        /// What was requested of it.
        action: String,
        /// What it answered.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A digest is not shown or not proven, or cannot be provided.
    #[error("{message}")]
    NotShown {
        /// Which digest or image, and why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An image, tag or platform does not exist where sealift looked for it.
    #[error("{what} not found in {place}")]
    NotFound {
        /// The thing.
        what: String,
        /// Where sealift looked for it.
        place: String,
        /// What exists instead.
        hint: Option<String>,
    },
    /// Several things failed, each for its own reason.
    #[error("{} errors: {}", .0.len(), Listed(.0))]
    Several(Vec<Error>),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

struct Listed<'a>(&'a [Error]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// The most severe of several exit codes: wrong content ranks before a failing engine, and that before a
/// missing image. 0 if there is none.
pub fn most_severe(codes: impl Iterator<Item = u8>) -> u8 {
    const RANKING: [u8; 7] = [1, 5, 3, 4, 7, 2, 6];
    codes
        .filter(|code| *code != 0)
        .min_by_key(|code| RANKING.iter().position(|known| known == code))
        .unwrap_or(0)
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

struct About<'a>(&'a str);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "{}: ", Escaped(self.0))
        }
    }
}

impl Error {
    /// Makes a local I/O error, as in `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            action,
            path: path.as_ref().to_path_buf(),
            offset: None,
            source: Arc::new(source),
            hint: None,
        }
    }

    /// The error of this crate inside an [`io::Error`] (by `io::Error::other`), else the result of `otherwise`.
    pub fn from_reader(error: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Error {
        error.downcast::<Error>().unwrap_or_else(otherwise)
    }

    /// Makes a refusal of content.
    pub fn refused(place: Place, problem: impl Into<Problem>) -> Error {
        let problem = problem.into();
        Error::Refused(Box::new(Finding { place, problem }))
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Usage { hint, .. }
            | Error::Io { hint, .. }
            | Error::Registry { hint, .. }
            | Error::Engine { hint, .. }
            | Error::NotShown { hint, .. }
            | Error::Unverified { hint, .. }
            | Error::NotFound { hint, .. } => hint.as_deref(),
            Error::Refused(finding) => finding.problem.hint(),
            Error::Reference(error) => error.hint.as_deref(),
            Error::Several(_) | Error::Interrupted => None,
        }
    }

    /// The same error with this hint, if it is a registry's and has none.
    pub(crate) fn or_hint(mut self, text: &str) -> Error {
        if let Error::Registry { hint, .. } = &mut self {
            hint.get_or_insert_with(|| text.into());
        }
        self
    }

    /// The process exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Refused(_) | Error::Unverified { .. } => 1,
            Error::Usage { .. } | Error::Reference(_) => 2,
            Error::Io { .. } => 3,
            Error::Registry { .. } => 4,
            Error::Engine { .. } => 5,
            Error::NotShown { .. } => 6,
            Error::NotFound { .. } => 7,
            Error::Several(errors) => most_severe(errors.iter().map(Error::exit_code)),
            Error::Interrupted => 130,
        }
    }

    /// One error for several; a single one stays as it is.
    pub fn of_several(mut errors: Vec<Error>) -> Error {
        match errors.len() {
            1 => errors.remove(0),
            _ => Error::Several(errors),
        }
    }

    /// The errors inside [`Error::Several`], or this one alone.
    pub fn each(&self) -> &[Error] {
        match self {
            Error::Several(errors) => errors,
            only => std::slice::from_ref(only),
        }
    }

    /// Whether the reader of our output has gone away, which is not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same request may succeed in a retry.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Registry { transient: true, .. })
    }
}

/// Where something was found. A field is empty if it is not known or does not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The archive, layout folder or registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The entry in the archive, or file in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Bytes from the start of the archive, with its parts joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Place {
    /// The place of a blob about which nothing else is known.
    pub fn blob(digest: Digest) -> Place {
        Place {
            digest: Some(digest),
            ..Place::default()
        }
    }

    /// The same place inside an archive or registry.
    pub fn within(mut self, archive: impl fmt::Display) -> Place {
        self.archive = Some(archive.to_string());
        self
    }

    /// The same place at an entry.
    pub fn entry(mut self, entry: impl Into<String>) -> Place {
        self.entry = Some(entry.into());
        self
    }

    /// The same place at an offset.
    pub fn at(mut self, offset: u64) -> Place {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(archive) = &self.archive {
            write!(f, "{}", Escaped(archive))?;
            separator = ": ";
        }
        match (&self.entry, &self.digest) {
            (Some(entry), Some(digest)) if !entry.contains(&digest.hex()) => {
                write!(f, "{separator}{} ({digest})", Escaped(entry))?;
            }
            (Some(entry), _) => write!(f, "{separator}{}", Escaped(entry))?,
            (None, Some(digest)) => write!(f, "{separator}{digest}")?,
            (None, None) => {}
        }
        match self.offset {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

/// One thing that a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.to_string();
        if place.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{place}: {}", self.problem)
        }
    }
}

impl Finding {
    /// Whether this makes the content unusable; otherwise it is a note.
    pub fn is_error(&self) -> bool {
        !matches!(self.problem, Problem::UnknownFile)
    }
}

/// What can be wrong with content. Texts from the content are escaped when displayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the display text of each variant is its documentation; fields are what was expected and found"
)]
pub enum Problem {
    #[error("not valid JSON: {}", Escaped(reason))]
    Json { reason: String },
    #[error("{}", Escaped(reason))]
    Document { reason: String },
    #[error("manifest schema 1 is not supported: it has no stable digest")]
    Schema1,
    #[error("is both a manifest and an index")]
    Ambiguous,
    #[error("media type is {}, its descriptor says {}", Escaped(found), Escaped(expected))]
    MediaTypeDiffers { expected: String, found: String },
    #[error("digest is {found}, expected {expected}")]
    DigestDiffers { expected: Digest, found: Digest },
    #[error("{}", Escaped(reason))]
    BadDigest { reason: String },
    #[error("size is {found} bytes, expected {expected}")]
    SizeDiffers { expected: u64, found: u64 },
    #[error("diff id is {found}, the config says {expected}")]
    DiffIdDiffers { expected: Digest, found: Digest },
    #[error("{layers} layers, but the config names {diff_ids} diff ids")]
    DiffIdCount { layers: usize, diff_ids: usize },
    #[error("its index says that it is for {said}, its config {found}")]
    PlatformDiffers { said: Platform, found: Platform },
    #[error("two images in it are for {platform}, and engines choose differently: {first} and {second}")]
    PlatformOfTwoImages {
        platform: Platform,
        first: Digest,
        second: Digest,
    },
    #[error("engines take {other} in it for {platform}, which is not an image")]
    PlatformOfNoImage { platform: Platform, other: Digest },
    #[error("recorded as {recorded}, which is here and is another image's: its config is {config}")]
    RecordedDiffers { recorded: Digest, config: Digest },
    #[error("engines cannot unpack this layer: {}", Escaped(reason))]
    Layer { reason: String },
    #[error("missing")]
    Missing,
    #[error("missing, and so is {diff_id}, its declared uncompressed form")]
    MissingUncompressed { diff_id: Digest },
    #[error("occurs twice")]
    Duplicate,
    #[error("not a valid tar: {}", Escaped(reason))]
    Tar { reason: String },
    #[error("its parts do not make a tar: {}", Escaped(reason))]
    Parts { reason: String },
    #[error("is a {kind}, expected a regular file")]
    NotAFile { kind: &'static str },
    #[error("truncated: {found} bytes, expected {expected}")]
    Truncated { expected: u64, found: u64 },
    #[error("no end-of-archive blocks: the archive was truncated")]
    NoEnd,
    #[error("data follows the end of the archive")]
    DataAfterEnd,
    #[error("nothing refers to this file")]
    UnknownFile,
    #[error("{found} bytes, over the limit of {limit}")]
    TooLarge { limit: u64, found: u64 },
    #[error("nested deeper than {limit} indexes")]
    TooDeep { limit: usize },
    #[error("more than {limit} entries")]
    TooMany { limit: usize },
    #[error("cannot be decompressed: {}", Escaped(reason))]
    Compression { reason: String },
    #[error("cannot be decompressed: it ends too early")]
    StreamCut,
    #[error("data follows the end of the compressed stream")]
    DataAfterStream,
    #[error("decompresses to more than {limit} bytes")]
    Expands { limit: u64 },
    #[error("{}", Escaped(reason))]
    Name { reason: String },
    #[error("{} is also the name of {other}", Escaped(name))]
    NameOfTwoImages { name: String, other: Digest },
    #[error("it has two names, {} and {}", Escaped(first), Escaped(second))]
    NamesDiffer { first: String, second: String },
    #[error("its name has another digest, {named}")]
    NameDigestDiffers { named: Digest },
    #[error("archive format {}, this sealift reads up to {supported}", Escaped(found))]
    Format { found: String, supported: u32 },
    #[error("{}", Escaped(reason))]
    ManifestJson { reason: String },
    #[error(
        "this is an archive of `docker save`, or written like one: it has layers but no manifest that a registry \
         served, and proves no digest"
    )]
    DockerSave,
    #[error("{}", Escaped(reason))]
    Link { reason: String },
    #[error("is archive {found}, expected {expected}")]
    Unexpected { expected: Digest, found: Digest },
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Problem {
        match error {
            DocumentError::Json { reason } => Problem::Json { reason },
            DocumentError::Malformed { reason } => Problem::Document { reason },
            DocumentError::Schema1 => Problem::Schema1,
            DocumentError::Ambiguous => Problem::Ambiguous,
            DocumentError::MediaTypeDiffers { expected, found } => {
                Problem::MediaTypeDiffers { expected, found }
            }
        }
    }
}

impl Problem {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::Json { .. } => "json",
            Problem::Document { .. } => "document",
            Problem::Schema1 => "schema1",
            Problem::Ambiguous => "ambiguous",
            Problem::MediaTypeDiffers { .. } => "media-type-differs",
            Problem::DigestDiffers { .. } => "digest-differs",
            Problem::BadDigest { .. } => "bad-digest",
            Problem::SizeDiffers { .. } => "size-differs",
            Problem::DiffIdDiffers { .. } => "diff-id-differs",
            Problem::DiffIdCount { .. } => "diff-id-count",
            Problem::PlatformDiffers { .. } => "platform-differs",
            Problem::PlatformOfTwoImages { .. } => "platform-of-two-images",
            Problem::PlatformOfNoImage { .. } => "platform-of-no-image",
            Problem::RecordedDiffers { .. } => "recorded-digest-differs",
            Problem::Layer { .. } => "layer",
            Problem::Missing | Problem::MissingUncompressed { .. } => "missing",
            Problem::Duplicate => "duplicate",
            Problem::Tar { .. } | Problem::Parts { .. } => "tar",
            Problem::NotAFile { .. } => "not-a-file",
            Problem::Truncated { .. } => "truncated",
            Problem::NoEnd => "no-end",
            Problem::DataAfterEnd => "data-after-end",
            Problem::UnknownFile => "unknown-file",
            Problem::TooLarge { .. } => "too-large",
            Problem::TooDeep { .. } => "too-deep",
            Problem::TooMany { .. } => "too-many",
            Problem::Compression { .. } | Problem::StreamCut => "compression",
            Problem::DataAfterStream => "data-after-stream",
            Problem::Expands { .. } => "expands",
            Problem::Name { .. } => "name",
            Problem::NameOfTwoImages { .. } => "name-of-two-images",
            Problem::NamesDiffer { .. } => "names-differ",
            Problem::NameDigestDiffers { .. } => "name-digest-differs",
            Problem::Format { .. } => "format",
            Problem::ManifestJson { .. } => "manifest-json",
            Problem::DockerSave => "docker-save",
            Problem::Link { .. } => "link",
            Problem::Unexpected { .. } => "unexpected",
        }
    }

    /// Whether the content ends too early.
    pub fn is_cut(&self) -> bool {
        matches!(
            self,
            Problem::Truncated { .. } | Problem::NoEnd | Problem::StreamCut
        )
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Problem::Schema1 => {
                Some("push the image again with a current Docker or skopeo, which writes schema 2")
            }
            Problem::Expands { .. } => {
                Some("raise it with --max-layer-size if the image is known to be that large")
            }
            Problem::NoEnd | Problem::Truncated { .. } | Problem::StreamCut => {
                Some("copy the archive again and compare its size")
            }
            Problem::Parts { .. } => {
                Some("copy every part of this archive again, and no other, into one folder")
            }
            Problem::DataAfterEnd => Some("if it is in parts, remove those of older archives"),
            Problem::Format { .. } => Some("use a newer sealift"),
            Problem::DockerSave => Some(
                "`sealift save --from FILE -o images.tar` converts it into an archive that can be loaded",
            ),
            Problem::PlatformDiffers { .. } => Some(
                "NAME@DIGEST, with this digest, saves it without its index; --platform then takes what the config says",
            ),
            Problem::PlatformOfTwoImages { .. } | Problem::PlatformOfNoImage { .. } => {
                Some("NAME@DIGEST, with the digest of one of its manifests, saves that one without the index")
            }
            Problem::Unexpected { .. } => {
                Some("this is another archive than the one that `save` printed the digest of")
            }
            _ => None,
        }
    }
}
