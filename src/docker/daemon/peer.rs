//! The process that answers on a socket of this host, according to the kernel.
//!
//! Root uses what it finds in that process: its command line, its files, its namespaces. Neither the name of a
//! process nor the path of a socket proves anything: every user can choose both, and replace the socket by a
//! link later. So no other user may be able to replace the socket, and the process must be the one that has
//! accepted our own connection. This works with a socket of systemd, too.
//!
//! Source: sock_diag(7), Linux 3.3 and newer; `include/uapi/linux/unix_diag.h`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::dir::{Dir, Located, is_trusted, kind_name};
use crate::load::Obstacle;

/// Longest time for a daemon to accept a connection.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest time between the kernel's report of the other end of a connection and the process having it open.
const GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// The header of a netlink message: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`, a request and its answer.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
/// `AF_UNIX`.
const FAMILY: u8 = 1;
/// `UDIAG_SHOW_PEER`.
const SHOW_PEER: u32 = 4;
/// `UNIX_DIAG_PEER`: the inode of the other end, zero until the connection is accepted.
const PEER: u16 = 2;
/// `struct unix_diag_msg`.
const MESSAGE: usize = 16;

/// Finds the process of a program that answers on a socket; `None` if it cannot be seen from here.
///
/// # Errors
///
/// If another user could answer in its place, or it cannot be determined.
pub fn listening_process(socket: &Path, program: &str) -> Result<Option<i32>, Obstacle> {
    let located = private(socket).map_err(|error| {
        Obstacle::new(
            format!(
                "another user could answer on {}, so root does not rely on it: {error}",
                socket.display()
            ),
            "point DOCKER_HOST at a socket of root's that only root can replace, such as unix:///run/docker.sock",
        )
    })?;
    answering(&located, program).map_err(|error| {
        Obstacle::new(
            format!(
                "the process that answers on {} is not known: {error}",
                socket.display()
            ),
            "run this on the engine's own host; the kernel needs unix_diag (modprobe unix_diag)",
        )
    })
}

/// Opens a socket that only root and this user can replace.
fn private(socket: &Path) -> io::Result<Located> {
    let located = Dir::locate_private(socket)?;
    match located.kind()? {
        Some(FileType::Socket) if is_trusted(located.owner()?) => Ok(located),
        Some(FileType::Socket) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the socket belongs to another user (uid {})", located.owner()?),
        )),
        Some(kind) => Err(io::Error::other(format!(
            "it is a {}, expected a socket",
            kind_name(kind)
        ))),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn answering(socket: &Located, program: &str) -> io::Result<Option<i32>> {
    // The full path may be longer than a socket address can be.
    let folder = format!("/proc/self/fd/{}", socket.dir.as_file().as_raw_fd());
    let connection = UnixStream::connect(Path::new(&folder).join(&socket.name))?;
    let until = Instant::now() + LIMIT;
    let mut accepted = None;
    loop {
        if let Some(inode) = other_end(&connection)? {
            let since = *accepted.get_or_insert_with(Instant::now);
            let running = running(program)?;
            let listeners: Vec<i32> = running.iter().copied().filter(|pid| holds(*pid, inode)).collect();
            match *listeners {
                [pid] => return Ok(Some(pid)),
                // accept(2) reports the other end a moment before the process has it open.
                [] if running.is_empty() || since.elapsed() > GRACE => return Ok(None),
                // A child before its exec has the same open files for a moment.
                [pid, ..] if Instant::now() > until => return Ok(Some(pid)),
                _ => {}
            }
        } else if Instant::now() > until {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        std::thread::sleep(POLL);
    }
}

/// The inode of the other end of a connection; `None` until it is accepted.
fn other_end(connection: &UnixStream) -> io::Result<Option<u32>> {
    let own = rustix::fs::fstat(connection)?.st_ino;
    // The kernel numbers sockets with 32 bits.
    let own = u32::try_from(own).map_err(io::Error::other)?;
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&kernel, &request(own), SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (_, length) = recv(kernel.as_fd(), &mut answer[..], RecvFlags::empty())?;
    peer(answer.get(..length).unwrap_or_default())
}

fn request(inode: u32) -> Vec<u8> {
    // family, protocol, padding; states; inode; what to show; any cookie.
    let words = [u32::MAX, inode, SHOW_PEER, u32::MAX, u32::MAX];
    let mut body = vec![FAMILY, 0, 0, 0];
    body.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Reads the response: a header, the socket, and attributes.
fn peer(answer: &[u8]) -> io::Result<Option<u32>> {
    let short = || io::Error::other("the kernel's answer is too short");
    if half(answer, 4) != Some(BY_FAMILY) {
        // An error, as a negative number.
        let code = word(answer, HEADER).ok_or_else(short)?;
        let code = i32::from_ne_bytes(code.to_ne_bytes()).checked_neg();
        return Err(io::Error::from_raw_os_error(code.unwrap_or_default()));
    }
    let mut rest = answer.get(HEADER + MESSAGE..).ok_or_else(short)?;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        if kind == PEER {
            return Ok(word(rest, 4).filter(|inode| *inode != 0));
        }
        // Attributes begin at multiples of four.
        let next = usize::from(length.max(4)).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(None)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The processes whose program name begins with this. Any user can choose such a name.
///
/// # Errors
///
/// If processes cannot be inspected.
pub fn running(program: &str) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with(program)) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Whether a process has a socket open.
fn holds(pid: i32, inode: u32) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let wanted = format!("socket:[{inode}]");
    open.flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&wanted)))
}

/// The user of a process that does not run as root alone. A user who started a setuid program has chosen its
/// name and its open files.
///
/// # Errors
///
/// If it has ended.
pub fn other_user(pid: i32) -> io::Result<Option<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let users: Option<HashSet<u32>> = line.map(|line| {
        let words = line.split_whitespace();
        words.map(|word| word.parse().unwrap_or(u32::MAX)).collect()
    });
    let users = users.ok_or_else(|| io::Error::other("unreadable process status"))?;
    Ok(users.into_iter().find(|user| *user != 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder that no other user can change, wherever temporary files are.
    fn home() -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("socket");
        (home, socket)
    }

    #[test]
    fn the_one_that_accepts_is_found_whoever_listens() {
        let (home, socket) = home();
        let listener = UnixListener::bind(&socket).unwrap();
        let program = fs::read_to_string("/proc/self/comm").unwrap();
        let accepting = std::thread::spawn(move || listener.accept().unwrap());
        let found = answering(&private(&socket).unwrap(), program.trim()).unwrap();
        assert_eq!(found, i32::try_from(std::process::id()).ok());
        drop(accepting.join().unwrap());
        drop(home);
    }

    #[test]
    fn a_socket_that_another_could_replace_is_not_asked() {
        let (home, socket) = home();
        let _listener = UnixListener::bind(&socket).unwrap();
        private(&socket).unwrap();
        let link = home.path().join("link");
        symlink("socket", &link).unwrap();
        private(&link).unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, says) in [
            (&file, "expected a socket"),
            (&home.path().join("none"), "not found"),
        ] {
            let error = private(path).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        if rustix::process::geteuid().is_root() {
            lchown(&socket, Some(65_534), Some(65_534)).unwrap();
            let obstacle = listening_process(&link, "any").unwrap_err();
            assert!(obstacle.reason.contains("another user (uid 65534)"), "{obstacle}");
            lchown(&socket, Some(0), Some(0)).unwrap();
            lchown(&link, Some(65_534), Some(65_534)).unwrap();
            let obstacle = listening_process(&link, "any").unwrap_err();
            assert!(obstacle.reason.contains("a link of another user"), "{obstacle}");
        }
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let obstacle = listening_process(&socket, "any").unwrap_err();
        assert!(
            obstacle.reason.contains("another user can write to"),
            "{obstacle}"
        );
        assert!(obstacle.hint.unwrap().to_string().contains("DOCKER_HOST"));
    }

    #[test]
    fn a_process_of_another_user_is_told() {
        use std::os::unix::process::CommandExt;
        if !rustix::process::geteuid().is_root() {
            return; // nothing can be started as another user
        }
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .uid(65_534)
            .spawn()
            .unwrap();
        let pid = |id: u32| i32::try_from(id).unwrap();
        assert_eq!(other_user(pid(other.id())).unwrap(), Some(65_534));
        assert_eq!(other_user(pid(std::process::id())).unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(other_user(pid(other.id())).is_err());
    }

    #[test]
    fn the_kernels_answer_is_read() {
        let mut answer = vec![0; HEADER + MESSAGE];
        answer[4] = 20;
        assert_eq!(peer(&answer).unwrap(), None);
        answer.extend([5, 0, 5, 0, 0, 0, 0, 0]);
        let accepted = [&answer[..], &[8, 0, 2, 0, 3, 0x8d, 0x78, 0]].concat();
        #[cfg(target_endian = "little")]
        assert_eq!(peer(&accepted).unwrap(), Some(0x78_8d03));
        let waiting = [&answer[..], &[8, 0, 2, 0, 0, 0, 0, 0]].concat();
        assert_eq!(peer(&waiting).unwrap(), None);
        assert!(peer(&accepted[..20]).is_err());
        let mut refused = vec![0; HEADER];
        refused.extend((-2_i32).to_ne_bytes());
        assert_eq!(peer(&refused).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
