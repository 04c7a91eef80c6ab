//! cosign, notation, oras, crane and skopeo of Debian forky, with a home of their own and the host's network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::command::{Run, run};
use super::engine::Root;
use super::{Engine, Folder};

/// The tools. Dropping them removes what they wrote.
#[derive(Debug)]
pub struct Tools {
    root: Root,
    _folder: Folder,
}

impl Tools {
    /// Prepares them, for all tests of this process when `folder` is [`Folder::shared`].
    pub fn new(folder: Folder) -> Self {
        let root = Root::new(Engine::Docker28, folder.path());
        fs::set_permissions(root.outside(""), fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            root,
            _folder: folder,
        }
    }

    /// The host's path of a file that the tools see.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.root.outside(name)
    }

    /// The path of the same file as they see it.
    pub fn inside(&self, name: &str) -> String {
        self.root.inside(name).display().to_string()
    }

    /// Writes a file that they see, in folders that may be new, and gives its path as they see it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.outside(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self.inside(name)
    }

    /// A command of one of them.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.root.command(program);
        // The keys of tests have no password; without the variable cosign asks for one.
        command.env("COSIGN_PASSWORD", "").args(args);
        command
    }

    /// Runs one of them.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Run {
        run(&mut self.command(program, args))
    }
}
