//! Tables on terminals of several widths, and what `list` prints below each image.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Built, Image, Layer, Manifest, Sealift, image, run};

const NAME: &str = "registry.example.com/team/project/app:1";

/// An archive of one image with a long name.
fn saved(sealift: &Sealift) -> Built {
    let layout = sealift.path("layout");
    let image = Image::sample("app", "1").build(&layout, NAME);
    let save = ["save", "-q", "--from", "layout", NAME, "-o", "app.tar"];
    sealift.run(&save).ok();
    image
}

/// What a terminal of so many columns shows of standard output.
#[track_caller]
fn on_a_terminal_of(columns: u16, sealift: &Sealift, args: &[&str]) -> Vec<String> {
    let shown = drawn_on_a_terminal_of(columns, sealift, args);
    // Bars are drawn before anything else is printed.
    let lines = shown.lines().filter(|line| !line.contains('\u{1b}'));
    lines.map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

/// The same with progress bars, and what moves the cursor.
#[track_caller]
fn drawn_on_a_terminal_of(columns: u16, sealift: &Sealift, args: &[&str]) -> String {
    let inner = sealift.command(args);
    let words = std::iter::once(inner.get_program()).chain(inner.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let line = format!("stty cols {columns} && {}", words.join(" "));
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .current_dir(sealift.home());
    script
        .env("HOME", sealift.home())
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    run(&mut script).ok().stdout
}

#[test]
fn the_bar_of_a_phase_moves_with_its_blobs() {
    let sealift = Sealift::new();
    let noise = |seed| Layer::new().noise("noise", seed, 8_000_000);
    Image::single([1, 2, 3].map(noise).into()).build(&sealift.path("layout"), "app:1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    let drawn = drawn_on_a_terminal_of(120, &sealift, &["verify", "app.tar"]);
    let bars = drawn.split(['\r', '\n']).filter_map(|line| {
        let (_, bar) = line.split_once("verifying [")?;
        let (_, bytes) = bar.split_once("] ")?;
        Some(bytes.split_once('/')?.0)
    });
    let positions: std::collections::BTreeSet<&str> = bars.collect();
    assert!(positions.len() > 3, "{positions:?}: {drawn:?}");
}

#[test]
fn a_table_fits_the_terminal_that_it_is_printed_on() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let short = format!("sha256:{}", &image.digest["sha256:".len()..][..12]);
    let list = ["list", "app.tar"];
    let piped = sealift.run(&list).ok().stdout;
    assert!(piped.contains(&image.digest) && piped.contains(NAME), "{piped}");
    for columns in [300, 130, 100, 80, 60, 40, 20] {
        let shown = on_a_terminal_of(columns, &sealift, &list);
        let (last, table) = shown.split_last().unwrap();
        assert!(last.starts_with("archive sha256:"), "{shown:?}");
        let is_full = columns == 300;
        assert_eq!(
            table.join("\n").contains(&image.digest),
            is_full,
            "{columns}: {shown:?}"
        );
        let fits = |line: &String| line.chars().count() <= usize::from(columns);
        assert!(table.iter().all(fits), "{columns}: {shown:?}");
        assert_eq!(table[0].contains("SIZE"), columns >= 80, "{shown:?}");
        let has_room = columns >= 130 || columns == 40;
        assert_eq!(table[1].starts_with(NAME), has_room, "{shown:?}");
        if !is_full && columns > 40 {
            assert!(table[1].contains(&short), "{shown:?}");
        }
        let full = on_a_terminal_of(columns, &sealift, &["list", "--no-trunc", "app.tar"]);
        assert_eq!(full, piped.lines().collect::<Vec<_>>(), "{columns}");
    }
}

#[test]
fn reports_of_save_fit_too() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let save = ["save", "--from", "layout", NAME, "-o", "app.tar"];
    let shown = on_a_terminal_of(90, &sealift, &save).join("\n");
    assert!(
        !shown.contains(&image.digest) && shown.contains("registry.ex"),
        "{shown}"
    );
    let full = on_a_terminal_of(90, &sealift, &[&save[..], &["--no-trunc"]].concat()).join("\n");
    assert!(full.contains(&image.digest) && full.contains(NAME), "{full}");
}

#[test]
fn a_list_shows_every_digest_and_what_docker_will_show_as_image_id() {
    let sealift = Sealift::new();
    let image = saved(&sealift);
    let single = Image::sample("one", "1")
        .without_index()
        .build(&sealift.path("one"), "one:1");
    sealift
        .run(&["save", "-q", "--from", "one", "one:1", "-o", "one.tar"])
        .ok();
    let listed = sealift.run(&["list", "--json", "app.tar", "one.tar"]).ok().json();
    let first = &listed["archives"][0]["images"][0];
    assert_eq!(first["index"], json!(image.digest));
    assert_eq!(first["artifact"], json!(null));
    let variant = |manifest: &Manifest, root: &str| {
        json!({
            "platform": manifest.platform.to_string(),
            "digest": manifest.digest,
            "config": manifest.config,
            "image_id": { "classic": manifest.config, "containerd": root },
        })
    };
    let expected: Vec<_> = image
        .manifests
        .iter()
        .map(|one| variant(one, &image.digest))
        .collect();
    assert_eq!(first["manifests"], json!(expected));
    let second = &listed["archives"][1]["images"][0];
    assert_eq!(second["index"], json!(null));
    assert_eq!(
        second["manifests"],
        json!([variant(single.host(), &single.digest)])
    );

    let text = sealift.run(&["list", "app.tar"]).ok().stdout;
    let has = |words: &[&str]| {
        let line = text
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "{words:?}: {text}");
    };
    has(&["  index ", &image.digest, "IMAGE ID in a containerd store"]);
    for manifest in &image.manifests {
        let platform = manifest.platform.to_string();
        has(&[&format!("  {platform} manifest "), &manifest.digest]);
        has(&[
            &format!("  {platform} config "),
            &manifest.config,
            "IMAGE ID in a classic store",
        ]);
    }
    let text = sealift.run(&["list", "one.tar"]).ok().stdout;
    let line = text
        .lines()
        .find(|line| line.starts_with("  linux/") && line.contains(" manifest "))
        .unwrap();
    assert!(line.ends_with("IMAGE ID in a containerd store"), "{text}");
    let quiet = sealift.run(&["list", "-q", "app.tar"]).ok().stdout;
    assert_eq!(quiet.lines().count(), 3, "{quiet}");
}

#[test]
fn an_artifact_is_called_one() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    let kind = "application/vnd.cncf.helm.config.v1+json";
    image::artifact(&layout, "chart:1", kind);
    let save = ["save", "--from", "layout", "chart:1", "-o", "chart.tar"];
    let text = sealift.run(&save).ok().stdout;
    assert!(
        text.contains(&format!("chart:1: artifact of type {kind}, not an image")),
        "{text}"
    );
    let said = sealift.run(&[&save[..], &["--json"]].concat()).ok().json();
    assert_eq!(said["images"][0]["artifact"], json!(kind));
    let listed = sealift.run(&["list", "--json", "chart.tar"]).ok().json();
    let image = &listed["archives"][0]["images"][0];
    assert_eq!(image["artifact"], json!(kind));
    assert_eq!(image["manifests"][0]["image_id"], json!(null));
    let text = sealift.run(&["list", "chart.tar"]).ok().stdout;
    assert!(text.contains(kind) && !text.contains("IMAGE ID"), "{text}");
}
