//! The options that say which containerd is meant, and those of a load into it.

use std::path::{Path, PathBuf};

use clap::Args;
use sealift::Result;
use sealift::containerd::{Containerd, Options};
use sealift::load::AnyTarget;

use super::engines::LoadContext;

/// Which containerd is meant.
#[derive(Args)]
#[command(next_help_heading = "containerd options")]
pub struct ContainerdArgs {
    /// The socket of containerd
    ///
    /// [default: CONTAINERD_ADDRESS, else that of containerd, k3s, RKE2 or MicroK8s, whichever answers]
    #[arg(long, value_name = "SOCKET")]
    containerd_address: Option<PathBuf>,
    /// The namespace of containerd
    ///
    /// [default: CONTAINERD_NAMESPACE, else k8s.io where Kubernetes uses this containerd, else default]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

impl ContainerdArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--containerd-address", self.containerd_address.is_some()),
            ("--namespace", self.namespace.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// The socket that an option names.
    pub fn address(&self) -> Option<&Path> {
        self.containerd_address.as_deref()
    }

    /// These options, with those of the environment.
    pub fn options(&self) -> Options {
        let process = Options::from_process();
        Options {
            address: self.containerd_address.clone().or(process.address),
            namespace: self.namespace.clone().or(process.namespace),
            ..process
        }
    }
}

/// How images are loaded into containerd.
#[derive(Args)]
#[command(next_help_heading = "containerd options")]
pub struct ContainerdLoadArgs {
    #[command(flatten)]
    place: ContainerdArgs,
    /// The snapshotter that containerd unpacks layers into
    ///
    /// [default: CONTAINERD_SNAPSHOTTER, else the one that CRI uses, else overlayfs]
    #[arg(long, value_name = "NAME", conflicts_with = "no_unpack")]
    snapshotter: Option<String>,
    /// Keep the kubelet from removing the images when the disk is full
    ///
    /// They cannot be pulled again where there is no registry.
    #[arg(long)]
    pin: bool,
    /// Do not unpack the layers; containerd unpacks them when a container is created
    #[arg(long)]
    no_unpack: bool,
}

impl ContainerdLoadArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--snapshotter", self.snapshotter.is_some()),
            ("--pin", self.pin),
            ("--no-unpack", self.no_unpack),
        ];
        let given = given
            .into_iter()
            .find_map(|(option, is_given)| is_given.then_some(option));
        self.place.given().or(given)
    }

    /// The containerd of this host.
    ///
    /// # Errors
    ///
    /// If no containerd answers.
    pub fn target(&self, context: &LoadContext<'_>) -> Result<Box<dyn AnyTarget>> {
        let options = self.place.options();
        let found = || context.socket.map(Path::to_path_buf);
        let options = Options {
            address: options.address.clone().or_else(found),
            snapshotter: self.snapshotter.clone().or(options.snapshotter.clone()),
            is_pinned: self.pin,
            unpacks: !self.no_unpack,
            ..options
        };
        Ok(Box::new(Containerd::connect(&options)?))
    }
}
