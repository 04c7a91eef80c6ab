//! Images of a store and a registry in memory, saved into archives that are verified.
//!
//! - `fake`: the store and the registry
//! - `setup`: how images are requested, and the result
//! - `parts`: the origin of each part of an image
//! - `names`: digests and names, and which image they select
//! - `choose`: which of several digests a tag gets
//! - `upstream`: registries that do not help
//! - `indexes`: stores that keep indexes, and platforms
//! - `rebuilt`: manifests that are found nowhere
//! - `docker_save`: archives of `docker save`
//! - `fallback`: a store beside other sources
//! - `forecast`: trials

mod choose;
mod docker_save;
mod fake;
mod fallback;
mod forecast;
mod indexes;
mod names;
mod parts;
mod rebuilt;
mod setup;
mod upstream;
