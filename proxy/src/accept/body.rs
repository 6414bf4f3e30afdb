//! A request's body, from whichever protocol.

use super::http1;
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What the client sends after the head.
pub(crate) enum ClientBody {
    H1(http1::Body),
    H2(Incoming),
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
        }
    }

    /// What is still to come, where the head says it.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::H1(body) => body.length(),
            Self::H2(body) => body.size_hint().exact(),
        }
    }

    /// The next piece; none at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match self {
            Self::H1(body) => body.poll_frame(cx),
            Self::H2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| BodyCut)))
            }
        }
    }
}
