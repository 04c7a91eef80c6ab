//! How many times a failed request is made again, and the pauses between.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The number of attempts at a request, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Number of attempts before giving up; at least 1.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause, even if a server asks for more.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Five attempts, with pauses of 1, 2, 4 and 8 seconds.
    fn default() -> Retry {
        Retry::starting_with(Duration::from_secs(1))
    }
}

impl Retry {
    /// Five attempts, with pauses that start with this one and grow to at most a minute.
    pub const fn starting_with(first_pause: Duration) -> Retry {
        Retry {
            attempts: 5,
            first_pause,
            longest_pause: Duration::from_secs(60),
        }
    }

    /// The same with at most this many attempts.
    #[must_use]
    pub fn at_most(self, attempts: u32) -> Retry {
        Retry {
            attempts: self.attempts.min(attempts),
            ..self
        }
    }

    /// Whether another attempt follows after this many failed ones.
    pub fn allows(&self, failed: u32) -> bool {
        failed < self.attempts
    }

    /// The pause after this many failed attempts: twice as long each time, up to a quarter shorter at random, so
    /// that clients that failed together do not return together. Not shorter than the server `asked` for.
    pub fn pause(&self, failed: u32, asked: Option<Duration>) -> Duration {
        // The seed of each `RandomState` is random: std has no other source of random numbers.
        let random = RandomState::new().build_hasher().finish();
        self.pause_at(failed, asked, u32::try_from(random % 251).unwrap_or_default())
    }

    /// The same, shortened by this many thousandths.
    fn pause_at(&self, failed: u32, asked: Option<Duration>, shorter: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1));
        let full = self.first_pause.saturating_mul(factor).min(self.longest_pause);
        full.saturating_sub(full / 1000 * shorter)
            .max(asked.unwrap_or_default())
            .min(self.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_capped() {
        let retry = Retry::default();
        let pause = |failed, asked| retry.pause_at(failed, asked, 0).as_secs();
        let pauses: Vec<u64> = (1..9).map(|failed| pause(failed, None)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1, Some(Duration::from_secs(7))), 7);
        assert_eq!(pause(5, Some(Duration::from_secs(7))), 16);
        assert_eq!(pause(1, Some(Duration::from_secs(3600))), 60);
        assert_eq!(pause(u32::MAX, None), 60);
    }

    #[test]
    fn pauses_vary_by_a_quarter_but_are_never_shorter_than_the_server_asks() {
        let retry = Retry::default();
        let pauses: Vec<Duration> = (0..100).map(|_| retry.pause(3, None)).collect();
        let range = Duration::from_secs(3)..=Duration::from_secs(4);
        assert!(pauses.iter().all(|pause| range.contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
        let asked = Duration::from_secs(4);
        assert_eq!(retry.pause(3, Some(asked)), asked);
    }

    #[test]
    fn attempts_are_counted_with_the_first_one() {
        let retry = Retry::default();
        assert!(retry.allows(4) && !retry.allows(5));
        assert!(retry.at_most(2).allows(1) && !retry.at_most(2).allows(2));
        assert_eq!(retry.at_most(9), retry);
    }
}
