//! `repositories.json`: names and their images.
//!
//! Source: moby, `reference/store.go`. Names are the familiar ones (`httpd`, `quay.io/foo/bar`). A full name on
//! docker.io would be listed and never found.

use serde_json::{Map, Value};

use crate::oci::{Digest, Reference, json};

const KEY: &str = "Repositories";

/// The content of a `repositories.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Repositories(Map<String, Value>);

impl Repositories {
    /// That of a daemon without any image.
    pub fn empty() -> Repositories {
        let mut map = Map::new();
        map.insert(KEY.into(), Value::Object(Map::new()));
        Repositories(map)
    }

    /// Parses strictly: refuses what dockerd would fail at, or might read differently. Unknown keys are kept.
    ///
    /// # Errors
    ///
    /// The error says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Repositories, String> {
        let map: Map<String, Value> = json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Some(Value::Object(repositories)) = map.get(KEY) else {
            return Err(format!("there is no object {KEY} in it"));
        };
        for (name, entries) in repositories {
            let Value::Object(entries) = entries else {
                return Err(format!("{name:?} is not an object"));
            };
            for (reference, id) in entries {
                let is_digest = id.as_str().is_some_and(|id| id.parse::<Digest>().is_ok());
                if !is_digest {
                    return Err(format!("{reference:?} stands for {id}, which is not an image id"));
                }
            }
        }
        Ok(Repositories(map))
    }

    /// The image of a name, with a tag or a digest.
    pub fn get(&self, name: &Reference) -> Option<Digest> {
        let entries = self.0.get(KEY)?.get(name.repository().familiar())?;
        entries.get(name.familiar())?.as_str()?.parse().ok()
    }

    /// Every name with its image, as dockerd writes them.
    pub fn names(&self) -> impl Iterator<Item = (&str, Digest)> {
        let repositories = self.0.get(KEY).and_then(Value::as_object);
        repositories
            .into_iter()
            .flat_map(Map::values)
            .filter_map(Value::as_object)
            .flatten()
            .filter_map(|(name, id)| Some((name.as_str(), id.as_str()?.parse().ok()?)))
    }

    /// Sets the image of a name. Returns whether that changes anything.
    pub fn set(&mut self, name: &Reference, image_id: &Digest) -> bool {
        if self.get(name) == Some(*image_id) {
            return false;
        }
        let Some(Value::Object(repositories)) = self.0.get_mut(KEY) else {
            return false;
        };
        let entries = repositories
            .entry(name.repository().familiar())
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(entries) = entries {
            entries.insert(name.familiar(), Value::String(image_id.to_string()));
        }
        true
    }

    /// The bytes as dockerd writes them: without spaces, keys in order, no newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Digest {
        Digest::sha256(&[n])
    }

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_familiar_and_all_else_is_kept() {
        let text = format!(
            r#"{{"Future":{{"x":[1,2]}},"Repositories":{{"httpd":{{"httpd:2.4":"{}"}}}}}}"#,
            id(1)
        );
        let mut repositories = Repositories::parse(text.as_bytes()).unwrap();
        assert_eq!(repositories.to_bytes(), text.as_bytes());
        let (one, two) = (id(10), id(11));
        for (reference, image) in [
            (format!("docker.io/library/httpd@{one}"), 1),
            (format!("httpd@{two}"), 2),
            (format!("docker.io/user/app@{one}"), 3),
            (format!("quay.io/a/b@{one}"), 3),
            (format!("registry.example.com:5000/a/b/c@{one}"), 3),
            (format!("127.0.0.1:5000/x@{one}"), 3),
            (format!("localhost/x@{one}"), 3),
            ("httpd:latest".to_string(), 1),
        ] {
            assert!(repositories.set(&name(&reference), &id(image)), "{reference}");
            assert!(!repositories.set(&name(&reference), &id(image)), "{reference}");
            assert_eq!(
                repositories.get(&name(&reference)),
                Some(id(image)),
                "{reference}"
            );
        }
        let written = String::from_utf8(repositories.to_bytes()).unwrap();
        let (i1, i2, i3) = (id(1), id(2), id(3));
        let mut digests = [
            format!(r#""httpd@{one}":"{i1}""#),
            format!(r#""httpd@{two}":"{i2}""#),
        ];
        digests.sort();
        let digests = digests.join(",");
        let expected = format!(
            r#"{{"Future":{{"x":[1,2]}},"Repositories":{{"127.0.0.1:5000/x":{{"127.0.0.1:5000/x@{one}":"{i3}"}},"httpd":{{"httpd:2.4":"{i1}","httpd:latest":"{i1}",{digests}}},"localhost/x":{{"localhost/x@{one}":"{i3}"}},"quay.io/a/b":{{"quay.io/a/b@{one}":"{i3}"}},"registry.example.com:5000/a/b/c":{{"registry.example.com:5000/a/b/c@{one}":"{i3}"}},"user/app":{{"user/app@{one}":"{i3}"}}}}}}"#
        );
        assert_eq!(written, expected);
        assert_eq!(Repositories::parse(written.as_bytes()).unwrap(), repositories);
        assert_eq!(repositories.names().count(), 9);
    }

    #[test]
    fn what_dockerd_does_not_write_is_refused() {
        let id = id(1);
        for (text, says) in [
            (String::new(), "EOF"),
            ("{}".into(), "no object Repositories"),
            ("[]".into(), "map"),
            (r#"{"Repositories":[]}"#.into(), "no object"),
            (r#"{"Repositories":{"a":[]}}"#.into(), "\"a\" is not an object"),
            (r#"{"Repositories":{"a":{"a:1":7}}}"#.into(), "not an image id"),
            (
                r#"{"Repositories":{"a":{"a:1":"sha256:12"}}}"#.into(),
                "not an image id",
            ),
            (
                format!(r#"{{"Repositories":{{"a":{{"a:1":"{id}","a:1":"{id}"}}}}}}"#),
                "occurs twice",
            ),
            (r#"{"Repositories":{}}x"#.into(), "trailing"),
        ] {
            let problem = Repositories::parse(text.as_bytes()).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
        assert_eq!(
            Repositories::parse(br#"{"Repositories":{}}"#).unwrap(),
            Repositories::empty()
        );
    }
}
