//! One blob on its way into the content store.
//!
//! Source: containerd, `plugins/services/content/contentserver` (`Write`).

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::api::content::content_client::ContentClient;
use super::api::content::{WriteAction, WriteContentRequest, WriteContentResponse};
use super::client::Client;
use super::labels::Labels;
use crate::oci::{Descriptor, Digest};

/// Messages that wait to be sent. Each has at most the bytes of one read, well below the 16 MiB that containerd takes.
const WAITING: usize = 2;
/// Requests that may wait for their response.
const UNANSWERED: usize = 8;

/// A blob that is being written.
pub struct Upload {
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// What all requests have in common.
    head: WriteContentRequest,
    /// Stored bytes that containerd has, or that are on their way to it.
    offset: u64,
    /// Requests without a response yet.
    unanswered: usize,
}

impl Upload {
    /// Opens the ingest of this name, or continues that of an interrupted run.
    pub async fn start(client: &Client, blob: &Descriptor, name: &str) -> Result<Upload, Status> {
        let head = WriteContentRequest {
            total: signed(blob.size),
            expected: blob.digest.to_string(),
            ..stat(name)
        };
        Upload::open(client, head).await
    }

    /// Opens a new ingest of this name, for a blob whose size and digest are known only at its end.
    pub async fn start_unknown(client: &Client, name: &str) -> Result<Upload, Status> {
        Upload::open(client, stat(name)).await
    }

    async fn open(client: &Client, head: WriteContentRequest) -> Result<Upload, Status> {
        let (requests, receiver) = mpsc::channel(WAITING);
        // containerd responds only after the first message.
        let _ = requests.try_send(head.clone());
        let stream = client.request(Requests(receiver));
        let mut stub = ContentClient::new(client.channel());
        let mut answers = stub.write(stream).await?.into_inner();
        let first = answers.message().await?.ok_or_else(ended)?;
        Ok(Upload {
            requests,
            answers,
            head,
            offset: u64::try_from(first.offset).unwrap_or_default(),
            unanswered: 0,
        })
    }

    /// Stored bytes that containerd has, or that are on their way to it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Sends the next bytes.
    pub async fn send(&mut self, piece: &[u8]) -> Result<(), Status> {
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: signed(self.offset),
            data: piece.to_vec(),
            ..self.head.clone()
        };
        self.request(request).await?;
        let count = u64::try_from(piece.len()).unwrap_or_default();
        self.offset = self.offset.saturating_add(count);
        Ok(())
    }

    /// As [`Upload::commit`], for a blob whose size and digest were not known before.
    pub async fn commit_as(mut self, digest: &Digest) -> Result<(), Status> {
        self.head.total = signed(self.offset);
        self.head.expected = digest.to_string();
        self.commit(Labels::new()).await
    }

    /// Gives the blob its digest and labels. containerd compares the digest with that of the bytes.
    pub async fn commit(mut self, labels: Labels) -> Result<(), Status> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: signed(self.offset),
            labels,
            ..self.head.clone()
        };
        self.request(request).await?;
        while self.unanswered > 0 {
            self.answer().await?;
        }
        Ok(())
    }

    async fn request(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        while self.unanswered >= UNANSWERED {
            self.answer().await?;
        }
        if self.requests.send(request).await.is_err() {
            // The call has ended; its response says why.
            loop {
                self.answer().await?;
            }
        }
        self.unanswered += 1;
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), Status> {
        self.answers.message().await?.ok_or_else(ended)?;
        self.unanswered = self.unanswered.saturating_sub(1);
        Ok(())
    }
}

/// The request that opens an ingest.
fn stat(name: &str) -> WriteContentRequest {
    WriteContentRequest {
        action: WriteAction::Stat.into(),
        r#ref: name.into(),
        ..WriteContentRequest::default()
    }
}

/// The status of a call that ended before everything was written.
fn ended() -> Status {
    Status::unavailable("the connection was closed")
}

/// Requests as a stream.
struct Requests(mpsc::Receiver<WriteContentRequest>);

impl Stream for Requests {
    type Item = WriteContentRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WriteContentRequest>> {
        self.0.poll_recv(context)
    }
}

/// A size as containerd's API has it.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
