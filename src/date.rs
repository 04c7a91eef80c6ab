//! Dates, as registries send them and documents have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Parses the date of an HTTP header: RFC 9110, section 5.6.7, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http(text: &str) -> Option<SystemTime> {
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let day = number(words.next()?)?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = number(words.next()?)?;
    let clock = clock(words.next()?)?;
    if words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    at(year, i64::try_from(month).ok()? + 1, day, clock)
}

/// Parses the date of a token: RFC 3339, `1994-11-06T08:49:37.123Z` or with an offset in place of `Z`.
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (
        number(parts.next()?)?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    );
    let (time, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let sign = time.rfind(['+', '-'])?;
            let (hours, minutes) = time.get(sign + 1..)?.split_once(':')?;
            let seconds = number(hours)? * 3600 + number(minutes)? * 60;
            let east = time.get(sign..=sign) == Some("+");
            (time.get(..sign)?, if east { seconds } else { -seconds })
        }
    };
    let whole = time.split('.').next()?;
    let clock = clock(whole)?;
    at(year, month, day, clock - offset)
}

/// Writes a time as RFC 3339 has it, in UTC and whole seconds: `1994-11-06T08:49:37Z`.
pub fn to_rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Days since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let date = day - (month * 153 + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hours, minutes, seconds) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{date:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (
        number(parts.next()?)?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    );
    (hours < 24 && minutes < 60 && seconds <= 60 && parts.next().is_none())
        .then_some(hours * 3600 + minutes * 60 + seconds)
}

fn at(year: i64, month: i64, day: i64, seconds: i64) -> Option<SystemTime> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of a proleptic Gregorian date, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = u64::try_from(days * 86_400 + seconds).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(time: Option<SystemTime>) -> Option<u64> {
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn what_is_written_is_read() {
        for seconds in [
            0,
            1,
            951_782_399,
            951_782_400,
            1_709_164_800,
            1_709_251_199,
            4_102_444_800,
            32_503_680_000,
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let text = to_rfc3339(time);
            assert_eq!(rfc3339(&text), Some(time), "{text}");
        }
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(to_rfc3339(time), "1994-11-06T08:49:37Z");
    }

    #[test]
    fn both_forms() {
        // From `date -u -d @N`.
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nix 1994 08:49:37 GMT", None),
            ("120", None),
            ("", None),
        ] {
            assert_eq!(seconds(http(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("1994-11-06T08:49:37Z", Some(784_111_777)),
            ("1994-11-06T08:49:37.123456789Z", Some(784_111_777)),
            ("1994-11-06T10:49:37+02:00", Some(784_111_777)),
            ("1994-11-06T03:19:37-05:30", Some(784_111_777)),
            ("2023-03-01T00:00:00Z", Some(1_677_628_800)),
            ("1969-12-31T23:59:59Z", None),
            ("1994-13-06T08:49:37Z", None),
            ("1994-11-06", None),
        ] {
            assert_eq!(seconds(rfc3339(text)), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = (http(&text), rfc3339(&text));
        }
    }
}
