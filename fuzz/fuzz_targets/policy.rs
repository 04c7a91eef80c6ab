//! Policies, of both formats.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sealift::Result;
use sealift::oci::Reference;
use sealift::trust::Policy;

fuzz_target!(|bytes: &[u8]| {
    let mut read = |path: &Path| -> Result<Vec<u8>> {
        let file: &[u8] = match path.extension().is_some_and(|extension| extension == "crt") {
            true => include_bytes!("../../testdata/signatures/notation-trust/ca.crt"),
            false => include_bytes!("../../testdata/signatures/keys/alice.pub"),
        };
        Ok(file.to_vec())
    };
    let Ok(policy) = Policy::parse(Path::new("policy"), bytes, &mut read) else {
        return;
    };
    for name in ["quay.io/acme/app:1", "httpd", "localhost:5000/a/b/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] {
        let name: Reference = name.parse().unwrap();
        let _ = policy.rule(&name).kind();
    }
});
