//! The setup of a test: how images are requested, and the result in a verified archive.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fake::{Form, Image, Notes, Registry, reference};
use crate::archive::{self, Layout};
use crate::error::Result;
use crate::image::Graph;
use crate::image::provenance::Provenance;
use crate::interrupt::Interrupt;
use crate::oci::{Digest, PlatformSelection, Reference};
use crate::progress::Silent;
use crate::recover::{LocalStore, Options, Rebuild, RecoverSource};
use crate::retry::Retry;
use crate::save::{self, Output, Summary};
use crate::source::{Answer, Source};
use crate::verify;

pub const AMD64: &str = "linux/amd64";
pub const ARM64: &str = "linux/arm64";
/// The name of most images here.
pub const APP: &str = "quay.io/org/app:1";
pub const REPOSITORY: &str = "quay.io/org/app";

/// The setup of a test.
pub struct Setup {
    pub registry: Option<Arc<Registry>>,
    pub rebuild: Rebuild,
    pub platforms: Option<PlatformSelection>,
    pub notes: Arc<Notes>,
    pub interrupt: Interrupt,
}

impl Setup {
    pub fn offline() -> Setup {
        Setup {
            registry: None,
            rebuild: Rebuild::Auto,
            platforms: None,
            notes: Arc::default(),
            interrupt: Interrupt::default(),
        }
    }

    pub fn with(registry: Registry) -> Setup {
        Setup {
            registry: Some(Arc::new(registry)),
            ..Setup::offline()
        }
    }

    pub fn rebuild(self, rebuild: Rebuild) -> Setup {
        Setup { rebuild, ..self }
    }

    pub fn on(self, platforms: &str) -> Setup {
        let platforms = Some(platforms.parse().unwrap());
        Setup { platforms, ..self }
    }

    pub fn source(&self, store: impl LocalStore + 'static) -> RecoverSource {
        let options = Options {
            rebuild: self.rebuild,
            ..Options::default()
        };
        let registry = self.registry.clone().map(|registry| registry as Arc<dyn Source>);
        let notes = self.notes.clone();
        RecoverSource::new(Box::new(store), registry, options, notes, self.interrupt.clone())
    }

    pub fn save(&self, source: &dyn Source, names: &[&str], target: &Path) -> Result<Summary> {
        let references: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
        let options = save::Options {
            platforms: self.platforms.clone(),
            retry: Retry::starting_with(Duration::from_millis(1)).at_most(2),
            ..save::Options::default()
        };
        let output = Output::File(target);
        save::save(source, &references, &options, output, &Silent, &self.interrupt)
    }

    /// Saves images, and verifies the archive.
    pub fn saved(&self, store: impl LocalStore + 'static, names: &[&str]) -> Result<Saved> {
        self.saved_from(&self.source(store), names)
    }

    pub fn saved_from(&self, source: &dyn Source, names: &[&str]) -> Result<Saved> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        let summary = self.save(source, names, &path)?;
        let layout = archive::open(std::slice::from_ref(&path), &archive::Options::default()).unwrap();
        let report = archive::verify(&*layout, &verify::Options::default(), &Silent, &self.interrupt)?;
        assert!(report.is_good(), "{:?} {:?}", report.findings, report.unread);
        let bytes = std::fs::read(path).unwrap();
        Ok(Saved {
            summary,
            layout,
            bytes,
        })
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }
}

/// An archive without errors.
pub struct Saved {
    pub summary: Summary,
    pub layout: Box<dyn Layout>,
    pub bytes: Vec<u8>,
}

impl Saved {
    /// The report of each image, in order.
    pub fn says(&self) -> Vec<String> {
        let images = self.summary.images.iter();
        let say = |image: &save::Saved| {
            let origins = image.origins.as_ref().unwrap();
            format!("{}: {origins}", image.evidence)
        };
        images.map(say).collect()
    }

    /// The digests of the images.
    pub fn digests(&self) -> Vec<Option<Digest>> {
        self.summary.images.iter().map(|image| image.digest).collect()
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.layout.stored(&digest).is_some()
    }

    pub fn graph(&self, at: usize) -> (Graph, Provenance) {
        let entry = &self.layout.entries()[at];
        let graph = Graph::walk(
            &entry.descriptor,
            &PlatformSelection::Present,
            &mut |descriptor| self.layout.metadata(descriptor),
        );
        let graph = graph.unwrap();
        let provenance = self.layout.provenance(entry, &graph);
        (graph, provenance)
    }
}

/// What a source answers for one image.
pub fn found<'s>(source: &'s dyn Source, name: &str, platforms: Option<&PlatformSelection>) -> Answer<'s> {
    source.find_one(&reference(name), platforms)
}

pub fn app(forms: &[Form]) -> Image {
    Image::unknown_encoder(AMD64, &numbered(forms))
}

pub fn numbered(forms: &[Form]) -> Vec<(u32, Form)> {
    (1..).zip(forms.iter().copied()).collect()
}
