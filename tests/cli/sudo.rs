//! Credentials under sudo: root reads what the caller may have, and nothing of anybody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::bounded;
use crate::support::{Image, Registry, Run, Sealift, command, run};

/// The user who calls sudo, and another one whose password must stay theirs.
const CALLER: u32 = 65_534;
const ANOTHER: u32 = 65_533;

/// A registry that only `ann` may read, and the homes of two users.
struct Host {
    sealift: Sealift,
    registry: Registry,
    name: String,
}

impl Host {
    fn new() -> Self {
        let sealift = Sealift::new();
        fs::set_permissions(sealift.home(), fs::Permissions::from_mode(0o755)).unwrap();
        let registry = Registry::options().user("ann", "her password").start();
        let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
        registry.push(&image, "library/app:1");
        let name = format!("{}/library/app:1", registry.address());
        let host = Self {
            sealift,
            registry,
            name,
        };
        host.furnish("caller", CALLER);
        host.furnish("another", ANOTHER);
        fs::set_permissions(host.at("another"), fs::Permissions::from_mode(0o700)).unwrap();
        host.put("another/.docker/config.json", &host.login(), ANOTHER);
        host
    }

    /// Gives a user a home with nothing in it.
    fn furnish(&self, home: &str, uid: u32) {
        let home = self.at(home);
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(home.join(".docker")).unwrap();
        own(&home, uid);
        own(&home.join(".docker"), uid);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.sealift.path(name)
    }

    /// What `docker login` writes.
    fn login(&self) -> String {
        // ann:her password
        let auth = "YW5uOmhlciBwYXNzd29yZA==";
        serde_json::json!({ "auths": { self.registry.address(): { "auth": auth } } }).to_string()
    }

    fn put(&self, name: &str, text: &str, uid: u32) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
        own(&self.at(name), uid);
    }

    /// `sudo sealift save`, as sudo sets the environment.
    fn command(&self) -> Command {
        let mut command = self.sealift.command(&["save", "-q", &self.name, "-o", "app.tar"]);
        command
            .env("SUDO_UID", CALLER.to_string())
            .env("SUDO_GID", CALLER.to_string())
            .env("SUDO_USER", "caller")
            .env("SUDO_HOME", self.at("caller"));
        command
    }

    fn save(&self) -> Run {
        bounded(&mut self.command())
    }

    /// Whether anybody proved to be anybody.
    fn has_logged_in(&self) -> bool {
        self.registry
            .requests()
            .iter()
            .any(|request| request.status == 200)
    }
}

fn own(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
}

const CONFIG: &str = "caller/.docker/config.json";

#[test]
fn the_callers_own_file_is_used() {
    let host = Host::new();
    assert_eq!(host.save().code(4).stderr.matches("no credentials").count(), 1);
    host.put(CONFIG, &host.login(), CALLER);
    host.save().ok();
    // Kept elsewhere, as people keep what they copy to every machine.
    fs::rename(host.at(CONFIG), host.at("caller/dotfile")).unwrap();
    symlink("../dotfile", host.at(CONFIG)).unwrap();
    own(&host.at(CONFIG), CALLER);
    host.save().ok();
}

#[test]
fn the_password_of_another_user_is_not_sent() {
    let plant = |host: &Host, target: &Path, link: &str, uid: u32| {
        let link = host.at(link);
        let _ = fs::remove_dir(&link);
        symlink(target, &link).unwrap();
        own(&link, uid);
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&Host), &'a str);
    let cases: [Case<'_>; 8] = [
        (
            "a link to the file",
            &|host| plant(host, &host.at("another/.docker/config.json"), CONFIG, CALLER),
            "uid 65533",
        ),
        (
            "a link to the folder",
            &|host| plant(host, &host.at("another/.docker"), "caller/.docker", CALLER),
            "uid 65533",
        ),
        (
            "a link of another user",
            &|host| {
                fs::create_dir(host.at("elsewhere")).unwrap();
                host.put("elsewhere/config.json", &host.login(), CALLER);
                plant(host, &host.at("elsewhere"), "caller/.docker", ANOTHER);
            },
            "link of another user",
        ),
        (
            "a hard link",
            &|host| {
                fs::hard_link(host.at("another/.docker/config.json"), host.at(CONFIG)).unwrap();
            },
            "uid 65533",
        ),
        (
            "another's file",
            &|host| host.put(CONFIG, &host.login(), ANOTHER),
            "uid 65533",
        ),
        ("root's file", &|host| host.put(CONFIG, &host.login(), 0), "uid 0"),
        (
            "a file for all to write",
            &|host| {
                host.put(CONFIG, &host.login(), CALLER);
                fs::set_permissions(host.at(CONFIG), fs::Permissions::from_mode(0o666)).unwrap();
            },
            "every user can write",
        ),
        (
            "a FIFO",
            &|host| {
                run(Command::new("mkfifo").arg(host.at(CONFIG))).ok();
                chown(host.at(CONFIG), Some(CALLER), Some(CALLER)).unwrap();
            },
            "it is a FIFO",
        ),
    ];
    let mut host = Host::new();
    for (what, plant, says) in cases {
        host.furnish("caller", CALLER);
        plant(&host);
        host.registry.forget_requests();
        let refused = host.save().code(3);
        assert!(refused.stderr.contains(says), "{what}: {}", refused.stderr);
        assert!(refused.stderr.contains("hint: "), "{what}: {}", refused.stderr);
        assert!(!host.has_logged_in(), "{what}");
    }
}

#[test]
fn files_that_name_the_docker_socket_belong_to_root_or_the_caller() {
    let sealift = Sealift::new();
    let image = sealift.path("layout");
    Image::sample("app", "1").build(&image, "1");
    fs::create_dir(sealift.path(".docker")).unwrap();
    let config = sealift.path(".docker/config.json");
    let load = |sudo: bool| {
        let mut command = sealift.command(&["load", "layout"]);
        if sudo {
            command.env("SUDO_UID", ANOTHER.to_string());
        }
        bounded(&mut command)
    };
    fs::write(&config, r#"{"currentContext":"lab"}"#).unwrap();
    assert!(load(false).code(7).stderr.contains("lab"));
    own(&config, ANOTHER);
    assert!(load(true).code(7).stderr.contains("lab"));
    let refused = load(false).code(3);
    assert!(refused.stderr.contains("uid 65533"), "{}", refused.stderr);
    fs::remove_file(&config).unwrap();
    run(Command::new("mkfifo").arg(&config)).ok();
    assert!(load(false).code(3).stderr.contains("it is a FIFO"));
}

#[test]
fn a_helper_runs_as_the_caller_and_sees_nothing_of_root() {
    let host = Host::new();
    let bin = host.at("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-spy");
    let script = r#"#!/bin/sh
        { id -u; id -g; id -G; pwd; tr '\0' '\n' </proc/$$/environ; } >"$HOME/seen"
        cat "$HOME/../another/.docker/config.json" >>"$HOME/seen" 2>/dev/null
        ls -l /proc/$$/fd >>"$HOME/seen"
        echo '{"Username":"ann","Secret":"her password"}'"#;
    fs::write(host.at("script"), script).unwrap();
    command::install(host.at("script"), &helper);
    let config = r#"{"credsStore":"spy"}"#;
    host.put(CONFIG, config, CALLER);
    let spied = |more: &[(&str, PathBuf)]| {
        let mut command = host.command();
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command
            .env("AWS_SECRET_ACCESS_KEY", "a secret of root's")
            .env("LANG", "C.UTF-8");
        command.envs(more.iter().map(|(name, value)| (name, value)));
        bounded(&mut command).ok();
        let seen = fs::read_to_string(host.at("caller/seen")).unwrap();
        fs::remove_file(host.at("caller/seen")).unwrap();
        seen
    };
    let home = host.at("caller");
    for more in [
        vec![],
        // sudo -E, or a sudo that keeps HOME: root's own places are then the caller's.
        vec![("HOME", home.clone())],
        vec![("DOCKER_CONFIG", home.join(".docker"))],
        vec![("REGISTRY_AUTH_FILE", host.at(CONFIG))],
    ] {
        let seen = spied(&more);
        assert!(seen.starts_with("65534\n65534\n65534\n/\n"), "{more:?}: {seen}");
        assert!(
            !seen.contains("secret") && !seen.contains("auths"),
            "{more:?}: {seen}"
        );
        for has in ["LANG=C.UTF-8", "USER=caller", "XDG_RUNTIME_DIR=/run/user/65534"] {
            assert!(seen.lines().any(|line| line == has), "{more:?}: {has}: {seen}");
        }
        assert!(seen.contains(&format!("\nHOME={}\n", home.display())), "{seen}");
    }
    // Root's own file: as root.
    fs::create_dir(host.at(".docker")).unwrap();
    host.put(".docker/config.json", config, 0);
    run(&mut {
        let mut command = host.command();
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command
    })
    .ok();
    assert!(fs::read_to_string(host.at("seen")).unwrap().starts_with("0\n0\n"));
}
