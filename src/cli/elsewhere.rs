//! The files that compose files refer to: `include`, and `extends` with a file.
//!
//! A compose file may come from others, and sealift may run as root. So a file is read only if it is, once links are
//! resolved, in or below the folder of the file that the user names. One that is not read is an error: without its images
//! the list would look complete.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use sealift::error::Remedy;
use sealift::escape::Escaped;
use sealift::image_list::{Elsewhere, ImageFile, Kind, Options, Part};
use sealift::{Error, Result};

use super::lists::{ENV, Listed, add, read_file};

/// Most files that a compose file refers to, those that these refer to included.
const MAX_FILES: usize = 200;

/// A compose file that refers to others.
struct Referring {
    /// Its folder, which `extends` is relative to.
    folder: PathBuf,
    /// The folder of its project, which `include` is relative to.
    project: PathBuf,
    options: Options,
    elsewhere: Vec<Elsewhere>,
}

/// Reads what a list refers to, and what that refers to. What cannot be read is an error in `list`.
pub fn read(path: &Path, options: Options, list: &mut Listed) -> Result<Vec<Listed>> {
    let elsewhere = std::mem::take(&mut list.list.elsewhere);
    if elsewhere.is_empty() {
        return Ok(Vec::new());
    }
    if path == Path::new("-") {
        let errors = elsewhere
            .iter()
            .map(|one| refused(one, "standard input has no folder to find it in"));
        list.list.errors.extend(errors);
        return Ok(Vec::new());
    }
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let root = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &folder,
    };
    let root = fs::canonicalize(root).map_err(Error::io("read", root))?;
    let mut waiting = vec![Referring {
        project: folder.clone(),
        folder,
        options,
        elsewhere,
    }];
    let mut known = HashSet::new();
    let mut read = Vec::new();
    while let Some(one) = waiting.pop() {
        for reference in &one.elsewhere {
            // The same file for the same part has the same images.
            let key = format!("{:?} {:?} {:?}", one.folder, reference.file, reference.part);
            if !known.insert(key) {
                continue;
            }
            if known.len() > MAX_FILES {
                let reason = format!("more than {MAX_FILES} files are referred to");
                list.list.errors.push(refused(reference, &reason));
                return Ok(read);
            }
            match one.read(reference, &root) {
                Ok((listed, next)) => {
                    waiting.extend(next);
                    read.push(listed);
                }
                Err(error) => list.list.errors.push(error),
            }
        }
    }
    Ok(read)
}

impl Referring {
    /// Reads one file; returns also what it refers to itself.
    fn read(&self, reference: &Elsewhere, root: &Path) -> Result<(Listed, Option<Referring>)> {
        let base = match reference.part {
            Part::Project { .. } => &self.project,
            Part::Service { .. } => &self.folder,
        };
        let path = within(reference, base, &reference.file, root)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut options = self.options.clone();
        let mut project = self.project.clone();
        if let Part::Project {
            folder: given,
            env_files,
        } = &reference.part
        {
            project = match given {
                Some(given) => without_dots(&base.join(given)),
                None => folder.clone(),
            };
            options.variables = options.variables.for_included();
            for file in env_files {
                add(&mut options.variables, &within(reference, base, file, root)?)?;
            }
            if env_files.is_empty() && project.join(ENV).is_file() {
                let file = within(reference, &project, ENV, root)?;
                add(&mut options.variables, &file)?;
            }
        }
        let label = path.display().to_string();
        let bytes = read_file(&path)?;
        let file = ImageFile::parse(&label, &bytes)?;
        if !file.has(Kind::Compose) {
            return Err(refused(reference, "it is not a compose file"));
        }
        let mut list = match &reference.part {
            Part::Project { .. } => file.images(&options)?,
            Part::Service {
                name,
                platforms,
                is_built,
            } => file.service(&options, name, platforms, *is_built)?,
        };
        let elsewhere = std::mem::take(&mut list.elsewhere);
        let next = (!elsewhere.is_empty()).then_some(Referring {
            folder,
            project,
            options,
            elsewhere,
        });
        Ok((Listed::compose(label, bytes, list), next))
    }
}

/// The path of a file that is in `root` or below it.
fn within(reference: &Elsewhere, base: &Path, file: &str, root: &Path) -> Result<PathBuf> {
    // Docker reads repositories of Git and artifacts of OCI too.
    if file.contains("://") || file.starts_with("oci:") || file.starts_with("git@") {
        return Err(refused(reference, "it is not a local file"));
    }
    let path = without_dots(&base.join(file));
    let real = fs::canonicalize(&path).map_err(Error::io("read", &path))?;
    if !real.starts_with(root) {
        let reason = "it is outside the folder of the compose file that was named";
        return Err(refused(reference, reason));
    }
    match real.is_file() {
        true => Ok(path),
        false => Err(refused(reference, "it is not a file")),
    }
}

/// A path without its `.` parts. A `..` stays: before it may be a link.
fn without_dots(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

fn refused(reference: &Elsewhere, reason: &str) -> Error {
    let Elsewhere { place, file, .. } = reference;
    Error::Usage {
        message: format!("{}: {}: {reason}", Escaped(place), Escaped(file)),
        hint: Some(Remedy::ComposeConfig.into()),
    }
}
