//! Help pages, the manual and completions.

mod images;
mod load;
mod repair;
mod save;
mod serve;

use insta::assert_snapshot;

use crate::support::{Sealift, Transcript};

/// The help page of a command.
fn help(arguments: &str) -> String {
    let [containerd, podman] = shared();
    whole(arguments)
        .replace(&containerd, "    <which containerd>\n\n")
        .replace(&podman, "    <which storage of podman>\n\n")
}

fn whole(arguments: &str) -> String {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    transcript.run(arguments);
    transcript.text()
}

/// The options that several commands have: which containerd is meant, and which storage of podman. A test of its own
/// shows them.
fn shared() -> [String; 2] {
    let text = whole("inventory --help");
    let start = |option: &str| text.find(&format!("      {option} ")).unwrap();
    let ends = ["podman and CRI-O options:", "Examples:"];
    let starts = ["--containerd-address", "--root"].map(start);
    [0, 1].map(|at| text[starts[at]..text.find(ends[at]).unwrap()].to_owned())
}

#[test]
fn help_of_shared_options() {
    assert_snapshot!(shared().concat(), @"
          --containerd-address <SOCKET>
              The socket of containerd

              [default: CONTAINERD_ADDRESS, else that of containerd, k3s, RKE2 or MicroK8s, whichever
              answers]

          --namespace <NAME>
              The namespace of containerd

              [default: CONTAINERD_NAMESPACE, else k8s.io where Kubernetes uses this containerd, else
              default]

          --root <DIR>
              Use podman's storage in this folder

              podman's own option of the same name. Without it the configuration of podman decides, or
              that of CRI-O.

          --runroot <DIR>
              Keep podman's state in this folder

              podman's own option of the same name.

    ");
}

#[test]
fn help_of_sealift() {
    assert_snapshot!(help("--help"), @"
    $ sealift --help
    Move container images between hosts that cannot reach each other, and keep every digest

    Usage: sealift [OPTIONS] <COMMAND>

    Commands:
      save         Save images and their digests into one archive
      load         Verify archives and load their images into an engine, registry, layout or archive
      verify       Verify every byte of archives, of images in registries, or of a registry's storage
      repair       Replace damaged and missing blobs in a registry, or in its storage while it runs
      list         List the images in archives: names, digests, platforms, sizes, image ids
      images       List the images that files name, find those that a place lacks, pin digests
      serve        Serve archives as a read-only registry, straight from their files
      inventory    List what this host's engines have, for `save --have` elsewhere
      doctor       Show the engines of this host, how digests get shown, and what blocks them
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
      3  local I/O: disk full (the engine's too), no permission, unreadable medium
      4  registry or network
      5  the engine refused or stopped responding
      6  done, but a requested digest is not shown or not proven, a push would change it, or an image
         lacks the layer form that the engine needs
      7  not found: image, tag, platform
    ");
}

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

          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else TMPDIR, else /tmp]

          --max-layer-size <SIZE>
              Refuse layers that decompress to more than this

              [default: 64GiB]

          --jobs <N>
              Number of threads that verify [default: one per CPU]

          --digests-only
              Verify digests only, without decompressing layers for their diff ids

          --quick
              As --digests-only; of images in a registry, compare sizes only

              Of these it fetches manifests and configs, and asks the registry for the sizes of
              everything else.

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
      sealift verify images.tar
      sealift verify images.tar --expect sha256:...     # the line that save printed
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

    Examples:
      sealift list images.tar
      sealift list --json images.tar | jq -r '.archives[].images[].digest'

    Below each image are the digests of its index, manifests and configs. One of them is what Docker
    shows as IMAGE ID: the config's digest in a classic store; the index's digest in a containerd store,
    or the manifest's if there is no index. If the manifest or a layer did not come from a registry, its
    origin follows, as the archive records it. -q prints only the table and the archive's digest.

    `list` reads names and manifests, and reports missing blobs. `sealift verify` checks every byte.
    ");
}

#[test]
fn help_of_inventory() {
    assert_snapshot!(help("inventory --help"), @"
    $ sealift inventory --help
    List what this host's engines have, for `save --have` elsewhere

    Usage: sealift inventory [OPTIONS]

    Options:
          --from <auto|docker|containerd|podman|crio|oci:PATH>
              Engines or layouts to list; repeatable

              `auto`: every engine of this host that answers.

              `docker`: the engine of this host. DOCKER_HOST, DOCKER_CONTEXT and the current context say
              where Docker is.

              `containerd`: the containerd of this host, or of k3s, RKE2 or MicroK8s.

              `podman`: the podman of the user who runs sealift.

              `crio`: the storage of CRI-O. One that podman has too is listed once.

              `oci:PATH`: an OCI layout folder.

              [default: auto]

      -o, --output <FILE>
              File to write [default: standard output]

          --compare <FILE>
              Compare with an inventory, of this host before or of another one, and print what differs

              Every name and digest of FILE must lead to the same image. The exit code is 7 if one is
              missing, and 6 if it leads to another image or one that is incomplete. Extra names are no
              difference.

          --label <TEXT>
              Name of the host, for people [default: its host name]

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

    containerd options:
        <which containerd>

    podman and CRI-O options:
        <which storage of podman>

    Examples:
      sudo sealift inventory -o server1.json
      sudo sealift inventory --from docker --label rack7 > rack7.json
      sudo sealift inventory --from containerd --namespace k8s.io -o node1.json
      sealift inventory --from podman -o laptop.json        # rootless: the images of this user
      sealift inventory --from oci:images -o folder.json
      sudo sealift inventory --from docker --compare server1.json   # what differs now

    `sealift save --have server1.json` leaves out the layers that the host has, and `load` on the host
    completes the images with them. Write a new inventory before the next update.

    The document lists names, digests, layers and versions, and no secrets. The same content makes the
    same document. As root it is complete: only root can read which blobs Docker's containerd store has.
    ");
}

#[test]
fn help_of_doctor() {
    assert_snapshot!(help("doctor --help"), @"
    $ sealift doctor --help
    Show the engines of this host, how digests get shown, and what blocks them

    Usage: sealift doctor [OPTIONS]

    Options:
          --repair
              Undo what an interrupted load left

              Unmounts files, clears the mirror from Docker's memory, and starts Docker if it was left
              stopped. Also removes manifests kept for images that Docker no longer has, and the
              temporary files of loads into root's podman.

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

    containerd options:
        <which containerd>

    podman and CRI-O options:
        <which storage of podman>

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
    for command in [
        "save",
        "load",
        "verify",
        "repair",
        "list",
        "doctor",
        "completions",
        "man",
    ] {
        let help = sealift.run(&[command, "--help"]).ok().stdout;
        assert_eq!(sealift.run(&["help", command]).ok().stdout, help);
        let page = sealift.run(&["man", command]).ok().stdout;
        for section in [
            "NAME",
            "SYNOPSIS",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(
                page.contains(&format!("\n.SH {section}\n")),
                "{command}: {section}"
            );
        }
        let options = help.lines().filter_map(|line| {
            let (_, name) = line.strip_prefix("  ")?.split_once("--")?;
            let name = name
                .split(|char: char| !char.is_ascii_alphanumeric() && char != '-')
                .next()?;
            line.trim_start().starts_with('-').then_some(name)
        });
        let mut count = 0;
        for name in options {
            let bold = format!("\\fB\\-\\-{}\\fR", name.replace('-', "\\-"));
            assert!(page.contains(&bold), "{command}: {name}\n{page}");
            count += 1;
        }
        assert!(count > 2, "{command}");
    }
}
