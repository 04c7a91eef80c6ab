//! Names as Docker reads them.

use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn normalises_as_docker_does() {
    for (text, full, familiar) in [
        ("httpd", "docker.io/library/httpd:latest", "httpd:latest"),
        ("httpd:2.4", "docker.io/library/httpd:2.4", "httpd:2.4"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        (
            "docker.io/httpd",
            "docker.io/library/httpd:latest",
            "httpd:latest",
        ),
        (
            "index.docker.io/library/httpd:1",
            "docker.io/library/httpd:1",
            "httpd:1",
        ),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
        (
            "127.0.0.1:5000/a/b:t",
            "127.0.0.1:5000/a/b:t",
            "127.0.0.1:5000/a/b:t",
        ),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (
            "quay.io/a/b/c:1_2.3-x",
            "quay.io/a/b/c:1_2.3-x",
            "quay.io/a/b/c:1_2.3-x",
        ),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        (
            "a__b/c---d/e.f_g",
            "docker.io/a__b/c---d/e.f_g:latest",
            "a__b/c---d/e.f_g:latest",
        ),
    ] {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.full(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }
    let pinned: Reference = format!("httpd@sha256:{HEX}").parse().unwrap();
    assert_eq!(
        (pinned.tag(), pinned.digest().map(|d| d.hex())),
        (None, Some(HEX.into()))
    );
    let both: Reference = format!("h.io:1/x:2@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.full(), format!("h.io:1/x:2@sha256:{HEX}"));
    assert_eq!(both.without_digest().unwrap().full(), "h.io:1/x:2");
}

#[test]
fn says_what_is_wrong_at_which_character() {
    for (text, position, says) in [
        ("", 1, "empty"),
        ("Httpd", 1, "lower case"),
        ("user/App:1", 6, "lower case"),
        ("httpd:", 7, "tag is empty"),
        ("httpd:.1", 7, "a tag has"),
        ("httpd:a b", 8, "a tag has"),
        ("a//b", 3, "part of the name is empty"),
        ("-rm", 1, "begins with"),
        ("a..b", 3, "letters or digits stand between"),
        ("a___b", 4, "letters or digits stand between"),
        ("a-/b", 3, "ends with"),
        ("a\nb", 2, "lower-case letters"),
        ("é/b", 1, "lower-case letters"),
        ("h.io:5x/b", 7, "a port"),
        ("h.io:99999/b", 6, "not a port"),
        ("-h.io/b", 1, "host"),
        ("h..io/b", 3, "host is empty"),
        ("[::g]:1/b", 2, "IPv6"),
        ("httpd@sha256:1", 7, "wrong length"),
        ("httpd@md5:1", 7, "algorithm"),
        (HEX, 1, "image id"),
        (&format!("sha256:{HEX}"), 1, "a digest or an image id"),
        ("sha256:e3b0c44298fc", 1, "a digest or an image id"),
        ("docker.io/sha512", 1, "a digest or an image id"),
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    for (text, hint) in [
        ("docker://httpd:2.4", Some("write httpd:2.4")),
        ("https://quay.io/org/app:1/", Some("write quay.io/org/app:1")),
        ("http://127.0.0.1:5000/app", Some("write 127.0.0.1:5000/app")),
        ("docker://Httpd", None),
        ("docker://https://httpd", None),
        ("://", None),
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!((error.position, error.hint.as_deref()), (1, hint), "{text}");
    }
    assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    assert_eq!(
        format!("a:{}", "t".repeat(129))
            .parse::<Reference>()
            .unwrap_err()
            .position,
        131
    );
    assert!(
        "a/".repeat(127)
            .as_str()
            .trim_end_matches('/')
            .parse::<Reference>()
            .is_err()
    );
}

#[test]
fn a_digest_alone_is_an_image_without_a_name() {
    let text = format!("sha256:{HEX}");
    let nameless = Reference::parse_any(&text).unwrap();
    assert!(nameless.is_nameless() && nameless.tag().is_none());
    assert_eq!(
        (nameless.full(), nameless.familiar()),
        (text.clone(), text.clone())
    );
    assert_eq!(nameless.digest().unwrap().to_string(), text);
    assert_eq!(nameless.repository().full(), "");
    assert_eq!(nameless.without_digest(), None);
    let named = Reference::parse_any(&format!("httpd@{text}")).unwrap();
    assert!(!named.is_nameless());
    assert_eq!(named.full(), format!("docker.io/library/httpd@{text}"));
    for text in ["sha256:e3b0", "sha256:", ""] {
        assert!(Reference::parse_any(text).is_err(), "{text}");
    }
}

fn component() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}"
}

proptest! {
    #[test]
    fn full_and_familiar_forms_parse_to_the_same(
        domain in proptest::option::of("([a-z0-9]{1,5}\\.){1,2}[a-z]{2,3}(:[1-9][0-9]{0,3})?|localhost(:80)?"),
        path in proptest::collection::vec(component(), 1..4),
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        pinned: bool,
    ) {
        prop_assume!(path[0] != "localhost" || path.len() == 1);
        prop_assume!(domain.is_some() || !path[0].contains('.') || path.len() == 1);
        let mut text = domain.map(|d| d + "/").unwrap_or_default() + &path.join("/");
        if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
        if pinned { text = format!("{text}@sha256:{HEX}"); }
        let reference: Reference = text.parse().unwrap();
        prop_assert_eq!(reference.tag().map(str::to_string), tag.or((!pinned).then(|| "latest".into())));
        prop_assert_eq!(&reference.full().parse::<Reference>().unwrap(), &reference);
        prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        prop_assert!(reference.full().ends_with(&reference.familiar()));
    }

    #[test]
    fn never_panics_and_points_inside(text in "\\PC{0,40}|[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
        if let Err(error) = text.parse::<Reference>() {
            prop_assert!(error.position >= 1 && error.position <= text.chars().count() + 1);
        }
    }
}
