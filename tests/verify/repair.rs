//! `repair --registry-root` on the folder of a registry that runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use insta::assert_snapshot;

use crate::support::{Image, Registry, Run, Sealift, Transcript, assert_documented, run};
use crate::{DAMAGES, Setup};

/// Saves all images of the setup into `images.tar`, as an administrator did in better times.
fn save(setup: &Setup, sealift: &Sealift) {
    let names =
        ["app:1", "app:latest", "team/web:2"].map(|name| format!("{}/{name}", setup.registry.address()));
    let mut line = vec!["save", "-q", "--platform", "all", "-o", "images.tar"];
    line.extend(names.iter().map(String::as_str));
    sealift.run(&line).ok();
}

#[track_caller]
fn repair(sealift: &Sealift, registry: &Registry, more: &[&str]) -> Run {
    let root = registry.root().display().to_string();
    sealift.run(&[&["repair", "--json", "--registry-root", &root], more].concat())
}

#[track_caller]
fn assert_good(sealift: &Sealift, registry: &Registry) {
    let root = registry.root().display().to_string();
    let said = sealift.run(&["verify", "--json", "--registry-root", &root]).ok();
    assert_eq!(said.json()["storage"]["findings"], serde_json::json!([]));
    let staging = registry.root().join("docker/registry/v2/.sealift-repair");
    assert!(!staging.exists());
}

/// Owner, group and mode.
fn access(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode())
}

/// The names of all files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_damage_is_mended_and_nothing_else_is_touched() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    save(&setup, &sealift);
    let host = setup.app.host();
    let before = files(&setup.registry.root());
    for (_, change) in DAMAGES {
        for blob in [
            &host.layers[1].digest,
            &host.config,
            &host.digest,
            &setup.app.digest,
        ] {
            let path = setup.registry.blob_path(blob);
            let good = fs::read(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let is_root = rustix::process::geteuid().is_root();
            if is_root {
                chown(&path, Some(1234), Some(4321)).unwrap();
            }
            let mut bad = good.clone();
            change(&mut bad);
            fs::write(&path, &bad).unwrap();
            let had = access(&path);

            let planned = repair(&sealift, &setup.registry, &["--from", "images.tar", "--dry-run"]).ok();
            let planned = planned.json();
            assert_documented(&planned);
            assert_eq!(planned["repair"]["blobs"][0]["result"], "available");
            assert_eq!(planned["repair"]["blobs"][0]["from"], "images.tar");
            assert_eq!(fs::read(&path).unwrap(), bad, "a dry run changes nothing");

            let mended = repair(&sealift, &setup.registry, &["--from", "images.tar"])
                .ok()
                .json();
            assert_documented(&mended);
            let blobs = mended["repair"]["blobs"].as_array().unwrap();
            assert_eq!(blobs.len(), 1, "{mended:#}");
            assert_eq!(blobs[0]["digest"], **blob);
            assert_eq!(blobs[0]["result"], "mended");
            let whole = mended["repair"]["whole"].as_array().unwrap();
            let tags: Vec<_> = whole.iter().filter_map(|image| image["tag"].as_str()).collect();
            assert_eq!(tags, ["1", "latest"], "{mended:#}");
            assert_eq!(fs::read(&path).unwrap(), good);
            assert_eq!(access(&path), had);
            assert_good(&sealift, &setup.registry);
        }
    }
    assert_eq!(files(&setup.registry.root()), before);
    // A second run finds nothing to do.
    let again = repair(&sealift, &setup.registry, &["--from", "images.tar"])
        .ok()
        .json();
    assert_eq!(again["repair"]["blobs"], serde_json::json!([]));
}

#[test]
fn what_is_gone_comes_back_with_its_links() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    save(&setup, &sealift);
    let host = setup.app.host();
    let layer = setup.registry.blob_path(&host.layers[1].digest);
    let folder = layer.parent().unwrap();
    let had = access(folder);
    fs::remove_dir_all(folder).unwrap();
    let hex = &host.layers[1].digest["sha256:".len()..];
    let app = setup.registry.repository("app");
    let link = app.join("_layers/sha256").join(hex).join("link");
    fs::remove_file(&link).unwrap();
    let revision = app.join("_manifests/revisions/sha256");
    let revision = revision.join(&setup.app.digest["sha256:".len()..]).join("link");
    fs::write(&revision, "").unwrap();
    // The index hides what its manifests lack until it is mended itself.
    fs::write(setup.registry.blob_path(&setup.app.digest), "{").unwrap();
    fs::write(setup.registry.blob_path(&host.digest), "{").unwrap();
    let mended = repair(&sealift, &setup.registry, &["--from", "images.tar"])
        .ok()
        .json();
    assert_eq!(
        mended["repair"]["blobs"].as_array().unwrap().len(),
        3,
        "{mended:#}"
    );
    assert_eq!(
        mended["repair"]["links"].as_array().unwrap().len(),
        2,
        "{mended:#}"
    );
    assert_documented(&mended);
    assert_good(&sealift, &setup.registry);
    assert_eq!(fs::read_to_string(&link).unwrap(), host.layers[1].digest);
    assert_eq!(fs::read_to_string(&revision).unwrap(), setup.app.digest);
    assert_eq!(access(folder), had);
    let image = format!("{}/app:1", setup.registry.address());
    sealift.run(&["verify", "-q", "--platform", "all", &image]).ok();
}

#[test]
fn good_bytes_come_from_another_registry() {
    let setup = Setup::new();
    let other = Registry::start();
    let sealift = Sealift::new();
    other.push(&setup.app, "mirror/app:1");
    let host = setup.app.host();
    let path = setup.registry.blob_path(&host.layers[1].digest);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..100]).unwrap();
    fs::write(setup.registry.blob_path(&host.digest), "{").unwrap();
    let from = format!("registry://{}/mirror", other.address());
    let mended = repair(&sealift, &setup.registry, &["--from", &from]).ok().json();
    assert_eq!(mended["repair"]["blobs"][0]["from"], from);
    assert_eq!(fs::read(&path).unwrap(), good);
    assert_good(&sealift, &setup.registry);
}

#[test]
fn in_another_registry_a_repository_may_lack_a_prefix() {
    let setup = Setup::new();
    let other = Registry::start();
    let sealift = Sealift::new();
    let host = setup.web.host();
    let path = setup.registry.blob_path(&host.layers[1].digest);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..100]).unwrap();
    fs::write(setup.registry.blob_path(&host.digest), "{").unwrap();
    let from = format!("registry://{}", other.address());
    let planned = repair(&sealift, &setup.registry, &["--from", &from, "--dry-run"]).code(7);
    let address = other.address();
    let looked = format!("no source has it; looked in {address}/team/web, {address}/web");
    assert_eq!(planned.json()["repair"]["blobs"][0]["reason"], looked);
    // There it is `web`, and here `team/web`.
    other.push(&setup.web, "web:2");
    let mended = repair(&sealift, &setup.registry, &["--from", &from]).ok().json();
    assert_eq!(mended["repair"]["blobs"][0]["from"], from);
    assert_eq!(fs::read(&path).unwrap(), good);
    assert_good(&sealift, &setup.registry);
}

#[test]
fn archives_of_docker_save_are_searched_under_any_name() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let archive = sealift.path("ds.tar");
    let mut skopeo = setup.registry.skopeo("copy", "--src-");
    skopeo.arg(format!("docker://{}/app:1", setup.registry.address()));
    run(skopeo.arg(format!("docker-archive:{}:web:1.0", archive.display()))).ok();
    let layer = setup.registry.blob_path(&setup.app.host().layers[1].digest);
    let good = fs::read(&layer).unwrap();
    // By the storage folder, and by the API, which writes what is missing.
    fs::write(&layer, "bad").unwrap();
    let mended = repair(&sealift, &setup.registry, &["--from", "ds.tar"])
        .ok()
        .json();
    assert_eq!(mended["repair"]["blobs"][0]["from"], "ds.tar");
    assert_eq!(fs::read(&layer).unwrap(), good);
    fs::remove_file(&layer).unwrap();
    let image = format!("{}/app:1", setup.registry.address());
    sealift.run(&["repair", &image, "--from", "ds.tar"]).ok();
    assert_eq!(fs::read(&layer).unwrap(), good);
    assert_good(&sealift, &setup.registry);
}

#[test]
fn wrong_bytes_of_a_source_are_not_taken() {
    let setup = Setup::new();
    let other = Registry::start();
    let sealift = Sealift::new();
    other.push(&setup.app, "app:1");
    let layer = &setup.app.host().layers[1].digest;
    for registry in [&setup.registry, &other] {
        let path = registry.blob_path(layer);
        let mut bytes = fs::read(&path).unwrap();
        bytes[50] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let path = setup.registry.blob_path(layer);
    let bad = fs::read(&path).unwrap();
    let from = format!("registry://{}", other.address());
    let said = repair(&sealift, &setup.registry, &["--from", &from, "--tries", "1"]).code(4);
    assert_eq!(said.json()["repair"]["blobs"][0]["result"], "failed");
    assert_eq!(fs::read(&path).unwrap(), bad);
    let storage = setup.registry.root().join("docker/registry/v2");
    assert!(!storage.join(".sealift-repair").exists());
}

#[test]
fn planted_links_are_replaced_and_not_followed() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    save(&setup, &sealift);
    let host = setup.app.host();
    let layer = setup.registry.blob_path(&host.layers[1].digest);
    fs::write(sealift.path("outside"), "precious").unwrap();
    fs::set_permissions(sealift.path("outside"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(&layer).unwrap();
    symlink(sealift.path("outside"), &layer).unwrap();
    let staging = setup.registry.root().join("docker/registry/v2/.sealift-repair");
    fs::create_dir(sealift.path("elsewhere")).unwrap();
    fs::write(sealift.path("elsewhere/data"), "precious").unwrap();
    symlink(sealift.path("elsewhere"), &staging).unwrap();
    repair(&sealift, &setup.registry, &["--from", "images.tar"]).code(3);
    assert_eq!(fs::read(sealift.path("elsewhere/data")).unwrap(), b"precious");
    fs::remove_file(&staging).unwrap();

    // As an interrupted repair leaves it.
    fs::create_dir(&staging).unwrap();
    symlink(sealift.path("outside"), staging.join("data")).unwrap();
    let root = setup.registry.root().display().to_string();
    let said = sealift
        .run(&["verify", "--json", "--registry-root", &root])
        .code(1);
    assert_eq!(said.json()["storage"]["findings"].as_array().unwrap().len(), 2);
    repair(&sealift, &setup.registry, &["--from", "images.tar"]).ok();
    assert_eq!(fs::read(sealift.path("outside")).unwrap(), b"precious");
    let mended = fs::symlink_metadata(&layer).unwrap();
    assert!(mended.is_file());
    // As the folder suggests, and not as the file outside.
    let folder = fs::metadata(layer.parent().unwrap()).unwrap();
    assert_eq!(mended.mode() & 0o777, folder.mode() & 0o666);
    assert_good(&sealift, &setup.registry);
}

#[test]
fn what_cannot_be_mended_is_told() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let layouts = tempfile::tempdir().unwrap();
    Image::small("other").build(layouts.path(), "1");
    let layout = layouts.path().display().to_string();
    let host = setup.app.host();
    let path = setup.registry.blob_path(&host.layers[1].digest);
    fs::write(&path, "bad").unwrap();
    let tag = setup
        .registry
        .repository("app")
        .join("_manifests/tags/1/current/link");
    fs::write(&tag, "").unwrap();
    let mut transcript = Transcript::of(&sealift);
    let root = setup.registry.root().display().to_string();
    transcript
        .name(root.as_str(), "<root>")
        .name(layout.as_str(), "<layout>")
        .image("app", &setup.app);
    for line in [
        "--from <layout>",
        "--from <layout> --dry-run",
        "--from registry://127.0.0.1:1 --tries 1 --dry-run",
        "--from images.tar --dry-run",
        "--from images.tar",
        "--from registry://user:secret@h.io",
        "--from absent.tar",
    ] {
        if line == "--from images.tar --dry-run" {
            let bytes = fs::read(setup.app.blob(&host.layers[1].digest)).unwrap();
            assert_ne!(fs::read(&path).unwrap(), bytes);
            let folder = setup.app.blob(&setup.app.digest);
            let folder = folder.ancestors().nth(3).unwrap();
            symlink(folder, sealift.path("images.tar")).unwrap();
        }
        let line = line.replace("<layout>", &layout);
        transcript.run(&format!("repair --registry-root {root} {line}"));
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift repair --registry-root <root> --from <layout>
    BLOB                                                                      SIZE   PROBLEM     RESULT      FROM   IMAGES
    <app linux/amd64 layer 2>   -      truncated   not-found   -      app:latest
    error: <app linux/amd64 layer 2>: no source has it
    error: <root>: repositories/app/_manifests/tags/1/current/link: it is empty
      it named <app> before
    hint: `skopeo copy --all --preserve-digests docker://HOST/app@<app> docker://HOST/app:1` sets a tag again
    <root>: 0 blobs mended, 1 not, 1 other error left
    exit 1

    $ sealift repair --registry-root <root> --from <layout> --dry-run
    BLOB                                                                      SIZE   PROBLEM     RESULT      FROM   IMAGES
    <app linux/amd64 layer 2>   -      truncated   not-found   -      app:latest
    error: <app linux/amd64 layer 2>: no source has it
    error: <root>: repositories/app/_manifests/tags/1/current/link: it is empty
      it named <app> before
    hint: `skopeo copy --all --preserve-digests docker://HOST/app@<app> docker://HOST/app:1` sets a tag again
    <root>: 0 blobs can be mended, 1 not, 1 other error left
    exit 1

    $ sealift repair --registry-root <root> --from registry://127.0.0.1:1 --tries 1 --dry-run
    BLOB                                                                      SIZE   PROBLEM     RESULT      FROM   IMAGES
    <app linux/amd64 layer 2>   -      truncated   not-found   -      app:latest
    error: <app linux/amd64 layer 2>: 127.0.0.1:1: 127.0.0.1:1 refused the connection
    error: <root>: repositories/app/_manifests/tags/1/current/link: it is empty
      it named <app> before
    hint: `skopeo copy --all --preserve-digests docker://HOST/app@<app> docker://HOST/app:1` sets a tag again
    <root>: 0 blobs can be mended, 1 not, 1 other error left
    2> warning: 127.0.0.1:1: 127.0.0.1:1 refused the connection
    2> hint: nothing listens at 127.0.0.1:1: check the host and port
    exit 1

    $ sealift repair --registry-root <root> --from images.tar --dry-run
    BLOB                                                                      SIZE     PROBLEM     RESULT      FROM         IMAGES
    <app linux/amd64 layer 2>   200 kB   truncated   available   images.tar   app:latest
    error: <root>: repositories/app/_manifests/tags/1/current/link: it is empty
      it named <app> before
    hint: `skopeo copy --all --preserve-digests docker://HOST/app@<app> docker://HOST/app:1` sets a tag again
    <root>: 1 blob can be mended, 1 other error left
    exit 1

    $ sealift repair --registry-root <root> --from images.tar
    BLOB                                                                      SIZE     PROBLEM     RESULT   FROM         IMAGES
    <app linux/amd64 layer 2>   200 kB   truncated   mended   images.tar   app:latest
    error: <root>: repositories/app/_manifests/tags/1/current/link: it is empty
      it named <app> before
    hint: `skopeo copy --all --preserve-digests docker://HOST/app@<app> docker://HOST/app:1` sets a tag again
    whole again: app@<app>
    whole again: app@<app linux/amd64>
    whole again: app@<app linux/arm64/v8>
    whole again: app:latest
    <root>: 1 blob mended, 1 other error left
    exit 1

    $ sealift repair --registry-root <root> --from registry://user:secret@h.io
    2> error: --from names no registry: a user and password do not belong here: log in with `docker login`; expected HOST[:PORT][/PREFIX], such as harbor.local/mirror
    exit 2

    $ sealift repair --registry-root <root> --from absent.tar
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3
    ");
}
