//! The clients' own ledger: what the demo sent and what came back, counted on the client's side and never read
//! from Tollhouse. `traffic` and `services` write it; `report` compares it with SQL, metrics and the ledger.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How one request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The whole answer arrived.
    Answered {
        /// Status code of the answer.
        status: u16,
    },
    /// The client hung up after the head of the answer, on purpose.
    Aborted {
        /// Status code of the head.
        status: u16,
    },
    /// The head arrived and the body broke off: the upstream or the gateway cut it.
    Truncated {
        /// Status code of the head.
        status: u16,
    },
    /// The connection broke before any answer: the gateway may or may not have seen the request.
    Unanswered,
}

/// A copy of the counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests handed to a connection of the gateway.
    pub sent: u64,
    /// Of these, by the traffic generator; the others were sent by the sample services themselves.
    pub sent_edge: u64,
    /// Answers by status, aborted and truncated ones too: their head had arrived.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests by caller, of the traffic generator only.
    pub by_caller: BTreeMap<&'static str, u64>,
    /// Answers that this side hung up on.
    pub aborted: u64,
    /// Answers that the other side broke off.
    pub truncated: u64,
    /// Requests without any answer.
    pub unanswered: u64,
    /// Arrivals not sent because the bound of concurrent requests was reached.
    pub shed: u64,
    /// Bytes of request bodies in whole answers.
    pub bytes_up: u64,
    /// Bytes of response bodies read.
    pub bytes_down: u64,
}

impl Counts {
    /// Requests that certainly reached the gateway: the head of an answer came back.
    pub fn answered(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// Requests sent whose end is not known yet.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered() + self.unanswered)
    }
}

/// The shared ledger. One lock: the demo sends thousands of requests a second, not millions.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are plain numbers: a panic elsewhere cannot leave them half-written.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be written. `caller` is absent when a sample service sends it.
    pub fn sent(&self, caller: Option<&'static str>) {
        let mut counts = self.lock();
        counts.sent += 1;
        if let Some(caller) = caller {
            counts.sent_edge += 1;
            *counts.by_caller.entry(caller).or_default() += 1;
        }
    }

    /// A request that `sent` announced has ended.
    pub fn ended(&self, ending: Ending, bytes_up: u64, bytes_down: u64) {
        let mut counts = self.lock();
        counts.bytes_up += bytes_up;
        counts.bytes_down += bytes_down;
        let status = match ending {
            Ending::Answered { status } => status,
            Ending::Aborted { status } => {
                counts.aborted += 1;
                status
            }
            Ending::Truncated { status } => {
                counts.truncated += 1;
                status
            }
            Ending::Unanswered => {
                counts.unanswered += 1;
                return;
            }
        };
        *counts.by_status.entry(status).or_default() += 1;
    }

    /// An arrival was not sent: too many requests were open.
    pub fn shed(&self) {
        self.lock().shed += 1;
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sent_request_is_in_flight_until_its_one_ending() {
        let tally = Tally::default();
        for _ in 0..4 {
            tally.sent(Some("acme"));
        }
        tally.sent(None);
        assert_eq!(tally.counts().in_flight(), 5);
        tally.ended(Ending::Answered { status: 200 }, 10, 20);
        tally.ended(Ending::Aborted { status: 200 }, 0, 5);
        tally.ended(Ending::Truncated { status: 502 }, 0, 1);
        tally.ended(Ending::Unanswered, 0, 0);
        let counts = tally.counts();
        assert_eq!(counts.in_flight(), 1);
        assert_eq!((counts.sent, counts.sent_edge, counts.by_caller["acme"]), (5, 4, 4));
        assert_eq!((counts.by_status[&200], counts.by_status[&502]), (2, 1));
        assert_eq!((counts.aborted, counts.truncated, counts.unanswered), (1, 1, 1));
        assert_eq!((counts.bytes_up, counts.bytes_down), (10, 26));
    }
}
