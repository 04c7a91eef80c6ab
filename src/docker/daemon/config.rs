//! `daemon.json` and the flags on dockerd's command line.
//!
//! Source: moby, `daemon/config/config.go` (what a reload applies, and which flags it loses).

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::docker::api::info::Info;
use crate::load::Obstacle;
use crate::oci::json;

const MIRRORS: &str = "registry-mirrors";
/// The flag for mirrors.
const MIRROR_FLAG: &str = "registry-mirror";
/// The flag of the storage driver, `-s` for short.
const DRIVER_FLAG: &str = "storage-driver";
/// dockerd's default for `--config-file`, which may be absent.
pub const DEFAULT_PATH: &str = "/etc/docker/daemon.json";
/// Flags whose value a reload replaces by the default, because it reads the file only.
const LOST_BY_RELOAD: [&str; 3] = [
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
];

/// The content of a `daemon.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration(Map<String, Value>);

impl Configuration {
    /// Parses it. An absent or empty file is an empty configuration, as for dockerd.
    ///
    /// # Errors
    ///
    /// The error says what is wrong.
    pub fn parse(bytes: Option<&[u8]>) -> Result<Configuration, String> {
        let bytes = bytes.unwrap_or_default();
        // dockerd skips a byte order mark, too.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Configuration(Map::new()));
        }
        json::from_slice(bytes)
            .map(Configuration)
            .map_err(|error| error.to_string())
    }

    /// The mirrors of docker.io.
    pub fn mirrors(&self) -> Vec<String> {
        self.texts(MIRRORS).unwrap_or_default()
    }

    /// The same with other mirrors, as bytes for a file. An empty list is written, because without the key the
    /// engine would keep the mirrors in its memory.
    pub fn with_mirrors(&self, mirrors: &[String]) -> Vec<u8> {
        self.with(MIRRORS, mirrors.into())
    }

    /// The same with another value of one key, as bytes for a file.
    pub fn with(&self, key: &str, value: Value) -> Vec<u8> {
        let mut map = self.0.clone();
        map.insert(key.into(), value);
        let mut bytes = Value::Object(map).to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// The string value of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn texts(&self, key: &str) -> Option<Vec<String>> {
        let list = self.0.get(key)?.as_array()?;
        let texts = list.iter().filter_map(Value::as_str).map(str::to_string);
        Some(texts.collect())
    }

    /// Why the engine must not reload this file: it would apply more than our change, or refuse the file.
    pub fn edited(&self, info: &Info, line: &CommandLine) -> Option<Obstacle> {
        if let Some(flag) = self.conflict(line) {
            return Some(Obstacle::new(
                format!(
                    "dockerd was started with --{flag}, and its daemon.json sets the same now: dockerd would not start with both"
                ),
                "leave the setting in one of the two places",
            ));
        }
        let changes = self.unreloaded(info, line);
        (!changes.is_empty()).then(|| {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            let is_removed =
                self.texts(MIRRORS).is_none() && changes.iter().any(|text| text.starts_with(MIRRORS));
            let empty = match is_removed {
                true => "; registry-mirrors that were removed need an empty list, [], for that",
                false => "",
            };
            Obstacle::new(
                format!(
                    "daemon.json has changed since dockerd read it ({}), and attaching would apply that",
                    changes.join("; ")
                ),
                format!("apply it first: `systemctl reload docker`, or a SIGHUP to dockerd{empty}"),
            )
        })
    }

    /// A flag on the command line that is in this file too. dockerd then refuses to start and to reload.
    ///
    /// Source: moby, `daemon/config/config.go`, `findConfigurationConflicts`.
    fn conflict<'l>(&self, line: &'l CommandLine) -> Option<&'l str> {
        let mut flags = line.flags.iter().map(String::as_str);
        flags.find(|flag| self.0.contains_key(&key_of(flag)))
    }

    /// What a reload of this file would change besides the mirrors: edits that have not been reloaded. Settings
    /// that the engine does not report are not detected.
    pub fn unreloaded(&self, info: &Info, line: &CommandLine) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut add = |key, in_file: String, in_dockerd: String| {
            changes.push(Change {
                key,
                in_file,
                in_dockerd,
            });
        };
        // Mirrors on the command line do not change.
        let is_flag = line.flags.iter().any(|flag| flag == MIRROR_FLAG);
        if !is_flag && !same(&self.mirrors(), &info.mirrors()) {
            add(MIRRORS, list(&self.mirrors()), list(&info.mirrors()));
        }
        if let Some(listed) = self.texts("insecure-registries") {
            let missing: Vec<String> = listed.into_iter().filter(|one| !info.is_insecure(one)).collect();
            if !missing.is_empty() {
                add("insecure-registries", list(&missing), "not that".into());
            }
        }
        if let Some(listed) = self.texts("labels") {
            let known = info.labels.as_deref().unwrap_or_default();
            if !same(&listed, known) {
                add("labels", list(&listed), list(known));
            }
        }
        for (key, known) in [("debug", info.debug), ("live-restore", info.live_restore())] {
            if let (Some(listed), Some(known)) = (self.0.get(key).and_then(Value::as_bool), known)
                && listed != known
            {
                add(key, listed.to_string(), known.to_string());
            }
        }
        if let (Some(listed), Some(known)) = (self.text("default-runtime"), &info.default_runtime)
            && listed != known
        {
            add("default-runtime", listed.into(), known.clone());
        }
        changes
    }
}

/// A setting that dockerd has not read from its file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its key in the file.
    pub key: &'static str,
    in_file: String,
    in_dockerd: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} in the file, {} in dockerd",
            self.key, self.in_file, self.in_dockerd
        )
    }
}

fn list(texts: &[String]) -> String {
    match texts {
        [] => "none".into(),
        texts => texts.join(", "),
    }
}

/// The key in `daemon.json` of a flag. Repeatable flags are lists there, in the plural.
fn key_of(flag: &str) -> String {
    match flag {
        "insecure-registry" => "insecure-registries".into(),
        "registry-mirror"
        | "label"
        | "host"
        | "dns-opt"
        | "log-opt"
        | "exec-opt"
        | "storage-opt"
        | "default-ulimit"
        | "authorization-plugin"
        | "default-address-pool" => format!("{flag}s"),
        other => other.into(),
    }
}

/// Whether two lists of addresses are equal: the engine adds a slash to a mirror's.
pub fn same(one: &[String], other: &[String]) -> bool {
    let plain = |list: &[String]| -> Vec<String> {
        list.iter()
            .map(|text| text.trim_end_matches('/').to_string())
            .collect()
    };
    plain(one) == plain(other)
}

/// The flags on dockerd's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The file of `--config-file`, which must exist.
    pub config_file: Option<PathBuf>,
    /// The address of the containerd to use.
    pub containerd: Option<PathBuf>,
    /// The folder of its state, with the socket of its own containerd.
    pub exec_root: Option<PathBuf>,
    /// Whether live-restore is set to any value, so that the file cannot set it.
    pub live_restore: bool,
    /// The long names of all flags.
    pub flags: Vec<String>,
    /// Why a reload cannot change the mirrors.
    pub fixed_mirrors: Option<Obstacle>,
    /// Why a reload would do harm.
    pub obstacles: Vec<Obstacle>,
}

impl CommandLine {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: &[String]) -> CommandLine {
        let mut found = CommandLine {
            config_file: None,
            containerd: None,
            exec_root: None,
            live_restore: false,
            flags: Vec::new(),
            fixed_mirrors: None,
            obstacles: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--") else {
                if argument.starts_with("-s") {
                    found.flags.push(DRIVER_FLAG.into());
                }
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            found.flags.push(name.to_string());
            let path = match name {
                "config-file" => Some(&mut found.config_file),
                "containerd" => Some(&mut found.containerd),
                "exec-root" => Some(&mut found.exec_root),
                _ => None,
            };
            if let Some(path) = path {
                let value = value.map(str::to_string).or_else(|| rest.next().cloned());
                *path = Some(value.unwrap_or_default().into());
            } else if name == "live-restore" {
                found.live_restore = true;
            } else if name == MIRROR_FLAG {
                found.fixed_mirrors = Some(Obstacle::new(
                    "dockerd was started with --registry-mirror, and then takes no mirrors from its file",
                    "move the mirrors from the command line to registry-mirrors in daemon.json",
                ));
            } else if LOST_BY_RELOAD.contains(&name) {
                found.obstacles.push(Obstacle::new(
                    format!(
                        "dockerd was started with --{name}, which it would lose by reading its file again"
                    ),
                    format!("move {name} from the command line to daemon.json"),
                ));
            }
        }
        found
    }

    /// Whether it sets the storage driver.
    pub fn sets_storage_driver(&self) -> bool {
        self.flags.iter().any(|flag| flag == DRIVER_FLAG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mirrors_change() {
        let text = br#"{"debug":true,"registry-mirrors":["https://m.example/"],"log-opts":{"max-size":"10m"},"mtu":1450}"#;
        let configuration = Configuration::parse(Some(text)).unwrap();
        assert_eq!(configuration.mirrors(), ["https://m.example/"]);
        let changed = configuration.with_mirrors(&["http://127.0.0.1:1023".into()]);
        let again = Configuration::parse(Some(&changed)).unwrap();
        assert_eq!(again.mirrors(), ["http://127.0.0.1:1023"]);
        let back = again.with_mirrors(&configuration.mirrors());
        assert_eq!(Configuration::parse(Some(&back)).unwrap(), configuration);
        assert!(
            Configuration::parse(None)
                .unwrap()
                .with_mirrors(&[])
                .starts_with(br#"{"registry-mirrors":[]}"#)
        );
        for bad in ["[]", "{", "{\"debug\":true,\"debug\":false}", "x"] {
            assert!(Configuration::parse(Some(bad.as_bytes())).is_err(), "{bad}");
        }
        assert_eq!(Configuration::parse(Some(b" \n")), Configuration::parse(None));
    }

    #[test]
    fn edits_that_nobody_reloaded_are_seen() {
        let info = |text: &str| serde_json::from_str::<Info>(text).unwrap();
        let stock = r#"{"RegistryConfig":{"Mirrors":null,"InsecureRegistryCIDRs":["127.0.0.0/8"],"IndexConfigs":{
            "docker.io":{"Secure":true},"harbor.local:5000":{"Secure":false}}},"Labels":["a=b"],"Debug":false,
            "LiveRestoreEnabled":true,"DefaultRuntime":"runc"}"#;
        let mirrored = r#"{"RegistryConfig":{"Mirrors":["https://m.example/"]}}"#;
        for (file, told, expected) in [
            ("{}", stock, vec![]),
            (
                r#"{"debug":false,"labels":["a=b"],"live-restore":true,"insecure-registries":["harbor.local:5000"],
                  "default-runtime":"runc","max-concurrent-downloads":7}"#,
                stock,
                vec![],
            ),
            (r#"{"registry-mirrors":["https://m.example"]}"#, mirrored, vec![]),
            ("{}", mirrored, vec!["registry-mirrors"]),
            (
                r#"{"registry-mirrors":["https://m.example"]}"#,
                stock,
                vec!["registry-mirrors"],
            ),
            (
                r#"{"debug":true,"labels":[],"live-restore":false,"insecure-registries":["new.local"],"default-runtime":"x"}"#,
                stock,
                vec![
                    "insecure-registries",
                    "labels",
                    "debug",
                    "live-restore",
                    "default-runtime",
                ],
            ),
        ] {
            let file = Configuration::parse(Some(file.as_bytes())).unwrap();
            let changes = file.unreloaded(&info(told), &CommandLine::parse(&[]));
            let keys: Vec<&str> = changes.iter().map(|change| change.key).collect();
            assert_eq!(keys, expected, "{file:?}");
        }
    }

    #[test]
    fn changes_are_told_in_words() {
        let told = |file: &str, info: &str, line: &[&str]| {
            let file = Configuration::parse(Some(file.as_bytes())).unwrap();
            let line: Vec<String> = line.iter().map(|word| (*word).to_string()).collect();
            let info = serde_json::from_str::<Info>(info).unwrap();
            file.edited(&info, &CommandLine::parse(&line))
        };
        let mirrored = r#"{"RegistryConfig":{"Mirrors":["https://m.example/"]},"Debug":false}"#;
        let flag = ["--registry-mirror", "https://m.example"];
        assert_eq!(told("{}", mirrored, &flag), None);
        let debug = told(r#"{"debug":true}"#, mirrored, &flag).unwrap();
        assert_eq!(
            debug.reason,
            "daemon.json has changed since dockerd read it (debug: true in the file, false in dockerd), and attaching \
             would apply that"
        );
        let removed = told("{}", mirrored, &[]).unwrap();
        assert!(
            removed.reason.contains("none in the file, https://m.example/ in"),
            "{removed}"
        );
        assert!(removed.hint.unwrap().to_string().contains("need an empty list"));
        for (file, line, flag) in [
            (
                r#"{"registry-mirrors":["https://m.example"]}"#,
                "--registry-mirror=https://m.example",
                "registry-mirror",
            ),
            (
                r#"{"insecure-registries":[]}"#,
                "--insecure-registry=a",
                "insecure-registry",
            ),
            (r#"{"debug":false}"#, "--debug", "debug"),
        ] {
            let conflict = told(file, mirrored, &[line]).unwrap();
            assert!(
                conflict.reason.contains(&format!("started with --{flag},")),
                "{conflict}"
            );
        }
    }

    #[test]
    fn command_lines_as_they_are_found() {
        for (line, file, obstacles) in [
            ("-H fd:// --containerd=/run/containerd/containerd.sock", None, 0),
            (
                "--config-file /x/daemon.json --bridge none",
                Some("/x/daemon.json"),
                0,
            ),
            ("--config-file=/x/daemon.json --debug", Some("/x/daemon.json"), 0),
            ("--containerd /x/c.sock --exec-root=/x/exec", None, 0),
            ("--registry-mirror=http://m", None, 0),
            ("--registry-mirror http://m --max-concurrent-downloads 9", None, 1),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_string).collect();
            let found = CommandLine::parse(&arguments);
            assert!(!found.sets_storage_driver(), "{line}");
            assert_eq!(
                found.config_file.as_deref(),
                file.map(std::path::Path::new),
                "{line}"
            );
            assert_eq!(found.obstacles.len(), obstacles, "{line}");
            assert_eq!(found.fixed_mirrors.is_some(), line.contains("mirror"), "{line}");
            let path = |text: &str| line.contains(text).then(|| PathBuf::from(text));
            let address = path("/x/c.sock").or_else(|| path("/run/containerd/containerd.sock"));
            assert_eq!(found.containerd, address, "{line}");
            assert_eq!(found.exec_root, path("/x/exec"), "{line}");
        }
        for line in [
            "--storage-driver=overlay2",
            "--storage-driver overlay2",
            "-s overlay2",
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_string).collect();
            assert!(CommandLine::parse(&arguments).sets_storage_driver(), "{line}");
        }
    }
}
