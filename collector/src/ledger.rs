//! The books: what became of every event, per sink.
//!
//! Produced and dropped come from the spool's own counters, which the gateway's cores keep; stored comes from the
//! place that the newest durable watermark has in its lane. The two are counted apart from each other, so that the
//! balance `produced + recovered = stored + dropped + in_flight` says something. Intake refreshes the rows at each
//! flush; the file `state/ledger.json` and the metrics page read them.

use std::sync::{Arc, Mutex};

use event::layout::LedgerRow;

/// The rows as of the last flush, for those who show them.
pub type Shared = Arc<Mutex<Vec<LedgerRow>>>;
