//! What is to be verified: files, or images in registries.

use std::path::{Path, PathBuf};

use sealift::image::asked::Asked;
use sealift::oci::{Reference, Repository};
use sealift::{Error, Result};

use crate::cli::lists::{self, Listed, all_of};

/// How archives end.
const ARCHIVES: [&str; 12] = [
    ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".oci",
    ".tar.lz4", ".zip",
];

/// What stands before a registry.
const REGISTRY: &str = "registry://";

/// What is to be verified.
#[derive(Debug, PartialEq, Eq)]
pub enum Targets {
    /// Archives and layout folders.
    Files(Vec<PathBuf>),
    /// Images in registries.
    Images(Vec<Wanted>),
}

/// Images in registries.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One.
    Image(Reference),
    /// All tags of a repository.
    Repository(Repository),
}

impl Targets {
    /// Tells files from images. With `all`, names are those of repositories.
    pub fn parse(targets: &[PathBuf], lists: &[Listed], all: bool) -> Result<Targets> {
        let kinds: Result<Vec<Kind<'_>>> = targets.iter().map(|target| kind(target)).collect();
        let kinds = kinds?;
        let has_files = kinds.iter().any(|kind| matches!(kind, Kind::File));
        let mut files = Vec::new();
        let mut images = Vec::new();
        for (target, kind) in targets.iter().zip(kinds) {
            match kind {
                Kind::Image(text) | Kind::Either(text) if all => images.push(repository(text)),
                // Beside files, it is one that is missing.
                Kind::Either(_) if has_files => files.push(target.clone()),
                Kind::Image(text) | Kind::Either(text) => images.push(named(text)),
                Kind::File => files.push(target.clone()),
            }
        }
        for list in lists {
            let names = lists::asked(std::slice::from_ref(list)).into_iter();
            images.extend(names.map(|asked| {
                asked.and_then(|asked| match asked {
                    Asked::Image(reference) => Ok(Wanted::Image(reference)),
                    Asked::Id(_) => Err(no_id(&list.label)),
                })
            }));
        }
        let images = all_of(images)?;
        let is_mixed = !files.is_empty() && (!images.is_empty() || !lists.is_empty());
        if let Some(file) = files.first().filter(|_| is_mixed || all) {
            let file = file.display();
            return Err(Error::Usage {
                message: match all {
                    true => format!("--all is for repositories, and {file} is a file"),
                    false => format!("{file} is a file, and other names are images in registries"),
                },
                hint: Some("verify files and images in registries separately".into()),
            });
        }
        match files.is_empty() {
            false => Ok(Targets::Files(files)),
            true if images.is_empty() => Err(Error::Usage {
                message: "the lists name no image".into(),
                hint: Some("`sealift images` prints what a list names".into()),
            }),
            true => Ok(Targets::Images(images)),
        }
    }
}

fn no_id(list: &str) -> Error {
    Error::Usage {
        message: format!("{list}: registries have no image ids"),
        hint: Some("name the image, as in harbor.local/app:1".into()),
    }
}

/// What a target is by its text and by what exists.
enum Kind<'t> {
    File,
    /// It has a tag, a digest or the host of a registry, and no file has that name.
    Image(&'t str),
    /// It could be an image, or a file that does not exist.
    Either(&'t str),
}

fn kind(target: &Path) -> Result<Kind<'_>> {
    let Some(text) = target.to_str() else {
        return Ok(Kind::File);
    };
    if text.is_empty() || text == "-" || text.starts_with(['/', '.']) || is_archive(text) {
        return Ok(Kind::File);
    }
    let mut first_part = target.as_os_str().to_owned();
    first_part.push(".001");
    let exists = target.symlink_metadata().is_ok() || Path::new(&first_part).symlink_metadata().is_ok();
    match (exists, is_certainly_an_image(text)) {
        (true, true) => Err(Error::Usage {
            message: format!("{text} is a file here, and may be an image in a registry"),
            hint: Some(format!("the file is ./{text}; for the image, run this in another folder").into()),
        }),
        (true, false) => Ok(Kind::File),
        (false, true) => Ok(Kind::Image(text)),
        (false, false) => Ok(Kind::Either(text)),
    }
}

/// Whether text ends like the name of an archive, or of one of its parts.
fn is_archive(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let whole = match text.rsplit_once('.') {
        Some((whole, part)) if part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        _ => &text,
    };
    ARCHIVES.iter().any(|end| whole.ends_with(end))
}

/// Whether text has what few file names have: a tag, a digest, or the host of a registry.
fn is_certainly_an_image(text: &str) -> bool {
    let (first, last) = match text.split_once('/') {
        Some((first, rest)) => (first, rest.rsplit('/').next().unwrap_or_default()),
        None => ("", text),
    };
    let has_host = first.contains(['.', ':']) || first == "localhost";
    text.parse::<Reference>().is_ok() && (last.contains([':', '@']) || has_host)
}

/// Parses the name of an image.
fn named(text: &str) -> Result<Wanted> {
    match text.parse() {
        Ok(reference) => Ok(Wanted::Image(reference)),
        Err(error) => Err(neither(text, Error::from(error))),
    }
}

/// Parses the name of a repository.
fn repository(text: &str) -> Result<Wanted> {
    let last = text.rsplit('/').next().unwrap_or_default();
    if is_registry(text) {
        let host = text.strip_prefix(REGISTRY).unwrap_or(text).trim_end_matches('/');
        return Err(Error::Usage {
            message: format!("{text} is a registry, and --all is for repositories"),
            hint: Some(
                format!(
                    "name each repository, as in {host}/app; what a registry has, {host}/v2/_catalog lists"
                )
                .into(),
            ),
        });
    }
    if last.contains([':', '@']) {
        return Err(Error::Usage {
            message: format!("{text} names an image, and --all is for repositories"),
            hint: Some("leave out the tag or digest, or --all".into()),
        });
    }
    match text.parse() {
        Ok(repository) => Ok(Wanted::Repository(repository)),
        Err(error) => Err(neither(text, Error::from(error))),
    }
}

/// Whether text is a registry without a repository. Names of Docker Hub's own images have no dots.
fn is_registry(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix(REGISTRY) {
        return !rest.trim_end_matches('/').contains('/');
    }
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) => return false,
        None => text,
    };
    let is_host = host == "localhost" || host.contains('.') || host.starts_with('[');
    is_host && !host.contains(['/', '@'])
}

fn neither(text: &str, error: Error) -> Error {
    Error::Usage {
        message: format!("{text} is no file here, and no image: {error}"),
        hint: error.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(targets: &[&str], all: bool) -> Result<Targets, String> {
        let targets: Vec<PathBuf> = targets.iter().map(PathBuf::from).collect();
        Targets::parse(&targets, &[], all).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_told_from_images() {
        // Tests run in the folder of the sources.
        for file in [
            "-",
            "/absent",
            "./absent",
            "../absent",
            ".",
            "absent.tar",
            "absent.TGZ",
            "some/absent.tar.zst",
            "absent.tar.001",
            "src",
            "src/cli",
            "Cargo.toml",
        ] {
            assert_eq!(
                parse(&[file], false),
                Ok(Targets::Files(vec![file.into()])),
                "{file}"
            );
        }
        for image in [
            "httpd",
            "httpd:2.4",
            "app:1.001",
            "user/app",
            "harbor.local/app:1",
            "localhost:5000/a/b",
            "example.com/tar",
        ] {
            let expected = Wanted::Image(image.parse().unwrap());
            assert_eq!(
                parse(&[image], false),
                Ok(Targets::Images(vec![expected])),
                "{image}"
            );
        }
        let repository = Wanted::Repository("harbor.local/app".parse().unwrap());
        assert_eq!(
            parse(&["harbor.local/app"], true),
            Ok(Targets::Images(vec![repository]))
        );
    }

    #[test]
    fn beside_files_an_unclear_word_is_one() {
        let files = ["src", "absent"].map(PathBuf::from).to_vec();
        assert_eq!(parse(&["src", "absent"], false), Ok(Targets::Files(files)));
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for (targets, all, says) in [
            (
                &["src", "httpd:2.4"][..],
                false,
                "src is a file, and other names are images",
            ),
            (&["src"], true, "--all is for repositories, and src is a file"),
            (&["httpd:2.4"], true, "httpd:2.4 names an image"),
            (
                &["127.0.0.1:5601"],
                true,
                "127.0.0.1:5601 is a registry, and --all is for repositories",
            ),
            (&["localhost:5000"], true, "localhost:5000 is a registry"),
            (&["harbor.local"], true, "harbor.local is a registry"),
            (
                &["registry://harbor.local"],
                true,
                "registry://harbor.local is a registry",
            ),
            (&["harbor.local/app:1"], true, "harbor.local/app:1 names an image"),
            (&["Absent"], false, "Absent is no file here, and no image"),
        ] {
            let error = parse(targets, all).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(is_certainly_an_image("app:1") && is_certainly_an_image("harbor.local/app"));
        assert!(!is_certainly_an_image("src/cli") && !is_certainly_an_image("Cargo.toml"));
    }
}
