//! The container runtime interface, which containerd offers on the same socket to a kubelet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tonic::Code;

use super::api::runtime::image_service_client::ImageServiceClient;
use super::api::runtime::{ImageFsInfoRequest, ListImagesRequest};
use super::client::{Client, MAX_MESSAGE};
use crate::error::Result;
use crate::interrupt::{Interrupt, pause};

/// How often it is asked.
const TICK: Duration = Duration::from_millis(20);
/// How often once it has failed to answer: it may be starting.
const LONG_TICK: Duration = Duration::from_millis(500);

/// What the folder of a snapshotter's plugin begins with.
const PLUGIN: &str = "io.containerd.snapshotter.v1.";

/// What CRI tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cri {
    /// The snapshotter that it unpacks images into, if it tells.
    pub snapshotter: Option<String>,
}

impl Cri {
    /// Connects to it; `None` if this containerd does not serve CRI, as in a Docker installation.
    pub fn find(client: &Client) -> Option<Cri> {
        let mut stub = ImageServiceClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE);
        // CRI's status has its configuration too, but not the snapshotter in containerd 2.
        let asked = stub.image_fs_info(ImageFsInfoRequest {});
        match client.within(client.timeouts().answer, asked) {
            Ok(info) => {
                let folders = info.into_inner().image_filesystems;
                let mut folders = folders.into_iter().filter_map(|folder| folder.fs_id);
                Some(Cri {
                    snapshotter: folders.find_map(|folder| snapshotter_of(&folder.mountpoint)),
                })
            }
            Err(status) if status.code() == Code::Unimplemented => None,
            // It is there, and not ready.
            Err(_) => Some(Cri { snapshotter: None }),
        }
    }
}

/// What CRI shows of the names that were to be shown.
#[derive(Debug, Default)]
pub struct Hidden {
    /// Those that it does not show.
    pub names: BTreeSet<String>,
    /// Why it could not be asked in the end.
    pub error: Option<String>,
}

/// Waits until CRI shows these names.
///
/// # Errors
///
/// [`crate::Error::Interrupted`].
pub fn hidden(client: &Client, names: BTreeSet<String>, interrupt: &Interrupt) -> Result<Hidden> {
    let mut hidden = Hidden { names, error: None };
    let until = Instant::now() + client.timeouts().shown;
    while !hidden.names.is_empty() {
        let mut stub = ImageServiceClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE);
        let listed = client.wait("list the images of CRI", stub.list_images(ListImagesRequest {}));
        let images = match listed {
            Ok(listed) => {
                hidden.error = None;
                listed.images
            }
            Err(error) => {
                hidden.error = Some(error.to_string());
                Vec::new()
            }
        };
        for name in images
            .iter()
            .flat_map(|image| image.repo_tags.iter().chain(&image.repo_digests))
        {
            hidden.names.remove(name);
        }
        if hidden.names.is_empty() || Instant::now() >= until {
            break;
        }
        let tick = if hidden.error.is_some() { LONG_TICK } else { TICK };
        pause(tick, || interrupt.check())?;
    }
    Ok(hidden)
}

/// The snapshotter whose plugin has this folder.
fn snapshotter_of(folder: &str) -> Option<String> {
    let name = folder.rsplit('/').next()?.strip_prefix(PLUGIN)?;
    Some(name.to_string()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_images_names_the_snapshotter() {
        for (folder, name) in [
            (
                "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs",
                Some("overlayfs"),
            ),
            (
                "/x/io.containerd.snapshotter.v1.fuse-overlayfs",
                Some("fuse-overlayfs"),
            ),
            ("/var/lib/soci-snapshotter-grpc", None),
            ("/x/io.containerd.snapshotter.v1.", None),
            ("", None),
        ] {
            assert_eq!(snapshotter_of(folder).as_deref(), name, "{folder}");
        }
    }
}
