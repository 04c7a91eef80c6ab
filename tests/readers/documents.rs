//! Manifests, indexes, configs, `manifest.json` and `oci-layout`, changed in keys, values and bytes.

use std::io::Write as _;
use std::path::Path;

use sealift::archive::format::DockerImage;
use sealift::archive::segments::Segments;
use sealift::archive::{Opened, Options};
use sealift::oci::schema::{self, Schema};
use sealift::oci::{Config, Document, MediaType, json};
use serde_json::{Value, json};

use crate::random::Random;
use crate::server::Go;
use crate::{Verdict, on_all_inputs, program};

/// The letters that the server knows documents by, and what sealift checks them against.
const KINDS: [(u8, &Schema); 4] = [
    (b'd', &schema::DOCUMENT),
    (b'c', &schema::CONFIG),
    (b'm', &schema::MANIFEST_JSON),
    (b'o', &schema::LAYOUT),
];

/// Right documents, by the letters of their kinds: what tools wrote, and one with every field for each struct.
fn originals() -> Vec<(u8, String)> {
    let mut go = Go::start(program());
    let samples = go.ask(b's', b"");
    go.stop();
    let mut all = Vec::new();
    for (letter, _) in KINDS {
        for sample in samples[char::from(letter).to_string()].as_array().unwrap() {
            let mut sample = sample.clone();
            if sample.get("manifests").is_some() {
                sample["mediaType"] = MediaType::OCI_INDEX.into();
            }
            all.push((letter, sample.to_string()));
        }
    }
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/manifests")).unwrap() {
        all.push((b'd', std::fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    all.push((b'd', r#"{"fsLayers":[],"signatures":[]}"#.into()));
    all.sort();
    all
}

/// Which objects are free maps: there, a key is only itself.
const FREE: [&str; 5] = ["annotations", "Labels", "ExposedPorts", "Volumes", "LayerSources"];

/// Every object of a document whose keys are fields, as JSON pointers.
fn structs(value: &Value, at: String, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                structs(field, format!("{at}/{}", key.replace('/', "~1")), key, found);
            }
            if !FREE.contains(&name) {
                found.push(at);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                structs(item, format!("{at}/{number}"), "", found);
            }
        }
        _ => {}
    }
}

/// Other keys that Go takes for a key.
fn variants(key: &str) -> Vec<String> {
    let flipped = |c: char| {
        if c.is_ascii_lowercase() {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    };
    let mut all = vec![
        key.to_ascii_uppercase(),
        key.to_ascii_lowercase(),
        key.chars().map(flipped).collect(),
    ];
    for (from, to) in [
        ("s", "\u{17f}"),
        ("S", "\u{17f}"),
        ("k", "\u{212a}"),
        ("K", "\u{212a}"),
    ] {
        all.push(key.replacen(from, to, 1));
    }
    all.retain(|variant| variant != key);
    all
}

#[test]
fn every_field_of_gos_structs_is_known() {
    let mut go = Go::start(program());
    for (letter, text) in originals() {
        let (_, schema) = KINDS.iter().find(|(known, _)| *known == letter).unwrap();
        json::check(text.as_bytes(), schema).unwrap_or_else(|error| panic!("{text}: {error}"));
        let original: Value = serde_json::from_str(&text).unwrap();
        let whole = go.ask(letter, text.as_bytes());
        assert_eq!(whole["error"], Value::Null, "{text}");
        let mut objects = Vec::new();
        structs(&original, String::new(), "", &mut objects);
        for at in &objects {
            let fields = original.pointer(at).unwrap().as_object().unwrap();
            for (key, variant) in fields
                .keys()
                .flat_map(|key| variants(key).into_iter().map(move |variant| (key, variant)))
            {
                let mut renamed = original.clone();
                let object = renamed.pointer_mut(at).unwrap().as_object_mut().unwrap();
                let field = object.remove(key).unwrap();
                object.insert(variant.clone(), field);
                let renamed = renamed.to_string();
                let error = json::check(renamed.as_bytes(), schema)
                    .expect_err(&renamed)
                    .to_string();
                assert!(
                    error.contains("Go programs such as Docker take it for that"),
                    "{error}"
                );
                assert_eq!(go.ask(letter, renamed.as_bytes()), whole, "Go sees no difference");
            }
        }
    }
    go.stop();
}

const JUNK: [&str; 18] = [
    "null",
    "0",
    "1",
    "-1",
    "1.0",
    "1e3",
    "9223372036854775808",
    "\"x\"",
    "\"\"",
    "[]",
    "{}",
    "[\"x\"]",
    "{\"a\":\"b\"}",
    "true",
    "\"2023-11-14T22:13:20Z\"",
    "[{}]",
    "[null]",
    "\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"",
];

const NUMBERS: [&str; 12] = [
    "1.0",
    "1e0",
    "-0",
    "-1",
    "01",
    "0x1",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e999",
    "\"1\"",
    "+1",
];

const PIECES: [&[u8]; 12] = [
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\u00e9",
    b"\xff",
    b"\xc3\xa9",
    b"\n",
    b"\\/",
    b"\\u2028",
    b"\\x41",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
];

/// A random position of a byte in a text.
fn position(bytes: &[u8], random: &mut Random, is_wanted: impl Fn(usize) -> bool) -> Option<usize> {
    let all: Vec<usize> = (0..bytes.len()).filter(|at| is_wanted(*at)).collect();
    (!all.is_empty()).then(|| all[random.below(all.len())])
}

/// Where a key begins, and the key.
fn key(bytes: &[u8], random: &mut Random) -> Option<(usize, String)> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let ends: Vec<usize> = text.match_indices("\":").map(|(at, _)| at).collect();
    if ends.is_empty() || text.len() != bytes.len() {
        return None;
    }
    let end = ends[random.below(ends.len())];
    let begin = text[..end].rfind('"')?;
    Some((begin, text[begin + 1..end].to_string()))
}

fn replace(bytes: &mut Vec<u8>, at: usize, count: usize, with: &[u8]) {
    let end = bytes.len().min(at + count);
    bytes.splice(at..end, with.iter().copied());
}

/// Changes one thing in a document.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(12) {
        0..5 => {
            let Some((at, name)) = key(bytes, random) else {
                return;
            };
            let mut names = variants(&name);
            names.push(name.clone());
            names.push("unknown".into());
            names.push(name.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect());
            let other = names[random.below(names.len())].clone();
            let junk = random.one_of(&JUNK);
            match random.below(4) {
                // Renamed, or another one before it.
                0 => replace(bytes, at + 1, name.len(), other.as_bytes()),
                1 | 2 => replace(bytes, at, 0, format!("\"{other}\":{junk},").as_bytes()),
                // Another one at the end of an object.
                _ => {
                    let end = position(bytes, random, |at| bytes[at] == b'}');
                    if let Some(end) = end {
                        replace(bytes, end, 0, format!(",\"{other}\":{junk}").as_bytes());
                    }
                }
            }
        }
        5 => {
            let number = position(bytes, random, |at| {
                bytes[at] == b':' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
            });
            if let Some(at) = number {
                let count = bytes[at + 1..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                replace(bytes, at + 1, count, random.one_of(&NUMBERS).as_bytes());
            }
        }
        6 => {
            // A string for something else, or the other way round.
            let value = position(bytes, random, |at| {
                bytes[at] == b':' && bytes.get(at + 1) == Some(&b'"')
            });
            if let Some(at) = value {
                let count = bytes[at + 2..].iter().take_while(|byte| **byte != b'"').count() + 2;
                replace(bytes, at + 1, count, random.one_of(&JUNK).as_bytes());
            }
        }
        7 => {
            let inside = position(bytes, random, |at| bytes[at].is_ascii_alphanumeric());
            if let Some(at) = inside {
                let piece = random.one_of(&PIECES);
                replace(bytes, at, random.below(2), piece);
            }
        }
        8 => {
            let letter = position(bytes, random, |at| bytes[at].is_ascii_alphabetic());
            if let Some(at) = letter {
                let escaped = format!("\\u{:04x}", bytes[at]);
                replace(bytes, at, 1, escaped.as_bytes());
            }
        }
        9 => {
            let tail = random.one_of(&[&b" {}"[..], b"\n", b"null", b"}", b"\0", b" \t\r\n"]);
            bytes.extend(tail);
        }
        10 => {
            let at = random.below(bytes.len());
            let byte = random.one_of(&[b"{", b"}", b"[", b"]", b",", b":", b"\"", b" ", b"0", b"\\"])[0];
            bytes[at] = byte;
        }
        _ => {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
    }
}

/// Values without what is as good as absent.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| (key.clone(), plain(field)));
            fields.filter(|(_, field)| !is_nothing(field)).collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => [json!(null), json!(""), json!(0), json!(false)].contains(other),
    }
}

/// Descriptors as a struct of Go's may have them.
fn without(mut descriptors: Value, absent: &[&str]) -> Value {
    let strip = |descriptor: &mut Value| {
        if let Some(fields) = descriptor.as_object_mut() {
            fields.retain(|key, _| !absent.contains(&key.as_str()));
            if let Some(platform) = fields.get_mut("platform").and_then(Value::as_object_mut) {
                platform.remove("features");
            }
        }
    };
    match &mut descriptors {
        Value::Array(items) => items.iter_mut().for_each(strip),
        one => strip(one),
    }
    match plain(&descriptors) {
        nothing if is_nothing(&nothing) => Value::Null,
        something => something,
    }
}

/// What sealift has of a document, beside what Go's structs have of it; empty if it refuses the document.
fn pairs(letter: u8, bytes: &[u8], go: &Value) -> Vec<(Value, Value)> {
    let to_value = |value: &dyn Fn() -> serde_json::Result<Value>| value().unwrap();
    let manifest_json = go["as"]["[]main.ManifestItem"].clone();
    let go = |name: &str, field: &str| go["as"][format!("main.{name}")][field].clone();
    let mut pairs = Vec::new();
    let mut pair = |ours: &Value, theirs: Value, absent: &[&str]| {
        pairs.push((without(ours.clone(), absent), without(theirs, absent)));
    };
    match letter {
        b'd' => {
            for media_type in [
                MediaType::OCI_INDEX,
                MediaType::DOCKER_LIST,
                MediaType::OCI_MANIFEST,
                MediaType::DOCKER_MANIFEST,
            ] {
                match Document::parse(&MediaType::new(media_type), bytes.to_vec()) {
                    Ok(Document::Index(index)) => {
                        let ours = to_value(&|| serde_json::to_value(&index.manifests));
                        pair(&ours, go("Index", "manifests"), &["data"]);
                        pair(&ours, go("ManifestList", "manifests"), &["data", "artifactType"]);
                        pair(
                            &to_value(&|| serde_json::to_value(&index.annotations)),
                            go("Index", "annotations"),
                            &[],
                        );
                    }
                    Ok(Document::Manifest(manifest)) => {
                        for (field, ours) in [
                            ("config", to_value(&|| serde_json::to_value(&manifest.config))),
                            ("layers", to_value(&|| serde_json::to_value(&manifest.layers))),
                        ] {
                            pair(&ours, go("Manifest", field), &["data"]);
                            pair(&ours, go("Schema2", field), &["data", "artifactType"]);
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        b'c' => {
            if let Ok(config) = Config::parse(bytes) {
                for name in ["Image", "DockerImage", "MobyImage"] {
                    let ours = to_value(&|| serde_json::to_value(&config.platform));
                    let theirs: Value = ["os", "architecture", "variant", "os.version"]
                        .map(|field| (field.to_string(), go(name, field)))
                        .into_iter()
                        .collect();
                    pair(&ours, theirs, &["os.features"]);
                    let diff_ids = to_value(&|| serde_json::to_value(&config.diff_ids));
                    pair(&diff_ids, go(name, "rootfs")["diff_ids"].clone(), &[]);
                }
            }
        }
        b'm' => {
            if let Ok(images) = json::decode::<Vec<DockerImage>>(bytes, &schema::MANIFEST_JSON) {
                let ours = to_value(&|| serde_json::to_value(&images));
                pair(&ours, manifest_json, &["Parent", "LayerSources"]);
            }
        }
        _ => {
            if opens(bytes) {
                pair(&"1.0.0".into(), go("ImageLayout", "imageLayoutVersion"), &[]);
            }
        }
    }
    pairs
}

/// Whether a layout with this `oci-layout` is opened.
fn opens(marker: &[u8]) -> bool {
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in [("oci-layout", marker), ("index.json", index)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len().try_into().unwrap());
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&builder.into_inner().unwrap()).unwrap();
    let segments = Segments::of_file("t", file, Path::new("t")).unwrap();
    matches!(Opened::tar(segments, &Options::default()), Ok(Opened::Layout(_)))
}

/// The input is the letter of its kind, and the document.
fn compare(input: &[u8], go: &mut Go) -> Result<Verdict, String> {
    let (letter, bytes) = input.split_first().unwrap();
    let answer = go.ask(*letter, bytes);
    let pairs = pairs(*letter, bytes, &answer);
    if pairs.is_empty() {
        return Ok(Verdict::Refused);
    }
    if let Some(error) = answer["error"].as_str() {
        return Err(format!("Go ends with {error:?}, here it is accepted"));
    }
    match pairs.iter().find(|(ours, theirs)| ours != theirs) {
        None => Ok(Verdict::Accepted),
        Some((ours, theirs)) => Err(format!("ours {ours}, theirs {theirs}")),
    }
}

#[test]
fn documents_that_are_accepted_are_the_same_to_go() {
    let originals = originals();
    let make = |random: &mut Random| {
        let (letter, text) = &originals[random.below(originals.len())];
        let mut bytes = text.clone().into_bytes();
        for _ in 0..random.below(3) {
            change(&mut bytes, random);
        }
        bytes.insert(0, *letter);
        bytes
    };
    on_all_inputs("document", make, compare);
}
