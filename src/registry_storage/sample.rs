//! Which blobs a partial verification hashes.

use std::fmt;
use std::str::FromStr;

use crate::oci::Digest;

/// A part of all blobs, chosen by their digests: the same blobs in every run, and as likely any blob as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Positions on a scale of 2^64 that belong to it: from `start`, up to and without `end`.
    start: u128,
    end: u128,
}

/// Where the scale of positions ends.
const SCALE: u128 = 1 << 64;
/// Hundredths of a percent.
const WHOLE: u128 = 10_000;

impl Sample {
    /// All blobs.
    pub const ALL: Sample = Sample { start: 0, end: SCALE };

    /// Whether a blob belongs to it.
    pub fn has(&self, digest: &Digest) -> bool {
        let bytes: &[u8] = match digest {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        };
        // Not the first bytes, by which blobs are in folders.
        let at = bytes
            .last_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        (self.start..self.end).contains(&u128::from(at))
    }

    /// Whether all blobs belong to it.
    pub fn is_all(&self) -> bool {
        *self == Sample::ALL
    }
}

/// Why text is not a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleError;

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample is a percentage, as in 5%, or one of equal parts, as in 3/7")
    }
}

impl std::error::Error for SampleError {}

impl FromStr for Sample {
    type Err = SampleError;

    /// Parses `5%`, `0.5%`, or `3/7`, the third of seven parts that make up the whole.
    fn from_str(text: &str) -> Result<Sample, SampleError> {
        if let Some((part, parts)) = text.split_once('/') {
            let part: u32 = digits(part)?;
            let parts: u32 = digits(parts)?;
            if part == 0 || part > parts {
                return Err(SampleError);
            }
            let limit = |part: u32| SCALE * u128::from(part) / u128::from(parts);
            return Ok(Sample {
                start: limit(part - 1),
                end: limit(part),
            });
        }
        let percent = text.strip_suffix('%').ok_or(SampleError)?;
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
        if decimals.len() > 2 {
            return Err(SampleError);
        }
        let whole: u32 = digits(whole)?;
        let decimals: u32 = digits(&format!("{decimals:0<2}"))?;
        let hundredths = u128::from(whole) * 100 + u128::from(decimals);
        if hundredths == 0 || hundredths > WHOLE {
            return Err(SampleError);
        }
        Ok(Sample {
            start: 0,
            end: SCALE * hundredths / WHOLE,
        })
    }
}

fn digits(text: &str) -> Result<u32, SampleError> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| SampleError),
        false => Err(SampleError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(sample: &str) -> usize {
        let sample: Sample = sample.parse().unwrap();
        let digests = (0..10_000_u32).map(|n| Digest::sha256(&n.to_le_bytes()));
        digests.filter(|digest| sample.has(digest)).count()
    }

    #[test]
    fn a_sample_has_its_share() {
        assert_eq!(share("100%"), 10_000);
        assert_eq!(share("1/1"), 10_000);
        for (text, expected) in [("5%", 500), ("0.5%", 50), ("33.33%", 3333), ("99.9%", 9990)] {
            let found = share(text);
            assert!(found.abs_diff(expected) < 150, "{text}: {found}");
        }
    }

    #[test]
    fn parts_make_up_the_whole() {
        let parts: Vec<Sample> = (1..=7).map(|part| format!("{part}/7").parse().unwrap()).collect();
        for n in 0..1000_u32 {
            let digest = Digest::sha256(&n.to_le_bytes());
            assert_eq!(parts.iter().filter(|part| part.has(&digest)).count(), 1);
        }
    }

    #[test]
    fn other_text_is_no_sample() {
        for text in [
            "", "%", "0%", "101%", "100.01%", "5", "-5%", "+5%", "5.%%", "1.234%", "0/7", "8/7", "1/0", "/7",
            "1/", "1/7/2",
        ] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }
}
