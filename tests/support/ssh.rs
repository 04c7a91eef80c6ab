//! OpenSSH's own programs: keys, an agent, and signatures that `ssh-keygen` makes and verifies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::command::{Run, clean, run};

/// The kinds of keys that `ssh-keygen -t` makes and sealift supports, with their sizes.
pub const KINDS: [(&str, &str); 5] = [
    ("ed25519", "256"),
    ("ecdsa", "256"),
    ("ecdsa", "384"),
    ("rsa", "2048"),
    ("rsa", "3072"),
];

/// A folder with keys.
pub struct Ssh<'f>(pub &'f Path);

impl Ssh<'_> {
    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `ssh-keygen` with these arguments, in the folder.
    pub fn keygen(&self, arguments: &[&str]) -> Command {
        let mut command = clean("ssh-keygen", self.0);
        command.current_dir(self.0).args(arguments);
        command
    }

    /// Makes a key of a kind and size, with a passphrase unless that is empty.
    pub fn key(&self, name: &str, (kind, bits): (&str, &str), passphrase: &str) {
        let arguments = [
            "-q", "-t", kind, "-b", bits, "-N", passphrase, "-C", name, "-f", name,
        ];
        run(&mut self.keygen(&arguments)).ok();
    }

    /// The type and base64 of a public key.
    pub fn public(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        let words: Vec<&str> = text.split(' ').take(2).collect();
        words.join(" ").trim().to_string()
    }

    /// The fingerprint of a public key.
    pub fn fingerprint(&self, name: &str) -> String {
        let listed = run(&mut self.keygen(&["-l", "-f", &format!("{name}.pub")])).ok();
        listed.stdout.split(' ').nth(1).unwrap().to_string()
    }

    /// Writes a file that allows each of these signers their key.
    pub fn allow(&self, file: &str, signers: &[(&str, &str)]) {
        let line = |(principals, name): &(&str, &str)| format!("{principals} {}\n", self.public(name));
        let text: String = signers.iter().map(line).collect();
        fs::write(self.path(file), text).unwrap();
    }

    /// Signs a file, into one that ends with `.sig`.
    pub fn sign(&self, namespace: &str, key: &str, file: &str) {
        run(&mut self.keygen(&["-q", "-Y", "sign", "-n", namespace, "-f", key, file])).ok();
    }

    /// Verifies the signature of a message.
    pub fn verify(
        &self,
        allowed: &str,
        signer: &str,
        namespace: &str,
        signature: &str,
        message: &str,
    ) -> Run {
        self.verify_with(
            &["-f", allowed, "-I", signer, "-n", namespace, "-s", signature],
            message,
        )
    }

    /// `ssh-keygen -Y verify` with these arguments.
    pub fn verify_with(&self, arguments: &[&str], message: &str) -> Run {
        let mut command = self.keygen(&["-Y", "verify"]);
        fs::write(self.path("message"), message).unwrap();
        command
            .args(arguments)
            .stdin(fs::File::open(self.path("message")).unwrap());
        run(&mut command)
    }
}

/// A running `ssh-agent`.
pub struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    /// Starts one in a folder, without keys.
    pub fn start(folder: &Path) -> Agent {
        let socket = folder.join("agent");
        let mut command = clean("ssh-agent", folder);
        command.args(["-D", "-a"]).arg(&socket);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("ssh-agent: run tests/engines/install.sh");
        let agent = Agent { child, socket };
        for _ in 0..200 {
            if agent.socket.exists() {
                return agent;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("ssh-agent does not start");
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `ssh-add` with these arguments; a passphrase is `secret`.
    pub fn add(&self, arguments: &[&str]) -> Run {
        let folder = self.socket.parent().unwrap();
        let ask = folder.join("ask");
        fs::write(&ask, "#!/bin/sh\necho secret\n").unwrap();
        run(Command::new("chmod").arg("700").arg(&ask)).ok();
        let mut command = clean("ssh-add", folder);
        command.current_dir(folder).args(arguments);
        command
            .env("SSH_AUTH_SOCK", &self.socket)
            .env("SSH_ASKPASS", &ask);
        command.env("SSH_ASKPASS_REQUIRE", "force");
        run(&mut command)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
