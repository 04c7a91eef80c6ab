//! HTML in which only literals of this program are markup, and what its pages have in common.
//!
//! A page is one document: its styles and its script are inline, and its policy allows no others.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::escape::is_hostile;
use crate::oci::Digest;

/// The style of every page: colours, type, tables, and lists of facts and digests.
pub const STYLE: &str = include_str!("base.css");

/// A piece of HTML.
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Adds markup.
    pub fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Adds text, between tags or in a quoted attribute. What is markup is escaped, and so is what would act on the
    /// text around it, such as a change of its direction.
    pub fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing to a string does not fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// Adds the same markup between the pieces of a list.
    pub fn each<T>(
        &mut self,
        list: impl IntoIterator<Item = T>,
        between: &'static str,
        mut piece: impl FnMut(&mut Html, T),
    ) -> &mut Html {
        for (at, item) in list.into_iter().enumerate() {
            if at > 0 {
                self.raw(between);
            }
            piece(self, item);
        }
        self
    }

    /// Adds other HTML.
    pub fn append(&mut self, other: Html) -> &mut Html {
        self.0.push_str(&other.0);
        self
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }

    /// Begins a table with these columns. Its rows and cells name their roles as well: browsers drop these when the
    /// style shows a table as a grid.
    pub fn begin_table(&mut self, class: &'static str, columns: &[&'static str]) -> &mut Html {
        self.raw("<table role=\"table\" class=\"").raw(class);
        self.raw("\"><thead role=\"rowgroup\"><tr role=\"row\">");
        for column in columns {
            self.raw("<th scope=\"col\" role=\"columnheader\">")
                .raw(column)
                .raw("</th>");
        }
        self.raw("</tr></thead><tbody role=\"rowgroup\">")
    }
}

/// A whole page.
#[derive(Debug, Default)]
pub struct Page<'a> {
    /// Its title.
    pub title: &'a str,
    /// Its `Content-Security-Policy`, if no header has it.
    pub policy: Option<&'a str>,
    /// The styles after [`STYLE`].
    pub style: &'static str,
    /// Its script, if it has one.
    pub script: Option<&'static str>,
    /// What is shown.
    pub body: Html,
}

impl Page<'_> {
    /// The document.
    pub fn html(self) -> String {
        let mut html = Html::default();
        html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
        if let Some(policy) = self.policy {
            html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"")
                .text(policy)
                .raw("\">");
        }
        html.raw("<title>")
            .text(self.title)
            .raw("</title><meta name=\"viewport\" content=\"width=device-width\">");
        html.raw("<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">");
        html.raw("<style>")
            .raw(STYLE)
            .raw("</style><style>")
            .raw(self.style);
        html.raw("</style></head><body>").append(self.body);
        if let Some(script) = self.script {
            html.raw("<script>").raw(script).raw("</script>");
        }
        html.raw("</body></html>");
        html.finish()
    }
}

/// The sources of a `Content-Security-Policy` that allow these inline styles or scripts.
pub fn hashes(texts: &[&str]) -> String {
    let hash = |text: &&str| {
        format!(
            "'sha256-{}'",
            STANDARD.encode(Digest::sha256(text.as_bytes()).bytes())
        )
    };
    texts.iter().map(hash).collect::<Vec<_>>().join(" ")
}

/// A number and what is counted.
pub fn count(number: usize, one: &str, several: &str) -> String {
    format!(
        "{} {}",
        thousands(number),
        if number == 1 { one } else { several }
    )
}

/// A number with a comma before each three digits.
pub fn thousands(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

struct Escaping<'a>(&'a mut String);

impl std::fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for char in text.chars() {
            match char {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                hostile if is_hostile(hostile) => write!(self.0, "{}", hostile.escape_unicode())?,
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.raw("<p title=\"")
            .text("\"><script>alert('x')</script>&amp;");
        html.raw("\">").text("a\u{202e}b\n\u{1b}[2J").raw("</p>");
        assert_eq!(
            html.finish(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;\">\
             a\\u{202e}b\\u{a}\\u{1b}[2J</p>"
        );
    }

    #[test]
    fn a_list_has_markup_between_its_pieces() {
        let mut html = Html::default();
        html.each(["a", "<", "c"], "<br>", |html, text| {
            html.text(text);
        });
        assert_eq!(html.finish(), "a<br>&lt;<br>c");
    }
}
