//! What keeps a registry from writing to its own storage, as distribution reports it with status 500.

use serde_json::Value;

/// Deepest nesting of errors that is followed.
const MAX_DEPTH: usize = 4;

/// Why a registry cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageFault {
    Full,
    Quota,
    ReadOnly,
    NoPermission,
}

impl StorageFault {
    /// Reads the `detail` of an error. It is the text of an error of Go, or an error of distribution's storage driver: an
    /// object with the system's error number, such as
    /// `{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/...","Err":28}}`.
    pub(super) fn of_detail(detail: &Value) -> Option<StorageFault> {
        StorageFault::within(detail, MAX_DEPTH)
    }

    fn within(detail: &Value, depth: usize) -> Option<StorageFault> {
        match detail {
            Value::String(text) => StorageFault::of_text(text),
            Value::Object(fields) => match fields.get("Err").and_then(Value::as_u64) {
                Some(number) => StorageFault::of_number(number),
                None => {
                    let mut inner = fields.values();
                    let depth = depth.checked_sub(1)?;
                    inner.find_map(|inner| StorageFault::within(inner, depth))
                }
            },
            _ => None,
        }
    }

    /// Of an error number of Linux, which most architectures share.
    fn of_number(number: u64) -> Option<StorageFault> {
        Some(match number {
            28 => StorageFault::Full,
            122 => StorageFault::Quota,
            30 => StorageFault::ReadOnly,
            1 | 13 => StorageFault::NoPermission,
            _ => return None,
        })
    }

    fn of_text(text: &str) -> Option<StorageFault> {
        let texts = [
            ("no space left on device", StorageFault::Full),
            ("disk quota exceeded", StorageFault::Quota),
            ("read-only file system", StorageFault::ReadOnly),
            ("permission denied", StorageFault::NoPermission),
        ];
        let found = texts.into_iter().find(|(known, _)| text.contains(known));
        found.map(|(_, fault)| fault)
    }

    /// The problem for people. By its text `error::tells_of_full_disk` recognizes a full disk or quota.
    pub(super) fn problem(self) -> &'static str {
        match self {
            StorageFault::Full => "the registry's disk is full (no space left on device)",
            StorageFault::Quota => "the registry's disk quota is used up (disk quota exceeded)",
            StorageFault::ReadOnly => "the registry cannot write: its file system is read-only",
            StorageFault::NoPermission => "the registry may not write to its storage (permission denied)",
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            StorageFault::Full | StorageFault::Quota => {
                "free some space there, and run the same command again"
            }
            StorageFault::ReadOnly | StorageFault::NoPermission => "the registry's log names the file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_of_an_error_tells_why_a_registry_cannot_write() {
        for (detail, expected) in [
            // distribution 2.8 to POST, to PATCH; distribution 3.
            (
                r#"{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}"#,
                Some(StorageFault::Full),
            ),
            (
                r#""write /x/data: no space left on device""#,
                Some(StorageFault::Full),
            ),
            (
                r#"{"DriverName":"filesystem","Detail":{"Op":"write","Path":"/x","Err":122}}"#,
                Some(StorageFault::Quota),
            ),
            (
                r#"{"Op":"mkdir","Path":"/x","Err":13}"#,
                Some(StorageFault::NoPermission),
            ),
            (
                r#"{"Enclosed":{"Op":"mkdir","Path":"/x","Err":30}}"#,
                Some(StorageFault::ReadOnly),
            ),
            (r#"{"Enclosed":{"Op":"read","Path":"/x","Err":5}}"#, None),
            (r#"{"Enclosed":{"Op":"open","Path":"/x","Err":{}}}"#, None),
            (r#"{"a":{"b":{"c":{"d":{"e":{"Err":28}}}}}}"#, None),
            (r#""unexpected EOF""#, None),
            ("null", None),
        ] {
            let detail = serde_json::from_str(detail).unwrap();
            assert_eq!(StorageFault::of_detail(&detail), expected, "{detail}");
        }
    }
}
