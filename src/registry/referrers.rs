//! What refers to an image in a registry: by the API for it, or by the tag that lists it where a registry has no such API,
//! as CNCF distribution; and by the tags of cosign.
//!
//! Sources: OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema"; cosign,
//! `pkg/oci/remote`.

use std::collections::HashSet;

use super::client::Wanted;
use super::mirror::Endpoint;
use super::read::{MAX_QUERY, next_page};
use super::request_error::marked;
use super::source::{RegistrySource, refused};
use crate::error::{Error, Problem, Remedy, Result};
use crate::image::referrers::{ListedReferrer, MAX_REFERRERS};
use crate::oci::{Descriptor, Digest, Document, Index, MediaType, Referrer, Repository};
use crate::source::About;

/// Most requests for the referrers of one manifest.
const MAX_PAGES: usize = MAX_REFERRERS;

/// An image in a registry.
pub(super) struct InRegistry<'s> {
    pub source: &'s RegistrySource,
    pub repository: Repository,
}

impl About for InRegistry<'_> {
    fn referrers(&self, subject: &Digest) -> Result<Vec<ListedReferrer>> {
        let found = self.source.referrers(&self.repository, subject);
        found.map_err(|error| match error {
            // What else may help is said already.
            error @ (Error::Interrupted | Error::Io { .. }) => error,
            error => error.and_hint(Remedy::WithoutReferrers),
        })
    }
}

impl RegistrySource {
    /// What refers to a manifest. A mirror that knows of nothing may lack it, so the next host is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] if a host cannot tell; [`Error::Refused`] if it lists too much.
    pub(super) fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<ListedReferrer>> {
        let listed = self.find_at_endpoints(repository, |place| {
            let listed = match self.listed_by_api(place, subject)? {
                Some(listed) => listed,
                None => self.listed_by_tag(place, subject)?,
            };
            Ok((!listed.is_empty()).then_some(listed))
        })?;
        let mut all: Vec<ListedReferrer> = listed
            .unwrap_or_default()
            .into_iter()
            .map(|descriptor| ListedReferrer {
                subject: *subject,
                descriptor: descriptor.bare(),
                tag: None,
            })
            .collect();
        for tag in Referrer::tags(subject) {
            let found = self.find_at_endpoints(repository, |place| self.tagged_at(place, &tag))?;
            if let Some((descriptor, bytes)) = found {
                self.keep(&descriptor, bytes);
                all.push(ListedReferrer {
                    subject: *subject,
                    descriptor,
                    tag: Some(tag),
                });
            }
        }
        Ok(all)
    }

    /// The answer of the API; `None` if the registry does not have it.
    fn listed_by_api(&self, place: &Endpoint, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let mut listed: Vec<Descriptor> = Vec::new();
        let mut asked = HashSet::new();
        let mut query = String::new();
        loop {
            let wanted = Wanted::Referrers(*subject, query.clone());
            let page = self.find_with_retries(place, &wanted, |answer, of| {
                let next = next_page(&answer);
                Ok((self.read_document(answer, of)?, next))
            })?;
            // Some answer every path with something.
            let page = page.and_then(|(bytes, next)| Some((index(bytes)?, next)));
            let Some((page, next)) = page else {
                return match asked.is_empty() {
                    true => Ok(None),
                    false => Err(marked(
                        wanted
                            .subject(place)
                            .transient("a page of the list is missing".into()),
                        false,
                    )),
                };
            };
            listed.extend(page.manifests);
            if listed.len() > MAX_REFERRERS {
                let limit = MAX_REFERRERS;
                return Err(refused(
                    place,
                    Some(*subject),
                    Problem::TooManyReferrers { limit },
                ));
            }
            let is_new = asked.insert(query);
            let may_end = is_new && asked.len() < MAX_PAGES;
            query = match next {
                None => return Ok(Some(listed)),
                Some(next) if may_end && next.len() <= MAX_QUERY && !asked.contains(&next) => next,
                Some(_) => {
                    let endless = wanted.subject(place).transient("the list never ends".into());
                    return Err(marked(endless, false));
                }
            };
        }
    }

    /// The index under the tag that lists the referrers. Anything else under it is told.
    fn listed_by_tag(&self, place: &Endpoint, subject: &Digest) -> Result<Vec<Descriptor>> {
        let tag = Referrer::list_tag(subject);
        let Some((descriptor, bytes)) = self.tagged_at(place, &tag)? else {
            return Ok(Vec::new());
        };
        let Ok(Document::Index(index)) = Document::parse(&descriptor.media_type, bytes) else {
            let name = Wanted::Tag(tag).name(&place.path);
            self.client.note(&format!(
                "{name} in {} is no index, and so lists no referrers",
                place.name
            ));
            return Ok(Vec::new());
        };
        if index.manifests.len() > MAX_REFERRERS {
            let limit = MAX_REFERRERS;
            return Err(refused(
                place,
                Some(*subject),
                Problem::TooManyReferrers { limit },
            ));
        }
        Ok(index.manifests)
    }
}

/// The index in the answer of the API.
fn index(bytes: Vec<u8>) -> Option<Index> {
    match Document::parse(&MediaType::new(MediaType::OCI_INDEX), bytes) {
        Ok(Document::Index(index)) => Some(index),
        _ => None,
    }
}
