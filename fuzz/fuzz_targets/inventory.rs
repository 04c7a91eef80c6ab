//! Inventories of hosts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::inventory::KnownHost;

fuzz_target!(|bytes: &[u8]| {
    let _ = KnownHost::parse(bytes, "host.json");
});
