//! A plain HTTP/1.1 client of the gateway with kept-alive connections, as a customer or a service would use. Each
//! request is entered into the `Tally` before it is written, and its end exactly once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::body::Payload;
use super::tally::{Ending, Tally};

/// Connections kept for the next request.
const IDLE_MAX: usize = 256;
/// Bytes of an answer kept for the caller; the rest is counted and let go.
const KEPT_BYTES_MAX: usize = 4 * 1024;
/// An answer may take this long: longer than any sample service, so that only a fault reaches it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Read it to its end.
    Whole,
    /// Close the connection after so many bytes of the body.
    AbortAfter {
        /// Bytes of the body to read first.
        bytes: u64,
    },
}

/// An answer: its end, and the beginning of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the request ended.
    pub ending: Ending,
    /// The first bytes of the body, at most 4 KiB.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status when the whole answer arrived.
    pub fn status(&self) -> Option<u16> {
        match self.ending {
            Ending::Answered { status } => Some(status),
            _ => None,
        }
    }
}

struct Line {
    sender: SendRequest<Payload>,
    driver: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Closes the socket at once, also in the middle of an answer.
        self.driver.abort();
    }
}

/// The client. Cheap to share.
pub struct Client {
    gateway: SocketAddr,
    tally: Arc<Tally>,
    idle: Mutex<Vec<Line>>,
}

impl Client {
    /// A client of the gateway at `gateway` which counts into `tally`.
    pub fn new(gateway: SocketAddr, tally: Arc<Tally>) -> Self {
        Self { gateway, tally, idle: Mutex::new(Vec::new()) }
    }

    /// Sends `request` in the name of `caller` (absent for a service) and reads the answer.
    pub async fn call(
        &self,
        caller: Option<&'static str>,
        request: Request<Payload>,
        reading: Reading,
    ) -> Answer {
        let bytes_up = request.body().bytes_left();
        self.tally.sent(caller);
        let (answer, bytes_down) = match timeout(ANSWER_TIMEOUT, self.exchange(request, reading)).await {
            Ok(done) => done,
            Err(_) => (Answer { ending: Ending::Unanswered, body: Vec::new() }, 0),
        };
        self.tally.ended(answer.ending, bytes_up, bytes_down);
        answer
    }

    async fn exchange(&self, request: Request<Payload>, reading: Reading) -> (Answer, u64) {
        let unanswered = (Answer { ending: Ending::Unanswered, body: Vec::new() }, 0);
        let Some((mut line, response)) = self.send(request).await else { return unanswered };
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut kept = Vec::new();
        let mut bytes_down = 0_u64;
        if let Reading::AbortAfter { bytes: 0 } = reading {
            return (Answer { ending: Ending::Aborted { status }, body: kept }, 0);
        }
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return (Answer { ending: Ending::Truncated { status }, body: kept }, bytes_down);
            };
            let Some(data) = frame.data_ref() else { continue };
            bytes_down += data.len() as u64;
            keep(&mut kept, data);
            if matches!(reading, Reading::AbortAfter { bytes } if bytes_down >= bytes) {
                return (Answer { ending: Ending::Aborted { status }, body: kept }, bytes_down);
            }
        }
        // A line that is not ready for the next request is dropped, which closes it.
        if line.sender.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(line);
            }
        }
        (Answer { ending: Ending::Answered { status }, body: kept }, bytes_down)
    }

    /// A kept-alive connection may have been closed by the gateway meanwhile: hyper hands the request back when
    /// nothing of it was written, and it goes to the next connection. A request that was begun is never repeated.
    async fn send(
        &self,
        mut request: Request<Payload>,
    ) -> Option<(Line, http::Response<hyper::body::Incoming>)> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let fresh = kept.is_none();
            let mut line = match kept {
                Some(line) => line,
                None => connect(self.gateway).await.ok()?,
            };
            match line.sender.try_send_request(request).await {
                Ok(response) => return Some((line, response)),
                Err(mut failed) if !fresh => request = failed.take_message()?,
                Err(_) => return None,
            }
        }
    }
}

fn keep(kept: &mut Vec<u8>, data: &Bytes) {
    let room = KEPT_BYTES_MAX - kept.len();
    kept.extend_from_slice(&data[..room.min(data.len())]);
}

async fn connect(gateway: SocketAddr) -> std::io::Result<Line> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    let driver = tokio::spawn(async move {
        // How a connection ends is seen by the request on it; an idle one may end as it likes.
        let _ = connection.await;
    });
    Ok(Line { sender, driver: driver.abort_handle() })
}
