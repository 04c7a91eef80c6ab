//! sealift as on a kernel of 3.10: newer system calls fail with ENOSYS, and nothing else does.

use std::process::Command;

use super::command::{Run, Sealift};

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
pub fn run(sealift: &Sealift, args: &[&str]) -> Run {
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
    super::command::run(&mut command)
}
