//! `system.upstreams` and `system.circuits`: the addresses of upstreams and the bounds of their circuit breakers, as the
//! gateway last said that they are.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use datafusion::catalog::MemTable;
use datafusion::common::Result;
use event::upstreams::{TargetState, UpstreamStates};

use crate::system::{numbers, table as table_of, texts, times};

/// A row for each address, and for each target whose name has none.
pub(crate) fn table(states: &UpstreamStates) -> Result<MemTable> {
    let rows = || states.targets.iter();
    let text = |read: fn(&TargetState) -> Option<&str>| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows().map(read)))
    };
    let number = |read: fn(&TargetState) -> u64| numbers(rows().map(read));
    let time = |read: fn(&TargetState) -> Option<i64>| times(rows().map(read));
    table_of(vec![
        ("at", times(rows().map(|_| Some(states.at_us)))),
        ("node", texts(rows().map(|_| &states.node))),
        ("service", text(|row| row.service.as_deref())),
        ("upstream", text(|row| row.upstream.as_deref())),
        ("target", texts(rows().map(|row| &row.target))),
        ("address", text(|row| row.address.as_deref())),
        ("state", texts(rows().map(|row| row.state.as_str()))),
        ("since", time(|row| Some(row.since_us))),
        ("weight", number(|row| row.weight.into())),
        ("active", number(|row| row.active)),
        ("connections", number(|row| row.connections)),
        ("requests", number(|row| row.requests)),
        ("failures", number(|row| row.failures)),
        ("consecutive_5xx", number(|row| row.consecutive_5xx.into())),
        ("ejections", number(|row| row.ejections)),
        ("ejected_until", time(|row| row.ejected_until_us)),
        ("successes", number(|row| row.successes.into())),
        ("http_failures", number(|row| row.http_failures.into())),
        ("tcp_failures", number(|row| row.tcp_failures.into())),
        ("timeouts", number(|row| row.timeouts.into())),
        ("checks_success", number(|row| row.checks.success)),
        ("checks_failure", number(|row| row.checks.failure)),
        ("checks_ignored", number(|row| row.checks.ignored)),
        ("last_check", time(|row| row.last_check_us)),
        ("last_failure", text(|row| row.last_failure.as_deref())),
        ("last_failure_by", text(|row| row.last_failure_by.as_deref())),
        ("last_failure_at", time(|row| row.last_failure_us)),
        ("dns_failing_since", time(|row| row.dns_failing_since_us)),
    ])
}

/// A row for each bound of each circuit breaker.
pub(crate) fn circuits(states: &UpstreamStates) -> Result<MemTable> {
    let rows = || states.circuits.iter();
    table_of(vec![
        ("at", times(rows().map(|_| Some(states.at_us)))),
        ("node", texts(rows().map(|_| &states.node))),
        ("upstream", texts(rows().map(|row| &row.upstream))),
        ("resource", texts(rows().map(|row| &row.resource))),
        ("used", numbers(rows().map(|row| row.used))),
        ("most", numbers(rows().map(|row| row.most))),
        ("overflows", numbers(rows().map(|row| row.overflows))),
    ])
}
