//! Strict JSON: refuses a document that two readers could understand differently.
//!
//! `serde_json` lets the last of two equal keys win, silently even in fields that it skips. Go's
//! `encoding/json`, which every engine uses, goes further: it accepts a key that matches a struct's field only
//! after case folding, such as `Layers` for `layers`, and the last of both wins. A document that Go decodes
//! into a struct is therefore checked against the fields of that struct, a [`Schema`].

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::schema::{Schema, is_time};

/// Deepest nesting of arrays and objects; real manifests need six.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are refused as a document.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Parses `bytes` as `T`. Refuses equal keys in one object, nesting beyond [`MAX_DEPTH`] and anything after the
/// value.
///
/// # Errors
///
/// The error says what is wrong, with line and column.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    decode(bytes, &Schema::Any)
}

/// Parses `bytes` as `T`. Also refuses what Go would decode into `schema` differently, or not at all.
///
/// # Errors
///
/// As [`from_slice`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8], schema: &Schema) -> Result<T, JsonError> {
    check(bytes, schema)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Checks `bytes` without keeping the value.
///
/// # Errors
///
/// As [`decode`].
pub fn check(bytes: &[u8], schema: &Schema) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0, schema }.deserialize(&mut deserializer)?;
    Ok(deserializer.end()?)
}

struct Strict<'s> {
    depth: usize,
    schema: &'s Schema,
}

impl<'s> Strict<'s> {
    fn deeper<E: serde::de::Error>(&self, schema: &'s Schema) -> Result<Strict<'s>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Strict {
            depth: self.depth + 1,
            schema,
        })
    }

    /// What Go decodes the value of a key into.
    fn field<E: serde::de::Error>(&self, key: &str) -> Result<&'s Schema, E> {
        let fields = match self.schema {
            Schema::Map(value) => return Ok(value),
            Schema::Struct(fields) => fields,
            _ => return Ok(&Schema::Any),
        };
        match fields.iter().find(|(name, _)| folds(key, name)) {
            Some((name, _)) if *name != key => Err(E::custom(format_args!(
                "the key \"{}\" is not {name:?}, but Go programs such as Docker take it for that",
                key.escape_default()
            ))),
            Some((_, schema)) => Ok(schema),
            None => Ok(&Schema::Any),
        }
    }

    fn wrong<E: serde::de::Error>(&self, found: Unexpected<'_>) -> E {
        E::invalid_type(found, self)
    }
}

/// Whether Go treats two keys as equal, by Unicode's simple case folding. Names of fields are ASCII, and of all
/// other characters only `ſ` and the Kelvin sign fold to ASCII.
fn folds(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema.name())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.schema {
            Schema::Any | Schema::Boolean => Ok(()),
            _ => Err(self.wrong(Unexpected::Bool(value))),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.schema {
            Schema::Any | Schema::Integer => Ok(()),
            _ => Err(self.wrong(Unexpected::Signed(value))),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match self.schema {
            Schema::Any => Ok(()),
            Schema::Integer if i64::try_from(value).is_ok() => Ok(()),
            _ => Err(self.wrong(Unexpected::Unsigned(value))),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.schema {
            Schema::Any => Ok(()),
            _ => Err(self.wrong(Unexpected::Float(value))),
        }
    }

    /// A string without escapes.
    fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<(), E> {
        match self.schema {
            Schema::Time if is_time(value) => Ok(()),
            _ => self.visit_str(value),
        }
    }

    /// A string, possibly with escapes, which Go's `time.Time` does not read.
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        let is_good = match self.schema {
            Schema::Any | Schema::Text => true,
            Schema::Bytes => STANDARD.decode(value).is_ok(),
            _ => false,
        };
        match is_good {
            true => Ok(()),
            false => Err(self.wrong(Unexpected::Str(value))),
        }
    }

    /// Null leaves a Go variable of any type as it is.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let item = match self.schema {
            Schema::Any => &Schema::Any,
            Schema::List(item) => item,
            _ => return Err(self.wrong(Unexpected::Seq)),
        };
        while seq.next_element_seed(self.deeper(item)?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !matches!(self.schema, Schema::Any | Schema::Map(_) | Schema::Struct(_)) {
            return Err(self.wrong(Unexpected::Map));
        }
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.deeper(self.field(&key)?)?)?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!(
                    "the key {twice:?} occurs twice in one object"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: Schema = Schema::Struct(&[("skip", &Schema::Integer), ("at", &Schema::Time)]);
    const OUTER: Schema = Schema::Struct(&[
        ("names", &Schema::List(&Schema::Text)),
        ("inner", &INNER),
        ("free", &Schema::Map(&Schema::Text)),
        ("set", &Schema::Map(&Schema::Struct(&[]))),
        ("data", &Schema::Bytes),
        ("is", &Schema::Boolean),
    ]);

    fn fault(text: &str, schema: &Schema) -> String {
        match check(text.as_bytes(), schema) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn refuses_what_readers_disagree_on() {
        for (text, says) in [
            (r#"{"a":1,"a":1}"#, "\"a\" occurs twice"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" occurs twice"),
            (r#"[{"x":{"b":1,"b":2}}]"#, "\"b\" occurs twice"),
            (r#"{} {}"#, "trailing characters"),
            (r#"{"a":}"#, "expected value"),
            ("\u{feff}{}", "expected value"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
        ] {
            let said = fault(text, &Schema::Any);
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(check(b"{\"a\":\"\xff\"}", &Schema::Any).is_err(), "no UTF-8");
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert!(fault(&deep, &Schema::Any).contains("nested deeper"));
        let fits = "[".repeat(64) + &"]".repeat(64);
        assert_eq!(fault(&fits, &Schema::Any), "");
        assert_eq!(fault(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#, &Schema::Any), "");
    }

    #[test]
    fn refuses_keys_that_go_takes_for_others() {
        for text in [
            r#"{"Names":[]}"#,
            r#"{"NAMES":[]}"#,
            r#"{"\u006eameS":[]}"#,
            "{\"name\u{17f}\":[]}",
            r#"{"name\u017f":[]}"#,
            "{\"inner\":{\"s\u{212a}ip\":1}}",
            r#"{"inner":{"skip":1,"Skip":1}}"#,
            r#"{"i\u0053":true}"#,
        ] {
            let said = fault(text, &OUTER);
            assert!(
                said.contains("Go programs such as Docker take it for that"),
                "{text}: {said}"
            );
        }
        for text in [
            r#"{"Free ":1,"name":2,"İs":3,"namés":4,"skip":5}"#,
            r#"{"free":{"Names":"a","names":"b","NAMES":"c"}}"#,
            r#"{"unknown":{"Names":1,"names":2}}"#,
            r#"{"set":{"80/tcp":{"A":1,"a":2},"80/TCP":null}}"#,
        ] {
            assert_eq!(fault(text, &OUTER), "", "{text}");
        }
    }

    #[test]
    fn refuses_values_that_go_does_not_decode() {
        for (text, says) in [
            (r#"[]"#, "invalid type: sequence, expected an object"),
            (r#"{"names":"a"}"#, "expected an array"),
            (r#"{"names":[1]}"#, "integer `1`, expected a string"),
            (r#"{"inner":{"skip":"1"}}"#, "expected an integer"),
            (
                r#"{"inner":{"skip":1.0}}"#,
                "floating point `1.0`, expected an integer",
            ),
            (r#"{"inner":{"skip":1e3}}"#, "expected an integer"),
            (r#"{"inner":{"skip":9223372036854775808}}"#, "expected an integer"),
            (
                r#"{"inner":{"skip":true}}"#,
                "boolean `true`, expected an integer",
            ),
            (r#"{"inner":{"at":"yesterday"}}"#, "expected a time by RFC 3339"),
            (
                r#"{"inner":{"at":"2023-11-14\u005422:13:20Z"}}"#,
                "expected a time by RFC 3339",
            ),
            (r#"{"free":{"a":{}}}"#, "invalid type: map, expected a string"),
            (r#"{"set":{"a":""}}"#, "expected an object"),
            (r#"{"data":"a"}"#, "expected bytes in base64"),
            (r#"{"is":0}"#, "expected true or false"),
        ] {
            let said = fault(text, &OUTER);
            assert!(said.contains(says), "{text}: {said}");
        }
        for text in [
            "null",
            r#"{"names":null,"inner":null,"free":null,"data":null,"is":null}"#,
            r#"{"names":["a",null],"inner":{"skip":-9223372036854775808,"at":null}}"#,
            r#"{"names":[],"inner":{"skip":9223372036854775807,"at":"2023-11-14T22:13:20.5Z"},"data":"YQ==","is":false}"#,
        ] {
            assert_eq!(fault(text, &OUTER), "", "{text}");
        }
    }
}
