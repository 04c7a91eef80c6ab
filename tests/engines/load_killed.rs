//! Attaching digests, killed at every step: nothing of it stays, also not in the engine's memory.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::loading::*;
use crate::support::*;

/// The system calls that an attach consists of: the journal's fsyncs and renames, mounts, signals.
const STEPS: &str = "fsync,fdatasync,rename,mount,umount2,kill,rmdir,mkdir";

/// A daemon that has the image already, so that a load does nothing but name and attach.
struct Stage {
    daemon: Daemon,
    images: Images,
    image: Built,
    sealift: Sealift,
    loader: Loader,
}

impl Stage {
    fn new(daemon: Daemon) -> Self {
        let images = Images::new();
        let image = images.add("httpd:2.4", &Image::sample("httpd", "2.4").without_index());
        let loader = Loader::beside(&daemon);
        let request = sealift::target::Request {
            attach: sealift::target::Attach::None,
            ..Default::default()
        };
        loader.try_load(&images, &request).unwrap();
        let sealift = Sealift::new()
            .docker(&daemon)
            .env("SEALIFT_RUN_DIR", loader.folder.path().join("run"));
        Self {
            daemon,
            images,
            image,
            sealift,
            loader,
        }
    }

    /// Loads and kills it when it enters a step. Whether it came that far.
    fn killed_at(&self, step: usize) -> bool {
        let load = self
            .sealift
            .command(&["load", self.images.path().to_str().unwrap()]);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={STEPS}")])
            .args(["-e", &format!("inject={STEPS}:signal=SIGKILL:when={step}")])
            .arg(load.get_program())
            .args(load.get_args())
            .env_clear();
        for (name, value) in load.get_envs() {
            traced.env(name, value.unwrap());
        }
        let run = run(&mut traced);
        assert!(
            run.signal == Some(9) || run.code == Some(0),
            "step {step}: {run:?}"
        );
        run.signal == Some(9)
    }

    fn repair(&self) -> Run {
        self.sealift.run(&["doctor", "--repair"])
    }

    /// Lets the image be as before a load: with its tag, without its digest.
    fn forget_digest(&self) {
        let name = format!("httpd@{}", self.image.digest);
        if self.daemon.inspect(&name).is_some() {
            self.daemon.docker(&["rmi", &name]).ok();
        }
        assert_eq!(self.daemon.images(), ["httpd:2.4 <none>"]);
    }
}

/// Kills at step after step until a load gets through.
fn every_step(engine: Engine, config: serde_json::Value, after_the_kill: impl Fn(&mut Stage, usize)) {
    let mut stage = Stage::new(Daemon::options(engine, Store::Classic).config(config).start());
    let before = Untouched::of(&stage.daemon);
    let mut left = 0;
    for step in 1.. {
        assert!(step < 100, "it never gets through");
        if !stage.killed_at(step) {
            assert!(step > 10, "only {step} steps");
            assert!(left > 8, "only {left} kills left something");
            break;
        }
        left += usize::from(stage.loader.folder.path().join("run/attach.json").exists());
        after_the_kill(&mut stage, step);
        assert_eq!(Untouched::of(&stage.daemon), before, "killed at step {step}");
        nothing_is_left(&stage.loader);
        stage.forget_digest();
    }
    assert_eq!(
        stage.daemon.images(),
        [format!("httpd:2.4 {}", stage.image.digest)]
    );
    assert_eq!(Untouched::of(&stage.daemon), before);
    nothing_is_left(&stage.loader);
}

fn repaired(stage: &mut Stage, step: usize) {
    let said = stage.repair().ok();
    assert!(said.stdout.contains("leftovers: "), "step {step}: {said:?}");
    // Done twice it does no harm.
    stage.repair().ok();
}

#[test]
fn a_repair_undoes_a_kill_at_every_step_on_docker_20() {
    every_step(Engine::Docker20, serde_json::json!({}), repaired);
}

#[test]
fn a_repair_undoes_a_kill_at_every_step_on_docker_28() {
    let config = serde_json::json!({ "registry-mirrors": ["http://127.0.0.1:9"] });
    every_step(Engine::Docker28, config, repaired);
}

#[test]
fn the_next_load_undoes_it_too() {
    every_step(Engine::Docker20, serde_json::json!({}), |stage, _| {
        let path = stage.images.path();
        stage.sealift.run(&["load", path.to_str().unwrap()]).ok();
        let expected = format!("httpd:2.4 {}", stage.image.digest);
        assert_eq!(stage.daemon.images(), [expected]);
    });
}

#[test]
fn a_repair_undoes_it_when_the_engine_has_restarted_or_died_meanwhile() {
    every_step(Engine::Docker20, serde_json::json!({}), |stage, step| {
        if step % 2 == 0 {
            // It reads what lies over its daemon.json, with the mirror in it.
            stage.daemon.kill();
            stage.daemon.start_again();
            stage.repair().ok();
        } else {
            stage.daemon.kill();
            assert_eq!(stage.repair().code, Some(5), "the engine is down");
            nothing_is_left(&stage.loader);
            stage.daemon.start_again();
        }
    });
}

#[test]
fn a_missing_file_is_missing_again_after_every_kill() {
    let mut stage = Stage::new(Daemon::options(Engine::Docker28, Store::Classic).stock().start());
    let folder = stage.daemon.config_file().parent().unwrap().to_path_buf();
    for exists in [true, false] {
        if !exists {
            fs::remove_dir_all(&folder).unwrap();
        }
        let before = Untouched::of(&stage.daemon);
        for step in 1.. {
            let killed = stage.killed_at(step);
            repaired(&mut stage, step);
            assert_eq!(Untouched::of(&stage.daemon), before, "killed at step {step}");
            assert_eq!(folder.exists(), exists, "killed at step {step}");
            nothing_is_left(&stage.loader);
            stage.forget_digest();
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn a_signal_undoes_it_before_the_process_dies() {
    let stage = Stage::new(Daemon::start(Engine::Docker20, Store::Classic));
    let before = Untouched::of(&stage.daemon);
    // Each pull is slow, so that the signal comes while the mirror is in the engine's memory.
    let mut slowed = Command::new("strace");
    let load = stage
        .sealift
        .command(&["load", stage.images.path().to_str().unwrap()]);
    slowed
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=kill"])
        .args(["-e", "inject=kill:delay_exit=3000000:when=1"])
        .arg(load.get_program())
        .args(load.get_args())
        .env_clear();
    for (name, value) in load.get_envs() {
        slowed.env(name, value.unwrap());
    }
    let mut child = slowed.spawn().unwrap();
    let journal = stage.loader.folder.path().join("run/attach.json");
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
    assert_eq!(Untouched::of(&stage.daemon), before);
    nothing_is_left(&stage.loader);
}
