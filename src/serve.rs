//! A registry that serves only manifests, only by digest, to an engine on this host.
//!
//! An engine that has an image's layers requests only the manifests. Tags are never served: they must come from
//! a real registry.
//!
//! Source: OCI distribution specification, "Pulling manifests".

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use crate::image::Graph;
use crate::oci::{Digest, MediaType};

/// Ports below this one are for root alone, unless the system is configured with fewer.
pub const UNPRIVILEGED: u16 = 1024;
/// A client that sends no request for this long is disconnected.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manifests and indexes to serve, by the repository's path and their digest.
#[derive(Debug, Clone, Default)]
pub struct Documents(BTreeMap<(String, Digest), (MediaType, Bytes)>);

impl Documents {
    /// Serves the indexes and manifests of a graph, as `path` of the registry (`library/httpd`).
    pub fn add(&mut self, path: &str, graph: &Graph) {
        let indexes = graph
            .indexes
            .iter()
            .map(|(descriptor, index)| (descriptor, &index.raw));
        let manifests = graph
            .images
            .iter()
            .map(|image| (&image.descriptor, &image.manifest.raw));
        for (descriptor, raw) in indexes.chain(manifests) {
            let bytes = Bytes::copy_from_slice(raw);
            self.0.insert(
                (path.to_string(), descriptor.digest),
                (descriptor.media_type.clone(), bytes),
            );
        }
    }
}

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Binds a free port of 127.0.0.1 below `unprivileged`, the first port that is not for root alone. No other
/// user can bind it while an engine still uses it.
///
/// # Errors
///
/// If this process may not bind it, or no port is free.
pub fn bind_below(unprivileged: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::other("there is no port that only root can bind");
    for port in (1..unprivileged.min(UNPRIVILEGED)).rev() {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Server {
    /// Serves on a bound port, in its own thread, until it is dropped.
    ///
    /// # Errors
    ///
    /// If the thread or its event loop cannot be started.
    pub fn start(listener: TcpListener, documents: Documents) -> io::Result<Server> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Served(Arc::new(documents));
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                runtime.block_on(async {
                    let accepting = tokio::spawn(accept(listener, served));
                    let _ = stopped.await;
                    accepting.abort();
                });
            })?;
        Ok(Server {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Served(Arc<Documents>);

async fn accept(listener: TcpListener, served: Served) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the client has gone away: others may still come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let served = served.clone();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = served.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Served {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/v2/" | "/v2") => json(StatusCode::OK, "{}"),
            (&Method::GET | &Method::HEAD, path) => self.manifest(path),
            _ => {
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "read-only");
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        };
        let version = HeaderValue::from_static("registry/2.0");
        response
            .headers_mut()
            .insert("docker-distribution-api-version", version);
        response
    }

    fn manifest(&self, path: &str) -> Response<Full<Bytes>> {
        let found = path
            .strip_prefix("/v2/")
            .and_then(|rest| rest.rsplit_once("/manifests/"))
            .and_then(|(name, digest)| Some((name.to_string(), digest.parse::<Digest>().ok()?)));
        let Some(key) = found else {
            return error(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                "only manifests by digest",
            );
        };
        let Some((media_type, bytes)) = self.0.0.get(&key) else {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "not here");
        };
        let mut response = Response::new(Full::new(bytes.clone()));
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(media_type.as_str()) {
            headers.insert(CONTENT_TYPE, value);
        }
        if let Ok(value) = HeaderValue::from_str(&key.1.to_string()) {
            headers.insert("docker-content-digest", value);
        }
        response
    }
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let text = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    json(status, text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::PlatformSelection;
    use crate::oci::testing::describe;

    fn graph() -> (Graph, Vec<u8>) {
        let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[]}}"#,
            Digest::sha256(config),
            config.len()
        );
        let root = describe(MediaType::OCI_MANIFEST, manifest.as_bytes());
        let bytes = manifest.into_bytes();
        let graph = Graph::walk(&root, &PlatformSelection::All, &mut |descriptor| {
            Ok(Some(if descriptor.digest == root.digest {
                bytes.clone()
            } else {
                config.to_vec()
            }))
        });
        (graph.unwrap(), bytes)
    }

    #[test]
    fn serves_digests_and_nothing_else() {
        let (graph, bytes) = graph();
        let digest = graph.root.digest;
        let mut documents = Documents::default();
        documents.add("library/app", &graph);
        // No other test binds a port of this address between the end of the server and the last line.
        let listener = TcpListener::bind("127.83.0.1:0").unwrap();
        let server = Server::start(listener, documents).unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let base = format!("http://{}", server.address());
        let get = |path: &str| agent.get(format!("{base}{path}")).call().unwrap();

        let mut found = get(&format!("/v2/library/app/manifests/{digest}"));
        assert_eq!(found.status(), 200);
        assert_eq!(found.headers()["content-type"], MediaType::OCI_MANIFEST);
        assert_eq!(
            found.headers()["docker-content-digest"],
            digest.to_string().as_str()
        );
        assert_eq!(found.body_mut().read_to_vec().unwrap(), bytes);

        let head = agent
            .head(format!("{base}/v2/library/app/manifests/{digest}"))
            .call()
            .unwrap();
        assert_eq!(head.headers()["content-length"], bytes.len().to_string().as_str());

        for (path, status) in [
            ("/v2/", 200),
            ("/v2/library/app/manifests/latest", 404),
            ("/v2/library/app/tags/list", 404),
            ("/v2/_catalog", 404),
            ("/", 404),
        ] {
            assert_eq!(get(path).status(), status, "{path}");
        }
        let elsewhere = format!("/v2/library/other/manifests/{digest}");
        assert_eq!(get(&elsewhere).status(), 404);
        let blob = format!("/v2/library/app/blobs/{digest}");
        assert_eq!(get(&blob).status(), 404);
        let put = agent
            .put(format!("{base}/v2/library/app/manifests/latest"))
            .send("{}")
            .unwrap();
        assert_eq!(put.status(), 405);

        let address = server.address();
        drop(agent);
        drop(server);
        assert!(TcpListener::bind(address).is_ok(), "the port is free again");
    }
}
