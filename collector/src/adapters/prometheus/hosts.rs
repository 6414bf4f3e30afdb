//! What went between hosts, on the page: of a collector that sends, or one that receives.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::{Kind, Page, label};
use crate::hosts::Account;

/// Writes the families of what this collector does.
pub(super) fn write(page: &mut Page, account: &Account) {
    let (sent, received) = (&account.sent, &account.received);
    if sent.is_on.load(Relaxed) {
        let help = "Batches that were sent to another host, those that were sent again included.";
        one(page, "tollhouse_forward_batches", Kind::Counter, help, &sent.batches);
        one(page, "tollhouse_forward_rows", Kind::Counter, "Rows of these batches.", &sent.rows);
        one(page, "tollhouse_forward_bytes", Kind::Counter, "Bytes of these batches.", &sent.bytes);
        let help = "Batches that are on another host's disk.";
        one(page, "tollhouse_forward_acknowledged", Kind::Counter, help, &sent.acknowledged);
        let help = "From the sending of a batch to its acknowledgement, of all of them.";
        page.family("tollhouse_forward_wait_seconds", Kind::Counter, Some("seconds"), help);
        page.float("", seconds(&sent.waited_us));
        let help = "From the sending of a batch to its acknowledgement, of the last one.";
        page.family("tollhouse_forward_wait_last_seconds", Kind::Gauge, Some("seconds"), help);
        page.float("", seconds(&sent.waited_last_us));
        let help = "1 while a receiver takes batches, 0 while none does.";
        one(page, "tollhouse_forward_connected", Kind::Gauge, help, &sent.connected);
        let help = "How often another receiver took the place of one.";
        one(page, "tollhouse_forward_failovers", Kind::Counter, help, &sent.failovers);
        let help = "Receivers that may have rows that another has acknowledged, and were not told yet.";
        one(page, "tollhouse_forward_in_doubt", Kind::Gauge, help, &sent.in_doubt);
        page.family("tollhouse_forward_failures", Kind::Counter, None, "Sessions that failed, by reason.");
        by_reason(page, &sent.failures.all());
    }
    if received.is_on.load(Relaxed) {
        one(page, "tollhouse_receive_batches", Kind::Counter, "Batches of other hosts.", &received.batches);
        one(page, "tollhouse_receive_rows", Kind::Counter, "Rows of these that were new.", &received.rows);
        one(page, "tollhouse_receive_bytes", Kind::Counter, "Bytes of these batches.", &received.bytes);
        let help = "Rows of these that were here already.";
        one(page, "tollhouse_receive_duplicates", Kind::Counter, help, &received.duplicates);
        let help = "Ranges of rows that were taken back: another receiver has them.";
        one(page, "tollhouse_receive_revoked", Kind::Counter, help, &received.revoked);
        one(page, "tollhouse_receive_senders", Kind::Gauge, "Hosts that are connected.", &received.senders);
        page.family("tollhouse_receive_refusals", Kind::Counter, None, "What was refused, by reason.");
        by_reason(page, &received.refusals.all());
    }
}

fn one(page: &mut Page, name: &'static str, kind: Kind, help: &str, value: &AtomicU64) {
    page.family(name, kind, None, help);
    page.integer("", value.load(Relaxed));
}

fn by_reason(page: &mut Page, counts: &std::collections::BTreeMap<&'static str, u64>) {
    let mut labels = String::new();
    for (reason, count) in counts {
        labels.clear();
        label(&mut labels, "reason", reason);
        page.integer(&labels, *count);
    }
}

fn seconds(us: &AtomicU64) -> f64 {
    us.load(Relaxed) as f64 / 1e6
}
