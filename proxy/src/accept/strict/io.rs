//! The stream that hyper reads: bytes from the wrapped stream pass the machine (`machine.rs`) and only clean ones
//! come out. In the common case (a whole message in one read, nothing pending) bytes are read straight into hyper's
//! buffer, judged there, and never copied. What is not clean yet moves to `pending`, which never holds more than an
//! incomplete head or line and one read. Writes pass through untouched.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::StrictLimits;
use super::machine::{Machine, Scan};
use super::violation::Violation;

/// One read while something is pending.
const FILL_BYTES: usize = 8 * 1024;
/// A larger buffer is given back once it is empty, so that an idle connection holds little.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// An HTTP/1 server connection's stream, guarded. See the module's documentation.
pub struct StrictIo<IO> {
    io: IO,
    machine: Machine,
    held_bytes_max: usize,
    pending: Vec<u8>,
    /// `pending[..given]` hyper has.
    given: usize,
    /// `pending[given..clean]` it may have; the rest is not judged or incomplete.
    clean: usize,
    eof: bool,
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    violation: RefCell<Option<Box<Violation>>>,
    head_started_at: Cell<Option<Instant>>,
    heads_seen: Cell<u64>,
    tunnel: Cell<bool>,
    exchanges: Cell<u32>,
    /// An exchange has ended and hyper has not yet flushed since.
    unflushed: Cell<bool>,
    /// A read waits for the exchange to end.
    waiting: Cell<bool>,
}

impl Shared {
    fn is_busy(&self) -> bool {
        self.exchanges.get() > 0 || self.unflushed.get()
    }
}

/// What the connection's owner sees of the guard. Clones see the same; they stay on the connection's thread.
#[derive(Clone)]
pub struct StrictHandle {
    shared: Rc<Shared>,
}

/// One request being answered; dropped when the response was handed to hyper whole, or given up.
pub struct Exchange {
    shared: Rc<Shared>,
}

impl StrictHandle {
    /// What was refused, if something was. Nothing is read after that.
    pub fn violation(&self) -> Option<Violation> {
        self.shared.violation.borrow().as_deref().cloned()
    }

    /// When the head that is being read began; `None` between heads and while an exchange is open (the time of a
    /// pipelined head counts from the end of the exchange before it). A head that comes whole in one read is never
    /// seen here, and costs no look at the clock.
    pub fn head_started_at(&self) -> Option<Instant> {
        self.shared.head_started_at.get().filter(|_| self.shared.exchanges.get() == 0)
    }

    /// How many clean heads there were; a refused one is not counted.
    #[cfg(test)]
    pub fn heads_seen(&self) -> u64 {
        self.shared.heads_seen.get()
    }

    /// The connection is a tunnel now: every byte passes, held ones first. Call it when hyper has finished the
    /// connection after a 101. (Called earlier, held bytes may go to hyper, which leaves them in `Parts::read_buf`.)
    pub fn tunnel(&self) {
        self.shared.tunnel.set(true);
    }

    /// Opens an exchange. Call it in `Service::call` before its future is first polled, and keep the result in the
    /// response body.
    pub fn exchange(&self) -> Exchange {
        self.shared.exchanges.set(self.shared.exchanges.get() + 1);
        Exchange { shared: Rc::clone(&self.shared) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.exchanges.set(self.shared.exchanges.get() - 1);
        self.shared.unflushed.set(true);
        if self.shared.head_started_at.get().is_some() {
            self.shared.head_started_at.set(Some(Instant::now()));
        }
    }
}

impl<IO> StrictIo<IO> {
    /// Guards `io`, from the first byte of an HTTP/1 connection.
    pub fn new(io: IO, limits: StrictLimits) -> (Self, StrictHandle) {
        let shared = Rc::new(Shared::default());
        let guard = Self {
            io,
            machine: Machine::new(limits),
            held_bytes_max: limits.held_bytes_max,
            pending: Vec::new(),
            given: 0,
            clean: 0,
            eof: false,
            shared: Rc::clone(&shared),
        };
        (guard, StrictHandle { shared })
    }

    /// The stream, and the bytes of a tunnel that were read ahead. Those of HTTP that were read and not handed on
    /// are dropped.
    pub fn into_inner(mut self) -> (IO, Vec<u8>) {
        let read_ahead =
            if self.shared.tunnel.get() { self.pending.split_off(self.given) } else { Vec::new() };
        (self.io, read_ahead)
    }

    /// The guarded stream, to be ended.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// How many bytes wait here.
    #[cfg(test)]
    pub(super) fn pending_len(&self) -> usize {
        self.pending.len() - self.given
    }

    /// Hands on what is clean in `pending`.
    fn give(&mut self, cursor: &mut ReadBufCursor<'_>) {
        let len = cursor.remaining().min(self.clean - self.given);
        cursor.put_slice(&self.pending[self.given..self.given + len]);
        self.given += len;
        if self.given == self.pending.len() {
            (self.given, self.clean) = (0, 0);
            if self.pending.capacity() > KEPT_BYTES_MAX {
                self.pending = Vec::new();
            } else {
                self.pending.clear();
            }
        }
    }

    /// Judges what is pending.
    fn scan_pending(&mut self) {
        let scan = self.machine.scan(&self.pending[self.clean..]);
        self.clean += scan.clean;
        if scan.violation.is_some() {
            self.pending.truncate(self.clean);
        }
        self.publish(scan);
    }

    /// Tells the handle what a scan found.
    fn publish(&mut self, scan: Scan) {
        let shared = &self.shared;
        shared.heads_seen.set(self.machine.heads_seen());
        if let Some(violation) = scan.violation {
            *shared.violation.borrow_mut() = Some(violation);
        }
        if !self.machine.in_head(self.pending.len() - self.clean) {
            shared.head_started_at.set(None);
        } else if shared.head_started_at.get().is_none() {
            shared.head_started_at.set(Some(Instant::now()));
        }
    }
}

impl<IO: Read + Unpin> StrictIo<IO> {
    /// Reads at most `room` bytes behind what is pending. Everything clean has been given. They come by way of the
    /// reader's own room, so that who waits for the rest of a head holds no buffer for it.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
        room: usize,
    ) -> Poll<Result<()>> {
        self.pending.drain(..self.given);
        self.clean -= self.given;
        self.given = 0;
        // SAFETY: `ReadBuf::uninit` only ever initialises bytes of the slice.
        let whole = unsafe { cursor.as_mut() };
        let room = room.min(whole.len());
        let mut buf = ReadBuf::uninit(&mut whole[..room]);
        ready!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()))?;
        self.eof = buf.filled().is_empty();
        self.pending.extend_from_slice(buf.filled());
        Poll::Ready(Ok(()))
    }

    /// Reads into hyper's own buffer and leaves there what is clean. Nothing is pending. Says how much that was.
    fn poll_direct(&mut self, cx: &mut Context<'_>, cursor: &mut ReadBufCursor<'_>) -> Poll<Result<usize>> {
        // SAFETY: `ReadBuf::uninit` only ever initialises bytes of the slice.
        let mut buf = ReadBuf::uninit(unsafe { cursor.as_mut() });
        ready!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()))?;
        let read = buf.filled();
        self.eof = read.is_empty();
        let scan = self.machine.scan(read);
        let clean = scan.clean;
        if scan.violation.is_none() {
            self.pending.extend_from_slice(&read[clean..]);
        }
        // SAFETY: `buf` lay over the cursor's unfilled part, and `clean` is at most what was read into it.
        unsafe { cursor.advance(clean) };
        self.publish(scan);
        Poll::Ready(Ok(clean))
    }
}

impl<IO: Read + Unpin> Read for StrictIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if cursor.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.given < this.clean {
                this.give(&mut cursor);
                return Poll::Ready(Ok(()));
            }
            if this.shared.tunnel.get() {
                if this.clean < this.pending.len() {
                    this.clean = this.pending.len();
                    continue;
                }
                return Pin::new(&mut this.io).poll_read(cx, cursor);
            }
            if let Some(violation) = &*this.shared.violation.borrow() {
                // Hyper reads while a response is under way, to notice a client that left, and gives the response
                // up when that read fails: the answers to earlier requests go out first.
                if !violation.in_body && this.shared.is_busy() {
                    this.shared.waiting.set(true);
                    return Poll::Pending;
                }
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, violation.reason())));
            }
            if this.machine.is_held() && !this.shared.is_busy() {
                this.machine.resume();
                this.scan_pending();
                continue;
            }
            if this.eof {
                return Poll::Ready(Ok(()));
            }
            if this.machine.is_held() {
                this.shared.waiting.set(true);
                let held = this.pending.len() - this.given;
                let room = this.held_bytes_max.saturating_sub(held).min(FILL_BYTES);
                if room == 0 {
                    return Poll::Pending;
                }
                ready!(this.poll_fill(cx, &mut cursor, room))?;
            } else if this.pending.is_empty() {
                if ready!(this.poll_direct(cx, &mut cursor))? > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                ready!(this.poll_fill(cx, &mut cursor, FILL_BYTES))?;
                this.scan_pending();
            }
        }
    }
}

impl<IO: Write + Unpin> Write for StrictIo<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        // Hyper flushes only once all it has is written, so an exchange that ended before is now on the wire.
        if self.shared.exchanges.get() == 0 {
            self.shared.unflushed.set(false);
            if self.shared.waiting.take() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
