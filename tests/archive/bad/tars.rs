//! Broken tars: what two readers could understand differently.

use tar::{EntryType, Header};

use super::{Case, case};
use crate::images::{Sample, blob, gzip, only, zstd};
use crate::tar_builder::{TarBuilder, header, length};

/// All entries of the usual sample before `index.json`, so that something follows.
fn before() -> (TarBuilder, TarBuilder) {
    let files = Sample::plain().files();
    let (blobs, names) = files.split_at(files.len() - 2);
    (
        TarBuilder::default().files(blobs),
        TarBuilder::default().files(names),
    )
}

/// The usual sample with something between its blobs and what names them.
pub(super) fn with(between: impl FnOnce(TarBuilder) -> TarBuilder) -> Vec<u8> {
    let (blobs, names) = before();
    between(blobs).raw(&names.0).end()
}

fn sized(field: [u8; 12]) -> Header {
    header("x", EntryType::Regular, 0, |header| {
        header.as_mut_bytes()[124..136].copy_from_slice(&field);
    })
}

pub(super) fn field(range: std::ops::Range<usize>, bytes: &[u8]) -> Header {
    header("x", EntryType::Regular, 0, |header| {
        header.as_mut_bytes()[range].copy_from_slice(bytes)
    })
}

/// The sample with its layer replaced by another entry under the same name.
fn link(kind: EntryType) -> Vec<u8> {
    let files = Sample::plain().files();
    let tar = files.iter().fold(TarBuilder::default(), |tar, (name, data)| {
        if *data == only() {
            let change = |header: &mut Header| header.set_link_name("/etc/passwd").unwrap();
            tar.entry(&header(name, kind, 0, change), b"")
        } else {
            tar.file(name, data)
        }
    });
    tar.end()
}

pub fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(entries());
    cases.extend(extensions());
    cases.extend(ends());
    cases
}

fn sizes() -> Vec<Case> {
    let file = |header: Header| with(|tar| tar.entry(&header, b""));
    vec![
        case(
            "pax-size-differs",
            &["tar"],
            "the header says 4 bytes, its PAX header 8",
            with(|tar| tar.pax(&[("size", "8")]).file("x", b"four")),
        ),
        case("pax-size-of-a-folder", &["tar"], "a folder with 512 bytes", {
            with(|tar| tar.pax(&[("size", "512")]).kind("x/", EntryType::Directory, b""))
        }),
        case("pax-size-past-the-end", &["truncated"], "expected 99999999", {
            with(|tar| {
                tar.pax(&[("size", "99999999")])
                    .entry(&header("x", EntryType::Regular, 0, |_| {}), b"")
            })
        }),
        case("pax-size-no-number", &["tar"], "PAX size is not a number", {
            with(|tar| tar.pax(&[("size", "+4")]).file("x", b"four"))
        }),
        case("size-negative", &["tar"], "negative", file(sized([0xff; 12]))),
        case("size-overflows", &["tar"], "too large", {
            let mut size = [0xff; 12];
            size[0] = 0x80;
            file(sized(size))
        }),
        case(
            "size-wraps-around",
            &["truncated"],
            "expected 18446744073709551615",
            file(sized([0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])),
        ),
        case(
            "size-past-the-end",
            &["truncated"],
            "expected 8589934591",
            file(sized(*b"77777777777\0")),
        ),
        case(
            "size-no-number",
            &["tar"],
            "size is not a number",
            file(sized(*b"0000000001x\0")),
        ),
        case(
            "size-with-text-behind-it",
            &["tar"],
            "size is not a number",
            file(sized(*b"0 9000000000")),
        ),
        case("folder-with-data", &["tar"], "a folder with 512 bytes", {
            with(|tar| tar.kind("x/", EntryType::Directory, &[1; 512]))
        }),
    ]
}

fn entries() -> Vec<Case> {
    let (name, data) = blob(&only());
    let twice = |name: &str, data: &[u8]| with(|tar| tar.file(name, data));
    let index = Sample::plain().index.to_string();
    let named = |name: &str| with(|tar| tar.file(name, b""));
    vec![
        case("blob-twice", &["duplicate"], "occurs twice", twice(&name, &data)),
        case(
            "blob-twice-dotted",
            &["duplicate"],
            "occurs twice",
            twice(&format!("./{name}"), &data),
        ),
        case(
            "blob-twice-other-bytes",
            &["duplicate"],
            "occurs twice",
            twice(&name, b"other"),
        ),
        case(
            "index-twice",
            &["duplicate"],
            "index.json",
            twice("index.json", index.as_bytes()),
        ),
        case(
            "marker-twice",
            &["duplicate"],
            "oci-layout",
            twice("./oci-layout", b"{}"),
        ),
        case("file-and-folder", &["duplicate"], "occurs twice", {
            with(|tar| tar.file("x", b"").kind("x/", EntryType::Directory, b""))
        }),
        case(
            "blob-is-a-symlink",
            &["missing", "not-a-file"],
            "is a symbolic link",
            link(EntryType::Symlink),
        ),
        case(
            "blob-is-a-hard-link",
            &["missing", "not-a-file"],
            "is a hard link",
            link(EntryType::Link),
        ),
        case(
            "blob-is-a-device",
            &["missing", "not-a-file"],
            "is a block device",
            link(EntryType::Block),
        ),
        case(
            "blob-is-a-terminal",
            &["missing", "not-a-file"],
            "is a character device",
            link(EntryType::Char),
        ),
        case(
            "blob-is-a-fifo",
            &["missing", "not-a-file"],
            "is a FIFO",
            link(EntryType::Fifo),
        ),
        case(
            "blob-is-a-folder",
            &["missing"],
            "missing",
            link(EntryType::Directory),
        ),
        case(
            "entry-sparse",
            &["tar"],
            "sparse",
            with(|tar| tar.kind("x", EntryType::GNUSparse, b"")),
        ),
        case(
            "entry-of-unknown-type",
            &["tar"],
            "type 'Z'",
            with(|tar| tar.kind("x", EntryType::new(b'Z'), b"")),
        ),
        case("name-absolute", &["name"], "/etc/passwd", named("/etc/passwd")),
        case(
            "name-climbs",
            &["name"],
            "blobs/../index.json",
            named("blobs/../index.json"),
        ),
        case("name-doubled-slash", &["name"], "blobs//x", named("blobs//x")),
        case("name-of-a-folder", &["name"], "x/", named("x/")),
        case("name-empty", &["name"], "elsewhere", named("")),
        case("name-not-utf8", &["tar"], "not UTF-8", {
            with(|tar| tar.entry(&field(0..2, b"\xff\xfe"), b""))
        }),
        case("digest-upper-case", &["bad-digest"], "lower-case hex", {
            named(&format!("blobs/sha256/{}", "AB".repeat(32)))
        }),
        case(
            "digest-short",
            &["bad-digest"],
            "64 hex digits",
            named("blobs/sha256/abc"),
        ),
        case(
            "digest-unknown",
            &["bad-digest"],
            "cannot be verified",
            named("blobs/md5/abc"),
        ),
        case(
            "blob-in-no-folder",
            &["bad-digest"],
            "blobs/abc",
            named("blobs/abc"),
        ),
        case("checksum-wrong", &["tar"], "checksum is wrong", {
            let mut header = header("x", EntryType::Regular, 0, |_| {});
            header.as_mut_bytes()[0] = b'y';
            with(|tar| tar.entry(&header, b""))
        }),
        case("mode-no-number", &["tar"], "mode is not a number", {
            with(|tar| tar.entry(&field(100..108, b"rw-r--r-"), b""))
        }),
        case("gnu-header-with-prefix", &["tar"], "name prefix", {
            let mut gnu = Header::new_gnu();
            gnu.as_mut_bytes()[345..350].copy_from_slice(b"blobs");
            gnu.as_mut_bytes()[0] = b'x';
            for (field, digits) in [
                (100..107, 7),
                (108..115, 7),
                (116..123, 7),
                (124..135, 11),
                (136..147, 11),
            ] {
                gnu.as_mut_bytes()[field].copy_from_slice(&b"00000000000"[..digits]);
            }
            gnu.set_cksum();
            with(|tar| tar.entry(&gnu, b""))
        }),
        case(
            "star-header",
            &["tar"],
            "star header",
            with(|tar| tar.entry(&field(508..512, b"tar\0"), b"")),
        ),
        case(
            "entries-too-many",
            &["too-many"],
            "more than 65536",
            too_many("../x"),
        ),
        case(
            "duplicates-too-many",
            &["too-many"],
            "more than 65536",
            too_many("x"),
        ),
    ]
}

/// More entries than are held in memory, each found wrong or not.
fn too_many(name: &str) -> Vec<u8> {
    with(|tar| (0..=65_536).fold(tar, |tar, _| tar.file(name, b"")))
}

fn extensions() -> Vec<Case> {
    let pax = |data: &[u8]| with(|tar| tar.kind("p", EntryType::XHeader, data).file("x", b""));
    let long = |tar: TarBuilder, data: &[u8]| tar.kind("././@LongLink", EntryType::GNULongName, data);
    vec![
        case("pax-sparse", &["tar"], "sparse", {
            with(|tar| {
                tar.pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")])
                    .file("x", b"four")
            })
        }),
        case("pax-too-large", &["too-large"], "over the limit of 1048576", {
            let header = header("p", EntryType::XHeader, 2 << 20, |_| {});
            with(|tar| tar.entry(&header, b""))
        }),
        case(
            "long-name-too-large",
            &["too-large"],
            "over the limit of 1048576",
            {
                let header = header("p", EntryType::GNULongName, 1 << 40, |_| {});
                with(|tar| tar.entry(&header, b""))
            },
        ),
        case(
            "pax-record-cut",
            &["tar"],
            "malformed PAX record",
            pax(b"99 path=x\n"),
        ),
        case(
            "pax-record-without-value",
            &["tar"],
            "malformed PAX record",
            pax(b"7 path\n"),
        ),
        case(
            "pax-record-behind-an-empty-line",
            &["tar"],
            "malformed PAX record",
            pax(b"9 path=a\n\n9 path=b\n"),
        ),
        case(
            "pax-key-twice",
            &["tar"],
            "occurs twice",
            pax(b"9 path=a\n9 path=b\n"),
        ),
        case("names-too-long", &["tar"], "names take more than 16 MiB", {
            let name = "n".repeat(1_000_000);
            with(|tar| {
                (0..17).fold(tar, |tar, number| {
                    long(tar, format!("{name}{number}\0").as_bytes()).file("x", b"")
                })
            })
        }),
        case("pax-path-with-nul", &["tar"], "NUL", pax(b"12 path=a\0b\n")),
        case("pax-twice", &["tar"], "two PAX headers", {
            with(|tar| tar.pax(&[("path", "a")]).pax(&[("mtime", "1")]).file("x", b""))
        }),
        case("pax-global-path", &["tar"], "a global PAX header sets path", {
            with(|tar| tar.kind("g", EntryType::XGlobalHeader, b"9 path=a\n"))
        }),
        case("pax-at-the-end", &["tar"], "no entry after it", {
            let (blobs, names) = before();
            blobs.raw(&names.0).pax(&[("path", "x")]).end()
        }),
        case("long-name-and-pax-name", &["tar"], "two names", {
            with(|tar| long(tar.pax(&[("path", "a")]), b"b\0").file("x", b""))
        }),
        case("long-name-twice", &["tar"], "two long names", {
            with(|tar| long(long(tar, b"a\0"), b"b\0").file("x", b""))
        }),
        case("long-name-with-a-tail", &["tar"], "data after its end", {
            with(|tar| long(tar, b"a\0b").file("x", b""))
        }),
        case(
            "pax-name-of-a-blob-that-is-there",
            &["duplicate"],
            "occurs twice",
            {
                let (name, data) = blob(&only());
                with(|tar| tar.pax(&[("path", &name)]).file("harmless", &data))
            },
        ),
    ]
}

fn ends() -> Vec<Case> {
    let whole = Sample::plain().tar();
    let content = whole.len() - 1024;
    let tailed = |tail: &[u8]| [&whole[..], tail].concat();
    assert!(length(&whole) < 10_000, "small");
    vec![
        case(
            "cut-in-data",
            &["truncated"],
            "at byte",
            whole[..2 * 1024 + 600].to_vec(),
        ),
        case(
            "cut-in-a-header",
            &["truncated"],
            "at byte 1024",
            whole[..1024 + 100].to_vec(),
        ),
        case(
            "cut-before-the-end",
            &["no-end"],
            "the archive was truncated",
            whole[..content].to_vec(),
        ),
        case(
            "cut-in-the-end",
            &["no-end"],
            "the archive was truncated",
            whole[..content + 512].to_vec(),
        ),
        case("data-after-the-end", &["data-after-end"], "at byte 17", {
            let zeros = vec![0; 170_000 - whole.len()];
            tailed(&[&zeros[..], b"x"].concat())
        }),
        case(
            "archive-after-the-end",
            &["data-after-end"],
            "data follows",
            tailed(&whole),
        ),
        case("one-block-of-zeros", &["data-after-end"], "data follows", {
            let (blobs, names) = before();
            blobs.raw(&[0; 512]).raw(&names.0).end()
        }),
        case("no-tar", &["tar"], "this is not a tar", b"text ".repeat(300)),
        case("empty", &["tar"], "an empty file", Vec::new()),
        case("xz", &["tar"], "xz", b"\xfd7zXZ\0 and so on".to_vec()),
        case(
            "zstd-behind-a-skippable-frame",
            &["tar"],
            "skippable zstd frame",
            {
                // A tar to who takes the first frame's magic for the begin of a name.
                let mut first = b"P*M\x18".to_vec();
                first.extend(4_u32.to_le_bytes());
                first.extend(b"name");
                first.extend(zstd(&Sample::plain().tar()));
                first
            },
        ),
        case("zip", &["tar"], "a zip file", b"PK\x03\x04 and so on".to_vec()),
        case(
            "gzip-of-nothing",
            &["compression"],
            "cannot be decompressed",
            b"\x1f\x8b\x08".to_vec(),
        ),
        case(
            "gzip-with-a-tail",
            &["data-after-stream"],
            "data follows",
            [gzip(&whole), b"x".to_vec()].concat(),
        ),
    ]
}
