//! Progress on terminals and elsewhere.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::support::{Image, Layer, Sealift, image, run};

/// What sealift writes to a terminal of this width: standard output and standard error, with what moves the cursor.
#[track_caller]
pub fn drawn_on_a_terminal_of(columns: u16, term: &str, sealift: &Sealift, args: &[&str]) -> String {
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
        .env("TERM", term)
        .stdin(Stdio::null());
    run(&mut script).ok().stdout
}

/// A home with an archive of 24 MB, and a layout that it was saved from.
fn with_an_archive() -> Sealift {
    let sealift = Sealift::new();
    let noise = |seed| Layer::new().noise("noise", seed, 8_000_000);
    let image = Image {
        platforms: vec![(image::Platform::foreign(), [1, 2, 3].map(noise).into())],
        ..Image::single(Vec::new())
    };
    image.build(&sealift.path("layout"), "app:1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    sealift
}

/// The lines that are left on a terminal, and the longest that was on it.
fn screen(drawn: &str) -> (Vec<String>, usize) {
    let mut lines = vec![String::new()];
    let mut row = 0;
    let mut longest = 0;
    let mut chars = drawn.chars();
    let mut is_at_start = false;
    while let Some(char) = chars.next() {
        match char {
            '\n' => {
                row += 1;
                lines.truncate(row);
                lines.push(String::new());
            }
            '\r' => is_at_start = true,
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "{drawn:?}");
                let parameter: String = chars.by_ref().take_while(char::is_ascii_digit).collect();
                // What ends the number was taken: A moves up, J erases what follows the cursor, m is a colour.
                if let Ok(up) = parameter.parse::<usize>() {
                    row -= up;
                } else {
                    assert!(is_at_start, "{drawn:?}");
                    lines.truncate(row);
                    lines.push(String::new());
                }
            }
            char => {
                lines[row].push(char);
                longest = longest.max(lines[row].chars().count());
                is_at_start = false;
            }
        }
    }
    (lines, longest)
}

#[test]
fn the_bar_of_a_phase_moves_with_its_blobs() {
    let sealift = with_an_archive();
    let drawn = drawn_on_a_terminal_of(120, "xterm", &sealift, &["verify", "app.tar"]);
    let bars = drawn.split(['\r', '\n']).filter_map(|line| {
        let (_, bar) = line.split_once("verifying [")?;
        let (_, bytes) = bar.split_once("] ")?;
        Some(bytes.split_once(" of 24.0 MB")?.0)
    });
    let positions: BTreeSet<&str> = bars.collect();
    assert!(positions.len() > 3, "{positions:?}: {drawn:?}");
}

#[test]
fn progress_fits_a_narrow_terminal_and_leaves_nothing_on_it() {
    let sealift = with_an_archive();
    for (columns, start) in [(40, "verifying: "), (80, "   verifying [")] {
        let drawn = drawn_on_a_terminal_of(
            columns,
            "xterm",
            &sealift,
            &["verify", "--digests-only", "app.tar"],
        );
        let (bars, result) = drawn.rsplit_once("\u{1b}[J").unwrap();
        assert!(bars.contains(start), "{drawn:?}");
        let (_, longest) = screen(bars);
        assert!(longest < columns.into(), "{longest}: {drawn:?}");
        let (shown, _) = screen(&drawn);
        let expected: Vec<&str> = result.split("\r\n").collect();
        assert_eq!(shown, expected, "{drawn:?}");
        assert!(
            result.starts_with("app.tar: 5 blobs, 24.0 MB, digests only: all good\r\n"),
            "{drawn:?}"
        );
    }
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_the_messages() {
    let sealift = with_an_archive();
    let save = ["save", "--from", "layout", "app:1", "-o", "again.tar"];
    let foreign = image::Platform::foreign();
    for term in ["dumb", "xterm"] {
        let drawn = drawn_on_a_terminal_of(80, term, &sealift, &save);
        assert!(
            drawn.contains(&format!("note: app:1 is for {foreign} only\r\n")),
            "{drawn:?}"
        );
        assert_eq!(drawn.contains('\u{1b}'), term == "xterm", "{drawn:?}");
    }
}

#[test]
fn without_a_terminal_there_is_no_progress() {
    let sealift = with_an_archive();
    let run = sealift.run(&["verify", "app.tar"]).ok();
    assert_eq!(run.stderr, "");
    let run = sealift.run(&["verify", "-v", "app.tar"]).ok();
    assert!(run.stderr.starts_with("verifying: 24.0 MB\n"), "{}", run.stderr);
}
