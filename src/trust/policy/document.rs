//! sealift's own format of policies: YAML, and so JSON too. docs/policy.md describes it.

use std::path::Path;

use super::super::certificate::Certificate;
use super::super::check::Signers;
use super::super::key::PublicKey;
use super::super::log::Logs;
use super::super::notation::TrustedCertificates;
use super::super::signer::TrustedKey;
use super::super::trusted_identity::TrustedIdentity;
use super::pattern::Pattern;
use super::{Action, Demand, Refusal, Require, Rules};
use crate::error::Result as ReadResult;
use crate::yaml::Yaml;

/// The kind of the document.
const KIND: &str = "SealiftPolicy";
/// The version of the document.
const SCHEMA: &str = "1";
/// Most patterns of a policy, and most keys, certificates and identities of a rule.
const MAX_PATTERNS: usize = 10_000;
const MAX_SIGNERS: usize = 1000;

type Read<'r> = &'r mut dyn FnMut(&Path) -> ReadResult<Vec<u8>>;

/// Parses the document; gives the default and the rules.
pub(super) fn parse(root: Yaml<'_>, read: Read<'_>) -> Result<(Action, Rules), Refusal> {
    check_fields(root, "a policy", &["kind", "schema", "default", "images"])?;
    if text(root, "kind")? != Some(KIND) {
        return Err(Refusal::at(root.position(), format!("its kind is not {KIND}")));
    }
    let schema = required(root, "schema")?;
    if schema.text() != Some(SCHEMA) {
        return Err(Refusal::at(
            schema.position(),
            format!("only schema {SCHEMA} is known"),
        ));
    }
    let default = action(required(root, "default")?)?;
    let (mut patterns, mut actions): (Vec<(Pattern, usize)>, Vec<Action>) = (Vec::new(), Vec::new());
    for image in list(root, "images")? {
        for name in list(image, "name")? {
            let pattern =
                Pattern::parse(scalar(name)?).map_err(|reason| Refusal::at(name.position(), reason))?;
            if patterns.iter().any(|(known, _)| known.is_same(&pattern)) {
                let reason = format!("two rules are for {}", pattern.text());
                return Err(Refusal::at(name.position(), reason));
            }
            if patterns.len() >= MAX_PATTERNS {
                return Err(Refusal::at(
                    name.position(),
                    format!("more than {MAX_PATTERNS} names"),
                ));
            }
            patterns.push((pattern, actions.len()));
        }
        if image.get("name").is_none() {
            return Err(Refusal::at(image.position(), "a rule needs a field \"name\""));
        }
        actions.push(rule(image, read)?);
    }
    Ok((default, Rules::Patterns { patterns, actions }))
}

/// One rule: an action, or what is demanded.
fn rule(image: Yaml<'_>, read: Read<'_>) -> Result<Action, Refusal> {
    let known = ["name", "rule", "require", "keys", "certificates", "keyless"];
    check_fields(image, "a rule", &known)?;
    let demands = ["require", "keys", "certificates", "keyless"];
    if let Some(rule) = image.get("rule") {
        if let Some(field) = demands.iter().find(|field| image.get(field).is_some()) {
            let reason = format!("a rule has \"rule\" or \"{field}\", not both");
            return Err(Refusal::at(rule.position(), reason));
        }
        return action(rule);
    }
    let require = match text(image, "require")? {
        None | Some("index") => Require::Index,
        Some("platform") => Require::Platform,
        Some("both") => Require::Both,
        Some(other) => {
            let position = required(image, "require")?.position();
            return Err(Refusal::at(
                position,
                format!("{other:?} is not index, platform or both"),
            ));
        }
    };
    keyless(image)?;
    let mut signers = Signers::default();
    for key in list(image, "keys")? {
        signers.keys.push(trusted_key(key, read)?);
    }
    for certificates in list(image, "certificates")? {
        signers
            .certificates
            .push(trusted_certificates(certificates, read)?);
    }
    let count = signers.keys.len() + signers.certificates.len();
    if count == 0 {
        let reason = "a rule needs \"keys\", \"certificates\", or \"rule: accept\" or \"rule: reject\"";
        return Err(Refusal::at(image.position(), reason));
    }
    if count > MAX_SIGNERS {
        return Err(Refusal::at(
            image.position(),
            format!("more than {MAX_SIGNERS} signers"),
        ));
    }
    Ok(Action::Verify(vec![Demand {
        require,
        signers,
        unsupported: None,
    }]))
}

fn action(value: Yaml<'_>) -> Result<Action, Refusal> {
    match value.text() {
        Some("accept") => Ok(Action::Accept),
        Some("reject") => Ok(Action::Reject),
        _ => Err(Refusal::at(value.position(), "expected accept or reject")),
    }
}

/// Signers with an account instead of a key. They are parsed, so that a mistake in them is found, and refused.
fn keyless(image: Yaml<'_>) -> Result<(), Refusal> {
    let identities = list(image, "keyless")?;
    for one in &identities {
        check_fields(*one, "a keyless identity", &["issuer", "subject", "trusted-root"])?;
        for field in ["issuer", "subject", "trusted-root"] {
            scalar(required(*one, field)?)?;
        }
    }
    match identities.first() {
        None => Ok(()),
        Some(one) => Err(Refusal::at(
            one.position(),
            "keyless signatures are not supported by this build",
        )),
    }
}

/// A key: the name of its file, or a mapping with `file` or `pem`, and possibly `log`.
fn trusted_key(value: Yaml<'_>, read: Read<'_>) -> Result<TrustedKey, Refusal> {
    if let Some(file) = value.text() {
        return key_of(value, file, &read(Path::new(file))?, None);
    }
    check_fields(value, "a key", &["file", "pem", "log"])?;
    let logs = match text(value, "log")? {
        None => None,
        Some(file) => {
            let logs = Logs::parse(&read(Path::new(file))?);
            Some(logs.map_err(|reason| Refusal::at(value.position(), format!("{file}: {reason}")))?)
        }
    };
    match (text(value, "file")?, text(value, "pem")?) {
        (Some(file), None) => key_of(value, file, &read(Path::new(file))?, logs),
        (None, Some(pem)) => {
            let mut key = key_of(value, "a key", pem.as_bytes(), logs)?;
            key.name = format!("the key {}", key.key.id());
            Ok(key)
        }
        _ => Err(Refusal::at(
            value.position(),
            "a key has either \"file\" or \"pem\"",
        )),
    }
}

fn key_of(value: Yaml<'_>, name: &str, pem: &[u8], logs: Option<Logs>) -> Result<TrustedKey, Refusal> {
    let key = PublicKey::from_pem(pem);
    let key = key.map_err(|reason| Refusal::at(value.position(), format!("{name}: {reason}")))?;
    Ok(TrustedKey {
        name: name.into(),
        key,
        logs,
    })
}

/// Certificates and whom they may vouch for.
fn trusted_certificates(value: Yaml<'_>, read: Read<'_>) -> Result<TrustedCertificates, Refusal> {
    check_fields(value, "certificates", &["roots", "identities"])?;
    let mut trusted = TrustedCertificates {
        roots: Vec::new(),
        identities: Vec::new(),
    };
    for root in list(value, "roots")? {
        let text = scalar(root)?;
        let is_inline = text.contains("-----BEGIN ");
        let (name, pem) = match is_inline {
            true => ("a certificate", text.as_bytes().to_vec()),
            false => (text, read(Path::new(text))?),
        };
        let roots = Certificate::roots_of_pem(&pem);
        let roots = roots.map_err(|reason| Refusal::at(root.position(), format!("{name}: {reason}")))?;
        trusted.roots.extend(roots);
    }
    for identity in list(value, "identities")? {
        let parsed = TrustedIdentity::parse(scalar(identity)?);
        let parsed = parsed.map_err(|reason| Refusal::at(identity.position(), reason))?;
        trusted.identities.push(parsed);
    }
    if trusted.roots.is_empty() || trusted.identities.is_empty() {
        let reason = "certificates need \"roots\" and \"identities\"; \"*\" stands for every identity";
        return Err(Refusal::at(value.position(), reason));
    }
    if trusted.roots.len().max(trusted.identities.len()) > MAX_SIGNERS {
        return Err(Refusal::at(
            value.position(),
            format!("more than {MAX_SIGNERS} roots or identities"),
        ));
    }
    Ok(trusted)
}

/// Refuses a value that is not a mapping, and fields that are not known: one that is misspelled would demand nothing.
fn check_fields(value: Yaml<'_>, what: &str, known: &[&str]) -> Result<(), Refusal> {
    if !value.is_mapping() {
        return Err(Refusal::at(value.position(), format!("{what} is a mapping")));
    }
    for (key, _) in value.entries() {
        let name = key.text().unwrap_or_default();
        if !known.contains(&name) {
            let reason = format!("{what} has no field {name:?}; it has {}", known.join(", "));
            return Err(Refusal::at(key.position(), reason));
        }
    }
    Ok(())
}

fn required<'a>(value: Yaml<'a>, field: &str) -> Result<Yaml<'a>, Refusal> {
    let found = value.get(field);
    found.ok_or_else(|| Refusal::at(value.position(), format!("the field {field:?} is missing")))
}

fn scalar(value: Yaml<'_>) -> Result<&str, Refusal> {
    let text = value.text().filter(|text| !text.is_empty());
    text.ok_or_else(|| Refusal::at(value.position(), "expected text"))
}

fn text<'a>(value: Yaml<'a>, field: &str) -> Result<Option<&'a str>, Refusal> {
    value.get(field).map(scalar).transpose()
}

/// The items of a field; a single one need not be in a list. Without the field there are none.
fn list<'a>(value: Yaml<'a>, field: &str) -> Result<Vec<Yaml<'a>>, Refusal> {
    let Some(found) = value.get(field) else {
        return Ok(Vec::new());
    };
    let items: Vec<Yaml<'a>> = match found.is_sequence() {
        true => found.items().collect(),
        false => vec![found],
    };
    match items.is_empty() || items.iter().any(|item| item.is_null()) {
        true => Err(Refusal::at(
            found.position(),
            format!("the field {field:?} is empty"),
        )),
        false => Ok(items),
    }
}
