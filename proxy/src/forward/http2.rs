//! HTTP/2 towards upstreams: connections that many requests share, and the request as its head has it.

use super::answer::{Download, Head};
use super::flow::{Flow, Sent};
use super::headers::is_hop;
use super::pool::{Broken, Content};
use super::tally::Open;
use crate::accept::Local;
use crate::core::Core;
use crate::error::Fault;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// What an upstream may send ahead, on one stream and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What may wait for an upstream's window, per stream.
const SEND_BYTES_MAX: usize = 64 << 10;

/// A connection that many requests share.
pub(crate) struct Shared {
    sender: SendRequest<Sent>,
    /// The id of its link.
    pub link: u128,
    pub secure: bool,
    /// Streams that are open.
    open: Cell<usize>,
    used: Cell<bool>,
    idle_since_ms: Cell<u64>,
    counted: Open,
}

impl Shared {
    /// Speaks the preface on a new connection.
    pub async fn begin(
        core: &Core,
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        (link, secure): (u128, bool),
        (addr, counted): (SocketAddr, Open),
    ) -> io::Result<Rc<Self>> {
        let header_bytes = u32::try_from(core.plan.limits.response_header_bytes_max).unwrap_or(u32::MAX);
        let (sender, connection) = Builder::new(Local)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(header_bytes)
            .max_send_buf_size(SEND_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%addr, %error, "an HTTP/2 connection to an upstream has ended");
            }
        });
        Ok(Rc::new(Self {
            sender,
            link,
            secure,
            open: Cell::new(0),
            used: Cell::new(false),
            idle_since_ms: Cell::new(core.clock.now_ms()),
            counted,
        }))
    }

    /// Whether another request may go on it.
    pub fn has_room(&self, streams_max: usize) -> bool {
        !self.sender.is_closed() && self.open.get() < streams_max
    }

    /// Whether it is worth keeping.
    pub fn stays(&self, since_ms: u64) -> bool {
        !self.sender.is_closed() && (self.open.get() > 0 || self.idle_since_ms.get() >= since_ms)
    }
}

type Call = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Sent>>>>>>;

/// One request's part in a shared connection.
pub(crate) struct Stream {
    shared: Rc<Shared>,
    core: Rc<Core>,
    pub reused: bool,
    call: Option<Call>,
    /// What was sent.
    flow: Option<Rc<Flow>>,
    incoming: Option<Incoming>,
}

impl Stream {
    pub fn new(core: &Rc<Core>, shared: &Rc<Shared>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self {
            shared: Rc::clone(shared),
            core: Rc::clone(core),
            reused: shared.used.replace(true),
            call: None,
            flow: None,
            incoming: None,
        }
    }

    /// Sends the request whose head is given as HTTP/1.1 has it: one place decides what goes upstream.
    pub fn send(&mut self, head: &[u8], flow: &Rc<Flow>) -> Result<(), Fault> {
        let mut request =
            request(head, self.shared.secure).ok_or(Fault::BadRequest("malformed request target"))?;
        *request.body_mut() = Some(Sent(Rc::clone(flow)));
        let request = request.map(|body| body.expect("set just above"));
        self.flow = Some(Rc::clone(flow));
        let mut sender = self.shared.sender.clone();
        self.call = Some(Box::pin(async move { sender.try_send_request(request).await }));
        Ok(())
    }

    /// The response head, once it is there.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        // Not sent yet: whoever sends it polls on.
        let Some(call) = &mut self.call else { return Poll::Pending };
        let called = ready!(call.as_mut().poll(cx));
        self.call = None;
        let (parts, incoming) = match called {
            Ok(response) => response.into_parts(),
            Err(mut error) => {
                // One that never left comes back whole.
                let never_left = error.take_message().is_some();
                let fate = if never_left { Fate::Unsent } else { Fate::of(error.error()) };
                if let Some(flow) = &self.flow {
                    flow.fate.set(fate);
                }
                tracing::debug!(error = %error.error(), "an HTTP/2 request has failed");
                return Poll::Ready(Err(Broken::Closed));
            }
        };
        let mut headers = parts.headers;
        let hops: Vec<HeaderName> = headers.keys().filter(|name| is_hop(name.as_str())).cloned().collect();
        for name in &hops {
            headers.remove(name);
        }
        let body = if incoming.is_end_stream() {
            Download::Closed
        } else {
            Download::Stream(incoming.size_hint().exact())
        };
        self.incoming = Some(incoming);
        Poll::Ready(Ok(Head { status: parts.status, headers, upgrade: None, body, keeps: true }))
    }

    /// The next piece of the body; none at its end.
    pub fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Download,
    ) -> Poll<Option<Result<Content, Broken>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let (content, ended) = match frame {
            None => (None, true),
            Some(Err(_reset)) => return Poll::Ready(Some(Err(Broken::Closed))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => (Some(Ok(Content::Data(data))), incoming.is_end_stream()),
                Err(frame) => (frame.into_trailers().ok().map(|map| Ok(Content::Trailers(map))), true),
            },
        };
        *body = if ended { Download::Closed } else { Download::Stream(incoming.size_hint().exact()) };
        Poll::Ready(content)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get() - 1);
        self.shared.idle_since_ms.set(self.core.clock.now_ms());
        self.shared.counted.free();
    }
}

/// What an upstream has done with a request that it did not answer (RFC 9113, 8.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Perhaps something.
    Unknown,
    /// Nothing: the connection ends, and the request was not among those that it still serves.
    Unsent,
    /// Nothing: it has refused this one.
    Refused,
}

impl Fate {
    fn of(error: &hyper::Error) -> Self {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
        match cause {
            // A stream is given this error only when the GOAWAY leaves it out.
            Some(cause) if cause.is_go_away() && cause.is_remote() => Self::Unsent,
            Some(cause)
                if cause.is_reset()
                    && cause.is_remote()
                    && cause.reason() == Some(h2::Reason::REFUSED_STREAM) =>
            {
                Self::Refused
            }
            _ => Self::Unknown,
        }
    }
}

/// The head of HTTP/1.1 as a request (RFC 9113, 8.3.1).
fn request(head: &[u8], secure: bool) -> Option<Request<Option<Sent>>> {
    let count = head.iter().filter(|byte| **byte == b'\n').count();
    let mut fields = vec![httparse::EMPTY_HEADER; count];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(head).ok().filter(httparse::Status::is_complete)?;
    let mut request = Request::new(None);
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let mut authority = None;
    let headers = request.headers_mut();
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            header::HOST => authority = Some(field.value.to_vec()),
            header::TE => {
                headers.insert(name, HeaderValue::from_static("trailers"));
            }
            _ if is_hop(name.as_str()) => {}
            _ => {
                headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
            }
        }
    }
    let scheme = if secure { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority?.as_slice()).path_and_query(parsed.path?);
    *request.uri_mut() = uri.build().ok()?;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_become_requests() {
        let head = b"POST /a?b=c HTTP/1.1\r\nhost: h:81\r\nx-a: 1\r\nx-a: 2\r\nte: trailers\r\n\
            connection: upgrade\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n";
        let made = request(head, true).unwrap();
        assert_eq!((made.method().as_str(), made.uri().to_string().as_str()), ("POST", "https://h:81/a?b=c"));
        let mut lines: Vec<_> =
            made.headers().iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(lines, ["te=trailers", "x-a=1", "x-a=2"]);
        assert!(request(b"GET / HTTP/1.1\r\n\r\n", false).is_none(), "nobody is asked");
        assert!(request(b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", false).is_none());
    }
}
