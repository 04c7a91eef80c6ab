//! Which images are selected, and their names.

use super::*;
use crate::image::provenance::Substitute;
use crate::load::DamagedImage;
use crate::load::sample::candidate;
use crate::oci::Digest;

fn candidates() -> Candidates<'static> {
    let amd64 = &["linux/amd64"];
    Candidates {
        images: vec![
            candidate(Some("httpd:2.4"), &["a"], amd64),
            candidate(Some("httpd:latest"), &["b"], amd64),
            candidate(Some("quay.io/team/tool:1"), &["c"], amd64),
            candidate(None, &["d"], amd64),
        ],
        damaged: vec![DamagedImage {
            image_id: None,
            reference: Some("redis:7".parse().unwrap()),
            root: Digest::sha256(b"redis"),
            digest: Some(Digest::sha256(b"redis")),
        }],
        ..Candidates::default()
    }
}

fn options(images: &[&str], renames: &[&str], keep_going: bool) -> LoadOptions {
    LoadOptions {
        images: images.iter().map(ToString::to_string).collect(),
        renames: renames.iter().map(|text| text.parse().unwrap()).collect(),
        keep_going,
        ..LoadOptions::default()
    }
}

/// The selected names, `-` for an image without one, then those that are skipped.
fn chosen(options: &LoadOptions) -> Result<(String, String)> {
    let selected = options.select(&candidates())?;
    let name = |name: &Option<Reference>| name.as_ref().map_or("-".into(), Reference::familiar);
    let names: Vec<String> = selected.images.iter().map(|(_, one)| name(one)).collect();
    let skipped: Vec<String> = selected.skipped.into_iter().map(|one| one.name).collect();
    Ok((names.join(" "), skipped.join(" ")))
}

#[test]
fn names_choose_as_people_mean_them() {
    let d = candidate(None, &["d"], &["linux/amd64"])
        .image
        .graph
        .root
        .digest
        .to_string();
    for (images, renames, expected) in [
        (&["httpd:2.4"][..], &[][..], "httpd:2.4"),
        // A missing tag is `latest`, as in Docker.
        (&["httpd"], &[], "httpd:latest"),
        (&["docker.io/library/httpd:2.4", "httpd:2.4"], &[], "httpd:2.4"),
        // Without a `latest`, the whole repository.
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
        let (names, skipped) = chosen(&options(images, renames, false)).unwrap();
        assert_eq!(
            (names.as_str(), skipped.as_str()),
            (expected, ""),
            "{images:?} {renames:?}"
        );
    }
}

#[test]
fn what_is_damaged_stops_all_or_is_left_out() {
    for images in [&[][..], &["redis:7"], &["redis", "httpd"]] {
        let error = chosen(&options(images, &[], false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Content, "{images:?}");
    }
    assert_eq!(chosen(&options(&["httpd"], &[], false)).unwrap().1, "");
    let (names, skipped) = chosen(&options(&[], &[], true)).unwrap();
    assert_eq!(names, "httpd:2.4 httpd:latest quay.io/team/tool:1 -");
    assert_eq!(skipped, "redis:7");
}

#[test]
fn names_that_are_not_there_are_told_with_those_that_are() {
    for (images, renames) in [(&["nginx"][..], &[][..]), (&["httpd:2.3"], &[])] {
        let error = chosen(&options(images, renames, true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("not found in images.tar"), "{error}");
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
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
        let error = chosen(&options(images, renames, true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.hint().unwrap().to_string().contains("httpd:2.4"),
            "{error:?}"
        );
    }
    // One that is skipped as damaged still counts.
    chosen(&options(&[], &["redis=web"], true)).unwrap();
}

#[test]
fn two_images_cannot_have_one_name() {
    let error = chosen(&options(
        &["httpd:2.4", "httpd"],
        &["httpd:2.4=x:1", "httpd:latest=x:1"],
        false,
    ));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_substitute_is_chosen_by_what_it_is_known_by() {
    let recorded = Digest::sha256(b"what the engine showed");
    let mut candidates = candidates();
    let recorded_as = Some(recorded);
    candidates.images[1].image.provenance.substitute = Some(Substitute {
        recorded: recorded_as,
    });
    candidates.images[3].image.provenance.substitute = Some(Substitute { recorded: None });
    let chosen = |text: &str| {
        let selected = options(&[text], &[], false).select(&candidates).unwrap();
        selected.images.iter().map(|(at, _)| *at).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&recorded.to_string()), [1]);
    assert_eq!(chosen(&format!("httpd@{recorded}")), [1]);
    // Without a name it has its image id: no engine has reported the substitute's own digest.
    let own = candidates.images[3].image.graph.root.digest;
    assert_eq!(chosen(&own.to_string()), [3]);
    let id = candidates.images[3].image.graph.images[0].id().to_string();
    assert_eq!(candidates.images[3].label(), id);
    let digits = &id["sha256:".len()..];
    for id in [&id, &id[..12], digits, &digits[..12]] {
        assert_eq!(chosen(id), [3], "{id}");
    }
    let own = candidates.images[1].image.graph.root.digest;
    let error = options(&[&format!("httpd@{own}")], &[], false).select(&candidates);
    assert_eq!(
        error.unwrap_err().kind(),
        ErrorKind::NotFound,
        "nobody has been shown that digest"
    );
}
