//! Loads into layout folders.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::FolderTarget;
use super::folder::Inventory;
use crate::archive::{self, Layout};
use crate::interrupt::Interrupt;
use crate::load::{self, Candidates, LoadOptions, Outcome, Plan, Target};
use crate::progress::Silent;

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
    let inventory = target.probe(&candidates).unwrap();
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
