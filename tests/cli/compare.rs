//! Inventories that are compared with what is there.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::build_images;
use crate::support::{Sealift, assert_documented};

/// The comparison of a layout with the inventory of the one that has both images.
#[test]
fn every_name_of_an_inventory_must_lead_to_its_image() {
    let sealift = Sealift::new();
    build_images(&sealift.path("layout"), &[("app", "app"), ("web", "web")]);
    let inventory = ["inventory", "--label", "", "--from", "oci:layout"];
    sealift
        .run(&[&inventory[..], &["-o", "before.json"]].concat())
        .ok();
    let compare = |folder: &str, more: &[&str]| {
        let from = format!("oci:{folder}");
        let args = ["inventory", "--from", &from, "--compare", "before.json"];
        sealift.run(&[&args[..], more].concat())
    };
    let same = compare("layout", &["-o", "after.json"]).ok();
    assert_snapshot!(same.stdout, @"4 of 4 names as in before.json");
    assert!(sealift.path("after.json").exists());

    // One is another image, one is missing, and one is more.
    build_images(&sealift.path("other"), &[("app", "another"), ("zoo", "zoo")]);
    let said = compare("other", &[]).code(7);
    let digest = |folder: &str| {
        let index = fs::read_to_string(sealift.path(folder).join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    };
    let changed = format!("another image   {}   {}\n", digest("layout"), digest("other"));
    assert!(said.stdout.contains(&changed), "{said:?}");
    assert!(
        said.stdout
            .ends_with("0 of 4 names as in before.json, and 3 more\n"),
        "{said:?}"
    );
    let document = compare("other", &["--json"]).code(7).json();
    assert_documented(&document);
    let differences = document["differences"].as_array().unwrap().iter();
    let reasons: Vec<_> = differences
        .map(|one| {
            let name = one["name"].as_str().unwrap().split('@').next().unwrap();
            json!([name, one["reason"]])
        })
        .collect();
    let expected = json!([
        ["app:1", "other-image"],
        ["app", "missing"],
        ["web:1", "missing"],
        ["web", "missing"]
    ]);
    assert_eq!(json!(reasons), expected);
    assert_eq!(document["same"], 0);
    assert_eq!(document["more"].as_array().unwrap().len(), 3);

    let said = compare("layout", &["-o", "-"]).code(2);
    assert!(
        said.stderr
            .contains("cannot take the inventory and the comparison"),
        "{said:?}"
    );
    assert!(!sealift.path("-").exists());
    let said = sealift.run(&[
        "inventory",
        "--from",
        "oci:layout",
        "--compare",
        "layout/index.json",
    ]);
    assert!(said.code(2).stderr.contains("this is not an inventory"));
}
