//! Images of a store and a registry in memory, all the way into archives.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fake::{Form, Image, Notes, Registry, Store, index, reference};
use super::{HeldSource, Options, Rebuild};
use crate::archive::account::Account;
use crate::archive::{self, Content, verify};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::oci::{Digest, Graph, PlatformSelection, Reference};
use crate::progress::Silent;
use crate::save::{self, Output, Summary};
use crate::source::{Several, Source};

const AMD64: &str = "linux/amd64";
const ARM64: &str = "linux/arm64";
/// What most images are named here.
const APP: &str = "quay.io/org/app:1";
const REPOSITORY: &str = "quay.io/org/app";

/// What a test runs on.
struct Scene {
    registry: Option<Arc<Registry>>,
    rebuild: Rebuild,
    platforms: Option<PlatformSelection>,
    notes: Arc<Notes>,
    interrupt: Interrupt,
}

impl Scene {
    fn offline() -> Scene {
        Scene {
            registry: None,
            rebuild: Rebuild::Auto,
            platforms: None,
            notes: Arc::default(),
            interrupt: Interrupt::default(),
        }
    }

    fn with(registry: Registry) -> Scene {
        Scene {
            registry: Some(Arc::new(registry)),
            ..Scene::offline()
        }
    }

    fn rebuild(self, rebuild: Rebuild) -> Scene {
        Scene { rebuild, ..self }
    }

    fn on(self, platforms: &str) -> Scene {
        let platforms = Some(platforms.parse().unwrap());
        Scene { platforms, ..self }
    }

    fn source(&self, holder: impl super::Holder + 'static) -> HeldSource {
        let options = Options {
            rebuild: self.rebuild,
            ..Options::default()
        };
        let registry = self.registry.clone().map(|registry| registry as Arc<dyn Source>);
        let notes = self.notes.clone();
        HeldSource::new(Box::new(holder), registry, options, notes, self.interrupt.clone())
    }

    fn save(&self, source: &dyn Source, names: &[&str], target: &Path) -> Result<Summary> {
        let references: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
        let options = save::Options {
            platforms: self.platforms.clone(),
            pause: Duration::from_millis(1),
            tries: 2,
            ..save::Options::default()
        };
        let output = Output::File(target);
        save::save(source, &references, &options, output, &Silent, &self.interrupt)
    }

    /// Saves images, and verifies the archive.
    fn saved(&self, holder: impl super::Holder + 'static, names: &[&str]) -> Result<Saved> {
        self.saved_from(&self.source(holder), names)
    }

    fn saved_from(&self, source: &dyn Source, names: &[&str]) -> Result<Saved> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.tar");
        let summary = self.save(source, names, &path)?;
        let content = archive::open(&[path.clone()], &archive::Options::default()).unwrap();
        let report = verify::verify(&*content, &verify::Options::default(), &Silent, &self.interrupt)?;
        assert!(report.is_good(), "{:?} {:?}", report.findings, report.unread);
        let bytes = std::fs::read(path).unwrap();
        Ok(Saved {
            summary,
            content,
            bytes,
        })
    }

    fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }
}

/// An archive that was found good.
struct Saved {
    summary: Summary,
    content: Box<dyn Content>,
    bytes: Vec<u8>,
}

impl Saved {
    /// What is said of the images, in their order.
    fn says(&self) -> Vec<String> {
        let images = self.summary.images.iter();
        let say = |image: &save::Saved| {
            let provenance = image.provenance.as_ref().unwrap();
            format!("{}: {provenance}", image.evidence)
        };
        images.map(say).collect()
    }

    /// The digests that they are known by.
    fn digests(&self) -> Vec<Option<Digest>> {
        self.summary.images.iter().map(|image| image.digest).collect()
    }

    fn has(&self, digest: Digest) -> bool {
        self.content.stored(&digest).is_some()
    }

    fn graph(&self, at: usize) -> (Graph, Account) {
        let entry = &self.content.entries()[at];
        let graph = Graph::walk(
            &entry.descriptor,
            &PlatformSelection::Present,
            &mut |descriptor| self.content.metadata(descriptor),
        );
        let graph = graph.unwrap();
        let account = self.content.account(entry, &graph);
        (graph, account)
    }
}

fn app(forms: &[Form]) -> Image {
    Image::odd(AMD64, &numbered(forms))
}

fn numbered(forms: &[Form]) -> Vec<(u32, Form)> {
    (1..).zip(forms.iter().copied()).collect()
}

/// Where everything of one image comes from, and what is said of it.
#[test]
fn each_part_is_taken_from_where_it_is() {
    let pushed = |forms: &[Form]| Image::pushed(AMD64, &numbered(forms));
    let two = || app(&[Form::Push, Form::Crane]);
    let registry = || Registry::default().has_all(REPOSITORY, &two());
    let documents = || Registry::default().has(REPOSITORY, &two().manifest);
    let pull = |image: &Image| Store::default().pull(APP, image);
    let rebuilt = "1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers rebuilt (Go gzip 1)";
    let tried = "(no known encoder gives it (tried Go gzip -1, Go gzip 1, zlib 6, zlib 9))";
    let table = [
        (
            "all of it is in the store",
            pull(&two()).keep(&two()),
            Scene::offline(),
            "verified: manifest from the engine's store, 2 of 2 layers as stored".to_string(),
        ),
        (
            "the store has the manifest",
            pull(&two()).document(&two().manifest),
            Scene::offline(),
            format!("verified: manifest from the engine's store, {rebuilt}"),
        ),
        (
            "the registry has the manifest",
            pull(&two()),
            Scene::with(documents()),
            format!("verified: manifest from the registry, {rebuilt}"),
        ),
        (
            "the registry has it all",
            pull(&two()),
            Scene::with(registry()),
            "verified: manifest from the registry, 2 of 2 layers from the registry".into(),
        ),
        (
            "the registry has one layer",
            pull(&two()),
            Scene::with(documents().has(REPOSITORY, &two().stored[1])),
            "verified: manifest from the registry, 1 of 2 layers from the registry, 1 of 2 layers rebuilt (Go gzip \
             -1)"
                .into(),
        ),
        (
            "nobody has the manifest, and layers have known digests",
            pull(&pushed(&[Form::Push, Form::Crane])).remember(&pushed(&[Form::Push, Form::Crane])),
            Scene::offline(),
            format!("verified: manifest rebuilt (docker push), {rebuilt}"),
        ),
        (
            "nobody has the manifest of what was pushed from here",
            pull(&pushed(&[Form::Push, Form::Push])),
            Scene::offline(),
            "verified: manifest rebuilt (docker push), 2 of 2 layers rebuilt (Go gzip -1)".into(),
        ),
        (
            "a layer of an encoder that is not known",
            pull(&app(&[Form::Push, Form::Odd])).document(&app(&[Form::Push, Form::Odd]).manifest),
            Scene::offline(),
            format!(
                "verified: manifest from the engine's store, 1 of 2 layers rebuilt (Go gzip -1), 1 of 2 layers \
                 uncompressed {tried}"
            ),
        ),
        (
            "a zstd layer",
            pull(&app(&[Form::Zstd])).document(&app(&[Form::Zstd]).manifest),
            Scene::offline(),
            "verified: manifest from the engine's store, 1 of 1 layers uncompressed (zstd layers cannot be packed \
             again)"
                .into(),
        ),
        (
            "a layer that is stored uncompressed",
            pull(&app(&[Form::Plain])).document(&app(&[Form::Plain]).manifest),
            Scene::offline(),
            "verified: manifest from the engine's store, 1 of 1 layers as stored".into(),
        ),
        (
            "nothing is to be rebuilt",
            pull(&two()).document(&two().manifest),
            Scene::offline().rebuild(Rebuild::Never),
            "verified: manifest from the engine's store, 2 of 2 layers uncompressed (rebuilding was switched off)"
                .into(),
        ),
        (
            "nobody has the manifest and nothing is to be rebuilt",
            pull(&pushed(&[Form::Push])),
            Scene::offline().rebuild(Rebuild::Never),
            "recorded: no manifest: neither the store nor a registry has it, and no known tool would have written \
             it so, 1 of 1 layers uncompressed (rebuilding was switched off)"
                .into(),
        ),
        (
            "no layers at all",
            pull(&app(&[])).document(&app(&[]).manifest),
            Scene::offline(),
            "verified: manifest from the engine's store".into(),
        ),
    ];
    for (what, store, scene, expected) in table {
        let saved = scene
            .saved(store, &[APP])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(saved.says(), [expected], "{what}");
        assert_eq!(scene.notes(), [""; 0], "{what}");
        let known = saved.digests()[0].unwrap();
        let (graph, account) = saved.graph(0);
        assert_eq!(account.digest(graph.root.digest), Some(known), "{what}");
        for layer in &graph.images[0].manifest.layers {
            assert!(saved.has(account.layer(layer).digest), "{what}");
        }
    }
}
