//! The shape of the program: imports point down the list of modules, folders of one module do not import each other
//! in a circle, and only the command line knows its flags and exit codes. docs/architecture.md draws it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules from the bottom up. A module imports those of earlier lines only; two of one line never each other.
const LAYERS: &[&[&str]] = &[
    &["date", "escape", "size", "yaml"],
    &["oci"],
    &["error", "html"],
    &[
        "dir",
        "goflate",
        "interrupt",
        "net",
        "process",
        "progress",
        "retry",
        "workers",
    ],
    &["blob", "host"],
    &["image"],
    &["image_list", "inventory", "source", "verify"],
    &["trust"],
    &["transfer"],
    &["archive"],
    &["recover", "repair", "store"],
    &["installer", "serve"],
    &["load", "save"],
    &[
        "containerd",
        "docker",
        "layout",
        "podman",
        "registry",
        "registry_storage",
    ],
    &["cli", "main"],
];

/// A module's path, such as `docker::attach::hosts`.
type Module = Vec<String>;

/// The position of a module in [`LAYERS`].
fn layer(top: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&top))
}

/// The text of every file, by its module, without tests.
fn sources(root: &Path) -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let below = path.strip_prefix(root).unwrap().with_extension("");
            let mut module: Module = below.iter().map(|name| name.to_str().unwrap().into()).collect();
            if module.last().is_some_and(|name| name == "mod") {
                module.pop();
            }
            found.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
    let declared: BTreeSet<Module> = found
        .iter()
        .flat_map(|(module, text)| tested(module, text))
        .collect();
    found.retain(|module, _| !declared.iter().any(|test| module.starts_with(test)));
    found
        .into_iter()
        .map(|(module, text)| (module, without_tests(&text).into()))
        .collect()
}

/// The modules that a file declares for tests only.
fn tested(module: &Module, text: &str) -> Vec<Module> {
    let mut tests = Vec::new();
    for rest in text.split("#[cfg(test)]").skip(1) {
        let mut path = None;
        for line in rest
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(2)
        {
            if let Some(file) = line.strip_prefix("#[path = \"") {
                path = file.split('.').next();
                continue;
            }
            let Some((_, declared)) = line.split_once("mod ") else {
                break;
            };
            if let Some(name) = declared.strip_suffix(';') {
                let mut test = module.clone();
                if path.is_some() {
                    test.pop();
                }
                test.push(path.unwrap_or(name).into());
                tests.push(test);
            }
            break;
        }
    }
    tests
}

/// A file's text without a module of tests at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path that begins at the crate or nearby, groups in braces taken apart.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let is_inside =
                text[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
            if !is_inside {
                expand(String::new(), &text[at..], &mut found);
            }
        }
    }
    found
}

/// Takes one path, or each of a group; gives what follows.
fn expand<'t>(before: String, text: &'t str, found: &mut Vec<String>) -> &'t str {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let path = format!("{before}{}", &text[..end]);
    let mut rest = &text[end..];
    if !path.ends_with("::") || !rest.starts_with('{') {
        found.push(path);
        return rest;
    }
    loop {
        rest = rest[1..].trim_start();
        if rest.starts_with('}') || rest.is_empty() {
            return rest.get(1..).unwrap_or_default();
        }
        rest = expand(path.clone(), rest, found).trim_start();
        if let Some(alias) = rest.strip_prefix("as ") {
            rest = alias.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
        }
        if !rest.starts_with([',', '}']) {
            return rest;
        }
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
    }
}

/// The module that a path used in `from` leads to, as far as there is a file for it.
fn resolve(from: &Module, path: &str, known: &BTreeMap<Module, String>) -> Option<Module> {
    let mut module = from.clone();
    let mut names = path.split("::").filter(|name| !name.is_empty()).peekable();
    if names.next_if_eq(&"crate").is_some() {
        module.clear();
    }
    while let Some(near) = names.next_if(|name| ["super", "self"].contains(name)) {
        if near == "super" {
            module.pop();
        }
    }
    module.extend(names.map(Into::into));
    while !module.is_empty() && !known.contains_key(&module) {
        module.pop();
    }
    (!module.is_empty()).then_some(module)
}

/// What imports what.
fn imports(known: &BTreeMap<Module, String>) -> Vec<(Module, Module)> {
    let mut imports = Vec::new();
    for (module, text) in known {
        for path in paths(&without_comments(text)) {
            let Some(used) = resolve(module, &path, known) else {
                continue;
            };
            if used != *module {
                imports.push((module.clone(), used));
            }
        }
    }
    imports
}

/// Imports that point up or sideways.
fn upward(known: &BTreeMap<Module, String>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for (module, used) in imports(known) {
        let (from, to) = (&module[0], &used[0]);
        if from == "lib" || from == to {
            continue;
        }
        match (layer(from), layer(to)) {
            (Some(from), Some(to)) if from > to => {}
            _ => drop(wrong.insert(format!("{} imports {}", module.join("::"), used.join("::")))),
        }
    }
    wrong
}

/// The folder that a module is in, within its top one; files at the top are folders of their own.
fn folder(module: &Module, known: &BTreeMap<Module, String>) -> String {
    let depth = match known
        .keys()
        .any(|other| other.len() > 2 && other.starts_with(&module[..2.min(module.len())]))
    {
        true => 2,
        false => 1,
    };
    module[..depth.min(module.len())].join("::")
}

/// Folders of one module that import each other, directly or indirectly.
fn circles(known: &BTreeMap<Module, String>) -> BTreeSet<String> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in imports(known) {
        // A folder's own file introduces what is in it.
        let is_above = used.starts_with(&module) || module.starts_with(&used);
        let (from, to) = (folder(&module, known), folder(&used, known));
        if module[0] == used[0] && from != to && !is_above && from.contains("::") && to.contains("::") {
            uses.entry(from).or_default().insert(to);
        }
    }
    let reaches = |from: &String, to: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(folder) = next.pop() {
            for used in uses.get(&folder).into_iter().flatten() {
                if used == to {
                    return true;
                }
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        false
    };
    let pairs = uses
        .iter()
        .flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
    pairs
        .filter(|(from, to)| reaches(to, from))
        .map(|(from, to)| format!("{from} imports {to}, which leads back"))
        .collect()
}

/// Options of other programs, as the library names them.
const OTHER_PROGRAMS: &[&str] = &[
    r#"" --all""#,
    r#"" --insecure-registry""#,
    r#"" --plain-http""#,
    r#"" --src-tls-verify=false""#,
    r#"" --tls-verify=false""#,
    r#"" --user NAME""#,
    r#"("--root", &options.root)"#,
    r#""--authfile""#,
    r#""--format", "json""#,
    r#""--help""#,
    r#""--pdeathsig""#,
    r#""--platform", platform"#,
    r#""--runroot""#,
    r#""--storage-driver""#,
    r#""images", "--all""#,
    r#""pull", "--quiet""#,
    "--config-file",
    "--containerd=",
    "--live-restore=false",
    "--no-ask-password",
    "--property=",
    "--registry-mirror",
    "containerd --config",
    "ctr with <code>--tlscacert",
    "docker --platform",
    "docker images --no-trunc",
    "dockerd --validate",
    "kaniko by --compression-level",
    "podman images --digests",
    "ps --all --external --filter",
    "podman save --format",
    "skopeo copy{all} --preserve-digests",
    "tar -V",
];

/// Lines outside the command line that name an option or a command of it, or speak of exit codes.
fn named_options(known: &BTreeMap<Module, String>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for (module, text) in known {
        if ["cli", "main"].contains(&module[0].as_str()) {
            continue;
        }
        for line in text.lines() {
            let mut rest = line.to_string();
            for other in OTHER_PROGRAMS {
                rest = rest.replace(other, "");
            }
            if is_of_the_command_line(&rest) {
                wrong.insert(format!("{}: {}", module.join("::"), line.trim()));
            }
        }
    }
    wrong
}

fn is_of_the_command_line(line: &str) -> bool {
    let line = line.to_lowercase();
    let is_letter = |letter: char| letter.is_ascii_lowercase();
    let has_option = line
        .match_indices("--")
        .any(|(at, _)| line[at + 2..].starts_with(is_letter));
    let words: Vec<&str> = line
        .split(|letter: char| !letter.is_alphanumeric() && letter != '-')
        .collect();
    let has_short = words.iter().any(|word| ["-o", "-q", "-v"].contains(word));
    let commands = ["save", "load", "verify", "list", "doctor"];
    let has_command = words
        .windows(2)
        .any(|pair| pair[0] == "sealift" && commands.contains(&pair[1]));
    has_option || has_short || has_command || line.contains("exit code") || line.contains("exit_code")
}

fn program() -> BTreeMap<Module, String> {
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn imports_point_down() {
    let program = program();
    assert!(program.len() > 150, "only {} files were found", program.len());
    let wrong = upward(&program);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn folders_do_not_import_each_other() {
    let wrong = circles(&program());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_a_place() {
    let tops: BTreeSet<String> = program().keys().map(|module| module[0].clone()).collect();
    let listed: BTreeSet<String> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter().map(ToString::to_string))
        .collect();
    let there: BTreeSet<String> = tops.into_iter().filter(|top| top != "lib").collect();
    assert_eq!(there, listed);
}

#[test]
fn the_library_names_no_option_and_no_exit_code() {
    let wrong = named_options(&program());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_forbidden_is_found() {
    let with = |module: &str, text: &str| {
        let mut program = program();
        let module: Module = module.split("::").map(Into::into).collect();
        program.entry(module).or_default().push_str(text);
        (upward(&program), circles(&program))
    };
    let (up, _) = with("oci::digest", "\nuse crate::error::Error;\n");
    assert!(up.contains("oci::digest imports error"), "{up:?}");
    let (up, _) = with("blob::stored", "\nfn f() { crate::archive::open_any() }\n");
    assert!(up.contains("blob::stored imports archive"), "{up:?}");
    let (up, _) = with(
        "docker::plan",
        "\nuse crate::{error::Result, registry::{Mirror, tls::Trust}};\n",
    );
    assert!(up.contains("docker::plan imports registry::tls"), "{up:?}");
    let (_, circles) = with(
        "docker::store::files",
        "\nuse super::super::attach::journal::Session;\n",
    );
    assert!(!circles.is_empty());
    for line in [
        r#"    hint: Some("--keep-going loads the others".into()),"#,
        "    /// As `--data-root` says.",
        r#"    "save to a file with -o FILE""#,
        r#"    "`sealift doctor --repair` undoes it""#,
        "    pub fn exit_code(&self) -> u8 {",
    ] {
        let mut program = program();
        program.get_mut(&vec!["save".to_string()]).unwrap().push_str(line);
        assert_eq!(named_options(&program).len(), 1, "{line}");
    }
}
