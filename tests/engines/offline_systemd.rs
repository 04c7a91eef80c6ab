//! Attaching while the engine is stopped, where systemd stops and starts it.

use std::fs;

use crate::attach_offline::{CLASSIC, Offline, process_of, running};
use crate::loading::{Images, Untouched, assert_nothing_is_left};
use crate::support::{Daemon, Engine, Image, Store, command};

/// A systemctl that knows the units whose properties lie in a folder, and that treats them as systemd would.
pub struct Systemd {
    folder: tempfile::TempDir,
}

const SYSTEMCTL: &str = r#"#!/bin/sh
state=STATE
echo "$*" >>$state/calls
[ "$1" = --no-ask-password ] && shift
verb=$1
shift
case $verb in
show)
    for unit; do :; done
    cat $state/$unit.properties
    if [ -e $state/$unit.active ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
    [ $unit != docker.service ] || echo MainPID=$(cat PIDFILE)
    ;;
stop)
    for unit; do rm -f $state/$unit.active; done
    rm -f $state/portainer.service.active $state/web.service.active
    pid=$(cat PIDFILE)
    STOP
    while grep -qs '^State:[[:space:]]*[^Z[:space:]]' /proc/$pid/status; do sleep 0.05; done
    # A request arrives while the socket is still there.
    [ ! -e $state/docker.socket.active ] || { START }
    ;;
start)
    for unit; do
        : >$state/$unit.active
        [ $unit != docker.service ] || { START }
    done
    ;;
reset-failed) ;;
*) exit 1 ;;
esac
exit 0
"#;

impl Systemd {
    pub fn of(daemon: &Daemon, kill_mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap().to_owned();
        let script = SYSTEMCTL
            .replace("STATE", &state)
            .replace("PIDFILE", daemon.pid_file().to_str().unwrap())
            .replace("STOP", &daemon.stop_command())
            .replace("{ START }", &format!("{{ {} }}", daemon.start_command()));
        fs::create_dir(folder.path().join("bin")).unwrap();
        let path = folder.path().join("bin/systemctl");
        fs::write(folder.path().join("script"), script).unwrap();
        command::install(folder.path().join("script"), &path);
        let this = Self { folder };
        for (unit, properties, active) in [
            (
                "docker.service",
                format!(
                    "KillMode={kill_mode}\nTriggeredBy=docker.socket\nRequiredBy=portainer.service idle.service\n\
                     RequisiteOf=\nBoundBy=\nConsistsOf=docker.socket\n"
                ),
                true,
            ),
            ("docker.socket", "RequiredBy=docker.service\n".into(), true),
            ("portainer.service", "BoundBy=web.service\n".into(), true),
            ("web.service", String::new(), true),
            ("idle.service", String::new(), false),
        ] {
            fs::write(this.folder.path().join(format!("{unit}.properties")), properties).unwrap();
            if active {
                fs::write(this.folder.path().join(format!("{unit}.active")), "").unwrap();
            }
        }
        this
    }

    /// A PATH in which it is found.
    pub fn path(&self) -> String {
        format!(
            "{}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.folder.path().display()
        )
    }

    fn active(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut active: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(".active")?.to_owned()))
            .collect();
        active.sort();
        active
    }

    pub fn changes(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap();
        let changes = calls
            .lines()
            .filter_map(|line| line.strip_prefix("--no-ask-password "));
        changes.map(str::to_owned).collect()
    }
}

#[test]
fn systemd_stops_and_starts_it_with_its_socket_and_what_depends_on_it() {
    for engine in CLASSIC {
        let daemon = Daemon::start(*engine, Store::Classic);
        let systemd = Systemd::of(&daemon, "process");
        let images = Images::new();
        let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let Offline { sealift, loader, .. } = Offline::beside(&daemon);
        let sealift = sealift.env("PATH", systemd.path());
        let path = images.path().to_str().unwrap().to_owned();
        let load = ["load", &path, "--attach", "offline"];
        sealift.run(&load).code(6);
        let process = running(&daemon, "quay.io/a/b:1", "web");
        let (before, active) = (Untouched::of(&daemon), systemd.active());
        let plan = sealift
            .run(&[&load[..], &["--allow-restart", "--dry-run"]].concat())
            .ok();
        for says in [
            "systemctl stop docker.socket docker.service",
            "systemctl start docker.socket docker.service",
            "portainer.service, web.service",
            "web keep running",
        ] {
            assert!(plan.stdout.contains(says), "{says}: {plan:?}");
        }
        assert_eq!(systemd.changes(), [""; 0]);
        sealift.run(&[&load[..], &["--allow-restart"]].concat()).ok();
        assert_eq!(
            systemd.changes(),
            [
                "stop docker.socket docker.service",
                "reset-failed docker.socket docker.service",
                "start docker.socket docker.service",
                "start portainer.service web.service",
            ]
        );
        assert_eq!((Untouched::of(&daemon), systemd.active()), (before, active));
        assert_eq!(process_of(&daemon, "web"), process);
        assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
        assert_nothing_is_left(&loader);
        daemon.docker(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn a_unit_that_ends_its_containers_is_told_and_another_daemon_is_not_stopped() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let Offline { sealift, .. } = Offline::beside(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    let load = ["load", &path, "--attach", "offline"];
    let systemd = Systemd::of(&daemon, "control-group");
    let ending = sealift.env("PATH", systemd.path());
    ending.run(&load).code(6);
    running(&daemon, "quay.io/a/b:1", "web");
    let said = ending.run(&load).code(6);
    assert!(said.stderr.contains("containers stop: web"), "{said:?}");
    assert!(said.stderr.contains("KillMode=control-group"), "{said:?}");

    let other = Daemon::start(Engine::Docker20, Store::Classic);
    let systemd = Systemd::of(&other, "process");
    let sealift = Offline::beside(&daemon).sealift.env("PATH", systemd.path());
    let said = sealift.run(&[&load[..], &["--allow-restart"]].concat()).code(6);
    assert!(said.stderr.contains("docker.service is not process"), "{said:?}");
    assert!(said.stderr.contains("--stop-command"), "{said:?}");
    assert_eq!(systemd.changes(), [""; 0]);
    daemon.docker(&["rm", "-f", "web"]).ok();
}

#[test]
fn a_daemon_that_inherited_its_socket_comes_up_when_it_is_asked_for() {
    for engine in CLASSIC {
        let daemon = Daemon::options(*engine, Store::Classic).activated().start();
        let systemd = Systemd::of(&daemon, "process");
        let images = Images::new();
        let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let Offline { sealift, loader, .. } = Offline::beside(&daemon);
        let sealift = sealift.env("PATH", systemd.path());
        let path = images.path().to_str().unwrap().to_owned();
        let before = Untouched::of(&daemon);
        sealift
            .run(&["load", &path, "--attach", "offline", "--allow-restart"])
            .ok();
        assert_eq!(Untouched::of(&daemon), before);
        assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
        assert_nothing_is_left(&loader);
    }
}
