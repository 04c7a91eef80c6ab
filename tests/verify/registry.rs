//! `verify IMAGE` over HTTP, with what distribution 2.8 serves of damaged files: a layer or config as it is, with the
//! length of the file, and a manifest only if it still parses.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Registry, Run, Sealift, Transcript, assert_documented};
use crate::{DAMAGES, Setup};

fn name(registry: &Registry, image: &str) -> String {
    format!("{}/{image}", registry.address())
}

/// Verifies `app:1`, `app:latest` and `team/web:2`.
#[track_caller]
fn verify(sealift: &Sealift, registry: &Registry, more: &[&str]) -> Run {
    let images = ["app:1", "app:latest", "team/web:2"].map(|image| name(registry, image));
    let images = images.iter().map(String::as_str);
    let arguments: Vec<&str> = ["verify", "--json", "--tries", "1"]
        .into_iter()
        .chain(images)
        .collect();
    sealift.run(&[&arguments, more].concat())
}

/// The code of each error, with the images.
#[track_caller]
fn errors(registry: &Registry, run: &Run) -> Vec<(String, Vec<String>)> {
    let document = run.json();
    let images = |value: &Value| {
        let images = value["images"].as_array().unwrap().iter();
        let prefix = name(registry, "");
        let mut images: Vec<String> = images
            .map(|image| image.as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned())
            .collect();
        images.sort();
        images
    };
    let findings = document["registry"]["findings"].as_array().unwrap().iter();
    let errors = findings.filter(|finding| finding["severity"] == "error");
    errors
        .map(|error| (error["code"].as_str().unwrap().to_owned(), images(error)))
        .collect()
}

#[test]
fn damages_are_told_with_all_tags_that_use_the_blob() {
    let setup = Setup::new();
    let (sealift, registry) = (Sealift::new(), &setup.registry);
    let run = verify(&sealift, registry, &[]).ok();
    assert_documented(&run.json());
    assert_eq!(errors(registry, &run), []);
    let host = setup.app.host();
    let app = vec!["app:1".to_owned(), "app:latest".to_owned()];
    let all = [app.clone(), vec!["team/web:2".to_owned()]].concat();
    for (code, change) in DAMAGES {
        for (blob, images) in [
            (&host.layers[0].digest, &all),
            (&host.layers[1].digest, &app),
            (&host.config, &app),
        ] {
            let _damaged = setup.damage(&registry.blob_path(blob), change);
            let run = verify(&sealift, registry, &[]).code(1);
            assert_eq!(
                errors(registry, &run),
                [(code.to_owned(), images.clone())],
                "{blob}"
            );
        }
    }
    // A manifest that parses is served with other bytes than its digest says.
    for (manifest, expected) in [(&host.digest, &app), (&setup.app.digest, &app)] {
        let _damaged = setup.damage(&registry.blob_path(manifest), |bytes| {
            let at = bytes.windows(7).position(|part| part == b"\"size\":").unwrap() + 7;
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        });
        let run = verify(&sealift, registry, &[]).code(1);
        assert_eq!(
            errors(registry, &run),
            [("digest-differs".to_owned(), expected.clone())]
        );
    }
    // One that does not parse is an error of the registry, which answers 500.
    for change in [DAMAGES[0].1, DAMAGES[1].1] {
        let _damaged = setup.damage(&registry.blob_path(&host.digest), change);
        let run = verify(&sealift, registry, &[]).code(4);
        let unread = &run.json()["registry"]["unread"][0];
        assert!(unread["message"].as_str().unwrap().contains("500"), "{unread}");
        assert_eq!(unread["images"].as_array().unwrap().len(), 2);
        let _damaged = setup.damage(&registry.blob_path(&setup.app.digest), change);
        let document = verify(&sealift, registry, &[]).code(4).json();
        let good = document["registry"]["images"].as_array().unwrap().iter();
        let good: Vec<bool> = good.map(|image| image["good"].as_bool().unwrap()).collect();
        assert_eq!(good, [false, false, true]);
    }
}

#[test]
fn what_is_missing_is_told() {
    let setup = Setup::new();
    let (sealift, registry) = (Sealift::new(), &setup.registry);
    let host = setup.app.host();
    let app = vec!["app:1".to_owned(), "app:latest".to_owned()];
    for quick in [&[][..], &["--quick"]] {
        let path = registry.blob_path(&host.layers[1].digest);
        let _damaged = setup.damage(&path, |_| ());
        fs::remove_file(path).unwrap();
        let run = verify(&sealift, registry, quick).code(1);
        assert_eq!(errors(registry, &run), [("missing".to_owned(), app.clone())]);
    }
    let path = registry.blob_path(&host.layers[1].digest);
    let _damaged = setup.damage(&path, DAMAGES[0].1);
    let run = verify(&sealift, registry, &["--quick"]).code(1);
    assert_eq!(errors(registry, &run), [("size-differs".to_owned(), app)]);
    // Of which the content is wrong: a quick verification does not see it.
    drop(_damaged);
    let _damaged = setup.damage(&path, DAMAGES[2].1);
    verify(&sealift, registry, &["--quick"]).ok();
    let absent = name(registry, "app:absent");
    verify(&sealift, registry, &[&absent]).code(1);
    drop(_damaged);
    let document = verify(&sealift, registry, &[&absent]).code(7).json();
    assert_documented(&document);
    assert_eq!(document["registry"]["images"][3]["error"]["exit"], 7);
}

#[test]
fn a_tag_that_lost_its_link_is_not_called_one_that_the_registry_has() {
    let setup = Setup::new();
    let link = setup.registry.repository("app");
    fs::remove_file(link.join("_manifests/tags/1/current/link")).unwrap();
    let image = name(&setup.registry, "app:1");
    let said = Sealift::new().run(&["verify", &image]).code(7);
    assert!(
        said.stderr
            .contains("hint: the registry lists this tag, but finds no manifest for it"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("it has"), "{}", said.stderr);
}

#[test]
fn the_next_run_skips_what_was_verified() {
    let setup = Setup::new();
    let (sealift, registry) = (Sealift::new(), &setup.registry);
    let since = ["--since", "state.json", "--metrics", "night.prom"];
    verify(&sealift, registry, &since).ok();
    let path = registry.blob_path(&setup.app.host().layers[1].digest);
    let _damaged = setup.damage(&path, DAMAGES[2].1);
    // Trusted, so this is not seen.
    let document = verify(&sealift, registry, &since).ok().json();
    let known = document["registry"]["images"].as_array().unwrap().iter();
    assert!(
        known.into_iter().all(|image| image["known"] == true),
        "{document:#}"
    );
    assert_eq!(document["registry"]["bytes"], 0);
    let metrics = fs::read_to_string(sealift.path("night.prom")).unwrap();
    let kept = metrics.lines().filter(|line| !line.contains("_seconds"));
    assert_snapshot!(kept.collect::<Vec<_>>().join("\n"), @r#"
    # HELP sealift_verify_success Whether everything was read and nothing is wrong.
    # TYPE sealift_verify_success gauge
    sealift_verify_success{run="night"} 1
    # HELP sealift_verify_exit_code The exit code.
    # TYPE sealift_verify_exit_code gauge
    sealift_verify_exit_code{run="night"} 0
    # HELP sealift_verify_findings What was found.
    # TYPE sealift_verify_findings gauge
    sealift_verify_findings{run="night",severity="error"} 0
    sealift_verify_findings{run="night",severity="note"} 0
    # HELP sealift_verify_unread What could not be read.
    # TYPE sealift_verify_unread gauge
    sealift_verify_unread{run="night"} 0
    # HELP sealift_verify_images Images by result; known ones were verified by an earlier run.
    # TYPE sealift_verify_images gauge
    sealift_verify_images{run="night",result="good"} 0
    sealift_verify_images{run="night",result="known"} 3
    sealift_verify_images{run="night",result="bad"} 0
    sealift_verify_images{run="night",result="failed"} 0
    # HELP sealift_verify_blobs Blobs that were read.
    # TYPE sealift_verify_blobs gauge
    sealift_verify_blobs{run="night"} 0
    # HELP sealift_verify_read_bytes Bytes of these blobs.
    # TYPE sealift_verify_read_bytes gauge
    sealift_verify_read_bytes{run="night"} 0
    "#);
    fs::remove_file(sealift.path("state.json")).unwrap();
    verify(&sealift, registry, &since).code(1);
    let state = fs::read_to_string(sealift.path("state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let images: Vec<&String> = state["images"].as_object().unwrap().keys().collect();
    assert_eq!(images, [&name(registry, "team/web:2")]);
    fs::write(sealift.path("state.json"), "{}").unwrap();
    verify(&sealift, registry, &since).code(2);
}

#[test]
fn as_it_is_printed() {
    let setup = Setup::new();
    let (sealift, registry) = (Sealift::new(), &setup.registry);
    let mut transcript = Transcript::of(&sealift);
    transcript
        .name(registry.address(), "<registry>")
        .image("app", &setup.app);
    let address = registry.address();
    transcript
        .run(&format!("verify {address}/app:1 {address}/team/web:2"))
        .ok();
    transcript
        .run(&format!("verify --all --quick {address}/app {address}/team/web"))
        .ok();
    fs::write(sealift.path("list.txt"), format!("{address}/app:1 # one\n")).unwrap();
    transcript
        .run("verify --images list.txt --platform linux/s390x")
        .code(7);
    let path = registry.blob_path(&setup.app.host().layers[1].digest);
    let _damaged = setup.damage(&path, DAMAGES[0].1);
    transcript
        .run(&format!("verify --all {address}/app {address}/absent"))
        .code(1);
    let manifest = setup.registry.blob_path(&setup.app.host().digest);
    {
        let _damaged = setup.damage(&manifest, DAMAGES[1].1);
        transcript
            .run(&format!("verify --tries 1 {address}/app:1 {address}/team/web:2"))
            .code(1);
    }
    {
        let index = setup.registry.blob_path(&setup.app.digest);
        let _damaged = setup.damage(&index, DAMAGES[1].1);
        transcript
            .run(&format!("verify --tries 1 --all {address}/app"))
            .code(4);
    }
    transcript
        .run(&format!("verify {address}/team/web:2 --since state.json"))
        .ok();
    transcript
        .run(&format!(
            "verify {address}/app:1 {address}/team/web:2 --since state.json"
        ))
        .code(1);
    transcript.run(&format!("verify --all {address}/app:1")).code(2);
    fs::write(sealift.path("app:1"), "").unwrap();
    transcript.run("verify app:1").code(2);
    transcript.run("verify ./app:1 --since state.json").code(2);
    assert_snapshot!(transcript.text(), @"
    $ sealift verify <registry>/app:1 <registry>/team/web:2
    2 images: 28 blobs, 2.5 MB read: all good

    $ sealift verify --all --quick <registry>/app <registry>/team/web
    3 images: 18 blobs, 12.2 kB read, sizes only: all good

    $ sealift verify --images list.txt --platform linux/s390x
    1 image: 0 blobs, 0 B read: 1 error in 1 image
    2> error: platform linux/s390x not found in <registry>/app:1
    2> hint: it has linux/amd64, linux/arm64/v8; choose with --platform
    exit 7

    $ sealift verify --all <registry>/app <registry>/absent
    error: <registry>/app: <app linux/amd64 layer 2>: truncated: 100160 bytes, expected 200321
      in <registry>/app:1
      in <registry>/app:latest
    hint: `sealift repair <registry>/app:1 <registry>/app:latest --from SOURCE` replaces what is bad or missing; SOURCE is docker, an archive, or registry://HOST
    2 images: 15 blobs, 2.3 MB read: 2 errors in 2 images
    2> note: <app linux/amd64 layer 2>: is wrong; reading it again
    2> error: repository absent not found in <registry>
    2> hint: check the name absent; it may also be private
    exit 1

    $ sealift verify --tries 1 <registry>/app:1 <registry>/team/web:2
    error: <registry>/app: <app linux/amd64 layer 2>: truncated: 100160 bytes, expected 200321
      in <registry>/app:1
    error: <registry>: app@<app linux/amd64>: answered 500 Internal Server Error (unknown error)
      in <registry>/app:1
    hint: `sealift repair <registry>/app:1 --from SOURCE` replaces what is bad or missing; SOURCE is docker, an archive, or registry://HOST; the manifest's file may be damaged: on the registry's host, `sealift verify --registry-root DIR` names it
    2 images: 27 blobs, 2.5 MB read: 2 errors in 1 image
    2> note: <app linux/amd64 layer 2>: is wrong; reading it again
    exit 1

    $ sealift verify --tries 1 --all <registry>/app
    2 images: 0 blobs, 0 B read: 2 errors in 2 images
    2> error: <registry>: app:1: answered 500 Internal Server Error (unknown error)
    2> error: <registry>: app:latest: answered 500 Internal Server Error (unknown error)
    2> hint: the manifest's file may be damaged: on the registry's host, `sealift verify --registry-root DIR` names it
    exit 4

    $ sealift verify <registry>/team/web:2 --since state.json
    1 image: 15 blobs, 2.3 MB read: all good

    $ sealift verify <registry>/app:1 <registry>/team/web:2 --since state.json
    error: <registry>/app: <app linux/amd64 layer 2>: truncated: 100160 bytes, expected 200321
      in <registry>/app:1
    hint: `sealift repair <registry>/app:1 --from SOURCE` replaces what is bad or missing; SOURCE is docker, an archive, or registry://HOST
    2 images (1 verified before, and 2 blobs of the others): 13 blobs, 257 kB read: 1 error in 1 image
    2> note: <app linux/amd64 layer 2>: is wrong; reading it again
    exit 1

    $ sealift verify --all <registry>/app:1
    2> error: <registry>/app:1 names an image, and --all is for repositories
    2> hint: leave out the tag or digest, or --all
    exit 2

    $ sealift verify app:1
    2> error: app:1 is a file here, and may be an image in a registry
    2> hint: the file is ./app:1; for the image, run this in another folder
    exit 2

    $ sealift verify ./app:1 --since state.json
    2> error: --since is for images in registries, and a file was named
    2> hint: leave out --since
    exit 2
    ");
}
