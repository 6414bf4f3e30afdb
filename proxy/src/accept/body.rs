//! A request's body, from whichever protocol.

use super::http1;
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What the client sends after the head.
pub(crate) enum ClientBody {
    H1(http1::Body),
    H2(Incoming),
    /// Kept by the gateway, whole.
    Kept(Option<Bytes>),
    /// Somebody looks at it on its way.
    Watched(Box<Watched>),
}

/// Who looks at a body on its way.
pub(crate) trait Witness {
    /// Sees a piece; says whether it wants to see more.
    fn piece(&mut self, data: &Bytes) -> bool;
    /// Has seen all of it.
    fn whole(self: Box<Self>);
}

/// A body that somebody looks at.
pub(crate) struct Watched {
    body: ClientBody,
    witness: Option<Box<dyn Witness>>,
}

/// The body ended before its end.
#[derive(Debug)]
pub(crate) struct BodyCut;

impl ClientBody {
    /// Whether nothing more comes.
    pub fn is_end(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end(),
            Self::H2(body) => body.is_end_stream(),
            Self::Kept(bytes) => bytes.is_none(),
            Self::Watched(watched) => watched.body.is_end(),
        }
    }

    /// What is still to come, where the head says it.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::H1(body) => body.length(),
            Self::H2(body) => body.size_hint().exact(),
            Self::Kept(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Watched(watched) => watched.body.length(),
        }
    }

    /// How many of the first `bytes` are here, where the rest of them can be waited for without taking any; none if there is
    /// nothing to wait for.
    pub fn begun(&self, bytes: usize) -> Option<usize> {
        match self {
            Self::H1(body) => body.begun(bytes),
            Self::Watched(watched) => watched.body.begun(bytes),
            Self::H2(_) | Self::Kept(_) => None,
        }
    }

    /// Reads on until the first `bytes` are here.
    pub fn poll_begun(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), BodyCut>> {
        match self {
            Self::H1(body) => body.poll_begun(cx, bytes),
            Self::Watched(watched) => watched.body.poll_begun(cx, bytes),
            Self::H2(_) | Self::Kept(_) => Poll::Ready(Ok(())),
        }
    }

    /// The same body, with a witness.
    pub fn watched(self, witness: Box<dyn Witness>) -> Self {
        Self::Watched(Box::new(Watched { body: self, witness: Some(witness) }))
    }

    /// The next piece; none at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match self {
            Self::H1(body) => body.poll_frame(cx),
            Self::H2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| BodyCut)))
            }
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Watched(watched) => watched.poll_frame(cx),
        }
    }
}

impl Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let frame = ready!(self.body.poll_frame(cx));
        if let Some(mut witness) = self.witness.take() {
            let goes_on = match &frame {
                Some(Ok(frame)) => frame.data_ref().is_none_or(|data| witness.piece(data)),
                Some(Err(BodyCut)) => false,
                None => true,
            };
            // Who reads may know by now that this was all, and not ask again.
            let ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data()) || self.body.is_end();
            match (goes_on, ended) {
                (true, true) => witness.whole(),
                (true, false) => self.witness = Some(witness),
                (false, _) => {}
            }
        }
        Poll::Ready(frame)
    }
}
