//! A folder for what a test starts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, Once};
use std::thread::{self, ThreadId};

use rustix::process::{Pid, WaitOptions, waitpid};

/// How many tests may have engines running at once: they wait two thirds of the time.
fn turns() -> usize {
    3 * thread::available_parallelism().map_or(2, usize::from)
}

/// A folder whose processes end and whose mounts go when it is dropped, or when this process dies in any way.
///
/// `stop.sh` does it, one process per folder, started together with it; it waits on a pipe that closes with us.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    stopper: Option<Child>,
    _turn: Option<Turn>,
}

/// Where the folders are: on a disk, with a short name (a socket's path may have 107 bytes).
pub fn base() -> PathBuf {
    std::env::var_os("SEALIFT_TEST_TMP")
        .map_or_else(|| "/var/tmp".into(), PathBuf::from)
        .join("sealift-tests")
}

fn start_stopper(path: &Path) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/stop.sh");
    let said = File::create(said(path)).unwrap();
    Command::new("bash")
        .arg(script)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .process_group(0) // Ctrl-C must not reach it
        .spawn()
        .expect("bash")
}

/// What `stop.sh` said about a folder, beside it.
fn said(path: &Path) -> PathBuf {
    path.with_extension("stop")
}

impl Folder {
    /// Makes a new one, once what killed runs left has been swept away.
    pub fn new() -> Self {
        Self::with(Some(Turn::take()))
    }

    /// Makes one in a static that several tests use: it takes no test's turn, and ends with this process.
    pub fn shared() -> Self {
        Self::with(None)
    }

    fn with(turn: Option<Turn>) -> Self {
        static SWEPT: Once = Once::new();
        let base = base();
        fs::create_dir_all(&base).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
        SWEPT.call_once(|| sweep(&base));
        let path = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(6)
            .tempdir_in(&base)
            .unwrap()
            .keep();
        fs::write(
            path.join("owner"),
            format!("{}\n", process_line(std::process::id()).unwrap()),
        )
        .unwrap();
        Self {
            stopper: Some(start_stopper(&path)),
            path,
            _turn: turn,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a process that belongs to the folder, its output going to a log file there.
    pub fn spawn(&self, command: &mut Command, log: &Path) -> Child {
        self.spawn_with_stdin(command.stdin(Stdio::null()), log)
    }

    /// The same with the standard input that the command has.
    pub fn spawn_with_stdin(&self, command: &mut Command, log: &Path) -> Child {
        let log = File::options().append(true).create(true).open(log).unwrap();
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}: run tests/engines/install.sh"));
        let mut pids = File::options()
            .append(true)
            .create(true)
            .open(self.path.join("pids"))
            .unwrap();
        if let Some(line) = process_line(child.id()) {
            writeln!(pids, "{line}").unwrap();
        }
        child
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(mut stopper) = self.stopper.take() else {
            return;
        };
        let children = fs::read_to_string(self.path.join("pids")).unwrap_or_default();
        drop(stopper.stdin.take());
        let ended = stopper.wait();
        children.lines().for_each(reap);
        let said = said(&self.path);
        let text = fs::read_to_string(&said).unwrap_or_default();
        let _ = fs::remove_file(&said);
        if !text.is_empty() || !ended.is_ok_and(|status| status.success()) {
            let message = format!("stopping {}:\n{text}", self.path.display());
            assert!(thread::panicking(), "{message}");
            eprintln!("{message}");
        }
    }
}

/// `pid start-time` of a live process: together they name it for good.
fn process_line(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = stat.rsplit_once(") ")?.1.split(' ').nth(19)?;
    Some(format!("{pid} {started}"))
}

/// Takes note of the end of a child for which nobody has waited: hundreds of them would slow down whatever looks at all
/// processes.
fn reap(line: &str) {
    let pid = line.split(' ').next().and_then(|pid| pid.parse().ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && process_line(pid.as_raw_nonzero().get().unsigned_abs()).as_deref() == Some(line)
    {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Ends what earlier runs left whose `stop.sh` died too. Only folders with an owner that is gone are touched.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).unwrap().flatten() {
        let path = entry.path();
        let Ok(owner) = fs::read_to_string(path.join("owner")) else {
            continue;
        };
        let pid = owner.split(' ').next().and_then(|pid| pid.parse().ok());
        if pid.and_then(process_line).as_deref() == Some(owner.trim()) {
            continue;
        }
        let mut stopper = start_stopper(&path);
        drop(stopper.stdin.take());
        let _ = stopper.wait();
        let _ = fs::remove_file(said(&path));
    }
}

static HOLDERS: Mutex<Option<HashMap<ThreadId, usize>>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

/// A test's right to run engines. One thread, that is one test, may take several at the price of one.
#[derive(Debug)]
struct Turn(ThreadId);

impl Turn {
    fn take() -> Self {
        let me = thread::current().id();
        let mut guard = HOLDERS.lock().unwrap();
        loop {
            let holders = guard.get_or_insert_default();
            if holders.contains_key(&me) || holders.len() < turns() {
                *holders.entry(me).or_default() += 1;
                return Self(me);
            }
            guard = FREED.wait(guard).unwrap();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut guard = HOLDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let holders = guard.get_or_insert_default();
        if let Some(count) = holders.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                holders.remove(&self.0);
                FREED.notify_one();
            }
        }
    }
}

/// The same file under another name; a copy on another file system.
pub fn linked(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap();
    }
}
