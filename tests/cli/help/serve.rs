//! The help page of `serve`.

use insta::assert_snapshot;

use super::help;

#[test]
fn help_of_serve() {
    assert_snapshot!(help("serve --help"), @"
    $ sealift serve --help
    Serve archives as a read-only registry, straight from their files

    Usage: sealift serve [OPTIONS] <FILE>...

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

          --listen <ADDR:PORT>
              Address and port to listen on; port 0 picks a free one

              [default: 127.0.0.1:5000]

          --tls-cert <FILE>
              Certificate chain for TLS, as a PEM file

          --tls-key <FILE>
              Private key of the certificate, as a PEM file

          --htpasswd <FILE>
              Answer only the users in this file of `htpasswd -B`

          --verify
              Verify all blobs before the first request is answered, instead of each before it is first
              sent

          --print-config <CLIENT>
              Print the configuration that a client needs, and serve nothing

              Possible values:
              - docker:     Docker's daemon.json
              - containerd: A hosts.toml for each registry
              - podman:     A drop-in for registries.conf, which skopeo, buildah and CRI-O read too
              - k3s:        The registries.yaml of k3s and RKE2

        <options of every command>

    Examples:
      sealift serve images.tar
      sealift serve images.tar layout --listen 192.168.1.5:5000 --tls-cert tls.crt --tls-key tls.key
      sealift serve images.tar --print-config containerd     # what clients need, for this address
      docker pull 127.0.0.1:5000/library/httpd:2.4

    An image is served under its name, with and without the host of its registry:
    docker.io/library/httpd:2.4 as library/httpd and as docker.io/library/httpd. Nothing is unpacked.
    Each blob is verified before it is sent for the first time. An archive that is replaced is opened
    again. A browser shows a page with the images, a search, and commands that pull them. A signal lets
    what is under way finish, for 30 seconds at most; a second one ends it at once.

    The first line on standard output says where it listens. Each request is one line on standard error;
    with --json, each is one JSON object on standard output.
    ");
}
