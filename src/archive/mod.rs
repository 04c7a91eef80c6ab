//! The archive: an OCI image layout in a plain tar that other tools read too.
//!
//! - [`format`]: entry names, annotations, `index.json` and `manifest.json`
//! - [`content`]: what can be read as a layout
//! - [`graphs`]: what its entries stand for
//!
//! Writing:
//!
//! - [`layout`]: where everything stands, before a byte is written
//! - [`writer`]: fills and seals an archive
//!
//! Reading, from the bottom up:
//!
//! - [`segments`]: one file, or the parts that it was cut into
//! - [`tar_index`]: where everything stands in a tar, strictly
//! - `spool`: standard input and compressed archives, into a temporary file
//! - [`reader`]: an archive opened; [`folder`]: a layout folder opened
//! - [`docker_save`]: an archive of `docker save`, which is no layout
//! - `transport_folder`: a folder of skopeo's `dir:`, read as a layout
//! - `containers_image`: manifests that podman or skopeo may have written for a layout
//! - `layer_tar`: whether a layer is a tar that engines unpack
//! - [`verify`]: everything about an archive that can be wrong, in one report
//! - [`view`]: the tar that an engine is shown
//! - [`source`]: what was opened, as a source of images

mod containers_image;
pub mod content;
pub mod docker_save;
pub mod folder;
pub mod format;
pub mod graphs;
mod layer_tar;
pub mod layout;
pub mod reader;
pub mod segments;
pub mod source;
mod spool;
pub mod tar_index;
mod transport_folder;
pub mod verify;
pub mod view;
pub mod writer;

pub use content::Content;
pub use docker_save::DockerSave;
pub use graphs::Graphs;
pub use layout::Layout;
pub use reader::{Archive, Opened, open, open_any};
pub use source::{ArchiveSource, stored_forms};
pub use spool::Options;
pub use view::View;
