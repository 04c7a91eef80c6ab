//! Compose files.

use super::*;

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
