//! The examples of the help texts that need no engine, and the tests that SECURITY.md names.

use crate::support::{Image, Sealift, Serving, examples, run};

#[test]
fn every_example_that_needs_no_engine_does_what_it_says() {
    let sealift = Sealift::new();
    Image::sample("httpd", "2.4").build(&sealift.path("layout"), "2.4");
    let save = ["save", "--from", "layout", "httpd:2.4", "-o", "images.tar"];
    let said = sealift.run(&save).ok();
    sealift.run(&[&save[..], &["--split", "250kB"]].concat()).ok();
    let prelude = examples::write_lists(&sealift);
    let digest = said.stdout.trim().rsplit(' ').next().unwrap();
    for folder in ["bash_completion.d", "zsh", ".config/fish/completions", "man1"] {
        std::fs::create_dir_all(sealift.path(folder)).unwrap();
    }
    sealift
        .run(&["load", "-q", "images.tar", "--to", "oci:host"])
        .ok();
    sealift
        .run(&["inventory", "-q", "--from", "oci:host", "-o", "server1.json"])
        .ok();
    let signed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/testdata/signatures/archives/r1.tar.gz"
    );
    run(&mut sealift.shell(&format!("gunzip -c {signed} > signed.tar"))).ok();
    let registry = Serving::start(&sealift, &["images.tar"]);
    let place = format!("registry://{}", registry.address);
    let mirror = format!("--from registry --mirror docker.io={}", registry.address);
    let named = format!(
        "--missing-from registry --mirror docker.io={} compose.yaml",
        registry.address
    );
    let replaced = [
        ("registry://harbor.local/mirror", place.as_str()),
        ("--from registry", &mirror),
        ("--missing-from registry compose.yaml", &named),
        // The compose file here has no profile, which is reported.
        ("--profile debug", "--profile '*'"),
        // httpd:2.4 has no attestations.
        (
            "images.tar --image httpd:2.4 --sbom",
            "signed.tar --platform linux/arm64 --sbom",
        ),
        ("images.tar --image httpd:2.4 --platform", "signed.tar --platform"),
        ("sha256:...", digest),
        ("/etc/bash_completion.d", "bash_completion.d"),
        ("${fpath[1]}", "zsh"),
        ("/usr/local/share/man/man1", "man1"),
    ];
    for command in examples::commands(&sealift) {
        if examples::BESIDE_AN_ENGINE.contains(&command.as_str()) {
            continue;
        }
        for line in examples::with_documents(&sealift, &command) {
            let said = examples::execute(&sealift, prelude, &line, &replaced);
            assert!(said.stderr.is_empty(), "{line}: {}", said.stderr);
        }
    }
    for written in [
        "bash_completion.d/sealift",
        "zsh/_sealift",
        ".config/fish/completions/sealift.fish",
        "man1/sealift.1",
    ] {
        let text = std::fs::read_to_string(sealift.path(written)).unwrap();
        assert!(text.contains("sealift"), "{written}");
    }
}

/// The source files below a folder, as one text.
fn sources(folder: &std::path::Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_security_md_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests"), &mut all);
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let is_test = |name: &&str| {
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        is_name && name.matches('_').count() >= 3
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(all.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}
