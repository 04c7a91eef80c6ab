//! Remedies: what an option of this library, or of the program that embeds it, does about an error.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::escape::Escaped;
use crate::oci::Platform;

/// What an option would do about an error. A program words it by its own options; the display text names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Skip the images that cannot be loaded.
    KeepGoing,
    /// Select one of two images, or rename one.
    SelectOrRename,
    /// Give an image its name: of the one that it has now, or of its id.
    Rename(String),
    /// Give an image the name that its registry has.
    RenameToRegistry,
    /// Name one platform, and give the others names of their own.
    OnePlatform,
    /// Choose one of the platforms that there are.
    ChoosePlatform,
    /// Load a platform that is there, or save the one that is not.
    OtherPlatform {
        /// One that is there.
        offered: Platform,
        /// The one that is not.
        wanted: String,
    },
    /// Save an image again from its registry, with all its platforms: a registry takes its index only then.
    SaveAllPlatforms,
    /// Push the images of an archive into a registry.
    PushArchive,
    /// Push the manifest of one platform in place of an index.
    PushPlatform,
    /// Save to a file rather than to a pipe.
    SaveToFile,
    /// Save to another file.
    SaveTo(NewFile),
    /// Load into an archive in another file.
    LoadInto(NewFile),
    /// Write parts of at most this many bytes.
    Split(Option<u64>),
    /// Write parts of at least this many bytes.
    SplitAtLeast(u64),
    /// Use another folder for temporary files.
    OtherTemporaryFolder,
    /// Raise the limit on the size of a layer.
    RaiseLayerLimit,
    /// Convert an archive of `docker save`, at this path if it is known, into a sealift archive.
    ConvertDockerSave(Option<String>),
    /// Give a variable of a compose file a value.
    SetVariable(String),
    /// Read what compose makes of a compose file.
    ComposeConfig,
    /// Write the inventory of the host that has the images.
    WriteInventory,
    /// Save images again with the layers that were left out for another host.
    SaveWhole {
        /// Their names.
        images: Vec<String>,
        /// Their platforms.
        platforms: Vec<Platform>,
        /// The namespace of the target that lacks layers, if it has namespaces.
        namespace: Option<String>,
    },
    /// Load into this namespace.
    OtherNamespace(String),
    /// Name another source, which has what this one lacks.
    FurtherSource,
    /// Save images without what refers to them.
    WithoutReferrers,
    /// Verify the archive.
    VerifyArchive,
    /// List the images of an archive.
    ListArchive,
    /// Take the image from its registry.
    FromRegistry,
    /// Save what can be recovered.
    SaveWhatCanBeRecovered,
    /// Read the store of a stopped Docker.
    ReadStoppedStore,
    /// Name Docker's data root.
    NameDataRoot,
    /// Use this data root.
    UseDataRoot(PathBuf),
    /// Use the running daemon instead of its store.
    UseDaemon,
    /// Save an archive with podman, and read that.
    SaveWithPodman,
    /// Remove an image of the target that shows a wrong digest, and load it anew.
    ReplaceImage,
    /// Trust a digest that the archive recorded.
    TrustRecorded,
    /// Attach a digest while the engine is stopped.
    AttachOffline,
    /// Allow a restart of the engine, to attach a digest.
    AllowRestart,
    /// Name the commands that stop and start the engine.
    NameCommands,
    /// Load fewer images at a time.
    LoadFewer,
    /// Load the images of one registry at a time.
    LoadByRegistry,
    /// Load into the namespace of Kubernetes.
    KubernetesNamespace,
    /// Use another snapshotter.
    OtherSnapshotter,
    /// Run as root.
    RunAsRoot,
    /// Repair the storage folder of a registry.
    RepairStorage,
    /// Verify the storage folder of a registry that fails to serve a manifest.
    VerifyStorage,
    /// Start an engine, say where it is, or load into a layout.
    NameEngine,
    /// Undo what an interrupted load left.
    Repair,
    /// Start the engine, and undo what an interrupted load left.
    StartAndRepair,
    /// Trust the CA that signed the certificate of this host.
    TrustCa(String),
    /// Trust another CA: those that were given have not signed the certificate of this host.
    OtherCa(String),
    /// Allow plain HTTP for a registry.
    AllowInsecure(String),
    /// Show a certificate to the registry.
    ClientCertificate,
    /// Wait, log in, or use a mirror.
    AvoidRateLimit,
}

/// A place that an archive can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewFile {
    /// This file.
    Whole(PathBuf),
    /// Parts, named after this file.
    Parts(PathBuf),
    /// A file in another folder.
    Elsewhere,
}

impl fmt::Display for NewFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| Escaped(&path.display().to_string()).to_string();
        match self {
            NewFile::Whole(path) => write!(f, "name a file, such as {}", shown(path)),
            NewFile::Parts(path) => write!(f, "name {0}: the parts are {0}.001, ...", shown(path)),
            NewFile::Elsewhere => f.write_str("name a file in another folder"),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::KeepGoing => "skip the images that cannot be loaded",
            Remedy::SelectOrRename => "select one of them, or give it another name",
            Remedy::Rename(name) => return write!(f, "rename {}", Escaped(name)),
            Remedy::RenameToRegistry => "give the image its registry's own name",
            Remedy::OnePlatform => "choose one platform, and give the others tags of their own",
            Remedy::ChoosePlatform => "choose one of these platforms",
            Remedy::OtherPlatform { offered, wanted } => {
                return write!(
                    f,
                    "load {offered}; or save the images again for {}",
                    Escaped(wanted)
                );
            }
            Remedy::SaveAllPlatforms => "save it again from its registry, with all its platforms",
            Remedy::PushArchive => "push it from the archive, which keeps its digest",
            Remedy::PushPlatform => "push the manifest of one platform in place of the index",
            Remedy::SaveToFile => "save to a file",
            Remedy::SaveTo(file) | Remedy::LoadInto(file) => return file.fmt(f),
            Remedy::Split(None) => "write the archive in parts",
            Remedy::Split(Some(size)) => return write!(f, "write parts of at most {size} bytes"),
            Remedy::SplitAtLeast(size) => return write!(f, "write parts of at least {size} bytes"),
            Remedy::OtherTemporaryFolder => "choose another folder for temporary files",
            Remedy::RaiseLayerLimit => "raise the limit if the image is known to be that large",
            Remedy::ConvertDockerSave(_) => "save its images from it into a new archive, which can be loaded",
            Remedy::SetVariable(name) => return write!(f, "give {} a value", Escaped(name)),
            Remedy::ComposeConfig => "`docker compose config` prints the file with everything filled in",
            Remedy::WriteInventory => "write an inventory on the host that has the images",
            Remedy::SaveWhole { images, .. } => {
                return write!(
                    f,
                    "save {} again, leaving nothing out or only what this host has",
                    Escaped(&images.join(", "))
                );
            }
            Remedy::FurtherSource => "name another source after it, such as the registry",
            Remedy::WithoutReferrers => "save the images without what refers to them",
            Remedy::VerifyArchive => "verify the archive: the report says which",
            Remedy::ListArchive => "list the images of an archive to see theirs",
            Remedy::FromRegistry => "pull it, or take the image from its registry",
            Remedy::SaveWhatCanBeRecovered => "save what can be recovered, without requiring proof",
            Remedy::ReadStoppedStore => "name the data root of a stopped Docker, to read its classic store",
            Remedy::NameDataRoot => "the data root is the folder that dockerd keeps its data in",
            Remedy::UseDataRoot(path) => {
                return write!(f, "use {} as the data root", Escaped(&path.display().to_string()));
            }
            Remedy::UseDaemon => "ask the daemon instead of reading its store",
            Remedy::SaveWithPodman => "save the images with podman, as OCI archives, and read those",
            Remedy::ReplaceImage => "replace the image",
            Remedy::TrustRecorded => "trust recorded digests, to attach it all the same",
            Remedy::AttachOffline => "attach it to this image while the engine is stopped",
            Remedy::AllowRestart => "allow a restart of the engine, to attach it while the engine is stopped",
            Remedy::NameCommands => "name the commands that stop and start the engine",
            Remedy::LoadFewer => "load fewer images at a time",
            Remedy::LoadByRegistry => "load the images of one registry at a time",
            Remedy::OtherNamespace(name) => return write!(f, "load into namespace {}", Escaped(name)),
            Remedy::KubernetesNamespace => "load into the namespace of Kubernetes, k8s.io",
            Remedy::OtherSnapshotter => {
                "use a snapshotter that this containerd has (ctr plugins ls lists them)"
            }
            Remedy::RunAsRoot => "run it as root",
            Remedy::RepairStorage => "repair its storage folder on the registry's host",
            Remedy::VerifyStorage => {
                "the manifest's file may be damaged: verify the registry's storage folder on the registry's host"
            }
            Remedy::NameEngine => "start one, say where it is, or load into a layout folder",
            Remedy::Repair => "undo what the interrupted load left",
            Remedy::StartAndRepair => "start the engine by hand, then undo what the interrupted load left",
            Remedy::TrustCa(host) => {
                return write!(
                    f,
                    "trust the CA that signed it, put it into /etc/docker/certs.d/{}/ca.crt, or install the system's \
                     ca-certificates if they are missing",
                    Escaped(host)
                );
            }
            Remedy::OtherCa(_) => "none of the given CAs signed it: trust the one that did",
            Remedy::AllowInsecure(host) => {
                return write!(
                    f,
                    "allow plain HTTP for {}, if it is meant to be a plain registry",
                    Escaped(host)
                );
            }
            Remedy::ClientCertificate => "give the client's certificate and key",
            Remedy::AvoidRateLimit => "wait, log in to get a higher limit, or use a mirror",
        })
    }
}
