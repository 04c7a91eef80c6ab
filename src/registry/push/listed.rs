//! What a repository lists as referrers, and what its tags name.
//!
//! Source: OCI distribution specification 1.1, "Listing Referrers".

use std::collections::BTreeSet;

use ureq::http::StatusCode;

use super::requests::{manifest_subject, refusal};
use crate::error::Result;
use crate::oci::{Digest, Document, MAX_METADATA, MediaType};
use crate::registry::access::Access;
use crate::registry::client::{ACCEPT_MANIFESTS, Client, media_type};
use crate::registry::mirror::Endpoint;
use crate::registry::read::next_page;
use crate::registry::request_error::RequestError;
use crate::registry::transport::Request;

/// Most pages of a list that are read: some registries have ten entries on each.
const MAX_PAGES: usize = 1_000;

/// A manifest or index under a tag.
pub(super) struct Tagged {
    pub(super) media_type: MediaType,
    pub(super) bytes: Vec<u8>,
}

impl Client {
    /// The referrers of a manifest by the registry's API; `None` if it has none.
    pub(super) fn referrers(&self, at: &Endpoint, subject: &Digest) -> Result<Option<BTreeSet<Digest>>> {
        let name = format!("the referrers of {}@{subject}", at.path);
        let path = format!("/v2/{}/referrers/{subject}", at.path);
        let mut listed = BTreeSet::new();
        let mut query = String::new();
        for _ in 0..MAX_PAGES {
            let path = format!("{path}{query}");
            let page = self.with_retries(at, || {
                let answer = self.request(at, &Access::Push, &name, |_| {
                    Ok(Request::get(self.path_url(at, &path)?, MediaType::OCI_INDEX))
                })?;
                match answer.status {
                    StatusCode::OK => {
                        let next = next_page(&answer);
                        Ok(Some((answer.text(MAX_METADATA), next)))
                    }
                    // Registries of before the API have all sorts of answers to an unknown path.
                    StatusCode::NOT_IMPLEMENTED => Ok(None),
                    status if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) => Ok(None),
                    _ => Err(refusal(at, &Access::Push, &name, answer)),
                }
            })?;
            let Some((bytes, next)) = page else {
                return Ok(None);
            };
            let index = Document::parse(&MediaType::new(MediaType::OCI_INDEX), bytes);
            let Ok(Document::Index(index)) = index else {
                return Ok(None);
            };
            listed.extend(index.manifests.iter().map(|entry| entry.digest));
            match next.map(|next| format!("?{next}")) {
                Some(next) if next != query => query = next,
                _ => break,
            }
        }
        Ok(Some(listed))
    }

    /// The manifest or index that a tag names.
    pub(super) fn tagged(&self, at: &Endpoint, tag: &str) -> Result<Option<Tagged>> {
        let name = manifest_subject(at, tag);
        let path = format!("/v2/{}/manifests/{tag}", at.path);
        self.with_retries(at, || {
            let answer = self.request(at, &Access::Push, &name, |_| {
                Ok(Request::get(self.path_url(at, &path)?, ACCEPT_MANIFESTS))
            })?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(refusal(at, &Access::Push, &name, answer)),
            }
            let (stated, named) = (answer.stated_length(), media_type(&answer));
            let bytes = answer.text(MAX_METADATA.saturating_add(1));
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if size > MAX_METADATA {
                let problem = format!("it is larger than the {MAX_METADATA} bytes that are read");
                return Err(RequestError::end(at, &name, problem, None));
            }
            if let Some(stated) = stated.filter(|stated| *stated != size) {
                let problem = format!("sent {size} bytes of it, expected {stated}");
                return Err(RequestError::end(at, &name, problem, None).again());
            }
            let media_type = named.or_else(|| Document::sniff(&bytes));
            let media_type = media_type.unwrap_or_else(|| MediaType::new(super::requests::BYTES));
            Ok(Some(Tagged { media_type, bytes }))
        })
    }
}
