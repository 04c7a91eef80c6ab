use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use hyper::body::Body as _;

use super::*;
use crate::blob::{Extent, Stored};
use crate::image::Graph;
use crate::oci::testing::describe;
use crate::oci::{Digest, MediaType, PlatformSelection};
use crate::serve::Documents;
use crate::serve::blob::Blob;
use crate::serve::body::Body;

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
    let agent = agent();
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

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.proxy(None).build().into()
}

/// The bytes of a file as a blob.
fn stored(file: &tempfile::NamedTempFile, length: u64) -> Stored {
    Stored {
        extents: vec![Extent {
            file: Arc::new(File::open(file.path()).unwrap()),
            path: Arc::new(file.path().into()),
            offset: 0,
            length,
        }],
        size: length,
        entry: "blob".into(),
        offset: None,
    }
}

#[test]
fn a_private_server_serves_tags_and_blobs_to_those_with_its_password() {
    let (graph, bytes) = graph();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let layer: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&layer).unwrap();
    let blob = describe(MediaType::OCI_LAYER_GZIP, &layer);
    let mut content = Content::default();
    content.add_manifests("app", &graph);
    content.add_tag("app", "1", graph.root.digest);
    content.add_blob("app", &blob, &stored(&file, blob.size));
    let (events, received) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let login = Login::random().unwrap();
    let server = Server::start_private(listener, content, login.clone(), events).unwrap();
    let (agent, base) = (agent(), format!("http://{}", server.address()));
    let get = |path: &str, login: &str| {
        let request = agent.get(format!("{base}{path}"));
        request
            .header("authorization", format!("Basic {login}"))
            .call()
            .unwrap()
    };
    let blob_path = format!("/v2/app/blobs/{}", blob.digest);
    for path in ["/v2/", "/v2/app/manifests/1", &blob_path] {
        let bare = agent.get(format!("{base}{path}")).call().unwrap();
        assert_eq!(bare.status(), 401, "{path}");
        assert_eq!(bare.headers()["www-authenticate"], "Basic realm=\"sealift\"");
        assert_eq!(
            get(path, Login::random().unwrap().encoded()).status(),
            401,
            "{path}"
        );
        assert_eq!(get(path, login.encoded()).status(), 200, "{path}");
    }
    let tagged = get("/v2/app/manifests/1", login.encoded())
        .body_mut()
        .read_to_vec();
    assert_eq!(tagged.unwrap(), bytes);
    assert_eq!(get("/v2/app/manifests/2", login.encoded()).status(), 404);
    assert_eq!(
        get(&format!("/v2/other/blobs/{}", blob.digest), login.encoded()).status(),
        404
    );
    let head = agent.head(format!("{base}{blob_path}"));
    let head = head
        .header("authorization", format!("Basic {}", login.encoded()))
        .call()
        .unwrap();
    assert_eq!(head.headers()["content-length"], blob.size.to_string().as_str());

    let served = get(&blob_path, login.encoded())
        .into_body()
        .into_with_config()
        .limit(1 << 30)
        .read_to_vec();
    assert_eq!(served.unwrap(), layer);
    drop(server);
    let sent: u64 = received
        .iter()
        .map(|event| match event {
            Event::Advanced { bytes, .. } => bytes,
            _ => 0,
        })
        .sum();
    assert!(sent >= blob.size, "{sent}");
}

#[test]
fn a_blob_that_changed_breaks_the_connection() {
    for at in [0, 999_999] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7_u8; 1_000_000];
        let blob = describe(MediaType::OCI_LAYER_GZIP, &bytes);
        bytes[at] = 8;
        file.write_all(&bytes).unwrap();
        let mut content = Content::default();
        content.add_blob("app", &blob, &stored(&file, blob.size));
        let (events, received) = mpsc::channel();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let login = Login::random().unwrap();
        let server = Server::start_private(listener, content, login.clone(), events).unwrap();
        let request = agent().get(format!(
            "http://{}/v2/app/blobs/{}",
            server.address(),
            blob.digest
        ));
        let answer = request
            .header("authorization", format!("Basic {}", login.encoded()))
            .call()
            .unwrap();
        answer.into_body().read_to_vec().unwrap_err();
        drop(server);
        let failed = received.iter().find_map(|event| match event {
            Event::Failed { error } => Some(error.to_string()),
            Event::Finished { .. } => panic!("it is not whole"),
            _ => None,
        });
        assert!(failed.unwrap().contains(&blob.digest.to_string()));
    }
}

/// A private server of nothing with these limits, and a request with its password.
fn limited(limits: Limits) -> (Server, String) {
    let login = Login::random().unwrap();
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {}\r\n\r\n",
        login.encoded()
    );
    (nothing(Some(login), limits), request)
}

/// A server of nothing.
fn nothing(login: Option<Login>, limits: Limits) -> Server {
    let access = login.map_or(Access::Everyone, Access::Login);
    let served = for_an_engine(Content::default(), access, Arc::new(|_| {}));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::serve(listener, served, NonZeroUsize::MIN, limits).unwrap()
}

/// Sends a request and reads the status of the answer.
fn status(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    read_status(stream)
}

fn read_status(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"{}") && !answer.ends_with(b"]}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()[9..12].to_string()
}

#[test]
fn clients_without_the_password_are_disconnected() {
    let (server, request) = limited(Limits {
        login: Duration::from_millis(200),
        ..LIMITS
    });
    let mut admitted = TcpStream::connect(server.address()).unwrap();
    assert_eq!(status(&mut admitted, &request), "200");
    // One sends nothing, and the other asks again and again.
    let mut silent = TcpStream::connect(server.address()).unwrap();
    let mut asking = TcpStream::connect(server.address()).unwrap();
    let mut waiting = TcpStream::connect(server.address()).unwrap();
    waiting.write_all(request.as_bytes()).unwrap();
    let asked = std::thread::spawn(move || {
        let mut answers = Vec::new();
        while asking.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").is_ok() {
            let mut buffer = [0; 1024];
            match asking.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => answers.extend_from_slice(&buffer[..count]),
            }
        }
        answers
    });
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is disconnected");
    assert!(asked.join().unwrap().starts_with(b"HTTP/1.1 401 "));
    assert_eq!(read_status(&mut waiting), "200");
    assert_eq!(status(&mut admitted, &request), "200", "it stays");
}

#[test]
fn connections_are_limited() {
    let (server, request) = limited(Limits {
        connections: 2,
        ..LIMITS
    });
    let mut admitted = [(); 2].map(|()| TcpStream::connect(server.address()).unwrap());
    for stream in &mut admitted {
        assert_eq!(status(stream, &request), "200");
    }
    let mut waiting = TcpStream::connect(server.address()).unwrap();
    waiting.write_all(request.as_bytes()).unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    waiting.read(&mut [0]).unwrap_err();
    waiting.set_read_timeout(None).unwrap();
    drop(admitted);
    assert_eq!(read_status(&mut waiting), "200");
}

#[test]
fn idle_connections_keep_nobody_out() {
    let limits = Limits {
        guests: 100,
        connections: 64,
        login: Duration::from_secs(3600),
        ..LIMITS
    };
    let (private, request) = limited(limits);
    for (server, has_password) in [(private, true), (nothing(None, limits), false)] {
        let connect = || {
            let stream = TcpStream::connect(server.address()).unwrap();
            // Fails instead of waiting for ever.
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        };
        let mut first = connect();
        assert_eq!(status(&mut first, &request), "200");
        let mut idle: Vec<TcpStream> = (0..130).map(|_| connect()).collect();
        for _ in 0..3 {
            assert_eq!(status(&mut connect(), &request), "200");
        }
        assert_eq!(idle[0].read(&mut [0]).unwrap(), 0, "the oldest is ended");
        if has_password {
            assert_eq!(status(&mut first, &request), "200", "it stays");
        }
    }
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // More than the sockets take.
    let bytes = vec![7_u8; 30_000_000];
    file.write_all(&bytes).unwrap();
    let blob = describe(MediaType::OCI_LAYER_GZIP, &bytes);
    let mut content = Content::default();
    content.add_blob("app", &blob, &stored(&file, blob.size));
    let (events, received) = mpsc::channel();
    let report: Report = Arc::new(move |event| drop(events.send(event)));
    let served = Served {
        is_told: true,
        ..for_an_engine(content, Access::Everyone, report)
    };
    let limits = Limits {
        stalled: Duration::from_millis(200),
        ..LIMITS
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::serve(listener, served, NonZeroUsize::MIN, limits).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!("GET /v2/app/blobs/{} HTTP/1.1\r\nHost: a\r\n\r\n", blob.digest);
    stream.write_all(request.as_bytes()).unwrap();
    let answered = loop {
        match received.recv_timeout(Duration::from_secs(30)).unwrap() {
            Event::Answered(answered) => break answered,
            Event::Finished { .. } => panic!("all of it was sent"),
            _ => {}
        }
    };
    assert!(!answered.complete);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes = vec![7_u8; 5_000_000];
    file.write_all(&bytes).unwrap();
    let descriptor = describe(MediaType::OCI_LAYER_GZIP, &bytes);
    let blob = Arc::new(Blob::new(&descriptor, &stored(&file, descriptor.size)));
    let places = Arc::new(Semaphore::new(1));
    let report: Report = Arc::new(|_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let state = blob.prove(&places).await.unwrap();
        let mut body = Body::proven(&blob, 0..descriptor.size, state, &places, &report);
        let mut next = async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let sent = next().await.unwrap().unwrap().into_data().unwrap();
        file.as_file().set_len(100).unwrap();
        // As TLS does when it encrypts them, from pages that are gone.
        let sum: u64 = sent.iter().map(|byte| u64::from(*byte)).sum();
        assert!(sum < 7 * sent.len() as u64, "{sum}");
        // Mended before the next bytes: only what was sent was wrong.
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        file.as_file().set_modified(modified).unwrap();
        drop(sent);
        assert!(next().await.unwrap().is_err());
        assert!(next().await.is_none());
    });
}

#[test]
fn a_blob_is_verified_once_and_again_after_its_file_has_changed() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes = vec![7_u8; 1_000_000];
    file.write_all(&bytes).unwrap();
    let descriptor = describe(MediaType::OCI_LAYER_GZIP, &bytes);
    let blob = Arc::new(Blob::new(&descriptor, &stored(&file, descriptor.size)));
    let hashed = AtomicUsize::new(0);
    let prove = || {
        blob.prove_here(&|count| {
            hashed.fetch_add(usize::try_from(count).unwrap(), Ordering::SeqCst);
            Ok(())
        })
    };
    prove().unwrap();
    prove().unwrap();
    assert_eq!(hashed.swap(0, Ordering::SeqCst), bytes.len());
    // Its size stays the same, and so may its time of change: the clock of a file system has ticks.
    std::thread::sleep(Duration::from_millis(50));
    let mut open = File::options().write(true).open(file.path()).unwrap();
    open.write_all(&[8]).unwrap();
    assert!(prove().unwrap_err().to_string().contains("digest"));
    assert!(blob.is_known_wrong());
    prove().unwrap_err();
    assert_eq!(
        hashed.swap(0, Ordering::SeqCst),
        bytes.len(),
        "what is wrong is remembered too"
    );
    std::thread::sleep(Duration::from_millis(50));
    let mut open = File::options().write(true).open(file.path()).unwrap();
    open.write_all(&[7]).unwrap();
    prove().unwrap();
}

#[test]
fn requests_at_the_same_time_wait_for_one_verification() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes = vec![7_u8; 5_000_000];
    file.write_all(&bytes).unwrap();
    let descriptor = describe(MediaType::OCI_LAYER_GZIP, &bytes);
    let blob = Arc::new(Blob::new(&descriptor, &stored(&file, descriptor.size)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    // The one place is taken, so that all of them wait before the verification begins.
    let places = Arc::new(Semaphore::new(1));
    let permit = Arc::clone(&places).try_acquire_owned().unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (blob, places) = (Arc::clone(&blob), Arc::clone(&places));
            runtime.spawn(async move { blob.prove(&places).await.map(drop) })
        })
        .collect();
    // A client that goes away takes none of the others along.
    tasks[0].abort();
    drop(permit);
    for task in tasks.into_iter().skip(1) {
        runtime.block_on(task).unwrap().unwrap();
    }
    assert_eq!(blob.verified_times(), 1);
}
