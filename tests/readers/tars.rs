//! Archives and layers that sealift and Go read: what sealift accepts is the same to Go.

use std::io::{Read as _, Write as _};

use sealift::archive::segments::Segments;
use sealift::archive::tar_index::{LinkKind, TarIndex};
use sealift::archive::{self, Opened, Options};
use sealift::interrupt::Interrupt;
use sealift::oci::Digest;
use sealift::progress::Silent;
use sealift::verify;
use serde_json::Value;

use crate::images::{self, PLAIN, Sample};
use crate::server::Go;
use crate::tar_inputs::{Entry, USTAR, input, layer};
use crate::{Verdict, on_all_inputs};

/// Entries as sealift reads them in a file; `None` if it refuses the tar or finds something wrong with it.
fn ours(bytes: &[u8]) -> Option<Vec<(u64, Value)>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let segments = Segments::of_file("t", file, std::path::Path::new("t")).unwrap();
    entries(TarIndex::read(&segments).ok()?)
}

/// Entries as sealift reads them from a stream, plain or compressed.
fn streamed(bytes: &[u8]) -> Option<Vec<(u64, Value)>> {
    entries(TarIndex::read_stream("t", bytes, &Options::default()).ok()?)
}

fn entries(index: TarIndex) -> Option<Vec<(u64, Value)>> {
    if index.findings.iter().any(sealift::Finding::is_error) {
        return None;
    }
    let mut entries = Vec::new();
    for (name, stored) in index.files {
        let mut data = Vec::new();
        stored.reader(0).read_to_end(&mut data).unwrap();
        let digest = Digest::sha256(&data);
        entries.push((
            stored.offset.unwrap(),
            serde_json::json!({"type": "0", "name": name, "size": stored.size, "digest": digest}),
        ));
    }
    for link in index.links {
        let kind = match link.kind {
            LinkKind::Symbolic => "2",
            LinkKind::Hard => "1",
        };
        let entry = serde_json::json!({"type": kind, "name": link.name, "link": link.target});
        entries.push((link.offset, entry));
    }
    entries.sort_by_key(|(offset, _)| *offset);
    Some(entries)
}

/// Entries as Go reads them, without those that are neither files nor links.
fn theirs(answer: &Value) -> Vec<Value> {
    let entries = answer["entries"].as_array().unwrap().iter();
    let kept = entries.filter(|entry| !matches!(entry["type"].as_str(), Some("5" | "g" | "V")));
    kept.map(|entry| {
        let name = entry["name"].as_str().unwrap();
        let name = name.trim_start_matches("./");
        match entry["type"].as_str() {
            Some("1" | "2") => {
                serde_json::json!({"type": entry["type"], "name": name, "link": entry["link"]})
            }
            kind => serde_json::json!({
                "type": kind, "name": name, "size": entry["size"], "digest": entry["digest"],
            }),
        }
    })
    .collect()
}

fn compare(bytes: &[u8], go: &mut Go) -> Result<Verdict, String> {
    let ours = ours(bytes);
    let gzip = images::gzip(bytes);
    for (form, streamed) in [("plain", streamed(bytes)), ("gzip", streamed(&gzip))] {
        if streamed != ours {
            return Err(format!("in a file {ours:#?}, as a {form} stream {streamed:#?}"));
        }
    }
    let Some(ours) = ours else {
        return Ok(Verdict::Refused);
    };
    let answer = go.ask(b't', bytes);
    if let Some(error) = answer["error"].as_str() {
        return Err(format!("Go ends with {error:?}, here it is accepted"));
    }
    let ours: Vec<Value> = ours.into_iter().map(|(_, entry)| entry).collect();
    let theirs = theirs(&answer);
    match ours == theirs {
        true => Ok(Verdict::Accepted),
        false => Err(format!("ours {ours:#?}, theirs {theirs:#?}")),
    }
}

#[test]
fn archives_that_are_accepted_are_the_same_to_go() {
    on_all_inputs("tar", input, compare);
}

/// Whether a plain layer of these bytes is one that engines unpack, as a verification says.
fn is_layer(bytes: &[u8]) -> bool {
    let sample = Sample::new(vec![(PLAIN, bytes.to_vec(), bytes.to_vec())]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&sample.tar()).unwrap();
    let segments = Segments::of_file("t", file, std::path::Path::new("t")).unwrap();
    let Ok(Opened::Layout(layout)) = Opened::tar(segments, &Options::default()) else {
        panic!("the archive around it is good");
    };
    let options = verify::Options {
        jobs: std::num::NonZeroUsize::MIN,
        ..verify::Options::default()
    };
    let report = archive::verify(&*layout, &options, &Silent, &Interrupt::default()).unwrap();
    let codes: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.problem.code())
        .collect();
    assert!(codes.is_empty() || codes == ["layer"], "{codes:?}");
    codes.is_empty()
}

fn compare_layers(bytes: &[u8], go: &mut Go) -> Result<Verdict, String> {
    let answer = go.ask(b't', bytes);
    match (is_layer(bytes), answer["error"].as_str()) {
        (true, None) => Ok(Verdict::Accepted),
        (false, Some(_)) => Ok(Verdict::Refused),
        (true, Some(error)) => Err(format!("Go ends with {error:?}, here it is accepted")),
        (false, None) => Err("Go reads it, here it is refused".into()),
    }
}

#[test]
fn layers_are_refused_where_go_ends_with_an_error_and_only_there() {
    on_all_inputs("layer", layer, compare_layers);
}

#[test]
fn differences_from_go_would_be_noticed() {
    let mut go = Go::start(crate::program());
    let mut header = Entry::new(USTAR, b'0', b"x", b"four");
    header.mend(false);
    let whole = [&header.header[..], b"four", &[0; 508], &[0; 1024]].concat();
    assert_eq!(compare(&whole, &mut go), Ok(Verdict::Accepted));
    let shown = &go.ask(b't', &whole)["entries"][0];
    assert_eq!((&shown["name"], &shown["size"]), (&"x".into(), &4.into()));
    assert!(go.ask(b't', &whole[..514])["error"].is_string());
    go.stop();
}
