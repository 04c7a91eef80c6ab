//! Tells systemd that a service is ready, as `Type=notify` waits for it: `sd_notify(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells the service manager that started this process, if one asks for it, that the service is ready.
///
/// # Errors
///
/// If it cannot be told.
pub fn ready() -> io::Result<()> {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else {
        return Ok(());
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address(&socket)?)?;
    Ok(())
}

/// A path, or an abstract name after `@`.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}
