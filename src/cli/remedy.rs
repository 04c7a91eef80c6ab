//! Remedies in the words of the command line: which flag or command does it.

use std::ffi::OsStr;
use std::path::Path;

use sealift::archive::STDIN;
use sealift::error::{Hint, NewFile, Remedy};
use sealift::escape::shell_word;
use sealift::load::{DigestStatus, Obstacle};
use sealift::oci::{Digest, Platform};

use super::plugin;

/// A hint with flags and commands.
pub fn hint(hint: &Hint) -> String {
    plugin::worded(&hint.worded(remedy)).into_owned()
}

/// The hint of an obstacle.
pub fn of_obstacle(obstacle: &Obstacle) -> Option<String> {
    obstacle.hint.as_ref().map(hint)
}

/// Words the hints of obstacles in place, for a document.
pub fn word_all(obstacles: &mut [Obstacle]) {
    for obstacle in obstacles {
        obstacle.hint = of_obstacle(obstacle).map(Hint::from);
    }
}

/// The same for the obstacles to showing a digest.
pub fn word_status(status: &mut DigestStatus) {
    if let DigestStatus::Unavailable { obstacles } = status {
        word_all(obstacles);
    }
}

fn remedy(remedy: &Remedy) -> String {
    let text = match remedy {
        Remedy::KeepGoing => "--keep-going loads the others",
        Remedy::SelectOrRename => "choose one with --image, or another name with --rename",
        Remedy::Rename(name) => return format!("--rename {}=NAME:TAG names it", shell_word(name)),
        Remedy::RenameToRegistry => "give the image its registry's own name with --rename",
        Remedy::OnePlatform => "name one with --platform; --rename gives the others tags of their own",
        Remedy::ChoosePlatform => "choose with --platform",
        Remedy::OtherPlatform { offered, wanted } => {
            return format!(
                "--platform {} loads that platform; or save again with --platform {}",
                shell_word(&offered.to_string()),
                shell_word(wanted)
            );
        }
        Remedy::SaveAllPlatforms => {
            "`sealift save --from registry --platform all IMAGE -o FILE` saves it with all of its platforms"
        }
        Remedy::PushArchive => {
            "push it from the archive with `sealift load FILE --to registry://HOST`, which keeps its digest"
        }
        Remedy::PushPlatform => {
            "--platform-manifest pushes the manifest of one platform in place of the index, under its own digest"
        }
        Remedy::SaveToFile => "save to a file with -o FILE",
        Remedy::SaveTo(file) => return new_file("-o ", file),
        Remedy::LoadInto(file) => return new_file("--to archive:", file),
        Remedy::Split(None) => "write in parts with --split",
        Remedy::Split(Some(bytes)) => return format!("write in parts with --split {}", size(*bytes)),
        Remedy::SplitAtLeast(bytes) => return format!("--split {} or more", size(*bytes)),
        Remedy::OtherTemporaryFolder => "choose another folder with --tmpdir",
        Remedy::RaiseLayerLimit => "raise it with --max-layer-size if the image is known to be that large",
        Remedy::ConvertDockerSave(archive) => return conversion(archive.as_deref()),
        Remedy::SetVariable(name) => {
            return format!("give it a value with {name}=... before the command, or with --env-file FILE");
        }
        Remedy::ComposeConfig => {
            "`docker compose config` prints the file with everything filled in; give that as the list, with `-` for a pipe"
        }
        Remedy::WriteInventory => "`sealift inventory -o FILE` writes one on the host that has the images",
        Remedy::FurtherSource => "name a source that has it as well, such as --from registry",
        Remedy::WithoutReferrers => {
            "--referrers none saves the images without their signatures, SBOMs and attestations"
        }
        Remedy::SaveWhole {
            images,
            platforms,
            namespace,
        } => return save_whole(images, platforms, namespace.as_deref()),
        Remedy::OtherNamespace(name) => {
            return format!("--namespace {} loads into that one", shell_word(name));
        }
        Remedy::VerifyArchive => "`sealift verify` shows which",
        Remedy::ListArchive => "`sealift list` shows those of an archive's images",
        Remedy::FromRegistry => "pull it, or take the image from its registry with --from registry",
        Remedy::SaveWhatCanBeRecovered => "--rebuild auto saves what can be recovered, and reports the rest",
        Remedy::ReadStoppedStore => "--data-root DIR reads the classic store of a stopped Docker",
        Remedy::NameDataRoot => "--data-root names the folder that dockerd keeps its data in",
        Remedy::UseDataRoot(path) => return format!("--data-root {}", word(path)),
        Remedy::UseDaemon => "leave out --data-root, and it is asked instead",
        Remedy::SaveWithPodman => {
            "`podman save --format oci-archive -o FILE IMAGE` writes an archive, which --from FILE reads"
        }
        Remedy::ReplaceImage => "--force replaces the image",
        Remedy::TrustRecorded => {
            "--trust-recorded attaches it all the same; so does --expect with the digest that save printed"
        }
        Remedy::AttachOffline => "--attach offline attaches it to this image",
        Remedy::AllowRestart => "--attach offline --allow-restart attaches it, and restarts the engine",
        Remedy::NameCommands => {
            "name the commands that stop and start it, with --stop-command and --start-command"
        }
        Remedy::LoadFewer => "load fewer images at a time (--image)",
        Remedy::LoadByRegistry => "load the images of one registry at a time (--image)",
        Remedy::KubernetesNamespace => "--namespace k8s.io is that of Kubernetes",
        Remedy::NameEngine => {
            "start one, name its address (DOCKER_HOST, --containerd-address), or load into a layout folder with --to oci:PATH"
        }
        Remedy::OtherSnapshotter => {
            "--snapshotter names one that this containerd has; `ctr plugins ls` lists them"
        }
        Remedy::RepairStorage => {
            "on the registry's host, `sealift repair --registry-root DIR --from ...` replaces it in the storage folder"
        }
        Remedy::VerifyStorage => {
            "the manifest's file may be damaged: on the registry's host, `sealift verify --registry-root DIR` names it"
        }
        Remedy::RunAsRoot => "run the same command with sudo",
        Remedy::Repair => "`sealift doctor --repair` undoes it",
        Remedy::StartAndRepair => {
            "start it by hand, then `sealift doctor --repair`; if the command is wrong, \
             `sealift doctor --repair --start-command COMMAND` takes another"
        }
        Remedy::TrustCa(host) => {
            return format!(
                "give the CA that signed it with --ca-file, put it into {}, or install the system's ca-certificates if \
                 they are missing",
                ca_of(host)
            );
        }
        Remedy::OtherCa(host) => {
            return format!(
                "none of the given CA files has the CA that signed it; give that with --ca-file, or put it into {}",
                ca_of(host)
            );
        }
        Remedy::AllowInsecure(host) => {
            return format!("if it is meant to be a plain registry, allow it with --insecure {host}");
        }
        Remedy::ClientCertificate => "give the client's certificate with --cert and --key",
        Remedy::AvoidRateLimit => "wait, log in to get a higher limit, or use a --mirror",
    };
    text.into()
}

/// The file where Docker and sealift look for the CA of a host.
fn ca_of(host: &str) -> String {
    shell_word(&format!("/etc/docker/certs.d/{host}/ca.crt"))
}

/// Images that a command line names in full.
const NAMED: usize = 3;

/// The command that mends images in a registry.
pub fn repair_images(images: &[String]) -> String {
    let images = match images.len() {
        ..=NAMED => images.iter().map(|image| shell_word(image)).collect::<Vec<_>>(),
        _ => vec!["IMAGE...".into()],
    };
    repairs(&images.join(" "))
}

/// The command that mends the storage folder of a registry.
pub fn repair_storage(root: &str) -> String {
    repairs(&format!("--registry-root {}", shell_word(root)))
}

fn repairs(what: &str) -> String {
    let command = format!("sealift repair {what} --from SOURCE");
    format!("`{command}` replaces what is bad or missing; SOURCE is docker, an archive, or registry://HOST")
}

/// The command that sets a tag again.
pub fn set_tag(repository: &str, tag: &str, digest: &Digest) -> String {
    let name = format!("docker://HOST/{repository}");
    format!(
        "`skopeo copy --all --preserve-digests {} {}` sets a tag again",
        shell_word(&format!("{name}@{digest}")),
        shell_word(&format!("{name}:{tag}"))
    )
}

/// The option that writes an archive elsewhere.
fn new_file(option: &str, file: &NewFile) -> String {
    match file {
        NewFile::Whole(path) => format!("{option}{}", word(path)),
        NewFile::Parts(path) => format!("{option}{0} --split writes {0}.001, ...", word(path)),
        NewFile::Elsewhere => format!("name a file in another folder with {}", option.trim_end()),
    }
}

/// The command that saves images with all of their layers.
fn save_whole(images: &[String], platforms: &[Platform], namespace: Option<&str>) -> String {
    let images: Vec<_> = images.iter().map(|name| shell_word(name)).collect();
    let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    let platforms = match platforms.is_empty() {
        true => String::new(),
        false => format!(" --platform {}", shell_word(&platforms.join(","))),
    };
    let inventory = match namespace {
        None => "a new inventory of this host".into(),
        Some(name) => format!(
            "an inventory of this namespace (`sealift inventory --from containerd --namespace {} -o FILE`, and \
             --containerd-address if this load has it)",
            shell_word(name)
        ),
    };
    format!(
        "`sealift save {}{platforms} -o images.tar` brings all layers; with --have and {inventory} it brings those that \
         are missing",
        images.join(" ")
    )
}

/// The command that converts an archive of `docker save`.
fn conversion(archive: Option<&str>) -> String {
    let archive = archive.filter(|archive| *archive != STDIN);
    let from = archive.map_or_else(|| "FILE".into(), shell_word);
    // It must not be overwritten.
    let is_taken =
        archive.is_some_and(|archive| Path::new(archive).file_name() == Some(OsStr::new("images.tar")));
    let output = if is_taken { "sealed.tar" } else { "images.tar" };
    format!("`sealift save --from {from} -o {output}` converts it into an archive that can be loaded")
}

/// A number of bytes as an option takes it.
fn size(bytes: u64) -> String {
    const MEGA: u64 = 1_000_000;
    match bytes % MEGA {
        0 => format!("{}M", bytes / MEGA),
        _ => bytes.to_string(),
    }
}

fn word(path: &Path) -> String {
    shell_word(&path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_exist() {
        let mut root = crate::cli::Cli::command();
        root.build();
        let arguments = root.get_subcommands().flat_map(clap::Command::get_arguments);
        let known: HashSet<String> = arguments
            .filter_map(|one| one.get_long())
            .map(String::from)
            .collect();
        let source = include_str!("remedy.rs").split("#[cfg(test)]").next().unwrap();
        let mut count = 0;
        for (at, _) in source.match_indices("--") {
            let rest = &source[at + 2..];
            let end = rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
            let flag = &rest[..end.unwrap_or(rest.len())];
            let is_of_another = ["podman save ", "skopeo copy --all "]
                .iter()
                .any(|command| source[..at].ends_with(command));
            assert!(known.contains(flag) || is_of_another, "--{flag}");
            count += 1;
        }
        assert!(count > 30, "only {count} were found");
    }

    #[test]
    fn archives_are_named_as_a_shell_takes_them() {
        let converted = |archive: &str| hint(&Remedy::ConvertDockerSave(Some(archive.into())).into());
        assert!(converted("/a b/images.tar").contains("--from '/a b/images.tar' -o sealed.tar"));
        assert!(converted(STDIN).contains("--from FILE -o images.tar"));
        let parts = Remedy::SaveTo(NewFile::Parts("a b.tar".into()));
        assert_eq!(
            hint(&parts.into()),
            "-o 'a b.tar' --split writes 'a b.tar'.001, ..."
        );
        let offered = serde_json::from_str(r#"{"os":"linux$(id)","architecture":"amd64"}"#).unwrap();
        let wanted = "linux/arm64".into();
        let other = hint(&Remedy::OtherPlatform { offered, wanted }.into());
        assert_eq!(
            other,
            "--platform 'linux$(id)/amd64' loads that platform; or save again with --platform linux/arm64"
        );
        let fat = Remedy::Split(Some(4_095_000_000));
        assert_eq!(hint(&fat.into()), "write in parts with --split 4095M");
    }
}
