//! Which names of images get a row in a table.

use std::collections::{HashMap, HashSet};

use sealift::oci::{Digest, Reference};

/// Decides for each name with its image's digest whether it gets a row. `docker images --digests` shows a tag with the
/// digest in one line: next to `app:1`, the names `app:1@DIGEST` and `app@DIGEST` of the same digest get none.
pub fn own_rows<'n>(
    names: impl Iterator<Item = (Option<&'n Reference>, Option<Digest>)> + Clone,
) -> Vec<bool> {
    let mut tags: HashMap<_, HashSet<_>> = HashMap::new();
    for (name, digest) in names.clone() {
        if let (Some(name), Some(digest)) = (name, digest) {
            let known = tags.entry((name.repository(), digest)).or_default();
            if let Some(tag) = name.tag() {
                known.insert((tag, name.digest().is_some()));
            }
        }
    }
    let mut untagged = HashSet::new();
    names
        .map(|(name, digest)| {
            let (Some(name), Some(digest)) = (name, digest) else {
                return true;
            };
            let key = (name.repository(), digest);
            let known = tags.get(&key);
            match name.tag() {
                None => known.is_none_or(HashSet::is_empty) && untagged.insert(key),
                Some(tag) if name.digest().is_some() => {
                    known.is_none_or(|known| !known.contains(&(tag, false)))
                }
                Some(_) => true,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_row_in_a_repository_and_every_tag_its_own() {
        let [one, two] = ["one", "two"].map(|text| Digest::sha256(text.as_bytes()));
        let shown = |names: &[(&str, Option<Digest>)]| {
            let parsed: Vec<(Reference, Option<Digest>)> = names
                .iter()
                .map(|(name, digest)| (name.replace("ONE", &one.to_string()).parse().unwrap(), *digest))
                .collect();
            let rows = own_rows(parsed.iter().map(|(name, digest)| (Some(name), *digest)));
            let kept = names.iter().zip(rows).filter(|(_, is_shown)| *is_shown);
            kept.map(|((name, _), _)| *name).collect::<Vec<_>>().join(" ")
        };
        for (names, expected) in [
            (
                &[
                    ("app@ONE", Some(one)),
                    ("app:1@ONE", Some(one)),
                    ("app:1", Some(one)),
                ][..],
                "app:1",
            ),
            (&[("app:1@ONE", Some(one)), ("app@ONE", Some(one))], "app:1@ONE"),
            (&[("app@ONE", Some(one)), ("app@ONE", Some(one))], "app@ONE"),
            (
                &[("app:1", Some(one)), ("app:2@ONE", Some(one))],
                "app:1 app:2@ONE",
            ),
            (&[("app:1", Some(two)), ("app@ONE", Some(one))], "app:1 app@ONE"),
            (&[("app:1", Some(one)), ("web@ONE", Some(one))], "app:1 web@ONE"),
            (&[("app:1", None), ("app:2", None)], "app:1 app:2"),
        ] {
            assert_eq!(shown(names), expected);
        }
        assert_eq!(
            own_rows([(None, Some(one)), (None, Some(one))].into_iter()),
            [true, true]
        );
    }
}
