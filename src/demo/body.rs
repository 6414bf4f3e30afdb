//! Bodies of the demo: some bytes at once, or a stream of a known length made as it is read, so that a large
//! transfer costs no memory, at full speed or at a pace.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

const CHUNK_BYTES: usize = 32 * 1024;
const FILL: &[u8] = &[b'.'; CHUNK_BYTES];

/// A request or response body.
pub struct Payload {
    ready: Option<Bytes>,
    fill_bytes: u64,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Payload {
    /// No body.
    pub fn empty() -> Self {
        Self::of(Bytes::new())
    }

    /// These bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self { ready: Some(bytes.into()).filter(|bytes| !bytes.is_empty()), fill_bytes: 0, pause: None }
    }

    /// `bytes` bytes of filling, as fast as they are taken.
    pub fn fill(bytes: u64) -> Self {
        Self { ready: None, fill_bytes: bytes, pause: None }
    }

    /// `bytes` bytes of filling, one chunk of 32 KiB per `pause`. Needs a tokio timer.
    pub fn paced(bytes: u64, pause: Duration) -> Self {
        Self { ready: None, fill_bytes: bytes, pause: Some((pause, Box::pin(sleep(Duration::ZERO)))) }
    }

    /// Bytes still to come.
    pub fn bytes_left(&self) -> u64 {
        self.ready.as_ref().map_or(0, |bytes| bytes.len() as u64) + self.fill_bytes
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.ready.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.fill_bytes == 0 {
            return Poll::Ready(None);
        }
        if let Some((pause, timer)) = &mut self.pause {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.set(sleep(*pause));
        }
        let length = CHUNK_BYTES.min(usize::try_from(self.fill_bytes).unwrap_or(CHUNK_BYTES));
        self.fill_bytes -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILL[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_stream_is_as_long_as_it_says() {
        for bytes in [0, 1, 32 * 1024, 32 * 1024 + 1, 300_000] {
            assert_eq!(Payload::fill(bytes).size_hint().exact(), Some(bytes));
            let read = Payload::fill(bytes).collect().await.unwrap().to_bytes();
            assert_eq!(read.len() as u64, bytes);
        }
        let paced = Payload::paced(100_000, Duration::from_millis(1));
        assert_eq!(paced.collect().await.unwrap().to_bytes().len(), 100_000);
        assert!(Payload::empty().is_end_stream());
        assert_eq!(Payload::of("abc").collect().await.unwrap().to_bytes(), "abc");
    }
}
