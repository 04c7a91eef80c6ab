//! What other users get from the registry that podman pulls from during a load.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};

use crate::load_podman::Loader;
use crate::podman_killed::{pull_of, start};
use crate::support::podman::{User, Version};
use crate::support::{Image, Layer, run};

#[test]
fn other_users_read_nothing_from_the_server() {
    let loader = Loader::new(Version::Four, User::Rootless);
    let podman = &loader.podman;
    let layers = vec![Layer::busybox(), Layer::new().noise("data", 7, 60_000_000)];
    let built = loader.add("images", "docker.io/library/large:1", &Image::single(layers));
    let mut child = start(podman, &[&podman.inside("images")]);
    pull_of(&mut child, "docker.io/library/large:1").expect("it was pulled");
    let (mut asked, mut ended) = (0, false);
    while !ended {
        ended = child.try_wait().unwrap().is_some();
        for address in listeners_of(&child) {
            let path = format!("/v2/images/0/manifests/{}", built.digest);
            let answer = crate::support::http::over_tcp(&address, "GET", &path, &[], &[]);
            if let Ok(answer) = answer {
                assert_eq!(answer.status, 401);
                asked += 1;
            }
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(asked > 0);
}

/// The addresses on which a process listens.
fn listeners_of(child: &Child) -> Vec<String> {
    let pid = format!("pid={},", child.id());
    let said = run(Command::new("ss").args(["-ltnpH"])).ok().stdout;
    let lines = said.lines().filter(|line| line.contains(&pid));
    lines
        .filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned()))
        .collect()
}

#[test]
fn root_serves_only_at_ports_that_are_root_s_alone() {
    let loader = Loader::new(Version::Four, User::Root);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let images = podman.inside("images");
    for more in [&[][..], &["--dry-run"]] {
        let load = podman.load_command(&[&[images.as_str()][..], more].concat());
        let refused = run(&mut in_a_network(&load, 0)).code(6);
        for says in [
            "every user can bind the ports from 0 on where podman runs",
            "sysctl net.ipv4.ip_unprivileged_port_start=1024",
        ] {
            assert!(refused.stderr.contains(says), "{}", refused.stderr);
        }
        assert_eq!(podman.names(), [""; 0]);
    }
    // The podman that sealift runs notes what it is given, and the mode of the folder with the password.
    let script = "#!/bin/sh\n\
        if [ -s \"$CONTAINERS_REGISTRIES_CONF\" ]; then\n\
            { grep location \"$CONTAINERS_REGISTRIES_CONF\"; stat -c %a \"${CONTAINERS_REGISTRIES_CONF%/*}\"; } >>\"$HOME/seen\"\n\
        fi\n\
        exec /usr/bin/podman \"$@\"\n";
    podman.write_home("bin/podman", script);
    let program = podman.outside("home/bin/podman");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut load = podman.load_command(&[&images]);
    load.env(
        "PATH",
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", podman.inside("home/bin")),
    );
    run(&mut in_a_network(&load, 600)).ok();
    let seen = fs::read_to_string(podman.outside("home/seen")).unwrap();
    let (location, mode) = seen.trim().split_once('\n').unwrap();
    let port = location.rsplit(':').next().unwrap().split('/').next().unwrap();
    assert!(port.parse::<u16>().unwrap() < 600, "{seen}");
    assert_eq!(mode, "700", "{seen}");
}

/// The program of a command with its environment, in a network of its own where every user can bind the ports from `first`
/// on, and with a umask that keeps nothing from other users.
fn in_a_network(command: &Command, first: u16) -> Command {
    let script =
        "ip link set lo up; echo $0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; umask 0; exec \"$@\"";
    let mut inside = crate::support::command::clean("/usr/bin/unshare", Path::new("/nonexistent"));
    inside.args(["--net", "sh", "-ec", script, &first.to_string()]);
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    inside
}
