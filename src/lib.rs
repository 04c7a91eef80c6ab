//! Moves container images between hosts that cannot reach each other, and keeps every digest.
//!
//! To save, a [`source::Source`] finds images by their references, an [`image::Graph`] collects everything
//! below them for the chosen platforms, [`archive`] plans the file, [`transfer`] fetches the
//! blobs, and the writer publishes the file. To load, the archive is opened and verified, and a target plans
//! and applies the load.
//!
//! Saving an image of a layout to an archive:
//!
//! ```
//! use sealift::archive::{self, ArchiveSource};
//! use sealift::interrupt::Interrupt;
//! use sealift::progress::Silent;
//! use sealift::save::{self, Output};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("hello.tar");
//! let layout = archive::open(&["testdata/layout".into()], &archive::Options::default())?;
//! let source = ArchiveSource::new(layout)?;
//! let images = ["example.com/hello:1".parse()?];
//! let options = save::Options::default();
//! let output = Output::File(&path);
//! let saved = save::save(&source, &images, &options, output, &Silent, &Interrupt::default())?;
//! println!("archive {}", saved.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Verifying one, which reads every byte and reports everything that is wrong:
//!
//! ```
//! use sealift::archive;
//! use sealift::interrupt::Interrupt;
//! use sealift::progress::Silent;
//! use sealift::verify;
//!
//! let layout = archive::open(&["testdata/layout".into()], &archive::Options::default())?;
//! let options = verify::Options::default();
//! let report = archive::verify(layout.as_ref(), &options, &Silent, &Interrupt::default())?;
//! assert!(report.is_good(), "{:?}", report.findings);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Loading it into a layout folder; [`docker::Docker`] is another target:
//!
//! ```
//! use sealift::archive;
//! use sealift::interrupt::Interrupt;
//! use sealift::layout::FolderTarget;
//! use sealift::load::{self, LoadOptions, Outcome};
//! use sealift::progress::Silent;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("layout");
//! let archives = [archive::open(&["testdata/layout".into()], &archive::Options::default())?];
//! let (target, options) = (FolderTarget::new(&path), LoadOptions::default());
//! let loaded = load::load(&target, &archives, &options, &mut (), &Silent, &Interrupt::default())?;
//! let Outcome::Loaded(report) = loaded else {
//!     panic!("this is no dry run");
//! };
//! assert_eq!(report.images[0].name.familiar(), "example.com/hello:1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From the bottom up; no module uses a later one of this list:
//!
//! - [`escape`]: how text from outside is printed; [`size`], [`date`]: how sizes and dates are; `yaml`: YAML as trees
//! - [`oci`]: digests, descriptors, manifests, configs, references, platforms; pure
//! - [`error`]: errors with their kinds and hints, and findings as data; [`html`]: pages for people
//! - [`progress`], [`interrupt`]: reports of long work, and how a signal stops it
//! - [`dir`]: open folders, for files where other users can write
//! - [`host`]: which engines a host has, and which of them `auto` means
//! - `process`: how a process is recognised, also after its end
//! - `net`: addresses, proxies, and the environment variables for them
//! - [`goflate`]: Go's gzip encoder, byte for byte
//! - [`retry`]: how many times a failed request is made again, and when
//! - `workers`: a pool of threads
//! - [`blob`]: where bytes are, how they are read and decompressed, and the proof that they match a descriptor
//! - [`image`]: what a reference stands for, and the selection and renaming of images
//! - [`image_list`]: the images that lists, compose files and manifests of Kubernetes name
//! - [`inventory`]: what a target or a host has, as documents
//! - [`verify`]: verifies images in any [`blob::Blobs`], and reports all that is wrong
//! - [`trust`]: who vouches for what: signatures of images and of files, and whose count
//! - [`source`]: where images are read from; [`transfer`]: the scheduler that fetches their blobs
//! - [`archive`]: the OCI-layout tar: plan, writer, reader, views, and what a verification adds for it
//! - [`repair`]: good copies of bad and missing blobs, for what repairs registries
//! - [`store`]: files that the stores of several engines have in common
//! - [`recover`]: images whose store lost part of their registry form
//! - [`serve`]: a read-only registry, of archives or for an engine on this host
//! - [`save`]: from references and a source to an archive
//! - [`load`]: from an archive to a target: probe, plan, apply
//! - [`layout`]: an OCI layout folder, or an archive, as a target
//! - [`registry`]: the client of the distribution protocol
//! - [`registry_storage`]: the storage folder of a registry, verified and repaired without the registry
//! - [`podman`]: podman as a source and a target, and the storage of CRI-O
//! - [`docker`]: Docker as a source and a target, and attaching digests to its classic store
//! - [`containerd`]: containerd as a target

pub mod archive;
pub mod blob;
pub mod containerd;
pub mod date;
pub mod dir;
pub mod docker;
pub mod error;
pub mod escape;
pub mod goflate;
pub mod host;
pub mod html;
pub mod image;
pub mod image_list;
pub mod installer;
pub mod interrupt;
pub mod inventory;
pub mod layout;
pub mod load;
mod net;
pub mod oci;
pub mod podman;
mod process;
pub mod progress;
pub mod recover;
pub mod registry;
pub mod registry_storage;
pub mod repair;
pub mod retry;
pub mod save;
pub mod serve;
pub mod size;
pub mod source;
pub mod store;
pub mod transfer;
pub mod trust;
pub mod verify;
mod workers;
mod yaml;

pub use error::{Error, ErrorKind, Finding, Hint, Place, Problem, Result};
