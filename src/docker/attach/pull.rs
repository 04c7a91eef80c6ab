//! The pull by digest that makes an engine record it, and the documents that it requests.

use super::{Attach, Outcome, Wanted};
use crate::docker::api::images::find_image;
use crate::docker::api::{Client, encode};
use crate::docker::daemon::process::obstacle;
use crate::error::Result;
use crate::load::Obstacle;
use crate::oci::Digest;
use crate::serve::Documents;

/// The documents that an engine with the images requests: their manifests.
pub fn documents(wanted: &[Wanted<'_>]) -> Documents {
    let mut documents = Documents::default();
    for one in wanted {
        documents.add(one.repository.path(), one.graph);
    }
    documents
}

/// Makes the engine pull `name@digest`, and asks what it shows then.
///
/// # Errors
///
/// [`crate::Error::Interrupted`].
pub fn by_digest(attach: &Attach<'_>, wanted: &Wanted<'_>) -> Result<Outcome> {
    attach.interrupt.check()?;
    Ok(pull(attach.client, wanted))
}

fn pull(client: &Client, wanted: &Wanted<'_>) -> Outcome {
    let name = format!("{}@{}", wanted.repository.familiar(), wanted.digest);
    let platform = wanted.platform.map(|platform| encode(&platform.to_string()));
    let path = format!(
        "/images/create?fromImage={}&tag={}{}",
        encode(wanted.repository.full()),
        encode(&wanted.digest.to_string()),
        platform.map_or_else(String::new, |platform| format!("&platform={platform}"))
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
