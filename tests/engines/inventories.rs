//! Inventories of real engines as documents.

use sealift::archive;
use sealift::docker::inventory::Inventory;
use sealift::interrupt::Interrupt;
use sealift::load::{Candidates, LoadOptions, Plan, Target};
use sealift::progress::Silent;
use sealift::verify;

use crate::loading::{Images, Loader};
use crate::support::{Daemon, Engine, Image, Store};

fn a_plan_can_be_made_from_a_document(engine: Engine, store: Store) {
    let images = Images::new();
    images.add("app:1", &Image::sample("app", "1"));
    let daemon = Daemon::start(engine, store);
    let docker = Loader::beside(&daemon).connect().unwrap();
    let layout = archive::open(&[images.path()], &archive::Options::default()).unwrap();
    let (options, interrupt) = (LoadOptions::default(), Interrupt::default());
    let report = archive::verify(&*layout, &verify::Options::default(), &Silent, &interrupt).unwrap();
    let mut candidates = Candidates::default();
    candidates.add(&*layout, &report).unwrap();
    for is_loaded in [false, true] {
        let inventory = docker.probe(&candidates, &LoadOptions::default()).unwrap();
        let text = serde_json::to_string(&inventory).unwrap();
        let read: Inventory = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.images.len(), usize::from(is_loaded));
        let all = docker.inventory().unwrap();
        // Docker 26's containerd store does not say what is unpacked.
        let is_told = store == Store::Classic || all.details.tells_content;
        assert_eq!(!all.chains.is_empty(), is_loaded && is_told);
        // Blobs are looked for in its content folder, also where its API does not tell of them.
        let has_blobs = is_loaded && store == Store::Containerd;
        let layers = candidates.images[0].image.graph.blobs();
        let layers = layers.iter().filter(|blob| all.has_blob(&blob.digest, blob.size));
        assert_eq!(layers.count() > 2, has_blobs);
        let plan = docker.plan(&candidates, &options, &inventory).unwrap();
        let again = docker.plan(&candidates, &options, &read).unwrap();
        let sent = |plan: &Plan| plan.send.iter().map(|blob| blob.digest).collect::<Vec<_>>();
        assert_eq!((again.to_string(), sent(&again)), (plan.to_string(), sent(&plan)));
        assert_eq!(plan.send.is_empty(), is_loaded);
        docker.apply(&candidates, &plan, &Silent, &interrupt).unwrap();
    }
}

on_every_engine!(a_plan_can_be_made_from_a_document);
