//! Images of a store and a registry in memory, all the way into archives that are verified.
//!
//! - `fake`: the store and the registry
//! - `scene`: how images are asked for, and what came of it
//! - `parts`: where the parts of an image are taken from
//! - `names`: digests and names, and which image is meant
//! - `choose`: which of several digests a tag gets
//! - `upstream`: registries that do not help
//! - `indexes`: stores that keep indexes, and platforms
//! - `recovered`: manifests that are found nowhere
//! - `saved`: archives of `docker save`
//! - `several`: a store beside other sources

mod choose;
mod docker_save;
mod fake;
mod fallback;
mod indexes;
mod names;
mod parts;
mod rebuilt;
mod setup;
mod upstream;
