//! Compose files: the images of services.
//!
//! Source: the Compose specification, "Services", "Profiles", "Interpolation", "Extends" and "Include".

use super::collector::{Collector, Found, Path};
use super::interpolate::{InterpolationError, Unset, interpolate};
use super::{Kind, Part};
use crate::error::{Hint, Remedy};
use crate::oci::Platform;
use crate::yaml::Yaml;

/// Longest chain of services that extend each other.
const MAX_EXTENDS: usize = 16;
/// Longest value with its variables, in bytes: over ten times that of a name.
const MAX_LENGTH: usize = 4096;

/// Reads a compose file.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    if let Some(include) = root.get("include").filter(|include| !include.is_null()) {
        match include.is_sequence() {
            true => (include.items().zip(0..))
                .for_each(|(item, number)| read_include(item, &format!("include[{number}]"), collector)),
            false => read_include(include, "include", collector),
        }
    }
    let Some(services) = root.get("services") else {
        return;
    };
    for (name, service) in services.entries() {
        let name = name.text().unwrap_or_default();
        Service::new(services, service, name).read(collector);
    }
}

/// Reads one service, as a service of another file that extends it has it. Returns whether there is one of this name.
pub(super) fn read_service(
    root: Yaml<'_>,
    name: &str,
    platforms: &[Platform],
    is_built: bool,
    collector: &mut Collector<'_>,
) -> bool {
    let Some(services) = root.get("services") else {
        return false;
    };
    let Some(service) = services.get(name) else {
        return false;
    };
    Service {
        platforms: platforms.to_vec(),
        is_built,
        ..Service::new(services, service, name)
    }
    .images(collector);
    true
}

/// Reads an item of `include`: a path, or a mapping.
fn read_include(item: Yaml<'_>, path: &str, collector: &mut Collector<'_>) {
    let texts = |value: Option<Yaml<'_>>, collector: &Collector<'_>| {
        let Some(value) = value else { return Ok(Vec::new()) };
        let values: Vec<&str> = match value.text() {
            Some(text) => vec![text],
            None => value.items().filter_map(Yaml::text).collect(),
        };
        let values = values.into_iter().map(|text| filled_in(text, collector));
        values.collect::<Result<Vec<String>, _>>()
    };
    let files = match item.is_mapping() {
        true => item.get("path"),
        false => Some(item),
    };
    let read = texts(files, collector).and_then(|files| {
        let folder = texts(item.get("project_directory"), collector)?.pop();
        Ok((files, folder, texts(item.get("env_file"), collector)?))
    });
    match read {
        Ok((mut files, folder, env_files)) => match (files.pop(), files.is_empty()) {
            (Some(file), true) => {
                collector.elsewhere(item, path, file, Part::Project { folder, env_files });
            }
            (Some(_), false) => {
                let message = format!("{}: files that are merged are not read", Path(path));
                collector.error(item, message, Some(Remedy::ComposeConfig.into()));
            }
            (None, _) => collector.unused(item, path, "it names no file"),
        },
        Err(error) => invalid(item, path, &error, collector),
    }
}

struct Service<'a> {
    services: Yaml<'a>,
    service: Yaml<'a>,
    path: String,
    /// The platforms that count before its own.
    platforms: Vec<Platform>,
    /// Whether a service that extends it is built.
    is_built: bool,
}

/// A value of a service, or of the service that it extends.
enum Inherited<'a> {
    Value(Yaml<'a>),
    /// This `extends` is of a service that is not in this file.
    Elsewhere(Yaml<'a>),
    None,
}

impl<'a> Service<'a> {
    fn new(services: Yaml<'a>, service: Yaml<'a>, name: &str) -> Service<'a> {
        Service {
            services,
            service,
            path: format!("services.{name}"),
            platforms: Vec::new(),
            is_built: false,
        }
    }

    fn read(&self, collector: &mut Collector<'_>) {
        match self.is_chosen(collector) {
            Ok(true) => self.images(collector),
            Ok(false) => {
                let reason = "none of its profiles is chosen";
                collector.unused(self.service, &self.path, reason);
            }
            Err(error) => invalid(self.service, &self.path, &error, collector),
        }
    }

    fn images(&self, collector: &mut Collector<'_>) {
        let built = self.inherited("build");
        let is_built = self.is_built || matches!(built, Inherited::Value(_));
        match self.inherited("image") {
            Inherited::Value(image) => self.image(image, format!("{}.image", self.path), is_built, collector),
            Inherited::Elsewhere(extends) => self.elsewhere(extends, is_built, collector),
            Inherited::None if is_built => collector.unused(
                self.service,
                &self.path,
                "it is built and has no image; give it one with `image:`, build it, and save it from the engine",
            ),
            Inherited::None => collector.unused(self.service, &self.path, "it has no image"),
        }
        self.volumes(collector);
    }

    /// The image of a service of another file.
    fn elsewhere(&self, extends: Yaml<'_>, is_built: bool, collector: &mut Collector<'_>) {
        let (file, service) = (extends.get_text("file"), extends.get_text("service"));
        let (Some(file), Some(service)) = (file, service) else {
            let message = format!("{}: the service that it extends is not there", Path(&self.path));
            return collector.error(extends, message, None);
        };
        match filled_in(file, collector) {
            Ok(file) => {
                let platforms = self.platform(collector);
                let part = Part::Service {
                    name: service.into(),
                    platforms,
                    is_built,
                };
                collector.elsewhere(extends, &self.path, file, part);
            }
            Err(error) => invalid(extends, &self.path, &error, collector),
        }
    }

    /// Images that are mounted as volumes.
    fn volumes(&self, collector: &mut Collector<'_>) {
        let Some(volumes) = self.service.get("volumes") else {
            return;
        };
        for (volume, number) in volumes.items().zip(0..) {
            if volume.get_text("type") == Some("image")
                && let Some(source) = volume.get("source")
            {
                let path = format!("{}.volumes[{number}].source", self.path);
                self.image(source, path, false, collector);
            }
        }
    }

    fn image(&self, image: Yaml<'_>, path: String, is_built: bool, collector: &mut Collector<'_>) {
        let Some(written) = image.text() else {
            return collector.unused(image, &path, "this is not the name of an image");
        };
        let name = match filled_in(written, collector) {
            Ok(name) => name,
            Err(error) => return invalid(image, &path, &error, collector),
        };
        let platforms = self.platform(collector);
        collector.found(Found {
            name: Some(name),
            platforms,
            is_built,
            ..Found::new(Kind::Compose, image, path)
        });
    }

    /// The platform that a service asks for.
    fn platform(&self, collector: &mut Collector<'_>) -> Vec<Platform> {
        let Inherited::Value(value) = self.inherited("platform") else {
            return self.platforms.clone();
        };
        let Some(written) = value.text().filter(|_| self.platforms.is_empty()) else {
            return self.platforms.clone();
        };
        let path = format!("{}.platform", self.path);
        match filled_in(written, collector) {
            // A variable that is empty means no platform in particular.
            Ok(text) if text.is_empty() => {}
            Ok(text) => match text.parse() {
                Ok(platform) => return vec![platform],
                Err(_) => collector.unused(value, &path, "this is not a platform"),
            },
            Err(error) => invalid(value, &path, &error, collector),
        }
        Vec::new()
    }

    /// Whether a service belongs to no profile, or to one that is chosen.
    fn is_chosen(&self, collector: &mut Collector<'_>) -> Result<bool, InterpolationError> {
        let Some(profiles) = self.service.get("profiles").filter(|list| list.is_sequence()) else {
            return Ok(true);
        };
        let chosen = &collector.options.profiles;
        let (mut is_chosen, mut has_any) = (false, false);
        for profile in profiles.items().filter_map(Yaml::text) {
            let profile = filled_in(profile, collector)?;
            has_any = true;
            is_chosen |= chosen.iter().any(|one| *one == profile || one == "*");
            collector.list.profiles.insert(profile);
        }
        Ok(is_chosen || !has_any)
    }

    /// A value of the service, else of the one that it extends.
    fn inherited(&self, key: &str) -> Inherited<'a> {
        let mut service = self.service;
        for _ in 0..MAX_EXTENDS {
            if let Some(value) = service.get(key) {
                return match value.is_null() {
                    true => Inherited::None,
                    false => Inherited::Value(value),
                };
            }
            let Some(extends) = service.get("extends") else {
                return Inherited::None;
            };
            if extends.get("file").is_some() {
                return Inherited::Elsewhere(extends);
            }
            let name = extends.text().or_else(|| extends.get_text("service"));
            match name.and_then(|name| self.services.get(name)) {
                Some(base) => service = base,
                None => return Inherited::Elsewhere(extends),
            }
        }
        Inherited::None
    }
}

fn invalid(value: Yaml<'_>, path: &str, error: &InterpolationError, collector: &mut Collector<'_>) {
    let hint = match error {
        InterpolationError::Unset { name } | InterpolationError::Required { name, .. } => {
            Some(Hint::from(Remedy::SetVariable(name.clone())))
        }
        InterpolationError::Malformed(_) | InterpolationError::TooLong => None,
    };
    collector.error(value, format!("{}: {error}", Path(path)), hint);
}

fn filled_in(text: &str, collector: &Collector<'_>) -> Result<String, InterpolationError> {
    interpolate(text, &collector.options.variables, Unset::Refused, MAX_LENGTH)
}
