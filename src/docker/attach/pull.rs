//! The pull by digest that makes an engine record it, and the documents that it requests.

use super::{Attach, Outcome, Wanted};
use crate::docker::api::images::find_image;
use crate::docker::api::{Client, encode};
use crate::docker::daemon::process::obstacle;
use crate::error::{Hint, Remedy, Result};
use crate::load::Obstacle;
use crate::oci::{Digest, Reference};
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
    let pinned = Reference::digested(&wanted.repository, wanted.digest);
    let name = pinned.familiar();
    let platform = wanted.platform.map(|platform| encode(&platform.to_string()));
    let path = format!(
        "/images/create?fromImage={}&tag={}{}",
        encode(wanted.repository.full()),
        encode(&wanted.digest.to_string()),
        platform.map_or_else(String::new, |platform| format!("&platform={platform}"))
    );
    let pulled = client.post_stream(&format!("attach {name}"), &path, &mut |_| {});
    let shown = || find_image(client, &name).map_err(|error| obstacle(&error));
    if let Err(error) = pulled {
        // Another image got the digest after the plan was made.
        let is_taken = error
            .to_string()
            .to_lowercase()
            .contains("cannot overwrite digest");
        return Err(match is_taken.then(shown).transpose()?.flatten() {
            Some(other) => taken(&pinned, &other.id),
            None => obstacle(&error),
        });
    }
    match shown()? {
        Some(image) if image.id.parse::<Digest>() == Ok(wanted.image_id) => Ok(()),
        Some(image) => Err(Obstacle::new(
            format!(
                "the engine chose another image of the index for {name}: {}, not {}",
                short(&image.id),
                short(&wanted.image_id.to_string())
            ),
            Hint::from(format!(
                "`docker rmi {name}` takes the digest from that image, and removes the image if it has no other name"
            ))
            .and(Remedy::AttachOffline),
        )),
        None => Err(Obstacle::new(format!("the engine does not show {name}"), "")),
    }
}

/// The obstacle for a digest that the engine shows for another image: a pull does not move it.
///
/// Source: moby, `reference/store.go`, `addReference`: "cannot overwrite digest".
pub(in crate::docker) fn taken(pinned: &Reference, other: &str) -> Obstacle {
    let (name, other) = (pinned.familiar(), short(other));
    Obstacle::new(
        format!(
            "{name} is the name of another image there, {other}, such as that of another platform, and Docker does not move it"
        ),
        format!(
            "`docker rmi {name}` takes it from that image, and removes the image if it has no other name; then run this again"
        ),
    )
}

/// The digits of an image id that Docker prints.
fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::api::testing::{PING, engine, json};
    use crate::load::sample::candidate;

    #[test]
    fn a_digest_that_went_to_another_image_is_told_with_a_command() {
        let candidate = candidate(None, &["a"], &["linux/amd64"]);
        let digest = Digest::sha256(b"index");
        let wanted = Wanted {
            repository: "quay.io/a/b".parse().unwrap(),
            digest,
            image_id: Digest::sha256(b"this"),
            graph: &candidate.image.graph,
            platform: None,
        };
        let other = Digest::sha256(b"other").to_string();
        let inspected = json(&format!(r#"{{"Id":"{other}"}}"#));
        let hint = format!("`docker rmi quay.io/a/b@{digest}` takes ");
        for (pulled, says) in [
            (
                r#"{"error":"cannot overwrite digest sha256:1234"}"#,
                "is the name of another image there",
            ),
            (
                r#"{"status":"done"}"#,
                "the engine chose another image of the index for quay.io/a/b@",
            ),
        ] {
            let (_folder, endpoint) = engine(vec![PING.into(), json(pulled), inspected.clone()]);
            let client = Client::connect(&endpoint).unwrap();
            let obstacle = pull(&client, &wanted).unwrap_err();
            assert!(obstacle.reason.contains(says), "{obstacle}");
            assert!(obstacle.reason.contains(&short(&other)), "{obstacle}");
            assert!(
                obstacle.hint.as_ref().unwrap().to_string().starts_with(&hint),
                "{obstacle:?}"
            );
        }
    }
}
