//! Follows the referrers of an image, level by level. Whoever knows them, a registry or an archive, is asked for those of a
//! whole level at once.

use std::collections::HashSet;
use std::sync::Arc;

use super::{ListedReferrer, MAX_REFERRER_DEPTH, MAX_REFERRERS, ReadReferrer, ReferrerGraph, Stray, sort};
use crate::error::{Error, Place, Problem, Result};
use crate::image::graph::Graph;
use crate::oci::Digest;

/// The referrers of an image.
#[derive(Debug, Clone, Default)]
pub struct Referrers {
    /// Sorted as an archive lists them.
    pub graphs: Arc<[ReferrerGraph]>,
    /// What is listed and is not a referrer.
    pub strays: Vec<Stray>,
}

/// The state of following the referrers of one image.
#[derive(Debug)]
pub struct ReferrerWalk {
    root: Digest,
    /// The manifests and indexes of the image, and those of the referrers so far.
    here: HashSet<Digest>,
    /// Those whose referrers are asked for next.
    subjects: Vec<Digest>,
    known: HashSet<(Digest, Digest, Option<String>)>,
    /// The manifests and indexes of the image alone.
    image: HashSet<Digest>,
    depth: usize,
    found: Vec<ReferrerGraph>,
    strays: Vec<Stray>,
}

impl ReferrerWalk {
    /// Begins with every manifest and index of an image that is there.
    pub fn new(graph: &Graph) -> ReferrerWalk {
        ReferrerWalk::of(graph.root.digest, graph.documents())
    }

    /// Begins with these manifests and indexes of an image.
    pub(crate) fn of(root: Digest, documents: impl Iterator<Item = Digest>) -> ReferrerWalk {
        let mut here = HashSet::new();
        let subjects = documents.filter(|digest| here.insert(*digest)).collect();
        ReferrerWalk {
            root,
            image: here.clone(),
            here,
            subjects,
            known: HashSet::new(),
            depth: 0,
            found: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// The manifests and indexes whose referrers [`ReferrerWalk::add`] expects; empty at the end.
    pub fn subjects(&self) -> &[Digest] {
        &self.subjects
    }

    /// Whether a listed referrer has to be read: it was not added before, and is not in the image itself, as
    /// attestations of buildkit are that have a subject.
    pub fn wants(&self, listed: &ListedReferrer) -> bool {
        let (subject, digest, tag) = listed.key();
        let is_of_image = tag.is_none() && self.image.contains(&digest);
        !is_of_image && !self.known.contains(&(subject, digest, tag.map(str::to_string)))
    }

    /// Adds all referrers of the current subjects, and goes on to those of what was added.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there are too many, or they are nested too deep.
    pub fn add(&mut self, read: impl IntoIterator<Item = ReadReferrer>) -> Result<()> {
        self.subjects.clear();
        let place = || Place::blob(self.root);
        for read in read {
            let referrer = match read {
                ReadReferrer::Referrer(referrer) => referrer,
                ReadReferrer::Stray(stray) => {
                    if !self.strays.contains(&stray) && self.strays.len() < MAX_REFERRERS {
                        self.strays.push(stray);
                    }
                    continue;
                }
            };
            let (subject, digest, tag) = referrer.key();
            if !self.known.insert((subject, digest, tag.map(str::to_string))) {
                continue;
            }
            if self.found.len() >= MAX_REFERRERS {
                let limit = MAX_REFERRERS;
                return Err(Error::refused(place(), Problem::TooManyReferrers { limit }));
            }
            if self.depth >= MAX_REFERRER_DEPTH {
                let limit = MAX_REFERRER_DEPTH;
                return Err(Error::refused(place(), Problem::ReferrersTooDeep { limit }));
            }
            for document in referrer.graph.documents() {
                if self.here.insert(document) {
                    self.subjects.push(document);
                }
            }
            self.found.push(referrer);
        }
        self.depth += 1;
        Ok(())
    }

    /// The referrers that were added.
    pub fn finish(mut self) -> Referrers {
        sort(&mut self.found);
        Referrers {
            graphs: self.found.into(),
            strays: self.strays,
        }
    }
}
