//! How a process is recognised, also after its end.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// What `/proc` tells about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    state: char,
    /// The process id of its parent.
    pub parent: i32,
    /// In clock ticks since boot.
    started: u64,
}

impl Stat {
    /// Reads it.
    ///
    /// Source: `proc_pid_stat(5)`, fields 3, 4 and 22.
    ///
    /// # Errors
    ///
    /// If there is no such process that can be seen.
    pub fn of(pid: i32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).ok_or_else(|| io::Error::other("unreadable process status"))
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field, a name, may have spaces and parentheses.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// Identifies a process among all of this host since boot. As text, its id and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    pid: i32,
    /// In clock ticks since boot: another process may get the id later.
    started: u64,
}

impl Identity {
    /// The process that has this id now.
    ///
    /// # Errors
    ///
    /// If there is no such process that can be seen.
    pub fn of(pid: i32) -> io::Result<Identity> {
        let started = Stat::of(pid)?.started;
        Ok(Identity { pid, started })
    }

    /// Whether it has certainly ended, even if it is a zombie.
    pub fn has_ended(&self) -> bool {
        let pid = Some(self.pid).filter(|pid| *pid > 0).and_then(Pid::from_raw);
        if pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            return true;
        }
        Stat::of(self.pid).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X') || stat.started != self.started)
    }

    /// Checks that something just opened below `/proc/PID` belongs to it, and not to a later process with the
    /// same pid.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn check(&self) -> io::Result<()> {
        match Identity::of(self.pid)? == *self {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "process {} has ended meanwhile",
                self.pid
            ))),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

impl FromStr for Identity {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Identity> {
        let parse = || {
            let (pid, started) = text.split_once(' ')?;
            Some(Identity {
                pid: pid.parse().ok().filter(|pid| *pid > 0)?,
                started: started.parse().ok()?,
            })
        };
        parse().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_may_have_spaces_and_parentheses() {
        let numbers: Vec<String> = (5..60).map(|field| field.to_string()).collect();
        let stat = Stat::parse(&format!("1 (a) R (b) S 7 {}", numbers.join(" "))).unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 7, 22));
        let this = i32::try_from(std::process::id()).unwrap();
        let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        assert_eq!(Stat::of(this).unwrap().parent, parent);
    }

    #[test]
    fn a_process_is_recognised_after_its_end() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!process.has_ended());
        process.check().unwrap();
        // Another process had the id before.
        let earlier = Identity {
            started: 1,
            ..process
        };
        assert!(earlier.has_ended());
        earlier.check().unwrap_err();
        // Its end closes the pipe, which it waits for.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(process.has_ended());
        process.check().unwrap_err();
    }

    #[test]
    fn its_text_is_read_back() {
        let process = Identity {
            pid: 12,
            started: 345,
        };
        assert_eq!(process.to_string(), "12 345");
        assert_eq!("12 345".parse::<Identity>().unwrap(), process);
        for text in ["", "12", "0 1", "-1 1", "12 ", "12 x", "12 1 1"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
