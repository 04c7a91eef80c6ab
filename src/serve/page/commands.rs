//! The commands that pull an image, by client.

use crate::escape::shell_word;

/// How this registry is reached, as the browser reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// Host and port, as a reference to an image begins.
    pub(super) host: String,
    pub(super) is_tls: bool,
    /// Whether it asks for a password.
    pub(super) is_private: bool,
}

impl Site {
    /// Reads a `Host` header: a name or an address, and a port. `None` if it is anything else.
    ///
    /// Source: RFC 9110, "Host and :authority"; RFC 3986, "Authority".
    pub(super) fn new(host: &str, is_tls: bool, is_private: bool) -> Option<Site> {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || ".-".contains(char))
        };
        let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_right = name.len() <= 253 && bracketed.map_or_else(|| is_name(name), is_address);
        let is_port =
            |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if !is_right || !port.is_none_or(is_port) {
            return None;
        }
        // Without a dot or a port, a reference would begin with a path of Docker Hub.
        let needs_port = port.is_none() && !name.contains(['.', ':']) && name != "localhost";
        let default = if is_tls { 443 } else { 80 };
        Some(Site {
            host: match needs_port {
                true => format!("{name}:{default}"),
                false => host.to_string(),
            },
            is_tls,
            is_private,
        })
    }
}

/// A client, and its command for an image.
pub(super) struct Command {
    pub(super) client: &'static str,
    pub(super) text: String,
}

/// The command of each client for `reference`, which begins with the site's host. skopeo copies all platforms unless the
/// index is sparse. Only skopeo copies artifacts.
pub(super) fn pulls(site: &Site, reference: &str, is_sparse: bool, is_artifact: bool) -> Vec<Command> {
    // Clients speak TLS unless they are told.
    let unless_tls = |option: &'static str| if site.is_tls { "" } else { option };
    let word = shell_word(reference);
    let source = shell_word(&format!("docker://{reference}"));
    let [podman, skopeo, ctr, nerdctl] = [
        " --tls-verify=false",
        " --src-tls-verify=false",
        " --plain-http",
        " --insecure-registry",
    ]
    .map(unless_tls);
    // ctr reads no file of logins. It asks for the password.
    let user = if site.is_private { " --user NAME" } else { "" };
    let all = if is_sparse { "" } else { " --all" };
    let skopeo = (
        "skopeo",
        format!("skopeo copy{all} --preserve-digests{skopeo} {source} oci:image"),
    );
    let engines = [
        ("docker", format!("docker pull {word}")),
        ("podman", format!("podman pull{podman} {word}")),
        ("nerdctl", format!("nerdctl{nerdctl} pull {word}")),
        ("ctr", format!("ctr images pull{user}{ctr} {word}")),
        ("crictl", format!("crictl pull {word}")),
    ];
    let engines = engines.into_iter().filter(|_| !is_artifact);
    engines
        .chain([skopeo])
        .map(|(client, text)| Command { client, text })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for (host, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("registry.example", "registry.example"),
            ("registry:5000", "registry:5000"),
            ("registry", "registry:80"),
            ("localhost", "localhost"),
            ("[::1]:5000", "[::1]:5000"),
            ("[fe80::1]", "[fe80::1]"),
        ] {
            let site = Site::new(host, false, false);
            assert_eq!(site.map(|site| site.host).as_deref(), Some(expected), "{host}");
        }
        assert_eq!(Site::new("registry", true, false).unwrap().host, "registry:443");
        for host in [
            "",
            ":5000",
            "a b",
            "a/b",
            "a:port",
            "a:70000",
            "a:",
            "a:+1",
            "-x:1",
            "user@host:1",
            "a\";rm -rf:1",
            "<script>",
            "[::1",
            "[x]:1",
            "::1",
            "a$(x)",
        ] {
            assert_eq!(Site::new(host, false, false), None, "{host}");
        }
    }

    #[test]
    fn commands_fit_the_registry_and_the_image() {
        let of = |is_tls, is_sparse, is_artifact| {
            let site = Site::new("a:1", is_tls, false).unwrap();
            let commands = pulls(&site, "a:1/app:1", is_sparse, is_artifact);
            let texts = commands.into_iter().map(|command| command.text);
            texts.collect::<Vec<_>>()
        };
        assert_eq!(
            of(true, false, false),
            [
                "docker pull a:1/app:1",
                "podman pull a:1/app:1",
                "nerdctl pull a:1/app:1",
                "ctr images pull a:1/app:1",
                "crictl pull a:1/app:1",
                "skopeo copy --all --preserve-digests docker://a:1/app:1 oci:image",
            ]
        );
        assert_eq!(
            of(false, true, false),
            [
                "docker pull a:1/app:1",
                "podman pull --tls-verify=false a:1/app:1",
                "nerdctl --insecure-registry pull a:1/app:1",
                "ctr images pull --plain-http a:1/app:1",
                "crictl pull a:1/app:1",
                "skopeo copy --preserve-digests --src-tls-verify=false docker://a:1/app:1 oci:image",
            ]
        );
        let private = Site::new("a:1", true, true).unwrap();
        let commands = pulls(&private, "a:1/app:1", false, false);
        let ctr = commands.iter().find(|command| command.client == "ctr");
        assert_eq!(ctr.unwrap().text, "ctr images pull --user NAME a:1/app:1");
        assert_eq!(
            of(true, true, true),
            ["skopeo copy --preserve-digests docker://a:1/app:1 oci:image"]
        );
    }

    #[test]
    fn commands_are_words_of_a_shell() {
        let site = Site::new("[::1]:5000", false, false).unwrap();
        let commands = pulls(&site, "[::1]:5000/org/app:1", false, false);
        assert_eq!(commands[0].text, "docker pull '[::1]:5000/org/app:1'");
    }
}
