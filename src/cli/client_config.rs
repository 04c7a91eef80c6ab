//! The configuration that a client of `serve` needs.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::ValueEnum;
use sealift::oci::Repository;

/// A client of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Docker's daemon.json
    Docker,
    /// A hosts.toml for each registry
    Containerd,
    /// A drop-in for registries.conf, which skopeo, buildah and CRI-O read too
    Podman,
    /// The registries.yaml of k3s and RKE2
    K3s,
}

/// Where images are served.
pub struct Endpoint {
    /// The address that is listened on.
    pub address: SocketAddr,
    /// Whether it has a certificate.
    pub is_tls: bool,
    /// Whether it asks for a password.
    pub needs_login: bool,
}

impl Endpoint {
    /// The host and port as clients reach it: this host's name, if it listens on every address.
    fn host(&self) -> String {
        if !self.address.ip().is_unspecified() {
            return self.address.to_string();
        }
        let name = rustix::system::uname();
        format!("{}:{}", name.nodename().to_string_lossy(), self.address.port())
    }

    fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }
}

impl Client {
    /// Its name as it is given.
    pub fn name(self) -> &'static str {
        match self {
            Client::Docker => "docker",
            Client::Containerd => "containerd",
            Client::Podman => "podman",
            Client::K3s => "k3s",
        }
    }

    /// The configuration, for images of these registries.
    pub fn config(self, endpoint: &Endpoint, registries: &BTreeSet<String>) -> String {
        match self {
            Client::Docker => docker(endpoint),
            Client::Containerd => each(registries, |registry| containerd(endpoint, registry)),
            Client::Podman => {
                let file = "# /etc/containers/registries.conf.d/50-sealift.conf\n";
                format!(
                    "{file}{}",
                    each(registries, |registry| podman(endpoint, registry))
                )
            }
            Client::K3s => {
                let file = "# /etc/rancher/k3s/registries.yaml, for RKE2 /etc/rancher/rke2/registries.yaml\nmirrors:\n";
                format!(
                    "{file}{}",
                    registries
                        .iter()
                        .map(|registry| k3s(endpoint, registry))
                        .collect::<String>()
                )
            }
        }
    }

    /// What the configuration cannot say.
    pub fn notes(self, endpoint: &Endpoint) -> Vec<String> {
        let mut notes = Vec::new();
        let host = endpoint.host();
        if self == Client::Docker {
            notes.push(format!(
                "add the keys to /etc/docker/daemon.json and restart Docker; it asks a mirror for docker.io only: pull \
                 others as {host}/REGISTRY/NAME:TAG"
            ));
        }
        if endpoint.address.ip().is_unspecified() {
            notes.push(format!("{host} must be a name of this host that clients resolve"));
        }
        if endpoint.is_tls {
            let place = match self {
                Client::Docker => format!("/etc/docker/certs.d/{host}/ca.crt"),
                Client::Podman => format!("/etc/containers/certs.d/{host}/ca.crt"),
                Client::Containerd | Client::K3s => "the client's system certificates".into(),
            };
            notes.push(format!(
                "put the CA's certificate into {place}, unless the client trusts it already"
            ));
        }
        if endpoint.needs_login {
            notes.push(match self {
                Client::Docker => {
                    format!("log in with `docker login {host}`; Docker sends a mirror no password")
                }
                Client::Podman => format!("log in with `podman login {host}`"),
                Client::Containerd | Client::K3s => {
                    format!("configure the user and password for {host} in the client")
                }
            });
        }
        notes
    }
}

fn each(registries: &BTreeSet<String>, one: impl Fn(&str) -> String) -> String {
    let all: Vec<String> = registries.iter().map(|registry| one(registry)).collect();
    all.join("\n")
}

/// Source: Docker's documentation, "Daemon configuration file".
fn docker(endpoint: &Endpoint) -> String {
    let mut config = serde_json::json!({ "registry-mirrors": [endpoint.url()] });
    if !endpoint.is_tls {
        config["insecure-registries"] = serde_json::json!([endpoint.host()]);
    }
    format!("{config:#}\n")
}

/// Source: containerd's docs/hosts.md.
fn containerd(endpoint: &Endpoint, registry: &str) -> String {
    format!(
        "# /etc/containerd/certs.d/{registry}/hosts.toml\n[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        endpoint.url()
    )
}

/// Source: containers-registries.conf(5).
fn podman(endpoint: &Endpoint, registry: &str) -> String {
    let insecure = if endpoint.is_tls { "" } else { "insecure = true\n" };
    format!(
        "[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\n[[registry.mirror]]\nlocation = \"{}/{}\"\n\
         {insecure}",
        endpoint.host(),
        Repository::written_domain(registry)
    )
}

/// Source: k3s's documentation, "Private Registry Configuration".
fn k3s(endpoint: &Endpoint, registry: &str) -> String {
    format!(
        "  \"{registry}\":\n    endpoint:\n      - \"{}\"\n",
        endpoint.url()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, is_tls: bool) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            is_tls,
            needs_login: false,
        }
    }

    #[test]
    fn each_client_is_led_to_every_registry() {
        let registries = BTreeSet::from(["docker.io".to_string(), "registry.example:5000".into()]);
        let config = |client: Client| client.config(&endpoint("127.0.0.1:5000", false), &registries);
        assert_eq!(
            config(Client::Docker),
            "{\n  \"insecure-registries\": [\n    \"127.0.0.1:5000\"\n  ],\n  \"registry-mirrors\": [\n    \
             \"http://127.0.0.1:5000\"\n  ]\n}\n"
        );
        insta::assert_snapshot!(config(Client::Containerd), @r#"
        # /etc/containerd/certs.d/docker.io/hosts.toml
        [host."http://127.0.0.1:5000"]
          capabilities = ["pull", "resolve"]

        # /etc/containerd/certs.d/registry.example:5000/hosts.toml
        [host."http://127.0.0.1:5000"]
          capabilities = ["pull", "resolve"]
        "#);
        insta::assert_snapshot!(config(Client::Podman), @r#"
        # /etc/containers/registries.conf.d/50-sealift.conf
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "127.0.0.1:5000/docker.io"
        insecure = true

        [[registry]]
        prefix = "registry.example:5000"
        location = "registry.example:5000"
        [[registry.mirror]]
        location = "127.0.0.1:5000/registry.example_5000"
        insecure = true
        "#);
        insta::assert_snapshot!(config(Client::K3s), @r#"
        # /etc/rancher/k3s/registries.yaml, for RKE2 /etc/rancher/rke2/registries.yaml
        mirrors:
          "docker.io":
            endpoint:
              - "http://127.0.0.1:5000"
          "registry.example:5000":
            endpoint:
              - "http://127.0.0.1:5000"
        "#);
        let tls = Client::Docker.config(&endpoint("[::1]:443", true), &registries);
        assert_eq!(
            tls,
            "{\n  \"registry-mirrors\": [\n    \"https://[::1]:443\"\n  ]\n}\n"
        );
    }
}
