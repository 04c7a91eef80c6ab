//! `docker sealift` without Docker: what a client asks of a plugin, and how it ends.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::support::{Image, Run, Sealift, Transcript, run};

/// A sealift that is installed as a plugin, by a link.
struct Plugin(Sealift);

impl Plugin {
    fn new() -> Self {
        let sealift = Sealift::new();
        symlink(env!("CARGO_BIN_EXE_sealift"), sealift.path("docker-sealift")).unwrap();
        Self(sealift)
    }

    /// The plugin with these words, as a client runs it.
    fn command(&self, words: &str) -> Command {
        let sealift = self.0.command(&[""; 0]);
        let environment = sealift.get_envs();
        let mut command = Command::new(self.0.path("docker-sealift"));
        command
            .args(words.split_whitespace())
            .current_dir(self.0.home())
            .env_clear()
            .envs(environment.filter_map(|(name, value)| Some((name, value?))))
            .env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "/usr/bin/docker")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &str) -> Run {
        run(&mut self.command(words))
    }
}

#[test]
fn a_client_gets_the_answers_of_the_protocol() {
    let plugin = Plugin::new();
    let mut transcript = Transcript::of(&plugin.0);
    let version = env!("CARGO_PKG_VERSION");
    transcript
        .name(format!("\"Version\": \"{version}\""), "\"Version\": \"...\"")
        .name(format!("sealift {version}"), "sealift <version>");
    for words in [
        "docker-cli-plugin-metadata",
        "__complete sealift ver",
        "__complete sealift load --atta",
        "__completeNoDesc sealift load --attach o",
        "sealift --version",
        "sealift list absent.tar",
        "sealift save",
        "sealift load x --no-such",
    ] {
        transcript.add(&format!("docker-sealift {words}"), &plugin.run(words));
    }
    assert_snapshot!(transcript.text(), @r#"
    $ docker-sealift docker-cli-plugin-metadata
    {
      "SchemaVersion": "0.1.0",
      "ShortDescription": "Move container images between hosts that cannot reach each other, and keep every digest",
      "Vendor": "sealift",
      "Version": "..."
    }

    $ docker-sealift __complete sealift ver
    verify	Verify every byte of archives, of images in registries, or of a registry's storage
    :4

    $ docker-sealift __complete sealift load --atta
    --attach	How to attach digests to Docker's classic store
    :4

    $ docker-sealift __completeNoDesc sealift load --attach o
    offline
    :4

    $ docker-sealift sealift --version
    sealift <version>

    $ docker-sealift sealift list absent.tar
    2> error: cannot open absent.tar: No such file or directory (os error 2)
    exit 3

    $ docker-sealift sealift save
    2> error: the following required arguments were not provided:
    2>   --output <FILE>
    2>
    2> Usage: docker sealift save --output <FILE> [IMAGE]...
    2>
    2> For more information, try '--help'.
    exit 2

    $ docker-sealift sealift load x --no-such
    2> error: unexpected argument '--no-such' found
    2>
    2>   tip: a similar argument exists: '--no-trunc'
    2>
    2> Usage: docker sealift load --no-trunc <FILE>...
    2>
    2> For more information, try '--help'.
    exit 2
    "#);
}

#[test]
fn help_names_commands_as_docker_calls_them() {
    let plugin = Plugin::new();
    let own = plugin.0.run(&["list", "--help"]).ok().stdout;
    let of_docker = plugin.run("sealift list --help").ok().stdout;
    assert!(
        own.contains("Usage: sealift list ") && own.contains("  sealift list images.tar\n"),
        "{own}"
    );
    assert!(
        !of_docker.replace("docker sealift", "").contains("sealift list "),
        "{of_docker}"
    );
    assert_eq!(
        of_docker.matches("docker sealift list").count(),
        own.matches("sealift list").count()
    );
    // As `docker help sealift list` and `docker --help sealift list` ask for it.
    for words in ["help sealift list", "--help sealift list"] {
        assert_eq!(plugin.run(words).ok().stdout, of_docker, "{words}");
    }
    let all = plugin.run("sealift --help").ok().stdout;
    assert!(
        all.contains("\nUsage: docker sealift [OPTIONS] <COMMAND>\n"),
        "{all}"
    );
    assert!(all.contains("    sudo docker sealift load images.tar"), "{all}");
    assert_eq!(plugin.run("help sealift").ok().stdout, all);
    // Without arguments, as for any command of Docker's.
    let bare = plugin.run("sealift").code(2);
    assert!(bare.stderr.contains("Usage: docker sealift "), "{bare:?}");
}

#[test]
fn it_works_under_that_name_without_docker_too() {
    let plugin = Plugin::new();
    Image::sample("app", "1").build(&plugin.0.path("layout"), "1");
    let own = plugin.0.run(&["list", "layout"]).ok().stdout;
    for words in [
        "list layout",
        "sealift list layout",
        "--config /c sealift list layout",
    ] {
        assert_eq!(plugin.run(words).ok().stdout, own, "{words}");
    }
}

#[test]
fn options_of_docker_are_used_or_refused() {
    let plugin = Plugin::new();
    let meta = plugin
        .0
        .path("config/contexts/meta/a51146d38077ff992eba84cf1d5e9b249073503eb74868699016153b031a38f7");
    fs::create_dir_all(&meta).unwrap();
    let text = r#"{"Name":"lab","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///lab.sock"}}}"#;
    fs::write(meta.join("meta.json"), text).unwrap();
    fs::write(plugin.0.path("images.tar"), "").unwrap();
    let mut transcript = Transcript::of(&plugin.0);
    for options in [
        "-H unix:///own.sock",
        "--config config --context lab",
        "--context lab",
        "-H unix:///a.sock -H unix:///b.sock",
        "-H unix:///a.sock --context lab",
        "-H ssh://host",
        "-H tcp://127.0.0.1:1 --tlsverify --tlscacert /etc/root.pem",
        "--log-level error -H unix:///own.sock",
    ] {
        let words = format!("{options} sealift load images.tar");
        transcript.add(&format!("docker {words}"), &plugin.run(&words));
    }
    // What the environment says about the engine is worth less.
    let words = "--host unix:///own.sock sealift load images.tar";
    let mut command = plugin.command(words);
    command
        .env("DOCKER_HOST", "unix:///other.sock")
        .env("DOCKER_CONTEXT", "other");
    transcript.add(&format!("DOCKER_HOST=... docker {words}"), &run(&mut command));
    let words = "--context lab --config config sealift load images.tar";
    let mut command = plugin.command(words);
    command.env("DOCKER_HOST", "unix:///other.sock");
    transcript.add(&format!("DOCKER_HOST=... docker {words}"), &run(&mut command));
    assert_snapshot!(transcript.text(), @r#"
    $ docker -H unix:///own.sock sealift load images.tar
    2> error: docker at unix:///own.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket
    exit 5

    $ docker --config config --context lab sealift load images.tar
    2> error: docker at unix:///lab.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket
    exit 5

    $ docker --context lab sealift load images.tar
    2> error: context "lab" not found in <home>/.docker/contexts
    2> hint: docker context ls shows those that exist
    exit 7

    $ docker -H unix:///a.sock -H unix:///b.sock sealift load images.tar
    2> error: docker's --host was given more than once
    2> hint: give it once
    exit 2

    $ docker -H unix:///a.sock --context lab sealift load images.tar
    2> error: docker's --host and --context contradict each other
    2> hint: leave out one of them
    exit 2

    $ docker -H ssh://host sealift load images.tar
    2> error: DOCKER_HOST: "ssh://host": engines over ssh are not supported yet
    2> hint: run sealift on that host, or forward its socket: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST, then DOCKER_HOST=unix:///tmp/docker.sock
    exit 2

    $ docker -H tcp://127.0.0.1:1 --tlsverify --tlscacert /etc/root.pem sealift load images.tar
    2> error: docker's --tlscacert, --tlscert and --tlskey name files of several folders, or with other names
    2> hint: put ca.pem, cert.pem and key.pem into one folder, and name it with DOCKER_CERT_PATH
    exit 2

    $ docker --log-level error -H unix:///own.sock sealift load images.tar
    2> error: docker at unix:///own.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket
    exit 5

    $ DOCKER_HOST=... docker --host unix:///own.sock sealift load images.tar
    2> error: docker at unix:///own.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket
    exit 5

    $ DOCKER_HOST=... docker --context lab --config config sealift load images.tar
    2> error: docker at unix:///lab.sock: connect: No such file or directory (os error 2)
    2> hint: is Docker installed and running? DOCKER_HOST names another socket
    exit 5
    "#);
}

/// The plugin, which waits for an archive on standard input, and its listening client.
fn waiting(plugin: &Plugin) -> (UnixListener, std::process::Child) {
    let socket = plugin.0.path("client.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let child = plugin
        .command("sealift verify -")
        .env("DOCKER_CLI_PLUGIN_SOCKET", &socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (listener, child)
}

#[test]
fn it_ends_when_its_client_does() {
    let plugin = Plugin::new();
    let (listener, mut child) = waiting(&plugin);
    let _stdin = child.stdin.take();
    let (connection, _) = listener.accept().unwrap();
    drop(connection);
    let ended = Run::new("docker-sealift".into(), &child.wait_with_output().unwrap());
    // A client would make 255 of the signal itself.
    assert_eq!(ended.clone().code(143).stderr, "error: interrupted by SIGTERM\n");
}

#[test]
fn a_signal_becomes_an_exit_code() {
    let plugin = Plugin::new();
    let (listener, mut child) = waiting(&plugin);
    let _stdin = child.stdin.take();
    // Connected, it handles signals.
    let (mut connection, _) = listener.accept().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = Run::new("docker-sealift".into(), &child.wait_with_output().unwrap());
    assert_eq!(ended.clone().code(130).stderr, "error: interrupted by SIGINT\n");
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}
