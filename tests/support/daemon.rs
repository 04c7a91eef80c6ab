//! A dockerd of the test's own, beside the host's and those of other tests.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

mod options;
mod process;

pub use options::Options;

use super::command::{Run, run};
use super::containerd::Process;
use super::engine::Root;
use super::{Engine, Folder, Registry, Store, http};

/// A running dockerd. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Daemon {
    // The child goes before the folder, whose drop ends it.
    child: Child,
    _containerd: Option<Process>,
    root: Root,
    options: Options,
    folder: Folder,
}

impl Daemon {
    /// Begins to describe a daemon: an empty daemon.json, but for the store's key.
    pub fn options(engine: Engine, store: Store) -> Options {
        Options::new(engine, store)
    }

    /// Starts an empty one.
    #[track_caller]
    pub fn start(engine: Engine, store: Store) -> Self {
        Self::options(engine, store).start()
    }

    #[track_caller]
    fn wait_until_it_answers(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if http::over_unix(&self.socket(), "GET", "/_ping", &[], &[])
                .is_ok_and(|answer| answer.status == 200)
            {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "{:?} {:?} does not answer ({ended:?}):\n{}",
                self.options.engine,
                self.options.store,
                self.log_tail(30)
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its version of Docker.
    pub fn engine(&self) -> Engine {
        self.options.engine
    }

    /// Its store.
    pub fn store(&self) -> Store {
        self.options.store
    }

    /// The folder of everything that it keeps; gone once it is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The host's path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.root.outside("docker.sock")
    }

    /// The host's path of its daemon.json.
    pub fn config_file(&self) -> PathBuf {
        if self.options.stock {
            return self.root.path().join("etc/docker/daemon.json");
        }
        self.root.outside("daemon.json")
    }

    /// The host's path of its data root.
    pub fn data_root(&self) -> PathBuf {
        self.root.outside("root")
    }

    /// Gives the file system that its data root is on another size.
    #[track_caller]
    pub fn resize_disk(&self, size: &str) {
        self.root.resize_disk("root", size);
    }

    /// The host's path of its /etc/hosts.
    pub fn hosts_file(&self) -> PathBuf {
        self.root.path().join("etc/hosts")
    }

    /// The bytes of /etc/hosts as it sees them; none where it shares the host's, which tests leave alone.
    pub fn hosts(&self) -> Option<Vec<u8>> {
        let shared = self.root.path() == Path::new("/") && !self.options.unshared.contains(&"--mount");
        let path = format!("/proc/{}/root/etc/hosts", self.pid());
        (!shared).then(|| fs::read(path).unwrap())
    }

    /// The folder that is `/` to it; `/` itself without a chroot.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The host's path of a file that both a test and the daemon's programs reach.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.outside(name)
    }

    /// The path of that file as the daemon's programs see it.
    pub fn data_inside(&self, name: &str) -> PathBuf {
        self.root.inside(name)
    }

    /// The process id of dockerd, also after a script restarted it.
    pub fn pid(&self) -> u32 {
        if is_running(self.child.id()) {
            return self.child.id();
        }
        let noted = fs::read_to_string(self.pid_file()).unwrap_or_default();
        noted.trim().parse().unwrap_or_else(|_| self.child.id())
    }

    /// The file that its process id is in.
    pub fn pid_file(&self) -> PathBuf {
        self.root.outside("docker.pid")
    }

    /// A line for a shell that ends it, and does not wait for that.
    pub fn stop_command(&self) -> String {
        format!("kill $(cat {})", self.pid_file().display())
    }

    /// A line for a shell that starts it on the same files, and does not wait for that.
    pub fn start_command(&self) -> String {
        let command = process::dockerd(&self.root, &self.options);
        let words = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()));
        let log = self.root.outside("dockerd.log");
        // The socket of one that inherits it is made anew, and starts it when it is asked for.
        let listening = if self.options.activated {
            format!("python3 -c '{}' {}", process::ACTIVATED, self.socket().display())
        } else {
            String::new()
        };
        format!(
            "setsid {listening} {} </dev/null >>{} 2>&1 &",
            words.collect::<Vec<_>>().join(" "),
            log.display()
        )
    }

    /// Whether dockerd runs.
    pub fn is_running(&self) -> bool {
        is_running(self.pid())
    }

    /// Listens somewhere in its network.
    #[track_caller]
    pub fn listen(&self, address: &str) -> TcpListener {
        self.try_listen(address)
            .unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// Tries to listen somewhere in its network.
    pub fn try_listen(&self, address: &str) -> std::io::Result<TcpListener> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let of = rustix::thread::LinkNameSpaceType::Network;
        let inside = || {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(of)).unwrap();
            TcpListener::bind(address)
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    /// Lets every user bind ports from this one on in its network, which must be its own.
    #[track_caller]
    pub fn set_unprivileged_ports(&self, first: u16) {
        let setting = format!("echo {first} >/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let pid = self.pid().to_string();
        let mut enter = Command::new("nsenter");
        run(enter.args(["--target", &pid, "--net", "sh", "-ec", &setting])).ok();
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.outside("dockerd.log")).unwrap_or_default()
    }

    fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Its mount points, below and at the folder that is `/` to it, as /proc/mounts names them.
    pub fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap();
        mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(str::to_owned)
            .collect()
    }

    /// The docker client of the same version, bound for this daemon.
    pub fn client(&self) -> Command {
        let mut command = self.root.command("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.root.inside("docker.sock").display()));
        command
    }

    /// Runs the client.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Run {
        run(self.client().args(args))
    }

    /// Runs the client with a file of the host as its standard input.
    #[track_caller]
    pub fn docker_with_stdin(&self, args: &[&str], stdin: &Path) -> Run {
        let file = fs::File::open(stdin).unwrap_or_else(|e| panic!("{}: {e}", stdin.display()));
        run(self.client().args(args).stdin(Stdio::from(file)))
    }

    /// Asks its API, below `/v1.41`.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> http::Answer {
        let headers: &[_] = if body.is_empty() {
            &[]
        } else {
            &[("Content-Type", "application/json")]
        };
        let version = match self.options.engine {
            Engine::Docker20 => "/v1.41",
            Engine::Docker26 => "/v1.45",
            Engine::Docker28 => "/v1.51",
        };
        http::over_unix(&self.socket(), method, &format!("{version}{path}"), headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log_tail(10)))
    }

    /// The JSON document at a path of its API, such as `/images/json`; none when it answers 404.
    #[track_caller]
    pub fn api_or_none(&self, path: &str) -> Option<Value> {
        let answer = self.request("GET", path, &[]);
        if answer.status == 404 {
            return None;
        }
        assert_eq!(
            answer.status,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        Some(serde_json::from_slice(&answer.body).unwrap())
    }

    /// The JSON document at a path of its API.
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        self.api_or_none(path).unwrap_or_else(|| panic!("{path}: 404"))
    }

    /// `GET /info`.
    #[track_caller]
    pub fn info(&self) -> Value {
        self.api("/info")
    }

    /// Inspects an image; none when it is not there.
    #[track_caller]
    pub fn inspect(&self, image: &str) -> Option<Value> {
        self.api_or_none(&format!("/images/{image}/json"))
    }

    /// `REPOSITORY:TAG DIGEST` of each line that `docker images --digests` shows, sorted.
    #[track_caller]
    pub fn images(&self) -> Vec<String> {
        let format = "{{.Repository}}:{{.Tag}} {{.Digest}}";
        let said = self
            .docker(&["images", "--digests", "--no-trunc", "--format", format])
            .ok()
            .stdout;
        let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Makes it read daemon.json again, and gives it a moment to.
    pub fn reload(&self) {
        let before = self.log().matches("Reloaded configuration").count();
        self.signal(Signal::HUP);
        let until = Instant::now() + Duration::from_secs(10);
        while self.log().matches("Reloaded configuration").count() == before && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// With a pid namespace dockerd is the child of our child.
    fn child_of_unshare(&self) -> i32 {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        fs::read_to_string(children).unwrap().trim().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).unwrap();
        kill_process(pid, signal).unwrap();
        let pid = match self.options.unshared.contains(&"--fork") {
            true => self.child_of_unshare(),
            false => self.child.id() as i32,
        };
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Ends it in good order; its files stay, and `start_again` finds them.
    pub fn stop(&mut self) {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        self.wait_for_its_end();
    }

    fn wait_for_its_end(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.is_running() && Instant::now() < until {
            let _ = self.child.try_wait();
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!self.is_running(), "it does not end:\n{}", self.log_tail(15));
        self.child.wait().unwrap();
    }

    /// Kills dockerd, and with it, by its own doing, its containerd; containers' shims live on, as after a crash.
    pub fn kill(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
        }
        self.wait_for_its_end();
        // 20.10 takes a containerd that has ended for a live one until init has waited for it,
        // and not every container's init does.
        let _ = fs::remove_file(self.root.outside("exec/containerd/containerd.pid"));
    }

    /// Starts it on the same files, after `stop` or `kill`.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "it still runs");
        self.child = process::spawn(&self.folder, &self.root, &self.options);
        self.wait_until_it_answers();
    }

    /// Ends it and starts it on the same files.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }
}

/// Whether a process runs. One that ended and was not waited for does not.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the end of {:?}'s log:\n{}",
                self.options.engine,
                self.log_tail(15)
            );
        }
        // In good order if it can; the folder sees to the rest.
        if self.is_running() {
            self.signal(Signal::TERM);
            let until = Instant::now() + Duration::from_secs(15);
            while self.is_running() && Instant::now() < until {
                let _ = self.child.try_wait();
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
