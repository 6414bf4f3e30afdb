//! The byte guard of an HTTP/1 server connection: it stands between the socket (or TLS) and the reader of requests and
//! lets a byte through only when it is part of a well-formed message whose framing can be read in one way.
//!
//! The usual parsers accept several things that another server on the path may read differently (a bare LF, two equal
//! Content-Length lines, Content-Length beside Transfer-Encoding, chunk extensions), and such a difference is
//! request smuggling. Here RFC 9112 (sections 2.2, 3, 5, 6, 7) and RFC 9110 (5.5, 7.2) are applied to the letter,
//! and in a few places more narrowly than the letter where no honest client needs the room: `Transfer-Encoding`
//! is exactly `chunked`, `Content-Length` has no leading zero, chunk extensions are refused, a host is letters,
//! digits, `-`, `.`, `_` or an IPv6 literal, a port has no leading zero. Nothing is normalised: bytes are handed
//! on as they came or not at all.
//!
//! The journey of a byte: [`StrictIo`] (`io.rs`) reads it, straight into the reader's buffer when nothing is pending;
//! the `machine.rs` says how many of the bytes read are clean: a head (`head.rs`, its lines found by `line.rs`,
//! its authority read by `authority.rs`) is clean when it is complete, body bytes (`body.rs`) as soon as the framing
//! that announces them is checked. What is not clean yet is kept in a bounded buffer; what is refused is never
//! handed on. A body whose framing is already seen to be broken takes its head with it, so that nothing of a
//! smuggling attempt that came in one piece reaches a service.
//!
//! # What the connection's owner does
//! - Opens [`StrictHandle::exchange`] when a head was read and keeps the [`Exchange`] until the response is out. While
//!   an exchange is open, a violation found in a *later* pipelined request is held back, because a reader that looks
//!   for a client that left gives up the response under way when a read fails.
//! - Flushes once after that. If a read then fails and [`StrictHandle::violation`] is set and not `in_body`, no service
//!   ever saw the offending request: the owner answers with `status()` and closes. If it is `in_body`, the request body
//!   has failed with [`std::io::ErrorKind::InvalidData`] and whoever read it answers.
//! - Keeps its own limits at or above these ones, so that the answer is always this guard's.
//!
//! # Upgrades
//! What follows a request that asks for an upgrade (`Upgrade` and `Connection: upgrade`, HTTP/1.1) is either tunnel
//! bytes or the next request, and only the gateway's answer tells which. It is held, unread by anyone and bounded by
//! `held_bytes_max`, until the exchange has ended. After a 101 the owner calls [`StrictHandle::tunnel`] and takes the
//! stream and the bytes read ahead with [`StrictIo::into_inner`] (or goes on reading through the guard, now a plain
//! pipe with those bytes first). After any other answer they are read as the next request. So nobody parses a premature
//! tunnel byte, and no service gets one before its 101.

mod authority;
mod body;
mod head;
mod io;
mod line;
mod machine;
mod violation;

#[cfg(any(test, fuzzing))]
pub mod readers;

#[cfg(test)]
mod tests;

pub use body::TRAILERS_FORBIDDEN;
pub use io::{Exchange, StrictHandle, StrictIo};
pub use line::is_target;
#[cfg(test)]
pub use violation::{METHOD_KEPT_BYTES_MAX, Rule, TARGET_KEPT_BYTES_MAX, Violation};

/// The bounds of one connection. All sizes count the bytes on the wire, line ends included, except the request
/// line, which counts without its CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrictLimits {
    /// Longest request head, request line and final empty line included; beyond it 431.
    pub head_bytes_max: usize,
    /// Most header lines in a head, and most trailer lines after a chunked body; beyond it 431.
    pub header_count_max: usize,
    /// Longest request line; beyond it 414. At most 65,534, since hyper takes no longer target.
    pub request_line_bytes_max: usize,
    /// Largest single chunk of a chunked body; beyond it 400.
    pub chunk_bytes_max: u64,
    /// Longest trailer section, final empty line included; beyond it 431. Below 16,384, hyper's own bound.
    pub trailer_bytes_max: usize,
    /// Most bytes read ahead while an upgrade is being decided; further ones stay in the socket.
    pub held_bytes_max: usize,
}

impl Default for StrictLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            header_count_max: 100,
            request_line_bytes_max: 8 * 1024,
            chunk_bytes_max: i64::MAX as u64,
            trailer_bytes_max: 8 * 1024,
            held_bytes_max: 16 * 1024,
        }
    }
}
