//! The dockerd behind an API: its process, configuration, namespaces and network, as root on its host sees them.

pub mod config;
pub mod namespaces;
pub mod network;
pub mod overmount;
pub mod process;
pub mod reach;
