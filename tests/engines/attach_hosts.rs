//! Attaching digests of names outside docker.io: by `/etc/hosts` as the engine sees it.

use std::fs;
use std::time::{Duration, Instant};

use sealift::error::ErrorKind;
use sealift::load::LoadOptions;

use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left, assert_runs};
use crate::support::{Built, Daemon, Engine, Image, Store, daemon, run};

/// Classic engines that may do with their `/etc/hosts` and ports what they want.
pub fn private(engine: Engine) -> daemon::Options {
    Daemon::options(engine, Store::Classic)
        .own_mounts()
        .own_network(true)
}

pub const CLASSIC: &[Engine] = &[
    Engine::Docker20,
    #[cfg(feature = "test-all")]
    Engine::Docker26,
    Engine::Docker28,
];

#[test]
fn names_of_every_kind_show_their_digest() {
    for engine in CLASSIC {
        let images = Images::new();
        let app = Image::sample("app", "1");
        let other = Image::sample("app", "2");
        let digest = images.add("httpd:2.4", &app).digest;
        let second = images.add("quay.io/a/b:3", &other).digest;
        let names = [
            "user/app:1",
            "quay.io/a/b:1",
            "quay.io/a/b:2",
            "registry.example.com:5000/a/b/c:1",
            "127.0.0.1:5000/x:1",
            "localhost/x:1",
        ];
        for name in names {
            images.add(name, &app);
        }
        images.add_by_digest("ghcr.io/only/digest", &app);
        images.add_by_digest("gcr.io/both/names:7", &app);
        let daemon = private(*engine).start();
        let before = Untouched::of(&daemon);
        let loader = Loader::beside(&daemon);
        loader.load(&images);
        assert_eq!(Untouched::of(&daemon), before);
        assert_nothing_is_left(&loader);

        let mut expected: Vec<String> = names.iter().map(|name| format!("{name} {digest}")).collect();
        expected.push(format!("httpd:2.4 {digest}"));
        expected.push(format!("quay.io/a/b:3 {second}"));
        expected.push(format!("ghcr.io/only/digest:<none> {digest}"));
        expected.push(format!("gcr.io/both/names:<none> {digest}"));
        expected.sort();
        // The list has a line for each tag and each digest of a repository.
        let mut shown = daemon.images();
        shown.dedup();
        shown.retain(|line| !line.starts_with("quay.io/a/b:"));
        expected.retain(|line| !line.starts_with("quay.io/a/b:"));
        assert_eq!(shown, expected, "{engine:?}");
        for (name, digest, says) in [("1", &digest, "1"), ("2", &digest, "1"), ("3", &second, "2")] {
            let image = daemon.inspect(&format!("quay.io/a/b:{name}")).unwrap();
            let digests = image["RepoDigests"].as_array().unwrap();
            assert!(
                digests.contains(&format!("quay.io/a/b@{digest}").into()),
                "{image}"
            );
            assert_runs(&daemon, &format!("quay.io/a/b@{digest}"), says);
        }
        assert_runs(&daemon, &format!("localhost/x@{digest}"), "1");
        assert_runs(&daemon, &format!("gcr.io/both/names@{digest}"), "1");
    }
}

/// What a pull from a registry says that cannot be reached.
fn pull_error(daemon: &Daemon) -> String {
    let said = daemon.docker(&["pull", "quay.io/a/b:none"]);
    assert_ne!(said.code, Some(0));
    said.stderr
}

fn app() -> (Images, Built) {
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    (images, built)
}

#[test]
fn the_name_leads_where_it_led_before() {
    for engine in CLASSIC {
        let (images, built) = app();
        let daemon = private(*engine).start();
        // An administrator's own line, in a file that is the daemon's alone.
        let hosts = "127.0.0.1 localhost\n10.9.8.7 cdn.quay.io quay.io\n";
        mount_hosts_file(&daemon, hosts);
        // What it has read since it started it believes for five seconds.
        std::thread::sleep(Duration::from_secs(6));
        assert!(pull_error(&daemon).contains("10.9.8.7"));
        let loader = Loader::beside(&daemon);
        let before = Untouched::of(&daemon);
        let since = Instant::now();
        loader.load(&images);
        let taken = since.elapsed();
        let said = pull_error(&daemon);
        assert!(
            said.contains("10.9.8.7") && !said.contains("127.0.0."),
            "{engine:?}: {said}"
        );
        assert_eq!(Untouched::of(&daemon), before);
        assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
        assert!(taken < Duration::from_secs(40), "{taken:?}");
    }
}

/// Mounts a file over a daemon's `/etc/hosts`, where it alone sees it.
fn mount_hosts_file(daemon: &Daemon, text: &str) {
    fs::write(daemon.data("hosts"), text).unwrap();
    let inside = daemon.data_inside("hosts");
    let root = format!("/proc/{}/root", daemon.pid());
    let from = format!("{}{}", daemon.root().display(), inside.display()).replace("//", "/");
    let to = format!("{}/etc/hosts", daemon.root().display()).replace("//", "/");
    assert!(fs::exists(root).unwrap());
    let pid = daemon.pid().to_string();
    let mut command = std::process::Command::new("nsenter");
    command.args(["--target", &pid, "--mount", "mount", "--bind", &from, &to]);
    run(&mut command).ok();
}

#[test]
fn mounts_that_only_the_engine_sees_are_laid_where_it_sees_them() {
    // Also for names of docker.io, by its daemon.json.
    for engine in CLASSIC {
        let (images, built) = app();
        images.add("httpd:2.4", &Image::sample("app", "1"));
        let daemon = private(*engine).start();
        let ours = fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count();
        let loader = Loader::beside(&daemon);
        let before = Untouched::of(&daemon);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| loader.load(&images));
            let mut seen = false;
            while !load.is_finished() {
                let here = fs::read_to_string(daemon.hosts_file()).unwrap();
                assert!(!here.contains("quay.io"), "{here}");
                let inside = format!("/proc/{}/root/etc/hosts", daemon.pid());
                seen |= fs::read_to_string(inside).unwrap().contains("quay.io");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(seen, "the engine never saw it");
        });
        assert!(ours > 0);
        assert_eq!(Untouched::of(&daemon), before);
        let digest = &built.digest;
        let expected = [format!("httpd:2.4 {digest}"), format!("quay.io/a/b:1 {digest}")];
        assert_eq!(daemon.images(), expected);
    }
}

#[test]
fn a_network_without_loopback_is_told() {
    let (images, _) = app();
    let daemon = Daemon::options(Engine::Docker28, Store::Classic)
        .own_network(false)
        .start();
    let loader = Loader::beside(&daemon);
    let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    let reason = &report.images[0].obstacles[0];
    assert!(reason.reason.contains("loopback network"), "{reason}");
    assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
}

#[test]
fn several_loads_do_not_fight_for_an_address() {
    // Two daemons in one network, with one sealift each that knows nothing of the other.
    let daemons = [
        Daemon::start(Engine::Docker28, Store::Classic),
        Daemon::start(Engine::Docker28, Store::Classic),
    ];
    let (images, built) = app();
    std::thread::scope(|scope| {
        for daemon in &daemons {
            scope.spawn(|| Loader::beside(daemon).load(&images));
        }
    });
    for daemon in &daemons {
        assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
    }
}

#[test]
fn ports_that_every_user_can_bind_are_not_used() {
    for engine in CLASSIC {
        let daemon = private(*engine).start();
        let loader = Loader::beside(&daemon);
        let image = Image::sample("app", "1");
        // The ports of the mirrors that it was told of so far.
        let mirrors = || -> Vec<u16> {
            let log = daemon.log();
            let ports = log.split("http://127.0.0.1:").skip(1);
            ports
                .map(|rest| {
                    rest.split(|c: char| !c.is_ascii_digit())
                        .next()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect()
        };
        let images = Images::new();
        images.add("httpd:1", &image);
        images.add("quay.io/a/b:1", &image);
        daemon.set_unprivileged_ports(600);
        let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
        assert!(
            format!("{:?}", plan.details.attach).contains("a port below 600 of"),
            "{plan:?}"
        );
        loader.load(&images);
        let used = mirrors();
        assert!(
            !used.is_empty() && used.iter().all(|port| *port < 600),
            "{used:?}"
        );

        let images = Images::new();
        images.add("httpd:2", &Image::sample("app", "2"));
        images.add("quay.io/a/b:2", &Image::sample("app", "2"));
        daemon.set_unprivileged_ports(80);
        let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
        assert_eq!(report.failure(), Some(ErrorKind::NotShown));
        let (mirrored, named) = (&report.images[0], &report.images[1]);
        assert!(mirrored.obstacles.is_empty(), "{mirrored:?}");
        let says = "every user can bind port 80 where dockerd runs, and answer for quay.io";
        assert!(named.obstacles[0].reason.contains(says), "{named:?}");
        assert!(
            named.obstacles[0]
                .hint
                .as_ref()
                .unwrap()
                .to_string()
                .contains("sysctl net.ipv4"),
            "{named:?}"
        );
        assert!(mirrors().last().is_some_and(|port| *port < 80), "{:?}", mirrors());

        let images = Images::new();
        images.add("httpd:3", &Image::sample("app", "3"));
        images.add("localhost/x:3", &Image::sample("app", "3"));
        daemon.set_unprivileged_ports(0);
        let before = mirrors().len();
        let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
        let (mirrored, own) = (&report.images[0], &report.images[1]);
        let says = "every user can bind the ports from 0 on";
        assert!(mirrored.obstacles[0].reason.contains(says), "{mirrored:?}");
        assert!(
            own.obstacles.is_empty(),
            "it leads nowhere when it is interrupted: {own:?}"
        );
        assert_eq!(mirrors().len(), before);
    }
}

#[test]
fn nobody_else_answers_while_a_name_leads_here() {
    let (images, built) = app();
    let daemon = private(Engine::Docker28).start();
    let loader = Loader::beside(&daemon);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| loader.load(&images));
        let mut tried = 0;
        while !load.is_finished() {
            let inside = format!("/proc/{}/root/etc/hosts", daemon.pid());
            let hosts = fs::read_to_string(inside).unwrap();
            let line = hosts.lines().find(|line| line.contains(" quay.io"));
            if let Some(address) = line.and_then(|line| line.split(' ').next()) {
                for port in [443, 80] {
                    let taken = daemon.try_listen(&format!("{address}:{port}"));
                    assert!(taken.is_err(), "{address}:{port} was free");
                    tried += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(tried > 0, "the name never led anywhere");
    });
    assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
}

#[test]
fn what_registries_are_made_of_is_not_led_elsewhere() {
    let daemon = private(Engine::Docker28).start();
    let loader = Loader::beside(&daemon);
    let images = Images::new();
    let image = Image::sample("app", "1");
    images.add("auth.docker.io/a/b:1", &image);
    images.add("quay.io/a/b:1", &image);
    let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
    let steps = format!("{:?}", plan.details.attach);
    let told = "for about 11 seconds these names lead to this process";
    assert!(
        steps.contains(told) && steps.contains("/etc/hosts: quay.io\""),
        "{steps}"
    );
    let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    let reason = &report.images[0].obstacles[0].reason;
    assert!(
        reason.contains("auth.docker.io belongs to a registry's infrastructure"),
        "{reason}"
    );
    assert!(report.images[1].obstacles.is_empty(), "{report:?}");
    assert_eq!(daemon.images()[0], "auth.docker.io/a/b:1 <none>");
}
