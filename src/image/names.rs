//! Lists of names in messages: short, with the most likely one first.

/// Number of names that a hint shows.
const SHOWN: usize = 10;
/// Characters of a name that are compared.
const COMPARED: usize = 64;

/// A number with its noun: `1 layer`, `2 layers`.
pub fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// The first `shown` names of a list, and the number of the others.
pub fn first(names: &[String], shown: usize) -> String {
    let first = names.get(..shown).unwrap_or(names).join(", ");
    match names.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// The existing names, for a message about one that does not exist: the most similar first, then by the
/// alphabet.
pub fn instead_of(wanted: &str, mut names: Vec<String>) -> String {
    // In the form of the others: `docker.io/library/httpd` is `httpd`.
    let wanted = match wanted.parse::<crate::oci::Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => wanted.to_string(),
    };
    names.sort();
    names.dedup();
    names.sort_by_cached_key(|name| unlikeness(&wanted, name));
    format!("it has {}", first(&names, SHOWN))
}

/// How much a name differs: least for other tags of a repository, then for likely misspellings, then for the
/// same last part. All others differ equally.
fn unlikeness(wanted: &str, name: &str) -> usize {
    let (wanted, name) = (repository(wanted), repository(name));
    if wanted == name {
        return 0;
    }
    let last = |text: &str| text.rsplit('/').next().map(str::to_owned);
    let distance = match last(wanted) == last(name) {
        true => 1,
        false => distance(wanted, name),
    };
    let is_like = distance * 3 <= wanted.chars().count().min(COMPARED);
    if is_like || distance == 1 {
        distance
    } else {
        usize::MAX
    }
}

/// A name without tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The number of characters to change, add or remove (Levenshtein), among the first ones of both.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(COMPARED).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, char) in one.chars().take(COMPARED).enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        let mut next = vec![left];
        for (found, above) in other.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(*found != char);
            left = changed.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_like_the_one_that_was_meant_come_first() {
        let names = [
            "zoo:1",
            "committed:1",
            "httpd:2.4",
            "quay.io/x/httpd:1",
            "httpd:2.2",
            "redis:7",
            "redis:7",
        ];
        let names = || names.map(str::to_string).to_vec();
        let said = |wanted| instead_of(wanted, names());
        let rest = "committed:1, redis:7, zoo:1";
        for wanted in ["httpd", "httpd:latest", "docker.io/library/httpd:3"] {
            let expected = format!("it has httpd:2.2, httpd:2.4, quay.io/x/httpd:1, {rest}");
            assert_eq!(said(wanted), expected, "{wanted}");
        }
        assert!(said("htpd:2.4").starts_with("it has httpd:2.2, httpd:2.4, "));
        assert!(
            said("reids").starts_with("it has committed:1, httpd:2.2"),
            "{}",
            said("reids")
        );
        assert!(said("rediss:7").starts_with("it has redis:7, committed:1"));
        let many: Vec<String> = (10..40).map(|number| format!("app:{number}")).collect();
        assert!(instead_of("x", many).ends_with("app:18, app:19 and 20 more"));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
