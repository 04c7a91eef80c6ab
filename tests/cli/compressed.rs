//! Archives that someone compressed as a whole: only what their tar announces, and what there is room for, is expanded.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;

use crate::support::command::bounded;
use crate::support::{Image, Layer, Run, Sealift, Transcript, run};

/// A file system of four MiB, in which sealift keeps what it decompresses.
struct Small(PathBuf);

impl Small {
    fn mount(sealift: &Sealift) -> Small {
        let path = sealift.path("small");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&path)).ok();
        Small(path)
    }

    fn assert_empty(&self) {
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 0);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// An archive of one image, `app.tar`.
fn setup() -> (Sealift, Small) {
    let sealift = Sealift::new();
    let mut image = Image::small("app");
    let noise = Layer::new().noise("noise", 1, 1_000_000);
    image.platforms[0].1.push(noise);
    image.build(&sealift.path("layout"), "1");
    let save = ["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"];
    sealift.run(&save).ok();
    let small = Small::mount(&sealift);
    (sealift, small)
}

/// The header of a file that is announced with that many bytes.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

const COMPRESSORS: [&str; 2] = ["gzip -1", "zstd -q --no-check"];

/// Compresses `begin` and what a shell command prints behind it, and has sealift look at that.
fn verify_compressed(sealift: &Sealift, compressor: &str, begin: &[u8], script: &str, args: &[&str]) -> Run {
    fs::write(sealift.path("begin"), begin).unwrap();
    let script = format!("(cat begin; {script}) | {compressor} > bomb.tar.z");
    run(&mut sealift.shell(&script)).ok();
    bounded(&mut sealift.command(&[&["verify", "--tmpdir", "small", "bomb.tar.z"][..], args].concat()))
}

#[test]
fn whole_archives_are_read_from_both_formats() {
    let (sealift, small) = setup();
    let whole = sealift.run(&["list", "--json", "app.tar"]).ok().json();
    for compressor in COMPRESSORS {
        let app = fs::read(sealift.path("app.tar")).unwrap();
        // Tools fill up records with zeros: they take no room.
        verify_compressed(&sealift, compressor, &app, "head -c 10M /dev/zero", &[]).ok();
        let listed = sealift.run(&["list", "--json", "--tmpdir", "small", "bomb.tar.z"]);
        let mut listed = listed.ok().json();
        listed["archives"][0]["archive"] = "app.tar".into();
        assert_eq!(listed, whole);
        small.assert_empty();
    }
}

#[test]
fn data_without_a_header_is_not_decompressed() {
    let (sealift, small) = setup();
    let app = fs::read(sealift.path("app.tar")).unwrap();
    let cut = &app[..app.len() - 1024];
    let again = {
        let names = ["oci-layout", "oci-layout"];
        names.map(|name| [header(name, 3 << 20), vec![b'x'; 3 << 20]].concat())
    };
    let climbing = [header("a", 1), vec![b'a'; 512], {
        let mut header = tar::Header::from_byte_slice(&header("xx/x", 100 << 20)).clone();
        header.as_mut_bytes()[..4].copy_from_slice(b"../x");
        header.set_cksum();
        header.as_bytes().to_vec()
    }]
    .concat();
    let large = [header("a", 1), vec![b'a'; 512], header("index.json", 100 << 20)].concat();
    let zeros = "head -c 200M /dev/zero";
    let text = "yes | head -c 200M";
    let mut transcript = Transcript::of(&sealift);
    for (line, begin, script) in [
        ("zeros after the end", &app[..], zeros),
        ("data after the end", &app, text),
        ("no end", cut, text),
        ("only zeros", b"", zeros),
        ("a name twice", &again.concat(), text),
        ("a name outside", &climbing, zeros),
        ("a large index.json", &large, zeros),
    ] {
        let runs = COMPRESSORS.map(|compressor| {
            let run = verify_compressed(&sealift, compressor, begin, script, &[]).code(1);
            small.assert_empty();
            run
        });
        assert_eq!(runs[0].stderr, runs[1].stderr);
        transcript.add(
            &format!("sealift verify --tmpdir small bomb.tar.z   # {line}"),
            &runs[0],
        );
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift verify --tmpdir small bomb.tar.z   # zeros after the end
    2> error: bomb.tar.z at byte 17792512: not a valid tar: more than 16 MiB of zeros follow its end
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # data after the end
    2> error: bomb.tar.z at byte 1015808: data follows the end of the archive
    2> hint: if it is in parts, remove those of older archives
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # no end
    2> error: bomb.tar.z at byte 1014784: not a valid tar: a header's checksum is wrong, or this is not a tar
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # only zeros
    2> error: bomb.tar.z at byte 0: not a valid tar: it has no entries
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # a name twice
    2> error: bomb.tar.z: oci-layout at byte 3146240: occurs twice
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # a name outside
    2> error: bomb.tar.z: ../x at byte 1024: a name that other readers could place elsewhere
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z   # a large index.json
    2> error: bomb.tar.z: index.json at byte 1024: 104857600 bytes, over the limit of 4194304
    exit 1
    ");
}

#[test]
fn an_entry_is_decompressed_only_below_the_limit_and_if_it_fits() {
    let (sealift, small) = setup();
    let begin = [header("a", 1), vec![b'a'; 512], header("b", (64 << 30) + 1)].concat();
    let zeros = "head -c 200M /dev/zero";
    let mut transcript = Transcript::of(&sealift);
    for (options, code) in [("", 1), ("--max-layer-size 1TiB", 3)] {
        let arguments: Vec<&str> = options.split_whitespace().collect();
        let [gzip, zstd] = COMPRESSORS.map(|compressor| {
            let run = verify_compressed(&sealift, compressor, &begin, zeros, &arguments).code(code);
            small.assert_empty();
            run
        });
        assert_eq!(gzip.stderr, zstd.stderr);
        if let Some((before, _)) = gzip.stderr.split_once(" are free") {
            transcript.name(before.rsplit(' ').next().unwrap(), "FREE");
        }
        transcript.add(
            &format!("sealift verify --tmpdir small bomb.tar.z {options}"),
            &gzip,
        );
    }
    transcript.run("list --tmpdir small --max-layer-size 1MB bomb.tar.z");
    transcript.run("save --tmpdir small --max-layer-size 1MB --from bomb.tar.z -o x.tar");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify --tmpdir small bomb.tar.z
    2> error: bomb.tar.z: b at byte 1024: decompresses to more than 68719476736 bytes
    2> hint: raise it with --max-layer-size if the image is known to be that large
    exit 1

    $ sealift verify --tmpdir small bomb.tar.z --max-layer-size 1TiB
    2> error: cannot write small: bomb.tar.z: b at byte 1024 needs 68719476737 bytes, FREE are free
    2> hint: the archive is copied there first; choose another folder with --tmpdir
    exit 3

    $ sealift list --tmpdir small --max-layer-size 1MB bomb.tar.z
    2> error: bomb.tar.z: b at byte 1024: decompresses to more than 1000000 bytes
    2> hint: raise it with --max-layer-size if the image is known to be that large
    exit 1

    $ sealift save --tmpdir small --max-layer-size 1MB --from bomb.tar.z -o x.tar
    2> error: bomb.tar.z: b at byte 1024: decompresses to more than 1000000 bytes
    2> hint: raise it with --max-layer-size if the image is known to be that large
    exit 1
    ");
}

#[test]
fn nothing_is_left_of_a_decompressed_archive() {
    let (sealift, small) = setup();
    let app = fs::read(sealift.path("app.tar")).unwrap();
    for (signal, number) in [("KILL", 9), ("INT", 2), ("TERM", 15)] {
        let verify = ["verify", "--tmpdir", "small", "-"];
        let mut child = sealift
            .command(&verify)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&app[..app.len() / 2]).unwrap();
        // Until something is kept.
        let folder = format!("/proc/{}/fd", child.id());
        let is_kept = || {
            let files = fs::read_dir(&folder).unwrap().flatten();
            let kept = |path: PathBuf| {
                let name = fs::read_link(&path).is_ok_and(|file| file.starts_with(&small.0));
                name && fs::metadata(&path).is_ok_and(|file| file.len() > 0)
            };
            files.map(|file| file.path()).any(kept)
        };
        while !is_kept() {
            assert!(child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(5));
        }
        small.assert_empty();
        let id = child.id().to_string();
        run(Command::new("kill").args([&format!("-{signal}"), &id])).ok();
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        drop(input);
        small.assert_empty();
    }
}
