//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`](mod@format): entry names, annotations, `index.json` and `manifest.json`
//! - `layout`: what can be read as a layout
//! - `graphs`: the graphs of its entries
//!
//! Writing:
//!
//! - `tar_plan`: the position of everything, before a byte is written
//! - [`writer`]: writes and publishes an archive
//!
//! Reading, from the bottom up:
//!
//! - [`segments`]: one file, or the parts of an archive
//! - [`tar_index`]: the positions of the entries of a tar, read strictly
//! - `spool`: standard input and compressed archives, into a temporary file
//! - `reader`: opens an archive; `folder`: opens a layout folder
//! - `docker_save`: an archive of `docker save`, which is not a layout
//! - `transport_folder`: a folder of skopeo's `dir:`, read as a layout
//! - `containers_image`: manifests that podman or skopeo may have written for a layout
//! - `referrers`: entries that refer to an image and are none
//! - `privacy`: whether others may read an archive
//! - [`signature`]: the signature of an archive, in a file beside it
//! - `attached`: what is attached to its images, with the documents in it
//! - `policy`: what a policy says of its images
//! - `verify`: everything that can be wrong with an archive, in one report
//! - [`view`]: the tar that is sent to an engine
//! - `source`: an opened layout as a source of images

mod attached;
mod containers_image;
mod docker_save;
mod folder;
pub mod format;
mod graphs;
mod layout;
mod policy;
mod privacy;
mod reader;
mod referrers;
pub mod segments;
pub mod signature;
mod source;
mod spool;
pub mod tar_index;
mod tar_plan;
mod transport_folder;
mod verify;
pub mod view;
pub mod writer;

pub use attached::Attached;
pub use containers_image::may_have_written;
pub use docker_save::{DockerSave, SavedImage, StoredLayer};
pub(crate) use folder::allow_many_files;
pub use graphs::Graphs;
pub use layout::Layout;
pub use policy::check_policy;
pub use privacy::{is_private, is_private_place};
pub use reader::{Archive, Opened, STDIN, open, open_any};
pub use referrers::LayoutReferrers;
pub use source::{ArchiveSource, stored_forms};
pub use spool::Options;
pub use tar_plan::{PlannedBlob, Run, TarPlan};
pub(crate) use verify::verify_beside;
pub use verify::{expect, verify};
pub use view::View;
