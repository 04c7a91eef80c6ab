//! `WWW-Authenticate` headers.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    let _ = sealift::registry::challenge::parse(header);
});
