//! Follows what refers to an image. Every blob of a referrer is hashed, and none has to be understood.

use std::collections::HashSet;
use std::rc::Rc;

use super::Verification;
use super::follow::{Followed, Parts};
use crate::error::{Error, Problem, Result};
use crate::image::Parsed;
use crate::image::referrers::{ListedReferrer, ReadReferrer, ReferrerWalk, StrayReason};
use crate::oci::{Descriptor, Digest};

/// A referrer that was followed.
pub(crate) struct FollowedReferrer {
    /// Digest of its manifest.
    pub digest: Digest,
    /// All of its blobs.
    pub blobs: HashSet<Digest>,
}

/// What refers to an image.
#[derive(Default)]
pub(crate) struct FollowedReferrers {
    /// The list of them, if there is one.
    pub list: Option<Digest>,
    pub referrers: Vec<FollowedReferrer>,
}

impl FollowedReferrers {
    /// Everything that is or must be present.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let blobs = self.referrers.iter().flat_map(|referrer| &referrer.blobs);
        self.list.iter().chain(blobs)
    }
}

/// What is listed as a referrer of something.
pub(crate) trait ListedReferrers {
    /// What is listed for a manifest.
    fn of(&self, subject: &Digest) -> Vec<&ListedReferrer>;

    /// Whether the image's own list has it, which lists nothing else than referrers.
    fn is_strict(&self, referrer: &ListedReferrer) -> bool;

    /// What that list has referrers of. All of it must be in the image.
    fn strict_subjects(&self) -> Vec<&Digest>;
}

impl Verification<'_> {
    /// Follows what is listed as a referrer of an image, and what refers to that in turn. What is no referrer is an error in
    /// the image's own list, and elsewhere a note.
    pub(crate) fn follow_referrers(
        &mut self,
        image: &Followed,
        list: Option<Digest>,
        listed: &dyn ListedReferrers,
    ) -> Rc<FollowedReferrers> {
        let parts: &Parts = &image.parts;
        let root = image.root.descriptor.digest;
        let mut found = FollowedReferrers {
            list,
            referrers: Vec::new(),
        };
        let mut walk = ReferrerWalk::of(root, parts.documents.iter().copied());
        let mut asked: HashSet<Digest> = HashSet::new();
        while !walk.subjects().is_empty() {
            let mut read = Vec::new();
            for subject in walk.subjects() {
                asked.insert(*subject);
                let fresh = listed.of(subject).into_iter();
                for one in fresh.filter(|one| walk.wants(one)) {
                    read.push((one, self.read_referrer(one)));
                }
            }
            let mut good = Vec::new();
            for (one, referrer) in read {
                let digest = one.descriptor.digest;
                let blobs = match &referrer {
                    Some(ReadReferrer::Referrer(referrer)) => {
                        let blobs = referrer.graph.blobs();
                        for blob in &blobs {
                            self.mention(blob);
                            self.require(&blob.digest);
                        }
                        blobs.iter().map(|blob| blob.digest).collect()
                    }
                    Some(ReadReferrer::Stray(stray)) => {
                        let subject = stray.subject;
                        match list.filter(|_| listed.is_strict(one)) {
                            Some(list) => {
                                let reason = format!(
                                    "lists {digest} as a referrer of {subject}, to which it does not refer"
                                );
                                self.find(&list, Problem::Document { reason });
                            }
                            None => self.find(&digest, Problem::StrayReferrer { subject }),
                        }
                        continue;
                    }
                    // The finding is there.
                    None => HashSet::from([digest]),
                };
                found.referrers.push(FollowedReferrer { digest, blobs });
                good.extend(referrer);
            }
            if let Err(Error::Refused(finding)) = walk.add(good) {
                self.find(list.as_ref().unwrap_or(&root), finding.problem);
                break;
            }
        }
        if let Some(list) = list {
            let mut lost = listed.strict_subjects();
            lost.retain(|subject| !asked.contains(subject));
            lost.sort();
            if let Some(subject) = lost.first() {
                let reason = format!("lists referrers of {subject}, which is not in the image");
                self.find(&list, Problem::Document { reason });
            }
        }
        Rc::new(found)
    }

    /// Reads a listed referrer. `None` if it is missing or unusable, which is reported.
    fn read_referrer(&mut self, listed: &ListedReferrer) -> Option<ReadReferrer> {
        let digest = listed.descriptor.digest;
        let mut is_told = false;
        let read = listed.read(&mut |descriptor: &Descriptor| -> Result<Option<Parsed>> {
            let Some(bytes) = self.read(descriptor) else {
                is_told |= descriptor.digest == digest;
                return Ok(None);
            };
            Parsed::parse(descriptor, bytes).map(Some)
        });
        match read {
            // It is missing, or reading it has reported what is wrong with it.
            Ok(ReadReferrer::Stray(stray)) if stray.reason == StrayReason::Missing && is_told => {
                self.require(&digest);
                None
            }
            Ok(read) => Some(read),
            Err(Error::Refused(finding)) => {
                self.mention(&listed.descriptor);
                self.find(&finding.place.digest.unwrap_or(digest), finding.problem);
                None
            }
            Err(error) => {
                self.cannot_read(digest, error);
                None
            }
        }
    }

    /// Reads a list of referrers; `None` if it is missing or unusable, which is reported.
    pub(crate) fn read_list(&mut self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let bytes = self.read(descriptor);
        self.require(&descriptor.digest);
        bytes
    }
}
