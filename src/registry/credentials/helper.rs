//! Credential helpers: `docker-credential-NAME get`, with the server on stdin.
//!
//! Source: docker/docker-credential-helpers, README, "Development", and its `client` package.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::Credential;
use crate::net::environment::{Environment, Invoker};
use crate::oci::json;
use crate::registry::secret::Secret;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// The environment; its `PATH` is searched for programs.
    pub(super) environment: &'a Environment,
    /// The user that it runs as, if that is not this process's.
    pub(super) run_as: Option<&'a Invoker>,
    pub(super) timeout: Duration,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper<'_> {
    /// Asks for a server's credential; `None` if the helper has none.
    ///
    /// # Errors
    ///
    /// The error says why the helper could not be asked; never what it answered.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, String> {
        // A name with a slash would be a path to any program.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err("the credential helper's name is not a plain name".into());
        }
        let program = format!("docker-credential-{}", self.name);
        let (success, answer) = self
            .run(&program, server)
            .map_err(|reason| format!("{program} {reason}"))?;
        if !success {
            // The protocol's error is one line on stdout; these words mean that there is no credential.
            let text = String::from_utf8_lossy(&answer);
            let text = text.trim();
            return if text == "credentials not found in native keychain" || text.is_empty() {
                Ok(None)
            } else {
                Err(format!("{program} failed"))
            };
        }
        let answer: Answer =
            json::from_slice(&answer).map_err(|_| format!("{program} gave no credential"))?;
        let secret = Secret::new(answer.secret);
        Ok(match answer.username.as_str() {
            _ if secret.expose().is_empty() => None,
            "<token>" => Some(Credential::Identity(secret)),
            _ => Some(Credential::Password {
                username: answer.username,
                password: secret,
            }),
        })
    }

    fn run(&self, program: &str, server: &str) -> Result<(bool, Vec<u8>), String> {
        let mut command = Command::new(program);
        command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(user) = self.run_as {
            // Setting the user also drops root's other groups. root's environment is not passed on.
            command.uid(user.uid).gid(user.gid).current_dir("/").env_clear();
            command.envs(self.environment.of_session(user));
        }
        if let Some(path) = self.environment.get("PATH") {
            command.env("PATH", path);
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot be run: {error}"))?;
        let finished = self.talk(&mut child, server);
        if finished.is_err() {
            let _ = child.kill();
        }
        let status = child.wait();
        let answer = finished?;
        Ok((status.is_ok_and(|status| status.success()), answer))
    }

    /// Writes the server and reads the whole answer, within the helper's time limit.
    fn talk(&self, child: &mut Child, server: &str) -> Result<Vec<u8>, String> {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("has no stdin or stdout".into());
        };
        let (send, receive) = mpsc::channel();
        let server = server.to_string();
        std::thread::Builder::new()
            .name("credential-helper".into())
            .spawn(move || {
                let _ = stdin.write_all(server.as_bytes());
                drop(stdin);
                let mut answer = Vec::new();
                let read = stdout.take(MAX_ANSWER).read_to_end(&mut answer);
                let _ = send.send(read.map(|_| answer));
            })
            .map_err(|error| format!("cannot be talked to: {error}"))?;
        match receive.recv_timeout(self.timeout) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("cannot be read: {error}")),
            Err(_) => Err(format!("did not answer within {} s", self.timeout.as_secs())),
        }
    }
}
