//! `verify --metrics`: a run that fails leaves no metrics of an earlier one.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Sealift;

/// Metrics of a run that found nothing wrong.
const GREEN: &str = "sealift_verify_success{run=\"reg\"} 1\nsealift_verify_exit_code{run=\"reg\"} 0\n";

/// A home with them, for runs that go wrong.
fn green() -> Sealift {
    let sealift = Sealift::new();
    fs::write(sealift.path("reg.prom"), GREEN).unwrap();
    sealift
}

#[track_caller]
fn assert_failed(sealift: &Sealift, status: i32) {
    let metrics = fs::read_to_string(sealift.path("reg.prom")).unwrap();
    let values = metrics.lines().filter(|line| !line.starts_with('#'));
    let (times, others): (Vec<&str>, Vec<&str>) = values.partition(|line| line.contains("_seconds{"));
    let expected = [
        "sealift_verify_success{run=\"reg\"} 0".to_owned(),
        format!("sealift_verify_exit_code{{run=\"reg\"}} {status}"),
    ];
    assert_eq!(others, expected);
    // How long it took, and when it ended.
    assert_eq!(times.len(), 2, "{metrics}");
}

#[test]
fn a_run_that_ends_early_leaves_no_metrics_of_an_earlier_one() {
    for (arguments, code) in [
        (&["--registry-root", "empty"][..], 7),
        (&["--registry-root", "absent"], 3),
        (&["127.0.0.1:1/app:1", "--since", "damaged.json"], 2),
        (&["--images", "absent.txt"], 3),
        (&["--images", "empty.txt"], 2),
        (&["empty"], 2),
    ] {
        let sealift = green();
        fs::create_dir(sealift.path("empty")).unwrap();
        fs::write(sealift.path("damaged.json"), "{").unwrap();
        fs::write(sealift.path("empty.txt"), "").unwrap();
        let all = [&["verify", "-q", "--metrics", "reg.prom"], arguments].concat();
        sealift.run(&all).code(code);
        assert_failed(&sealift, code);
    }
}

#[test]
fn an_interrupted_run_leaves_no_metrics_of_an_earlier_one() {
    for signal in [Signal::INT, Signal::TERM] {
        let sealift = green();
        // A registry that accepts connections and never answers.
        let registry = TcpListener::bind("127.0.0.1:0").unwrap();
        let image = format!("{}/app:1", registry.local_addr().unwrap());
        let mut command = sealift.command(&["verify", &image, "--metrics", "reg.prom"]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _connection = registry.accept().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = child.wait_with_output().unwrap().status;
        assert_eq!(ended.signal(), Some(signal.as_raw()));
        assert_failed(&sealift, 128 + signal.as_raw());
    }
}
