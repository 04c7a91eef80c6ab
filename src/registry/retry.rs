//! Retries: how many, and with which pauses.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, header};

use super::date;

/// How often a request is made, and the pauses between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Number of attempts before giving up; at least 1.
    pub tries: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause, even if a registry's `Retry-After` asks for more.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Five attempts, with pauses of 1, 2, 4 and 8 seconds, at most 60.
    fn default() -> Retry {
        Retry {
            tries: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// The pause after attempt number `tried`, counted from 1: growing, and not less than the server asked for.
    pub(super) fn pause(&self, tried: u32, asked: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_pause
            .saturating_mul(doubled)
            .max(asked.unwrap_or_default())
            .min(self.longest_pause)
    }
}

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
    fn pauses_grow_and_are_capped() {
        let retry = Retry::default();
        let pauses: Vec<u64> = (1..9).map(|tried| retry.pause(tried, None).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry.pause(1, Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(retry.pause(5, Some(Duration::from_secs(7))).as_secs(), 16);
        assert_eq!(retry.pause(1, Some(Duration::from_secs(3600))).as_secs(), 60);
        assert_eq!(retry.pause(u32::MAX, None).as_secs(), 60);
    }

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
