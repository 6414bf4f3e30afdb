//! The gateway's side: one writer for one core.

use super::counters::{Counters, DropReason};
use super::segment::{FIRST_RECORD, INDEX_BITS, RECORD_FIXED_BYTES, Segment};
use crate::{Draft, Head};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Receiver;

/// Appends the events of one core. It belongs to one thread at a time.
#[derive(Debug)]
pub struct Writer {
    pub(super) core: u16,
    pub(super) current: Option<Open>,
    /// Records of this life.
    pub(super) ordinal: u64,
    pub(super) spares: Receiver<Arc<Segment>>,
    pub(super) segment_bytes: usize,
    pub(super) counters: Arc<Counters>,
    /// Why there is no spare: the byte of a [`DropReason`].
    pub(super) no_spare: Arc<AtomicU8>,
}

#[derive(Debug)]
pub(super) struct Open {
    segment: Arc<Segment>,
    offset: usize,
    index: u64,
}

impl Writer {
    /// Which core this is.
    pub fn core(&self) -> u16 {
        self.core
    }

    /// Records one event and says its sequence. Takes no lock, makes no system call, allocates nothing.
    ///
    /// # Errors
    /// The reason when it was dropped instead; the drop is counted already.
    pub fn append(&mut self, draft: &Draft) -> Result<u64, DropReason> {
        self.try_append(draft).inspect_err(|reason| self.counters.dropped(self.core, *reason))
    }

    fn try_append(&mut self, draft: &Draft) -> Result<u64, DropReason> {
        let runs = draft.runs();
        let body_bytes = size_of::<Head>() + runs.iter().map(|run| run.len()).sum::<usize>();
        if FIRST_RECORD + body_bytes + 8 + 2 * RECORD_FIXED_BYTES > self.segment_bytes {
            return Err(DropReason::TooLarge);
        }
        let open = match &mut self.current {
            Some(open) if open.has_room(body_bytes) => open,
            _ => self.next_segment()?,
        };
        let sequence = open.segment.sequence(open.index);
        open.offset = open.segment.write(open.offset, sequence, &draft.head, runs);
        open.index += 1;
        self.ordinal += 1;
        self.counters.wrote(self.core, self.ordinal);
        Ok(sequence)
    }

    /// Leaves the current segment and takes the spare, if the keeper has laid one ready.
    fn next_segment(&mut self) -> Result<&mut Open, DropReason> {
        if let Some(open) = self.current.take() {
            open.segment.end(open.offset, open.index);
        }
        let Ok(segment) = self.spares.try_recv() else {
            return Err(match self.no_spare.load(Ordering::Relaxed) {
                1 => DropReason::DiskError,
                _ => DropReason::SpoolFull,
            });
        };
        segment.activate(self.ordinal);
        Ok(self.current.insert(Open { segment, offset: FIRST_RECORD, index: 0 }))
    }
}

impl Open {
    fn has_room(&self, body_bytes: usize) -> bool {
        self.segment.fits(self.offset, body_bytes)
            && self.index < (1 << INDEX_BITS) - 1
            && !self.segment.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(open) = self.current.take() {
            open.segment.end(open.offset, open.index);
        }
    }
}
