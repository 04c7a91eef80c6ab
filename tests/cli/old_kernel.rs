//! Air-gapped servers run old kernels.

use crate::support::{Image, Registry, Sealift, old_kernel};

#[test]
fn save_and_verify_need_no_newer_system_call() {
    let sealift = Sealift::new();
    let registry = Registry::start();
    let image = Image::sample("old", "1").build(&sealift.path("layout"), "1");
    registry.push(&image, "library/old:1");
    let name = format!("{}/library/old:1", registry.address());
    let saved = old_kernel::run(&sealift, &["save", "-q", &name, "-o", "images.tar"]).ok();
    assert!(saved.stdout.starts_with("archive sha256:"), "{}", saved.stdout);
    old_kernel::run(&sealift, &["verify", "images.tar"]).ok();
    old_kernel::run(
        &sealift,
        &[
            "save",
            "-q",
            "--from",
            "images.tar",
            "--split",
            "100kB",
            "-o",
            "part.tar",
        ],
    )
    .ok();
    old_kernel::run(&sealift, &["verify", "part.tar"]).ok();
}
