//! A real registry (CNCF distribution 2.8) on loopback.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Folder;
use super::command::{clean, run};

/// What a registry is started with.
#[derive(Debug, Default, Clone)]
pub struct Options {
    users: Vec<(String, String)>,
    tls: bool,
    client_certs: bool,
    read_only: bool,
    within: Option<(Vec<String>, String)>,
    no_delete: bool,
    cache: bool,
    disk: Option<String>,
    shared: bool,
}

/// A running docker-registry. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    options: Options,
    seen: usize,
    folder: Folder,
}

/// One line of its access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Status code of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// What the client calls itself.
    pub agent: String,
}

impl Options {
    /// Asks for basic auth and knows this user; more than one may be given.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Speaks TLS, with a certificate for 127.0.0.1, localhost and harbor.local of a CA made for it.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks TLS and refuses clients without a certificate of its CA.
    #[must_use]
    pub fn client_certs(mut self) -> Self {
        self.tls = true;
        self.client_certs = true;
        self
    }

    /// Refuses pushes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Listens on this address, where this start of a command line leads, such as `nsenter --target PID --net`.
    #[must_use]
    pub fn within(mut self, enter: Vec<String>, address: &str) -> Self {
        self.within = Some((enter, address.into()));
        self
    }

    /// Deletes nothing, as without a configuration of its own.
    #[must_use]
    pub fn no_delete(mut self) -> Self {
        self.no_delete = true;
        self
    }

    /// Remembers in memory which blobs it has.
    #[must_use]
    pub fn cache(mut self) -> Self {
        self.cache = true;
        self
    }

    /// Has its data on a file system of this size, such as `4m`.
    #[must_use]
    pub fn disk(mut self, size: &str) -> Self {
        self.disk = Some(size.into());
        self
    }

    /// Is in a static that several tests use, as [`Folder::shared`].
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Starts it, on a free port of loopback unless it is within something.
    #[track_caller]
    pub fn start(self) -> Registry {
        let folder = if self.shared {
            Folder::shared()
        } else {
            Folder::new()
        };
        fs::create_dir(folder.path().join("certs.d")).unwrap();
        if self.tls {
            make_certificates(folder.path());
        }
        if !self.users.is_empty() {
            let lines: String = self
                .users
                .iter()
                .map(|(user, password)| password_line(user, password))
                .collect();
            fs::write(folder.path().join("htpasswd"), lines).unwrap();
        }
        if let Some(size) = &self.disk {
            let data = folder.path().join("data");
            fs::create_dir(&data).unwrap();
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
            run(mount.arg(data)).ok();
        }
        let address = self.within.as_ref().map_or("127.0.0.1:0", |(_, address)| address);
        let child = spawn(&folder, &self, address);
        let mut registry = Registry {
            child,
            address: String::new(),
            options: self,
            seen: 0,
            folder,
        };
        registry.address = registry.wait_until_it_listens();
        registry
    }
}

fn password_line(user: &str, password: &str) -> String {
    let said = run(Command::new("htpasswd").args(["-Bbn", "-C", "4", user, password])).ok();
    said.stdout.trim().to_owned() + "\n"
}

fn configuration(folder: &Path, options: &Options, address: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut text = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: info}}\n\
         storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: {}}}\n",
        at("data"),
        !options.no_delete
    );
    if options.cache {
        text += "  cache: {blobdescriptor: inmemory}\n";
    }
    if options.read_only {
        text += "  maintenance: {readonly: {enabled: true}}\n";
    }
    text += &format!("http:\n  addr: {address}\n  secret: of-a-test\n");
    if options.tls {
        text += &format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            at("server.crt"),
            at("server.key")
        );
        if options.client_certs {
            text += &format!("    clientcas: [{}]\n", at("certs.d/ca.crt"));
        }
    }
    if !options.users.is_empty() {
        text += &format!(
            "auth:\n  htpasswd: {{realm: of-a-test, path: {}}}\n",
            at("htpasswd")
        );
    }
    text
}

fn spawn(folder: &Folder, options: &Options, address: &str) -> Child {
    let config = folder.path().join("config.yml");
    fs::write(&config, configuration(folder.path(), options, address)).unwrap();
    let enter = options
        .within
        .iter()
        .flat_map(|(enter, _)| enter)
        .map(String::as_str);
    let line: Vec<&str> = enter.chain(["/usr/bin/docker-registry", "serve"]).collect();
    let mut command = clean(line[0], folder.path());
    command.args(&line[1..]).arg(&config);
    folder.spawn(&mut command, &folder.path().join("registry.log"))
}

/// A CA, a server's and a client's certificate, in the file names of a `certs.d` folder.
pub fn make_certificates(folder: &Path) {
    let script = r#"
        exec 2>&1
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=a test's CA" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
            -keyout ca.key -out certs.d/ca.crt
        sign() { # NAME SUBJECT EXTENSIONS OUT
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$4.key" -out "$1.csr"
            printf '%b' "$3" >"$1.ext"
            openssl x509 -req -in "$1.csr" -CA certs.d/ca.crt -CAkey ca.key -CAcreateserial -days 30 \
                -extfile "$1.ext" -out "$4.$5"
        }
        sign server localhost 'subjectAltName=DNS:localhost,DNS:harbor.local,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' server crt
        sign client a-client 'extendedKeyUsage=clientAuth\n' certs.d/client cert
    "#;
    run(Command::new("bash").args(["-euc", script]).current_dir(folder)).ok();
}

impl Registry {
    /// Starts a plain one.
    #[track_caller]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// Begins to describe one.
    pub fn options() -> Options {
        Options::default()
    }

    #[track_caller]
    fn wait_until_it_listens(&mut self) -> String {
        let log = self.folder.path().join("registry.log");
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let text = text.get(self.seen..).unwrap_or_default();
            if let Some((_, rest)) = text.split_once("listening on ")
                && let Some(end) = rest.find([',', '"'])
            {
                return rest[..end].to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "docker-registry does not listen ({ended:?}):\n{text}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// `http://127.0.0.1:PORT` or `https://...`.
    pub fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.options.tls { "https" } else { "http" },
            self.address
        )
    }

    /// Its CA's certificate, if it speaks TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.certs_dir().join("ca.crt")
    }

    /// A client's certificate and key, if it speaks TLS.
    pub fn client_cert(&self) -> (PathBuf, PathBuf) {
        (
            self.certs_dir().join("client.cert"),
            self.certs_dir().join("client.key"),
        )
    }

    /// A folder like `/etc/docker/certs.d/HOST`: ca.crt, client.cert, client.key.
    pub fn certs_dir(&self) -> PathBuf {
        self.folder.path().join("certs.d")
    }

    /// The first user and password.
    pub fn user(&self) -> Option<(&str, &str)> {
        self.options
            .users
            .first()
            .map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.options.tls
    }

    /// The file that holds a blob or manifest, to look at or to damage; `digest` as `sha256:...`.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        self.folder
            .path()
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Its root folder, which has `docker/registry/v2`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Gives the file system of its data another size.
    #[track_caller]
    pub fn resize_disk(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]);
        run(mount.arg(self.root())).ok();
    }

    /// The folder of a repository.
    pub fn repository(&self, name: &str) -> PathBuf {
        self.root().join("docker/registry/v2/repositories").join(name)
    }

    /// Removes what no manifest refers to, as administrators do: as the user to whom the data belongs.
    #[track_caller]
    pub fn collect_garbage(&self) {
        let mut command = clean("/usr/bin/docker-registry", self.folder.path());
        let config = self.folder.path().join("config.yml");
        if rustix::process::geteuid().is_root() {
            let open = fs::Permissions::from_mode(0o711);
            fs::set_permissions(self.folder.path(), open).unwrap();
            let owner = fs::metadata(self.root()).unwrap();
            command.uid(owner.uid()).gid(owner.gid());
        }
        run(command.arg("garbage-collect").arg(config)).ok();
    }

    /// Removes all manifests of a repository, as a clean-up by tag does. Its blobs stay.
    pub fn forget_manifests(&self, repository: &str) {
        let repositories = self.folder.path().join("data/docker/registry/v2/repositories");
        fs::remove_dir_all(repositories.join(repository).join("_manifests")).unwrap();
    }

    /// Removes a repository. Its blobs stay, and belong to no repository.
    pub fn forget_repository(&self, repository: &str) {
        let repositories = self.folder.path().join("data/docker/registry/v2/repositories");
        fs::remove_dir_all(repositories.join(repository)).unwrap();
    }

    /// What it was asked since the start or the last `forget_requests`.
    pub fn requests(&self) -> Vec<Request> {
        let log = self.log();
        log.get(self.seen..)
            .unwrap_or_default()
            .lines()
            .filter_map(parse_access_line)
            .collect()
    }

    /// Lets `requests` begin anew.
    pub fn forget_requests(&mut self) {
        self.seen = self.log().len();
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("registry.log")).unwrap_or_default()
    }

    /// Ends it; its data stays, and `start_again` serves it on the same port.
    pub fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::KILL).unwrap();
        }
        self.child.wait().unwrap();
    }

    /// Starts it on the same port and data, after `stop`.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.forget_requests();
        self.child = spawn(&self.folder, &self.options, &self.address);
        assert_eq!(self.wait_until_it_listens(), self.address);
    }
}

/// Apache's combined format: `HOST - - [TIME] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`.
fn parse_access_line(line: &str) -> Option<Request> {
    let mut parts = line.split('"');
    if !parts.next()?.ends_with("] ") {
        return None;
    }
    let (method, rest) = parts.next()?.split_once(' ')?;
    let (status, bytes) = parts.next()?.trim().split_once(' ')?;
    Some(Request {
        method: method.into(),
        target: rest.split(' ').next()?.into(),
        status: status.parse().ok()?,
        bytes: bytes.parse().ok()?,
        agent: parts.nth(2)?.into(),
    })
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
