//! A response on its way out: its head written in one look through the headers, then its body, framed as the client's
//! version has it.

use super::super::stream::Stream;
use super::super::strict::StrictIo;
use super::inbound::{Head, Inbound};
use crate::forward::tokens;
use crate::pieces::{Pieces, last_chunk, line};
use crate::respond::{Cut, ResponseBody};
use crate::turn::{BODY_BYTES_PER_TURN, next_turn};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use hyper::rt::Write as _;
use std::cell::RefCell;
use std::io;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Room for the head of a usual response.
const HEAD_BYTES: usize = 512;

/// What a request says about its response.
pub(super) struct Asked {
    /// Its response has a head only.
    head_only: bool,
    http_11: bool,
    takes_trailers: bool,
    keeps: bool,
}

impl Asked {
    pub fn by(head: &Head) -> Self {
        Self {
            head_only: *head.request.method() == Method::HEAD,
            http_11: head.request.version() == Version::HTTP_11,
            takes_trailers: head.takes_trailers,
            keeps: head.keeps,
        }
    }
}

/// A response being written.
pub(super) struct Outbound {
    out: Pieces,
    body: ResponseBody,
    framing: Framing,
    takes_trailers: bool,
    /// Whether the body was asked before, and was seen whole.
    asked: bool,
    ended: bool,
    cut: bool,
    /// Whether another request may follow.
    pub keeps: bool,
    /// Whether the client is waited for, and how much it took so far.
    pub blocked: bool,
    pub written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sized,
    Chunked,
    /// The end is the connection's.
    Close,
}

/// Why a response is not whole.
pub(super) enum Broken {
    /// The client takes no more.
    Client,
    /// The body was cut; the connection must not look whole.
    Body,
}

impl Outbound {
    /// Writes the head, behind what is left of an `interim` response. `date` is for a response without one.
    pub fn new(
        interim: &[u8],
        response: Response<ResponseBody>,
        asked: &Asked,
        serving: bool,
        date: &[u8],
    ) -> Self {
        let (parts, body) = response.into_parts();
        let mut out = Pieces::with_capacity(HEAD_BYTES);
        out.head.extend_from_slice(interim);
        let status = parts.status;
        status_line(&mut out.head, status);
        let said = headers(&mut out.head, &parts.headers, status);
        if !said.date {
            line(&mut out.head, b"date", date);
        }
        let bodiless = asked.head_only
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match body.size_hint().exact() {
            _ if bodiless || said.length => Framing::Sized,
            Some(length) => {
                // Writing into a vector cannot fail.
                let _written = write!(out.head, "content-length: {length}\r\n");
                Framing::Sized
            }
            None if asked.http_11 => {
                line(&mut out.head, b"transfer-encoding", b"chunked");
                Framing::Chunked
            }
            None => Framing::Close,
        };
        let keeps = asked.keeps && serving && !said.close && framing != Framing::Close;
        match (said.upgrade, keeps) {
            (true, _) if status == StatusCode::SWITCHING_PROTOCOLS => {
                line(&mut out.head, b"connection", b"upgrade")
            }
            (true, true) => line(&mut out.head, b"connection", b"upgrade"),
            (true, false) => line(&mut out.head, b"connection", b"upgrade, close"),
            (false, false) => line(&mut out.head, b"connection", b"close"),
            (false, true) if !asked.http_11 => line(&mut out.head, b"connection", b"keep-alive"),
            (false, true) => {}
        }
        out.head.extend_from_slice(b"\r\n");
        let ended = bodiless || body.is_end_stream();
        Self {
            out,
            body,
            framing,
            takes_trailers: asked.takes_trailers,
            asked: false,
            ended,
            cut: false,
            keeps,
            blocked: false,
            written: 0,
        }
    }

    /// Writes on; ready when the response is out. The body may itself read from the connection.
    pub fn poll(&mut self, inbound: &RefCell<Inbound>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // A small body that is there already goes out with its head.
        if !self.asked && !self.ended {
            self.asked = true;
            if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
                self.take(frame);
            }
        }
        let before = self.written;
        loop {
            let written = self.poll_write(&mut inbound.borrow_mut().io, cx);
            self.blocked = written.is_pending();
            if ready!(written).is_err() {
                return Poll::Ready(Err(Broken::Client));
            }
            if self.cut {
                return Poll::Ready(Err(Broken::Body));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.written - before >= BODY_BYTES_PER_TURN {
                next_turn(cx);
                return Poll::Pending;
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.take(frame);
        }
    }

    /// Writes and flushes what there is.
    fn poll_write(&mut self, io: &mut StrictIo<Stream>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = match self.out.single() {
                Some(bytes) => ready!(Pin::new(&mut *io).poll_write(cx, bytes))?,
                None => ready!(Pin::new(&mut *io).poll_write_vectored(cx, &self.out.slices()))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
            self.written += written as u64;
        }
        Pin::new(io).poll_flush(cx)
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, Cut>>) {
        let chunked = self.framing == Framing::Chunked;
        match frame {
            None => {
                self.ended = true;
                self.out.add(Bytes::new(), chunked, true);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.ended = self.body.is_end_stream();
                    self.out.add(data, chunked, self.ended);
                }
                Err(frame) => {
                    self.ended = true;
                    match frame.into_trailers() {
                        Ok(trailers) if chunked && self.takes_trailers => {
                            self.out.add(last_chunk(trailers.iter()).into(), false, false);
                        }
                        _ => self.out.add(Bytes::new(), chunked, true),
                    }
                }
            },
            Some(Err(Cut)) => self.cut = true,
        }
    }

    /// Whether the end of the connection would look like the end of the response.
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framing::Close
    }
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What a response's headers say of itself.
#[derive(Default)]
struct Said {
    date: bool,
    length: bool,
    close: bool,
    upgrade: bool,
}

/// Writes the headers that go as they are.
fn headers(out: &mut Vec<u8>, headers: &HeaderMap, status: StatusCode) -> Said {
    let mut said = Said::default();
    for (name, value) in headers {
        match *name {
            header::DATE => said.date = true,
            // RFC 9110, 8.6.
            header::CONTENT_LENGTH if status == StatusCode::NO_CONTENT || status.is_informational() => {
                continue;
            }
            header::CONTENT_LENGTH => said.length = true,
            header::CONNECTION => {
                for token in tokens(value) {
                    said.close |= token.eq_ignore_ascii_case(b"close");
                    said.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                }
                continue;
            }
            _ => {}
        }
        line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    said
}
