//! containers' policy.json, which podman, skopeo, buildah and CRI-O enforce: its rules for images of registries.
//!
//! Source: containers/image, `docs/containers-policy.json.5.md`, `signature/policy_config.go`,
//! `signature/policy_config_sigstore.go` and `docker/policyconfiguration/naming.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::check::Signers;
use super::super::key::PublicKey;
use super::super::log::Logs;
use super::super::signed_identity::SignedIdentity;
use super::super::signer::TrustedKey;
use super::{Action, Demand, Refusal, Require, Rules};
use crate::error::Result as ReadResult;
use crate::oci::{Reference, Repository, json};

/// Most keys of a requirement.
const MAX_KEYS: usize = 1000;

type Read<'r> = &'r mut dyn FnMut(&Path) -> ReadResult<Vec<u8>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Requirement {
    #[serde(rename = "insecureAcceptAnything")]
    Accept {},
    #[serde(rename = "reject")]
    Reject {},
    /// Signatures of GPG, which are not in registries.
    #[serde(rename = "signedBy", rename_all = "camelCase")]
    SignedBy {
        #[serde(rename = "keyType")]
        _key_type: Option<IgnoredAny>,
        #[serde(rename = "keyPath")]
        _key_path: Option<IgnoredAny>,
        #[serde(rename = "keyPaths")]
        _key_paths: Option<IgnoredAny>,
        #[serde(rename = "keyData")]
        _key_data: Option<IgnoredAny>,
        #[serde(rename = "signedIdentity")]
        _identity: Option<IgnoredAny>,
    },
    #[serde(rename = "sigstoreSigned")]
    Sigstore(Box<Sigstore>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<IgnoredAny>,
    pki: Option<IgnoredAny>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    signed_identity: Option<Identity>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Identity {
    #[serde(rename = "matchExact")]
    MatchExact {},
    #[serde(rename = "matchRepoDigestOrExact")]
    MatchRepoDigestOrExact {},
    #[serde(rename = "matchRepository")]
    MatchRepository {},
    #[serde(rename = "exactReference")]
    ExactReference {
        #[serde(rename = "dockerReference")]
        name: String,
    },
    #[serde(rename = "exactRepository")]
    ExactRepository {
        #[serde(rename = "dockerRepository")]
        name: String,
    },
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    Remap { prefix: String, signed_prefix: String },
}

/// Parses a policy.json; gives the default and the rules for images of registries.
pub(super) fn parse(bytes: &[u8], read: Read<'_>) -> Result<(Action, Rules), Refusal> {
    let mut document: Document = json::from_slice(bytes).map_err(|error| error.to_string())?;
    let default = action(document.default, read)?;
    let scopes = document.transports.remove("docker").unwrap_or_default();
    let scopes = scopes.into_iter().map(|(scope, requirements)| {
        let action = action(requirements, read)?;
        Ok((scope, action))
    });
    let scopes: BTreeMap<String, Action> = scopes.collect::<Result<_, Refusal>>()?;
    let mut others = document.transports.values().flat_map(BTreeMap::values);
    if others.any(Vec::is_empty) {
        return Err(String::from("a list of requirements is empty").into());
    }
    Ok((default, Rules::Scopes(scopes)))
}

/// What a list of requirements demands: an image has to meet all of them.
fn action(requirements: Vec<Requirement>, read: Read<'_>) -> Result<Action, Refusal> {
    if requirements.is_empty() {
        return Err(String::from("a list of requirements is empty").into());
    }
    let (mut demands, mut is_rejected) = (Vec::new(), false);
    for requirement in requirements {
        match requirement {
            Requirement::Accept {} => {}
            Requirement::Reject {} => is_rejected = true,
            Requirement::SignedBy { .. } => demands.push(unsupported("signatures of GPG (signedBy)")),
            Requirement::Sigstore(sigstore) => demands.push(demand(*sigstore, read)?),
        }
    }
    Ok(match demands.is_empty() {
        _ if is_rejected => Action::Reject,
        true => Action::Accept,
        false => Action::Verify(demands),
    })
}

/// podman and skopeo check the manifest that they pull, which is that of a platform.
fn unsupported(what: &str) -> Demand {
    Demand {
        require: Require::Platform,
        signers: Signers::default(),
        unsupported: Some(what.into()),
    }
}

fn demand(sigstore: Sigstore, read: Read<'_>) -> Result<Demand, Refusal> {
    let sources = [
        sigstore.key_path.is_some(),
        sigstore.key_paths.is_some(),
        sigstore.key_data.is_some(),
        sigstore.key_datas.is_some(),
        sigstore.fulcio.is_some(),
        sigstore.pki.is_some(),
    ];
    if sources.iter().filter(|is_there| **is_there).count() != 1 {
        let reason = "sigstoreSigned needs one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki";
        return Err(String::from(reason).into());
    }
    let identity = identity(sigstore.signed_identity)?;
    if sigstore.fulcio.is_some() {
        return Ok(unsupported("keyless signatures (fulcio)"));
    }
    if sigstore.pki.is_some() {
        return Ok(unsupported("signatures by certificates (pki)"));
    }
    let paths = sigstore
        .key_path
        .into_iter()
        .chain(sigstore.key_paths.unwrap_or_default());
    let data = sigstore
        .key_data
        .into_iter()
        .chain(sigstore.key_datas.unwrap_or_default());
    let files = pem_files(paths, data, read)?;
    let log_paths = sigstore.rekor_public_key_path.into_iter();
    let log_paths = log_paths.chain(sigstore.rekor_public_key_paths.unwrap_or_default());
    let log_data = sigstore.rekor_public_key_data.into_iter();
    let log_data = log_data.chain(sigstore.rekor_public_key_datas.unwrap_or_default());
    let logs = pem_files(log_paths, log_data, read)?;
    let logs = match logs.is_empty() {
        true => None,
        false => {
            let all: Vec<Vec<u8>> = logs.into_iter().map(|(_, pem)| pem).collect();
            let logs = Logs::parse(&all.join(&b'\n'));
            Some(logs.map_err(|reason| format!("rekorPublicKey: {reason}"))?)
        }
    };
    let keys = files.into_iter().map(|(name, pem)| {
        let key = PublicKey::from_pem(&pem).map_err(|reason| format!("{name}: {reason}"))?;
        Ok(TrustedKey {
            name: match name.as_str() {
                "keyData" => format!("the key {}", key.id()),
                _ => name,
            },
            key,
            logs: logs.clone(),
        })
    });
    let keys: Vec<TrustedKey> = keys.collect::<Result<_, String>>()?;
    if keys.is_empty() {
        return Err(String::from("sigstoreSigned has no key").into());
    }
    Ok(Demand {
        require: Require::Platform,
        signers: Signers {
            keys,
            certificates: Vec::new(),
            identity: Some(identity),
        },
        unsupported: None,
    })
}

/// PEM files, by path or in base64, with what they are called in messages.
fn pem_files(
    paths: impl Iterator<Item = PathBuf>,
    data: impl Iterator<Item = String>,
    read: Read<'_>,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let mut files = Vec::new();
    for path in paths.take(MAX_KEYS) {
        files.push((path.display().to_string(), read(&path)?));
    }
    for text in data.take(MAX_KEYS) {
        let pem = STANDARD
            .decode(text)
            .map_err(|error| format!("keyData: {error}"))?;
        files.push(("keyData".into(), pem));
    }
    Ok(files)
}

fn identity(identity: Option<Identity>) -> Result<SignedIdentity, Refusal> {
    Ok(match identity {
        None | Some(Identity::MatchRepoDigestOrExact {}) => SignedIdentity::MatchRepoDigestOrExact,
        Some(Identity::MatchExact {}) => SignedIdentity::MatchExact,
        Some(Identity::MatchRepository {}) => SignedIdentity::MatchRepository,
        Some(Identity::ExactReference { name }) => {
            if name.parse::<Repository>().is_ok() {
                return Err(format!("dockerReference: {name} has neither a tag nor a digest").into());
            }
            let parsed: Reference = name
                .parse()
                .map_err(|error| format!("dockerReference: {error}"))?;
            SignedIdentity::ExactReference(parsed)
        }
        Some(Identity::ExactRepository { name }) => {
            let parsed = name
                .parse()
                .map_err(|error| format!("dockerRepository: {error}"))?;
            SignedIdentity::ExactRepository(parsed)
        }
        Some(Identity::Remap {
            prefix,
            signed_prefix,
        }) => SignedIdentity::RemapIdentity {
            prefix,
            signed_prefix,
        },
    })
}

/// The scopes of a policy.json that a name may be in, the most specific first: the name itself, its repository and the
/// paths above it, the registry, the domains above it, and everything.
pub(crate) fn scopes(name: &Reference) -> Vec<String> {
    if name.is_nameless() {
        return vec![String::new()];
    }
    let mut scopes = vec![name.full()];
    let mut rest = name.repository().full();
    while let Some((above, _)) = rest.rsplit_once('/') {
        scopes.push(rest.into());
        rest = above;
    }
    scopes.push(rest.into());
    let mut host = rest.split_once(':').map_or(rest, |(host, _)| host);
    while let Some((_, domain)) = host.split_once('.') {
        scopes.push(format!("*.{domain}"));
        host = domain;
    }
    scopes.push(String::new());
    scopes
}
