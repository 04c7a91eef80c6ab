//! Attaching digests while the engine is stopped: every kind of name, with and without running containers,
//! and what keeps it from being done.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left, assert_runs, comparable, listed};
use crate::support::{Daemon, Engine, Image, Registry, Run, Sealift, Store, files_snapshot, image, run};

#[cfg(not(feature = "test-all"))]
pub const CLASSIC: &[Engine] = &[Engine::Docker20, Engine::Docker28];
#[cfg(feature = "test-all")]
pub const CLASSIC: &[Engine] = &[Engine::Docker20, Engine::Docker26, Engine::Docker28];

/// A sealift that may restart a daemon by commands.
pub struct Offline {
    pub sealift: Sealift,
    pub loader: Loader,
    pub stop: String,
    pub start: String,
}

impl Offline {
    pub fn beside(daemon: &Daemon) -> Self {
        let loader = Loader::beside(daemon);
        let run = loader.folder.path().join("run");
        Self {
            sealift: Sealift::new().docker(daemon).env("SEALIFT_RUN_DIR", run),
            loader,
            stop: daemon.stop_command(),
            start: daemon.start_command(),
        }
    }

    pub fn arguments(&self, images: &Images) -> Vec<String> {
        self.arguments_of(images.path().to_str().unwrap())
    }

    fn arguments_of(&self, archive: &str) -> Vec<String> {
        let all = ["load", archive, "--attach", "offline", "--allow-restart"];
        let commands = ["--stop-command", &self.stop, "--start-command", &self.start];
        all.iter()
            .chain(&commands)
            .map(|one| (*one).to_string())
            .collect()
    }

    pub fn load(&self, images: &Images) -> Run {
        self.sealift.run(&self.arguments(images))
    }

    pub fn load_path(&self, archive: &str) -> Run {
        self.sealift.run(&self.arguments_of(archive))
    }

    /// Without `--allow-restart`.
    fn load_without_consent(&self, images: &Images) -> Run {
        let mut arguments = self.arguments(images);
        arguments.retain(|one| one != "--allow-restart");
        self.sealift.run(&arguments)
    }

    pub fn repair(&self) -> Run {
        self.sealift.run(&["doctor", "--repair"])
    }
}

pub fn names_file(daemon: &Daemon) -> PathBuf {
    daemon.data_root().join("image/overlay2/repositories.json")
}

pub fn names(daemon: &Daemon) -> Value {
    serde_json::from_slice(&fs::read(names_file(daemon)).unwrap()).unwrap()
}

/// Nothing of ours lies beside the names.
#[track_caller]
pub fn assert_no_files_beside(daemon: &Daemon) {
    let folder = names_file(daemon).parent().unwrap().to_path_buf();
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ours: Vec<String> = names.filter(|name| name.contains("sealift")).collect();
    assert_eq!(ours, [""; 0]);
}

pub fn running(daemon: &Daemon, image: &str, name: &str) -> u64 {
    let loops = "while /bin/busybox sleep 1; do :; done";
    let mut line = vec!["run", "-d", "--network", "none", "--name", name, image];
    line.extend(["/bin/busybox", "sh", "-c", loops]);
    daemon.docker(&line).ok();
    process_of(daemon, name)
}

/// The process of a running container, 0 of one that does not run.
pub fn process_of(daemon: &Daemon, name: &str) -> u64 {
    daemon.api(&format!("/containers/{name}/json"))["State"]["Pid"]
        .as_u64()
        .unwrap()
}

#[test]
fn every_kind_of_name() {
    for engine in CLASSIC {
        let daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        let mut expected = Vec::new();
        for name in [
            "httpd:2.4",
            "quay.io/a/b:1",
            "registry.example.com:5000/a/b/c:1",
            "127.0.0.1:5000/x:1",
            "localhost:5000/x:1",
        ] {
            let built = images.add(name, &Image::sample(name, name));
            expected.push((name.to_owned(), built.digest));
        }
        // The folder's helper takes a name for one of docker.io unless its host has a dot or a colon.
        for name in [
            "docker.io/user/app:1",
            "docker.io/library/two:a",
            "docker.io/library/two:b",
        ] {
            let built = images.add(name, &Image::sample(name, name));
            let familiar = name.replace("docker.io/library/", "").replace("docker.io/", "");
            expected.push((familiar, built.digest));
        }
        let same = Image::sample("same", "same");
        for name in ["same:a", "same:b"] {
            expected.push((name.into(), images.add(name, &same).digest));
        }
        let alone = images.add_by_digest("alone", &Image::sample("alone", "alone"));
        expected.push(("alone:<none>".into(), alone.digest.clone()));
        // A tag with a digest is a digest, as in a pull.
        let pinned = images.add_by_digest("pinned:3", &Image::sample("pinned", "pinned"));
        expected.push(("pinned:<none>".into(), pinned.digest));
        let offline = Offline::beside(&daemon);
        let before = Untouched::of(&daemon);
        offline.load(&images).ok();
        assert_eq!(Untouched::of(&daemon), before);
        assert_nothing_is_left(&offline.loader);
        assert_no_files_beside(&daemon);
        for (name, digest) in &expected {
            let repository = name.rsplit_once(':').unwrap().0;
            let inspected = daemon.inspect(&format!("{repository}@{digest}"));
            assert!(
                inspected.is_some(),
                "{engine:?} {name}@{digest}: {:?}",
                daemon.images()
            );
        }
        let mut lines: Vec<String> = expected
            .iter()
            .map(|(name, digest)| format!("{name} {digest}"))
            .collect();
        lines.sort();
        // Two digests on one repository: each tag with its own.
        assert_eq!(daemon.images(), lines, "{engine:?}");
        assert_runs(
            &daemon,
            &format!("quay.io/a/b@{}", expected[1].1),
            "quay.io/a/b:1",
        );
        assert_runs(&daemon, &format!("alone@{}", alone.digest), "alone");
        assert_eq!(fs::metadata(names_file(&daemon)).unwrap().mode() & 0o777, 0o600);
        // Again there is nothing to do, and no reason to restart.
        let pid = daemon.pid();
        offline.load(&images).ok();
        assert_eq!(daemon.pid(), pid);
    }
}

#[test]
fn it_answers_as_after_a_pull() {
    for engine in CLASSIC {
        let registry = Registry::start();
        let images = Images::new();
        let name = format!("{}/team/app", registry.address());
        let built = images.add(&format!("{name}:1"), &Image::sample("app", "1"));
        registry.push(&built, "team/app:1");
        let twin = Daemon::start(*engine, Store::Classic);
        twin.docker(&["pull", "--quiet", &format!("{name}:1")]).ok();
        let daemon = Daemon::start(*engine, Store::Classic);
        Offline::beside(&daemon).load(&images).ok();
        assert_eq!(
            comparable(&daemon, &format!("{name}:1")),
            comparable(&twin, &format!("{name}:1"))
        );
        assert_eq!(names(&daemon), names(&twin));
        assert_eq!(listed(&daemon), listed(&twin));
    }
}

#[test]
fn containers_keep_running_and_the_setting_is_gone() {
    for engine in CLASSIC {
        let daemon = Daemon::options(*engine, Store::Classic)
            .config(json!({ "labels": ["rack=7"] }))
            .start();
        let images = Images::new();
        let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let offline = Offline::beside(&daemon);
        offline
            .sealift
            .run(&["load", images.path().to_str().unwrap(), "--attach", "none"])
            .ok();
        let process = running(&daemon, "quay.io/a/b:1", "web");
        let before = Untouched::of(&daemon);
        let pid = daemon.pid();
        let said = offline.load(&images).ok();
        assert!(said.stderr.contains("web"), "{said:?}");
        assert_ne!(daemon.pid(), pid, "{engine:?} was not restarted");
        assert_eq!(process_of(&daemon, "web"), process, "{engine:?}");
        let seen = fs::read_to_string(format!("/proc/{process}/root/app/version")).unwrap();
        assert_eq!(seen, "1");
        assert_eq!(Untouched::of(&daemon), before);
        assert_eq!(daemon.info()["LiveRestoreEnabled"], false);
        assert_nothing_is_left(&offline.loader);
        assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
        daemon.docker(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn without_consent_nothing_is_touched_and_the_containers_are_named() {
    for (engine, config) in [
        (Engine::Docker20, json!({})),
        (Engine::Docker28, json!({ "live-restore": true })),
    ] {
        let daemon = Daemon::options(engine, Store::Classic).config(config).start();
        let images = Images::new();
        images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let offline = Offline::beside(&daemon);
        offline.load_without_consent(&images).code(6);
        running(&daemon, "quay.io/a/b:1", "web");
        let (before, pid, file) = (
            Untouched::of(&daemon),
            daemon.pid(),
            files_snapshot(&names_file(&daemon)),
        );
        let said = offline.load_without_consent(&images).code(6);
        assert!(said.stderr.contains("--allow-restart"), "{said:?}");
        assert!(
            said.stderr.contains("keep running") && said.stderr.contains("web"),
            "{said:?}"
        );
        assert_eq!(Untouched::of(&daemon), before);
        assert_eq!((daemon.pid(), files_snapshot(&names_file(&daemon))), (pid, file));
        assert_nothing_is_left(&offline.loader);
        daemon.docker(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn containers_stop_where_they_cannot_be_kept() {
    let daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .flag("--live-restore=false")
        .start();
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let offline = Offline::beside(&daemon);
    offline.load_without_consent(&images).code(6);
    running(&daemon, "quay.io/a/b:1", "web");
    daemon.docker(&["update", "--restart", "always", "web"]).ok();
    running(&daemon, "quay.io/a/b:1", "once");
    let said = offline.load_without_consent(&images).code(6);
    let stop = "containers stop: once, web; these have no restart policy and stay stopped: once";
    assert!(said.stderr.contains(stop), "{said:?}");
    assert!(said.stderr.contains("--live-restore=false"), "{said:?}");
    daemon.docker(&["update", "--restart", "on-failure", "web"]).ok();
    let quiet = [offline.arguments(&images), vec!["-q".into()]].concat();
    let said = offline.sealift.run(&quiet).ok();
    let warning = "warning: these containers were running before the restart and are not running now: once; to start them: docker \
                   start once\n";
    assert!(said.stderr.contains(warning), "{said:?}");
    assert_eq!(process_of(&daemon, "once"), 0);
    assert_ne!(process_of(&daemon, "web"), 0);
    assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
    daemon.docker(&["rm", "-f", "web", "once"]).ok();
}

#[test]
fn what_else_is_in_the_file_stays() {
    let mut daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    images.add("other:1", &Image::sample("other", "1"));
    let offline = Offline::beside(&daemon);
    offline.load(&images).ok();
    daemon.stop();
    // Keys of a later version, which this one does not write: what we write over must have them yet.
    let text = fs::read_to_string(names_file(&daemon)).unwrap();
    let text = text.replacen('{', r#"{"Future":{"kept":[1,2.5,null]},"#, 1);
    fs::write(names_file(&daemon), &text).unwrap();
    fs::set_permissions(names_file(&daemon), fs::Permissions::from_mode(0o640)).unwrap();
    chown(names_file(&daemon), Some(0), Some(65534)).unwrap();
    daemon.start_again();
    let images = Images::new();
    let built = images.add_by_digest("new", &Image::sample("new", "1"));
    offline.load(&images).ok();
    let config = built.host().config.clone();
    let repositories = text.replacen(
        r#""other":"#,
        &format!(r#""new":{{"new@{}":"{config}"}},"other":"#, built.digest),
        1,
    );
    assert_eq!(fs::read_to_string(names_file(&daemon)).unwrap(), repositories);
    let meta = fs::metadata(names_file(&daemon)).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 0, 65534));
}

#[test]
fn names_that_cannot_be_read_are_left_alone() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    images.add_by_digest("quay.io/a/b", &Image::sample("app", "1"));
    let offline = Offline::beside(&daemon);
    for text in [
        "",
        "{}",
        r#"{"Repositories":{"a":{},"a":{}}}"#,
        r#"{"Repositories":"#,
    ] {
        fs::write(names_file(&daemon), text).unwrap();
        let before = files_snapshot(&names_file(&daemon));
        let pid = daemon.pid();
        // The tag makes the engine write it anew, so by digest alone; then none is set.
        let plan = offline
            .sealift
            .run(&[&offline.arguments(&images)[..], &["--dry-run".into()]].concat());
        assert!(plan.code(6).stdout.contains("repositories.json: "), "{text}");
        assert_eq!(
            (files_snapshot(&names_file(&daemon)), daemon.pid()),
            (before, pid),
            "{text}"
        );
    }
}

#[test]
fn an_engine_that_does_not_come_up_gets_its_old_names_back() {
    for engine in CLASSIC {
        let daemon = Daemon::start(*engine, Store::Classic);
        let images = Images::new();
        images.add("quay.io/a/b:1", &Image::sample("app", "1"));
        let mut offline = Offline::beside(&daemon);
        offline.load_without_consent(&images).code(6);
        let before = (Untouched::of(&daemon), files_snapshot(&names_file(&daemon)));
        let mark = daemon.data("started-once");
        let broken = daemon.data("broken.json");
        fs::write(&broken, "{").unwrap();
        // The first start reads a broken configuration.
        let real = daemon.start_command();
        let inside = daemon.data_inside("daemon.json").display().to_string();
        let bad = real
            .replace(&inside, &daemon.data_inside("broken.json").display().to_string())
            .replace(" &", "");
        assert_ne!(bad, real);
        offline.start = format!(
            "if [ -e {0} ]; then {real} else touch {0}; {bad}; fi",
            mark.display()
        )
        .replace("& else", "& true; else");
        let said = offline.load(&images).code(6);
        assert!(said.stderr.contains("start it"), "{said:?}");
        assert_eq!(
            (Untouched::of(&daemon), files_snapshot(&names_file(&daemon))),
            before,
            "{engine:?}"
        );
        assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
        assert_nothing_is_left(&offline.loader);
        assert_no_files_beside(&daemon);
    }
}

#[test]
fn an_engine_that_never_comes_up_is_told_and_repaired_later() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let mut offline = Offline::beside(&daemon);
    offline.load_without_consent(&images).code(6);
    let before = files_snapshot(&names_file(&daemon));
    let good = daemon.data("good");
    offline.start = format!("test -e {} || exit 7; {}", good.display(), daemon.start_command());
    let said = offline.load(&images).code(5);
    assert!(
        said.stderr
            .contains(&format!("start it: `test -e {}", good.display())),
        "{said:?}"
    );
    assert!(said.stderr.contains("`: exit status: 7\n"), "{said:?}");
    assert!(
        said.stderr.contains("doctor --repair --start-command COMMAND"),
        "{said:?}"
    );
    assert!(!daemon.is_running());
    assert_eq!(files_snapshot(&names_file(&daemon)), before);
    fs::write(good, "").unwrap();
    offline.repair().ok();
    assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
    assert_nothing_is_left(&offline.loader);
    assert_no_files_beside(&daemon);
}

/// Another command than the one that failed: of the next load, or of a repair.
#[test]
fn a_wrong_start_command_is_replaced() {
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let mut offline = Offline::beside(&daemon);
    let right = std::mem::replace(&mut offline.start, "exit 7".into());
    offline.load(&images).code(5);
    offline.repair().code(5);
    assert!(!daemon.is_running());
    offline
        .sealift
        .run(&["doctor", "--repair", "--start-command", &right])
        .ok();
    assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
    offline.load(&images).code(5);
    assert!(!daemon.is_running());
    offline.start = right;
    offline.load(&images).ok();
    assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
    assert_nothing_is_left(&offline.loader);
    assert_no_files_beside(&daemon);
}

#[test]
fn a_stop_that_fails_changes_nothing() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let mut offline = Offline::beside(&daemon);
    offline.stop = "echo not today; exit 9".into();
    let (before, pid) = (Untouched::of(&daemon), daemon.pid());
    let said = offline.load(&images).code(6);
    assert!(said.stderr.contains("not today"), "{said:?}");
    assert_eq!((Untouched::of(&daemon), daemon.pid()), (before, pid));
    assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
    assert_nothing_is_left(&offline.loader);
    assert_no_files_beside(&daemon);
}

#[test]
fn a_recorded_digest_is_attached_this_way_only_and_called_recorded() {
    let daemon = Daemon::start(Engine::Docker28, Store::Classic);
    let images = Images::new();
    images.add("httpd:2.4", &Image::sample("httpd", "2.4").without_index());
    let recorded = format!("sha256:{}", "5".repeat(64));
    let index = images.path().join("index.json");
    let mut entries: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    entries["manifests"][0]["annotations"]["dev.sealift.recorded"] = recorded.clone().into();
    fs::write(&index, entries.to_string()).unwrap();
    let offline = Offline::beside(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    let attach = offline.arguments(&images);
    let with = |more: &[&str]| {
        let more = more.iter().map(ToString::to_string);
        offline
            .sealift
            .run(&attach.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    // Any archive may claim any digest: consent to a restart does not make it true.
    let pid = daemon.pid();
    let said = offline.load(&images).code(6);
    assert!(
        said.stderr.contains("without its manifest, so nothing proves it"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("hint: --trust-recorded attaches it"),
        "{said:?}"
    );
    assert_eq!(
        (daemon.images(), daemon.pid()),
        (vec!["httpd:2.4 <none>".into()], pid)
    );

    let plan = with(&["--trust-recorded", "--dry-run"]).code(6);
    let attached = "(recorded, not proven; attached: offline)";
    assert!(plan.stdout.contains(attached), "{plan:?}");
    let expected = image::sha256(&fs::read(&index).unwrap());
    let wrong = image::sha256(b"another archive");
    assert!(with(&["--expect", &wrong]).code(1).stderr.contains(&expected));
    assert_eq!(daemon.images(), ["httpd:2.4 <none>"]);
    let said = with(&["--expect", &expected]).code(6);
    assert!(
        said.stdout.contains(&format!("{recorded}   recorded   yes")),
        "{said:?}"
    );
    assert!(said.stderr.contains("not proven: httpd:2.4: "), "{said:?}");
    assert_eq!(daemon.images(), [format!("httpd:2.4 {recorded}")]);
    assert_runs(&daemon, &format!("httpd@{recorded}"), "2.4");
    // Again there is nothing to do, and it is no more proven.
    let again = offline.sealift.run(&["load", &path, "--json"]).code(6).json();
    let told = ["shown", "evidence", "obstacles"].map(|key| again["images"][0][key].clone());
    assert_eq!(json!(told), json!([true, "recorded", []]));
    let listed = offline.sealift.run(&["list", &path]).ok();
    assert!(
        listed.stdout.contains(&recorded) && listed.stdout.contains("recorded"),
        "{listed:?}"
    );
}

#[test]
fn an_engine_that_does_not_show_it_goes_back() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let mut offline = Offline::beside(&daemon);
    offline.load_without_consent(&images).code(6);
    // Something else has its own idea of the names, and puts it there before each start.
    let (file, saved) = (names_file(&daemon), daemon.data("saved.json"));
    fs::copy(&file, &saved).unwrap();
    let before = fs::read(&file).unwrap();
    offline.start = format!(
        "cp {} {}; {}",
        saved.display(),
        file.display(),
        daemon.start_command()
    );
    let pid = daemon.pid();
    let said = offline.load(&images).code(6);
    assert!(said.stderr.contains("although it was written"), "{said:?}");
    assert_ne!(daemon.pid(), pid);
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(daemon.images(), ["quay.io/a/b:1 <none>"]);
    assert_nothing_is_left(&offline.loader);
    assert_no_files_beside(&daemon);
}

#[test]
fn the_command_that_would_do_it_is_told() {
    let daemon = Daemon::start(Engine::Docker20, Store::Classic);
    let images = Images::new();
    let built = images.add("quay.io/a/b:1", &Image::sample("app", "1"));
    let offline = Offline::beside(&daemon);
    let said = offline.load_without_consent(&images).code(6);
    // One hint, the whole command, also where nothing is done.
    let mut arguments = offline.arguments(&images);
    arguments.retain(|one| one != "--allow-restart");
    arguments.push("--dry-run".into());
    let planned = offline.sealift.run(&arguments).code(6);
    assert_eq!(planned.stderr, "");
    let text = format!("{}\n{}", said.stderr, planned.stdout);
    for (hints, text) in [("hint: sealift ", &text), ("--allow-restart", &text)] {
        assert_eq!(text.matches(hints).count(), 2, "{text}");
    }
    let (_, line) = said.stderr.split_once("hint: sealift ").unwrap();
    let line = line.lines().next().unwrap();
    let program = env!("CARGO_BIN_EXE_sealift");
    let mut shell = offline.sealift.command(&[] as &[&str]);
    let mut pasted = std::process::Command::new("sh");
    pasted.args(["-c", &format!("{program} {line}")]).env_clear();
    for (name, value) in shell.env("LC_ALL", "C.UTF-8").get_envs() {
        pasted.env(name, value.unwrap());
    }
    run(&mut pasted).ok();
    assert_eq!(daemon.images(), [format!("quay.io/a/b:1 {}", built.digest)]);
}
