//! Signatures, attestations and SBOMs as the tools of the field write and check them.
//!
//! ```text
//! cases.rs      what is signed by whom, and what each tool says about it
//! signed.rs     the registry in which the tools sign it, once for all tests
//! verifiers.rs  the tools that check
//! source.rs     what the tools say where they signed, and of copies that they made
//! ```

mod cases;
mod signed;
mod source;
mod verifiers;
