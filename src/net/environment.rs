//! The environment variables that matter for registries. Nothing else in this module reads the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

const VARIABLES: [&str; 26] = [
    "DISPLAY",
    "DOCKER_CONFIG",
    "GPG_TTY",
    "HOME",
    "LANG",
    "LC_ALL",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "SUDO_GID",
    "SUDO_HOME",
    "SUDO_UID",
    "SUDO_USER",
    "TERM",
    "TZ",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Variables of a user's terminal or desktop session, which a key ring or a passphrase prompt needs.
const SESSION: [&str; 8] = [
    "DISPLAY",
    "GPG_TTY",
    "LANG",
    "LC_ALL",
    "TERM",
    "TZ",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
];

/// The relevant variables, and the current user.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<&'static str, OsString>,
    invoker: Option<Invoker>,
}

/// The user who became root by sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invoker {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn of_process() -> Environment {
        let variables = VARIABLES
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut environment = Environment {
            variables,
            invoker: None,
        };
        if rustix::process::geteuid().is_root() {
            let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            environment.invoker = environment.find_invoker(&users);
        }
        environment
    }

    /// Sets a variable; irrelevant ones are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Environment {
        if let Some(name) = VARIABLES.iter().find(|known| **known == name) {
            self.variables.insert(name, value.into());
        }
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    pub(crate) fn invoker(&self) -> Option<&Invoker> {
        self.invoker.as_ref()
    }

    /// The environment for a program that runs as the user behind sudo, as after a login of that user.
    pub(crate) fn of_session(&self, user: &Invoker) -> Vec<(&'static str, OsString)> {
        let runtime = format!("/run/user/{}", user.uid);
        let name = self.get("SUDO_USER").map(ToOwned::to_owned).unwrap_or_default();
        let own = [
            ("HOME", user.home.clone().into()),
            ("USER", name.clone()),
            ("LOGNAME", name),
            (
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={runtime}/bus").into(),
            ),
            ("XDG_RUNTIME_DIR", runtime.into()),
        ];
        let shared = SESSION
            .iter()
            .filter_map(|name| Some((*name, self.get(name)?.to_owned())));
        own.into_iter().chain(shared).collect()
    }

    /// The user behind sudo. The home is the one that newer versions of sudo report, else the one in `users`,
    /// which has the format of passwd(5).
    fn find_invoker(&self, users: &str) -> Option<Invoker> {
        let number = |name| self.get(name)?.to_str()?.parse().ok();
        let (uid, gid): (u32, u32) = (number("SUDO_UID")?, number("SUDO_GID")?);
        if uid == 0 {
            return None;
        }
        let home = self.path("SUDO_HOME").or_else(|| {
            users.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let matches = fields.get(2).and_then(|field| field.parse().ok()) == Some(uid);
                matches.then(|| fields.get(5).map(PathBuf::from)).flatten()
            })
        })?;
        home.is_absolute().then_some(Invoker { uid, gid, home })
    }
}

#[cfg(test)]
impl Environment {
    pub(crate) fn under_sudo(mut self, users: &str) -> Environment {
        self.invoker = self.find_invoker(users);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann,,,:/home/ann:/bin/bash\n";

    #[test]
    fn finds_who_called_sudo() {
        let sudo = Environment::default()
            .with("SUDO_UID", "1000")
            .with("SUDO_GID", "1001");
        let ann = Invoker {
            uid: 1000,
            gid: 1001,
            home: "/home/ann".into(),
        };
        assert_eq!(sudo.clone().under_sudo(USERS).invoker(), Some(&ann));
        assert_eq!(sudo.clone().under_sudo("").invoker(), None);
        let told = sudo.with("SUDO_HOME", "/net/ann").under_sudo(USERS);
        assert_eq!(told.invoker().unwrap().home, PathBuf::from("/net/ann"));
        let root = Environment::default().with("SUDO_UID", "0").with("SUDO_GID", "0");
        assert_eq!(root.under_sudo(USERS).invoker(), None);
        assert_eq!(Environment::default().under_sudo(USERS).invoker(), None);
    }
}
