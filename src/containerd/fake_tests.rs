use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use flate2::write::GzEncoder;
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use super::api::content::{
    Info, InfoResponse, ListContentResponse, ReadContentResponse, WriteContentRequest, WriteContentResponse,
};
use super::api::diff::{ApplyRequest, ApplyResponse};
use super::api::images::{Image, ListImagesResponse};
use super::content::Content;
use super::fake::{Answer, Fake, options};
use super::images::wire;
use super::{Containerd, ContainerdStore, Options};
use crate::archive::{self, Layout};
use crate::error::{Error, ErrorKind};
use crate::interrupt::Interrupt;
use crate::load::{self, LoadOptions};
use crate::oci::{Descriptor, Digest, MAX_METADATA, MediaType, Platform};
use crate::progress::Silent;
use crate::recover::LocalStore as _;

/// The error's message and hint, without the socket's folder.
#[track_caller]
fn of_engine<T>(result: Result<T, Error>) -> String {
    let error = result.err().expect("it fails");
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    let hint = error.hint().map(|hint| format!("\n{hint}"));
    let text = format!("{error}{}", hint.unwrap_or_default());
    let words = text.split(' ');
    let words = words.map(|word| match word {
        word if word.starts_with('/') => "SOCKET:",
        // Several are sent at the same time.
        word if word.starts_with("sha256:") => "DIGEST:",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

fn layout() -> Box<dyn Layout> {
    archive::open(&["testdata/layout".into()], &archive::Options::default()).unwrap()
}

fn load_into(fake: &Fake) -> Result<load::Outcome, Error> {
    load(&Containerd::connect(&fake.options())?)
}

fn load(containerd: &Containerd) -> Result<load::Outcome, Error> {
    load_layout(containerd, layout())
}

fn load_layout(containerd: &Containerd, layout: Box<dyn Layout>) -> Result<load::Outcome, Error> {
    let options = LoadOptions::default();
    load::load(
        containerd,
        &[layout],
        &options,
        &mut (),
        &Silent,
        &Interrupt::default(),
    )
}

/// A containerd that says it has a blob of this size, and one image, which is it.
fn with_blob(size: u64, parts: Answer) -> (Fake, Digest) {
    let digest = Digest::sha256(b"blob");
    let info = Info {
        digest: digest.to_string(),
        size: i64::try_from(size).unwrap(),
        ..Info::default()
    };
    let index = Descriptor::new(MediaType::new(MediaType::OCI_INDEX), digest, size);
    let images = ListImagesResponse {
        images: vec![Image {
            name: "example.com/app:1".into(),
            target: Some(wire(&index)),
            ..Image::default()
        }],
    };
    let fake = Fake::start(&[
        ("Images/List", Answer::of(&images)),
        ("Content/Info", Answer::of(&InfoResponse { info: Some(info) })),
        ("Content/Read", parts),
    ]);
    (fake, digest)
}

fn part(data: &[u8]) -> Vec<u8> {
    let data = data.to_vec();
    ReadContentResponse { offset: 0, data }.encode_to_vec()
}

#[test]
fn a_socket_that_accepts_and_stays_silent_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let options = options(socket, Duration::from_secs(1));
    let failed = of_engine(Containerd::connect(&options));
    insta::assert_snapshot!(failed, @r"
    containerd at SOCKET: ask for the version: no answer within 1 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    let opened = ContainerdStore::open(&options, &archive::Options::default());
    assert_eq!(of_engine(opened), failed);
}

#[test]
fn a_question_without_an_answer_is_an_error() {
    let fake = Fake::start(&[("Images/List", Answer::Silence)]);
    let containerd = Containerd::connect(&fake.options()).unwrap();
    insta::assert_snapshot!(of_engine(containerd.inventory()), @r"
    containerd at SOCKET: list images: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    let fake = Fake::start(&[("Content/List", Answer::AndSilence(Vec::new()))]);
    let containerd = Containerd::connect(&fake.options()).unwrap();
    insta::assert_snapshot!(of_engine(containerd.inventory()), @r"
    containerd at SOCKET: list blobs: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
}

#[test]
fn a_load_ends_if_containerd_stops_taking_content() {
    let opened = WriteContentResponse::default().encode_to_vec();
    let fake = Fake::start(&[("Content/Write", Answer::AndSilence(opened))]);
    insta::assert_snapshot!(of_engine(load_into(&fake)), @r"
    containerd at SOCKET: write blob DIGEST: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    let fake = Fake::start(&[("Content/Write", Answer::Silence)]);
    insta::assert_snapshot!(of_engine(load_into(&fake)), @r"
    containerd at SOCKET: write blob DIGEST: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    assert_eq!(fake.count("Images/Create"), 0);
    assert_eq!(fake.count("Leases/Delete"), 1);
}

/// A containerd that has all blobs and no snapshots, and answers like this while it unpacks a layer.
fn unpacking(apply: Answer, version: Answer) -> Fake {
    Fake::start(&[
        ("Content/Write", Answer::Status(Code::AlreadyExists)),
        ("Snapshots/Prepare", Answer::Messages(vec![Vec::new()])),
        ("Snapshots/Commit", Answer::Messages(vec![Vec::new()])),
        ("Diff/Apply", apply),
        ("Version/Version", version),
    ])
}

/// The answer of a containerd that has unpacked a layer.
fn applied(diff_id: &Digest) -> Answer {
    let tar = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), *diff_id, 1);
    Answer::of(&ApplyResponse {
        applied: Some(wire(&tar)),
    })
}

#[test]
fn a_load_ends_if_containerd_stops_answering_while_it_unpacks() {
    let version = Answer::Until("Diff/Apply", Box::new([Fake::version(), Answer::Silence]));
    let fake = unpacking(Answer::Silence, version);
    insta::assert_snapshot!(of_engine(load_into(&fake)), @r"
    containerd at SOCKET: unpack layer DIGEST: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    assert_eq!(fake.count("Images/Create"), 0);
    assert_eq!(fake.count("Snapshots/Remove"), 1);
    assert_eq!(fake.count("Leases/Delete"), 1);
}

/// The version is asked for once for the connection, and then each time that a question may take.
#[test]
fn a_layer_is_unpacked_as_long_as_containerd_answers_questions() {
    let diff_id = "sha256:12d9a49f75f7448581b60bd85c8296be5b06b5da927211845bf021886f495a05";
    let applied = applied(&diff_id.parse().unwrap());
    let late = Answer::Once("Version/Version", 3, Box::new(applied));
    let fake = unpacking(late, Fake::version());
    load_into(&fake).unwrap();
    assert_eq!(fake.count("Snapshots/Commit"), 1);
    assert!(fake.count("Images/Create") > 0);
}

/// A layout of one image, whose only layer has 1.5 MB that do not compress. Returns the layer's digest and diff id.
fn large_layout(folder: &Path) -> (Digest, Digest) {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(1_500_000)
    .collect();
    let mut header = tar::Header::new_ustar();
    header.set_size(1_500_000);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "noise", noise.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let write = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let diff_id = Digest::sha256(&tar);
    let layer = write(MediaType::OCI_LAYER_GZIP, &gzip.finish().unwrap());
    let platform = Platform::host();
    let config = json!({
        "os": platform.os,
        "architecture": platform.architecture,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = write(MediaType::OCI_CONFIG, config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": config,
        "layers": [layer],
    });
    let mut manifest = write(MediaType::OCI_MANIFEST, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "example.com/app:1" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    fs::write(folder.join("oci-layout"), version.to_string()).unwrap();
    let digest = layer["digest"].as_str().unwrap();
    (digest.parse().unwrap(), diff_id)
}

/// The snapshot and the blob were there when the load was planned.
#[test]
fn a_layer_that_was_removed_is_written_though_it_is_unpacked_from_another_blob() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, diff_id) = large_layout(folder.path());
    let found = Answer::Messages(vec![Vec::new()]);
    let removed = Answer::Status(Code::NotFound);
    let taken = WriteContentResponse::default().encode_to_vec();
    let fake = Fake::start(&[
        (
            "Snapshots/Stat",
            Answer::Until("Leases/Create", Box::new([found, removed])),
        ),
        ("Snapshots/Prepare", Answer::Messages(vec![Vec::new()])),
        ("Snapshots/Commit", Answer::Messages(vec![Vec::new()])),
        ("Content/Write", Answer::Each(taken)),
        ("Content/Delete", Answer::Messages(vec![Vec::new()])),
        ("Diff/Apply", applied(&diff_id)),
    ]);
    let layout = archive::open(&[folder.path().into()], &archive::Options::default()).unwrap();
    load_layout(&Containerd::connect(&fake.options()).unwrap(), layout).unwrap();
    let unpacked = fake.messages::<ApplyRequest>("Diff/Apply");
    let [unpacked] = unpacked.as_slice() else {
        panic!("{unpacked:?}");
    };
    let is_other = unpacked.diff.as_ref().unwrap().digest != layer.to_string();
    assert_eq!(is_other, available_parallelism().unwrap().get() > 1);
    let written = fake.messages::<WriteContentRequest>("Content/Write");
    let written: Vec<&str> = written.iter().map(|write| write.expected.as_str()).collect();
    assert!(written.contains(&layer.to_string().as_str()), "{written:?}");
}

/// The names are set by then.
#[test]
fn a_load_is_reported_if_cri_does_not_answer_any_more() {
    let digest = "sha256:2a7a804d9781b45a92798d508de25c28f89b0a767fe7b2333b49ec31432e57ef";
    let manifest = Descriptor::new(
        MediaType::new(MediaType::OCI_MANIFEST),
        digest.parse().unwrap(),
        417,
    );
    let images = [":1".into(), format!("@{digest}")].map(|end: String| Image {
        name: format!("example.com/hello{end}"),
        target: Some(wire(&manifest)),
        ..Image::default()
    });
    let images = ListImagesResponse {
        images: images.into(),
    };
    // All content is there.
    let fake = Fake::start(&[
        ("ImageService/ImageFsInfo", Answer::Messages(vec![Vec::new()])),
        ("ImageService/ListImages", Answer::Status(Code::Internal)),
        ("Images/List", Answer::of(&images)),
        ("Content/Write", Answer::Status(Code::AlreadyExists)),
        ("Snapshots/Stat", Answer::Messages(vec![Vec::new()])),
        ("Snapshots/Prepare", Answer::Status(Code::AlreadyExists)),
    ]);
    let mut options = Options {
        namespace: Some("k8s.io".into()),
        is_pinned: true,
        ..fake.options()
    };
    // CRI is asked again and again for this long.
    options.timeouts.shown = Duration::from_millis(100);
    let containerd = Containerd::connect(&options).unwrap();
    let outcome = load(&containerd).unwrap();
    let load::Outcome::Loaded(report) = outcome else {
        panic!("this is no dry run");
    };
    assert_eq!(report.failure(), Some(ErrorKind::NotShown));
    assert!(fake.count("Images/Create") > 0);
    let obstacles = report.images[0].obstacles.iter().map(ToString::to_string);
    let obstacles: Vec<String> = obstacles.collect();
    assert_eq!(obstacles.len(), 2, "{obstacles:?}");
    for obstacle in &obstacles {
        assert!(
            obstacle.starts_with("containerd has example.com/hello"),
            "{obstacle}"
        );
        assert!(obstacle.contains("its CRI does not answer"), "{obstacle}");
    }
    assert_eq!(report.details.warnings, [""; 0]);
}

#[test]
fn a_part_that_is_longer_than_its_blob_is_discarded_a_few_times() {
    let opened = WriteContentResponse {
        offset: i64::MAX,
        ..WriteContentResponse::default()
    };
    let fake = Fake::start(&[("Content/Write", Answer::of(&opened))]);
    insta::assert_snapshot!(of_engine(load_into(&fake)), @"containerd at SOCKET: write blob DIGEST: what it keeps of this blob is not its beginning");
    assert_eq!(fake.count("Images/Create"), 0);
    // Several blobs are sent at the same time.
    let (written, discarded) = (fake.count("Content/Write"), fake.count("Content/Abort"));
    assert!((3..=30).contains(&discarded), "{discarded}");
    assert!((discarded..=30).contains(&written), "{written}");
}

#[test]
fn a_list_without_end_is_an_error() {
    let infos = ListContentResponse {
        info: vec![Info::default(); 100],
    };
    for message in [infos.encode_to_vec(), Vec::new()] {
        let fake = Fake::start(&[("Content/List", Answer::Endless(message))]);
        let containerd = Containerd::connect(&fake.options()).unwrap();
        let listed = Content::new(&containerd.client).list_within(100_000);
        assert_eq!(
            of_engine(listed),
            "containerd at SOCKET: list blobs: it sends more than 100000 bytes"
        );
    }
}

#[test]
fn content_without_end_is_not_read_beyond_its_size() {
    let (fake, digest) = with_blob(1000, Answer::Endless(part(&[7; 300])));
    let store = ContainerdStore::open(&fake.options(), &archive::Options::default()).unwrap();
    assert_eq!(store.stored(&digest).unwrap().unwrap().size, 1000);
    let read = store.document(&digest).expect_err("it is longer");
    assert_eq!(read.kind(), ErrorKind::Content, "{read}");
    let containerd = Containerd::connect(&fake.options()).unwrap();
    let read = Content::new(&containerd.client).metadata(&digest);
    insta::assert_snapshot!(of_engine(read), @"containerd at SOCKET: read a manifest: it sends more than 8388608 bytes");
    // Nor parts without content.
    let (fake, digest) = with_blob(MAX_METADATA, Answer::Endless(part(b"")));
    let store = ContainerdStore::open(&fake.options(), &archive::Options::default()).unwrap();
    assert!(store.document(&digest).is_err());
    // It may also stop in the middle.
    let (fake, digest) = with_blob(1000, Answer::AndSilence(part(&[7; 300])));
    let store = ContainerdStore::open(&fake.options(), &archive::Options::default()).unwrap();
    insta::assert_snapshot!(of_engine(store.stored(&digest)), @r"
    containerd at SOCKET: read a blob: no answer within 3 seconds
    containerd is stopped or overloaded (systemctl status containerd); run this again when it answers
    ");
    let (fake, digest) = with_blob(1000, Answer::Status(Code::DataLoss));
    let store = ContainerdStore::open(&fake.options(), &archive::Options::default()).unwrap();
    insta::assert_snapshot!(of_engine(store.stored(&digest)), @"containerd at SOCKET: read a blob: Unrecoverable data loss or corruption");
}
