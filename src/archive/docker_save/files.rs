//! The files of an archive by name. Links are followed only to files inside the archive, and never by the file
//! system.

use std::collections::BTreeMap;

use crate::archive::tar_index::{Link, LinkKind, plain_name};
use crate::blob::Stored;
use crate::error::{Error, Place, Problem, Result};

/// Most links in a chain. Docker and skopeo write one.
const MAX_LINKS: usize = 8;

/// Longest target of a link in bytes, as in the kernel.
const MAX_TARGET: usize = 4096;

/// The entries of an archive, by name.
pub struct Files {
    label: String,
    files: BTreeMap<String, Stored>,
    links: BTreeMap<String, Link>,
}

impl Files {
    pub fn new(label: &str, files: BTreeMap<String, Stored>, links: Vec<Link>) -> Files {
        let links = links.into_iter().map(|link| (link.name.clone(), link));
        Files {
            label: label.into(),
            files,
            links: links.collect(),
        }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn into_label(self) -> String {
        self.label
    }

    /// An error about a name, at its place if it has an entry.
    pub fn refuse(&self, name: &str, problem: Problem) -> Error {
        let place = Place::default().within(&self.label).entry(name);
        let plain = plain_name(name, false).unwrap_or(name);
        let place = match self.files.get(plain) {
            Some(stored) => stored.locate(place),
            None => place,
        };
        Error::refused(place, problem)
    }

    /// Checks every link, also unused ones: a program that unpacks the archive follows them all.
    pub fn check_links(&self) -> Result<()> {
        for link in self.links.values() {
            let folder = format!("{}/", link.name);
            let below = self.files.range(folder.clone()..).next().map(|(name, _)| name);
            let also = self.links.range(folder.clone()..).next().map(|(name, _)| name);
            if let Some(name) = below
                .into_iter()
                .chain(also)
                .find(|name| name.starts_with(&folder))
            {
                let reason = format!("a link, and the folder of {name:?}, which is unpacked elsewhere");
                return Err(self.at_link(link, reason));
            }
            if self.follow(link)?.is_none() {
                let reason = format!("leads to {:?}, which is not a file of this archive", link.target);
                return Err(self.at_link(link, reason));
            }
        }
        Ok(())
    }

    /// The file at a path of `manifest.json`; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the path, or a link at it, leads out of the archive.
    pub fn find(&self, path: &str) -> Result<Option<&Stored>> {
        let name = plain_name(path, false).map_err(|problem| self.refuse(path, problem))?;
        match self.links.get(name) {
            Some(link) => self.follow(link),
            None => Ok(self.files.get(name)),
        }
    }

    /// The file at a path, which must exist.
    ///
    /// # Errors
    ///
    /// As [`Files::find`]; [`Error::Refused`] if it does not exist.
    pub fn require(&self, path: &str) -> Result<&Stored> {
        self.find(path)?
            .ok_or_else(|| self.refuse(path, Problem::Missing))
    }

    fn follow(&self, first: &Link) -> Result<Option<&Stored>> {
        let mut link = first;
        for _ in 0..MAX_LINKS {
            let target = target_of(link).map_err(|reason| self.at_link(link, reason))?;
            match self.links.get(&target) {
                Some(next) => link = next,
                None => return Ok(self.files.get(&target)),
            }
        }
        let reason = format!("leads through more than {MAX_LINKS} links, or in a circle");
        Err(self.at_link(first, reason))
    }

    fn at_link(&self, link: &Link, reason: String) -> Error {
        Error::refused(link.place(&self.label), Problem::Link { reason })
    }
}

/// The name in the archive that a link leads to.
fn target_of(link: &Link) -> Result<String, String> {
    let out = || format!("leads out of the archive, to {:?}", link.target);
    if link.target.is_empty() || link.target.starts_with('/') {
        return Err(out());
    }
    if link.target.len() > MAX_TARGET {
        return Err(format!("leads to a name of more than {MAX_TARGET} bytes"));
    }
    let mut parts: Vec<&str> = Vec::new();
    if link.kind == LinkKind::Symbolic {
        parts.extend(link.name.split('/'));
        parts.pop();
    }
    for part in link.target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(out)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
