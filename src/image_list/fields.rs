//! Paths to images in custom resources: `Prometheus:spec.image`, `Rollout:spec.template.spec.containers[].image`.

use std::fmt;
use std::str::FromStr;

use super::collector::step;
use crate::yaml::Yaml;

/// Where a kind of resource names images: `KIND:PATH`. `[]` in the path is every item of a list, and `*` every key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    kind: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    EveryKey,
    EveryItem,
}

/// Why a text is not a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected KIND:PATH, such as Prometheus:spec.image or Rollout:spec.template.spec.containers[].image"
)]
pub struct FieldError(&'static str);

impl FromStr for FieldPath {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<FieldPath, FieldError> {
        let (kind, path) = text.split_once(':').ok_or(FieldError("it has no colon"))?;
        if kind.is_empty() || !kind.chars().all(|char| char.is_ascii_alphanumeric()) {
            return Err(FieldError("before the colon is not a kind of resource"));
        }
        let mut steps = Vec::new();
        for part in path.trim_start_matches('.').split('.') {
            let name = part.trim_end_matches("[]");
            match name {
                "" => return Err(FieldError("a part of its path is empty")),
                "*" => steps.push(Step::EveryKey),
                name if name.contains(['[', ']']) => {
                    return Err(FieldError("items of a list are written []"));
                }
                name => steps.push(Step::Key(name.into())),
            }
            let items = (part.len() - name.len()) / 2;
            steps.extend((0..items).map(|_| Step::EveryItem));
        }
        Ok(FieldPath {
            kind: kind.into(),
            steps,
        })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        for (step, at) in self.steps.iter().zip(0..) {
            let dot = if at == 0 { "" } else { "." };
            match step {
                Step::Key(name) => write!(f, "{dot}{name}")?,
                Step::EveryKey => write!(f, "{dot}*")?,
                Step::EveryItem => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

impl FieldPath {
    /// Whether it is about resources of a kind.
    pub(super) fn is_for(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// The values that it leads to, each with its path; `None` if they are more than `limit`.
    pub(super) fn values<'a>(&self, root: Yaml<'a>, limit: usize) -> Option<Vec<(Yaml<'a>, String)>> {
        let mut values = vec![(root, String::new())];
        for at in &self.steps {
            let mut next = Vec::new();
            for (value, path) in values {
                let below = |name: &str| match path.is_empty() {
                    true => name.to_owned(),
                    false => format!("{path}.{name}"),
                };
                match at {
                    Step::Key(name) => next.extend(value.get(name).map(|found| (found, below(name)))),
                    Step::EveryKey => next.extend(
                        value
                            .entries()
                            .into_iter()
                            .map(|(key, found)| (found, below(step(key.text().unwrap_or_default())))),
                    ),
                    Step::EveryItem => next.extend(
                        value
                            .items()
                            .take(limit.saturating_add(1))
                            .zip(0..)
                            .map(|(found, number)| (found, format!("{path}[{number}]"))),
                    ),
                }
                if next.len() > limit {
                    return None;
                }
            }
            values = next;
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed_and_printed() {
        for text in [
            "Prometheus:spec.image",
            "Rollout:spec.template.spec.containers[].image",
            "Tidy:images[][].name",
            "Any:spec.*.image",
        ] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        for (text, says) in [
            ("spec.image", "no colon"),
            (":spec.image", "not a kind"),
            ("Kind:", "is empty"),
            ("Kind:spec..image", "is empty"),
            ("Kind:spec.x[0].image", "written []"),
        ] {
            let error = text.parse::<FieldPath>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
