//! The examples of the help text and of the documents.

use std::fs;

use crate::Setup;
use crate::support::{Sealift, examples};

#[test]
fn every_example_does_what_it_says() {
    let setup = Setup::new();
    let sealift = Sealift::new();
    let address = setup.registry.address();
    setup.registry.push(&setup.web, "web:2");
    fs::write(
        sealift.path("list.txt"),
        format!("{address}/app:1\n{address}/team/web:2\n"),
    )
    .unwrap();
    let image = format!("{address}/app:1");
    let said = sealift.run(&["save", &image, "-o", "images.tar"]).ok();
    sealift
        .run(&["save", &image, "-o", "images.tar", "--split", "250kB"])
        .ok();
    let digest = said.stdout.trim().rsplit(' ').next().unwrap();
    let web = format!("web@{}", setup.web.digest);
    let root = setup.registry.root().display().to_string();
    let replaced = [
        ("web@sha256:...", web.as_str()),
        ("sha256:...", digest),
        ("harbor.local", address),
        ("/var/lib/registry", &root),
        ("/etc/sealift/images.txt", "list.txt"),
        ("/var/lib/sealift/state.json", "state.json"),
        ("/var/lib/sealift/images.prom", "images.prom"),
    ];
    for line in examples::with_documents(&sealift, "verify") {
        let said = examples::execute(&sealift, "", &line, &replaced);
        assert!(said.stderr.is_empty(), "{line}: {}", said.stderr);
    }
    for written in ["state.json", "verify.prom"] {
        assert!(
            fs::metadata(sealift.path(written)).unwrap().len() > 100,
            "{written}"
        );
    }
}
