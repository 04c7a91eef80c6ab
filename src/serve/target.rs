//! What a request asks for: paths, queries, ranges.

use std::ops::Range;

/// Longest text of a request that is reported, in characters.
const REPORTED: usize = 512;

/// Decodes `%2F` and the like. What is not UTF-8 then, names nothing.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let decoded = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Encodes what has a meaning in a query.
pub fn encode(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    text.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// The value of a field in a query.
pub fn field(query: Option<&str>, name: &str) -> Option<String> {
    encoded_field(query, name).map(decode)
}

/// The value of a field in a query that a browser made of a form, where `+` is a space.
pub fn form_field(query: Option<&str>, name: &str) -> Option<String> {
    encoded_field(query, name).map(|value| decode(&value.replace('+', " ")))
}

fn encoded_field<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = query.unwrap_or_default().split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| *key == name);
    found.map(|(_, value)| value)
}

/// Text of a request for a report.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(REPORTED) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

/// The bytes that a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of them. Also for several ranges and for other units, which a server may ignore.
    All,
    /// One range.
    Part(Range<u64>),
    /// None that exist.
    Nothing,
}

/// Reads a `Range` header for content of this size.
///
/// Source: RFC 9110, "Range Requests".
pub fn range(header: &str, size: u64) -> Asked {
    let Some((unit, set)) = header.split_once('=') else {
        return Asked::All;
    };
    let Some((first, last)) = set.trim().split_once('-').filter(|_| unit.trim() == "bytes") else {
        return Asked::All;
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, number(first), last, number(last)) {
        (_, Some(first), "", _) if first < size => Asked::Part(first..size),
        (_, Some(first), _, Some(last)) if first <= last && first < size => {
            Asked::Part(first..last.saturating_add(1).min(size))
        }
        (_, Some(first), _, Some(last)) if first > last => Asked::All,
        (_, Some(_), "", _) | (_, Some(_), _, Some(_)) => Asked::Nothing,
        ("", _, _, Some(count)) if count > 0 && size > 0 => Asked::Part(size.saturating_sub(count)..size),
        ("", _, _, Some(_)) => Asked::Nothing,
        _ => Asked::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (header, expected) in [
            ("bytes=0-", Asked::Part(0..10)),
            ("bytes=3-", Asked::Part(3..10)),
            ("bytes=3-3", Asked::Part(3..4)),
            ("bytes=3-5", Asked::Part(3..6)),
            ("bytes=3-99999999999999999999999", Asked::Part(3..10)),
            ("bytes=-4", Asked::Part(6..10)),
            ("bytes=-40", Asked::Part(0..10)),
            ("bytes=9-", Asked::Part(9..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=10-12", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-3", Asked::All),
            ("bytes=0-1,3-4", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("bytes=a-b", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes", Asked::All),
            ("lines=1-2", Asked::All),
        ] {
            assert_eq!(range(header, 10), expected, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::Nothing);
        assert_eq!(range("bytes=-1", 0), Asked::Nothing);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Some("n=5&artifactType=application/vnd.x%2Bjson&last=a+b&ns&bad=%zz%4");
        for (name, expected) in [
            ("n", Some("5")),
            ("artifactType", Some("application/vnd.x+json")),
            ("last", Some("a+b")),
            ("ns", Some("")),
            ("bad", Some("%zz%4")),
            ("other", None),
        ] {
            assert_eq!(field(query, name).as_deref(), expected, "{name}");
        }
        assert_eq!(form_field(Some("q=a+b%2Bc"), "q").as_deref(), Some("a b+c"));
        assert_eq!(decode(&encode("a b&c=d/e:f+é")), "a b&c=d/e:f+é");
    }
}
