//! The subjects of certificates that a policy names: Notary Project, `specs/trust-store-trust-policy.md`, "Trusted
//! Identities". The attributes that a policy names must be in the subject; it may have more.

/// How notation's trust policies begin a subject.
const PREFIX: &str = "x509.subject:";

/// Whose certificates count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrustedIdentity {
    /// Everyone's whom a certificate of the policy vouches for.
    Any,
    /// Those with these attributes in their subject.
    Subject(Vec<(String, String)>),
}

impl TrustedIdentity {
    /// Parses `*`, or a subject such as `C=XX, ST=Test, O=Acme, CN=Release`, with or without `x509.subject:` before it.
    /// A backslash makes a comma or an equals sign part of a value.
    ///
    /// # Errors
    ///
    /// If it is neither, or has an attribute twice.
    pub(crate) fn parse(text: &str) -> Result<TrustedIdentity, String> {
        if text.trim() == "*" {
            return Ok(TrustedIdentity::Any);
        }
        let subject = text.trim().strip_prefix(PREFIX).unwrap_or(text);
        let mut attributes: Vec<(String, String)> = Vec::new();
        for part in split(subject) {
            let (name, value) = part.split_once('=').unwrap_or_default();
            let (mut name, value) = (name.trim().to_ascii_uppercase(), unescaped(value));
            if name == "S" {
                name = "ST".into();
            }
            if name.is_empty() || value.is_empty() {
                return Err(format!(
                    "{text:?} is not a subject such as \"C=XX, O=Acme, CN=Release\""
                ));
            }
            if attributes.iter().any(|(known, _)| *known == name) {
                return Err(format!("{text:?} has {name} twice"));
            }
            attributes.push((name, value));
        }
        Ok(TrustedIdentity::Subject(attributes))
    }

    /// Whether a subject with these attributes is meant. One that has an attribute several times never is by that one:
    /// which of them counts is not clear.
    pub(super) fn is(&self, subject: &[(String, String)]) -> bool {
        let TrustedIdentity::Subject(attributes) = self else {
            return true;
        };
        attributes.iter().all(|(name, value)| {
            let mut same = subject.iter().filter(|(found, _)| found == name);
            same.next().is_some_and(|(_, found)| found == value) && same.next().is_none()
        })
    }
}

/// The parts between commas that no backslash is before.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, char) in text.char_indices() {
        match char {
            ',' | '+' if !is_escaped => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
        is_escaped = char == '\\' && !is_escaped;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// A value without its backslashes, and without the spaces around it.
fn unescaped(text: &str) -> String {
    let (mut value, mut is_escaped) = (String::new(), false);
    for char in text.trim().chars() {
        is_escaped = char == '\\' && !is_escaped;
        if !is_escaped {
            value.push(char);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_all_attributes_that_are_asked_for() {
        let subject = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_string(), (*value).to_string()));
            pairs.collect::<Vec<_>>()
        };
        let acme = subject(&[
            ("C", "XX"),
            ("ST", "Test"),
            ("O", "Acme, Inc."),
            ("CN", "Release"),
        ]);
        let two = subject(&[("O", "Acme"), ("OU", "a"), ("OU", "b")]);
        for (text, subject, expected) in [
            ("*", &acme, true),
            ("CN=Release", &acme, true),
            (
                r"x509.subject: C=XX, ST=Test, O=Acme\, Inc., CN=Release",
                &acme,
                true,
            ),
            (r"c=XX,S=Test,o=Acme\, Inc.", &acme, true),
            ("CN=Intern", &acme, false),
            ("CN=Release, L=Here", &acme, false),
            ("CN=release", &acme, false),
            ("O=Acme", &two, true),
            ("OU=a", &two, false),
            ("OU=b", &two, false),
        ] {
            assert_eq!(
                TrustedIdentity::parse(text).unwrap().is(subject),
                expected,
                "{text}"
            );
        }
        for text in [
            "",
            "Release",
            "CN=",
            "=x",
            "CN=a,,O=b",
            "CN=a, CN=b",
            "CN=a, cn=a",
        ] {
            assert!(TrustedIdentity::parse(text).is_err(), "{text}");
        }
    }
}
