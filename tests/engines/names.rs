//! Names, tags and digests: whatever pulls, tags, pushes and removals have left on one host, the next one shows the
//! same after `save --all` and `load`, line by line.
//!
//! Sequences of commands are drawn at random from a fixed seed and run on a real Docker beside two real registries.
//! `SEALIFT_SEED=N` draws others, `SEALIFT_SEQUENCES=N` more of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::saving::{Nobody, at};
use crate::support::{Built, Daemon, Dialect, Engine, Image, Layer, Registry, Run, Sealift, Store};

/// Sequences for each engine.
const SEQUENCES: u64 = if cfg!(feature = "test-all") { 60 } else { 12 };
/// Commands in a sequence.
const COMMANDS: usize = 16;

/// Numbers that look random and are the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((bits ^ (bits >> 31)) % limit).unwrap()
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// What registries serve: two images, each under manifests and indexes that differ.
fn roots(layout: &std::path::Path) -> Vec<Built> {
    let mut roots = Vec::new();
    for content in ["one", "two"] {
        let single = || Image::single(vec![Layer::new().file("app/content", content)]);
        let index = |attestations| Image {
            index: true,
            attestations,
            ..single()
        };
        let forms = [
            ("manifest", single()),
            ("docker", single().dialect(Dialect::Docker)),
            ("index", index(false)),
            ("attested", index(true)),
        ];
        for (form, image) in forms {
            roots.push(image.build(layout, &format!("{content}-{form}")));
        }
    }
    roots
}

/// A host with its registries, and one that reaches neither.
struct Hosts {
    /// Serves docker.io.
    hub: Registry,
    own: Registry,
    here: Daemon,
    there: Daemon,
    roots: Vec<Built>,
    sealift: Sealift,
    nobody: Nobody,
}

impl Hosts {
    fn start(engine: Engine, store: Store) -> Self {
        let sealift = Sealift::new();
        let (hub, own) = (Registry::start(), Registry::start());
        let here = Daemon::options(engine, store).mirror(&hub).start();
        let hosts = Self {
            there: Daemon::options(engine, store)
                .own_mounts()
                .own_network(true)
                .start(),
            roots: roots(&sealift.path("layout")),
            hub,
            own,
            here,
            sealift,
            nobody: Nobody::new(),
        };
        for (_, registry, path) in hosts.repositories() {
            for root in &hosts.roots {
                registry.push(root, &format!("{path}:{}", root.tag));
            }
            for (root, tag) in hosts.roots.iter().zip(["1", "2"]) {
                registry.push(root, &format!("{path}:{tag}"));
            }
        }
        hosts
    }

    /// Repositories that can be pulled from, with their registry and path there.
    fn repositories(&self) -> [(String, &Registry, &str); 3] {
        [
            ("app".into(), &self.hub, "library/app"),
            ("team/web".into(), &self.hub, "team/web"),
            (format!("{}/x/app", self.own.address()), &self.own, "x/app"),
        ]
    }

    /// Names that images are tagged as.
    fn targets(&self) -> Vec<String> {
        let mut names: Vec<String> = ["app:1", "app:2", "team/web:1", "local/only:1", "local/only:2"]
            .map(str::to_owned)
            .into();
        names.extend(["x/app:1", "x/app:2", "y/app:1"].map(|name| format!("{}/{name}", self.own.address())));
        names
    }

    /// One command; those that Docker refuses change nothing. What it was.
    fn step(&self, draw: &mut Draw) -> String {
        let repositories = self.repositories();
        let (repository, registry, path) = draw.of(&repositories);
        let tag = 1 + draw.below(2);
        // Mostly the same image, under another manifest or index.
        let half = self.roots.len() / 2;
        let root = match draw.below(4) {
            0 => draw.of(&self.roots[half..]),
            _ => draw.of(&self.roots[..half]),
        };
        let targets = self.targets();
        let command: Vec<String> = match draw.below(12) {
            // An image is pushed, or pushed again.
            0..=2 => {
                registry.push(root, &format!("{path}:{tag}"));
                return format!("push {} to {repository}:{tag} from elsewhere", root.tag);
            }
            3..=5 => vec!["pull".into(), "-q".into(), format!("{repository}:{tag}")],
            6 => vec![
                "pull".into(),
                "-q".into(),
                format!("{repository}@{}", root.digest),
            ],
            7 => {
                let digest = &root.host().digest;
                vec!["pull".into(), "-q".into(), format!("{repository}@{digest}")]
            }
            8 | 9 => match self.names().as_slice() {
                [] => return String::new(),
                names => vec!["tag".into(), draw.of(names).clone(), draw.of(&targets).clone()],
            },
            10 => {
                let own = self.own.address();
                let mut names = self.names();
                names.retain(|name| name.starts_with(own) && !name.contains('@'));
                match names.as_slice() {
                    [] => return String::new(),
                    names => vec!["push".into(), "-q".into(), draw.of(names).clone()],
                }
            }
            _ => match self.names().as_slice() {
                [] => return String::new(),
                names => vec!["rmi".into(), draw.of(names).clone()],
            },
        };
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let said = self.here.docker(&command);
        format!(
            "docker {} -> {:?} {}",
            command.join(" "),
            said.code,
            said.stderr.trim()
        )
    }

    /// Names of images here, tags and digests.
    fn names(&self) -> Vec<String> {
        let list = self.here.api("/images/json");
        let mut names = BTreeSet::new();
        for image in list.as_array().unwrap() {
            for key in ["RepoTags", "RepoDigests"] {
                let all = image[key].as_array().into_iter().flatten();
                names.extend(all.map(|name| name.as_str().unwrap().to_owned()));
            }
        }
        names.retain(|name| !name.contains("<none>"));
        names.into_iter().collect()
    }

    /// Runs one sequence and compares the hosts after it. The lines that both show.
    fn sequence(&self, seed: u64) -> Vec<String> {
        let mut draw = Draw(seed);
        let mut trace = format!(
            "SEALIFT_SEED={seed}, {:?} {:?}\n",
            self.here.engine(),
            self.here.store()
        );
        for _ in 0..COMMANDS {
            writeln!(trace, "  {}", self.step(&mut draw)).unwrap();
        }
        let expected = lines(&self.here);
        if expected.is_empty() {
            return expected;
        }
        for line in &expected {
            writeln!(trace, "  here: {line}").unwrap();
        }
        let (said, archive) = self.save(draw.below(3));
        assert_eq!(said.code, Some(0), "{trace}\n{said:?}");
        let archive = archive.to_str().unwrap();
        self.sealift.run(&["verify", "-q", archive]).ok();
        let loaded = at(&self.sealift, &self.there, &["load", archive]);
        assert_eq!(loaded.code, Some(0), "{trace}\n{said:?}\n{loaded:?}");
        assert_eq!(lines(&self.there), expected, "{trace}\n{said:?}\n{loaded:?}");
        assert_eq!(names_by_id(&self.there), names_by_id(&self.here), "{trace}");
        expected
    }

    /// Saves all images in one of three ways: from the store and the registries, from the store alone, and by the
    /// API and the registries.
    fn save(&self, way: usize) -> (Run, PathBuf) {
        let mirror = format!("docker.io={}", self.hub.address());
        let save = [
            "save", "--all", "--from", "docker", "--mirror", &mirror, "-o", "all.tar",
        ];
        match way {
            0 => (at(&self.sealift, &self.here, &save), self.sealift.path("all.tar")),
            1 => {
                let save = [&save[..], &["--offline"]].concat();
                (at(&self.sealift, &self.here, &save), self.sealift.path("all.tar"))
            }
            _ => (self.nobody.run(&self.here, &save), self.nobody.path("all.tar")),
        }
    }

    fn remove_all(&self) {
        for daemon in [&self.here, &self.there] {
            let ids = daemon.docker(&["images", "-aq", "--no-trunc"]).ok().stdout;
            let ids: BTreeSet<&str> = ids.lines().collect();
            for id in ids {
                daemon.docker(&["rmi", "-f", id]);
            }
            assert_eq!(daemon.images(), [""; 0]);
        }
    }
}

/// What `docker images --digests` shows, without images that have no name.
fn lines(daemon: &Daemon) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}";
    let said = daemon
        .docker(&["images", "--digests", "--no-trunc", "--format", format])
        .ok()
        .stdout;
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("<none>:<none> "));
    lines.sort();
    lines
}

/// What the engine's list has of each image that has a name.
fn names_by_id(daemon: &Daemon) -> Vec<Value> {
    let mut list = daemon.api("/images/json").as_array().unwrap().clone();
    let has = |image: &Value, key: &str| image[key].as_array().is_some_and(|names| !names.is_empty());
    list.retain(|image| has(image, "RepoTags") || has(image, "RepoDigests"));
    list.retain(|image| !image["RepoTags"].to_string().contains("<none>:<none>"));
    let sorted = |names: &Value| {
        let mut names: Vec<String> = names
            .as_array()
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect();
        names.sort();
        names
    };
    list.sort_by_key(|image| image["Id"].to_string());
    list.iter()
        .map(|image| {
            json!([
                image["Id"],
                sorted(&image["RepoTags"]),
                sorted(&image["RepoDigests"])
            ])
        })
        .collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect(variable))
}

/// After any sequence of commands on one host, the other one shows the same.
fn both_hosts_show_the_same(engine: Engine, store: Store) {
    let hosts = Hosts::start(engine, store);
    let seed = number("SEALIFT_SEED").unwrap_or(1);
    let mut several = 0;
    for seed in seed..seed + number("SEALIFT_SEQUENCES").unwrap_or(SEQUENCES) {
        let shown = hosts.sequence(seed);
        let tags: Vec<&str> = shown.iter().filter_map(|line| line.split(' ').next()).collect();
        several += usize::from(tags.windows(2).any(|pair| pair[0] == pair[1]));
        hosts.remove_all();
    }
    if store == Store::Classic {
        assert!(several > 0, "no sequence has left a tag with two digests");
    }
}

on_every_engine!(both_hosts_show_the_same);
