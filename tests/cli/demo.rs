//! `make demo` of a user without root and without Docker. `.ci/run` runs it with a Docker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::command::install;
use crate::support::{Sealift, run};

#[test]
fn the_demo_needs_neither_root_nor_docker() {
    let sealift = Sealift::new();
    for file in [
        "demo/run.sh",
        "packaging/layout.sh",
        "tests/debian.sh",
        "tests/dockerd.sh",
    ] {
        let copy = sealift.path(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), copy).unwrap();
    }
    let (program, temporary) = (sealift.path("sealift"), sealift.path("temporary"));
    install(env!("CARGO_BIN_EXE_sealift"), &program);
    fs::create_dir(&temporary).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).unwrap();
    let script = sealift.path("demo/run.sh");
    let mut demo = sealift.program_of_another_user(script.to_str().unwrap());
    demo.env("SEALIFT", program).env("TMPDIR", &temporary);
    // No Docker answers, as where there is none.
    let said = run(demo.env("DOCKER_CONTEXT", "none")).ok().stdout;

    let (_, digest) = said.split_once("the registry serves it as httpd@").unwrap();
    let digest = digest.lines().next().unwrap();
    assert!(digest.starts_with("sha256:"), "{said}");
    let pull = format!("$ sealift save httpd@{digest} --mirror docker.io=127.0.0.1:");
    let (_, after) = said.split_once(&pull).unwrap_or_else(|| panic!("{said}"));
    let same = "$ diff -r sent pulled\nthe same digest that the registry gave";
    assert!(after.contains(same), "{said}");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}
