//! Broken archives, one for each way to be broken, each tied to what it must be found to be.
//!
//! The programs here make them; `testdata/bad` holds what they make, for other tools to be tried on.
//! `SEALIFT_REGENERATE=1 cargo test --test archive` writes them anew.

mod choices;
mod contents;
mod docker_saves;
mod graphs;
mod names;
mod provenance;
mod readers;
pub mod referrers;
mod tars;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use sealift::archive;
use sealift::interrupt::Interrupt;
use sealift::progress::Silent;
use sealift::verify::Options;
use sealift::{Error, ErrorKind};

use crate::good::{check, codes, open};

/// A broken archive.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Codes of everything that must be found, in order of the alphabet.
    pub codes: &'static [&'static str],
    /// What the message must say: where, and what.
    pub says: &'static str,
}

/// A case; `says` is a part of the one message or, for several findings, of any of them.
pub fn case(name: &'static str, codes: &'static [&'static str], says: &'static str, bytes: Vec<u8>) -> Case {
    Case {
        name,
        bytes,
        codes,
        says,
    }
}

/// Larger ones are made when they are needed.
const KEPT: usize = 64 << 10;

fn all() -> Vec<Case> {
    let mut cases = tars::cases();
    cases.extend(contents::cases());
    cases.extend(graphs::cases());
    cases.extend(provenance::cases());
    cases.extend(choices::cases());
    cases.extend(names::cases());
    cases.extend(docker_saves::cases());
    cases.extend(readers::cases());
    cases.extend(referrers::cases());
    cases
}

/// What is found, and whether that makes the archive bad.
fn findings(case: &Case) -> (Vec<&'static str>, Vec<String>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&case.bytes).unwrap();
    let layout = match open(file.path()) {
        Ok(layout) => layout,
        Err(Error::Refused(finding)) => {
            let message = finding.to_string();
            let at = file.path().display().to_string();
            assert!(
                message.starts_with(&at),
                "{}: no archive in {message:?}",
                case.name
            );
            assert_eq!(Error::Refused(finding.clone()).kind(), ErrorKind::Content);
            return (vec![finding.problem.code()], vec![message]);
        }
        Err(error) => panic!("{}: {error}", case.name),
    };
    let options = Options {
        max_layer_size: 1 << 20,
        ..Options::default()
    };
    let mut report = check(&*layout, &options);
    if report.is_good() {
        return (vec!["good"], Vec::new());
    }
    assert!(
        report.images.iter().any(|image| !image.is_good) || case.name.starts_with("unreferenced"),
        "{}: every image passes as good",
        case.name
    );
    let messages = report.findings.iter().map(ToString::to_string).collect();
    report.findings.retain(sealift::Finding::is_error);
    let codes = codes(&report);
    assert_eq!(report.into_good().unwrap_err().kind(), ErrorKind::Content);
    (codes, messages)
}

#[test]
fn each_bad_archive_has_the_expected_findings() {
    let mut wrong = Vec::new();
    for case in all() {
        let (codes, messages) = findings(&case);
        let said = messages.iter().any(|message| message.contains(case.says));
        if codes != case.codes || !said {
            wrong.push(format!(
                "{}: {codes:?}, expected {:?}, saying {:?}: {messages:#?}",
                case.name, case.codes, case.says
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_is_documented() {
    let documented = include_str!("../../docs/json.md");
    let codes: BTreeSet<&str> = all().iter().flat_map(|case| case.codes.iter().copied()).collect();
    let missing: Vec<&str> = codes
        .into_iter()
        .filter(|code| *code != "good" && !documented.contains(&format!("`{code}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn testdata_is_what_the_programs_make() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/bad");
    let cases = all();
    let kept = cases.iter().filter(|case| case.bytes.len() <= KEPT);
    let kept: Vec<(String, &Case)> = kept.map(|case| (format!("{}.tar", case.name), case)).collect();
    if std::env::var_os("SEALIFT_REGENERATE").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, case) in &kept {
            std::fs::write(folder.join(name), &case.bytes).unwrap();
        }
    }
    let here: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(here, kept.iter().map(|(name, _)| name.clone()).collect());
    for (name, case) in kept {
        assert!(std::fs::read(folder.join(&name)).unwrap() == case.bytes, "{name}");
    }
}

#[test]
fn an_interrupt_ends_a_verification() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&crate::images::Sample::plain().tar()).unwrap();
    let layout = open(file.path()).unwrap();
    let interrupt = Interrupt::default();
    interrupt.stop();
    let outcome = archive::verify(&*layout, &Options::default(), &Silent, &interrupt);
    assert!(matches!(outcome, Err(Error::Interrupted)));
}
