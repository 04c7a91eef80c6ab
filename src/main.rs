//! sealift.
fn main() {}
