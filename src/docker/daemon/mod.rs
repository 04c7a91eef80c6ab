//! The dockerd behind an API: its process, configuration, namespaces and network, as root on its host sees them.
//!
//! - [`reach`]: whether the process can be reached from here; if not, what the engine is
//! - [`peer`]: which process answers on a socket, by the kernel's word
//! - [`process`]: how it was started, the files that it sees, how it is made to read its configuration
//! - [`config`]: `daemon.json` and the flags of the command line
//! - [`namespaces`], [`network`]: the files and the network that it sees
//! - [`overmount`], [`mounts`]: mounting another file over the real one, and finding that mount again

pub mod config;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod overmount;
pub mod peer;
pub mod process;
pub mod reach;
