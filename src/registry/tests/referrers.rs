//! What refers to an image, in registries with and without an API for it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::archive::{self, Graphs, Layout};
use crate::error::{Error, ErrorKind, Problem, Remedy, Result};
use crate::image::NamedImage;
use crate::interrupt::Interrupt;
use crate::oci::testing::{TestBlob, TestImage, index};
use crate::oci::{Descriptor, Digest, MediaType, Platform, PlatformSelection, Referrer};
use crate::registry::testing::{Notes, Reply, Seen, Server, noted, quick, source};
use crate::save::{self, Options, Output, ReferrerSelection, Summary};

const SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const NOTE: &str = "application/vnd.example.note";

/// What a registry answers where the API for referrers would be.
#[derive(Clone, Copy, Debug)]
enum Api {
    Status(u16),
    Page,
    NoIndex,
    /// This many in one page.
    Pages(usize),
    Endless,
}

/// A repository in memory.
#[derive(Clone)]
struct Repo {
    api: Api,
    /// Manifests and indexes by digest and by tag.
    manifests: HashMap<String, TestBlob>,
    blobs: HashMap<String, Vec<u8>>,
}

impl Repo {
    fn new(api: Api) -> Repo {
        Repo {
            api,
            manifests: HashMap::new(),
            blobs: HashMap::new(),
        }
    }

    fn put(&mut self, manifest: &TestBlob) -> Descriptor {
        let digest = manifest.descriptor.digest.to_string();
        self.manifests.insert(digest, manifest.clone());
        manifest.descriptor.clone()
    }

    fn tag(&mut self, tag: &str, manifest: &TestBlob) -> Descriptor {
        self.manifests.insert(tag.into(), manifest.clone());
        self.put(manifest)
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let blob = TestBlob::new(media_type, bytes);
        self.blobs
            .insert(blob.descriptor.digest.to_string(), bytes.to_vec());
        blob.descriptor
    }

    fn image(&mut self, image: &TestImage) -> Descriptor {
        for blob in &image.blobs()[1..] {
            let digest = blob.descriptor.digest.to_string();
            self.blobs.insert(digest, blob.bytes.clone());
        }
        self.put(&image.manifest());
        image.entry()
    }

    /// A manifest that refers to another one.
    fn referring(&mut self, subject: &Descriptor, media_type: &str, text: &str) -> TestBlob {
        let config = self.blob(MediaType::OCI_EMPTY, b"{}");
        let layer = self.blob(media_type, text.as_bytes());
        TestBlob::json(
            MediaType::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": media_type,
                "config": config, "layers": [layer], "subject": subject,
            }),
        )
    }

    /// A signature under a tag of cosign.
    fn signature(&mut self, subject: &Descriptor, text: &str) -> Descriptor {
        let config = self.blob(MediaType::OCI_CONFIG, b"{\"no\":\"image's\"}");
        let layer = self.blob(SIGNING, text.as_bytes());
        let manifest = TestBlob::json(
            MediaType::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer],
            }),
        );
        self.tag(&Referrer::tag(&subject.digest, "sig"), &manifest)
    }

    /// Lists these under the tag for it, with a wrong artifact type, as cosign does.
    fn list(&mut self, subject: &Descriptor, listed: &[Descriptor]) {
        let mut listed = listed.to_vec();
        for one in &mut listed {
            one.artifact_type = Some("application/vnd.oci.empty.v1+json".into());
        }
        self.tag(&Referrer::list_tag(&subject.digest), &index(&listed));
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let last = seen.path.rsplit('/').next().unwrap_or_default();
        if seen.path == "/v2/" {
            return Reply::new(200, "{}");
        }
        if seen.path.contains("/referrers/") {
            return self.referrers(seen, last);
        }
        if let Some(blob) = self.blobs.get(last).filter(|_| seen.path.contains("/blobs/")) {
            return Reply::new(200, blob.clone());
        }
        match self
            .manifests
            .get(last)
            .filter(|_| seen.path.contains("/manifests/"))
        {
            Some(manifest) => Reply::new(200, manifest.bytes.clone())
                .with("Content-Type", manifest.descriptor.media_type.as_str()),
            None => Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        }
    }

    fn referrers(&self, seen: &Seen, subject: &str) -> Reply {
        let mut of: Vec<Descriptor> = self
            .manifests
            .values()
            .filter_map(|manifest| Referrer::of(&manifest.descriptor, &manifest.bytes))
            .filter(|referrer| referrer.subject.to_string() == subject)
            .map(|referrer| referrer.descriptor)
            .collect();
        of.sort_by_key(|descriptor| descriptor.digest);
        of.dedup();
        let answer = |listed: &[Descriptor]| {
            Reply::new(200, index(listed).bytes).with("Content-Type", MediaType::OCI_INDEX)
        };
        match self.api {
            Api::Status(status) => Reply::new(status, ""),
            Api::Page => Reply::new(200, "<html>log in</html>").with("Content-Type", "text/html"),
            Api::NoIndex => Reply::new(200, "{}").with("Content-Type", "application/json"),
            Api::Endless => {
                let page = seen.query.len();
                let next = format!("</v2/lib/app/referrers/x?{}>; rel=\"next\"", "n".repeat(page + 1));
                answer(&of).with("Link", next)
            }
            Api::Pages(size) => {
                let page: usize = seen.query.strip_prefix("page=").unwrap_or("0").parse().unwrap();
                let from = (page * size).min(of.len());
                let to = (from + size).min(of.len());
                let reply = answer(&of[from..to]);
                match to < of.len() {
                    true => reply.with("Link", format!("</v2/x?page={}>; rel=\"next\"", page + 1)),
                    false => reply,
                }
            }
        }
    }

    fn serve(&self) -> Server {
        let repo = self.clone();
        Server::start(move |seen| repo.answer(seen))
    }
}

/// A signed image with two platforms, tagged `1`, and its manifests: index, amd64, arm64.
fn signed(api: Api) -> (Repo, [Descriptor; 3]) {
    let mut repo = Repo::new(api);
    let amd64 = repo.image(&TestImage::new().layer(b"not a tar, which nobody looks at here".as_slice()));
    let arm64 = repo.image(&TestImage::new().platform(&Platform::linux("arm64", None)));
    let root = repo.tag("1", &index(&[amd64.clone(), arm64.clone()]));
    let note = repo.referring(&root, NOTE, "of the index");
    let note = repo.put(&note);
    repo.list(&root, std::slice::from_ref(&note));
    let second = repo.referring(&note, NOTE, "of the note");
    let second = repo.put(&second);
    repo.list(&note, &[second]);
    repo.signature(&root, "signs the index");
    repo.signature(&arm64, "signs arm64");
    (repo, [root, amd64, arm64])
}

fn save_to(path: &Path, server: &Server, options: &Options, notes: &Arc<Notes>) -> Result<Summary> {
    let (registry, _) = noted(quick());
    let references = [server.reference("1")];
    save::save(
        &registry,
        &references,
        options,
        Output::File(path),
        &**notes,
        &Interrupt::default(),
    )
}

fn options(platforms: &[&str]) -> Options {
    let only = platforms.iter().map(|text| text.parse().unwrap()).collect();
    Options {
        platforms: Some(PlatformSelection::Only(only)),
        ..Options::default()
    }
}

fn open(path: &Path) -> Box<dyn Layout> {
    archive::open(&[path.to_path_buf()], &archive::Options::default()).unwrap()
}

fn image(layout: &dyn Layout) -> NamedImage {
    Graphs::new(layout).named(&layout.entries()[0]).unwrap()
}

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

#[test]
fn a_save_has_what_refers_to_the_image_with_and_without_an_api() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut archives = Vec::new();
    for api in [
        Api::Status(404),
        Api::Status(405),
        Api::Status(400),
        Api::Page,
        Api::NoIndex,
        Api::Pages(10),
        Api::Pages(1),
    ] {
        let (repo, [root, _, arm64]) = signed(api);
        let server = repo.serve();
        let notes = Arc::default();
        let summary = save_to(&path, &server, &options(&BOTH), &notes).unwrap();
        let layout = open(&path);
        let image = image(layout.as_ref());
        let found: Vec<(Digest, Option<&str>)> = image
            .referrers
            .iter()
            .map(|one| (one.subject, one.artifact_type.as_deref()))
            .collect();
        assert_eq!(found.len(), 4, "{api:?}: {found:?}");
        // The type is that of the manifest, whatever the list says.
        assert!(found.contains(&(root.digest, Some(NOTE))), "{api:?}");
        let tag = Referrer::tag(&arm64.digest, "sig");
        assert!(image.referrers.iter().any(|one| one.tag.as_ref() == Some(&tag)));
        let report = archive::verify(
            layout.as_ref(),
            &crate::verify::Options {
                quick: true,
                ..crate::verify::Options::default()
            },
            &crate::progress::Silent,
            &Interrupt::default(),
        )
        .unwrap();
        assert!(report.findings.is_empty(), "{api:?}: {:?}", report.findings);
        assert_eq!(summary.images[0].referrers.len(), 4);
        assert_eq!(notes.all(), "", "{api:?}");
        let entry = &image.referrers;
        archives.push(entry.iter().map(|one| one.digest()).collect::<Vec<_>>());
    }
    archives.dedup();
    assert_eq!(archives.len(), 1);
}

#[test]
fn the_same_image_with_the_same_referrers_is_the_same_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (repo, _) = signed(Api::Status(404));
    let server = repo.serve();
    let bytes: Vec<Vec<u8>> = ["one.tar", "two.tar"]
        .iter()
        .map(|name| {
            let path = folder.path().join(name);
            save_to(&path, &server, &options(&BOTH), &Arc::default()).unwrap();
            std::fs::read(path).unwrap()
        })
        .collect();
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn signatures_of_platforms_that_are_not_saved_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let (repo, [root, ..]) = signed(Api::Status(404));
    let server = repo.serve();
    let notes = Arc::default();
    let summary = save_to(&path, &server, &options(&["linux/amd64"]), &notes).unwrap();
    let saved = &summary.images[0];
    let elsewhere: Vec<String> = saved.signed_elsewhere.iter().map(ToString::to_string).collect();
    assert_eq!(elsewhere, ["linux/arm64"]);
    assert!(
        notes
            .all()
            .ends_with("is signed for linux/arm64 too, which is not saved"),
        "{}",
        notes.all()
    );
    let layout = open(&path);
    assert_eq!(image(layout.as_ref()).graph.root.digest, root.digest);
    assert_eq!(image(layout.as_ref()).referrers.len(), 3);
    assert_eq!(saved.referrers.len(), 3);
}

#[test]
fn what_is_listed_and_cannot_be_saved_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let (mut repo, [root, amd64, _]) = signed(Api::Status(404));
    let other = repo.referring(&amd64, NOTE, "of amd64");
    let other = repo.put(&other);
    let gone = TestBlob::new(MediaType::OCI_MANIFEST, "gone").descriptor;
    let odd = TestBlob::new("application/vnd.oci.artifact.manifest.v1+json", "odd").descriptor;
    repo.list(&root, &[other.clone(), gone.clone(), odd.clone()]);
    let no_index = TestImage::new().author("no index").manifest();
    repo.tag(&Referrer::list_tag(&amd64.digest), &no_index);
    let server = repo.serve();
    let notes = Arc::default();
    save_to(&path, &server, &options(&BOTH), &notes).unwrap();
    let notes = notes.all();
    for (digest, says) in [
        (other.digest, "does not refer to it"),
        (gone.digest, "does not exist"),
        (odd.digest, "is neither a manifest nor an index"),
    ] {
        let line = notes
            .lines()
            .find(|line| line.contains(&format!("{digest} is listed")));
        assert!(line.is_some_and(|line| line.contains(says)), "{notes}");
    }
    assert_eq!(image(open(&path).as_ref()).referrers.len(), 2);
}

#[test]
fn a_tag_of_a_list_that_is_no_index_is_told() {
    let (mut repo, [_, amd64, _]) = signed(Api::Status(404));
    repo.tag(&Referrer::list_tag(&amd64.digest), &TestImage::new().manifest());
    let server = repo.serve();
    let (source, notes) = noted(quick());
    let found = source.referrers(&server.repository(), &amd64.digest).unwrap();
    assert!(found.is_empty());
    assert!(
        notes.all().contains("is no index, and so lists no referrers"),
        "{}",
        notes.all()
    );
}

#[test]
fn a_registry_that_cannot_tell_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    for (part, status) in [
        ("/referrers/", 403),
        ("/referrers/", 500),
        (".sig", 403),
        (".sig", 503),
        ("/manifests/sha256-", 500),
    ] {
        let (repo, _) = signed(Api::Status(404));
        let server = Server::start(move |seen| match seen.path.contains(part) {
            true => Reply::new(status, ""),
            false => repo.answer(seen),
        });
        let error = save_to(&path, &server, &options(&BOTH), &Arc::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registry, "{part} {status}: {error}");
        let hint = error.each().iter().find_map(Error::hint);
        let says = format!("{hint:?}");
        assert!(
            says.contains(&format!("{:?}", Remedy::WithoutReferrers)),
            "{part} {status}: {says}"
        );
        assert!(!path.exists());
        // Who does not want them does not ask for them.
        let none = Options {
            referrers: ReferrerSelection::None,
            ..options(&BOTH)
        };
        let summary = save_to(&path, &server, &none, &Arc::default()).unwrap();
        assert!(summary.images[0].referrers.is_empty());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn lists_have_limits() {
    let mut repo = Repo::new(Api::Pages(400));
    let root = repo.image(&TestImage::new());
    for at in 0..=1000 {
        let note = repo.referring(&root, NOTE, &at.to_string());
        repo.put(&note);
    }
    let server = repo.serve();
    let problem = |server: &Server| {
        let found = source(quick()).referrers(&server.repository(), &root.digest);
        match found.unwrap_err() {
            Error::Refused(finding) => finding.problem,
            error => panic!("{error}"),
        }
    };
    let limit = 1000;
    assert_eq!(problem(&server), Problem::TooManyReferrers { limit });
    let all: Vec<Descriptor> = repo
        .manifests
        .values()
        .map(|one| one.descriptor.clone())
        .collect();
    repo.list(&root, &all);
    repo.api = Api::Status(404);
    assert_eq!(problem(&repo.serve()), Problem::TooManyReferrers { limit });
    let (repo, [root, ..]) = signed(Api::Endless);
    let server = repo.serve();
    let found = source(quick()).referrers(&server.repository(), &root.digest);
    let problem = found.unwrap_err();
    assert!(
        matches!(problem, Error::Registry { .. } | Error::Refused(_)),
        "{problem}"
    );
}

#[test]
fn a_mirror_that_knows_of_nothing_is_not_the_last_one_asked() {
    let (repo, [root, ..]) = signed(Api::Status(404));
    let upstream = repo.serve();
    let empty = Repo::new(Api::Pages(10)).serve();
    let full = repo.serve();
    for (mirror, is_asked) in [(&empty, true), (&full, false)] {
        let mut options = quick();
        options.mirrors = vec![format!("{}={}", upstream.host(), mirror.host()).parse().unwrap()];
        let before = upstream.paths().len();
        let found = source(options)
            .referrers(&upstream.repository(), &root.digest)
            .unwrap();
        assert_eq!(found.len(), 2);
        let tag = Referrer::tag(&root.digest, "sig");
        let asked = upstream.paths()[before..].iter().any(|path| path.ends_with(&tag));
        assert_eq!(asked, is_asked);
    }
}

#[test]
fn a_mirror_tells_alone_where_the_registry_cannot_be_reached() {
    let (repo, [root, amd64, _]) = signed(Api::Status(404));
    let mirror = repo.serve();
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut options = quick();
    options.mirrors = vec![format!("{dead}={}", mirror.host()).parse().unwrap()];
    let (source, notes) = noted(options);
    let repository = format!("{dead}/lib/app").parse().unwrap();
    assert_eq!(source.referrers(&repository, &root.digest).unwrap().len(), 2);
    assert_eq!(source.referrers(&repository, &amd64.digest).unwrap().len(), 0);
    let notes = notes.all();
    assert_eq!(
        notes
            .matches("only its mirrors tell what refers to its images")
            .count(),
        1,
        "{notes}"
    );
    // Without a mirror nobody tells.
    let error = crate::registry::testing::source(quick()).referrers(&repository, &root.digest);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Registry);
}

#[test]
fn no_more_requests_run_at_once_than_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    for jobs in [1, 4] {
        let (repo, _) = signed(Api::Status(404));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            Server::start(move |seen| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                let reply = repo.answer(seen);
                now.fetch_sub(1, Ordering::SeqCst);
                reply
            })
        };
        let options = Options {
            jobs: NonZeroUsize::new(jobs).unwrap(),
            ..options(&BOTH)
        };
        let path = folder.path().join(format!("{jobs}.tar"));
        save_to(&path, &server, &options, &Arc::default()).unwrap();
        let most = most.load(Ordering::SeqCst);
        assert!(most <= jobs && (jobs == 1 || most > 1), "{most} of {jobs}");
    }
}

#[test]
fn signatures_can_be_all_that_is_saved_or_be_required() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let (repo, _) = signed(Api::Status(404));
    let server = repo.serve();
    let strict = |platforms: &[&str]| Options {
        referrers: ReferrerSelection::Signatures,
        requires_signature: true,
        ..options(platforms)
    };
    let summary = save_to(&path, &server, &strict(&BOTH), &Arc::default()).unwrap();
    assert_eq!(summary.images[0].referrers.len(), 2);
    std::fs::remove_file(&path).unwrap();
    // The index is not signed, and only one of its platforms is.
    let (mut repo, [root, ..]) = signed(Api::Status(404));
    repo.manifests.remove(&Referrer::tag(&root.digest, "sig"));
    let server = repo.serve();
    save_to(&path, &server, &strict(&["linux/arm64"]), &Arc::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    for platforms in [&["linux/amd64"][..], &BOTH] {
        let error = save_to(&path, &server, &strict(platforms), &Arc::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotShown, "{error}");
        assert!(error.to_string().ends_with("is not signed"), "{error}");
    }
    assert!(!path.exists());
}
