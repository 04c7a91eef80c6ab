//! Images without a name are called by their ids, and skipped by a load that keeps going.

use std::fs;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{Sealift, Transcript, image, run};

/// An archive of two images without a name and without layers, and their ids.
fn saved(sealift: &Sealift) -> [String; 2] {
    let folder = sealift.path("saved");
    fs::create_dir(&folder).unwrap();
    let mut manifest = Vec::new();
    let ids = ["one", "two"].map(|version| {
        let config = json!({
            "architecture": "amd64",
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

/// A transcript that names the ids.
fn transcript<'a>(sealift: &'a Sealift, ids: &[String; 2]) -> Transcript<'a> {
    let mut transcript = Transcript::of(sealift);
    for (id, name) in ids.iter().zip(["one", "two"]) {
        transcript.name(id, format!("<id of {name}>"));
        transcript.name(&hex(id)[..12], format!("<short id of {name}>"));
    }
    transcript
}

#[test]
fn images_without_a_name_are_called_by_their_ids() {
    let sealift = Sealift::new();
    let ids = saved(&sealift);
    let short = &hex(&ids[0])[..12];
    let mut transcript = transcript(&sealift, &ids);
    transcript.run("verify images.tar").ok();
    transcript
        .run("save --offline --from images.tar -o again.tar")
        .ok();
    let same = ["images.tar", "again.tar"].map(|archive| fs::read(sealift.path(archive)).unwrap());
    assert!(same[0] == same[1]);
    let save = "save --offline --from images.tar -o x.tar";
    for id in [ids[0].as_str(), short] {
        transcript.run(&format!("{save} {id} --rename {id}=imp/b"));
    }
    transcript
        .run(&format!("{save} {short} --rename {short}=imp/b:1"))
        .ok();
    transcript.run(&format!("{save} httpd:2"));
    assert_snapshot!(transcript.text(), @"
    $ sealift verify images.tar
    <id of one>: no digest is known
    <id of two>: no digest is known
    images.tar: 4 blobs, 916 B: all good
    archive <digest 1>

    $ sealift save --offline --from images.tar -o again.tar
    NAME          DIGEST   EVIDENCE   PLATFORMS     SIZE    FROM
    <id of one>   <none>   none       linux/amd64   458 B   images.tar
    <id of two>   <none>   none       linux/amd64   458 B   images.tar
    <id of one>: no manifest: it was saved without a name
    <id of two>: no manifest: it was saved without a name
    again.tar: 8.7 kB
    archive <digest 1>

    $ sealift save --offline --from images.tar -o x.tar <id of one> --rename <id of one>=imp/b
    2> error: <id of one> has no tag of its own, and imp/b names none
    2> hint: <id of one>=imp/b:TAG
    exit 2

    $ sealift save --offline --from images.tar -o x.tar <short id of one> --rename <short id of one>=imp/b
    2> error: <id of one> has no tag of its own, and imp/b names none
    2> hint: <id of one>=imp/b:TAG
    exit 2

    $ sealift save --offline --from images.tar -o x.tar <short id of one> --rename <short id of one>=imp/b:1
    NAME      DIGEST   EVIDENCE   PLATFORMS     SIZE    FROM
    imp/b:1   <none>   none       linux/amd64   458 B   images.tar
    imp/b:1: no manifest: it was saved without a name
    x.tar: 6.6 kB
    archive <digest 2>

    $ sealift save --offline --from images.tar -o x.tar httpd:2
    2> error: httpd:2 not found in images.tar
    2> hint: it holds an image without a name (<id of one>), an image without a name (<id of two>)
    exit 7
    ");
}

#[test]
fn a_load_names_all_of_them_or_skips_them() {
    let sealift = Sealift::new();
    let mut ids = saved(&sealift);
    ids.sort();
    // The store of a stopped Docker needs no engine.
    let engine = sealift.path("docker/image/overlay2");
    fs::create_dir_all(engine.join("imagedb/content/sha256")).unwrap();
    fs::create_dir_all(sealift.path("docker/overlay2")).unwrap();
    fs::write(engine.join("repositories.json"), r#"{"Repositories":{}}"#).unwrap();
    for id in &ids {
        let config = sealift.path("saved").join(format!("{}.json", hex(id)));
        fs::copy(config, engine.join("imagedb/content/sha256").join(hex(id))).unwrap();
    }
    let mut transcript = transcript(&sealift, &ids);
    let load = "load images.tar --data-root docker";
    transcript.run(load);
    transcript.run(&format!("{load} --rename {}=imp/b:1", ids[0]));
    transcript.run(&format!("{load} --rename {}=imp/b:1 --keep-going", ids[0]));
    assert_snapshot!(transcript.text(), @"
    $ sealift load images.tar --data-root docker
    2> error: images <id of one>, <id of two> have no name in images.tar
    2> hint: --rename <id of one>=NAME:TAG names it; --keep-going loads the others
    exit 2

    $ sealift load images.tar --data-root docker --rename <id of one>=imp/b:1
    2> error: image <id of two> has no name in images.tar
    2> hint: --rename <id of two>=NAME:TAG names it; --keep-going loads the others
    exit 2

    $ sealift load images.tar --data-root docker --rename <id of one>=imp/b:1 --keep-going
    NAME    TAG   DIGEST   EVIDENCE   SHOWN   CHANGE
    imp/b   1     <none>   none       -       new
    1 image in the store in docker (overlay2, of a stopped Docker), 0 B sent
    2> note: no digest: imp/b:1: it was saved without a name
    2> warning: <id of two> was skipped: it has no name
    2> hint: --rename <id of two>=NAME:TAG names it
    exit 2
    ");
    let names = fs::read_to_string(engine.join("repositories.json")).unwrap();
    assert!(names.contains(&format!(r#""imp/b:1":"{}""#, ids[0])), "{names}");
}
