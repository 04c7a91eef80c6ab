//! The lists of referrers in a layout folder: what is loaded into it is added to those that it has.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::archive::format::{self, Entry, REFERRERS, parse_referrers, referrers_json};
use crate::dir::{self, Dir};
use crate::error::{Error, Place, Problem, Result};
use crate::image::NamedImage;
use crate::image::referrers::ListedReferrer;
use crate::oci::{Descriptor, Digest, MAX_METADATA};

/// The stored bytes of lists, by their digests.
pub type Lists = BTreeMap<Digest, Vec<u8>>;

/// Reads the lists that the entries of a folder name. One that is missing or wrong is not among them.
pub fn read(dir: &Dir, entries: &[Entry]) -> Lists {
    let mut lists = Lists::new();
    for digest in entries.iter().filter_map(|entry| entry.referrers) {
        if lists.contains_key(&digest) {
            continue;
        }
        let path = format::blob_path(&digest);
        let folder = std::path::Path::new(&path).parent();
        let bytes = folder
            .and_then(|folder| dir.below(folder).ok())
            .and_then(|folder| folder.open_file(digest.hex()).ok())
            .and_then(|file| dir::read_whole(file, MAX_METADATA).ok());
        if let Some(bytes) = bytes.filter(|bytes| digest.of_same_algorithm(bytes) == digest) {
            lists.insert(digest, bytes);
        }
    }
    lists
}

/// Sets the list on an entry that replaces one of the same image, or gives the image a further name. It has the referrers of
/// both.
///
/// # Errors
///
/// [`Error::Refused`] if the list that is there cannot be used.
pub fn merge(
    label: &str,
    known: &Entry,
    entry: &mut Value,
    image: &NamedImage,
    lists: &mut Lists,
) -> Result<()> {
    let Some(digest) = known.referrers else {
        return set(entry, referrers_json(&image.referrers)?, lists);
    };
    let refuse = |problem| Error::refused(Place::blob(digest).within(label), problem);
    let bytes = lists.get(&digest).ok_or_else(|| refuse(Problem::Missing))?;
    let old = parse_referrers(bytes).map_err(refuse)?;
    let new = match referrers_json(&image.referrers)? {
        Some(list) => parse_referrers(&list).map_err(refuse)?,
        None => Vec::new(),
    };
    let key = |one: &ListedReferrer| (one.subject, one.descriptor.digest, one.tag.clone());
    let before = old.len();
    let mut all = old;
    for one in new {
        if !all.iter().any(|known| key(known) == key(&one)) {
            all.push(one);
        }
    }
    if all.len() == before {
        let list = bytes.clone();
        return set(entry, Some(list), lists);
    }
    all.sort_by_key(key);
    let descriptors: Vec<Descriptor> = all.iter().map(format::listed_descriptor).collect();
    let merged = format::list_json(descriptors)?;
    // What is read has a limit, too.
    parse_referrers(&merged).map_err(refuse)?;
    set(entry, Some(merged), lists)
}

/// Sets the annotation, and keeps the list to be written.
fn set(entry: &mut Value, list: Option<Vec<u8>>, lists: &mut Lists) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    let digest = Digest::sha256(&list);
    lists.insert(digest, list);
    let annotations = entry
        .as_object_mut()
        .map(|entry| entry.entry("annotations").or_insert_with(|| Map::new().into()));
    if let Some(Value::Object(annotations)) = annotations {
        annotations.insert(REFERRERS.into(), digest.to_string().into());
    }
    Ok(())
}
