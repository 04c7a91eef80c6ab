//! Moves container images between hosts that cannot reach each other, and keeps every digest.
//!
//! Data goes one way when saving: a [`source::Source`] resolves a reference to a descriptor, [`image::graph`]
//! closes it over the chosen platforms, [`archive`] lays the file out, [`transfer`] fills it, and the writer
//! seals it. And back when loading: the archive's reader, its verification, then a target.
//!
//! From the bottom up; no module uses one that stands below it in this list:
//!
//! - [`escape`]: how text from outside is printed
//! - [`oci`]: digests, descriptors, manifests, configs, references, platforms; pure
//! - [`error`]: errors, and findings as data
//! - [`progress`], [`interrupt`]: what long work reports, how it is stopped
//! - [`dir`]: folders that are held open, for files where other users can write
//! - [`net`]: addresses, proxies, and the environment that says how hosts are reached
//! - [`goflate`]: the gzip encoder of Go, byte for byte
//! - [`blob`]: bytes: where they are, how they are read and decompressed, the proof of what they are
//! - [`image`]: what a reference stands for, and how people say which images they mean
//! - [`source`]: what images come out of; [`transfer`]: the scheduler that moves blobs out of a source
//! - [`archive`]: the OCI-layout tar: layout, writer, reader, verification, views
//! - [`rebuild`]: packing layers again as they were packed once
//! - [`held`]: images that an engine or an archive holds without all that a registry had of them
//! - [`serve`]: manifests by digest, over HTTP, for an engine on this host
//! - [`save`]: references and a source, to a sealed archive
//! - [`load`]: where images go: probe, plan, apply
//! - [`registry`]: the distribution protocol
//! - [`docker`]: Docker's Engine API as a source and a target, and attaching digests to its classic store

pub mod archive;
pub mod blob;
pub mod dir;
pub mod docker;
pub mod error;
pub mod escape;
pub mod goflate;
pub mod held;
pub mod image;
pub mod interrupt;
pub mod load;
pub mod net;
pub mod oci;
pub mod progress;
pub mod rebuild;
pub mod registry;
pub mod save;
pub mod serve;
pub mod source;
pub mod transfer;

pub use error::{Error, Finding, Place, Problem, Result};
