//! Docker, over its Engine API.
//!
//! - [`endpoint`]: `DOCKER_HOST` and contexts
//! - `connection`: HTTP over the socket or TCP
//! - [`api`]: requests, answers, and what errors mean
//! - `stream`: streamed answers, with the errors inside them
//! - [`attach`]: attaching digests to the classic store

pub mod api;
pub mod attach;
mod connection;
pub mod endpoint;
mod stream;
