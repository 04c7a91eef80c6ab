//! Loads into containerd during which sealift or containerd is killed or stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sealift::archive;
use sealift::containerd::{self as target, Timeouts};
use sealift::error::{Error, ErrorKind};
use sealift::interrupt::Interrupt;
use sealift::load::{LoadOptions, Outcome};
use sealift::progress::Silent;

use crate::containerd::twin::{Origin, load, load_command, try_load};
use crate::containerd::{Contents, NAMESPACE, collect_garbage};
use crate::support::containerd::Version;
use crate::support::{Containerd, Image, Layer, run};

/// How often a process is killed during a load.
const POINTS: usize = 30;

/// How often sealift gets each signal that it can handle.
const SIGNALS: usize = 6;

/// Of a process that speaks to a socket.
const SEALIFT_CALLS: &str = "?sendto,?sendmsg,?write,?writev,?recvfrom,?recvmsg,?read,?readv";

/// By which containerd changes its files: metadata, blobs, snapshots.
const CONTAINERD_CALLS: &str =
    "fdatasync,?fsync,pwrite64,?rename,?renameat,?mkdirat,?unlinkat,?mount,?ftruncate,?fchmodat";

/// A containerd that has an older image, and an archive with two newer ones, of which one has its name.
struct PreparedContainerd {
    origin: Origin,
    containerd: Containerd,
    archive: PathBuf,
    before: Contents,
    after: Contents,
}

/// A system call, and its number among those of its kind in its thread.
type Point = (String, usize);

impl PreparedContainerd {
    fn new(version: Version) -> Self {
        let origin = Origin::new();
        let (moved, new) = ("docker.io/library/app:latest", "docker.io/library/web:1");
        let image = |name: &str, number: &str| {
            Image::single(vec![
                Layer::busybox(),
                Layer::new().file("app/name", name).noise("app/data", 1, 300_000),
                Layer::new()
                    .file("app/version", number)
                    .noise("app/more", 2, 2_000_000),
            ])
        };
        origin.push(moved, &image("app", "1"));
        let old = origin.save("old.tar", &[moved], &[]);
        origin.push(moved, &image("app", "2"));
        origin.push(new, &image("web", "1"));
        let archive = origin.save("new.tar", &[moved, new], &[]);
        let containerd = Containerd::start(version);
        load(&origin.sealift, &containerd, &old, &[]);
        // A name that is not in the archive. It keeps what the moved name leaves.
        let name = "docker.io/library/kept:1";
        containerd.ctr(NAMESPACE, &["images", "tag", moved, name]).ok();
        let before = Contents::of(&containerd, NAMESPACE);
        load(&origin.sealift, &containerd, &archive, &[]);
        let after = Contents::of(&containerd, NAMESPACE);
        let mut prepared = Self {
            origin,
            containerd,
            archive,
            before,
            after,
        };
        prepared.remove_new();
        // The blobs of both images have more labels now.
        prepared.before = Contents::of(&prepared.containerd, NAMESPACE);
        prepared
    }

    fn load_command(&self) -> Command {
        load_command(&self.origin.sealift, &self.containerd, &self.archive, &[])
    }

    /// Makes everything as before the load.
    fn restore(&self) {
        self.remove_new();
        Contents::of(&self.containerd, NAMESPACE).assert_same(&self.before, "restored");
    }

    fn remove_new(&self) {
        let ctr = |args: &[&str]| self.containerd.ctr(NAMESPACE, args).ok();
        let new = self.after.images.keys();
        for name in new.filter(|name| !self.before.images.contains_key(*name)) {
            ctr(&["images", "rm", name]);
        }
        ctr(&[
            "images",
            "tag",
            "--force",
            "docker.io/library/kept:1",
            "docker.io/library/app:latest",
        ]);
        collect_garbage(&self.containerd, NAMESPACE);
        let label = [
            "images",
            "label",
            "docker.io/library/app:latest",
            "io.cri-containerd.image=managed",
        ];
        ctr(&label);
    }

    /// Fails unless every name is what it was or what it becomes, and has all of its image.
    fn assert_names_are_intact(&self, point: &Point) {
        let found = Contents::of(&self.containerd, NAMESPACE);
        for (name, record) in &self.before.images {
            let now = found.images.get(name);
            assert!(
                now == Some(record) || now.is_some() && now == self.after.images.get(name),
                "{point:?}: {name} was {record:?} and is {now:?}"
            );
        }
        for (name, record) in &found.images {
            let expected = [&self.before, &self.after].map(|contents| contents.images.get(name));
            assert!(
                expected.contains(&Some(record)),
                "{point:?}: {name} is {record:?}"
            );
        }
        for digest in self.before.content.keys() {
            assert!(found.content.contains_key(digest), "{point:?}: {digest} is gone");
        }
        for (name, record) in &found.images {
            if self.before.images.get(name) != Some(record) {
                self.assert_complete(&found, &record.digest, point);
            }
        }
        let until = tomorrow();
        for (id, labels) in &found.leases {
            let expires = labels.get("containerd.io/gc.expire");
            assert!(
                expires.is_some_and(|time| *time <= until),
                "{point:?}: {id} stays: {labels:?}"
            );
        }
    }

    /// Fails unless all that a manifest refers to is there, and unpacked.
    fn assert_complete(&self, found: &Contents, digest: &str, point: &Point) {
        let labels = &self.after.content[digest].labels;
        for (key, value) in labels {
            if key.starts_with("containerd.io/gc.ref.content") {
                assert!(
                    found.content.contains_key(value),
                    "{point:?}: {digest} lacks {value}"
                );
                self.assert_complete(found, value, point);
            }
            if key.starts_with("containerd.io/gc.ref.snapshot") {
                assert!(
                    found.snapshots.contains_key(value),
                    "{point:?}: {digest} is not unpacked"
                );
            }
        }
        let now = &found.content[digest].labels;
        assert!(
            labels.iter().all(|(key, value)| now.get(key) == Some(value)),
            "{point:?}: {now:?}"
        );
    }

    /// Fails unless the next run completes, and nothing is left of the one before, not even its lease.
    fn assert_next_run_completes(&self, point: &Point) {
        self.assert_names_are_intact(point);
        collect_garbage(&self.containerd, NAMESPACE);
        self.assert_names_are_intact(point);
        let next = try_load(&self.origin.sealift, &self.containerd, &self.archive, &[]);
        assert_eq!(next.code, Some(0), "{point:?}: {next:?}");
        let mut found = Contents::of(&self.containerd, NAMESPACE);
        assert_eq!(found.images, self.after.images, "{point:?}");
        assert!(found.leases.is_empty(), "{point:?}: {:?}", found.leases);
        collect_garbage(&self.containerd, NAMESPACE);
        found = Contents::of(&self.containerd, NAMESPACE);
        found.assert_same(
            &self.after,
            &format!("after a kill at {point:?} and the next run"),
        );
    }

    /// sealift under strace, in its own environment.
    fn traced_load(&self, more: &[&str]) -> Command {
        let load = self.load_command();
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq"]).args(more);
        traced.arg(load.get_program()).args(load.get_args()).env_clear();
        let set = load.get_envs().filter_map(|(name, value)| Some((name, value?)));
        traced.envs(set).current_dir(self.origin.sealift.home());
        traced
    }
}

/// strace on the threads of a containerd, which it has reached. Dropping it ends strace.
struct Tracer {
    strace: Child,
    /// Stays open: strace writes to it.
    _said: BufReader<ChildStderr>,
}

impl Tracer {
    fn attach(containerd: &Containerd, more: &[&str]) -> Self {
        let pid = containerd.pid().to_string();
        let mut traced = Command::new("strace");
        traced.args(["-f"]).args(more).args(["-p", &pid]);
        let mut strace = traced
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(" attached") {
            assert!(said.read_line(&mut line).unwrap() > 0, "strace: {line}");
        }
        Self { strace, _said: said }
    }
}

impl Drop for Tracer {
    /// It may wait forever for a thread of a process that it has killed.
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// A time that no lease of now may reach, in the form of its label.
fn tomorrow() -> String {
    let said = run(Command::new("date").args(["--utc", "--date=1 day", "+%FT%TZ"])).ok();
    said.stdout.trim().to_owned()
}

/// Points at equal distances in what strace has logged of a load.
fn points(log: &Path, count: usize) -> Vec<Point> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut all = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && call.chars().all(char::is_alphanumeric)
        {
            let number = counts.entry((call.into(), thread.into())).or_default();
            *number += 1;
            all.push((call.to_owned(), *number));
        }
    }
    assert!(all.len() >= count, "only {}", all.len());
    (0..count).map(|at| all[at * all.len() / count].clone()).collect()
}

fn sealift_is_killed(version: Version) {
    kill_sealift(&PreparedContainerd::new(version), "SIGKILL", 9, POINTS);
}

on_every_containerd!(sealift_is_killed);

/// It removes its lease, and no name stands for content that is collected with it.
fn sealift_gets_a_signal(version: Version) {
    let prepared = PreparedContainerd::new(version);
    kill_sealift(&prepared, "SIGTERM", 15, SIGNALS);
    kill_sealift(&prepared, "SIGINT", 2, SIGNALS);
}

on_every_containerd!(sealift_gets_a_signal);

/// Sends a signal to sealift at points of a load.
fn kill_sealift(prepared: &PreparedContainerd, signal: &str, number: i32, count: usize) {
    let log = prepared.origin.sealift.path("calls");
    let calls = format!("trace={SEALIFT_CALLS}");
    run(&mut prepared.traced_load(&["-o", log.to_str().unwrap(), "-e", &calls])).ok();
    prepared.restore();
    let mut kills = 0;
    // Threads take other turns each time: some points are not reached.
    for point in points(&log, 2 * count) {
        let inject = format!("inject=?{}:signal={signal}:when={}", point.0, point.1);
        let trace = format!("trace=?{}", point.0);
        let killed = run(&mut prepared.traced_load(&["-o", "/dev/null", "-e", &trace, "-e", &inject]));
        if killed.signal != Some(number) {
            assert_eq!(killed.code, Some(0), "{point:?}: {killed:?}");
            prepared.restore();
            continue;
        }
        kills += 1;
        prepared.assert_next_run_completes(&point);
        prepared.restore();
        if kills == count {
            return;
        }
    }
    panic!("only {kills} kills");
}

fn containerd_is_killed(version: Version) {
    let mut prepared = PreparedContainerd::new(version);
    let log = prepared.origin.sealift.path("calls");
    let calls = format!("trace={CONTAINERD_CALLS}");
    let tracer = Tracer::attach(&prepared.containerd, &["-o", log.to_str().unwrap(), "-e", &calls]);
    run(&mut prepared.load_command()).ok();
    drop(tracer);
    prepared.restore();
    let mut kills = 0;
    for point in points(&log, 3 * POINTS) {
        let inject = format!("inject=?{}:signal=SIGKILL:when={}", point.0, point.1);
        let trace = format!("trace=?{}", point.0);
        let args = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let tracer = Tracer::attach(&prepared.containerd, &args);
        let ended = run(&mut prepared.load_command());
        drop(tracer);
        // Killed by strace, it may take a moment to end, and does not answer any more.
        let answers = || prepared.containerd.ctr(NAMESPACE, &["version"]).code == Some(0);
        if ended.code == Some(0) && answers() {
            prepared.restore();
            continue;
        }
        kills += 1;
        prepared.containerd.kill();
        prepared.containerd.start_again();
        if ended.code != Some(0) {
            assert_eq!(ended.code, Some(5), "{point:?}: {ended:?}");
            let error = ended.json()["error"].clone();
            let message = error["message"].as_str().unwrap();
            assert!(
                message.ends_with(": the connection was closed"),
                "{point:?}: {error}"
            );
            let hint = error["hint"].as_str().unwrap();
            assert!(
                hint.starts_with("is containerd still running?"),
                "{point:?}: {error}"
            );
        }
        prepared.assert_next_run_completes(&point);
        prepared.restore();
        if kills == POINTS {
            return;
        }
    }
    panic!("only {kills} kills");
}

on_every_containerd!(containerd_is_killed);

/// It is stopped as it unpacks a layer, for which there is no deadline.
fn containerd_is_stopped(version: Version) {
    let origin = Origin::new();
    let name = "docker.io/library/app:1";
    origin.push(name, &Image::single(vec![Layer::new().file("app/version", "1")]));
    let archive = origin.save("app.tar", &[name], &[]);
    let containerd = Containerd::start(version);
    // Nothing but the layer is left to do then: anything else would wait for its own answer.
    load(&origin.sealift, &containerd, &archive, &["--no-unpack"]);
    // By which it gives files their owners.
    let calls = "?lchown,?fchownat";
    let (trace, inject) = (
        format!("trace={calls}"),
        format!("inject={calls}:signal=SIGSTOP:when=1"),
    );
    let tracer = Tracer::attach(&containerd, &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let failed = load_within(Duration::from_secs(3), &containerd, &archive).unwrap_err();
    drop(tracer);
    assert_eq!(failed.kind(), ErrorKind::Engine);
    let message = failed.to_string();
    assert!(
        message.contains(&containerd.socket().display().to_string()),
        "{message}"
    );
    assert!(message.contains(": unpack layer sha256:"), "{message}");
    assert!(message.ends_with(": no answer within 3 seconds"), "{message}");
    let pid = Pid::from_raw(i32::try_from(containerd.pid()).unwrap());
    kill_process(pid.unwrap(), Signal::CONT).unwrap();
    load(&origin.sealift, &containerd, &archive, &[]);
    let snapshots = Contents::of(&containerd, NAMESPACE).snapshots;
    let committed = snapshots.values().filter(|snapshot| snapshot.is_committed);
    assert_eq!(committed.count(), 1, "{snapshots:#?}");
}

on_every_containerd!(containerd_is_stopped);

/// Loads with another deadline for the answer to a question.
fn load_within(answer: Duration, containerd: &Containerd, file: &Path) -> Result<Outcome, Error> {
    let timeouts = Timeouts {
        answer,
        ..Timeouts::default()
    };
    let options = target::Options {
        address: Some(containerd.socket()),
        namespace: Some(NAMESPACE.into()),
        timeouts,
        ..target::Options::default()
    };
    let layout = archive::open(&[file.into()], &archive::Options::default())?;
    sealift::load::load(
        &target::Containerd::connect(&options)?,
        &[layout],
        &LoadOptions::default(),
        &mut (),
        &Silent,
        &Interrupt::default(),
    )
}
