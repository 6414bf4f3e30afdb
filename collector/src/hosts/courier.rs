//! The thread of a sender: one receiver at a time, sessions with it, and what is to be settled with those that were left.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use tokio::sync::{mpsc, watch};

use super::config::ForwardConfig;
use super::forwarder::{Parcel, Shared};
use super::link::{Failure, Link};
use super::wire::{Ack, BatchNote, Begin, HEAD_BYTES_MAX, PATH, VERSION, encode};

/// Shortest pause after a failed session; it doubles up to `retry_interval_ms`.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Messages that are encoded ahead of the connection.
const WIRE_MESSAGES: usize = 4;

/// The state of the thread.
pub(crate) struct Courier {
    config: ForwardConfig,
    shared: Arc<Shared>,
    parcels: mpsc::Receiver<Parcel>,
    stop: watch::Receiver<bool>,
    /// What is not acknowledged, in order; at most `in_flight_batches_max`.
    waiting: VecDeque<Parcel>,
    /// When the first of them began to wait, or the one before it was acknowledged.
    since: Instant,
    /// Whether the receiver in use may have something that it did not acknowledge.
    touched: bool,
    failing: bool,
    /// Counts questions to receivers that were left.
    turn: usize,
}

/// A question to a receiver that was left, on its way.
type Settling = Pin<Box<dyn Future<Output = (String, Result<Asked, Failure>)>>>;

/// What it was told that others have acknowledged, and what it has, by lane.
type Asked = (BTreeMap<u16, u64>, BTreeMap<u16, u64>);

/// Batches of one session that were sent.
struct Flight {
    session: u64,
    /// When each of the first of those that wait was sent.
    sent: VecDeque<Instant>,
    /// Messages that are encoded and not sent.
    outbox: VecDeque<FlightData>,
    first: bool,
    message_bytes_max: u64,
}

impl Courier {
    pub(super) fn new(
        config: ForwardConfig,
        shared: Arc<Shared>,
        parcels: mpsc::Receiver<Parcel>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (waiting, since) = (VecDeque::new(), Instant::now());
        // What an earlier life sent is not known.
        let touched = shared.notes().current.is_some();
        Self { config, shared, parcels, stop, waiting, since, touched, failing: false, turn: 0 }
    }

    /// Sends until intake has ended.
    pub(crate) fn run(self) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let mut stop = self.stop.clone();
                runtime.block_on(async move {
                    tokio::select! {
                        () = self.work() => {}
                        // A sender of the flag that is gone means that intake is.
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                });
            }
            Err(error) => tracing::error!(%error, "no runtime to send batches with"),
        }
    }

    async fn work(mut self) {
        let known = self.shared.notes().current;
        let mut at = self.config.to.iter().position(|url| Some(url) == known.as_ref()).unwrap_or(0);
        let mut pause = RETRY_MIN;
        if let Some(left) = known.filter(|url| !self.config.to.contains(url)) {
            // It stands in the file no more, and may have something all the same.
            self.leave(&left).await;
        }
        loop {
            let url = self.config.to[at].clone();
            let began = self.since;
            let Err(failure) = self.session(&url).await else { return };
            self.shared.account.sent.connected.store(0, Relaxed);
            self.shared.account.sent.failures.add(failure.reason());
            if !std::mem::replace(&mut self.failing, true) {
                tracing::error!(to = url, %failure, "rows wait in the spool: a receiver does not take them");
            } else {
                tracing::debug!(to = url, %failure, "a receiver does not take rows");
            }
            if self.since != began {
                pause = RETRY_MIN;
            }
            if self.is_late() {
                at = (at + 1) % self.config.to.len();
                self.leave(&url).await;
                self.shared.account.sent.failovers.fetch_add(1, Relaxed);
                tracing::warn!(from = url, to = self.config.to[at], "another receiver takes its place");
                self.since = Instant::now();
            } else {
                self.rest(pause).await;
                pause = (pause * 2).min(Duration::from_millis(self.config.retry_interval_ms.into()));
            }
        }
    }

    /// Whether it is time for another receiver.
    fn is_late(&self) -> bool {
        let patience = Duration::from_millis(self.config.failover_ms.into());
        self.config.to.len() > 1 && !self.waiting.is_empty() && self.since.elapsed() >= patience
    }

    /// A pause in which batches are taken in.
    async fn rest(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        while self.has_room() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                parcel = self.parcels.recv() => match parcel {
                    Some(parcel) => self.wait(parcel),
                    None => break,
                },
            }
        }
        tokio::time::sleep_until(end).await;
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.config.in_flight_batches_max as usize
    }

    fn wait(&mut self, parcel: Parcel) {
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        self.waiting.push_back(parcel);
    }

    /// Notes, before anybody else gets it, what a receiver may have. The disk must take that first.
    async fn leave(&mut self, url: &str) {
        if !self.touched {
            return;
        }
        let mut pause = RETRY_MIN;
        while let Err(error) = self.shared.note(|notes| notes.leave(url)) {
            tracing::error!(%error, "cannot note what a receiver may have: no other one is used before that");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(self.config.retry_interval_ms.into()));
        }
        self.touched = false;
    }

    /// One connection, until it fails; or until there is nothing to send any more, ever.
    async fn session(&mut self, url: &str) -> Result<(), Failure> {
        let mut link = Link::open(&self.config, url).await?;
        let (begin, _) = next_session(&self.shared, url, true)?;
        let begun = link.begin(&begin).await?;
        // What it has behind what it gave up counts again: it is the receiver in use.
        self.shared.note(|notes| notes.doubts.retain(|doubt| doubt.url != url))?;
        let (wire, messages) = mpsc::channel(WIRE_MESSAGES);
        let messages =
            futures::stream::unfold(messages, |mut messages: mpsc::Receiver<FlightData>| async move {
                messages.recv().await.map(|message| (message, messages))
            });
        let mut answers = link.put(messages).await?;
        self.shared.account.sent.connected.store(1, Relaxed);
        if std::mem::take(&mut self.failing) {
            tracing::info!(to = url, "rows are sent again");
        }
        let mut flight = Flight {
            session: begin.session,
            sent: VecDeque::new(),
            outbox: VecDeque::new(),
            first: true,
            message_bytes_max: begun.batch_bytes_max,
        };
        let mut settling: Option<Settling> = None;
        let mut look = tokio::time::interval(Duration::from_millis(self.config.retry_interval_ms.into()));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if flight.outbox.is_empty()
                && let Some(parcel) = self.waiting.get(flight.sent.len())
            {
                self.touched = true;
                flight.load(parcel, &begin.instance, &self.shared)?;
            }
            let deadline = self.deadline(&flight);
            let room = self.has_room();
            tokio::select! {
                answer = answers.message() => match answer? {
                    Some(answer) => self.acknowledged(&answer, &mut flight)?,
                    None => return Err(Failure::Broken("the receiver ended the stream".to_owned())),
                },
                place = wire.reserve(), if !flight.outbox.is_empty() && !wire.is_closed() => {
                    // A stream that has ended says why in its answers.
                    if let (Ok(place), Some(message)) = (place, flight.outbox.pop_front()) {
                        place.send(message);
                    }
                }
                parcel = self.parcels.recv(), if room => match parcel {
                    Some(parcel) => self.wait(parcel),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(deadline.into()), if !flight.sent.is_empty() => {
                    let waited = flight.sent.front().map_or(Duration::ZERO, Instant::elapsed);
                    return Err(Failure::Timeout(waited.as_millis()));
                }
                (url, asked) = async { settling.as_mut().expect("there is a question").await }, if settling.is_some() => {
                    settling = None;
                    self.settled(&url, asked)?;
                }
                _ = look.tick(), if settling.is_none() => settling = self.settle(url),
            }
        }
    }

    /// When the oldest batch has waited for too long.
    fn deadline(&self, flight: &Flight) -> Instant {
        let sent = flight.sent.front().copied().unwrap_or(self.since);
        let timeout = Duration::from_millis(self.config.ack_timeout_ms.into());
        let deadline = sent.max(self.since) + timeout;
        match self.config.to.len() {
            0 | 1 => deadline,
            _ => deadline.min(self.since.max(sent) + Duration::from_millis(self.config.failover_ms.into())),
        }
    }

    /// Takes an acknowledgement in, which must be that of the oldest batch.
    fn acknowledged(&mut self, answer: &PutResult, flight: &mut Flight) -> Result<(), Failure> {
        let ack: Ack = serde_json::from_slice(&answer.app_metadata)
            .map_err(|error| Failure::Protocol(error.to_string()))?;
        let (Some(parcel), Some(sent)) = (self.waiting.front(), flight.sent.pop_front()) else {
            return Err(Failure::Protocol("an acknowledgement of nothing".to_owned()));
        };
        let is_its =
            parcel.lanes.iter().all(|(core, step)| ack.lanes.get(core) == Some(&step.after.sequence));
        if ack.version != VERSION || !is_its {
            return Err(Failure::Protocol("an acknowledgement of another batch".to_owned()));
        }
        let sent_account = &self.shared.account.sent;
        sent_account.acknowledge(sent.elapsed());
        if let Some(parcel) = self.waiting.pop_front() {
            self.shared.acknowledge(parcel.marks);
        }
        self.since = Instant::now();
        Ok(())
    }

    /// Asks one of the receivers that were left to give up what others have acknowledged.
    fn settle(&mut self, current: &str) -> Option<Settling> {
        let notes = self.shared.notes();
        let left: Vec<&str> =
            notes.doubts.iter().map(|doubt| &*doubt.url).filter(|url| *url != current).collect();
        // Each in its turn, so that one that never comes back keeps nobody from being asked.
        let url = (*left.get(self.turn.checked_rem(left.len())?)?).to_owned();
        self.turn += 1;
        let (shared, config) = (Arc::clone(&self.shared), self.config.clone());
        Some(Box::pin(async move {
            let asked = ask_back(&shared, &config, &url).await;
            (url, asked)
        }))
    }

    /// Takes in what a receiver that was left says.
    fn settled(&self, url: &str, asked: Result<Asked, Failure>) -> Result<(), Failure> {
        match asked {
            Ok((told, has)) => {
                let mut settled = false;
                self.shared.note(|notes| settled = notes.settle(url, &told, &has))?;
                if settled {
                    tracing::info!(
                        receiver = url,
                        "what another receiver has acknowledged was taken back there"
                    );
                }
            }
            Err(failure) => tracing::debug!(receiver = url, %failure, "not settled yet"),
        }
        Ok(())
    }
}

/// The beginning of the next session with a receiver, noted, and what is acknowledged by then. That stands in the notes
/// before anything of it is taken back anywhere.
fn next_session(shared: &Shared, url: &str, current: bool) -> Result<(Begin, BTreeMap<u16, u64>), Failure> {
    let notes = shared.note(|notes| {
        notes.session += 1;
        if current {
            notes.current = Some(url.to_owned());
        }
    })?;
    let node = notes.marks.keys().next_back().and_then(|key| key.rsplit_once('/'));
    let begin = Begin {
        version: VERSION,
        instance: notes.instance.clone(),
        session: notes.session,
        node: node.map_or(String::new(), |(node, _)| node.to_owned()),
        revoke: notes.spans(url),
    };
    Ok((begin, notes.sequences()))
}

/// Has a receiver that was left give up what others have acknowledged.
async fn ask_back(shared: &Shared, config: &ForwardConfig, url: &str) -> Result<Asked, Failure> {
    let mut link = Link::open(config, url).await?;
    let (begin, told) = next_session(shared, url, false)?;
    let begun = link.begin(&begin).await?;
    Ok((told, begun.lanes))
}

impl Flight {
    /// Makes messages of a batch.
    fn load(&mut self, parcel: &Parcel, instance: &str, shared: &Shared) -> Result<(), Failure> {
        let note = BatchNote {
            version: VERSION,
            instance: instance.to_owned(),
            session: self.session,
            lanes: parcel.lanes.clone(),
        };
        let encoded =
            |error: &dyn std::error::Error| Failure::Protocol(format!("a batch cannot be sent: {error}"));
        let note = serde_json::to_vec(&note).map_err(|error| encoded(&error))?;
        let messages = encode(&parcel.batch, note).map_err(|error| encoded(&error))?;
        let bytes = |message: &FlightData| (message.data_body.len() + message.data_header.len()) as u64;
        let largest = messages.iter().map(bytes).max().unwrap_or_default();
        if largest > self.message_bytes_max + HEAD_BYTES_MAX as u64 {
            return Err(Failure::TooLarge { bytes: largest, most: self.message_bytes_max });
        }
        let sent = &shared.account.sent;
        sent.batches.fetch_add(1, Relaxed);
        sent.rows.fetch_add(parcel.batch.num_rows() as u64, Relaxed);
        sent.bytes.fetch_add(messages.iter().map(bytes).sum(), Relaxed);
        self.outbox = messages.into();
        if std::mem::take(&mut self.first)
            && let Some(message) = self.outbox.front_mut()
        {
            message.flight_descriptor = Some(FlightDescriptor::new_path(vec![PATH.to_owned()]));
        }
        self.sent.push_back(Instant::now());
        Ok(())
    }
}
