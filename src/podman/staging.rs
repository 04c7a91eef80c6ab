//! The server and the temporary files of one load: the archives on a loopback address, a registries.conf that leads there,
//! and an auth file with the password. They are removed when the load ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use super::private_folder::{self, AUTH, PrivateFolder, REGISTRIES};
use super::twin::{self, Twin};
use crate::blob::{Blobs as _, Extent, OpenBlob, Stored};
use crate::error::{Error, Place, Problem, Result};
use crate::image::Image;
use crate::interrupt::{Guard, Interrupt};
use crate::load::{Candidates, MergedBlobs, Obstacle, PlannedImage};
use crate::oci::Descriptor;
use crate::serve::{Content, Event, Login, Server, bind_privileged};

/// The server and the temporary files of one load.
pub struct Staging {
    folder: PrivateFolder,
    /// What happens to the blobs.
    pub events: Receiver<Event>,
    _server: Server,
    _guard: Guard,
}

impl Staging {
    /// Serves these images, and the twins of those that are replaced.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound or a file not be written.
    pub fn new(
        images: &[&PlannedImage],
        candidates: &Candidates<'_>,
        is_replaced: impl Fn(&PlannedImage) -> bool,
        interrupt: &Interrupt,
    ) -> Result<Staging> {
        let mut repositories: Vec<&str> = images.iter().map(|one| one.name.repository().full()).collect();
        repositories.sort_unstable();
        repositories.dedup();
        let mut content = content(images, &repositories, candidates)?;
        let refused = |error| Error::io("listen on", "127.0.0.1")(error);
        let listener = listen().map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let login = Login::random().map_err(Error::io("read", "the system's random numbers"))?;

        let temporary = std::env::temp_dir();
        private_folder::remove_abandoned(&temporary);
        let folder = PrivateFolder::create(&temporary).map_err(Error::io("write into", &temporary))?;
        let path = folder.path().to_path_buf();
        let guard = interrupt.on_stop(move || {
            let _ = fs::remove_dir_all(path);
        });
        for planned in images.iter().filter(|planned| is_replaced(planned)) {
            let (_, image) = planned.content(candidates)?;
            if let Ok(at) = repositories.binary_search(&planned.name.repository().full()) {
                add_twin(&mut content, &path_of(at), image, folder.path())?;
            }
        }
        let entries: Vec<String> = repositories
            .iter()
            .enumerate()
            .map(|(at, prefix)| {
                let location = format!("{address}/{}", path_of(at));
                format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\ninsecure = true\n")
            })
            .collect();
        let registries = format!("unqualified-search-registries = []\n{}", entries.concat());
        write(&folder.path().join(REGISTRIES), &registries)?;
        let logins = serde_json::json!({ "auths": { address.to_string(): { "auth": login.encoded() } } });
        write(&folder.path().join(AUTH), &logins.to_string())?;

        let (send, events) = mpsc::channel();
        let server = Server::start_private(listener, content, login, send).map_err(refused)?;
        Ok(Staging {
            folder,
            events,
            _server: server,
            _guard: guard,
        })
    }

    /// The registries.conf.
    pub fn registries(&self) -> PathBuf {
        self.folder.path().join(REGISTRIES)
    }

    /// The auth file.
    pub fn auth(&self) -> PathBuf {
        self.folder.path().join(AUTH)
    }
}

/// The path in the server of the repository at a position.
fn path_of(at: usize) -> String {
    format!("images/{at}")
}

/// Whether a killed load of this user has left its files.
pub fn has_leftovers() -> bool {
    private_folder::has_abandoned(&std::env::temp_dir())
}

/// Removes the files that killed loads of this user have left. Returns whether there were any.
pub fn remove_leftovers() -> bool {
    private_folder::remove_abandoned(&std::env::temp_dir()) > 0
}

/// Why sealift cannot serve images to this podman; `None` if it can.
pub fn obstacle() -> Option<Obstacle> {
    match rustix::process::geteuid().is_root() {
        true => bind_privileged()
            .err()
            .map(|no_port| Obstacle::new(no_port.reason("podman"), no_port.hint())),
        false => None,
    }
}

/// A port of 127.0.0.1. As root it is one that no other user can bind, even after this process was killed while podman
/// still uses it.
fn listen() -> io::Result<TcpListener> {
    match rustix::process::geteuid().is_root() {
        true => bind_privileged().map_err(|no_port| io::Error::other(no_port.reason("podman"))),
        false => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io("write", path))
}

/// Adds the twin of an image by its tag. Its config gets a file in this folder.
fn add_twin(content: &mut Content, path: &str, image: &Image, folder: &Path) -> Result<()> {
    let twin = Twin::of(image)?;
    let (descriptor, config) = &twin.config;
    let file = folder.join(twin::tag(&image.id()));
    if !file.exists() {
        write(&file, &String::from_utf8_lossy(config))?;
    }
    let stored = Stored {
        extents: vec![Extent {
            file: Arc::new(File::open(&file).map_err(Error::io("read", &file))?),
            path: Arc::new(file),
            offset: 0,
            length: descriptor.size,
        }],
        size: descriptor.size,
        entry: "config".into(),
        offset: None,
    };
    content.add_blob(path, descriptor, &stored);
    let (descriptor, manifest) = &twin.manifest;
    content.add_manifest(path, descriptor, manifest);
    content.add_tag(path, &twin::tag(&image.id()), descriptor.digest);
    Ok(())
}

/// The images by the names that podman pulls them by.
fn content(images: &[&PlannedImage], repositories: &[&str], candidates: &Candidates<'_>) -> Result<Content> {
    let merged = MergedBlobs::new(candidates);
    let mut content = Content::default();
    for planned in images {
        let (candidate, image) = planned.content(candidates)?;
        let full = planned.name.repository().full();
        let Ok(at) = repositories.binary_search(&full) else {
            continue;
        };
        let path = path_of(at);
        let graph = &candidate.image.graph;
        content.add_manifests(&path, graph);
        if let Some(tag) = planned.tag.as_ref().and_then(|tag| tag.tag()) {
            content.add_tag(&path, tag, graph.root.digest);
        }
        let mut add = |blob: &Descriptor| -> Result<()> {
            match merged.open(blob)? {
                Some(OpenBlob::Stored(stored)) => {
                    content.add_blob(&path, blob, &stored);
                    Ok(())
                }
                // podman has it, or the plan would not be for this image.
                None => Ok(()),
                Some(OpenBlob::Stream(_)) => Err(Error::refused(
                    Place::blob(blob.digest).within(merged.label()),
                    Problem::Missing,
                )),
            }
        };
        add(&image.manifest.config)?;
        image.manifest.layers.iter().try_for_each(add)?;
    }
    Ok(content)
}
