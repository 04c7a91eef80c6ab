//! Escapes text from outside before it is printed: archives, registries and engines must not control a terminal
//! or forge a line of output.

use std::borrow::Cow;
use std::fmt;

/// Displays text with control characters, line breaks and bidirectional overrides escaped.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for char in self.0.chars() {
            if is_hostile(char) {
                write!(f, "{}", char.escape_unicode())?;
            } else {
                f.write_char(char)?;
            }
        }
        Ok(())
    }
}

/// Whether a character would act on a terminal instead of being printed.
pub fn is_hostile(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{061c}')
}

/// Replaces passwords in `user:password@host`, in text that was given as a name or an address and is none.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return text.into();
    }
    let words = text.split_inclusive(char::is_whitespace);
    words.map(without_password).collect::<String>().into()
}

/// Replaces the password of one word.
fn without_password(word: &str) -> Cow<'_, str> {
    let is_digest = |rest: &str| ["sha256:", "sha512:"].iter().any(|name| rest.starts_with(name));
    let mut ends = word.rmatch_indices('@').map(|(at, _)| at);
    let end = ends.find(|at| word.get(at + 1..).is_some_and(|rest| !is_digest(rest)));
    let parts = end.and_then(|end| word.split_at_checked(end));
    let Some((before, after)) = parts else {
        return word.into();
    };
    let scheme = before.find("://").map_or(0, |at| at + 3);
    let user = before.get(scheme..).and_then(|user| user.split_once(':'));
    match user {
        Some((name, password)) if !begins_with_a_port(password) => {
            format!("{}{name}:***{after}", word.get(..scheme).unwrap_or_default()).into()
        }
        _ => word.into(),
    }
}

/// Whether text continues the name of a host: a port and a path.
fn begins_with_a_port(text: &str) -> bool {
    let port = text.split_once('/').map(|(port, _)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Quotes a word for a shell, for commands that can be pasted.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, without_passwords};

    #[test]
    fn passwords_are_replaced_and_digests_are_not() {
        let digest = format!("app:1@sha256:{}", "a".repeat(64));
        for (text, shown) in [
            ("user:secret@h/x:1", "user:***@h/x:1"),
            (
                "'https://user:se/c@ret@h:5000/x:1' is none",
                "'https://user:***@h:5000/x:1' is none",
            ),
            ("docker.io=https://user:secret@h", "docker.io=https://user:***@h"),
            ("registry://user:secret@h.io/a", "registry://user:***@h.io/a"),
            (
                &format!("user:secret@h/{digest}"),
                &format!("user:***@h/{digest}"),
            ),
            (
                &format!("127.0.0.1:5000/{digest} is missing"),
                &format!("127.0.0.1:5000/{digest} is missing"),
            ),
            ("someone@host: who", "someone@host: who"),
            ("127.0.0.1:5000/app@md5:ab", "127.0.0.1:5000/app@md5:ab"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let shown = Escaped("a\u{1b}[2J\nb\u{202e}c\u{9b}é").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{9b}é");
    }
}
