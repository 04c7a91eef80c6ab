//! What the repositories of a registry have of images.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::load::chosen::Chosen;
use crate::oci::{Descriptor, Digest, MediaType, Repository};
use crate::registry::client::Client;
use crate::registry::mirror::Endpoint;
use crate::transfer::JOBS;
use crate::workers;

/// What the repositories of a registry have, as far as it was looked for.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// The repositories by their paths.
    pub repositories: BTreeMap<String, RepositoryContent>,
}

/// What a repository has, as far as it was looked for.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RepositoryContent {
    /// What its tags name.
    pub tags: BTreeMap<String, Digest>,
    /// Its manifests, indexes and blobs.
    pub digests: BTreeSet<Digest>,
    /// The referrers that it lists, by the digest of the manifest that they refer to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    /// The referrers that the manifest under one of cosign's tags has all layers of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cosign_tags: BTreeMap<String, BTreeSet<Digest>>,
}

impl Details {
    /// Whether a repository has a manifest, an index or a blob.
    pub(in crate::registry) fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        let content = self.repositories.get(repository.path());
        content.is_some_and(|content| content.digests.contains(digest))
    }

    /// A repository that has a blob.
    pub(in crate::registry) fn holder(&self, digest: &Digest) -> Option<&str> {
        let mut repositories = self.repositories.iter();
        let found = repositories.find(|(_, content)| content.digests.contains(digest));
        found.map(|(path, _)| path.as_str())
    }

    /// What a tag of a repository names.
    pub(in crate::registry) fn tagged(&self, repository: &Repository, tag: &str) -> Option<&Digest> {
        self.repositories.get(repository.path())?.tags.get(tag)
    }
}

/// A question to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question<'c> {
    Tag(&'c Repository, &'c str),
    Manifest(&'c Repository, Digest),
    Blob(&'c Repository, Digest, u64),
}

/// Asks what the repositories have of images and of the manifests that their indexes name. Each image has its name in the
/// registry.
pub(in crate::registry) fn look(
    client: &Client,
    chosen: &[Chosen],
    interrupt: &Interrupt,
) -> Result<Details> {
    let questions = questions(chosen);
    let ask = |question: &Question<'_>| -> Result<Option<Digest>> {
        interrupt.check()?;
        match question {
            Question::Tag(repository, tag) => client.named(&Endpoint::of(repository), tag),
            Question::Manifest(repository, digest) => {
                let found = client.named(&Endpoint::of(repository), &digest.to_string())?;
                Ok(found.filter(|found| found == digest))
            }
            Question::Blob(repository, digest, size) => {
                let blob = Descriptor::new(MediaType::new(super::requests::BYTES), *digest, *size);
                let is_there = client.has_blob(&Endpoint::of(repository), &blob)?;
                Ok(is_there.then_some(*digest))
            }
        }
    };
    let answers = workers::map(JOBS.get(), &questions, ask, Result::is_err);
    interrupt.check()?;
    let mut details = Details::default();
    for (question, answer) in questions.iter().zip(answers.into_iter().flatten()) {
        let (Question::Tag(repository, _)
        | Question::Manifest(repository, _)
        | Question::Blob(repository, ..)) = question;
        let path = repository.path().to_string();
        let content = details.repositories.entry(path).or_default();
        match (question, answer?) {
            (_, None) => {}
            (Question::Tag(_, tag), Some(digest)) => {
                content.tags.insert((*tag).to_string(), digest);
            }
            (_, Some(digest)) => {
                content.digests.insert(digest);
            }
        }
    }
    super::referrers::look(client, chosen, interrupt, &mut details)?;
    Ok(details)
}

fn questions(chosen: &[Chosen]) -> Vec<Question<'_>> {
    let mut seen = HashSet::new();
    let mut questions = Vec::new();
    for image in chosen {
        let Some(name) = &image.named.reference else {
            continue;
        };
        let (repository, graph) = (name.repository(), &image.named.graph);
        let indexes = graph.indexes.iter().map(|(index, _)| index);
        let manifests = graph.images.iter().map(|image| &image.descriptor);
        let manifests = indexes.chain(manifests).chain(&graph.absent);
        let referrers = image.named.referrers.iter();
        let referrers = referrers.flat_map(|referrer| referrer.graph.documents());
        let tag = name.tag().map(|tag| Question::Tag(repository, tag));
        let manifests = manifests.map(|manifest| manifest.digest).chain(referrers);
        let manifests = manifests.map(|digest| Question::Manifest(repository, digest));
        let nothing = Details::default();
        let blobs = super::stored_blobs(image, &nothing);
        let blobs = blobs.map(|blob| Question::Blob(repository, blob.digest, blob.size));
        for question in tag.into_iter().chain(manifests).chain(blobs) {
            if seen.insert(question) {
                questions.push(question);
            }
        }
    }
    questions
}
