//! What the image stores of several engines have in common, read without the engine.
//!
//! - [`content`]: blobs in containerd's content folder, which Docker uses as well
//! - [`layer`], [`tar_split`], [`rooted`]: the tar of a layer, reassembled from its headers and its files, as Docker's
//!   classic store and containers-storage (podman, CRI-O) keep them
//! - [`files`]: files below an open folder, without following links
//! - [`settings`]: text settings of TOML files

pub mod content;
pub mod files;
pub mod layer;
pub mod rooted;
pub mod settings;
pub mod tar_split;
