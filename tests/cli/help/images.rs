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

          --from <auto|registry|docker|containerd|podman|crio|PATH>
              Where the images come from; repeatable, in order

              `auto`: the local engine for images whose digest it can prove, then the registry, then the
              local engine for the rest. If there are several engines: the one that the environment
              names, or else that of Kubernetes, Docker, podman, containerd or CRI-O, in this order.

              `registry`: registries and mirrors only.

              `docker`: the local Docker, also for images without a digest.

              `containerd`: the containerd of this host, such as that of a Kubernetes node.

              `podman`: the podman of this user, with the additional image stores that it reads.

              `crio`: the storage of CRI-O.

              PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of
              `docker save`.

              [default: auto]

          --offline
              Do not contact any registry

          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else TMPDIR, else /tmp]

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

    Docker options:
          --data-root <DIR>
              Read the classic store of a stopped Docker

              DIR is its data root, such as /mnt/disk/var/lib/docker.

    containerd options:
        <which containerd>

    podman and CRI-O options:
          --root <DIR>
              Read podman's storage in this folder

              podman's own option of the same name. With it podman itself is not needed.

          --runroot <DIR>
              Let podman keep its state in this folder

              podman's own option of the same name, for what sealift asks podman.

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

    Image list options:
          --profile <NAME>
              Use the services of this profile of a compose file; repeatable

              `*` means all profiles. Services without a profile are always used.

              [default: COMPOSE_PROFILES]

          --env-file <FILE>
              Take the variables of a compose file from FILE; repeatable

              Variables of the environment count before those of FILE.

              [default: COMPOSE_ENV_FILES, else .env beside the compose file]

          --skip-built
              Leave out images that a compose file also says how to build

          --image-field <KIND:PATH>
              Take images from a field of a custom resource; repeatable

              For example, Prometheus:spec.image or Rollout:spec.template.spec.containers[].image. `[]`
              is every item of a list, and `*` every key.

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
