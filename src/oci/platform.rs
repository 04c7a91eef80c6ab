//! Platforms and the selection of some.
//!
//! Matching follows containerd's `platforms` package: `arm64` means `arm64/v8`, `arm` means `arm/v7`,
//! `amd64/v1` means `amd64`, and the names of `uname` are aliases.

use std::fmt;
use std::str::FromStr;

use crate::escape::Escaped;

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// Operating system, as Go calls it.
    pub os: String,
    /// Architecture, as Go calls it.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system (Windows).
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub os_features: Vec<String>,
}

/// Largest number of features that is read: Windows knows one.
const MAX_FEATURES: usize = 64;

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Option<Vec<String>> = serde::Deserialize::deserialize(deserializer)?;
    let list = list.unwrap_or_default();
    match list.len() {
        0..=MAX_FEATURES => Ok(list),
        more => Err(serde::de::Error::custom(format!(
            "{more} os.features, over the limit of {MAX_FEATURES}"
        ))),
    }
}

impl Platform {
    /// Linux on this machine's architecture: the platform of a container here.
    pub fn host() -> Platform {
        let (architecture, variant) = normal_architecture(std::env::consts::ARCH, "");
        Platform::linux(&architecture, variant.as_deref())
    }

    /// Linux on an architecture.
    pub fn linux(architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// Serializes a platform as `os/architecture[/variant]`, the form of the command line.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize_text<S: serde::Serializer>(
        platform: &Platform,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(platform)
    }

    /// Serializes several platforms in the same form.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize_texts<S: serde::Serializer>(
        platforms: &[Platform],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(platforms.iter().map(ToString::to_string))
    }

    /// Whether this is the `unknown/unknown` that attestations carry.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// Whether an image for `offered` satisfies `self`.
    ///
    /// A variant that `self` omits is the architecture's usual one.
    pub fn matches(&self, offered: &Platform) -> bool {
        self.normal() == offered.normal()
    }

    /// The platforms that containerd takes from an index on this one, the best first. It knows no levels of amd64.
    ///
    /// Source: containerd, `platforms/compare.go` (`platformVector`).
    pub fn runs(&self) -> Vec<Platform> {
        let mut taken = vec![self.clone()];
        let mut add = |architecture: &str, variant: Option<String>| {
            taken.push(Platform {
                os: self.os.clone(),
                ..Platform::linux(architecture, variant.as_deref())
            });
        };
        match self.architecture.as_str() {
            "amd64" => add("386", None),
            "arm64" => (5..=8)
                .rev()
                .for_each(|version| add("arm", Some(format!("v{version}")))),
            "arm" => {
                let own = self.variant.as_deref().unwrap_or("v7");
                let version = own.trim_start_matches('v').parse().unwrap_or(7);
                (5..version)
                    .rev()
                    .for_each(|version: u8| add("arm", Some(format!("v{version}"))));
            }
            _ => {}
        }
        taken
    }

    /// Whether a config contradicts its index: another operating system, another architecture, or a higher
    /// level of it. A field that one of them omits is not a contradiction, and an image for ARMv6 runs where
    /// ARMv7 is requested.
    pub fn contradicts(&self, config: &Platform) -> bool {
        if self.is_unknown() || config.is_unknown() {
            return false;
        }
        let (said, found) = (self.normal(), config.normal());
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        if differ(&said.0, &found.0) || differ(&said.1, &found.1) {
            return true;
        }
        match (level(self), level(config)) {
            (Some(said), Some(found)) => found > said,
            _ => false,
        }
    }

    /// The same platform under the names of Go and containerd, without a variant that the architecture implies.
    pub fn normalized(&self) -> Platform {
        let (os, architecture, variant) = self.normal();
        Platform {
            os,
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    fn normal(&self) -> (String, String, Option<String>) {
        let (architecture, variant) =
            normal_architecture(&self.architecture, self.variant.as_deref().unwrap_or(""));
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_string(),
            other => other.to_string(),
        };
        (os, architecture, variant)
    }
}

/// The variant as a number: 7 of `v7`, 8.1 of `v8.1`.
fn level(platform: &Platform) -> Option<(u32, u32)> {
    let variant = platform.variant.as_deref()?;
    let number = variant.strip_prefix(['v', 'V']).unwrap_or(variant);
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("x86" | "i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        ("powerpc64le", other) => ("ppc64le", other),
        (other, variant) => (other, variant),
    };
    (
        architecture.to_string(),
        (!variant.is_empty()).then(|| variant.to_string()),
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Escaped(&self.os), Escaped(&self.architecture))?;
        match &self.variant {
            Some(variant) => write!(f, "/{}", Escaped(variant)),
            None => Ok(()),
        }
    }
}

/// Parses an architecture alone as Linux on it, or `linux` alone as Linux on this machine's architecture, like
/// containerd and `docker --platform`.
fn lone(word: &str) -> Option<Platform> {
    const ARCHITECTURES: [&str; 11] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
        "s390x",
    ];
    if word.eq_ignore_ascii_case("linux") {
        return Some(Platform::host());
    }
    let (architecture, variant) = normal_architecture(word, "");
    // A variant that the architecture implies is omitted.
    let variant = variant.filter(|_| !word.eq_ignore_ascii_case(&architecture));
    ARCHITECTURES
        .contains(&architecture.as_str())
        .then(|| Platform::linux(&architecture, variant.as_deref()))
}

/// Text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected ARCH, OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64/v8")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        if let [word] = parts.as_slice() {
            return lone(word).ok_or_else(|| PlatformError(text.into()));
        }
        let good = |part: &&str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError(text.into())),
        };
        if ![Some(os), Some(architecture), variant]
            .iter()
            .flatten()
            .all(|part| good(part))
        {
            return Err(PlatformError(text.into()));
        }
        Ok(Platform {
            os: (*os).into(),
            architecture: (*architecture).into(),
            variant: variant.map(|text| (*text).into()),
            os_version: None,
            os_features: Vec::new(),
        })
    }
}

/// Which platforms of a multi-platform image are requested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PlatformSelection {
    /// Every platform.
    All,
    /// These, in this order; each must be present.
    Only(Vec<Platform>),
    /// Those that are present: for reading an archive, whose index may be sparse.
    Present,
}

impl PlatformSelection {
    /// Only [`Platform::host`].
    pub fn host() -> PlatformSelection {
        PlatformSelection::Only(vec![Platform::host()])
    }
}

impl FromStr for PlatformSelection {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(PlatformSelection::All);
        }
        let mut chosen = Vec::new();
        for part in text.split(',') {
            let platform = if part == "host" {
                Platform::host()
            } else {
                part.parse()?
            };
            if !chosen.contains(&platform) {
                chosen.push(platform);
            }
        }
        Ok(PlatformSelection::Only(chosen))
    }
}

/// A platform that may be missing, as text: for `#[serde(with = ...)]`.
pub mod optional_text {
    use super::Platform;

    /// Serializes it.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: serde::Serializer>(
        platform: &Option<Platform>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match platform {
            Some(platform) => serializer.collect_str(platform),
            None => serializer.serialize_none(),
        }
    }

    /// Deserializes it.
    ///
    /// # Errors
    ///
    /// If it is not a platform.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Platform>, D::Error> {
        let text: Option<String> = serde::Deserialize::deserialize(deserializer)?;
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(serde::de::Error::custom)
    }
}

/// Platforms as texts: for `#[serde(with = ...)]`.
pub mod texts {
    use super::Platform;

    /// Serializes them.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: serde::Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
        Platform::serialize_texts(platforms, serializer)
    }

    /// Deserializes them.
    ///
    /// # Errors
    ///
    /// If one is not a platform.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
        let texts: Vec<String> = serde::Deserialize::deserialize(deserializer)?;
        let parsed = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        parsed.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_containerd_does() {
        for (wanted, offered, expected) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/aarch64", "linux/arm64", true),
            ("linux/x86_64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/386", "linux/amd64", false),
        ] {
            let (a, b): (Platform, Platform) = (wanted.parse().unwrap(), offered.parse().unwrap());
            assert_eq!(a.matches(&b), expected, "{wanted} {offered}");
        }
    }

    #[test]
    fn contradicts_only_what_is_said_twice() {
        for (said, config, expected) in [
            ("linux/arm64", "linux/amd64", true),
            ("linux/amd64", "windows/amd64", true),
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/amd64/v2", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64/v2", false),
            ("linux/arm64/v8", "linux/arm64/v8.1", true),
            ("linux/arm64/v8", "linux/arm64/8", false),
            ("linux/ppc64le/power8", "linux/ppc64le/power9", false),
            ("linux/arm64", "linux/arm64/v8", false),
            ("linux/arm64/v8", "linux/arm64", false),
            ("linux/arm/v5", "linux/arm", false),
            ("linux/arm", "linux/arm/v6", false),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/aarch64", "linux/arm64/8", false),
            ("unknown/unknown", "linux/amd64", false),
            ("linux/amd64", "unknown/unknown", false),
        ] {
            let (a, b): (Platform, Platform) = (said.parse().unwrap(), config.parse().unwrap());
            assert_eq!(a.contradicts(&b), expected, "{said} {config}");
        }
        let mut silent = Platform::linux("", None);
        assert!(!Platform::linux("arm64", None).contradicts(&silent));
        silent.architecture = "arm64".into();
        silent.os = String::new();
        assert!(!Platform::linux("arm64", None).contradicts(&silent));
    }

    #[test]
    fn an_architecture_alone_is_of_linux() {
        for (text, expected) in [
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("arm", "linux/arm"),
            ("armhf", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        assert_eq!("linux".parse(), Ok(Platform::host()));
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for text in [
            "",
            "wasm",
            "amd64,",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "linux/a b",
            "all,linux/amd64",
        ] {
            assert!(text.parse::<PlatformSelection>().is_err(), "{text}");
        }
        assert_eq!("all".parse(), Ok(PlatformSelection::All));
        let PlatformSelection::Only(list) = "linux/riscv64,host,linux/riscv64".parse().unwrap() else {
            unreachable!()
        };
        assert_eq!(list, ["linux/riscv64".parse().unwrap(), Platform::host()]);
    }
}
