//! Images without a name are called by their ids, and skipped by a load that keeps going.

use std::fs;

use serde_json::json;

use crate::support::{Platform, Sealift, image, run};

/// An archive of two images without a name and without layers, and their ids.
fn saved(sealift: &Sealift) -> [String; 2] {
    let folder = sealift.path("saved");
    fs::create_dir(&folder).unwrap();
    let mut manifest = Vec::new();
    let ids = ["one", "two"].map(|version| {
        let config = json!({
            "architecture": Platform::host().architecture,
            "os": "linux",
            "config": { "Env": [format!("VERSION={version}")] },
            "rootfs": { "type": "layers", "diff_ids": [] },
        })
        .to_string();
        let id = image::sha256(config.as_bytes());
        let name = format!("{}.json", hex(&id));
        fs::write(folder.join(&name), config).unwrap();
        manifest.push(json!({ "Config": name, "RepoTags": null, "Layers": [] }));
        id
    });
    fs::write(folder.join("manifest.json"), json!(manifest).to_string()).unwrap();
    let tar = "cd saved && tar --format=ustar -cf ../saved.tar *.json";
    run(&mut sealift.shell(tar)).ok();
    let save = [
        "save",
        "-q",
        "--offline",
        "--from",
        "saved.tar",
        "-o",
        "images.tar",
    ];
    sealift.run(&save).ok();
    ids
}

fn hex(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap()
}

#[test]
fn images_without_a_name_are_called_by_their_ids() {
    let sealift = Sealift::new();
    let ids = saved(&sealift);
    let verified = sealift.run(&["verify", "images.tar"]).ok().stdout;
    let again = ["save", "--offline", "--from", "images.tar", "-o", "again.tar"];
    let again = sealift.run(&again).ok().stdout;
    for said in [verified, again] {
        let lines = said.lines().filter(|line| line.starts_with("sha256:"));
        for line in lines {
            assert!(ids.iter().any(|id| line.starts_with(id)), "{line}");
        }
        assert!(
            ids.iter().all(|id| said.contains(&format!("{id}: no "))),
            "{said}"
        );
    }
    let same = ["images.tar", "again.tar"].map(|archive| fs::read(sealift.path(archive)).unwrap());
    assert!(same[0] == same[1]);
    let short = &hex(&ids[0])[..12];
    for id in [ids[0].as_str(), short] {
        let rename = format!("{id}=imp/b");
        let line = [
            "save",
            "--offline",
            "--from",
            "images.tar",
            id,
            "--rename",
            &rename,
            "-o",
            "x.tar",
        ];
        let said = sealift.run(&line).code(2).stderr;
        let told = format!(
            "error: {} has no tag of its own, and imp/b names none\nhint: ",
            ids[0]
        );
        assert!(said.starts_with(&told), "{said}");
    }
    let named = format!("{short}=imp/b:1");
    let line = [
        "save",
        "-q",
        "--offline",
        "--from",
        "images.tar",
        short,
        "--rename",
        &named,
        "-o",
        "x.tar",
    ];
    sealift.run(&line).ok();
    let listed = sealift.run(&["list", "--json", "x.tar"]).ok().json();
    assert_eq!(listed["archives"][0]["images"][0]["name"], "imp/b:1");
    let line = [
        "save",
        "--offline",
        "--from",
        "images.tar",
        "httpd:2",
        "-o",
        "x.tar",
    ];
    let said = sealift.run(&line).code(7).stderr;
    assert!(
        ids.iter()
            .all(|id| said.contains(&format!("without a name ({id})"))),
        "{said}"
    );
}

#[test]
fn a_load_names_all_of_them_or_skips_them() {
    let sealift = Sealift::new();
    let mut ids = saved(&sealift);
    ids.sort();
    // A store of a Docker that is not running needs no engine.
    let engine = sealift.path("docker/image/overlay2");
    fs::create_dir_all(engine.join("imagedb/content/sha256")).unwrap();
    fs::create_dir_all(sealift.path("docker/overlay2")).unwrap();
    fs::write(engine.join("repositories.json"), r#"{"Repositories":{}}"#).unwrap();
    for id in &ids {
        let config = sealift.path("saved").join(format!("{}.json", hex(id)));
        fs::copy(config, engine.join("imagedb/content/sha256").join(hex(id))).unwrap();
    }
    let load = ["load", "images.tar", "--data-root", "docker"];
    let said = sealift.run(&load).code(2).stderr;
    let told = said.lines().next().unwrap();
    assert!(
        told.starts_with("error: images sha256:") && told.ends_with(" have no name in images.tar"),
        "{said}"
    );
    assert!(ids.iter().all(|id| told.contains(id)), "{said}");
    assert!(said.contains("--keep-going loads the others"), "{said}");
    let named = format!("{}=imp/b:1", ids[0]);
    let said = sealift
        .run(&[&load[..], &["--rename", &named]].concat())
        .code(2)
        .stderr;
    let told = format!("error: image {} has no name in images.tar\n", ids[1]);
    assert!(said.starts_with(&told), "{said}");
    let said = sealift.run(&[&load[..], &["--rename", &named, "--keep-going"]].concat());
    let said = said.code(2);
    let told = format!("warning: {} was skipped: it has no name", ids[1]);
    assert!(said.stderr.contains(&told), "{said:?}");
    let names = fs::read_to_string(engine.join("repositories.json")).unwrap();
    assert!(names.contains(&format!(r#""imp/b:1":"{}""#, ids[0])), "{names}");
}
