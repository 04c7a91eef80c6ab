//! Archives and folders for which podman, buildah or skopeo wrote a manifest anew: what they prove, and what is loaded of them.

use std::process::Command;

use serde_json::{Value, json};

use crate::loading::{Loader, assert_runs};
use crate::support::{Built, Daemon, Dialect, Engine, Image, Layer, Registry, Sealift, Store, image, run};

/// A podman with storage of its own.
struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    fn new() -> Podman {
        Podman {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut podman = Command::new("podman");
        for (flag, name) in [("--root", "root"), ("--runroot", "run")] {
            podman.arg(flag).arg(self.folder.path().join(name));
        }
        podman.args(["--storage-driver", "vfs"]).args(arguments);
        run(&mut podman).ok().stdout
    }

    #[track_caller]
    fn pull(&self, name: &str) {
        self.run(&["pull", "--quiet", "--tls-verify=false", name]);
    }

    /// Saves an image to a file or folder in the home of a sealift.
    #[track_caller]
    fn save(&self, sealift: &Sealift, format: &[&str], name: &str, to: &str) {
        let to = sealift.path(to);
        let save = ["save", "--quiet", "-o", to.to_str().unwrap(), "--format"];
        self.run(&[&save[..], format, &[name]].concat());
    }
}

#[track_caller]
fn skopeo_copy(registry: &Registry, more: &[&str], name: &str, to: &str) {
    let mut skopeo = registry.skopeo("copy", "--src-");
    skopeo.args(more).arg(format!("docker://{name}")).arg(to);
    run(&mut skopeo).ok();
}

fn sample() -> Image {
    Image::sample("app", "1").without_index()
}

/// Digest and evidence of an archive's only image.
#[track_caller]
fn verified(sealift: &Sealift, archive: &str) -> [Value; 2] {
    let said = sealift.run(&["verify", "--json", archive]).ok().json();
    let image = &said["archives"][0]["images"][0];
    assert_eq!(image["good"], true);
    ["digest", "evidence"].map(|key| image[key].clone())
}

/// Saves from an archive; digest and evidence in the report, which are those in the new archive too.
#[track_caller]
fn saved(sealift: &Sealift, from: &str, more: &[&str], code: i32) -> [Value; 2] {
    let save = ["save", "--json", "--from", from, "-o", "saved.tar"];
    let said = sealift.run(&[&save[..], more].concat()).code(code).json();
    let told = ["digest", "evidence"].map(|key| said["images"][0][key].clone());
    assert_eq!(verified(sealift, "saved.tar"), told);
    std::fs::remove_file(sealift.path("saved.tar")).unwrap();
    told
}

#[test]
fn what_podman_saves_of_a_pulled_image_is_not_called_the_registrys() {
    let (sealift, registry, podman) = (Sealift::new(), Registry::start(), Podman::new());
    let image = sample().build(&sealift.path("layout"), "1");
    registry.push(&image, "library/app:1");
    let name = format!("{}/library/app:1", registry.address());
    let pinned = format!("{}/library/app@{}", registry.address(), image.digest);
    podman.pull(&name);
    for format in ["oci-archive", "oci-dir"] {
        podman.save(&sealift, &[format], &name, format);
        let [digest, evidence] = verified(&sealift, format);
        // The original manifest and layers are lost: were it not so, this test would show nothing.
        assert_ne!(digest, image.digest.as_str());
        assert_eq!(evidence, "recorded");
        // The registry does not know it either.
        for more in [&[name.as_str()][..], &[&name, "--offline"], &[]] {
            assert_eq!(
                saved(&sealift, format, more, 6),
                [digest.clone(), json!("recorded")]
            );
        }
        let said = sealift
            .run(&["save", "--from", format, &name, "-o", "told.tar"])
            .code(6);
        assert!(
            said.stdout
                .contains("manifest not proven: podman, buildah or skopeo"),
            "{said:?}"
        );
        assert!(said.stderr.contains("hint: --from registry saves"), "{said:?}");
        std::fs::remove_file(sealift.path("told.tar")).unwrap();
    }
    // Under its digest podman names the registry's, over the manifest that it wrote.
    podman.save(&sealift, &["oci-archive"], &pinned, "pinned.tar");
    let recorded = [json!(image.digest), json!("recorded")];
    assert_eq!(verified(&sealift, "pinned.tar"), recorded);
    assert_eq!(saved(&sealift, "pinned.tar", &[&pinned], 6), recorded);
    assert_eq!(saved(&sealift, "pinned.tar", &[], 6), recorded);
}

#[test]
fn what_podman_pushed_is_proven_by_its_registry() {
    let (sealift, mut registry, podman) = (Sealift::new(), Registry::start(), Podman::new());
    let name = format!("{}/library/app:1", registry.address());
    std::fs::write(
        sealift.path("root.tar"),
        Layer::busybox().file("app/version", "1").tar(),
    )
    .unwrap();
    podman.run(&[
        "import",
        "--quiet",
        sealift.path("root.tar").to_str().unwrap(),
        &name,
    ]);
    podman.run(&["push", "--quiet", "--tls-verify=false", &name]);
    let digest = registry.digest_of("library/app:1");
    podman.save(&sealift, &["oci-archive"], &name, "podman.tar");
    let to = |kind: &str| format!("{kind}:{}", sealift.path(kind).display());
    skopeo_copy(&registry, &[], &name, &to("oci-archive"));
    skopeo_copy(&registry, &[], &name, &to("dir"));
    let of = |evidence: &str| [json!(digest), json!(evidence)];
    for archive in ["podman.tar", "oci-archive", "dir"] {
        assert_eq!(verified(&sealift, archive), of("recorded"), "{archive}");
        assert_eq!(
            saved(&sealift, archive, &[&name, "--offline"], 6),
            of("recorded"),
            "{archive}"
        );
        assert_eq!(saved(&sealift, archive, &[&name], 0), of("verified"), "{archive}");
        let pinned = format!("{}@{digest}", name.strip_suffix(":1").unwrap());
        assert_eq!(
            saved(&sealift, archive, &[&pinned, "--offline"], 0),
            of("verified"),
            "{archive}"
        );
    }
    registry.stop();
    assert_eq!(saved(&sealift, "podman.tar", &[&name], 6), of("recorded"));
}

/// Buildah on the storage of a podman.
#[track_caller]
fn buildah(podman: &Podman, arguments: &[&str]) -> String {
    let mut buildah = Command::new("buildah");
    for (flag, name) in [("--root", "root"), ("--runroot", "run")] {
        buildah.arg(flag).arg(podman.folder.path().join(name));
    }
    buildah.args(["--storage-driver", "vfs"]).args(arguments);
    run(&mut buildah).ok().stdout.trim().to_owned()
}

#[test]
fn what_buildah_pushes_into_an_archive_is_proven_by_its_registry() {
    let (mut registry, podman) = (Registry::start(), Podman::new());
    let daemon = Daemon::start(Engine::Docker28, Store::Containerd);
    let sealift = Sealift::new().docker(&daemon);
    let name = format!("{}/library/app:1", registry.address());
    let root = sealift.path("root.tar");
    std::fs::write(&root, Layer::busybox().file("app/version", "1").tar()).unwrap();
    let container = buildah(&podman, &["from", "scratch"]);
    buildah(
        &podman,
        &["add", "--quiet", &container, root.to_str().unwrap(), "/"],
    );
    buildah(&podman, &["commit", "--quiet", &container, &name]);
    buildah(&podman, &["push", "--quiet", "--tls-verify=false", &name]);
    let digest = registry.digest_of("library/app:1");
    let archive = format!("oci-archive:{}:{name}", sealift.path("buildah.tar").display());
    buildah(&podman, &["push", "--quiet", &name, &archive]);

    let of = |evidence: &str| [json!(digest), json!(evidence)];
    assert_eq!(verified(&sealift, "buildah.tar"), of("recorded"));
    assert_eq!(saved(&sealift, "buildah.tar", &[&name], 0), of("verified"));
    registry.stop();
    assert_eq!(
        saved(&sealift, "buildah.tar", &[&name, "--offline"], 6),
        of("recorded")
    );
    sealift.run(&["load", "-q", "buildah.tar"]).code(6);
    assert_eq!(daemon.images(), [format!("{name} {digest}")]);
    assert_runs(&daemon, &name, "1");
}

#[test]
fn what_skopeo_copies_keeps_its_digest_or_is_not_called_proven() {
    let (sealift, registry) = (Sealift::new(), Registry::start());
    let multi = Image::sample("multi", "1").build(&sealift.path("layout"), "multi");
    let single = sample().build(&sealift.path("layout"), "single");
    let docker = sample()
        .dialect(Dialect::Docker)
        .build(&sealift.path("layout"), "docker");
    let at = |built: &Built, name: &str| {
        registry.push(built, &format!("library/{name}:1"));
        format!("{}/library/{name}:1", registry.address())
    };
    let names = [at(&multi, "multi"), at(&single, "single"), at(&docker, "docker")];
    let cases = [
        (&names[0], &["--all"][..], &multi.digest, true),
        (&names[0], &[], &multi.host().digest, true),
        (&names[1], &[], &single.digest, true),
        (&names[2], &[], &docker.digest, false),
    ];
    for (at, (name, more, digest, is_oci)) in cases.into_iter().enumerate() {
        for kind in ["oci-archive", "oci", "dir"] {
            let file = format!("{kind}-{at}");
            let to = format!("{kind}:{}", sealift.path(&file).display());
            // Its tag is how skopeo 1.9 opens a folder of layouts again; `dir:` and archives have no name.
            let to = if kind == "oci" { to + ":1" } else { to };
            skopeo_copy(&registry, more, name, &to);
            let [found, evidence] = verified(&sealift, &file);
            // Only for a layout are Docker's types converted.
            let is_kept = is_oci || kind == "dir";
            assert_eq!(found == digest.as_str(), is_kept, "{file}");
            assert_eq!(evidence, if is_kept { "verified" } else { "recorded" }, "{file}");
            let code = if is_kept { 0 } else { 6 };
            let from = if kind == "dir" {
                format!("dir:{file}")
            } else {
                file
            };
            assert_eq!(
                saved(&sealift, &from, &["app:1", "--offline"], code),
                [found, evidence]
            );
        }
    }
}

#[test]
fn a_folder_of_podman_is_taken_as_docker_save_writes_it() {
    let (sealift, registry, podman) = (Sealift::new(), Registry::start(), Podman::new());
    let image = sample().build(&sealift.path("layout"), "1");
    registry.push(&image, "library/app:1");
    let name = format!("{}/library/app:1", registry.address());
    podman.pull(&name);
    podman.save(&sealift, &["docker-dir"], &name, "folder");
    let said = sealift.run(&["verify", "folder"]).code(1).stderr;
    assert!(said.contains("written like one"), "{said}");
    assert_eq!(
        saved(&sealift, "dir:folder", &["app:1"], 0),
        [Value::Null, json!("none")]
    );
    let pinned = format!("{}/library/app@{}", registry.address(), image.digest);
    assert_eq!(
        saved(&sealift, "folder", &[&pinned], 0),
        [json!(image.digest), json!("verified")]
    );

    podman.save(&sealift, &["docker-dir", "--compress"], &name, "compressed");
    let [digest, evidence] = verified(&sealift, "compressed");
    assert_ne!(digest, image.digest.as_str());
    assert_eq!(evidence, "recorded");
    assert_eq!(
        saved(&sealift, "compressed", &["app:1", "--offline"], 6),
        [digest, evidence]
    );
}

fn it_is_loaded_and_its_digest_is_not_called_proven(engine: Engine, store: Store) {
    let podman = Podman::new();
    let daemon = Daemon::start(engine, store);
    let loader = Loader::beside(&daemon);
    let run = loader.folder.path().join("run");
    let sealift = Sealift::new().docker(&daemon).env("SEALIFT_RUN_DIR", run);
    std::fs::write(
        sealift.path("root.tar"),
        Layer::busybox().file("app/version", "1").tar(),
    )
    .unwrap();
    let root = sealift.path("root.tar");
    podman.run(&[
        "import",
        "--quiet",
        root.to_str().unwrap(),
        "docker.io/library/app:1",
    ]);
    podman.save(
        &sealift,
        &["oci-archive"],
        "docker.io/library/app:1",
        "podman.tar",
    );
    let [digest, _] = verified(&sealift, "podman.tar");
    let digest = digest.as_str().unwrap();
    let pinned = format!("app@{digest}");
    let load = |more: &[&str]| {
        let said = sealift
            .run(&[&["load", "--json", "podman.tar"], more].concat())
            .code(6)
            .json();
        ["digest", "evidence", "shown"].map(|key| said["images"][0][key].clone())
    };
    let is_inherent = store == Store::Containerd;
    let plan = sealift.run(&["load", "--dry-run", "podman.tar"]).code(6).stdout;
    let says = match is_inherent {
        true => format!("digest  {digest} (recorded, not proven)"),
        false => format!("nothing proves that a registry has {digest}"),
    };
    assert!(plan.contains(&says), "{plan}");
    // The containerd store shows the digest of the manifest that it has.
    assert_eq!(load(&[]), [json!(digest), json!("recorded"), json!(is_inherent)]);
    let shown = if is_inherent { digest } else { "<none>" };
    assert_eq!(daemon.images(), [format!("app:1 {shown}")]);
    assert_runs(&daemon, "app:1", "1");
    // Its manifest is there, so that the classic store need not be stopped for it.
    assert_eq!(
        load(&["--trust-recorded"]),
        [json!(digest), json!("recorded"), json!(true)]
    );
    assert_eq!(daemon.images(), [format!("app:1 {digest}")]);
    assert_runs(&daemon, &pinned, "1");
    let said = sealift.run(&["load", "podman.tar"]).code(6).stderr;
    assert!(
        said.contains("not proven: app:1: nothing proves the digest that is shown"),
        "{said}"
    );
}

on_every_engine!(it_is_loaded_and_its_digest_is_not_called_proven);

/// What docs/archive.md says of archives with several images or digests.
#[test]
fn podman_takes_one_image_of_several_by_its_name() {
    let (sealift, registry) = (Sealift::new(), Registry::start());
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
    registry.push(&image, "library/app:1");
    let mirror = format!("docker.io={}", registry.address());
    // The index under its tag, and the manifest in it under its digest.
    let pinned = format!("app@{}", image.host().digest);
    sealift
        .run(&[
            "save", "-q", "app:1", &pinned, "--mirror", &mirror, "-o", "two.tar",
        ])
        .ok();
    let archive = format!("oci-archive:{}", sealift.path("two.tar").display());
    let name = "docker.io/library/app:1";
    let inspect = |target: &str| run(Command::new("skopeo").args(["inspect", "--raw", target]));
    let said = inspect(&archive).code(1).stderr;
    assert!(
        said.contains("more than one image in oci, choose an image"),
        "{said}"
    );
    let raw = inspect(&format!("{archive}:{name}")).ok().stdout;
    assert_eq!(image::sha256(raw.as_bytes()), image.digest);

    let digests = |podman: &Podman| {
        let said: Value = serde_json::from_str(&podman.run(&["image", "inspect", name])).unwrap();
        said[0]["RepoDigests"].clone()
    };
    let podman = Podman::new();
    podman.run(&["pull", "--quiet", &format!("{archive}:{name}")]);
    let of = |digest: &str| json!(format!("docker.io/library/app@{digest}"));
    let shown = digests(&podman);
    for digest in [&image.digest, &image.host().digest] {
        assert!(shown.as_array().unwrap().contains(&of(digest)), "{shown}");
    }
    let podman = Podman::new();
    podman.run(&["load", "--quiet", "-i", sealift.path("two.tar").to_str().unwrap()]);
    let shown = digests(&podman);
    assert_eq!(shown.as_array().unwrap().len(), 1);
    for digest in [&image.digest, &image.host().digest] {
        assert!(!shown.as_array().unwrap().contains(&of(digest)), "{shown}");
    }
}
