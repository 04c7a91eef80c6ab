//! Layers that archives leave out because the host that they are for has them: a target that lacks one cannot get the
//! image.

use std::collections::BTreeMap;

use super::{Candidate, Candidates, LoadOptions, Plan, PlannedImage, Skipped};
use crate::error::{Error, ErrorKind, Hint, Problem, Remedy, Result};
use crate::escape::Escaped;
use crate::image::{Image, names};
use crate::inventory::{Inventory, InventoryId};
use crate::oci::{Descriptor, Platform};

/// Number of layers of an image that a message names.
const SHOWN: usize = 3;

/// An image of which the target lacks layers that no archive has.
#[derive(Debug, Clone)]
pub struct LackingImage {
    /// Its name.
    name: String,
    /// The layers.
    layers: Vec<Descriptor>,
    /// Its platforms that were to be loaded.
    platforms: Vec<Platform>,
    /// The namespace in which the layers are missing, if the target has namespaces.
    namespace: Option<String>,
    /// The inventories of other namespaces, by which the layers were left out.
    others: Vec<InventoryId>,
}

impl LackingImage {
    /// What is missing, for messages.
    fn missing(&self) -> String {
        let layers: Vec<String> = self.layers.iter().map(|layer| layer.digest.to_string()).collect();
        let bytes: u64 = self
            .layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.size));
        format!(
            "{} of {} ({bytes} bytes: {})",
            names::count(layers.len(), "layer"),
            self.name,
            names::first(&layers, SHOWN)
        )
    }

    /// The image among those that are skipped.
    pub(super) fn skipped(&self) -> Skipped {
        Skipped {
            name: self.name.clone(),
            reason: format!("neither the archive nor the target has {}", self.missing()),
            hint: Some(hint(std::iter::once(self))),
            kind: ErrorKind::NotFound,
        }
    }
}

/// What brings the layers of these images, after the reason if that is known.
fn hint<'l>(images: impl Iterator<Item = &'l LackingImage> + Clone) -> Hint {
    let mut others: Vec<&InventoryId> = images.clone().flat_map(|image| &image.others).collect();
    others.sort();
    others.dedup();
    let namespace = images.clone().find_map(|image| image.namespace.clone());
    let mut hint = Hint::default();
    if let Some(here) = namespace.as_ref().filter(|_| !others.is_empty()) {
        let inventories: Vec<String> = others.iter().map(ToString::to_string).collect();
        hint = hint.and(format!(
            "the layers were left out for the inventory {}, and this load looked in namespace {}",
            inventories.join(" and "),
            Escaped(here)
        ));
    }
    let mut named: Vec<&String> = others.iter().flat_map(|other| &other.namespaces).collect();
    named.sort();
    named.dedup();
    if let [only] = named.as_slice() {
        hint = hint.and(Remedy::OtherNamespace((*only).clone()));
    }
    hint.and(remedy(images, namespace))
}

fn remedy<'l>(images: impl Iterator<Item = &'l LackingImage> + Clone, namespace: Option<String>) -> Remedy {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in images.clone().flat_map(|image| &image.platforms) {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    Remedy::SaveWhole {
        images: images.map(|image| image.name.clone()).collect(),
        platforms,
        namespace,
    }
}

impl Candidate<'_> {
    /// The layers of its planned images that no archive has and a target lacks.
    fn lacking_of<D>(&self, planned: &PlannedImage, inventory: &Inventory<D>) -> Vec<Descriptor> {
        let images = self.image.graph.images.iter();
        let images = images.filter(|image| planned.manifests.contains(&image.descriptor.digest));
        let mut lacking: Vec<Descriptor> = Vec::new();
        for (layer, chain) in images.flat_map(Image::chained_layers) {
            let is_known = lacking.iter().any(|known| known.digest == layer.digest);
            if self.is_omitted(layer) && !is_known && !inventory.has_layer(layer, chain.as_ref()) {
                lacking.push(layer.bare());
            }
        }
        lacking
    }

    /// The inventories by which layers were left out that are not of this namespace.
    fn inventories_of_others(&self, namespace: Option<&str>) -> Vec<InventoryId> {
        let Some(namespace) = namespace else {
            return Vec::new();
        };
        let is_of_another = |inventory: &&InventoryId| {
            let mut namespaces = inventory.namespaces.iter();
            !inventory.namespaces.is_empty() && !namespaces.any(|one| one == namespace)
        };
        let inventories = self.omitted.inventories.iter();
        inventories.filter(is_of_another).cloned().collect()
    }
}

impl Candidates<'_> {
    /// The error for a blob that was needed after all: if the archives leave it out, the target has lost it since the plan
    /// was made.
    pub fn omitted_or(&self, error: Error) -> Error {
        let Error::Refused(finding) = &error else {
            return error;
        };
        let (Problem::Missing, Some(digest)) = (&finding.problem, finding.place.digest) else {
            return error;
        };
        let layers = self.images.iter().flat_map(|candidate| {
            let images = candidate.image.graph.images.iter();
            let layers = images.flat_map(|image| &image.manifest.layers);
            layers.filter(|layer| layer.digest == digest && candidate.is_omitted(layer))
        });
        match layers.count() {
            0 => error,
            _ => Error::NotFound {
                what: format!("layer {digest}"),
                place: format!(
                    "{}, which left it out, and the target has lost it in the meantime",
                    self.place()
                ),
                hint: Some("nothing was named; run this again to see what is missing".into()),
            },
        }
    }

    /// The images of a plan of which a target lacks layers that no archive has, by their positions.
    pub(super) fn lacking<D>(&self, plan: &Plan, inventory: &Inventory<D>) -> BTreeMap<usize, LackingImage> {
        let mut lacking = BTreeMap::new();
        for planned in plan.images.iter().filter(|planned| !planned.present) {
            let Some(candidate) = self.images.get(planned.candidate) else {
                continue;
            };
            let layers = candidate.lacking_of(planned, inventory);
            if !layers.is_empty() {
                let image = LackingImage {
                    name: candidate.label(),
                    layers,
                    platforms: planned.platforms.0.clone(),
                    others: candidate.inventories_of_others(inventory.namespace.as_deref()),
                    namespace: inventory.namespace.clone(),
                };
                lacking.insert(planned.candidate, image);
            }
        }
        lacking
    }
}

impl LoadOptions {
    /// The options for another plan, which skips these images.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for all of them if they are not to be skipped.
    pub(super) fn without_lacking(
        &self,
        lacking: BTreeMap<usize, LackingImage>,
        candidates: &Candidates<'_>,
        target: &str,
    ) -> Result<LoadOptions> {
        if self.keep_going {
            return Ok(LoadOptions {
                lacking,
                ..self.clone()
            });
        }
        let missing: Vec<String> = lacking.values().map(LackingImage::missing).collect();
        Err(Error::NotFound {
            what: missing.join(" and "),
            place: format!("{}, which left them out, nor in {target}", candidates.place()),
            hint: Some(Hint::from("nothing was sent").and(hint(lacking.values()))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;
    use crate::load::sample::{candidate, stored};

    #[test]
    fn a_layer_that_is_left_out_and_lost_is_not_found() {
        let mut image = candidate(Some("app:1"), &["base", "app"], &["linux/amd64"]);
        image.omitted.layers.insert(stored("base"));
        let candidates = Candidates {
            images: vec![image],
            ..Candidates::default()
        };
        let missing = |layer: &str| Error::refused(Place::blob(stored(layer)), Problem::Missing);
        let kind = |error: Error| candidates.omitted_or(error).kind();
        assert_eq!(kind(missing("base")), ErrorKind::NotFound);
        assert_eq!(kind(missing("app")), ErrorKind::Content);
        let differs = Problem::DiffIdDiffers {
            expected: stored("base"),
            found: stored("app"),
        };
        assert_eq!(
            kind(Error::refused(Place::blob(stored("base")), differs)),
            ErrorKind::Content
        );
        assert_eq!(kind(Error::Interrupted), Error::Interrupted.kind());
    }

    #[test]
    fn a_layer_that_another_namespace_has_is_loaded_there() {
        let id = |namespaces: &[&str]| InventoryId {
            digest: stored("inventory"),
            host: None,
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
        };
        let hint_for = |namespaces: &[&str], here: Option<&str>| {
            let mut image = candidate(Some("app:1"), &["base"], &["linux/amd64"]);
            image.omitted.inventories.push(id(namespaces));
            let lacking = LackingImage {
                name: "app:1".into(),
                layers: Vec::new(),
                platforms: Vec::new(),
                namespace: here.map(String::from),
                others: image.inventories_of_others(here),
            };
            hint(std::iter::once(&lacking)).to_string()
        };
        let save = "save app:1 again, leaving nothing out or only what this host has";
        let left_out = format!(
            "the layers were left out for the inventory {}",
            stored("inventory")
        );
        for (namespaces, here, expected) in [
            (&["k8s.io"][..], None, save.to_string()),
            (&["k8s.io"], Some("k8s.io"), save.into()),
            (&["default", "k8s.io"], Some("k8s.io"), save.into()),
            // That of an older version, which does not say.
            (&[], Some("default"), save.into()),
            (
                &["k8s.io"],
                Some("default"),
                format!(
                    "{left_out} (namespace k8s.io), and this load looked in namespace default; load into namespace \
                     k8s.io; {save}"
                ),
            ),
            (
                &["a", "k8s.io"],
                Some("default"),
                format!(
                    "{left_out} (namespace a, namespace k8s.io), and this load looked in namespace default; {save}"
                ),
            ),
        ] {
            assert_eq!(hint_for(namespaces, here), expected, "{namespaces:?} {here:?}");
        }
    }
}
