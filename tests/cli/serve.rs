//! `sealift serve`, asked as clients ask a registry: the pull part of the distribution specification's conformance list,
//! and what only sealift has.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::{sha256, store};
use crate::support::{Built, Image, Sealift, Serving};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout with two tags of one repository, one of another registry, and one of a registry with a port.
pub fn images(sealift: &Sealift) -> [Built; 3] {
    let build = |name: &str, tag: &str| Image::small(name).build(&sealift.path("layout"), tag);
    let one = build("one", "docker.io/library/httpd:2.4");
    Image::small("one").build(&sealift.path("layout"), "docker.io/library/httpd:2");
    let two = build("two", "quay.io/org/app:1");
    let three = build("three", "registry.example:5000/team/tool:1");
    [one, two, three]
}

/// The bytes of a blob in the layout.
pub fn stored(built: &Built, digest: &str) -> Vec<u8> {
    fs::read(built.blob(digest)).unwrap()
}

#[test]
fn what_the_specification_says_of_pulls_holds() {
    let sealift = Sealift::new();
    let [one, ..] = images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    assert_eq!(serving.get("/v2/").status, 200);
    let index = stored(&one, &one.digest);
    for reference in ["2.4", "2", &one.digest] {
        let path = format!("/v2/library/httpd/manifests/{reference}");
        let found = serving.get(&path);
        assert_eq!((found.status, &found.body), (200, &index), "{reference}");
        let head = serving.ask("HEAD", &path, &[]);
        for answer in [&found, &head] {
            assert_eq!(answer.header("content-type"), Some(INDEX));
            assert_eq!(answer.header("docker-content-digest"), Some(one.digest.as_str()));
            assert_eq!(
                answer.header("content-length"),
                Some(index.len().to_string().as_str())
            );
        }
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let manifest = &one.manifests[0];
    for digest in one.blobs() {
        let bytes = stored(&one, &digest);
        let is_manifest = digest == one.digest || one.manifests.iter().any(|one| one.digest == digest);
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let path = format!("/v2/library/httpd/{kind}/{digest}");
        let (found, head) = (serving.get(&path), serving.ask("HEAD", &path, &[]));
        assert_eq!((found.status, &found.body), (200, &bytes), "{path}");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for answer in [&found, &head] {
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(
                answer.header("content-length"),
                Some(bytes.len().to_string().as_str())
            );
            assert_eq!(
                answer.header("docker-distribution-api-version"),
                Some("registry/2.0")
            );
        }
    }
    let unknown = sha256(b"unknown");
    for (path, status, code) in [
        (
            "manifests/.INVALID_MANIFEST_NAME".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("manifests/3".into(), 404, "MANIFEST_UNKNOWN"),
        (format!("manifests/{unknown}"), 404, "MANIFEST_UNKNOWN"),
        (format!("manifests/{}", manifest.config), 404, "MANIFEST_UNKNOWN"),
        (format!("blobs/{unknown}"), 404, "BLOB_UNKNOWN"),
        ("blobs/sha256:short".into(), 400, "DIGEST_INVALID"),
        ("referrers/sha256:short".into(), 400, "DIGEST_INVALID"),
        ("tags/list?n=x".into(), 400, "PAGINATION_NUMBER_INVALID"),
        ("tags".into(), 404, "NAME_UNKNOWN"),
    ] {
        let answer = serving.get(&format!("/v2/library/httpd/{path}"));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{path}");
        assert!(body["errors"][0]["message"].is_string(), "{path}");
        let head = serving.ask("HEAD", &format!("/v2/library/httpd/{path}"), &[]);
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    for path in [
        "/v2/library/other/manifests/2.4",
        "/v2/library/other/tags/list",
        "/v3/",
        "/v2/x",
    ] {
        assert_eq!(serving.get(path).status, 404, "{path}");
    }
    for (method, path) in [
        ("PUT", "/v2/library/httpd/manifests/2.4"),
        ("DELETE", "/v2/library/httpd/manifests/2.4"),
        ("POST", "/v2/library/httpd/blobs/uploads/"),
        ("PATCH", "/v2/library/httpd/blobs/uploads/1"),
    ] {
        let answer = serving.ask(method, path, &[]);
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD")),
            "{method}"
        );
    }
    assert_eq!(serving.get("/").status, 200);
}

#[test]
fn parts_of_blobs_are_served() {
    let sealift = Sealift::new();
    let built = Image::sample("app", "1").build(&sealift.path("layout"), "docker.io/library/app:1");
    let serving = Serving::start(&sealift, &["layout"]);
    let layer = built.host().layers.iter().max_by_key(|layer| layer.size).unwrap();
    let bytes = stored(&built, &layer.digest);
    let size = bytes.len();
    let path = format!("/v2/library/app/blobs/{}", layer.digest);
    let part = |range: &str| serving.ask("GET", &path, &[("Range", range)]);
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=10-".into(), 10, size),
        ("bytes=-7".into(), size - 7, size),
        (format!("bytes=100-{}", size * 2), 100, size),
        (format!("bytes={}-", size - 1), size - 1, size),
    ] {
        let answer = part(&range);
        assert_eq!(
            (answer.status, &answer.body[..]),
            (206, &bytes[from..to]),
            "{range}"
        );
        let said = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
    }
    let beyond = part(&format!("bytes={size}-"));
    assert_eq!(beyond.status, 416);
    assert_eq!(
        beyond.header("content-range"),
        Some(format!("bytes */{size}").as_str())
    );
    let whole = part("bytes=0-1,3-4");
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    let tag = whole.header("etag").unwrap();
    for (condition, status) in [(tag, 206), ("\"other\"", 200)] {
        let headers = [("Range", "bytes=1-"), ("If-Range", condition)];
        assert_eq!(serving.ask("GET", &path, &headers).status, status, "{condition}");
    }
}

#[test]
fn an_image_has_its_name_with_and_without_the_registry() {
    let sealift = Sealift::new();
    let [one, two, three] = images(&sealift);
    let serving = Serving::start(&sealift, &["layout"]);
    assert_eq!(
        serving.first,
        format!("serving 4 images at http://{}\n", serving.address)
    );
    for (path, built) in [
        ("library/httpd/manifests/2.4", Some(&one)),
        ("docker.io/library/httpd/manifests/2.4", Some(&one)),
        ("library/httpd/manifests/2.4?ns=docker.io", Some(&one)),
        ("library/httpd/manifests/2.4?ns=registry-1.docker.io", Some(&one)),
        (
            "docker.io/library/httpd/manifests/2.4?ns=harbor.local",
            Some(&one),
        ),
        ("library/httpd/manifests/2.4?ns=quay.io", None),
        ("org/app/manifests/1", Some(&two)),
        ("org/app/manifests/1?ns=quay.io", Some(&two)),
        ("org/app/manifests/1?ns=docker.io", None),
        ("team/tool/manifests/1?ns=registry.example:5000", Some(&three)),
        ("team/tool/manifests/1?ns=registry.example%3A5000", Some(&three)),
        ("team/tool/manifests/1?ns=registry.example", None),
        ("registry.example_5000/team/tool/manifests/1", Some(&three)),
        (
            "registry.example_5000/team/tool/manifests/1?ns=harbor.local",
            Some(&three),
        ),
    ] {
        let answer = serving.get(&format!("/v2/{path}"));
        let digest = answer.header("docker-content-digest");
        assert_eq!(digest, built.map(|built| built.digest.as_str()), "{path}");
        // The manifest of one image never gets the name of another.
        let foreign = format!(
            "/v2/{}/manifests/{}",
            path.split("/manifests").next().unwrap(),
            sha256(b"x")
        );
        assert_eq!(serving.get(&foreign).status, 404);
    }
    let own = format!("/v2/library/httpd/manifests/2.4?ns={}", serving.address);
    assert_eq!(serving.get(&own).status, 200);
    let other = format!("/v2/library/httpd/manifests/{}", two.digest);
    assert_eq!(serving.get(&other).status, 404);
    assert_eq!(
        serving.json("/v2/_catalog"),
        json!({ "repositories": ["library/httpd", "org/app", "team/tool"] })
    );
}

#[test]
fn a_path_of_several_registries_is_docker_hub_s_or_nobody_s() {
    let sealift = Sealift::new();
    let build = |name: &str, tag: &str| Image::small(name).build(&sealift.path("layout"), tag).digest;
    let hub = build("hub", "docker.io/org/app:1");
    let quay = build("quay", "quay.io/org/app:1");
    build("one", "quay.io/team/tool:1");
    build("two", "ghcr.io/team/tool:1");
    let serving = Serving::start(&sealift, &["layout"]);
    for (path, digest) in [
        ("org/app/manifests/1", Some(&hub)),
        ("org/app/manifests/1?ns=quay.io", Some(&quay)),
        ("quay.io/org/app/manifests/1", Some(&quay)),
        ("team/tool/manifests/1", None),
    ] {
        let answer = serving.get(&format!("/v2/{path}"));
        assert_eq!(
            answer.header("docker-content-digest"),
            digest.map(String::as_str),
            "{path}"
        );
    }
    let refused = serving.get("/v2/team/tool/tags/list");
    let text = String::from_utf8(refused.body).unwrap();
    assert!(
        text.contains("ask for ghcr.io/team/tool or quay.io/team/tool"),
        "{text}"
    );
    assert_eq!(
        serving.json("/v2/_catalog"),
        json!({ "repositories": ["ghcr.io/team/tool", "org/app", "quay.io/org/app", "quay.io/team/tool"] })
    );
    assert!(
        serving.log().contains("several registries have team/tool"),
        "{}",
        serving.log()
    );
}

/// Follows the links of a list, page by page.
fn pages(serving: &Serving, first: &str, key: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = next {
        let answer = serving.get(&path);
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        let page = document[key]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: {document}"));
        pages.push(
            page.iter()
                .map(|entry| entry.as_str().unwrap().to_owned())
                .collect(),
        );
        next = answer.header("link").map(|link| {
            let (path, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rest, "; rel=\"next\"");
            path.to_owned()
        });
    }
    pages
}

#[test]
fn lists_come_in_pages() {
    let sealift = Sealift::new();
    images(&sealift);
    for tag in ["b", "a", "c"] {
        Image::small("one").build(&sealift.path("layout"), &format!("quay.io/org/app:{tag}"));
    }
    let serving = Serving::start(&sealift, &["layout"]);
    let tags = |path: &str| pages(&serving, &format!("/v2/org/app/tags/list{path}"), "tags");
    let all = ["1", "a", "b", "c"].map(str::to_owned);
    assert_eq!(tags(""), [&all[..]]);
    assert_eq!(tags("?n=2"), [&all[..2], &all[2..]]);
    assert_eq!(tags("?n=3&ns=quay.io"), [&all[..3], &all[3..]]);
    assert_eq!(tags("?n=4"), [&all[..]]);
    assert_eq!(tags("?last=a"), [&all[2..]]);
    assert_eq!(tags("?n=1&last=aa"), [&all[2..3], &all[3..]]);
    assert_eq!(tags("?n=0"), [&all[..0]]);
    assert_eq!(tags("?last=z"), [&all[..0]]);
    assert_eq!(serving.json("/v2/org/app/tags/list")["name"], "org/app");
    let catalog = pages(&serving, "/v2/_catalog?n=2", "repositories");
    assert_eq!(catalog, [vec!["library/httpd", "org/app"], vec!["team/tool"]]);
}

/// Adds a manifest to `index.json`, with these annotations.
pub fn add_entry(layout: &Path, manifest: &Value, annotations: Value) -> (String, u64) {
    let bytes = serde_json::to_vec(manifest).unwrap();
    let digest = store(&layout.join("blobs/sha256"), &bytes);
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut entry = json!({ "mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len() });
    entry["annotations"] = annotations;
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(&path, index.to_string()).unwrap();
    (digest, bytes.len() as u64)
}

#[test]
fn referrers_are_listed() {
    let sealift = Sealift::new();
    let [one, two, _] = images(&sealift);
    let layout = sealift.path("layout");
    let empty = store(&layout.join("blobs/sha256"), b"{}");
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let of = |subject: &str, size: u64, kind: &str| {
        let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
        json!({
            "schemaVersion": 2, "mediaType": manifest, "artifactType": kind, "config": empty, "layers": [empty],
            "subject": { "mediaType": INDEX, "digest": subject, "size": size },
            "annotations": { "made": kind },
        })
    };
    let (sbom, size) = add_entry(
        &layout,
        &of(&one.digest, one.size, "application/x.sbom+json"),
        json!({}),
    );
    let (signature, _) = add_entry(
        &layout,
        &of(&one.digest, one.size, "application/x.sig"),
        json!({}),
    );
    // Of the SBOM itself, and of an image that is not here.
    let (second, _) = add_entry(&layout, &of(&sbom, size, "application/x.sig"), json!({}));
    add_entry(&layout, &of(&sha256(b"x"), 1, "application/x.sig"), json!({}));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": manifest, "digest": sbom, "size": size, "artifactType": "application/x.sbom+json" },
    ]});
    let tag = one.digest.replace(':', "-");
    let name = json!({ "org.opencontainers.image.ref.name": format!("docker.io/library/httpd:{tag}") });
    add_entry(&layout, &index, name);

    let serving = Serving::start(&sealift, &["layout"]);
    let list = |path: &str| {
        let answer = serving.get(&format!("/v2/{path}"));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(INDEX)),
            "{path}"
        );
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (&document["schemaVersion"], &document["mediaType"]),
            (&json!(2), &json!(INDEX))
        );
        let manifests = document["manifests"].as_array().unwrap().clone();
        let digests = manifests
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap().to_owned());
        let mut digests: Vec<String> = digests.collect();
        digests.sort();
        (
            digests,
            manifests,
            answer.header("oci-filters-applied").map(str::to_owned),
        )
    };
    let mut both = [sbom.clone(), signature.clone()];
    both.sort();
    let (digests, ..) = list(&format!("library/httpd/referrers/{}", one.digest));
    assert_eq!(digests, both);
    let (digests, manifests, filtered) = list(&format!(
        "library/httpd/referrers/{}?artifactType=application/x.sbom%2Bjson&ns=docker.io",
        one.digest
    ));
    assert_eq!(
        (digests, filtered.as_deref()),
        (vec![sbom.clone()], Some("artifactType"))
    );
    assert_eq!(
        manifests[0],
        json!({ "mediaType": manifest, "digest": sbom, "size": size,
            "artifactType": "application/x.sbom+json", "annotations": { "made": "application/x.sbom+json" } })
    );
    let (digests, ..) = list(&format!("library/httpd/referrers/{sbom}"));
    assert_eq!(digests, [second.as_str()]);
    assert_eq!(list(&format!("org/app/referrers/{}", two.digest)).0, [""; 0]);
    assert_eq!(
        list(&format!("library/httpd/referrers/{}", sha256(b"none"))).0,
        [""; 0]
    );
    // They are in the repository of their subject, and nowhere else.
    for digest in [&sbom, &signature, &second] {
        let status = |name: &str| serving.get(&format!("/v2/{name}/manifests/{digest}")).status;
        assert_eq!((status("library/httpd"), status("org/app")), (200, 404));
    }
    let blob = serving.get(&format!("/v2/library/httpd/blobs/{empty}"));
    assert_eq!((blob.status, &blob.body[..]), (200, &b"{}"[..]));
    // Clients look for the tag where a registry has no API. It lists both, although the one in the layout has one only.
    let tagged = serving.get(&format!("/v2/library/httpd/manifests/{tag}"));
    assert_eq!((tagged.status, tagged.header("content-type")), (200, Some(INDEX)));
    let listed: Value = serde_json::from_slice(&tagged.body).unwrap();
    let listed = listed["manifests"].as_array().unwrap().iter();
    let listed: Vec<&str> = listed.map(|one| one["digest"].as_str().unwrap()).collect();
    assert_eq!(listed, both);
    let digest = tagged.header("docker-content-digest").unwrap();
    for reference in [digest, &sbom.replace(':', "-")] {
        let path = format!("/v2/library/httpd/manifests/{reference}");
        assert_eq!(serving.ask("HEAD", &path, &[]).status, 200, "{reference}");
    }
    let tags = serving.get("/v2/library/httpd/tags/list");
    let tags: Value = serde_json::from_slice(&tags.body).unwrap();
    assert_eq!(
        tags["tags"].as_array().unwrap().len(),
        2 + 2,
        "its own, and the lists of the image and of the SBOM: {tags}"
    );
    assert!(
        serving.log().contains("1 image without a full name"),
        "{}",
        serving.log()
    );
}

#[test]
fn archives_parts_and_folders_are_served_together() {
    let sealift = Sealift::new();
    let [one, two, three] = images(&sealift);
    for (name, image, more) in [
        ("one.tar", "httpd:2.4", &[][..]),
        ("two.tar", "quay.io/org/app:1", &["--split", "2kB"]),
    ] {
        let args = [&["save", "-q", "--from", "layout", image, "-o", name], more].concat();
        sealift.run(&args).ok();
    }
    assert!(sealift.path("two.tar.003").exists());
    let args = ["one.tar", "two.tar.001", "layout", "--verify", "--json"];
    let mut serving = Serving::start(&sealift, &args);
    let first: Value = serde_json::from_str(&serving.first).unwrap();
    assert_eq!(
        (&first["event"], &first["images"], &first["repositories"]),
        (&json!("listening"), &json!(4), &json!(3))
    );
    assert_eq!(first["archives"].as_array().unwrap().len(), 3);
    for (name, built) in [("library/httpd", &one), ("org/app", &two), ("team/tool", &three)] {
        for layer in built.manifests.iter().flat_map(|manifest| &manifest.layers) {
            let answer = serving.get(&format!("/v2/{name}/blobs/{}", layer.digest));
            assert_eq!((answer.status, answer.body), (200, stored(built, &layer.digest)));
        }
    }
    let line: Value = serde_json::from_str(&serving.line()).unwrap();
    assert_eq!(
        (&line["event"], &line["schema"], &line["status"]),
        (&json!("request"), &json!(1), &json!(200))
    );
    for field in ["time", "method", "path", "bytes", "complete", "client"] {
        assert!(!line[field].is_null(), "{line}");
    }
}

#[test]
fn one_name_for_two_images_is_refused() {
    let sealift = Sealift::new();
    for (name, layout) in [("one", "a"), ("two", "b")] {
        Image::small(name).build(&sealift.path(layout), "docker.io/library/app:1");
    }
    let refused = sealift.run(&["serve", "a", "b"]).code(2);
    assert!(refused.stderr.contains("app:1 is sha256:"), "{}", refused.stderr);
    assert!(refused.stderr.contains(" in a and sha256:"), "{}", refused.stderr);
}

#[test]
fn ten_thousand_images_are_listed() {
    let sealift = Sealift::new();
    let built = Image::small("one").build(&sealift.path("layout"), "x");
    let entries = (0..10_000).map(|number| {
        let name = format!("quay.io/r{}/app:{}", number % 100, number / 100);
        json!({ "mediaType": built.media_type, "digest": built.digest, "size": built.size,
            "annotations": { "org.opencontainers.image.ref.name": name } })
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries.collect::<Vec<_>>() });
    fs::write(sealift.path("layout/index.json"), index.to_string()).unwrap();
    let serving = Serving::start(&sealift, &["layout", "-q"]);
    assert!(
        serving.first.starts_with("serving 10000 images "),
        "{}",
        serving.first
    );
    let catalog = pages(&serving, "/v2/_catalog?n=30", "repositories");
    assert_eq!(catalog.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30, 10]);
    for repository in catalog.into_iter().flatten() {
        let tags = pages(&serving, &format!("/v2/{repository}/tags/list"), "tags");
        assert_eq!(tags.iter().map(Vec::len).collect::<Vec<_>>(), [100]);
    }
}
