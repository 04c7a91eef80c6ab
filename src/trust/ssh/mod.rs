//! Signatures of files by SSH keys, as `ssh-keygen -Y` makes and verifies them.
//!
//! - `wire`: the data types of SSH
//! - `public_key`: keys, and what they say about signatures
//! - `signature`: the file of a signature
//! - `allowed_signers`: whose keys count; `pattern`, `local_time`: what its lines have
//! - `private_key`, `agent`: what signs; `signing_key`: either of them

mod agent;
mod allowed_signers;
mod local_time;
mod pattern;
mod private_key;
mod public_key;
mod signature;
mod signing_key;
mod wire;

pub use allowed_signers::{AllowedSigners, MAX_ALLOWED_SIGNERS, Signer};
pub use public_key::PublicKey;
pub use signature::{MAX_SIGNATURE, Signature};
pub use signing_key::SigningKey;

#[cfg(test)]
mod tests;
