//! What documents say: whether docs/json.md names what is in a report, and the code of other documents.

use serde_json::Value;

/// Asserts that docs/json.md names every field of a document, at any depth.
#[track_caller]
pub fn assert_documented(document: &Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut fields = Vec::new();
    collect(document, &mut fields);
    fields.sort();
    fields.dedup();
    // Objects about each layer have digests as keys.
    fields.retain(|field| !field.starts_with("sha256:") && !text.contains(&format!("`{field}`")));
    assert!(fields.is_empty(), "not in docs/json.md: {fields:?}\n{document:#}");
}

fn collect(value: &Value, fields: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (field, value) in object {
                fields.push(field.clone());
                collect(value, fields);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, fields)),
        _ => {}
    }
}

/// The blocks of code in a section of a document in `docs`, as a reader would copy them. There must be as many as the
/// test knows of.
#[track_caller]
pub fn code_of<const N: usize>(document: &str, heading: &str) -> [String; N] {
    let path = format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let is_heading = |line: &&str| line.starts_with("## ");
    let lines = text
        .lines()
        .skip_while(|line| line.strip_prefix("## ") != Some(heading));
    let mut blocks = vec![String::new()];
    for line in lines.skip(1).take_while(|line| !is_heading(line)) {
        match line.strip_prefix("    ") {
            Some(code) => *blocks.last_mut().unwrap() += &format!("{code}\n"),
            None if line.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    let count = blocks.len();
    blocks
        .try_into()
        .unwrap_or_else(|_| panic!("{document}: {heading} has {count} blocks of code"))
}
