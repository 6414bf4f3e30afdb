//! Reconciliation: what the clients counted against what Tollhouse says in SQL, in Prometheus and in its ledger.
//! Four counts made in four places; they agree to the row or the demo fails.

use serde::Serialize;

use super::questions::{LedgerLine, Summary};
use super::tally::Counts;

/// The counter of all requests, one per row.
pub const COUNTER: &str = "tollhouse_http_requests_total";

/// Two counts that must agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is compared.
    pub what: String,
    /// The count expected.
    pub expected: u64,
    /// The count found.
    pub found: u64,
    /// How much more than expected is allowed: requests whose connection broke before an answer, which the gateway
    /// may or may not have seen.
    pub allowance: u64,
}

impl Check {
    fn exact(what: impl Into<String>, expected: u64, found: u64) -> Self {
        Self { what: what.into(), expected, found, allowance: 0 }
    }

    /// True when the counts agree.
    pub fn is_good(&self) -> bool {
        (self.expected..=self.expected + self.allowance).contains(&self.found)
    }
}

/// Compares. The data folder was empty at the start, so the ledger and the views speak of this run alone.
pub fn checks(counts: &Counts, summary: &Summary, prometheus: u64, ledger: &[LedgerLine]) -> Vec<Check> {
    let mut checks = vec![
        Check::exact("requests still open at the clients", 0, counts.in_flight()),
        Check {
            what: "requests of the clients = rows in SQL".to_owned(),
            expected: counts.answered(),
            found: summary.rows_demo,
            allowance: counts.unanswered,
        },
        Check::exact("rows in SQL = sum of tollhouse_http_requests_total", summary.rows, prometheus),
        Check::exact("rows in SQL = sum over the call graph", summary.rows, summary.edges()),
    ];
    for (status, expected) in &counts.by_status {
        let found = summary.statuses.get(status).copied().unwrap_or(0);
        // The one without an answer may have left a row of any status.
        let allowance = counts.unanswered;
        checks.push(Check {
            what: format!("answers {status} to the clients = rows with it"),
            expected: *expected,
            found,
            allowance,
        });
    }
    if ledger.is_empty() {
        checks.push(Check::exact("sinks in the ledger", 1, 0));
    }
    for line in ledger {
        checks.push(Check::exact(
            format!("{}: produced = stored + dropped + in flight", line.sink),
            line.produced + line.recovered,
            line.stored + line.dropped + line.in_flight,
        ));
        checks.push(Check::exact(
            format!("rows in SQL = stored in {}", line.sink),
            summary.rows,
            line.stored,
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::graph::Edge;

    fn edge(requests: u64) -> Edge {
        Edge { caller: "acme".into(), callee: "shop".into(), requests, errors: 0, p99_us: 1.0 }
    }

    fn world() -> (Counts, Summary, Vec<LedgerLine>) {
        let mut counts = Counts { sent: 10, ..Counts::default() };
        counts.by_status.extend([(200, 8), (404, 2)]);
        let mut summary = Summary { rows: 12, rows_demo: 10, ..Summary::default() };
        summary.statuses.extend([(200, 8), (404, 2)]);
        summary.edges = [7, 5].map(edge).into();
        let sink = "parquet".to_owned();
        let line = LedgerLine { sink, produced: 12, recovered: 0, stored: 12, dropped: 0, in_flight: 0 };
        (counts, summary, vec![line])
    }

    #[test]
    fn equal_counts_reconcile_beside_the_readers_own_requests() {
        let (counts, summary, ledger) = world();
        let checks = checks(&counts, &summary, 12, &ledger);
        assert!(checks.iter().all(Check::is_good), "{checks:?}");
        assert_eq!(checks.len(), 8);
    }

    #[test]
    fn one_row_too_few_or_too_many_anywhere_is_found() {
        let (counts, summary, ledger) = world();
        let bad = |counts: &Counts, summary: &Summary, prometheus, ledger: &[LedgerLine]| {
            checks(counts, summary, prometheus, ledger).iter().any(|check| !check.is_good())
        };
        assert!(bad(&counts, &Summary { rows_demo: 9, ..summary.clone() }, 12, &ledger));
        assert!(bad(&counts, &Summary { rows_demo: 11, ..summary.clone() }, 12, &ledger));
        assert!(bad(&counts, &summary, 13, &ledger));
        assert!(bad(&counts, &summary, 12, &[]));
        assert!(bad(&counts, &summary, 12, &[LedgerLine { stored: 11, in_flight: 1, ..ledger[0].clone() }]));
        assert!(bad(&Counts { sent: 11, ..counts.clone() }, &summary, 12, &ledger));
        assert!(bad(&counts, &Summary { edges: [7, 4].map(edge).into(), ..summary.clone() }, 12, &ledger));
        let mut swapped = summary.clone();
        swapped.statuses = [(200, 7), (404, 3)].into();
        assert!(bad(&counts, &swapped, 12, &ledger));
        let unsure = Counts { sent: 11, unanswered: 1, ..counts };
        assert!(!bad(&unsure, &Summary { rows_demo: 11, ..summary }, 12, &ledger));
    }
}
