//! The structs that Go programs decode documents into: their fields, and the type of each.
//!
//! Engines, registries and tools share a few structs, some in several versions. Each schema here is the union
//! of them, because a key that only some of them know is read differently by those. Sources:
//!
//! - opencontainers/image-spec, `specs-go/v1`: `Index`, `Manifest`, `Descriptor`, `Platform`, `Image`,
//!   `ImageLayout`; containerd and buildkit read these
//! - distribution/distribution, `manifest/manifestlist` and `manifest/schema2`; containers/image, `manifest`
//! - containerd, `core/images`: `validateMediaType`, which looks at `fsLayers` too
//! - moby, `image/image.go`: `Image`, `V1Image`, `RootFS`, `History`; `api/types/container/config.go`: `Config`,
//!   `HealthConfig`; moby/docker-image-spec
//! - moby, `image/tarexport`: `manifestItem`
//!
//! Maps, such as labels and annotations, are [`Schema::Map`]: any key is allowed there.

/// What Go decodes a value into.
#[derive(Debug)]
pub enum Schema {
    /// Anything: a field that is in no struct.
    Any,
    /// `string`, and types based on it.
    Text,
    /// `int` and `int64`; durations too.
    Integer,
    /// `bool`.
    Boolean,
    /// `time.Time`.
    Time,
    /// `[]byte`.
    Bytes,
    /// A slice.
    List(&'static Schema),
    /// A map, which allows any key.
    Map(&'static Schema),
    /// A struct: its fields by their JSON names.
    Struct(&'static [(&'static str, &'static Schema)]),
}

use Schema::{Boolean, Bytes, Integer, List, Map, Struct, Text, Time};

impl Schema {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Schema::Any => "JSON",
            Text => "a string",
            Integer => "an integer of 64 bits",
            Boolean => "true or false",
            Time => "a time by RFC 3339",
            Bytes => "bytes in base64",
            List(_) => "an array",
            Map(_) | Struct(_) => "an object",
        }
    }
}

const TEXTS: Schema = List(&Text);
const TEXT_MAP: Schema = Map(&Text);
/// `map[string]struct{}`
const SET: Schema = Map(&Struct(&[]));

/// A platform in a descriptor.
pub const PLATFORM: Schema = Struct(&[
    ("architecture", &Text),
    ("os", &Text),
    ("os.version", &Text),
    ("os.features", &TEXTS),
    ("variant", &Text),
    ("features", &TEXTS),
]);

/// A descriptor.
pub const DESCRIPTOR: Schema = Struct(&[
    ("mediaType", &Text),
    ("digest", &Text),
    ("size", &Integer),
    ("urls", &TEXTS),
    ("annotations", &TEXT_MAP),
    ("data", &Bytes),
    ("platform", &PLATFORM),
    ("artifactType", &Text),
]);

/// A manifest or an index. One table for both, because readers tell them apart by the fields of the other.
pub const DOCUMENT: Schema = Struct(&[
    ("schemaVersion", &Integer),
    ("mediaType", &Text),
    ("artifactType", &Text),
    ("config", &DESCRIPTOR),
    ("layers", &List(&DESCRIPTOR)),
    ("manifests", &List(&DESCRIPTOR)),
    ("blobs", &List(&DESCRIPTOR)),
    ("subject", &DESCRIPTOR),
    ("annotations", &TEXT_MAP),
    ("fsLayers", &Schema::Any),
    ("signatures", &Schema::Any),
]);

const HEALTH: Schema = Struct(&[
    ("Test", &TEXTS),
    ("Interval", &Integer),
    ("Timeout", &Integer),
    ("StartPeriod", &Integer),
    ("StartInterval", &Integer),
    ("Retries", &Integer),
]);

/// How a container is run: `config` and `container_config`.
const CONTAINER: Schema = Struct(&[
    ("Hostname", &Text),
    ("Domainname", &Text),
    ("User", &Text),
    ("AttachStdin", &Boolean),
    ("AttachStdout", &Boolean),
    ("AttachStderr", &Boolean),
    ("ExposedPorts", &SET),
    ("Tty", &Boolean),
    ("OpenStdin", &Boolean),
    ("StdinOnce", &Boolean),
    ("Env", &TEXTS),
    ("Cmd", &TEXTS),
    ("Healthcheck", &HEALTH),
    ("ArgsEscaped", &Boolean),
    ("Image", &Text),
    ("Volumes", &SET),
    ("WorkingDir", &Text),
    ("Entrypoint", &TEXTS),
    ("NetworkDisabled", &Boolean),
    ("MacAddress", &Text),
    ("OnBuild", &TEXTS),
    ("Labels", &TEXT_MAP),
    ("StopSignal", &Text),
    ("StopTimeout", &Integer),
    ("Shell", &TEXTS),
]);

const HISTORY: Schema = Struct(&[
    ("created", &Time),
    ("author", &Text),
    ("created_by", &Text),
    ("comment", &Text),
    ("empty_layer", &Boolean),
]);

/// An image config.
pub const CONFIG: Schema = Struct(&[
    ("id", &Text),
    ("parent", &Text),
    ("comment", &Text),
    ("created", &Time),
    ("container", &Text),
    ("container_config", &CONTAINER),
    ("docker_version", &Text),
    ("author", &Text),
    ("config", &CONTAINER),
    ("architecture", &Text),
    ("variant", &Text),
    ("os", &Text),
    ("os.version", &Text),
    ("os.features", &TEXTS),
    ("Size", &Integer),
    ("rootfs", &Struct(&[("type", &Text), ("diff_ids", &TEXTS)])),
    ("history", &List(&HISTORY)),
]);

/// `manifest.json` of `docker save`.
pub const MANIFEST_JSON: Schema = List(&Struct(&[
    ("Config", &Text),
    ("RepoTags", &TEXTS),
    ("Layers", &TEXTS),
    ("Parent", &Text),
    ("LayerSources", &Map(&DESCRIPTOR)),
]));

/// The file `oci-layout`.
pub const LAYOUT: Schema = Struct(&[("imageLayoutVersion", &Text)]);

/// Whether text is a time by RFC 3339. Go also accepts some that are not, such as hours of one digit.
pub(super) fn is_time(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let within =
        |range, least: u32, most: u32| number(range).is_some_and(|found| (least..=most).contains(&found));
    let is_at = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    let year = number(0..4).unwrap_or_default();
    let days = match number(5..7) {
        Some(4 | 6 | 9 | 11) => 30,
        Some(2) if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        Some(2) => 28,
        _ => 31,
    };
    let begins = number(0..4).is_some()
        && within(5..7, 1, 12)
        && within(8..10, 1, days)
        && within(11..13, 0, 23)
        && within(14..16, 0, 59)
        && within(17..19, 0, 59)
        && is_at(4, b'-')
        && is_at(7, b'-')
        && is_at(10, b'T')
        && is_at(13, b':')
        && is_at(16, b':');
    let Some(rest) = text.get(19..).filter(|_| begins) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
    };
    let start = text.len() - zone.len();
    zone == "Z"
        || zone.len() == 6
            && matches!(zone.as_bytes().first(), Some(b'+' | b'-'))
            && within(start + 1..start + 3, 0, 23)
            && is_at(start + 3, b':')
            && within(start + 4..start + 6, 0, 59)
}

#[cfg(test)]
mod tests {
    use super::is_time;

    #[test]
    fn times_are_those_of_rfc_3339() {
        for text in [
            "2023-11-14T22:13:20Z",
            "0001-01-01T00:00:00Z",
            "2024-02-29T23:59:59.999999999Z",
            "1970-01-01T00:00:00+00:00",
            "2023-11-14T22:13:20.5-07:30",
        ] {
            assert!(is_time(text), "{text}");
        }
        for text in [
            "",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20z",
            "2023-11-14t22:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-02-29T22:13:20Z",
            "2023-04-31T22:13:20Z",
            "2023-13-14T22:13:20Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+24:00",
            "+023-11-14T22:13:20Z",
            "2023-11-14T22:13:20Zé",
            "2023-11-1éT22:13:20Z",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }
}
