//! `system.connections`: what became of client connections, as the gateway last said.

use datafusion::catalog::MemTable;
use datafusion::common::Result;
use event::connections::ConnectionStates;

use crate::system::{numbers, table as table_of, texts, times};

/// A row for each count; none when no gateway has said anything.
pub(crate) fn table(states: &ConnectionStates) -> Result<MemTable> {
    let mut rows = Vec::new();
    if states.at_us > 0 {
        let fixed = [("open", states.open), ("accepted", states.accepted), ("overloaded", states.overloaded)];
        rows.extend(fixed.map(|(name, count)| (name, "", count)));
        rows.extend(states.ended.iter().map(|(reason, count)| ("ended", reason.as_str(), *count)));
    }
    table_of(vec![
        ("at", times(rows.iter().map(|_| Some(states.at_us)))),
        ("node", texts(rows.iter().map(|_| &states.node))),
        ("kind", texts(rows.iter().map(|row| row.0))),
        ("reason", texts(rows.iter().map(|row| row.1))),
        ("count", numbers(rows.iter().map(|row| row.2))),
    ])
}
