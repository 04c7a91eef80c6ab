//! Signatures, attestations and SBOMs as the tools of the field write and check them.
//!
//! ```text
//! cases.rs      what is signed by whom, and what each tool says about it
//! signed.rs     the registry in which the tools sign it, once for all tests
//! verifiers.rs  the tools that check
//! source.rs     what the tools say where they signed, and of copies that they made
//! tree.rs       what refers to an image in a registry
//! archives.rs   archives that tools wrote, as sources
//! engines.rs    engines load an archive with signatures
//! round.rs      through an archive into other registries, and what the tools say there
//! policy.rs     sealift's verdict by a policy is that of each tool
//! ```

mod archives;
mod cases;
mod engines;
mod policy;
mod round;
mod signed;
mod source;
mod tree;
mod verifiers;
