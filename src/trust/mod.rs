//! Who vouches for what: signatures, and whose count.
//!
//! - [`ssh`]: signatures by SSH keys, of files

pub mod ssh;
