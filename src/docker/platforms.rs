//! The platforms that an engine takes from an index, the best first, also if the index names none.
//!
//! Tried on Docker 20.10, 26 and 28: the classic store of 20.10 takes its own platform only. From 23 on the
//! classic store knows the levels of amd64, takes the highest that the processor has, and 386 last. The
//! containerd stores know no levels, and take 386 too. Without an index, every engine takes the only image.
//!
//! Source: moby, `distribution/pull_v2_unix.go`; containerd, `platforms/compare.go` (`platformVector`).

use super::api::ApiVersion;
use super::api::info::Store;
use crate::image::{Graph, Image};
use crate::oci::{Kind, Platform};

/// From this API version on (Docker 23), the classic store chooses by levels, like containerd.
const LEVELS_SINCE: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// The platforms that an engine takes; `level` is its processor's, if that is known.
pub fn taken(own: &Platform, store: Store, api: ApiVersion, level: Option<u8>) -> Vec<Platform> {
    if store == Store::Classic && api < LEVELS_SINCE {
        return vec![own.clone()];
    }
    let mut taken = own.runs();
    if own.architecture == "amd64" {
        let level = level.filter(|_| store == Store::Classic).unwrap_or(1);
        let levels = (2..=level).rev().map(|level| Platform {
            os: own.os.clone(),
            ..Platform::linux("amd64", Some(&format!("v{level}")))
        });
        taken.splice(0..0, levels);
    }
    taken
}

/// Why a pull of an index by the classic store would not take this image, if the index gives no platform for
/// it. Tried: 20.10 takes none of them, 26 and 28 take the first, whatever its config says.
pub fn unpulled(graph: &Graph, image: &Image, api: ApiVersion) -> Option<&'static str> {
    let (_, index) = graph.indexes.first()?;
    if image.descriptor.platform.is_some() {
        return None;
    }
    if api < LEVELS_SINCE {
        return Some("shows no image for which its index names no platform");
    }
    let mut open = index
        .manifests
        .iter()
        .filter(|entry| entry.platform.is_none() && entry.media_type.kind() == Kind::Manifest);
    let is_first = open
        .next()
        .is_some_and(|first| first.digest == image.descriptor.digest);
    (!is_first).then_some("shows only the first image of an index that names no platforms")
}

/// The level of this machine's processor, 1 to 4, as the psABI of x86-64 defines them.
#[cfg(target_arch = "x86_64")]
pub fn level() -> u8 {
    use std::arch::is_x86_feature_detected as has;
    let two = has!("cmpxchg16b") && has!("popcnt") && has!("sse3") && has!("ssse3");
    let two = two && has!("sse4.1") && has!("sse4.2");
    let three = two && has!("avx") && has!("avx2") && has!("bmi1") && has!("bmi2");
    let three = three && has!("f16c") && has!("fma") && has!("lzcnt") && has!("movbe");
    let four = three && has!("avx512f") && has!("avx512bw") && has!("avx512cd");
    let four = four && has!("avx512dq") && has!("avx512vl");
    1 + u8::from(two) + u8::from(three) + u8::from(four)
}

/// Other machines have none.
#[cfg(not(target_arch = "x86_64"))]
pub fn level() -> u8 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::api::OLDEST;

    #[test]
    fn the_best_come_first() {
        for (own, store, api, level, expected) in [
            ("linux/amd64", Store::Classic, OLDEST, Some(4), "linux/amd64"),
            (
                "linux/amd64",
                Store::Classic,
                LEVELS_SINCE,
                Some(3),
                "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386",
            ),
            (
                "linux/amd64",
                Store::Classic,
                LEVELS_SINCE,
                None,
                "linux/amd64 linux/386",
            ),
            (
                "linux/amd64",
                Store::Containerd,
                LEVELS_SINCE,
                Some(4),
                "linux/amd64 linux/386",
            ),
            (
                "linux/arm64",
                Store::Containerd,
                LEVELS_SINCE,
                None,
                "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
            ),
            (
                "linux/arm/v6",
                Store::Classic,
                LEVELS_SINCE,
                None,
                "linux/arm/v6 linux/arm/v5",
            ),
            ("linux/s390x", Store::Classic, LEVELS_SINCE, None, "linux/s390x"),
        ] {
            let taken = taken(&own.parse().unwrap(), store, api, level);
            let texts: Vec<String> = taken.iter().map(ToString::to_string).collect();
            assert_eq!(texts.join(" "), expected, "{own} {store:?} {level:?}");
        }
    }
}
