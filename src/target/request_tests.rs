//! Which images are chosen, and what they are called.

use super::*;
use crate::image::provenance::StandIn;
use crate::oci::Digest;
use crate::target::Damaged;
use crate::target::sample::offer;

fn offers() -> Offers<'static> {
    let amd64 = &["linux/amd64"];
    Offers {
        images: vec![
            offer(Some("httpd:2.4"), &["a"], amd64),
            offer(Some("httpd:latest"), &["b"], amd64),
            offer(Some("quay.io/team/tool:1"), &["c"], amd64),
            offer(None, &["d"], amd64),
        ],
        damaged: vec![Damaged {
            reference: Some("redis:7".parse().unwrap()),
            root: Digest::sha256(b"redis"),
            digest: Some(Digest::sha256(b"redis")),
        }],
    }
}

fn request(images: &[&str], renames: &[&str], keep_going: bool) -> Request {
    Request {
        images: images.iter().map(ToString::to_string).collect(),
        renames: renames.iter().map(|text| text.parse().unwrap()).collect(),
        keep_going,
        ..Request::default()
    }
}

/// The names that are chosen, `-` for one that has none, then those that are left out.
fn chosen(request: &Request) -> Result<(String, String)> {
    let selection = request.select(&offers())?;
    let name = |name: &Option<Reference>| name.as_ref().map_or("-".into(), Reference::familiar);
    let names: Vec<String> = selection.images.iter().map(|(_, one)| name(one)).collect();
    let left_out: Vec<String> = selection.left_out.into_iter().map(|one| one.name).collect();
    Ok((names.join(" "), left_out.join(" ")))
}

#[test]
fn names_choose_as_people_mean_them() {
    let d = offer(None, &["d"], &["linux/amd64"])
        .graph
        .root
        .digest
        .to_string();
    for (images, renames, expected) in [
        (&["httpd:2.4"][..], &[][..], "httpd:2.4"),
        // A tag that is left out is `latest`, as in Docker.
        (&["httpd"], &[], "httpd:latest"),
        (&["docker.io/library/httpd:2.4", "httpd:2.4"], &[], "httpd:2.4"),
        // Where there is no `latest`, the whole repository.
        (&["quay.io/team/tool"], &[], "quay.io/team/tool:1"),
        (&[&d], &[], "-"),
        (
            &["httpd:2.4"],
            &["httpd=harbor.local/web"],
            "harbor.local/web:2.4",
        ),
        (&["httpd:2.4"], &["httpd:2.4=web:9"], "web:9"),
        (&[&d], &[&format!("{d}=web:9")], "web:9"),
        (&[&d[..16]], &[&format!("{}=web:9", &d[..12])], "web:9"),
        (
            &["httpd:2.4", "quay.io/team/tool"],
            &["quay.io=harbor.local/quay", "docker.io/library=harbor.local/lib"],
            "harbor.local/lib/httpd:2.4 harbor.local/quay/team/tool:1",
        ),
        (
            &["httpd:2.4", "httpd:latest"],
            &["httpd=web"],
            "web:2.4 web:latest",
        ),
    ] {
        let (names, left_out) = chosen(&request(images, renames, false)).unwrap();
        assert_eq!(
            (names.as_str(), left_out.as_str()),
            (expected, ""),
            "{images:?} {renames:?}"
        );
    }
}

#[test]
fn what_is_damaged_stops_all_or_is_left_out() {
    for images in [&[][..], &["redis:7"], &["redis", "httpd"]] {
        let error = chosen(&request(images, &[], false)).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{images:?}");
    }
    assert_eq!(chosen(&request(&["httpd"], &[], false)).unwrap().1, "");
    let (names, left_out) = chosen(&request(&[], &[], true)).unwrap();
    assert_eq!(names, "httpd:2.4 httpd:latest quay.io/team/tool:1 -");
    assert_eq!(left_out, "redis:7");
}

#[test]
fn names_that_are_not_there_are_told_with_those_that_are() {
    for (images, renames) in [(&["nginx"][..], &[][..]), (&["httpd:2.3"], &[])] {
        let error = chosen(&request(images, renames, true)).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert!(error.to_string().contains("not found in images.tar"), "{error}");
        assert!(
            error
                .hint()
                .unwrap()
                .starts_with("it has httpd:2.4, httpd:latest, quay.io/team/tool:1")
        );
    }
}

#[test]
fn a_new_name_that_nothing_gets_is_a_usage_error() {
    for (images, renames) in [
        (&[][..], &["nginx=web"][..]),
        (&["httpd:2.4"], &["quay.io/team/tool=web"]),
    ] {
        let error = chosen(&request(images, renames, true)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.hint().unwrap().contains("httpd:2.4"), "{error:?}");
    }
    // One that is left out as damaged is one all the same.
    chosen(&request(&[], &["redis=web"], true)).unwrap();
}

#[test]
fn two_images_cannot_have_one_name() {
    let error = chosen(&request(
        &["httpd:2.4", "httpd"],
        &["httpd:2.4=x:1", "httpd:latest=x:1"],
        false,
    ));
    assert_eq!(error.unwrap_err().exit_code(), 2);
}

#[test]
fn a_stand_in_is_chosen_by_what_it_is_known_by() {
    let recorded = Digest::sha256(b"what the engine showed");
    let mut offers = offers();
    let recorded_as = Some(recorded);
    offers.images[1].account.stand_in = Some(StandIn {
        recorded: recorded_as,
    });
    offers.images[3].account.stand_in = Some(StandIn { recorded: None });
    let chosen = |text: &str| {
        let selection = request(&[text], &[], false).select(&offers).unwrap();
        selection.images.iter().map(|(at, _)| *at).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&recorded.to_string()), [1]);
    assert_eq!(chosen(&format!("httpd@{recorded}")), [1]);
    // Without a name, nothing else than the stand-in's own digest is left to choose it by.
    let own = offers.images[3].graph.root.digest;
    assert_eq!(offers.images[3].label(), own.to_string());
    assert_eq!(chosen(&own.to_string()), [3]);
    let own = offers.images[1].graph.root.digest;
    let error = request(&[&format!("httpd@{own}")], &[], false).select(&offers);
    assert_eq!(
        error.unwrap_err().exit_code(),
        7,
        "nobody has been shown that digest"
    );
}
