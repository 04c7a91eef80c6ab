//! Attaching digests, killed at every step: nothing of it stays, also not in the engine's memory.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use sealift::docker::attach::{Allowed, Rules};
use sealift::load::LoadOptions;

use crate::attach_hosts::private;
use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left};
use crate::support::{Built, Daemon, Engine, Image, Run, Sealift, Store, run};

/// The system calls that an attach consists of: the journal's fsyncs and renames, mounts, signals.
/// Some of them are there on some machines only.
const STEPS: &str =
    "fsync,?rename,?renameat,?renameat2,mount,umount2,kill,?rmdir,?mkdir,mkdirat,?unlink,unlinkat";

/// A daemon that has the image already, so that a load does nothing but name and attach.
pub struct PreparedDaemon {
    /// The name without its tag.
    repository: &'static str,
    pub daemon: Daemon,
    images: Images,
    image: Built,
    pub sealift: Sealift,
    pub loader: Loader,
}

impl PreparedDaemon {
    pub fn new(daemon: Daemon) -> Self {
        Self::of("httpd", daemon)
    }

    fn of(repository: &'static str, daemon: Daemon) -> Self {
        let images = Images::new();
        let image = images.add(
            &format!("{repository}:2.4"),
            &Image::sample("httpd", "2.4").without_index(),
        );
        let mut loader = Loader::beside(&daemon);
        loader.rules.allowed = Allowed::None;
        loader.try_load(&images, &LoadOptions::default()).unwrap();
        loader.rules = Rules::default();
        let sealift = Sealift::new()
            .docker(&daemon)
            .env("SEALIFT_RUN_DIR", loader.folder.path().join("run"));
        Self {
            repository,
            daemon,
            images,
            image,
            sealift,
            loader,
        }
    }

    /// Loads with system calls that are tampered with, as strace's `inject` says.
    fn tampered(&self, inject: &str) -> Command {
        let load = self
            .sealift
            .command(&["load", self.images.path().to_str().unwrap()]);
        let calls = inject.split(':').next().unwrap();
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={inject}")])
            .arg(load.get_program())
            .args(load.get_args())
            .env_clear();
        for (name, value) in load.get_envs() {
            traced.env(name, value.unwrap());
        }
        traced
    }

    /// Starts a load and kills it when it enters a step. Returns whether it came that far.
    pub fn killed_at(&self, (call, when): &(String, usize)) -> bool {
        let run = run(&mut self.tampered(&format!("?{call}:signal=SIGKILL:when={when}")));
        assert!(
            run.signal == Some(9) || run.code == Some(0),
            "{call} {when}: {run:?}"
        );
        run.signal == Some(9)
    }

    /// The steps of a load: a system call, and its number among the calls of its kind in its thread.
    fn steps(&self) -> Vec<(String, usize)> {
        let log = self.sealift.path("calls");
        let load = self
            .sealift
            .command(&["load", self.images.path().to_str().unwrap()]);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-o", log.to_str().unwrap(), "-e"])
            .arg(format!("trace={STEPS}"))
            .arg(load.get_program())
            .args(load.get_args())
            .env_clear();
        for (name, value) in load.get_envs() {
            traced.env(name, value.unwrap());
        }
        run(&mut traced).ok();
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs::read_to_string(log).unwrap().lines() {
            let (thread, rest) = line.split_once(' ').unwrap();
            if let Some((call, _)) = rest.trim_start().split_once('(')
                && call.chars().all(char::is_alphanumeric)
            {
                *counts.entry((call.into(), thread.into())).or_default() += 1;
            }
        }
        let mut steps: Vec<(String, usize)> = counts
            .into_iter()
            .flat_map(|((call, _), count)| (1..=count).map(move |when| (call.clone(), when)))
            .collect();
        steps.sort();
        steps.dedup();
        self.forget_digest();
        steps
    }

    fn repair(&self) -> Run {
        self.sealift.run(&["doctor", "--repair"])
    }

    /// Lets the image be as before a load: with its tag, without its digest.
    fn forget_digest(&self) {
        let name = format!("{}@{}", self.repository, self.image.digest);
        if self.daemon.inspect(&name).is_some() {
            self.daemon.docker(&["rmi", &name]).ok();
        }
        assert_eq!(self.daemon.images(), [format!("{}:2.4 <none>", self.repository)]);
    }
}

/// Kills at every step, and lets a load get through after that.
fn every_step(
    engine: Engine,
    config: serde_json::Value,
    after_the_kill: impl Fn(&mut PreparedDaemon, usize),
) {
    let daemon = Daemon::options(engine, Store::Classic).config(config).start();
    every_step_of(PreparedDaemon::new(daemon), after_the_kill);
}

fn every_step_of(mut prepared: PreparedDaemon, after_the_kill: impl Fn(&mut PreparedDaemon, usize)) {
    let before = Untouched::of(&prepared.daemon);
    let steps = prepared.steps();
    assert!(steps.len() > 12, "only {steps:?}");
    assert_eq!(Untouched::of(&prepared.daemon), before);
    let mut left = 0;
    for (at, step) in steps.iter().enumerate() {
        assert!(prepared.killed_at(step), "it was not killed at {step:?}");
        left += usize::from(prepared.loader.folder.path().join("run/attach.json").exists());
        after_the_kill(&mut prepared, at);
        assert_eq!(Untouched::of(&prepared.daemon), before, "killed at {step:?}");
        assert_nothing_is_left(&prepared.loader);
        prepared.forget_digest();
    }
    assert!(left > 8, "only {left} of {} kills left something", steps.len());
    let path = prepared.images.path();
    prepared.sealift.run(&["load", path.to_str().unwrap()]).ok();
    let expected = format!("{}:2.4 {}", prepared.repository, prepared.image.digest);
    assert_eq!(prepared.daemon.images(), [expected]);
    assert_eq!(Untouched::of(&prepared.daemon), before);
    assert_nothing_is_left(&prepared.loader);
}

fn assert_repairs(prepared: &mut PreparedDaemon, step: usize) {
    let said = prepared.repair().ok();
    assert!(said.stdout.contains("leftovers: "), "step {step}: {said:?}");
    // Done twice it does no harm.
    prepared.repair().ok();
}

#[test]
fn a_repair_undoes_a_kill_at_every_step_on_docker_20() {
    every_step(Engine::Docker20, serde_json::json!({}), assert_repairs);
}

#[test]
fn a_repair_undoes_a_kill_at_every_step_on_docker_28() {
    // With files and a network of its own.
    let config = serde_json::json!({ "registry-mirrors": ["http://127.0.0.1:9"] });
    let daemon = private(Engine::Docker28).config(config).start();
    every_step_of(PreparedDaemon::new(daemon), assert_repairs);
}

#[test]
fn the_next_load_undoes_it_too() {
    every_step(Engine::Docker20, serde_json::json!({}), |prepared, _| {
        let path = prepared.images.path();
        prepared.sealift.run(&["load", path.to_str().unwrap()]).ok();
        let expected = format!("httpd:2.4 {}", prepared.image.digest);
        assert_eq!(prepared.daemon.images(), [expected]);
    });
}

#[test]
fn a_repair_undoes_it_when_the_engine_has_restarted_or_died_meanwhile() {
    every_step(Engine::Docker20, serde_json::json!({}), |prepared, step| {
        if step % 2 == 0 {
            // It reads what lies over its daemon.json, with the mirror in it.
            prepared.daemon.kill();
            prepared.daemon.start_again();
            prepared.repair().ok();
        } else {
            prepared.daemon.kill();
            prepared.repair().code(5); // the engine is down
            assert_nothing_is_left(&prepared.loader);
            prepared.daemon.start_again();
        }
    });
}

#[test]
fn a_repair_undoes_a_kill_at_every_step_for_other_names() {
    // Where the host and the engine see the same files, and where the engine has its own.
    let port = "registry.example.com:5000/app";
    let shared = Daemon::start(Engine::Docker28, Store::Classic);
    let own = private(Engine::Docker20).start();
    std::thread::scope(|scope| {
        scope.spawn(|| every_step_of(PreparedDaemon::of("quay.io/a/b", shared), assert_repairs));
        scope.spawn(|| every_step_of(PreparedDaemon::of(port, own), assert_repairs));
    });
}

#[test]
fn a_repair_undoes_it_for_other_names_when_the_engine_has_restarted_or_died_meanwhile() {
    let daemon = private(Engine::Docker28).start();
    every_step_of(PreparedDaemon::of("quay.io/a/b", daemon), |prepared, step| {
        prepared.daemon.kill();
        if step % 2 == 0 {
            prepared.repair().code(5); // the engine is down
            assert_nothing_is_left(&prepared.loader);
            prepared.daemon.start_again();
        } else {
            prepared.daemon.start_again();
            prepared.repair().ok();
        }
    });
}

#[test]
fn a_signal_lets_names_lead_where_they_led() {
    let prepared = PreparedDaemon::of("quay.io/a/b", private(Engine::Docker20).start());
    let before = Untouched::of(&prepared.daemon);
    let load = ["load", prepared.images.path().to_str().unwrap()].map(str::to_string);
    let mut child = prepared.sealift.command(&load).spawn().unwrap();
    let seen = format!("/proc/{}/root/etc/hosts", prepared.daemon.pid());
    let until = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(&seen).unwrap().contains("quay.io") {
        assert!(Instant::now() < until, "it never came to lay it");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert_eq!(Untouched::of(&prepared.daemon), before);
    assert_nothing_is_left(&prepared.loader);
}

/// Any call that the system refuses is reported, and nothing is left of the attempt.
fn assert_leaves_nothing(prepared: &PreparedDaemon, refusals: &[(&str, &str)]) {
    let before = Untouched::of(&prepared.daemon);
    for (inject, says) in refusals {
        let said = run(&mut prepared.tampered(inject)).code(6);
        assert!(said.stderr.contains(says), "{inject}: {said:?}");
        assert_eq!(Untouched::of(&prepared.daemon), before, "{inject}");
        prepared.repair().ok();
        assert_nothing_is_left(&prepared.loader);
        prepared.forget_digest();
    }
    // What cannot be taken off stays with its journal, and a repair takes it off.
    let said = run(&mut prepared.tampered("umount2:error=EPERM")).code(3);
    assert!(said.stderr.contains("doctor --repair"), "{said:?}");
    prepared.repair().ok();
    assert_eq!(Untouched::of(&prepared.daemon), before);
    assert_nothing_is_left(&prepared.loader);
}

#[test]
fn what_the_system_refuses_of_other_names_is_told_and_nothing_stays() {
    let prepared = PreparedDaemon::of("quay.io/a/b", private(Engine::Docker28).start());
    let refusals = [
        ("setns:error=EPERM", "cannot be"),
        ("mount:error=EPERM", "cannot cover"),
        ("fsync:error=EIO:when=1", "cannot write"),
        ("fsync:error=ENOSPC:when=2+", "cannot"),
        ("bind:error=EACCES", "Permission denied"),
    ];
    assert_leaves_nothing(&prepared, &refusals);
}

#[test]
fn a_missing_file_is_missing_again_after_every_kill() {
    let mut prepared = PreparedDaemon::new(Daemon::options(Engine::Docker28, Store::Classic).stock().start());
    let folder = prepared.daemon.config_file().parent().unwrap().to_path_buf();
    for exists in [true, false] {
        if !exists {
            fs::remove_dir_all(&folder).unwrap();
        }
        let before = Untouched::of(&prepared.daemon);
        let journal = prepared.loader.folder.path().join("run/attach.json");
        let mut left = 0;
        for (at, step) in prepared.steps().iter().enumerate() {
            assert!(prepared.killed_at(step), "it was not killed at {step:?}");
            left += usize::from(journal.exists());
            assert_repairs(&mut prepared, at);
            assert_eq!(Untouched::of(&prepared.daemon), before, "killed at {step:?}");
            assert_eq!(folder.exists(), exists, "killed at {step:?}");
            assert_nothing_is_left(&prepared.loader);
            prepared.forget_digest();
        }
        assert!(left > 8, "only {left} kills left something");
    }
}

#[test]
fn a_signal_undoes_it_before_the_process_dies() {
    let prepared = PreparedDaemon::new(Daemon::start(Engine::Docker20, Store::Classic));
    let before = Untouched::of(&prepared.daemon);
    // The reload is slow, so that the signal comes while the mirror is in the engine's memory.
    let mut slowed = prepared.tampered("kill:delay_exit=3000000:when=1");
    let mut child = slowed.spawn().unwrap();
    let journal = prepared.loader.folder.path().join("run/attach.json");
    let until = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("reload")) {
        assert!(Instant::now() < until, "it never came to reload");
        std::thread::sleep(Duration::from_millis(10));
    }
    let of_child = format!("/proc/{0}/task/{0}/children", child.id());
    let sealift: i32 = fs::read_to_string(of_child).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(sealift).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = child.wait().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.signal(), Some(2), "{ended:?}");
    assert_eq!(Untouched::of(&prepared.daemon), before);
    assert_nothing_is_left(&prepared.loader);
}

#[test]
fn what_the_system_refuses_is_told_and_nothing_stays() {
    let prepared = PreparedDaemon::new(Daemon::start(Engine::Docker20, Store::Classic));
    let refusals = [
        ("mount:error=EPERM", "cannot cover"),
        ("fsync:error=EIO:when=1", "cannot write"),
        ("fsync:error=ENOSPC:when=2+", "cannot"),
        ("kill:error=EPERM:when=1", "reload its configuration"),
    ];
    assert_leaves_nothing(&prepared, &refusals);
}

#[test]
fn it_works_on_kernels_without_newer_system_calls() {
    let prepared = PreparedDaemon::new(Daemon::start(Engine::Docker20, Store::Classic));
    let before = Untouched::of(&prepared.daemon);
    let newer = "?statx,?renameat2,?copy_file_range,?openat2,?close_range,?getrandom,?pidfd_open,?faccessat2";
    let run = run(&mut prepared.tampered(&format!("{newer}:error=ENOSYS")));
    assert!(run.ok().stdout.contains(&prepared.image.digest));
    assert_eq!(
        prepared.daemon.images(),
        [format!("httpd:2.4 {}", prepared.image.digest)]
    );
    assert_eq!(Untouched::of(&prepared.daemon), before);
}
