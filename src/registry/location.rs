//! The target of a redirect: RFC 9110, section 10.2.2.

use ureq::http::Uri;

use crate::net::address::Address;

/// Resolves a `Location` against the URL of the request. `None` if it is not an http or https URL with a host,
/// or has a user and password.
pub(super) fn join(base: &Uri, location: &[u8]) -> Option<Uri> {
    let text = clean(location);
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let absolute = if has_scheme(&text) {
        text
    } else if let Some(rest) = text.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if text.starts_with('/') {
        format!("{scheme}://{authority}{text}")
    } else if text.starts_with('?') {
        format!("{scheme}://{authority}{}{text}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{text}")
    };
    let url: Uri = absolute.parse().ok()?;
    let authority = url.authority()?;
    let usable = matches!(url.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@');
    usable.then_some(url)
}

/// Whether two URLs have the same scheme, host and port.
pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && Address::of(a) == Address::of(b)
}

/// Escapes characters that are invalid in a URL but occur in signed ones of some storage, and removes the
/// fragment.
fn clean(location: &[u8]) -> String {
    let mut text = String::with_capacity(location.len());
    for byte in location.trim_ascii() {
        match byte {
            b'#' => break,
            0x21..=0x7e if !b"\"<>\\^`{|}".contains(byte) => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Escapes a value for a URL's query or a form.
pub(super) fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_every_form() {
        let base: Uri = "https://r.io:5000/v2/a/blobs/x?y=1".parse().unwrap();
        for (location, expected) in [
            (
                "https://cdn.io/b?sig=%2F|é#f",
                Some("https://cdn.io/b?sig=%2F%7C%C3%A9"),
            ),
            ("//cdn.io/b", Some("https://cdn.io/b")),
            ("/v2/b", Some("https://r.io:5000/v2/b")),
            ("z", Some("https://r.io:5000/v2/a/blobs/z")),
            ("?z=2", Some("https://r.io:5000/v2/a/blobs/x?z=2")),
            (" http://cdn.io/ ", Some("http://cdn.io/")),
            ("https://user:password@cdn.io/", None),
            ("file:///etc/passwd", None),
            ("https://", None),
            ("ftp://x/", None),
        ] {
            let found = join(&base, location.as_bytes()).map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (a, b, expected) in [
            ("https://h/x", "https://H:443/y", true),
            ("https://h/", "http://h/", false),
            ("http://h/", "http://h:80/", true),
            ("http://h/", "http://h:81/", false),
            ("https://h/", "https://h.example/", false),
        ] {
            assert_eq!(
                same_origin(&a.parse().unwrap(), &b.parse().unwrap()),
                expected,
                "{a} {b}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn what_comes_out_is_http(location: Vec<u8>) {
            let base: Uri = "https://r.io/v2/".parse().unwrap();
            if let Some(url) = join(&base, &location) {
                assert!(matches!(url.scheme_str(), Some("http" | "https")));
            }
        }
    }
}
