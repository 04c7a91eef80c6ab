//! The page of `sealift serve` for people: as it is sent, and as chromium shows it on a phone and on a desktop.

use std::collections::HashSet;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::serve::add_entry;
use crate::support::browser::Browser;
use crate::support::image::{sha256, store};
use crate::support::{Built, Image, Sealift, Serving};

pub const HOSTILE: &str = "</code><script>document.title='taken'</script>\"'&\u{202e}";

/// A layout with an image of Docker Hub, which has a referrer with a hostile type, and one with a long name.
fn images(sealift: &Sealift) -> Built {
    let layout = sealift.path("layout");
    let hub = Image::sample("httpd", "1").build(&layout, "docker.io/library/httpd:2.4");
    let long = format!(
        "registry.example:5000/{}/app:1.0.0-alpha",
        "quite-a-long-name/".repeat(9).trim_end_matches('/')
    );
    Image::small("app").build(&layout, &long);
    let empty = store(&layout.join("blobs/sha256"), b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let referrer = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": HOSTILE,
        "config": empty, "layers": [empty],
        "subject": { "mediaType": hub.media_type, "digest": hub.digest, "size": hub.size },
    });
    add_entry(&layout, &referrer, json!({}));
    hub
}

fn html(serving: &Serving, path: &str) -> String {
    let answer = serving.get(path);
    assert_eq!(answer.status, 200, "{path}");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    String::from_utf8(answer.body).unwrap()
}

/// What is between two texts.
pub fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text
        .split_once(from)
        .unwrap_or_else(|| panic!("{from}: {text}"))
        .1;
    rest.split_once(to).unwrap().0
}

/// The sources of a policy that allow what is in these elements of a page.
pub fn allowed(page: &str, element: &str) -> String {
    let begin = format!("<{element}>");
    let contents = page.split(&begin).skip(1);
    let sources = contents.map(|rest| {
        let content = rest.split_once(&format!("</{element}>")).unwrap().0;
        let hex = sha256(content.as_bytes());
        let bytes = (7..hex.len()).step_by(2);
        let bytes: Vec<u8> = bytes
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        format!("'sha256-{}'", STANDARD.encode(bytes))
    });
    sources.collect::<Vec<_>>().join(" ")
}

#[test]
fn text_from_outside_is_no_markup() {
    let sealift = Sealift::new();
    images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    let encoded = "%3C/code%3E%3Cscript%3Edocument.title%3D'taken'%3C/script%3E%22'%26%E2%80%AE";
    let escaped =
        "&lt;/code&gt;&lt;script&gt;document.title=&#39;taken&#39;&lt;/script&gt;&quot;&#39;&amp;\\u{202e}";
    for (path, status) in [
        ("/?image=docker.io/library/httpd:2.4".to_owned(), 200),
        (format!("/?q={encoded}"), 200),
        (format!("/?image={encoded}"), 404),
    ] {
        let answer = serving.get(&path);
        assert_eq!(answer.status, status, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains(escaped), "{path}: {text}");
        assert_eq!(text.matches("<script>").count(), 1, "{path}: {text}");
        // A browser runs the page's own script and style only.
        let policy = serving.get(&path);
        let policy = policy.header("content-security-policy").unwrap().to_owned();
        assert_eq!(allowed(&text, "script"), between(&policy, "script-src ", ";"));
        assert_eq!(allowed(&text, "style"), between(&policy, "style-src ", ";"));
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
    }
}

#[test]
fn commands_name_the_host_that_the_browser_used() {
    let sealift = Sealift::new();
    let hub = images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    let path = "/?image=docker.io/library/httpd:2.4";
    let page = html(&serving, path);
    let (host, digest) = (&serving.address, &hub.digest);
    for command in [
        format!("docker pull {host}/library/httpd:2.4"),
        format!("docker pull {host}/library/httpd@{digest}"),
        format!("podman pull --tls-verify=false {host}/library/httpd@{digest}"),
        format!("ctr images pull --plain-http {host}/library/httpd:2.4"),
        format!(
            "skopeo copy --all --preserve-digests --src-tls-verify=false docker://{host}/library/httpd@{digest} oci:image"
        ),
    ] {
        assert!(
            page.contains(&format!("<code>{command}</code>")),
            "{command}: {page}"
        );
    }
    for (host, status) in [
        ("registry.example:5000", 200),
        ("[::1]:5000", 200),
        ("a b", 400),
        ("-x:1", 400),
        ("<script>", 400),
        ("x$(id):1", 400),
    ] {
        // `Serving::get` would send a Host header of its own.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = serving.raw(&request);
        assert_eq!(answer.status, status, "{host}");
        if status == 200 {
            let text = String::from_utf8(answer.body).unwrap();
            assert!(
                text.contains(&format!("{host}/library/httpd:2.4")),
                "{host}: {text}"
            );
        }
    }
}

#[test]
fn an_image_is_shown_with_its_digests_and_evidence() {
    let sealift = Sealift::new();
    let hub = images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    let list = html(&serving, "/");
    assert!(list.contains(&format!("title=\"{}\"", hub.digest)), "{list}");
    assert_eq!(list.matches(">1 referrer</span>").count(), 1, "{list}");
    let page = html(&serving, "/?image=docker.io/library/httpd:2.4");
    let manifests = hub.manifests.iter();
    let below = manifests.flat_map(|manifest| {
        let layers = manifest.layers.iter().map(|layer| &layer.digest);
        layers.chain([&manifest.digest, &manifest.config])
    });
    for digest in below.chain([&hub.digest]) {
        assert!(page.contains(digest), "{digest}: {page}");
    }
    let text = sealift.run(&["list", "layout"]).ok().stdout;
    let size = text.lines().find(|line| line.contains("httpd:2.4")).unwrap();
    let size = size.split_whitespace().rev().take(2).collect::<Vec<_>>();
    assert!(
        page.contains(&format!("{} {} stored", size[1], size[0])),
        "{text} {page}"
    );
    assert!(
        page.contains("Manifest: the archive has the manifest that the registry served"),
        "{page}"
    );
}

#[test]
fn ten_thousand_images_are_found_page_by_page() {
    let sealift = Sealift::new();
    let built = Image::small("one").build(&sealift.path("layout"), "x");
    let entries = (0..10_000).map(|number| {
        let name = format!("quay.io/r{}/app:{}", number % 100, number / 100);
        json!({ "mediaType": built.media_type, "digest": built.digest, "size": built.size,
            "annotations": { "org.opencontainers.image.ref.name": name } })
    });
    let index = json!({ "schemaVersion": 2, "manifests": entries.collect::<Vec<_>>() });
    fs::write(sealift.path("layout/index.json"), index.to_string()).unwrap();
    let serving = Serving::start(&sealift, &["layout", "-q"]);
    let rows = |page: &str| page.matches("<th scope=\"row\" ").count();
    let first = html(&serving, "/");
    assert_eq!(rows(&first), 50);
    assert!(first.len() < 64 << 10, "{}", first.len());
    assert!(first.contains("10,000 images, 1 to 50 shown"), "{first}");
    let mut seen = HashSet::new();
    let mut next = Some("/?q=r7/app".to_owned());
    while let Some(path) = next {
        let page = html(&serving, &path);
        assert!(page.contains("100 of 10,000 images"), "{path}");
        seen.extend(
            page.split("/?image=")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned()),
        );
        next = page.contains("rel=\"next\"").then(|| {
            let link = between(&page, "rel=\"next\" href=\"", "\"");
            link.replace("&amp;", "&")
        });
    }
    assert_eq!(seen.len(), 100);
    for (query, count) in [
        ("/r7/+app:99", 1),
        (&built.digest[..20], 50),
        ("r7%20nothing", 0),
        ("R99/APP:9", 11),
        (&built.manifests[0].config, 50),
        (&built.host().platform.to_string(), 50),
    ] {
        assert_eq!(rows(&html(&serving, &format!("/?q={query}"))), count, "{query}");
    }
}

/// The texts that are hard to read: less contrast to what is behind than WCAG asks of text, with its place.
pub const UNREADABLE: &str = r#"
(() => {
  const channel = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [0, 0, 0];
  };
  const hard = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, style")) continue;
    let [one, other] = [numbers(getComputedStyle(element).color), behind(element)].map(luminance);
    if (one < other) [one, other] = [other, one];
    if ((one + 0.05) / (other + 0.05) < 4.5) hard.push(walker.currentNode.data);
  }
  return hard;
})()
"#;

#[test]
fn phones_and_desktops_show_it_whole() {
    let sealift = Sealift::new();
    images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    let base = format!("http://{}", serving.address);
    let mut browser = Browser::start();
    let long = html(&serving, "/");
    let long = long
        .split("/?image=")
        .find(|rest| rest.starts_with("registry.example"))
        .unwrap();
    let long = format!("/?image={}", long.split('"').next().unwrap());
    let mut pictures = HashSet::new();
    for (width, height) in [(390, 844), (1280, 800)] {
        for scheme in ["light", "dark"] {
            browser.screen(width, height, scheme);
            browser.open("about:blank");
            let blank = browser.screenshot().len();
            for path in ["/", "/?image=docker.io/library/httpd:2.4", &long] {
                let what = format!("{path} at {width} in {scheme}");
                browser.open(&format!("{base}{path}"));
                let root = "document.documentElement";
                let beyond = browser.value(&format!("{root}.scrollWidth - {root}.clientWidth"));
                assert_eq!(
                    (beyond, browser.value("innerWidth")),
                    (json!(0), json!(width)),
                    "{what}"
                );
                assert_eq!(browser.value(UNREADABLE), json!([]), "{what}");
                let picture = browser.screenshot();
                assert!(
                    picture.len() > 3 * blank,
                    "{what}: {} after {blank}",
                    picture.len()
                );
                assert!(pictures.insert(picture), "{what} looks like another one");
                // The heading is where one looks, and nothing is over it.
                let shown = "(() => { const box = document.querySelector('h1').getBoundingClientRect(); \
                    return document.elementFromPoint(box.left + 5, box.top + 5)?.localName })()";
                assert_eq!(browser.value(shown), "h1", "{what}");
                let (requests, complaints) = browser.requests_and_complaints();
                assert!(complaints.is_empty(), "{what}: {complaints:?}");
                let own = format!("\"{base}");
                let is_own = |address: &&String| address.starts_with(&own) || address.starts_with("\"data:");
                assert!(
                    requests.iter().all(|address| is_own(&address)),
                    "{what}: {requests:?}"
                );
                assert_ne!(browser.value("document.title"), "taken");
            }
            browser.open(&base);
            let spoken = browser.spoken();
            for expected in [
                "table",
                "columnheader Evidence",
                "rowheader httpd:2.4",
                "searchbox Search",
                "status",
                "button Copy digest",
            ] {
                assert!(
                    spoken
                        .iter()
                        .any(|said| said == expected || said.starts_with(&format!("{expected} "))),
                    "{expected} at {width}: {spoken:#?}"
                );
            }
        }
    }
}

#[test]
fn the_search_works_from_the_keyboard_and_without_a_script() {
    let sealift = Sealift::new();
    let hub = images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    let base = format!("http://{}", serving.address);
    let rows = "document.querySelectorAll('.images tbody tr').length";
    let mut browser = Browser::start();
    browser.screen(1280, 800, "light");
    browser.open(&base);
    assert_eq!(browser.value(rows), 2);
    browser.press("/");
    assert_eq!(browser.value("document.activeElement.id"), "q");
    assert_eq!(browser.value("document.activeElement.value"), "");
    browser.type_text("httpd");
    browser.until(&format!("{rows} === 1 && location.search === '?q=httpd'"));
    assert_eq!(
        browser.value("document.getElementById('status').textContent"),
        "1 of 2 images"
    );
    browser.type_text("-nothing");
    browser.until(&format!("{rows} === 0"));

    // By digest instead of by tag, and copied.
    browser.open(&format!("{base}/?image=docker.io/library/httpd:2.4"));
    let command = "[...document.querySelectorAll('.commands code')].filter((code) => code.checkVisibility())[0].textContent";
    assert_eq!(
        browser.value(command),
        format!("docker pull {}/library/httpd:2.4", serving.address)
    );
    browser.value("document.getElementById('by-digest').click()");
    let by_digest = format!("docker pull {}/library/httpd@{}", serving.address, hub.digest);
    assert_eq!(browser.value(command), by_digest);
    browser.call(
        "Browser.grantPermissions",
        json!({ "origin": base, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
    );
    let click = "[...document.querySelectorAll('.commands .copy')].find((button) => button.checkVisibility()).click()";
    browser.value(click);
    browser
        .until("[...document.querySelectorAll('.copy')].some((button) => button.textContent === 'Copied')");
    assert_eq!(browser.value("navigator.clipboard.readText()"), by_digest);

    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(&base);
    assert_eq!(
        browser.value("document.querySelector('.copy').checkVisibility()"),
        false
    );
    browser.value("document.getElementById('q').focus()");
    browser.type_text("httpd");
    browser.value("document.querySelector('form').requestSubmit()");
    browser.until("location.search === '?q=httpd' && document.readyState === 'complete'");
    assert_eq!(browser.value(rows), 1);
    assert_eq!(
        browser.value("document.getElementById('q').value"),
        Value::from("httpd")
    );
}
