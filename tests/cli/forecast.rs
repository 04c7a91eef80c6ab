//! Dry runs of saves.

use std::fs;

use serde_json::json;

use crate::build_images;
use crate::support::{Sealift, assert_documented};

fn names(sealift: &Sealift) -> Vec<String> {
    let entries = fs::read_dir(sealift.home()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_dry_run_says_what_a_save_writes_and_writes_nothing() {
    let sealift = Sealift::new();
    build_images(&sealift.path("layout"), &[("app", "app"), ("web", "web")]);
    let save = ["save", "--json", "--from", "layout", "-o", "images.tar"];
    let before = names(&sealift);
    let dry = sealift.run(&[&save[..], &["--dry-run"]].concat()).ok().json();
    assert_eq!(names(&sealift), before);
    assert_documented(&dry);
    let saved = sealift.run(&save).ok().json();
    for field in ["digest", "size", "images", "left_out"] {
        assert_eq!(dry[field], saved[field], "{field}");
    }
    assert_eq!(dry["files"], json!([]));
    assert_eq!((&dry["dry_run"], &dry["temporary"]), (&json!(true), &json!(0)));
    assert_eq!(dry["rooms"][0]["needed"], saved["size"]);
    assert_eq!(saved["dry_run"], json!(null));

    let text = ["save", "--from", "layout", "-o", "images.tar", "--dry-run"];
    let text = sealift.run(&text).ok().stdout;
    let lines: Vec<_> = text.lines().collect();
    let tail = &lines[lines.len() - 3..];
    assert!(tail[0].starts_with("images.tar: would have "), "{text}");
    assert!(
        tail[1].starts_with(".: ") && tail[1].contains(" needed, "),
        "{text}"
    );
    assert_eq!(tail[2], format!("archive {}", saved["digest"].as_str().unwrap()));
    // An archive on standard output is not for a terminal or beside JSON, but the report is.
    let piped = ["save", "--json", "--from", "layout", "-o", "-", "--dry-run"];
    assert_eq!(sealift.run(&piped).ok().json()["rooms"], json!([]));
    // Nothing is stored beside a device.
    let device = [
        "save",
        "--json",
        "--from",
        "layout",
        "-o",
        "/dev/null",
        "--dry-run",
    ];
    assert_eq!(sealift.run(&device).ok().json()["rooms"], json!([]));
}
