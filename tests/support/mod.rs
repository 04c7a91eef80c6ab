//! Real engines, a real registry and real images for the tests. Nothing here uses
//! sealift's library, so that a fault of the library cannot hide itself.
//!
//! ```text
//! folder.rs     a folder for what a test starts; ends, unmounts and removes all of it, also after a panic or kill
//! registry.rs   docker-registry 2.8 on loopback: plain, with basic auth, with TLS from a private CA
//! daemon.rs     a dockerd of the test's own: three versions, both stores; daemon/ its options and processes
//! containerd.rs a containerd of the test's own, as on a Kubernetes node: three versions
//! cri/          stubs of the container runtime interface, for tests/engines/containerd
//! engine.rs     where the engines are, and the root folders in which the newer ones run
//! browser.rs    chromium without a window
//! build.rs      images built by an engine's own `docker build`
//! documented.rs whether docs/json.md names what is in a document
//! http.rs       a GET over a socket
//! image.rs      builds images in OCI layout folders and knows their true digests
//! layer.rs      the layers of those images
//! podman.rs     a podman with storage of its own, as root and rootless
//! proxy.rs      proxies before a server, for connections that break, stall or wait
//! push.rs       gets them into a registry with skopeo
//! referrers.rs  a registry with the referrers API; referrers.go its program
//! large.rs      the image for measurements
//! shared.rs     large documents that many names share, and sealift with little memory
//! serving.rs    a `sealift serve`
//! ssh.rs        keys, an agent and signatures of OpenSSH
//! snapshot.rs   bytes, owner, mode, inode and attributes of files, to compare
//! tools.rs      cosign, notation, oras, crane and skopeo
//! transcript.rs what commands print, for snapshots
//! uncompressed.rs   images with layers that are there only uncompressed
//! old_kernel.rs runs sealift without newer system calls
//! command.rs    runs programs and sealift itself in a clean environment
//! ```
//!
//! Everything panics when it fails: a test on a machine that lacks an engine is a
//! failed test. `tests/engines/install.sh` installs what is needed.
#![allow(dead_code)] // each test binary uses a part
#![allow(unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub mod browser;
pub mod build;
pub mod command;
pub mod containerd;
pub mod daemon;
pub mod documented;
pub mod engine;
pub mod examples;
pub mod folder;
pub mod http;
pub mod image;
pub mod large;
pub mod layer;
pub mod old_kernel;
#[macro_use]
pub mod podman;
pub mod proxy;
pub mod push;
pub mod referrers;
pub mod registry;
pub mod serving;
pub mod shared;
pub mod snapshot;
pub mod ssh;
pub mod tools;
pub mod transcript;
pub mod uncompressed;

pub use command::{Run, Sealift, run};
pub use containerd::Containerd;
pub use daemon::Daemon;
pub use documented::assert_documented;
pub use engine::{Engine, Store};
pub use folder::Folder;
pub use image::{Built, Dialect, Image, Manifest, Platform};
pub use layer::{Compression, Layer};
pub use proxy::{proxy, relay};
pub use referrers::ReferrersRegistry;
pub use registry::{Registry, Request};
pub use serving::Serving;
pub use snapshot::{FileState, files_snapshot};
pub use tools::Tools;
pub use transcript::Transcript;

/// `on_every_engine!(function)`: a test for each engine and store of `function(Engine, Store)`.
#[allow(
    unused_macros,
    reason = "each test program includes all of this and uses a part"
)]
macro_rules! on_every_engine {
    ($function:ident) => {
        mod $function {
            use super::$function as function;
            use crate::support::{Engine, Store};

            #[test]
            fn docker_20_classic() {
                function(Engine::Docker20, Store::Classic);
            }

            #[cfg(feature = "test-all")]
            #[test]
            fn docker_26_classic() {
                function(Engine::Docker26, Store::Classic);
            }

            #[cfg(feature = "test-all")]
            #[test]
            fn docker_26_containerd() {
                function(Engine::Docker26, Store::Containerd);
            }

            #[test]
            fn docker_28_classic() {
                function(Engine::Docker28, Store::Classic);
            }

            #[test]
            fn docker_28_containerd() {
                function(Engine::Docker28, Store::Containerd);
            }
        }
    };
}

/// `on_every_containerd!(function)`: a test for each version of containerd of `function(containerd::Version)`.
#[allow(
    unused_macros,
    reason = "each test program includes all of this and uses a part"
)]
macro_rules! on_every_containerd {
    ($function:ident) => {
        mod $function {
            use super::$function as function;
            use crate::support::containerd::Version;

            #[test]
            fn containerd_1_6() {
                function(Version::V1_6);
            }

            #[cfg(feature = "test-all")]
            #[test]
            fn containerd_1_7() {
                function(Version::V1_7);
            }

            #[test]
            fn containerd_2_1() {
                function(Version::V2_1);
            }
        }
    };
}
