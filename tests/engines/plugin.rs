//! `docker sealift`, called by Docker's own clients.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Daemon, Engine, Image, Registry, Run, Sealift, Store, command, run};

/// Runs a command on a terminal, presses Ctrl-C once it reads a FIFO, and ends as it does.
const ON_A_TERMINAL: &str = r#"
import os, pty, sys
fifo, words = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvpe(words[0], words, os.environ)
writer = os.open(fifo, os.O_WRONLY)
os.write(terminal, b"\x03")
shown = b""
try:
    while piece := os.read(terminal, 4096):
        shown += piece
except OSError:
    pass
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A daemon whose client has the plugin, and has pulled an image.
struct Setup {
    daemon: Daemon,
    digest: String,
    _registry: Registry,
}

impl Setup {
    fn new(engine: Engine, store: Store) -> Self {
        let (registry, sealift) = (Registry::start(), Sealift::new());
        let built = Image::sample("httpd", "2.4").build(&sealift.path("layout"), "2.4");
        registry.push(&built, "library/httpd:2.4");
        let daemon = Daemon::options(engine, store).mirror(&registry).start();
        daemon.docker(&["pull", "--quiet", "httpd:2.4"]).ok();
        let folder = daemon.data(".docker/cli-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        command::install(env!("CARGO_BIN_EXE_sealift"), &folder.join("docker-sealift"));
        Self {
            daemon,
            digest: built.digest,
            _registry: registry,
        }
    }

    /// Runs `docker` with these words, of which `FILE` in braces is a file that plugin and test share.
    #[track_caller]
    fn docker(&self, words: &str) -> Run {
        let words: Vec<String> = words.split(' ').map(|word| self.filled(word)).collect();
        self.daemon
            .docker(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn filled(&self, word: &str) -> String {
        match word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => self.daemon.data_inside(name).display().to_string(),
            None => word.to_owned(),
        }
    }
}

fn clients_call_it(engine: Engine, store: Store) -> Setup {
    let setup = Setup::new(engine, store);
    let daemon = &setup.daemon;
    let version = env!("CARGO_PKG_VERSION");

    // It is listed, with its description.
    let format = "{{range .ClientInfo.Plugins}}{{.Name}} {{.Vendor}} {{.Version}} {{.Err}};{{end}}";
    let plugins = daemon.docker(&["info", "--format", format]).ok().stdout;
    assert!(
        plugins.contains(&format!("sealift sealift {version} <nil>;")),
        "{plugins}"
    );
    let all = setup.docker("help").ok().stdout;
    let listed = all
        .lines()
        .find(|line| line.contains("sealift*"))
        .unwrap_or_else(|| panic!("{all}"));
    assert!(listed.contains("Move container images between hosts"), "{listed}");
    let help = setup.docker("help sealift save").ok().stdout;
    assert!(help.contains("Usage: docker sealift save "), "{help}");
    assert_eq!(setup.docker("sealift save --help").ok().stdout, help);

    // An image leaves Docker and comes back with its digest. The client's own -H says which Docker.
    let shown = [format!("httpd:2.4 {}", setup.digest)];
    assert_eq!(daemon.images(), shown);
    setup
        .docker("sealift save httpd:2.4 --from docker --offline -o {images.tar}")
        .ok();
    setup.docker("rmi httpd:2.4").ok();
    assert_eq!(daemon.images(), [""; 0]);
    let load = "sealift load --json {images.tar} --receipt {receipt.json}";
    let loaded = setup.docker(load).ok().json();
    assert_eq!(loaded["auto"]["engine"], "docker");
    assert_eq!(daemon.images(), shown);
    let receipt = std::fs::read(daemon.data("receipt.json")).unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt["exit"], 0);
    let target = &receipt["targets"][0];
    assert_eq!(target["engine"], "docker");
    let version = daemon.info()["ServerVersion"].as_str().unwrap().to_owned();
    assert_eq!(target["version"], version);
    let image = &target["images"][0];
    assert_eq!(
        (image["digest"].as_str(), &image["shown"]),
        (Some(&*setup.digest), &true.into())
    );

    // Exit codes are the plugin's.
    setup.docker("sealift verify {absent.tar}").code(3);
    setup.docker("sealift load {images.tar} --image redis").code(7);
    let refused = setup.docker("sealift load {images.tar} --no-such-option").code(2);
    assert!(
        refused.stderr.contains("Usage: docker sealift load"),
        "{refused:?}"
    );

    // Ctrl-C on a terminal reaches both; the client waits and exits with the plugin's code.
    let fifo = daemon.data("fifo");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    std::fs::set_permissions(&fifo, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut client = daemon.client();
    client.args(["sealift", "verify"]).arg(setup.filled("{fifo}"));
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", ON_A_TERMINAL])
        .arg(&fifo)
        .arg(client.get_program())
        .args(client.get_args())
        .env_clear()
        .envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = run(&mut terminal).code(130);
    assert!(ended.stdout.contains("interrupted by SIGINT"), "{ended:?}");
    setup
}

#[test]
fn the_client_of_docker_20() {
    clients_call_it(Engine::Docker20, Store::Classic);
}

#[test]
fn the_client_of_docker_28() {
    let setup = clients_call_it(Engine::Docker28, Store::Containerd);
    let completed = setup.docker("__complete sealift ver").ok();
    assert!(completed.stdout.starts_with("verify\tVerify "), "{completed:?}");

    // A client whose output is no terminal keeps a signal to itself, and ends the plugin.
    let mut client = setup.daemon.client();
    client.args(["sealift", "verify"]).arg(setup.filled("{fifo}"));
    let client = client
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The plugin has opened it.
    let _writer = std::fs::File::create(setup.daemon.data("fifo")).unwrap();
    kill_process(Pid::from_child(&client), Signal::TERM).unwrap();
    let ended = Run::new(
        "docker sealift verify".into(),
        &client.wait_with_output().unwrap(),
    );
    assert!(ended.code(143).stderr.contains("interrupted by SIGTERM"));
}
