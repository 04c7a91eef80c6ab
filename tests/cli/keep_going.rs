//! Saves of which some images cannot be had, and images under new names.

use std::fs;

use serde_json::json;

use crate::support::{Built, Image, Sealift};

/// A layout with two images.
fn layout(sealift: &Sealift) -> [Built; 2] {
    ["app:1", "web:1"].map(|name| {
        let (repository, tag) = name.split_once(':').unwrap();
        Image::sample(repository, tag).build(&sealift.path("layout"), name)
    })
}

const SAVE: [&str; 5] = ["save", "--from", "layout", "-o", "images.tar"];

#[test]
fn names_that_are_not_there_are_all_told_or_left_out() {
    let sealift = Sealift::new();
    layout(&sealift);
    let line = [&SAVE[..], &["app:1", "none:1", "web:1", "none:2"]].concat();
    let run = sealift.run(&line).code(7);
    let errors: Vec<_> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 2, "{}", run.stderr);
    assert!(
        errors[0].contains("none:1") && errors[1].contains("none:2"),
        "{errors:?}"
    );
    assert!(
        run.stderr
            .ends_with("hint: --keep-going saves the other images\n"),
        "{}",
        run.stderr
    );
    assert!(!sealift.path("images.tar").exists());

    let going_on = [&line[..], &["--keep-going"]].concat();
    let run = sealift.run(&going_on).code(7);
    assert!(
        run.stdout.contains("app:1 ") && run.stdout.contains("web:1 "),
        "{}",
        run.stdout
    );
    assert_eq!(run.stderr.matches(" was skipped: ").count(), 2, "{}", run.stderr);
    let document = sealift.run(&[&going_on[..], &["--json"]].concat()).code(7).json();
    let left_out = document["left_out"].as_array().unwrap();
    assert_eq!(
        (&left_out[0]["name"], &left_out[0]["exit"]),
        (&json!("none:1"), &json!(7))
    );
    assert!(
        left_out[0]["reason"].as_str().unwrap().contains("none:1"),
        "{document}"
    );
    assert_eq!(document["images"].as_array().unwrap().len(), 2);
    sealift.run(&["verify", "-q", "images.tar"]).ok();

    let all_wrong = [&SAVE[..], &["none:1", "none:2", "--keep-going"]].concat();
    let run = sealift.run(&all_wrong).code(7);
    assert!(!run.stderr.contains("--keep-going"), "{}", run.stderr);
}

#[test]
fn all_of_a_layout_but_what_is_damaged() {
    let sealift = Sealift::new();
    let [_, web] = layout(&sealift);
    fs::remove_file(web.blob(&web.host().layers[2].digest)).unwrap();
    // The finding names the blob; the image that needs it is named beside it.
    let verified = sealift.run(&["verify", "layout"]).code(1).stdout;
    assert!(verified.contains("\nweb:1: has errors\n"), "{verified}");
    assert!(!verified.contains("app:1"), "{verified}");
    for arguments in [&["--all"][..], &["app:1", "web:1", "--keep-going"]] {
        let _ = fs::remove_file(sealift.path("images.tar"));
        let run = sealift.run(&[&SAVE[..], arguments].concat()).code(1);
        assert!(run.stderr.contains("web:1 was skipped: "), "{}", run.stderr);
        let listed = sealift.run(&["list", "--json", "images.tar"]).ok().json();
        let images = listed["archives"][0]["images"].as_array().unwrap().clone();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0]["name"], "app:1");
        sealift.run(&["verify", "-q", "images.tar"]).ok();
    }
    fs::remove_file(sealift.path("images.tar")).unwrap();
    let run = sealift.run(&[&SAVE[..], &["app:1", "web:1"]].concat()).code(1);
    assert!(
        run.stderr.contains("--keep-going saves the other images"),
        "{}",
        run.stderr
    );
    assert!(!sealift.path("images.tar").exists());
}

#[test]
fn images_are_saved_under_new_names() {
    let sealift = Sealift::new();
    let [app, _] = layout(&sealift);
    let short = &app.digest[..15];
    for (renames, expected) in [
        (&["app:1=harbor.local/a:9"][..], ["harbor.local/a:9", "web:1"]),
        (&["docker.io/library=lib"], ["lib/app:1", "lib/web:1"]),
        (&[&format!("{short}=zoo:1")], ["web:1", "zoo:1"]),
    ] {
        let mut line = SAVE.to_vec();
        line.extend(renames.iter().flat_map(|rename| ["--rename", rename]));
        let said = sealift.run(&[&line[..], &["--json"]].concat()).ok().json();
        let listed = sealift.run(&["list", "--json", "images.tar"]).ok().json();
        let images = listed["archives"][0]["images"].as_array().unwrap();
        let mut names: Vec<_> = images
            .iter()
            .map(|image| image["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{renames:?}");
        let renamed = said["images"].as_array().unwrap().iter();
        let renamed = renamed.filter(|image| image["renamed_from"].is_string());
        assert!(renamed.count() > 0, "{said}");
    }
    let run = sealift
        .run(&[&SAVE[..], &["--rename", "none=x"]].concat())
        .code(2);
    assert!(run.stderr.contains("none=x renames nothing"), "{}", run.stderr);
}
