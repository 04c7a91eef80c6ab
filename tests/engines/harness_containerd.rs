//! The harness for containerd: what a pull of the kubelet leaves is what loads are compared with.

use std::collections::BTreeSet;

use crate::containerd::twin::Origin;
use crate::containerd::{Contents, Cri, NAMESPACE, collect_garbage};
use crate::support::containerd::{PAUSE, Version};
use crate::support::{Containerd, Image};

const NAME: &str = "docker.io/library/app";

/// The names of image records after a pull by a tag, by a digest, and by both.
fn a_pull_leaves_three_records(version: Version) {
    let origin = Origin::new();
    let image = origin.push(&format!("{NAME}:1"), &Image::sample("app", "1"));
    let containerd = Containerd::start(version);
    containerd.pull_from(&origin.registry);
    let cri = Cri::of(&containerd);
    assert!(
        containerd
            .ctr(NAMESPACE, &["version"])
            .ok()
            .stdout
            .contains(version.text())
    );
    let (tag, by_digest) = (format!("{NAME}:1"), format!("{NAME}@{}", image.digest));
    let id = image.host().config.clone();
    for reference in [
        tag.clone(),
        by_digest.clone(),
        format!("{NAME}:1@{}", image.digest),
    ] {
        assert_eq!(cri.pull(&reference).unwrap(), id);
        let contents = Contents::of(&containerd, NAMESPACE);
        let names: BTreeSet<&str> = contents.images.keys().map(String::as_str).collect();
        let mut expected = BTreeSet::from([by_digest.as_str(), id.as_str()]);
        if reference == tag {
            expected.insert(&tag);
        }
        assert_eq!(names, expected, "{reference}");
        for (name, record) in &contents.images {
            assert_eq!(record.digest, image.digest, "{name}");
            assert_eq!(record.labels["io.cri-containerd.image"], "managed", "{name}");
            assert!(record.annotations.is_empty(), "{name}");
        }
        let host = image.host();
        let mut blobs: BTreeSet<&str> = host.layers.iter().map(|layer| layer.digest.as_str()).collect();
        blobs.extend([&image.digest, &host.digest, &host.config].map(String::as_str));
        assert_eq!(
            contents
                .content
                .keys()
                .map(String::as_str)
                .collect::<BTreeSet<_>>(),
            blobs
        );
        assert_eq!(contents.snapshots.len(), host.layers.len());
        assert!(
            contents.leases.is_empty() && contents.ingests.is_empty(),
            "{contents:?}"
        );
        let listed = cri.images();
        assert_eq!(listed.len(), 1, "{listed:#?}");
        assert_eq!(listed[0]["repo_digests"][0], by_digest.as_str());
        assert_eq!(
            cri.image(&id).unwrap()["info"]["info"]["imageSpec"]["architecture"],
            host.platform.architecture.as_str()
        );

        collect_garbage(&containerd, NAMESPACE);
        Contents::of(&containerd, NAMESPACE).assert_same(&contents, &reference);
        cri.remove(&id);
        collect_garbage(&containerd, NAMESPACE);
        let left = Contents::of(&containerd, NAMESPACE);
        assert!(
            left.images.is_empty() && left.content.is_empty() && left.snapshots.is_empty(),
            "{left:?}"
        );
    }
}

on_every_containerd!(a_pull_leaves_three_records);

/// A container starts after the registry is gone and containerd has been killed, and nothing of it is left.
fn a_container_starts(version: Version) {
    let mut origin = Origin::new();
    origin.push_pause();
    let image = origin.push(&format!("{NAME}:1"), &Image::sample("app", "1"));
    let mut containerd = origin.pulled(version, &[PAUSE, &format!("{NAME}:1")]);
    origin.registry.stop();
    containerd.kill();
    containerd.start_again();
    let cri = Cri::of(&containerd);
    for name in [format!("{NAME}:1"), format!("{NAME}@{}", image.digest)] {
        let said = cri.run(&name, &["/bin/busybox", "cat", "/app/version"]).unwrap();
        assert_eq!(said, "1", "{name}");
    }
    let failed = cri.run(&format!("{NAME}:2"), &["/bin/true"]).unwrap_err();
    assert!(failed.message().contains("not found"), "{failed}");
    let folder = containerd.folder().to_path_buf();
    drop(containerd);
    assert!(!folder.exists());
}

on_every_containerd!(a_container_starts);
