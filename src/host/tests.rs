//! Hosts made for a test, and the engine that is chosen on each.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::kubelet::is_of_kubelet;
use super::*;

/// A host below a folder of its own.
struct Host {
    root: tempfile::TempDir,
    listeners: Vec<UnixListener>,
    environment: Environment,
}

impl Host {
    fn new() -> Host {
        Host {
            // A socket's address is short.
            root: tempfile::Builder::new().tempdir_in("/tmp").unwrap(),
            listeners: Vec::new(),
            environment: Environment::default(),
        }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes what a word names: a socket, a program, a process or a variable.
    fn make(&mut self, word: &str) {
        match word {
            "docker" => self.listen(DOCKER),
            "podman-docker" => {
                self.listen("run/podman/podman.sock");
                symlink("podman/podman.sock", self.root.path().join(DOCKER)).unwrap();
            }
            "containerd" => self.listen(CONTAINERD[0].below),
            "k3s.sock" => self.listen(CONTAINERD[1].below),
            "microk8s.sock" => self.listen(CONTAINERD[2].below),
            "crio" => self.listen(CRIO),
            "dockershim" => self.listen("run/dockershim.sock"),
            "ended k3s" => {
                self.listen(CONTAINERD[1].below);
                self.listeners.pop();
            }
            "dockerd" | "podman" => self.file(&format!("usr/bin/{word}"), ""),
            "DOCKER_HOST" => self.environment.docker = Some((word.into(), Some("/x/docker.sock".into()))),
            "DOCKER_HOST of podman" => {
                let socket = "/run/user/7/podman/podman.sock".into();
                self.environment.docker = Some(("DOCKER_HOST".into(), Some(socket)));
            }
            "CONTAINERD_ADDRESS" => self.environment.containerd = Some("unix:///x/containerd.sock".into()),
            "CONTAINER_HOST" => self.environment.podman = Some("ssh://root@host/run/podman.sock".into()),
            "docker: true" => self.file("etc/rancher/k3s/config.yaml", "# ours\ndocker: true\n"),
            other => self.process(other),
        }
    }

    fn listen(&mut self, path: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        self.listeners.push(UnixListener::bind(path).unwrap());
    }

    /// Makes a process of a command line; `in a container` of one after its end.
    fn process(&self, line: &str) {
        let (line, is_contained) = match line.strip_suffix(" in a container") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let name = line.split(' ').next().unwrap();
        self.file("proc/7/comm", &format!("{name}\n"));
        self.file(
            "proc/7/cmdline",
            &format!("/usr/bin/{}\0", line.replace(' ', "\0")),
        );
        let ids = if is_contained { "7\t1" } else { "7" };
        self.file("proc/7/status", &format!("Name:\t{name}\nNSpid:\t{ids}\n"));
    }

    fn facts(&self) -> Facts {
        Facts::below(self.root.path(), &self.environment)
    }
}

/// What is chosen where these are: the engine and why, with the host's root as `/`.
fn chosen(words: &[&str]) -> String {
    let mut host = Host::new();
    words.iter().for_each(|word| host.make(word));
    let root = format!("{}/", host.root.path().display());
    match host.facts().choose() {
        None => "nothing".into(),
        Some(choice) => {
            let others = if choice.is_one_of_several {
                "; not alone"
            } else {
                ""
            };
            format!("{}: {}{others}", choice.engine, choice.reason).replace(&root, "/")
        }
    }
}

#[test]
fn one_engine_is_chosen_by_the_rule() {
    for (words, expected) in [
        (&[][..], "nothing"),
        (&["docker"], "Docker: no other engine was found"),
        (&["dockerd"], "Docker: no other engine was found"),
        (&["containerd"], "containerd: no other engine was found"),
        (&["podman"], "podman: no other engine was found"),
        // docker-ce brings containerd along, running or not.
        (
            &["docker", "dockerd", "containerd"],
            "Docker: it is preferred to containerd; not alone",
        ),
        (
            &["dockerd", "containerd"],
            "Docker: it is preferred to containerd; not alone",
        ),
        (
            &["docker", "containerd", "podman"],
            "Docker: it is preferred to podman and containerd; not alone",
        ),
        (
            &["podman", "containerd"],
            "podman: it is preferred to containerd; not alone",
        ),
        (&["podman-docker", "podman"], "podman: no other engine was found"),
        (
            &["podman-docker", "podman", "dockerd"],
            "Docker: it is preferred to podman; not alone",
        ),
        // What the environment names.
        (
            &["DOCKER_HOST", "containerd", "k3s-server"],
            "Docker: DOCKER_HOST names it",
        ),
        (
            &["DOCKER_HOST of podman", "docker"],
            "podman: DOCKER_HOST names its socket",
        ),
        (
            &["CONTAINERD_ADDRESS", "docker"],
            "containerd: CONTAINERD_ADDRESS names it",
        ),
        (&["CONTAINER_HOST", "docker"], "podman: CONTAINER_HOST names it"),
        (
            &["CONTAINER_HOST", "CONTAINERD_ADDRESS", "DOCKER_HOST"],
            "Docker: DOCKER_HOST names it",
        ),
        (&["ended k3s"], "nothing"),
    ] {
        assert_eq!(chosen(words), expected, "{words:?}");
    }
}

#[test]
fn a_kubernetes_node_gets_what_runs_its_containers() {
    const OWN: &str = "containerd: kubelet runs this host's containers with /run/containerd/containerd.sock";
    const K3S: &str = "containerd: k3s runs this host's containers with /run/k3s/containerd/containerd.sock";
    const CRIO: &str = "CRI-O: it runs this host's containers";
    for (words, expected) in [
        (&["kubelet --v=2", "containerd"][..], OWN.to_string()),
        (
            &["kubelet --v=2", "containerd", "docker"],
            format!("{OWN}; not alone"),
        ),
        (
            &[
                "kubelet --container-runtime-endpoint=unix:///run/k3s/containerd/containerd.sock",
                "k3s.sock",
            ],
            K3S.replace("k3s runs", "kubelet runs"),
        ),
        (
            &[
                "kubelet --container-runtime-endpoint /run/crio/crio.sock",
                "docker",
            ],
            format!("{CRIO}; not alone"),
        ),
        (
            &[
                "kubelet --container-runtime-endpoint=unix:///run/cri-dockerd.sock",
                "docker",
            ],
            "Docker: kubelet runs this host's containers with it".into(),
        ),
        (
            &["kubelet --container-runtime=docker", "docker", "containerd"],
            "Docker: kubelet runs this host's containers with it; not alone".into(),
        ),
        (
            &["kubelet", "dockershim", "docker"],
            "Docker: kubelet runs this host's containers with it".into(),
        ),
        (&["k3s-server", "k3s.sock", "docker"], format!("{K3S}; not alone")),
        (&["k3s-agent", "k3s.sock"], K3S.into()),
        (
            &["k3s.sock", "docker"],
            format!("{}; not alone", K3S.replace("k3s runs", "k3s or RKE2 runs")),
        ),
        (
            &["k3s-server", "docker: true", "docker"],
            "Docker: k3s runs this host's containers with it".into(),
        ),
        (
            &["kubelite", "microk8s.sock"],
            "containerd: MicroK8s runs this host's containers with \
             /var/snap/microk8s/common/run/containerd.sock"
                .into(),
        ),
        (&["rke2", "k3s.sock"], K3S.replace("k3s runs", "RKE2 runs")),
        (&["crio", "podman"], format!("{CRIO}; not alone")),
        // A node of kind is no node to its host.
        (
            &["kubelet in a container", "docker"],
            "Docker: no other engine was found".into(),
        ),
        (
            &["ended k3s", "docker"],
            "Docker: no other engine was found".into(),
        ),
    ] {
        assert_eq!(chosen(words), expected, "{words:?}");
    }
}

#[test]
fn the_runtime_of_a_kubelet_is_in_its_configuration() {
    for (text, expected) in [
        (
            "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: \"unix:///x/c.sock\" # ours\n",
            Runtime::Containerd("x/c.sock".into()),
        ),
        (
            "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n",
            Runtime::Crio,
        ),
        (
            "nested:\n  containerRuntimeEndpoint: /x\n",
            Runtime::Containerd(CONTAINERD[0].below.into()),
        ),
        (
            "containerRuntimeEndpoint: \"\"\n",
            Runtime::Containerd(CONTAINERD[0].below.into()),
        ),
    ] {
        let mut host = Host::new();
        host.file("etc/kubelet.yaml", text);
        host.make("kubelet --config=/etc/kubelet.yaml");
        let expected = match expected {
            Runtime::Containerd(socket) => Runtime::Containerd(host.root.path().join(socket)),
            other => other,
        };
        assert_eq!(host.facts().kubelet.unwrap().runtime, expected, "{text}");
    }
}

#[test]
fn a_containerd_is_that_of_the_kubelet_that_runs_or_will_run() {
    let own = CONTAINERD[0].below;
    for (words, folder, expected) in [
        (&[][..], None, false),
        (&[], Some("var/lib/kubelet"), true),
        (&[], Some("etc/kubernetes"), true),
        // Its folders may be elsewhere.
        (&["kubelet"], None, true),
        (
            &["kubelet --container-runtime-endpoint=unix:///x/c.sock"],
            Some("var/lib/kubelet"),
            false,
        ),
        (&["crio"], Some("var/lib/kubelet"), false),
    ] {
        let mut host = Host::new();
        host.make("containerd");
        words.iter().for_each(|word| host.make(word));
        if let Some(folder) = folder {
            fs::create_dir_all(host.root.path().join(folder)).unwrap();
        }
        let root = host.root.path();
        assert_eq!(
            is_of_kubelet(root, &root.join(own)),
            expected,
            "{words:?} {folder:?}"
        );
    }
}
