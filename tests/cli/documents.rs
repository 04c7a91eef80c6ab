//! The documents: their links lead somewhere, their tables fit a terminal, and README is short.

use std::path::{Path, PathBuf};

/// The most lines of README, and the most characters of a cell in a table.
const README: usize = 120;
const CELL: usize = 120;

/// Every document, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [root.to_path_buf(), root.join("docs")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 10, "only {} were found", found.len());
    found
}

/// The targets of links to other documents and headings.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.starts_with("http")).collect()
}

/// The anchors that GitHub gives to the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings
        .map(|heading| anchor(heading.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut count = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let read = std::fs::read_to_string(&target);
            let target = read.unwrap_or_else(|error| panic!("{}: {link}: {error}", path.display()));
            let exists = heading.is_empty() || anchors(&target).iter().any(|anchor| anchor == heading);
            assert!(exists, "{}: {link}: no such heading", path.display());
            count += 1;
        }
    }
    assert!(count > 20, "only {count} were found");
}

#[test]
fn tables_fit_a_terminal() {
    for (path, text) in documents() {
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let longest = line.split('|').map(|cell| cell.trim().chars().count()).max();
            assert!(longest <= Some(CELL), "{}: {line}", path.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    let (_, text) = documents()
        .into_iter()
        .find(|(path, _)| path.ends_with("README.md"))
        .unwrap();
    assert!(text.lines().count() <= README, "README has over {README} lines");
}
