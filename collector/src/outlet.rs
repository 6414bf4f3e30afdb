//! Where batches go: to hot files of this host, or to a collector on another one. Intake treats both alike: what was given
//! is committed at once or later, durable later still, and only then is the spool given back.

use arrow::array::RecordBatch;
use event::hot::Watermarks;

use crate::hosts::Forwarder;
use crate::store::{Store, StoreError};

/// One of the two.
pub(crate) enum Outlet {
    /// Hot files.
    Here(Box<Store>),
    /// Another host.
    Away(Box<Forwarder>),
}

impl Outlet {
    /// Its word in the ledger.
    pub(crate) fn sink(&self) -> &'static str {
        match self {
            Self::Here(_) => "parquet",
            Self::Away(_) => "forward",
        }
    }

    /// What other hosts have to be told of, if it is away.
    pub(crate) fn away(&self) -> Option<&Forwarder> {
        match self {
            Self::Here(_) => None,
            Self::Away(forwarder) => Some(forwarder),
        }
    }

    /// Whether a batch may be given now.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Away(forwarder) => forwarder.has_room(),
        }
    }

    /// Takes a batch, together with the position of each lane after it; false if it is to be given again later.
    ///
    /// # Errors
    /// When the disk refuses; the same.
    pub(crate) fn store(&mut self, batch: &RecordBatch, marks: &Watermarks) -> Result<bool, StoreError> {
        match self {
            Self::Here(store) => store.store(batch, marks).map(|()| true),
            Self::Away(forwarder) => Ok(forwarder.give(batch, marks)),
        }
    }

    /// Takes over what came about by itself.
    pub(crate) fn refresh(&mut self) {
        if let Self::Away(forwarder) = self {
            forwarder.refresh();
        }
    }

    /// How far each lane is in the table, wherever that is.
    pub(crate) fn committed(&self) -> &Watermarks {
        match self {
            Self::Here(store) => store.committed(),
            Self::Away(forwarder) => forwarder.committed(),
        }
    }

    /// How far each lane is where neither a crash here nor one there takes it away.
    pub(crate) fn durable(&self) -> &Watermarks {
        match self {
            Self::Here(store) => store.durable(),
            Self::Away(forwarder) => forwarder.durable(),
        }
    }

    /// Whether something that was given is in no table yet.
    pub(crate) fn has_waiting(&self) -> bool {
        match self {
            Self::Here(store) => store.has_waiting(),
            Self::Away(forwarder) => !forwarder.is_durable(),
        }
    }

    /// Does what it is time for; `all` for the end, `now` where segments wait. False if there was nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep(&mut self, all: bool, now: bool) -> Result<bool, StoreError> {
        match self {
            Self::Here(store) => {
                if store.has_waiting() {
                    store.store_again()?;
                } else if all || store.rotation_is_due() {
                    store.rotate()?;
                } else if store.sync_is_due() || now {
                    store.sync()?;
                } else {
                    return Ok(false);
                }
            }
            Self::Away(forwarder) => {
                if !all && !now && !forwarder.note_is_due() {
                    return Ok(false);
                }
                forwarder.note()?;
            }
        }
        Ok(true)
    }

    /// Whether everything that was given is durable.
    pub(crate) fn is_durable(&self) -> bool {
        match self {
            Self::Here(store) => store.is_durable(),
            Self::Away(forwarder) => forwarder.is_durable(),
        }
    }

    /// Makes durable what is committed, at an end that comes too early.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Here(store) => store.rotate(),
            Self::Away(forwarder) => Ok(forwarder.note()?),
        }
    }
}
