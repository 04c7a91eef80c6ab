//! The content of a registry, put together from several archives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::content::{Content, Group};
use super::images::ServedName;
use super::opened::{Opened, blobs};
use crate::error::{Error, Result};
use crate::image::graph::MAX_DEPTH;
use crate::image::{Graph, NamedImage};
use crate::oci::{Digest, Reference, Referrer};

/// What is served, in numbers and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tags and digests that have a repository.
    pub images: usize,
    /// Repositories.
    pub repositories: usize,
    /// The registries that they are of.
    pub registries: BTreeSet<String>,
    /// Images without a full name, which are not served.
    pub nameless: usize,
    /// Images that lack layers in the form that clients ask for.
    pub incomplete: Vec<String>,
    /// Images whose manifest is a substitute.
    pub substitutes: Vec<String>,
    /// Paths that repositories of several registries have, with their full paths.
    pub contested: Vec<(String, Vec<String>)>,
}

/// Everything in these archives.
///
/// # Errors
///
/// [`Error::Usage`] if two archives have different images under one name.
pub(super) fn content(opened: &[Arc<Opened>]) -> Result<(Content, Summary)> {
    let mut content = Content::listed();
    let mut summary = Summary::default();
    let mut names = Names::default();
    let mut nameless = Vec::new();
    for archive in opened {
        let mut groups: HashMap<*const Graph, Group> = HashMap::new();
        for image in &archive.images {
            let known = groups.entry(Arc::as_ptr(&image.graph));
            let group = *known.or_insert_with(|| {
                let group = content.group();
                add_graph(&mut content, group, archive, &image.graph);
                group
            });
            for referrer in image.referrers.iter() {
                add_graph(&mut content, group, archive, &referrer.graph);
            }
            match &image.reference {
                Some(name) => {
                    names.add(name, image, archive)?;
                    names
                        .groups
                        .entry(group)
                        .or_default()
                        .insert(name.repository().full().into());
                    content.add_name(name.repository(), group);
                    if let Some(tag) = name.tag() {
                        content.add_tag(name.repository().full(), tag, image.graph.root.digest);
                    }
                    for referrer in image.referrers.iter() {
                        if let Some(tag) = &referrer.tag {
                            content.add_tag(name.repository().full(), tag, referrer.digest());
                        }
                    }
                    summary.registries.insert(name.repository().domain().into());
                }
                None => nameless.push((image, group)),
            }
        }
    }
    let nameless = attach_referrers(&mut content, &mut names, nameless);
    content.add_lists();
    let mut served = BTreeMap::new();
    for archive in opened {
        for (image, overview) in archive.images.iter().zip(&archive.overviews) {
            if let Some(name) = &image.reference {
                let new = || ServedName::new(name, image, overview, &content);
                served.entry(name.full()).or_insert_with(new);
            }
        }
    }
    for image in served.values() {
        summary.images += 1;
        if !image.is_complete {
            summary.incomplete.push(image.label.clone());
        }
        if image.named.provenance.substitute.is_some() {
            summary.substitutes.push(image.label.clone());
        }
    }
    content.set_images(served);
    let nameless: BTreeSet<Digest> = nameless.iter().map(|image| image.graph.root.digest).collect();
    summary.nameless = nameless.len();
    summary.repositories = content.count();
    summary.contested = content
        .contested()
        .map(|(path, names)| (path.clone(), names))
        .collect();
    Ok((content, summary))
}

/// Adds a graph with its configs and layers to a group.
fn add_graph(content: &mut Content, group: Group, archive: &Opened, graph: &Graph) {
    content.add_graph(group, graph);
    for descriptor in blobs(graph) {
        if let Some(blob) = archive.blobs.get(&descriptor.digest) {
            content.blob_of(group, blob);
        }
    }
}

/// Gives referrers without a name to the repositories that have their subjects. Returns the other images.
fn attach_referrers<'a>(
    content: &mut Content,
    names: &mut Names<'_>,
    mut nameless: Vec<(&'a NamedImage, Group)>,
) -> Vec<&'a NamedImage> {
    for _ in 0..MAX_DEPTH {
        let before = nameless.len();
        nameless.retain(|(image, group)| {
            let subjects = raw(&image.graph).and_then(|raw| content.groups_of(&Referrer::subject(raw)?));
            let repositories: BTreeSet<String> = subjects
                .into_iter()
                .flatten()
                .filter_map(|group| names.groups.get(group))
                .flatten()
                .cloned()
                .collect();
            for repository in &repositories {
                content.add_group(repository, *group);
            }
            let is_attached = !repositories.is_empty();
            if is_attached {
                names.groups.entry(*group).or_default().extend(repositories);
            }
            !is_attached
        });
        if nameless.len() == before {
            break;
        }
    }
    nameless.into_iter().map(|(image, _)| image).collect()
}

/// The stored bytes of a graph's manifest or index.
fn raw(graph: &Graph) -> Option<&[u8]> {
    let root = graph.root.digest;
    let indexes = graph
        .indexes
        .iter()
        .map(|(descriptor, index)| (descriptor.digest, &index.raw));
    let images = graph
        .images
        .iter()
        .map(|image| (image.descriptor.digest, &image.manifest.raw));
    let mut all = indexes.chain(images);
    all.find(|(digest, _)| *digest == root).map(|(_, raw)| &**raw)
}

/// The names of all archives.
#[derive(Default)]
struct Names<'a> {
    /// The image of a tag, and the archive that it is in.
    tags: BTreeMap<String, (Digest, &'a str)>,
    /// The full names of the repositories that have a group.
    groups: HashMap<Group, BTreeSet<String>>,
}

impl<'a> Names<'a> {
    /// Refuses a tag that is another image's in an archive before.
    fn add(&mut self, name: &Reference, image: &NamedImage, archive: &'a Opened) -> Result<()> {
        let Some(tag) = name.without_digest() else {
            return Ok(());
        };
        let digest = image.graph.root.digest;
        let (first, place) = self.tags.entry(tag.full()).or_insert((digest, &archive.label));
        if *first == digest {
            return Ok(());
        }
        let message = format!(
            "{} is {first} in {place} and {digest} in {}",
            tag.familiar(),
            archive.label
        );
        Err(Error::Usage {
            message,
            hint: Some("serve one of them, or give one of the images another name".into()),
        })
    }
}
