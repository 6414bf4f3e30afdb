//! The guard of an event: opened when a request head arrives, emitted once, on drop, whatever happened in between.

use crate::core::Core;
use crate::error::Fault;
use crate::forward::Mirrored;
use crate::plan::Kept;
use event::{Draft, Outcome, Source, Text};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// An event in the making.
pub(crate) struct Record {
    pub core: Rc<Core>,
    pub started: Instant,
    /// Present until the drop.
    draft: Option<Box<Draft>>,
    /// When the response head was handed over.
    answered: Option<Instant>,
    finished: bool,
    /// What became of the request's copy, if it was to have one.
    pub mirrored: Option<Rc<Cell<Mirrored>>>,
    /// What is kept of the client's addresses; none if all.
    pub kept: Option<Kept>,
    /// Nothing is written of it.
    silent: bool,
}

impl Record {
    /// Opens the event of a request. Until told otherwise it ends as closed by the client.
    pub fn open(core: &Rc<Core>, started: Instant) -> Self {
        let mut draft = core.draft(started);
        draft.head.outcome = Outcome::ClientClosed as u8;
        draft.head.status = Fault::ClientClosed.status();
        draft.head.source = Source::Gateway as u8;
        core.exchanges.set(core.exchanges.get() + 1);
        Self {
            core: Rc::clone(core),
            started,
            draft: Some(draft),
            answered: None,
            finished: false,
            mirrored: None,
            kept: core.plan.kept,
            silent: false,
        }
    }

    /// For what is no request of a client: it leaves no event.
    pub fn silent(core: &Rc<Core>, started: Instant) -> Self {
        let (core, draft) = (Rc::clone(core), Some(core.draft(started)));
        Self {
            core,
            started,
            draft,
            answered: None,
            finished: false,
            mirrored: None,
            kept: None,
            silent: true,
        }
    }

    pub fn draft(&mut self) -> &mut Draft {
        self.draft.as_mut().expect("taken by the drop only")
    }

    /// Microseconds since the request head.
    pub fn elapsed_us(&self, at: Instant) -> u32 {
        micros(self.started, at)
    }

    /// The response head is made.
    pub fn answer(&mut self, status: u16, source: Source, at: Instant) {
        self.answered = Some(at);
        let head = &mut self.draft().head;
        head.status = status;
        head.source = source as u8;
    }

    /// The gateway answers by itself, or would have.
    pub fn fault(&mut self, fault: Fault) {
        self.finish(fault.outcome());
        if !matches!(fault, Fault::NoRoute | Fault::Redirected) {
            self.draft().text(Text::Error, fault.to_string().as_bytes());
        }
    }

    /// It ended so.
    pub fn finish(&mut self, outcome: Outcome) {
        self.finished = true;
        self.draft().head.outcome = outcome as u8;
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (end, started, answered) = (Instant::now(), self.started, self.answered);
        let panicked = std::thread::panicking();
        let Some(mut draft) = self.draft.take() else { return };
        if self.silent {
            return self.core.recycle(draft);
        }
        if let Some(mirrored) = &self.mirrored {
            draft.extra(b"mirror", mirrored.get().as_str().as_bytes());
        }
        let head = &mut draft.head;
        if panicked {
            head.outcome = Outcome::GatewayError as u8;
            if answered.is_none() {
                head.status = Fault::Panic.status();
            }
        }
        head.duration_us = micros(started, end);
        if let Some(answered) = answered {
            head.response_body_us = micros(answered, end);
        }
        let upstream_us = if head.upstream_us == event::ABSENT_U32 { 0 } else { head.upstream_us };
        let body_us =
            if head.source == Source::Upstream as u8 { answered.map_or(0, |at| micros(at, end)) } else { 0 };
        head.gateway_us = head.duration_us.saturating_sub(upstream_us).saturating_sub(body_us);
        if let Some(kept) = self.kept {
            kept.apply(&mut draft);
        }
        self.core.exchanges.set(self.core.exchanges.get() - 1);
        self.core.emit(draft);
    }
}

/// Saturating, and never the value that means absent.
pub(crate) fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros())
        .unwrap_or(u32::MAX)
        .min(event::ABSENT_U32 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Entities, GatewayConfig};
    use event::spool::{LaneReader, Spool, SpoolConfig};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    #[test]
    fn a_panic_is_recorded_once_and_leaves_the_thread_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (_spool, mut writers) = Spool::open(&SpoolConfig::default(), folder.path(), "n", 1).unwrap();
        let plan = crate::validate(&GatewayConfig::default(), &Entities::default()).unwrap();
        let plan = Arc::new(plan);
        let upstreams = crate::upstream::Upstreams::new(Arc::clone(&plan));
        let core = Core::new(plan, upstreams, Arc::default(), writers.remove(0));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut record = Record::open(&core, Instant::now());
            record.draft().text(Text::Path, b"/p");
            panic!("as a bug would");
        }));
        assert!(panicked.is_err());
        assert_eq!(core.exchanges.get(), 0);
        drop(Record::open(&core, Instant::now()));
        let mut seen = Vec::new();
        let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
        reader.read(10, |event| seen.push((event.outcome(), event.head.status))).unwrap();
        assert_eq!(seen, [(Outcome::GatewayError, 500), (Outcome::ClientClosed, 499)]);
    }
}
