//! What is told of layers that are there only uncompressed, and of substitute manifests.

use serde_json::{Value, json};

use crate::support::{Built, Image, Sealift};

/// A layout with the same image under several names.
fn layout(sealift: &Sealift, names: &[&str]) -> Vec<Built> {
    let image = Image::sample("app", "1").without_index();
    let path = sealift.path("layout");
    let build = |name: &&str| image.build(&path, &format!("docker.io/library/{name}"));
    names.iter().map(build).collect()
}

fn images(sealift: &Sealift, command: &str) -> Vec<Value> {
    let document = sealift.run(&[command, "--json", "layout"]).ok().json();
    document["archives"][0]["images"].as_array().unwrap().clone()
}

#[test]
fn what_is_only_uncompressed_is_there_and_told() {
    let sealift = Sealift::new();
    let image = &layout(&sealift, &["app:1"])[0];
    let layers = &image.host().layers;
    image.uncompress(&[1, 2]);
    let tar = |at: usize| std::fs::metadata(image.blob(&layers[at].diff_id)).unwrap().len();
    let listed = &images(&sealift, "list")[0];
    assert_eq!(listed["digest"], image.digest.as_str());
    assert_eq!(
        (&listed["evidence"], &listed["complete"]),
        (&json!("manifest"), &json!(true))
    );
    assert_eq!(
        (&listed["stand_in"], &listed["provenance"]),
        (&Value::Null, &Value::Null)
    );
    let mut uncompressed: Vec<Value> = [1, 2]
        .map(|at| json!({ "digest": layers[at].digest, "diff_id": layers[at].diff_id, "size": tar(at) }))
        .into();
    uncompressed.sort_by_key(|layer| layer["digest"].to_string());
    assert_eq!(listed["uncompressed"], json!(uncompressed));
    assert_eq!(listed["layers"], 3);
    let config = std::fs::metadata(image.blob(&image.host().config)).unwrap().len();
    assert_eq!(
        listed["size"],
        image.size + config + layers[0].size + tar(1) + tar(2)
    );
    let text = sealift.run(&["list", "layout"]).ok().stdout;
    assert!(text.contains("\n  2 of 3 layers uncompressed\n"), "{text}");

    let verified = &images(&sealift, "verify")[0];
    assert_eq!(
        (&verified["evidence"], &verified["uncompressed"]),
        (&json!("verified"), &json!(2))
    );
    let text = sealift.run(&["verify", "layout"]).ok().stdout;
    assert!(
        text.contains("app:1: 2 layers are here only uncompressed\n") && text.contains("all good"),
        "{text}"
    );
    let quick = sealift.run(&["verify", "--quick", "-q", "layout"]).ok().stdout;
    assert_eq!(quick.lines().count(), 1, "{quick}");

    // Where it came from is outside text, and counts for nothing.
    let hostile = json!({
        "manifest": { "from": "rebuilt", "by": "docker push" },
        "layers": {
            &layers[0].digest: { "from": "rebuilt", "by": "Go gzip -1" },
            &layers[1].digest: { "from": "uncompressed", "reason": "\u{1b}[2Jnone" },
            &layers[2].digest: { "from": "uncompressed", "reason": "\u{1b}[2Jnone" },
        },
    });
    image.annotate("dev.sealift.provenance", &hostile.to_string());
    let text = sealift.run(&["list", "layout"]).ok().stdout;
    let told = "\n  manifest rebuilt (docker push), 1 of 3 layers rebuilt (Go gzip -1), 2 of 3 layers uncompressed (";
    assert!(text.contains(told) && !text.contains('\u{1b}'), "{text:?}");
    assert_eq!(images(&sealift, "list")[0]["provenance"], hostile);
    let mut unlike = hostile;
    unlike["layers"] = json!({});
    image.annotate("dev.sealift.provenance", &unlike.to_string());
    let text = sealift.run(&["list", "layout"]).ok().stdout;
    assert!(
        text.contains("\n  2 of 3 layers uncompressed; manifest rebuilt (docker push)\n"),
        "{text}"
    );

    std::fs::remove_file(image.blob(&layers[1].diff_id)).unwrap();
    let text = sealift.run(&["verify", "layout"]).code(1).stdout;
    assert!(
        text.contains(&layers[1].digest) && text.contains(&layers[1].diff_id),
        "{text}"
    );
    assert_eq!(images(&sealift, "list")[0]["complete"], false);
    let document = sealift.run(&["verify", "--json", "layout"]).code(1).json();
    assert_eq!(document["archives"][0]["images"][0]["evidence"], Value::Null);
}

#[test]
fn a_substitute_is_never_called_by_its_own_digest() {
    let sealift = Sealift::new();
    let built = layout(&sealift, &["known:1", "unknown:1"]);
    let recorded = format!("sha256:{}", "5".repeat(64));
    built[0].annotate("dev.sealift.recorded", &recorded);
    built[1].annotate("dev.sealift.recorded", "none");
    let own = &built[0].digest;
    for command in ["list", "verify"] {
        let images = images(&sealift, command);
        let told = |at: usize| ["name", "digest", "evidence", "stand_in"].map(|key| images[at][key].clone());
        assert_eq!(
            json!(told(0)),
            json!(["known:1", recorded, "recorded", own]),
            "{command}"
        );
        assert_eq!(
            json!(told(1)),
            json!(["unknown:1", null, "none", own]),
            "{command}"
        );
        let text = sealift.run(&[command, "layout"]).ok().stdout;
        assert!(text.contains(&recorded) && !text.contains(own), "{text}");
    }
    let text = sealift.run(&["list", "layout"]).ok().stdout;
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("known:1")[1..4], [recorded.as_str(), "recorded", "complete"]);
    assert_eq!(row("unknown:1")[1..4], ["<none>", "none", "complete"]);
    let text = sealift.run(&["verify", "layout"]).ok().stdout;
    assert!(
        text.contains(&format!("known:1: {recorded} is recorded, not proven"))
            && text.contains("unknown:1: no digest"),
        "{text}"
    );
}
