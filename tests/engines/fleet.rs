//! The commands of docs/fleet.md, on hosts of an isolated network: network and mount namespaces of their own, with a
//! containerd and an sshd each.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::containerd::Cri;
use crate::support::command::{clean, install};
use crate::support::documented::code_of;
use crate::support::{Built, Engine, Folder, Image, Registry, Run, Sealift, Serving, run};

const NODES: [(&str, &str); 3] = [
    ("node1", "192.168.1.11"),
    ("node2", "192.168.1.12"),
    ("node3", "192.168.1.13"),
];

/// The host with the archive.
const ADMIN: (&str, &str) = ("admin", "192.168.1.5");

/// Makes new namespaces a host, then runs what follows the name.
const HOST: &str = r#"
set -eu
files=$1
hostname "$2"
mount --make-rprivate /
mount -t overlay -o "lowerdir=/etc,upperdir=$files/etc,workdir=$files/work" overlay /etc
mount --bind "$files/../bin" /usr/local/bin
for folder in /run /opt /var/lib /media; do mount --bind "$files$folder" "$folder"; done
mount --bind "$files/home" ~root
ip link set lo up
exec "${@:3}"
"#;

/// Waits until something is so.
#[track_caller]
fn until(what: &Path, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        let log = fs::read_to_string(what).unwrap_or_default();
        assert!(Instant::now() < until, "{}: {log}", what.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A host: its namespaces live as long as its first process.
struct Host {
    name: &'static str,
    address: &'static str,
    files: PathBuf,
    first: Child,
}

impl Host {
    fn start(folder: &Folder, (name, address): (&'static str, &'static str), first: &[&str]) -> Self {
        let files = folder.path().join(name);
        for made in [
            "etc/ssh",
            "work",
            "run/sshd",
            "opt",
            "var/lib",
            "media/stick",
            "home",
        ] {
            fs::create_dir_all(files.join(made)).unwrap();
        }
        let line = |(name, address)| format!("{address} {name}\n");
        let hosts: String = NODES.map(line).concat() + &line(ADMIN);
        let hosts = format!("127.0.0.1 localhost\n{hosts}{} harbor.local\n", ADMIN.1);
        fs::write(files.join("etc/hosts"), hosts).unwrap();
        // sshd lets no one in whose account is locked.
        fs::write(files.join("etc/shadow"), "root:*:20000:0:99999:7:::\n").unwrap();
        let mut command = clean("unshare", &files);
        command.args(["--net", "--mount", "--uts", "bash", "-c", HOST, "host"]);
        command.arg(&files).arg(name).args(first);
        let log = files.join("log");
        let first = folder.spawn(&mut command, &log);
        Self {
            name,
            address,
            files,
            first,
        }
    }

    /// A node of a cluster, with the configuration of its containerd.
    fn node(folder: &Folder, node: (&'static str, &'static str), config: &str) -> Self {
        let etc = folder.path().join(node.0).join("etc/containerd");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("config.toml"), config).unwrap();
        let root = folder
            .path()
            .join(node.0)
            .join("containerd")
            .display()
            .to_string();
        let host = Self::start(folder, node, &["containerd", "--root", &root]);
        let log = host.files.join("log");
        until(&log, || UnixStream::connect(host.socket()).is_ok());
        host
    }

    fn socket(&self) -> PathBuf {
        self.files.join("run/containerd/containerd.sock")
    }

    /// The start of a command line that runs in this host.
    fn enter(&self) -> Vec<String> {
        let pid = self.first.id().to_string();
        ["nsenter", "--target", &pid, "--net", "--mount", "--uts"]
            .map(str::to_owned)
            .into()
    }

    /// A script in the home of its root.
    fn shell(&self, script: &str) -> Command {
        let mut command = clean("nsenter", Path::new("/root"));
        command.args(&self.enter()[1..]).args(["bash", "-c"]);
        command.arg(format!("set -euo pipefail; cd ~root; HOME=$PWD; {script}"));
        command
    }

    #[track_caller]
    fn run(&self, script: &str) -> Run {
        run(&mut self.shell(script))
    }

    /// Writes a file whose first line is a comment with its path.
    #[track_caller]
    fn write(&self, text: &str) {
        let (path, _) = text.split_once('\n').unwrap();
        let path = self.files.join(path.strip_prefix("# /").expect("a path"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A host with an archive, and nodes that it reaches.
struct Fleet {
    admin: Host,
    nodes: Vec<Host>,
    image: Built,
    /// That of the archive.
    digest: String,
    sealift: Sealift,
    // Last: its drop ends them all.
    folder: Folder,
}

impl Fleet {
    fn new(nodes: usize) -> Self {
        let (folder, sealift) = (Folder::new(), Sealift::new());
        let image = Image::sample("httpd", "1").build(&sealift.path("layout"), "docker.io/library/httpd:2.4");
        let save = ["save", "--from", "layout", "httpd:2.4", "--platform", "all"];
        let said = sealift.run(&[&save[..], &["-o", "images.tar"]].concat()).ok();
        let digest = said.stdout.trim().rsplit(' ').next().unwrap().to_owned();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        install(env!("CARGO_BIN_EXE_sealift"), &bin.join("sealift"));
        if let Some(root) = Engine::Docker20.root() {
            for program in ["containerd", "ctr"] {
                let to = bin.join(program);
                std::os::unix::fs::symlink(root.join("usr/bin").join(program), to).unwrap();
            }
        }
        let admin = Host::start(&folder, ADMIN, &["sh", "-c", "echo ready; exec sleep infinity"]);
        let [_, _, config, _] = code_of("fleet.md", "A registry and mirrors");
        let nodes = NODES[..nodes].iter();
        let nodes: Vec<_> = nodes.map(|node| Host::node(&folder, *node, &config)).collect();
        let log = admin.files.join("log");
        until(&log, || fs::read_to_string(&log).unwrap().contains("ready"));
        fs::copy(sealift.path("images.tar"), admin.files.join("home/images.tar")).unwrap();
        for node in &nodes {
            let (to, from, name) = (node.address, admin.address, node.name);
            let pid = node.first.id();
            admin
                .run(&format!(
                    "ip link add name {name} type veth peer name eth0 netns {pid}
                     ip addr add {from} peer {to} dev {name}; ip link set {name} up"
                ))
                .ok();
            let up = format!("ip addr add {to} peer {from} dev eth0; ip link set eth0 up");
            node.run(&up).ok();
        }
        Self {
            admin,
            nodes,
            image,
            digest,
            sealift,
            folder,
        }
    }

    /// A block with the digests that a reader would fill in.
    fn filled(&self, block: &str) -> String {
        let block = block.replace("httpd@sha256:...", &format!("httpd@{}", self.image.digest));
        block.replace("sha256:...", &self.digest)
    }

    /// Starts an sshd on every node, which the host with the archive may log in to. They end with the folder.
    fn start_sshd(&self) -> Vec<Child> {
        let folder = self.folder.path();
        let make = "ssh-keygen -q -t ed25519 -N '' -f host_key; ssh-keygen -q -t ed25519 -N '' -f user_key
                    for host in node1 node2 node3; do echo \"$host $(cat host_key.pub)\"; done >known_hosts";
        run(clean("bash", folder).args(["-ec", make]).current_dir(folder)).ok();
        let folder = folder.display();
        let server = format!(
            "HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\nUsePAM no\n\
             PidFile none\nSubsystem sftp internal-sftp\n"
        );
        let client = format!(
            "IdentityFile {folder}/user_key\nGlobalKnownHostsFile {folder}/known_hosts\nUserKnownHostsFile none\n\
             BatchMode yes\nUser root\n"
        );
        fs::write(self.admin.files.join("etc/ssh/ssh_config"), client).unwrap();
        let start = |node: &Host| {
            fs::write(node.files.join("etc/ssh/sshd_config"), &server).unwrap();
            let log = node.files.join("sshd.log");
            let mut sshd = node.shell("exec /usr/sbin/sshd -D -e");
            let sshd = self.folder.spawn(&mut sshd, &log);
            until(&log, || {
                fs::read_to_string(&log)
                    .unwrap()
                    .contains("Server listening on 0.0.0.0")
            });
            sshd
        };
        self.nodes.iter().map(start).collect()
    }

    /// Fails unless CRI on every node shows the image by its digest.
    #[track_caller]
    fn assert_everywhere(&self) {
        let name = format!("docker.io/library/httpd@{}", self.image.digest);
        for node in &self.nodes {
            let image = Cri::at(node.socket()).image(&name);
            let image = image.unwrap_or_else(|| panic!("{} has no {name}", node.name));
            assert_eq!(image["repo_digests"][0], name.as_str(), "{}", node.name);
            assert_eq!(image["id"], self.image.host().config.as_str(), "{}", node.name);
        }
    }

    /// Fails if an image is on a node.
    #[track_caller]
    fn assert_nowhere(&self) {
        for node in &self.nodes {
            assert_eq!(Cri::at(node.socket()).images(), [""; 0], "{}", node.name);
        }
    }
}

#[test]
fn nodes_pull_by_digest_from_a_registry() {
    let fleet = Fleet::new(3);
    let [push, hosts, _, pull] = code_of("fleet.md", "A registry and mirrors");
    let registry = Registry::options()
        .tls()
        .within(fleet.admin.enter(), "192.168.1.5:443")
        .start();
    fs::copy(registry.ca_file(), fleet.admin.files.join("home/ca.crt")).unwrap();
    fleet.admin.run(&push).ok();
    let [push, below] = code_of("fleet.md", "Below a prefix");
    fleet.admin.run(&push).ok();
    for (node, hosts) in fleet.nodes.iter().zip([&hosts, &hosts, &below]) {
        node.write(hosts);
        fs::copy(
            registry.ca_file(),
            node.files.join("etc/containerd/certs.d/ca.crt"),
        )
        .unwrap();
        node.run(&fleet.filled(&pull)).ok();
    }
    // containerd's client sets only the name that it was given; the kubelet's pull sets those that CRI shows.
    let name = format!("docker.io/library/httpd@{}", fleet.image.digest);
    for node in &fleet.nodes {
        Cri::at(node.socket()).pull(&name).unwrap();
    }
    fleet.assert_everywhere();
    let pulls = registry.requests().into_iter().filter(|request| {
        let layer = &fleet.image.host().layers[1].digest;
        request.method == "GET" && request.status == 200 && request.target.contains(layer)
    });
    let pulls: Vec<_> = pulls.map(|request| request.target).collect();
    assert_eq!(pulls.len(), 3, "{pulls:?}");
    let below = pulls.iter().filter(|target| target.starts_with("/v2/mirror/"));
    assert_eq!(below.count(), 1, "{pulls:?}");
}

#[test]
fn a_handful_of_nodes_pull_from_serve() {
    let fleet = Fleet::new(3);
    let [serve, print] = code_of("fleet.md", "A handful of hosts");
    let serving = Serving::of(&fleet.sealift, fleet.admin.shell(&format!("exec {serve}")));
    let config = fleet.admin.run(&print).ok().stdout;
    let name = format!("docker.io/library/httpd@{}", fleet.image.digest);
    for node in &fleet.nodes {
        node.write(&config);
        Cri::at(node.socket()).pull(&name).unwrap();
    }
    fleet.assert_everywhere();
    for node in &fleet.nodes {
        let layer = format!("blobs/{}?ns=docker.io 200", fleet.image.host().layers[1].digest);
        let is_served = |line: &str| line.contains(&layer) && line.contains(node.address);
        serving.until(node.name, || serving.log().lines().any(is_served));
    }
}

#[test]
fn a_loop_over_ssh_loads_into_every_node_with_the_labels_that_spegel_looks_for() {
    let fleet = Fleet::new(3);
    let _sshd = fleet.start_sshd();
    let [commands] = code_of("fleet.md", "Over ssh");
    let other = commands.replace("sha256:...", &format!("sha256:{}", "0".repeat(64)));
    let said = fleet.admin.run(&other).code(1);
    assert!(
        said.stderr.ends_with("failed: node1:1 node2:1 node3:1\n"),
        "{said:?}"
    );
    fleet.assert_nowhere();

    let commands = fleet.filled(&commands);
    let first = fleet.admin.run(&commands).ok().stdout;
    assert_eq!(first.matches(" new\n").count(), 3, "{first}");
    fleet.assert_everywhere();
    let again = fleet.admin.run(&commands).ok().stdout;
    assert_eq!(again.matches(" unchanged\n").count(), 3, "{again}");
    assert_eq!(again.matches(", 0 B sent\n").count(), 3, "{again}");

    let [commands] = code_of("fleet.md", "Spegel");
    let node = &fleet.nodes[0];
    fs::copy(
        fleet.sealift.path("images.tar"),
        node.files.join("home/images.tar"),
    )
    .unwrap();
    let said = node.run(&commands).ok().stdout;
    let host = fleet.image.host();
    let layers = host.layers.iter().map(|layer| &layer.digest);
    for digest in layers.chain([&fleet.image.digest, &host.digest, &host.config]) {
        let is_it = |line: &str| line.starts_with(digest.as_str()) && line.contains("distribution.source");
        assert!(said.lines().any(is_it), "{digest}: {said}");
    }
}

/// What Ansible counts for each node: tasks that changed it, and tasks that failed.
fn recap(said: &str) -> Vec<(String, String)> {
    let (_, recap) = said.split_once("PLAY RECAP").unwrap_or_else(|| panic!("{said}"));
    let count = |line: &str, name: &str| {
        let mut words = line.split_whitespace();
        words
            .find_map(|word| word.strip_prefix(name).map(str::to_owned))
            .unwrap()
    };
    let lines = recap.lines().filter(|line| line.contains("changed="));
    lines
        .map(|line| (count(line, "changed="), count(line, "failed=")))
        .collect()
}

#[test]
fn a_bundle_installs_with_ansible_and_over_ssh_and_changes_nothing_the_second_time() {
    let fleet = Fleet::new(2);
    let _sshd = fleet.start_sshd();
    let home = fleet.admin.files.join("home");
    let archive = fleet.admin.files.join("media/stick/images.tar");
    let save = ["save", "--from", "layout", "httpd:2.4", "--platform", "all", "-o"];
    let installer = [archive.to_str().unwrap(), "--with-installer"];
    fleet.sealift.run(&[&save[..], &installer].concat()).ok();
    let [play, command] = code_of("bundle.md", "With Ansible");
    fs::write(home.join("load.yml"), play).unwrap();
    fs::write(home.join("inventory"), "[nodes]\nnode1\nnode2\n").unwrap();
    let command = command.replace("=sealift/", &format!("={}/", env!("CARGO_MANIFEST_DIR")));

    // A layer that is damaged on the stick.
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&archive, bad).unwrap();
    let failed = fleet.admin.run(&command).code(2).stdout;
    assert!(recap(&failed).iter().all(|(_, failed)| failed == "1"), "{failed}");
    assert!(failed.contains("\"rc\": 1,"), "{failed}");
    fleet.assert_nowhere();

    fs::write(&archive, &good).unwrap();
    let first = fleet.admin.run(&command).ok().stdout;
    // The archive is copied, and loaded.
    let changed = |count: &str| (count.to_owned(), "0".to_owned());
    assert_eq!(recap(&first), [(); 2].map(|()| changed("2")), "{first}");
    fleet.assert_everywhere();
    let again = fleet.admin.run(&command).ok().stdout;
    assert_eq!(recap(&again), [(); 2].map(|()| changed("0")), "{again}");
    // Nor does a run that may not change anything.
    fleet.admin.run(&format!("{} --check", command.trim_end())).ok();

    // The archive in parts takes the place of the archive.
    let half = (good.len() / 2 + 1).to_string();
    let split = ["--split", &half];
    fleet.sealift.run(&[&save[..], &installer, &split].concat()).ok();
    fleet.admin.run(&command).ok();
    let names = |folder: PathBuf| -> Vec<_> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let expected = names(archive.parent().unwrap().to_path_buf());
    assert!(expected.contains(&"images.tar.002".into()), "{expected:?}");
    for node in &fleet.nodes {
        assert_eq!(
            names(node.files.join("var/lib/sealift-bundle")),
            expected,
            "{}",
            node.name
        );
    }

    // Options that are a text would be taken for its letters.
    let options = format!("{} -e sealift_options=--dry-run", command.trim_end());
    let refused = fleet.admin.run(&options).code(2).stdout;
    assert!(refused.contains("sealift_options is not a list"), "{refused}");

    // Names that lead out of the folder are refused.
    let sums = archive.with_file_name("SHA256SUMS");
    let listed = fs::read_to_string(&sums).unwrap();
    fs::write(&sums, listed.replace("  images.tar.001", "  ../images.tar.001")).unwrap();
    let refused = fleet.admin.run(&command).code(2).stdout;
    assert!(refused.contains("names files of other folders"), "{refused}");
    fs::write(&sums, listed).unwrap();

    let [commands] = code_of("bundle.md", "Over ssh");
    let commands = commands.replace(" node3;", ";");
    let said = fleet.admin.run(&commands).ok().stdout;
    assert_eq!(said.matches(" unchanged\n").count(), 2, "{said}");
    // The packages' service keeps its results beside it.
    let kept = fleet
        .nodes
        .iter()
        .map(|node| node.files.join("var/lib/sealift/state.json"));
    let kept: Vec<PathBuf> = kept.collect();
    for path in &kept {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    // As with sudo before each of the commands: it runs programs only.
    let remote = commands.split('\'').nth(1).unwrap();
    assert_eq!(remote.matches("&&").count(), 3, "{remote}");
    let words: Vec<&str> = remote.split_whitespace().collect();
    let with_sudo = format!("env {}", words.join(" ").replace("&& ", "&& env "));
    let with_sudo = commands.replace(remote, &with_sudo);
    let said = fleet.admin.run(&with_sudo).ok().stdout;
    assert_eq!(said.matches(" unchanged\n").count(), 2, "{said}");
    assert!(kept.iter().all(|path| path.exists()));
}
