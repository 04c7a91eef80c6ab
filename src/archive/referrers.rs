//! Entries of `index.json` that are no images, but refer to one: other tools write signatures and SBOMs beside the image.
//!
//! - containerd and Docker 29: an entry for each, annotated with the digest of its subject
//! - oras: entries without a name, or an index without a name over them; in a folder also the index that a registry
//!   without an API has, under its tag `sha256-<hex>`, and manifests of an image's index to which something refers,
//!   without a name
//! - regctl, skopeo: that index, and cosign's tags, such as `sha256-<hex>.sig`
//! - `cosign save`: entries with an annotation `kind`
//!
//! An entry whose subject is not in the archive stays what it is: an image or artifact.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::format::{Entry, REFERRERS, SUBJECT, TAG};
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH};
use crate::image::referrers::{ListedReferrer, MAX_REFERRER_DEPTH};
use crate::oci::{
    Descriptor, Digest, Document, Index, Kind, MAX_METADATA, MediaType, Reference, Referrer, json,
};

/// The annotation of `cosign save`.
const KIND: &str = "kind";
/// What its values begin with.
const COSIGN: &str = "dev.cosignproject.cosign/";
/// Its values for referrers, and what their tags end in.
const KINDS: [(&str, &str); 3] = [("sigs", "sig"), ("atts", "att"), ("sboms", "sbom")];
/// Its values for images.
const IMAGES: [&str; 2] = ["image", "imageIndex"];
/// Most layers of a referrer in which its subject is looked for.
const MAX_LAYERS: usize = 16;
/// Largest such layer, in bytes.
const MAX_LAYER: u64 = 1 << 20;

/// The referrers that a layout names outside of sealift's own lists. They are not read yet.
#[derive(Debug, Clone, Default)]
pub struct LayoutReferrers {
    /// What is said to refer to something in the layout.
    pub listed: Vec<ListedReferrer>,
    /// Indexes that only list referrers.
    pub lists: BTreeSet<Digest>,
    /// The list of the referrers of all images, as an annotation of `index.json` names it.
    pub common: Option<Digest>,
}

/// What an entry may be, if its subject is in the layout.
enum Claim {
    /// Referrers, and the index that lists them, if one does.
    Referrers(Vec<ListedReferrer>, Option<Digest>),
    /// A referrer of `cosign save`: what its tag ends in.
    Cosign(&'static str),
}

impl LayoutReferrers {
    /// Takes what refers to other images out of the entries. `blob` reads the stored bytes of a blob of at most some MB,
    /// which are not verified.
    pub fn take(
        index: &[u8],
        is_own: bool,
        entries: &mut Vec<Entry>,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> LayoutReferrers {
        let mut found = LayoutReferrers {
            common: common(index),
            ..LayoutReferrers::default()
        };
        if entries.len() < 2 {
            return found;
        }
        let reader = Reader {
            blob,
            is_own,
            contents: RefCell::default(),
            lists: RefCell::default(),
            contained: RefCell::default(),
            listed: Cell::default(),
        };
        let mut taken = found.claim(&reader, entries);
        if !is_own {
            taken.extend(reader.inside_others(entries));
        }
        let mut at = 0;
        entries.retain(|entry| {
            at += 1;
            !taken.contains(&(at - 1)) || has_own_name(entry)
        });
        found
    }

    /// Gives the places of those entries that refer to something in the layout.
    fn claim(&mut self, reader: &Reader<'_>, entries: &[Entry]) -> HashSet<usize> {
        let mut taken: HashSet<usize> = HashSet::new();
        let claims: Vec<Option<Claim>> = entries.iter().map(|entry| reader.claim(entry)).collect();
        let images = entries.iter().zip(&claims);
        let images: Vec<&Descriptor> = images
            .filter(|(entry, claim)| claim.is_none() || has_own_name(entry))
            .map(|(entry, _)| &entry.descriptor)
            .collect();
        if claims.iter().all(Option::is_none) || images.is_empty() {
            return taken;
        }
        let mut here = reader.reachable(images.into_iter());
        let root = cosign_root(entries);
        for _ in 0..=MAX_REFERRER_DEPTH {
            let before = taken.len();
            for (at, (entry, claim)) in entries.iter().zip(&claims).enumerate() {
                let Some(claim) = claim.as_ref().filter(|_| !taken.contains(&at)) else {
                    continue;
                };
                let (listed, list) = match claim {
                    Claim::Referrers(listed, list) => (listed.clone(), *list),
                    Claim::Cosign(suffix) => (reader.of_cosign(entry, suffix, &here, root), None),
                };
                if !listed.iter().any(|one| here.contains(&one.subject)) {
                    continue;
                }
                here.extend(listed.iter().map(|one| one.descriptor.digest));
                self.listed.extend(listed);
                self.lists.extend(list);
                taken.insert(at);
            }
            if taken.len() == before {
                break;
            }
        }
        taken
    }

    /// What is listed for each manifest.
    pub fn by_subject(listed: &[ListedReferrer]) -> HashMap<Digest, Vec<&ListedReferrer>> {
        let mut by_subject: HashMap<Digest, Vec<&ListedReferrer>> = HashMap::new();
        for one in listed {
            by_subject.entry(one.subject).or_default().push(one);
        }
        by_subject
    }
}

/// The list that an annotation of `index.json` names.
fn common(index: &[u8]) -> Option<Digest> {
    #[derive(serde::Deserialize)]
    struct Peek {
        annotations: std::collections::BTreeMap<String, String>,
    }
    let peek: Peek = json::from_slice(index).ok()?;
    peek.annotations.get(REFERRERS)?.parse().ok()
}

fn tag_of(entry: &Entry) -> Option<&str> {
    let named = entry.reference.as_ref().and_then(Reference::tag);
    named.or(entry.bare_tag.as_deref())
}

/// Whether an entry has a name that a person gave it, and not only a tag that is made of a digest.
fn has_own_name(entry: &Entry) -> bool {
    let is_made = |tag: &str| Referrer::of_tag(tag).is_some() || Referrer::subject_of_list(tag).is_some();
    let is_marked = entry.descriptor.annotations.contains_key(SUBJECT);
    !is_marked && tag_of(entry).is_some_and(|tag| !is_made(tag))
}

/// The value of cosign's annotation.
fn cosign_kind(entry: &Entry) -> Option<&str> {
    entry.descriptor.annotations.get(KIND)?.strip_prefix(COSIGN)
}

/// The image that referrers of `cosign save` are for.
fn cosign_root(entries: &[Entry]) -> Option<Digest> {
    let is_image = |entry: &&Entry| cosign_kind(entry).is_some_and(|kind| IMAGES.contains(&kind));
    let mut images = entries.iter().filter(is_image);
    let root = images.next()?.descriptor.digest;
    images
        .all(|other| other.descriptor.digest == root)
        .then_some(root)
}

/// Reads documents to find out what entries are.
struct Reader<'a> {
    blob: &'a dyn Fn(&Digest) -> Option<Vec<u8>>,
    is_own: bool,
    /// What contents say, by digest and media type.
    contents: RefCell<HashMap<(Digest, MediaType), Option<Content>>>,
    /// What lists of referrers list.
    lists: RefCell<HashMap<Digest, Option<Rc<[Descriptor]>>>>,
    /// What signatures and attestations are about.
    contained: RefCell<HashMap<Digest, Rc<[Digest]>>>,
    /// How many referrers all entries list.
    listed: Cell<usize>,
}

/// What a manifest or index says of referrers.
#[derive(Clone)]
enum Content {
    /// It refers to this.
    Refers(Digest),
    /// It only lists referrers.
    Lists(Rc<[ListedReferrer]>),
}

impl Reader<'_> {
    fn document(&self, descriptor: &Descriptor) -> Option<Document> {
        if !descriptor.media_type.is_document() || descriptor.size > MAX_METADATA {
            return None;
        }
        Document::parse(&descriptor.media_type, (self.blob)(&descriptor.digest)?).ok()
    }

    /// What an entry may refer to; `None` if it is an image.
    fn claim(&self, entry: &Entry) -> Option<Claim> {
        if entry.substitute.is_some() || entry.referrers.is_some() {
            return None;
        }
        let descriptor = &entry.descriptor;
        let one = |subject, tag| {
            let descriptor = descriptor.bare();
            let listed = ListedReferrer {
                subject,
                descriptor,
                tag,
            };
            Some(Claim::Referrers(vec![listed], None))
        };
        if let Some(subject) = descriptor.annotations.get(SUBJECT) {
            return one(subject.parse().ok()?, None);
        }
        let tag = tag_of(entry);
        if let Some(tag) = tag {
            if let Some((_, subject)) = Referrer::of_tag(tag) {
                return one(subject, Some(tag.into()));
            }
            if let Some(subject) = Referrer::subject_of_list(tag) {
                return self.list(descriptor, subject);
            }
        }
        if let Some(kind) = cosign_kind(entry) {
            let (_, suffix) = KINDS.iter().find(|(name, _)| *name == kind)?;
            return Some(Claim::Cosign(suffix));
        }
        // Sealift gives an image that has a name its own list, and this would read every manifest.
        if tag.is_some() && self.is_own || entry.reference.is_some() && tag.is_none() {
            return None;
        }
        match self.content(descriptor)? {
            Content::Refers(subject) => one(subject, None),
            Content::Lists(listed) if tag.is_none() => self.listed(&listed, descriptor.digest),
            Content::Lists(_) => None,
        }
    }

    /// What the content of an entry says. Many entries may have the same, which is read once.
    fn content(&self, descriptor: &Descriptor) -> Option<Content> {
        let key = (descriptor.digest, descriptor.media_type.clone());
        let known = self.contents.borrow().get(&key).cloned();
        known.unwrap_or_else(|| {
            let content = self.read_content(descriptor);
            self.contents.borrow_mut().insert(key, content.clone());
            content
        })
    }

    fn read_content(&self, descriptor: &Descriptor) -> Option<Content> {
        if !descriptor.media_type.is_document() || descriptor.size > MAX_METADATA {
            return None;
        }
        let bytes = (self.blob)(&descriptor.digest)?;
        if let Some(subject) = Referrer::subject(&bytes) {
            return Some(Content::Refers(subject));
        }
        match Document::parse(&descriptor.media_type, bytes).ok()? {
            Document::Index(index) => self.nested(&index).map(|listed| Content::Lists(listed.into())),
            Document::Manifest(_) => None,
        }
    }

    /// A claim on all of these, unless all entries together would have too many.
    fn listed(&self, listed: &[ListedReferrer], list: Digest) -> Option<Claim> {
        let count = self.listed.get().saturating_add(listed.len());
        self.listed.set(count);
        (count <= MAX_ALL_DESCRIPTORS).then(|| Claim::Referrers(listed.to_vec(), Some(list)))
    }

    /// The index under the tag of a list of referrers.
    fn list(&self, descriptor: &Descriptor, subject: Digest) -> Option<Claim> {
        let known = self.lists.borrow().get(&descriptor.digest).cloned();
        let children = known.unwrap_or_else(|| {
            let children = match self.document(descriptor) {
                Some(Document::Index(index)) => Some(index.manifests.iter().map(Descriptor::bare).collect()),
                _ => None,
            };
            self.lists
                .borrow_mut()
                .insert(descriptor.digest, children.clone());
            children
        })?;
        let listed = children.iter().map(|child| ListedReferrer {
            subject,
            descriptor: child.clone(),
            tag: None,
        });
        match self.listed.get().saturating_add(children.len()) > MAX_ALL_DESCRIPTORS {
            true => None,
            false => self.listed(&listed.collect::<Vec<_>>(), descriptor.digest),
        }
    }

    /// What an index lists, if all of its manifests refer to something.
    fn nested(&self, index: &Index) -> Option<Vec<ListedReferrer>> {
        let listed = index.manifests.iter().map(|child| {
            let marked = child.annotations.get(SUBJECT).map(|subject| subject.parse().ok());
            let tag = child.annotations.get(TAG).cloned();
            let subject = match marked {
                Some(subject) => subject?,
                None => {
                    let is_small = child.media_type.is_document() && child.size <= MAX_METADATA;
                    let bytes = is_small.then(|| (self.blob)(&child.digest)).flatten()?;
                    Referrer::subject(&bytes)?
                }
            };
            let is_of_tag = |tag: &String| Referrer::of_tag(tag).is_some_and(|(_, of)| of == subject);
            Some(ListedReferrer {
                subject,
                descriptor: child.bare(),
                tag: tag.filter(is_of_tag),
            })
        });
        let listed: Option<Vec<ListedReferrer>> = listed.collect();
        listed.filter(|listed| !listed.is_empty())
    }

    /// A referrer of `cosign save`. It does not say what it refers to: what it contains does, or else it is for the image
    /// that was saved.
    fn of_cosign(
        &self,
        entry: &Entry,
        suffix: &str,
        here: &HashSet<Digest>,
        root: Option<Digest>,
    ) -> Vec<ListedReferrer> {
        let contained = self.contained(&entry.descriptor);
        let subject = contained
            .iter()
            .find(|digest| here.contains(digest))
            .copied()
            .or(root);
        let listed = subject.map(|subject| ListedReferrer {
            subject,
            descriptor: entry.descriptor.bare(),
            tag: Some(Referrer::tag(&subject, suffix)),
        });
        listed.into_iter().collect()
    }

    /// The digests that the layers of a signature or attestation are about.
    fn contained(&self, descriptor: &Descriptor) -> Rc<[Digest]> {
        let known = self.contained.borrow().get(&descriptor.digest).cloned();
        known.unwrap_or_else(|| {
            let layers = match self.document(descriptor) {
                Some(Document::Manifest(manifest)) => manifest.layers,
                _ => Vec::new(),
            };
            let layers = layers.iter().take(MAX_LAYERS);
            let small = layers.filter(|layer| layer.size <= MAX_LAYER);
            let contained = small.filter_map(|layer| subjects((self.blob)(&layer.digest)?));
            let contained: Rc<[Digest]> = contained.flatten().collect();
            let mut all = self.contained.borrow_mut();
            all.insert(descriptor.digest, Rc::clone(&contained));
            contained
        })
    }

    /// The places of entries without a name whose manifest the index of another entry contains.
    fn inside_others(&self, entries: &[Entry]) -> HashSet<usize> {
        let mut unnamed: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let is_named = entry.reference.is_some() || entry.bare_tag.is_some();
            if !is_named && entry.substitute.is_none() {
                unnamed.entry(entry.descriptor.digest).or_default().push(at);
            }
        }
        let mut inside = HashSet::new();
        // Nothing has been hashed yet: two indexes may each claim to contain the other. Of those the first stays.
        let mut read = HashSet::new();
        for (at, root) in entries.iter().enumerate() {
            let mut level = vec![root.descriptor.bare()];
            for _ in 0..=MAX_DEPTH {
                let is_over = read.len().saturating_add(level.len()) > MAX_ALL_DESCRIPTORS;
                if unnamed.is_empty() || is_over || inside.contains(&at) {
                    break;
                }
                level = self.children(&level, &mut read);
                let found = level
                    .iter()
                    .filter(|child| child.digest != root.descriptor.digest);
                inside.extend(found.filter_map(|child| unnamed.get(&child.digest)).flatten());
            }
        }
        inside
    }

    /// What those of these that are indexes contain, as far as they were not read before.
    fn children(&self, level: &[Descriptor], read: &mut HashSet<Digest>) -> Vec<Descriptor> {
        let indexes = level.iter().filter(|one| one.media_type.kind() == Kind::Index);
        let unread: Vec<&Descriptor> = indexes.filter(|one| read.insert(one.digest)).collect();
        let documents = unread.into_iter().filter_map(|one| self.document(one));
        let children = documents.map(|document| match document {
            Document::Index(index) => index.manifests.iter().map(Descriptor::bare).collect(),
            Document::Manifest(_) => Vec::new(),
        });
        children.flatten().collect()
    }

    /// The digests of these manifests and indexes, and of those below.
    fn reachable<'d>(&self, roots: impl Iterator<Item = &'d Descriptor>) -> HashSet<Digest> {
        let mut here = HashSet::new();
        let mut level: Vec<Descriptor> = roots.cloned().collect();
        for _ in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for descriptor in level {
                let is_new = !here.contains(&descriptor.digest) && (self.blob)(&descriptor.digest).is_some();
                if is_new {
                    here.insert(descriptor.digest);
                }
                if !is_new || descriptor.media_type.kind() != Kind::Index {
                    continue;
                }
                if let Some(Document::Index(index)) = self.document(&descriptor) {
                    next.extend(index.manifests.iter().map(Descriptor::bare));
                }
            }
            // What is over the limit is reported when the images are followed.
            if here.len().saturating_add(next.len()) > MAX_ALL_DESCRIPTORS {
                break;
            }
            level = next;
        }
        here
    }
}

/// The digests that a payload of cosign is about: that of a signature, or the statement in an envelope.
fn subjects(bytes: Vec<u8>) -> Option<Vec<Digest>> {
    use base64::Engine as _;
    #[derive(serde::Deserialize)]
    struct Payload {
        critical: Option<Critical>,
        payload: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Critical {
        image: Image,
    }
    #[derive(serde::Deserialize)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        digest: Digest,
    }
    #[derive(serde::Deserialize)]
    struct Statement {
        subject: Vec<Subject>,
    }
    #[derive(serde::Deserialize)]
    struct Subject {
        digest: HashMap<String, String>,
    }
    let payload: Payload = serde_json::from_slice(&bytes).ok()?;
    if let Some(critical) = payload.critical {
        return Some(vec![critical.image.digest]);
    }
    let statement = base64::engine::general_purpose::STANDARD
        .decode(payload.payload?)
        .ok()?;
    let statement: Statement = serde_json::from_slice(&statement).ok()?;
    let digests = statement.subject.iter().flat_map(|subject| &subject.digest);
    let digests = digests.filter_map(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok());
    Some(digests.collect())
}
