//! Images into registries, with skopeo: what sealift reads there is not what its own code wrote.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::command::{clean, run};
use super::{Built, Registry};

impl Registry {
    /// Pushes an image with everything in it to `repository:tag`, and makes sure of its digest there.
    #[track_caller]
    pub fn push(&self, image: &Built, to: &str) {
        // The `dir:` transport copies any media type byte for byte; `oci:` would convert Docker's.
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dir");
        as_dir(image, &dir);
        let mut command = self.skopeo("copy", "--dest-");
        command
            .args(["--all", "--preserve-digests"])
            .arg(format!("dir:{}", dir.display()));
        let said = run(command.arg(format!("docker://{}/{to}", self.address())));
        if said.stderr.contains("Manifest list must be converted") {
            // skopeo 1.13 wants to annotate an index over zstd layers; all below it is there by then.
            self.put_manifest(image, to);
        } else {
            said.ok();
        }
        assert_eq!(self.digest_of(to), image.digest, "skopeo changed {to}");
    }

    /// Puts an image's topmost manifest alone, as it is.
    #[track_caller]
    fn put_manifest(&self, image: &Built, to: &str) {
        let (repository, tag) = to.rsplit_once(':').expect("repository:tag");
        let mut command = clean("/usr/bin/curl", Path::new("/nonexistent"));
        command.args([
            "-sS",
            "--fail",
            "-X",
            "PUT",
            "-H",
            &format!("Content-Type: {}", image.media_type),
        ]);
        command
            .arg("--data-binary")
            .arg(format!("@{}", image.blob(&image.digest).display()));
        if self.is_tls() {
            let (cert, key) = self.client_cert();
            command.arg("--cacert").arg(self.ca_file());
            command.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        if let Some((user, password)) = self.user() {
            command.arg("--user").arg(format!("{user}:{password}"));
        }
        run(command.arg(format!("{}/v2/{repository}/manifests/{tag}", self.url()))).ok();
    }

    /// Digest of the bytes that the registry serves as `repository:tag` or `repository@digest`.
    #[track_caller]
    pub fn digest_of(&self, reference: &str) -> String {
        super::image::sha256(self.raw(reference).as_bytes())
    }

    /// The bytes that the registry serves as `repository:tag` or `repository@digest`.
    #[track_caller]
    pub fn raw(&self, reference: &str) -> String {
        let mut command = self.skopeo("inspect", "--");
        command
            .arg("--raw")
            .arg(format!("docker://{}/{reference}", self.address()));
        run(&mut command).ok().stdout
    }

    /// A skopeo subcommand with what it needs to reach this registry; `prefix` is `--`, `--src-` or `--dest-`.
    pub fn skopeo(&self, subcommand: &str, prefix: &str) -> Command {
        let mut command = clean("/usr/bin/skopeo", Path::new("/nonexistent"));
        command.args(["--insecure-policy", subcommand]);
        if self.is_tls() {
            command.arg(format!("{prefix}cert-dir")).arg(self.certs_dir());
        } else {
            command.arg(format!("{prefix}tls-verify=false"));
        }
        if let Some((user, password)) = self.user() {
            command
                .arg(format!("{prefix}creds"))
                .arg(format!("{user}:{password}"));
        }
        command
    }
}

/// Lays an image out as skopeo's `dir:` transport has it; the blobs are links, not copies.
fn as_dir(image: &Built, dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    let link = |digest: &str, name: String| {
        let (from, to) = (image.blob(digest), dir.join(name));
        std::os::unix::fs::symlink(fs::canonicalize(&from).unwrap(), to).unwrap();
    };
    link(&image.digest, "manifest.json".into());
    let manifests: Vec<_> = image.manifests.iter().chain(&image.attestations).collect();
    for digest in image.blobs() {
        let hex = digest["sha256:".len()..].to_owned();
        let is_manifest = manifests.iter().any(|manifest| manifest.digest == digest);
        if digest != image.digest || !is_manifest {
            link(&digest, if is_manifest { hex + ".manifest.json" } else { hex });
        }
    }
}
