//! The page for people at `/`: the list of images with a search, and a page for each image.
//!
//! - `list`: the list; `image`: one image; `commands`: the commands that pull an image
//!
//! The script adds search while typing and the copy buttons; without it, the form sends the search.

mod commands;
mod image;
mod list;

use std::sync::LazyLock;

use self::commands::Site;
use super::content::Content;
use super::target;
use crate::html::{self, Html, Page};
use crate::size::Size;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The `Content-Security-Policy` of a page: its own style and script, and requests to this server.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        html::hashes(&[html::STYLE, STYLE]),
        html::hashes(&[SCRIPT])
    )
});

/// A page, and whether the image that was asked for is here.
pub(super) struct Shown {
    pub(super) is_found: bool,
    pub(super) html: String,
}

impl Shown {
    fn found(html: String) -> Shown {
        Shown { is_found: true, html }
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
        html: frame("Not here", body),
    }
}

/// The document around a body.
fn frame(title: &str, body: Html) -> String {
    let page = Page {
        title,
        policy: None,
        style: STYLE,
        script: Some(SCRIPT),
        body,
    };
    page.html()
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
