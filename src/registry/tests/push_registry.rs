//! A registry in this process that takes pushes, in the dialects of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::oci::{Digest, MediaType};
use crate::registry::testing::{Reply, Seen, Server};

/// How a registry differs from others.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    /// Whether uploads have relative addresses.
    pub(super) is_relative: bool,
    /// Whether it mounts blobs.
    pub(super) mounts: bool,
    /// Whether it continues an upload that broke within a request: distribution 2 does not.
    pub(super) continues: bool,
    /// Whether it takes an index of which it lacks manifests.
    pub(super) takes_sparse: bool,
    /// Whether it tells digests in headers.
    pub(super) tells_digests: bool,
    /// Most bytes of one request; more is refused.
    pub(super) most: usize,
    /// Fewest bytes of a part, as it says.
    pub(super) least: usize,
    /// Whether it drops an upload of a blob or manifest that it has, as distribution does.
    pub(super) keeps: bool,
    /// Whether it deletes blobs.
    pub(super) deletes: bool,
    /// Whether it has the referrers API, with two on each page.
    pub(super) lists_referrers: bool,
    /// Whether it takes manifests with a subject.
    pub(super) takes_referrers: bool,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            is_relative: false,
            mounts: true,
            continues: true,
            takes_sparse: false,
            tells_digests: true,
            most: usize::MAX,
            least: 0,
            keeps: false,
            deletes: false,
            lists_referrers: false,
            takes_referrers: true,
        }
    }
}

/// What a registry has.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Repositories and blobs.
    pub(super) blobs: BTreeMap<(String, Digest), Vec<u8>>,
    /// Repositories and manifests, with their media types.
    pub(super) manifests: BTreeMap<(String, Digest), (String, Vec<u8>)>,
    pub(super) tags: BTreeMap<(String, String), Digest>,
    pub(super) uploads: BTreeMap<String, Vec<u8>>,
    /// Uploads that cannot be continued.
    forgotten: BTreeSet<String>,
    pub(super) started: usize,
}

/// A registry that takes pushes.
#[derive(Clone)]
pub(super) struct PushRegistry {
    pub(super) shelf: Arc<Mutex<Shelf>>,
    dialect: Dialect,
    /// Where uploads go, if not to the registry itself.
    pub(super) elsewhere: Arc<Mutex<Option<String>>>,
}

impl PushRegistry {
    pub(super) fn new(dialect: Dialect) -> PushRegistry {
        PushRegistry {
            shelf: Arc::default(),
            dialect,
            elsewhere: Arc::default(),
        }
    }

    /// Serves it.
    pub(super) fn start(&self) -> Server {
        let registry = self.clone();
        Server::start(move |seen| registry.answer(seen))
    }

    /// Responds to a request.
    pub(super) fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path.strip_prefix("/v2/").unwrap_or_default().to_string();
        if path.is_empty() {
            return Reply::new(200, "{}");
        }
        if let Some((repository, upload)) = path.split_once("/blobs/uploads/") {
            return self.upload(seen, repository, upload);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let mut shelf = self.shelf.lock().unwrap();
            let key = (repository.into(), digest.parse().unwrap());
            if seen.method == "DELETE" {
                return match self.dialect.deletes {
                    true => {
                        shelf.blobs.remove(&key);
                        Reply::new(202, "")
                    }
                    false => Reply::new(405, r#"{"errors":[{"code":"UNSUPPORTED","message":"no"}]}"#),
                };
            }
            return match shelf.blobs.get(&key) {
                Some(bytes) => Reply::new(200, bytes.clone()),
                None => unknown("BLOB_UNKNOWN"),
            };
        }
        if let Some((repository, subject)) = path.split_once("/referrers/")
            && self.dialect.lists_referrers
        {
            return self.referrers(seen, repository, subject);
        }
        match path.split_once("/manifests/") {
            Some((repository, reference)) => self.manifest(seen, repository, reference),
            None => unknown("NAME_UNKNOWN"),
        }
    }

    fn upload(&self, seen: &Seen, repository: &str, id: &str) -> Reply {
        let mut shelf = self.shelf.lock().unwrap();
        let query = parameters(&seen.query);
        if seen.content.len() > self.dialect.most {
            return Reply::new(413, "");
        }
        if seen.method == "POST" {
            let mount = query.get("mount").map(|digest| digest.parse::<Digest>().unwrap());
            if let (Some(digest), Some(from), true) = (mount, query.get("from"), self.dialect.mounts)
                && let Some(bytes) = shelf.blobs.get(&(from.clone(), digest)).cloned()
            {
                shelf.blobs.insert((repository.into(), digest), bytes);
                return Reply::new(201, "");
            }
            shelf.started += 1;
            let id = shelf.started.to_string();
            shelf.uploads.insert(id.clone(), Vec::new());
            return self.at(seen, repository, &id, 0, 202);
        }
        if shelf.forgotten.contains(id) || !shelf.uploads.contains_key(id) {
            return unknown("BLOB_UPLOAD_UNKNOWN");
        }
        // The registry keeps something of its own in the query.
        assert_eq!(query.get("state").map(String::as_str), Some("a b"), "{seen:?}");
        let bytes = shelf.uploads.get_mut(id).unwrap();
        match seen.method.as_str() {
            "GET" => self.at(seen, repository, id, bytes.len(), 204),
            "DELETE" => {
                shelf.uploads.remove(id);
                Reply::new(204, "")
            }
            "PATCH" => {
                if let Some(range) = seen.header("content-range") {
                    let start: usize = range.split('-').next().unwrap().parse().unwrap();
                    assert_eq!(start, bytes.len(), "{range}");
                }
                bytes.extend_from_slice(&seen.content);
                let length = bytes.len();
                if seen.is_cut && !self.dialect.continues {
                    shelf.forgotten.insert(id.into());
                }
                self.at(seen, repository, id, length, 202)
            }
            "PUT" if seen.is_cut => Reply::new(500, ""),
            "PUT" => {
                bytes.extend_from_slice(&seen.content);
                let bytes = shelf.uploads.remove(id).unwrap();
                let digest: Digest = query["digest"].parse().unwrap();
                if digest.of_same_algorithm(&bytes) != digest {
                    return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"wrong"}]}"#);
                }
                let key = (repository.into(), digest);
                if !self.dialect.keeps || !shelf.blobs.contains_key(&key) {
                    shelf.blobs.insert(key, bytes);
                }
                Reply::new(201, "")
            }
            other => panic!("{other}"),
        }
    }

    fn at(&self, seen: &Seen, repository: &str, id: &str, length: usize, status: u16) -> Reply {
        let path = format!("/v2/{repository}/blobs/uploads/{id}?state=a%20b");
        let elsewhere = self.elsewhere.lock().unwrap().clone();
        let location = match (elsewhere, self.dialect.is_relative) {
            (Some(host), _) => format!("http://{host}{path}"),
            (None, true) => path,
            (None, false) => format!("http://{}{path}", seen.header("host").unwrap()),
        };
        Reply::new(status, "")
            .with("Location", location)
            .with("Range", format!("0-{}", length.saturating_sub(1)))
            .with("OCI-Chunk-Min-Length", self.dialect.least.to_string())
    }

    fn manifest(&self, seen: &Seen, repository: &str, reference: &str) -> Reply {
        let mut shelf = self.shelf.lock().unwrap();
        let digest: Option<Digest> = reference.parse().ok();
        let tagged = shelf.tags.get(&(repository.into(), reference.into())).copied();
        match seen.method.as_str() {
            "HEAD" | "GET" => {
                let key = digest.or(tagged).map(|digest| (repository.to_string(), digest));
                match key.and_then(|key| Some((key.1, shelf.manifests.get(&key)?))) {
                    None => unknown("MANIFEST_UNKNOWN"),
                    Some((digest, (media_type, bytes))) => {
                        let reply = Reply::new(200, bytes.clone()).with("Content-Type", media_type);
                        match self.dialect.tells_digests {
                            true => reply.with("Docker-Content-Digest", digest.to_string()),
                            false => reply,
                        }
                    }
                }
            }
            "DELETE" => {
                shelf.manifests.remove(&(repository.into(), digest.unwrap()));
                Reply::new(202, "")
            }
            _ => {
                if let Some(missing) = self.missing(&shelf, repository, &seen.content) {
                    let body = format!(
                        r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown: {missing}"}}]}}"#
                    );
                    return Reply::new(400, body);
                }
                let subject = subject_of(&seen.content);
                if !subject.is_empty() && !self.dialect.takes_referrers {
                    let body =
                        r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown field: subject"}]}"#;
                    return Reply::new(400, body);
                }
                let found = Digest::sha256(&seen.content);
                assert!(digest.is_none_or(|digest| digest == found));
                let media_type = seen.header("content-type").unwrap().to_string();
                let key = (repository.into(), found);
                if !self.dialect.keeps || !shelf.manifests.contains_key(&key) {
                    shelf.manifests.insert(key, (media_type, seen.content.clone()));
                }
                if digest.is_none() {
                    shelf.tags.insert((repository.into(), reference.into()), found);
                }
                let reply = Reply::new(201, "").with("Docker-Content-Digest", found.to_string());
                match self.dialect.lists_referrers && !subject.is_empty() {
                    true => reply.with("OCI-Subject", subject),
                    false => reply,
                }
            }
        }
    }

    /// A page of the referrers of a manifest.
    fn referrers(&self, seen: &Seen, repository: &str, subject: &str) -> Reply {
        let shelf = self.shelf.lock().unwrap();
        let from: usize = parameters(&seen.query)
            .get("from")
            .map_or(0, |from| from.parse().unwrap());
        let manifests = shelf.manifests.iter();
        let all =
            manifests.filter(|((path, _), (_, bytes))| path == repository && subject_of(bytes) == subject);
        let all: Vec<Value> = all
            .map(|((_, digest), (media_type, bytes))| {
                json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
            })
            .collect();
        let page: Vec<&Value> = all.iter().skip(from).take(2).collect();
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": page});
        let reply = Reply::new(200, index.to_string()).with("Content-Type", MediaType::OCI_INDEX);
        match from + 2 < all.len() {
            true => reply.with(
                "Link",
                format!(
                    "</v2/{repository}/referrers/{subject}?from={}>; rel=\"next\"",
                    from + 2
                ),
            ),
            false => reply,
        }
    }

    /// What a manifest or index names and the repository lacks.
    fn missing(&self, shelf: &Shelf, repository: &str, document: &[u8]) -> Option<Digest> {
        let document: Value = serde_json::from_slice(document).unwrap();
        let digest = |value: &Value| -> Digest { value["digest"].as_str().unwrap().parse().unwrap() };
        let of = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let key = |digest: &Digest| (repository.to_string(), *digest);
        let manifests: Vec<Digest> = of("manifests").iter().map(digest).collect();
        let config = document.get("config").map(digest);
        let mut blobs = of("layers")
            .iter()
            .map(digest)
            .chain(config)
            .collect::<Vec<_>>()
            .into_iter();
        let lacks_manifest = |digest: &&Digest| !shelf.manifests.contains_key(&key(digest));
        let manifest = manifests
            .iter()
            .find(lacks_manifest)
            .filter(|_| !self.dialect.takes_sparse);
        manifest
            .copied()
            .or_else(|| blobs.find(|digest| !shelf.blobs.contains_key(&key(digest))))
    }
}

/// The digest that a manifest refers to, or nothing.
fn subject_of(document: &[u8]) -> String {
    let document: Value = serde_json::from_slice(document).unwrap();
    document["subject"]["digest"]
        .as_str()
        .unwrap_or_default()
        .to_string()
}

fn unknown(code: &str) -> Reply {
    Reply::new(
        404,
        format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#),
    )
}

/// The parameters of a query.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.into(), unescaped(value)))
        .collect()
}

fn unescaped(value: &str) -> String {
    value.replace("%3A", ":").replace("%2F", "/").replace("%20", " ")
}
