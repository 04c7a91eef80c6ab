//! How the processes of a daemon are started.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::Folder;
use super::super::engine::Root;
use super::Options;

pub fn spawn(folder: &Folder, root: &Root, options: &Options) -> Child {
    let command = &mut dockerd(root, options);
    if options.activated {
        let mut wrapped = with_socket(command, &root.outside("docker.sock"));
        return folder.spawn_with_stdin(&mut wrapped, &root.outside("dockerd.log"));
    }
    folder.spawn(command, &root.outside("dockerd.log"))
}

pub fn dockerd(root: &Root, options: &Options) -> Command {
    let mut command = root.command("dockerd");
    let pairs = [
        ("--config-file", "daemon.json"),
        ("--data-root", "root"),
        ("--exec-root", "exec"),
        ("--pidfile", "docker.pid"),
    ];
    for (flag, name) in pairs.into_iter().skip(usize::from(options.stock)) {
        command.arg(flag).arg(root.inside(name));
    }
    if options.activated {
        command.args(["-H", "fd://"]);
    } else {
        command
            .arg("-H")
            .arg(format!("unix://{}", root.inside("docker.sock").display()));
    }
    command
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
        .args(&options.flags);
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    if !options.unshared.is_empty() {
        command = with_namespaces(&command, options, root);
    }
    command
}

/// The same command, and process, in namespaces of its own.
fn with_namespaces(command: &Command, options: &Options, root: &Root) -> Command {
    let mut wrapped = Command::new("unshare");
    wrapped.args(&options.unshared);
    if options.unshared.contains(&"--pid") {
        wrapped.arg(format!("--mount-proc={}", root.path().join("proc").display()));
    }
    if options.loopback_up && options.unshared.contains(&"--net") {
        wrapped.args(["sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"]);
    }
    wrapped
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap());
    }
    wrapped
}

/// Listens on a socket, and on the first connection runs the command that follows, which inherits it, as systemd
/// does for a socket unit.
pub const ACTIVATED: &str = r#"
import os, select, socket, sys
path = sys.argv[1]
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
select.select([listener], [], [])
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// The same command with a listening socket of ours as its third descriptor; sd_listen_fds(3).
fn with_socket(command: &Command, socket: &Path) -> Command {
    let _ = fs::remove_file(socket);
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let mut wrapped = Command::new("sh");
    wrapped
        .args([
            "-c",
            r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#,
            "sh",
        ])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    wrapped
}
