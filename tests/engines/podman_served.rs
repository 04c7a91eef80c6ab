//! What other users get from the registry that podman pulls from during a load.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};

use crate::load_podman::Loader;
use crate::podman_killed::{pull_of, start};
use crate::support::podman::{Podman, User, Version};
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
    let notes = "{ grep location \"$CONTAINERS_REGISTRIES_CONF\"; \
        stat -c %a \"${CONTAINERS_REGISTRIES_CONF%/*}\"; } >>\"$HOME/seen\"";
    run(&mut in_a_network(
        &before_each_pull(podman, notes, &[&images]),
        600,
    ))
    .ok();
    let seen = fs::read_to_string(podman.outside("home/seen")).unwrap();
    let (location, mode) = seen.trim().split_once('\n').unwrap();
    let port = location.rsplit(':').next().unwrap().split('/').next().unwrap();
    assert!(port.parse::<u16>().unwrap() < 600, "{seen}");
    assert_eq!(mode, "700", "{seen}");
}

#[test]
fn another_user_who_floods_the_server_does_not_hinder_a_load() {
    let loader = Loader::new(Version::Four, User::Root);
    let podman = &loader.podman;
    let built = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    podman.write_home("flood.py", include_str!("../support/flood.py"));
    let floods = "address=$(sed -n 's,^location = \"\\([0-9.:]*\\)/.*,\\1,p' \"$CONTAINERS_REGISTRIES_CONF\"); \
        setpriv --reuid 65533 --regid 65533 --clear-groups python3 - \"$address\" \
            <\"$HOME/flood.py\" >\"$HOME/flooded\" 2>&1 & \
        until [ -s \"$HOME/flooded\" ]; do sleep 0.05; done";
    run(&mut before_each_pull(podman, floods, &[&podman.inside("images")])).ok();
    let flooded = fs::read_to_string(podman.outside("home/flooded")).unwrap();
    assert_eq!(flooded, "600\n");
    assert_eq!(podman.digest("docker.io/library/app:1"), built.digest);
}

/// A load with a podman that runs commands of the shell before it pulls.
fn before_each_pull(podman: &Podman, commands: &str, args: &[&str]) -> Command {
    let script = format!(
        "#!/bin/sh\nif [ -s \"$CONTAINERS_REGISTRIES_CONF\" ]; then\n{commands}\nfi\nexec /usr/bin/podman \"$@\"\n"
    );
    podman.write_home("bin/podman", &script);
    let program = podman.outside("home/bin/podman");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut load = podman.load_command(args);
    load.env(
        "PATH",
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", podman.inside("home/bin")),
    );
    load
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
