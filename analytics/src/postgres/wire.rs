//! One connection's bytes: messages in, replies out, each within its bounds.

use std::future::pending;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::{Message, Opening};
use super::sqlstate::Report;

/// Longest message of a client that has not said who it is, in bytes; PostgreSQL has the same bound.
const OPENING_BYTES_MAX: usize = 10_000;
/// Read at once.
const PIECE_BYTES: usize = 16 << 10;
/// Replies that are gathered before they are sent.
pub(super) const OUT_BYTES: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client has gone, or has said that it goes.
    Gone,
    /// It is told why.
    Fatal(Report),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A stream, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub(super) struct Wire {
    stream: Box<dyn Socket>,
    input: BytesMut,
    /// Replies that are not sent yet.
    pub(super) out: BytesMut,
    bytes_max: usize,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Socket>) -> Self {
        Self { stream, input: BytesMut::new(), out: BytesMut::new(), bytes_max: OPENING_BYTES_MAX }
    }

    /// Takes messages of up to so many bytes from here on.
    pub(super) fn allow(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max.max(OPENING_BYTES_MAX);
    }

    /// Takes the stream out, to go on with TLS over it.
    ///
    /// # Errors
    /// When the client has sent more than it should have: what came before the handshake must not be believed after it
    /// (CVE-2021-23214).
    pub(super) fn take_stream(&mut self) -> Result<Box<dyn Socket>, Stop> {
        if self.input.is_empty() {
            return Ok(std::mem::replace(&mut self.stream, Box::new(tokio::io::empty())));
        }
        Err(Stop::Fatal(Report::fatal("08P01", "received unencrypted data after SSL request")))
    }

    /// Reads until there are so many bytes. Nothing is lost when it is dropped.
    async fn fill(&mut self, bytes: usize) -> Result<(), Stop> {
        while self.input.len() < bytes {
            self.input.reserve(PIECE_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Stop::Gone);
            }
        }
        Ok(())
    }

    /// The length at a place of the input, which counts itself.
    fn length(&self, at: usize) -> Result<usize, Stop> {
        let length = (&self.input[at..at + 4]).get_i32();
        match usize::try_from(length) {
            Ok(length) if length < 4 => Err(Stop::Fatal(Report::fatal("08P01", "invalid message length"))),
            Ok(length) if length > self.bytes_max => Err(Stop::Fatal(
                Report::fatal(
                    "54000",
                    format!("a message of {length} bytes is longer than {}", self.bytes_max),
                )
                .hint("analytics.query_bytes_max is the longest"),
            )),
            Ok(length) => Ok(length),
            Err(_) => Err(Stop::Fatal(Report::fatal("08P01", "invalid message length"))),
        }
    }

    fn take(&mut self, head: usize, length: usize) -> Bytes {
        self.input.advance(head);
        self.input.split_to(length - 4).freeze()
    }

    /// The next message of a connection that is not open yet.
    pub(super) async fn opening(&mut self) -> Result<Opening, Stop> {
        self.fill(4).await?;
        let length = self.length(0)?;
        self.fill(length).await?;
        Opening::read(self.take(4, length)).map_err(|malformed| Stop::Fatal(fatal(malformed.into())))
    }

    /// The next message: one that can be read, or its type and what is to be told about it. Nothing is lost when it is
    /// dropped.
    pub(super) async fn message(&mut self) -> Result<Result<Message, (u8, Report)>, Stop> {
        self.fill(5).await?;
        let (kind, length) = (self.input[0], self.length(1)?);
        self.fill(1 + length).await?;
        match Message::read(kind, self.take(5, length)) {
            Ok(message) => Ok(Ok(message)),
            Err(malformed) => match Report::from(malformed) {
                report if report.is_fatal() => Err(Stop::Fatal(report)),
                report => Ok(Err((kind, report))),
            },
        }
    }

    /// Ready when the client has gone; takes in meanwhile what it says ahead of its turn, up to the length of a message.
    pub(super) async fn gone(&mut self) {
        while self.input.len() <= self.bytes_max {
            self.input.reserve(PIECE_BYTES);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        pending().await
    }

    /// Sends what was gathered. What was sent is not sent again after this is dropped.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        self.stream.write_all_buf(&mut self.out).await?;
        self.stream.flush().await?;
        if self.out.capacity() > 4 * OUT_BYTES {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Sends the rest, and ends.
    pub(super) async fn close(mut self) {
        // Who does not read any more misses it.
        let _gone = self.flush().await;
        let _gone = self.stream.shutdown().await;
    }
}

/// Before a connection is open every error ends it.
pub(super) fn fatal(report: Report) -> Report {
    Report { severity: "FATAL", ..report }
}
