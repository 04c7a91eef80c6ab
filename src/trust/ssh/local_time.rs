//! The times in a file of allowed signers: `YYYYMMDD`, with `HHMM` or `HHMMSS` after it, in local time or with `Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tz::TimeZone;

/// Standard time is looked for this long before and after a time of summer, in seconds. Zones without it have none.
const NEARBY: i64 = 2 * 366 * 86_400;
/// Standard time is looked for in steps of this many seconds: a week.
const STEP: i64 = 7 * 86_400;

/// Parses a time. One without `Z` is in the time zone of this host, and never in its summer time, as OpenSSH reads it.
pub(super) fn parse(
    text: &str,
    zone: impl FnOnce() -> Result<TimeZone, String>,
) -> Result<SystemTime, String> {
    let (digits, is_utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let wall =
        wall(digits).ok_or("it is not YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with or without a Z")?;
    let seconds = match is_utc {
        true => wall,
        false => standard(wall, &zone()?)?,
    };
    let seconds = u64::try_from(seconds).map_err(|_| "it is before 1970")?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| "it is too late".into())
}

/// The time zone of this host: TZ, or else /etc/localtime. UTC where nothing says so, as in many containers.
pub(super) fn zone() -> Result<TimeZone, String> {
    let unknown = |name: &str, error: tz::Error| {
        format!("the time zone {name} is unknown here ({error}): add a Z for UTC")
    };
    match std::env::var_os("TZ") {
        Some(name) if name.is_empty() => Ok(TimeZone::utc()),
        Some(name) => {
            let name = name.to_string_lossy();
            TimeZone::from_posix_tz(&name).map_err(|error| unknown(&name, error))
        }
        None => match TimeZone::local() {
            Err(tz::Error::Io(_)) => Ok(TimeZone::utc()),
            read => read.map_err(|error| unknown("of /etc/localtime", error)),
        },
    }
}

/// Seconds from 1970 to what a clock shows, as if it showed UTC.
fn wall(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let number = |from: usize, to: usize| match digits.get(from..to) {
        Some(part) => part.parse::<u32>().ok(),
        None => Some(0),
    };
    let small = |from, to| number(from, to).and_then(|number| u8::try_from(number).ok());
    let time = tz::UtcDateTime::new(
        i32::try_from(number(0, 4)?).ok()?,
        small(4, 6)?,
        small(6, 8)?,
        small(8, 10)?,
        small(10, 12)?,
        small(12, 14)?,
        0,
    );
    time.ok().map(|time| time.unix_time())
}

/// The time at which a clock that is never set to summer time shows this.
fn standard(wall: i64, zone: &TimeZone) -> Result<i64, String> {
    let kind = |at| zone.find_local_time_type(at).map_err(|error| error.to_string());
    // Twice: the offset at the wall time as if it were UTC may be that of the other side of a change.
    let guess = wall - i64::from(kind(wall)?.ut_offset());
    let here = kind(guess)?;
    if !here.is_dst() {
        return Ok(wall - i64::from(here.ut_offset()));
    }
    let mut away = STEP;
    while away <= NEARBY {
        for at in [guess - away, guess + away] {
            let near = kind(at)?;
            if !near.is_dst() {
                return Ok(wall - i64::from(near.ut_offset()));
            }
        }
        away += STEP;
    }
    // As glibc does where a zone has no standard time nearby.
    Ok(guess + 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str, zone: &str) -> Result<u64, String> {
        let time = parse(text, || {
            TimeZone::from_posix_tz(zone).map_err(|error| error.to_string())
        })?;
        Ok(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    #[test]
    fn times_are_those_of_openssh() {
        // From `date -u -d ... +%s`; tests against ssh-keygen have the local ones.
        for (text, expected) in [
            ("19700101Z", 0),
            ("20260101Z", 1_767_225_600),
            ("202601010000Z", 1_767_225_600),
            ("20260101000001z", 1_767_225_601),
            ("20260101", 1_767_225_600 - 3600),
            // An hour later than clocks show in summer.
            ("202607011200", 1_782_907_200 - 3600),
            ("20240229120000Z", 1_709_208_000),
        ] {
            assert_eq!(seconds(text, BERLIN), Ok(expected), "{text}");
        }
        assert_eq!(seconds("202601010530", "IST-5:30"), Ok(1_767_225_600));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "Z",
            "2026",
            "202601",
            "2026010100",
            "20261301Z",
            "20260230Z",
            "202601012460Z",
            "202601012500Z",
            "2026-01-01",
            "+0260101",
            "19691231Z",
            "20260101ZZ",
            "20260101 ",
            "٢٠٢٦٠١٠١",
        ] {
            assert!(seconds(text, BERLIN).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_zone_is_an_error_only_where_it_matters() {
        let unknown = || Err("unknown".to_string());
        assert!(parse("20260101Z", unknown).is_ok());
        assert_eq!(parse("20260101", unknown), Err("unknown".into()));
    }
}
