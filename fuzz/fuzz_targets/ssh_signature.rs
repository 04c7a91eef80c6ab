//! Signatures of SSH keys and files of allowed signers: what parses is written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::trust::ssh::{AllowedSigners, Signature};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signature) = Signature::parse(bytes) {
        let again = Signature::parse(signature.armored().as_bytes()).expect("what was written is read");
        assert_eq!(again.armored(), signature.armored());
        let _ = signature.verify("sealift-archive", bytes);
    }
    let _ = AllowedSigners::parse(bytes, "fuzz");
});
