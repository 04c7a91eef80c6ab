//! Whether docs/json.md names what is in a document.

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
