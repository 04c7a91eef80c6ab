//! What podman has: its version, its storage, and its images.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::answers::{Inspected, PodmanImage};
use super::policy::Policy;
use super::{Podman, layers, space, staging};
use crate::error::Result;
use crate::load::{self, Candidates, KnownImage, LayerForms, Obstacle, Space, chains};
use crate::oci::{Digest, Platform, Reference};

/// Most images that one podman is asked about: a command line has a limit.
const AT_ONCE: usize = 500;

/// What podman has.
pub type Inventory = load::Inventory<Details>;

/// The part of an inventory that only podman has.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// The command that runs it with this storage, as a shell takes it.
    pub command: String,
    /// Its storage driver.
    pub driver: String,
    /// The folder with its images.
    pub root: PathBuf,
    /// The folder with its state while the host runs.
    pub runroot: PathBuf,
    /// Whether it runs without root.
    pub is_rootless: bool,
    /// Free space for images, if that is known.
    pub space: Option<Space>,
    /// Free space for the compressed layers of a pull, if that is known.
    pub temporary: Option<Space>,
    /// Whether both are on one file system.
    pub is_temporary_shared: bool,
    /// Why sealift cannot serve images to it, if it cannot.
    pub unserved: Option<Obstacle>,
    /// Prefixes of names for which a drop-in file of registries.conf has an entry.
    pub redirected: Vec<String>,
    /// What policy.json lets it pull.
    pub policy: Policy,
    /// What it shows of each image besides names, by the ids.
    pub shown: BTreeMap<String, Shown>,
}

/// What podman shows of an image besides its names with tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// What the column DIGEST shows.
    pub digest: Option<Digest>,
    /// Its names with a digest: those that a pull by digest left.
    pub pinned: Vec<String>,
    /// The number of containers made of it.
    pub containers: u64,
}

impl Podman {
    /// Everything that podman has.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Engine`].
    pub fn inventory(&self) -> Result<Inventory> {
        self.examine(None)
    }

    /// Asks about the wanted images, and if one is missing about the layers of all others; without any, about
    /// everything.
    pub(super) fn examine(&self, wanted: Option<&Candidates<'_>>) -> Result<Inventory> {
        let listed = self.images()?;
        let mut images = Vec::new();
        let mut shown = BTreeMap::new();
        for one in listed {
            let (known, other) = known(one);
            shown.insert(known.id.clone(), other);
            images.push(known);
        }
        self.look_at_layers(&mut images, wanted)?;
        let store = &self.info.store;
        let own = self.info.platform();
        let temporary = store.image_copy_tmp_dir.as_deref();
        let details = Details {
            command: self.program.command_line(),
            driver: store.graph_driver_name.clone(),
            root: store.graph_root.clone(),
            runroot: store.run_root.clone(),
            is_rootless: self.info.host.security.rootless,
            space: Space::of(&store.graph_root),
            temporary: temporary.and_then(Space::of),
            is_temporary_shared: temporary.is_some_and(|path| space::is_shared(path, &store.graph_root)),
            unserved: staging::obstacle(),
            redirected: self.info.redirected(),
            policy: Policy::of_process(),
            shown,
        };
        let inventory = Inventory {
            version: Some(self.info.version.version.clone()),
            platforms: accepted_platforms(&own),
            platform: Some(own),
            accepts: LayerForms {
                uncompressed: false,
                zstd: true,
            },
            blobs: layers::blobs(&store.graph_root, &store.graph_driver_name),
            chains: chains(images.iter()),
            // Those of a `podman load` are requested again: podman does not know them by these digests.
            unpacked_suffices: false,
            images,
            ..Inventory::new(
                format!("{} with {}", self.engine, store.graph_root.display()),
                details,
            )
        };
        Ok(inventory.sorted())
    }

    /// Its images. podman lists one with several names several times.
    pub(super) fn images(&self) -> Result<Vec<PodmanImage>> {
        let mut images: Vec<PodmanImage> = self.program.ask(&["images", "--all", "--format", "json"])?;
        let mut seen = HashSet::new();
        images.retain(|image| seen.insert(image.id.clone()));
        Ok(images)
    }

    fn look_at_layers(&self, images: &mut [KnownImage], wanted: Option<&Candidates<'_>>) -> Result<()> {
        let Some(wanted) = wanted else {
            return self.inspect(images, |_| true);
        };
        let candidates = wanted.images.iter();
        let all = candidates.flat_map(|candidate| candidate.image.graph.runnable());
        let ids: HashSet<String> = all.map(|image| image.id().to_string()).collect();
        self.inspect(images, |known| ids.contains(&known.id))?;
        let has = |id: Digest| {
            let id = id.to_string();
            images.iter().any(|known| known.id == id)
        };
        let is_there = wanted
            .images
            .iter()
            .all(|candidate| candidate.image.graph.runnable().any(|image| has(image.id())));
        match is_there {
            true => Ok(()),
            false => self.inspect(images, |known| !ids.contains(&known.id)),
        }
    }

    /// Asks for the layers of some images.
    fn inspect(&self, images: &mut [KnownImage], is_wanted: impl Fn(&KnownImage) -> bool) -> Result<()> {
        let hex = |known: &KnownImage| known.id.trim_start_matches("sha256:").to_string();
        let ids: Vec<String> = images.iter().filter(|known| is_wanted(known)).map(hex).collect();
        for ids in ids.chunks(AT_ONCE) {
            let mut args = vec!["image", "inspect", "--format", "json"];
            args.extend(ids.iter().map(String::as_str));
            let inspected: Vec<Inspected> = self.program.ask(&args)?;
            for one in inspected {
                let id = format!("sha256:{}", one.id);
                let layers = one.root_fs.map(|root_fs| root_fs.layers).unwrap_or_default();
                if let Some(known) = images.iter_mut().find(|known| known.id == id) {
                    known.diff_ids = layers;
                }
            }
        }
        Ok(())
    }
}

/// An image as podman lists it.
fn known(listed: PodmanImage) -> (KnownImage, Shown) {
    let has_digest = |name: &String| name.contains('@');
    let (pinned, tags): (Vec<String>, Vec<String>) = listed.names.iter().cloned().partition(has_digest);
    let shown = Shown {
        digest: listed.shown(),
        pinned,
        containers: u64::try_from(listed.containers).unwrap_or_default(),
    };
    let known = KnownImage {
        tags,
        digests: listed.repo_digests,
        ..KnownImage::new(format!("sha256:{}", listed.id))
    };
    (known, shown)
}

/// The platforms that podman takes from an index, the best first.
///
/// Source: containers/image, `internal/pkg/platform/platform_matcher.go`.
fn accepted_platforms(own: &Platform) -> Vec<Platform> {
    let mut accepted = vec![own.clone()];
    if own.architecture == "arm" {
        let variant = own.variant.as_deref().unwrap_or("v7");
        let version = variant.trim_start_matches('v').parse().unwrap_or(7);
        accepted.extend((5..version).rev().map(|version: u8| Platform {
            os: own.os.clone(),
            ..Platform::linux("arm", Some(&format!("v{version}")))
        }));
    }
    accepted
}

/// Whether a list of podman's names has this one.
pub(super) fn has_name(names: &[String], wanted: &Reference) -> bool {
    names.contains(&wanted.full())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm_takes_lower_versions_too() {
        let accepted = |own: &str| {
            let accepted = accepted_platforms(&own.parse().unwrap());
            accepted
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(accepted("linux/amd64"), "linux/amd64");
        assert_eq!(accepted("linux/arm64"), "linux/arm64");
        assert_eq!(accepted("linux/arm/v7"), "linux/arm/v7 linux/arm/v6 linux/arm/v5");
    }
}
