//! Strict JSON. `serde_json` lets the last of two equal keys win, also silently in fields it skips;
//! readers then disagree about what a document says. Here such a document is refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects; real manifests need six.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not a document that is read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Parses `bytes` as `T`, refusing equal keys in one object, nesting beyond [`MAX_DEPTH`]
/// and anything behind the value.
///
/// # Errors
///
/// Says what is wrong, with line and column.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    check(bytes)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Checks `bytes` without keeping anything.
///
/// # Errors
///
/// As [`from_slice`].
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0 }.deserialize(&mut deserializer)?;
    Ok(deserializer.end()?)
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Strict, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Strict {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.deeper()?)?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!(
                    "the key {twice:?} stands twice in one object"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn refuses_what_readers_disagree_on() {
        for (text, says) in [
            (r#"{"a":1,"a":1}"#, "\"a\" stands twice"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" stands twice"),
            (r#"[{"x":{"b":1,"b":2}}]"#, "\"b\" stands twice"),
            (r#"{} {}"#, "trailing characters"),
            (r#"{"a":}"#, "expected value"),
        ] {
            let error = check(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert!(
            check(deep.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("nested deeper")
        );
        let fits = "[".repeat(64) + &"]".repeat(64);
        assert!(check(fits.as_bytes()).is_ok());
        assert!(check(br#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#).is_ok());
    }
}
