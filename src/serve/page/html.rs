//! HTML in which only literals of this program are markup.

use std::fmt::{Display, Write as _};

use crate::escape::is_hostile;

/// A piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Adds text, between tags or in a quoted attribute. What is markup is escaped, and so is what would act on the
    /// text around it, such as a change of its direction.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing to a string does not fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// Adds the same markup between the pieces of a list.
    pub(super) fn each<T>(
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
    pub(super) fn append(&mut self, other: Html) -> &mut Html {
        self.0.push_str(&other.0);
        self
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.0
    }
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
