//! The process that a lease belongs to, so that a later run can tell whether it has ended.

use std::fs;
use std::path::Path;
use std::process;

use crate::process::Identity;

/// A process of this host, as a label has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Since the host was started: process ids begin anew then.
    boot: String,
    /// The namespace that the process id belongs to.
    namespace: String,
    process: Identity,
}

impl Owner {
    /// This process; `None` if `/proc` does not show it.
    pub fn this() -> Option<Owner> {
        let pid = i32::try_from(process::id()).ok()?;
        // /proc may be that of another namespace.
        let shown = fs::read_link("/proc/self").ok()?;
        let process = Identity::of(pid).ok();
        let process = process.filter(|_| shown == Path::new(&pid.to_string()))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(Owner {
            boot: boot.trim().into(),
            namespace: namespace.to_str()?.into(),
            process,
        })
    }

    /// As a label.
    pub fn to_label(&self) -> String {
        format!("{} {} {}", self.boot, self.namespace, self.process)
    }

    /// Whether a label names a process that has certainly ended: one that this process would see if it lived.
    pub fn has_ended(&self, label: &str) -> bool {
        let process = label.strip_prefix(&format!("{} {} ", self.boot, self.namespace));
        let process = process.and_then(|process| process.parse::<Identity>().ok());
        process.is_some_and(|process| process.has_ended())
    }
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
        let other = Owner {
            process: Identity::of(pid).unwrap(),
            ..this.clone()
        };
        assert!(!this.has_ended(&other.to_label()));
        // Its end closes the pipe, which it waits for.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(this.has_ended(&other.to_label()));
        let of_other_boot = Owner {
            boot: "another".into(),
            ..other.clone()
        };
        assert!(!this.has_ended(&of_other_boot.to_label()));
        let of_other_namespace = Owner {
            namespace: "pid:[1]".into(),
            ..other
        };
        assert!(!this.has_ended(&of_other_namespace.to_label()));
        for label in ["", &this.boot, &format!("{} {} {pid}", this.boot, this.namespace)] {
            assert!(!this.has_ended(label), "{label}");
        }
    }
}
