//! How long a registry asks to wait.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, header};

use crate::date;

/// How long a server asks to wait: RFC 9110, section 10.2.3, in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // The server's clock, if it sends the time, so that a wrong local clock does not matter.
    let now = headers
        .get(header::DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(date::http)
        .unwrap_or(now);
    Some(date::http(text)?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = date::http("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, date, expected) in [
            ("17", None, Some(17)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", None, Some(20)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None, Some(0)),
            (
                "Sun, 06 Nov 1994 09:00:30 GMT",
                Some("Sun, 06 Nov 1994 09:00:00 GMT"),
                Some(30),
            ),
            ("soon", None, None),
            ("-1", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(header::DATE, date.parse().unwrap());
            }
            let found = retry_after(&headers, now).map(|duration| duration.as_secs());
            assert_eq!(found, expected, "{value}");
        }
    }
}
