//! Which images a rename matches, and their new names.

use super::*;
use crate::error::ErrorKind;
use crate::oci::Digest;

/// An image: an optional name, and the text whose digest it has.
type Image<'a> = (Option<&'a str>, &'a str);

fn digest(of: &str) -> Digest {
    Digest::sha256(of.as_bytes())
}

/// The new names of images, `-` for none.
fn renamed(images: &[Image<'_>], renames: &[&str]) -> Result<String> {
    let names: Vec<Option<Reference>> = images
        .iter()
        .map(|(name, _)| name.map(|name| name.parse().unwrap()))
        .collect();
    let identities: Vec<Identity<'_>> = images
        .iter()
        .zip(&names)
        .map(|((_, content), name)| Identity {
            reference: name.as_ref(),
            digest: Some(digest(content)),
            root: digest(content),
            image_ids: vec![digest(&format!("config of {content}"))],
        })
        .collect();
    let renames: Vec<Rename> = renames.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let names = apply(&renames, &identities)?.into_iter();
    let names: Vec<String> = names
        .map(|name| name.map_or("-".into(), |name| name.familiar()))
        .collect();
    Ok(names.join(" "))
}

const IMAGES: [Image<'static>; 6] = [
    (Some("httpd:2.4"), "a"),
    (Some("httpd:latest"), "b"),
    (Some("user/app:1"), "c"),
    (Some("127.0.0.1:5210/team/tool:1"), "d"),
    (Some("127.0.0.1:5210/team/tool/sub:1"), "e"),
    (None, "f"),
];

#[test]
fn from_is_an_image_a_repository_or_what_they_are_below() {
    let [f, c] = ["f", "config of c"].map(|text| digest(text).to_string());
    let short = |digest: &str| digest[..15].to_string();
    for (rename, expected) in [
        ("httpd:2.4=web:1", "web:1 httpd:latest"),
        ("httpd:2.4=harbor.local/web", "harbor.local/web:2.4 httpd:latest"),
        ("httpd=web", "web:2.4 web:latest"),
        ("docker.io/library/httpd=web", "web:2.4 web:latest"),
        (
            "docker.io/library=harbor.local/lib",
            "harbor.local/lib/httpd:2.4 harbor.local/lib/httpd:latest",
        ),
        (
            "docker.io/library/=quay.io",
            "quay.io/httpd:2.4 quay.io/httpd:latest",
        ),
        (
            "docker.io=harbor.local:5000/hub/",
            "harbor.local:5000/hub/library/httpd:2.4 harbor.local:5000/hub/library/httpd:latest \
             harbor.local:5000/hub/user/app:1",
        ),
        ("user/=docker.io/team", "httpd:2.4 httpd:latest team/app:1"),
        ("user/app=docker.io/library/app", "httpd:2.4 httpd:latest app:1"),
    ] {
        let names = renamed(&IMAGES[..3], &[rename]).unwrap();
        let rest = ["httpd:2.4", "httpd:latest", "user/app:1"];
        let given = expected.split(' ').count();
        let expected = [&[expected], &rest[given..]].concat().join(" ");
        assert_eq!(names, expected, "{rename}");
    }
    let below = "127.0.0.1:5210/team/tool:1 127.0.0.1:5210/team/tool/sub:1 -";
    for (rename, expected) in [
        (
            "127.0.0.1:5210=harbor.local/mirror",
            "harbor.local/mirror/team/tool:1 harbor.local/mirror/team/tool/sub:1 -",
        ),
        ("127.0.0.1:5210/team=lib", "lib/tool:1 lib/tool/sub:1 -"),
        ("127.0.0.1:5210/team/tool=tool", "tool:1 tool/sub:1 -"),
        (&format!("{f}=web:1"), &below.replace('-', "web:1")),
        (
            &format!("{}=harbor.local/web:1", short(&f)),
            &below.replace('-', "harbor.local/web:1"),
        ),
        (&format!("{f}=web@{f}"), &below.replace('-', &format!("web@{f}"))),
    ] {
        assert_eq!(renamed(&IMAGES[3..], &[rename]).unwrap(), expected, "{rename}");
    }
    // By the image id that an engine shows.
    let names = renamed(&IMAGES[..3], &[&format!("{}=web", short(&c))]).unwrap();
    assert_eq!(names, "httpd:2.4 httpd:latest web:1");
}

#[test]
fn the_narrowest_of_several_counts_in_whatever_order() {
    let renames = [
        "docker.io=hub.local",
        "httpd:2.4=web:1",
        "docker.io/library=lib.local",
        "httpd=server.local/httpd",
    ];
    let expected = "web:1 server.local/httpd:latest hub.local/user/app:1";
    for turn in 0..renames.len() {
        let mut renames = renames;
        renames.rotate_left(turn);
        assert_eq!(renamed(&IMAGES[..3], &renames).unwrap(), expected, "{renames:?}");
    }
    let same = ["httpd=web", "httpd=docker.io/library/web"];
    assert_eq!(renamed(&IMAGES[..2], &same).unwrap(), "web:2.4 web:latest");
}

#[test]
fn what_is_ambiguous_or_unused_is_refused() {
    let f = digest("f");
    let own = digest("c").to_string();
    let twin: [Image<'_>; 2] = [
        (Some("docker.io/library/library:1"), "a"),
        (Some("docker.io/library/httpd:1"), "b"),
    ];
    let port: [Image<'_>; 2] = [(Some("localhost:5000"), "a"), (Some("localhost:5000/x:1"), "b")];
    for (images, renames, says, hint) in [
        (
            &IMAGES[..],
            &["nginx=web"][..],
            "renames nothing",
            "httpd:2.4, httpd:latest",
        ),
        (&IMAGES, &["quay.io/=web"], "renames nothing", "there is"),
        (&IMAGES, &["sha256:0000=web:1"], "renames nothing", "there is"),
        (
            &IMAGES,
            &["httpd=a", "httpd=b"],
            "gets two names",
            "leave out httpd=a or httpd=b",
        ),
        (
            &IMAGES,
            &["user/app:1=a:1", &format!("{own}=b:1")],
            "gets two names",
            "leave out",
        ),
        (
            &twin,
            &["docker.io/library=x"],
            "can mean the repository docker.io/library/library and all below docker.io/library/",
            "write docker.io/library/library=x or docker.io/library/=x",
        ),
        (
            &port,
            &["localhost:5000=x"],
            "can mean",
            "write docker.io/library/localhost:5000=x or localhost:5000/=x",
        ),
        (
            &IMAGES,
            &[&format!("{f}=web")],
            "has no tag of its own",
            "=web:TAG",
        ),
        (
            &IMAGES,
            &["user/app:1=web@sha256:00"],
            "the digest has the wrong length",
            "FROM=TO",
        ),
        (
            &IMAGES,
            &[&format!("user/app:1=web@{f}")],
            "names another digest",
            "",
        ),
    ] {
        let error = renamed(images, renames).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{renames:?}");
        assert!(error.to_string().contains(says), "{renames:?}: {error}");
        assert!(
            error.hint().unwrap_or_default().to_string().contains(hint),
            "{renames:?}: {error:?}"
        );
    }
    let error = renamed(&IMAGES, &["sha256:=x:1"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    // Six images have twelve digests, some with the same beginning.
    let all: Vec<String> = "0123456789abcdef"
        .chars()
        .map(|c| format!("sha256:{c}=x:1"))
        .collect();
    let told = all.iter().filter_map(|rename| renamed(&IMAGES, &[rename]).err());
    assert!(
        told.map(|error| error.to_string())
            .any(|text| text.contains("is the beginning of"))
    );
}

#[test]
fn what_cannot_be_a_new_name_is_refused_before_anything_is_read() {
    let digest = Digest::sha256(b"");
    for text in [
        "httpd".to_string(),
        "httpd=web:1".into(),
        "quay.io/=web:1x".into(),
        format!("httpd={digest}"),
        "httpd=".into(),
        "=web".into(),
        "HTTPD=web".into(),
        "httpd:2.4=https://web".into(),
    ] {
        let error = text.parse::<Rename>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{text}: {error}");
    }
}

#[test]
fn further_digests_go_with_the_tags_of_their_image() {
    let [a, x] = ["a", "x"].map(digest);
    let pinned = |repository: &str, digest: Digest| format!("{repository}@{digest}");
    let names: Vec<Reference> = [
        "web:1".to_string(),
        "web:2".into(),
        pinned("web", a),
        pinned("web", x),
        pinned("other", a),
    ]
    .iter()
    .map(|name| name.parse().unwrap())
    .collect();
    // `x` is a digest of another image.
    let identities: Vec<Identity<'_>> = names
        .iter()
        .map(|name| Identity {
            reference: Some(name),
            digest: name.digest(),
            root: name.digest().unwrap_or(a),
            image_ids: vec![if name.digest() == Some(x) {
                x
            } else {
                digest("config")
            }],
        })
        .collect();
    for (renames, web) in [
        (&[][..], "web"),
        // The other tag keeps its digests.
        (&["web:1=x:1"], "web"),
        (&["web:1=x:1", "web:2=x:2"], "x"),
        (&["web:1=x:1", "web:2=y:2"], "x"),
        // An image that is renamed itself.
        (
            &["web:1=x:1", "web:2=x:2", &format!("{}=z", pinned("web", a))],
            "z",
        ),
        (&["web=y"], "y"),
    ] {
        let renames: Vec<Rename> = renames.iter().map(|text| text.parse().unwrap()).collect();
        let renamed = apply(&renames, &identities).unwrap();
        let names: Vec<String> = renamed.iter().flatten().map(Reference::familiar).collect();
        assert_eq!(names[2], pinned(web, a));
        let of_x = if web == "y" { "y" } else { "web" };
        assert_eq!(names[3..], [pinned(of_x, x), pinned("other", a)]);
    }
}
