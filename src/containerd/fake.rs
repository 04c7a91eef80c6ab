//! A containerd that answers as a test wants it to: wrongly, without end, or not at all.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use hyper::body::Bytes;
use prost::Message;
use tokio::runtime;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, Response};

use super::api::version::VersionResponse;
use super::{Options, Timeouts};

/// How long an answer waits for other calls.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The methods that were called, each with its first message.
type Calls = Mutex<Vec<(String, Vec<u8>)>>;

/// What follows the response's headers.
#[derive(Clone)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// A status.
    Status(Code),
    /// These messages, and then the end.
    Messages(Vec<Vec<u8>>),
    /// This message, and then silence.
    AndSilence(Vec<u8>),
    /// This message for each that arrives.
    Each(Vec<u8>),
    /// This message again and again.
    Endless(Vec<u8>),
    /// The first of these until a method was called, and then the second.
    Until(&'static str, Box<[Answer; 2]>),
    /// This answer, once a method was called so many times; an error if that takes too long.
    Once(&'static str, usize, Box<Answer>),
}

impl Answer {
    /// One message.
    pub fn of(message: &impl Message) -> Answer {
        Answer::Messages(vec![message.encode_to_vec()])
    }

    /// Whether a test waits until the limit for answers has passed.
    fn exceeds_limit(&self) -> bool {
        match self {
            Answer::Silence | Answer::AndSilence(_) | Answer::Once(..) => true,
            Answer::Until(_, answers) => answers.iter().any(Answer::exceeds_limit),
            _ => false,
        }
    }
}

/// A running containerd. Its thread ends with the process.
pub struct Fake {
    folder: tempfile::TempDir,
    calls: Arc<Calls>,
    /// How long it may take to answer.
    limit: Duration,
}

impl Fake {
    /// Answers calls by the names of their methods. It tells its version, and has nothing else.
    pub fn start(answers: &[(&'static str, Answer)]) -> Fake {
        let mut all = BTreeMap::from([
            ("Version/Version", Fake::version()),
            ("ImageService/ImageFsInfo", Answer::Status(Code::Unimplemented)),
            ("Introspection/Plugins", Answer::Status(Code::Unimplemented)),
        ]);
        for list in ["Images/List", "Content/List", "Snapshots/List", "Leases/List"] {
            all.insert(list, Answer::Messages(vec![Vec::new()]));
        }
        for change in [
            "Leases/Create",
            "Leases/Delete",
            "Content/Update",
            "Content/Abort",
            "Snapshots/Remove",
            "Images/Create",
        ] {
            all.insert(change, Answer::Messages(vec![Vec::new()]));
        }
        all.extend(answers.iter().cloned());
        let limit = match all.values().any(Answer::exceeds_limit) {
            true => Duration::from_secs(3),
            false => LONGEST_WAIT,
        };
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&calls);
        std::thread::spawn(move || serve(listener, &Arc::new(all), &noted));
        Fake { folder, calls, limit }
    }

    /// How it tells its version.
    pub fn version() -> Answer {
        Answer::of(&VersionResponse {
            version: "1.7.24".into(),
            ..VersionResponse::default()
        })
    }

    /// How to reach it.
    pub fn options(&self) -> Options {
        options(self.folder.path().join("socket"), self.limit)
    }

    /// How many times a method was called.
    pub fn count(&self, method: &str) -> usize {
        count(&self.calls, method)
    }

    /// The first message of each call of a method.
    pub fn messages<M: Message + Default>(&self, method: &str) -> Vec<M> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|(called, _)| called == method);
        calls
            .map(|(_, message)| M::decode(message.as_slice()).unwrap())
            .collect()
    }
}

fn count(calls: &Calls, method: &str) -> usize {
    let calls = calls.lock().unwrap();
    calls.iter().filter(|(called, _)| called == method).count()
}

/// The options for a socket, with the same limit for everything.
pub fn options(socket: PathBuf, limit: Duration) -> Options {
    Options {
        address: Some(socket),
        timeouts: Timeouts {
            answer: limit,
            change: limit,
            idle: limit,
            shown: limit,
        },
        ..Options::default()
    }
}

fn serve(listener: UnixListener, answers: &Arc<BTreeMap<&'static str, Answer>>, calls: &Arc<Calls>) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let (answers, calls) = (Arc::clone(answers), Arc::clone(calls));
            tokio::spawn(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (answers, calls) = (Arc::clone(&answers), Arc::clone(&calls));
                    tokio::spawn(async move {
                        let path = request.uri().path().to_string();
                        let method = path.rsplit_once('.').unwrap().1;
                        let mut sent = Sent {
                            stream: request.into_body(),
                            rest: Vec::new(),
                        };
                        let Some(message) = sent.next().await else {
                            return;
                        };
                        calls.lock().unwrap().push((method.into(), message));
                        let answer = answers.get(method).cloned();
                        let answer = answer.unwrap_or(Answer::Status(Code::NotFound));
                        respond_with(respond, choose(answer, &calls).await, &mut sent).await;
                    });
                }
            });
        }
    });
}

/// The messages of a call.
struct Sent {
    stream: RecvStream,
    rest: Vec<u8>,
}

impl Sent {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((head, rest)) = self.rest.split_at_checked(5) {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                if let Some((message, rest)) = rest.split_at_checked(length) {
                    let message = message.to_vec();
                    self.rest = rest.to_vec();
                    return Some(message);
                }
            }
            let data = self.stream.data().await?.ok()?;
            let _ = self.stream.flow_control().release_capacity(data.len());
            self.rest.extend_from_slice(&data);
        }
    }
}

/// What an answer is that depends on calls.
async fn choose(answer: Answer, calls: &Calls) -> Answer {
    match answer {
        Answer::Until(method, answers) => {
            let [before, after] = *answers;
            if count(calls, method) == 0 { before } else { after }
        }
        Answer::Once(method, times, answer) => {
            let called = async {
                while count(calls, method) < times {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            match tokio::time::timeout(LONGEST_WAIT, called).await {
                Ok(()) => *answer,
                Err(_) => Answer::Status(Code::Aborted),
            }
        }
        answer => answer,
    }
}

async fn respond_with(mut respond: SendResponse<Bytes>, answer: Answer, sent: &mut Sent) {
    if matches!(answer, Answer::Silence) {
        std::future::pending::<()>().await;
    }
    let headers = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let Ok(mut stream) = respond.send_response(headers, false) else {
        return;
    };
    let mut code = Code::Ok;
    match answer {
        Answer::Silence | Answer::Until(..) | Answer::Once(..) => return,
        Answer::Status(status) => code = status,
        Answer::Messages(messages) => {
            for message in &messages {
                if !send(&mut stream, message).await {
                    return;
                }
            }
        }
        Answer::AndSilence(message) => {
            send(&mut stream, &message).await;
            std::future::pending::<()>().await;
        }
        Answer::Each(message) => loop {
            // The first one is read already.
            if !send(&mut stream, &message).await {
                return;
            }
            if sent.next().await.is_none() {
                break;
            }
        },
        Answer::Endless(message) => while send(&mut stream, &message).await {},
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", i32::from(code).into());
    let _ = stream.send_trailers(trailers);
}

/// Sends a message. False if the call has ended.
async fn send(stream: &mut SendStream<Bytes>, message: &[u8]) -> bool {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let mut frame = [&[0], length.as_slice(), message].concat();
    while !frame.is_empty() {
        stream.reserve_capacity(frame.len());
        let Some(Ok(capacity)) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return false;
        };
        let rest = frame.split_off(capacity.min(frame.len()));
        if stream.send_data(frame.into(), false).is_err() {
            return false;
        }
        frame = rest;
    }
    true
}
