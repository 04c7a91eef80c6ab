//! Registries, and the storage of registries, verified: CNCF distribution 2.8 with images that skopeo pushed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod examples;
mod registry;
mod repair;
mod repair_faults;
mod repair_images;
mod repair_stopped;
mod storage;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Built, Image, Registry};

/// A registry with `app:1`, `app:latest` and `team/web:2`, whose images share their base.
struct Setup {
    registry: Registry,
    app: Built,
    web: Built,
    _layouts: tempfile::TempDir,
}

impl Setup {
    fn new() -> Setup {
        Setup::on(Registry::start())
    }

    fn on(registry: Registry) -> Setup {
        let layouts = tempfile::tempdir().unwrap();
        let app = Image::sample("app", "1").build(&layouts.path().join("app"), "1");
        let web = Image::sample("web", "2").build(&layouts.path().join("web"), "2");
        registry.push(&app, "app:1");
        registry.push(&app, "app:latest");
        registry.push(&web, "team/web:2");
        Setup {
            registry,
            app,
            web,
            _layouts: layouts,
        }
    }

    /// Damages a file of the registry until the result is dropped.
    fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Damaged {
        let bytes = fs::read(path).unwrap();
        let mut damaged = bytes.clone();
        change(&mut damaged);
        fs::write(path, damaged).unwrap();
        Damaged {
            path: path.into(),
            bytes,
        }
    }
}

/// A file that is as it was once this is dropped.
struct Damaged {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Drop for Damaged {
    fn drop(&mut self) {
        fs::create_dir_all(self.path.parent().unwrap()).unwrap();
        fs::write(&self.path, &self.bytes).unwrap();
    }
}

/// A change of the bytes of a file.
type Change = fn(&mut Vec<u8>);

/// The ways to damage a file: half of it, nothing of it, another byte.
const DAMAGES: [(&str, Change); 3] = [
    ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
    ("empty", Vec::clear),
    ("digest-differs", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }),
];
