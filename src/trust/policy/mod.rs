//! What an operator demands of images, by their names: whose signatures, of the index or of each platform.
//!
//! A policy is a file on the side that checks. It never comes out of an archive.
//!
//! - `document`: sealift's own format; `pattern`: the names in it
//! - `containers`: containers' policy.json, as podman and skopeo have it
//! - `files`: how a policy and the files that it names are read
//! - `verdict`: what a check of an image found

mod containers;
mod document;
mod files;
mod pattern;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use self::pattern::Pattern;
use super::check::{Check, ManifestVerdict, Role, Signers, Subject};
use super::{ArtifactKind, Fetch};
use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::yaml::{Position, Tree};

pub(crate) use containers::scopes;
pub use verdict::{Unmet, UnmetReason, Verdict};

/// Largest policy, or file that a policy names, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// What a rule does with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// It accepts the image without a signature.
    Accept,
    /// It rejects the image.
    Reject,
    /// It demands signatures.
    Verify,
}

/// Which manifests of an image have to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Require {
    /// The manifest or index that the name stands for.
    Index,
    /// Each manifest of a platform that is there.
    Platform,
    Both,
}

/// What a rule demands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Accept,
    Reject,
    /// All of these.
    Verify(Vec<Demand>),
}

/// Signatures that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Demand {
    require: Require,
    /// One of them must have signed.
    signers: Signers,
    /// Why nothing meets the demand, if this build cannot check it.
    unsupported: Option<String>,
}

/// The rules of a policy.
#[derive(Debug, Clone)]
enum Rules {
    /// Of sealift's own format: actions by their number.
    Patterns {
        patterns: Vec<(Pattern, usize)>,
        actions: Vec<Action>,
    },
    /// Of policy.json.
    Scopes(BTreeMap<String, Action>),
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    path: PathBuf,
    default: Action,
    rules: Rules,
}

/// The rule of a policy for one image.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'p> {
    /// The pattern or scope that the image's name is in; `None` for the default.
    scope: Option<&'p str>,
    action: &'p Action,
}

/// An image, its manifests, and what refers to each.
#[derive(Debug, Clone)]
pub struct Subjects {
    /// The name that the image has where it comes from, which rules are for.
    pub name: Reference,
    /// The manifest or index that the name stands for.
    pub root: Digest,
    /// That one, and every manifest below it that is there.
    pub manifests: Vec<Subject>,
}

impl Policy {
    /// Reads a policy, and the files of keys and certificates that it names. Both formats are told apart by their content.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read; for root also if another user could have changed it. [`Error::Usage`] if
    /// it is not a policy, has a field that is not known, or names something that is not supported.
    pub fn read(path: &Path) -> Result<Policy> {
        let bytes = files::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Policy::parse(path, &bytes, &mut |named| files::read(&folder.join(named)))
    }

    /// Parses a policy. `read` reads the files that it names.
    ///
    /// # Errors
    ///
    /// As [`Policy::read`].
    pub fn parse(
        path: &Path,
        bytes: &[u8],
        read: &mut dyn FnMut(&Path) -> Result<Vec<u8>>,
    ) -> Result<Policy> {
        let text = std::str::from_utf8(bytes).map_err(|_| unusable(path, None, "not UTF-8"))?;
        let tree = Tree::parse(text).map_err(|error| unusable(path, Some(error.position), &error.reason))?;
        if let Some((_, duplicate)) = tree.duplicates().next() {
            return Err(unusable(path, Some(duplicate.position), &duplicate.to_string()));
        }
        let mut documents = tree.documents();
        let root = documents.next();
        if documents.next().is_some() {
            return Err(unusable(path, None, "several YAML documents, expected one"));
        }
        let (default, rules) = match root {
            Some(root) if root.get("kind").is_some() => {
                document::parse(root, read).map_err(|refusal| refusal.of(path))?
            }
            Some(root) if root.get("default").is_some_and(|default| default.is_sequence()) => {
                containers::parse(bytes, read).map_err(|refusal| refusal.of(path))?
            }
            _ => {
                let reason = "neither a policy of sealift, which begins with \"kind: SealiftPolicy\", nor a policy.json of \
                              podman and skopeo";
                return Err(unusable(path, None, reason));
            }
        };
        if tree.is_exhausted() {
            return Err(unusable(path, None, "too many values"));
        }
        Ok(Policy {
            path: path.into(),
            default,
            rules,
        })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rule for an image of this name: that of the most specific pattern or scope, else the default.
    pub fn rule(&self, name: &Reference) -> Rule<'_> {
        let found = match &self.rules {
            Rules::Patterns { patterns, actions } => {
                let fitting = patterns.iter().filter(|(pattern, _)| pattern.is(name));
                let best = fitting.max_by_key(|(pattern, _)| pattern.specificity());
                best.and_then(|(pattern, action)| Some((pattern.text(), actions.get(*action)?)))
            }
            Rules::Scopes(all) => scopes(name)
                .into_iter()
                .find_map(|scope| all.get_key_value(&scope))
                .map(|(scope, action)| (scope.as_str(), action)),
        };
        match found {
            Some((scope, action)) => Rule {
                scope: Some(scope),
                action,
            },
            None => Rule {
                scope: None,
                action: &self.default,
            },
        }
    }

    /// Checks an image. The verdict is complete: it has every signature that was found, good or bad.
    ///
    /// # Errors
    ///
    /// If blobs cannot be fetched at the moment. A blob that is missing or bad is a flaw of its signature.
    pub fn check(&self, subjects: &Subjects, now: SystemTime, fetch: &mut dyn Fetch) -> Result<Verdict> {
        let rule = self.rule(&subjects.name);
        let mut verdict = Verdict {
            name: subjects.name.clone(),
            digest: subjects.root,
            scope: rule.scope.map(Into::into),
            rule: rule.kind(),
            manifests: Vec::new(),
            unmet: Vec::new(),
        };
        let demands = match rule.action {
            Action::Accept => return Ok(verdict),
            Action::Reject => {
                verdict.unmet.push(Unmet::of_image(UnmetReason::Rejected));
                return Ok(verdict);
            }
            Action::Verify(demands) => demands,
        };
        for demand in demands {
            let check = Check {
                image: &subjects.name,
                signers: &demand.signers,
                now,
            };
            let checked = subjects
                .manifests
                .iter()
                .map(|subject| check.manifest(subject, fetch));
            let checked: Vec<ManifestVerdict> = checked.collect::<Result<_>>()?;
            match &demand.unsupported {
                Some(what) => {
                    let reason = UnmetReason::NotSupported { what: what.clone() };
                    verdict.unmet.push(Unmet::of_image(reason));
                }
                None => verdict.unmet.extend(demand.unmet(subjects, &checked)),
            }
            verdict.merge(checked);
        }
        Ok(verdict)
    }
}

impl Rule<'_> {
    /// What it does with an image.
    pub fn kind(&self) -> RuleKind {
        match self.action {
            Action::Accept => RuleKind::Accept,
            Action::Reject => RuleKind::Reject,
            Action::Verify(_) => RuleKind::Verify,
        }
    }

    /// The pattern or scope of the policy that the image's name is in; `None` if the default counts.
    pub fn scope(&self) -> Option<&str> {
        self.scope
    }
}

impl Demand {
    /// The manifests that have to be signed and are not. Without a platform the root has to be, so that there is always
    /// something that has to be signed.
    fn unmet(&self, subjects: &Subjects, checked: &[ManifestVerdict]) -> Vec<Unmet> {
        let platforms = checked.iter().filter(|one| one.role == Role::Platform);
        let platforms: Vec<Digest> = platforms.map(|one| one.digest).collect();
        let needs_root = self.require != Require::Platform || platforms.is_empty();
        let mut needed: Vec<Digest> = needs_root.then_some(subjects.root).into_iter().collect();
        if self.require != Require::Index {
            needed.extend(
                platforms
                    .into_iter()
                    .filter(|digest| !needs_root || *digest != subjects.root),
            );
        }
        let mut unmet = Vec::new();
        for digest in needed {
            let of_this = checked.iter().filter(|one| one.digest == digest);
            let of_this: Vec<&ManifestVerdict> = of_this.collect();
            if of_this.iter().any(|one| one.good().next().is_some()) {
                continue;
            }
            let signatures = of_this.iter().flat_map(|one| &one.signatures);
            let bad = signatures
                .filter(|one| one.kind != ArtifactKind::Attestation)
                .count();
            unmet.push(Unmet {
                manifest: Some(digest),
                platform: of_this.first().and_then(|one| one.platform.clone()),
                reason: match bad {
                    0 => UnmetReason::NotSigned,
                    bad => UnmetReason::NoGoodSignature { bad },
                },
            });
        }
        unmet
    }
}

/// Why a policy cannot be used, and where.
struct Refusal {
    position: Option<Position>,
    reason: String,
    /// An error of a file that the policy names.
    error: Option<Error>,
}

impl Refusal {
    fn at(position: Position, reason: impl Into<String>) -> Refusal {
        Refusal {
            position: Some(position),
            reason: reason.into(),
            error: None,
        }
    }

    fn of(self, path: &Path) -> Error {
        self.error
            .unwrap_or_else(|| unusable(path, self.position, &self.reason))
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal {
            position: None,
            reason,
            error: None,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal {
            position: None,
            reason: String::new(),
            error: Some(error),
        }
    }
}

fn unusable(path: &Path, position: Option<Position>, reason: &str) -> Error {
    use crate::escape::Escaped;
    let line = position.map_or(String::new(), |position| format!(", line {}", position.line));
    Error::Usage {
        message: format!("{}{line}: {}", path.display(), Escaped(reason)),
        hint: None,
    }
}

#[cfg(test)]
mod tests;
