//! Folders and archives as sources: subsets, merges, parts, pipes, other tools' archives.

use std::fs;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::support::{Built, Image, Registry, Sealift, Transcript, run};

fn built(sealift: &Sealift, name: &str) -> (String, Built) {
    let layout = sealift.path(name);
    let image = Image::sample(name, "1").build(&layout, "1");
    (layout.to_str().unwrap().to_owned(), image)
}

#[test]
fn a_subset_and_a_merge_are_the_same_bytes_as_a_save_of_those_images() {
    let sealift = Sealift::new();
    let ((one, first), (two, second)) = (built(&sealift, "one"), built(&sealift, "two"));
    sealift
        .run(&["save", "--from", &one, "one:1", "-o", "one.tar"])
        .ok();
    sealift
        .run(&["save", "--from", &two, "two:1", "-o", "two.tar"])
        .ok();
    sealift
        .run(&["save", "--from", "two.tar", "--from", "one.tar", "-o", "both.tar"])
        .ok();
    sealift
        .run(&["save", "--from", "both.tar", "two:1", "-o", "again.tar"])
        .ok();
    assert!(fs::read(sealift.path("two.tar")).unwrap() == fs::read(sealift.path("again.tar")).unwrap());
    let list = sealift.run(&["list", "--json", "both.tar"]).ok().json();
    let digests: Vec<&str> = list["archives"][0]["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests, [&first.digest, &second.digest]);
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save --from both.tar three:1 -o x.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift save --from both.tar three:1 -o x.tar
    2> error: three:1 not found in both.tar
    2> hint: it holds one:1, two:1
    exit 7
    ");
    assert!(!sealift.path("x.tar").exists());
}

#[test]
fn parts_and_pipes_carry_the_same_bytes() {
    let sealift = Sealift::new();
    let (layout, _) = built(&sealift, "app");
    sealift
        .run(&["save", "--from", &layout, "app:1", "-o", "whole.tar"])
        .ok();
    let whole = fs::read(sealift.path("whole.tar")).unwrap();
    sealift
        .run(&[
            "save", "--from", &layout, "app:1", "--split", "250kB", "-o", "part.tar",
        ])
        .ok();
    let mut joined = Vec::new();
    for number in 1.. {
        match fs::read(sealift.path(&format!("part.tar.{number:03}"))) {
            Ok(bytes) => joined.extend(bytes),
            Err(_) => break,
        }
    }
    assert!(joined == whole);
    for file in ["part.tar", "part.tar.001"] {
        sealift.run(&["verify", file]).ok();
    }
    let piped = sealift
        .command(&["save", "--from", &layout, "app:1", "-o", "-"])
        .output()
        .unwrap();
    assert!(piped.stdout == whole);
    let mut verify = sealift.command(&["verify", "-"]);
    let mut child = verify
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::copy(&mut whole.as_slice(), &mut child.stdin.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());

    fs::remove_file(sealift.path("part.tar.002")).unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("verify part.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify part.tar
    2> error: cannot open part.tar.002: this part is missing
    2> hint: copy every part into one folder
    exit 3
    ");
}

#[test]
fn a_closed_pipe_ends_a_save_quietly() {
    let sealift = Sealift::new();
    let (layout, _) = built(&sealift, "app");
    let mut child = sealift
        .command(&["save", "-q", "--from", &layout, "app:1", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // As cat and tar end, so that `set -o pipefail` sees it.
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&output.status),
        Some(13)
    );
}

#[test]
fn archives_of_other_tools_are_sources() {
    let sealift = Sealift::new();
    let (layout, image) = built(&sealift, "app");
    let registry = Registry::start();
    registry.push(&image, "library/app:1");
    let manifest = &image.host().digest;
    let skopeo = |target: &str, extra: &[&str]| {
        let mut command = Command::new("skopeo");
        command.args(["copy", "-q", "--src-tls-verify=false"]).args(extra);
        run(command
            .arg(format!("docker://{}/library/app:1", registry.address()))
            .arg(target))
        .ok();
    };
    let path = |name: &str| sealift.path(name).display().to_string();
    skopeo(&format!("oci-archive:{}", path("nameless.tar")), &[]);
    skopeo(
        &format!("oci-archive:{}:docker.io/library/app:1", path("named.tar")),
        &[],
    );
    skopeo(&format!("oci-archive:{}:1", path("all.tar")), &["--all"]);
    skopeo(&format!("oci:{}:1", path("folder")), &[]);
    for (file, digest) in [
        ("nameless.tar", manifest),
        ("named.tar", manifest),
        ("all.tar", &image.digest),
        ("folder", manifest),
    ] {
        sealift
            .run(&["save", "--from", file, "app:1", "-o", "ours.tar"])
            .ok();
        let list = sealift.run(&["list", "--json", "ours.tar"]).ok().json();
        assert_eq!(
            list["archives"][0]["images"][0]["digest"],
            digest.as_str(),
            "{file}"
        );
        sealift.run(&["verify", "ours.tar"]).ok();
    }
    let storage = [
        "--root",
        &path("podman"),
        "--runroot",
        &path("podman-run"),
        "--storage-driver",
        "vfs",
    ]
    .map(str::to_owned);
    let podman = |args: &[&str]| {
        run(Command::new("podman")
            .args(&storage)
            .args(args)
            .current_dir(sealift.home()))
    };
    podman(&["load", "-q", "-i", "ours.tar"]).ok();
    podman(&[
        "save",
        "-q",
        "--format",
        "oci-archive",
        "-o",
        "podman.tar",
        "docker.io/library/app:1",
    ])
    .ok();
    // podman wrote the manifest, so no registry has its digest.
    let save = [
        "save",
        "--offline",
        "--from",
        "podman.tar",
        "app:1",
        "-o",
        "from-podman.tar",
    ];
    let said = sealift.run(&save).code(6).stderr;
    assert!(
        said.contains("the digest is recorded, not proven: app:1"),
        "{said}"
    );
    sealift.run(&["verify", "from-podman.tar"]).ok();
    drop(layout);
}

#[test]
fn a_copy_is_as_private_as_its_archive() {
    use std::os::unix::fs::PermissionsExt as _;
    let sealift = Sealift::new();
    let (layout, _) = built(&sealift, "app");
    let mode = |file: &str| fs::metadata(sealift.path(file)).unwrap().permissions().mode() & 0o777;
    let save = |from: &str, more: &[&str]| {
        let args = [&["save", "--from", from, "-o", "copy.tar"], more].concat();
        sealift.run(&args).ok();
    };
    save(&layout, &["app:1"]);
    let open = mode("copy.tar");
    assert_eq!(open & 0o004, 0o004, "{open:o}");
    fs::rename(sealift.path("copy.tar"), sealift.path("app.tar")).unwrap();
    save("app.tar", &[]);
    assert_eq!(mode("copy.tar"), open);
    fs::set_permissions(sealift.path("app.tar"), fs::Permissions::from_mode(0o640)).unwrap();
    save("app.tar", &[]);
    assert_eq!(mode("copy.tar"), 0o600);
    save("app.tar", &["--split", "200kB"]);
    assert_eq!((mode("copy.tar.001"), mode("copy.tar.002")), (0o600, 0o600));

    let shell = |line: &str| run(&mut sealift.shell(line)).ok();
    shell("sealift save --from - -o copy.tar < app.tar");
    assert_eq!(mode("copy.tar"), 0o600, "standard input");
    shell("sealift load app.tar --to oci:private");
    save("private", &[]);
    assert_eq!(mode("copy.tar"), 0o600, "a folder");
    fs::set_permissions(sealift.path("private"), fs::Permissions::from_mode(0o755)).unwrap();
    save("private", &[]);
    assert_eq!(mode("copy.tar"), 0o600, "a folder with blobs that are private");
}
