//! The engine's streamed responses: a sequence of JSON values, including errors.
//!
//! Source: moby, `pkg/jsonmessage`.

use std::cell::Cell;
use std::io::{self, Read};

/// Largest message, in bytes. Progress has a few hundred, errors a few thousand.
const MAX_MESSAGE: usize = 1 << 20;

/// One message of a stream.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text of a load or build.
    pub stream: Option<String>,
    /// The current step of a pull.
    pub status: Option<String>,
    /// The object of that step.
    pub id: Option<String>,
    /// An error, in the form for old clients.
    error: Option<String>,
    /// An error.
    #[serde(rename = "errorDetail")]
    error_detail: Option<Detail>,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Detail {
    message: String,
}

/// The containerd store reports this like normal output, after `Loaded image`.
const DISGUISED: &str = "Error unpacking image";

impl Message {
    /// The error in this message, if it has one.
    pub fn failure(&self) -> Option<&str> {
        if let Some(detail) = &self.error_detail {
            return Some(&detail.message);
        }
        if let Some(error) = &self.error {
            return Some(error);
        }
        let text = self.stream.as_deref()?.trim_end();
        text.starts_with(DISGUISED).then_some(text)
    }
}

/// How a stream ended.
#[derive(Debug)]
pub enum End {
    /// With its last message, without an error.
    Whole,
    /// With an error of the engine; the first one is kept.
    Failed(String),
    /// In the middle: the connection was lost, or it is not such a stream.
    Broken(io::Error),
}

/// Reads at most this many bytes for one message.
struct Limited<'a, R> {
    body: R,
    left: &'a Cell<usize>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "a message of more than {MAX_MESSAGE} bytes"
            )));
        }
        let count = self.body.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left.set(self.left.get().saturating_sub(count));
        Ok(count)
    }
}

/// Reads a stream to its end.
pub fn read(body: impl Read, mut each: impl FnMut(&Message)) -> End {
    let left = Cell::new(MAX_MESSAGE);
    let body = io::BufReader::new(Limited { body, left: &left });
    let messages = serde_json::Deserializer::from_reader(body).into_iter::<Message>();
    let mut failure = None;
    for message in messages {
        left.set(MAX_MESSAGE);
        match message {
            Ok(message) => {
                each(&message);
                failure = failure.or_else(|| message.failure().map(str::to_string));
            }
            Err(error) => return failure.map_or_else(|| End::Broken(error.into()), End::Failed),
        }
    }
    failure.map_or(End::Whole, End::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> (usize, End) {
        let mut count = 0;
        let end = read(text.as_bytes(), |_| count += 1);
        (count, end)
    }

    #[test]
    fn errors_are_seen_wherever_they_stand() {
        for (text, messages, fails_with) in [
            (r#"{"stream":"Loaded image: a:1\n"}"#, 1, None),
            ("", 0, None),
            (
                "{\"stream\":\"Loaded image: a:1\\n\"}\r\n{\"stream\":\"Error unpacking image a:1: apply layer error\\n\"}\n",
                2,
                Some("Error unpacking image a:1: apply layer error"),
            ),
            (
                r#"{"status":"x"}{"errorDetail":{"message":"invalid diffID"},"error":"invalid diffID"}"#,
                2,
                Some("invalid diffID"),
            ),
            (
                r#"{"error":"first"}{"error":"second"}{"stream":"fine"}"#,
                3,
                Some("first"),
            ),
        ] {
            let (count, end) = outcome(text);
            assert_eq!(count, messages, "{text}");
            match (end, fails_with) {
                (End::Whole, None) => {}
                (End::Failed(found), Some(expected)) => assert_eq!(found, expected),
                (end, _) => panic!("{text}: {end:?}"),
            }
        }
        for cut in [r#"{"stream":"Loaded"#, "<html>"] {
            assert!(matches!(outcome(cut).1, End::Broken(_)), "{cut}");
        }
        let long = |length: usize| format!(r#"{{"stream":"{}"}}"#, "x".repeat(length));
        assert!(matches!(
            outcome(&long(MAX_MESSAGE + (1 << 14))).1,
            End::Broken(_)
        ));
        let many = long(MAX_MESSAGE / 2).repeat(5);
        assert!(matches!(outcome(&many), (5, End::Whole)));
        // The engine reported the error before the connection was lost.
        assert!(matches!(
            outcome(r#"{"error":"no space"}{"str"#).1,
            End::Failed(_)
        ));
    }
}
