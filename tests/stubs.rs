//! The stubs of gRPC services are what tonic generates from the `.proto` files beside them.
//!
//! After a change of a `.proto` file, `UPDATE_STUBS=1 cargo test --test stubs` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// A folder of `.proto` files, and the folder of the stubs.
struct Stubs {
    protos: &'static str,
    files: &'static [&'static str],
    stubs: &'static str,
    /// Packages whose stubs are in a module of their own, and the module.
    elsewhere: &'static [(&'static str, &'static str)],
}

/// What the program uses of containerd, and the tests of the container runtime interface.
const STUBS: [Stubs; 3] = [
    Stubs {
        protos: "src/containerd/proto",
        files: &["types"],
        stubs: "src/containerd/api",
        elsewhere: &[],
    },
    Stubs {
        protos: "src/containerd/proto",
        files: &[
            "content",
            "cri",
            "diff",
            "images",
            "introspection",
            "leases",
            "snapshots",
            "version",
        ],
        stubs: "src/containerd/api",
        elsewhere: &[(".containerd.types", "crate::containerd::api::types")],
    },
    Stubs {
        protos: "tests/support/cri",
        files: &["runtime"],
        stubs: "tests/support/cri",
        elsewhere: &[],
    },
];

/// The file of a package's stubs: `containerd.services.content.v1` is `content.rs`.
fn file_of(package: &str) -> String {
    let mut names = package.rsplit('.');
    let name = names.find(|name| *name != "v1").unwrap();
    format!("{name}.rs")
}

#[test]
fn stubs_are_generated_from_their_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for Stubs {
        protos,
        files,
        stubs,
        elsewhere,
    } in STUBS
    {
        let files = files.iter().map(|name| format!("{name}.proto"));
        let compiled = protox::compile(files, [root.join(protos)]).unwrap();
        let generated = tempfile::tempdir().unwrap();
        let mut builder = tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false);
        for (package, module) in elsewhere {
            builder = builder.extern_path(*package, *module);
        }
        builder.out_dir(generated.path()).compile_fds(compiled).unwrap();
        for file in fs::read_dir(generated.path()).unwrap() {
            let file = file.unwrap().path();
            let place = root
                .join(stubs)
                .join(file_of(file.file_stem().unwrap().to_str().unwrap()));
            let expected = fs::read_to_string(&file).unwrap();
            if std::env::var_os("UPDATE_STUBS").is_some() {
                fs::write(&place, &expected).unwrap();
            }
            let found = fs::read_to_string(&place).unwrap_or_default();
            assert!(
                found == expected,
                "{}: UPDATE_STUBS=1 writes it anew",
                place.display()
            );
        }
    }
}
