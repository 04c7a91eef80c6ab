//! Engines with given responses.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::docker::endpoint::Endpoint;

/// The response to the ping that begins every connection.
pub(in crate::docker) const PING: &str =
    "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\nContent-Length: 2\r\n\r\nOK";

/// An engine that responds to each request with the next of these, whatever the request.
pub(in crate::docker) fn engine(answers: Vec<String>) -> (tempfile::TempDir, Endpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (folder, Endpoint::Unix(path))
}

/// A response with a document.
pub(in crate::docker) fn json(document: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
        document.len()
    )
}
