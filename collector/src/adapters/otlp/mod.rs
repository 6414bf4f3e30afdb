//! Sampled events to OTLP spans.
//!
//! Intake copies each sampled event ([`capture`]) into a bounded queue, one lock per round. A task on the
//! adapters' thread turns batches of them into protobuf ([`span`]), sends them ([`grpc`], [`http`]) and retries
//! ([`export`]). A receiver that is down, slow or hung costs what the queue holds and no more: beyond it, spans
//! are dropped and counted. Every span accepted is delivered, dropped by reason, or queued: [`Account`].

mod config;

mod capture;
mod span;

mod export;
mod grpc;
mod http;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use event::RequestEvent;
use tokio::sync::Notify;

use super::AdapterCount;
use capture::Captured;
pub use config::{OtlpConfig, OtlpProtocol};
pub(super) use export::Exporter;
pub use export::ExporterError;

/// What became of the spans: accepted = delivered + dropped + queued.
#[derive(Debug, Default)]
pub(super) struct Account {
    accepted: AtomicU64,
    delivered: AtomicU64,
    queued: AtomicU64,
    dropped: [AtomicU64; DROPS.len()],
}

/// Why a span was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The queue held `queue_spans_max`.
    QueueFull,
    /// The receiver refused it for good.
    Refused,
    /// The receiver could not be reached for `retry_elapsed_max_ms`.
    RetriesExhausted,
    /// Tollhouse ended before it was delivered.
    Shutdown,
    /// The event says it is sampled and has no trace or span id.
    NoId,
}

/// The names of [`Loss`], in its order.
const DROPS: [&str; 5] = ["queue_full", "refused", "retries_exhausted", "shutdown", "no_id"];

impl Account {
    /// A reading that balances at any moment: what left is read before what came, and the rest is queued.
    pub(super) fn count(&self) -> AdapterCount {
        let delivered = self.delivered.load(Ordering::Acquire);
        let dropped: BTreeMap<&'static str, u64> = DROPS
            .iter()
            .zip(&self.dropped)
            .map(|(name, count)| (*name, count.load(Ordering::Acquire)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let accepted = self.accepted.load(Ordering::Acquire);
        let gone = delivered + dropped.values().sum::<u64>();
        AdapterCount { sink: "otlp", accepted, delivered, queued: accepted.saturating_sub(gone), dropped }
    }

    /// Spans that never entered the queue.
    fn turn_away(&self, spans: u64, why: Loss) {
        self.accepted.fetch_add(spans, Ordering::Release);
        self.dropped[why as usize].fetch_add(spans, Ordering::Release);
    }

    fn enqueue(&self, spans: u64) {
        self.accepted.fetch_add(spans, Ordering::Release);
        self.queued.fetch_add(spans, Ordering::Release);
    }

    fn deliver(&self, spans: u64) {
        self.delivered.fetch_add(spans, Ordering::Release);
        self.queued.fetch_sub(spans, Ordering::Release);
    }

    fn discard(&self, spans: u64, why: Loss) {
        self.dropped[why as usize].fetch_add(spans, Ordering::Release);
        self.queued.fetch_sub(spans, Ordering::Release);
    }

    /// Nothing will be delivered any more.
    fn close(&self) {
        let left = self.queued.swap(0, Ordering::AcqRel);
        self.dropped[Loss::Shutdown as usize].fetch_add(left, Ordering::Release);
    }
}

/// Between intake and the exporter. Its bound is [`Account::queued`], which counts what is being sent as well.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: Mutex<VecDeque<Captured>>,
    /// Enough for a batch has come.
    full_batch: Notify,
}

impl Queue {
    /// Takes the oldest events, about `spans_max` spans of them and at least one event if there is any.
    fn take(&self, spans_max: u64) -> Vec<Captured> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut spans) = (0, 0);
        for event in events.iter() {
            spans += event.spans();
            if count > 0 && spans > spans_max {
                break;
            }
            count += 1;
        }
        events.drain(..count).collect()
    }
}

/// The intake side.
#[derive(Debug)]
pub(super) struct Outbox {
    on: bool,
    /// Events of this round.
    staged: Vec<Captured>,
    /// Spans since the exporter was last woken.
    unannounced: u64,
    node: Arc<str>,
    batch_spans_max: u64,
    queue_spans_max: u64,
    queue: Arc<Queue>,
    account: Arc<Account>,
}

impl Outbox {
    /// An outbox that copies nothing if the export is off.
    pub(super) fn new(config: &OtlpConfig) -> Self {
        Self {
            on: config.endpoint.is_some(),
            staged: Vec::new(),
            unannounced: 0,
            node: "".into(),
            batch_spans_max: u64::from(config.batch_spans_max),
            queue_spans_max: u64::from(config.queue_spans_max),
            queue: Arc::default(),
            account: Arc::default(),
        }
    }

    /// The account of all spans.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// Where the exporter takes events from.
    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Queues the spans of a sampled event.
    #[inline]
    pub(super) fn observe(&mut self, event: &RequestEvent<'_>) {
        if self.on && event.head.sampled != 0 {
            self.capture(event);
        }
    }

    fn capture(&mut self, event: &RequestEvent<'_>) {
        let spans = 1 + event.attempts().count() as u64;
        if event.head.trace_id == [0; 16] || event.head.span_id == [0; 8] {
            return self.account.turn_away(spans, Loss::NoId);
        }
        // Only this thread adds, so the check cannot be overtaken.
        if self.account.queued.load(Ordering::Acquire) + spans > self.queue_spans_max {
            return self.account.turn_away(spans, Loss::QueueFull);
        }
        if *self.node != *event.node {
            self.node = event.node.into();
        }
        self.account.enqueue(spans);
        self.unannounced += spans;
        self.staged.push(Captured::of(event, Arc::clone(&self.node)));
    }

    /// Hands this round's events to the exporter.
    pub(super) fn flush(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        self.queue.events.lock().unwrap_or_else(PoisonError::into_inner).extend(self.staged.drain(..));
        if self.unannounced >= self.batch_spans_max {
            self.unannounced = 0;
            self.queue.full_batch.notify_one();
        }
    }
}
