//! Follows what an archive lists as referrers of its images, by sealift's own lists and by the entries of other tools.

use std::collections::HashMap;
use std::rc::Rc;

use super::Followed;
use crate::archive::format::parse_referrers;
use crate::archive::{Layout, LayoutReferrers};
use crate::image::referrers::ListedReferrer;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::verify::{FollowedReferrers, ListedReferrers, Verification};

/// What is listed for an image: by sealift's own list, and by other entries.
struct Listed<'l> {
    /// The list, if it is the image's own.
    list: Option<Digest>,
    own: HashMap<Digest, Vec<&'l ListedReferrer>>,
    others: &'l LayoutReferrers,
}

impl ListedReferrers for Listed<'_> {
    fn of(&self, subject: &Digest) -> Vec<&ListedReferrer> {
        let own = self.own.get(subject).into_iter().flatten().copied();
        own.chain(self.others.of(subject)).collect()
    }

    fn is_strict(&self, referrer: &ListedReferrer) -> bool {
        let own = self.own.get(&referrer.subject).into_iter().flatten();
        self.list.is_some() && own.copied().any(|one| one == referrer)
    }

    fn strict_subjects(&self) -> Vec<&Digest> {
        match self.list {
            Some(_) => self.own.keys().collect(),
            None => Vec::new(),
        }
    }
}

/// Follows the referrers of all images. `images` are those of the entries, in order.
pub(super) fn follow(verification: &mut Verification<'_>, layout: &dyn Layout, images: &mut [Followed]) {
    let others = layout.referrers();
    for list in &others.lists {
        verification.refer(list);
    }
    let mut lists: HashMap<Digest, Rc<Vec<ListedReferrer>>> = HashMap::new();
    let mut known: HashMap<(Digest, Option<Digest>), Rc<FollowedReferrers>> = HashMap::new();
    for (entry, image) in layout.entries().iter().zip(images) {
        let list = entry.referrers.or(others.common);
        if list.is_none() && others.is_empty() {
            continue;
        }
        let key = (entry.descriptor.digest, list);
        let referrers = match known.get(&key) {
            Some(referrers) => Rc::clone(referrers),
            None => {
                let own = list.map(|list| {
                    let own = lists.entry(list);
                    Rc::clone(own.or_insert_with(|| Rc::new(read(verification, layout, list))))
                });
                let own = own.unwrap_or_default();
                let mut by_subject: HashMap<Digest, Vec<&ListedReferrer>> = HashMap::new();
                for one in own.iter() {
                    by_subject.entry(one.subject).or_default().push(one);
                }
                let listed = Listed {
                    list: list.filter(|_| entry.referrers.is_some()),
                    own: by_subject,
                    others,
                };
                let referrers = verification.follow_referrers(image, list, &listed);
                known.insert(key, Rc::clone(&referrers));
                referrers
            }
        };
        image.referrers = referrers;
    }
}

/// Reads one of sealift's own lists. What is wrong with it is reported.
fn read(verification: &mut Verification<'_>, layout: &dyn Layout, list: Digest) -> Vec<ListedReferrer> {
    let size = layout.stored(&list).map_or(0, |stored| stored.size);
    let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_INDEX), list, size);
    let Some(bytes) = verification.read_list(&descriptor) else {
        return Vec::new();
    };
    match parse_referrers(&bytes) {
        Ok(listed) => listed,
        Err(problem) => {
            verification.find(&list, problem);
            Vec::new()
        }
    }
}
