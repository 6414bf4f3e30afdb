//! The thread that reads the spool: every event becomes a row, a count and perhaps a span.
//!
//! A round reads what the lanes hold, in turn, shows each event to the adapters and appends it to the batch. A batch
//! that is full, or has all that there is, goes into the table by `store`; once it is on disk too, the lanes release their segments.
//! While the disk refuses, nothing more is read: events wait in the spool, which is bounded, and the gateway is untouched.
//!
//! Where batches go to another host (`outlet`), adapters read each lane by a reader of their own: metrics and spans go on
//! while that host is away. Where other hosts send theirs here (`hosts::Remote`), they are stored between two rounds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use event::Shapes;
use event::hot::Watermarks;
use event::layout::{DataFolder, LedgerRow, Manifest};
use event::spool::{Counters, LaneReader, place_of};

use crate::Flags;
use crate::adapters::{AdapterCount, Adapters};
use crate::columns::{ColumnsError, Rows};
use crate::compare::is_same;
use crate::config::Plan;
use crate::hosts::Remote;
use crate::lane::{Lane, recovered};
use crate::ledger;
use crate::outlet::Outlet;
use crate::store::StoreError;
use crate::table::Table;
use crate::upload;

/// Events that one lane may give before the next lane has its turn.
const TURN_EVENTS: usize = 1_024;
/// Batches of other hosts that are stored before this host's lanes have their turn.
const TURN_BATCHES: usize = 32;
/// Shortest pause between two rounds that read a lane to its end.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// How often new lanes and a new life of the gateway are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The books are brought up to date with what is stored, at most and at least so often.
const LEDGER_INTERVALS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Longest that the end waits for adapters, and that it does while another collector waits to go on.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
const LEAVE_GRACE: Duration = Duration::from_secs(1);
/// Shortest pause after a failed write; it doubles up to `retry_interval_ms`.
const RETRY_MIN: Duration = Duration::from_millis(10);

/// What the thread did, when it has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) rows: u64,
    pub(crate) ledger: Vec<LedgerRow>,
    /// Whether the spool was read to its end and all of it is on disk.
    pub(crate) drained: bool,
}

/// The state of the intake thread.
pub(crate) struct Intake {
    plan: Plan,
    spool: PathBuf,
    adapters: Adapters,
    store: Outlet,
    /// What other hosts send.
    remote: Option<Remote>,
    /// Texts that repeat, of all lanes.
    shapes: Shapes,
    rows: Rows,
    first_row: Option<Instant>,
    pending: Option<RecordBatch>,
    marks: Watermarks,
    table: Table,
    lanes: BTreeMap<u16, Lane>,
    /// By bank: of the gateway that serves, and of those that handed over to it.
    counters: BTreeMap<u16, Counters>,
    books: ledger::Books,
    looked: Option<Instant>,
    retry: Option<(Instant, Duration)>,
    total_rows: u64,
    failures: u64,
    /// When the books were last written.
    accounted: Instant,
    /// Whether something was stored since then.
    unaccounted: bool,
    /// What waits for the bucket, where there is one.
    uploads: Option<Arc<upload::Account>>,
    /// Whether that is too much at present.
    crowded: bool,
}

impl Intake {
    pub(crate) fn new(
        plan: Plan,
        folder: DataFolder,
        adapters: Adapters,
        (store, remote, uploads): (Outlet, Option<Remote>, Option<Arc<upload::Account>>),
        (marks, table): (Watermarks, Table),
        shared: ledger::Shared,
    ) -> Self {
        let rows = Rows::new();
        Self {
            spool: folder.spool(),
            plan,
            adapters,
            store,
            remote,
            shapes: Shapes::new(),
            rows,
            first_row: None,
            pending: None,
            marks,
            table,
            lanes: BTreeMap::new(),
            counters: BTreeMap::new(),
            books: ledger::Books::new(folder, shared),
            looked: None,
            retry: None,
            total_rows: 0,
            failures: 0,
            accounted: Instant::now(),
            unaccounted: false,
            uploads,
            crowded: false,
        }
    }

    /// Reads until the flags say `stop` and the spool is at its end, or `leave`: then what was read is stored, and the
    /// rest is another collector's; or until `abandon` says that time is up.
    ///
    /// # Errors
    /// If rows do not fit the schema; nothing of them is acknowledged.
    pub(crate) fn run(mut self, flags: &Flags) -> Result<Done, ColumnsError> {
        let pace = Duration::from_millis(self.plan.config.flush_interval_ms.into());
        if let Some(forwarder) = self.store.away() {
            forwarder.wakes(std::thread::current());
        }
        let drained = loop {
            let begun = Instant::now();
            if flags.abandon.load(Ordering::Acquire) {
                break false;
            }
            let leaving = flags.leave.load(Ordering::Acquire);
            // Looked at before reading: what was in the spool when it was set is read after it.
            let stopping = leaving || flags.stop.load(Ordering::Acquire);
            if stopping {
                // Its listener is shut by now. What waits there is not acknowledged, and is sent again.
                self.remote = None;
            }
            self.look(stopping);
            let (seen, more_to_see) = if leaving { (0, false) } else { self.observe() };
            // At the end all is taken: what is in the spool is bounded, and a start would find it there again.
            let reads = self.pending.is_none() && !leaving && (stopping || !self.is_crowded());
            let (read, more) = if reads { self.read() } else { (0, false) };
            let (read, more) = (read + seen, more || more_to_see);
            // All that there was: it goes into the table at once, and what comes next waits for the next round. A round
            // wakes a core and takes the gateway's place in its caches, so there is one for each batch.
            self.flush(!more)?;
            self.receive();
            self.adapters.flush();
            if !more && reads && self.has_all() {
                flags.caught_up.fetch_add(1, Ordering::Release);
            }
            let at_end = stopping && read == 0 && self.pending.is_none() && self.rows.len() == 0;
            let kept = self.keep(at_end);
            if let Some(remote) = &mut self.remote {
                remote.acknowledge(self.store.durable());
            }
            let interval = if self.unaccounted { LEDGER_INTERVALS.0 } else { LEDGER_INTERVALS.1 };
            if self.accounted.elapsed() >= interval {
                self.write_ledger();
            }
            if at_end && kept {
                break true;
            }
            if leaving && self.store.away().is_some() {
                // Who goes on sends again what is on its way.
                break self.store.close().is_ok();
            }
            let more = more || self.pending.is_none() && self.remote.as_ref().is_some_and(Remote::has_more);
            if !more && (read == 0 || !stopping) {
                std::thread::park_timeout(pace.saturating_sub(begun.elapsed()).max(PAUSE_MIN));
            }
        };
        if !drained && let Err(error) = self.store.close() {
            tracing::warn!(%error, "the last rows are read again from the spool at the next start");
        }
        self.write_ledger();
        let drain = Duration::from_millis(self.plan.config.drain_timeout_ms.into());
        let grace = match drained {
            true if flags.leave.load(Ordering::Acquire) => drain.min(LEAVE_GRACE),
            true => drain.min(DRAIN_GRACE),
            false => Duration::ZERO,
        };
        let ledger = self.ledger(&[]);
        let Self { adapters, mut books, total_rows, .. } = self;
        // What the adapters still had on the way is settled now: the books say how.
        let settled = adapters.shutdown(Instant::now() + grace);
        let node = ledger.first().map(|row| row.node.clone()).unwrap_or_default();
        let adapted = settled.iter().map(|count| ledger::adapter_row(&node, count));
        let ledger: Vec<LedgerRow> = ledger.into_iter().chain(adapted).collect();
        books.write(ledger.clone());
        Ok(Done { rows: total_rows, ledger, drained })
    }

    /// Whether all that was read is in the table, and all lanes can be read.
    fn has_all(&self) -> bool {
        let waiting = self.pending.is_some() || self.rows.len() > 0 || self.store.has_waiting();
        !waiting && self.lanes.values().all(|lane| !lane.failing)
    }

    /// Whether so much waits for the bucket that events are to wait in the spool.
    fn is_crowded(&mut self) -> bool {
        let Some(uploads) = &self.uploads else { return false };
        let crowded = uploads.is_full();
        if crowded != std::mem::replace(&mut self.crowded, crowded) {
            match crowded {
                true => tracing::warn!(
                    "events wait in the spool: object_store.backlog_bytes_max waits for the bucket"
                ),
                false => {
                    tracing::info!("events are stored again: there is room for what waits for the bucket")
                }
            }
        }
        crowded
    }

    /// Opens lanes that have appeared, and the counters of a gateway that has.
    fn look(&mut self, now: bool) {
        if !now && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL) {
            return;
        }
        self.looked = Some(Instant::now());
        match LaneReader::lanes(&self.spool) {
            Ok(cores) => {
                for core in cores {
                    if !self.lanes.contains_key(&core) {
                        self.open_lane(core);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot list the spool"),
        }
        self.look_at_counters();
    }

    /// A new gateway makes a new file, and removes those of gateways that are gone. None yet, when no gateway ever ran.
    fn look_at_counters(&mut self) {
        let Ok(banks) = Counters::banks(&self.spool) else { return };
        self.counters.retain(|bank, _| banks.contains(bank));
        for bank in banks {
            let known = self.counters.get(&bank);
            if known.is_none_or(|counters| !counters.is_current(&self.spool))
                && let Ok(counters) = Counters::open(&self.spool, bank)
            {
                self.counters.insert(bank, counters);
            }
        }
    }

    fn open_lane(&mut self, core: u16) {
        match Lane::open(&self.spool, core, &self.marks, self.store.away()) {
            Ok(lane) => {
                self.lanes.insert(core, lane);
            }
            Err(error) => tracing::warn!(core, %error, "cannot open a lane of the spool"),
        }
    }

    /// Shows adapters what is new to them, where rows take another way; gives the number of events, and whether a lane
    /// may have more at once.
    fn observe(&mut self) -> (usize, bool) {
        let Some(forwarder) = self.store.away() else { return (0, false) };
        let (mut total, mut more) = (0, false);
        let Self { lanes, shapes, adapters, .. } = self;
        for (core, lane) in lanes {
            let Some(observer) = &mut lane.observer else { continue };
            let read =
                observer.reader.read_shapes(TURN_EVENTS, Some(&mut *shapes), |event| adapters.observe(event));
            match read {
                Ok(read) => {
                    total += read;
                    more |= read == TURN_EVENTS;
                }
                // The reader of rows meets the same, and says so.
                Err(error) => tracing::debug!(core, %error, "a lane of the spool cannot be read"),
            }
            if let Some(position) = observer.reader.position()
                && observer.through != Some(position.sequence)
            {
                observer.through = Some(position.sequence);
                forwarder.observe(*core, position.sequence);
            }
        }
        (total, more)
    }

    /// One round over the lanes; gives the number of events read, and whether a lane may have more at once.
    fn read(&mut self) -> (usize, bool) {
        let (mut total, mut more) = (0, false);
        let Self { lanes, rows, shapes, adapters, plan, counters, spool, store, .. } = self;
        let observes = store.away().is_none();
        let rows_max = plan.config.batch_rows_max as usize;
        for lane in lanes.values_mut() {
            let room = rows_max.saturating_sub(rows.len()).min(TURN_EVENTS);
            if room == 0 {
                more = true;
                break;
            }
            let key = &mut lane.key;
            let suffix = format!("/{}", lane.reader.core());
            let read = lane.reader.read_shapes(room, Some(shapes), |event| {
                if observes {
                    adapters.observe(event);
                }
                rows.append(event);
                let node = key.as_ref().and_then(|key| key.strip_suffix(&suffix));
                if node.is_none_or(|node| !is_same(node.as_bytes(), event.node.as_bytes())) {
                    *key = Some(format!("{}{suffix}", event.node));
                }
            });
            match read {
                Ok(read) => {
                    total += read;
                    more |= read == room;
                    lane.recovered += recovered(&lane.reader, read, counters, spool);
                    if std::mem::take(&mut lane.failing) {
                        tracing::info!(core = lane.reader.core(), "a lane of the spool can be read again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut lane.failing, true) {
                        tracing::error!(core = lane.reader.core(), %error, "a lane of the spool cannot be read");
                    }
                }
            }
        }
        if self.rows.len() > 0 {
            self.first_row.get_or_insert_with(Instant::now);
        }
        (total, more)
    }

    /// Puts the batch into the table if it is time, or if the lanes are at their ends.
    fn flush(&mut self, at_end: bool) -> Result<(), ColumnsError> {
        let config = &self.plan.config;
        if self.pending.is_none() {
            let interval = Duration::from_millis(config.flush_interval_ms.into());
            let due = self.rows.len() >= config.batch_rows_max as usize
                || self.first_row.is_some_and(|first| at_end || first.elapsed() >= interval)
                || self.rows.text_bytes() >= config.batch_bytes_max as usize;
            if !due || self.rows.len() == 0 {
                return Ok(());
            }
            self.pending = Some(self.rows.finish()?);
            self.first_row = None;
            for lane in self.lanes.values() {
                if let (Some(key), Some(position)) = (&lane.key, lane.reader.position()) {
                    self.marks.insert(key.clone(), position);
                }
            }
        }
        self.store_pending();
        Ok(())
    }

    /// Gives the batch away, if the disk, or who else is to take it, does.
    fn store_pending(&mut self) {
        if self.retry.is_some_and(|(at, _)| Instant::now() < at) || !self.store.has_room() {
            return;
        }
        let Some(batch) = &self.pending else { return };
        match self.store.store(batch, &self.marks) {
            Ok(true) => {
                self.total_rows += batch.num_rows() as u64;
                self.pending = None;
                self.unaccounted = true;
                if self.retry.take().is_some() {
                    tracing::info!("events are stored again");
                }
            }
            Ok(false) => {}
            Err(error) => self.pause(&error),
        }
        self.note_stored();
    }

    /// Stores what other hosts sent, as long as the disk takes it.
    fn receive(&mut self) {
        for _ in 0..TURN_BATCHES {
            let Some(remote) = self.remote.as_mut().filter(|_| self.pending.is_none()) else { return };
            let Some(fresh) = remote.take(&self.marks) else { return };
            self.marks.extend(fresh.marks);
            self.pending = Some(fresh.batch);
            self.store_pending();
        }
    }

    /// Makes rows durable where it is time, releases the spool behind them, and says whether all are durable. `all`
    /// for the end: the file is closed too.
    fn keep(&mut self, all: bool) -> bool {
        // A batch that waits for its turn says nothing of those that went before it to another host.
        let stuck = self.pending.is_some() && self.store.away().is_none();
        if stuck || self.retry.is_some_and(|(at, _)| Instant::now() < at) {
            return false;
        }
        self.store.refresh();
        self.note_stored();
        let releasable =
            |lane: &Lane| lane.releasable(lane.stored).is_some_and(|at| lane.reader.can_release(at));
        let now = self.lanes.values().any(releasable);
        match self.store.keep(all, now) {
            Ok(false) => return false,
            Ok(true) => {
                self.retry = None;
                self.release();
            }
            Err(error) => {
                self.pause(&error);
                self.note_stored();
                return false;
            }
        }
        self.note_stored();
        self.store.is_durable()
    }

    fn pause(&mut self, error: &StoreError) {
        self.failures += 1;
        let pause = match self.retry {
            Some((_, pause)) => {
                (pause * 2).min(Duration::from_millis(self.plan.config.retry_interval_ms.into()))
            }
            None => {
                tracing::error!(%error, failures = self.failures, "events wait in the spool: the disk refuses them");
                RETRY_MIN
            }
        };
        self.retry = Some((Instant::now() + pause, pause));
    }

    /// Takes over how far the lanes are in the table.
    fn note_stored(&mut self) {
        for lane in self.lanes.values_mut() {
            let committed = lane.key.as_ref().and_then(|key| self.store.committed().get(key));
            lane.stored = committed.copied();
        }
    }

    /// Gives the spool back what is durable.
    fn release(&mut self) {
        for lane in self.lanes.values_mut() {
            let durable = lane.key.as_ref().and_then(|key| self.store.durable().get(key));
            let Some(position) = durable else { continue };
            let (bank, core) = place_of(lane.reader.core());
            if let Some(counters) = self.counters.get(&bank)
                && counters.life_us() == position.life_us
            {
                counters.set_stored(core, position.ordinal);
            }
            let through = lane.releasable(Some(*position));
            if let Some(Err(error)) = through.map(|through| lane.reader.release(through)) {
                tracing::warn!(core = lane.reader.core(), %error, "a stored segment cannot be unlinked");
            }
        }
    }

    fn write_ledger(&mut self) {
        self.accounted = Instant::now();
        self.unaccounted = false;
        let rows = self.ledger(&self.adapters.counts());
        self.books.write(rows);
    }

    /// The books as of what is in the table now.
    fn ledger(&self, counts: &[AdapterCount]) -> Vec<LedgerRow> {
        let key = self.lanes.values().find_map(|lane| lane.key.as_ref());
        let node = key.and_then(|key| key.rsplit_once('/')).map_or("", |(node, _)| node);
        let accounts = self.lanes.values().map(|lane| ledger::LaneAccount {
            lane: lane.reader.core(),
            stored: lane.stored,
            recovered: lane.recovered,
            corrupt: lane.reader.corrupt_records(),
        });
        let accounts: Vec<_> = accounts.collect();
        let mut row = ledger::table_row(node, self.store.sink(), self.counters.values(), &accounts);
        // Rows that go elsewhere are no more in a hot file of this host.
        let is_here = !matches!(self.store, Outlet::Away(_));
        if let Some(since_us) = self.counters.values().map(Counters::life_us).min().filter(|_| is_here) {
            let aside = |now: &Manifest| ledger::rows_lost(now, since_us);
            ledger::lose(&mut row, self.table.look(aside));
        }
        let mut rows = vec![row];
        rows.extend(self.remote.iter().flat_map(Remote::ledger));
        rows.extend(counts.iter().map(|count| ledger::adapter_row(node, count)));
        rows
    }
}
