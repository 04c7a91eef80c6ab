//! `verify --registry-root` on the folder of a registry that runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Image, Registry, Run, Sealift, Transcript, assert_documented, http, image, run};
use crate::{DAMAGES, Setup};

#[track_caller]
fn verify(sealift: &Sealift, registry: &Registry, more: &[&str]) -> Run {
    let root = registry.root().display().to_string();
    let arguments = [&["verify", "--json", "--registry-root", &root], more].concat();
    sealift.run(&arguments)
}

/// What was found: code and images of each error.
#[track_caller]
fn errors(run: &Run) -> Vec<(String, Vec<String>)> {
    let document = run.json();
    let findings = document["storage"]["findings"].as_array().unwrap().iter();
    let errors = findings.filter(|finding| finding["severity"] == "error");
    let mut errors: Vec<_> = errors
        .map(|error| (text(&error["code"]), images(&error["images"])))
        .collect();
    errors.sort();
    errors
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn images(value: &Value) -> Vec<String> {
    let images = value.as_array().unwrap().iter();
    let name = |image: &Value| match &image["tag"] {
        Value::String(tag) => format!("{}:{tag}", text(&image["repository"])),
        _ => format!("{}@{}", text(&image["repository"]), text(&image["digest"])),
    };
    images.map(name).collect()
}

/// The images that use these manifests of `app`: by tags, and by the digests of index and manifests.
fn users_of_app(setup: &Setup, manifests: &[&str]) -> Vec<String> {
    let mut users = vec!["app:1".to_owned(), "app:latest".to_owned()];
    let all = manifests.iter().copied().chain([setup.app.digest.as_str()]);
    users.extend(all.map(|manifest| format!("app@{manifest}")));
    users.sort();
    users.dedup();
    users
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn every_damage_is_told_with_the_images_that_it_affects() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let run = verify(&sealift, &setup.registry, &[]).ok();
    assert_documented(&run.json());
    assert_eq!(errors(&run), []);
    let host = setup.app.host();
    let both: Vec<&str> = setup
        .app
        .manifests
        .iter()
        .map(|manifest| manifest.digest.as_str())
        .collect();
    for (code, change) in DAMAGES {
        // Of documents the digest alone is compared.
        for (blob, manifests) in [
            (&host.layers[1].digest, &both[..]),
            (&host.config, &[host.digest.as_str()]),
            (&host.digest, &[host.digest.as_str()]),
            (&setup.app.digest, &[]),
        ] {
            let _damaged = setup.damage(&setup.registry.blob_path(blob), change);
            let run = verify(&sealift, &setup.registry, &[]).code(1);
            let found = errors(&run);
            assert_eq!(found.len(), 1, "{code} {blob}: {found:?}");
            let is_document = *blob == host.digest || *blob == setup.app.digest;
            let expected = match code {
                "truncated" if is_document => "digest-differs",
                code => code,
            };
            assert_eq!(found[0].0, expected, "{blob}");
            assert_eq!(
                sorted(found[0].1.clone()),
                users_of_app(&setup, manifests),
                "{code} {blob}"
            );
        }
    }
    // A layer that both images have.
    let base = &host.layers[0].digest;
    let _damaged = setup.damage(&setup.registry.blob_path(base), DAMAGES[2].1);
    let found = errors(&verify(&sealift, &setup.registry, &[]).code(1));
    let mut users = users_of_app(&setup, &[&host.digest]);
    users.push("team/web:2".into());
    users.push(format!("team/web@{}", setup.web.digest));
    users.push(format!("team/web@{}", setup.web.host().digest));
    assert_eq!(found.len(), 1);
    assert_eq!(sorted(found[0].1.clone()), sorted(users));
}

#[test]
fn what_links_lead_to_is_looked_up() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let (app, host) = (setup.registry.repository("app"), setup.app.host());
    let hex = |digest: &str| digest["sha256:".len()..].to_owned();
    let layer = app
        .join("_layers/sha256")
        .join(hex(&host.layers[1].digest))
        .join("link");
    let revision = app
        .join("_manifests/revisions/sha256")
        .join(hex(&setup.app.digest))
        .join("link");
    let tag = app.join("_manifests/tags/1/current/link");
    let manifests: Vec<&str> = setup
        .app
        .manifests
        .iter()
        .map(|manifest| manifest.digest.as_str())
        .collect();
    let users = users_of_app(&setup, &manifests);
    // A blob that is gone, and each link that is wrong, empty or gone.
    let blob = setup.registry.blob_path(&host.layers[1].digest);
    for (path, code, affected) in [
        (&blob, "missing", users.clone()),
        (&layer, "no-link", users.clone()),
        (&revision, "no-link", vec!["app:1".into()]),
        (&tag, "missing", vec!["app:1".into()]),
    ] {
        let _damaged = setup.damage(path, |_| ());
        fs::remove_file(path).unwrap();
        let found = errors(&verify(&sealift, &setup.registry, &[]).code(1));
        assert_eq!(found[0].0, code, "{}", path.display());
        assert_eq!(sorted(found[0].1.clone()), affected, "{}", path.display());
    }
    for (path, affected) in [
        (&layer, users.clone()),
        (&revision, users_of_app(&setup, &[])),
        (&tag, vec!["app:1".into()]),
    ] {
        for content in ["", "garbage", &format!("{}\n", setup.app.digest)] {
            let _damaged = setup.damage(path, |bytes| *bytes = content.into());
            let found = errors(&verify(&sealift, &setup.registry, &[]).code(1));
            assert_eq!(found.len(), 1, "{} {content:?}: {found:?}", path.display());
            assert_eq!(found[0].0, "link");
            assert_eq!(sorted(found[0].1.clone()), affected, "{}", path.display());
        }
    }
    assert_eq!(errors(&verify(&sealift, &setup.registry, &[]).ok()), []);
}

#[test]
fn what_is_planted_is_neither_followed_nor_waited_for() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let host = setup.app.host();
    let (layer, other) = (
        setup.registry.blob_path(&host.layers[1].digest),
        setup.registry.blob_path(&host.layers[2].digest),
    );
    fs::rename(&layer, sealift.path("layer")).unwrap();
    symlink(sealift.path("layer"), &layer).unwrap();
    fs::remove_file(&other).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &other, mode).unwrap();
    symlink("/etc", setup.registry.repository("etc")).unwrap();
    let found = errors(&verify(&sealift, &setup.registry, &[]).code(1));
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["not-a-file", "not-a-file", "not-a-folder"]);
}

/// Begins an upload and sends some bytes.
fn begin_upload(registry: &Registry, repository: &str, bytes: &[u8]) -> String {
    let begun = http::over_tcp(
        registry.address(),
        "POST",
        &format!("/v2/{repository}/blobs/uploads/"),
        &[("Content-Length", "0")],
        &[],
    )
    .unwrap();
    let location = begun.header("location").unwrap().to_owned();
    let target = location.split_once(registry.address()).unwrap().1.to_owned();
    let length = bytes.len().to_string();
    let sent = http::over_tcp(
        registry.address(),
        "PATCH",
        &target,
        &[
            ("Content-Length", &length),
            ("Content-Type", "application/octet-stream"),
        ],
        bytes,
    )
    .unwrap();
    assert_eq!(sent.status, 202);
    begun.header("docker-upload-uuid").unwrap().to_owned()
}

#[test]
fn uploads_and_what_garbage_collection_leaves_are_notes() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let upload = begin_upload(&setup.registry, "team/web", &[7; 1000]);
    let deleted = http::over_tcp(
        setup.registry.address(),
        "DELETE",
        &format!("/v2/app/manifests/{}", setup.app.digest),
        &[],
        &[],
    );
    assert_eq!(deleted.unwrap().status, 202);
    for manifest in setup.app.manifests.iter().chain(&setup.app.attestations) {
        let target = format!("/v2/app/manifests/{}", manifest.digest);
        http::over_tcp(setup.registry.address(), "DELETE", &target, &[], &[]).unwrap();
    }
    let mut transcript = Transcript::of(&sealift);
    let root = setup.registry.root().display().to_string();
    transcript
        .name(root.as_str(), "<root>")
        .name(upload.as_str(), "<upload>");
    age(&setup.registry.root());
    transcript.run(&format!("verify --registry-root {root}"));
    setup.registry.collect_garbage();
    transcript.run(&format!("verify --registry-root {root}"));
    let document = verify(&sealift, &setup.registry, &[]).ok().json();
    assert_documented(&document);
    assert_eq!(document["storage"]["unreferenced"]["count"], 0);
    assert_eq!(document["storage"]["uploads"]["bytes"], 1000);
    let text = regex(&transcript.text());
    assert_snapshot!(text, @"
    $ sealift verify --registry-root <root>
    note: 1 unfinished upload, 1.0 kB; the oldest started <time> ago
    note: 13 blobs, 257 kB, that no manifest refers to
    <root>: 28 blobs, 2.5 MB; 2 repositories, 1 tag: all good

    $ sealift verify --registry-root <root>
    note: 1 unfinished upload, 1.0 kB; the oldest started <time> ago
    note: 8 links to layers that are gone and that no manifest needs, as garbage collection leaves them
    <root>: 15 blobs, 2.3 MB; 2 repositories, 1 tag: all good
    ");
}

/// Times of uploads in text.
fn regex(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match line.split_once(" started ") {
            Some((before, _)) => lines.push(format!("{before} started <time> ago")),
            None => lines.push(line.into()),
        }
    }
    lines.join("\n")
}

/// Makes all blobs two hours old, so that none may belong to a push.
fn age(root: &Path) {
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    let mut folders = vec![root.join("docker/registry/v2/blobs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => fs::File::open(path).unwrap().set_modified(old).unwrap(),
            }
        }
    }
}

#[test]
fn a_damage_as_it_is_printed() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let host = setup.app.host();
    let path = setup.registry.blob_path(&host.layers[1].digest);
    fs::write(&path, &fs::read(&path).unwrap()[..100]).unwrap();
    let mut transcript = Transcript::of(&sealift);
    let root = setup.registry.root().display().to_string();
    transcript.name(root.as_str(), "<root>").image("app", &setup.app);
    let tag = setup.registry.repository("team/web");
    fs::remove_file(tag.join("_manifests/tags/2/current/link")).unwrap();
    transcript.name(setup.web.digest.as_str(), "<web>");
    transcript.run(&format!("verify --registry-root {root}"));
    transcript.run(&format!("verify --registry-root {root} --sample 101%"));
    transcript.run("verify --registry-root . --quick");
    transcript.run("verify --registry-root .");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify --registry-root <root>
    error: <root>: blobs/sha256/63/<app linux/amd64 layer 2>/data: truncated: 100 bytes, expected 200321
      in app@<app>
      in app@<app linux/amd64>
      in app@<app linux/arm64/v8>
      in app:1
      in app:latest
    error: <root>: repositories/team/web/_manifests/tags/2/current/link: missing
      in team/web:2
      it named <web> before
    hint: `sealift repair --registry-root <root> --from SOURCE` replaces what is bad or missing; SOURCE is docker, an archive, or registry://HOST; `skopeo copy --all --preserve-digests docker://HOST/team/web@<web> docker://HOST/team/web:2` sets a tag again
    <root>: 28 blobs, 2.3 MB; 2 repositories, 3 tags: 2 errors; 3 tags and 3 manifests affected
    exit 1

    $ sealift verify --registry-root <root> --sample 101%
    2> error: invalid value '101%' for '--sample <N%|K/N>': a sample is a percentage, as in 5%, or one of equal parts, as in 3/7
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift verify --registry-root . --quick
    2> error: the argument '--registry-root <DIR>' cannot be used with '--quick'
    2>
    2> Usage: sealift verify --registry-root <DIR> [FILE|IMAGE]...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift verify --registry-root .
    2> error: docker/registry/v2 not found in .
    2> hint: this is the folder that the registry's configuration calls `rootdirectory`
    exit 7
    ");
}

#[test]
fn pushes_and_deletions_meanwhile_are_no_errors() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let layouts = tempfile::tempdir().unwrap();
            for n in 0..12 {
                let version = n.to_string();
                let image = Image::small("busy").build(&layouts.path().join(&version), &version);
                let manifest = image::sha256(&fs::read(image.blob(&image.digest)).unwrap());
                setup.registry.push(&image, &format!("busy/{}:{version}", n % 3));
                if n % 4 == 3 {
                    let target = format!("/v2/busy/{}/manifests/{manifest}", n % 3);
                    http::over_tcp(setup.registry.address(), "DELETE", &target, &[], &[]).unwrap();
                }
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut runs = 0;
        while !is_done.load(Ordering::SeqCst) || runs < 3 {
            let run = verify(&sealift, &setup.registry, &[]);
            assert_eq!(run.code, Some(0), "{}\n{}", run.stdout, run.stderr);
            runs += 1;
        }
    });
}

#[test]
fn the_hint_for_a_lost_tag_sets_it_again() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let tag = setup.registry.repository("app").join("_manifests/tags/1");
    fs::remove_file(tag.join("current/link")).unwrap();
    let document = verify(&sealift, &setup.registry, &[]).code(1).json();
    assert_documented(&document);
    let lost = &document["storage"]["findings"][0];
    assert_eq!(lost["tagged_before"], serde_json::json!([setup.app.digest]));
    let hint = text(&document["storage"]["hint"]);
    let command = hint.split('`').nth(1).unwrap();
    let command = command.replace("//HOST/", &format!("//{}/", setup.registry.address()));
    let plain = "skopeo --insecure-policy copy --src-tls-verify=false --dest-tls-verify=false ";
    let command = command.replacen("skopeo copy ", plain, 1);
    run(&mut sealift.shell(&command)).ok();
    assert_eq!(errors(&verify(&sealift, &setup.registry, &[]).ok()), []);
    assert_eq!(setup.registry.digest_of("app:1"), setup.app.digest);
}

#[test]
fn a_storage_of_another_user_is_one_error_with_a_hint() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::new();
    let sealift = Sealift::new();
    let storage = sealift.path("storage");
    let mut copy = Command::new("cp");
    run(copy.arg("-a").arg(setup.registry.root()).arg(&storage)).ok();
    let mut transcript = Transcript::of(&sealift);
    for folder in ["", "docker/registry/v2/blobs", "docker/registry/v2/blobs/sha256"] {
        let path = storage.join(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = sealift.command_of_another_user(&["verify", "--registry-root", "storage"]);
        let line = format!("verify --registry-root storage  # without /{folder}");
        transcript.run_command(&line, &mut command);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_snapshot!(transcript.text(), @"
    $ verify --registry-root storage  # without /
    2> error: cannot open storage: Permission denied (os error 13)
    2> hint: run the same command with sudo
    exit 3

    $ verify --registry-root storage  # without /docker/registry/v2/blobs
    2> error: cannot open storage/docker/registry/v2/blobs: Permission denied (os error 13)
    2> hint: run the same command with sudo
    exit 3

    $ verify --registry-root storage  # without /docker/registry/v2/blobs/sha256
    error: cannot open storage/docker/registry/v2/blobs/sha256: Permission denied (os error 13)
    hint: run the same command with sudo
    storage: 0 blobs, 0 B; 2 repositories, 3 tags: 1 error; 0 tags and 0 manifests affected
    exit 3
    ");
}
