//! Moves container images between hosts that cannot reach each other, and keeps every digest.
//!
//! Data goes one way when saving: a [`source::Source`] resolves a reference to a descriptor, [`oci::graph`]
//! closes it over the chosen platforms, [`archive`] lays the file out, [`transfer`] fills it, and the writer
//! seals it. And back when loading: the archive's reader, its verification, then a target.
//!
//! - [`oci`]: digests, descriptors, manifests, references, platforms, graphs; pure
//! - [`archive`]: the OCI-layout tar: layout, writer, reader, verification, views
//! - [`source`]: what images come out of
//! - [`save`]: references and a source, to a sealed archive
//! - [`transfer`]: the scheduler that fills an archive from a source
//! - [`registry`]: the distribution protocol, as a client and as a manifests-only server
//! - [`target`]: where images go: probe, plan, apply
//! - [`docker`]: Docker's Engine API as a target, and attaching digests to its classic store
//! - [`held`]: images that an engine or an archive holds without all that a registry had of them
//! - [`rebuild`]: packing layers again as they were packed once
//! - [`goflate`]: the gzip encoder of Go, byte for byte
//! - [`dir`]: folders that are held open, for files where other users can write
//! - [`selector`], [`rename`]: how people say which images they mean, and what they shall be called
//! - [`error`]: errors, and findings as data
//! - [`progress`], [`interrupt`], [`escape`]: what long work reports, how it is stopped, how text is printed

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
pub mod net;
pub mod oci;
pub mod progress;
pub mod rebuild;
pub mod registry;
pub mod save;
pub mod serve;
pub mod source;
pub mod target;
pub mod transfer;

pub use error::{Error, Finding, Place, Problem, Result};
