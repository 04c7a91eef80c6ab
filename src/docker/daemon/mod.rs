//! The dockerd behind an API: its process, configuration, namespaces and network, as seen by root on its host.
//!
//! - `reach`: whether the process can be reached from here, and why not
//! - `peer`: which process answers on a socket, according to the kernel
//! - [`process`]: its start, its files, and reloading its configuration
//! - `config`: `daemon.json` and the flags of the command line
//! - [`namespaces`], `network`: the files and the network that it sees
//! - [`overmount`], `mounts`: mounting another file over the real one, and finding that mount again

pub(crate) mod config;
pub(crate) mod mounts;
pub mod namespaces;
pub(crate) mod network;
pub mod overmount;
pub(crate) mod peer;
pub mod process;
pub(crate) mod reach;
