//! The help page of `verify`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_verify() {
    assert_snapshot!(help("verify --help"), @"
    $ sealift verify --help
    Verify every byte of archives, of images in registries, or of a registry's storage

    Usage: sealift verify [OPTIONS] [FILE|IMAGE]...

    Arguments:
      [FILE|IMAGE]...
              Archives, parts of archives, or layout folders (`-` is standard input); or images in
              registries

              One part (.001) stands for its whole archive. A folder is an OCI layout, or one of
              skopeo's `dir:`.

    Options:
          --images <FILE>
              Verify the images that a file names; repeatable

              A list with one name per line, a compose file, Kubernetes manifests, or another file that
              `sealift images` reads. `-` is standard input.

          --all
              Verify all tags of the repositories that are named

          --platform <PLATFORM>
              Platforms to verify: `host`, `all`, or OS/ARCH[/VARIANT], comma-separated

              An image in a registry must have all of them. One without an index must have one of them.

              [default: those that the registry has]

          --since <FILE>
              Skip what the last run verified, and write to FILE what this one did

              Blobs with digests that FILE has are not fetched again: what became of them in the
              registry since is not found. An image is verified anew if its tag has another digest. FILE
              need not exist.

          --metrics <FILE>
              Write the result to FILE as metrics, for the textfile collector of Prometheus'
              node_exporter

          --report <FILE>
              Write a report of archives to FILE, for people who sign off a transfer: FILE.html,
              FILE.json or FILE.md

              It says what is in the archives, whose digests these are, what was verified, when, where
              and by whom. It is written also if something is wrong.

          --registry-root <DIR>
              Verify the storage folder of a registry (CNCF distribution, version 2 or 3)

              DIR is what the registry's configuration calls `rootdirectory`, such as /var/lib/registry.

          --sample <N%|K/N>
              Hash only a part of the blobs: a percentage, or one of equal parts, as in 3/7

              The digests decide which blobs belong to a part, so it has the same ones in every run.
              With 1/7 to 7/7, one on each day of a week, every blob is hashed once a week. Links and
              manifests are always verified.

          --expect <DIGEST>
              Accept only the archive with this digest, as `save` printed it

              With several archives, give it once for each, in the same order.

        <whose signatures archives must have>

        <temporary files and large layers>

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --digests-only
              Verify digests only, without decompressing layers for their diff ids

          --quick
              As --digests-only; of images in a registry, compare sizes only

              Of these it fetches manifests and configs, and asks the registry for the sizes of
              everything else.

        <options of every command>

    Registry options:
          --mirror <REGISTRY=MIRROR>
              Ask MIRROR first for images of REGISTRY; repeatable, in order

              For example docker.io=harbor.local/dockerhub.

        <how registries are reached>

    Image list options:
        <how lists are read>

    Examples:
      sealift verify images.tar
      sealift verify images.tar --expect sha256:...     # the line that save printed
      sealift verify images.tar --allowed-signers allowed_signers
      sealift verify --digests-only images.tar.001      # an archive in parts
      sealift verify images.tar --report images.html    # for people who sign off a transfer
      sealift verify --json images.tar | jq '.archives[].findings'
      sealift verify harbor.local/app:1 harbor.local/web@sha256:...
      sealift verify --images list.txt --since state.json --metrics verify.prom
      sealift verify --all harbor.local/app --quick
      sudo sealift verify --registry-root /var/lib/registry
      sudo sealift verify --registry-root /var/lib/registry --sample 5%

    What is FILE, and what is IMAGE:
      - FILE exists, begins with `/` or `.`, or ends like an archive (.tar, .tar.gz, .tgz, .tar.001)
      - everything else is IMAGE, named as in `docker pull`; ./app:1 is a file of that name

    Of an archive it verifies:
      - the structure of the tar
      - digests, sizes and media types
      - diff ids of gzip, zstd and uncompressed layers
      - that every blob that is named is present, and every blob that is present is named
      - that names and platforms do not contradict each other

    Of an image in a registry it fetches and verifies every manifest, config and layer, each blob once.
    Nothing is kept on disk. Wrong bytes are fetched a second time before they are reported.

    Of a registry's storage folder it verifies the digests and sizes of all blobs, and that links, tags
    and manifests lead to what is there. It names every image that something wrong affects. It writes
    nothing, and the registry may run.
    ");
}
