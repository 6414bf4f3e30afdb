//! Load over HTTP/2: several requests at a time on one connection, which is left when the server says that it goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::eventually;

/// Requests at a time.
const STREAMS: usize = 4;

/// What came of the requests.
#[derive(Default)]
pub struct Ledger {
    /// Ids of the responses.
    pub received: Vec<String>,
    /// What was neither answered nor given back as never sent.
    pub failed: Vec<String>,
    /// Connections that were used.
    pub connections: usize,
}

/// A client at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    client: JoinHandle<Ledger>,
}

impl Load {
    pub fn start(addr: SocketAddr, path: &str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, uri) = (Arc::clone(&stop), Arc::clone(&done), format!("http://{addr}{path}"));
        let client = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work(addr, &uri, &stopped, &counted))
        });
        Self { stop, done, client }
    }

    pub fn wait(&self, more: u64) {
        let goal = self.done.load(Relaxed) + more;
        eventually("responses over HTTP/2", || match self.done.load(Relaxed) {
            done if done >= goal => Ok(()),
            done => Err(format!("{done} of {goal}")),
        });
    }

    pub fn stop(self) -> Ledger {
        self.stop.store(true, Relaxed);
        self.client.join().unwrap()
    }
}

async fn work(addr: SocketAddr, uri: &str, stop: &AtomicBool, done: &AtomicU64) -> Ledger {
    let mut ledger = Ledger::default();
    while !stop.load(Relaxed) {
        let stream = match tokio::net::TcpStream::connect(addr).await {
            Ok(stream) => stream,
            Err(error) => {
                ledger.failed.push(format!("connect: {error}"));
                break;
            }
        };
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        ledger.connections += 1;
        while !stop.load(Relaxed) && !sender.is_closed() {
            let asked = std::array::from_fn::<_, STREAMS, _>(|_| ask(sender.clone(), uri));
            for answer in futures_all(asked).await {
                match answer {
                    Ok(Some(id)) => {
                        ledger.received.push(id);
                        done.fetch_add(1, Relaxed);
                    }
                    // Never sent: the connection was about to go. The next one takes it.
                    Ok(None) => {}
                    Err(error) => ledger.failed.push(error),
                }
            }
        }
        drop(sender);
        // A connection that has gone on its own has nothing more to say.
        drop(driver.await);
    }
    ledger
}

async fn futures_all<F: Future + Send + 'static, const N: usize>(all: [F; N]) -> Vec<F::Output>
where
    F::Output: Send,
{
    let tasks = all.map(tokio::spawn);
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// One request: the id of its response; none when it was not sent.
fn ask(
    mut sender: SendRequest<Empty<Bytes>>,
    uri: &str,
) -> impl Future<Output = Result<Option<String>, String>> + Send + 'static {
    let request = http::Request::get(uri).body(Empty::new()).unwrap();
    async move {
        if sender.ready().await.is_err() {
            return Ok(None);
        }
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return match error.take_message() {
                    Some(_) => Ok(None),
                    None => Err(format!("{:?}", error.error())),
                };
            }
        };
        let (head, body) = response.into_parts();
        body.collect().await.map_err(|error| format!("{error:?}"))?;
        match (head.status.as_u16(), head.headers.get("x-request-id")) {
            (200, Some(id)) => Ok(Some(id.to_str().unwrap().replace('-', "").to_lowercase())),
            (status, _) => Err(status.to_string()),
        }
    }
}
