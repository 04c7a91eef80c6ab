//! Runs podman, never through a shell.
//!
//! It runs in a process group of its own: Ctrl-C reaches sealift alone, which then ends podman. A rootless podman is two
//! processes, and both are in that group. If sealift is killed, `setpriv` of util-linux has the kernel end podman.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::Options;
use crate::error::{Error, Hint, Result, tells_of_full_disk};
use crate::escape::{Escaped, shell_word};
use crate::interrupt::Interrupt;
use crate::serve::Event;

/// A registries.conf without entries: what the host's own file says does not concern a load.
const NO_REGISTRIES: &str = "/dev/null";
/// The variable with the path of registries.conf.
const REGISTRIES_CONF: &str = "CONTAINERS_REGISTRIES_CONF";
/// How often a running podman is looked at while it requests nothing.
const TICK: Duration = Duration::from_millis(20);
/// How long podman may take to end by SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long podman may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of its standard error that are kept.
const MAX_ERRORS: u64 = 64 << 10;
/// Most bytes of an answer: ten thousand images with their configs.
const MAX_ANSWER: u64 = 256 << 20;

/// podman with the options of its storage.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// `setpriv`, which sends podman SIGTERM when this process dies.
    wrapper: Option<PathBuf>,
    global: Vec<OsString>,
    answer_timeout: Duration,
    engine: &'static str,
}

/// What happens to the blobs that are served to a podman, and what receives it.
struct Served<'s> {
    events: &'s mpsc::Receiver<Event>,
    on_event: &'s mut dyn FnMut(Event),
}

/// How podman is run.
struct Run<'s> {
    /// The path of registries.conf.
    registries: &'s Path,
    /// How long it may take; without a limit it may take any time.
    limit: Option<Duration>,
    served: Option<Served<'s>>,
}

impl Run<'_> {
    fn without_registries(limit: Option<Duration>) -> Self {
        Run {
            registries: Path::new(NO_REGISTRIES),
            limit,
            served: None,
        }
    }
}

/// What podman printed, and whether it succeeded.
#[derive(Debug)]
struct ProcessOutput {
    is_success: bool,
    answer: Vec<u8>,
    errors: String,
}

impl Program {
    /// Prepares to run podman.
    pub fn find(options: &Options) -> Program {
        let mut global = Vec::new();
        let folders = [("--root", &options.root), ("--runroot", &options.runroot)];
        for (flag, folder) in folders {
            if let Some(folder) = folder {
                global.extend([flag.into(), folder.into()]);
            }
        }
        if let Some(driver) = &options.driver {
            global.extend(["--storage-driver".into(), driver.into()]);
        }
        Program {
            path: options.program.clone(),
            wrapper: wrapper(),
            global,
            answer_timeout: ANSWER_TIMEOUT,
            engine: options.engine,
        }
    }

    /// The command that runs podman with these options, as a shell takes it.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(self.path.as_os_str()).chain(self.global.iter().map(AsRef::as_ref));
        let words: Vec<String> = words.map(|word| shell_word(&word.to_string_lossy())).collect();
        words.join(" ")
    }

    /// Whether podman's program is on this host.
    pub fn is_installed(options: &Options) -> bool {
        is_program(&options.program)
    }

    /// Runs podman for an answer in JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if it fails or cannot be run, prints something else, or does not end in a minute.
    pub fn ask<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let run = Run::without_registries(Some(self.answer_timeout));
        let ended = self.run(args, run, &Interrupt::default())?;
        // With several images, one of them may be gone by now.
        match serde_json::from_slice(&ended.answer) {
            Ok(answer) => Ok(answer),
            Err(_) if !ended.is_success => Err(self.failed(args, &ended.errors)),
            Err(error) => Err(self.error(args, format!("its answer is not understood: {error}"), None)),
        }
    }

    /// Runs podman for something that it does.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if it fails.
    pub fn act(&self, args: &[&str], interrupt: &Interrupt) -> Result<()> {
        let ended = self.run(args, Run::without_registries(None), interrupt)?;
        match ended.is_success {
            true => Ok(()),
            false => Err(self.failed(args, &ended.errors)),
        }
    }

    /// Runs podman for a pull, with this registries.conf. `on_event` gets what happens to the blobs that are served to it.
    /// Returns the image id, without `sha256:`.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if it fails.
    pub fn pull(
        &self,
        args: &[&str],
        registries: &Path,
        interrupt: &Interrupt,
        events: &mpsc::Receiver<Event>,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<String> {
        let run = Run {
            registries,
            limit: None,
            served: Some(Served { events, on_event }),
        };
        let ended = self.run(args, run, interrupt)?;
        match ended.is_success {
            true => Ok(String::from_utf8_lossy(&ended.answer).trim().to_string()),
            false => Err(self.failed(args, &ended.errors)),
        }
    }

    fn command(&self, args: &[&str], registries: &Path) -> Command {
        let mut command = match &self.wrapper {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.args(["--pdeathsig", "TERM", "--"]).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        command
            .args(&self.global)
            .args(args)
            .env(REGISTRIES_CONF, registries)
            // An older name of the same variable.
            .env_remove("REGISTRIES_CONFIG_PATH")
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    fn run(&self, args: &[&str], how: Run<'_>, interrupt: &Interrupt) -> Result<ProcessOutput> {
        interrupt.check()?;
        if self.wrapper.is_some() && !is_program(&self.path) {
            return Err(self.missing(args));
        }
        let mut command = self.command(args, how.registries);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.missing(args),
            _ => self.error(args, error.to_string(), None),
        })?;
        let answer = reader(child.stdout.take(), MAX_ANSWER);
        let errors = reader(child.stderr.take(), MAX_ERRORS);
        let (ended, until) = mpsc::channel::<()>();
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _guard = interrupt.on_stop(move || end(group, &until));
        let (ended_in_time, deadline) = mpsc::channel::<()>();
        let limiter = how.limit.map(|limit| {
            std::thread::spawn(move || {
                let is_late = deadline.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if is_late {
                    end(group, &deadline);
                }
                is_late
            })
        });
        let status = wait(&mut child, how.served);
        drop((ended, ended_in_time));
        let status = status.map_err(|error| self.error(args, error.to_string(), None))?;
        interrupt.check()?;
        if limiter.is_some_and(|limiter| limiter.join().unwrap_or_default()) {
            return Err(self.late(args));
        }
        Ok(ProcessOutput {
            is_success: status.success(),
            answer: answer.join().unwrap_or_default(),
            errors: String::from_utf8_lossy(&errors.join().unwrap_or_default()).into_owned(),
        })
    }

    /// The error of a podman that failed, by the last line that says why.
    fn failed(&self, args: &[&str], errors: &str) -> Error {
        let lines = || errors.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut named = lines().filter_map(|line| line.strip_prefix("Error: "));
        let problem = named.next_back().or_else(|| lines().next_back());
        let problem = problem.unwrap_or("it failed without output");
        self.error(args, Escaped(problem).to_string(), self.hint(problem))
    }

    fn late(&self, args: &[&str]) -> Error {
        let problem = format!(
            "it did not answer within {} seconds",
            self.answer_timeout.as_secs()
        );
        let hint = "another podman may have locked the storage: `ps -C podman` lists them";
        self.error(args, problem, Some(hint.into()))
    }

    fn missing(&self, args: &[&str]) -> Error {
        self.error(
            args,
            format!(
                "there is no program {}",
                Escaped(&self.path.display().to_string())
            ),
            Some("install podman, or see that it is in PATH".into()),
        )
    }

    /// An error of something that podman was to do.
    pub fn error(&self, args: &[&str], problem: String, hint: Option<Hint>) -> Error {
        let words: Vec<&str> = args
            .iter()
            .copied()
            .filter(|word| !word.starts_with('-'))
            .collect();
        let action = match words.as_slice() {
            ["pull", .., name] => format!("pull {name}"),
            [verb, ..] => (*verb).to_string(),
            [] => String::new(),
        };
        Error::Engine {
            engine: self.engine.into(),
            action,
            problem,
            hint,
        }
    }

    /// What to do about an error of podman, if that is known.
    fn hint(&self, problem: &str) -> Option<Hint> {
        if tells_of_full_disk(problem) {
            let text = format!(
                "free some space where podman keeps images (`{} system df` shows what takes it), or in its folder for \
                 temporary files; then run the same load again",
                self.command_line()
            );
            return Some(text.into());
        }
        let is_policy = [
            "is rejected by policy",
            "signature was required",
            "Source image rejected",
        ]
        .iter()
        .any(|text| problem.contains(text));
        if is_policy {
            return Some(
                "the host's policy.json (see man containers-policy.json) does not allow this image without a signature; sealift \
                 does not change or bypass it"
                    .into(),
            );
        }
        let is_lookaside = problem.contains("signatures") && problem.contains("http");
        if is_lookaside {
            return Some(
                "the host's registries.d has podman ask a server for signatures of this registry (see man \
                 containers-registries.d); remove that entry where the server cannot be reached"
                    .into(),
            );
        }
        None
    }
}

/// Waits for podman, and passes on what happens to the blobs that are served to it meanwhile.
fn wait(child: &mut Child, served: Option<Served<'_>>) -> io::Result<std::process::ExitStatus> {
    let Some(Served { events, on_event }) = served else {
        return child.wait();
    };
    loop {
        match events.recv_timeout(TICK) {
            Ok(event) => on_event(event),
            Err(RecvTimeoutError::Disconnected) => return child.wait(),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    events.try_iter().for_each(on_event);
                    return Ok(status);
                }
            }
        }
    }
}

/// Ends a group of processes. The other end of `until` closes when its leader has ended.
fn end(group: Option<Pid>, until: &mpsc::Receiver<()>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
        if until.recv_timeout(TERM_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads a pipe to its end in a thread, so that podman is never blocked, and keeps the first bytes.
fn reader(pipe: Option<impl Read + Send + 'static>, most: u64) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(most).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        kept
    })
}

/// `setpriv`, if it can have the kernel end a process together with this one.
fn wrapper() -> Option<PathBuf> {
    let path = ["/usr/bin/setpriv", "/bin/setpriv"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())?;
    let help = Command::new(&path)
        .arg("--help")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let is_usable = String::from_utf8_lossy(&help.stdout).contains("--pdeathsig");
    is_usable.then_some(path)
}

/// Whether a program exists: at its path, or in `PATH` if it has none.
fn is_program(path: &Path) -> bool {
    if path.components().count() > 1 {
        return path.exists();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(path).is_file())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::error::ErrorKind;

    fn program(path: &str) -> Program {
        let options = Options {
            program: path.into(),
            root: Some("/a".into()),
            ..Options::from_process()
        };
        Program::find(&options)
    }

    #[test]
    fn a_missing_podman_and_one_that_fails_are_errors_of_the_engine() {
        let error = program("/nonexistent/podman")
            .ask::<Vec<u8>>(&["info"])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "podman: info: there is no program /nonexistent/podman"
        );
        let error = program("/bin/false")
            .act(&["tag", "a"], &Interrupt::default())
            .unwrap_err();
        assert_eq!(error.to_string(), "podman: tag: it failed without output");
        // It prints its arguments, which are no JSON.
        let error = program("/bin/echo").ask::<Vec<u8>>(&["info"]).unwrap_err();
        assert!(
            error.to_string().contains("its answer is not understood"),
            "{error}"
        );
    }

    #[test]
    fn a_podman_that_does_not_answer_is_ended() {
        let mut program = Program::find(&Options {
            program: "/bin/sleep".into(),
            ..Options::from_process()
        });
        program.answer_timeout = Duration::from_secs(1);
        let error = program.ask::<Vec<u8>>(&["600"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "podman: 600: it did not answer within 1 seconds"
        );
        assert_eq!(error.kind(), ErrorKind::Engine);
        // What it does has no limit.
        program.act(&["0.3"], &Interrupt::default()).unwrap();
    }

    #[test]
    fn the_last_error_that_podman_prints_is_told() {
        let errors = "Trying to pull app...\nError: initializing source: \u{1b}[31mboom\n";
        let error = program("podman").failed(&["pull", "--quiet", "docker.io/library/app:1"], errors);
        assert_eq!(
            error.to_string(),
            "podman: pull docker.io/library/app:1: initializing source: \\u{1b}[31mboom"
        );
        let rejected = "Error: Source image rejected: A signature was required, but no signature exists";
        let hint = program("podman").failed(&["pull"], rejected).hint().unwrap();
        assert!(hint.to_string().contains("policy.json"), "{hint}");
        let full = "Error: writing blob: write /var/tmp/x: no space left on device";
        let error = program("podman").failed(&["pull"], full);
        let hint = error.hint().unwrap().to_string();
        assert!(
            error.kind() == ErrorKind::Io && hint.contains("free some space"),
            "{hint}"
        );
    }

    #[test]
    fn a_signal_ends_podman() {
        let sleep = Options {
            program: "/bin/sleep".into(),
            ..Options::from_process()
        };
        let started = Instant::now();
        // Before it is started, while it starts, and while it runs.
        for delay in [0, 1, 2, 5, 200] {
            let interrupt = Interrupt::default();
            let stopper = interrupt.clone();
            let signal = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(delay));
                stopper.stop();
            });
            let error = Program::find(&sleep).act(&["600"], &interrupt).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{error}");
            signal.join().unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(600));
    }
}
