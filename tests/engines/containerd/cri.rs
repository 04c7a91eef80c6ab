//! containerd as the kubelet sees it: the container runtime interface.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::{Code, Status};

use super::Connection;
use crate::support::Containerd;

#[allow(dead_code, clippy::all, clippy::pedantic, reason = "generated code")]
#[rustfmt::skip]
#[path = "../../support/cri/runtime.rs"]
mod runtime;

use runtime::image_service_client::ImageServiceClient;
use runtime::runtime_service_client::RuntimeServiceClient;
use runtime::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest, CreateContainerRequest,
    Image, ImageSpec, ImageStatusRequest, LinuxContainerConfig, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListImagesRequest, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RemoveImageRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StatusRequest, StopPodSandboxRequest,
};

/// The kubelet's connection to a containerd.
pub struct Cri {
    connection: Connection,
    images: ImageServiceClient<tonic::transport::Channel>,
    runtime: RuntimeServiceClient<tonic::transport::Channel>,
    /// Where containers' output goes, as the host and as containerd sees it.
    logs: [PathBuf; 2],
}

static PODS: AtomicU32 = AtomicU32::new(0);

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: image.into(),
        ..ImageSpec::default()
    })
}

/// Pods without a network of their own need no network plugins.
fn host_namespaces() -> Option<NamespaceOption> {
    Some(NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
    })
}

impl Cri {
    /// Connects, and waits until containerd's plugin is ready: it begins to answer after the socket does.
    #[track_caller]
    pub fn of(containerd: &Containerd) -> Self {
        let logs = [containerd.data("logs"), containerd.data_inside("logs")];
        Self::with(containerd.socket(), logs)
    }

    /// The same for a containerd that runs no containers.
    #[track_caller]
    pub fn at(socket: PathBuf) -> Self {
        Self::with(socket, [(); 2].map(|()| PathBuf::new()))
    }

    #[track_caller]
    fn with(socket: PathBuf, logs: [PathBuf; 2]) -> Self {
        let connection = Connection::new(socket);
        let cri = Self {
            images: ImageServiceClient::new(connection.channel.clone()),
            runtime: RuntimeServiceClient::new(connection.channel.clone()),
            connection,
            logs,
        };
        let until = Instant::now() + Duration::from_secs(30);
        let mut client = cri.runtime.clone();
        while let Err(status) = cri
            .connection
            .wait(client.status(StatusRequest { verbose: false }))
        {
            assert!(Instant::now() < until, "{status}");
            thread::sleep(Duration::from_millis(20));
        }
        cri
    }

    /// All images, in order of ids.
    #[track_caller]
    pub fn images(&self) -> Vec<Value> {
        let answer = self
            .connection
            .wait(self.images.clone().list_images(ListImagesRequest {}))
            .unwrap();
        let mut images: Vec<Image> = answer.into_inner().images;
        images.sort_by(|one, other| one.id.cmp(&other.id));
        images.iter().map(document).collect()
    }

    /// What is known of an image: by a name, a name with a digest, or an id. None where there is no such image.
    #[track_caller]
    pub fn image(&self, name: &str) -> Option<Value> {
        let request = ImageStatusRequest {
            image: spec(name),
            verbose: true,
        };
        let answer = self
            .connection
            .wait(self.images.clone().image_status(request))
            .unwrap()
            .into_inner();
        let mut document = document(&answer.image?);
        let info = answer.info.iter().map(|(key, text)| {
            let value: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            (key, value)
        });
        document["info"] = json!(info.collect::<BTreeMap<_, _>>());
        Some(document)
    }

    /// Pulls, and gives the image's id.
    pub fn pull(&self, name: &str) -> Result<String, Status> {
        let request = PullImageRequest {
            image: spec(name),
            auth: None,
        };
        let answer = self.connection.wait(self.images.clone().pull_image(request))?;
        Ok(answer.into_inner().image_ref)
    }

    /// Removes an image with all its names.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        let request = RemoveImageRequest { image: spec(name) };
        self.connection
            .wait(self.images.clone().remove_image(request))
            .unwrap();
    }

    /// Removes what the kubelet removes when its disk is full: every image that is not pinned.
    #[track_caller]
    pub fn remove_unpinned(&self) {
        for image in self.images() {
            if image["pinned"] != true {
                self.remove(image["id"].as_str().unwrap());
            }
        }
    }

    /// Waits until a change of the image records has reached CRI's own list, which follows containerd's events.
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < until, "not {what}: {:#?}", self.images());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command in a container of a pod of its own, and gives what it printed.
    pub fn run(&self, image: &str, command: &[&str]) -> Result<String, Status> {
        let pod = PODS.fetch_add(1, Ordering::Relaxed);
        let config = pod_config(pod, self.logs[1].join(pod.to_string()).to_str().unwrap());
        let mut client = self.runtime.clone();
        self.connection.wait(async {
            let request = RunPodSandboxRequest {
                config: Some(config.clone()),
            };
            let pod_sandbox_id = client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
            let ended = run_container(&mut client, &pod_sandbox_id, config, image, command).await;
            let stop = StopPodSandboxRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
            };
            client.stop_pod_sandbox(stop).await?;
            client
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
                .await?;
            match ended? {
                0 => Ok(()),
                code => Err(Status::new(Code::Aborted, format!("exit code {code}"))),
            }
        })?;
        let log = self.logs[0].join(pod.to_string()).join("log");
        Ok(printed(&fs::read_to_string(log).unwrap()))
    }
}

/// Runs a container to its end, and gives its exit code.
async fn run_container(
    client: &mut RuntimeServiceClient<tonic::transport::Channel>,
    pod_sandbox_id: &str,
    pod: PodSandboxConfig,
    image: &str,
    command: &[&str],
) -> Result<i32, Status> {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "only".into(),
            attempt: 0,
        }),
        image: spec(image),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: "log".into(),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: host_namespaces(),
            }),
        }),
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.into(),
        config: Some(config),
        sandbox_config: Some(pod),
    };
    let container_id = client.create_container(request).await?.into_inner().container_id;
    let start = StartContainerRequest {
        container_id: container_id.clone(),
    };
    client.start_container(start).await?;
    loop {
        let request = ContainerStatusRequest {
            container_id: container_id.clone(),
        };
        let answer = client.container_status(request).await?.into_inner();
        let status = answer.status.unwrap_or_default();
        if status.state() == ContainerState::ContainerExited {
            return Ok(status.exit_code);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pod_config(number: u32, logs: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: format!("pod-{number}"),
            uid: format!("uid-{number}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: logs.into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: String::new(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: host_namespaces(),
            }),
        }),
    }
}

/// What a container has printed: each line of its log begins with a time, the stream, and `F` or `P` for a part.
fn printed(log: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let mut words = line.splitn(4, ' ').skip(2);
        let (kind, rest) = (words.next().unwrap(), words.next().unwrap_or_default());
        text.push_str(rest);
        if kind == "F" {
            text.push('\n');
        }
    }
    text
}

/// All fields of an image, the lists in order.
fn document(image: &Image) -> Value {
    let ordered = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let spec = image.spec.as_ref().map(|spec| {
        json!({
            "image": spec.image,
            "annotations": spec.annotations.iter().collect::<BTreeMap<_, _>>(),
            "user_specified_image": spec.user_specified_image,
            "runtime_handler": spec.runtime_handler,
        })
    });
    json!({
        "id": image.id,
        "repo_tags": ordered(&image.repo_tags),
        "repo_digests": ordered(&image.repo_digests),
        "size": image.size,
        "uid": image.uid.as_ref().map(|uid| uid.value),
        "username": image.username,
        "spec": spec,
        "pinned": image.pinned,
    })
}
