//! Hints: what to do about an error.

use std::borrow::Cow;
use std::fmt;

use super::Remedy;

/// What to do about an error: one or more pieces of advice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint(Vec<Advice>);

/// One piece of advice in a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// A text that is the same in every program.
    Text(Cow<'static, str>),
    /// What a program words by its own options.
    Remedy(Remedy),
}

impl Hint {
    /// The pieces of advice, in order.
    pub fn advice(&self) -> &[Advice] {
        &self.0
    }

    /// Whether there is no advice in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same hint followed by another one. Advice that it has already is not repeated.
    #[must_use]
    pub fn and(mut self, next: impl Into<Hint>) -> Hint {
        for advice in next.into().0 {
            if !self.0.contains(&advice) {
                self.0.push(advice);
            }
        }
        self
    }

    /// The hint as text, with the remedies worded by a program.
    pub fn worded(&self, word: impl Fn(&Remedy) -> String) -> String {
        let texts: Vec<Cow<'_, str>> = self
            .0
            .iter()
            .map(|advice| match advice {
                Advice::Text(text) => Cow::Borrowed(text.as_ref()),
                Advice::Remedy(remedy) => Cow::Owned(word(remedy)),
            })
            .collect();
        texts.join("; ")
    }
}

/// In the words of the library, which has no options on a command line.
impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worded(Remedy::to_string))
    }
}

impl serde::Serialize for Hint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As text: remedies are not read back as remedies.
impl<'de> serde::Deserialize<'de> for Hint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hint, D::Error> {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        Ok(Hint::from(text))
    }
}

impl FromIterator<Hint> for Hint {
    fn from_iter<I: IntoIterator<Item = Hint>>(hints: I) -> Hint {
        hints.into_iter().fold(Hint::default(), Hint::and)
    }
}

impl From<Cow<'static, str>> for Hint {
    fn from(text: Cow<'static, str>) -> Hint {
        Hint(match text.is_empty() {
            true => Vec::new(),
            false => vec![Advice::Text(text)],
        })
    }
}

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Hint {
        Cow::Borrowed(text).into()
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Hint {
        Cow::<str>::Owned(text).into()
    }
}

impl From<Remedy> for Hint {
    fn from(remedy: Remedy) -> Hint {
        Hint(vec![Advice::Remedy(remedy)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_joined_and_not_repeated() {
        let hint = Hint::from("").and("free some space").and(Remedy::KeepGoing);
        let hint = hint.clone().and(hint);
        assert_eq!(hint.advice().len(), 2);
        assert_eq!(
            hint.to_string(),
            "free some space; skip the images that cannot be loaded"
        );
        assert_eq!(
            hint.worded(|_| "--keep-going".into()),
            "free some space; --keep-going"
        );
        assert!(Hint::from("").is_empty());
    }
}
