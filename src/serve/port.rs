//! Ports that only root can bind: no other user can answer there while an engine still uses one of them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports below this one are for root alone, unless the system is configured otherwise.
pub const UNPRIVILEGED: u16 = 1024;
/// The kernel's setting for which ports are root's alone (Linux 4.11), in each network; ip-sysctl.rst.
const UNPRIVILEGED_FROM: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Why no port that only root can bind is free.
#[derive(Debug)]
pub struct NoPort {
    /// The first port that every user can bind, if it is below the default.
    unprivileged_from: Option<u16>,
    error: io::Error,
}

impl NoPort {
    /// Where it is unknown which ports every user can bind.
    pub fn new(error: io::Error) -> NoPort {
        NoPort {
            unprivileged_from: None,
            error,
        }
    }

    /// The reason, for the network in which a program runs.
    pub fn reason(&self, program: &str) -> String {
        let error = &self.error;
        match self.unprivileged_from {
            None => format!("no port below {UNPRIVILEGED} can be bound on 127.0.0.1: {error}"),
            Some(first) => format!(
                "every user can bind the ports from {first} on where {program} runs, and none below is free: {error}"
            ),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self.unprivileged_from {
            None => format!("run with sudo, and leave one of the ports below {UNPRIVILEGED} free"),
            Some(_) => privileged_again(),
        }
    }
}

/// Binds a free port of 127.0.0.1 that only root can bind, in the network of this thread.
///
/// # Errors
///
/// If this process may not bind it, or no port is free.
pub fn bind_privileged() -> Result<TcpListener, NoPort> {
    let unprivileged_from = unprivileged_from();
    bind_below(unprivileged_from.unwrap_or(UNPRIVILEGED)).map_err(|error| NoPort {
        unprivileged_from,
        error,
    })
}

fn bind_below(unprivileged: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::other("there is no port that only root can bind");
    for port in (1..unprivileged.min(UNPRIVILEGED)).rev() {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first port that every user can bind in the network of this thread, if it is below the default.
pub fn unprivileged_from() -> Option<u16> {
    let text = fs::read_to_string(UNPRIVILEGED_FROM).ok()?;
    let first = text.trim().parse().ok()?;
    (first < UNPRIVILEGED).then_some(first)
}

/// The command that reserves ports for root again.
pub fn privileged_again() -> String {
    let setting = "net.ipv4.ip_unprivileged_port_start";
    format!("sysctl {setting}={UNPRIVILEGED} for the time of the load")
}
