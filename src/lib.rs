//! Moves container images between hosts that cannot reach each other, and keeps every digest.
//!
//! To save, a [`source::Source`] resolves a reference to a descriptor, [`image::graph`] collects everything
//! below it for the chosen platforms, [`archive`] computes the layout of the file, [`transfer`] fetches the
//! blobs, and the writer publishes the file. To load, the archive is opened and verified, and a target plans
//! and applies the load.
//!
//! From the bottom up; no module uses a later one of this list:
//!
//! - [`escape`]: how text from outside is printed
//! - [`oci`]: digests, descriptors, manifests, configs, references, platforms; pure
//! - [`error`]: errors, and findings as data
//! - [`progress`], [`interrupt`]: reports of long work, and how a signal stops it
//! - [`dir`]: open folders, for files where other users can write
//! - [`net`]: addresses, proxies, and the environment variables for them
//! - [`goflate`]: Go's gzip encoder, byte for byte
//! - [`blob`]: where bytes are, how they are read and decompressed, and the proof that they match a descriptor
//! - [`image`]: what a reference stands for, and the selection and renaming of images
//! - [`source`]: where images are read from; [`transfer`]: the scheduler that fetches their blobs
//! - [`archive`]: the OCI-layout tar: layout, writer, reader, verification, views
//! - [`recover`]: images whose store lost part of their registry form
//! - [`serve`]: serves manifests by digest, over HTTP, to an engine on this host
//! - [`save`]: from references and a source to an archive
//! - [`load`]: from an archive to a target: probe, plan, apply
//! - [`registry`]: the client of the distribution protocol
//! - [`docker`]: Docker as a source and a target, and attaching digests to its classic store

pub mod archive;
pub mod blob;
pub mod dir;
pub mod docker;
pub mod error;
pub mod escape;
pub mod goflate;
pub mod image;
pub mod interrupt;
pub mod load;
pub mod net;
pub mod oci;
pub mod progress;
pub mod recover;
pub mod registry;
pub mod save;
pub mod serve;
pub mod source;
pub mod transfer;

pub use error::{Error, Finding, Place, Problem, Result};
