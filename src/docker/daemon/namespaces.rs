//! Mount and network namespaces: accessing the files and the network of a daemon.
//!
//! A namespace is identified by its name (`mnt:[4026532...]`), not by a process, so that a later run finds it
//! as long as any process is in it. A separate thread enters it and ends there; the rest of this process stays
//! outside.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The namespaces of a process that differ from ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Namespaces {
    /// Its mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// The name of a process's namespace; `kind` is its name in `/proc/PID/ns`.
///
/// # Errors
///
/// If the process has ended or may not be inspected.
pub fn name(process: &str, kind: &str) -> io::Result<String> {
    let link = fs::read_link(format!("/proc/{process}/ns/{kind}"))?;
    Ok(link.to_string_lossy().into_owned())
}

impl Namespaces {
    /// Inspects a process.
    ///
    /// # Errors
    ///
    /// If it has ended or may not be inspected.
    pub fn of(pid: i32) -> io::Result<Namespaces> {
        let other = |kind| -> io::Result<Option<String>> {
            let its = name(&pid.to_string(), kind)?;
            Ok((its != name("self", kind)?).then_some(its))
        };
        Ok(Namespaces {
            mount: other("mnt")?,
            network: other("net")?,
        })
    }

    /// Runs `act` with the files of the process, below the root of its namespace.
    ///
    /// # Errors
    ///
    /// If no process is in the namespace any more, or it cannot be entered.
    pub fn with_files<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        enter(self.mount.as_deref(), "mnt", LinkNameSpaceType::Mount, act)
    }

    /// Runs `act` in the network of the process.
    ///
    /// # Errors
    ///
    /// As [`Namespaces::with_files`].
    pub fn with_network<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        enter(self.network.as_deref(), "net", LinkNameSpaceType::Network, act)
    }

    /// Whether this is our own mount namespace, or one with a process of which `is_so` is true. Another namespace may
    /// have the name by now: names are reused as soon as a namespace has gone.
    ///
    /// # Errors
    ///
    /// If the processes cannot be listed.
    pub fn has_process(&self, is_so: impl Fn(&str) -> bool) -> io::Result<bool> {
        let Some(wanted) = self.mount.as_deref() else {
            return Ok(true);
        };
        Ok(processes()?
            .iter()
            .any(|pid| name(pid, "mnt").is_ok_and(|name| name == wanted) && is_so(pid)))
    }

    /// As [`Namespaces::with_files`]; `None` if the mount namespace, with all its mounts, has gone with its
    /// last process. Its name may be reused at any time.
    ///
    /// # Errors
    ///
    /// If it cannot be entered.
    pub fn with_files_left<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<Option<T>> {
        match self.with_files(act) {
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Gone>()) => Ok(None),
            entered => entered.map(Some),
        }
    }
}

/// No process is in the namespace any more.
#[derive(Debug, thiserror::Error)]
#[error("no process is in the namespace {0} any more")]
struct Gone(String);

fn enter<T: Send>(
    name: Option<&str>,
    kind: &str,
    of: LinkNameSpaceType,
    act: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let Some(name) = name else {
        return Ok(act());
    };
    let namespace = open(name, kind)?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || -> io::Result<T> {
            if of == LinkNameSpaceType::Mount {
                // Only a thread that shares its working folder with no other may change its mount namespace.
                #[allow(
                    deprecated,
                    reason = "with FS it touches nothing that other code could rely on"
                )]
                rustix::thread::unshare(UnshareFlags::FS)?;
            }
            move_into_link_name_space(namespace.as_fd(), Some(of))?;
            Ok(act())
        });
        inside
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace has failed")))
    })
}

/// The ids of all processes.
fn processes() -> io::Result<Vec<String>> {
    let names = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.parse::<u32>().is_ok()).collect())
}

/// Opens a namespace through any process in it. Names are reused after a namespace has gone, and users can
/// create namespaces of their own. Those belong to another user namespace, and are never entered.
fn open(wanted: &str, kind: &str) -> io::Result<File> {
    let users = name("self", "user")?;
    for process in &processes()? {
        if name(process, kind).is_ok_and(|name| name == wanted)
            && name(process, "user").is_ok_and(|name| name == users)
        {
            let Ok(file) = File::open(format!("/proc/{process}/ns/{kind}")) else {
                continue;
            };
            // The process may have ended and its number may be reused.
            let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            if opened == Path::new(wanted) {
                return Ok(file);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, Gone(wanted.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_no_other() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Namespaces::of(pid).unwrap();
        assert_eq!(own, Namespaces::default());
        assert_eq!(own.with_files(|| 7).unwrap(), 7);
        assert_eq!(own.with_files_left(|| 7).unwrap(), Some(7));
    }

    #[test]
    fn a_namespace_is_known_by_a_process_in_it() {
        assert!(Namespaces::default().has_process(|_| false).unwrap());
        let ours = name("self", "mnt").unwrap();
        let named = |mount: &str| Namespaces {
            mount: Some(mount.into()),
            network: None,
        };
        let own = std::process::id().to_string();
        assert!(named(&ours).has_process(|pid| pid == own).unwrap());
        assert!(!named(&ours).has_process(|_| false).unwrap());
        assert!(!named("mnt:[1]").has_process(|_| true).unwrap());
    }

    #[test]
    fn one_that_is_gone_is_told() {
        let gone = Namespaces {
            mount: Some("mnt:[1]".into()),
            network: Some("net:[1]".into()),
        };
        assert_eq!(gone.with_files_left(|| 7).unwrap(), None);
        let error = gone.with_network(|| 7).unwrap_err();
        assert!(error.to_string().contains("net:[1]"), "{error}");
    }
}
