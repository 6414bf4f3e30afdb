//! Intake's side of a receiver: what other hosts sent, made rows that are new, and acknowledged once they are durable.
//!
//! A lane of another host is known by the data folder that it comes from (`instance`) and its number; its mark stands among
//! those of this host's lanes as `core@instance`, and is stored with the rows in one step. A row that its lane's mark has
//! passed is here already. Nothing of a session is taken once a newer one of the same instance has begun.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use event::erasure::{LaneRange, Order, Subject};
use event::hot::Watermarks;
use event::layout::{DataFolder, LayoutError, LedgerRow};
use event::spool::Position;
use tokio::sync::{mpsc, oneshot};

use super::account::Account;
use super::check::Origins;
use super::nodes::Nodes;
use super::wire::{Begin, Begun, Step, VERSION, is_instance};

/// Most that is taken from the queue before intake looks at its own lanes again.
const TURN_DELIVERIES: usize = 64;
/// Sequences of one segment of a spool share these bits.
const SEGMENT_BITS: u32 = 24;

/// Why a batch or a session is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "session {asked} is over: session {newest} of the same instance has begun. If that was another host, it \
             has a copy of this one's data folder: remove state/forward.json of the copy"
    )]
    Over { asked: u64, newest: u64 },
    #[error("no session of this instance has begun here")]
    NotBegun,
    #[error("an earlier batch of session {0} was refused: what follows it waits for the next session")]
    Broken(u64),
    #[error("{0} hosts have sent something since the start: see collector.receive.senders_max")]
    Senders(u32),
    #[error(
        "lane {0} was stored from another gateway with the same instance: a data folder was copied. Remove \
             state/forward.json of the copy"
    )]
    Twin(u16),
    #[error("the receiver cannot note whose rows these are, or what is taken back: {0}")]
    Disk(String),
    #[error("the rows cannot be taken apart: {0}")]
    Rows(String),
}

/// A batch that was found right.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(super) instance: String,
    pub(super) session: u64,
    pub(super) lanes: BTreeMap<u16, Step>,
    pub(super) origins: Origins,
    pub(super) batch: RecordBatch,
    /// Told when the rows are durable.
    pub(super) reply: oneshot::Sender<Result<(), Refusal>>,
}

/// What the listener hands to intake, in order.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// A session begins.
    Begin(Begin, oneshot::Sender<Result<Begun, Refusal>>),
    /// Rows.
    Batch(Box<Arrived>),
}

/// Rows that are new, and how far their lanes are with them.
pub(crate) struct Fresh {
    pub(crate) batch: RecordBatch,
    pub(crate) marks: Watermarks,
}

/// One other host.
#[derive(Debug, Default)]
struct Sender {
    node: String,
    session: u64,
    /// Whether a batch of the session was refused: one behind it would move marks past rows that are not here.
    broken: bool,
    /// New rows, and those of them that are durable.
    taken: u64,
    stored: u64,
}

/// A batch that is not durable yet.
struct Waiting {
    instance: String,
    rows: u64,
    /// Where its lanes must be.
    marks: Vec<(String, u64)>,
    reply: oneshot::Sender<Result<(), Refusal>>,
}

/// What intake knows of other hosts.
pub(crate) struct Remote {
    queue: mpsc::Receiver<Delivery>,
    senders: BTreeMap<String, Sender>,
    senders_max: u32,
    message_bytes_max: u64,
    nodes: Nodes,
    /// Bounded by what the listener lets each stream have on its way.
    waiting: VecDeque<Waiting>,
    folder: DataFolder,
    account: Arc<Account>,
}

impl Remote {
    /// What a listener delivers to.
    ///
    /// # Errors
    /// When what was taken back before cannot be read.
    pub(crate) fn new(
        folder: &DataFolder,
        config: &super::ReceiveConfig,
        queue: mpsc::Receiver<Delivery>,
        account: Arc<Account>,
    ) -> Result<Self, LayoutError> {
        account.received.is_on.store(true, Relaxed);
        Ok(Self {
            queue,
            senders: BTreeMap::new(),
            senders_max: config.senders_max,
            message_bytes_max: config.batch_bytes_max.into(),
            nodes: Nodes::load(folder)?,
            waiting: VecDeque::new(),
            folder: folder.clone(),
            account,
        })
    }

    /// The next rows that are new; none if nothing waits. Sessions begin on the way.
    pub(crate) fn take(&mut self, marks: &Watermarks) -> Option<Fresh> {
        for _ in 0..TURN_DELIVERIES {
            match self.queue.try_recv().ok()? {
                Delivery::Begin(begin, reply) => {
                    // Nobody listens if the connection has gone meanwhile.
                    drop(reply.send(self.begin(begin, marks)));
                }
                Delivery::Batch(arrived) => {
                    if let Err(refusal) = self.admit(&arrived, marks) {
                        self.refuse(&arrived.instance, arrived.session);
                        drop(arrived.reply.send(Err(refusal)));
                    } else if let Some(fresh) = self.sift(*arrived, marks) {
                        return Some(fresh);
                    }
                }
            }
        }
        None
    }

    /// Whether something waits to be taken.
    pub(crate) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    fn begin(&mut self, begin: Begin, marks: &Watermarks) -> Result<Begun, Refusal> {
        let known = self.senders.get(&begin.instance);
        match known {
            Some(known) if known.session >= begin.session => {
                return Err(Refusal::Over { asked: begin.session, newest: known.session });
            }
            None if self.senders.len() >= self.senders_max as usize => {
                return Err(Refusal::Senders(self.senders_max));
            }
            _ => {}
        }
        let lanes = lanes_of(&begin.instance, marks);
        let mut gone = Vec::new();
        for (core, span) in &begin.revoke {
            let Some(has) = lanes.get(core) else { continue };
            let (first, last) =
                (span.after.map_or(0, |after| after.saturating_add(1)), span.through.min(*has));
            if first <= last {
                gone.push(LaneRange { node: begin.node.clone(), core: *core, first, last });
            }
        }
        let is_own = marks.keys().filter_map(|key| own_node(key)).any(|node| node == begin.node);
        if is_own || self.nodes.is_of_others(&begin.node, &begin.instance) {
            tracing::error!(
                node = begin.node,
                "rows of two data folders have one node's name: they are all stored, but cannot be told apart; give one another `node:`"
            );
        } else {
            self.take_back(gone)?;
        }
        let sender = self.senders.entry(begin.instance).or_default();
        (sender.session, sender.node, sender.broken) = (begin.session, begin.node, false);
        Ok(Begun { version: VERSION, batch_bytes_max: self.message_bytes_max, lanes })
    }

    /// Orders that rows go which another receiver has too. Of a node whose rows may be another host's nothing goes.
    fn take_back(&self, gone: Vec<LaneRange>) -> Result<(), Refusal> {
        for range in gone {
            tracing::info!(?range, "rows are taken back: another receiver has them");
            let order = Order::new(Subject::Lane(range), crate::now_us());
            order.give(&self.folder).map_err(|error| Refusal::Disk(error.to_string()))?;
            self.account.received.revoked.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Takes nothing more of a session.
    fn refuse(&mut self, instance: &str, session: u64) {
        if let Some(sender) = self.senders.get_mut(instance).filter(|sender| sender.session == session) {
            sender.broken = true;
        }
    }

    /// Whether a batch is of a session in force, and of the gateway that its lanes are of.
    fn admit(&mut self, arrived: &Arrived, marks: &Watermarks) -> Result<(), Refusal> {
        let sender = self.senders.get(&arrived.instance).ok_or(Refusal::NotBegun)?;
        if sender.session != arrived.session {
            return Err(Refusal::Over { asked: arrived.session, newest: sender.session });
        }
        if sender.broken {
            return Err(Refusal::Broken(sender.session));
        }
        for (core, step) in &arrived.lanes {
            let Some(mark) = marks.get(&key(*core, &arrived.instance)) else { continue };
            // A segment is written by one life of a gateway.
            let is_one_segment = mark.sequence >> SEGMENT_BITS == step.after.sequence >> SEGMENT_BITS;
            if is_one_segment && mark.life_us != step.after.life_us {
                return Err(Refusal::Twin(*core));
            }
        }
        let noted = self.nodes.note(&arrived.origins.node, &arrived.instance, marks);
        noted.map_err(|error| Refusal::Disk(error.to_string()))
    }

    /// Leaves out what is here already.
    fn sift(&mut self, arrived: Arrived, marks: &Watermarks) -> Option<Fresh> {
        let Arrived { instance, session, lanes, origins, batch, reply } = arrived;
        let stored: BTreeMap<u16, u64> = lanes
            .keys()
            .filter_map(|core| Some((*core, marks.get(&key(*core, &instance))?.sequence)))
            .collect();
        let is_new = |(core, sequence): (&u16, &u64)| stored.get(core).is_none_or(|stored| sequence > stored);
        let mask: BooleanArray =
            origins.cores.iter().zip(&origins.sequences).map(|row| Some(is_new(row))).collect();
        let rows = mask.true_count();
        let kept: Result<RecordBatch, ArrowError> =
            if rows == batch.num_rows() { Ok(batch.clone()) } else { filter_record_batch(&batch, &mask) };
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                self.refuse(&instance, session);
                drop(reply.send(Err(Refusal::Rows(error.to_string()))));
                return None;
            }
        };
        let received = &self.account.received;
        received.rows.fetch_add(rows as u64, Relaxed);
        received.duplicates.fetch_add((batch.num_rows() - rows) as u64, Relaxed);
        // A lane goes on, never back. Without a new row there is nothing to store it with, and nothing to wait for.
        let ahead = |(core, step): (&u16, &Step)| {
            let key = key(*core, &instance);
            let mark = marks.get(&key).copied();
            let passed = mark.is_some_and(|mark: Position| mark.sequence >= step.after.sequence);
            let position = if passed || rows == 0 { mark? } else { step.after };
            Some((key, position))
        };
        let marks: Watermarks = lanes.iter().filter_map(ahead).collect();
        if let Some(sender) = self.senders.get_mut(&instance) {
            sender.node = origins.node;
            sender.taken += rows as u64;
        }
        let targets = marks.iter().map(|(key, position)| (key.clone(), position.sequence)).collect();
        self.waiting.push_back(Waiting { instance, rows: rows as u64, marks: targets, reply });
        (rows > 0).then_some(Fresh { batch: kept, marks })
    }

    /// Acknowledges what is durable.
    pub(crate) fn acknowledge(&mut self, durable: &Watermarks) {
        let is_durable = |(key, sequence): &(String, u64)| {
            durable.get(key).is_some_and(|position| position.sequence >= *sequence)
        };
        while let Some(first) = self.waiting.pop_front_if(|waiting| waiting.marks.iter().all(is_durable)) {
            if let Some(sender) = self.senders.get_mut(&first.instance) {
                sender.stored += first.rows;
            }
            // A sender that has gone sends it again, and is told then.
            drop(first.reply.send(Ok(())));
        }
    }

    /// The books of what other hosts sent, one row for each, since the start.
    pub(crate) fn ledger(&self) -> Vec<LedgerRow> {
        let row = |sender: &Sender| LedgerRow {
            node: sender.node.clone(),
            sink: "received".to_owned(),
            produced: sender.taken,
            stored: sender.stored,
            in_flight: sender.taken - sender.stored,
            ..LedgerRow::default()
        };
        self.senders.values().filter(|sender| !sender.node.is_empty()).map(row).collect()
    }
}

/// The mark of a lane of another host. It ends with no slash and number, so it is never taken for one of this host.
fn key(core: u16, instance: &str) -> String {
    format!("{core}@{instance}")
}

/// Whether a mark is that of a lane of another host.
pub(crate) fn is_foreign(key: &str) -> bool {
    key.split_once('@').is_some_and(|(core, instance)| core.parse::<u16>().is_ok() && is_instance(instance))
}

/// The node of a mark of a lane of this host.
fn own_node(key: &str) -> Option<&str> {
    if is_foreign(key) { None } else { Some(key.rsplit_once('/')?.0) }
}

/// How far each lane of an instance is.
fn lanes_of(instance: &str, marks: &Watermarks) -> BTreeMap<u16, u64> {
    let of = |(key, position): (&String, &Position)| {
        let (core, from) = key.split_once('@')?;
        (from == instance).then(|| Some((core.parse().ok()?, position.sequence))).flatten()
    };
    marks.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
