//! Image names: what parses is printed in a form that parses to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::oci::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.full().parse::<Reference>().as_ref(), Ok(&reference));
    }
});
