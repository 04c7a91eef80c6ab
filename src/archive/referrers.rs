//! Entries of `index.json` that are no images, but refer to one: other tools write signatures and SBOMs beside the image.
//!
//! - containerd and Docker 29: an entry for each, annotated with the digest of its subject
//! - oras: entries without a name, or an index without a name over them; in a folder also the index that a registry
//!   without an API has, under its tag `sha256-<hex>`
//! - regctl, skopeo: that index, and cosign's tags, such as `sha256-<hex>.sig`
//! - `cosign save`: entries with an annotation `kind`
//!
//! An entry whose subject is not in the archive stays what it is: an image or artifact.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::format::{Entry, REFERRERS, SUBJECT, TAG};
use crate::image::graph::{MAX_ALL_DESCRIPTORS, MAX_DEPTH};
use crate::image::referrers::{ListedReferrer, MAX_REFERRER_DEPTH};
use crate::oci::{
    Descriptor, Digest, Document, Index, Kind, MAX_METADATA, Manifest, Reference, Referrer, json,
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
    /// What is said to refer to something in the layout, by that.
    by_subject: HashMap<Digest, Vec<ListedReferrer>>,
    /// Indexes that only list referrers.
    pub lists: BTreeSet<Digest>,
    /// The list of the referrers of all images, as an annotation of `index.json` names it.
    pub common: Option<Digest>,
}

/// What an entry may be, if its subject is in the layout.
enum Claim {
    /// A referrer.
    Referrer(ListedReferrer),
    /// An index that lists referrers of one manifest.
    List(Digest, Rc<Index>),
    /// An index of referrers, each of which says itself what it refers to.
    Nested(Rc<Vec<ListedReferrer>>),
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
            subjects: RefCell::default(),
            indexes: RefCell::default(),
            nested: RefCell::default(),
        };
        let claims: Vec<Option<Claim>> = entries.iter().map(|entry| reader.claim(entry)).collect();
        let images = entries.iter().zip(&claims);
        let images: Vec<&Descriptor> = images
            .filter(|(entry, claim)| claim.is_none() || has_own_name(entry))
            .map(|(entry, _)| &entry.descriptor)
            .collect();
        if claims.iter().all(Option::is_none) || images.is_empty() {
            return found;
        }
        let mut here = reader.reachable(images.into_iter());
        let root = cosign_root(entries);
        let mut taken: HashSet<usize> = HashSet::new();
        // What is over the limit stays what it is: entries of its own.
        let mut left = MAX_ALL_DESCRIPTORS;
        for _ in 0..=MAX_REFERRER_DEPTH {
            let before = taken.len();
            for (at, (entry, claim)) in entries.iter().zip(&claims).enumerate() {
                let Some(claim) = claim.as_ref().filter(|_| !taken.contains(&at)) else {
                    continue;
                };
                let list = entry.descriptor.digest;
                let listed: Vec<ListedReferrer> = match claim {
                    Claim::Referrer(one) => vec![one.clone()],
                    Claim::List(subject, _) if !here.contains(subject) => continue,
                    Claim::List(_, index) if index.manifests.len() > left => continue,
                    Claim::List(subject, index) => {
                        found.lists.insert(list);
                        let children = index.manifests.iter();
                        children.map(|child| listed(*subject, child, None)).collect()
                    }
                    // The same index under another name adds nothing.
                    Claim::Nested(_) if found.lists.contains(&list) => Vec::new(),
                    Claim::Nested(all) if !all.iter().any(|one| here.contains(&one.subject)) => continue,
                    Claim::Nested(all) if all.len() > left => continue,
                    Claim::Nested(all) => {
                        found.lists.insert(list);
                        all.to_vec()
                    }
                    Claim::Cosign(suffix) => {
                        let one = reader.of_cosign(entry, suffix, &here, root);
                        one.into_iter().collect()
                    }
                };
                let is_referrer = match claim {
                    Claim::Referrer(_) | Claim::Cosign(_) => {
                        left > 0 && listed.iter().any(|one| here.contains(&one.subject))
                    }
                    Claim::List(..) | Claim::Nested(_) => true,
                };
                if !is_referrer {
                    continue;
                }
                left = left.saturating_sub(listed.len());
                for one in listed {
                    here.insert(one.descriptor.digest);
                    found.by_subject.entry(one.subject).or_default().push(one);
                }
                taken.insert(at);
            }
            if taken.len() == before {
                break;
            }
        }
        let mut at = 0;
        entries.retain(|entry| {
            at += 1;
            !taken.contains(&(at - 1)) || has_own_name(entry)
        });
        found
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// What is said to refer to a manifest.
    pub fn of(&self, subject: &Digest) -> &[ListedReferrer] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Everything that is said to refer to something.
    pub fn all(&self) -> impl Iterator<Item = &ListedReferrer> {
        self.by_subject.values().flatten()
    }
}

/// What a descriptor in a list is said to be.
fn listed(subject: Digest, descriptor: &Descriptor, tag: Option<String>) -> ListedReferrer {
    ListedReferrer {
        subject,
        descriptor: descriptor.bare(),
        tag,
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

/// Whether somebody has named an entry, rather than what it refers to.
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
    /// A document of several entries is read once.
    subjects: RefCell<HashMap<Digest, Option<Digest>>>,
    indexes: RefCell<HashMap<Digest, Option<Rc<Index>>>>,
    nested: RefCell<HashMap<Digest, Option<Rc<Vec<ListedReferrer>>>>>,
}

impl Reader<'_> {
    fn document(&self, descriptor: &Descriptor) -> Option<Document> {
        if !descriptor.media_type.is_document() || descriptor.size > MAX_METADATA {
            return None;
        }
        Document::parse(&descriptor.media_type, (self.blob)(&descriptor.digest)?).ok()
    }

    /// The index of a descriptor, if it is one.
    fn index(&self, descriptor: &Descriptor) -> Option<Rc<Index>> {
        if descriptor.media_type.kind() != Kind::Index {
            return None;
        }
        let known = self.indexes.borrow().get(&descriptor.digest).cloned();
        known.unwrap_or_else(|| {
            let index = match self.document(descriptor) {
                Some(Document::Index(index)) => Some(Rc::new(index)),
                _ => None,
            };
            self.indexes.borrow_mut().insert(descriptor.digest, index.clone());
            index
        })
    }

    /// What the manifest or index of a descriptor refers to.
    fn subject(&self, descriptor: &Descriptor) -> Option<Digest> {
        if !descriptor.media_type.is_document() || descriptor.size > MAX_METADATA {
            return None;
        }
        let known = self.subjects.borrow().get(&descriptor.digest).copied();
        known.unwrap_or_else(|| {
            let bytes = (self.blob)(&descriptor.digest);
            // Documents may be large, and few have one.
            let bytes = bytes
                .filter(|bytes| std::str::from_utf8(bytes).is_ok_and(|text| text.contains("\"subject\"")));
            let subject = bytes.and_then(|bytes| Referrer::subject(&bytes));
            self.subjects.borrow_mut().insert(descriptor.digest, subject);
            subject
        })
    }

    /// What an entry may refer to; `None` if it is an image.
    fn claim(&self, entry: &Entry) -> Option<Claim> {
        if entry.substitute.is_some() || entry.referrers.is_some() {
            return None;
        }
        let descriptor = &entry.descriptor;
        if let Some(subject) = descriptor.annotations.get(SUBJECT) {
            return Some(Claim::Referrer(listed(subject.parse().ok()?, descriptor, None)));
        }
        let tag = tag_of(entry);
        if let Some(tag) = tag {
            if let Some((_, subject)) = Referrer::of_tag(tag) {
                return Some(Claim::Referrer(listed(subject, descriptor, Some(tag.into()))));
            }
            if let Some(subject) = Referrer::subject_of_list(tag) {
                return Some(Claim::List(subject, self.index(descriptor)?));
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
        if let Some(subject) = self.subject(descriptor) {
            return Some(Claim::Referrer(listed(subject, descriptor, None)));
        }
        match tag {
            Some(_) => None,
            None => self.nested(descriptor).map(Claim::Nested),
        }
    }

    /// The manifests of an index without a name, all of which refer to something.
    fn nested(&self, descriptor: &Descriptor) -> Option<Rc<Vec<ListedReferrer>>> {
        let known = self.nested.borrow().get(&descriptor.digest).cloned();
        known.unwrap_or_else(|| {
            let index = self.index(descriptor);
            let nested = index.and_then(|index| self.all_referring(&index)).map(Rc::new);
            self.nested.borrow_mut().insert(descriptor.digest, nested.clone());
            nested
        })
    }

    fn all_referring(&self, index: &Index) -> Option<Vec<ListedReferrer>> {
        let all = index.manifests.iter().map(|child| {
            let marked = child.annotations.get(SUBJECT).map(|subject| subject.parse().ok());
            let subject: Digest = match marked {
                Some(subject) => subject?,
                None => self.subject(child)?,
            };
            let tag = child.annotations.get(TAG);
            let tag = tag.filter(|tag| Referrer::of_tag(tag).is_some_and(|(_, of)| of == subject));
            Some(listed(subject, child, tag.cloned()))
        });
        let all: Option<Vec<ListedReferrer>> = all.collect();
        all.filter(|all| !all.is_empty())
    }

    /// A referrer of `cosign save`. It does not say what it refers to: what it contains does, or else it is for the image
    /// that was saved.
    fn of_cosign(
        &self,
        entry: &Entry,
        suffix: &str,
        here: &HashSet<Digest>,
        root: Option<Digest>,
    ) -> Option<ListedReferrer> {
        let contained = match self.document(&entry.descriptor) {
            Some(Document::Manifest(manifest)) => self.contained(&manifest, here),
            _ => None,
        };
        let subject = contained.or(root)?;
        let tag = Referrer::tag(&subject, suffix);
        Some(listed(subject, &entry.descriptor, Some(tag)))
    }

    /// The digest of something in the layout in the layers of a signature or attestation.
    fn contained(&self, manifest: &Manifest, here: &HashSet<Digest>) -> Option<Digest> {
        let layers = manifest.layers.iter().take(MAX_LAYERS);
        let small = layers.filter(|layer| layer.size <= MAX_LAYER);
        small
            .filter_map(|layer| subjects((self.blob)(&layer.digest)?))
            .flatten()
            .find(|digest| here.contains(digest))
    }

    /// The digests of these manifests and indexes, and of those below.
    fn reachable<'d>(&self, roots: impl Iterator<Item = &'d Descriptor>) -> HashSet<Digest> {
        let mut here = HashSet::new();
        let mut level: Vec<Descriptor> = roots.cloned().collect();
        for _ in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for descriptor in level {
                let is_new = !here.contains(&descriptor.digest) && (self.blob)(&descriptor.digest).is_some();
                if !is_new {
                    continue;
                }
                here.insert(descriptor.digest);
                if let Some(index) = self.index(&descriptor) {
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
