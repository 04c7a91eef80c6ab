//! The help page of `load`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_load() {
    assert_snapshot!(help("load --help"), @"
    $ sealift load --help
    Verify archives and load their images into an engine, registry, layout or archive

    Usage: sealift load [OPTIONS] <FILE>...

    Arguments:
      <FILE>...
              Archives, parts of archives, or layout folders; `-` is standard input

              One part (.001) stands for its whole archive. A folder is an OCI layout, or one of
              skopeo's `dir:`.

    Options:
          --expect <DIGEST>
              Accept only the archive with this digest, as `save` printed it

              With several archives, give it once for each, in the same order.

        <whose signatures archives must have>

        <temporary files and large layers>

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --to <auto|docker|containerd|podman|crio|oci:PATH|archive:FILE|registry://HOST[/PREFIX]>
              Where to load the images

              `auto`: the engine of this host. If there are several: the one that the environment names,
              or else that of Kubernetes, Docker, podman, containerd or CRI-O, in this order.

              `docker`: DOCKER_HOST, DOCKER_CONTEXT and the current context say where Docker is.

              `containerd`: that of this host, such as a Kubernetes node, k3s, RKE2 or MicroK8s.

              `podman`: the podman of the user who runs sealift: root's with sudo, or the user's own
              without.

              `crio`: the storage of CRI-O on this host, as /etc/crio names it. It needs podman's
              program.

              `docker,containerd`: both, with one verification. If one fails, the other is loaded all
              the same.

              `oci:PATH`: an OCI layout folder. It is created, or the images are added to those that it
              has.

              `archive:FILE`: an archive as `save` writes it, of the images that are selected. It
              replaces FILE.

              `registry://HOST[:PORT][/PREFIX]`: a registry. docker.io/library/httpd:2.4 becomes
              HOST/PREFIX/library/httpd:2.4, as mirrors name it. A name that begins with HOST/PREFIX is
              kept.

              [default: auto]

          --split <SIZE>
              Split an archive into parts of at most SIZE: 700MB, 4G, 4GiB

              The parts are named FILE.001, FILE.002, ... Without it, parts are joined.

          --image <NAME>
              Load only these images, by name, repository or digest; repeatable

              A digest may be shortened.

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
              Load this platform, for example linux/arm64

              Without it, an engine gets the platform that a pull would choose, and a registry, layout
              or archive gets all. The engine need not be able to run it. A registry, layout or archive
              can get several, comma-separated. An image that is for other platforms only is refused.

          --dry-run
              Print what would be done, and change nothing

          --keep-going
              Skip images that cannot be loaded

              These are:

              - artifacts

              - images that are damaged, have no name, or are only for another platform

              - images with uncompressed layers where the engine needs compressed ones

              - images with layers that neither the archive nor the target has

              - images that podman or a registry refuses

          --receipt <FILE>
              Write a receipt to FILE, as JSON: what was loaded from which archive, and what the engine
              shows

              It is written also if the load fails, as far as that got.

          --sign <KEY>
              Sign the receipt with an SSH key, into FILE.sig

              KEY is as in `save --sign`. `ssh-keygen -Y verify -n sealift-receipt` checks the
              signature.

          --no-trunc
              Do not shorten digests and names to fit the terminal

        <options of every command>

    Docker options:
          --attach <ATTACH>
              How to attach digests to Docker's classic store

              Possible values:
              - auto:    The first method that works; offline only with --allow-restart
              - live:    Only methods that keep the engine running
              - offline: Only while the engine is stopped; needs --allow-restart if it is running
              - none:    Attach no digests

              [default: auto]

          --trust-recorded
              Attach digests that the archive records without proof

              Any archive can claim any digest, so the exit code is 6. --expect implies this option.

          --allow-restart
              Allow sealift to restart the engine to attach digests

          --stop-command <COMMAND>
              Command that stops the engine [default: systemctl]

          --start-command <COMMAND>
              Command that starts the engine [default: systemctl]

          --data-root <DIR>
              Write names and digests into the store of a stopped Docker

              DIR is the data root of a classic store, such as a golden image's var/lib/docker. The
              store must have the images already.

          --keep-push-digest
              Make a later `docker push` keep the digests where it can

              Records the layers' compressed digests in Docker's classic store, as a pull does. The exit
              code is 6 if a push would change a digest all the same.

    containerd options:
        <which containerd>

          --snapshotter <NAME>
              The snapshotter that containerd unpacks layers into

              [default: CONTAINERD_SNAPSHOTTER, else the one that CRI uses, else overlayfs]

          --pin
              Keep the kubelet from removing the images when the disk is full

              They cannot be pulled again where there is no registry.

          --no-unpack
              Do not unpack the layers; containerd unpacks them when a container is created

    podman and CRI-O options:
        <which storage of podman>

          --force
              Replace images for which podman shows a wrong digest

              A `podman load` of another archive, or a build, may have left such a digest, and podman
              keeps it until the image is removed. With this option sealift removes the image, loads it
              again and sets its names again. It never removes containers: an image that one uses stays
              as it is.

    Registry options:
          --platform-manifest
              Push the manifest of one platform in place of the index

              An index names the manifests of all platforms, and many registries refuse it without
              these. The image then has the digest of the platform's manifest, not that of the index. If
              an image has several platforms, --platform chooses one.

          --digests-only
              Verify only the digests of what is sent, without decompressing layers for their diff ids

              An engine that pulls a layer compares its diff id in any case.

        <how registries are reached>

    Examples:
      sudo sealift load images.tar
      sudo sealift load images.tar --expect sha256:...     # the line that save printed
      sealift load images.tar --dry-run                    # what would be sent, named and attached
      sudo sealift load images.tar --receipt load.json     # what was loaded, for the records
      sudo sealift load images.tar --allowed-signers /etc/sealift/allowed_signers
      sudo sealift load images.tar --receipt load.json --sign /root/.ssh/id_ed25519
      sudo sealift load images.tar --image httpd:2.4 --rename httpd=harbor.local/web
      sudo sealift load images.tar --rename docker.io/library=harbor.local/lib
      sudo sealift load images.tar --attach offline --allow-restart
      sudo sealift load images.tar --data-root /mnt/golden/var/lib/docker
      ssh build sealift save -o - httpd:2.4 | sudo sealift load -
      sudo sealift load images.tar --to containerd --namespace k8s.io
      sudo sealift load images.tar --to docker,containerd  # into both, with one verification
      sudo sealift load images.tar --to containerd --pin   # the kubelet never removes them
      sealift load images.tar --to podman                  # rootless: the images of this user
      sudo sealift load images.tar --to podman --force     # also replace images with a wrong digest
      sealift load platforms.tar --to registry://harbor.local/mirror    # with all platforms
      sealift load images.tar --to oci:images              # create an OCI layout, or add to it
      sealift load images.tar --image httpd:2.4 --to archive:httpd.tar

    `load` verifies every byte before it sends anything, and hashes it again while it sends it. Only
    containerd and registries get stored bytes while the archive is being verified. containerd unpacks
    no layer before that layer is verified. `load` sends only what the engine does not have. It sets the
    names last, when all content is in the engine and verified. If the load fails before that, existing
    names are unchanged.

    Docker's classic store shows a digest only after it is attached, which needs root: see `--attach`.
    If a digest cannot be attached, the image is loaded and the exit code is 6.
    ");
}
