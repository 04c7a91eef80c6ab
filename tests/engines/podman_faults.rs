//! Loads into podman that go wrong, and what a host's configuration does to them.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};

use crate::load_podman::{Loader, assert_equal, assert_nothing_is_left};
use crate::support::podman::{Podman, User, Version};
use crate::support::{Image, Layer, Registry, run};

/// Images with much content, and one that a tag names before the load.
fn update(loader: &Loader) -> Vec<String> {
    loader.add("old", "docker.io/library/app:latest", &Image::sample("app", "1"));
    loader.podman.load_json(&[&loader.podman.inside("old")]);
    loader.add("new", "docker.io/library/app:latest", &Image::sample("app", "2"));
    for name in ["one", "two"] {
        loader.add(
            "new",
            &format!("docker.io/library/{name}:1"),
            &Image::sample(name, "1"),
        );
    }
    loader.podman.names()
}

fn damage_is_refused_before_anything(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let before = update(&loader);
    let podman = &loader.podman;
    let images = podman.images();
    let built = Image::sample("app", "2").build(tempfile::tempdir().unwrap().path(), "x");
    let layer = built.host().layers.last().unwrap().digest.replace(':', "/");
    let path = podman.outside("new").join("blobs").join(layer);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    podman.load(&[&podman.inside("new")]).code(1);
    assert_eq!((podman.names(), podman.images()), (before, images));
    assert_nothing_is_left(podman);
    // The others are loaded on request.
    podman.load(&[&podman.inside("new"), "--keep-going"]).code(1);
    assert_eq!(podman.cat("docker.io/library/two:1", "/app/version"), "1");
    assert_eq!(podman.cat("docker.io/library/app:latest", "/app/version"), "1");
}

on_both_podmans!(damage_is_refused_before_anything);

/// The process id of a podman that `parent` runs for a pull of this name, once there is one. `None` if `parent` has ended.
fn pull_of(child: &mut Child, name: &str) -> Option<Pid> {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let is_pull = words.first().is_some_and(|program| program.ends_with(b"podman"))
                && words.contains(&&b"pull"[..])
                && words.contains(&name.as_bytes());
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if is_pull && parent == Some(child.id()) {
                let pid: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
                return Pid::from_raw(pid);
            }
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < until, "no pull of {name}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a process has ended.
fn wait_gone(pid: Pid) {
    let until = Instant::now() + Duration::from_secs(60);
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    while Path::new(&path).exists() {
        let stat = fs::read_to_string(format!("{path}/stat")).unwrap_or_default();
        if stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
        {
            return;
        }
        assert!(Instant::now() < until, "{path} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a load, and the process that is sealift.
fn start(podman: &Podman, args: &[&str]) -> Child {
    let mut command = podman.load_command(args);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn killed_at_every_image(version: Version, user: User) {
    let twin = Podman::new(version, user);
    let registry = Registry::start();
    let elsewhere = tempfile::tempdir().unwrap();
    for (name, version) in [("app", "1"), ("app", "2"), ("one", "1"), ("two", "1")] {
        let built = Image::sample(name, version).build(elsewhere.path(), "x");
        let tag = if name == "app" { "latest" } else { "1" };
        registry.push(&built, &format!("library/{name}:{tag}"));
        twin.pull(&registry, &[format!("docker.io/library/{name}:{tag}")]);
    }
    for (signal, name) in [
        (Signal::KILL, "app:latest"),
        (Signal::KILL, "two:1"),
        (Signal::TERM, "one:1"),
    ] {
        let loader = Loader::new(version, user);
        let before = update(&loader);
        let podman = &loader.podman;
        let new = podman.inside("new");
        let mut child = start(podman, &[&new]);
        let pull = pull_of(&mut child, &format!("docker.io/library/{name}"));
        // chroot, unshare and setpriv become sealift.
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        // Nobody serves podman any more, and it does not outlive sealift.
        wait_gone(pull.expect("it was pulled"));
        if signal == Signal::TERM {
            assert_nothing_is_left(podman);
        }
        // The name leads to a whole image: its old one or its new one.
        let says = podman.cat("docker.io/library/app:latest", "/app/version");
        assert!(["1", "2"].contains(&says.as_str()), "{says}");
        let names = podman.names();
        assert!(before.iter().all(|name| names.contains(name)), "{names:?}");
        podman.load(&[&new]).ok();
        assert_eq!(podman.cat("docker.io/library/app:latest", "/app/version"), "2");
        assert_equal(podman, &twin);
    }
}

on_both_podmans!(killed_at_every_image);

fn a_host_s_registries_conf_does_not_disturb(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    loader.add_by_digest("images", "docker.io/library/app", &Image::sample("app", "1"));
    let folder = ".config/containers/registries.conf.d/50-host.conf";
    podman.write_home(
        folder,
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\nblocked = true\n\
         [[registry]]\nprefix = \"docker.io/library\"\nlocation = \"mirror.example/library\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/library\"\n\
         [aliases]\n\"app\" = \"quay.io/other/app\"\n",
    );
    podman.load(&[&podman.inside("images")]).ok();
    let names = [
        "docker.io/library/app:1".to_string(),
        format!("docker.io/library/app@{}", app.digest),
    ];
    assert_eq!(podman.names(), names);

    // Nor do entries for one tag or digest: podman looks for that of the repository.
    podman.podman(&["rmi", "--all", "--force"]).ok();
    let prefixes = [
        "docker.io/library/app:1".to_string(),
        format!("docker.io/library/app@{}", app.digest),
    ];
    let entries = prefixes
        .map(|prefix| format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"127.0.0.1:1/app\"\n"));
    podman.write_home(folder, &entries.concat());
    podman.load(&[&podman.inside("images")]).ok();
    assert_eq!(podman.names(), names);

    // Only an entry for the very repository wins, which the plan says.
    podman.podman(&["rmi", "--all", "--force"]).ok();
    podman.write_home(
        folder,
        "[[registry]]\nprefix = \"docker.io/library/app\"\nlocation = \"mirror.example/app\"\n",
    );
    let refused = podman.load(&[&podman.inside("images")]).code(6);
    let says = "a file in registries.conf.d has an entry for docker.io/library/app";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    assert_eq!(podman.names(), [""; 0]);
}

on_both_podmans!(a_host_s_registries_conf_does_not_disturb);

#[test]
fn a_policy_that_requires_signatures_is_respected() {
    for version in [Version::Four, Version::Five] {
        let loader = Loader::new(version, User::Rootless);
        let podman = &loader.podman;
        loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
        podman.write_home(
            ".config/containers/policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"docker.io":[{"type":"reject"}]}}}"#,
        );
        let refused = podman.load(&[&podman.inside("images")]).code(5);
        assert!(
            refused.stderr.contains("rejected by policy"),
            "{}",
            refused.stderr
        );
        assert!(refused.stderr.contains("policy.json"), "{}", refused.stderr);
        assert_eq!(podman.names(), [""; 0]);
    }
}

fn a_replacement_that_fails_or_is_ended_loses_nothing(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    loader.add("source", "docker.io/library/app:1", &Image::sample("app", "1"));
    podman.load(&[&podman.inside("source")]).ok();
    let tar = podman.inside("home/app.tar");
    podman
        .podman(&["save", "-q", "-o", &tar, "docker.io/library/app:1"])
        .ok();
    podman.podman(&["rmi", "docker.io/library/app:1"]).ok();
    podman.podman(&["load", "-q", "-i", &tar]).ok();
    podman
        .podman(&["tag", "docker.io/library/app:1", "localhost/mine:kept"])
        .ok();
    let before = podman.images();
    assert_ne!(before[0]["Digest"], app.digest.as_str());
    let names = podman.names();

    if user == User::Rootless {
        let policy = |transports: &str| {
            podman.write_home(
                ".config/containers/policy.json",
                &format!(r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{transports}}}"#),
            );
        };
        policy(r#"{"docker":{"docker.io":[{"type":"reject"}]}}"#);
        podman.load(&[&podman.inside("images"), "--force"]).code(5);
        assert_eq!(podman.images(), before, "nothing was changed");
        // Only the image itself is rejected, once its twin is there.
        policy(r#"{"docker":{"docker.io/library/app:1":[{"type":"reject"}]}}"#);
        podman.load(&[&podman.inside("images"), "--force"]).code(5);
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1");
        }
        policy("{}");
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let mut child = start(podman, &[&podman.inside("images"), "--force"]);
        if let Some(pull) = pull_of(&mut child, "docker.io/library/app:1") {
            kill_process(Pid::from_child(&child), signal).unwrap();
            wait_gone(pull);
        }
        child.wait().unwrap();
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1");
        }
    }
    podman.load(&[&podman.inside("images"), "--force"]).ok();
    assert_eq!(podman.names(), names);
    assert_eq!(podman.digest("localhost/mine:kept"), app.digest);
}

on_both_podmans!(a_replacement_that_fails_or_is_ended_loses_nothing);

/// Two images that podman shows with digests of its own, and with a further name each.
fn with_wrong_digests(loader: &Loader, names: [&str; 2]) -> [String; 2] {
    let podman = &loader.podman;
    names.map(|short| {
        let name = format!("docker.io/library/{short}:1");
        let built = loader.add("images", &name, &Image::sample(short, "1"));
        podman
            .load(&[&podman.inside("images"), "--image", &format!("{short}:1")])
            .ok();
        let tar = podman.inside(&format!("home/{short}.tar"));
        podman.podman(&["save", "-q", "-o", &tar, &name]).ok();
        podman.podman(&["rmi", &name]).ok();
        podman.podman(&["load", "-q", "-i", &tar]).ok();
        podman
            .podman(&["tag", &name, &format!("localhost/{short}:kept")])
            .ok();
        assert_ne!(podman.digest(&name), built.digest);
        built.digest
    })
}

fn a_signal_between_two_replacements_loses_no_name(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let digests = with_wrong_digests(&loader, ["one", "two"]);
    let names = podman.names();
    assert_eq!(names.len(), 4);
    let force = [podman.inside("images"), "--force".into()];
    let force = force.each_ref().map(String::as_str);
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = start(podman, &force);
        if let Some(pull) = pull_of(&mut child, "docker.io/library/two:1") {
            kill_process(Pid::from_child(&child), signal).unwrap();
            wait_gone(pull);
        }
        child.wait().unwrap();
        assert_eq!(podman.digest("docker.io/library/one:1"), digests[0]);
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1", "{name}");
        }
    }
    podman.load(&force).ok();
    assert_eq!(podman.names(), names);
    for (name, digest) in ["localhost/one:kept", "localhost/two:kept"].iter().zip(&digests) {
        assert_eq!(podman.digest(name), *digest);
    }
}

on_both_podmans!(a_signal_between_two_replacements_loses_no_name);

fn a_tag_like_that_of_a_twin_moves_no_name(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let (app, prod) = ("docker.io/library/app:1", "docker.io/library/prod:1");
    loader.add("images", app, &Image::sample("app", "1"));
    loader.add("images", prod, &Image::sample("app", "2"));
    podman.load(&[&podman.inside("images")]).ok();
    let id = podman
        .podman(&["image", "inspect", "--format", "{{.Id}}", app])
        .ok();
    let tag = format!("sealift-replaces-{}", id.stdout.trim());

    let evil = format!("docker.io/library/evil:{tag}");
    loader.add("evil", &evil, &Image::sample("app", "2"));
    let refused = podman.load(&[&podman.inside("evil")]).code(6);
    assert!(refused.stderr.contains("such a tag is for"), "{}", refused.stderr);
    assert_eq!(podman.names(), [app, prod]);

    podman.podman(&["tag", prod, &evil]).ok();
    loader.add("more", "docker.io/library/more:1", &Image::sample("more", "1"));
    podman.load(&[&podman.inside("more")]).ok();
    assert_eq!(podman.cat(prod, "/app/version"), "2");
    assert_eq!(podman.cat(&evil, "/app/version"), "2");
}

on_both_podmans!(a_tag_like_that_of_a_twin_moves_no_name);

#[test]
fn cri_o_s_storage_is_for_root() {
    let loader = Loader::new(Version::Five, User::Rootless);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let config = podman.root().join("etc/crio");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("crio.conf"), "[crio]\n").unwrap();
    let refused = run(podman
        .command("sealift")
        .args(["load", "--to", "crio"])
        .arg(podman.inside("images")))
    .code(2);
    assert_snapshot!(refused.stderr, @"
    error: CRI-O's storage is root's, and podman without root uses another
    hint: run the same command with sudo
    ");
    assert_eq!(podman.names(), [""; 0]);
}

#[test]
fn the_storage_of_cri_o_is_found_by_its_configuration() {
    let loader = Loader::new(Version::Five, User::Root);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let load = || {
        run(podman
            .command("sealift")
            .args(["load", "--to", "crio"])
            .arg(podman.inside("images")))
    };
    let missing = load().code(7);
    assert_snapshot!(missing.stderr, @"
    error: CRI-O not found in /etc/crio and /run/crio/crio.sock
    hint: podman's storage is CRI-O's too if both have the same folders: name podman instead
    ");
    let config = podman.root().join("etc/crio/crio.conf.d");
    fs::create_dir_all(&config).unwrap();
    let storage = podman.storage();
    fs::write(
        config.join("10-storage.conf"),
        format!(
            "[crio]\nroot = \"{}\"\nrunroot = \"{}\"\nstorage_driver = \"overlay\"\n",
            storage[1], storage[3]
        ),
    )
    .unwrap();
    let said = load().ok().stdout;
    assert!(said.contains("1 image in CRI-O's storage"), "{said}");
    assert_eq!(podman.digest("docker.io/library/app:1"), app.digest);

    let listed = |args: &[&str]| {
        let mut command = podman.command("sealift");
        let engines = run(command.arg("inventory").args(args)).ok().json()["engines"].take();
        let engines = engines.as_array().unwrap().clone().into_iter();
        engines
            .map(|one| (one["engine"].clone(), one["images"][0]["tags"][0].clone()))
            .collect::<Vec<_>>()
    };
    let name = serde_json::Value::from("docker.io/library/app:1");
    assert_eq!(listed(&["--from", "crio"]), [("crio".into(), name.clone())]);
    // podman has the same storage, which is listed once.
    let both = ["--from", "podman", "--from", "crio"];
    let storage: Vec<&str> = storage.iter().map(String::as_str).collect();
    assert_eq!(listed(&[&both[..], &storage].concat()), [("podman".into(), name)]);
    // An engine that an option is for must answer, whatever the others have.
    let mut named = podman.command("sealift");
    let named = run(named.args(["inventory", "--containerd-address", "/none.sock"])).code(5);
    assert!(named.stderr.contains("/none.sock"), "{}", named.stderr);
    assert_eq!(named.stdout, "");
}

#[test]
fn a_podman_elsewhere_or_none_is_told() {
    let loader = Loader::new(Version::Five, User::Root);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let mut remote = podman.load_command(&[&podman.inside("images")]);
    let remote = run(remote.env("CONTAINER_HOST", "ssh://other/run/podman/podman.sock")).code(2);
    assert_snapshot!(remote.stderr, @"
    error: CONTAINER_HOST is set, so that podman is a client of another podman, and sealift uses only the podman of its own host
    hint: run sealift there, or without the variable: `env -u CONTAINER_HOST sealift ...`
    ");
    let mut none = podman.load_command(&[&podman.inside("images")]);
    let none = run(none.env("PATH", "/nonexistent")).code(5);
    assert_snapshot!(none.stderr, @"
    error: podman: info: there is no program podman
    hint: install podman, or see that it is in PATH
    ");
}

#[test]
fn options_of_other_engines_are_refused() {
    let refused = |args: &str| {
        let mut sealift = Command::new(env!("CARGO_BIN_EXE_sealift"));
        run(sealift.args(args.split(' '))).code(2).stderr
    };
    assert_snapshot!(refused("load x.tar --to docker --root /a"), @"error: --root is for podman, not for --to docker");
    assert_snapshot!(refused("load x.tar --attach none --pin"), @"
    error: --attach is for Docker, and --pin for containerd: no engine has both
    hint: leave out one of them
    ");
    assert_snapshot!(refused("load x.tar --pin --force"), @"
    error: --pin is for containerd, and --force for podman or CRI-O: no engine has both
    hint: leave out one of them
    ");
    assert_snapshot!(refused("inventory --from docker --root /a"), @"error: --root is for podman or CRI-O, which --from does not name");
}

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

#[test]
fn what_does_not_fit_into_podman_s_temporary_folder_is_refused() {
    for (version, user) in [(Version::Four, User::Root), (Version::Five, User::Root)] {
        let loader = Loader::new(version, user);
        let podman = &loader.podman;
        let layers = vec![
            Layer::busybox(),
            Layer::new().noise("one", 7, 10_000_000),
            Layer::new().noise("two", 8, 10_000_000),
        ];
        loader.add("images", "docker.io/library/app:1", &Image::single(layers));
        let inside = podman.inside("tmp");
        podman.mount_disk("tmp", "18m");
        for more in [&[][..], &["--dry-run"]] {
            let refused = podman.load(&[&[podman.inside("images").as_str()][..], more].concat());
            let says = format!("cannot load into {inside}: ");
            let refused = refused.code(3);
            assert!(refused.stderr.contains(&says), "{}", refused.stderr);
            assert!(refused.stderr.contains("TMPDIR"), "{}", refused.stderr);
        }
        let plan = podman
            .load(&[&podman.inside("images"), "--dry-run", "--json"])
            .code(3)
            .json();
        assert_eq!(plan["room"]["path"], inside);
        assert_eq!(podman.names(), [""; 0]);
        podman.resize_disk("tmp", "40m");
        podman.load(&[&podman.inside("images")]).ok();
        assert_eq!(podman.names(), ["docker.io/library/app:1"]);
    }
}

fn files_of_a_killed_load_are_removed_by_the_next(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    let images = podman.inside("images");
    let mut child = start(podman, &[&images]);
    let pull = pull_of(&mut child, "docker.io/library/app:1").expect("it was pulled");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_gone(pull);
    let left: Vec<_> = fs::read_dir(podman.outside("tmp")).unwrap().flatten().collect();
    assert!(
        left.iter().any(|entry| entry.path().join("auth.json").exists()),
        "{left:?}"
    );
    // Folders of others have similar names.
    let others = ["sealift-project", "sealift-podman-a12345"].map(|name| podman.outside("tmp").join(name));
    for other in &others {
        fs::create_dir(other).unwrap();
        for file in ["lock", "data"] {
            fs::write(other.join(file), "").unwrap();
        }
        // As if the user had made it.
        let owner = fs::metadata(left[0].path()).unwrap();
        for path in [other.clone(), other.join("lock"), other.join("data")] {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
    if user == User::Root {
        let doctor = |args: &[&str]| {
            let mut command = podman.command("sealift");
            run(command.arg("doctor").args(args)).stdout
        };
        let said = doctor(&[]);
        assert!(
            said.contains("leftovers: an interrupted load left something"),
            "{said}"
        );
        let said = doctor(&["--repair"]);
        assert!(said.contains("leftovers: undone"), "{said}");
    } else {
        podman.load(&[&images]).ok();
        assert_eq!(podman.names(), ["docker.io/library/app:1"]);
    }
    let left = fs::read_dir(podman.outside("tmp")).unwrap().flatten();
    let mut left: Vec<_> = left.map(|entry| entry.path()).collect();
    left.retain(|path| path.to_string_lossy().contains("/sealift-"));
    left.sort();
    assert_eq!(left, [others[1].clone(), others[0].clone()]);
    assert!(others.iter().all(|path| path.join("data").exists()));
}

on_both_podmans!(files_of_a_killed_load_are_removed_by_the_next);
