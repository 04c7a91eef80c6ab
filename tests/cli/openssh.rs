//! The library's signatures against OpenSSH's own programs, in both directions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use sealift::error::ErrorKind;
use sealift::trust::ssh::{AllowedSigners, Signature, SigningKey};

use crate::support::command::run;
use crate::support::ssh::{Agent, KINDS, Ssh};

const NAMESPACE: &str = "sealift-archive";
const MESSAGE: &str = "archive sha256:a8841b9a803280e7e4700445c6c0fc62238410918628f8326cd298e01a91dbc8\n";

fn signed(key: &Path, agent: Option<&Agent>) -> String {
    let key = SigningKey::open(key, agent.map(Agent::socket)).unwrap();
    key.sign(NAMESPACE, MESSAGE.as_bytes()).unwrap().armored()
}

/// The error of opening a key, and its hint.
fn refused(key: &Path, agent: Option<&Path>) -> (ErrorKind, String) {
    let error = SigningKey::open(key, agent).unwrap_err();
    let hint = error.hint().map(|hint| hint.to_string()).unwrap_or_default();
    (error.kind(), format!("{error} | {hint}"))
}

#[test]
fn ssh_keygen_verifies_what_is_signed_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    let agent = Agent::start(folder.path());
    for (at, kind) in KINDS.into_iter().enumerate() {
        let name = format!("key{at}");
        ssh.key(&name, kind, "");
        ssh.allow("allowed", &[("alice", &name)]);
        agent.add(&[&name]).ok();
        let public = ssh.path(&format!("{name}.pub"));
        for made in [signed(&ssh.path(&name), None), signed(&public, Some(&agent))] {
            fs::write(ssh.path("made.sig"), &made).unwrap();
            ssh.verify("allowed", "alice", NAMESPACE, "made.sig", MESSAGE)
                .ok();
            ssh.verify("allowed", "alice", "file", "made.sig", MESSAGE)
                .code(255);
            ssh.verify("allowed", "alice", NAMESPACE, "made.sig", "archive\n")
                .code(255);
        }
        // Byte by byte the same, where a key signs in one way only.
        fs::write(ssh.path("line"), MESSAGE).unwrap();
        let _ = fs::remove_file(ssh.path("line.sig"));
        ssh.sign(NAMESPACE, &name, "line");
        let theirs = fs::read_to_string(ssh.path("line.sig")).unwrap();
        if kind.0 != "ecdsa" {
            assert_eq!(signed(&ssh.path(&name), None), theirs);
        }
        let allowed = AllowedSigners::read(&ssh.path("allowed")).unwrap();
        let signature = Signature::parse(theirs.as_bytes()).unwrap();
        assert_eq!(signature.key().fingerprint(), ssh.fingerprint(&name));
        let signer = allowed
            .check(
                &signature,
                NAMESPACE,
                MESSAGE.as_bytes(),
                Some("alice"),
                UNIX_EPOCH,
            )
            .unwrap();
        assert_eq!(signer.key, ssh.fingerprint(&name));
    }
}

#[test]
fn a_key_with_a_passphrase_is_that_of_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    ssh.key("key", ("ed25519", "256"), "secret");
    ssh.allow("allowed", &[("alice", "key")]);
    let key = ssh.path("key");
    let (kind, said) = refused(&key, None);
    assert_eq!(kind, ErrorKind::Usage);
    assert!(
        said.contains("it is encrypted, and there is no ssh-agent"),
        "{said}"
    );
    assert!(said.contains("ssh-add"), "{said}");
    let agent = Agent::start(folder.path());
    let (_, said) = refused(&key, Some(agent.socket()));
    assert!(
        said.contains("it is encrypted, and the ssh-agent does not have it"),
        "{said}"
    );
    let (_, said) = refused(&ssh.path("key.pub"), Some(agent.socket()));
    assert!(
        said.contains("it is a public key, and the ssh-agent does not have it"),
        "{said}"
    );
    agent.add(&["key"]).ok();
    fs::write(ssh.path("made.sig"), signed(&key, Some(&agent))).unwrap();
    ssh.verify("allowed", "alice", NAMESPACE, "made.sig", MESSAGE)
        .ok();
    // A key that was removed meanwhile, and a locked or dead agent.
    let open = SigningKey::open(&key, Some(agent.socket())).unwrap();
    agent.add(&["-D"]).ok();
    let error = open.sign(NAMESPACE, b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("it refused to sign"), "{error}");
    let socket = agent.socket().to_path_buf();
    drop(agent);
    let (kind, said) = refused(&key, Some(&socket));
    assert_eq!(kind, ErrorKind::Io);
    assert!(said.contains("cannot ask the ssh-agent"), "{said}");
}

#[test]
fn an_agent_that_lies_signs_nothing() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    ssh.key("key", ("ed25519", "256"), "");
    let own = SigningKey::open(&ssh.path("key"), None).unwrap();
    let text = fs::read_to_string(ssh.path("key.pub")).unwrap();
    let blob = {
        use base64::Engine as _;
        let word = text.split(' ').nth(1).unwrap();
        base64::engine::general_purpose::STANDARD.decode(word).unwrap()
    };
    drop(own);
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let keys = [&[12, 0, 0, 0, 1][..], &string(&blob), &string(b"")].concat();
    let signature = |bytes: &[u8]| string(&[string(b"ssh-ed25519"), string(bytes)].concat());
    for (at, (answers, says)) in [
        (vec![vec![5]], "not one of an agent"),
        (vec![vec![12, 0xff, 0xff, 0xff, 0xff]], "not one of an agent"),
        (vec![vec![]], "not one of an agent"),
        (vec![keys.clone(), vec![5]], "refused to sign"),
        (
            vec![keys.clone(), [&[14][..], &signature(&[7; 64])].concat()],
            "is not one by this key",
        ),
        (
            vec![keys.clone(), [&[14][..], &signature(&[])].concat()],
            "is not one by this key",
        ),
        (vec![keys.clone(), vec![14, 0, 0, 0, 0]], "is malformed"),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = ssh.path(&format!("liar{at}"));
        let listener = UnixListener::bind(&socket).unwrap();
        let served = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
                stream.read_exact(&mut request).unwrap();
                let length = u32::try_from(answer.len()).unwrap();
                stream.write_all(&length.to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        let made = SigningKey::open(&ssh.path("key.pub"), Some(&socket))
            .and_then(|key| key.sign(NAMESPACE, b"message").map(|_| ()));
        let error = made.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        served.join().unwrap();
    }
    // One that says that it has a lot to say.
    let socket = ssh.path("flood");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.accept().unwrap().0.write_all(&[0xff; 64]).unwrap());
    let (_, said) = refused(&ssh.path("key.pub"), Some(&socket));
    assert!(said.contains("its answer would have 4294967295 bytes"), "{said}");
}

#[test]
fn keys_that_cannot_sign_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    ssh.key("p521", ("ecdsa", "521"), "");
    ssh.key("ed", ("ed25519", "256"), "");
    ssh.key("rsa", ("rsa", "2048"), "");
    ssh.key("large", ("rsa", "5120"), "");
    run(&mut ssh.keygen(&[
        "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", "pem",
    ]))
    .ok();
    ssh.key("open", ("ed25519", "256"), "");
    fs::set_permissions(ssh.path("open"), fs::Permissions::from_mode(0o640)).unwrap();
    let text = fs::read_to_string(ssh.path("ed")).unwrap();
    for (name, text) in [
        ("empty", String::new()),
        ("cut", text[..text.len() / 2].to_string()),
        (
            "half",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----"
                .into(),
        ),
        ("big", "x".repeat(100_000)),
        ("text", "ssh-ed25519 AAAA".into()),
    ] {
        fs::write(ssh.path(name), text).unwrap();
        fs::set_permissions(ssh.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    run(std::process::Command::new("mkfifo").arg(ssh.path("fifo"))).ok();
    for (name, kind, says) in [
        ("p521", ErrorKind::Usage, "(P-521) is not supported"),
        (
            "pem",
            ErrorKind::Usage,
            "not a private key in OpenSSH's format | `ssh-keygen -p -f",
        ),
        (
            "open",
            ErrorKind::Io,
            "other users may read it (mode 0640) | chmod 600",
        ),
        (
            "large",
            ErrorKind::Usage,
            "an RSA key of this form or size is not supported, and there is no ssh-agent",
        ),
        (
            "empty",
            ErrorKind::Usage,
            "neither a private nor a public SSH key",
        ),
        (
            "cut",
            ErrorKind::Usage,
            "not a whole private key: it does not end with",
        ),
        (
            "half",
            ErrorKind::Usage,
            "not a whole private key: it ends too early",
        ),
        ("big", ErrorKind::Io, "not a file of a reasonable size"),
        ("text", ErrorKind::Usage, "neither a private nor a public SSH key"),
        ("fifo", ErrorKind::Io, "it is a FIFO"),
        (".", ErrorKind::Io, "cannot read the key"),
        ("absent", ErrorKind::Io, "No such file"),
        (
            "ed.pub",
            ErrorKind::Usage,
            "it is a public key, and there is no ssh-agent: SSH_AUTH_SOCK is not set",
        ),
    ] {
        let (found, said) = refused(&ssh.path(name), None);
        assert_eq!(found, kind, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
    }
    // The agent signs with RSA keys of any size.
    let agent = Agent::start(folder.path());
    agent.add(&["large"]).ok();
    ssh.allow("allowed", &[("alice", "large")]);
    fs::write(ssh.path("made.sig"), signed(&ssh.path("large"), Some(&agent))).unwrap();
    ssh.verify("allowed", "alice", NAMESPACE, "made.sig", MESSAGE)
        .ok();
}

#[test]
fn a_damaged_private_key_is_never_used() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    for kind in [("ed25519", "256"), ("ecdsa", "256")] {
        let _ = fs::remove_file(ssh.path("key"));
        ssh.key("key", kind, "");
        ssh.allow("allowed", &[("alice", "key")]);
        let text = fs::read_to_string(ssh.path("key")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let blob = base64.decode(lines[1..lines.len() - 1].concat()).unwrap();
        let allowed = AllowedSigners::read(&ssh.path("allowed")).unwrap();
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 0x10;
            let text = format!(
                "{}\n{}\n{}\n",
                lines[0],
                base64.encode(changed),
                lines[lines.len() - 1]
            );
            fs::write(ssh.path("key"), text).unwrap();
            let Ok(key) = SigningKey::open(&ssh.path("key"), None) else {
                continue;
            };
            // What is still a key, such as with another comment, signs as that key.
            let signature = key.sign(NAMESPACE, MESSAGE.as_bytes()).unwrap();
            let checked = allowed.check(&signature, NAMESPACE, MESSAGE.as_bytes(), None, UNIX_EPOCH);
            assert!(checked.is_ok(), "{kind:?}, byte {at}");
        }
    }
}

#[test]
fn allowed_signers_mean_what_they_mean_to_ssh_keygen() {
    let folder = tempfile::tempdir().unwrap();
    let ssh = Ssh(folder.path());
    ssh.key("key", ("ed25519", "256"), "");
    ssh.key("other", ("ed25519", "256"), "");
    fs::write(ssh.path("line"), MESSAGE).unwrap();
    ssh.sign(NAMESPACE, "key", "line");
    let signature = Signature::parse(&fs::read(ssh.path("line.sig")).unwrap()).unwrap();
    let (key, other) = (ssh.public("key"), ssh.public("other"));
    // 2026-01-01T00:00:00Z
    let now = 1_767_225_600;
    for (text, is_good) in [
        (format!("alice {key}"), true),
        (format!("alice {other}"), false),
        (format!("bob {key}"), false),
        (format!("bob,alice {key}"), true),
        (format!("\"bob,alice\" {key}"), true),
        (format!("a?ice {key}"), true),
        (format!("!alice,* {key}"), false),
        (format!("*,!alice {key}"), false),
        (format!("!bob,* {key}"), true),
        (format!("!bob {key}"), false),
        (format!("alice {key} comment with words"), true),
        (format!("\talice\t\t{key}"), true),
        (format!("# alice\n\n alice {key}\r\n"), true),
        (format!("alice namespaces=\"sealift-archive\" {key}"), true),
        (format!("alice namespaces=\"file\" {key}"), false),
        (format!("alice namespaces=\"file,sealift-*\" {key}"), true),
        (format!("alice namespaces=\"*,!sealift-archive\" {key}"), false),
        (format!("alice namespaces=\"file\" {key}\nalice {key}"), true),
        (format!("alice Namespaces=\"sealift-archive\" {key}"), true),
        (format!("alice cert-authority {key}"), false),
        (format!("alice valid-after=\"20260101Z\" {key}"), true),
        (format!("alice valid-after=\"20260101000001Z\" {key}"), false),
        (format!("alice valid-before=\"20260101000000Z\" {key}"), true),
        (format!("alice valid-before=\"20251231235959Z\" {key}"), false),
        (
            format!("alice valid-after=\"202512310000Z\",valid-before=\"20260102Z\" {key}"),
            true,
        ),
        (
            format!("alice valid-before=\"20260102Z\",namespaces=\"file\" {key}"),
            false,
        ),
        // Refused as a whole by both.
        (format!("alice valid-before=\"2026\" {key}"), false),
        (format!("alice unknown=\"x\" {key}"), false),
        (format!("alice namespaces=\"x {key}"), false),
        (
            format!("alice namespaces=\"x\",namespaces=\"sealift-archive\" {key}"),
            false,
        ),
        (
            format!("alice valid-after=\"20260102Z\",valid-before=\"20260101Z\" {key}"),
            false,
        ),
        ("alice".into(), false),
        (String::new(), false),
    ] {
        fs::write(ssh.path("allowed"), &text).unwrap();
        let time = format!("verify-time={}Z", "20260101000000");
        let theirs = ssh.verify_with(
            &[
                "-f", "allowed", "-I", "alice", "-n", NAMESPACE, "-s", "line.sig", "-O", &time,
            ],
            MESSAGE,
        );
        assert_eq!(theirs.code == Some(0), is_good, "{text}: {}", theirs.stderr);
        let ours = AllowedSigners::read(&ssh.path("allowed")).is_ok_and(|allowed| {
            let now = UNIX_EPOCH + Duration::from_secs(now);
            allowed
                .check(&signature, NAMESPACE, MESSAGE.as_bytes(), Some("alice"), now)
                .is_ok()
        });
        assert_eq!(ours, is_good, "{text}");
    }
}
