//! What refers to the pushed images: signatures, SBOMs, attestations.
//!
//! A referrer is pushed after what it refers to. A registry without an API for referrers finds them by an index under the
//! tag `sha256-<hex>` of their subject, which the client keeps. What the registry has under that tag and under cosign's
//! stays: what is pushed is added to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::content::Details;
use super::order::documents;
use super::requests::Offered;
use super::union::{self, Made, TagContent};
use super::upload::Uploader;
use crate::blob::{Blobs, OpenBlob};
use crate::error::Result;
use crate::image::referrers::ReferrerGraph;
use crate::interrupt::Interrupt;
use crate::load::chosen::Chosen;
use crate::oci::{Descriptor, Digest, Referrer, Repository};
use crate::progress::Progress;
use crate::registry::client::Client;
use crate::registry::mirror::Endpoint;
use crate::transfer::JOBS;
use crate::workers;

/// How often a tag is set that another program changes at the same time: the protocol has no way to prevent that.
const ATTEMPTS: u32 = 5;
/// How often a registry is asked for referrers that it has just got.
const QUESTIONS: u32 = 3;

impl Details {
    /// Whether a repository shows a referrer, and has all of it.
    pub(in crate::registry) fn shows(&self, repository: &Repository, referrer: &ReferrerGraph) -> bool {
        let Some(content) = self.repositories.get(repository.path()) else {
            return false;
        };
        let (digest, subject) = (referrer.digest(), &referrer.subject);
        let has = |shown: Option<&BTreeSet<Digest>>| shown.is_some_and(|shown| shown.contains(&digest));
        match &referrer.tag {
            // Its layers may be in another manifest, with further ones.
            Some(tag) => has(content.cosign_tags.get(tag)),
            None => {
                let mut blobs = referrer.graph.blobs().into_iter();
                has(content.referrers.get(subject))
                    && blobs.all(|blob| content.digests.contains(&blob.digest))
            }
        }
    }

    /// The referrers of an image that its repository does not show.
    pub(in crate::registry) fn unshown<'c>(
        &self,
        image: &'c Chosen,
    ) -> impl Iterator<Item = &'c ReferrerGraph> {
        let name = image.named.reference.as_ref();
        let all = image.named.referrers.iter();
        all.filter(move |referrer| name.is_some_and(|name| !self.shows(name.repository(), referrer)))
    }
}

/// A question for what a repository shows.
enum Question<'c> {
    Referrers(&'c Repository, Digest, Vec<&'c ReferrerGraph>),
    Tag(&'c Repository, &'c str, Vec<&'c ReferrerGraph>),
}

/// Asks which referrers of images the repositories show.
pub(super) fn look(
    client: &Client,
    chosen: &[Chosen],
    interrupt: &Interrupt,
    details: &mut Details,
) -> Result<()> {
    let mut questions = Vec::new();
    for work in Work::of(chosen, |_, _| true) {
        let repository = work.repository;
        for (subject, referrers) in work.lists {
            // One that the repository does not have is pushed, and the response to that says enough.
            let mut all = referrers.iter();
            if all.any(|referrer| details.has(repository, &referrer.digest())) {
                questions.push(Question::Referrers(repository, subject, referrers));
            }
        }
        let tags = work.tags.into_iter();
        questions.extend(tags.map(|(tag, referrers)| Question::Tag(repository, tag, referrers)));
    }
    let ask = |question: &Question<'_>| -> Result<BTreeSet<Digest>> {
        interrupt.check()?;
        match question {
            Question::Referrers(repository, subject, referrers) => {
                let at = Endpoint::of(repository);
                if let Some(listed) = client.referrers(&at, subject)? {
                    return Ok(listed);
                }
                let found = client.tagged(&at, &Referrer::list_tag(subject))?;
                let listed = found.map(|found| union::listed_in(&found, referrers));
                Ok(listed.unwrap_or_default())
            }
            Question::Tag(repository, tag, referrers) => {
                let found = client.tagged(&Endpoint::of(repository), tag)?;
                let shown = referrers.iter().filter(|referrer| {
                    let found = found.as_ref();
                    found.is_some_and(|found| union::has_all(found, referrer))
                });
                Ok(shown.map(|referrer| referrer.digest()).collect())
            }
        }
    };
    let answers = workers::map(JOBS.get(), &questions, ask, Result::is_err);
    interrupt.check()?;
    for (question, answer) in questions.iter().zip(answers.into_iter().flatten()) {
        let (Question::Referrers(repository, ..) | Question::Tag(repository, ..)) = question;
        let path = repository.path().to_string();
        let content = details.repositories.entry(path).or_default();
        match question {
            Question::Referrers(_, subject, _) => {
                content.referrers.insert(*subject, answer?);
            }
            Question::Tag(_, tag, _) => {
                content.cosign_tags.insert((*tag).to_string(), answer?);
            }
        }
    }
    Ok(())
}

/// The referrers that one repository gets.
struct Work<'c> {
    repository: &'c Repository,
    /// Those that lists show, by what they refer to.
    lists: BTreeMap<Digest, Vec<&'c ReferrerGraph>>,
    /// Those with one of cosign's tags.
    tags: BTreeMap<&'c str, Vec<&'c ReferrerGraph>>,
}

impl<'c> Work<'c> {
    /// The wanted ones for each repository, each once.
    fn of(chosen: &'c [Chosen], is_wanted: impl Fn(&Repository, &ReferrerGraph) -> bool) -> Vec<Work<'c>> {
        let mut all: BTreeMap<&str, Work<'c>> = BTreeMap::new();
        let mut seen: HashSet<(&str, Digest, Digest, Option<&str>)> = HashSet::new();
        for image in chosen {
            let Some(name) = &image.named.reference else {
                continue;
            };
            let repository = name.repository();
            for referrer in image.named.referrers.iter() {
                let tag = referrer.tag.as_deref();
                let key = (repository.path(), referrer.subject, referrer.digest(), tag);
                if !is_wanted(repository, referrer) || !seen.insert(key) {
                    continue;
                }
                let work = all.entry(repository.path()).or_insert_with(|| Work {
                    repository,
                    lists: BTreeMap::new(),
                    tags: BTreeMap::new(),
                });
                let place = match tag {
                    Some(tag) => work.tags.entry(tag).or_default(),
                    None => work.lists.entry(referrer.subject).or_default(),
                };
                place.push(referrer);
            }
        }
        all.into_values().collect()
    }

    /// Those that lists show, in levels: each refers to nothing in its own level or a later one.
    fn levels(&self) -> Vec<Vec<&'c ReferrerGraph>> {
        let mut rest: Vec<&ReferrerGraph> = self.lists.values().flatten().copied().collect();
        let mut levels = Vec::new();
        while !rest.is_empty() {
            let left: HashSet<Digest> = rest.iter().flat_map(|one| one.graph.documents()).collect();
            let (later, now): (Vec<_>, Vec<_>) = rest.iter().partition(|one| left.contains(&one.subject));
            // Digests make a circle impossible.
            if now.is_empty() {
                levels.push(later);
                break;
            }
            levels.push(now);
            rest = later;
        }
        levels
    }
}

/// What became of the referrers that were pushed.
#[derive(Default)]
pub(in crate::registry) struct PushedReferrers {
    /// The manifests, lists and configs that were sent.
    pub(in crate::registry) sent: Vec<Descriptor>,
    /// Why some are not shown: by the repository, the subject, their own digest and tag.
    untaken: HashMap<(String, Digest, Digest, Option<String>), String>,
}

impl PushedReferrers {
    /// Why a repository does not show a referrer; `None` if it does.
    pub(in crate::registry) fn untaken(
        &self,
        repository: &Repository,
        referrer: &ReferrerGraph,
    ) -> Option<&str> {
        let key = (
            repository.path().to_string(),
            referrer.subject,
            referrer.digest(),
            referrer.tag.clone(),
        );
        self.untaken.get(&key).map(String::as_str)
    }

    fn refuse(&mut self, repository: &Repository, referrers: &[&ReferrerGraph], reason: &str) {
        for referrer in referrers {
            let key = (
                repository.path().to_string(),
                referrer.subject,
                referrer.digest(),
                referrer.tag.clone(),
            );
            self.untaken.entry(key).or_insert_with(|| reason.into());
        }
    }
}

/// Whether a registry took a referrer.
enum Taken {
    /// It lists it by its API.
    Listed,
    /// The client has to list it.
    Unlisted,
    /// It did not, for this reason.
    Refused(String),
}

/// Pushes referrers whose blobs, and whose subjects, the repositories have.
pub(in crate::registry) struct ReferrerPush<'p> {
    pub(in crate::registry) client: &'p Client,
    pub(in crate::registry) details: &'p Details,
    pub(in crate::registry) progress: &'p dyn Progress,
    pub(in crate::registry) interrupt: &'p Interrupt,
}

impl ReferrerPush<'_> {
    /// Pushes those that repositories do not show, and has them shown. A registry that does not take some is no error.
    pub(in crate::registry) fn run(&self, chosen: &[Chosen]) -> Result<PushedReferrers> {
        let mut pushed = PushedReferrers::default();
        let is_unshown =
            |repository: &Repository, referrer: &ReferrerGraph| !self.details.shows(repository, referrer);
        for work in Work::of(chosen, is_unshown) {
            self.push(&work, &mut pushed)?;
        }
        Ok(pushed)
    }

    fn push(&self, work: &Work<'_>, pushed: &mut PushedReferrers) -> Result<()> {
        let at = Endpoint::of(work.repository);
        // Those that the client has to list, and those that the registry says it lists.
        let mut lists: BTreeMap<Digest, Vec<&ReferrerGraph>> = BTreeMap::new();
        let mut listed: BTreeMap<Digest, Vec<&ReferrerGraph>> = BTreeMap::new();
        for level in work.levels() {
            let put = |referrer: &&ReferrerGraph| self.put(&at, work.repository, referrer);
            let outcomes = workers::map(JOBS.get(), &level, put, Result::is_err);
            for (referrer, outcome) in level.iter().zip(super::first_error_first(outcomes)?) {
                let (sent, taken) = outcome;
                pushed.sent.extend(sent);
                match taken {
                    Taken::Listed => listed.entry(referrer.subject).or_default().push(referrer),
                    Taken::Unlisted => lists.entry(referrer.subject).or_default().push(referrer),
                    Taken::Refused(reason) => pushed.refuse(work.repository, &[referrer], &reason),
                }
            }
        }
        for (subject, referrers) in &listed {
            for referrer in self.unlisted(&at, subject, referrers)? {
                let reason = "the registry took it, and does not list it";
                pushed.refuse(work.repository, &[referrer], reason);
            }
        }
        let lists: Vec<_> = lists.into_iter().collect();
        let update = |(subject, referrers): &(Digest, Vec<&ReferrerGraph>)| {
            let tag = Referrer::list_tag(subject);
            self.update(&at, &tag, |found| match union::list(found, referrers)? {
                None => Ok(Vec::new()),
                Some(list) => Ok(vec![list]),
            })
        };
        let outcomes = workers::map(JOBS.get(), &lists, update, Result::is_err);
        for ((_, referrers), outcome) in lists.iter().zip(super::first_error_first(outcomes)?) {
            pushed.add(work.repository, referrers, outcome);
        }
        let tags: Vec<_> = work.tags.iter().collect();
        let update = |(tag, referrers): &(&&str, &Vec<&ReferrerGraph>)| {
            self.update(&at, tag, |found| {
                Ok(match union::tag(found, referrers)? {
                    TagContent::Kept => Vec::new(),
                    TagContent::Pushed(referrer) => {
                        let documents = documents(&referrer.graph).into_iter();
                        documents
                            .map(|(document, bytes)| (document.bare(), Arc::clone(bytes)))
                            .collect()
                    }
                    TagContent::Union(documents) => documents,
                })
            })
        };
        let outcomes = workers::map(JOBS.get(), &tags, update, Result::is_err);
        for ((_, referrers), outcome) in tags.iter().zip(super::first_error_first(outcomes)?) {
            pushed.add(work.repository, referrers, outcome);
        }
        Ok(())
    }

    /// Gives a repository the manifest or index of a referrer, and what that names.
    fn put(
        &self,
        at: &Endpoint,
        repository: &Repository,
        referrer: &ReferrerGraph,
    ) -> Result<(Vec<Descriptor>, Taken)> {
        let mut sent = Vec::new();
        let mut taken = Taken::Unlisted;
        for (document, bytes) in documents(&referrer.graph) {
            self.interrupt.check()?;
            let is_root = document.digest == referrer.digest();
            // One that is there and not listed is pushed again, so that the registry looks at it.
            if !is_root && self.details.has(repository, &document.digest) {
                continue;
            }
            let reference = document.digest.to_string();
            taken = match self.client.offer_manifest(at, &reference, document, bytes)? {
                Offered::Stored { is_listed: true } => Taken::Listed,
                Offered::Stored { is_listed: false } => Taken::Unlisted,
                Offered::Refused(error) => return Ok((sent, Taken::Refused(error.to_string()))),
            };
            sent.push(document.bare());
        }
        Ok((sent, taken))
    }

    /// Those of these referrers that the registry does not list by its API, although it said so.
    fn unlisted<'r>(
        &self,
        at: &Endpoint,
        subject: &Digest,
        referrers: &[&'r ReferrerGraph],
    ) -> Result<Vec<&'r ReferrerGraph>> {
        let mut asked = 0;
        loop {
            asked += 1;
            let listed = self.client.referrers(at, subject)?.unwrap_or_default();
            let unlisted = referrers
                .iter()
                .filter(|referrer| !listed.contains(&referrer.digest()));
            let unlisted: Vec<&ReferrerGraph> = unlisted.copied().collect();
            if unlisted.is_empty() || asked == QUESTIONS {
                return Ok(unlisted);
            }
            self.client.pause(asked)?;
        }
    }

    /// Has a tag name what `wanted` makes of what it names: the last of these documents, which come after what they name.
    /// Nothing is to be done once that is empty. Returns what was sent, and why the tag is not as wanted.
    fn update(
        &self,
        at: &Endpoint,
        tag: &str,
        wanted: impl Fn(Option<&super::listed::Tagged>) -> Result<Vec<Made>, String>,
    ) -> Result<Updated> {
        let mut updated = Updated::default();
        for _ in 0..ATTEMPTS {
            self.interrupt.check()?;
            let found = self.client.tagged(at, tag)?;
            let documents = match wanted(found.as_ref()) {
                Ok(documents) => documents,
                Err(reason) => return Ok(updated.refused(reason)),
            };
            let Some((root, _)) = documents.last() else {
                return Ok(updated);
            };
            let root = root.digest;
            for (document, bytes) in &documents {
                let digest = document.digest.to_string();
                let reference = if document.digest == root { tag } else { &digest };
                if !document.media_type.is_document() {
                    self.put_blob(at, document, bytes)?;
                } else if let Offered::Refused(error) =
                    self.client.offer_manifest(at, reference, document, bytes)?
                {
                    return Ok(updated.refused(error.to_string()));
                }
                updated.sent.push(document.bare());
            }
        }
        Ok(updated.refused(format!("another program keeps changing the tag {tag}")))
    }

    /// Gives a repository a config that was made.
    fn put_blob(&self, at: &Endpoint, blob: &Descriptor, bytes: &Arc<[u8]>) -> Result<()> {
        if self.client.has_blob(at, blob)? {
            return Ok(());
        }
        let uploader = Uploader {
            client: self.client,
            candidates: None,
            blobs: &OneBlob(bytes),
            is_replacing: false,
            progress: self.progress,
            interrupt: self.interrupt,
            part: AtomicU64::default(),
            is_ended: AtomicBool::default(),
        };
        uploader.upload(at, blob, None).map(|_| ())
    }
}

/// What became of a tag.
#[derive(Default)]
struct Updated {
    sent: Vec<Descriptor>,
    refused: Option<String>,
}

impl Updated {
    fn refused(mut self, reason: String) -> Updated {
        self.refused = Some(reason);
        self
    }
}

impl PushedReferrers {
    fn add(&mut self, repository: &Repository, referrers: &[&ReferrerGraph], updated: Updated) {
        self.sent.extend(updated.sent);
        if let Some(reason) = updated.refused {
            self.refuse(repository, referrers, &reason);
        }
    }
}

/// A blob that was made for a push.
struct OneBlob<'b>(&'b Arc<[u8]>);

impl Blobs for OneBlob<'_> {
    fn label(&self) -> &str {
        "a config"
    }

    fn size(&self, _: &Descriptor) -> Result<Option<u64>> {
        Ok(u64::try_from(self.0.len()).ok())
    }

    fn open(&self, _: &Descriptor) -> Result<Option<OpenBlob>> {
        let bytes = std::io::Cursor::new(Arc::clone(self.0));
        Ok(Some(OpenBlob::Stream(Box::new(bytes))))
    }
}
