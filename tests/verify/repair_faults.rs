//! Repairs that are killed, or whose disk fails, at each step.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Run, Sealift, run};
use crate::{DAMAGES, Setup};

/// Calls that fail if the disk is full.
const FAILING: &[&str] = &[
    "mkdirat", "pwrite64", "write", "fchown", "fchmod", "fsync", "renameat",
];
/// Calls before which a kill leaves different states.
const KILLED: &[&str] = &["mkdirat", "pwrite64", "fchmod", "renameat"];
/// The user of the registry.
const USER: u32 = 1234;

/// The storage of a registry with a damaged config and without a layer, its folder and its link.
struct Storage {
    sealift: Sealift,
    damaged: PathBuf,
    /// The layer, the config and the link: their paths in the storage, and the right bytes.
    right: Vec<(PathBuf, Vec<u8>)>,
}

impl Storage {
    fn new(setup: &Setup) -> Storage {
        let sealift = Sealift::new();
        let image = format!("{}/app:1", setup.registry.address());
        let save = ["save", "-q", "--platform", "all", "-o", "images.tar", &image];
        sealift.run(&save).ok();
        let root = setup.registry.root();
        let host = setup.app.host();
        let layer = &host.layers[1].digest;
        let link = setup.registry.repository("app").join("_layers/sha256");
        let link = link.join(&layer["sha256:".len()..]).join("link");
        let files = [
            setup.registry.blob_path(layer),
            setup.registry.blob_path(&host.config),
            link,
        ];
        let right = files.map(|path| {
            let below = path.strip_prefix(&root).unwrap().to_path_buf();
            (below, fs::read(&path).unwrap())
        });
        let damaged = sealift.path("damaged");
        copy(&root, &damaged);
        for (path, _) in [&right[0], &right[2]] {
            fs::remove_dir_all(damaged.join(path).parent().unwrap()).unwrap();
        }
        let (config, mut bytes) = right[1].clone();
        DAMAGES[2].1(&mut bytes);
        fs::write(damaged.join(&config), &bytes).unwrap();
        // As if it were old, so that no second look is due.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(90_000);
        let file = fs::File::options().write(true).open(damaged.join(&config));
        file.unwrap().set_modified(old).unwrap();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown")
                .args(["-R", &USER.to_string()])
                .arg(&damaged))
            .ok();
        }
        Storage {
            sealift,
            damaged,
            right: right.into(),
        }
    }

    /// Makes a damaged storage, and repairs it with a fault in the `k`th call.
    fn repair_with(&self, call: &str, fault: &str, k: u32) -> (PathBuf, Run) {
        let root = self.sealift.path(call);
        let _ = fs::remove_dir_all(&root);
        copy(&self.damaged, &root);
        let path = root.display().to_string();
        let line = ["repair", "--registry-root", &path, "--from", "images.tar"];
        (root, self.sealift.injected(call, fault, k, &line))
    }

    /// Everything is as it was or is right, and belongs to the registry.
    #[track_caller]
    fn assert_unharmed(&self, root: &Path, step: &str) {
        for (below, right) in &self.right {
            if let Ok(found) = fs::read(root.join(below)) {
                let was = fs::read(self.damaged.join(below)).ok();
                assert!(found == *right || Some(found) == was, "{step}: {below:?}");
            }
        }
        let is_root = rustix::process::geteuid().is_root();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with(".sealift-repair") {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).unwrap();
                let mode = if meta.is_dir() { 0o755 } else { 0o644 };
                assert_eq!(meta.mode() & 0o777, mode, "{step}: {path:?}");
                assert!(!is_root || meta.uid() == USER, "{step}: {path:?}");
                if meta.is_dir() {
                    folders.push(path);
                }
            }
        }
    }

    /// The next repair completes it.
    #[track_caller]
    fn assert_completed_by_the_next(&self, root: &Path, step: &str) {
        let path = root.display().to_string();
        let line = ["repair", "--registry-root", &path, "--from", "images.tar"];
        self.sealift.run(&line).ok();
        for (below, right) in &self.right {
            assert!(fs::read(root.join(below)).unwrap() == *right, "{step}: {below:?}");
        }
        self.assert_unharmed(root, step);
        let staging = root.join("docker/registry/v2/.sealift-repair");
        assert!(!staging.exists(), "{step}");
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}

/// Repairs with a fault in each call of these kinds, until there is no further one. Returns how many there were.
fn at_every_call(
    storage: &Storage,
    calls: &'static [&str],
    fault: &str,
    check: impl Fn(&Path, Run, &str) + Sync,
) -> usize {
    std::thread::scope(|scope| {
        let check = &check;
        let run = |call: &'static str| {
            scope.spawn(move || {
                for k in 1.. {
                    let (root, run) = storage.repair_with(call, fault, k);
                    let step = format!("{call} {k}");
                    storage.assert_unharmed(&root, &step);
                    if run.code == Some(0) {
                        return k - 1;
                    }
                    check(&root, run, &step);
                }
                0
            })
        };
        let kinds: Vec<_> = calls.iter().map(|call| run(call)).collect();
        kinds.into_iter().map(|kind| kind.join().unwrap() as usize).sum()
    })
}

#[test]
fn a_repair_killed_at_any_step_harms_nothing_and_the_next_completes_it() {
    let storage = Storage::new(&Setup::new());
    let killed = at_every_call(&storage, KILLED, "signal=SIGKILL", |root, run, step| {
        assert_eq!(run.code, None, "{step}: {}", run.stderr);
        storage.assert_completed_by_the_next(root, step);
    });
    assert!(killed >= 10, "only {killed} steps were cut");
}

#[test]
fn a_failing_disk_is_reported_and_harms_nothing() {
    let storage = Storage::new(&Setup::new());
    let failed = at_every_call(&storage, FAILING, "error=ENOSPC", |root, run, step| {
        let run = run.code(3);
        // The result may be what cannot be printed.
        if !step.starts_with("write") {
            let told = format!("{}{}", run.stdout, run.stderr);
            assert!(
                told.contains("error: ") && told.contains("No space left"),
                "{step}: {told}"
            );
        }
        let staging = root.join("docker/registry/v2/.sealift-repair");
        assert!(!staging.exists(), "{step}");
    });
    assert!(failed >= 20, "only {failed} calls failed");
}
