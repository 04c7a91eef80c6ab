//! Air-gapped servers run old kernels: newer system calls fail with ENOSYS there, and nothing else does.

use std::process::Command;

use crate::support::*;

/// Each came after Linux 3.10, or (madvise's populate) answers EINVAL before 5.14.
const NEWER: [(&str, &str); 7] = [
    ("statx", "ENOSYS"),
    ("renameat2", "ENOSYS"),
    ("copy_file_range", "ENOSYS"),
    ("openat2", "ENOSYS"),
    ("close_range", "ENOSYS"),
    ("getrandom", "ENOSYS"),
    ("madvise", "EINVAL"),
];

/// Runs sealift under a kernel that lacks all of them.
pub fn on_old_kernel(sealift: &Sealift, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command
        .arg("-e")
        .arg(format!("trace={}", NEWER.map(|(call, _)| call).join(",")));
    for (call, error) in NEWER {
        command.arg("-e").arg(format!("inject={call}:error={error}"));
    }
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(sealift.home())
        .env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(std::process::Stdio::null());
    run(&mut command)
}

#[test]
fn save_and_verify_need_no_newer_system_call() {
    let sealift = Sealift::new();
    let registry = Registry::start();
    let image = Image::sample("old", "1").build(&sealift.path("layout"), "1");
    registry.push(&image, "library/old:1");
    let name = format!("{}/library/old:1", registry.address());
    let saved = on_old_kernel(&sealift, &["save", "-q", &name, "-o", "images.tar"]).ok();
    assert!(saved.stdout.starts_with("archive sha256:"), "{}", saved.stdout);
    on_old_kernel(&sealift, &["verify", "images.tar"]).ok();
    on_old_kernel(
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
    on_old_kernel(&sealift, &["verify", "part.tar"]).ok();
}
