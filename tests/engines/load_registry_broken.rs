//! Pushes that are killed, and connections that break.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::load_registry::Pushes;
use crate::support::{Image, Layer, Registry, proxy, relay, run};

/// How often a push is killed.
const POINTS: usize = 30;

/// Of a process that speaks to a registry.
const CALLS: &str = "?sendto,?write,?writev,?recvfrom,?read,?readv,?connect";

/// Starts a proxy that cuts each connection after this many bytes to the registry. Returns the address.
fn cutting_proxy(registry: &str, most: u64) -> String {
    proxy(registry, move |client, registry| {
        relay(&registry, &client);
        let _ = io::copy(&mut (&client).take(most), &mut &registry);
        let _ = client.shutdown(Shutdown::Both);
        let _ = registry.shutdown(Shutdown::Both);
    })
}

#[test]
fn a_proxy_that_cuts_each_connection_after_5_mb_does_not_prevent_a_push() {
    let pushes = Pushes::new();
    let image = Image::single(vec![
        Layer::busybox(),
        Layer::new().noise("app/data", 1, 20_000_000),
        Layer::new().noise("app/more", 2, 12_000_000),
    ]);
    let built = pushes.add("images", "docker.io/library/app:1", &image);
    let address = cutting_proxy(pushes.registry.address(), 5_000_000);
    let place = format!("registry://{address}/mirror");
    let said = pushes.sealift.run(&["load", "images", "--to", &place]).ok();
    assert!(
        said.stderr.contains("retrying"),
        "nothing was cut: {}",
        said.stderr
    );
    pushes.assert_has("mirror/library/app:1", &built);
}

/// Starts a proxy that passes a few MB a second on to a registry, and tells when a megabyte has arrived there.
fn slow_proxy(registry: &str) -> (String, Receiver<()>) {
    let (arrived, has_arrived) = channel();
    let address = proxy(registry, move |mut client, mut registry| {
        relay(&registry, &client);
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            if registry.write_all(&buffer[..count]).is_err() {
                break;
            }
            passed += count;
            if passed >= 1 << 20 {
                let _ = arrived.send(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = registry.shutdown(Shutdown::Write);
    });
    (address, has_arrived)
}

#[test]
fn a_signal_cancels_the_uploads_of_a_push() {
    let pushes = Pushes::new();
    let image = Image::single(vec![Layer::new().noise("app/data", 1, 24_000_000)]);
    let built = pushes.add("images", "docker.io/library/app:1", &image);
    let (address, has_arrived) = slow_proxy(pushes.registry.address());
    let place = format!("registry://{address}/mirror");
    let mut command = pushes.sealift.command(&["load", "images", "--to", &place]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    has_arrived.recv().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    let requests = pushes.registry.requests();
    let cancelled = requests.iter().filter(|one| one.method == "DELETE");
    assert_eq!(
        cancelled.map(|one| one.status).collect::<Vec<_>>(),
        [204],
        "{requests:?}"
    );
    // distribution 2 leaves folders without content.
    let uploads = pushes.registry.repository("mirror/library/app").join("_uploads");
    let mut left = fs::read_dir(uploads).unwrap().flatten();
    assert!(left.all(|upload| !upload.path().join("data").exists()));
    pushes.push("images", &[]).ok();
    pushes.assert_has("mirror/library/app:1", &built);
}

#[test]
fn a_full_disk_of_the_registry_ends_a_push_at_once() {
    let pushes = Pushes::into(Registry::options().disk("4m"));
    let layers = (1..=3).map(|seed| Layer::new().noise("app/data", seed, 3_000_000));
    let image = Image::single(layers.collect());
    let built = pushes.add("images", "docker.io/library/app:1", &image);
    let full = pushes.push("images", &[]).code(3);
    for text in ["the registry's disk is full", "hint: free some space there"] {
        assert!(full.stderr.contains(text), "{}", full.stderr);
    }
    assert!(!full.stderr.contains("retrying"), "{}", full.stderr);
    pushes.registry.resize_disk("64m");
    pushes.push("images", &[]).ok();
    pushes.assert_has("mirror/library/app:1", &built);
}

/// A push under strace, in its own environment.
fn traced(pushes: &Pushes, more: &[&str]) -> Command {
    let push = pushes.command("new", &[]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq"]).args(more);
    traced.arg(push.get_program()).args(push.get_args()).env_clear();
    traced.envs(push.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.current_dir(pushes.sealift.home());
    traced
}

/// System calls of a push at equal distances, each with its number among those of its kind in its thread.
fn points(log: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut all = Vec::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let call = rest.trim_start().split_once('(').map(|(call, _)| call);
        if let Some(call) = call.filter(|call| call.chars().all(char::is_alphanumeric)) {
            let number = counts.entry((call, thread)).or_default();
            *number += 1;
            all.push((call.to_owned(), *number));
        }
    }
    let count = 2 * POINTS;
    assert!(all.len() >= count, "only {}", all.len());
    (0..count).map(|at| all[at * all.len() / count].clone()).collect()
}

#[test]
fn a_push_that_is_killed_leaves_names_intact_and_is_run_again() {
    let pushes = Pushes::new();
    let app = |version: &str| {
        Image::single(vec![
            Layer::busybox(),
            Layer::new()
                .file("app/version", version)
                .noise("app/data", 1, 3_000_000),
        ])
    };
    let name = |at: usize| format!("docker.io/library/app{at}:1");
    let pushed = |at: usize| format!("mirror/library/app{at}:1");
    let old: Vec<_> = (0..2)
        .map(|at| pushes.add("old", &name(at), &app(&format!("old {at}"))))
        .collect();
    let new: Vec<_> = (0..2)
        .map(|at| pushes.add("new", &name(at), &app(&format!("new {at}"))))
        .collect();
    pushes.push("old", &[]).ok();
    let log = pushes.sealift.path("calls");
    let trace = format!("trace={CALLS}");
    run(&mut traced(&pushes, &["-o", log.to_str().unwrap(), "-e", &trace])).ok();
    let mut kills = 0;
    for (call, number) in points(&fs::read_to_string(&log).unwrap()) {
        // The old images again, and nothing of the new ones.
        pushes.registry.forget_repository("mirror/library/app0");
        pushes.registry.forget_repository("mirror/library/app1");
        pushes.push("old", &[]).ok();
        let inject = format!("inject=?{call}:signal=SIGKILL:when={number}");
        let trace = format!("trace=?{call}");
        let killed = run(&mut traced(
            &pushes,
            &["-o", "/dev/null", "-e", &trace, "-e", &inject],
        ));
        // Threads take other turns each time: some points are not reached.
        if killed.signal != Some(9) {
            assert_eq!(killed.code, Some(0), "{call} {number}: {killed:?}");
            continue;
        }
        kills += 1;
        for (at, (new, old)) in new.iter().zip(&old).enumerate() {
            let found = pushes.registry.digest_of(&pushed(at));
            let expected = if found == new.digest { new } else { old };
            pushes.assert_has(&pushed(at), expected);
        }
        pushes.push("new", &[]).ok();
        for (at, new) in new.iter().enumerate() {
            pushes.assert_has(&pushed(at), new);
        }
        if kills == POINTS {
            return;
        }
    }
    panic!("only {kills} kills");
}
