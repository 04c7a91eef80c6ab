//! The help page of `save`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_save() {
    assert_snapshot!(help("save --help"), @"
    $ sealift save --help
    Save images and their digests into one archive

    Usage: sealift save [OPTIONS] --output <FILE> [IMAGE]...

    Arguments:
      [IMAGE]...
              Images to save, named as in `docker pull`

              An image id, which may be shortened (49eb034b73f3, sha256:49eb), or the digest of a
              manifest or index saves an image without a name.

    Options:
      -o, --output <FILE>
              File to write; `-` is standard output

          --images <FILE>
              Save the images that a file names; repeatable

              A list with one name per line, a compose file, Kubernetes manifests, or another file that
              `sealift images` reads. `-` is standard input.

          --lock <FILE>
              Save exactly what a lock file names: digests, platforms

              `sealift images FILE --lock LOCK` writes one. A tag that has another digest by now does
              not matter; --locked refuses it.

          --locked
              Refuse images whose tags do not have the digests that the lock file or NAME:TAG@DIGEST
              says

              Nothing is written then; the exit code is 7.

          --all
              Save every image of the local engine or of the `--from` archives

              Images of Docker without a name are skipped; their ids are listed. Implies --keep-going,
              unless --rebuild is `require`.

          --keep-going
              Skip images that cannot be saved

              Images that are not found, damaged or incomplete are reported, and the others are saved.
              The exit code is that of the worst failure.

          --dry-run
              Print what would be saved, and the disk space that it needs

              Nothing is written. Layers are recompressed all the same, to see whether they get their
              digests, which may take about as long as the save.

          --for <ENGINE>
              Refuse images that this engine would not load (exit code 6)

              These have layers that could be saved only uncompressed, or they have neither their
              manifest nor a tag. With --keep-going or --all, they are skipped.

              Possible values:
              - docker-containerd: Docker with its containerd store
              - containerd:        containerd
              - podman:            podman
              - crio:              CRI-O

          --have <FILE>
              Leave out the layers that a host has, by its inventory; repeatable

              `sealift inventory` writes FILE on that host. The archive declares what it leaves out, and
              `load` refuses it where that is missing. With several inventories, only layers that all of
              the hosts have are left out.

          --rename <FROM=TO>
              Rename images, for example httpd=harbor.local/web; repeatable

              FROM is one of these:

              - an image, by name (httpd:2.4), or by digest or image id, which may be shortened
              (sha256:4bf5b2)

              - a repository (httpd)

              - a registry (127.0.0.1:5210, quay.io), or a path in one (docker.io/library, or user/ with
              a slash)

              TO replaces FROM, and the rest of the name is kept: the tag, and the part after a path.
              For an image without a name, TO needs a tag.

              If several renames match an image, the most specific one applies: the image, then the
              repository, then the longest path. A rename that matches no image, or is ambiguous, is
              refused.

          --platform <PLATFORM>
              Platforms to save: `host`, `all`, or OS/ARCH[/VARIANT], comma-separated

              `host` is Linux on this machine's architecture. An image must have all of them; one
              without an index has a single platform, which must be among them.

              [default: from a registry, `host`; from an engine or archive, what it has]

          --split <SIZE>
              Split the archive into parts of at most SIZE: 700MB, 4G, 4GiB

              The parts are named FILE.001, FILE.002, ... Every command reads them as they are.

          --with-installer
              Write install.sh, SHA256SUMS and this executable beside the archive

              `sh install.sh` verifies and loads the archive on a host that has nothing but sh and the
              engine. Its options are those of `sealift load`, or environment variables: see `sh
              install.sh --help`.

          --executable <FILE>
              Executable for the installer, in place of this one; repeatable, one for each architecture

              It must be of this version, for linux/amd64 or linux/arm64.

          --sign <KEY>
              Sign the archive with an SSH key, into FILE.sig

              KEY is a private key. If it has a passphrase, or if KEY is a public key, ssh-agent signs.
              `load --allowed-signers` and `ssh-keygen -Y verify -n sealift-archive` check the signature.

          --signature <FILE>
              File of the signature [default: that of the archive, with .sig at its end]

          --no-resume
              Start again instead of resuming an interrupted save

              If this save is interrupted, nothing is left of it.

          --jobs <N>
              Number of blobs to fetch at the same time [default: 6]

          --rebuild <REBUILD>
              Recompress uncompressed layers into their original, digest-identical form

              Docker's classic store and podman keep layers uncompressed. The digest proves that a layer
              was recompressed correctly.

              Possible values:
              - auto:    Recompress where a known encoder reproduces the layer; save other layers
                uncompressed
              - never:   Save such layers uncompressed
              - require: Refuse images that are not verified with all layers compressed (exit code 6)

              [default: auto]

        <where images come from>

          --offline
              Do not contact any registry

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

    Image list options:
        <how lists are read>

    Examples:
      sealift save httpd:2.4 redis@sha256:... -o images.tar
      sealift save --images list.txt --platform linux/amd64,linux/arm64 -o images.tar
      sealift save --images compose.yaml --images manifests.yaml -o images.tar
      helm template chart | sealift save --images - -o images.tar
      sealift save httpd:2.4 --mirror docker.io=harbor.local/dockerhub -o images.tar
      sealift save httpd:2.4 --split 4G -o /media/stick/images.tar     # images.tar.001, ...
      sealift save httpd:2.4 -o - | ssh host sudo sealift load -
      sudo sealift save --from docker httpd:2.4 myapp:7 -o images.tar  # the registry may be gone
      sudo sealift save --from docker --all -o everything.tar
      sudo sealift save --from containerd --namespace k8s.io --all -o node.tar
      sealift save --from podman --all -o everything.tar
      sealift save --from all.tar --from more.tar httpd:2.4 -o some.tar
      sealift save --images list.txt --keep-going -o images.tar
      sealift save --lock images.lock --locked -o images.tar
      sealift save httpd:2.4 --rename docker.io=harbor.local/dockerhub -o images.tar
      sealift save httpd:2.4 --have server1.json -o update.tar         # from `sealift inventory`
      sealift save httpd:2.4 -o images.tar --sign ~/.ssh/id_ed25519    # into images.tar.sig
      sealift save httpd:2.4 -o images.tar --with-installer            # on the host: sudo sh install.sh
      sudo sealift save --from docker --all --dry-run -o everything.tar

    The last line of the output, `archive sha256:...`, pins everything in the archive. Carry it
    separately and give it to `load --expect`. A signature, which `--sign` makes, pins it as well: `load
    --allowed-signers` demands one.
    ");
}
