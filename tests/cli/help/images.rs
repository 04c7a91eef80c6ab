//! The help of `images`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_images() {
    assert_snapshot!(help("images --help"), @"
    $ sealift images --help
    List the images that files name, find those that a place lacks, pin digests

    Usage: sealift images [OPTIONS] <FILE>...

    Arguments:
      <FILE>...
              Files that name images; `-` is standard input

    Options:
          --missing-from <PLACE>
              Report the images that a place lacks, or has with another digest; exit code 7 if there are
              any

              PLACE is an archive or layout, registry://HOST[/PREFIX], docker, containerd, podman, crio,
              or a file that `sealift inventory` wrote on another host. `registry` asks the registry
              that each image names. Nothing is fetched but manifests and configs.

          --pin
              Write the file with NAME@DIGEST in place of each image, with the digests that `--from` has

              Comments, order and everything else stay as they are.

      -o, --output <FILE>
              File to write with --pin; `-` is standard output [default: -]

          --lock <FILE>
              Write a lock file: the digest, platforms and size of each image that `--from` has

              `save --lock` saves exactly that. `-` is standard output.

          --platform <PLATFORM>
              Platforms that --missing-from and --lock look for: `host`, `all`, or OS/ARCH[/VARIANT],
              comma-separated

              [default: of --missing-from, those that the place has; of --lock, as in `save`]

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
      sealift images compose.yaml
      sealift images compose.yaml --profile debug --env-file prod.env
      helm template chart | sealift images -
      sealift images -q compose.yaml manifests.yaml > list.txt
      sealift images --json compose.yaml | jq -r '.images[].name'
      sealift images compose.yaml --missing-from images.tar
      sealift images manifests.yaml --pin --from images.tar -o pinned.yaml
      sealift images compose.yaml --lock images.lock --from images.tar

    Each file is a list with one name per line, a compose file, Kubernetes manifests as `kubectl`, `helm
    template` and `kubectl kustomize` print them, a kustomization.yaml, a zarf.yaml, a Hauler manifest,
    or a lock file. What a file has and is not used is reported on standard error. `save --images` and
    `verify --images` read the same files.
    ");
}
