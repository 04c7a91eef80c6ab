//! Docker, over its Engine API.

pub mod attach;
