//! The help page of `repair`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_repair() {
    assert_snapshot!(help("repair --help"), @"
    $ sealift repair --help
    Replace damaged and missing blobs in a registry, or in its storage while it runs

    Usage: sealift repair [OPTIONS] --from <docker|containerd|podman|crio|registry://HOST[/PREFIX]|PATH> [IMAGE]...

    Arguments:
      [IMAGE]...
              Images in a registry, by tag or digest

    Options:
          --registry-root <DIR>
              Repair the storage folder of a registry (CNCF distribution, version 2 or 3)

              DIR is what the registry's configuration calls `rootdirectory`, such as /var/lib/registry.

          --dry-run
              Show where the bytes of each blob would come from, and change nothing

              What a damaged manifest names is not known before it is mended.

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --from <docker|containerd|podman|crio|registry://HOST[/PREFIX]|PATH>
              Where good bytes come from; repeatable, in order

              `docker`: the local Docker. It keeps layers uncompressed; they are recompressed bit for
              bit.

              `containerd`, `podman`, `crio`: the images of another local engine.

              `registry://HOST[/PREFIX]`: another registry, which has the images below PREFIX.

              PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of
              `docker save`.

        <temporary files and large layers>

          --no-trunc
              Do not shorten digests and names to fit the terminal

        <options of every command>

    Docker options:
          --data-root <DIR>
              Read the classic store of a stopped Docker

              DIR is its data root, such as /mnt/disk/var/lib/docker.

    containerd options:
        <which containerd>

    podman and CRI-O options:
        <which storage of podman is read>

    Registry options:
          --mirror <REGISTRY=MIRROR>
              Ask MIRROR first for images of REGISTRY; repeatable, in order

              For example docker.io=harbor.local/dockerhub.

        <how registries are reached>

    Examples:
      sealift repair harbor.local/app:1 --from docker --dry-run
      sealift repair harbor.local/app:1 harbor.local/web@sha256:... --from images.tar
      sealift repair harbor.local/app:1 --from registry://other.local/mirror
      sudo sealift repair --registry-root /var/lib/registry --from docker --dry-run
      sudo sealift repair --registry-root /var/lib/registry --from docker
      sudo sealift repair --registry-root /var/lib/registry --from images.tar
      sudo sealift repair --registry-root /var/lib/registry --from registry://other.local/mirror

    It verifies the images as `verify IMAGE` does, or the storage as `verify --registry-root` does, and
    looks for the digest of each blob that is wrong, empty, truncated or missing.

    Through the registry's API, a blob is fetched, verified and uploaded, and then fetched and verified
    again. Many registries keep a damaged file all the same: CNCF distribution writes only what is
    missing. Such a blob is `kept`, and its file can be replaced with --registry-root.

    In the storage folder, a blob is written where the registry does not look, verified, and renamed to
    its place with the owner and mode that the old file has. Nothing is deleted.

    What a mended manifest names is verified next.

    Exit codes:
      0  all good, or all of it mended; with --dry-run: all of it can be mended
      1  there are errors that other bytes do not mend; `verify` names them
      3  a file could not be read or written
      4  the registry kept a damaged blob, or did not answer
      5  an engine did not give the bytes that it has
      7  for some blobs no good bytes were found
    ");
}
