//! A real registry with the referrers API, which distribution does not have: that of go-containerregistry, on loopback
//! and in memory.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::Folder;
use super::command::clean;

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub struct ReferrersRegistry {
    address: String,
    _child: Child,
    _folder: Folder,
}

impl ReferrersRegistry {
    /// Starts this program, built from `referrers.go`.
    #[track_caller]
    pub fn start(program: &Path, folder: Folder) -> Self {
        let log = folder.path().join("registry.log");
        let mut child = folder.spawn(&mut clean(program, folder.path()), &log);
        let until = Instant::now() + Duration::from_secs(30);
        let address = loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = text.split_once("serving on ")
                && let Some((address, _)) = rest.split_once('\n')
            {
                break address.to_owned();
            }
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "{} does not listen ({ended:?}): {text}",
                program.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        Self {
            address,
            _child: child,
            _folder: folder,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}
