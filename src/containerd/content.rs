//! The content store: blobs by digest, with labels.
//!
//! Source: containerd, `plugins/services/content/contentserver` and `core/metadata/content.go`.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::time::Duration;

use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::api::content::content_client::ContentClient;
use super::api::content::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ReadContentRequest,
    UpdateRequest,
};
use super::client::{Client, MAX_LIST, MAX_MESSAGE, within};
use super::labels::Labels;
use super::upload::Upload;
use crate::blob::BlobReader;
use crate::error::{Error, Result};
use crate::interrupt::pause;
use crate::oci::{Descriptor, Digest, Kind, MAX_METADATA};
use crate::progress::Progress;
use crate::retry::Retry;

/// While a blob is locked by another client, or by a run that was killed a moment ago.
const LOCKED: Retry = Retry {
    attempts: 40,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(5),
};

/// How long a write that failed waits for its part to be discarded.
const LONGEST_ABORT: Duration = Duration::from_secs(5);

/// How often a blob is begun anew because of what an interrupted run left.
const MAX_SPOILED: u32 = 3;

/// Most bytes of the messages that have a document.
const MAX_DOCUMENT: u64 = 2 * MAX_METADATA;

/// A blob in the store.
#[derive(Debug, Clone)]
pub struct StoredBlob {
    /// Stored bytes.
    pub size: u64,
    /// Its labels.
    pub labels: Labels,
}

/// The content store.
pub struct Content<'c> {
    client: &'c Client,
}

/// How an attempt to write a blob ended.
enum Attempt {
    /// The blob was there already.
    Present,
    /// It is there now; this many stored bytes were sent.
    Sent(u64),
    /// What an interrupted run left is not the beginning of the blob.
    Spoiled,
    /// Another client writes it.
    Locked(Status),
}

impl<'c> Content<'c> {
    /// The store of this client's namespace.
    pub fn new(client: &'c Client) -> Content<'c> {
        Content { client }
    }

    fn stub(&self) -> ContentClient<Channel> {
        ContentClient::new(self.client.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A blob; `None` if the namespace does not have it.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn find(&self, digest: &Digest) -> Result<Option<StoredBlob>> {
        let mut stub = self.stub();
        let request = self.client.request(InfoRequest {
            digest: digest.to_string(),
        });
        let found = self.client.find("look for a blob", stub.info(request))?;
        Ok(found.and_then(|found| found.info).map(|info| StoredBlob {
            size: u64::try_from(info.size).unwrap_or_default(),
            labels: info.labels,
        }))
    }

    /// All blobs, with their stored bytes.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn list(&self) -> Result<BTreeMap<String, u64>> {
        self.list_within(MAX_LIST)
    }

    /// As [`Content::list`], from at most so many bytes of messages.
    pub(super) fn list_within(&self, limit: u64) -> Result<BTreeMap<String, u64>> {
        let mut stub = self.stub();
        let request = self.client.request(ListContentRequest::default());
        let action = "list blobs";
        let listed = self.client.wait(action, stub.list(request))?;
        let blobs = self.client.collect(action, listed, limit, |part| part.info)?;
        let blobs = blobs.into_iter();
        Ok(blobs
            .map(|info| (info.digest, u64::try_from(info.size).unwrap_or_default()))
            .collect())
    }

    /// Reads a manifest, index or config; `None` if it is missing, too large, or not what its digest says.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn metadata(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        const ACTION: &str = "read a manifest";
        let Some(found) = self.find(digest)? else {
            return Ok(None);
        };
        if found.size > MAX_METADATA {
            return Ok(None);
        }
        let mut stub = self.stub();
        let request = self.client.request(ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        });
        let Some(parts) = self.client.find(ACTION, stub.read(request))? else {
            return Ok(None);
        };
        let bytes = self
            .client
            .collect(ACTION, parts, MAX_DOCUMENT, |part| part.data)?;
        Ok(Some(bytes).filter(|bytes| Digest::sha256(bytes) == *digest))
    }

    /// Adds labels to a blob; its other labels stay.
    ///
    /// # Errors
    ///
    /// If the blob is not there any more.
    pub fn label(&self, digest: &Digest, labels: Labels) -> Result<()> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let mut stub = self.stub();
        let request = self.client.request(UpdateRequest {
            info: Some(Info {
                digest: digest.to_string(),
                size: 0,
                labels,
            }),
            update_mask: Some(FieldMask { paths }),
        });
        self.client.change("label a blob", stub.update(request))
    }

    /// Writes a blob, from where an interrupted run ended, and verifies it on both sides. Returns the stored bytes that
    /// were sent; `None` if the blob was there already, which the client's lease keeps from now on. Its labels are not
    /// changed then.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the bytes do not match the descriptor; the blob is not in the store then.
    pub fn write(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> Result<BlobReader>,
        labels: &Labels,
        progress: &dyn Progress,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Option<u64>> {
        let name = ingest_name(blob);
        let (mut failed, mut spoiled) = (0, 0);
        loop {
            match self.attempt(blob, &name, open, labels, progress, check)? {
                Attempt::Present => return Ok(None),
                Attempt::Sent(bytes) => return Ok(Some(bytes)),
                Attempt::Spoiled => {
                    check()?;
                    self.abort(&name);
                    spoiled += 1;
                    if spoiled == MAX_SPOILED {
                        let why = "what it keeps of this blob is not its beginning";
                        return Err(self.failed(blob, &Status::data_loss(why)));
                    }
                }
                Attempt::Locked(status) => {
                    failed += 1;
                    if !LOCKED.allows(failed) {
                        return Err(self.failed(blob, &status).and_hint(
                            "another client is writing this blob: run this again when it has ended",
                        ));
                    }
                    pause(LOCKED.pause(failed, None), check)?;
                }
            }
        }
    }

    fn attempt(
        &self,
        blob: &Descriptor,
        name: &str,
        open: &dyn Fn() -> Result<BlobReader>,
        labels: &Labels,
        progress: &dyn Progress,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Attempt> {
        // It hashes what an interrupted run left, and flushes what was written.
        let longest = self.client.timeouts().of_blob(blob.size);
        let started = self
            .client
            .within(longest, Upload::start(self.client, blob, name));
        let mut upload = match started {
            Ok(upload) => upload,
            Err(status) if status.code() == Code::AlreadyExists => return Ok(Attempt::Present),
            Err(status) if is_locked(&status) => return Ok(Attempt::Locked(status)),
            Err(status) => return Err(self.failed(blob, &status)),
        };
        let begin = upload.offset();
        if begin > blob.size {
            return Ok(Attempt::Spoiled);
        }
        progress.blob_started(&blob.digest, blob.size, begin);
        let mut reader = open()?;
        let idle = self.client.timeouts().idle;
        let sent = self
            .client
            .block_on(send(&mut upload, &mut reader, blob, idle, progress, check));
        sent?.map_err(|status| self.failed(blob, &status))?;
        // Only verified bytes get their digest there.
        if let Err(error) = reader.finish() {
            drop(upload);
            // It is resumed from nothing else: the next run hashes all of it.
            self.abort(name);
            return Err(error);
        }
        let sent = upload.offset().saturating_sub(begin);
        match self.client.within(longest, upload.commit(labels.clone())) {
            Ok(()) => {}
            Err(status) if status.code() == Code::AlreadyExists => return Ok(Attempt::Present),
            Err(status) if status.code() == Code::FailedPrecondition && begin > 0 => {
                return Ok(Attempt::Spoiled);
            }
            Err(status) => return Err(self.failed(blob, &status)),
        }
        progress.blob_finished(&blob.digest);
        Ok(Attempt::Sent(sent))
    }

    /// Removes a blob. Its bytes stay on the disk until garbage collection.
    ///
    /// # Errors
    ///
    /// If containerd cannot remove it.
    pub fn delete(&self, digest: &Digest) -> Result<()> {
        let mut stub = self.stub();
        let request = self.client.request(DeleteContentRequest {
            digest: digest.to_string(),
        });
        self.client.remove("remove a blob", stub.delete(request))
    }

    /// Discards what was written of a blob into the ingest of this name, if that is possible at once.
    pub fn abort(&self, name: &str) {
        let mut stub = self.stub();
        let request = self.client.request(AbortRequest { r#ref: name.into() });
        let _ = self.client.within(LONGEST_ABORT, stub.abort(request));
    }

    fn failed(&self, blob: &Descriptor, status: &Status) -> Error {
        let action = format!("write blob {}", blob.digest);
        self.client.address().error(&action, status)
    }
}

/// Sends a blob's bytes from the upload's offset on. All bytes are read and hashed.
async fn send(
    upload: &mut Upload,
    reader: &mut BlobReader,
    blob: &Descriptor,
    idle: Duration,
    progress: &dyn Progress,
    check: &dyn Fn() -> Result<()>,
) -> Result<Result<(), Status>> {
    let begin = upload.offset();
    let place = reader.place().to_string();
    let mut at = 0_u64;
    loop {
        check()?;
        let bytes = reader
            .fill_buf()
            .map_err(|error| Error::from_reader(error, Error::io("read", &place)))?;
        if bytes.is_empty() {
            return Ok(Ok(()));
        }
        let count = bytes.len();
        let length = u64::try_from(count).unwrap_or_default();
        // What an interrupted run has sent is hashed, and not sent again.
        let skipped = usize::try_from(begin.saturating_sub(at).min(length)).unwrap_or_default();
        if let Some(piece) = bytes.get(skipped..).filter(|piece| !piece.is_empty()) {
            if let Err(status) = within(idle, upload.send(piece)).await {
                return Ok(Err(status));
            }
            progress.blob_advanced(&blob.digest, u64::try_from(piece.len()).unwrap_or_default());
        }
        at = at.saturating_add(length);
        reader.consume(count);
    }
}

/// Whether an ingest cannot be opened because another client writes it.
fn is_locked(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("locked")
}

/// The name of a blob's ingest: that of a pull. A pull at the same time waits, and continues with what is there.
///
/// Source: containerd, `core/remotes/handlers.go` (`MakeRefKey`).
fn ingest_name(blob: &Descriptor) -> String {
    let kind = match blob.media_type.kind() {
        Kind::Index => "index",
        Kind::Manifest => "manifest",
        Kind::Config => "config",
        Kind::Layer(_) => "layer",
        Kind::Schema1 | Kind::Other => "unknown",
    };
    format!("{kind}-{}", blob.digest)
}
