//! Text and JSON, exit codes, what a terminal gets.

use insta::assert_snapshot;

use crate::support::{Image, Run, Sealift, Transcript, run};

#[test]
fn a_usage_error_says_what_is_wrong_and_exits_with_2() {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "save user/App:1 -o x.tar",
        "save -o x.tar",
        "save app",
        "frobnicate",
        "save app --frobnicate",
        "",
    ] {
        transcript.run(arguments);
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save user/App:1 -o x.tar
    2> error: invalid image name "user/App:1": at character 6: repository names are in lower case
    exit 2

    $ sealift save -o x.tar
    2> error: no image was named
    2> hint: for example: sealift save httpd:2.4 -o images.tar
    exit 2

    $ sealift save app
    2> error: the following required arguments were not provided:
    2>   --output <FILE>
    2>
    2> Usage: sealift save --output <FILE> <IMAGE>...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift frobnicate
    2> error: unrecognized subcommand 'frobnicate'
    2>
    2> Usage: sealift [OPTIONS] <COMMAND>
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift save app --frobnicate
    2> error: unexpected argument '--frobnicate' found
    2>
    2>   tip: to pass '--frobnicate' as a value, use '-- --frobnicate'
    2>
    2> Usage: sealift save --output <FILE> <IMAGE>...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift
    2> Move container images between hosts that cannot reach each other, and keep every digest
    2>
    2> Usage: sealift [OPTIONS] <COMMAND>
    2>
    2> Commands:
    2>   save         Save images and their digests into one archive
    2>   load         Verify archives and load their images into an engine, registry, layout or archive
    2>   verify       Verify every byte of archives, of images in registries, or of a registry's storage
    2>   repair       Replace damaged and missing blobs in a registry, or in its storage while it runs
    2>   list         List the images in archives: names, digests, platforms, sizes, image ids
    2>   images       List the images that files name, find those that a place lacks, pin digests
    2>   serve        Serve archives as a read-only registry, straight from their files
    2>   inventory    List what this host's engines have, for `save --have` elsewhere
    2>   doctor       Show the engines of this host, how digests get shown, and what blocks them
    2>   completions  Print shell completions
    2>   man          Print the manual page
    2>   help         Print this message or the help of the given subcommand(s)
    2>
    2> Options:
    2>       --json     Print one JSON document on standard output
    2>   -q, --quiet    Print only results and errors
    2>   -v, --verbose  Print each step and each blob on standard error
    2>   -h, --help     Print help (see more with '--help')
    2>   -V, --version  Print version
    exit 2
    "#);
}

#[test]
fn an_error_is_a_document_too() {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("verify --json absent.tar");
    transcript.run("save --json user/App:1 -o x.tar");
    assert_snapshot!(transcript.text(), @r#"
    $ sealift verify --json absent.tar
    {
      "archives": [
        {
          "archive": "absent.tar",
          "error": {
            "code": null,
            "exit": 3,
            "hint": null,
            "message": "cannot open absent.tar: No such file or directory (os error 2)"
          }
        }
      ],
      "error": {
        "code": null,
        "exit": 3,
        "hint": null,
        "message": "cannot open absent.tar: No such file or directory (os error 2)"
      },
      "schema": 1
    }
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ sealift save --json user/App:1 -o x.tar
    {
      "error": {
        "code": null,
        "exit": 2,
        "hint": null,
        "message": "invalid image name \"user/App:1\": at character 6: repository names are in lower case"
      },
      "schema": 1
    }
    2> error: invalid image name "user/App:1": at character 6: repository names are in lower case
    exit 2
    "#);
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    Image::sample("app", "1").build(&layout, "1");
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    std::fs::write(
        layout.join("index.json"),
        index.replace(":\"1\"", ":\"1\\u001b[2J\\u202e\""),
    )
    .unwrap();
    for command in ["list", "verify"] {
        let run = sealift.run(&[command, "layout"]).code(1);
        let printed = run.stdout + &run.stderr;
        assert!(
            !printed.contains('\u{1b}') && !printed.contains('\u{202e}'),
            "{printed:?}"
        );
    }
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let run = on_a_terminal(
        &sealift,
        "NO_COLOR=1",
        &["save", "--from", "layout", "app:1", "-o", "-"],
    )
    .code(2);
    assert_snapshot!(run.stdout, @"
    error: an archive is not for a terminal
    hint: send standard output to a file or a pipe, or name a file with -o
    ");
}

#[test]
fn verbose_prints_steps_and_blobs_even_if_standard_error_is_full() {
    let sealift = Sealift::new();
    let image = Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = ["save", "--from", "layout", "app:1", "-o", "app.tar"];
    assert_eq!(sealift.run(&save).ok().stderr, "");
    let told = sealift.run(&[&["-v"], &save[..]].concat()).ok();
    for blob in &image.host().layers {
        assert!(told.stderr.contains(&blob.digest), "{}", told.stderr);
    }
    assert!(told.stderr.starts_with("resolving\nsaving: "), "{}", told.stderr);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut unheard = sealift.command(&["verify", "-v", "app.tar"]);
    unheard.stderr(full);
    let output = unheard.output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
}

#[test]
fn a_wrong_option_says_how_it_is_written() {
    let sealift = Sealift::new();
    let mut transcript = Transcript::of(&sealift);
    for arguments in [
        "load --rename httpd x.tar",
        "load --rename httpd=web:1 x.tar",
        "save app -o x.tar --mirror x",
        "save app -o x.tar --platform x",
        "save app -o x.tar --split x",
        "save app -o x.tar --tries 0",
        "verify --expect sha256:12 x.tar",
        "list --tmpdir",
    ] {
        transcript.run(arguments);
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift load --rename httpd x.tar
    2> error: invalid value 'httpd' for '--rename <FROM=TO>': "httpd" is not a valid name; it is written FROM=TO: httpd:2.4=web:1, httpd=harbor.local/web, quay.io=harbor.local/quay
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift load --rename httpd=web:1 x.tar
    2> error: invalid value 'httpd=web:1' for '--rename <FROM=TO>': "httpd" names a repository, "web:1" one image; it is written FROM=TO: httpd:2.4=web:1, httpd=harbor.local/web, quay.io=harbor.local/quay
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift save app -o x.tar --mirror x
    2> error: invalid value 'x' for '--mirror <REGISTRY=MIRROR>': "x" is not a mirror: expected REGISTRY=HOST[/PREFIX]; an example is docker.io=harbor.local/dockerhub
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift save app -o x.tar --platform x
    2> error: invalid value 'x' for '--platform <PLATFORM>': "x" is not a platform: expected ARCH, OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64/v8
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift save app -o x.tar --split x
    2> error: invalid value 'x' for '--split <SIZE>': "x" is not a size: expected for example 700MB, 4G or 4GiB
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift save app -o x.tar --tries 0
    2> error: invalid value '0' for '--tries <N>': 0 is not in 1..=100
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift verify --expect sha256:12 x.tar
    2> error: invalid value 'sha256:12' for '--expect <DIGEST>': a sha256 digest has 64 hex digits, found 2
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift list --tmpdir
    2> error: a value is required for '--tmpdir <DIR>' but none was supplied
    2>
    2> For more information, try '--help'.
    exit 2
    "#);
}

#[test]
fn a_list_of_names_is_read_as_editors_write_it_and_a_bad_line_is_reported() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = [
        "save", "-q", "--from", "layout", "--images", "list.txt", "-o", "x.tar",
    ];
    std::fs::write(
        sealift.path("list.txt"),
        "\u{feff}app:1 # the first\r\n\r\n  # none\r\n",
    )
    .unwrap();
    sealift.run(&save).ok();
    std::fs::write(sealift.path("list.txt"), "app:1\n\nuser/App:2\n").unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save --images list.txt -o x.tar");
    transcript.run("save --images absent.txt -o x.tar");
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --images list.txt -o x.tar
    2> error: list.txt, line 3: invalid image name "user/App:2": at character 6: repository names are in lower case
    2> hint: a list has one image per line; `#` begins a comment
    exit 2

    $ sealift save --images absent.txt -o x.tar
    2> error: cannot read absent.txt: No such file or directory (os error 2)
    exit 3
    "#);
}

#[test]
fn every_wrong_name_is_told_in_one_run() {
    let sealift = Sealift::new();
    std::fs::write(sealift.path("list.txt"), "app:1\nB:2\n\nhttps://quay.io/c:3\n").unwrap();
    let mut transcript = Transcript::of(&sealift);
    transcript.run("save user/App:1 ok:1 docker://httpd:2.4 --images list.txt -o x.tar");
    transcript.run("save --json docker://httpd:2.4 --images list.txt -o x.tar");
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save user/App:1 ok:1 docker://httpd:2.4 --images list.txt -o x.tar
    2> error: invalid image name "user/App:1": at character 6: repository names are in lower case
    2> error: invalid image name "docker://httpd:2.4": at character 1: an image name has no scheme
    2> hint: write httpd:2.4
    2> error: list.txt, line 2: invalid image name "B:2": at character 1: repository names are in lower case
    2> hint: a list has one image per line; `#` begins a comment
    2> error: list.txt, line 4: invalid image name "https://quay.io/c:3": at character 1: an image name has no scheme
    2> hint: write quay.io/c:3
    exit 2

    $ sealift save --json docker://httpd:2.4 --images list.txt -o x.tar
    {
      "error": {
        "code": null,
        "exit": 2,
        "hint": null,
        "message": "3 errors: invalid image name \"docker://httpd:2.4\": at character 1: an image name has no scheme; list.txt, line 2: invalid image name \"B:2\": at character 1: repository names are in lower case; list.txt, line 4: invalid image name \"https://quay.io/c:3\": at character 1: an image name has no scheme"
      },
      "errors": [
        {
          "code": null,
          "exit": 2,
          "hint": "write httpd:2.4",
          "message": "invalid image name \"docker://httpd:2.4\": at character 1: an image name has no scheme"
        },
        {
          "code": null,
          "exit": 2,
          "hint": "a list has one image per line; `#` begins a comment",
          "message": "list.txt, line 2: invalid image name \"B:2\": at character 1: repository names are in lower case"
        },
        {
          "code": null,
          "exit": 2,
          "hint": "write quay.io/c:3",
          "message": "list.txt, line 4: invalid image name \"https://quay.io/c:3\": at character 1: an image name has no scheme"
        }
      ],
      "schema": 1
    }
    2> error: invalid image name "docker://httpd:2.4": at character 1: an image name has no scheme
    2> hint: write httpd:2.4
    2> error: list.txt, line 2: invalid image name "B:2": at character 1: repository names are in lower case
    2> hint: a list has one image per line; `#` begins a comment
    2> error: list.txt, line 4: invalid image name "https://quay.io/c:3": at character 1: an image name has no scheme
    2> hint: write quay.io/c:3
    exit 2
    "#);
}

#[test]
fn a_plain_tar_is_not_written_under_the_name_of_a_compressed_one() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let mut transcript = Transcript::of(&sealift);
    for name in ["x.tar.gz", "x.tgz", "x y.tar.ZST", "x.tar.xz", "x.zip"] {
        transcript.run_args(&["save", "--from", "layout", "app:1", "-o", name]);
        assert!(!sealift.path(name).exists());
    }
    assert_snapshot!(transcript.text(), @r#"
    $ sealift save --from layout app:1 -o x.tar.gz
    2> error: x.tar.gz: an archive is an uncompressed tar, not .gz: its layers are compressed already, and blobs are read at their offsets
    2> hint: -o x.tar
    exit 2

    $ sealift save --from layout app:1 -o x.tgz
    2> error: x.tgz: an archive is an uncompressed tar, not .tgz: its layers are compressed already, and blobs are read at their offsets
    2> hint: -o x.tar
    exit 2

    $ sealift save --from layout app:1 -o "x y.tar.ZST"
    2> error: x y.tar.ZST: an archive is an uncompressed tar, not .ZST: its layers are compressed already, and blobs are read at their offsets
    2> hint: -o 'x y.tar'
    exit 2

    $ sealift save --from layout app:1 -o x.tar.xz
    2> error: x.tar.xz: an archive is an uncompressed tar, not .xz: its layers are compressed already, and blobs are read at their offsets
    2> hint: -o x.tar
    exit 2

    $ sealift save --from layout app:1 -o x.zip
    2> error: x.zip: an archive is an uncompressed tar, not .zip: its layers are compressed already, and blobs are read at their offsets
    2> hint: -o x.tar
    exit 2
    "#);
    for name in ["gz", "x.gz.tar", "x.oci"] {
        sealift
            .run(&["save", "--from", "layout", "app:1", "-o", name])
            .ok();
    }
}

/// Runs sealift on a terminal, which gets standard output and standard error.
pub fn on_a_terminal(sealift: &Sealift, environment: &str, args: &[&str]) -> Run {
    let inner = sealift.command(args);
    let line: Vec<_> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let mut script = std::process::Command::new("script");
    script
        .args([
            "-qec",
            &format!("env TERM=xterm {environment} {}", line.join(" ")),
            "/dev/null",
        ])
        .current_dir(sealift.home())
        .stdin(std::process::Stdio::null());
    run(&mut script)
}

#[test]
fn a_terminal_gets_bars_and_colour_unless_they_are_turned_off() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    let save = ["save", "--from", "layout", "app:1", "-o", "app.tar"];
    let bars = on_a_terminal(&sealift, "", &save).ok().stdout;
    assert!(bars.contains("saving [") && bars.contains("\u{1b}["), "{bars:?}");
    assert!(
        bars.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("archive sha256:")
    );
    let quiet = on_a_terminal(&sealift, "", &[&save[..], &["-q"]].concat())
        .ok()
        .stdout;
    assert!(
        quiet.starts_with("archive sha256:") && quiet.lines().count() == 1,
        "{quiet:?}"
    );
    let absent = ["verify", "absent.tar"];
    let colour = on_a_terminal(&sealift, "", &absent).code(3).stdout;
    assert!(colour.starts_with("\u{1b}[1;31merror\u{1b}[0m: "), "{colour:?}");
    let plain = on_a_terminal(&sealift, "NO_COLOR=1", &absent).code(3).stdout;
    assert!(
        plain.starts_with("error: ") && !plain.contains('\u{1b}'),
        "{plain:?}"
    );
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error() {
    let sealift = Sealift::new();
    Image::sample("app", "1").build(&sealift.path("layout"), "1");
    sealift
        .run(&["save", "-q", "--from", "layout", "app:1", "-o", "app.tar"])
        .ok();
    let mut transcript = Transcript::of(&sealift);
    for arguments in ["list app.tar", "verify app.tar", "verify --json app.tar", "man"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = sealift.command(&arguments.split(' ').collect::<Vec<_>>());
        let child = command.stdout(full).stderr(std::process::Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        transcript.add(
            &format!("sealift {arguments} > /dev/full"),
            &Run::new(String::new(), &output),
        );
    }
    assert_snapshot!(transcript.text(), @"
    $ sealift list app.tar > /dev/full
    2> error: cannot write standard output: No space left on device (os error 28)
    exit 3

    $ sealift verify app.tar > /dev/full
    2> error: cannot write standard output: No space left on device (os error 28)
    exit 3

    $ sealift verify --json app.tar > /dev/full
    2> error: cannot write standard output: No space left on device (os error 28)
    exit 3

    $ sealift man > /dev/full
    2> error: cannot write standard output: No space left on device (os error 28)
    exit 3
    ");
}
