//! The help page of `repair`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_repair() {
    assert_snapshot!(help("repair --help"), @"
    $ sealift repair --help
    Replace damaged and missing blobs in a registry's storage while the registry runs

    Usage: sealift repair [OPTIONS] --registry-root <DIR> --from <docker|containerd|podman|crio|registry://HOST[/PREFIX]|PATH>

    Options:
          --registry-root <DIR>
              The storage folder of a registry (CNCF distribution, version 2 or 3)

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

              `registry://HOST[/PREFIX]`: another registry, which has the images under the same names,
              below PREFIX.

              PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of
              `docker save`.

          --data-root <DIR>
              Read the classic store of a stopped Docker

              DIR is its data root, such as /mnt/disk/var/lib/docker.

        <which containerd>

          --root <DIR>
              Read podman's storage in this folder

              podman's own option of the same name. With it podman itself is not needed.

          --runroot <DIR>
              Let podman keep its state in this folder

              podman's own option of the same name, for what `save` asks podman.

          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else the system's]

          --max-layer-size <SIZE>
              Refuse layers that decompress to more than this

              [default: 64GiB]

          --no-trunc
              Do not shorten digests and names to fit the terminal

          --json
              Print one JSON document on standard output

      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

    Registry options:
          --mirror <REGISTRY=MIRROR>
              Ask MIRROR first for images of REGISTRY; repeatable, in order

              For example docker.io=harbor.local/dockerhub.

          --insecure <HOST[:PORT]>
              Allow plain HTTP and unverified certificates for this registry; repeatable

          --ca-file <FILE>
              Trust the certificate authorities in this PEM file too; repeatable

          --cert <FILE>
              Client certificate (PEM)

          --key <FILE>
              Key of the client certificate (PEM)

          --tries <N>
              Number of attempts for each request

              [default: 5]

          --idle-timeout <SECONDS>
              Give up on a connection after this many seconds of silence

              [default: 30]

    Examples:
      sudo sealift repair --registry-root /var/lib/registry --from docker --dry-run
      sudo sealift repair --registry-root /var/lib/registry --from docker
      sudo sealift repair --registry-root /var/lib/registry --from images.tar
      sudo sealift repair --registry-root /var/lib/registry --from registry://harbor.local/mirror

    It verifies the storage as `verify --registry-root` does, and looks for the digest of each blob that
    is wrong, empty, truncated or missing. A blob is written beside the others, verified, and renamed to
    its place with the owner and mode that the old file has. Then it is verified again, and so is what a
    mended manifest names. Nothing is deleted.

    Exit codes:
      0  all good, or all of it mended; with --dry-run: all of it can be mended
      1  there are errors that other bytes do not mend; `verify --registry-root` names them
      7  for some blobs no good bytes were found
    ");
}
