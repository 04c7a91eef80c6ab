//! Runs programs in a clean environment and keeps their output.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The output of a program, and how it ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The program and its arguments, for messages.
    pub line: String,
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// What a process ended with.
    pub fn new(line: String, output: &Output) -> Self {
        Self {
            line,
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the program ended with this exit code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code,
            Some(expected),
            "{}\nsignal {:?}\nstdout:\n{}\nstderr:\n{}",
            self.line,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless the program ended with exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Its standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{}: {e}:\n{}", self.line, self.stdout))
    }
}

/// Runs a command to its end and keeps its output. Standard input is empty unless set before.
#[track_caller]
pub fn run(command: &mut Command) -> Run {
    let line = format!("{command:?}");
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{line}: {e}: run tests/engines/install.sh"));
    Run::new(line, &output)
}

/// Installs a copy of a program where every user can run it.
///
/// Another process writes it: a child that some thread forks meanwhile would hold a file open that this process
/// writes, and running it would fail with "Text file busy".
pub fn install(program: impl AsRef<OsStr>, place: &Path) {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(program).arg(place);
    run(&mut install).ok();
}

/// Runs a command that is killed after a minute: one that waits for a FIFO would take forever.
#[track_caller]
pub fn bounded(command: &mut Command) -> Run {
    let mut limited = Command::new("timeout");
    limited
        .args(["-s", "KILL", "60"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    run(limited.stdin(Stdio::null()))
}

/// A command with an environment of only PATH and HOME, and nothing on standard input.
pub fn clean(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// The built sealift with a home of its own: no proxy, DOCKER_* or XDG_* of the machine reaches it.
#[derive(Debug)]
pub struct Sealift {
    home: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Sealift {
    /// Makes the empty home.
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    /// Sets a variable for every run.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.into(), value.as_ref().to_str().unwrap().into()));
        self
    }

    /// Points DOCKER_HOST at a daemon.
    #[must_use]
    pub fn docker(self, daemon: &super::Daemon) -> Self {
        self.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()))
    }

    /// The folder that is HOME and the working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A file in HOME.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The command, to add to or to spawn.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.beside(env!("CARGO_BIN_EXE_sealift"));
        command.args(args);
        command
    }

    /// The same as another user than root, who may read everything in HOME.
    pub fn command_of_another_user<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        // That user may not reach the folder of this repository.
        let program = self.path("sealift");
        install(env!("CARGO_BIN_EXE_sealift"), &program);
        let mut command = self.program_of_another_user(program.to_str().unwrap());
        command.args(args);
        command
    }

    /// Any program as that user.
    pub fn program_of_another_user(&self, program: &str) -> Command {
        let mode = fs::metadata(self.home()).unwrap().permissions().mode();
        fs::set_permissions(self.home(), fs::Permissions::from_mode(mode | 0o055)).unwrap();
        let mut command = self.beside(program);
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        command
    }

    /// A bash script in the same surroundings, which finds `sealift` in its PATH.
    pub fn shell(&self, script: &str) -> Command {
        let folder = Path::new(env!("CARGO_BIN_EXE_sealift")).parent().unwrap();
        let script = format!("PATH={}:$PATH\n{script}", folder.display());
        let mut command = self.beside("bash");
        command.args(["-c", &script]);
        command
    }

    fn beside(&self, program: &str) -> Command {
        let mut command = clean(program, self.home.path());
        command.current_dir(self.home.path());
        // Tests attach side by side: each has a journal of its own.
        command.env("SEALIFT_RUN_DIR", self.home.path().join("run"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        run(&mut self.command(args))
    }

    /// Runs it under strace, which makes the `k`th call of one kind fail or kill.
    #[track_caller]
    pub fn injected<S: AsRef<OsStr>>(&self, call: &str, fault: &str, k: u32, args: &[S]) -> Run {
        let inner = self.command(args);
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"));
        if !fault.starts_with("signal=") {
            // Only these calls stop the program; it does not work with signals.
            command.arg("--seccomp-bpf");
        }
        command.arg("-e").arg(format!("inject={call}:{fault}:when={k}"));
        command
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(self.home())
            .env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null());
        run(&mut command)
    }
}
