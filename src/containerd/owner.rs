//! The process that a lease belongs to, so that a later run can tell whether it has ended.

use std::fs;
use std::path::Path;
use std::process;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A process of this host, as a label has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// Since the host was started: process ids begin anew then.
    boot: String,
    /// The namespace that the process id belongs to.
    namespace: String,
    pid: i32,
    /// In clock ticks since boot: another process may get the id later.
    started: String,
}

impl Owner {
    /// This process; `None` if `/proc` does not show it.
    pub fn this() -> Option<Owner> {
        let pid = i32::try_from(process::id()).ok()?;
        // /proc may be that of another namespace.
        let shown = fs::read_link("/proc/self").ok()?;
        let (_, started) = stat(pid).filter(|_| shown == Path::new(&pid.to_string()))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(Owner {
            boot: boot.trim().into(),
            namespace: namespace.to_str()?.into(),
            pid,
            started,
        })
    }

    /// As a label.
    pub fn to_label(&self) -> String {
        format!("{} {} {} {}", self.boot, self.namespace, self.pid, self.started)
    }

    /// Whether a label names a process that has certainly ended: one that this process would see if it lived.
    pub fn has_ended(&self, label: &str) -> bool {
        let mut words = label.split(' ');
        let mut next = || words.next().unwrap_or_default();
        if next() != self.boot || next() != self.namespace {
            return false;
        }
        let (pid, started) = (next().parse::<i32>(), next());
        let Some(pid) = pid.ok().filter(|pid| *pid > 0 && !started.is_empty()) else {
            return false;
        };
        let Some(known) = Pid::from_raw(pid) else {
            return false;
        };
        if test_kill_process(known) == Err(Errno::SRCH) {
            return true;
        }
        // It may be another process with the same id, or not be reaped yet.
        stat(pid).is_some_and(|(state, since)| matches!(state, 'Z' | 'X') || since != started)
    }
}

/// The state of a process, and when it started.
///
/// Source: proc_pid_stat(5), fields 3 and 22.
fn stat(pid: i32) -> Option<(char, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name, may have spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_a_process_that_would_be_seen_has_ended() {
        let this = Owner::this().unwrap();
        assert!(!this.has_ended(&this.to_label()));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (_, started) = stat(pid).unwrap();
        let owner = |owner: Owner| owner.to_label();
        let other = || Owner {
            pid,
            started: started.clone(),
            boot: this.boot.clone(),
            namespace: this.namespace.clone(),
        };
        assert!(!this.has_ended(&owner(other())));
        // Another process had the id before.
        let started = "1".into();
        assert!(this.has_ended(&owner(Owner { started, ..other() })));
        // Its end closes the pipe, which it waits for.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(this.has_ended(&owner(other())));
        let boot = "another".into();
        assert!(!this.has_ended(&owner(Owner { boot, ..other() })));
        let namespace = "pid:[1]".into();
        assert!(!this.has_ended(&owner(Owner { namespace, ..other() })));
        for label in [
            "",
            &this.boot,
            &format!("{} {} 0 1", this.boot, this.namespace),
            &format!("{} {} -1 1", this.boot, this.namespace),
            &format!("{} {} {pid}", this.boot, this.namespace),
        ] {
            assert!(!this.has_ended(label), "{label}");
        }
    }
}
