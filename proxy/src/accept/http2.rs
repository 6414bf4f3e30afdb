//! An HTTP/2 connection: hyper's server, its streams as tasks of this thread.

use super::doors::Away;
use super::frames::{Meter, Metered};
use super::stream::Stream;
use super::{ClientBody, Conn, Hold};
use crate::core::{Core, Phase, latest};
use crate::exchange;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

/// Calls that were reset before they began: with more of them at hand at once the connection is one that makes work, and is
/// ended before any begins. Counted with those of `h2_resets_max`.
const RESETS_AT_ONCE_MAX: usize = 20;

/// Runs what hyper spawns on this thread.
#[derive(Clone)]
pub(crate) struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Counts a request of a connection until its response is out.
pub(crate) struct Busy {
    conn: Rc<Conn>,
    waits: Cell<bool>,
}

impl Busy {
    fn new(conn: &Rc<Conn>) -> Self {
        conn.open.set(conn.open.get() + 1);
        conn.waits.set(conn.waits.get() + 1);
        Self { conn: Rc::clone(conn), waits: Cell::new(true) }
    }

    /// Whether it waits for something else than the client; when not, the client was just given something.
    pub fn waits(&self, waits: bool) {
        let all = &self.conn.waits;
        match (self.waits.replace(waits), waits) {
            (false, true) => all.set(all.get() + 1),
            (true, false) => {
                all.set(all.get() - 1);
                // Streams are tasks of their own: the connection's would not hear that from now on the client has a
                // deadline.
                if all.get() == 0
                    && let Some(driver) = &*self.conn.driver.borrow()
                {
                    driver.wake_by_ref();
                }
            }
            _ => {}
        }
        if !waits {
            self.conn.taken.set(self.conn.taken.get().wrapping_add(1));
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.waits(false);
        self.conn.open.set(self.conn.open.get() - 1);
    }
}

/// What a connection waits for, each with its own bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Request,
    /// Services, each with bounds of its own.
    Services,
    /// The client reads nothing, from the socket or by closing the windows of all its streams; what it took so far.
    Client(u64),
}

pub(super) async fn serve(core: Rc<Core>, conn: Conn, stream: Stream) {
    let blocked = Rc::clone(&stream.blocked);
    let conn = Rc::new(conn);
    let thread = Rc::clone(&core.thread);
    let limits = core.plan.limits.clone();
    // Each stream has the plan in force when it begins.
    let held = Rc::new(RefCell::new(core));
    let service = {
        let (held, conn) = (Rc::clone(&held), Rc::clone(&conn));
        service_fn(move |request: Request<Incoming>| {
            conn.requests.set(conn.requests.get() + 1);
            let request = request.map(ClientBody::H2);
            let hold = Hold::Stream(Busy::new(&conn));
            latest(&mut held.borrow_mut());
            exchange::serve(Rc::clone(&held.borrow()), Rc::clone(&conn), request, hold)
        })
    };
    let header_bytes = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    let meter = Meter::new(&thread.clock, limits.h2_resets_max, limits.h2_control_frames_max);
    let stream = Rc::new(RefCell::new(stream));
    let (metered, between) = Metered::new(&stream, &meter);
    let mut connection = hyper::server::conn::http2::Builder::new(Local)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_local_error_reset_streams(limits.h2_errors_max)
        .max_pending_accept_reset_streams(RESETS_AT_ONCE_MAX)
        .max_header_list_size(header_bytes)
        .max_send_buf_size(64 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .serve_connection(metered, service);
    let deadline = thread.clock.deadline();
    let requests_max = match limits.requests_per_connection_max {
        0 => u64::MAX,
        most => most,
    };
    let mut armed = None;
    let (mut ending, mut stuck) = (false, false);
    let mut failed = None;
    std::future::poll_fn(|cx| {
        latest(&mut held.borrow_mut());
        meter.begin_turn();
        conn.driver.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                failed = ended.err();
                return Poll::Ready(());
            }
            if thread.phase.get() == Phase::Cut {
                return Poll::Ready(());
            }
            let requests = conn.requests.get();
            // A client may have as many under way when it hears that no more are taken; one that goes on is cut.
            if requests >= requests_max.saturating_add(u64::from(limits.h2_streams_max)) {
                return Poll::Ready(());
            }
            let last = requests >= requests_max;
            let over = match thread.phase.get() {
                Phase::Opening | Phase::Serving => false,
                // Who has just come may ask once: for all that the client knows, it was accepted to.
                Phase::HandedOver => requests > 0,
                Phase::Draining | Phase::Cut => true,
            };
            if ending || !(last || over) {
                break;
            }
            ending = true;
            if last {
                thread.doors.count(Away::Requests);
            }
            Pin::new(&mut connection).graceful_shutdown();
        }
        let wait = match (conn.open.get(), conn.waits.get()) {
            _ if blocked.get() => Wait::Client(conn.taken.get()),
            (0, _) => Wait::Request,
            (_, 0) => Wait::Client(conn.taken.get()),
            _ => Wait::Services,
        };
        if armed != Some(wait) {
            armed = Some(wait);
            let core = held.borrow();
            let timeouts = &core.plan.timeouts;
            match wait {
                Wait::Client(_) => deadline.arm(timeouts.body_idle_timeout_ms),
                Wait::Services => deadline.disarm(),
                Wait::Request => deadline.arm(timeouts.idle_timeout_ms),
            }
        }
        if deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        stuck = matches!(wait, Wait::Client(_));
        if ending || stuck {
            return Poll::Ready(());
        }
        ending = true;
        Pin::new(&mut connection).graceful_shutdown();
        deadline.arm(held.borrow().plan.timeouts.linger_timeout_ms);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    drop(connection);
    let away = meter.broken();
    let at_once = failed.is_some_and(|error| is_calm(&error)) && meter.resets() as usize > RESETS_AT_ONCE_MAX;
    if let Some(away) = away.or(at_once.then_some(Away::Resets)) {
        thread.doors.count(away);
    }
    // Requests that it broke off end as tasks of their own. The connection is gone, and the stream ours alone.
    let Some(stream) = Rc::into_inner(stream) else { return };
    let mut stream = stream.into_inner();
    if stuck {
        // In order it would take its rest from the kernel, for as long as it likes.
        stream.reset();
    } else if away.is_some() && between.get() {
        let core = Rc::clone(&held.borrow());
        let last = last_word(&core, stream, meter.goaway());
        deadline.within(core.plan.timeouts.linger_timeout_ms, last).await;
    }
}

/// Whether the connection was ended for a client that makes work.
fn is_calm(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Says why the connection ends, and reads on a little so that the client can hear it.
async fn last_word(core: &Core, mut stream: Stream, goaway: impl AsRef<[u8]>) {
    let said =
        stream.write_all(goaway.as_ref()).await.is_ok() && AsyncWriteExt::shutdown(&mut stream).await.is_ok();
    if said {
        stream.discard(&core.scratch, core.plan.limits.drain_bytes_max).await;
    }
}
