//! What `sealift save --dry-run` prints besides the report: the space that a save needs, and what a switch of Docker's
//! store would meet.

use sealift::docker::switch::Switch;
use sealift::error::{ErrorKind, Hint};
use sealift::image::names;
use sealift::load::DiskSpace;
use sealift::save::{Forecast, Room};

use super::output::Output;
use super::remedy;
use super::size::Size;

/// Most containers that are named.
const MAX_CONTAINERS: usize = 3;

/// What a save needs, and what comes after it.
pub struct Needs {
    /// Bytes of temporary files.
    pub temporary: u64,
    /// The folders that the save writes to.
    pub rooms: Vec<Room>,
    /// What a switch of this host's Docker would meet, if the archive is for its containerd store.
    pub switch: Option<Switch>,
    /// The space that its containerd store needs, if that is known.
    store: Option<DiskSpace>,
}

impl Needs {
    /// Compares what a save needs with what is free.
    pub fn new(forecast: &Forecast, rooms: Vec<Room>, switch: Option<Switch>) -> Needs {
        let space = switch.as_ref().and_then(|switch| switch.space.as_ref());
        let hint = || Hint::from("free some space there, or put it on a larger disk before the switch");
        Needs {
            temporary: forecast.temporary,
            rooms,
            store: space
                .zip(forecast.unpacked)
                .map(|(space, unpacked)| space.needed_for(forecast.blobs, unpacked, hint())),
            switch,
        }
    }

    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let needed = |path: &dyn std::fmt::Display, needed, free, why: &str| {
            format!("{path}: {} needed{why}, {} free", Size(needed), Size(free))
        };
        let rooms = self.rooms.iter();
        let rooms = rooms.map(|room| needed(&room.path.display(), room.needed, room.free, ""));
        let store = self.store.iter().map(|store| {
            needed(
                &store.path,
                store.needed,
                store.free,
                " by Docker's containerd store",
            )
        });
        rooms.chain(store).collect()
    }

    /// Reports what would fail, and what is not carried over.
    pub fn report(&self, output: &Output) {
        for room in &self.rooms {
            if let Err(error) = room.check() {
                output.error(&error);
            }
        }
        let Some(switch) = &self.switch else { return };
        match &self.store {
            Some(store) if store.is_short() => {
                output.warn(&format!(
                    "the images may not fit into {} beside the classic store: {} are needed, {} are free",
                    store.path,
                    Size(store.needed),
                    Size(store.free)
                ));
                output.hint(&remedy::hint(&store.hint));
            }
            Some(_) => {}
            None => output.warn("the space that Docker's containerd store needs is not known"),
        }
        for obstacle in &switch.obstacles {
            output.warn(&obstacle.to_string());
            if let Some(hint) = remedy::of_obstacle(obstacle) {
                output.hint(&hint);
            }
        }
        if !switch.containers.is_empty() && !output.is_quiet() {
            let count = switch.containers.len();
            let (first, rest) = switch.containers.split_at(count.min(MAX_CONTAINERS));
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            output.note(&format!(
                "the containerd store does not show the {} of the classic store: {}{more}",
                names::count(count, "container"),
                first.join(", ")
            ));
        }
    }

    /// Why the save, or what comes after it, would fail.
    pub fn failure(&self) -> Option<ErrorKind> {
        let is_full = self.rooms.iter().any(|room| room.check().is_err())
            || self.store.as_ref().is_some_and(DiskSpace::is_short);
        let has_obstacles = self
            .switch
            .as_ref()
            .is_some_and(|switch| !switch.obstacles.is_empty());
        let full = is_full.then_some(ErrorKind::Io);
        full.max(has_obstacles.then_some(ErrorKind::NotShown))
    }

    /// Adds its fields to the document of a save.
    pub fn document(&self, document: &mut serde_json::Value) {
        document["dry_run"] = true.into();
        document["temporary"] = self.temporary.into();
        document["rooms"] = serde_json::json!(self.rooms);
        if let Some(switch) = &self.switch {
            let mut obstacles = switch.obstacles.clone();
            remedy::word_all(&mut obstacles);
            document["switch"] = serde_json::json!({
                "room": self.store,
                "containers": switch.containers,
                "obstacles": obstacles,
            });
        }
    }
}
