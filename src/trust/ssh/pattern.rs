//! Lists of patterns: ssh_config(5), PATTERNS.

/// Whether a list of patterns, separated by commas, has one that fits, and no negated one that fits.
pub(super) fn list_matches(list: &str, text: &str) -> bool {
    let mut is_match = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(negated, text) => return false,
            Some(_) => {}
            None => is_match |= matches(pattern, text),
        }
    }
    is_match
}

/// Whether a pattern fits a text as a whole. `*` is any text, also none, and `?` any byte.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // After the last star: where the pattern goes on, and where the text does if the star takes one more byte.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, from));
            }
            Some(expected) if *expected == b'?' || expected == byte => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((after, taken)) => {
                    *taken += 1;
                    (at, from) = (*after, *taken);
                }
            },
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_match_as_in_ssh() {
        for (list, text, expected) in [
            ("alice@example.test", "alice@example.test", true),
            ("alice@example.test", "Alice@example.test", false),
            ("alice@example.test", "alice@example.tes", false),
            ("*@example.test", "alice@example.test", true),
            ("*@example.test,!bob@*", "bob@example.test", false),
            ("!bob@*,*@example.test", "bob@example.test", false),
            ("!bob@*,*@example.test", "alice@example.test", true),
            ("!bob@example.test", "alice@example.test", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a,,b", "b", true),
            ("**a**", "xxaxx", true),
            ("*a*b", "aab", true),
            ("*a*b", "aabc", false),
            ("a*", "a", true),
            ("a*?", "a", false),
            ("!*,alice", "alice", false),
        ] {
            assert_eq!(list_matches(list, text), expected, "{list} {text}");
        }
    }

    #[test]
    fn stars_do_not_take_forever() {
        let pattern = "*a".repeat(500);
        assert!(!matches(&pattern, &"a".repeat(499)));
        assert!(matches(&pattern, &"a".repeat(10_000)));
        assert!(!matches(&format!("{pattern}b"), &"a".repeat(10_000)));
    }
}
