//! `repair IMAGE` through the API of a real registry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Registry, Run, Sealift, Transcript, assert_documented, registry, run};
use crate::{DAMAGES, Setup};

/// The registries: with and without `delete`, and with its cache.
fn registries() -> [registry::Options; 3] {
    let options = Registry::options;
    [options(), options().no_delete(), options().cache()]
}

/// Saves `app:1` into `images.tar`, as an administrator did in better times.
fn save(setup: &Setup, sealift: &Sealift) -> String {
    let image = format!("{}/app:1", setup.registry.address());
    let line = ["save", "-q", "--platform", "all", "-o", "images.tar", &image];
    sealift.run(&line).ok();
    image
}

#[track_caller]
fn repair(sealift: &Sealift, image: &str, more: &[&str]) -> Run {
    let line = ["repair", "--json", image, "--from", "images.tar", "--tries", "1"];
    sealift.run(&[&line, more].concat())
}

/// Digests and results of the blobs.
fn results(run: &Run) -> Vec<(String, String)> {
    let document = run.json();
    assert_documented(&document);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let blobs = document["repair"]["blobs"].as_array().unwrap();
    blobs
        .iter()
        .map(|blob| (text(&blob["digest"]), text(&blob["result"])))
        .collect()
}

/// The methods of requests that write.
fn writes(registry: &Registry) -> Vec<String> {
    let requests = registry.requests().into_iter().map(|request| request.method);
    requests
        .filter(|method| !matches!(method.as_str(), "GET" | "HEAD"))
        .collect()
}

#[test]
fn missing_blobs_are_uploaded() {
    for options in registries() {
        let mut setup = Setup::on(options.start());
        let sealift = Sealift::new();
        let image = save(&setup, &sealift);
        let host = setup.app.host();
        let lost = [&host.layers[1].digest, &host.config];
        let paths = lost.map(|blob| setup.registry.blob_path(blob));
        let right = paths.clone().map(|path| fs::read(path).unwrap());
        for path in &paths {
            fs::remove_file(path).unwrap();
        }
        setup.registry.forget_requests();
        let planned = repair(&sealift, &image, &["--dry-run"]).ok();
        assert_eq!(writes(&setup.registry), [""; 0]);
        let mut expected = lost.map(|blob| (blob.clone(), "available".to_owned()));
        expected.sort();
        assert_eq!(results(&planned), expected);

        let mended = repair(&sealift, &image, &[]).ok();
        let expected = expected.map(|(blob, _)| (blob, "mended".to_owned()));
        assert_eq!(results(&mended), expected);
        let document = mended.json();
        assert_eq!(document["repair"]["whole"][0]["tag"], "1");
        assert_eq!(document["repair"]["good"], true);
        for (path, right) in paths.iter().zip(right) {
            assert!(fs::read(path).unwrap() == right, "{path:?}");
        }
        assert!(!writes(&setup.registry).contains(&"DELETE".into()));
        // skopeo fetches every blob, and verifies it.
        let folder = tempfile::tempdir().unwrap();
        let mut skopeo = setup.registry.skopeo("copy", "--src-");
        skopeo.arg("--all").arg(format!("docker://{image}"));
        run(skopeo.arg(format!("dir:{}", folder.path().display()))).ok();
        assert_eq!(setup.registry.digest_of("app:1"), setup.app.digest);
    }
}

#[test]
fn what_the_registry_keeps_is_told_and_its_state_is_as_before() {
    for (options, damages) in registries()
        .into_iter()
        .zip([&DAMAGES[..], &DAMAGES[..1], &DAMAGES[..1]])
    {
        let setup = Setup::on(options.start());
        let sealift = Sealift::new();
        let image = save(&setup, &sealift);
        let host = setup.app.host();
        let links = setup.registry.repository("app");
        let before = snapshot(&links);
        for (name, change) in damages {
            for blob in [&host.layers[1].digest, &host.config, &host.digest] {
                let path = setup.registry.blob_path(blob);
                let _damaged = setup.damage(&path, *change);
                let bad = fs::read(&path).unwrap();
                let kept = repair(&sealift, &image, &[]).code(4);
                let case = format!("{name} {blob}: {}", kept.stdout);
                assert_eq!(results(&kept), [(blob.clone(), "kept".to_owned())], "{case}");
                let reason = kept.json()["repair"]["blobs"][0]["reason"].to_string();
                assert!(reason.contains("--registry-root DIR"), "{case}");
                assert!(fs::read(&path).unwrap() == bad, "{case}");
                // Links that a deletion removes are there again.
                assert_eq!(snapshot(&links), before, "{case}");
            }
        }
        sealift.run(&["verify", "-q", &image]).ok();
    }
}

/// The links of a repository, by their paths.
fn snapshot(repository: &Path) -> BTreeMap<PathBuf, String> {
    let mut links = BTreeMap::new();
    let mut folders = vec![repository.join("_layers"), repository.join("_manifests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(links.insert(path.clone(), fs::read_to_string(path).unwrap())),
            }
        }
    }
    links
}

#[test]
fn a_missing_manifest_is_uploaded_by_its_digest() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let image = save(&setup, &sealift);
    let path = setup.registry.blob_path(&setup.app.digest);
    let child = setup.registry.blob_path(&setup.app.host().digest);
    let right = [&path, &child].map(|path| fs::read(path).unwrap());
    fs::remove_file(&path).unwrap();
    let named = format!("{}/app@{}", setup.registry.address(), setup.app.digest);
    let mended = repair(&sealift, &named, &[]).ok();
    assert_eq!(results(&mended), [(setup.app.digest.clone(), "mended".into())]);
    // The registry may never have had a manifest that an index names.
    fs::remove_file(&child).unwrap();
    assert_eq!(results(&repair(&sealift, &image, &[]).ok()), []);
    let named = format!("{}/app@{}", setup.registry.address(), setup.app.host().digest);
    repair(&sealift, &named, &[]).ok();
    assert_eq!([&path, &child].map(|path| fs::read(path).unwrap()), right);
    assert_eq!(setup.registry.digest_of("app:1"), setup.app.digest);
}

#[test]
fn a_login_is_used_to_push() {
    let setup = Setup::on(Registry::options().user("me", "secret").start());
    let sealift = Sealift::new();
    let config = serde_json::json!({"auths": {setup.registry.address(): {"auth": "bWU6c2VjcmV0"}}});
    fs::create_dir_all(sealift.path(".docker")).unwrap();
    fs::write(sealift.path(".docker/config.json"), config.to_string()).unwrap();
    let image = save(&setup, &sealift);
    let path = setup.registry.blob_path(&setup.app.host().layers[1].digest);
    let right = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    repair(&sealift, &image, &[]).ok();
    assert!(fs::read(&path).unwrap() == right);
}

#[test]
fn results_are_told_in_words() {
    let setup = Setup::on(Registry::options().no_delete().start());
    let sealift = Sealift::new();
    let image = save(&setup, &sealift);
    let host = setup.app.host();
    let layer = setup.registry.blob_path(&host.layers[1].digest);
    let config = setup.registry.blob_path(&host.config);
    let mut transcript = Transcript::of(&sealift);
    transcript
        .name(setup.registry.address(), "<registry>")
        .image("app", &setup.app);
    transcript.run(&format!("repair {image} --from images.tar"));
    fs::remove_file(&layer).unwrap();
    {
        let _damaged = setup.damage(&config, DAMAGES[2].1);
        transcript.run(&format!("repair {image} --from images.tar --dry-run"));
        transcript.run(&format!("repair {image} --from images.tar"));
    }
    fs::remove_file(&layer).unwrap();
    transcript.run(&format!(
        "repair {image} --from registry://{}/none",
        setup.registry.address()
    ));
    transcript.run(&format!("repair {image} --from images.tar"));
    let index = setup.registry.blob_path(&setup.app.digest);
    let _damaged = setup.damage(&index, |bytes| bytes.truncate(10));
    transcript.run(&format!("repair {image} --from images.tar --tries 1"));
    transcript.run(&format!("repair {image} other.local/app:1 --from images.tar"));
    assert_snapshot!(transcript.text(), @"
    $ sealift repair <registry>/app:1 --from images.tar
    <registry>: all good

    $ sealift repair <registry>/app:1 --from images.tar --dry-run
    BLOB                                                                      SIZE     PROBLEM          RESULT      FROM         IMAGES
    <app linux/amd64 config>   643 B    digest-differs   available   images.tar   app:1
    <app linux/amd64 layer 2>   200 kB   missing          available   images.tar   app:1
    <registry>: 2 blobs can be mended
    2> note: <registry>/app: <app linux/amd64 config>: digest is <digest 1>, expected <app linux/amd64 config>; retrying

    $ sealift repair <registry>/app:1 --from images.tar
    BLOB                                                                      SIZE     PROBLEM          RESULT   FROM         IMAGES
    <app linux/amd64 config>   -        digest-differs   kept     -            app:1
    <app linux/amd64 layer 2>   200 kB   missing          mended   images.tar   app:1
    error: <app linux/amd64 config>: <registry>: app@<app linux/amd64 config>: the registry took the right bytes and keeps the wrong ones: digest is <digest 1>, expected <app linux/amd64 config>; on the registry's host, `sealift repair --registry-root DIR --from ...` replaces it in the storage folder
    <registry>: 1 blob mended, 1 not
    2> note: <registry>/app: <app linux/amd64 config>: digest is <digest 1>, expected <app linux/amd64 config>; retrying
    2> note: <registry>/app: <app linux/amd64 config>: digest is <digest 1>, expected <app linux/amd64 config>; retrying
    2> note: <registry>/app: <app linux/amd64 config>: digest is <digest 1>, expected <app linux/amd64 config>; retrying
    exit 4

    $ sealift repair <registry>/app:1 --from registry://<registry>/none
    BLOB                                                                      SIZE   PROBLEM   RESULT      FROM   IMAGES
    <app linux/amd64 layer 2>   -      missing   not-found   -      app:1
    error: <app linux/amd64 layer 2>: no source has it; looked in <registry>/none/app
    <registry>: 0 blobs mended, 1 not
    exit 7

    $ sealift repair <registry>/app:1 --from images.tar
    BLOB                                                                      SIZE     PROBLEM   RESULT   FROM         IMAGES
    <app linux/amd64 layer 2>   200 kB   missing   mended   images.tar   app:1
    whole again: app:1
    <registry>: 1 blob mended

    $ sealift repair <registry>/app:1 --from images.tar --tries 1
    hint: a manifest is mended by its digest: <registry>/app@sha256:..., as `docker images --digests` prints it
    <registry>: 0 blobs mended, 1 other error left
    2> error: <registry>: app:1: answered 500 Internal Server Error (unknown error)
    2> hint: the manifest's file may be damaged: on the registry's host, `sealift verify --registry-root DIR` names it
    exit 4

    $ sealift repair <registry>/app:1 other.local/app:1 --from images.tar
    2> error: the images are of several registries: <registry> and other.local
    2> hint: repair the images of one registry at a time
    exit 2
    ");
}
