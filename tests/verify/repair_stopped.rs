//! Repairs that are stopped or killed while a blob arrives, and the registry's garbage collection meanwhile.

use std::fs;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Setup;
use crate::support::{Registry, Sealift, http, proxy, relay, run};

/// Bytes of an answer that arrive.
const PASSED: u64 = 100_000;
/// The user of the registry.
const USER: &str = "65534:65534";

/// Starts a proxy that stalls in the middle of a registry's large answers. Returns the address.
fn stalling_proxy(registry: &str) -> String {
    proxy(registry, |mut client, registry| {
        relay(&client, &registry);
        match io::copy(&mut registry.take(PASSED), &mut client) {
            // Until the client gives up.
            Ok(PASSED) => drop(client.read(&mut [0])),
            _ => drop(client.shutdown(Shutdown::Both)),
        }
    })
}

/// Waits until the file of a blob is in the staging folder.
#[track_caller]
fn wait_for_a_file(staging: &Path, child: &mut Child) {
    let until = Instant::now() + Duration::from_secs(60);
    while !staging.join("data").exists() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < until, "{ended:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The codes of what `verify` finds.
#[track_caller]
fn codes(sealift: &Sealift, root: &str) -> Vec<String> {
    let document = sealift.run(&["verify", "--json", "--registry-root", root]).json();
    let findings = document["storage"]["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_stopped_repair_leaves_nothing_and_the_registry_ignores_what_a_killed_one_leaves() {
    let setup = Setup::new();
    let other = Registry::start();
    let sealift = Sealift::new();
    other.push(&setup.app, "app:1");
    let path = setup.registry.blob_path(&setup.app.host().layers[1].digest);
    fs::write(&path, "bad").unwrap();
    let root = setup.registry.root();
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").args(["-R", USER]).arg(&root)).ok();
    }
    let staging = root.join("docker/registry/v2/.sealift-repair");
    let root = root.display().to_string();
    let from = format!("registry://{}", stalling_proxy(other.address()));
    let line = ["repair", "--registry-root", &root, "--from", &from];
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut command = sealift.command(&line);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_a_file(&staging, &mut child);
        setup.registry.collect_garbage();
        assert_eq!(codes(&sealift, &root), ["truncated", "unfinished-repair"]);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert_eq!(staging.exists(), signal == Signal::KILL, "{signal:?}");
    }
    setup.registry.collect_garbage();
    let catalog = http::over_tcp(setup.registry.address(), "GET", "/v2/_catalog", &[], &[]).unwrap();
    assert_eq!(catalog.body, b"{\"repositories\":[\"app\",\"team/web\"]}\n");
    assert_eq!(codes(&sealift, &root), ["truncated", "unfinished-repair"]);
    let from = format!("registry://{}", other.address());
    sealift
        .run(&["repair", "--registry-root", &root, "--from", &from])
        .ok();
    assert_eq!(codes(&sealift, &root), [""; 0]);
    assert!(!staging.exists());
}
