//! What happens in a containerd, as its own client prints it.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::NAMESPACE;
use crate::support::Containerd;

/// What the namespaces that mark a moment begin with.
const MARK: &str = "moment-";

/// The events of a containerd.
pub struct Events<'c> {
    containerd: &'c Containerd,
    client: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Numbers the marked moments.
    marks: usize,
}

impl<'c> Events<'c> {
    /// Subscribes to all that happens from now on.
    pub fn subscribe(containerd: &'c Containerd) -> Self {
        let mut client = containerd
            .ctr_command(NAMESPACE, &["events"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut events = Self {
            containerd,
            client,
            lines,
            marks: 0,
        };
        // Until one event is seen, the client may not have subscribed.
        thread::scope(|scope| {
            let (stop, stopped) = channel::<()>();
            scope.spawn(move || {
                for number in 0.. {
                    create_namespace(containerd, &format!("subscribed-{number}"));
                    let wait = Duration::from_millis(50);
                    if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            events.until("subscribed-");
            drop(stop);
        });
        events.since_last();
        events
    }

    /// All events since this was last called.
    pub fn since_last(&mut self) -> Vec<String> {
        self.marks += 1;
        let mark = format!("{MARK}{}", self.marks);
        create_namespace(self.containerd, &mark);
        self.until(&format!("\"{mark}\""))
    }

    fn until(&mut self, marker: &str) -> Vec<String> {
        let lines = self.lines.by_ref().map(Result::unwrap);
        let mut found = false;
        let seen = lines.take_while(|line| {
            found = line.contains(marker);
            !found
        });
        let seen = seen.collect();
        assert!(found, "the client has ended: {seen:?}");
        seen
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn create_namespace(containerd: &Containerd, name: &str) {
    containerd.ctr(NAMESPACE, &["namespaces", "create", name]).ok();
}

/// The digests of the blobs that clients removed. Garbage collection is no event.
pub fn removed_blobs(events: &[String]) -> Vec<&str> {
    let removals = events.iter().filter(|line| line.contains(" /content/delete "));
    removals
        .map(|line| {
            let at = line.find("sha256:").expect("a digest");
            line[at..].trim_end_matches(['"', '}'])
        })
        .collect()
}
