//! The books: what became of every event, per sink.
//!
//! Produced and dropped come from the spool's own counters, which the gateway's cores keep; stored comes from the
//! place that the newest committed watermark has in its lane. The two are counted apart from each other, so that the
//! balance `produced + recovered = stored + dropped + in_flight` says something. Intake refreshes the rows as it
//! stores; the file `state/ledger.json` and the metrics page read them.

use std::sync::{Arc, Mutex, PoisonError};

use event::layout::{DataFolder, Ledger, LedgerRow, Manifest};
use event::spool::{Counters, DropReason, Position, place_of};

use crate::adapters::AdapterCount;

/// The rows as last written, for those who show them.
pub type Shared = Arc<Mutex<Vec<LedgerRow>>>;

/// Where the rows are written.
#[derive(Debug)]
pub(crate) struct Books {
    folder: DataFolder,
    shared: Shared,
    failing: bool,
}

impl Books {
    pub(crate) fn new(folder: DataFolder, shared: Shared) -> Self {
        Self { folder, shared, failing: false }
    }

    /// Shows the rows, and writes them to their file.
    pub(crate) fn write(&mut self, rows: Vec<LedgerRow>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&rows);
        match (Ledger { at_us: crate::now_us(), rows }).store(&self.folder) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the ledger cannot be written");
                }
            }
        }
    }
}

/// What intake did with one lane.
pub(crate) struct LaneAccount {
    pub(crate) lane: u16,
    /// How far it is in the table.
    pub(crate) stored: Option<Position>,
    /// Rows of earlier lives of the gateway.
    pub(crate) recovered: u64,
    /// Records that were damaged.
    pub(crate) corrupt: u64,
}

/// The row of the table itself: over the lives of the gateway that serves and of those that handed over to it.
pub(crate) fn table_row<'a>(
    node: &str,
    sink: &str,
    lives: impl IntoIterator<Item = &'a Counters>,
    lanes: &[LaneAccount],
) -> LedgerRow {
    let (node, sink) = (node.to_owned(), sink.to_owned());
    let mut row = LedgerRow { node, sink, ..LedgerRow::default() };
    let cores = lives.into_iter().flat_map(|life| (0..life.cores()).map(move |core| (life, core)));
    for (life, core) in cores {
        let counts = life.core(core);
        row.produced += counts.produced;
        for (reason, dropped) in DropReason::ALL.into_iter().zip(counts.dropped) {
            row.dropped += dropped;
            *row.reasons.entry(reason.as_str().to_owned()).or_default() += dropped;
        }
        let lane = lanes.iter().find(|lane| place_of(lane.lane) == (life.bank(), core));
        let stored = lane.and_then(|lane| lane.stored);
        let places = stored.filter(|at| at.life_us == life.life_us()).map_or(0, |at| at.ordinal);
        row.in_flight += counts.written.saturating_sub(places);
        // A place whose record is damaged holds no row.
        let corrupt = lane.map_or(0, |lane| lane.corrupt).min(places);
        row.stored += places - corrupt;
        row.dropped += corrupt;
        *row.reasons.entry("corrupt".to_owned()).or_default() += corrupt;
    }
    for lane in lanes {
        row.recovered += lane.recovered;
        row.stored += lane.recovered;
    }
    row.reasons.retain(|_, dropped| *dropped > 0);
    row
}

/// Rows that were stored since a moment, and lost with a hot file that was damaged before it was sealed.
pub(crate) fn rows_lost(manifest: &Manifest, since_us: i64) -> u64 {
    let hot = manifest.set_aside.iter().filter(|aside| aside.file.path.starts_with("hot/"));
    hot.filter(|aside| aside.at_us >= since_us).map(|aside| aside.file.rows).sum()
}

/// Says of rows that were stored that they are lost. Those that this life did not store are an earlier one's.
pub(crate) fn lose(row: &mut LedgerRow, rows: u64) {
    let of_before = rows.saturating_sub(row.stored);
    if rows > 0 {
        row.stored -= rows - of_before;
        row.recovered += of_before;
        row.dropped += rows;
        *row.reasons.entry("damaged".to_owned()).or_default() += rows;
    }
}

/// The row of what an adapter feeds.
pub(crate) fn adapter_row(node: &str, count: &AdapterCount) -> LedgerRow {
    LedgerRow {
        node: node.to_owned(),
        sink: count.sink.to_owned(),
        produced: count.accepted,
        recovered: 0,
        stored: count.delivered,
        dropped: count.dropped.values().sum(),
        in_flight: count.queued,
        reasons: count.dropped.iter().map(|(reason, dropped)| ((*reason).to_owned(), *dropped)).collect(),
    }
}
