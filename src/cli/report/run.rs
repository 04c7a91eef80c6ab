//! Who ran what, when and where.

use std::time::SystemTime;

use sealift::date;

/// One run of sealift.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Run {
    /// The version of sealift.
    pub sealift: &'static str,
    /// The name of the host.
    pub host: String,
    /// The user.
    pub user: String,
    /// The user who called sudo, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// When it began: RFC 3339, in UTC.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
}

impl Run {
    /// Begins now.
    pub fn begin() -> Run {
        let host = rustix::system::uname();
        Run {
            sealift: env!("CARGO_PKG_VERSION"),
            host: host.nodename().to_string_lossy().into_owned(),
            user: user(),
            sudo_user: std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty()),
            started: now(),
            ended: None,
        }
    }

    /// Ends now.
    pub fn end(&mut self) {
        self.ended = Some(now());
    }

    /// The user, and who called sudo.
    pub fn users(&self) -> String {
        match &self.sudo_user {
            Some(caller) => format!("{} (sudo, called by {caller})", self.user),
            None => self.user.clone(),
        }
    }

    /// When it began and ended.
    pub fn times(&self) -> String {
        match &self.ended {
            Some(ended) => format!("{} to {ended}", self.started),
            None => format!("{}, not finished", self.started),
        }
    }
}

fn now() -> String {
    date::to_rfc3339(SystemTime::now())
}

/// The name of the user whose rights this process has, by /etc/passwd; else the number.
fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_string())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}
