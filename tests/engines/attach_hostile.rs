//! Attaching digests where another user of the host would have root act on what is his: a process that poses as the
//! engine's, files that he can change or exchange, and mounts that are not where they were made any more.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use sealift::docker::daemon::namespaces::Namespaces;
use sealift::docker::daemon::overmount::Overmount;
use sealift::docker::store::content_of;
use sealift::error::ErrorKind;
use sealift::load::{DigestStatus, LoadOptions};

use crate::attach_hosts::{CLASSIC, private};
use crate::attach_stock::{HUB, assert_attaches_all_but, forward, images};
use crate::classic_store::{client, is_below};
use crate::load_killed::PreparedDaemon;
use crate::loading::{Images, Loader, Untouched, assert_nothing_is_left};
use crate::support::{Daemon, Engine, Image, Store, command, run};

/// `nobody`, who is another user than root.
const OTHER: u32 = 65_534;

#[track_caller]
fn give(path: &Path) {
    lchown(path, Some(OTHER), Some(OTHER)).unwrap();
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

/// A process of another user that has the name of one of root's.
struct Impostor {
    child: Child,
    said: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Impostor {
    /// Starts it. It should run before what it poses as: then it comes first among the processes.
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        give(&folder.path().join("daemon.json"));
        let mut command = command::clean("/usr/bin/setpriv", folder.path());
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "python3",
                "-c",
            ])
            .arg(include_str!("../support/impostor.py"))
            .args([program, folder.path().to_str().unwrap(), "--config-file"])
            .arg(folder.path().join("daemon.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("setpriv, of util-linux");
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut impostor = Self { child, said, folder };
        impostor.assert_says("listening");
        impostor
    }

    #[track_caller]
    fn assert_says(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }

    #[track_caller]
    fn assert_answers(&mut self, line: &str, expected: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
        self.assert_says(expected);
    }

    /// Puts a link to a socket in the place of the one that it is bound to.
    fn pose_as(&mut self, socket: &Path) {
        self.assert_answers(socket.to_str().unwrap(), "posing");
    }

    #[track_caller]
    fn assert_untouched(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it got a signal");
        assert!(!mounts().contains(self.folder.path().to_str().unwrap()));
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn an_impostor_is_not_taken_for_the_engine() {
    for engine in CLASSIC {
        for activated in [false, true] {
            let mut impostor = Impostor::start("dockerd");
            let options = Daemon::options(*engine, Store::Classic);
            let mut daemon = if activated { options.activated() } else { options }.start();
            // It has to come first, and process ids begin again now and then.
            while impostor.child.id() > daemon.pid() {
                impostor = Impostor::start("dockerd");
                daemon.restart();
            }
            impostor.pose_as(&daemon.socket());
            let before = Untouched::of(&daemon);
            let images = Images::new();
            let built = images.add("httpd:2.4", &Image::sample("httpd", "2.4"));
            let loader = Loader::beside(&daemon);
            let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
            let steps = format!("{:?}", plan.details.attach);
            assert!(steps.contains(&format!("process {}", daemon.pid())), "{steps}");
            loader.load(&images);
            assert_eq!(daemon.images(), [format!("httpd:2.4 {}", built.digest)]);
            assert_eq!(Untouched::of(&daemon), before);
            assert_nothing_is_left(&loader);
            impostor.assert_untouched();
        }
    }
}

#[test]
fn an_impostor_is_not_taken_for_its_containerd() {
    let mut impostor = Impostor::start("containerd");
    let daemon = Daemon::options(Engine::Docker20, Store::Classic)
        .system_containerd()
        .start();
    impostor.pose_as(&daemon.data("containerd/socket"));
    let content = impostor
        .folder
        .path()
        .join("root/io.containerd.content.v1.content");
    fs::create_dir(content).unwrap();
    let found = content_of(&client(&daemon)).unwrap();
    let own = daemon.data("containerd/root");
    assert!(is_below(found.paths()[0], &own), "{found:?}");
    let his = impostor.folder.path();
    assert!(
        !found.paths().iter().any(|path| path.starts_with(his)),
        "{found:?}"
    );
}

#[test]
fn a_socket_that_another_user_could_replace_is_not_relied_on() {
    let daemon = private(Engine::Docker28).start();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.sock");
    symlink(daemon.socket(), &link).unwrap();
    give(&link);
    let own = folder.path().join("own.sock");
    let _forwarder = forward(&own, &daemon.socket());
    give(&own);
    let open = tempfile::tempdir().unwrap();
    let exchanged = open.path().join("docker.sock");
    symlink(daemon.socket(), &exchanged).unwrap();
    mode(open.path(), 0o777);
    let before = Untouched::of(&daemon);
    for (socket, says) in [
        (&link, "is a link of another user"),
        (&own, "belongs to another user (uid 65534)"),
        (&exchanged, "another user can write to"),
    ] {
        let loader = Loader::at(sealift::docker::endpoint::Environment {
            host: Some(format!("unix://{}", socket.display())),
            ..Default::default()
        });
        let (images, _) = images();
        let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
        for image in &plan.images {
            let DigestStatus::Unavailable { obstacles } = &image.digest_status else {
                panic!("{plan}")
            };
            let reason = &obstacles[0].reason;
            assert!(
                reason.contains("another user could answer on") && reason.contains(says),
                "{plan}"
            );
            assert!(
                obstacles[0]
                    .hint
                    .as_ref()
                    .unwrap()
                    .to_string()
                    .contains("DOCKER_HOST"),
                "{plan}"
            );
        }
        // Its store is not read either.
        assert!(content_of(&sealift::docker::api::Client::connect(&endpoint(socket)).unwrap()).is_err());
        let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
        assert_eq!(report.failure(), Some(ErrorKind::NotShown), "{report:?}");
        assert_nothing_is_left(&loader);
    }
    assert_eq!(Untouched::of(&daemon), before);
}

fn endpoint(socket: &Path) -> sealift::docker::endpoint::Endpoint {
    sealift::docker::endpoint::Endpoint::Unix(socket.into())
}

/// A daemon with the configuration of a stock installation, which is there.
fn stock() -> Daemon {
    let daemon = private(Engine::Docker28).stock().start();
    let file = daemon.config_file();
    make(&file);
    daemon
}

/// A folder with an empty configuration, of which nothing is in the lower layer: it can be renamed.
fn make(file: &Path) {
    let folder = file.parent().unwrap();
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
    fs::write(file, "{}").unwrap();
}

#[test]
fn a_configuration_that_another_user_can_change_is_not_covered() {
    let daemon = stock();
    let file = daemon.config_file();
    let folder = file.parent().unwrap().to_path_buf();
    let refused = |says: &str| {
        let (images, _) = images();
        let loader = Loader::beside(&daemon);
        let plan = loader.plan(&images, &LoadOptions::default()).unwrap();
        let image = plan.images.iter().find(|image| image.name.familiar() == HUB);
        let DigestStatus::Unavailable { obstacles } = &image.unwrap().digest_status else {
            panic!("{plan}")
        };
        assert!(obstacles[0].reason.contains(says), "{says}: {plan}");
        assert!(
            obstacles[0].hint.as_ref().unwrap().to_string().contains("root"),
            "{plan}"
        );
        let file = file.display();
        obstacles[0]
            .hint
            .as_ref()
            .unwrap()
            .to_string()
            .contains(&format!("namei -l '{file}'"))
    };
    give(&file);
    assert!(refused(
        "daemon.json is not used, since another user could redirect root"
    ));
    chown(&file, Some(0), Some(0)).unwrap();
    mode(&file, 0o666);
    assert!(refused("another user can write to"));
    mode(&file, 0o664);
    assert!(refused("another user can write to"));
    mode(&file, 0o644);
    mode(&folder, 0o777);
    assert!(refused("another user can write to"));
    mode(&folder, 0o755);
    give(&folder);
    assert!(refused("another user can write to"));
    // One that is not there, where he could put one.
    fs::remove_file(&file).unwrap();
    assert!(refused("another user can write to"));
    fs::remove_dir(&folder).unwrap();
    let above = folder.parent().unwrap();
    mode(above, 0o1777);
    assert!(refused("another user can write to"));
    mode(above, 0o755);
    // A link of his.
    fs::create_dir(daemon.root().join("srv/docker")).unwrap();
    symlink("../srv/docker", &folder).unwrap();
    give(&folder);
    assert!(refused("is a link of another user"));
    // Names of other registries are attached nevertheless, and nothing is changed.
    assert_attaches_all_but(&daemon, &[(HUB, "is a link of another user")]);
}

#[test]
fn a_link_of_roots_to_the_configuration_is_followed() {
    let daemon = stock();
    let folder = daemon.config_file().parent().unwrap().to_path_buf();
    fs::rename(&folder, daemon.root().join("srv/docker")).unwrap();
    symlink("../srv/docker", &folder).unwrap();
    assert_attaches_all_but(&daemon, &[]);
}

#[test]
fn exchanging_the_folder_does_not_lead_the_mount_elsewhere() {
    let daemon = stock();
    let folder = daemon.config_file().parent().unwrap().to_path_buf();
    let etc = folder.parent().unwrap();
    let victim = daemon.root().join("srv/victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("daemon.json"), "{}").unwrap();
    let link = etc.join("link");
    give(&folder);
    give(etc);
    mode(daemon.folder(), 0o711);
    let point = victim.join("daemon.json").display().to_string();
    // A link of root's leads there as well, where another user can put it in the place of the folder.
    for owner in [OTHER, 0] {
        symlink("../srv/victim", &link).unwrap();
        lchown(&link, Some(owner), Some(owner)).unwrap();
        let mut user = Impostor::start("dockerd");
        user.assert_answers(
            &format!("exchange {} {}", folder.display(), link.display()),
            "exchanging",
        );
        for tag in 1..5 {
            let images = Images::new();
            images.add(&format!("httpd:{tag}"), &Image::sample("httpd", "2.4"));
            let loader = Loader::beside(&daemon);
            let report = loader.try_load(&images, &LoadOptions::default()).unwrap();
            assert_eq!(report.failure(), Some(ErrorKind::NotShown), "{report:?}");
            assert!(!daemon.mounts().contains(&point));
            assert_nothing_is_left(&loader);
        }
        user.assert_untouched();
        drop(user);
        if folder.is_symlink() {
            fs::rename(&folder, etc.join("spare")).unwrap();
            fs::rename(&link, &folder).unwrap();
            fs::remove_file(etc.join("spare")).unwrap();
        } else {
            fs::remove_file(&link).unwrap();
        }
    }
    // While it stands still, too.
    fs::rename(&folder, etc.join("real")).unwrap();
    symlink("../srv/victim", &folder).unwrap();
    let plan = Loader::beside(&daemon)
        .plan(&images().0, &LoadOptions::default())
        .unwrap();
    assert!(plan.to_string().contains("another user can write to"), "{plan}");
    // Behind the first look, too: what was found is not what is there when it is mounted over.
    let home = tempfile::tempdir().unwrap();
    let (real, other) = (home.path().join("real"), home.path().join("other"));
    for folder in [&real, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("daemon.json"), "{}").unwrap();
    }
    let overmount = Overmount::plan(&real.join("daemon.json")).unwrap();
    fs::rename(&real, home.path().join("gone")).unwrap();
    symlink(&other, &real).unwrap();
    give(&real);
    let source = home.path().join("attach");
    let error = overmount
        .mount_in(&Namespaces::default(), b"ours", &source)
        .unwrap_err();
    assert!(error.to_string().contains("a link of another user"), "{error}");
    assert_eq!(fs::read_to_string(other.join("daemon.json")).unwrap(), "{}");
    overmount.unmount_in(&Namespaces::default(), &source).unwrap();
    assert!(!source.exists());
}

/// A load of this prepared was killed with its mount in place.
fn killed(daemon: Daemon) -> PreparedDaemon {
    let prepared = PreparedDaemon::new(daemon);
    assert!(prepared.killed_at(&("kill".into(), 1)));
    assert!(shown(&prepared) > 0, "nothing was mounted");
    prepared
}

/// The number of mounts that sealift left over other files.
fn shown(prepared: &PreparedDaemon) -> usize {
    let run = prepared.loader.folder.path().join("run/attach");
    let pid = prepared.daemon.pid();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let run = run.to_str().unwrap();
    mounts.lines().filter(|line| line.contains(run)).count()
}

#[test]
fn a_mount_is_undone_wherever_it_is_by_then() {
    let prepared = killed(stock());
    let folder = prepared.daemon.config_file().parent().unwrap().to_path_buf();
    fs::rename(&folder, folder.with_extension("old")).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("daemon.json"), "{}").unwrap();
    let said = prepared.sealift.run(&["doctor", "--repair"]).ok();
    assert!(said.stdout.contains("leftovers: undone"), "{said:?}");
    assert_eq!(shown(&prepared), 0);
    assert_nothing_is_left(&prepared.loader);
    let old = fs::read_to_string(folder.with_extension("old").join("daemon.json")).unwrap();
    assert_eq!(old, "{}");
}

#[test]
fn what_is_still_mounted_is_not_called_undone() {
    let prepared = killed(stock());
    let file = prepared.daemon.config_file();
    let over = prepared.daemon.data("over.json");
    fs::write(&over, "{}").unwrap();
    let pid = prepared.daemon.pid().to_string();
    let inside = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount"]).args(args);
        run(&mut command).ok();
    };
    inside(&["mount", "--bind", over.to_str().unwrap(), file.to_str().unwrap()]);
    let said = prepared.sealift.run(&["doctor", "--repair"]).code(3);
    assert!(
        said.stderr.contains("something else is mounted over it"),
        "{said:?}"
    );
    assert!(!said.stdout.contains("undone"), "{said:?}");
    let said = prepared.sealift.run(&["doctor"]).code(6);
    assert!(said.stdout.contains("left something"), "{said:?}");
    assert!(shown(&prepared) > 0);
    inside(&["umount", file.to_str().unwrap()]);
    let said = prepared.sealift.run(&["doctor", "--repair"]).ok();
    assert!(said.stdout.contains("leftovers: undone"), "{said:?}");
    assert_eq!(shown(&prepared), 0);
}

#[test]
fn a_mount_without_a_journal_is_found_and_undone() {
    // In the mounts of this process: without a journal nothing says in which others it might be.
    let daemon = Daemon::options(Engine::Docker28, Store::Classic).stock().start();
    let file = daemon.config_file();
    make(&file);
    let prepared = killed(daemon);
    let run = prepared.loader.folder.path().join("run");
    fs::remove_dir_all(run.join("attach")).unwrap();
    fs::remove_file(run.join("attach.json")).unwrap();
    assert!(shown(&prepared) > 0);
    let said = prepared.sealift.run(&["doctor"]).code(6);
    assert!(said.stdout.contains("left something"), "{said:?}");
    let said = prepared.sealift.run(&["doctor", "--repair"]).ok();
    assert!(said.stdout.contains("leftovers: undone"), "{said:?}");
    assert_eq!(shown(&prepared), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
}
