//! The examples of the help texts, and the commands of README and docs, run as a reader would type them.

use super::ssh::Ssh;
use super::{Run, Sealift, run};

/// The commands whose examples need an engine or a registry; `sealift --help` itself is the empty one. Examples of all
/// others run in `tests/cli`.
pub const BESIDE_AN_ENGINE: &[&str] = &[
    "",
    "save",
    "load",
    "verify",
    "repair",
    "serve",
    "inventory",
    "doctor",
];

/// Every command that `sealift --help` lists.
#[track_caller]
pub fn commands(sealift: &Sealift) -> Vec<String> {
    let commands = section(&sealift.run(&["--help"]).ok().stdout, "Commands:");
    assert!(commands.len() > 5, "{commands:?}");
    let first_word = |line: &String| line.split(' ').next().unwrap().to_owned();
    // `help` has no help of its own.
    let commands = commands.iter().map(first_word);
    commands.filter(|command| command != "help").collect()
}

/// The examples of a command's help, one shell line each.
#[track_caller]
pub fn of(sealift: &Sealift, command: &str) -> Vec<String> {
    let args = [command, "--help"];
    let args = if command.is_empty() { &args[1..] } else { &args };
    let mut lines = section(&sealift.run(args).ok().stdout, "Examples:");
    lines.retain(|line| !line.ends_with(':'));
    assert!(!lines.is_empty(), "{command} --help has no example");
    lines
}

/// Documents whose commands have a test of their own, which takes them out of the document.
const ELSEWHERE: &[&str] = &["fleet.md", "migrate.md"];

/// The examples of a command's help, and the lines of README and docs that begin with it.
#[track_caller]
pub fn with_documents(sealift: &Sealift, command: &str) -> Vec<String> {
    let code = |line: &str| line.split(" #").next().unwrap().trim().to_owned();
    let mut lines = of(sealift, command);
    for (of, line) in documented() {
        // CRI-O is not on this host; its storage is in tests/engines/podman_crio.rs.
        if of == command && !line.contains(" crio ") && !lines.iter().any(|known| code(known) == code(&line))
        {
            lines.push(line);
        }
    }
    lines
}

/// The lines of code in README and docs that begin with a command or pipe something into one, and the command.
pub fn documented() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut paths: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    paths.push(root.join("README.md"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths
        .iter()
        .filter(|path| !ELSEWHERE.iter().any(|name| path.ends_with(name)))
    {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let Some(code) = line.strip_prefix("    ") else {
                continue;
            };
            let code = code.trim_start();
            let code = code.strip_prefix("$ ").unwrap_or(code);
            let piped = code.rsplit_once("| ").map_or(code, |(_, last)| last);
            let words = piped.strip_prefix("sudo ").unwrap_or(piped);
            if let Some(rest) = words.strip_prefix("sealift ") {
                let command = rest.split(' ').next().unwrap().to_owned();
                found.push((command, without_digests(code)));
            }
        }
    }
    found
}

/// A line with dots for each digest, which is another one here.
fn without_digests(line: &str) -> String {
    let mut parts = line.split("sha256:");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        text += "sha256:";
        text += if rest.len() < part.len() { "..." } else { "" };
        text += rest;
    }
    text
}

/// The lines below a heading up to an empty one.
fn section(help: &str, heading: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Runs a line in the home of a sealift, where `replaced` gives what a reader would fill in, such as
/// `("/media/stick", "stick")`. `prelude` is what the shell has to know before.
#[track_caller]
pub fn execute(sealift: &Sealift, prelude: &str, line: &str, replaced: &[(&str, &str)]) -> Run {
    let mut filled = line
        .replace("/etc/sealift/allowed_signers", "allowed_signers")
        .replace("/root/.ssh/", ".ssh/");
    if ["--sign", "--allowed-signers"]
        .iter()
        .any(|option| line.contains(option))
    {
        sign(sealift, &filled);
    }
    for (from, to) in replaced {
        filled = filled.replace(from, to);
    }
    let code = filled.split(" #").next().unwrap();
    assert!(!code.contains("..."), "what stands for the dots in `{line}`?");
    let is_outside = |word: &&str| {
        let ours = replaced.iter().any(|(_, to)| word.starts_with(to));
        word.starts_with('/') && !ours
    };
    let outside: Vec<_> = code.split([' ', '"', '=']).filter(is_outside).collect();
    assert_eq!(outside, [""; 0], "`{line}` would use this host's");
    let script =
        format!("set -euo pipefail\nsudo() {{ \"$@\"; }}\nssh() {{ shift; \"$@\"; }}\n{prelude}\n{filled}");
    let said = run(&mut sealift.shell(&script)).ok();
    // jq prints null where there is no such field, and ends well.
    if code.contains("| jq ") {
        let is_something = said.stdout.lines().any(|line| !line.is_empty());
        assert!(
            is_something && said.stdout.lines().all(|line| line != "null"),
            "{line}: {:?}",
            said.stdout
        );
    }
    said
}

/// Makes the keys that examples sign with, allows them, and signs the archive of a line by hand, if it is there.
fn sign(sealift: &Sealift, line: &str) {
    let ssh = Ssh(sealift.home());
    std::fs::create_dir_all(sealift.path(".ssh")).unwrap();
    for key in [".ssh/id_ed25519", "release"] {
        if !sealift.path(key).exists() {
            ssh.key(key, ("ed25519", "256"), "");
        }
    }
    let signers = [
        ("me@example.com", ".ssh/id_ed25519"),
        ("release@example.com", "release"),
    ];
    ssh.allow("allowed_signers", &signers);
    let archive = line
        .split(' ')
        .find(|word| word.ends_with(".tar"))
        .unwrap_or("images.tar");
    let verified = sealift.run(&["verify", "-q", "--digests-only", archive]);
    if verified.code == Some(0) {
        let digest = verified.stdout.lines().last().unwrap_or_default();
        std::fs::write(sealift.path("line"), format!("{digest}\n")).unwrap();
        let _ = std::fs::remove_file(sealift.path("line.sig"));
        ssh.sign("sealift-archive", "release", "line");
        std::fs::rename(sealift.path("line.sig"), sealift.path(&format!("{archive}.sig"))).unwrap();
    }
}

/// A custom resource.
const OPERATOR: &str =
    "{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, spec: {image: 'quay.io/prometheus:1'}}\n";

/// Writes a compose file and manifests of Kubernetes, which name `httpd:2.4`, as examples use them. Returns what a shell
/// has to know for those with `helm template` and `kubectl kustomize`.
pub fn write_lists(sealift: &Sealift) -> &'static str {
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "httpd:2.4"}]}}"#;
    for (name, text) in [
        ("compose.yaml", "services: {web: {image: 'httpd:${TAG:-2.4}'}}\n"),
        ("prod.env", "TAG=2.4\n"),
        ("manifests.yaml", pod),
        ("operator.yaml", OPERATOR),
    ] {
        std::fs::write(sealift.path(name), text).unwrap();
    }
    "helm() { cat manifests.yaml; }; kubectl() { cat manifests.yaml; }"
}
