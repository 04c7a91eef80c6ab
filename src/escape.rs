//! Escapes text from outside before it is printed: archives, registries and engines must not control a terminal
//! or forge a line of output.

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
    use super::Escaped;

    #[test]
    fn nothing_acts_on_the_terminal() {
        let shown = Escaped("a\u{1b}[2J\nb\u{202e}c\u{9b}é").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{9b}é");
    }
}
