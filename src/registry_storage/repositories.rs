//! Finds the repositories: folders with `_manifests`, `_layers` or `_uploads`, at any depth.

use std::io;
use std::path::Path;

use super::layout::{Storage, cannot};
use super::report::StorageFinding;
use crate::dir::{self, Dir};
use crate::error::{Error, Finding, Problem};

/// The folders of a repository.
const PARTS: [&str; 3] = ["_manifests", "_layers", "_uploads"];
/// Longest name of a repository, in bytes, as registries limit it.
const MAX_NAME: usize = 255;

/// Returns one repository after the other, depth first. Only the names beside its path are in memory.
pub(super) struct Repositories<'a> {
    storage: &'a Storage,
    /// The folders on the way: each with its name and those in it that are left.
    stack: Vec<(String, Dir, std::vec::IntoIter<String>)>,
    pub findings: Vec<StorageFinding>,
    pub unread: Vec<Error>,
}

impl<'a> Repositories<'a> {
    pub fn new(storage: &'a Storage) -> Repositories<'a> {
        let mut walk = Repositories {
            storage,
            stack: Vec::new(),
            findings: Vec::new(),
            unread: Vec::new(),
        };
        if let Some(all) = storage.repositories() {
            match all.below(Path::new("")) {
                Ok(dir) => drop(walk.enter(String::new(), dir)),
                Err(error) => walk.unread.push(Error::io("read", all.path())(error)),
            }
        }
        walk
    }

    /// Enters a folder; true if it is a repository.
    fn enter(&mut self, name: String, dir: Dir) -> bool {
        let names = match dir.names() {
            Ok(names) => names,
            Err(error) => {
                self.unread.push(Error::io("read", dir.path())(error));
                return false;
            }
        };
        let mut names: Vec<String> = names
            .into_iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        let is_repository = names.iter().any(|name| PARTS.contains(&name.as_str()));
        names.retain(|below| !(is_repository && PARTS.contains(&below.as_str())));
        self.stack.push((name, dir, names.into_iter()));
        is_repository
    }

    fn find(&mut self, name: &str, problem: Problem) {
        let place = self.storage.place(format!("repositories/{name}"));
        self.findings
            .push(StorageFinding::new(Finding { place, problem }));
    }
}

impl Iterator for Repositories<'_> {
    type Item = (String, Dir);

    fn next(&mut self) -> Option<(String, Dir)> {
        loop {
            let (parent, dir, names) = self.stack.last_mut()?;
            let Some(below) = names.next() else {
                self.stack.pop();
                continue;
            };
            let name = match parent.is_empty() {
                true => below.clone(),
                false => format!("{parent}/{below}"),
            };
            let (opened, kind) = (dir.dir(&below), dir.kind(&below));
            let path = dir.join(&below);
            match (opened, kind) {
                (Ok(_), _) if below.starts_with('_') || name.len() > MAX_NAME => {
                    self.find(&name, Problem::UnknownFile);
                }
                (Ok(dir), _) => match dir.below(Path::new("")) {
                    Ok(again) => {
                        if self.enter(name.clone(), dir) {
                            return Some((name, again));
                        }
                    }
                    Err(error) => self.unread.push(cannot("open", &path, error)),
                },
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
                (Err(_), Ok(Some(rustix::fs::FileType::RegularFile))) => {
                    self.find(&name, Problem::UnknownFile)
                }
                (Err(error), Ok(Some(kind))) if error.kind() == io::ErrorKind::Other => {
                    let kind = dir::kind_name(kind);
                    self.find(&name, Problem::NotAFolder { kind });
                }
                (Err(error), _) => self.unread.push(cannot("open", &path, error)),
            }
        }
    }
}
