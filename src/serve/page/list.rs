//! The list of images, and the search in it.

use super::commands::Site;
use super::{Shown, copy, frame, size};
use crate::html::{Html, count, thousands};
use crate::image::provenance::Evidence;
use crate::serve::content::Content;
use crate::serve::images::ServedName;
use crate::serve::target;

/// Images on one page of the list.
const PAGE: usize = 50;
/// Platforms that a line of the list names.
const PLATFORMS: usize = 3;
/// Longest search, in characters.
const LONGEST: usize = 256;

/// What the list is asked for.
pub(super) struct Search {
    text: String,
    /// The first page is 1.
    page: usize,
}

impl Search {
    pub(super) fn new(query: Option<&str>) -> Search {
        let text = target::form_field(query, "q").unwrap_or_default();
        let page = target::form_field(query, "page").and_then(|page| page.parse().ok());
        Search {
            text: text.trim().chars().take(LONGEST).collect(),
            page: page.unwrap_or(1).max(1),
        }
    }

    /// The images that have each word of the search.
    fn find<'a>(&self, content: &'a Content) -> Vec<&'a ServedName> {
        let text = self.text.to_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let all = content.images().iter();
        all.filter(|image| words.iter().all(|word| image.has(word)))
            .collect()
    }

    /// The address of a page of the same search.
    fn address(&self, page: usize) -> String {
        format!("/?q={}&page={page}", target::encode(&self.text))
    }
}

/// The page with the list.
pub(super) fn page(content: &Content, site: &Site, search: &Search) -> Shown {
    let found = search.find(content);
    let pages = found.len().div_ceil(PAGE).max(1);
    let page = search.page.min(pages);
    let first = (page - 1).saturating_mul(PAGE);
    let shown = found.get(first..).unwrap_or_default();
    let shown = shown.get(..PAGE).unwrap_or(shown);

    let mut body = Html::default();
    body.raw("<header><h1>").text(&site.host).raw("</h1><p>");
    body.text(format_args!(
        "A read-only registry of sealift with {} in {}.",
        count(content.images().len(), "image", "images"),
        count(content.count(), "repository", "repositories")
    ));
    body.raw("</p></header><main><form action=\"/\" role=\"search\"><label for=\"q\">Search</label>");
    body.raw("<input id=\"q\" name=\"q\" type=\"search\" autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\" ");
    body.raw("placeholder=\"Name, digest, platform\" value=\"")
        .text(&search.text);
    body.raw("\"><button>Search</button></form><p id=\"status\" role=\"status\">");
    body.text(status(
        search,
        found.len(),
        first,
        shown.len(),
        content.images().len(),
    ));
    body.raw("</p><div id=\"results\">");
    match shown {
        [] => {
            body.raw("<p class=\"none\">No image matches.</p>");
        }
        shown => table(&mut body, content, shown),
    }
    if pages > 1 {
        turn(&mut body, search, page, pages);
    }
    body.raw("</div></main>");
    Shown::found(frame(&site.host, body))
}

fn status(search: &Search, found: usize, first: usize, shown: usize, all: usize) -> String {
    let images = match search.text.is_empty() {
        true => count(all, "image", "images"),
        false => format!("{} of {}", thousands(found), count(all, "image", "images")),
    };
    match shown < found {
        true => format!(
            "{images}, {} to {} shown",
            thousands(first + 1),
            thousands(first + shown)
        ),
        false => images,
    }
}

fn table(body: &mut Html, content: &Content, images: &[&ServedName]) {
    body.begin_table("images", &["Image", "Digest", "Platforms", "Evidence", "Size"]);
    for image in images {
        row(body, content, image);
    }
    body.raw("</tbody></table>");
}

fn row(body: &mut Html, content: &Content, image: &ServedName) {
    let overview = &image.overview;
    body.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\"><a href=\"")
        .text(image.address())
        .raw("\">");
    body.text(&image.label).raw("</a>");
    let referrers = content.referrers_of(image).count();
    if referrers > 0 {
        body.raw(" <span class=\"also\">")
            .text(count(referrers, "referrer", "referrers"))
            .raw("</span>");
    }
    let digest = image.digest();
    body.raw("</th><td role=\"cell\" class=\"digest\"><code title=\"")
        .text(digest)
        .raw("\">");
    body.text(digest.short()).raw("</code>");
    copy(body, &digest.to_string(), "digest");
    body.raw("</td><td role=\"cell\" class=\"platforms\">");
    match &overview.artifact_type {
        Some(_) => {
            body.text("artifact");
        }
        None => {
            let named = overview.platforms.iter().take(PLATFORMS);
            body.each(named, ", ", |body, platform| {
                body.text(platform);
            });
            let more = overview.platforms.len().saturating_sub(PLATFORMS);
            if more > 0 {
                body.text(format_args!(" and {more} more"));
            }
        }
    }
    body.raw("</td><td role=\"cell\" class=\"evidence\">");
    evidence(body, image);
    body.raw("</td><td role=\"cell\" class=\"number\">")
        .text(size(overview.size))
        .raw("</td></tr>");
}

/// The evidence for the digest in a word, and what a client will miss.
fn evidence(body: &mut Html, image: &ServedName) {
    let (word, is_plain) = match image.evidence() {
        Evidence::Verified => ("manifest", true),
        Evidence::Recorded => ("recorded", false),
        Evidence::None => ("none", false),
    };
    match is_plain {
        true => {
            body.text(word);
        }
        false => {
            body.raw("<span class=\"caution\">").text(word).raw("</span>");
        }
    }
    if !image.is_complete {
        body.raw(" <span class=\"caution\">incomplete</span>");
    }
}

/// Links to other pages of the list.
fn turn(body: &mut Html, search: &Search, page: usize, pages: usize) {
    let link = |body: &mut Html, to: Option<usize>, relation: &'static str, text: &'static str| match to {
        Some(to) => {
            body.raw("<a rel=\"").raw(relation).raw("\" href=\"");
            body.text(search.address(to)).raw("\">").raw(text).raw("</a>");
        }
        None => {
            body.raw("<span>").raw(text).raw("</span>");
        }
    };
    body.raw("<nav aria-label=\"Pages\">");
    link(body, page.checked_sub(1).filter(|to| *to > 0), "prev", "Previous");
    body.raw("<p>Page ")
        .text(page)
        .raw(" of ")
        .text(pages)
        .raw("</p>");
    link(body, Some(page + 1).filter(|to| *to <= pages), "next", "Next");
    body.raw("</nav>");
}
