//! Compose files: the images of services.
//!
//! Source: the Compose specification, "Services", "Profiles", "Interpolation", "Extends" and "Include".

use super::interpolate::{InterpolationError, Unset, interpolate};
use super::yaml::Yaml;
use super::{Collector, Found, Kind, Path};
use crate::error::{Hint, Remedy};
use crate::oci::Platform;

/// Longest chain of services that extend each other.
const MAX_EXTENDS: usize = 16;
/// Longest value with its variables, in bytes: over ten times that of a name.
const MAX_LENGTH: usize = 4096;

/// Reads a compose file.
pub(super) fn read(root: Yaml<'_>, collector: &mut Collector<'_>) {
    if let Some(include) = root.get("include").filter(|include| !include.is_null()) {
        collector.unused(
            include,
            "include",
            "the files that it includes are not read; `docker compose config` prints them all as one",
        );
    }
    let Some(services) = root.get("services") else {
        return;
    };
    for (name, service) in services.entries() {
        let name = name.text().unwrap_or_default();
        Service {
            services,
            service,
            path: format!("services.{name}"),
        }
        .read(collector);
    }
}

struct Service<'a> {
    services: Yaml<'a>,
    service: Yaml<'a>,
    path: String,
}

/// A value of a service, or of the service that it extends.
enum Inherited<'a> {
    Value(Yaml<'a>),
    /// It extends a service that is not in this file.
    Elsewhere,
    None,
}

impl<'a> Service<'a> {
    fn read(&self, collector: &mut Collector<'_>) {
        match self.is_chosen(collector) {
            Ok(true) => {}
            Ok(false) => {
                let reason = "none of its profiles is chosen";
                return collector.unused(self.service, &self.path, reason);
            }
            Err(error) => return self.invalid(self.service, &self.path, &error, collector),
        }
        let built = self.inherited("build");
        let is_built = matches!(built, Inherited::Value(_));
        match self.inherited("image") {
            Inherited::Value(image) => self.image(image, format!("{}.image", self.path), is_built, collector),
            Inherited::Elsewhere => {
                let position = self.service.position();
                let message = format!("{}: it extends a service of another file", Path(&self.path));
                collector.error(position, message, Some(Remedy::ComposeConfig.into()));
            }
            Inherited::None if is_built => collector.unused(
                self.service,
                &self.path,
                "it is built and has no image; give it one with `image:`, build it, and save it from the engine",
            ),
            Inherited::None => collector.unused(self.service, &self.path, "it has no image"),
        }
        self.volumes(collector);
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
            Err(error) => return self.invalid(image, &path, &error, collector),
        };
        let platforms = self.platform(collector).into_iter().collect();
        collector.found(Found {
            name: Some(name),
            platforms,
            is_built,
            ..Found::new(Kind::Compose, image, path)
        });
    }

    /// The platform that a service asks for.
    fn platform(&self, collector: &mut Collector<'_>) -> Option<Platform> {
        let Inherited::Value(value) = self.inherited("platform") else {
            return None;
        };
        let path = format!("{}.platform", self.path);
        match filled_in(value.text()?, collector) {
            // A variable that is empty means no platform in particular.
            Ok(text) if text.is_empty() => {}
            Ok(text) => match text.parse() {
                Ok(platform) => return Some(platform),
                Err(_) => collector.unused(value, &path, "this is not a platform"),
            },
            Err(error) => self.invalid(value, &path, &error, collector),
        }
        None
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
                return Inherited::Elsewhere;
            }
            let name = extends.text().or_else(|| extends.get_text("service"));
            match name.and_then(|name| self.services.get(name)) {
                Some(base) => service = base,
                None => return Inherited::Elsewhere,
            }
        }
        Inherited::None
    }

    fn invalid(
        &self,
        value: Yaml<'_>,
        path: &str,
        error: &InterpolationError,
        collector: &mut Collector<'_>,
    ) {
        let hint = match error {
            InterpolationError::Unset { name } | InterpolationError::Required { name, .. } => {
                Some(Hint::from(Remedy::SetVariable(name.clone())))
            }
            InterpolationError::Malformed(_) | InterpolationError::TooLong => None,
        };
        collector.error(value.position(), format!("{}: {error}", Path(path)), hint);
    }
}

fn filled_in(text: &str, collector: &Collector<'_>) -> Result<String, InterpolationError> {
    interpolate(text, &collector.options.variables, Unset::Refused, MAX_LENGTH)
}
