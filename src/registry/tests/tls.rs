//! https: trust, scheme, and who sees a client certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::{ErrorKind, Hint, Remedy};
use crate::registry::testing::{Fixture, Reply, Server, quick, read, source};
use crate::registry::{ClientCertificate, Options};
use crate::source::Source;

use super::auth::{password, with};

/// Keys and certificates, made once: a CA, a server's and a client's of it, and a self-signed server's.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let script = r#"
                new() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "$@"; }
                new -keyout ca.key -out ca.crt -subj /CN=ca
                new -keyout self.key -out self.crt -subj /CN=self -addext subjectAltName=IP:127.0.0.1
                new -keyout server.key -out server.crt -subj /CN=server -CA ca.crt -CAkey ca.key \
                    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE
                new -keyout other.key -out other.crt -subj /CN=other -CA ca.crt -CAkey ca.key \
                    -addext subjectAltName=DNS:other.example -addext basicConstraints=critical,CA:FALSE
                new -keyout client.key -out client.crt -subj /CN=client -CA ca.crt -CAkey ca.key \
                    -addext basicConstraints=critical,CA:FALSE
            "#;
            let output = Command::new("sh")
                .args(["-ec", script])
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            folder
        })
        .path()
}

fn file(name: &str) -> PathBuf {
    folder().join(name)
}

fn identity(name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (
        vec![CertificateDer::from_pem_file(file(&format!("{name}.crt"))).unwrap()],
        PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap(),
    )
}

fn tls(name: &str, asks_client: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks_client {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(file("ca.crt")).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = identity(name);
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn serve(name: &str, asks_client: bool) -> Server {
    let image = Fixture::new();
    Server::start_tls(tls(name, asks_client), move |seen| image.answer(seen))
}

fn trusting(name: &str) -> Options {
    Options {
        ca_files: vec![file(name)],
        ..quick()
    }
}

fn result(options: Options, server: &Server) -> Result<(), (String, Option<Hint>)> {
    source(options)
        .resolve(&server.reference("1"))
        .map(|_| ())
        .map_err(|error| (error.to_string(), error.hint()))
}

#[test]
fn a_private_ca_has_to_be_named() {
    let server = serve("server", false);
    let (text, hint) = result(trusting("self.crt"), &server).unwrap_err();
    assert!(text.contains("is not trusted: its issuer is unknown"), "{text}");
    assert_eq!(hint, Some(Remedy::OtherCa(server.host()).into()));
    // Nothing that only https needs is configured, so it is asked by https once it refuses http.
    let (_, hint) = result(quick(), &server).unwrap_err();
    assert_eq!(hint, Some(Remedy::TrustCa(server.host()).into()));
    result(trusting("ca.crt"), &server).unwrap();
    // In Docker's layout: in a folder for this host.
    let certs = tempfile::tempdir().unwrap();
    let host = certs.path().join(server.host());
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(file("ca.crt"), host.join("ca.crt")).unwrap();
    let options = Options {
        certificate_folders: vec![certs.path().into()],
        ..quick()
    };
    result(options, &server).unwrap();
}

#[test]
fn a_self_signed_certificate_may_be_named_itself() {
    let server = serve("self", false);
    assert!(result(trusting("ca.crt"), &server).is_err());
    result(trusting("self.crt"), &server).unwrap();
}

#[test]
fn another_name_is_told() {
    let server = serve("other", false);
    let (text, _) = result(trusting("ca.crt"), &server).unwrap_err();
    assert!(
        text.contains("it is for other names: ") && text.contains("other.example"),
        "{text}"
    );
}

#[test]
fn loopback_finds_out_about_https_by_itself() {
    let server = serve("server", false);
    // Nothing that only https needs is configured, so plain HTTP is tried, and then not trusted.
    let (text, _) = result(quick(), &server).unwrap_err();
    assert!(text.contains("is not trusted"), "{text}");
    // Go's and nginx's words for it.
    for words in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<title>400 The plain HTTP request was sent to HTTPS port</title>",
    ] {
        let telling = Server::start(move |_| Reply::new(400, words));
        let (text, _) = result(quick(), &telling).unwrap_err();
        assert!(
            text.contains("answers in plain HTTP where HTTPS was expected"),
            "{text}"
        );
    }
    // A CA is configured, but this server uses plain HTTP.
    let image = Fixture::new();
    let plain = Server::start(move |seen| image.answer(seen));
    result(trusting("ca.crt"), &plain).unwrap();
}

#[test]
fn insecure_is_https_without_trust_or_plain_http() {
    let server = serve("other", false);
    let image = Fixture::new();
    let plain = Server::start(move |seen| image.answer(seen));
    for server in [&server, &plain] {
        for set in [server.host(), "127.0.0.1".into(), "127.0.0.0/8".into()] {
            let options = Options {
                insecure: vec![set.parse().unwrap()],
                ..quick()
            };
            result(options, server).unwrap();
        }
    }
    let (text, _) = result(trusting("ca.crt"), &server).unwrap_err();
    assert!(text.contains("other names"), "{text}");
}

#[test]
fn a_name_of_this_machine_may_be_that_of_a_plain_registry() {
    // A spelling of 127.0.0.1 that only a lookup knows.
    const NAME: &str = "0x7f000001";
    let at = |server: &Server| {
        let host = server.host();
        let (_, port) = host.rsplit_once(':').unwrap();
        let reference = format!("{NAME}:{port}/lib/app:1").parse().unwrap();
        source(quick()).resolve(&reference).map(drop)
    };
    let image = Fixture::new();
    let plain = Server::start(move |seen| image.answer(seen));
    at(&plain).unwrap();
    // TLS that nothing trusts is not gone around.
    let server = serve("server", false);
    let error = at(&server).unwrap_err();
    assert!(error.to_string().contains("is not trusted"), "{error}");
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_client_certificate_is_shown_to_registries_only() {
    let server = serve("server", true);
    let (text, hint) = result(trusting("ca.crt"), &server).unwrap_err();
    assert!(text.contains("asks for a client certificate"), "{text}");
    assert_eq!(hint, Some(Remedy::ClientCertificate.into()));
    let shown = Options {
        client_certificate: Some(ClientCertificate {
            certificate: file("client.crt"),
            key: file("client.key"),
        }),
        ..trusting("ca.crt")
    };
    result(shown.clone(), &server).unwrap();
    // From a folder.
    let certs = tempfile::tempdir().unwrap();
    let host = certs.path().join(server.host());
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(file("client.crt"), host.join("client.cert")).unwrap();
    std::fs::copy(file("client.key"), host.join("client.key")).unwrap();
    let from_folder = Options {
        certificate_folders: vec![certs.path().into()],
        ..trusting("ca.crt")
    };
    result(from_folder, &server).unwrap();
    // Storage that asks for a client certificate gets none.
    let image = Fixture::new();
    let target = format!("https://{}/x", server.host());
    let registry = Server::start_tls(tls("server", false), move |seen| {
        match seen.path.contains("/blobs/") {
            true => Reply::new(307, "").with("Location", target.clone()),
            false => image.answer(seen),
        }
    });
    let image = Fixture::new();
    let error = read(source(shown).open(&registry.repository(), &image.descriptor(&image.layer), 0));
    assert!(error.unwrap_err().contains("asks for a client certificate"));
}

#[test]
fn https_does_not_lead_to_http() {
    let image = Fixture::new();
    let storage = Server::start(|_| Reply::new(200, ""));
    let target = format!("http://{}/x", storage.host());
    let server = Server::start_tls(tls("server", false), {
        let image = image.clone();
        move |seen| match seen.path.contains("/blobs/") {
            true => Reply::new(307, "").with("Location", target.clone()),
            false => image.answer(seen),
        }
    });
    let error =
        read(source(trusting("ca.crt")).open(&server.repository(), &image.descriptor(&image.layer), 0))
            .unwrap_err();
    assert!(error.contains("from https to http"), "{error}");
    assert_eq!(storage.seen().len(), 0);
}

#[test]
fn a_registry_in_https_cannot_name_a_token_server_in_http() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"x"}"#));
    let challenge = format!(r#"Bearer realm="http://{}/token",service="x""#, tokens.host());
    let server = Server::start_tls(tls("server", false), move |_| {
        Reply::new(401, "").with("WWW-Authenticate", challenge.clone())
    });
    let mut options = with(&server.host(), password("ann", "pw"));
    options.ca_files = vec![file("ca.crt")];
    let (text, _) = result(options, &server).unwrap_err();
    assert!(text.contains("in plain HTTP from http://"), "{text}");
    assert_eq!(tokens.seen().len(), 0);
}

#[test]
fn unusable_files_are_named() {
    let empty = folder().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for options in [
        Options {
            ca_files: vec![empty.clone()],
            ..quick()
        },
        Options {
            client_certificate: Some(ClientCertificate {
                certificate: file("client.crt"),
                key: empty.clone(),
            }),
            ..quick()
        },
    ] {
        let error = crate::registry::RegistrySource::new(
            options,
            Arc::new(crate::progress::Silent),
            crate::interrupt::Interrupt::default(),
        )
        .err()
        .unwrap();
        assert!(error.to_string().contains("empty.pem"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
