//! A `sealift serve` of the test's own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Run, Sealift};
use super::http::{self, Answer};
use super::registry::make_certificates;

/// How long a test waits for something that happens at once on a machine without other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `sealift serve`. Dropping it kills it.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    /// The first line of its output.
    pub first: String,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Serving {
    /// Serves on a free port of loopback, and waits until it listens.
    #[track_caller]
    pub fn start(sealift: &Sealift, args: &[&str]) -> Self {
        let command = sealift.command(&[&["serve", "--listen", "127.0.0.1:0"][..], args].concat());
        Self::of(sealift, command)
    }

    /// The same over TLS, with certificates that it makes in `tls`.
    #[track_caller]
    pub fn start_tls(sealift: &Sealift, args: &[&str]) -> Self {
        let folder = sealift.path("tls");
        fs::create_dir_all(folder.join("certs.d")).unwrap();
        make_certificates(&folder);
        let tls = ["--tls-cert", "tls/server.crt", "--tls-key", "tls/server.key"];
        Self::start(sealift, &[args, &tls].concat())
    }

    /// A curl that trusts these certificates and asks for a path.
    pub fn curl(&self, sealift: &Sealift, path: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(sealift.path("tls/certs.d/ca.crt"))
            .arg(format!("https://{}{path}", self.address));
        command
    }

    /// The same with a command of its own.
    #[track_caller]
    pub fn of(sealift: &Sealift, mut command: Command) -> Self {
        let log = sealift.path(&format!("serve-{:?}.log", thread::current().id()));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let address = first.split("://").nth(1).map(|rest| {
            let end = rest.find(['"', '\n']).unwrap_or(rest.len());
            rest[..end].to_owned()
        });
        let Some(address) = address else {
            let ended = child.wait().unwrap();
            panic!("{ended:?} {first:?}: {}", fs::read_to_string(&log).unwrap());
        };
        Self {
            child,
            stdout,
            log,
            first,
            address,
        }
    }

    /// What it has printed on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Asks for something.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::over_tcp(&self.address, method, path, headers, &[])
            .unwrap_or_else(|e| panic!("{method} {path}: {e}: {}", self.log()))
    }

    /// Asks with this request, which says that the connection ends after it.
    #[track_caller]
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        http::parse(&answer).unwrap()
    }

    /// Gets something.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// The JSON document at a path.
    #[track_caller]
    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(
            answer.status,
            200,
            "{path}: {:?}",
            String::from_utf8_lossy(&answer.body)
        );
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Begins to ask for something, and leaves the answer on its way.
    #[track_caller]
    pub fn begin(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        stream
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "{what}: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end, with what it has printed since the last line.
    pub fn wait(mut self) -> Run {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        let output = std::process::Output {
            status,
            stdout: rest.into(),
            stderr: self.log().into(),
        };
        Run::new("sealift serve".into(), &output)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer of which the head comes first.
pub fn body(answer: &[u8]) -> &[u8] {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    &answer[end + 4..]
}
