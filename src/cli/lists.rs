//! Files that name images, as `--images` and `sealift images` read them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use sealift::image::asked::Asked;
use sealift::image_list::{self, FieldPath, ImageFile, ImageList, Kind, Mention, Unused, Variables};
use sealift::oci::{Platform, PlatformSelection, Reference};
use sealift::{Error, Result};

use super::elsewhere;
use super::output::Output;

/// The file of variables that compose reads unless it is told otherwise.
pub const ENV: &str = ".env";

/// What a tar has in its first header, and where.
const MAGIC: &[u8] = b"ustar";
const MAGIC_AT: usize = 257;

/// How files that name images are read.
#[derive(Args)]
#[command(next_help_heading = "Image list options")]
pub struct ListArgs {
    /// Use the services of this profile of a compose file; repeatable
    ///
    /// `*` means all profiles. Services without a profile are always used.
    ///
    /// [default: COMPOSE_PROFILES]
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Take the variables of a compose file from FILE; repeatable
    ///
    /// Variables of the environment count before those of FILE.
    ///
    /// [default: COMPOSE_ENV_FILES, else .env beside the compose file]
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Leave out images that a compose file also says how to build
    #[arg(long)]
    skip_built: bool,
    /// Take images from a field of a custom resource; repeatable
    ///
    /// For example, Prometheus:spec.image or Rollout:spec.template.spec.containers[].image. `[]` is every item of a
    /// list, and `*` every key.
    #[arg(long, value_name = "KIND:PATH")]
    image_field: Vec<FieldPath>,
}

/// A file that names images.
pub struct Listed {
    /// The file as it was given, for messages.
    pub label: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it names.
    pub list: ImageList,
    /// Whether it is a lock file.
    pub is_lock: bool,
    is_compose: bool,
    is_kubernetes: bool,
}

impl Listed {
    /// A compose file.
    pub fn compose(label: String, bytes: Vec<u8>, list: ImageList) -> Listed {
        Listed {
            label,
            bytes,
            list,
            is_lock: false,
            is_compose: true,
            is_kubernetes: false,
        }
    }
}

/// An image, and every place that names it.
pub struct Named<'l> {
    /// What is asked for.
    pub asked: &'l Asked,
    /// The places, with their files.
    pub places: Vec<(&'l str, &'l Mention)>,
}

impl ListArgs {
    /// Reads files, each with those that it refers to; `-` is standard input. Reports what they have and is not used.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or an option has no effect. Names that are none are in the lists.
    pub fn read(&self, paths: &[PathBuf], output: &Output) -> Result<Vec<Listed>> {
        let files: Result<Vec<Vec<Listed>>> = paths.iter().map(|path| self.read_one(path)).collect();
        let files: Vec<Listed> = files?.into_iter().flatten().collect();
        self.check(&files)?;
        if !output.is_quiet() {
            for file in &files {
                for unused in &file.list.unused {
                    output.note(&note(&file.label, unused));
                }
            }
            self.note_unmatched(&files, output);
        }
        Ok(files)
    }

    /// Reports fields and profiles that no file has: they may be misspelled.
    fn note_unmatched(&self, files: &[Listed], output: &Output) {
        for (field, number) in self.image_field.iter().zip(0..) {
            if !files.iter().any(|file| file.list.fields_found.contains(&number)) {
                output.note(&format!("--image-field {field}: no list has such a field"));
            }
        }
        for profile in self.profile.iter().filter(|profile| *profile != "*") {
            if !files.iter().any(|file| file.list.profiles.contains(profile)) {
                output.note(&format!("--profile {profile}: no service has this profile"));
            }
        }
    }

    fn read_one(&self, path: &Path) -> Result<Vec<Listed>> {
        let is_stdin = path == Path::new("-");
        let label = match is_stdin {
            true => "standard input".into(),
            false => path.display().to_string(),
        };
        let bytes = match is_stdin {
            true => bytes(std::io::stdin().lock(), path)?,
            false if path.is_dir() => return Err(folder(path)),
            false => read_file(path)?,
        };
        if bytes.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(MAGIC) {
            return Err(Error::Usage {
                message: format!("{label} is an archive, and no list of images"),
                hint: Some(format!("`sealift list {}` prints what it has", path.display()).into()),
            });
        }
        if is_stdin && bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::Usage {
                message: "standard input is empty".into(),
                hint: Some("did the command before the pipe fail?".into()),
            });
        }
        let file = ImageFile::parse(&label, &bytes)?;
        let is_compose = file.has(Kind::Compose);
        let is_kubernetes = file.has(Kind::Kubernetes);
        let is_lock = file.has(Kind::Lock);
        let variables = match is_compose {
            true => self.variables(path)?,
            false => Variables::default(),
        };
        let profiles = match self.profile.as_slice() {
            [] => words(variables.get("COMPOSE_PROFILES")),
            given => given.to_vec(),
        };
        let options = image_list::Options {
            profiles,
            variables,
            fields: self.image_field.clone(),
        };
        let list = file.images(&options)?;
        let mut listed = Listed {
            label,
            bytes,
            list,
            is_lock,
            is_compose,
            is_kubernetes,
        };
        let others = elsewhere::read(path, options, &mut listed)?;
        let mut all: Vec<Listed> = std::iter::once(listed).chain(others).collect();
        if self.skip_built {
            for one in &mut all {
                one.list.mentions.retain(|mention| !mention.is_built);
            }
        }
        Ok(all)
    }

    /// The variables of a compose file.
    fn variables(&self, compose: &Path) -> Result<Variables> {
        let environment = std::env::vars_os();
        let mut variables = Variables::of(
            environment
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        let named: Vec<PathBuf> = match self.env_file.as_slice() {
            [] => words(variables.get("COMPOSE_ENV_FILES"))
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            given => given.to_vec(),
        };
        for path in &named {
            add(&mut variables, path)?;
        }
        if named.is_empty() {
            let beside = compose.with_file_name(ENV);
            // A folder of this name is none: virtual environments of Python are called so.
            if beside.is_file() {
                check_owner(&beside, compose)?;
                add(&mut variables, &beside)?;
            }
        }
        Ok(variables)
    }

    /// Refuses options without effect.
    fn check(&self, files: &[Listed]) -> Result<()> {
        let given = [
            ("--profile", !self.profile.is_empty()),
            ("--env-file", !self.env_file.is_empty()),
            ("--skip-built", self.skip_built),
        ];
        let given = given.iter().find(|(_, is_given)| *is_given);
        let message = match given {
            Some((option, _)) if !files.iter().any(|file| file.is_compose) => {
                format!("{option} is for compose files, and no list is one")
            }
            _ if !self.image_field.is_empty() && !files.iter().any(|file| file.is_kubernetes) => {
                "--image-field is for Kubernetes manifests, and no list is one".into()
            }
            _ => return Ok(()),
        };
        Err(Error::Usage { message, hint: None })
    }
}

/// The parts of a value with commas.
fn words(value: Option<&str>) -> Vec<String> {
    let words = value.unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty()).map(Into::into).collect()
}

/// Reads a list.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    bytes(File::open(path).map_err(Error::io("read", path))?, path)
}

/// Reads a file up to just over the limit of the library, which refuses a longer one.
fn bytes(file: impl std::io::Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(image_list::MAX_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// The error for a folder, with what prints the images that it is about.
fn folder(path: &Path) -> Error {
    let shown = path.display();
    let has = |name: &str| path.join(name).is_file();
    let hint = if has("Chart.yaml") {
        format!("`helm template {shown} | sealift images -` lists what the chart deploys")
    } else if has("kustomization.yaml") || has("kustomization.yml") {
        format!("`kubectl kustomize {shown} | sealift images -` lists what is deployed")
    } else {
        format!("name its files: {}", path.join("*.yaml").display())
    };
    Error::Usage {
        message: format!("{shown} is a folder"),
        hint: Some(hint.into()),
    }
}

/// Refuses variables that another user put beside a compose file, where every user can make files.
fn check_owner(env: &Path, compose: &Path) -> Result<()> {
    let folder = env.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let meta = folder.metadata().map_err(Error::io("look at", folder))?;
    let found = env.symlink_metadata().map_err(Error::io("look at", env))?;
    let owners = compose.metadata().map(|compose| compose.uid());
    let is_trusted = sealift::dir::is_trusted(found.uid())
        || owners
            .into_iter()
            .chain([meta.uid()])
            .any(|uid| uid == found.uid());
    if is_trusted || meta.mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "{} belongs to another user (uid {}), and every user can make files there",
            env.display(),
            found.uid()
        ),
        hint: Some("name the file of the variables with --env-file".into()),
    })
}

/// Adds the variables of a file.
pub fn add(variables: &mut Variables, path: &Path) -> Result<()> {
    let label = path.display().to_string();
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bytes = bytes(file, path)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > image_list::MAX_SIZE) {
        return Err(Error::Usage {
            message: format!("{label}: over {} MiB", image_list::MAX_SIZE >> 20),
            hint: None,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::Usage {
        message: format!("{label}: this is not a text in UTF-8"),
        hint: None,
    })?;
    variables.add_file(&text, &label)
}

/// What files ask for, and what is wrong with them.
pub fn asked(files: &[Listed]) -> Vec<Result<Asked>> {
    let of_file = |file: &Listed| {
        let named = file.list.mentions.iter().map(|mention| Ok(mention.asked.clone()));
        let errors = file.list.errors.iter().cloned().map(Err);
        named.chain(errors).collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

/// The platforms that files name for images, by the full names of these. An image that is also named without a platform
/// is asked for that of this machine too.
pub fn platforms(files: &[Listed]) -> HashMap<String, PlatformSelection> {
    let mut platforms: HashMap<String, Vec<Platform>> = HashMap::new();
    let mut unspecific: Vec<String> = Vec::new();
    for mention in files.iter().flat_map(|file| &file.list.mentions) {
        let Asked::Image(reference) = &mention.asked else {
            continue;
        };
        if mention.platforms.is_empty() {
            unspecific.push(reference.full());
            continue;
        }
        let known = platforms.entry(reference.full()).or_default();
        for platform in &mention.platforms {
            if !known.iter().any(|one| one.matches(platform)) {
                known.push(platform.clone());
            }
        }
    }
    for name in unspecific {
        if let Some(known) = platforms.get_mut(&name)
            && !known.iter().any(|one| one.matches(&Platform::host()))
        {
            known.push(Platform::host());
        }
    }
    let platforms = platforms.into_iter();
    platforms
        .map(|(name, chosen)| (name, PlatformSelection::Only(chosen)))
        .collect()
}

/// The images of files, each once, in the order in which they are first named.
pub fn named(files: &[Listed]) -> Vec<Named<'_>> {
    let mut named: Vec<Named<'_>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for file in files {
        for mention in &file.list.mentions {
            let place = (file.label.as_str(), mention);
            let at = *known.entry(key(mention)).or_insert(named.len());
            match named.get_mut(at) {
                Some(one) => one.places.push(place),
                None => named.push(Named {
                    asked: &mention.asked,
                    places: vec![place],
                }),
            }
        }
    }
    named
}

fn key(mention: &Mention) -> String {
    match &mention.asked {
        Asked::Image(reference) => reference.full(),
        Asked::Id(_) => mention.name.clone(),
    }
}

impl Named<'_> {
    /// The name as Docker shows it.
    pub fn familiar(&self) -> String {
        match (self.asked, self.places.first()) {
            (Asked::Image(reference), _) => reference.familiar(),
            (Asked::Id(_), Some((_, mention))) => mention.name.clone(),
            (Asked::Id(_), None) => String::new(),
        }
    }

    /// The reference, unless it is a shortened id.
    pub fn reference(&self) -> Option<&Reference> {
        match self.asked {
            Asked::Image(reference) => Some(reference),
            Asked::Id(_) => None,
        }
    }
}

/// The note about something that is not used.
fn note(label: &str, unused: &Unused) -> String {
    let path = match unused.path.as_str() {
        "" => String::new(),
        path => format!("{path}: "),
    };
    format!("{label}:{}: {path}{}", unused.line, unused.reason)
}

/// All values, or else every error.
pub fn all_of<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => all.push(one),
            Err(error) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(all),
        false => Err(Error::of_several(errors)),
    }
}
