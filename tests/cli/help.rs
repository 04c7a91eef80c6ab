//! Help pages, the manual and completions.

mod images;
mod load;
mod repair;
mod save;
mod serve;
mod verify;

use insta::assert_snapshot;

use crate::support::{Sealift, Transcript};

/// Options that several commands have: what stands for them in the help pages below, a command that has them, and where
/// they start and what follows them there. A test of its own shows them.
const SHARED: [(&str, &str, &str, &str); 9] = [
    (
        "which containerd",
        "inventory",
        "      --containerd-address ",
        "podman and CRI-O options:",
    ),
    (
        "which storage of podman",
        "inventory",
        "      --root ",
        "Examples:",
    ),
    (
        "which storage of podman is read",
        "save",
        "      --root ",
        "Registry options:",
    ),
    (
        "where images come from",
        "save",
        "      --from ",
        "      --offline",
    ),
    (
        "temporary files and large layers",
        "save",
        "      --tmpdir ",
        "      --no-trunc",
    ),
    (
        "whose signatures archives must have",
        "load",
        "      --allowed-signers ",
        "      --tmpdir ",
    ),
    (
        "how registries are reached",
        "save",
        "      --insecure ",
        "Image list options:",
    ),
    ("how lists are read", "save", "      --profile ", "Examples:"),
    (
        "options of every command",
        "save",
        "      --json\n",
        "Docker options:",
    ),
];

/// The help page of a command, without the options that several commands have.
fn help(arguments: &str) -> String {
    shared()
        .into_iter()
        .fold(whole(arguments), |page, (name, options)| {
            page.replace(&options, &format!("    <{name}>\n\n"))
        })
}

fn whole(arguments: &str) -> String {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    transcript.run(arguments);
    transcript.text()
}

fn shared() -> [(&'static str, String); SHARED.len()] {
    SHARED.map(|(name, command, start, end)| {
        let page = whole(&format!("{command} --help"));
        let (_, options) = page.split_once(start).unwrap();
        let (options, _) = options.split_once(end).unwrap();
        (name, format!("{start}{options}"))
    })
}

#[test]
fn help_of_shared_options() {
    let texts = shared().map(|(name, options)| format!("<{name}>\n{options}"));
    assert_snapshot!(texts.concat(), @"
    <which containerd>
          --containerd-address <SOCKET>
              The socket of containerd

              [default: CONTAINERD_ADDRESS, else that of containerd, k3s, RKE2 or MicroK8s, whichever
              answers]

          --namespace <NAME>
              The namespace of containerd

              [default: CONTAINERD_NAMESPACE, else k8s.io where Kubernetes uses this containerd, else
              default]

    <which storage of podman>
          --root <DIR>
              Use podman's storage in this folder

              podman's own option of the same name. Without it the configuration of podman decides, or
              that of CRI-O.

          --runroot <DIR>
              Keep podman's state in this folder

              podman's own option of the same name.

    <which storage of podman is read>
          --root <DIR>
              Read podman's storage in this folder

              podman's own option of the same name. With it podman itself is not needed.

          --runroot <DIR>
              Let podman keep its state in this folder

              podman's own option of the same name, for what sealift asks podman.

    <where images come from>
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

    <temporary files and large layers>
          --tmpdir <DIR>
              Directory for temporary files

              They hold decompressed archives, standard input, exports and recompressed layers, and have
              no names.

              [default: the directory of the output file if there is one, else TMPDIR, else /tmp]

          --max-layer-size <SIZE>
              Refuse layers that decompress to more than this

              [default: 64GiB]

    <whose signatures archives must have>
          --allowed-signers <FILE>
              Accept only archives that one of these signers has signed

              `ssh-keygen -Y verify` reads the same kind of FILE. The signature is in ARCHIVE.sig.

          --signer <NAME>
              Accept only this one of the signers

          --signature <FILE>
              File of the signature [default: that of the archive, with .sig at its end]

              With several archives, give it once for each, in the same order.

    <how registries are reached>
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

    <how lists are read>
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

    <options of every command>
          --json
              Print one JSON document on standard output

      -q, --quiet
              Print only results and errors

      -v, --verbose
              Print each step and each blob on standard error

      -h, --help
              Print help (see a summary with '-h')
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
        <options of every command>

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

        <whose signatures archives must have>

        <temporary files and large layers>

          --no-trunc
              Do not shorten digests and names to fit the terminal

        <options of every command>

    Examples:
      sealift list images.tar
      sealift list images.tar --allowed-signers allowed_signers
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

        <options of every command>

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

        <options of every command>

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
          --expect <DIGEST>         Accept only the archive with this digest, as `save` printed it
          --allowed-signers <FILE>  Accept only archives that one of these signers has signed
          --signer <NAME>           Accept only this one of the signers
          --signature <FILE>        File of the signature [default: that of the archive, with .sig at
                                    its end]
          --tmpdir <DIR>            Directory for temporary files
          --max-layer-size <SIZE>   Refuse layers that decompress to more than this [default: 64GiB]
          --no-trunc                Do not shorten digests and names to fit the terminal
          --json                    Print one JSON document on standard output
      -q, --quiet                   Print only results and errors
      -v, --verbose                 Print each step and each blob on standard error
      -h, --help                    Print help (see more with '--help')
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
