//! `sealift images`, and what `--images` of other commands reads.

mod lock;
mod missing;
mod pin;

use std::fs;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::support::{Built, Image, Sealift, Serving, Transcript, assert_documented, run};

const COMPOSE: &str = "\
x-db: &db
  image: ${REGISTRY:-docker.io}/db:16
services:
  web:
    image: web:$TAG # the site
  db:
    <<: *db
    platform: linux/arm64
  worker:
    build: .
  api:
    build: .
    image: api:1
  debug:
    image: debug:1
    profiles: [debug]
";

const MANIFESTS: &str = "\
# Source: chart/templates/web.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      initContainers: [{name: init, image: quay.io/init:1}]
      containers: [{name: web, image: docker.io/library/web:7}]
---
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: roll
spec:
  template:
    spec:
      containers: [{image: quay.io/rolled:1}]
";

fn written(sealift: &Sealift) {
    fs::write(sealift.path("compose.yaml"), COMPOSE).unwrap();
    fs::write(sealift.path(".env"), "TAG=7\nPASSWORD=hunter2\n").unwrap();
    fs::write(sealift.path("prod.env"), "TAG='8'\nREGISTRY=quay.io\n").unwrap();
    fs::write(sealift.path("web.yaml"), MANIFESTS).unwrap();
    fs::write(
        sealift.path("k3s-images.txt"),
        "docker.io/rancher/klipper-lb:v0.4.7\nweb:7\n",
    )
    .unwrap();
}

#[test]
fn images_are_listed_with_every_place_that_names_them() {
    let sealift = Sealift::new();
    written(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.run("images compose.yaml web.yaml k3s-images.txt");
    transcript.run("images -q compose.yaml --profile debug --env-file prod.env --skip-built");
    let field = "Rollout:spec.template.spec.containers[].image";
    transcript.run_args(&["images", "web.yaml", "--image-field", field]);
    let mut piped = sealift.command(&["images", "-q", "-"]);
    piped.stdin(Stdio::from(fs::File::open(sealift.path("web.yaml")).unwrap()));
    transcript.run_command("sealift images -q - < web.yaml", &mut piped);
    assert_snapshot!(transcript.text(), @"
    $ sealift images compose.yaml web.yaml k3s-images.txt
    NAME                        PLACE              PATH
    web:7                       compose.yaml:5     services.web.image
                                web.yaml:10        Deployment/web spec.template.spec.containers[0].image
                                k3s-images.txt:2
    db:16                       compose.yaml:2     services.db.image (linux/arm64)
    api:1                       compose.yaml:13    services.api.image (also built)
    quay.io/init:1              web.yaml:9         Deployment/web spec.template.spec.initContainers[0].image
    rancher/klipper-lb:v0.4.7   k3s-images.txt:1
    2> note: compose.yaml:10: services.worker: it is built and has no image; give it one with `image:`, build it, and save it from the engine
    2> note: compose.yaml:15: services.debug: none of its profiles is chosen
    2> note: web.yaml:20: Rollout/roll spec.template.spec.containers[0].image: quay.io/rolled:1 looks like an image, and Rollout is not a workload of Kubernetes itself; its field is Rollout:spec.template.spec.containers[].image

    $ sealift images -q compose.yaml --profile debug --env-file prod.env --skip-built
    web:8
    quay.io/db:16
    debug:1

    $ sealift images web.yaml --image-field Rollout:spec.template.spec.containers[].image
    NAME               PLACE         PATH
    quay.io/init:1     web.yaml:9    Deployment/web spec.template.spec.initContainers[0].image
    web:7              web.yaml:10   Deployment/web spec.template.spec.containers[0].image
    quay.io/rolled:1   web.yaml:20   Rollout/roll spec.template.spec.containers[0].image

    $ sealift images -q - < web.yaml
    quay.io/init:1
    web:7
    ");
    let document = sealift.run(&["images", "--json", "compose.yaml"]).ok().json();
    assert_documented(&document);
    assert_eq!(document["images"][1]["name"], "db:16");
    let place = &document["images"][1]["places"][0];
    assert_eq!(place["written"], "${REGISTRY:-docker.io}/db:16");
    assert_eq!((&place["line"], &place["column"]), (&2.into(), &10.into()));
    assert_eq!(place["platforms"][0], "linux/arm64");
    assert_eq!(document["unused"][0]["path"], "services.worker");
}

#[test]
fn what_cannot_be_read_is_named_by_line_and_nothing_is_let_out() {
    let sealift = Sealift::new().env("PASSWORD", "hunter2");
    for (name, text) in [
        (
            "unset.yaml",
            "services:\n  web:\n    image: $PASSWORD/web:${VERSION}\n  bad: {image: 'UP:1'}\n  ok: {image: ok}\n",
        ),
        ("twice.yaml", "services:\n  web: {image: a}\n  web: {image: b}\n"),
        ("cut.yaml", "services: {web: {image: 'a\n"),
        ("values.yaml", "image: {repository: nginx, tag: 1}\n"),
        ("escape.txt", "a\u{1b}[2Jb:1\n"),
        ("nul.txt", "a\0b\n"),
        ("bad.env", "A=1\n!secret\n"),
        (
            "extends.yaml",
            "services: {web: {extends: {file: a.yaml, service: web}}}\n",
        ),
        ("empty.txt", "# nothing\n"),
    ] {
        fs::write(sealift.path(name), text).unwrap();
    }
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "images unset.yaml",
        "save --images unset.yaml -o x.tar",
        "images --json unset.yaml",
        "images twice.yaml",
        "images cut.yaml",
        "images values.yaml",
        "images escape.txt",
        "images nul.txt",
        "images unset.yaml --env-file bad.env",
        "images extends.yaml",
        "images empty.txt --profile x",
        "images empty.txt",
        "images /dev/zero",
        "save --images empty.txt -o x.tar",
        "images empty.txt --image-field spec.image",
    ] {
        let run = transcript.run(arguments);
        assert!(
            !format!("{}{}", run.stdout, run.stderr).contains("hunter2"),
            "{arguments}"
        );
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift images unset.yaml
    NAME        PLACE          PATH
    ok:latest   unset.yaml:5   services.ok.image
    2> error: unset.yaml, line 3, column 12: services.web.image: the variable VERSION has no value
    2> hint: give it a value with VERSION=... before the command, or with --env-file FILE
    2> error: unset.yaml, line 4, column 16: services.bad.image: invalid image name "UP:1": at character 1: repository names are in lower case
    exit 2

    $ sealift save --images unset.yaml -o x.tar
    2> error: unset.yaml, line 3, column 12: services.web.image: the variable VERSION has no value
    2> hint: give it a value with VERSION=... before the command, or with --env-file FILE
    2> error: unset.yaml, line 4, column 16: services.bad.image: invalid image name "UP:1": at character 1: repository names are in lower case
    exit 2

    $ sealift images --json unset.yaml
    {
      "errors": [
        {
          "code": null,
          "exit": 2,
          "hint": "give it a value with VERSION=... before the command, or with --env-file FILE",
          "message": "unset.yaml, line 3, column 12: services.web.image: the variable VERSION has no value"
        },
        {
          "code": null,
          "exit": 2,
          "hint": null,
          "message": "unset.yaml, line 4, column 16: services.bad.image: invalid image name \"UP:1\": at character 1: repository names are in lower case"
        }
      ],
      "images": [
        {
          "name": "ok:latest",
          "places": [
            {
              "built": false,
              "column": 15,
              "file": "unset.yaml",
              "kind": "compose",
              "line": 5,
              "path": "services.ok.image",
              "platforms": [],
              "written": "ok"
            }
          ]
        }
      ],
      "schema": 1,
      "unused": []
    }
    2> error: unset.yaml, line 3, column 12: services.web.image: the variable VERSION has no value
    2> hint: give it a value with VERSION=... before the command, or with --env-file FILE
    2> error: unset.yaml, line 4, column 16: services.bad.image: invalid image name "UP:1": at character 1: repository names are in lower case
    exit 2

    $ sealift images twice.yaml
    2> error: twice.yaml, line 3, column 3: the key "web" occurs twice in one mapping
    exit 1

    $ sealift images cut.yaml
    2> error: cut.yaml, line 1, column 25: not valid YAML: unclosed quote
    exit 1

    $ sealift images values.yaml
    2> error: values.yaml: this looks like the values of a Helm chart; `helm template` prints what the chart deploys
    2> hint: a list has one image per line, or is a compose file, Kubernetes manifests, a kustomization.yaml, a zarf.yaml or a Hauler manifest
    exit 2

    $ sealift images escape.txt
    2> error: escape.txt, line 1: invalid image name "a\u{1b}[2Jb:1": at character 2: a name has lower-case letters, digits, '.', '_' and '-'
    2> hint: a list has one image per line; `#` begins a comment
    exit 2

    $ sealift images nul.txt
    2> error: nul.txt at byte 1: this is not a text: it has a NUL character
    exit 1

    $ sealift images unset.yaml --env-file bad.env
    2> error: bad.env, line 2: this is not the name of a variable
    2> hint: a line of an env file is NAME=VALUE; `#` begins a comment
    exit 2

    $ sealift images extends.yaml
    2> error: cannot read a.yaml: No such file or directory (os error 2)
    exit 3

    $ sealift images empty.txt --profile x
    2> error: --profile is for compose files, and no list is one
    exit 2

    $ sealift images empty.txt

    $ sealift images /dev/zero
    2> error: /dev/zero: over 16 MiB, the most that a list of images may have
    exit 1

    $ sealift save --images empty.txt -o x.tar
    2> error: no image was named
    2> hint: for example: sealift save httpd:2.4 -o images.tar
    exit 2

    $ sealift images empty.txt --image-field spec.image
    2> error: invalid value 'spec.image' for '--image-field <KIND:PATH>': it has no colon; expected KIND:PATH, such as Prometheus:spec.image or Rollout:spec.template.spec.containers[].image
    2>
    2> For more information, try '--help'.
    exit 2
    "#);
}

#[test]
fn files_that_a_compose_file_refers_to_are_read_in_its_folder() {
    let sealift = Sealift::new().env("PASSWORD", "hunter2");
    let files = [
        (
            "stack/compose.yaml",
            "include: [db/compose.yaml, {path: ./mon.yaml, env_file: mon.env}, loop.yaml]\n\
             services:\n  web: {extends: {file: base/app.yaml, service: app}}\n  own: {image: own:1}\n",
        ),
        ("stack/.env", "TAG=7\n"),
        (
            "stack/db/compose.yaml",
            "services: {db: {image: 'db:$TAG-$DB'}}\n",
        ),
        ("stack/db/.env", "TAG=8\nDB=16\n"),
        ("stack/mon.yaml", "services: {mon: {image: 'mon:$MON'}}\n"),
        ("stack/mon.env", "MON=1\n"),
        ("stack/loop.yaml", "include: [loop.yaml, compose.yaml]\n"),
        (
            "stack/base/app.yaml",
            "services: {app: {extends: {file: more.yaml, service: deep}, platform: linux/arm64}, x: {image: x}}\n",
        ),
        ("stack/base/more.yaml", "services: {deep: {image: 'deep:$TAG'}}\n"),
        (
            "stack/bad.yaml",
            "include: [../secret.yaml, link.yaml, absent.yaml, db, 'oci://quay.io/x:1', list.txt]\n\
             services: {a: {extends: {file: mon.yaml, service: absent}}, b: {image: b}}\n",
        ),
        ("stack/list.txt", "hunter2\n"),
        ("secret.yaml", "services: {s: {image: hunter2}}\n"),
    ];
    for (name, text) in files {
        let path = sealift.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("../secret.yaml", sealift.path("stack/link.yaml")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("images stack/compose.yaml");
    let mut inside = sealift.command(&words("images -q compose.yaml"));
    inside.current_dir(sealift.path("stack"));
    transcript.run_command("cd stack; sealift images -q compose.yaml", &mut inside);
    transcript.run("images stack/bad.yaml");
    let mut piped = sealift.command(&words("images -q -"));
    piped.stdin(Stdio::from(
        fs::File::open(sealift.path("stack/compose.yaml")).unwrap(),
    ));
    transcript.run_command("sealift images -q - < stack/compose.yaml", &mut piped);
    assert!(!transcript.text().contains("hunter2"));
    assert_snapshot!(transcript.text(), @"
    $ sealift images stack/compose.yaml
    NAME      PLACE                     PATH
    own:1     stack/compose.yaml:4      services.own.image
              stack/compose.yaml:4      services.own.image
    db:7-16   stack/db/compose.yaml:1   services.db.image
    mon:1     stack/mon.yaml:1          services.mon.image
    deep:7    stack/base/more.yaml:1    services.deep.image (linux/arm64)

    $ cd stack; sealift images -q compose.yaml
    own:1
    db:7-16
    mon:1
    deep:7

    $ sealift images stack/bad.yaml
    NAME       PLACE              PATH
    b:latest   stack/bad.yaml:2   services.b.image
    2> error: stack/bad.yaml, line 1, column 11: include[0]: ../secret.yaml: it is outside the folder of the compose file that was named
    2> error: stack/bad.yaml, line 1, column 27: include[1]: link.yaml: it is outside the folder of the compose file that was named
    2> hint: `docker compose config` prints the file with everything filled in; give that as the list, with `-` for a pipe
    2> error: cannot read stack/absent.yaml: No such file or directory (os error 2)
    2> error: stack/bad.yaml, line 1, column 51: include[3]: db: it is not a file
    2> error: stack/bad.yaml, line 1, column 55: include[4]: oci://quay.io/x:1: it is not a local file
    2> error: stack/bad.yaml, line 1, column 76: include[5]: list.txt: it is not a compose file
    2> hint: `docker compose config` prints the file with everything filled in; give that as the list, with `-` for a pipe
    2> error: stack/mon.yaml: it has no service absent
    exit 3

    $ sealift images -q - < stack/compose.yaml
    own:1
    2> error: standard input, line 1, column 11: include[0]: db/compose.yaml: standard input has no folder to find it in
    2> error: standard input, line 1, column 28: include[1]: ./mon.yaml: standard input has no folder to find it in
    2> error: standard input, line 1, column 67: include[2]: loop.yaml: standard input has no folder to find it in
    2> error: standard input, line 3, column 18: services.web: base/app.yaml: standard input has no folder to find it in
    2> hint: `docker compose config` prints the file with everything filled in; give that as the list, with `-` for a pipe
    exit 2
    ");
}

#[test]
fn mistakes_get_the_next_step() {
    let sealift = Sealift::new();
    archives(&sealift);
    written(&sealift);
    for (name, text) in [
        ("manifests/a.yaml", ""),
        ("chart/Chart.yaml", ""),
        ("overlay/kustomization.yaml", ""),
        ("jq.txt", "\"app:1\"\n\"web:2\"\n"),
    ] {
        let path = sealift.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "images manifests",
        "images chart",
        "images overlay",
        "images all.tar",
        "images -q jq.txt",
        "images web.yaml --image-field Rollout:spec.image",
        "images compose.yaml --profile absent --profile debug",
    ] {
        transcript.run(arguments);
    }
    for arguments in ["images - --missing-from all.tar", "save --images - -o x.tar"] {
        let mut piped = sealift.command(&words(arguments));
        piped.stdin(Stdio::null());
        transcript.run_command(&format!("sealift {arguments} < /dev/null"), &mut piped);
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift images manifests
    2> error: manifests is a folder
    2> hint: name its files: manifests/*.yaml
    exit 2

    $ sealift images chart
    2> error: chart is a folder
    2> hint: `helm template chart | sealift images -` lists what the chart deploys
    exit 2

    $ sealift images overlay
    2> error: overlay is a folder
    2> hint: `kubectl kustomize overlay | sealift images -` lists what is deployed
    exit 2

    $ sealift images all.tar
    2> error: all.tar is an archive, and no list of images
    2> hint: `sealift list all.tar` prints what it has
    exit 2

    $ sealift images -q jq.txt
    app:1
    web:2

    $ sealift images web.yaml --image-field Rollout:spec.image
    NAME             PLACE         PATH
    quay.io/init:1   web.yaml:9    Deployment/web spec.template.spec.initContainers[0].image
    web:7            web.yaml:10   Deployment/web spec.template.spec.containers[0].image
    2> note: --image-field Rollout:spec.image: no list has such a field

    $ sealift images compose.yaml --profile absent --profile debug
    NAME      PLACE             PATH
    web:7     compose.yaml:5    services.web.image
    db:16     compose.yaml:2    services.db.image (linux/arm64)
    api:1     compose.yaml:13   services.api.image (also built)
    debug:1   compose.yaml:15   services.debug.image
    2> note: compose.yaml:10: services.worker: it is built and has no image; give it one with `image:`, build it, and save it from the engine
    2> note: --profile absent: no service has this profile

    $ sealift images - --missing-from all.tar < /dev/null
    2> error: standard input is empty
    2> hint: did the command before the pipe fail?
    exit 2

    $ sealift save --images - -o x.tar < /dev/null
    2> error: standard input is empty
    2> hint: did the command before the pipe fail?
    exit 2
    ");
}

#[test]
fn images_of_a_compose_file_are_saved_from_a_registry_for_their_platforms() {
    let sealift = Sealift::new();
    let built = Image::small("web").build(&sealift.path("layout"), "example.com/web:1");
    Image::small("api").build(&sealift.path("layout"), "example.com/api:1");
    let save = "save --from layout --all --platform all -o all.tar";
    sealift.run(&words(save)).ok();
    let registry = Serving::start(&sealift, &["all.tar"]);
    let compose = "\
services:
  web:
    image: ${REG:?}/web:${TAG-1}
    platform: linux/arm64
  api:
    image: ${REG}/api:1
  worker:
    build: .
";
    fs::write(sealift.path("compose.yaml"), compose).unwrap();
    fs::write(sealift.path(".env"), format!("REG={}\n", registry.address)).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.name(&registry.address, "<registry>");
    transcript.image("web", &built);
    transcript
        .run("save --from registry --images compose.yaml -o images.tar")
        .ok();
    transcript.run("verify --quick --images compose.yaml").ok();
    let mut piped = Command::new("sh");
    let program = sealift.command(&words("save -q --from registry --images - -o piped.tar"));
    piped
        .args(["-c", "printf %s/web:1 \"$(cut -d= -f2 .env)\" | \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(sealift.home());
    run(&mut piped).ok();
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from registry --images compose.yaml -o images.tar
    NAME                    DIGEST       EVIDENCE   PLATFORMS     SIZE     FROM
    <registry>/api:1   <digest 1>   verified   linux/amd64   2.0 kB   registry <registry>
    <registry>/web:1   <web>        verified   linux/arm64   2.0 kB   registry <registry>
    images.tar: 17.4 kB
    archive <digest 2>
    2> note: compose.yaml:8: services.worker: it is built and has no image; give it one with `image:`, build it, and save it from the engine

    $ sealift verify --quick --images compose.yaml
    2 images: 10 blobs, 5.9 kB read, sizes only: all good
    2> note: compose.yaml:8: services.worker: it is built and has no image; give it one with `image:`, build it, and save it from the engine
    ");
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// An archive of two images with two platforms, and of one with another `web`.
fn archives(sealift: &Sealift) -> [Built; 3] {
    let layout = sealift.path("layout");
    let images =
        ["web", "api"].map(|name| Image::small(name).build(&layout, &format!("example.com/{name}:1")));
    let changed = Image::small("changed").build(&sealift.path("changed"), "example.com/web:1");
    Image::small("api").build(&sealift.path("changed"), "example.com/api:1");
    for (layout, archive) in [("layout", "all.tar"), ("changed", "changed.tar")] {
        let save = format!("save -q --from {layout} --all --platform all -o {archive}");
        sealift.run(&words(&save)).ok();
    }
    let [web, api] = images;
    [web, api, changed]
}
