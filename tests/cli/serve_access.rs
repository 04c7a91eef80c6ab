//! `sealift serve`: passwords, TLS, and the configuration of clients.

use std::fs;
use std::process::Command;

use crate::serve::{images, stored};
use crate::support::{Sealift, Serving, run};

#[test]
fn only_users_of_the_file_are_answered() {
    let sealift = Sealift::new();
    images(&sealift);
    let users = run(Command::new("htpasswd").args(["-Bbn", "-C", "4", "anna", "se:cret"])).ok();
    fs::write(sealift.path("users"), users.stdout).unwrap();
    let serving = Serving::start(&sealift, &["layout", "--htpasswd", "users"]);
    let refused = serving.get("/v2/");
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"sealift\"")
    );
    let encoded = |text: &str| {
        let mut command = sealift.shell(&format!("printf %s '{text}' | base64 -w0"));
        format!("Basic {}", run(&mut command).ok().stdout)
    };
    for (given, status) in [
        ("anna:se:cret", 200),
        ("anna:se:cret", 200),
        ("anna:wrong", 401),
        ("otto:se:cret", 401),
        ("anna", 401),
    ] {
        for path in ["/", "/v2/", "/v2/_catalog", "/v2/library/httpd/manifests/2.4"] {
            let answer = serving.ask("GET", path, &[("Authorization", &encoded(given))]);
            assert_eq!(answer.status, status, "{given} {path}");
        }
    }
    let authorization = encoded("anna:se:cret");
    let path = "/?image=docker.io/library/httpd:2.4";
    let page = serving.ask("GET", path, &[("Authorization", &authorization)]);
    let page = String::from_utf8(page.body).unwrap();
    let login = format!("<code>docker login {}</code>", serving.address);
    assert!(page.contains(&login), "{page}");
    assert!(!serving.log().contains("cret"), "{}", serving.log());
    for (text, says) in [
        ("anna:{SHA}x\n", "line 1: not a password of bcrypt"),
        ("# none\n", "it has no users"),
    ] {
        fs::write(sealift.path("bad"), text).unwrap();
        let refused = sealift.run(&["serve", "layout", "--htpasswd", "bad"]).code(3);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}

#[test]
fn tls_is_spoken_with_the_given_certificate() {
    let sealift = Sealift::new();
    let [one, ..] = images(&sealift);
    let serving = Serving::start_tls(&sealift, &["layout"]);
    assert!(serving.first.contains("https://"), "{}", serving.first);
    let layer = &one.manifests[0].layers[0].digest;
    let path = format!("/v2/library/httpd/blobs/{layer}");
    let got = sealift.path("got");
    run(serving.curl(&sealift, &path).arg("--output").arg(&got)).ok();
    assert_eq!(fs::read(got).unwrap(), stored(&one, layer));
    let url = format!("https://{}{path}", serving.address);
    run(Command::new("curl").args(["--silent", &url])).code(60);

    // The page names commands that use TLS.
    let page = run(&mut serving.curl(&sealift, "/?image=docker.io/library/httpd:2.4")).ok();
    let command = format!("<code>podman pull {}/library/httpd:2.4</code>", serving.address);
    assert!(page.stdout.contains(&command), "{}", page.stdout);
    assert!(!page.stdout.contains("plain HTTP"), "{}", page.stdout);
    let wrong = [
        "serve",
        "layout",
        "--tls-cert",
        "tls/server.crt",
        "--tls-key",
        "tls/ca.key",
    ];
    for more in [&[][..], &["--print-config", "docker"]] {
        let said = sealift.run(&[&wrong, more].concat()).code(3);
        let expected =
            "error: cannot use tls/ca.key: it is not the key of the certificate in tls/server.crt\n";
        assert_eq!(said.stderr, expected);
    }
    sealift.run(&wrong[..4]).code(2);
}

#[test]
fn an_address_without_a_host_is_refused_with_an_example() {
    let said = Sealift::new()
        .run(&["serve", "layout", "--listen", "5000"])
        .code(2);
    assert!(
        said.stderr.contains("such as 192.168.1.5:5000"),
        "{}",
        said.stderr
    );
}

#[test]
fn clients_are_told_their_configuration() {
    let sealift = Sealift::new();
    images(&sealift);
    for (client, says) in [
        ("docker", "\"registry-mirrors\""),
        (
            "containerd",
            "# /etc/containerd/certs.d/registry.example:5000/hosts.toml",
        ),
        ("podman", "location = \"127.0.0.1:5000/quay.io\""),
        ("k3s", "- \"http://127.0.0.1:5000\""),
    ] {
        let said = sealift.run(&["serve", "layout", "--print-config", client]).ok();
        assert!(said.stdout.contains(says), "{}", said.stdout);
    }
    let tls = ["--listen", "10.0.0.1:443", "--tls-cert", "c", "--tls-key", "k"];
    let args = [&["serve", "layout", "--json", "--print-config", "k3s"], &tls[..]].concat();
    let document = sealift.run(&args).ok().json();
    assert!(
        document["config"]
            .as_str()
            .unwrap()
            .contains("https://10.0.0.1:443"),
        "{document}"
    );
    assert_eq!(document["client"], "k3s");
    sealift
        .run(&[
            "serve",
            "layout",
            "--listen",
            "127.0.0.1:0",
            "--print-config",
            "k3s",
        ])
        .code(2);
}
