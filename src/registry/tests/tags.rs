//! Lists of tags.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::ErrorKind;
use crate::registry::testing::{Reply, Server, patient, source};

#[test]
fn tags_are_listed_page_by_page() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        let page = |tags: &str| Reply::new(200, format!(r#"{{"name":"lib/app","tags":[{tags}]}}"#));
        match (seen.path.as_str(), seen.query.as_str()) {
            ("/v2/", _) => Reply::new(200, "{}"),
            ("/v2/lib/app/tags/list", "n=1000") => {
                page(r#""1","2""#).with("Link", r#"</v2/lib/app/tags/list?last=2&n=1000>; rel="next""#)
            }
            ("/v2/lib/app/tags/list", "last=2&n=1000") => {
                page(r#""2","3""#).with("Link", r#"<http://elsewhere/other?last=3>; rel="next""#)
            }
            ("/v2/lib/app/tags/list", "last=3") => page(""),
            ("/v2/lib/loop/tags/list", _) => {
                page(r#""1""#).with("Link", r#"</v2/lib/loop/tags/list?n=1000>; rel="next""#)
            }
            ("/v2/lib/empty/tags/list", _) => {
                let next = asked.fetch_add(1, Ordering::SeqCst);
                page("").with(
                    "Link",
                    format!(r#"</v2/lib/empty/tags/list?last={next}>; rel="next""#),
                )
            }
            ("/v2/lib/long/tags/list", _) => {
                let next = "a".repeat(2000);
                page(r#""1""#).with(
                    "Link",
                    format!(r#"</v2/lib/long/tags/list?last={next}>; rel="next""#),
                )
            }
            ("/v2/lib/none/tags/list", _) => Reply::new(200, r#"{"name":"lib/none","tags":null}"#),
            _ => Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}"#),
        }
    });
    let source = source(patient());
    let list = |name: &str| source.tags(&format!("{}/lib/{name}", server.host()).parse().unwrap());
    let names: Vec<String> = list("app").unwrap().iter().map(ToString::to_string).collect();
    let expected = ["1", "2", "3"].map(|tag| server.reference(tag).to_string());
    assert_eq!(names, expected);
    assert_eq!(list("none").unwrap(), []);
    for (endless, requests) in [("loop", 1), ("empty", 11), ("long", 1)] {
        let error = list(endless).unwrap_err();
        assert!(error.to_string().contains("never ends"), "{error}");
        let path = format!("/v2/lib/{endless}/tags/list");
        let count = server.paths().iter().filter(|asked| **asked == path).count();
        assert_eq!(count, requests, "{endless}");
    }
    assert_eq!(list("absent").unwrap_err().kind(), ErrorKind::NotFound);
}
