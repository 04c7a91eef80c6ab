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

const COMPOSE: &str = "\
x-base: &base
  image: ${REGISTRY:-docker.io}/base:${TAG?}
  platform: linux/arm64
services:
  web:
    image: 'web:$TAG'
  merged:
    <<: *base
    restart: always
  own:
    <<: [*base]
    image: own:1
  built:
    build: .
  both:
    build: {context: .}
    image: both:1
  debug:
    image: debug:1
    profiles: [debug, all]
  extended:
    extends: {service: web}
  elsewhere:
    extends: {file: common.yml, service: web}
    image: elsewhere:1
  reset:
    image: !reset null
    volumes:
      - {type: image, source: 'data:1', target: /data}
";

fn with_tag() -> Options {
    Options {
        variables: Variables::of([("TAG", "7"), ("SECRET", "hunter2")]),
        ..Options::default()
    }
}

#[test]
fn services_of_compose_files_have_images() {
    assert_eq!(
        images_with(COMPOSE, &with_tag()),
        [
            found("web:7", 6, "services.web.image"),
            found("docker.io/base:7", 2, "services.merged.image"),
            found("own:1", 12, "services.own.image"),
            found("both:1", 17, "services.both.image"),
            found("web:7", 6, "services.extended.image"),
            found("elsewhere:1", 25, "services.elsewhere.image"),
            found("data:1", 29, "services.reset.volumes[0].source"),
        ]
    );
    let list = list(COMPOSE, &with_tag());
    let platform = &list.mentions[1].platforms[0];
    assert_eq!(platform.to_string(), "linux/arm64");
    let built: Vec<bool> = list.mentions.iter().map(|one| one.is_built).collect();
    assert_eq!(built, [false, false, false, true, false, false, false]);
    let unused: Vec<String> = unused(COMPOSE, &with_tag())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unused, ["services.built", "services.debug", "services.reset"]);
}

#[test]
fn profiles_choose_services() {
    for profile in ["debug", "*"] {
        let options = Options {
            profiles: vec![profile.into()],
            ..with_tag()
        };
        let images = images_with(COMPOSE, &options);
        assert!(
            images.contains(&found("debug:1", 19, "services.debug.image")),
            "{profile}"
        );
    }
}

#[test]
fn a_variable_without_a_value_is_named_and_no_other_is_told() {
    let text = "services:\n  web:\n    image: $SECRET/app:${VERSION}\n  db:\n    image: db:${TAG:?set it}\n";
    let options = Options {
        variables: Variables::of([("SECRET", "hunter2")]),
        ..Options::default()
    };
    let list = list(text, &options);
    let messages: Vec<String> = list.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "f, line 3, column 12: services.web.image: the variable VERSION has no value",
            "f, line 5, column 12: services.db.image: the variable TAG is required: set it",
        ]
    );
    let hint = list.errors[0].hint().unwrap();
    assert_eq!(hint, Remedy::SetVariable("VERSION".into()).into());
    use crate::error::Remedy;
}

#[test]
fn files_that_compose_files_refer_to_are_told_and_services_of_them_are_read() {
    let text = "\
include:
  - db-$TAG.yml
  - {path: mon/a.yml, project_directory: mon, env_file: [a.env, b.env]}
  - path: [a.yml, b.yml]
services:
  web: {extends: {file: base.yml, service: app}, platform: linux/arm64, build: .}
  own: {extends: {file: base.yml, service: app}, image: own:1}
  none: {extends: {service: absent}}
";
    let list = list(text, &with_tag());
    let told: Vec<String> = list
        .elsewhere
        .iter()
        .map(|one| format!("{} {} {:?}", one.place, one.file, one.part))
        .collect();
    assert_eq!(
        told,
        [
            "f, line 2, column 5: include[0] db-7.yml Project { folder: None, env_files: [] }",
            "f, line 3, column 5: include[1] mon/a.yml Project { folder: Some(\"mon\"), env_files: [\"a.env\", \"b.env\"] }",
            "f, line 6, column 18: services.web base.yml Service { name: \"app\", platforms: [Platform { os: \"linux\", \
             architecture: \"arm64\", variant: None, os_version: None, os_features: [] }], is_built: true }",
        ]
    );
    let messages: Vec<String> = list.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "f, line 4, column 5: include[2]: files that are merged are not read",
            "f, line 8, column 19: services.none: the service that it extends is not there",
        ]
    );
    // A service may extend itself.
    assert_eq!(names("services: {a: {extends: b}, b: {extends: a}}"), [""; 0]);

    let base =
        "services: {app: {image: 'app:$TAG', platform: linux/amd64, profiles: [x]}, other: {image: other}}";
    let file = ImageFile::parse("base.yml", base.as_bytes()).unwrap();
    let arm: Platform = "linux/arm64".parse().unwrap();
    for (given, platform) in [(vec![arm], "linux/arm64"), (Vec::new(), "linux/amd64")] {
        let list = file.service(&with_tag(), "app", &given, true).unwrap();
        let [one] = list.mentions.as_slice() else {
            panic!("{list:?}")
        };
        assert_eq!((one.name.as_str(), one.is_built), ("app:7", true));
        assert_eq!(one.platforms[0].to_string(), platform);
    }
    let absent = file.service(&with_tag(), "absent", &[], false).unwrap_err();
    assert_eq!(absent.to_string(), "base.yml: it has no service absent");
}

#[test]
fn workloads_of_every_kind_have_images() {
    let pod = "containers: [{image: app:1}]";
    for (version, kind, before) in [
        ("v1", "Pod", "spec"),
        ("apps/v1", "Deployment", "spec.template.spec"),
        ("apps/v1", "ReplicaSet", "spec.template.spec"),
        ("apps/v1", "StatefulSet", "spec.template.spec"),
        ("apps/v1beta1", "DaemonSet", "spec.template.spec"),
        ("batch/v1", "Job", "spec.template.spec"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template.spec"),
        ("v1", "ReplicationController", "spec.template.spec"),
        ("v1", "PodTemplate", "template.spec"),
    ] {
        let mut value = format!("{{{pod}}}");
        for key in before.rsplit('.') {
            value = format!("{{{key}: {value}}}");
        }
        let inside = &value[1..value.len() - 1];
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, {inside}}}");
        let path = format!("{kind}/x {before}.containers[0].image");
        assert_eq!(images(&text), [found("app:1", 1, &path)], "{kind}");
    }
}

#[test]
fn manifests_have_documents_lists_and_images_of_several_kinds() {
    let text = "\
# Source: chart/templates/web.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
        - name: init
          image: \"init:1\"
      containers:
        - name: web
          image: web:1
          env:
            - {name: RELATED_IMAGE_X, value: quay.io/x:1}
            - name: KAFKA_IMAGES
              value: |
                3.7.0=quay.io/kafka:3.7.0
                3.8.0=quay.io/kafka:3.8.0
            - {name: IMAGE_PULL_POLICY, value: Always}
          args:
            - --config-reloader=quay.io/reloader:1
            - --listen=localhost:8080
            - --solver-image
            - solver:1
            - --upstream=http://example.com/a:1
            - localhost:5000/tool@sha256:0000000000000000000000000000000000000000000000000000000000000000
        - name: proxy
          image: auto
        - name: none
      ephemeralContainers:
        - image: debug:1
      volumes:
        - name: model
          image: {reference: model:1}
---
# Source: chart/templates/empty.yaml
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {generateName: one-}
    spec: {containers: [{image: listed:1}]}
  - {apiVersion: v1, kind: Service, metadata: {name: s}}
---
{\"apiVersion\": \"batch/v1\", \"kind\": \"Job\", \"spec\": {\"template\": {\"spec\": {\"containers\": [{\"image\": \"json:1\"}]}}}}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: p}
spec: {image: quay.io/prometheus:1, list: [{baseImage: quay.io/base}]}
";
    let all = images(text);
    assert_eq!(
        all[0],
        found(
            "init:1",
            10,
            "Deployment/web spec.template.spec.initContainers[0].image"
        )
    );
    let names: Vec<&str> = all.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["init:1", "web:1", "debug:1", "model:1", "listed:1", "json:1"]
    );
    let unused = unused(text, &Options::default());
    let paths: Vec<&str> = unused.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "Deployment/web spec.template.spec.containers[0].args[0]",
            "Deployment/web spec.template.spec.containers[0].args[3]",
            "Deployment/web spec.template.spec.containers[0].args[5]",
            "Deployment/web spec.template.spec.containers[0].env[0].value",
            "Deployment/web spec.template.spec.containers[0].env[1].value",
            "Deployment/web spec.template.spec.containers[1].image",
            "Deployment/web spec.template.spec.containers[2]",
            "Prometheus/p spec.image",
            "Prometheus/p spec.list[0].baseImage",
        ]
    );
    // Without its value, which may be a password.
    let reasons: Vec<&str> = unused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        &reasons[..5],
        [
            "--config-reloader may name an image that the program starts",
            "--solver-image may name an image that the program starts",
            "this argument may name an image that the program starts",
            "RELATED_IMAGE_X may name an image that the program starts",
            "KAFKA_IMAGES may name an image that the program starts",
        ]
    );
    assert!(
        unused[8]
            .1
            .ends_with("its field is Prometheus:spec.list[].baseImage"),
        "{unused:?}"
    );
    let options = Options {
        fields: vec![
            "Prometheus:spec.list[].baseImage".parse().unwrap(),
            "Prometheus:spec.*".parse().unwrap(),
        ],
        ..Options::default()
    };
    let text = text.replace(", list: [{baseImage: quay.io/base}]", "");
    let with_fields = images_with(&text, &options);
    assert_eq!(
        with_fields[6],
        found("quay.io/prometheus:1", 53, "Prometheus/p spec.image")
    );
}

#[test]
fn fields_are_taken_from_resources_of_every_kind_and_told_apart_from_those_that_none_has() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: {sidecar: quay.io/sidecar:1}
spec: {containers: [{image: app:1}]}
---
apiVersion: example.com/v1
kind: Stack
spec: {version: 3, image: {repository: quay.io/x, tag: 1}}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop}
";
    let options = Options {
        fields: vec![
            "Stack:spec.images[]".parse().unwrap(),
            "Pod:metadata.annotations.sidecar".parse().unwrap(),
        ],
        ..Options::default()
    };
    let list = list(text, &options);
    let names: Vec<&str> = list.mentions.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["app:1", "quay.io/sidecar:1"]);
    assert_eq!(list.fields_found.into_iter().collect::<Vec<_>>(), [1]);
    let reported = unused(text, &Options::default());
    assert_eq!(reported[0].0, "Stack spec.image");
    assert!(reported[0].1.contains("in several fields"), "{reported:?}");
    assert_eq!(reported[1].0, "Application/shop");
    assert!(reported[1].1.contains("`helm template`"), "{reported:?}");
}

#[test]
fn of_keys_that_manifests_have_twice_the_last_counts() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  labels: {app: a, app: b}
spec:
  containers:
  - image: first:1
    image: last:1
";
    assert_eq!(images(text), [found("last:1", 8, "Pod spec.containers[0].image")]);
    let reasons = list(text, &Options::default()).unused;
    assert_eq!((reasons[0].line, reasons[0].column), (4, 20));
    assert_eq!(
        reasons[0].reason,
        "the key \"app\" occurs twice in one mapping; the last one counts, as for kubectl"
    );
    assert_eq!((reasons[1].line, reasons.len()), (8, 2));
    // Other tools refuse such a file.
    let compose = format!("{text}---\nservices:\n  a: {{image: a}}\n  a: {{image: b}}\n");
    assert!(refusal(compose.as_bytes()).starts_with("f, line 12, column 3: the key \"a\" occurs twice"));
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
