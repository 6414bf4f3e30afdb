//! Mirroring, after Istio: a copy of a request goes to another destination in the background, once the request's body is
//! whole. Its answer is thrown away, and neither its failure nor its slowness reaches the request.

use super::{Answer, Job, Outgoing, Relay, Target, Upload};
use crate::accept::{ClientBody, Conn, Witness};
use crate::core::Core;
use crate::host::Host;
use crate::record::Record;
use crate::route::{Destination, Matched, PathHandling};
use crate::trace::Parent;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

/// What became of the copy of a request, for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// The request's body never came to its end.
    Unfinished,
    Sent,
    /// Too many are under way.
    Busy,
    /// The body is longer than what is kept of one.
    TooLarge,
}

impl Mirrored {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unfinished => "dropped_unfinished",
            Self::Sent => "sent",
            Self::Busy => "dropped_busy",
            Self::TooLarge => "dropped_body",
        }
    }
}

/// A place among the copies that one thread may have under way.
struct Place(Rc<Core>);

impl Place {
    fn take(core: &Rc<Core>) -> Option<Self> {
        let taken = core.mirrors.get();
        (taken < core.plan.limits.mirror_requests_max).then(|| {
            core.mirrors.set(taken + 1);
            Self(Rc::clone(core))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
    }
}

/// The copy of a request: what its head is made of, as its own.
struct Shadow {
    place: Place,
    conn: Rc<Conn>,
    destination: Destination,
    state: Rc<Cell<Mirrored>>,
    /// As its event has it.
    protocol: u8,
    method: Method,
    headers: HeaderMap,
    host: Host,
    host_line: Option<Box<[u8]>>,
    path: String,
    rewritten: Option<String>,
    query: Option<String>,
    matched: Matched,
    strip: bool,
    handling: PathHandling,
    /// Number of the key that was shown.
    key: Option<usize>,
    request_id: [u8; 16],
    trace: Parent,
    has_parent: bool,
    client: Option<IpAddr>,
    trusted: bool,
}

/// Mirrors a request. Returns its body, which is looked at on its way where it has one.
pub(crate) fn mirror(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    head: &Outgoing<'_>,
    destination: Destination,
    body: Option<ClientBody>,
    record: &mut Record,
) -> Option<ClientBody> {
    let state = Rc::new(Cell::new(Mirrored::Unfinished));
    record.mirrored = Some(Rc::clone(&state));
    let bytes_max = core.plan.limits.mirror_body_bytes_max;
    let length = body.as_ref().and_then(ClientBody::length);
    if length.is_some_and(|bytes| bytes > bytes_max as u64) {
        state.set(Mirrored::TooLarge);
        return body;
    }
    let Some(place) = Place::take(core) else {
        state.set(Mirrored::Busy);
        return body;
    };
    let target = &head.target;
    let shadow = Shadow {
        place,
        conn: Rc::clone(conn),
        destination,
        state,
        protocol: record.draft().head.protocol,
        method: head.method.clone(),
        headers: head.headers.clone(),
        host: head.host.clone(),
        host_line: head.host_line.map(Into::into),
        path: target.path.to_owned(),
        rewritten: target.rewritten.map(str::to_owned),
        query: target.query.map(str::to_owned),
        matched: head.matched,
        strip: target.strip,
        handling: target.handling,
        key: head.identity.map(|identity| identity.key),
        request_id: *head.request_id,
        trace: head.trace,
        has_parent: head.has_parent,
        client: head.client,
        trusted: head.trusted,
    };
    match body.filter(|body| !body.is_end()) {
        None => {
            shadow.start(Bytes::new());
            None
        }
        Some(body) => Some(body.watched(Box::new(Teed { shadow, body: BytesMut::new(), bytes_max }))),
    }
}

/// The body of a request, as it is copied.
struct Teed {
    shadow: Shadow,
    body: BytesMut,
    bytes_max: usize,
}

impl Witness for Teed {
    fn piece(&mut self, data: &Bytes) -> bool {
        if self.body.len() + data.len() > self.bytes_max {
            self.shadow.state.set(Mirrored::TooLarge);
            return false;
        }
        // Copied: a piece would hold on to the buffer that it was read into.
        self.body.extend_from_slice(data);
        true
    }

    fn whole(self: Box<Self>) {
        self.shadow.start(self.body.freeze());
    }
}

impl Shadow {
    fn start(self, body: Bytes) {
        self.state.set(Mirrored::Sent);
        tokio::task::spawn_local(async move {
            let core = Rc::clone(&self.place.0);
            let whole = core.clock.deadline();
            let sent = whole.within(core.plan.timeouts.mirror_timeout_ms, Box::pin(self.send(&core, body)));
            if sent.await.is_none() {
                tracing::debug!("a mirrored request took too long");
            }
        });
    }

    async fn send(&self, core: &Rc<Core>, body: Bytes) {
        // Its tries are those of no request of a client.
        let mut record = Record::silent(core, Instant::now());
        record.draft().head.protocol = self.protocol;
        let head = Outgoing {
            core,
            conn: &self.conn,
            method: &self.method,
            target: Target {
                base: &core.plan.services[self.destination.service()].path,
                path: &self.path,
                matched_bytes: self.matched.prefix_bytes,
                strip: self.strip,
                handling: self.handling,
                rewritten: self.rewritten.as_deref(),
                query: self.query.as_deref(),
            },
            headers: &self.headers,
            host: &self.host,
            matched: self.matched,
            host_line: self.host_line.as_deref(),
            shadow: true,
            identity: self.key.map(|key| core.plan.keyring.identity(key)),
            request_id: &self.request_id,
            trace: self.trace,
            has_parent: self.has_parent,
            upgrade: None,
            client: self.client,
            trusted: self.trusted,
        };
        let body = (!body.is_empty()).then_some(ClientBody::Kept(Some(body)));
        let job = Job { core, destination: self.destination, head, upload: Upload::new(body, 0, None) };
        match super::send(job, &mut record).await {
            Ok(answer) => forget(core, answer, &mut record).await,
            Err(fault) => tracing::debug!(%fault, "a mirrored request failed"),
        }
    }
}

/// Reads an answer to its end, so that its connection can serve on; one that is too long is closed.
async fn forget(core: &Core, answer: Answer, record: &mut Record) {
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let Answer { head, lease, upload, deadline, read_timeout_ms, .. } = answer;
    deadline.disarm();
    let mut relay = Relay {
        body: head.body,
        lease: Some(lease),
        upload,
        deadline,
        read_timeout_ms,
        waiting: false,
        broken: None,
        unwritten: false,
    };
    if relay.is_end() {
        relay.end(record);
        return;
    }
    let mut bytes_left = core.plan.limits.mirror_body_bytes_max;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| relay.poll_frame(cx, record)).await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match bytes_left.checked_sub(read) {
            Some(left) => bytes_left = left,
            None => return,
        }
    }
}
