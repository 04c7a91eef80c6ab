//! Reading archives: what is good is read, what is bad is found, and where.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad;
mod containers_image;
mod docker_save;
mod every_byte;
mod good;
mod images;
mod referrers;
mod saved;
mod tar_builder;
mod uncompressed;
mod views;
