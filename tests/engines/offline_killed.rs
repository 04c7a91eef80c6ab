//! Attaching while the engine is stopped, killed at every step: afterwards the engine runs, its names are the
//! old or the new ones, and all else is as before.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::attach_offline::{Offline, assert_no_files_beside, names, names_file};
use crate::loading::{Images, Untouched, assert_nothing_is_left};
use crate::support::{Built, Daemon, Engine, Image, Store, run};

/// The system calls that it consists of, in the thread that does it: the journal's and the names' fsyncs and
/// renames, mounts, signals. Each is counted for itself. Some of them are there on some machines only.
const STEPS: [&str; 9] = [
    "fsync",
    "?rename,?renameat,?renameat2",
    "?link,linkat",
    "?unlink,unlinkat",
    "?mkdir,mkdirat",
    "?rmdir",
    "mount",
    "umount2",
    "kill",
];

/// A daemon that has the image already, and a container of it that runs.
struct PreparedDaemon {
    daemon: Daemon,
    images: Images,
    image: Built,
    offline: Offline,
    old: Value,
    before: Untouched,
    container: u64,
}

impl PreparedDaemon {
    fn new(engine: Engine) -> Self {
        let daemon = Daemon::start(engine, Store::Classic);
        let images = Images::new();
        let image = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let offline = Offline::beside(&daemon);
        let path = images.path();
        offline
            .sealift
            .run(&["load", path.to_str().unwrap(), "--attach", "none"])
            .ok();
        let container = [
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "web",
            "quay.io/a/b:1",
            "/bin/busybox",
        ];
        daemon
            .docker(&[&container[..], &["sleep", "100000"]].concat())
            .ok();
        let container = daemon.api("/containers/web/json")["State"]["Pid"]
            .as_u64()
            .unwrap();
        Self {
            old: names(&daemon),
            before: Untouched::of(&daemon),
            daemon,
            images,
            image,
            offline,
            container,
        }
    }

    /// Loads and kills it when it enters a call for the nth time. Whether it came that far.
    fn killed_at(&self, call: &str, nth: usize) -> bool {
        let load = self
            .offline
            .sealift
            .command(&self.offline.arguments(&self.images));
        let mut traced = Command::new("strace");
        traced
            .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}")])
            .arg(load.get_program())
            .args(load.get_args())
            .env_clear();
        for (name, value) in load.get_envs() {
            traced.env(name, value.unwrap());
        }
        let run = run(&mut traced);
        assert!(
            run.signal == Some(9) || run.code == Some(0),
            "{call} {nth}: {run:?}"
        );
        run.signal == Some(9)
    }

    fn journal_is_there(&self) -> bool {
        self.offline.loader.folder.path().join("run/attach.json").exists()
    }

    /// All is as before but for the digest, which is there or not. Whether it is.
    #[track_caller]
    fn is_whole(&self, at: &str) -> bool {
        let tag = format!("quay.io/a/b:1 {}", self.image.digest);
        let shows = self.daemon.images();
        assert!(
            shows == [tag.as_str()] || shows == ["quay.io/a/b:1 <none>"],
            "{at}: {shows:?}"
        );
        let is_new = shows == [tag.as_str()];
        assert_eq!(Untouched::of(&self.daemon), self.before, "{at}");
        assert_eq!(self.daemon.info()["LiveRestoreEnabled"], false, "{at}");
        assert_nothing_is_left(&self.offline.loader);
        assert_no_files_beside(&self.daemon);
        let mut expected = self.old.clone();
        if is_new {
            let name = format!("quay.io/a/b@{}", self.image.digest);
            expected["Repositories"]["quay.io/a/b"][name] = self.image.host().config.clone().into();
        }
        assert_eq!(names(&self.daemon), expected, "{at}");
        let state = &self.daemon.api("/containers/web/json")["State"];
        assert_eq!(state["Pid"].as_u64(), Some(self.container), "{at}");
        assert!(fs::exists(format!("/proc/{}", self.container)).unwrap(), "{at}");
        is_new
    }

    fn forget_digest(&self) {
        let name = format!("quay.io/a/b@{}", self.image.digest);
        if self.daemon.inspect(&name).is_some() {
            self.daemon.docker(&["rmi", "-f", &name]).ok();
        }
    }
}

impl Drop for PreparedDaemon {
    fn drop(&mut self) {
        if self.daemon.is_running() {
            self.daemon.docker(&["rm", "-f", "web"]);
        }
    }
}

/// Kills at call after call until a load gets through.
fn every_step(engine: Engine) {
    let prepared = PreparedDaemon::new(engine);
    let (mut killed, mut left, mut down, mut new) = (0, 0, 0, 0);
    for call in STEPS {
        for nth in 1.. {
            assert!(nth < 50, "it never gets through");
            if !prepared.killed_at(call, nth) {
                assert!(prepared.is_whole(call), "{call}");
                prepared.forget_digest();
                break;
            }
            let at = format!("killed at {call} {nth}");
            killed += 1;
            left += usize::from(prepared.journal_is_there());
            down += usize::from(!prepared.daemon.is_running());
            // At every moment the names are complete.
            let names = fs::read(names_file(&prepared.daemon)).unwrap();
            assert!(serde_json::from_slice::<Value>(&names).is_ok(), "{at}");
            if nth % 2 == 0 {
                // The next load does it, too.
                prepared.offline.load(&prepared.images).ok();
                assert!(prepared.is_whole(&at), "{at}");
            } else {
                let said = prepared.offline.repair().ok();
                assert!(said.stdout.contains("leftovers: "), "{at}: {said:?}");
                // Done twice it does no harm.
                prepared.offline.repair().ok();
                new += usize::from(prepared.is_whole(&at));
            }
            prepared.forget_digest();
        }
    }
    assert!(killed > 30, "only {killed} kills");
    assert!(left > 20, "only {left} kills left something");
    assert!(down > 5, "only {down} kills left the engine down");
    assert!(new > 1, "only {new} kills came after the digest was there");
}

#[test]
fn it_comes_up_after_a_kill_at_every_step_on_docker_20() {
    every_step(Engine::Docker20);
}

#[cfg(feature = "test-all")]
#[test]
fn it_comes_up_after_a_kill_at_every_step_on_docker_26() {
    every_step(Engine::Docker26);
}

#[cfg(feature = "test-all")]
#[test]
fn it_comes_up_after_a_kill_at_every_step_on_docker_28() {
    every_step(Engine::Docker28);
}

/// The commands kill who called them, and go on: before they do anything, and after.
#[test]
fn a_kill_while_a_command_runs_is_repaired() {
    let mut prepared = PreparedDaemon::new(Engine::Docker20);
    let (stop, start) = (prepared.offline.stop.clone(), prepared.offline.start.clone());
    let end = "kill -9 $PPID";
    for (stops, starts, what) in [
        (
            format!("{end}; sleep 1; {stop}"),
            start.clone(),
            "before the stop",
        ),
        (format!("{stop}; {end}"), start.clone(), "after the stop"),
        (
            stop.clone(),
            format!("{end}; sleep 0.5; {start}"),
            "before the start",
        ),
        (stop.clone(), format!("{start} {end}"), "after the start"),
        (
            stop.clone(),
            format!("{start} sleep 2; {end}"),
            "a while after the start",
        ),
    ] {
        for by_load in [false, true] {
            (prepared.offline.stop, prepared.offline.start) = (stops.clone(), starts.clone());
            let run = prepared.offline.load(&prepared.images);
            assert!(run.signal == Some(9) || run.code == Some(0), "{what}: {run:?}");
            assert!(
                run.signal == Some(9) || what.contains("after the start"),
                "{what}: {run:?}"
            );
            (prepared.offline.stop, prepared.offline.start) = (stop.clone(), start.clone());
            // The journal has the commands that kill: their caller is another one now, and dies, too.
            for _ in 0..3 {
                if prepared.offline.repair().code == Some(0) {
                    break;
                }
            }
            if by_load {
                prepared.offline.load(&prepared.images).ok();
            }
            let is_new = prepared.is_whole(what);
            assert!(is_new || !by_load, "{what}");
            prepared.forget_digest();
        }
    }
}

/// A signal that it can see lets it end what it has begun.
#[test]
fn a_signal_while_a_command_runs_leaves_all_in_order() {
    let mut prepared = PreparedDaemon::new(Engine::Docker20);
    let (stop, start) = (prepared.offline.stop.clone(), prepared.offline.start.clone());
    for (stops, starts) in [
        (format!("kill -TERM $PPID; sleep 1; {stop}"), start.clone()),
        (stop.clone(), format!("kill -INT $PPID; sleep 1; {start}")),
        (stop.clone(), format!("{start} sleep 1; kill -TERM $PPID")),
    ] {
        (prepared.offline.stop, prepared.offline.start) = (stops, starts);
        let run = prepared.offline.load(&prepared.images);
        assert!(run.signal.is_some() || run.code == Some(0), "{run:?}");
        prepared.is_whole(&prepared.offline.start);
        prepared.forget_digest();
    }
}
