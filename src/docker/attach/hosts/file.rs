//! `/etc/hosts`, and the order of name lookup.
//!
//! Source: hosts(5), nsswitch.conf(5); Go, `net/hosts.go` and `net/conf.go`.

use std::net::IpAddr;

use crate::load::Obstacle;

/// Sources besides files that never know the name of a registry.
const HARMLESS: [&str; 3] = ["myhostname", "mymachines", "db"];

/// A copy of a hosts file in which each name has only the given address; other lines are without it.
pub fn with(original: &[u8], entries: &[(String, IpAddr)]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(original.len() + 64 * entries.len());
    for line in original.split_inclusive(|byte| *byte == b'\n') {
        match masked(line, entries) {
            None => copy.extend_from_slice(line),
            Some(rest) => copy.extend_from_slice(rest.as_bytes()),
        }
    }
    if copy.last().is_some_and(|byte| *byte != b'\n') {
        copy.push(b'\n');
    }
    for (name, address) in entries {
        copy.extend_from_slice(format!("{address} {name} # sealift, for a moment\n").as_bytes());
    }
    copy
}

/// The line without the names, if it has any of them; empty if no other name is left.
fn masked(line: &[u8], entries: &[(String, IpAddr)]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let content = line.split('#').next().unwrap_or_default();
    let mut fields = content.split_whitespace();
    let address = fields.next()?;
    let is_ours = |name: &&str| {
        let name = name.trim_end_matches('.');
        entries.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    let (ours, others): (Vec<&str>, Vec<&str>) = fields.partition(is_ours);
    match (ours.is_empty(), others.is_empty()) {
        (true, _) => None,
        (false, true) => Some(String::new()),
        (false, false) => Some(format!("{address} {}\n", others.join(" "))),
    }
}

/// Checks that names are looked up in `/etc/hosts` first, by the content of `nsswitch.conf`. The engine may
/// have its own files, which services of the host do not see.
///
/// # Errors
///
/// Why they are not.
pub fn is_asked_first(nsswitch: &str, has_own_files: bool, name: &str) -> Result<(), Obstacle> {
    let line = nsswitch.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.trim_start().strip_prefix("hosts:")
    });
    // The default has files first.
    let Some(line) = line else { return Ok(()) };
    for source in line.split_whitespace() {
        let is_local = name.to_ascii_lowercase().ends_with(".local");
        match source {
            "files" => return Ok(()),
            // systemd-resolved reads the host's /etc/hosts itself.
            "resolve" if !has_own_files => {}
            action if action.starts_with('[') || action.ends_with(']') => {}
            source if HARMLESS.contains(&source) => {}
            // These know only names below .local.
            source if source.starts_with("mdns") && source.contains("minimal") && !is_local => {}
            source => {
                return Err(Obstacle::new(
                    format!(
                        "{name} is looked up by {source} before /etc/hosts (hosts in /etc/nsswitch.conf)"
                    ),
                    "put files first there while loading",
                ));
            }
        }
    }
    Err(Obstacle::new(
        format!("{name} is not looked up in /etc/hosts (hosts in /etc/nsswitch.conf)"),
        "put files first there while loading",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_for_a_name_are_masked() {
        let entries = [
            ("quay.io".to_string(), IpAddr::from([127, 0, 0, 2])),
            ("r.example".to_string(), IpAddr::from([127, 0, 0, 3])),
        ];
        let ours = "127.0.0.2 quay.io # sealift, for a moment\n127.0.0.3 r.example # sealift, for a moment\n";
        for (original, rest) in [
            ("", ""),
            ("127.0.0.1 localhost", "127.0.0.1 localhost\n"),
            ("10.0.0.1 quay.io\n::1 localhost\n", "::1 localhost\n"),
            (
                "10.0.0.1\tQuay.IO. mirror R.example # both\n",
                "10.0.0.1 mirror\n",
            ),
            (
                "# 10.0.0.1 quay.io\n\n10.0.0.1 cdn.quay.io\n",
                "# 10.0.0.1 quay.io\n\n10.0.0.1 cdn.quay.io\n",
            ),
            ("10.0.0.1 other # quay.io", "10.0.0.1 other # quay.io\n"),
        ] {
            let copy = String::from_utf8(with(original.as_bytes(), &entries)).unwrap();
            assert_eq!(copy, format!("{rest}{ours}"), "{original:?}");
        }
        // Bytes that are not text are kept.
        assert!(with(b"# caf\xe9\n", &entries).starts_with(b"# caf\xe9\n"));
    }

    #[test]
    fn files_must_come_first() {
        for (text, name, is_first) in [
            ("", "quay.io", true),
            ("passwd: files\n", "quay.io", true),
            ("hosts:          files dns\n", "quay.io", true),
            (
                "# hosts: dns\nhosts: mymachines resolve [!UNAVAIL=return] files myhostname dns",
                "quay.io",
                true,
            ),
            (
                "hosts: files mdns4_minimal [NOTFOUND=return] dns",
                "r.local",
                true,
            ),
            (
                "hosts: mdns4_minimal [NOTFOUND=return] files dns",
                "quay.io",
                true,
            ),
            (
                "hosts: mdns4_minimal [NOTFOUND=return] files dns",
                "r.local",
                false,
            ),
            ("hosts: dns files", "quay.io", false),
            ("hosts: sss files", "quay.io", false),
            ("hosts: dns # files", "quay.io", false),
            ("hosts: myhostname", "quay.io", false),
        ] {
            let verdict = is_asked_first(text, false, name);
            assert_eq!(verdict.is_ok(), is_first, "{text}: {verdict:?}");
        }
        let resolved = "hosts: resolve [!UNAVAIL=return] files dns";
        assert_eq!(is_asked_first(resolved, false, "quay.io"), Ok(()));
        let obstacle = is_asked_first(resolved, true, "quay.io").unwrap_err();
        assert!(obstacle.reason.contains("by resolve before"), "{obstacle}");
    }
}
