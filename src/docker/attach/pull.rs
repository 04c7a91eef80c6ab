//! The pull by digest that makes an engine record it.

use super::daemon::obstacle;
use super::{Outcome, Wanted};
use crate::docker::api::{Client, encode};
use crate::docker::inventory::find_image;
use crate::oci::Digest;
use crate::target::Obstacle;

/// Lets the engine pull `name@digest`, and asks what it shows then.
pub fn by_digest(client: &Client, wanted: &Wanted<'_>) -> Outcome {
    let name = format!("{}@{}", wanted.repository.familiar(), wanted.digest);
    let path = format!(
        "/images/create?fromImage={}&tag={}",
        encode(wanted.repository.full()),
        encode(&wanted.digest.to_string())
    );
    client
        .post_stream(&format!("attach {name}"), &path, &mut |_| {})
        .map_err(|error| obstacle(&error))?;
    match find_image(client, &name).map_err(|error| obstacle(&error))? {
        Some(image) if image.id.parse::<Digest>() == Ok(wanted.image_id) => Ok(()),
        Some(image) => Err(Obstacle::new(
            format!(
                "the engine shows {} for {name}, expected {}",
                image.id, wanted.image_id
            ),
            "it chose the image of another platform",
        )),
        None => Err(Obstacle::new(format!("the engine does not show {name}"), "")),
    }
}
