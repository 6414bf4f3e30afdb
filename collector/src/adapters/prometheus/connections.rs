//! What became of client connections, on the page, by what the gateway leaves in the data folder.

use event::connections::ConnectionStates;

use super::text::{Kind, Page, label};

/// Writes the families.
pub(super) fn write(page: &mut Page, states: &ConnectionStates) {
    const OPEN: &str = "Client connections that are open.";
    page.family("tollhouse_connections_open", Kind::Gauge, None, OPEN);
    page.integer("", states.open);
    page.family(
        "tollhouse_connections_accepted",
        Kind::Counter,
        None,
        "Client connections that were accepted.",
    );
    page.integer("", states.accepted);
    const ENDED: &str =
        "Client connections that were turned away or ended early, by the bound or the reason.";
    page.family("tollhouse_connections_ended", Kind::Counter, None, ENDED);
    let mut labels = String::new();
    for (reason, count) in &states.ended {
        labels.clear();
        label(&mut labels, "reason", reason);
        page.integer(&labels, *count);
    }
    const OVERLOADED: &str = "Requests that were answered 503 because as many as may be were under way.";
    page.family("tollhouse_requests_overloaded", Kind::Counter, None, OVERLOADED);
    page.integer("", states.overloaded);
}
