//! Where the next request of an upload goes.

use ureq::http::uri::Scheme;
use ureq::http::{Uri, header};

use crate::net::address::Address;
use crate::registry::location::join;
use crate::registry::mirror::Endpoint;
use crate::registry::request_error::RequestError;
use crate::registry::transport::Answer;

/// The URL in the `Location` of a response to a request to `base`. It may be relative, or of another host.
///
/// # Errors
///
/// If there is none, or if it leads from https to http.
pub(super) fn locate(at: &Endpoint, base: &Uri, answer: &Answer, subject: &str) -> Result<Uri, RequestError> {
    let refuse = |problem: &str| Err(RequestError::end(at, subject, problem.into(), None));
    let Some(location) = answer.headers.get(header::LOCATION) else {
        return refuse("started an upload without saying where it goes");
    };
    let Some(next) = join(base, location.as_bytes()) else {
        return refuse("gave an address for an upload that is none");
    };
    match secured(base, next) {
        Some(next) => Ok(next),
        None => refuse("wants the upload over http, and was reached over https"),
    }
}

/// The URL, by https if the request was. A registry behind a proxy that ends TLS often takes itself for a plain one, and
/// names its own host with http. `None` for another host.
fn secured(base: &Uri, next: Uri) -> Option<Uri> {
    if base.scheme() != Some(&Scheme::HTTPS) || next.scheme() == Some(&Scheme::HTTPS) {
        return Some(next);
    }
    let (here, there) = (Address::of(base)?, Address::of(&next)?);
    let is_same = here.host == there.host && (there.port == here.port || there.port == Some(80));
    let path = next.path_and_query().map_or("/", |path| path.as_str());
    let secure = format!("https://{}{path}", base.authority()?);
    secure.parse().ok().filter(|_| is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_stays_on_https() {
        for (base, next, expected) in [
            (
                "https://h.io/v2/",
                "https://s3.io/x?y=1",
                Some("https://s3.io/x?y=1"),
            ),
            ("http://h.io/v2/", "http://h.io/x", Some("http://h.io/x")),
            (
                "https://h.io/v2/",
                "http://h.io/x?y=1",
                Some("https://h.io/x?y=1"),
            ),
            (
                "https://h.io:5000/v2/",
                "http://h.io:5000/x",
                Some("https://h.io:5000/x"),
            ),
            ("https://h.io/v2/", "http://s3.io/x", None),
            ("https://h.io/v2/", "http://h.io:81/x", None),
        ] {
            let found = secured(&base.parse().unwrap(), next.parse().unwrap());
            assert_eq!(
                found.map(|url| url.to_string()).as_deref(),
                expected,
                "{base} {next}"
            );
        }
    }
}
