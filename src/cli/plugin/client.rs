//! The end of the `docker` that started the plugin.
//!
//! `docker` listens on a socket, and closes its connections when it is interrupted while its output is no terminal, or
//! when it is killed. On a terminal the plugin gets the signal itself.
//!
//! Source: docker/cli, `cli-plugins/socket/socket.go` and `cmd/docker/docker.go` (`tryPluginRun`), since 25.0.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::{SocketAddr, UnixStream};

use sealift::interrupt::Interrupt;
use signal_hook::consts::SIGTERM;

/// The variable with the address of the socket. One that begins with `@` is abstract.
const ADDRESS: &str = "DOCKER_CLI_PLUGIN_SOCKET";

/// Ends this process, as SIGTERM does, when the `docker` that started it ends or wants that.
pub fn watch(interrupt: &Interrupt) {
    let address = std::env::var_os(ADDRESS).and_then(|text| address(text.to_str()?));
    let Some(mut stream) = address.and_then(|address| UnixStream::connect_addr(&address).ok()) else {
        return;
    };
    let interrupt = interrupt.clone();
    let watching = std::thread::Builder::new().name("docker".into());
    // Without a thread, the signals of a terminal still come.
    let _ = watching.spawn(move || {
        let mut buffer = [0; 64];
        loop {
            match stream.read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        if interrupt.signal().is_none() {
            let _ = signal_hook::low_level::raise(SIGTERM);
        }
    });
}

fn address(text: &str) -> Option<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = text.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name).ok();
    }
    SocketAddr::from_pathname(text).ok()
}
