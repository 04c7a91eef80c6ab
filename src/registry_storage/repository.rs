//! Examines one repository: its links, its manifests and what they refer to, its tags and uploads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::affected::Affected;
use super::hashing::{Bad, wrong_size};
use super::layout::{BlobFile, Link, Storage, cannot, read_link};
use super::marks::Marks;
use super::report::StorageFinding;
use crate::blob::BlobReader;
use crate::blob::OpenBlob;
use crate::dir::{self, Dir};
use crate::error::{Error, Finding, Place, Problem, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, Digest, Document, MAX_METADATA, MediaType};

/// Most blobs of a repository about which it is remembered what was found.
const REMEMBERED: usize = 20_000;

/// What was found in a repository.
#[derive(Default)]
pub(super) struct Examined {
    pub findings: Vec<StorageFinding>,
    pub unread: Vec<Error>,
    pub manifests: u64,
    pub tags: u64,
    pub has_unread_manifests: bool,
}

impl Examined {
    pub fn has_errors(&self) -> bool {
        !self.unread.is_empty() || self.findings.iter().any(|found| found.finding.is_error())
    }

    /// Whether there are errors besides those of bad blobs, which were looked at twice before.
    pub fn has_own_errors(&self, bad: &BTreeMap<Digest, Bad>) -> bool {
        let mut errors = self.findings.iter().filter(|found| found.finding.is_error());
        let is_known = |place: &Place| place.digest.is_some_and(|digest| bad.contains_key(&digest));
        !self.unread.is_empty() || errors.any(|found| !is_known(&found.finding.place))
    }

    /// Keeps only those errors that an earlier look also found.
    pub fn keep_errors_of(&mut self, before: &Examined) {
        let before: HashSet<(&Place, &str)> = before.findings.iter().map(what).collect();
        self.findings
            .retain(|now| !now.finding.is_error() || before.contains(&what(now)));
    }
}

/// What two looks have in common if they found the same. The words may differ.
fn what(found: &StorageFinding) -> (&Place, &'static str) {
    (&found.finding.place, found.finding.problem.code())
}

/// Examines repositories.
pub(super) struct Examiner<'a> {
    pub storage: &'a Storage,
    pub bad: &'a BTreeMap<Digest, Bad>,
    pub marks: &'a Marks,
    pub interrupt: &'a Interrupt,
}

impl Examiner<'_> {
    /// Examines a repository.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn examine(&self, name: &str, dir: &Dir) -> Result<Examined> {
        let mut look = Look {
            examiner: self,
            name,
            dir,
            affected: Affected::new(name),
            examined: Examined::default(),
            links: HashMap::new(),
            blobs: HashMap::new(),
        };
        look.manifests()?;
        look.affected.spread();
        look.tags()?;
        look.layers()?;
        look.uploads()?;
        let mut examined = look.examined;
        examined.findings = look.affected.into_findings();
        if self.storage.is_cache() {
            let is_absence = |problem: &Problem| {
                matches!(
                    problem,
                    Problem::Missing
                        | Problem::NoLink { .. }
                        | Problem::NoManifest
                        | Problem::DanglingLink { .. }
                )
            };
            examined
                .findings
                .retain(|found| !is_absence(&found.finding.problem));
        }
        Ok(examined)
    }
}

/// The examination of one repository.
struct Look<'a> {
    examiner: &'a Examiner<'a>,
    name: &'a str,
    dir: &'a Dir,
    affected: Affected,
    examined: Examined,
    /// Links to layers that were read.
    links: HashMap<Digest, Link>,
    /// Blobs that were looked at.
    blobs: HashMap<Digest, BlobFile>,
}

impl Look<'_> {
    fn place(&self, below: &str) -> Place {
        let entry = format!("repositories/{}/{below}", self.name);
        self.examiner.storage.place(entry)
    }

    fn unread(&mut self, action: &'static str, below: &str, error: io::Error) {
        let error = cannot(action, &self.dir.join(below), error);
        self.examined.unread.push(error);
    }

    /// The names in a folder of the repository; none if it does not exist.
    fn names(&mut self, below: &str) -> Vec<String> {
        let names = match self.dir.below(std::path::Path::new(below)) {
            Ok(dir) => dir.names(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error),
        };
        match names {
            Ok(names) => {
                let names = names.into_iter().map(|name| name.to_string_lossy().into_owned());
                let mut names: Vec<String> = names.collect();
                names.sort_unstable();
                names
            }
            // A link or a file in the place of a folder.
            Err(error) if error.kind() == io::ErrorKind::Other => {
                let place = self.place(below);
                let problem = Problem::Link {
                    reason: error.to_string(),
                };
                self.affected.add(Finding { place, problem }, None);
                Vec::new()
            }
            Err(error) => {
                self.unread("read", below, error);
                Vec::new()
            }
        }
    }

    /// The digests of which a folder has links: `ALGORITHM/HEX/link`.
    fn digests(&mut self, below: &str) -> Vec<Digest> {
        let mut digests = Vec::new();
        for algorithm in self.names(below) {
            for hex in self.names(&format!("{below}/{algorithm}")) {
                match format!("{algorithm}:{hex}").parse() {
                    Ok(digest) => digests.push(digest),
                    Err(_) => {
                        let place = self.place(&format!("{below}/{algorithm}/{hex}"));
                        let problem = Problem::UnknownFile;
                        self.affected.add(Finding { place, problem }, None);
                    }
                }
            }
        }
        digests
    }

    /// Reads the link to a digest. `None` if it cannot be read, which is noted.
    fn link(&mut self, below: &str) -> Option<Link> {
        match read_link(self.dir, below) {
            Ok(link) => Some(link),
            Err(error) if error.kind() == io::ErrorKind::Other => Some(Link::Wrong(error.to_string())),
            Err(error) => {
                self.unread("read", below, error);
                None
            }
        }
    }

    /// Checks that a link leads to the digest that it is for. Returns whether it does.
    fn check_link(&mut self, below: &str, digest: &Digest, manifest: Option<&Digest>) -> bool {
        let reason = match self.link(below) {
            Some(Link::To(found)) if found == *digest => return true,
            Some(Link::To(found)) => format!("it holds {found}"),
            Some(Link::Wrong(reason)) => reason,
            Some(Link::Absent) | None => return false,
        };
        let place = self.place(&format!("{below}/link"));
        let problem = Problem::Link { reason };
        self.affected.add(Finding { place, problem }, manifest);
        false
    }

    /// Reads all manifests.
    fn manifests(&mut self) -> Result<()> {
        for digest in self.digests("_manifests/revisions") {
            self.examiner.interrupt.check()?;
            let below = revision(&digest);
            match self.link(&below) {
                // A manifest that was deleted leaves its folder.
                Some(Link::Absent) => continue,
                None => self.examined.has_unread_manifests = true,
                Some(_) => drop(self.check_link(&below, &digest, Some(&digest))),
            }
            self.examined.manifests += 1;
            self.examiner.marks.add(&digest);
            self.manifest(digest);
        }
        Ok(())
    }

    /// Reads a manifest or index, and looks at what it refers to.
    fn manifest(&mut self, digest: Digest) {
        let finding = match self.read(&digest) {
            Ok(Ok(bytes)) => match self.references(&digest, bytes) {
                Ok(()) => return,
                Err(problem) => problem,
            },
            Ok(Err(problem)) => problem,
            Err(error) => {
                self.examined.unread.push(error);
                return;
            }
        };
        self.examined.has_unread_manifests = true;
        let place = self.examiner.storage.blob_place(&digest);
        let problem = finding;
        self.affected.add(Finding { place, problem }, Some(&digest));
    }

    /// Reads a manifest's bytes, if they are right.
    fn read(&self, digest: &Digest) -> Result<Result<Vec<u8>, Problem>> {
        if let Some(bad) = self.examiner.bad.get(digest) {
            return Ok(Err(bad.problem.clone()));
        }
        let (stored, state) = match self.examiner.storage.stat(digest)? {
            BlobFile::Missing => return Ok(Err(Problem::Missing)),
            BlobFile::Other(kind) => {
                let kind = dir::kind_name(kind);
                return Ok(Err(Problem::NotAFile { kind }));
            }
            BlobFile::Regular(_) => match self.examiner.storage.open_blob(digest)? {
                Some(open) => open,
                None => return Ok(Err(Problem::Missing)),
            },
        };
        if state.size > MAX_METADATA {
            let (limit, found) = (MAX_METADATA, state.size);
            return Ok(Err(Problem::TooLarge { limit, found }));
        }
        let descriptor = Descriptor::new(MediaType::new(""), *digest, state.size);
        let mut bytes = Vec::new();
        let read = BlobReader::new(OpenBlob::Stored(stored), &descriptor).and_then(|mut reader| {
            io::Read::read_to_end(&mut reader, &mut bytes)
                .map_err(|error| Error::from_reader(error, Error::io("read", self.dir.path())))?;
            reader.finish()
        });
        match read {
            Ok(_) => Ok(Ok(bytes)),
            Err(Error::Refused(finding)) => Ok(Err(finding.problem)),
            Err(error) => Err(error),
        }
    }

    /// Looks at what a manifest refers to.
    ///
    /// # Errors
    ///
    /// Why it is not a manifest.
    fn references(&mut self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Problem> {
        if let Some(layers) = schema1_layers(&bytes) {
            for layer in layers {
                self.blob(&Descriptor::new(MediaType::new(""), layer, 0), false, digest);
            }
            return Ok(());
        }
        let media_type = Document::sniff(&bytes).ok_or_else(|| Problem::Document {
            reason: "it does not say what it is".into(),
        })?;
        match Document::parse(&media_type, bytes)? {
            Document::Manifest(manifest) => {
                self.blob(&manifest.config, true, digest);
                for layer in &manifest.layers {
                    self.blob(layer, true, digest);
                }
            }
            Document::Index(index) => self.index(*digest, &index.manifests),
        }
        Ok(())
    }

    /// Looks at the children of an index. Some may be absent.
    fn index(&mut self, digest: Digest, children: &[Descriptor]) {
        let (mut here, mut absent) = (Vec::new(), Vec::new());
        for child in children {
            self.examiner.marks.add(&child.digest);
            if !child.media_type.is_document() {
                self.blob(child, true, &digest);
                continue;
            }
            match self.link(&revision(&child.digest)) {
                Some(Link::Absent) => absent.push(child),
                _ => {
                    here.push(child.digest);
                    self.child_size(child, &digest);
                }
            }
        }
        let place = self.examiner.storage.blob_place(&digest);
        if !absent.is_empty() {
            let problem = match here.is_empty() {
                true => Problem::NoManifest,
                false => Problem::Sparse {
                    absent: absent.len(),
                    of: children.len(),
                },
            };
            self.affected.add(Finding { place, problem }, Some(&digest));
        }
        self.affected.add_index(digest, here);
    }

    /// Compares the size of a child with what its index says. Everything else about it is told by itself.
    fn child_size(&mut self, child: &Descriptor, index: &Digest) {
        if self.examiner.bad.contains_key(&child.digest) {
            return;
        }
        if let Some(BlobFile::Regular(state)) = self.stat(&child.digest)
            && state.size != child.size
        {
            let place = self.examiner.storage.blob_place(&child.digest);
            let problem = wrong_size(child.size, state.size);
            self.affected.add(Finding { place, problem }, Some(index));
        }
    }

    /// Looks at a config or layer of a manifest, and at the link that lets this repository serve it.
    fn blob(&mut self, blob: &Descriptor, has_size: bool, manifest: &Digest) {
        let digest = &blob.digest;
        self.examiner.marks.add(digest);
        // The layers of Windows are elsewhere, as their manifests say.
        let is_foreign = !blob.urls.is_empty();
        let Some(file) = self.stat(digest) else { return };
        let found = self.examiner.bad.get(digest);
        let problem = match (found, file) {
            (Some(bad), _) if has_size => Some(bad.told_by(blob.size)),
            (Some(bad), _) => Some(bad.problem.clone()),
            (None, BlobFile::Missing) if is_foreign => return,
            (None, BlobFile::Missing) => Some(Problem::Missing),
            (None, BlobFile::Other(kind)) => Some(Problem::NotAFile {
                kind: dir::kind_name(kind),
            }),
            (None, BlobFile::Regular(state)) if has_size && state.size != blob.size => {
                Some(wrong_size(blob.size, state.size))
            }
            (None, BlobFile::Regular(_)) => None,
        };
        let is_missing = problem == Some(Problem::Missing);
        if let Some(problem) = problem {
            let place = self.examiner.storage.blob_place(digest);
            self.affected.add(Finding { place, problem }, Some(manifest));
        }
        if !is_missing && !is_foreign {
            self.served(digest, manifest);
        }
    }

    /// Checks the link without which this repository does not serve a blob.
    fn served(&mut self, digest: &Digest, manifest: &Digest) {
        let below = layer(digest);
        let known = self.links.get(digest).cloned();
        let Some(link) = known.or_else(|| self.link(&below)) else {
            return;
        };
        let problem = match &link {
            Link::To(found) if found == digest => None,
            Link::To(found) => Some(Problem::Link {
                reason: format!("it holds {found}"),
            }),
            Link::Wrong(reason) => Some(Problem::Link {
                reason: reason.clone(),
            }),
            Link::Absent => Some(Problem::NoLink { digest: *digest }),
        };
        if self.links.len() < REMEMBERED {
            self.links.insert(*digest, link);
        }
        if let Some(problem) = problem {
            let place = self.place(&format!("{below}/link"));
            self.affected.add(Finding { place, problem }, Some(manifest));
        }
    }

    /// What is known about a blob. `None` if it cannot be read, which is noted.
    fn stat(&mut self, digest: &Digest) -> Option<BlobFile> {
        if let Some(known) = self.blobs.get(digest) {
            return Some(*known);
        }
        match self.examiner.storage.stat(digest) {
            Ok(file) => {
                if self.blobs.len() < REMEMBERED {
                    self.blobs.insert(*digest, file);
                }
                Some(file)
            }
            Err(error) => {
                self.examined.unread.push(error);
                None
            }
        }
    }

    /// Looks at the tags.
    fn tags(&mut self) -> Result<()> {
        for tag in self.names("_manifests/tags") {
            self.examiner.interrupt.check()?;
            self.examined.tags += 1;
            let below = format!("_manifests/tags/{tag}/current");
            let link = self.link(&below);
            let is_wrong = matches!(link, Some(Link::Wrong(_)));
            let (problem, digest) = match link {
                Some(Link::To(digest)) => {
                    self.affected.tag(&tag, &digest);
                    let problem = match self.link(&revision(&digest)) {
                        Some(Link::Absent) => Some(Problem::NoLink { digest }),
                        _ => None,
                    };
                    (problem, Some(digest))
                }
                Some(Link::Absent) => (Some(Problem::Missing), None),
                Some(Link::Wrong(reason)) => (Some(Problem::Link { reason }), None),
                None => (None, None),
            };
            // Manifests that the tag had before; those may have been deleted. A symbolic link in the place of the tag's folder
            // makes its link wrong and its index unreadable: one finding is enough.
            let index = format!("_manifests/tags/{tag}/index");
            let had = match is_wrong && self.dir.below(Path::new(&index)).is_err() {
                true => Vec::new(),
                false => self.digests(&index),
            };
            if let Some(problem) = problem {
                let place = self.place(&format!("{below}/link"));
                let before = match digest {
                    None => self.good_of(&index, &had),
                    Some(_) => Vec::new(),
                };
                self.affected
                    .add_about(Finding { place, problem }, &tag, digest, before);
            }
            if is_wrong {
                continue;
            }
            for digest in had {
                let below = format!("{index}/{}/{}", digest.algorithm(), digest.hex());
                self.check_link(&below, &digest, None);
            }
        }
        Ok(())
    }

    /// Those of the manifests that a tag had that are good, the latest first: a registry writes the link in `index` again
    /// each time that the tag gets the manifest.
    fn good_of(&mut self, index: &str, had: &[Digest]) -> Vec<Digest> {
        let mut found = Vec::new();
        for digest in had.iter().copied() {
            let link = format!("{index}/{}/{}", digest.algorithm(), digest.hex());
            let folder = self.dir.below(Path::new(&link));
            let meta = folder.and_then(|folder| folder.open_file("link")?.metadata());
            let is_served = self.link(&revision(&digest)) == Some(Link::To(digest));
            let is_good = !self.examiner.bad.contains_key(&digest)
                && matches!(self.stat(&digest), Some(BlobFile::Regular(_)));
            if is_served && is_good {
                let time = meta.and_then(|meta| meta.modified()).ok();
                found.push((time, digest));
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, digest)| digest).collect()
    }

    /// Looks at the links to layers that no manifest of this repository refers to.
    fn layers(&mut self) -> Result<()> {
        for digest in self.digests("_layers") {
            self.examiner.interrupt.check()?;
            let below = layer(&digest);
            // Everything else was told where a manifest refers to it.
            if self.links.contains_key(&digest) || !self.check_link(&below, &digest, None) {
                continue;
            }
            let is_told = matches!(self.blobs.get(&digest), Some(BlobFile::Missing));
            if !is_told && self.stat(&digest) == Some(BlobFile::Missing) {
                let place = self.place(&format!("{below}/link"));
                let problem = Problem::DanglingLink { digest };
                self.affected.add(Finding { place, problem }, None);
            }
        }
        Ok(())
    }

    /// Notes unfinished uploads.
    fn uploads(&mut self) -> Result<()> {
        for upload in self.names("_uploads") {
            self.examiner.interrupt.check()?;
            let below = format!("_uploads/{upload}");
            let Ok(dir) = self.dir.below(std::path::Path::new(&below)) else {
                continue;
            };
            let file = |name: &str| dir.open_file(name).and_then(|file| file.metadata()).ok();
            let started = file("startedat").or_else(|| dir.metadata().ok());
            let started = started.and_then(|meta| meta.modified().ok());
            let age = started.and_then(|started| SystemTime::now().duration_since(started).ok());
            let place = self.place(&below);
            let problem = Problem::UnfinishedUpload {
                received: file("data").map_or(0, |meta| meta.len()),
                seconds: age.map_or(0, |age| age.as_secs()),
            };
            self.affected.add(Finding { place, problem }, None);
        }
        Ok(())
    }
}

/// The folder of the link to a manifest.
fn revision(digest: &Digest) -> String {
    format!("_manifests/revisions/{}/{}", digest.algorithm(), digest.hex())
}

/// The folder of the link to a config or layer.
fn layer(digest: &Digest) -> String {
    format!("_layers/{}/{}", digest.algorithm(), digest.hex())
}

/// The layers of a manifest of schema 1, which registries kept until version 2; `None` if it is another document.
fn schema1_layers(bytes: &[u8]) -> Option<Vec<Digest>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Schema1 {
        schema_version: u64,
        fs_layers: Vec<Layer>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        blob_sum: Digest,
    }
    let schema1: Schema1 = serde_json::from_slice(bytes).ok()?;
    let layers = schema1.fs_layers.into_iter().map(|layer| layer.blob_sum);
    (schema1.schema_version == 1).then(|| layers.collect())
}
