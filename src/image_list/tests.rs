mod compose;
mod kubernetes;

use super::*;
use crate::oci::Digest;

fn list(text: &str, options: &Options) -> ImageList {
    let file = ImageFile::parse("f", text.as_bytes()).unwrap();
    file.images(options).unwrap()
}

/// The images of a file: name, line, path.
fn images(text: &str) -> Vec<(String, usize, String)> {
    images_with(text, &Options::default())
}

fn images_with(text: &str, options: &Options) -> Vec<(String, usize, String)> {
    let list = list(text, options);
    assert!(list.errors.is_empty(), "{:?}", list.errors);
    let mentions = list.mentions.into_iter();
    mentions.map(|one| (one.name, one.line, one.path)).collect()
}

fn names(text: &str) -> Vec<String> {
    images(text).into_iter().map(|(name, _, _)| name).collect()
}

/// What a file has and is not used: path and reason.
fn unused(text: &str, options: &Options) -> Vec<(String, String)> {
    let list = list(text, options);
    let unused = list.unused.into_iter();
    unused.map(|one| (one.path, one.reason)).collect()
}

fn errors(text: &str, options: &Options) -> Vec<String> {
    let list = list(text, options);
    list.errors.iter().map(ToString::to_string).collect()
}

fn refusal(bytes: &[u8]) -> String {
    let refused = ImageFile::parse("f", bytes).and_then(|file| file.images(&Options::default()));
    let error = refused.map(|list| list.mentions.len()).unwrap_err();
    error.to_string()
}

fn with_tag() -> Options {
    Options {
        variables: Variables::of([("TAG", "7"), ("SECRET", "hunter2")]),
        ..Options::default()
    }
}

fn found(name: &str, line: usize, path: &str) -> (String, usize, String) {
    (name.into(), line, path.into())
}

#[test]
fn text_lists_have_a_name_per_line() {
    let text = "\u{feff}# k3s: images\r\ndocker.io/rancher/klipper-lb:v0.4.7\r\n\r\n  app:1 # comment: yes\nsha256:49eb\n";
    assert_eq!(
        images(text),
        [
            found("docker.io/rancher/klipper-lb:v0.4.7", 2, ""),
            found("app:1", 4, ""),
            found("sha256:49eb", 5, "")
        ]
    );
    assert_eq!(names("[::1]:5000/app:1\n"), ["[::1]:5000/app:1"]);
    assert_eq!(
        images("\"app:1\"\n 'web' # x\n"),
        [found("app:1", 1, ""), found("web", 2, "")]
    );
    assert_eq!(names(""), [""; 0]);
    assert_eq!(names("# nothing: here\n"), [""; 0]);
    assert_eq!(images("- app:1\n- web:2\n")[1], found("web:2", 2, "[1]"));
    assert_eq!(images("[\"app:1\", \"web:2\"]")[1], found("web:2", 1, "[1]"));
    let errors = errors("app:1\nUPPER:1\nhttps://quay.io/c:3\n", &Options::default());
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with("f, line 2: invalid image name"),
        "{errors:?}"
    );
}

#[test]
fn annotations_of_a_manifest_of_hauler_are_for_all_of_its_images() {
    let text = "\
apiVersion: content.hauler.cattle.io/v1
kind: Images
metadata:
  annotations:
    hauler.dev/registry: reg:5000
    hauler.dev/platform: linux/arm64
spec:
  images:
  - name: busybox
  - {name: org/app:1, platform: linux/amd64}
  - name: quay.io/org/app:2
  - {name: built:1, local: true}
";
    let list = list(text, &Options::default());
    let images: Vec<(&str, String)> = list
        .mentions
        .iter()
        .map(|one| (one.name.as_str(), one.platforms[0].to_string()))
        .collect();
    assert_eq!(
        images,
        [
            ("reg:5000/library/busybox", "linux/arm64".to_owned()),
            ("reg:5000/org/app:1", "linux/amd64".into()),
            ("quay.io/org/app:2", "linux/arm64".into()),
            ("built:1", "linux/arm64".into()),
        ]
    );
}

#[test]
fn an_empty_platform_is_none_in_particular() {
    let text = "services: {web: {image: a, platform: '${PLATFORM:-}', profiles: [x]}}";
    let options = Options {
        profiles: vec!["x".into()],
        ..Options::default()
    };
    let list = list(text, &options);
    assert!(list.mentions[0].platforms.is_empty());
    assert_eq!(list.unused, []);
    assert!(list.profiles.contains("x"));
}

#[test]
fn kustomizations_packages_and_manifests_of_hauler_have_images() {
    let hex = "a".repeat(64);
    let kustomization = format!(
        "resources: [deploy.yaml]\nimages:\n- {{name: a, newTag: v1}}\n- {{name: b, newName: quay.io/b, newTag: v2, digest: \
         'sha256:{hex}'}}\n- {{name: c, newName: d}}\n"
    );
    assert_eq!(
        names(&kustomization),
        ["a:v1".to_owned(), format!("quay.io/b@sha256:{hex}")]
    );
    let paths: Vec<String> = unused(&kustomization, &Options::default())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(paths, ["resources", "images[2]"]);
    let zarf = "kind: ZarfPackageConfig\ncomponents:\n- name: one\n  images: [a:1, {name: b:1}, '###ZARF_PKG_TMPL_X###']\n  \
                imageArchives: [{path: x.tar, images: [c:1]}]\n- images: [d:1]\n";
    let images_of_zarf = images(zarf);
    assert_eq!(images_of_zarf[0], found("a:1", 4, "components.one.images[0]"));
    assert_eq!(
        images_of_zarf[1],
        found("b:1", 4, "components.one.images[1].name")
    );
    assert_eq!(images_of_zarf[2], found("d:1", 6, "components[1].images[0]"));
    assert_eq!(unused(zarf, &Options::default()).len(), 2);
    let hauler = "apiVersion: content.hauler.cattle.io/v1\nkind: Images\nspec:\n  images:\n  - name: a:1\n    platform: \
                  linux/arm64\n---\napiVersion: content.hauler.cattle.io/v1\nkind: Charts\nspec: {charts: []}\n";
    let list = list(hauler, &Options::default());
    assert_eq!(list.mentions[0].platforms[0].to_string(), "linux/arm64");
    assert_eq!(list.unused[0].path, "Charts");
}

#[test]
fn what_names_no_images_is_refused() {
    for (text, says) in [
        (
            "image:\n  repository: nginx\n  tag: 1\n",
            "the values of a Helm chart",
        ),
        ("web: {image: {repository: nginx}}", "the values of a Helm chart"),
        (
            "apiVersion: v2\nname: x\nversion: 1.0.0\n",
            "describes a Helm chart",
        ),
        ("a: 1\nb: 2\n", "not a document that names images"),
        ("- {a: 1}\n", "not a document that names images"),
    ] {
        assert!(refusal(text.as_bytes()).contains(says), "{text}");
    }
}

#[test]
fn hostile_files_are_refused_in_bounded_memory() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let before = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    let resource = |list: &str| {
        let spec: String = list.lines().map(|line| format!(" {line}\n")).collect();
        format!("apiVersion: x/v1\nkind: X\nspec:\n{spec}")
    };
    let images = laughs.replace("[x, x", "[{image: q/x:1}, x");
    let long = "x".repeat(1 << 20);
    let pod = |name: &str, container: &str, aliases: usize| {
        let containers = format!("[&c {{{container}}}{}]", ", *c".repeat(aliases));
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: {containers}}}\n")
    };
    let service = format!(
        "services:\n web:\n  volumes: [&v {{type: image, source: '${{NONE:+{long}}}app:1'}}{}]\n",
        ", *v".repeat(99)
    );
    let variable = format!("image: 'app:1', env: [{{name: {long}, value: 'app:1'}}]");
    // Each container's path has the name.
    let over = "over 64 MiB of names and paths";
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let keys: String = (0..1_100_000).map(|_| "- a\n").collect();
    for (text, says) in [
        (resource(&laughs), "aliases stand for too many values"),
        (resource(&images), "more than 100000 images"),
        (pod(&long, "image: 'app:1'", 99), over),
        (pod(&long, "image: '-'", 99), over),
        (pod(&long, "name: web", 99), over),
        (service, over),
        (pod("web", &variable, 999), "aliases stand for too many values"),
        (deep("[", "]"), "line 1, column 201"),
        (deep("- ", "x"), "line 1, column"),
        (keys, "more than 1000000 values"),
        ("a: &a [*a]\n".into(), "an alias inside the value"),
        (
            "services: {}\nservices: {}\n".into(),
            "f, line 2, column 1: the key \"services\" occurs twice",
        ),
        ("a: [\n".into(), "not valid YAML"),
        ("a: *none\n".into(), "not valid YAML"),
        ("a: {{ .Values.x }}: y\n".into(), "a template is rendered first"),
        ("a: \0\n".into(), "f at byte 3: this is not a text: it has a NUL"),
    ] {
        let refused = refusal(text.as_bytes());
        assert!(refused.contains(says), "{refused}");
    }
    assert!(refusal(b"# x\na: \xff").starts_with("f, line 2: this is not a text in UTF-8"));
    assert!(refusal(&[0x1f, 0x8b, 8, 0]).contains("this is compressed"));
    assert!(refusal(&[0xff, 0xfe, b'a', 0]).contains("UTF-16"));
    assert!(refusal(&vec![b'a'; 17 << 20]).contains("over 16 MiB"));
    let merges = "services:\n  a: &a {<<: *a}\n";
    assert!(refusal(merges.as_bytes()).contains("an alias inside"));
}

#[test]
fn lock_files_are_read_back() {
    let digest = Digest::sha256(b"x");
    let image = |name: &str, platforms: &[&str]| {
        let platforms = platforms.iter().map(|text| text.parse().unwrap()).collect();
        LockedImage::new(&name.parse().unwrap(), digest, platforms, 7)
    };
    let pinned = format!("quay.io/b@{digest}");
    let lock = Lock::new(vec![
        image(&pinned, &[]),
        image("app:1", &["linux/arm64", "linux/amd64"]),
        image("app:1", &["linux/amd64", "linux/arm64"]),
    ]);
    let text = serde_json::to_string(&lock).unwrap();
    assert!(
        text.contains("\"platforms\":[\"linux/amd64\",\"linux/arm64\"],\"size\":7"),
        "{text}"
    );
    let list = list(&text, &Options::default());
    assert!(list.errors.is_empty(), "{:?}", list.errors);
    let names: Vec<&str> = list.mentions.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, [format!("app:1@{digest}").as_str(), &pinned]);
    assert_eq!(list.mentions[0].platforms.len(), 2);
    for (from, to, says) in [
        ("\"schema\":1", "\"schema\":2", "another schema"),
        (&digest.to_string(), "sha256:1", "its digest"),
        ("app:1", "App:1", "its name"),
        ("linux/arm64", "a/b/c/d", "is not a platform"),
        (
            "\"linux/arm64\"",
            &vec!["\"a/b\""; 1001].join(","),
            "more than 1000 platforms",
        ),
    ] {
        let errors = errors(&text.replace(from, to), &Options::default());
        assert!(errors[0].contains(says), "{errors:?}");
    }
}

#[test]
fn pinning_changes_names_only() {
    let digest = Digest::sha256(b"x");
    let at = format!("@{digest}");
    for (text, pinned) in [
        (
            "# list\n app:1  # one\r\nweb\nreg:5000/x/y:1@sha256:AT",
            "# list\n app@  # one\r\nweb@\nreg:5000/x/y@",
        ),
        ("[::1]:5000/a:1", "[::1]:5000/a@"),
        (" \"a:1\"\n'b'\n", " \"a@\"\n'b@'\n"),
        ("- \"[::1]:5000/a:1\"", "- \"[::1]:5000/a@\""),
        (
            "kind: SealiftLock\nschema: 1\nimages: [{name: 'a:1', digest: 'sha256:AT'}, {name: 'b@sha256:AT', digest: \
             'sha256:AT'}]",
            "kind: SealiftLock\nschema: 1\nimages: [{name: 'a:1', digest: 'DIGEST'}, {name: 'b@', digest: 'DIGEST'}]",
        ),
        (
            "services:\n  # web\n  web: {image: \"web:$TAG\"} # é\n  db:\n    image:   'db'\n",
            "services:\n  # web\n  web: {image: \"web@\"} # é\n  db:\n    image:   'db@'\n",
        ),
        (
            "x: &i é/../a\nservices: {a: {image: &x a:1}, b: {image: *x}}\n",
            "x: &i é/../a\nservices: {a: {image: &x a@}, b: {image: *x}}\n",
        ),
        (
            "images:\n- name: a\n  newTag: v1 # tag\n- name: b\n  newTag: v2\n  digest: sha256:AT\n",
            "images:\n- name: a\n  digest: DIGEST # tag\n- name: b\n  newTag: v2\n  digest: DIGEST\n",
        ),
    ] {
        let text = text.replace("sha256:AT", &format!("sha256:{}", "a".repeat(64)));
        let file = ImageFile::parse("f", text.as_bytes()).unwrap();
        let list = file.images(&with_tag()).unwrap();
        assert!(list.errors.is_empty(), "{:?}", list.errors);
        let expected = pinned.replace('@', &at).replace("DIGEST", &digest.to_string());
        assert_eq!(file.pinned(&list, |_| Some(digest)).unwrap(), expected);
        // What has no digest stays as it is.
        assert_eq!(file.pinned(&list, |_| None).unwrap(), text);
    }
    for (text, says) in [
        (
            "services:\n  web:\n    image: >-\n      web:1\n",
            "is in a text of several lines",
        ),
        (
            "images: [{name: a, newTag: v1, digest: null}]",
            "has a digest that is null",
        ),
    ] {
        let file = ImageFile::parse("f", text.as_bytes()).unwrap();
        let list = file.images(&with_tag()).unwrap();
        let error = file.pinned(&list, |_| Some(digest)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of files that are put together at random.
    const PIECES: [&str; 28] = [
        "services:",
        "\n",
        "\n  ",
        "\n    ",
        "web:",
        " image: ",
        "a:1",
        "'b:2'",
        "\"c:3\"",
        "&x ",
        "*x",
        "<<: ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "- ",
        "---\n",
        "# é\n",
        "kind: Pod",
        "apiVersion: v1",
        "spec:",
        "containers:",
        "${TAG}",
        "|\n",
        "\u{feff}",
        "\t",
    ];

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_what_is_pinned_is_read_back(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40),
            is_wrapped: bool,
        ) {
            let inside = pieces.concat();
            let text = match is_wrapped {
                true => format!("services:\n  first: {{image: 'é:1'}}\n  web:\n    image: a:1 # x\n{inside}"),
                false => inside,
            };
            let Ok(file) = ImageFile::parse("f", text.as_bytes()) else { return Ok(()) };
            let Ok(list) = file.images(&with_tag()) else { return Ok(()) };
            let digest = Digest::sha256(b"x");
            let Ok(pinned) = file.pinned(&list, |_| Some(digest)) else { return Ok(()) };
            let again = ImageFile::parse("f", pinned.as_bytes()).unwrap();
            let again = again.images(&with_tag()).unwrap();
            prop_assert_eq!(again.mentions.len(), list.mentions.len());
            for (one, other) in list.mentions.iter().zip(&again.mentions) {
                prop_assert_eq!((one.repository(), one.line), (other.repository(), other.line));
                prop_assert!(other.name.ends_with(&format!("@{digest}")), "{}", pinned);
            }
        }
    }
}
