//! What a verification finds in content: a problem, and its place.

use std::fmt;

use super::{Hint, Remedy, SignatureProblem};
use crate::escape::Escaped;
use crate::oci::DocumentError;
use crate::oci::{Digest, Platform};

/// Wrong sizes of a blob that are reported one by one: manifests may give it thousands.
pub(crate) const MAX_WRONG_SIZES: usize = 3;

/// Where something was found. A field is empty if it is not known or does not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize)]
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
        !matches!(
            self.problem,
            Problem::UnknownFile
                | Problem::Sparse { .. }
                | Problem::DanglingLink { .. }
                | Problem::UnfinishedUpload { .. }
                | Problem::UnfinishedRepair
                | Problem::StrayReferrer { .. }
                | Problem::StatementOfAnother { .. }
        )
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        let text = match &self.problem {
            Problem::Expands { .. } => return Some(Remedy::RaiseLayerLimit.into()),
            Problem::DockerSave => {
                return Some(Remedy::ConvertDockerSave(self.place.archive.clone()).into());
            }
            Problem::Schema1 => "push the image again with a current Docker or skopeo, which writes schema 2",
            Problem::NoEnd | Problem::Truncated { .. } | Problem::StreamCut => {
                "copy the archive again and compare its size"
            }
            Problem::Parts { .. } => "copy every part of this archive again, and no other, into one folder",
            Problem::DataAfterEnd => "if it is in parts, remove those of older archives",
            Problem::Format { .. } => "use a newer sealift",
            Problem::PlatformDiffers { .. } => {
                "NAME@DIGEST, with this digest, saves it without its index, for the platform that its config names"
            }
            Problem::PlatformOfTwoImages { .. } | Problem::PlatformOfNoImage { .. } => {
                "NAME@DIGEST, with the digest of one of its manifests, saves that one without the index"
            }
            Problem::Unexpected { .. } => {
                "this is another archive than the one that `save` printed the digest of"
            }
            _ => return None,
        };
        Some(text.into())
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
    #[error("size is {found} bytes, and more manifests or layers expect yet other sizes")]
    SizesDiffer { found: u64 },
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
    #[error("is a {kind}, expected a folder")]
    NotAFolder { kind: &'static str },
    #[error("is empty")]
    Empty,
    #[error("cannot be read: {}", Escaped(reason))]
    Unreadable { reason: String },
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
    #[error("more than {limit} manifests refer to it")]
    TooManyReferrers { limit: usize },
    #[error("referrers of its referrers are nested deeper than {limit} levels")]
    ReferrersTooDeep { limit: usize },
    #[error("is listed as a referrer of {subject}, and does not refer to it")]
    StrayReferrer { subject: Digest },
    #[error("is damaged, and refers to {}", Escaped(image))]
    DamagedReferrer { image: String },
    #[error("states something about another image than {subject}, to which it is attached")]
    StatementOfAnother { subject: Digest },
    #[error("{} does not meet the policy: {reason}", Escaped(image))]
    NotAccepted { image: String, reason: String },
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
    #[error("there is no link to {digest}, so the registry does not serve it here")]
    NoLink { digest: Digest },
    #[error("is a link to {digest}, which is missing; no manifest here refers to it")]
    DanglingLink { digest: Digest },
    #[error("none of its manifests is in this repository")]
    NoManifest,
    #[error("a sparse index: {absent} of its {of} manifests are not in this repository")]
    Sparse { absent: usize, of: usize },
    #[error("an unfinished upload: {received} bytes, started {} ago", Span(*seconds))]
    UnfinishedUpload { received: u64, seconds: u64 },
    #[error("a repair is under way or was killed; the next one removes what it left")]
    UnfinishedRepair,
    #[error("is archive {found}, expected {expected}")]
    Unexpected { expected: Digest, found: Digest },
    #[error("{}: {problem}", Escaped(file))]
    Signature { file: String, problem: SignatureProblem },
}

/// A time span in seconds, for people.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let fits = units.into_iter().find(|(seconds, _)| self.0 >= *seconds);
        let (seconds, unit) = fits.unwrap_or((1, "second"));
        let count = self.0 / seconds;
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
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
            Problem::SizeDiffers { .. } | Problem::SizesDiffer { .. } => "size-differs",
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
            Problem::NotAFolder { .. } => "not-a-folder",
            Problem::Empty => "empty",
            Problem::Unreadable { .. } => "unreadable",
            Problem::Truncated { .. } => "truncated",
            Problem::NoEnd => "no-end",
            Problem::DataAfterEnd => "data-after-end",
            Problem::UnknownFile => "unknown-file",
            Problem::TooLarge { .. } => "too-large",
            Problem::TooDeep { .. } | Problem::ReferrersTooDeep { .. } => "too-deep",
            Problem::TooMany { .. } | Problem::TooManyReferrers { .. } => "too-many",
            Problem::StrayReferrer { .. } => "stray-referrer",
            Problem::DamagedReferrer { .. } => "damaged-referrer",
            Problem::StatementOfAnother { .. } => "statement-of-another",
            Problem::NotAccepted { .. } => "not-accepted",
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
            Problem::NoLink { .. } => "no-link",
            Problem::DanglingLink { .. } => "dangling-link",
            Problem::NoManifest => "no-manifest",
            Problem::Sparse { .. } => "sparse",
            Problem::UnfinishedUpload { .. } => "unfinished-upload",
            Problem::UnfinishedRepair => "unfinished-repair",
            Problem::Unexpected { .. } => "unexpected",
            Problem::Signature { problem, .. } => problem.code(),
        }
    }

    /// The size that was found, if another one was expected.
    pub fn wrong_size(&self) -> Option<u64> {
        match self {
            Problem::SizeDiffers { found, .. } | Problem::Truncated { found, .. } => Some(*found),
            _ => None,
        }
    }

    /// Whether the content ends too early.
    pub fn is_cut(&self) -> bool {
        matches!(
            self,
            Problem::Truncated { .. } | Problem::NoEnd | Problem::StreamCut
        )
    }
}
