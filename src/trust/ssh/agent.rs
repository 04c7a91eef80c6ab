//! The agent that keeps keys: the SSH agent protocol, RFC 9987 (draft-ietf-sshm-ssh-agent).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::public_key::PublicKey;
use super::wire::{Malformed, Reader, Write as _};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// Asks for a signature by RSA with SHA-512.
const RSA_SHA2_512: u32 = 4;
/// Largest answer that is read, in bytes; OpenSSH's own limit.
const MAX_ANSWER: u32 = 256 << 10;
/// How long an answer about keys may take.
const QUICKLY: Duration = Duration::from_secs(30);
/// How long a signature may take, which a person may have to confirm.
const PATIENTLY: Duration = Duration::from_secs(300);

/// An agent at its socket.
#[derive(Debug, Clone)]
pub(super) struct Agent(PathBuf);

impl Agent {
    /// The agent at this socket.
    pub fn at(socket: &Path) -> Agent {
        Agent(socket.to_path_buf())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it has a key.
    pub fn has(&self, key: &[u8]) -> io::Result<bool> {
        let answer = self.ask(&[REQUEST_IDENTITIES], QUICKLY)?;
        let mut reader = Reader(&answer);
        let mut found = || -> Result<bool, Malformed> {
            reader.expect(&[IDENTITIES_ANSWER])?;
            let mut is_there = false;
            for _ in 0..reader.number()? {
                let (blob, _comment) = (reader.string()?, reader.string()?);
                is_there |= blob == key;
            }
            Ok(is_there)
        };
        found().map_err(|Malformed(reason)| {
            io::Error::other(format!("its answer is not one of an agent: {reason}"))
        })
    }

    /// Signs bytes with a key that it has. The signature is as SSH writes it.
    pub fn sign(&self, key: &PublicKey, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        request.put(key.blob());
        request.put(bytes);
        let flags = if key.is_rsa() { RSA_SHA2_512 } else { 0 };
        request.extend(flags.to_be_bytes());
        let answer = self.ask(&request, PATIENTLY)?;
        let mut reader = Reader(&answer);
        let mut signature = || {
            reader.expect(&[SIGN_RESPONSE])?;
            let signature = reader.string()?.to_vec();
            reader.end().map(|()| signature)
        };
        signature().map_err(|_: Malformed| io::Error::other("it refused to sign"))
    }

    fn ask(&self, request: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.0)?;
        stream.set_write_timeout(Some(QUICKLY))?;
        stream.set_read_timeout(Some(patience))?;
        let mut message = Vec::new();
        message.put(request);
        stream.write_all(&message)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(explained)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_ANSWER {
            return Err(io::Error::other(format!("its answer would have {length} bytes")));
        }
        let mut answer = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut answer).map_err(explained)?;
        Ok(answer)
    }
}

fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        io::ErrorKind::UnexpectedEof => io::Error::other("it closed the connection"),
        _ => error,
    }
}
