//! Archives of `docker save`, whole.

use std::io::Write as _;

use super::fake::{Form, Image, Registry, reference};
use crate::archive::{self, Opened};
use crate::error::ErrorKind;
use crate::oci::Digest;
use crate::recover::DockerSaveStore;
use crate::recover::tests::setup::{AMD64, Setup};
use crate::source::{Answer, Query, Source};

/// An archive of images with their names, as `docker save` writes it; with stored layers, like crane's.
fn archive(images: &[(&Image, &[&str])], is_stored: bool) -> DockerSaveStore {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(super::fake::size(bytes));
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let mut manifest = Vec::new();
    let mut known = Vec::new();
    for (image, names) in images {
        let layers = if is_stored { &image.stored } else { &image.tars };
        let paths: Vec<String> = layers
            .iter()
            .map(|layer| format!("{}.tar", Digest::sha256(layer).hex()))
            .collect();
        let config = format!("{}.json", image.id().hex());
        for (path, bytes) in paths.iter().zip(layers).chain([(&config, &image.config)]) {
            if !known.contains(path) {
                put(path, bytes);
                known.push(path.clone());
            }
        }
        manifest.push(serde_json::json!({"Config": config, "RepoTags": names, "Layers": paths}));
    }
    put(
        "manifest.json",
        serde_json::Value::from(manifest).to_string().as_bytes(),
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&tar.into_inner().unwrap()).unwrap();
    let options = archive::Options::default();
    let opened = archive::open_any(&[file.path().to_path_buf()], &options).unwrap();
    let Opened::DockerSave(save) = opened else {
        panic!("taken for a layout");
    };
    DockerSaveStore::new(save).unwrap()
}

fn image(seed: u32, form: Form) -> Image {
    Image::pushed(AMD64, &[(seed, form)])
}

#[test]
fn what_an_archive_proves() {
    let (pushed, crane, unknown) = (
        image(1, Form::Push),
        image(2, Form::Crane),
        image(3, Form::UnknownEncoder),
    );
    let none = "none: no manifest: archives of docker save and of podman's docker formats have none; to have it \
                looked for, request the image as NAME@sha256:...";
    let by = |image: &Image, name: &str| format!("{name}@{}", image.digest());
    let table = [
        (
            "by its name",
            &pushed,
            false,
            "app:1".to_string(),
            none.to_string(),
        ),
        (
            "by the digest of what was pushed from here",
            &pushed,
            false,
            by(&pushed, "app"),
            "verified: manifest rebuilt (docker push), 1 of 1 layers rebuilt (Go gzip -1)".into(),
        ),
        (
            "by name and digest",
            &pushed,
            false,
            by(&pushed, "app:1"),
            "verified: manifest rebuilt (docker push), 1 of 1 layers rebuilt (Go gzip -1)".into(),
        ),
        (
            "with stored layers, which are used as they are",
            &unknown,
            true,
            by(&unknown, "app"),
            "verified: manifest rebuilt (docker push), 1 of 1 layers as stored".into(),
        ),
        (
            "with stored layers, by its name",
            &crane,
            true,
            "app:1".into(),
            format!("{none}, 1 of 1 layers as stored"),
        ),
    ];
    for (what, image, is_stored, name, expected) in table {
        let archive = archive(&[(image, &["app:1"])], is_stored);
        let saved = Setup::offline()
            .saved(archive, &[&name])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(saved.says(), [expected], "{what}");
        let is_packed = is_stored || saved.digests()[0].is_some();
        let layer = if is_packed {
            image.layers[0].digest
        } else {
            image.diff_id(0)
        };
        assert!(saved.has(layer), "{what}");
    }
    // The registry proves it as well.
    let registry = Registry::default().has(
        "app",
        &Image::unknown_encoder(AMD64, &[(3, Form::UnknownEncoder)]).manifest,
    );
    let digest = by(
        &Image::unknown_encoder(AMD64, &[(3, Form::UnknownEncoder)]),
        "app",
    );
    let saved = Setup::with(registry)
        .saved(archive(&[(&unknown, &["app:1"])], true), &[&digest])
        .unwrap();
    assert_eq!(
        saved.says(),
        ["verified: manifest from the registry, 1 of 1 layers as stored"]
    );
}

#[test]
fn a_digest_that_only_the_user_names_is_not_claimed() {
    let (unknown, other) = (image(1, Form::UnknownEncoder), image(2, Form::Push));
    for (names, asked) in [
        (&["app:1"][..], format!("app:1@{}", other.digest())),
        (&["app:1"], format!("app@{}", unknown.digest())),
        (&[], format!("anything@{}", other.digest())),
    ] {
        let setup = Setup::offline();
        let error = setup
            .saved(archive(&[(&unknown, names)], false), &[&asked])
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.to_string().starts_with(&format!("{asked} not found in ")),
            "{error}"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
                .contains("nothing that proves this digest"),
            "{error:?}"
        );
    }
}

#[test]
fn which_image_a_name_means() {
    let (first, second) = (image(1, Form::Push), image(2, Form::Push));
    let found = |images: &[(&Image, &[&str])], asked: &[&str]| {
        let source = Setup::offline().source(archive(images, false));
        let references: Vec<_> = asked.iter().map(|name| reference(name)).collect();
        let found = source.find(&Query::new(&references, None)).unwrap();
        let root = |found: Answer<'_>| {
            let root = found.ok()?.root;
            let raw = source.metadata(reference("app").repository(), &root).unwrap();
            let text = String::from_utf8(raw).unwrap();
            [&first, &second]
                .iter()
                .position(|image| text.contains(&image.id().to_string()))
        };
        found.into_iter().map(root).collect::<Vec<_>>()
    };
    let two: [(&Image, &[&str]); 2] = [(&first, &["app:1"]), (&second, &["app:2", "other:2"])];
    assert_eq!(
        found(&two, &["app:1", "app:2", "other:2", "app:3", "nginx"]),
        [Some(0), Some(1), Some(1), None, None]
    );
    // By digest alone, only the digest decides, or there is only one image with that name.
    assert_eq!(found(&two, &[&format!("other@{}", second.digest())]), [Some(1)]);
    assert_eq!(found(&two, &[&format!("app@{}", second.digest())]), [None]);
    // An image without a name gets the requested one, but not two.
    let unnamed: [(&Image, &[&str]); 1] = [(&first, &[])];
    assert_eq!(found(&unnamed, &["app:1"]), [Some(0)]);
    assert_eq!(found(&unnamed, &["app:1", "nginx:1"]), [None, None]);
    let digest = format!("app@{}", first.digest());
    assert_eq!(found(&unnamed, &[&digest, "nginx:1"]), [Some(0), None]);
}
