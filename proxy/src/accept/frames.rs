//! The frames of an HTTP/2 connection, counted as their bytes pass: what costs work and carries nothing has a bound per
//! second. Floods of resets, PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, CONTINUATION and unknown frames end in
//! GOAWAY. Until then they are read a few in each turn of the thread, so that nobody waits behind one.

use super::doors::Away;
use super::stream::Stream;
use crate::clock::Clock;
use crate::turn::next_turn;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// Frames that each DATA frame sent earns the client: it answers with updates of two windows, and some probe the
/// bandwidth by PING.
const EARNED_BY_DATA: u32 = 4;
/// So many frames of a connection that bring no body are read in one turn of the thread, and no more are begun.
const FRAMES_PER_TURN: u32 = 64;
/// Bytes of one read that begins within no DATA frame: some dozens of small frames. Fewer would let the calls of a flood
/// begin before their resets are seen.
const READ_BYTES_BETWEEN: usize = 2 << 10;
const END_STREAM: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 0xb;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Finds frames in a run of bytes.
struct Cutter {
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Bytes of a payload, or of the preface, still to come.
    rest: usize,
    /// Whether these are data.
    in_data: bool,
}

/// The head of a frame.
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Cutter {
    fn after(rest: usize) -> Self {
        Self { head: [0; HEAD_BYTES], filled: 0, rest, in_data: false }
    }

    /// Goes through bytes; says each frame whose head is whole.
    fn cut(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEAD_BYTES - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < HEAD_BYTES {
                return;
            }
            self.filled = 0;
            let [a, b, c, kind, flags, id @ ..] = self.head;
            self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.in_data = kind == DATA;
            let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
            each(Frame { length: self.rest, kind, flags, stream });
        }
    }

    /// Whether what comes next is data.
    fn is_in_data(&self) -> bool {
        self.in_data && self.rest > 0
    }

    /// Whether a frame of our own may stand here.
    fn is_between(&self) -> bool {
        self.rest == 0 && self.filled == 0
    }
}

/// What was counted of a connection.
pub(super) struct Meter {
    clock: Rc<Clock>,
    resets_max: u32,
    frames_max: u32,
    second: Cell<u64>,
    resets: Cell<u32>,
    frames: Cell<u32>,
    earned: Cell<u32>,
    stream: Cell<u32>,
    broken: Cell<Option<Away>>,
    /// Frames that were read in this turn of the thread.
    turn: Cell<u32>,
}

impl Meter {
    pub fn new(clock: &Rc<Clock>, resets_max: u32, frames_max: u32) -> Rc<Self> {
        Rc::new(Self {
            clock: Rc::clone(clock),
            resets_max,
            frames_max,
            second: Cell::new(0),
            resets: Cell::new(0),
            frames: Cell::new(0),
            earned: Cell::new(0),
            stream: Cell::new(0),
            broken: Cell::new(None),
            turn: Cell::new(0),
        })
    }

    /// Which bound was broken.
    pub fn broken(&self) -> Option<Away> {
        self.broken.get()
    }

    /// Resets that came in this second.
    pub fn resets(&self) -> u32 {
        self.resets.get()
    }

    /// A turn of the thread begins, or the connection is polled again within one.
    pub fn begin_turn(&self) {
        self.turn.set(0);
    }

    fn renew(&self) {
        let second = self.clock.now_ms() / 1000;
        if self.second.replace(second) != second {
            self.resets.set(0);
            self.frames.set(0);
            self.earned.set(0);
        }
    }

    fn came(&self, frame: &Frame) {
        if frame.kind != DATA || frame.length == 0 {
            self.turn.set(self.turn.get() + 1);
        }
        match frame.kind {
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => {}
            HEADERS => self.stream.set(self.stream.get().max(frame.stream)),
            RST_STREAM => {
                self.resets.set(self.resets.get() + 1);
                if self.resets.get() > self.resets_max {
                    self.broken.set(self.broken.get().or(Some(Away::Resets)));
                }
            }
            _ => {
                self.frames.set(self.frames.get() + 1);
                if self.frames.get() > self.frames_max.saturating_add(self.earned.get()) {
                    self.broken.set(self.broken.get().or(Some(Away::Frames)));
                }
            }
        }
    }

    fn went(&self, frame: &Frame) {
        // Resets of our own are no measure: many are calls that have ended early. Those for an error of the client's are
        // counted where the error is seen (`h2_errors_max`).
        if frame.kind == DATA {
            self.earned.set(self.earned.get().saturating_add(EARNED_BY_DATA));
        }
    }

    /// GOAWAY (RFC 9113, 6.8), after the last stream that was seen.
    pub fn goaway(&self) -> [u8; HEAD_BYTES + 8] {
        let [a, b, c, d] = self.stream.get().to_be_bytes();
        [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM]
    }
}

/// A connection whose frames are counted. Nothing is read from it any more once a bound is broken.
pub(super) struct Metered {
    stream: Rc<RefCell<Stream>>,
    meter: Rc<Meter>,
    incoming: Cutter,
    outgoing: Cutter,
    /// Whether the last byte that was written ended a frame.
    between: Rc<Cell<bool>>,
}

impl Metered {
    /// Also says whether the last byte that was written ends a frame.
    pub fn new(stream: &Rc<RefCell<Stream>>, meter: &Rc<Meter>) -> (Self, Rc<Cell<bool>>) {
        let between = Rc::new(Cell::new(true));
        let metered = Self {
            stream: Rc::clone(stream),
            meter: Rc::clone(meter),
            incoming: Cutter::after(PREFACE_BYTES),
            outgoing: Cutter::after(0),
            between: Rc::clone(&between),
        };
        (metered, between)
    }

    fn wrote(&mut self, written: usize, bufs: &[&[u8]]) {
        let mut left = written;
        self.meter.renew();
        for buf in bufs {
            let taken = left.min(buf.len());
            let meter = &self.meter;
            self.outgoing.cut(&buf[..taken], |frame| meter.went(&frame));
            left -= taken;
        }
        self.between.set(self.outgoing.is_between());
    }
}

impl Read for Metered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.broken().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.meter.turn.get() >= FRAMES_PER_TURN {
            next_turn(cx);
            return Poll::Pending;
        }
        let most = if this.incoming.is_in_data() { usize::MAX } else { READ_BYTES_BETWEEN };
        // SAFETY: `ReadBuf::uninit` only ever initialises bytes, and what it filled is what the cursor moves over.
        let filled = unsafe {
            let room = buf.as_mut();
            let most = room.len().min(most);
            let mut inner = ReadBuf::uninit(&mut room[..most]);
            match AsyncRead::poll_read(Pin::new(&mut *this.stream.borrow_mut()), cx, &mut inner) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            this.meter.renew();
            let meter = &this.meter;
            this.incoming.cut(inner.filled(), |frame| meter.came(&frame));
            inner.filled().len()
        };
        if this.meter.broken().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // SAFETY: these bytes were filled just above.
        unsafe { buf.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl Write for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Write::poll_write(Pin::new(&mut *this.stream.borrow_mut()), cx, bytes);
        if let Poll::Ready(Ok(written)) = result {
            this.wrote(written, &[bytes]);
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut *self.stream.borrow_mut()), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket's end is its owner's, who may have a GOAWAY to send.
        if self.meter.broken().is_some() {
            return Poll::Ready(Ok(()));
        }
        Write::poll_shutdown(Pin::new(&mut *self.stream.borrow_mut()), cx)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&*self.stream.borrow())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Write::poll_write_vectored(Pin::new(&mut *this.stream.borrow_mut()), cx, bufs);
        if let Poll::Ready(Ok(written)) = result {
            let slices: smallvec::SmallVec<[&[u8]; 8]> = bufs.iter().map(|buf| &**buf).collect();
            this.wrote(written, &slices);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_their_bytes_come() {
        let mut bytes = vec![b'x'; PREFACE_BYTES];
        for (length, kind, stream) in [(0u8, 4u8, 0u8), (5, 0, 1), (8, 6, 0), (0, 0, 3)] {
            bytes.extend_from_slice(&[0, 0, length, kind, 0, 0, 0, 0, stream]);
            bytes.resize(bytes.len() + usize::from(length), 0xee);
        }
        for piece in 1..bytes.len() {
            let mut cutter = Cutter::after(PREFACE_BYTES);
            let mut seen = Vec::new();
            for part in bytes.chunks(piece) {
                cutter.cut(part, |frame| seen.push((frame.length, frame.kind, frame.stream)));
            }
            assert_eq!(seen, [(0, 4, 0), (5, 0, 1), (8, 6, 0), (0, 0, 3)], "pieces of {piece}");
            assert!(cutter.is_between());
        }
    }

    /// However much has come already, a turn reads a part of it and asks for the next.
    #[tokio::test]
    async fn a_flood_is_read_over_many_turns() {
        const PINGS: usize = 1000;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut bytes = vec![b'x'; PREFACE_BYTES];
        for _ in 0..PINGS {
            bytes.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0flooding");
        }
        std::io::Write::write_all(&mut client, &bytes).unwrap();
        let stream = Stream::new(super::super::Wire::Plain(super::super::Socket::new(socket)));
        let meter = Meter::new(&Clock::new(10), u32::MAX, u32::MAX);
        let (mut metered, _) = Metered::new(&Rc::new(RefCell::new(stream)), &meter);
        let (mut turns, mut read) = (0, 0);
        std::future::poll_fn(|cx| {
            meter.begin_turn();
            turns += 1;
            loop {
                let mut room = [0; 8 << 10];
                let mut buf = hyper::rt::ReadBuf::new(&mut room);
                let Poll::Ready(result) = Pin::new(&mut metered).poll_read(cx, buf.unfilled()) else { break };
                result.unwrap();
                read += buf.filled().len();
            }
            // The last read of a turn may bring as many more as it has room for.
            let most = FRAMES_PER_TURN as usize + READ_BYTES_BETWEEN / HEAD_BYTES;
            assert!(meter.turn.get() as usize <= most, "{} frames in one turn", meter.turn.get());
            if read == bytes.len() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(meter.frames.get() as usize, PINGS);
        assert!(turns >= PINGS / (FRAMES_PER_TURN as usize + READ_BYTES_BETWEEN / 17), "{turns} turns");
    }

    #[test]
    fn what_carries_nothing_has_a_bound_each_second() {
        let clock = Clock::new(10);
        let meter = Meter::new(&clock, 2, 3);
        let frame = |kind, length, flags| Frame { length, kind, flags, stream: 1 };
        for _ in 0..100 {
            meter.came(&frame(DATA, 1, 0));
            meter.came(&frame(DATA, 0, END_STREAM));
            meter.came(&frame(HEADERS, 10, 0));
        }
        for kind in [DATA, 6, 99] {
            meter.came(&frame(kind, 0, 0));
        }
        assert_eq!(meter.broken(), None);
        meter.went(&frame(DATA, 1, 0));
        for _ in 0..EARNED_BY_DATA {
            meter.came(&frame(8, 4, 0));
        }
        assert_eq!(meter.broken(), None, "earned");
        meter.came(&frame(8, 4, 0));
        assert_eq!(meter.broken(), Some(Away::Frames));
        let meter = Meter::new(&clock, 2, 3);
        for _ in 0..2 {
            meter.came(&frame(RST_STREAM, 4, 0));
            meter.went(&frame(RST_STREAM, 4, 0));
        }
        assert_eq!(meter.broken(), None);
        meter.came(&frame(RST_STREAM, 4, 0));
        assert_eq!(meter.broken(), Some(Away::Resets));
    }
}
