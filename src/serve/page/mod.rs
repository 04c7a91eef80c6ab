//! The page for people at `/`: the list of images with a search, and a page for each image.
//!
//! - `html`: builds HTML; only literals become markup, and everything else is escaped
//! - `list`: the list; `image`: one image; `commands`: the commands that pull an image
//!
//! A page is one document. Its style and its script are inline, and its security policy allows no other. The script adds
//! search while typing and the copy buttons; without it, the form sends the search.
//!
//! Tables state their ARIA roles, because browsers drop these when the style shows a table as a grid.

mod commands;
mod html;
mod image;
mod list;

use std::fmt::Display;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::commands::Site;
use self::html::Html;
use super::content::Content;
use super::target;
use crate::oci::Digest;
use crate::size::Size;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The `Content-Security-Policy` of a page: its own style and script, and requests to this server.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

fn hash(text: &str) -> String {
    STANDARD.encode(Digest::sha256(text.as_bytes()).bytes())
}

/// A page, and whether the image that was asked for is here.
pub(super) struct Shown {
    pub(super) is_found: bool,
    pub(super) html: String,
}

impl Shown {
    fn found(html: Html) -> Shown {
        Shown {
            is_found: true,
            html: html.finish(),
        }
    }
}

/// The page for a query: an image's, or the list. `None` if the `Host` header is not a host.
pub(super) fn page(
    content: &Content,
    query: Option<&str>,
    host: &str,
    is_tls: bool,
    is_private: bool,
) -> Option<Shown> {
    let site = Site::new(host, is_tls, is_private)?;
    let Some(name) = target::form_field(query, "image") else {
        return Some(list::page(content, &site, &list::Search::new(query)));
    };
    Some(match content.image(&name) {
        Some(image) => image::page(content, &site, image),
        None => missing(&name),
    })
}

fn missing(name: &str) -> Shown {
    let mut body = Html::default();
    body.raw("<header><p><a href=\"/\">All images</a></p><h1>Not here</h1></header><main><p>");
    body.text(target::shortened(name))
        .raw(" is not among the images of this registry.</p></main>");
    Shown {
        is_found: false,
        html: frame("Not here", body).finish(),
    }
}

/// The document around a body.
fn frame(title: &str, body: Html) -> Html {
    let mut html = Html::default();
    html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    html.text(title)
        .raw("</title><meta name=\"viewport\" content=\"width=device-width\">");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\"><style>");
    html.raw(STYLE)
        .raw("</style></head><body>")
        .append(body)
        .raw("<script>")
        .raw(SCRIPT);
    html.raw("</script></body></html>");
    html
}

/// Begins a table with these columns. Its rows and cells name their roles as well.
fn begin_table(body: &mut Html, class: &'static str, columns: &[&'static str]) {
    body.raw("<table role=\"table\" class=\"").raw(class);
    body.raw("\"><thead role=\"rowgroup\"><tr role=\"row\">");
    for column in columns {
        body.raw("<th scope=\"col\" role=\"columnheader\">")
            .raw(column)
            .raw("</th>");
    }
    body.raw("</tr></thead><tbody role=\"rowgroup\">");
}

/// A button that copies a text, where scripts run.
fn copy(body: &mut Html, text: &str, what: &'static str) {
    body.raw("<button type=\"button\" class=\"copy\" aria-label=\"Copy ")
        .raw(what)
        .raw("\" data-copy=\"");
    body.text(text).raw("\">Copy</button>");
}

fn size(bytes: u64) -> Size {
    Size(bytes)
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!(
        "{} {}",
        thousands(number),
        if number == 1 { one } else { several }
    )
}

/// A number with a comma before each three digits.
fn thousands(number: impl Display) -> String {
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
