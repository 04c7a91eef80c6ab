//! Help pages, the manual and completions.

use insta::assert_snapshot;

use crate::support::{Sealift, Transcript};

/// The help page of a command.
fn help(arguments: &str) -> String {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    transcript.run(arguments);
    transcript.text()
}

#[test]
fn help_of_sealift() {
    assert_snapshot!(help("--help"), @"
    $ sealift --help
    Move container images between hosts that cannot reach each other, and keep every digest

    Usage: sealift [OPTIONS] <COMMAND>

    Commands:
      save         Save images and their digests into one archive
      load         Verify archives and load their images into an engine, a layout or an archive
      verify       Verify every byte of an archive and report every finding
      list         List the images in archives: names, digests, platforms, sizes, image ids
      doctor       Show what this host's Docker has, and what blocks attaching digests
      completions  Print shell completions
      man          Print the manual page
      help         Print this message or the help of the given subcommand(s)

    Options:
          --json
              Print one JSON document on standard output

      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Examples:
      On the connected machine:
        sealift save httpd:2.4 redis:7 -o images.tar
      On the air-gapped host:
        sealift verify images.tar
        sudo sealift load images.tar --expect sha256:...

    Exit codes:
      0  done
      1  content is wrong or hostile, or exceeds a limit; nothing of it was named on the target
      2  usage
      3  local I/O: disk full, no permission, unreadable medium
      4  registry or network
      5  the engine refused or stopped responding
      6  done, but a requested digest is not shown or not proven, a push would change it, or an image
         lacks the layer form that the engine needs
      7  not found: image, tag, platform
    ");
}

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
              Read image names from a file, one per line

              `#` begins a comment. `-` is standard input.

          --all
              Save every image of the local engine or of the `--from` archives

              Images of Docker without a name are skipped; their ids are listed. Implies --keep-going,
              unless --rebuild is `require`.

          --keep-going
              Skip images that cannot be saved

              Images that are not found, damaged or incomplete are reported, and the others are saved.
              The exit code is that of the worst failure.

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

              `host` is Linux on this machine's architecture.

              [default: from a registry, `host`; from an engine or archive, what it has]

          --split <SIZE>
              Split the archive into parts of at most SIZE: 700MB, 4G, 4GiB

              The parts are named FILE.001, FILE.002, ... Every command reads them as they are.

          --no-resume
              Start again instead of resuming an interrupted save

              If this save is interrupted, nothing is left of it.

          --jobs <N>
              Number of blobs to fetch at the same time [default: 6]

          --from <auto|registry|docker|PATH>
              Where the images come from; repeatable, in order

              `auto`: the local Docker for images whose digest it can prove, then the registry, then the
              local Docker for the rest.

              `registry`: registries and mirrors only.

              `docker`: the local Docker, also for images without a digest.

              PATH: an OCI layout (folder or archive), a folder of skopeo's `dir:`, or an archive of
              `docker save`.

              [default: auto]

          --rebuild <REBUILD>
              Recompress uncompressed layers into their original, digest-identical form

              Docker's classic store keeps layers uncompressed. The digest proves that a layer was
              recompressed correctly.

              Possible values:
              - auto:    Recompress where a known encoder reproduces the layer; save other layers
                uncompressed
              - never:   Save such layers uncompressed
              - require: Refuse images that are not verified with all layers compressed (exit code 6)

              [default: auto]

          --offline
              Do not contact any registry

          --data-root <DIR>
              Read the classic store of a stopped Docker

              DIR is its data root, such as /mnt/disk/var/lib/docker.

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
      sealift save httpd:2.4 redis@sha256:... -o images.tar
      sealift save --images list.txt --platform linux/amd64,linux/arm64 -o images.tar
      sealift save httpd:2.4 --mirror docker.io=harbor.local/dockerhub -o images.tar
      sealift save httpd:2.4 --split 4G -o /media/stick/images.tar     # images.tar.001, ...
      sealift save httpd:2.4 -o - | ssh host sudo sealift load -
      sudo sealift save --from docker httpd:2.4 myapp:7 -o images.tar  # the registry may be gone
      sudo sealift save --from docker --all -o everything.tar
      sealift save --from all.tar --from more.tar httpd:2.4 -o some.tar
      sealift save --images list.txt --keep-going -o images.tar
      sealift save httpd:2.4 --rename docker.io=harbor.local/dockerhub -o images.tar

    The last line of the output, `archive sha256:...`, pins everything in the archive. Carry it
    separately and give it to `load --expect`.
    ");
}

#[test]
fn help_of_load() {
    assert_snapshot!(help("load --help"), @"
    $ sealift load --help
    Verify archives and load their images into an engine, a layout or an archive

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

          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else the system's]

          --max-layer-size <SIZE>
              Refuse layers that decompress to more than this

              [default: 64GiB]

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --to <auto|docker|oci:PATH|archive:FILE>
              Where to load the images

              `auto`, `docker`: the engine of this host. DOCKER_HOST, DOCKER_CONTEXT and the current
              context say where Docker is.

              `oci:PATH`: an OCI layout folder. It is created, or the images are added to those that it
              has.

              `archive:FILE`: an archive as `save` writes it, of the images that are selected. It
              replaces FILE.

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

              Without it, an engine gets the platform that a pull would choose, and a layout or archive
              gets all. The engine need not be able to run it. A layout or archive can get several,
              comma-separated.

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

          --dry-run
              Print what would be done, and change nothing

          --keep-going
              Skip images that cannot be loaded

              These are images that are damaged, artifacts, without a name, only for another platform,
              or with uncompressed layers where the engine needs compressed ones.

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

    Examples:
      sudo sealift load images.tar
      sudo sealift load images.tar --expect sha256:...     # the line that save printed
      sealift load images.tar --dry-run                    # what would be sent, named and attached
      sudo sealift load images.tar --image httpd:2.4 --rename httpd=harbor.local/web
      sudo sealift load images.tar --rename docker.io/library=harbor.local/lib
      sudo sealift load images.tar --attach offline --allow-restart
      sudo sealift load images.tar --data-root /mnt/golden/var/lib/docker
      ssh build sealift save -o - httpd:2.4 | sudo sealift load -
      sealift load images.tar --to oci:images              # create an OCI layout, or add to it
      sealift load images.tar --image httpd:2.4 --to archive:httpd.tar

    `load` verifies every byte before it sends anything, and hashes it again while it sends it. It sends
    only what the engine does not have. It sets the names last, when all content is in the engine. If
    the load fails before that, existing names are unchanged.

    Docker's classic store shows a digest only after it is attached, which needs root: see `--attach`.
    If a digest cannot be attached, the image is loaded and the exit code is 6.
    ");
}

#[test]
fn help_of_verify() {
    assert_snapshot!(help("verify --help"), @"
    $ sealift verify --help
    Verify every byte of an archive and report every finding

    Usage: sealift verify [OPTIONS] <FILE>...

    Arguments:
      <FILE>...
              Archives, parts of archives, or layout folders; `-` is standard input

              One part (.001) stands for its whole archive. A folder is an OCI layout, or one of
              skopeo's `dir:`.

    Options:
          --expect <DIGEST>
              Accept only the archive with this digest, as `save` printed it

              With several archives, give it once for each, in the same order.

          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else the system's]

          --max-layer-size <SIZE>
              Refuse layers that decompress to more than this

              [default: 64GiB]

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --quick
              Verify digests only, without decompressing layers for their diff ids

          --json
              Print one JSON document on standard output

      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      sealift verify images.tar
      sealift verify images.tar --expect sha256:...     # the line that save printed
      sealift verify --quick images.tar.001             # an archive in parts; digests only
      sealift verify --json images.tar | jq '.archives[].findings'

    It verifies:
      - the structure of the tar
      - digests, sizes and media types
      - diff ids of gzip, zstd and uncompressed layers
      - that every blob that is named is present, and every blob that is present is named
      - that names and platforms do not contradict each other
    ");
}

#[test]
fn help_of_list() {
    assert_snapshot!(help("list --help"), @"
    $ sealift list --help
    List the images in archives: names, digests, platforms, sizes, image ids

    Usage: sealift list [OPTIONS] <FILE>...

    Arguments:
      <FILE>...
              Archives, parts of archives, or layout folders; `-` is standard input

              One part (.001) stands for its whole archive. A folder is an OCI layout, or one of
              skopeo's `dir:`.

    Options:
          --expect <DIGEST>
              Accept only the archive with this digest, as `save` printed it

              With several archives, give it once for each, in the same order.

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

    Examples:
      sealift list images.tar
      sealift list --json images.tar | jq -r '.archives[].images[].digest'

    Below each image are the digests of its index, manifests and configs. One of them is what Docker
    shows as IMAGE ID: the config's digest in a classic store; the index's digest in a containerd store,
    or the manifest's if there is no index. If the manifest or a layer did not come from a registry, its
    origin follows, as the archive records it. -q prints only the table.

    `list` reads names and manifests, and reports missing blobs. `sealift verify` checks every byte.
    ");
}

#[test]
fn help_of_doctor() {
    assert_snapshot!(help("doctor --help"), @"
    $ sealift doctor --help
    Show what this host's Docker has, and what blocks attaching digests

    Usage: sealift doctor [OPTIONS]

    Options:
          --repair
              Undo what an interrupted load left

              Unmounts files, clears the mirror from Docker's memory, and starts Docker if it was left
              stopped. Also removes manifests kept for images that Docker no longer has.

          --start-command <COMMAND>
              Command that starts Docker if it was left stopped

              [default: the one that the load used]

          --json
              Print one JSON document on standard output

      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      sudo sealift doctor
      sudo sealift doctor --repair     # undo what an interrupted load left

    Without --repair, `doctor` changes nothing.
    ");
}

#[test]
fn help_of_completions() {
    assert_snapshot!(help("completions --help"), @r#"
    $ sealift completions --help
    Print shell completions

    Usage: sealift completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>
              Shell to print completions for

              [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      sealift completions bash > /etc/bash_completion.d/sealift
      sealift completions zsh  > "${fpath[1]}/_sealift"
      sealift completions fish > ~/.config/fish/completions/sealift.fish
    "#);
}

#[test]
fn help_of_man() {
    assert_snapshot!(help("man --help"), @"
    $ sealift man --help
    Print the manual page

    Usage: sealift man [OPTIONS] [COMMAND]

    Arguments:
      [COMMAND]
              Command to describe [default: sealift itself]

    Options:
      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      sealift man > /usr/local/share/man/man1/sealift.1
      sealift man save | man -l -
    ");
}

#[test]
fn the_summary_of_a_command_is_short() {
    assert_snapshot!(help("list -h"), @"
    $ sealift list -h
    List the images in archives: names, digests, platforms, sizes, image ids

    Usage: sealift list [OPTIONS] <FILE>...

    Arguments:
      <FILE>...  Archives, parts of archives, or layout folders; `-` is standard input

    Options:
          --expect <DIGEST>        Accept only the archive with this digest, as `save` printed it
          --tmpdir <DIR>           Directory for temporary files
          --max-layer-size <SIZE>  Refuse layers that decompress to more than this [default: 64GiB]
          --no-trunc               Do not shorten digests and names to fit the terminal
          --json                   Print one JSON document on standard output
      -q, --quiet                  Print only results and errors
      -v, --verbose                Print each step and each blob on standard error
      -h, --help                   Print help (see more with '--help')
    ");
}

#[test]
fn the_manual_has_what_help_has() {
    let sealift = Sealift::new();
    for command in ["save", "load", "verify", "list", "doctor", "completions", "man"] {
        let help = sealift.run(&[command, "--help"]).ok().stdout;
        assert_eq!(sealift.run(&["help", command]).ok().stdout, help);
        let page = sealift.run(&["man", command]).ok().stdout;
        assert!(
            page.starts_with(".ie ") && page.contains(".SH EXAMPLES\n"),
            "{command}"
        );
        assert!(!page.contains("EXTRA"), "{page}");
        assert_eq!(page.contains("json"), help.contains("--json"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let completions = sealift.run(&["completions", shell]).ok().stdout;
        assert!(completions.contains("sealift"), "{shell}");
    }
}
