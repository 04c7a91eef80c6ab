//! Loads into layout folders.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::FolderTarget;
use super::folder::Inventory;
use crate::archive::{self, Layout};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::load::{self, AnyTarget, Candidates, LoadOptions, Outcome, Plan, Report, Target};
use crate::progress::{Progress, Silent};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/layout");

/// The sample image in a folder, named so in its `index.json`.
fn named(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Path::new("blobs/sha256");
    fs::create_dir_all(folder.path().join(blobs)).unwrap();
    for file in fs::read_dir(Path::new(SAMPLE).join(blobs)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(blobs).join(file.file_name())).unwrap();
    }
    let copy = |file: &str| fs::read_to_string(Path::new(SAMPLE).join(file)).unwrap();
    fs::write(folder.path().join("oci-layout"), copy("oci-layout")).unwrap();
    let index = copy("index.json").replace("example.com/hello:1", name);
    fs::write(folder.path().join("index.json"), index).unwrap();
    folder
}

fn open(path: &Path) -> Vec<Box<dyn Layout>> {
    vec![archive::open(&[path.into()], &archive::Options::default()).unwrap()]
}

fn load_into(target: &FolderTarget, archives: &[Box<dyn Layout>], options: &LoadOptions) -> Outcome {
    load::load(target, archives, options, &mut (), &Silent, &Interrupt::default()).unwrap()
}

/// The plan for a target, which must be the same from an inventory that was written and read back.
fn planned(target: &FolderTarget, archives: &[Box<dyn Layout>]) -> (Plan, Inventory) {
    let mut candidates = Candidates::default();
    for archive in archives {
        let (options, interrupt) = (crate::verify::Options::default(), Interrupt::default());
        let report = archive::verify(archive.as_ref(), &options, &Silent, &interrupt).unwrap();
        candidates.add(archive.as_ref(), &report).unwrap();
    }
    let inventory = target.probe(&candidates, &LoadOptions::default()).unwrap();
    let text = serde_json::to_string(&inventory).unwrap();
    let read: Inventory = serde_json::from_str(&text).unwrap();
    assert_eq!(read, inventory);
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let options = LoadOptions::default();
    let plan = target.plan(&candidates, &options, &inventory).unwrap();
    let again = target.plan(&candidates, &options, &read).unwrap();
    assert_eq!(format!("{again:?}"), format!("{plan:?}"));
    (plan, inventory)
}

fn index_of(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap()
}

#[test]
fn a_plan_can_be_made_from_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let target = FolderTarget::new(folder.path().join("layout"));
    let archives = open(Path::new(SAMPLE));
    let (plan, empty) = planned(&target, &archives);
    assert_eq!(
        (plan.send.len(), empty.images.len(), empty.blobs.len()),
        (3, 0, 0)
    );
    load_into(&target, &archives, &LoadOptions::default());
    let (plan, full) = planned(&target, &archives);
    assert!(plan.send.is_empty() && plan.images[0].present);
    assert_eq!(full.images[0].tags, ["example.com/hello:1"]);
    assert_eq!(full.blobs.len(), 3);
    // Another image under the name.
    let other = named("example.com/hello:2");
    load_into(&target, &open(other.path()), &LoadOptions::default());
    let (_, both) = planned(&target, &archives);
    assert_eq!(
        both.images[0].tags,
        ["example.com/hello:1", "example.com/hello:2"]
    );
}

#[test]
fn a_tag_alone_stays_the_name_in_the_layout() {
    let tagged = named("2.4");
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let target = FolderTarget::new(&layout);
    let name = |at: usize| {
        let index = index_of(&layout);
        let annotations = &index["manifests"][at]["annotations"];
        assert_eq!(annotations.as_object().unwrap().len(), 1, "{annotations}");
        annotations["org.opencontainers.image.ref.name"].clone()
    };
    load_into(&target, &open(tagged.path()), &LoadOptions::default());
    assert_eq!(name(0), "2.4");
    let before = fs::read(layout.join("index.json")).unwrap();
    let (plan, _) = planned(&target, &open(tagged.path()));
    assert_eq!(plan.images[0].change, load::Change::Unchanged);
    load_into(&target, &open(tagged.path()), &LoadOptions::default());
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), before);
    // The image specification gives one image several tags.
    load_into(&target, &open(named("2").path()), &LoadOptions::default());
    assert_eq!([name(0), name(1)], ["2.4", "2"]);
    let options = LoadOptions {
        renames: vec!["sha256:2a7a=web:1".parse().unwrap()],
        ..LoadOptions::default()
    };
    let renamed = FolderTarget::new(folder.path().join("renamed"));
    load_into(&renamed, &open(tagged.path()), &options);
    let index = index_of(&folder.path().join("renamed"));
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "docker.io/library/web:1");
}

/// Loads the sample into several targets.
fn load_each(targets: &[&dyn AnyTarget], options: &LoadOptions) -> Result<Vec<Result<Outcome>>> {
    let archives = open(Path::new(SAMPLE));
    load::load_each(
        targets,
        &archives,
        options,
        &mut (),
        &Silent,
        &Interrupt::default(),
    )
}

/// A target whose plan is that of a layout, and which fails to execute it.
struct Failing(FolderTarget, Error);

impl AnyTarget for Failing {
    fn prepare(&self, candidates: &Candidates<'_>, options: &LoadOptions) -> Result<Plan> {
        self.0.prepare(candidates, options)
    }

    fn execute(&self, _: &Candidates<'_>, _: &Plan, _: &dyn Progress, _: &Interrupt) -> Result<Report> {
        Err(self.1.clone())
    }
}

#[test]
fn several_targets_are_loaded_into_and_each_has_its_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let target = |name: &str| FolderTarget::new(folder.path().join(name));
    let (one, other) = (target("one"), target("other"));
    let dry_run = LoadOptions {
        dry_run: true,
        ..LoadOptions::default()
    };
    let planned = load_each(&[&one, &other], &dry_run).unwrap();
    assert!(
        planned
            .iter()
            .all(|outcome| matches!(outcome, Ok(Outcome::Planned(plan)) if plan.images.len() == 1))
    );
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());

    let refusal = Error::Engine {
        engine: "an engine".into(),
        action: "load".into(),
        problem: "it stopped".into(),
        hint: None,
    };
    let failing = Failing(target("failing"), refusal);
    let outcomes = load_each(&[&one, &failing, &other], &LoadOptions::default()).unwrap();
    let [Ok(Outcome::Loaded(first)), Err(error), Ok(Outcome::Loaded(last))] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!((first.images.len(), last.images.len()), (1, 1));
    assert_eq!(error.to_string(), "an engine: load: it stopped");
    assert_eq!(
        index_of(&folder.path().join("one")),
        index_of(&folder.path().join("other"))
    );

    let interrupted = Failing(target("interrupted"), Error::Interrupted);
    let outcomes = load_each(&[&one, &interrupted, &target("late")], &LoadOptions::default()).unwrap();
    assert!(matches!(outcomes.as_slice(), [Ok(_), Err(Error::Interrupted)]));
    assert!(!folder.path().join("late").exists());
}

#[test]
fn nothing_is_sent_before_there_is_a_plan_for_each_target() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let target = |name: &str| FolderTarget::new(folder.path().join(name));
    let (good, bad, worse) = (target("good"), target("file"), target("none/x"));
    let error = load_each(&[&good, &bad, &worse], &LoadOptions::default()).unwrap_err();
    assert_eq!(error.each().len(), 2, "{error}");
    assert!(!folder.path().join("good").exists());
    // What is wrong with the request is reported once.
    let options = LoadOptions {
        images: vec!["none".into()],
        ..LoadOptions::default()
    };
    let error = load_each(&[&good, &target("other")], &options).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A target that starts while the archives are still being verified, and waits for that before it names anything.
struct Early {
    folder: FolderTarget,
    /// Whether it leaves the verification waiting for layers.
    delegates: bool,
    /// What it meets before it waits.
    error: Option<Error>,
}

impl AnyTarget for Early {
    fn prepare(&self, candidates: &Candidates<'_>, options: &LoadOptions) -> Result<Plan> {
        self.folder.prepare(candidates, options)
    }

    fn execute(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        if self.delegates {
            let images = candidates.images.iter();
            let images = images.flat_map(|candidate| &candidate.image.graph.images);
            let layers = images.flat_map(|image| &image.manifest.layers);
            candidates.verify_all_but(layers.map(|layer| layer.digest).collect());
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        candidates.wait_until_verified(interrupt)?;
        candidates.check()?;
        self.folder.execute(candidates, plan, progress, interrupt)
    }

    fn early_work(&self) -> load::Early {
        load::Early::Sends
    }
}

/// Counts the findings of refused archives.
#[derive(Default)]
struct Refusals(usize);

impl load::Observer for Refusals {
    fn damaged(&mut self, report: &crate::verify::Report, is_refused: bool) {
        assert!(is_refused);
        self.0 += report.findings.len();
    }
}

#[test]
fn a_target_that_starts_early_names_nothing_of_a_damaged_archive() {
    let folder = tempfile::tempdir().unwrap();
    let sample = |spoil: bool| {
        let sample = named("example.com/hello:1");
        for blob in fs::read_dir(sample.path().join("blobs/sha256")).unwrap() {
            let path = blob.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            // The layer is the only blob that is not JSON.
            if spoil && bytes[0] != b'{' {
                bytes[20] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        sample
    };
    let refusal = || Error::Engine {
        engine: "an engine".into(),
        action: "unpack".into(),
        problem: "invalid header".into(),
        hint: None,
    };
    let cases = [
        ("good", false, None, None),
        ("bad", true, None, Some(ErrorKind::Content)),
        // What the target met is a consequence of the damage.
        ("refused", true, Some(refusal()), Some(ErrorKind::Content)),
        ("failed", false, Some(refusal()), Some(ErrorKind::Engine)),
        (
            "stopped",
            false,
            Some(Error::Interrupted),
            Some(ErrorKind::Interrupted),
        ),
    ];
    let cases = [false, true].map(|delegates| cases.clone().map(|case| (delegates, case)));
    for (delegates, (name, spoil, error, expected)) in cases.into_iter().flatten() {
        let sample = sample(spoil);
        let archives = open(sample.path());
        let place = folder.path().join(format!("{name}-{delegates}"));
        let target = Early {
            folder: FolderTarget::new(&place),
            delegates,
            error,
        };
        let (options, interrupt) = (LoadOptions::default(), Interrupt::default());
        let mut refusals = Refusals::default();
        let loaded = load::load_each(
            &[&target],
            &archives,
            &options,
            &mut refusals,
            &Silent,
            &interrupt,
        );
        let loaded = loaded.and_then(|mut outcomes| outcomes.pop().unwrap());
        assert_eq!(loaded.err().map(|error| error.kind()), expected, "{name}");
        assert_eq!(place.exists(), expected.is_none(), "{name}");
        assert_eq!(refusals.0 > 0, spoil, "{name}");
    }
}
