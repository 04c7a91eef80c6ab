use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::error::ErrorKind;

fn password(username: &str, password: &str) -> Credential {
    Credential::Password {
        username: username.into(),
        password: Secret::new(password),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn docker_file(folder: &Path, text: &str) -> Credentials {
    write(&folder.join("config.json"), text);
    Credentials::locate(&Environment::default().with("DOCKER_CONFIG", folder))
}

fn find(credentials: &Credentials, registry: &str, repository: &str) -> Option<Credential> {
    credentials.find(registry, repository).unwrap().credential
}

#[test]
fn keys_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    // base64 of ann:p:w with and without padding, bob:x with padding of zeros after the password.
    let credentials = docker_file(
        folder.path(),
        r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"YW5uOnA6dw=="},
            "quay.io":{"auth":"YW5uOnA6dw"},
            "https://h.io:5000/v2/":{"auth":"Ym9iOngAAA=="},
            "Upper.io":{"username":"u","password":"p"},
            "i.io":{"auth":"Ym9iOngAAA==","identitytoken":"refresh"},
            "r.io":{"registrytoken":"as-is"},
            "empty.io":{}
        },"HttpHeaders":{"X":"y"}}"#,
    );
    for (registry, expected) in [
        ("docker.io", Some(password("ann", "p:w"))),
        ("quay.io", Some(password("ann", "p:w"))),
        ("h.io:5000", Some(password("bob", "x"))),
        ("h.io", None),
        ("upper.io", Some(password("u", "p"))),
        ("i.io", Some(Credential::Identity(Secret::new("refresh")))),
        ("r.io", Some(Credential::Bearer(Secret::new("as-is")))),
        ("empty.io", None),
        ("evil-quay.io", None),
        ("x.quay.io", None),
    ] {
        assert_eq!(find(&credentials, registry, "a/b"), expected, "{registry}");
    }
}

#[test]
fn the_longest_scope_of_podmans_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    write(
        &path,
        r#"{"auths":{
            "quay.io":{"username":"host","password":"1"},
            "quay.io/org":{"username":"org","password":"2"},
            "quay.io/org/app":{"username":"app","password":"3"},
            "docker.io/library/httpd":{"username":"httpd","password":"4"}}}"#,
    );
    let credentials = Credentials::locate(&Environment::default().with("REGISTRY_AUTH_FILE", &path));
    for (registry, repository, expected) in [
        ("quay.io", "org/app", Some(password("app", "3"))),
        ("quay.io", "org/app/x", Some(password("app", "3"))),
        ("quay.io", "org/apple", Some(password("org", "2"))),
        ("quay.io", "organ/x", Some(password("host", "1"))),
        ("docker.io", "library/httpd", Some(password("httpd", "4"))),
        ("docker.io", "library/redis", None),
    ] {
        assert_eq!(
            find(&credentials, registry, repository),
            expected,
            "{registry}/{repository}"
        );
    }
}

/// A user who may have called sudo, and owns a file: only root can change the owner.
fn caller(file: &Path) -> u32 {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return own.as_raw();
    }
    std::os::unix::fs::chown(file, Some(65_534), Some(65_534)).unwrap();
    65_534
}

#[test]
fn files_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let entry = |user: &str, hosts: &[&str]| {
        let list: Vec<String> = hosts
            .iter()
            .map(|host| format!(r#""{host}":{{"username":"{user}","password":"p"}}"#))
            .collect();
        format!(r#"{{"auths":{{{}}}}}"#, list.join(","))
    };
    write(&at("auth"), &entry("explicit", &["a.io"]));
    write(
        &at("home/.docker/config.json"),
        &entry("docker", &["a.io", "b.io"]),
    );
    write(
        &at("run/containers/auth.json"),
        &entry("run", &["a.io", "b.io", "c.io"]),
    );
    write(
        &at("home/.config/containers/auth.json"),
        &entry("config", &["a.io", "c.io", "d.io"]),
    );
    write(
        &at("ann/.docker/config.json"),
        &entry("ann", &["a.io", "d.io", "e.io"]),
    );
    let caller = caller(&at("ann/.docker/config.json"));
    let environment = Environment::default()
        .with("REGISTRY_AUTH_FILE", at("auth"))
        .with("HOME", at("home"))
        .with("XDG_RUNTIME_DIR", at("run"))
        .with("SUDO_UID", caller.to_string())
        .with("SUDO_GID", caller.to_string())
        .with("SUDO_HOME", at("ann"))
        .under_sudo("");
    let credentials = Credentials::locate(&environment);
    for (registry, user) in [
        ("a.io", "explicit"),
        ("b.io", "docker"),
        ("c.io", "run"),
        ("d.io", "config"),
        ("e.io", "ann"),
    ] {
        assert_eq!(
            find(&credentials, registry, "x"),
            Some(password(user, "p")),
            "{registry}"
        );
    }
    let given = credentials.with("a.io", password("given", "p"));
    assert_eq!(find(&given, "a.io", "x"), Some(password("given", "p")));
    assert!(!format!("{given:?}").contains("\"p\""));
}

#[test]
fn a_damaged_file_is_told_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        r#"{"auths":{"a.io":{"auth":12345678}}}"#,
        r#"{"auths":{"a.io":{"auth":"hunter2!"}}}"#,
        r#"{"auths":{"a.io":{"auth":"aHVudGVyMg=="}}}"#,
        r#"{"auths":"hunter2"#,
        r#"{"auths":{},"auths":{}}"#,
    ] {
        let error = docker_file(folder.path(), text).find("a.io", "x").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("12345678"),
            "{shown}"
        );
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.hint().is_some());
    }
    let missing =
        Credentials::locate(&Environment::default().with("REGISTRY_AUTH_FILE", folder.path().join("none")));
    assert!(missing.find("a.io", "x").is_err());
}

/// A folder with a helper `docker-credential-NAME` that runs a script.
fn helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    write(&path, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn with_helpers(folder: &Path, config: &str) -> Credentials {
    write(&folder.join("config.json"), config);
    let path = format!("{}:/usr/bin:/bin", folder.display());
    Credentials::locate(
        &Environment::default()
            .with("DOCKER_CONFIG", folder)
            .with("PATH", path),
    )
}

#[test]
fn helpers_are_asked() {
    let folder = tempfile::tempdir().unwrap();
    helper(
        folder.path(),
        "all",
        r#"[ "$1" = get ] || exit 9; read -r s || true
           case "$s" in
             https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s"}';;
             t.io) echo '{"Username":"<token>","Secret":"refresh"}';;
             *) echo "credentials not found in native keychain"; exit 1;;
           esac"#,
    );
    helper(
        folder.path(),
        "own",
        r#"cat >/dev/null; echo '{"Username":"own","Secret":"o"}'"#,
    );
    let credentials = with_helpers(
        folder.path(),
        r#"{"credsStore":"all","credHelpers":{"o.io":"own"},
            "auths":{"f.io":{"username":"file","password":"f"},"docker.io":{"username":"no","password":"no"}}}"#,
    );
    for (registry, expected) in [
        ("docker.io", Some(password("hub", "s"))),
        ("t.io", Some(Credential::Identity(Secret::new("refresh")))),
        ("o.io", Some(password("own", "o"))),
        ("f.io", Some(password("file", "f"))),
        ("none.io", None),
    ] {
        let lookup = credentials.find(registry, "x").unwrap();
        assert_eq!(lookup.credential, expected, "{registry}");
        assert_eq!(lookup.notes, Vec::<String>::new());
    }
}

#[test]
fn a_failing_helper_is_noted_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    helper(folder.path(), "loud", "echo hunter2; exit 1");
    helper(folder.path(), "odd", "echo hunter2");
    helper(folder.path(), "slow", "exec sleep 30");
    for (name, says) in [
        ("loud", "docker-credential-loud failed"),
        ("odd", "docker-credential-odd gave no credential"),
        ("slow", "docker-credential-slow did not answer"),
        ("absent", "docker-credential-absent cannot be run"),
        ("../evil", "not a plain name"),
    ] {
        let mut credentials = with_helpers(
            folder.path(),
            &format!(r#"{{"credsStore":"{name}","auths":{{"a.io":{{"username":"u","password":"p"}}}}}}"#),
        );
        credentials.helper_timeout = Duration::from_millis(300);
        let lookup = credentials.find("a.io", "x").unwrap();
        assert_eq!(lookup.credential, Some(password("u", "p")), "{name}");
        let note = lookup.notes.concat();
        assert!(note.contains(says) && !note.contains("hunter2"), "{name}: {note}");
    }
}

#[test]
fn a_helper_of_the_user_behind_sudo_runs_as_that_user() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    helper(
        folder.path(),
        "who",
        r#"cat >/dev/null; echo "{\"Username\":\"$(id -u):$(id -g):$HOME\",\"Secret\":\"s\"}""#,
    );
    write(
        &folder.path().join(".docker/config.json"),
        r#"{"credsStore":"who"}"#,
    );
    let uid = caller(&folder.path().join(".docker/config.json"));
    let gid = if uid == 65_534 {
        uid
    } else {
        rustix::process::getegid().as_raw()
    };
    let environment = Environment::default()
        .with("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .with("SUDO_UID", uid.to_string())
        .with("SUDO_GID", gid.to_string())
        .with("SUDO_HOME", folder.path())
        .under_sudo("");
    let found = find(&Credentials::locate(&environment), "a.io", "x");
    let user = format!("{uid}:{gid}:{}", folder.path().display());
    assert_eq!(found, Some(password(&user, "s")));
}
