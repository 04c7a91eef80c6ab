//! Entries of a transparency log, Rekor v1: its signed timestamp, the proof that the log includes the entry, and the
//! checkpoint that this proof leads to. All of it is checked with the log's key, without asking the log.
//!
//! Source: sigstore/rekor, `pkg/verify`, `pkg/util/checkpoint.go` and `pkg/types`; RFC 9162, section 2.1.3.2;
//! sigstore/protobuf-specs, `sigstore_rekor.proto` and `sigstore_trustroot.proto`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::flaw::Flaw;
use super::key::PublicKey;
use crate::date;
use crate::oci::{Digest, json};

/// Most keys of logs in a file.
const MAX_LOGS: usize = 100;
/// Most hashes of a proof: one for each level of a tree of 2^64 leaves.
const MAX_HASHES: usize = 64;
/// Most lines of signatures under a checkpoint.
const MAX_WITNESSES: usize = 100;

/// The keys of the logs that a policy relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logs(Vec<Log>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Log {
    key: PublicKey,
    /// When entries of it count.
    start: Option<SystemTime>,
    end: Option<SystemTime>,
}

/// An entry, as a bundle or an annotation has it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Hex digits of the SHA-256 of the log's key.
    pub(super) log_id: String,
    pub(super) index: u64,
    /// Seconds since 1970; 0 if the log did not say it.
    pub(super) time: u64,
    /// What was logged.
    pub(super) body: Vec<u8>,
    /// The log's signature of when it was.
    pub(super) timestamp: Option<Vec<u8>>,
    pub(super) proof: Option<Proof>,
}

/// The proof that a log includes an entry.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) index: u64,
    pub(super) size: u64,
    pub(super) root: Vec<u8>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) checkpoint: String,
}

/// What the entry has to be about.
pub(super) struct Logged<'a> {
    /// What was signed: the payload of an envelope, or the bytes of a simple signing document.
    pub(super) payload: &'a [u8],
    /// In base64.
    pub(super) signature: &'a str,
    pub(super) key: &'a PublicKey,
    /// The kind of entry that logs have for it.
    pub(super) kind: &'static str,
}

/// A good entry of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Hex digits of the SHA-256 of the log's key.
    pub log_id: String,
    /// Its number in the log.
    pub index: u64,
    /// When it was logged, in RFC 3339, if the log signed that.
    pub time: Option<String>,
}

impl Logs {
    /// Reads the keys of logs: PEM, or a `trusted_root.json`.
    ///
    /// # Errors
    ///
    /// The error says what is wrong, to come after the file's name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Logs, String> {
        let is_json = bytes.trim_ascii_start().first() == Some(&b'{');
        let logs = match is_json {
            true => trusted_root(bytes)?,
            false => PublicKey::all_of_pem(bytes)?
                .into_iter()
                .map(|key| Log {
                    key,
                    start: None,
                    end: None,
                })
                .collect(),
        };
        if logs.len() > MAX_LOGS {
            return Err(format!("more than {MAX_LOGS} logs"));
        }
        Ok(Logs(logs))
    }

    /// Whether one of several entries is good.
    pub(super) fn check_any(&self, entries: &[Entry], logged: &Logged<'_>) -> Result<LogEntry, Flaw> {
        let mut flaw = Flaw::NotLogged;
        for entry in entries {
            match self.check(entry, logged) {
                Ok(entry) => return Ok(entry),
                Err(found) => flaw = found,
            }
        }
        Err(flaw)
    }

    /// Checks an entry: it must be about this signature, and signed by the log in every form that it has.
    fn check(&self, entry: &Entry, logged: &Logged<'_>) -> Result<LogEntry, Flaw> {
        let mut logs = self.0.iter();
        let log = logs.find(|log| log.key.log_id().hex() == entry.log_id);
        let log = log.ok_or(Flaw::OtherLog)?;
        check_body(&entry.body, logged)?;
        if entry.timestamp.is_none() && entry.proof.is_none() {
            return Err(Flaw::log_entry(
                "it has neither a signed timestamp nor a proof that the log includes it",
            ));
        }
        let mut time = None;
        if let Some(signature) = &entry.timestamp {
            let signed = signed_timestamp(entry);
            if log.key.verify(signed.as_bytes(), signature).is_err() {
                return Err(Flaw::log_entry(
                    "the log did not sign its timestamp, or the entry has changed since",
                ));
            }
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(entry.time));
            let at = at.ok_or_else(|| Flaw::log_entry("its time is out of range"))?;
            let is_valid = log.start.is_none_or(|start| at >= start) && log.end.is_none_or(|end| at <= end);
            if !is_valid {
                return Err(Flaw::log_entry("the key of the log was not valid at its time"));
            }
            time = Some(date::to_rfc3339(at));
        }
        if let Some(proof) = &entry.proof {
            check_proof(&entry.body, proof).map_err(Flaw::log_entry)?;
            check_checkpoint(proof, &log.key).map_err(Flaw::log_entry)?;
        }
        Ok(LogEntry {
            log_id: entry.log_id.clone(),
            index: entry.index,
            time,
        })
    }
}

/// The keys of the logs in a trusted root. Logs of another kind than Rekor v1 have ids of their own, which no entry of
/// Rekor v1 names.
fn trusted_root(bytes: &[u8]) -> Result<Vec<Log>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Root {
        media_type: String,
        #[serde(default)]
        tlogs: Vec<Instance>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Instance {
        public_key: Key,
        log_id: LogId,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Key {
        raw_bytes: String,
        valid_for: Option<Validity>,
    }
    #[derive(Deserialize)]
    struct Validity {
        start: Option<String>,
        end: Option<String>,
    }
    let root: Root = json::from_slice(bytes).map_err(|error| format!("not a trusted root: {error}"))?;
    if !root
        .media_type
        .starts_with("application/vnd.dev.sigstore.trustedroot")
    {
        return Err(format!(
            "its media type is {}, not that of a trusted root",
            root.media_type
        ));
    }
    let time = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => date::rfc3339(&text)
            .map(Some)
            .ok_or_else(|| format!("{text} is not a time")),
    };
    let mut logs = Vec::new();
    for instance in root.tlogs {
        let raw = STANDARD.decode(&instance.public_key.raw_bytes);
        let raw = raw.map_err(|error| format!("the key of a log: {error}"))?;
        let key = PublicKey::from_der(&raw).map_err(|error| format!("the key of a log: {error}"))?;
        let is_v1 = STANDARD.encode(key.log_id().bytes()) == instance.log_id.key_id;
        if !is_v1 {
            continue;
        }
        let (start, end) = match instance.public_key.valid_for {
            None => (None, None),
            Some(valid) => (time(valid.start)?, time(valid.end)?),
        };
        logs.push(Log { key, start, end });
    }
    match logs.is_empty() {
        true => Err("it has no log of Rekor v1".into()),
        false => Ok(logs),
    }
}

/// What the log signed: the entry as JSON with sorted keys and no spaces.
fn signed_timestamp(entry: &Entry) -> String {
    format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(&entry.body),
        entry.time,
        entry.log_id,
        entry.index
    )
}

/// Checks that what was logged is this signature, over this payload, by this key.
fn check_body(body: &[u8], logged: &Logged<'_>) -> Result<(), Flaw> {
    let body: Value = json::from_slice(body).map_err(Flaw::log_entry)?;
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = (text("/kind"), text("/apiVersion"));
    if kind != (logged.kind, "0.0.1") {
        let what = format!("a log entry of the kind {} {}", kind.0, kind.1);
        return Err(Flaw::not_supported(what));
    }
    let [hash, signature, key] = match logged.kind {
        "dsse" => {
            let signatures = body.pointer("/spec/signatures").and_then(Value::as_array);
            if signatures.is_none_or(|all| all.len() != 1) {
                return Err(Flaw::log_entry("it is about several signatures"));
            }
            [
                "/spec/payloadHash",
                "/spec/signatures/0/signature",
                "/spec/signatures/0/verifier",
            ]
        }
        _ => [
            "/spec/data/hash",
            "/spec/signature/content",
            "/spec/signature/publicKey/content",
        ],
    };
    let algorithm = match text(&format!("{hash}/algorithm")) {
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        other => return Err(Flaw::not_supported(format!("the hash {other} in a log entry"))),
    };
    let found = digest::digest(algorithm, logged.payload);
    if text(&format!("{hash}/value")) != hex(found.as_ref()) {
        return Err(Flaw::log_entry("it is about other content"));
    }
    if text(signature) != logged.signature {
        return Err(Flaw::log_entry("it is about another signature"));
    }
    let pem = STANDARD.decode(text(key)).unwrap_or_default();
    match PublicKey::from_pem(&pem) {
        Ok(key) if key == *logged.key => Ok(()),
        _ => Err(Flaw::log_entry("it is about another key")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node(left: &[u8], right: &[u8]) -> Vec<u8> {
    let bytes = [&[1], left, right].concat();
    Digest::sha256(&bytes).bytes().to_vec()
}

/// RFC 9162, section 2.1.3.2: whether the hashes lead from a leaf to the root.
fn check_proof(body: &[u8], proof: &Proof) -> Result<(), &'static str> {
    if proof.index >= proof.size {
        return Err("the proof is for an entry beyond the end of the log");
    }
    if proof.hashes.len() > MAX_HASHES || proof.hashes.iter().any(|hash| hash.len() != 32) {
        return Err("the proof has malformed hashes");
    }
    let (mut number, mut last) = (proof.index, proof.size - 1);
    let mut found = Digest::sha256(&[&[0], body].concat()).bytes().to_vec();
    for hash in &proof.hashes {
        if last == 0 {
            return Err("the proof has more hashes than the log has levels");
        }
        if number % 2 == 1 || number == last {
            found = node(hash, &found);
            while number % 2 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            found = node(&found, hash);
        }
        number >>= 1;
        last >>= 1;
    }
    match last == 0 && found == proof.root {
        true => Ok(()),
        false => Err("the proof does not lead to the root of the log"),
    }
}

/// Checks that the log signed a checkpoint with the proof's size and root.
fn check_checkpoint(proof: &Proof, key: &PublicKey) -> Result<(), &'static str> {
    let malformed = "the checkpoint is malformed";
    let end = proof.checkpoint.find("\n\n").ok_or(malformed)?;
    let (text, signatures) = proof.checkpoint.split_at(end + 1);
    let mut lines = text.lines().skip(1);
    let size = lines.next().and_then(|line| line.parse().ok());
    let root = lines.next().and_then(|line| STANDARD.decode(line).ok());
    if size != Some(proof.size) || root.as_ref() != Some(&proof.root) {
        return Err("the checkpoint is of another state of the log than the proof");
    }
    let log_id = key.log_id();
    let lines = signatures.lines().filter(|line| !line.is_empty());
    let is_signed = lines.take(MAX_WITNESSES).any(|line| {
        let signature = line
            .strip_prefix("\u{2014} ")
            .and_then(|line| line.split_once(' '));
        let signature = signature.and_then(|(_, signature)| STANDARD.decode(signature).ok());
        let parts = signature
            .as_deref()
            .and_then(|signature| signature.split_at_checked(4));
        parts.is_some_and(|(hint, signature)| {
            log_id.bytes().starts_with(hint) && key.verify(text.as_bytes(), signature).is_ok()
        })
    });
    match is_signed {
        true => Ok(()),
        false => Err("the log did not sign the checkpoint"),
    }
}

/// How an entry names its log.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogId {
    /// The SHA-256 of its key, in base64.
    pub(super) key_id: String,
}

/// The annotation that an old signature has its entry in: cosign, `pkg/cosign/bundle/rekor.go`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Annotation {
    signed_entry_timestamp: String,
    payload: AnnotationPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnnotationPayload {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// An entry in a bundle. Numbers are text, as in all JSON that protocol buffers make. Other fields are refused, so that
/// nothing of it can be hidden under another name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BundleEntry {
    log_index: Number,
    log_id: LogId,
    /// What the body says too.
    #[serde(rename = "kindVersion")]
    _kind: Option<IgnoredAny>,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<BundleProof>,
    canonicalized_body: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BundleProof {
    #[serde(default)]
    log_index: Number,
    root_hash: String,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Debug, Clone, Deserialize)]
struct Checkpoint {
    envelope: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "Value")]
struct Number(u64);

impl TryFrom<Value> for Number {
    type Error = String;

    fn try_from(value: Value) -> Result<Number, String> {
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        number
            .map(Number)
            .ok_or_else(|| format!("{value} is not a number"))
    }
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{name}: {error}"))
}

impl Entry {
    /// Reads the annotation `dev.sigstore.cosign/bundle` of an old signature.
    pub(super) fn of_annotation(text: &str) -> Result<Entry, String> {
        let read: Annotation = json::from_slice(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Entry {
            log_id: read.payload.log_id,
            index: read.payload.log_index,
            time: read.payload.integrated_time,
            body: bytes("body", &read.payload.body)?,
            timestamp: Some(bytes("SignedEntryTimestamp", &read.signed_entry_timestamp)?),
            proof: None,
        })
    }
}

impl BundleEntry {
    pub(super) fn decode(self) -> Result<Entry, String> {
        let timestamp = self
            .inclusion_promise
            .map(|promise| promise.signed_entry_timestamp);
        let timestamp = timestamp.filter(|text| !text.is_empty());
        let proof = self.inclusion_proof.map(|proof| {
            let hashes = proof.hashes.iter().map(|hash| bytes("hashes", hash));
            Ok::<_, String>(Proof {
                index: proof.log_index.0,
                size: proof.tree_size.0,
                root: bytes("rootHash", &proof.root_hash)?,
                hashes: hashes.collect::<Result<_, _>>()?,
                checkpoint: proof.checkpoint.envelope,
            })
        });
        Ok(Entry {
            log_id: hex(&bytes("keyId", &self.log_id.key_id)?),
            index: self.log_index.0,
            time: self.integrated_time.0,
            body: bytes("canonicalizedBody", &self.canonicalized_body)?,
            timestamp: timestamp
                .map(|text| bytes("signedEntryTimestamp", &text))
                .transpose()?,
            proof: proof.transpose()?,
        })
    }
}
