//! Archives in parts of which some are missing, short, or of another archive.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use crate::support::{Image, Layer, Run, Sealift, Transcript, run};

/// `app.tar` in five parts or more, `other.tar` in as many, and all parts of both packed as one.
fn setup() -> (Sealift, usize) {
    let sealift = Sealift::new();
    for name in ["app", "other"] {
        let mut image = Image::small(name);
        let noise = Layer::new().noise(name, name.len() as u64, 2_200_000);
        image.platforms[0].1.push(noise);
        image.build(&sealift.path(name), "1");
        let (image, file) = (format!("{name}:1"), format!("{name}.tar"));
        let save = [
            "save", "-q", "--from", name, &image, "--split", "450kB", "-o", &file,
        ];
        sealift.run(&save).ok();
    }
    let parts = |name: &str| (1..).take_while(|n| part(&sealift, name, *n).exists()).count();
    let count = parts("app");
    assert!(count >= 5 && parts("other") >= 5);
    (sealift, count)
}

fn part(sealift: &Sealift, name: &str, number: usize) -> std::path::PathBuf {
    sealift.path(&format!("{name}.tar.{number:03}"))
}

/// The parts of `app.tar` that are left in a folder of their own, and what `verify` says of them.
fn left(sealift: &Sealift, numbers: &[usize], arguments: &[&str]) -> Run {
    let folder = sealift.path("left");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    for number in numbers {
        let from = part(sealift, "app", *number);
        fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    }
    run(sealift
        .command(&[&["verify", "-q"], arguments].concat())
        .current_dir(folder))
}

const COPY: &str = "copy every part into one folder";

#[test]
fn a_missing_part_is_named_wherever_it_belongs() {
    let (sealift, count) = setup();
    let all: Vec<usize> = (1..=count).collect();
    let without = |missing: &[usize]| -> Vec<usize> {
        all.iter()
            .copied()
            .filter(|number| !missing.contains(number))
            .collect()
    };
    let last = format!("{count:03}");
    let cases: &[(&[usize], &str, &str)] = &[
        (&[1], "001", COPY),
        (&[2], "002", COPY),
        (&[count], &last, COPY),
        (&[count - 1, count], &format!("{:03}", count - 1), COPY),
        (
            &[1, 3],
            "001",
            "app.tar.003 is missing too; copy every part into one folder",
        ),
        (
            &[2, 3, 4],
            "002",
            "app.tar.003, app.tar.004 are missing too; copy every part into one folder",
        ),
    ];
    for (missing, named, hint) in cases {
        let mut files = vec!["app.tar".to_string()];
        files.extend(
            without(missing)
                .first()
                .map(|number| format!("app.tar.{number:03}")),
        );
        for file in &files {
            let run = left(&sealift, &without(missing), &[file]).code(3);
            let said = format!("error: cannot open app.tar.{named}: this part is missing\nhint: {hint}\n");
            assert_eq!(run.stderr, said, "{missing:?} {file}");
        }
    }
    let run = left(&sealift, &[1], &["app.tar"]).code(3);
    let said = "error: cannot open app.tar.002: this part is missing\n\
                hint: copy every part into one folder; if there is no other, app.tar.001 was cut\n";
    assert_eq!(run.stderr, said);
}

#[test]
fn the_order_in_which_parts_are_given_makes_no_difference() {
    let (sealift, count) = setup();
    let mut names: Vec<String> = (1..=count).map(|number| format!("app.tar.{number:03}")).collect();
    names.reverse();
    let all: Vec<usize> = (1..=count).collect();
    let reversed: Vec<&str> = names.iter().map(String::as_str).collect();
    left(&sealift, &all, &reversed).ok();
    left(&sealift, &all, &["app.tar.002", "app.tar.001", "app.tar.002"]).ok();
    // Parts of two archives are two archives.
    let given = ["app.tar.001", "../other.tar.002", "app.tar.003"];
    let run = left(&sealift, &all, &[&given[..], &["--json"]].concat())
        .ok()
        .json();
    let archives: Vec<_> = run["archives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["archive"])
        .collect();
    assert_eq!(archives, ["app.tar.001", "../other.tar.002"]);
}

#[test]
fn a_part_that_was_cut_or_belongs_elsewhere_is_named() {
    let (sealift, count) = setup();
    let all: Vec<usize> = (1..=count).collect();
    let verify = |change: &str| {
        left(&sealift, &all, &["app.tar"]).ok();
        run(sealift.shell(change).current_dir(sealift.path("left"))).ok();
        run(sealift
            .command(&["verify", "-q", "app.tar"])
            .current_dir(sealift.path("left")))
    };
    let mut transcript = Transcript::of(&sealift);
    for number in ["001", "002"] {
        let change = format!("truncate -s 1000 app.tar.{number}");
        transcript.add(&change, &verify(&change));
    }
    // A part of the same size.
    let change = "head -c 450000 /dev/urandom > app.tar.001";
    transcript.add(change, &verify(change));
    assert_snapshot!(transcript.text(), @"
    $ truncate -s 1000 app.tar.001
    2> error: app.tar: its parts do not make a tar: app.tar.001 has 1000 bytes and app.tar.004 has 450000: one of them was truncated, or is a part of another archive
    2> hint: copy every part of this archive again, and no other, into one folder
    exit 1

    $ truncate -s 1000 app.tar.002
    2> error: app.tar: its parts do not make a tar: app.tar.002 has 1000 bytes and app.tar.004 has 450000: one of them was truncated, or is a part of another archive
    2> hint: copy every part of this archive again, and no other, into one folder
    exit 1

    $ head -c 450000 /dev/urandom > app.tar.001
    2> error: app.tar at byte 0: its parts do not make a tar: a header's checksum is wrong, or this is not a tar, in app.tar.001
    2> hint: copy every part of this archive again, and no other, into one folder
    exit 1
    ");
    let last = format!("app.tar.{count:03}");
    let cut = verify(&format!("truncate -s 700 {last}")).code(1);
    assert!(
        cut.stderr.contains("truncated: ") || cut.stderr.contains("was truncated"),
        "{}",
        cut.stderr
    );
    let old = verify(&format!("cp ../other.tar.001 app.tar.{:03}", count + 1)).code(1);
    assert!(old.stderr.contains(&last), "{}", old.stderr);
    // What is no header is found by its digest.
    verify("cp app.tar.003 app.tar.002").code(1);
}

#[test]
fn missing_parts_of_a_compressed_archive_are_reported_too() {
    let (sealift, _) = setup();
    let script =
        "cat app.tar.* | gzip -n > whole && split -b 300000 -a 3 --numeric-suffixes=1 whole app.tgz.";
    run(&mut sealift.shell(script)).ok();
    sealift.run(&["verify", "-q", "app.tgz"]).ok();
    let last = (1..)
        .take_while(|number| sealift.path(&format!("app.tgz.{number:03}")).exists())
        .last();
    let last = format!("app.tgz.{:03}", last.unwrap());
    run(Command::new("rm").arg(sealift.path(&last))).ok();
    let missing = sealift.run(&["verify", "-q", "app.tgz"]).code(3);
    let said = format!("error: cannot open {last}: this part is missing\nhint: {COPY}\n");
    assert_eq!(missing.stderr, said);

    run(&mut sealift.shell("head -c 300000 whole > cut.tar.gz")).ok();
    let cut = sealift.run(&["verify", "-q", "cut.tar.gz"]).code(1);
    let said = "error: cut.tar.gz: cannot be decompressed: it ends too early\n\
                hint: copy the archive again and compare its size\n";
    assert_eq!(cut.stderr, said);
}
