//! Files that another user planted where root writes or reads: never followed, never written, never waited for.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::command::bounded;
use crate::support::{Image, Layer, Run, Sealift, run};

/// The user who plants: `nobody`, by number.
const OTHER: u32 = 65_534;
/// What no file of root's may lose.
const SECRET: &[u8] = b"a file of root's";

/// A folder of another user, in a home that others can enter, with an image to save.
struct Trap {
    sealift: Sealift,
    layout: String,
}

impl Trap {
    fn new() -> Self {
        let sealift = Sealift::new();
        fs::set_permissions(sealift.home(), fs::Permissions::from_mode(0o755)).unwrap();
        let layout = sealift.path("layout");
        Image::single(vec![Layer::new().noise("a", 1, 300_000)]).build(&layout, "1");
        let out = sealift.path("out");
        fs::create_dir(&out).unwrap();
        chown(&out, Some(OTHER), Some(OTHER)).unwrap();
        fs::write(sealift.path("victim"), SECRET).unwrap();
        fs::create_dir(sealift.path("vault")).unwrap();
        fs::write(sealift.path("vault/1.001"), SECRET).unwrap();
        Self {
            layout: layout.to_str().unwrap().into(),
            sealift,
        }
    }

    /// Plants: a script of the other user, run in their folder. `$H` is the home around it.
    fn plant(&self, script: &str) {
        run(&mut self.other(script)).ok();
    }

    fn other(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).env("H", self.sealift.home());
        shell.current_dir(self.sealift.path("out")).uid(OTHER).gid(OTHER);
        shell.stdin(Stdio::null());
        shell
    }

    /// Saves as root to a file.
    fn save(&self, target: &str, more: &[&str]) -> Run {
        let mut args = vec!["save", "-q", "--from", &self.layout, "small:1", "-o", target];
        args.extend(more);
        bounded(&mut self.sealift.command(&args))
    }

    /// Fails unless every file of root's is as it was.
    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        for name in ["victim", "vault/1.001"] {
            let found = fs::read(self.sealift.path(name)).unwrap();
            assert!(found == SECRET, "{what}: {name} has {} other bytes", found.len());
        }
        let vault: Vec<_> = fs::read_dir(self.sealift.path("vault")).unwrap().collect();
        assert_eq!(vault.len(), 1, "{what}: {vault:?}");
    }
}

#[test]
fn a_part_folder_of_another_user_is_not_used() {
    for (script, says) in [
        ("mkdir $P; ln -s $H/victim $P/lock", "belongs to another user"),
        ("mkdir $P; ln -s $H/victim $P/1.001", "belongs to another user"),
        ("mkdir -m 777 $P", "belongs to another user"),
        ("ln -s $H/vault $P", "symbolic link"),
        ("mkfifo $P", "FIFO"),
        ("touch $P", "regular file"),
    ] {
        let trap = Trap::new();
        trap.plant(&format!("P=.images.tar.sealift-part; {script}"));
        let refused = trap.save("out/images.tar", &[]).code(3);
        for part in [".images.tar.sealift-part", says, "hint: "] {
            assert!(refused.stderr.contains(part), "{script}: {}", refused.stderr);
        }
        trap.assert_untouched(script);
        assert!(!trap.sealift.path("out/images.tar").exists(), "{script}");
    }
}

#[test]
fn a_part_folder_that_others_can_write_to_is_not_used() {
    let trap = Trap::new();
    let folder = trap.sealift.path("out/.images.tar.sealift-part");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = trap.save("out/images.tar", &[]).code(3);
    assert!(
        refused.stderr.contains("other users can write to it"),
        "{}",
        refused.stderr
    );
}

#[test]
fn links_and_other_files_in_a_part_folder_are_not_followed() {
    // Root's own folder, as after a run that was killed, into which something got before it was closed to others.
    for (script, code) in [
        ("ln -s ../../victim 1.001", 0),
        ("ln ../../victim 1.001", 0),
        ("mkfifo 1.001", 0),
        ("ln -s ../../victim journal.json", 0),
        ("mkfifo journal.json", 0),
        ("ln -s ../../victim journal.json.new", 0),
        ("ln ../../victim journal.json.new", 0),
        ("mkfifo journal.json.new", 0),
        ("ln -s ../../victim lock", 3),
        ("ln ../../victim lock", 3),
        ("mkfifo lock", 3),
        ("mkdir deeper", 3),
    ] {
        let trap = Trap::new();
        let folder = trap.sealift.path("out/.images.tar.sealift-part");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        run(Command::new("sh").args(["-ec", script]).current_dir(&folder)).ok();
        let saved = trap.save("out/images.tar", &[]).code(code);
        trap.assert_untouched(script);
        match code {
            0 => drop(trap.sealift.run(&["verify", "out/images.tar"]).ok()),
            _ => assert!(
                saved.stderr.contains("images.tar.sealift-part"),
                "{}",
                saved.stderr
            ),
        }
    }
}

#[test]
fn links_of_another_user_at_the_archives_name_are_not_followed() {
    for (script, says) in [
        ("ln -s $H/victim images.tar", "link of another user"),
        ("ln -s $H/nothing images.tar", "link of another user"),
        ("ln -s /dev/null images.tar", "link of another user"),
        ("mkfifo images.tar", "belongs to another user"),
        ("mkdir images.tar", "names a folder"),
    ] {
        for parts in [&[][..], &["--split", "100kB"]] {
            let trap = Trap::new();
            trap.plant(script);
            let code = if script.starts_with("mkdir") { 2 } else { 3 };
            if !parts.is_empty() && !script.starts_with("ln") {
                continue; // nothing of that name is written
            }
            let refused = trap.save("out/images.tar", parts).code(code);
            assert!(refused.stderr.contains(says), "{script}: {}", refused.stderr);
            trap.assert_untouched(script);
            assert!(!trap.sealift.path("nothing").exists());
        }
    }
    // The folder itself.
    let trap = Trap::new();
    trap.plant("ln -s $H/vault way");
    for target in ["out/way/images.tar", "out/way/../new.tar"] {
        let refused = trap.save(target, &[]).code(3);
        assert!(
            refused.stderr.contains("out/way is a link of another user"),
            "{}",
            refused.stderr
        );
    }
    trap.assert_untouched("the folder");
}

#[test]
fn a_file_at_a_parts_name_is_replaced_or_refused() {
    for (script, code) in [
        (
            "ln -s $H/victim images.tar.001; ln -s $H/victim images.tar.002",
            0,
        ),
        ("mkfifo images.tar.001", 2),
        ("mkdir images.tar.002", 2),
    ] {
        let trap = Trap::new();
        trap.plant(script);
        trap.save("out/images.tar", &["--split", "100kB"]).code(code);
        trap.assert_untouched(script);
        if code == 0 {
            for number in 1..=3 {
                let part = trap.sealift.path(&format!("out/images.tar.{number:03}"));
                let meta = fs::symlink_metadata(part).unwrap();
                assert!(meta.is_file() && meta.uid() == 0);
            }
            trap.sealift.run(&["verify", "out/images.tar"]).ok();
        }
    }
}

/// A process of the other user; ends with its owner.
struct Attacker(Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_race_leads_to_another_file() {
    let trap = Trap::new();
    let script = "
        set +e
        P=.images.tar.sealift-part
        while :; do
            mv $P gone.$$; ln -s $H/vault $P
            rm -f $P; mkdir $P && ln -s $H/victim $P/1.001
            rm -rf $P gone.$$
            rm -f images.tar; ln -s $H/victim images.tar
            rm -f images.tar; mkfifo images.tar
            rm -f images.tar
        done";
    let mut attacker = Attacker(trap.other(script).stderr(Stdio::null()).spawn().unwrap());
    for _ in 0..150 {
        let saved = trap.save("out/images.tar", &["--no-resume"]);
        // 2 where a FIFO or a folder was there when the place was looked at.
        assert!(matches!(saved.code, Some(0 | 2 | 3)), "{saved:?}");
        trap.assert_untouched("a race");
    }
    assert!(attacker.0.try_wait().unwrap().is_none(), "the attacker gave up");
}

#[test]
fn a_temporary_folder_of_another_user_reveals_nothing() {
    let trap = Trap::new();
    trap.plant("for n in 1 2 3; do ln -s $H/victim .tmp$n; done");
    run(Command::new("gzip").args(["-k", "small.tar"]).current_dir({
        trap.save("small.tar", &[]).ok();
        trap.sealift.home()
    }))
    .ok();
    let verified = bounded(
        &mut trap
            .sealift
            .command(&["verify", "--tmpdir", "out", "small.tar.gz"]),
    );
    verified.ok();
    trap.assert_untouched("a temporary folder");
    let left = fs::read_dir(trap.sealift.path("out")).unwrap().count();
    assert_eq!(left, 3, "nothing of ours is left");
}

/// A file system on which every file belongs to one user, as on a stick with FAT that a desktop mounted.
struct Ownerless(PathBuf);

impl Ownerless {
    fn mount(over: &Path) -> Self {
        let options = format!("--force-user={OTHER} --force-group={OTHER} --perms=a+rwX");
        run(Command::new("bindfs")
            .args(options.split(' '))
            .arg(over)
            .arg(over))
        .ok();
        Self(over.into())
    }
}

impl Drop for Ownerless {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_medium_without_owners_is_written_to() {
    let trap = Trap::new();
    let stick = trap.sealift.path("stick");
    fs::create_dir(&stick).unwrap();
    let mounted = Ownerless::mount(&stick);
    trap.save("stick/images.tar", &["--split", "100kB"]).ok();
    assert_eq!(fs::metadata(stick.join("images.tar.001")).unwrap().uid(), OTHER);
    trap.save("stick/images.tar", &[]).ok();
    // What an interrupted run left there is taken over.
    fs::create_dir(stick.join(".again.tar.sealift-part")).unwrap();
    trap.save("stick/again.tar", &[]).ok();
    let names = fs::read_dir(&stick).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again.tar", "images.tar"]);
    drop(mounted);
}

#[test]
fn an_own_link_and_a_pipe_are_written_to() {
    let trap = Trap::new();
    trap.save("whole.tar", &[]).ok();
    let whole = fs::read(trap.sealift.path("whole.tar")).unwrap();
    std::os::unix::fs::symlink("vault/real.tar", trap.sealift.path("link.tar")).unwrap();
    trap.save("link.tar", &[]).ok();
    assert!(fs::read(trap.sealift.path("vault/real.tar")).unwrap() == whole);
    assert!(trap.sealift.path("link.tar").is_symlink());
    let piped = trap
        .sealift
        .command(&[
            "save",
            "-q",
            "--from",
            &trap.layout,
            "small:1",
            "-o",
            "/dev/stdout",
        ])
        .output()
        .unwrap();
    assert!(
        piped.stdout.starts_with(&whole),
        "{}",
        String::from_utf8_lossy(&piped.stderr)
    );
    run(Command::new("mkfifo").arg(trap.sealift.path("fifo"))).ok();
    let read = fs::File::create(trap.sealift.path("read")).unwrap();
    let mut reader = Command::new("cat")
        .arg(trap.sealift.path("fifo"))
        .stdout(read)
        .spawn()
        .unwrap();
    trap.save("fifo", &[]).ok();
    assert!(reader.wait().unwrap().success());
    assert!(fs::read(trap.sealift.path("read")).unwrap() == whole);
}

#[test]
fn a_receipt_is_refused_before_the_load_if_it_would_go_to_another_user() {
    let trap = Trap::new();
    trap.plant("mkfifo receipt.json");
    let load = [
        "load",
        "-q",
        "layout",
        "--to",
        "oci:new",
        "--receipt",
        "out/receipt.json",
    ];
    let refused = bounded(&mut trap.sealift.command(&load)).code(3);
    assert!(
        refused.stderr.contains("belongs to another user"),
        "{}",
        refused.stderr
    );
    assert!(!trap.sealift.path("new").exists());
}

#[test]
fn variables_of_another_user_are_not_taken_where_everyone_can_put_them() {
    let trap = Trap::new();
    let common = trap.sealift.path("common");
    fs::create_dir(&common).unwrap();
    fs::set_permissions(&common, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(
        common.join("compose.yaml"),
        "services: {web: {image: \"${HOST:-example.com}/web:1\"}}\n",
    )
    .unwrap();
    trap.plant("echo HOST=evil.example >../common/.env");
    let list = ["images", "-q", "common/compose.yaml"];
    let refused = trap.sealift.run(&list).code(2);
    let says = "common/.env belongs to another user (uid 65534)";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    let named = [&list[..], &["--env-file", "common/.env"]].concat();
    assert_eq!(trap.sealift.run(&named).ok().stdout, "evil.example/web:1\n");
    // In a folder of that user, both files are theirs.
    chown(&common, Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(trap.sealift.run(&list).ok().stdout, "evil.example/web:1\n");
}
