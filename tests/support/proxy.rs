//! Proxies before a server, for tests of connections that break, stall or wait.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Starts a proxy before a server. `pass` gets each connection to it, and the one to the server. Returns the address.
pub fn proxy(server: &str, pass: impl Fn(TcpStream, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (server, pass) = (server.to_owned(), Arc::new(pass));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&server) else {
                return;
            };
            let pass = Arc::clone(&pass);
            thread::spawn(move || pass(client, server));
        }
    });
    address
}

/// Passes on what one side of a proxy sends, in a thread, until it ends.
pub fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
